//! Numbers as people read them.

use super::results::Spread;

/// Whole, with commas between thousands.
pub(crate) fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 && shown != "0" { format!("-{shown}") } else { shown }
}

/// Three digits of a count or rate: 1,234,567 is 1,230,000.
pub(crate) fn three(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    if rounded.abs() >= 100.0 { whole(rounded) } else { digits(rounded) }
}

/// Three digits of a number below a thousand.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

/// A time in the unit that suits it.
pub(crate) fn time(ns: f64) -> String {
    let (divisor, unit) = unit(ns);
    format!("{} {unit}", digits(ns / divisor))
}

fn unit(ns: f64) -> (f64, &'static str) {
    match ns {
        ns if ns < 999.5 => (1.0, "ns"),
        ns if ns < 999.5e3 => (1e3, "µs"),
        ns if ns < 999.5e6 => (1e6, "ms"),
        _ => (1e9, "s"),
    }
}

/// A time and what lies around it, in one unit.
pub(crate) fn time_spread(ns: Spread) -> String {
    let (divisor, unit) = unit(ns.median);
    let shown = ns.map(|ns| ns / divisor);
    format!("{} {unit} ({} to {})", digits(shown.median), digits(shown.low), digits(shown.high))
}

/// A time of milliseconds and what lies around it.
pub(crate) fn ms_spread(ms: Spread) -> String {
    format!("{} ms ({} to {})", ms_digits(ms.median), ms_digits(ms.low), ms_digits(ms.high))
}

/// Milliseconds, in three digits.
pub(crate) fn ms_digits(ms: f64) -> String {
    if ms >= 999.5 { whole(ms) } else { digits(ms) }
}

/// A multiple and what lies around it.
pub(crate) fn times_spread(ratio: Spread) -> String {
    format!("{:.2} × ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high)
}

/// A rate and what lies around it, in three digits.
pub(crate) fn three_spread(rate: Spread) -> String {
    format!("{} ({} to {})", three(rate.median), three(rate.low), three(rate.high))
}

/// A number on an axis.
pub(crate) fn tick(value: f64) -> String {
    let (divisor, unit) = match value.abs() {
        size if size >= 1e9 => (1e9, " G"),
        size if size >= 1e6 => (1e6, " M"),
        size if size >= 1e3 => return whole(value),
        _ => (1.0, ""),
    };
    let shown = format!("{:.3}", value / divisor);
    format!("{}{unit}", shown.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(whole(1_234_567.4), "1,234,567");
        assert_eq!(whole(-999.6), "-1,000");
        assert_eq!(three(1_234_567.0), "1,230,000");
        assert_eq!(three(12.345), "12.3");
        assert_eq!(three(0.0), "0.00");
        assert_eq!(time(1_234.0), "1.23 µs");
        assert_eq!(time(999.7), "1.00 µs");
        assert_eq!(time(40_123_456.0), "40.1 ms");
        assert_eq!(ms_digits(12_345.6), "12,346");
        assert_eq!(time_spread(Spread { median: 2e6, low: 9e5, high: 3e7 }), "2.00 ms (0.90 to 30.0)");
        let ticks = [0.0, 0.5, 20.0, 2_000.0, 20_000.0, 2.5e6, 1e9].map(tick);
        assert_eq!(ticks, ["0", "0.5", "20", "2,000", "20,000", "2.5 M", "1 G"]);
    }
}
