//! Runs whole simulated networks over many seeds, on all cores, and reports the first seed of each violation.
#![allow(clippy::disallowed_methods, reason = "a tool tells how long its work took")]

mod attacks;
mod linear;
mod sweep;
mod twins;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use salus::sim::{NetworkConfig, Report, SimConfig, Violation, run};

/// Simulate whole Salus networks: same seed, same run, to the hash of its trace.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  simulate                                200 seeds of 60 simulated seconds, each network and its faults drawn from the seed
  simulate --seed 17                      one seed, with its report
  simulate --seeds 50 --twice             each seed twice: the traces must agree
  simulate attacks                        Byzantine validators beside all other faults
  simulate twins                          authorities that run twice with the same keys
  simulate linear                         histories of clients that share keys
  simulate --validators 7 --loss 0.1      a larger network that loses a tenth of its messages

Exit code: 0 if everything held, 1 if something did not."
)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Simulated seconds with load and faults; then everything has to become final.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Validators.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=22))]
    validators: u16,
    /// Part of the messages that are lost, 0 to 0.5, instead of one drawn from the seed.
    #[arg(long)]
    loss: Option<f64>,
    /// No crashes and no partitions.
    #[arg(long)]
    no_faults: bool,
    /// Run every seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Attacks(attacks::Attacks),
    Twins(twins::Twins),
    Linear(linear::Linear),
}

impl Options {
    fn config(&self) -> SimConfig {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a thousand, clamped before the cast"
        )]
        let network = self.loss.map(|loss| NetworkConfig {
            delay_min_us: 1_000,
            delay_max_us: 40_000,
            loss_per_mille: (loss.clamp(0.0, 0.5) * 1_000.0) as u64,
            replay_per_mille: 50,
        });
        SimConfig {
            validators: usize::from(self.validators),
            duration_us: self.seconds * 1_000_000,
            network,
            faults: !self.no_faults,
            ..SimConfig::default()
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match &options.command {
        Some(Command::Attacks(attacks)) => return attacks.run(),
        Some(Command::Twins(twins)) => return twins.run(),
        Some(Command::Linear(linear)) => return linear.run(),
        None => {}
    }
    let config = options.config();
    let seeds: Vec<u64> = match options.seed {
        Some(seed) => vec![seed],
        None => (options.first..options.first.saturating_add(options.seeds)).collect(),
    };
    let style = "{bar:40} {pos}/{len} seeds, {elapsed} gone, {eta} left";
    let bar = ProgressBar::new(seeds.len() as u64)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let start = Instant::now();
    let results: Vec<(u64, Result<Report, Failure>)> = seeds
        .par_iter()
        .map(|seed| {
            let result = one(*seed, &config, options.twice);
            bar.inc(1);
            if let Err(failure) = &result {
                bar.println(format!("seed {seed}: {failure}"));
            }
            (*seed, result)
        })
        .collect();
    bar.finish_and_clear();
    let took = start.elapsed().as_secs_f64();
    summarise(&results, took)
}

/// What a seed found.
#[derive(Debug)]
enum Failure {
    Violation(Violation),
    Traces,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Traces => f.write_str("two runs of the seed differ"),
        }
    }
}

fn one(seed: u64, config: &SimConfig, twice: bool) -> Result<Report, Failure> {
    let report = run(seed, config).map_err(Failure::Violation)?;
    if twice && run(seed, config).map_err(Failure::Violation)? != report {
        return Err(Failure::Traces);
    }
    Ok(report)
}

fn summarise(results: &[(u64, Result<Report, Failure>)], took: f64) -> ExitCode {
    let reports: Vec<&Report> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let failed: Vec<u64> =
        results.iter().filter(|(_, result)| result.is_err()).map(|(seed, _)| *seed).collect();
    let sum = |field: fn(&Report) -> u64| reports.iter().map(|report| field(report)).sum::<u64>();
    let hours = sum(|r| r.simulated_us) / 1_000_000;
    println!(
        "{} seeds held, {} did not; {hours} simulated seconds in {took:.0} s",
        reports.len(),
        failed.len()
    );
    println!(
        "events {}  commits {}  leaves {}  acknowledged {}  checkpoints {}",
        sum(|r| r.events),
        sum(|r| r.commits),
        sum(|r| r.leaves),
        sum(|r| r.acknowledged),
        sum(|r| r.checkpoints)
    );
    println!(
        "faults: {} restarts, {} blackouts, {} partitions, {} messages lost, {} replayed",
        sum(|r| r.restarts),
        sum(|r| r.blackouts),
        sum(|r| r.partitions),
        sum(|r| r.lost_messages),
        sum(|r| r.replayed_messages)
    );
    if let [report] = reports.as_slice() {
        println!("trace {}  most blocks in a DAG {}", report.trace, report.dag_blocks_max);
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "run again: {}",
        failed.iter().map(|s| format!("simulate --seed {s}")).collect::<Vec<_>>().join("  ")
    );
    ExitCode::FAILURE
}
