//! Runs seeds and adds up what they did.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use salus::sim::{Report, Violation, run};

use crate::options::WorldOptions;

/// What a seed found.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something does not hold.
    Violation(Violation),
    /// Two runs differ.
    Traces,
    /// An assertion of the program itself.
    Panic(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Traces => f.write_str("two runs of the seed differ"),
            Self::Panic(what) => write!(f, "panic: {what}"),
        }
    }
}

/// Runs something that may find a violation, or panic.
pub(crate) fn guarded(run: impl FnOnce() -> Result<Report, Violation>) -> Result<Report, Failure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(Failure::Violation),
        Err(panic) => Err(Failure::Panic(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default(),
        )),
    }
}

/// Runs one seed, or twice to compare the traces.
pub(crate) fn one(seed: u64, options: &WorldOptions, twice: bool) -> Result<Report, Failure> {
    let config = options.config();
    let report = guarded(|| run(seed, &config))?;
    if twice && guarded(|| run(seed, &config))? != report {
        return Err(Failure::Traces);
    }
    Ok(report)
}

/// What many runs did together.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// Runs in which everything held.
    pub(crate) held: u64,
    /// The others.
    pub(crate) failed: Vec<(u64, String)>,
    /// Everything that was counted.
    pub(crate) report: Report,
}

impl Sum {
    /// Adds a run.
    pub(crate) fn add(&mut self, seed: u64, result: Result<Report, Failure>) {
        let report = match result {
            Ok(report) => report,
            Err(failure) => return self.failed.push((seed, failure.to_string())),
        };
        self.held += 1;
        let sum = &mut self.report;
        sum.simulated_us += report.simulated_us;
        sum.events += report.events;
        sum.commits += report.commits;
        sum.leaves += report.leaves;
        sum.acknowledged += report.acknowledged;
        sum.checkpoints += report.checkpoints;
        sum.lost_messages += report.lost_messages;
        sum.replayed_messages += report.replayed_messages;
        sum.restarts += report.restarts;
        sum.blackouts += report.blackouts;
        sum.partitions += report.partitions;
        sum.slow_hosts += report.slow_hosts;
        sum.lossy_hosts += report.lossy_hosts;
        sum.drifting += report.drifting;
        sum.disk_errors += report.disk_errors;
        sum.damages += report.damages;
        sum.damages_detected += report.damages_detected;
        sum.lost_logs += report.lost_logs;
        sum.upgrades += report.upgrades;
        sum.newest_headers += report.newest_headers;
        sum.blamed += report.blamed;
        sum.core_drain_us = sum.core_drain_us.max(report.core_drain_us);
        sum.dag_blocks_max = sum.dag_blocks_max.max(report.dag_blocks_max);
        sum.suspended_max = sum.suspended_max.max(report.suspended_max);
        sum.bytes_max = sum.bytes_max.max(report.bytes_max);
        sum.rounds = sum.rounds.max(report.rounds);
        sum.trace = report.trace;
    }

    /// Simulated time of whole clusters.
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    pub(crate) fn cluster_hours(&self) -> f64 {
        self.report.simulated_us as f64 / 3.6e9
    }

    /// Faults by kind.
    pub(crate) fn faults(&self) -> String {
        let r = &self.report;
        let counts = [
            ("restarts", r.restarts),
            ("blackouts", r.blackouts),
            ("partitions", r.partitions),
            ("slow hosts", r.slow_hosts),
            ("lossy hosts", r.lossy_hosts),
            ("wrong clocks", r.drifting),
            ("disk errors", r.disk_errors),
            ("damaged logs", r.damages),
            ("lost logs", r.lost_logs),
            ("upgrades", r.upgrades),
            ("messages lost", r.lost_messages),
            ("replayed", r.replayed_messages),
            ("blamed liars", r.blamed),
        ];
        let shown: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        shown.join(", ")
    }

    /// One line that says it all.
    pub(crate) fn line(&self) -> String {
        format!(
            "{:.1} cluster-hours, {} seeds held, {} violations; slowest core drained in {:.1} s; {} commits, {} transactions; faults: {}",
            self.cluster_hours(),
            self.held,
            self.failed.len(),
            Duration::from_micros(self.report.core_drain_us).as_secs_f64(),
            self.report.commits,
            self.report.acknowledged,
            self.faults()
        )
    }
}

/// Runs seeds over all cores, with progress; failures are told as they come.
pub(crate) fn many(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> Result<Report, Failure> + Sync,
    again: &str,
) -> Sum {
    let style = "{bar:40} {pos}/{len} seeds, {elapsed} gone, {eta} left";
    let bar = ProgressBar::new(seeds.end - seeds.start)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let results: Vec<(u64, Result<Report, Failure>)> = seeds
        .into_par_iter()
        .map(|seed| {
            let result = run(seed);
            bar.inc(1);
            if let Err(failure) = &result {
                bar.suspend(|| println!("seed {seed}: {failure}\n    again: simulate --seed {seed}{again}"));
            }
            (seed, result)
        })
        .collect();
    bar.finish_and_clear();
    let mut sum = Sum::default();
    for (seed, result) in results {
        sum.add(seed, result);
    }
    sum
}
