//! Open-loop load on a Salus network: how many transactions a second become final, and after what time.
//!
//! The load itself is [`salus::cli::load`].
#![allow(clippy::disallowed_methods, reason = "a tool measures time and writes the file that it is given")]

mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::ProgressBar;
use salus::cli::CliError;
use salus::cli::load::{OpenLoop, Snapshot, Transactions, Usage};
use salus::cli::network::{LocalNetwork, NetworkOptions, RecordMaker, register_record_keys};

use report::Measured;

/// As the validators have it: replies are made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pause between the start of a network and the measurement of its idle use.
const SETTLE_IDLE: Duration = Duration::from_secs(3);
/// How long after a load its last answers are waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// From one freeze to the next.
const FREEZE_EVERY: Duration = Duration::from_secs(10);
/// How long validators may take to serve, and a network to agree when the load is over.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// Submit record anchors at a fixed rate to validators on this machine, and measure.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "EXAMPLES
  Four validators, 30 seconds at each of four rates, a new network for each:
      cargo build --release --workspace
      target/release/load --rates 1000,5000,10000,20000
  One rate, results for a program:
      target/release/load --rates 2000 --seconds 10 --json load.json
  What four validators use while nobody submits anything, for 30 seconds:
      target/release/load --idle 30
  How long a validator that hangs for a second is felt:
      target/release/load --rates 20000 --seconds 60 --freeze 1000
  A network that runs already, left by `salus demo --dir demo --keep`:
      target/release/load --dir demo --rates 500

Exit code: 0 if all that was accepted became final and the roots are equal, 1 if not, 2 if it could not be done."
)]
struct Options {
    /// Transactions offered each second, over all validators; several rates are tried one after the other, each on a network of its
    /// own, whose files are removed when all is measured
    #[arg(long, visible_alias = "rate", value_name = "N,…", value_delimiter = ',', default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rates: Vec<u32>,
    /// Seconds of load at each rate
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=540))]
    seconds: u32,
    /// Submit nothing: measure for so many seconds what validators use that have nothing to order
    #[arg(long, value_name = "S", conflicts_with = "rates", value_parser = clap::value_parser!(u32).range(1..=540))]
    idle: Option<u32>,
    /// Number of validators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=22))]
    validators: u16,
    /// Keys that sign, for each founding member
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    keys: u32,
    /// Connections to each validator
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Every ten seconds, from the tenth on, let the next validator stand still (SIGSTOP) for so many milliseconds
    #[arg(long, value_name = "MS", conflicts_with_all = ["dir", "idle"], value_parser = clap::value_parser!(u32).range(1..=8_000))]
    freeze: Option<u32>,
    /// Folder of a local network that runs already, instead of a new one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The `salus` program [default: the one beside this one]
    #[arg(long, value_name = "FILE")]
    salus: Option<PathBuf>,
    /// File for the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}

