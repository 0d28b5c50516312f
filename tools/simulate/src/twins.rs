//! `simulate twins`: authorities that run twice.

use std::process::ExitCode;

use clap::Args;
use salus::sim::{Report, twins};

use crate::sweep::{Swept, sweep, verdict};

/// Authorities that run twice with the same keys, in networks that are split again and again.
#[derive(Debug, Args)]
pub(crate) struct Twins {
    /// Number of cases.
    #[arg(long, default_value_t = 5_000)]
    cases: u64,
    /// First case.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Authorities, instead of 4 in two thirds of the cases and 7 in the others.
    #[arg(long, value_parser = clap::value_parser!(u16).range(4..=22))]
    validators: Option<u16>,
}

impl Twins {
    pub(crate) fn run(&self) -> ExitCode {
        let validators = |case: u64| match self.validators {
            Some(n) => usize::from(n),
            None if case.is_multiple_of(3) => 7,
            None => 4,
        };
        let cases = self.first..self.first.saturating_add(self.cases);
        let Swept { held, failed, took_s } = sweep("cases", cases, |case| twins::run(case, validators(case)));
        let sum = |field: fn(&Report) -> u64| held.iter().map(field).sum::<u64>();
        println!(
            "twins: {} cases held, {} did not, in {took_s:.0} s; commits {}  acknowledged {}  messages lost {}",
            held.len(),
            failed.len(),
            sum(|r| r.commits),
            sum(|r| r.acknowledged),
            sum(|r| r.lost_messages)
        );
        verdict(&failed, |case| format!("simulate twins --first {case} --cases 1"))
    }
}
