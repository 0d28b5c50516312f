//! FHIR dates and times (FHIR R4, section 2.24.0.1) as spans of Unix time.

/// The time that a FHIR `date`, `dateTime` or `instant` names. A date of less precision names all of its day, month or
/// year; milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateSpan {
    /// First millisecond.
    pub from_ms: u64,
    /// First millisecond after it.
    pub to_ms: u64,
}

const DAY_MS: u64 = 86_400_000;

impl DateSpan {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` (all in UTC) or `YYYY-MM-DDThh:mm:ss[.fff](Z|±hh:mm)`; `None` for anything else
    /// and for times before 1970 or after 9999.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = digits(parts.next()?, 4)?;
        let month = parts.next().map(|m| digits(m, 2)).map_or(Some(None), |m| m.map(Some))?;
        let day = parts.next().map(|d| digits(d, 2)).map_or(Some(None), |d| d.map(Some))?;
        if parts.next().is_some() || year < 1970 {
            return None;
        }
        let start = day_number(year, month.unwrap_or(1), day.unwrap_or(1))?;
        let end = match (month, day) {
            (None, _) => day_number(year + 1, 1, 1)?,
            (Some(12), None) => day_number(year + 1, 1, 1)?,
            (Some(month), None) => day_number(year, month + 1, 1)?,
            (Some(_), Some(_)) => start + 1,
        };
        match time {
            None => Some(Self { from_ms: start * DAY_MS, to_ms: end * DAY_MS }),
            Some(_) if day.is_none() => None,
            Some(time) => parse_time(start, time),
        }
    }
}

fn parse_time(day: u64, text: &str) -> Option<DateSpan> {
    let zone_at = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2).filter(|&h| h < 24)?;
    let minute = digits(parts.next()?, 2).filter(|&m| m < 60)?;
    let second = digits(parts.next()?, 2).filter(|&s| s <= 60)?; // 60 is a leap second
    if parts.next().is_some() {
        return None;
    }
    let (millis, precision) = match fraction {
        None => (0, 1_000),
        Some(fraction) if fraction.is_empty() || fraction.len() > 9 => return None,
        Some(fraction) => {
            let all = digits(fraction, fraction.len())?;
            let width = u32::try_from(fraction.len()).ok()?;
            if width > 3 {
                (all / 10_u64.pow(width - 3), 1)
            } else {
                (all * 10_u64.pow(3 - width), 10_u64.pow(3 - width))
            }
        }
    };
    let local = day * DAY_MS + (hour * 3_600 + minute * 60 + second) * 1_000 + millis;
    let from_ms = match zone.split_at(1) {
        ("Z", "") => local,
        (sign, offset) => {
            let (h, m) = offset.split_once(':')?;
            let minutes = digits(h, 2).filter(|&h| h <= 14)? * 60 + digits(m, 2).filter(|&m| m < 60)?;
            if sign == "+" { local.checked_sub(minutes * 60_000)? } else { local + minutes * 60_000 }
        }
    };
    Some(DateSpan { from_ms, to_ms: from_ms + precision })
}

fn digits(text: &str, len: usize) -> Option<u64> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` if there is no such day.
fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > days_in_month {
        return None;
    }
    const DAYS_BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = DAYS_BEFORE_MONTH[usize::try_from(month - 1).ok()?];
    // Leap days from year 1 to the end of a year; 477 of them lie before 1970.
    let leap_days = |last: u64| last / 4 - last / 100 + last / 400;
    let days =
        (year - 1970) * 365 + (leap_days(year - 1) - 477) + before + u64::from(leap && month > 2) + day - 1;
    Some(days)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn span(text: &str) -> (u64, u64) {
        let span = DateSpan::parse(text).unwrap();
        (span.from_ms, span.to_ms)
    }

    #[test]
    fn dates_name_all_of_their_day_month_or_year() {
        assert_eq!(span("1970-01-01"), (0, 86_400_000));
        assert_eq!(span("2026-01-05"), (1_767_571_200_000, 1_767_657_600_000));
        assert_eq!(span("2024-02"), (1_706_745_600_000, 1_709_251_200_000)); // 29 days
        assert_eq!(span("2025-12").1, span("2026-01").0);
        assert_eq!(span("2000").1 - span("2000").0, 366 * DAY_MS);
        assert_eq!(span("2100").1 - span("2100").0, 365 * DAY_MS);
    }

    #[test]
    fn times_carry_fraction_and_offset() {
        assert_eq!(span("2026-01-05T08:10:00Z"), (1_767_600_600_000, 1_767_600_601_000));
        assert_eq!(span("2026-01-05T10:10:00.5+02:00"), (1_767_600_600_500, 1_767_600_600_600));
        assert_eq!(span("2026-01-05T02:40:00.123456-05:30"), (1_767_600_600_123, 1_767_600_600_124));
    }

    #[test]
    fn what_is_no_fhir_date_is_refused() {
        for text in [
            "",
            "26-01-05",
            "2026-13",
            "2026-02-29",
            "2026-1-5",
            "2026-01-05-01",
            "1969-12-31",
            "2026-01-05T08:10:00",
            "2026-01-05T08:10Z",
            "2026-01-05T24:00:00Z",
            "2026-01T08:00:00Z",
            "2026-01-05T08:10:00.Z",
            "2026-01-05T08:10:00+25:00",
            "1970-01-01T00:00:00+01:00",
            "２026-01-05",
            "2026-01-05T08:10:00Zx",
        ] {
            assert_eq!(DateSpan::parse(text), None, "{text}");
        }
    }
}
