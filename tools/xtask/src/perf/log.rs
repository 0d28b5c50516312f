//! The bench of the block log, which is not criterion's: its lines are read.

use super::results::{LogRow, Spread};
use super::step::{Step, Work};

/// GiB of the log that is recovered.
const RECOVERY_GIB: &str = "4";

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let gib = if work.quick { "1" } else { RECOVERY_GIB };
    let bench = ["bench", "--locked", "--package", "salus", "--bench", Step::Log.bench(), "--"];
    let mut faults = Vec::new();
    for what in [&["append"][..], &["stream"], &["recovery", gib]] {
        let mut command = work.cargo(&[&bench[..], what].concat());
        match work.output(&mut command) {
            Ok(text) => {
                let rows: Vec<LogRow> = text.lines().filter_map(row).collect();
                if rows.is_empty() {
                    faults.push(format!("bench log {}: none of its lines is a figure", what.join(" ")));
                }
                work.results.log.extend(rows);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// `NAME 123 MB/s (120 to 125)`, or `NAME 0.95 of OTHER (0.93 to 0.97)`.
fn row(line: &str) -> Option<LogRow> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, median, unit @ .., low, "to", high] = &words[..] else { return None };
    let of = match unit {
        ["MB/s"] => None,
        ["of", other] => Some((*other).to_owned()),
        [] | [_, ..] => return None,
    };
    let figure = Spread {
        median: median.parse().ok()?,
        low: low.strip_prefix('(')?.parse().ok()?,
        high: high.strip_suffix(')')?.parse().ok()?,
    };
    name.starts_with("log/").then(|| LogRow { name: (*name).to_owned(), of, figure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_figures_are_read_and_others_are_not() {
        let figure = Spread { median: 861.0, low: 840.0, high: 902.0 };
        let speed = LogRow { name: "log/append/salus/n=2048".to_owned(), of: None, figure };
        assert_eq!(row("log/append/salus/n=2048             861 MB/s (840 to 902)"), Some(speed));
        let figure = Spread { median: 3.42, low: 3.4, high: 3.51 };
        let ratio = LogRow { name: "log/recovery/open".to_owned(), of: Some("read".to_owned()), figure };
        assert_eq!(row("log/recovery/open                  3.42 of read (3.40 to 3.51)"), Some(ratio));
        for other in ["", "running 1 test", "log/append/salus 1 kB/s (1 to 2)", "x/append 1 MB/s (1 to 2)"] {
            assert_eq!(row(other), None);
        }
    }
}
