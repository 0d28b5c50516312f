//! Runs whole simulated networks over many seeds, on all cores, and reports the first seed of each violation.
#![allow(clippy::disallowed_methods, reason = "a tool tells how long its work took")]

// The executable specification of the model tests judges the committer here too.
#[cfg(feature = "planted")]
#[path = "../../../tests/model/drive.rs"]
#[allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod drive;
#[cfg(feature = "planted")]
#[path = "../../../tests/model/explore.rs"]
#[allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod explore;
#[cfg(feature = "planted")]
#[path = "../../../tests/model/sample.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared with the tests"
)]
mod sample;
#[cfg(feature = "planted")]
#[path = "../../../tests/model/spec.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod spec;

mod attacks;
mod ci;
mod latency;
mod linear;
mod memory;
mod options;
#[cfg(feature = "planted")]
mod planted;
mod regressions;
mod seeds;
mod shrink;
mod soak;
mod sweep;
mod twins;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use salus::sim::run_observed;

use options::WorldOptions;
use seeds::{Sum, guarded, many, one};

/// Simulate whole Salus networks: same seed, same run, to the hash of its trace.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  simulate                                200 seeds of 60 simulated seconds, each network and its faults drawn from the seed
  simulate --seed 17                      one seed, with its report; if it fails, the smallest options with which it does
  simulate --seed 17 --trace              what happens in it, one line each
  simulate --seeds 50 --twice             each seed twice: the traces must agree
  simulate --without partition            no partitions; likewise the other kinds of faults
  simulate soak --minutes 60              seed after seed for an hour
  simulate attacks                        Byzantine validators beside all other faults
  simulate twins                          authorities that run twice with the same keys
  simulate linear                         histories of clients that share keys
  simulate latency                        message delays from making a block to its commit
  simulate memory --rounds 1000000        memory does not grow
  simulate ci                             what every version has to pass

Exit code: 0 if everything held, 1 if something did not."
)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run every seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// With --seed: print what happens.
    #[arg(long)]
    trace: bool,
    /// Do not look for smaller options with which a seed fails.
    #[arg(long)]
    no_shrink: bool,
    #[command(flatten)]
    world: WorldOptions,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Run seed after seed for a given time.
    Soak(soak::SoakOptions),
    Attacks(attacks::Attacks),
    Twins(twins::Twins),
    Linear(linear::Linear),
    /// Measure how many message delays a commit takes.
    Latency(latency::LatencyOptions),
    /// Run very many rounds in memory that does not grow.
    Memory(memory::MemoryOptions),
    /// Run the seeds that once failed: tests/data/simulator/regressions.txt.
    Regressions,
    /// Run what every version has to pass; one line for each goal.
    Ci,
    /// Switch on planted mistakes, one at a time, and look for somebody who sees each.
    #[cfg(feature = "planted")]
    Planted(planted::Planted),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let held = match &options.mode {
        Some(Mode::Soak(soak)) => soak::soak(soak).failed.is_empty(),
        Some(Mode::Latency(latency)) => told(latency::latency(latency)),
        Some(Mode::Memory(memory)) => told(memory::memory(memory)),
        Some(Mode::Attacks(attacks)) => return attacks.run(),
        Some(Mode::Twins(twins)) => return twins.run(),
        Some(Mode::Linear(linear)) => return linear.run(),
        Some(Mode::Regressions) => regressions::all(),
        Some(Mode::Ci) => ci::ci(),
        #[cfg(feature = "planted")]
        Some(Mode::Planted(planted)) => return planted.run(),
        None => plain(&options),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(result: Result<(), salus::sim::Violation>) -> bool {
    if let Err(violation) = &result {
        println!("{violation}");
    }
    result.is_ok()
}

fn plain(options: &Options) -> bool {
    let start = Instant::now();
    let sum = match options.seed {
        Some(seed) if options.trace => {
            let result = guarded(|| {
                run_observed(seed, &options.world.config(), Box::new(|line: &str| println!("{line}")))
            });
            let mut sum = Sum::default();
            if let Err(failure) = &result {
                println!("seed {seed}: {failure}");
            }
            sum.add(seed, result);
            sum
        }
        seed => {
            let seeds = seed.map_or(options.first..options.first.saturating_add(options.seeds), |s| s..s + 1);
            many(seeds, |seed| one(seed, &options.world, options.twice), &options.world.typed())
        }
    };
    println!("safety: {}", sum.line());
    println!(
        "events {}  leaves {}  checkpoints {}  most that a validator held: {} blocks, {} KiB  {:.0} s",
        sum.report.events,
        sum.report.leaves,
        sum.report.checkpoints,
        sum.report.dag_blocks_max,
        sum.report.bytes_max / 1_024,
        start.elapsed().as_secs_f64()
    );
    if options.seed.is_some() {
        println!("trace {}", sum.report.trace);
    }
    if let Some((seed, failure)) = sum.failed.first()
        && !options.no_shrink
        && !options.trace
    {
        println!("looking for smaller options with which seed {seed} fails");
        let (smallest, how) = shrink::shrink(*seed, &options.world, failure.clone());
        println!("smallest: simulate --seed {seed}{}\n    {how}", smallest.typed());
    }
    sum.failed.is_empty()
}
