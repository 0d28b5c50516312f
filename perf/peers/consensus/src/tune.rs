//! The settings that serve a rate best: one after the other is tried in all its values, and keeps the best.

use std::io;

use serde_json::Value;

use crate::{LoadOptions, Settings, one};

/// Seconds of load for each trial.
const SECONDS: u64 = 4;
/// A trial that commits less than this share of the best is none.
const ENOUGH: f64 = 0.99;

type Change = fn(&mut Settings);

/// What is tried, in this order: how blocks are paced, who proposes what, how large blocks are, threads.
const TRIALS: [&[Change]; 5] = [
    &[|s| s.early = false],
    &[|s| s.pause_ms = 0, |s| s.pause_ms = 2, |s| s.pause_ms = 8, |s| s.pause_ms = 16],
    &[|s| s.ahead = 0, |s| s.ahead = 2],
    &[|s| s.threads = 1],
    &[|s| s.block_kib = 256, |s| s.block_kib = 4_096],
];

/// What a trial has shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    committed: f64,
    p50: f64,
}

impl Shown {
    fn of(run: &Value) -> Self {
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        Self { committed: number(&run["committed_per_s"]), p50: number(&run["finality_ms"]["p50"]) }
    }

    /// More committed counts most; where both commit as much, the sooner one.
    fn is_better(self, than: Self) -> bool {
        if self.committed < ENOUGH * than.committed {
            return false;
        }
        than.committed < ENOUGH * self.committed || self.p50 < than.p50
    }
}

/// Tries from the given settings on.
pub fn best(options: &LoadOptions, rate: u64) -> io::Result<Settings> {
    let mut best = options.settings.clone();
    let mut shown = trial(options, &best, rate)?;
    for changes in TRIALS {
        let from = best.clone();
        for change in changes {
            let mut other = from.clone();
            change(&mut other);
            if other == from {
                continue;
            }
            let run = trial(options, &other, rate)?;
            if run.is_better(shown) {
                (best, shown) = (other, run);
            }
        }
    }
    Ok(best)
}

fn trial(options: &LoadOptions, settings: &Settings, rate: u64) -> io::Result<Shown> {
    let folder = tempfile::tempdir()?;
    let shown = Shown::of(&one(options, settings, rate, SECONDS, folder.path())?);
    eprintln!(
        "trial at {rate}/s: committed {:.0}/s  p50 {:.1} ms  with {settings}",
        shown.committed, shown.p50
    );
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_committed_wins_and_else_the_sooner_one() {
        let shown = |committed, p50| Shown { committed, p50 };
        assert!(shown(1_000.0, 9.0).is_better(shown(1_001.0, 10.0)));
        assert!(!shown(1_000.0, 11.0).is_better(shown(1_001.0, 10.0)));
        assert!(shown(2_000.0, 50.0).is_better(shown(1_000.0, 10.0)));
        assert!(!shown(900.0, 1.0).is_better(shown(1_000.0, 10.0)));
    }
}
