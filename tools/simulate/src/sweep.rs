//! Many cases on all cores, with a bar that says how far they are.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

/// What came of many cases.
pub(crate) struct Swept<T> {
    /// Those that held, in order.
    pub(crate) held: Vec<T>,
    /// Those that did not.
    pub(crate) failed: Vec<u64>,
    /// Seconds that it took.
    pub(crate) took_s: f64,
}

/// Runs a case for each number.
pub(crate) fn sweep<T: Send, E: Display + Send>(
    what: &str,
    cases: std::ops::Range<u64>,
    one: impl Fn(u64) -> Result<T, E> + Sync,
) -> Swept<T> {
    let style = "{bar:40} {pos}/{len} {msg}, {elapsed} gone, {eta} left";
    let bar = ProgressBar::new(cases.end.saturating_sub(cases.start))
        .with_message(what.to_owned())
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let start = Instant::now();
    let results: Vec<Result<T, u64>> = cases
        .into_par_iter()
        .map(|case| {
            // A panic is a failure of its case, and the others go on.
            let result = catch_unwind(AssertUnwindSafe(|| one(case)));
            bar.inc(1);
            let result = match result {
                Ok(result) => result.map_err(|failure| failure.to_string()),
                Err(_) => Err("panics".to_owned()),
            };
            result.map_err(|failure| {
                let line = format!("case {case}: {failure}");
                // A bar that is not shown prints nothing.
                if bar.is_hidden() {
                    eprintln!("{line}")
                } else {
                    bar.println(line)
                }
                case
            })
        })
        .collect();
    bar.finish_and_clear();
    let (mut held, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(result) => held.push(result),
            Err(case) => failed.push(case),
        }
    }
    Swept { held, failed, took_s: start.elapsed().as_secs_f64() }
}

/// Says how to see each failure again.
pub(crate) fn verdict(failed: &[u64], again: impl Fn(u64) -> String) -> ExitCode {
    for case in failed.iter().take(20) {
        println!("run again: {}", again(*case));
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
