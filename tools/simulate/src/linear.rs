//! `simulate linear`: whether what clients see is linearizable.

use std::process::ExitCode;

use clap::Args;
use salus::sim::linear::{self, Judged};
use salus::sim::{Report, SimConfig};

use crate::sweep::{Swept, sweep, verdict};

/// Operations of one run at 12 callers and 60 simulated seconds are about so many.
const PER_RUN: u64 = 3_000;

/// Callers that share keys: their histories have to be linearizable, key by key.
#[derive(Debug, Args)]
pub(crate) struct Linear {
    /// Operations: submits, reads and proofs. Runs go on until there are so many.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Simulated seconds of each run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Callers.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=64))]
    callers: u16,
    /// One seed alone.
    #[arg(long)]
    one: bool,
}

impl Linear {
    pub(crate) fn run(&self) -> ExitCode {
        let config = SimConfig { duration_us: self.seconds * 1_000_000, ..SimConfig::default() };
        // Every second network has Byzantine validators.
        let one = |seed: u64| linear::run(seed, &config, usize::from(self.callers), seed % 2 == 1);
        let mut total = Judged::default();
        let (mut runs, mut failed, mut took_s) = (0, Vec::new(), 0.0);
        let (mut next, mut restarts) = (self.first, 0);
        while failed.is_empty() && total.operations() < self.operations {
            let missing = self.operations - total.operations();
            let count = if self.one { 1 } else { missing.div_ceil(PER_RUN).next_multiple_of(2) };
            let swept: Swept<(Report, Judged)> = sweep("runs", next..next + count, one);
            for (report, judged) in &swept.held {
                total.add(judged);
                restarts += report.restarts;
            }
            runs += swept.held.len();
            failed = swept.failed;
            took_s += swept.took_s;
            next += count;
            if self.one {
                break;
            }
        }
        println!(
            "linear: {} operations in {runs} runs are linearizable, {} runs are not, in {took_s:.0} s",
            total.operations(),
            failed.len()
        );
        println!(
            "keys {}  transactions {}  reads {}  proofs {}  skipped and executed later {}  restarts {restarts}",
            total.keys, total.transactions, total.reads, total.proofs, total.late
        );
        verdict(&failed, |seed| format!("simulate linear --one --first {seed}"))
    }
}