fn run(options: &Options) -> Result<(), CliError> {
    let salus = match &options.salus {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("salus"),
    };
    if !salus.is_file() {
        return Err(CliError::unable_hint(
            format!("there is no program {}", salus.display()),
            "build it with `cargo build --release --workspace`, or name one with --salus",
        ));
    }
    if options.freeze.is_some() && u64::from(options.seconds) <= FREEZE_EVERY.as_secs() {
        return Err(CliError::unable_hint(
            format!("no validator is frozen within {} seconds", options.seconds),
            format!("give --seconds of more than {}", FREEZE_EVERY.as_secs()),
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let machine = report::machine();
    println!("{machine}");
    if let Some(seconds) = options.idle {
        let usage = runtime.block_on(unless_interrupted(idle(options, &salus, seconds)))?;
        println!("idle {usage}");
        return write_json(options, &report::idle_json(&machine, &usage));
    }
    let mut results = Vec::new();
    // Removed when all is measured: ext4 without a journal passes over each inode that was freed within the last minutes, one by one,
    // whenever a file is made, and the thousands of tiles of one network would slow the next one.
    let mut folders = Vec::new();
    for rate in &options.rates {
        let folder = tempfile::tempdir()?;
        let measured = runtime.block_on(unless_interrupted(one_rate(options, &salus, &folder, *rate)));
        folders.push(folder);
        let measured = measured?;
        println!("{measured}");
        results.push(measured);
    }
    write_json(options, &report::json(&machine, &results))?;
    match results.iter().find_map(Measured::fault) {
        None => Ok(()),
        Some(fault) => Err(CliError::DoesNotHold(fault)),
    }
}

async fn unless_interrupted<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(CliError::unable("interrupted")),
    }
}

fn write_json(options: &Options, json: &str) -> Result<(), CliError> {
    let Some(path) = &options.json else { return Ok(()) };
    std::fs::write(path, json)
        .map_err(|error| CliError::unable(format!("cannot write {}: {error}", path.display())))
}

/// The network to load, all of it ready: a new one in `folder`, or one that runs already.
async fn network_in(
    options: &Options,
    salus: &std::path::Path,
    folder: &tempfile::TempDir,
) -> Result<LocalNetwork, CliError> {
    if let Some(dir) = &options.dir {
        return LocalNetwork::open(dir, salus);
    }
    let mut network = LocalNetwork::create(&NetworkOptions {
        dir: folder.path().join("network"),
        validators: options.validators,
        program: salus.to_owned(),
        own_group: false,
    })?;
    network.start_all()?;
    network.wait_all_ready(SETTLE_WITHIN).await?;
    Ok(network)
}

/// What validators use that have nothing to do.
async fn idle(options: &Options, salus: &std::path::Path, seconds: u32) -> Result<Usage, CliError> {
    let folder = tempfile::tempdir()?;
    let network = network_in(options, salus, &folder).await?;
    // What starting them has left to do is done in this time.
    tokio::time::sleep(SETTLE_IDLE).await;
    let before = Snapshot::take(&network).await?;
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    Ok(Usage::between(&before, &Snapshot::take(&network).await?))
}

/// A network, its keys, transactions, the load, and what came of it. Everything is ended when this returns.
#[expect(clippy::significant_drop_tightening, reason = "these connections may stay open while the load runs")]
async fn one_rate(
    options: &Options,
    salus: &std::path::Path,
    folder: &tempfile::TempDir,
    rate: u32,
) -> Result<Measured, CliError> {
    let network = network_in(options, salus, folder).await?;
    let pool = network.pool();
    pool.connect().await;
    let makers = register_record_keys(&network, &pool, options.keys).await?;
    let load = OpenLoop {
        rate,
        duration: Duration::from_secs(options.seconds.into()),
        connections: options.connections,
        answers_within: ANSWERS_WITHIN,
    };
    let transactions = sign(makers, load.transactions())?;
    let size = status_size(&network).await?;
    let before = Snapshot::take(&network).await?;
    let outcome = tokio::select! {
        outcome = load.run(&network, transactions) => outcome?,
        error = freeze_in_turn(&network, options.freeze) => return Err(error),
    };
    let usage = Usage::between(&before, &Snapshot::take(&network).await?);
    let agreement = network.wait_agreement(size + outcome.executed(), SETTLE_WITHIN).await?;
    let logs = report::Logs { leaves: agreement.size - size, root: agreement.root };
    Ok(Measured::new(load, options.freeze, outcome, usage, logs))
}

/// Lets one validator after the other stand still, if that is asked for.
async fn freeze_in_turn(network: &LocalNetwork, ms: Option<u32>) -> CliError {
    let Some(ms) = ms else { return std::future::pending().await };
    let mut every = tokio::time::interval(FREEZE_EVERY);
    // The first tick is now.
    every.tick().await;
    for index in (0..network.size()).cycle() {
        every.tick().await;
        let Some(frozen) = network.freeze(index) else { break };
        tokio::time::sleep(Duration::from_millis(ms.into())).await;
        drop(frozen);
    }
    CliError::unable("a validator does not run")
}

async fn status_size(network: &LocalNetwork) -> Result<u64, CliError> {
    // All are final on every validator once they agree.
    network.wait_agreement(0, SETTLE_WITHIN).await.map(|agreement| agreement.size)
}

fn sign(mut makers: Vec<RecordMaker>, count: u64) -> Result<Transactions, CliError> {
    let bar = ProgressBar::new(makers.len() as u64).with_message("signing");
    let signed = Transactions::sign(&mut makers, count, || bar.inc(1));
    bar.finish_and_clear();
    signed
}
