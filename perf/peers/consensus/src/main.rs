//! commonware's simplex under the load that Salus is measured by. See the README.

mod application;
mod block;
mod clients;
mod load;
mod network;
mod pool;
mod route;
mod tune;
mod validator;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use application::Pace;
use load::{Load, Outcome};
use network::{Network, Status, cpu_seconds};

/// As in the program that it is compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Four validators of commonware's simplex under open-loop load.
#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start validators, load them, and show what became final
    Load(LoadOptions),
    /// One validator; started by `load`
    Validator(ValidatorOptions),
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// Milliseconds that a leader waits before each block
    #[arg(long, default_value_t = 4)]
    pause_ms: u64,
    /// Most KiB of transactions in a block
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    block_kib: u64,
    /// Propose and vote before the block that is built on is certified
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    early: bool,
    /// MiB of transactions that may wait at a validator
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    pool_mib: u64,
    /// Threads of each validator's runtime
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Views ahead of whose leader transactions are sent to it; 0: they wait until their own validator leads
    #[arg(long, default_value_t = 1)]
    ahead: u64,
}

#[derive(Args)]
struct LoadOptions {
    /// Transactions offered each second, over all validators; a new network for each
    #[arg(long, value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rates: Vec<u64>,
    /// Seconds of load at each rate
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=540))]
    seconds: u64,
    /// How often all rates are measured, one after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Bytes of each transaction
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(8..=4_096))]
    bytes: u16,
    /// Number of validators
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=22))]
    validators: u64,
    /// Connections to each validator
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Try other settings than the given ones first, at each rate, and measure with those that serve it best
    #[arg(long)]
    tune: bool,
    /// File for the results as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct ValidatorOptions {
    #[arg(long)]
    index: usize,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, value_delimiter = ',')]
    ports: Vec<u16>,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let done = match Program::parse().command {
        Command::Load(options) => load(&options),
        Command::Validator(options) => {
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_writer(io::stderr)
                .init();
            validator(options).map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn validator(options: ValidatorOptions) -> io::Result<()> {
    let Settings { pause_ms, block_kib, early, pool_mib, threads, ahead } = options.settings;
    let size = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    validator::run(validator::Options {
        index: options.index,
        dir: options.dir,
        ports: options.ports,
        pace: Pace { pause: Duration::from_millis(pause_ms), most: size(block_kib << 10)?, early },
        pool_bytes: size(pool_mib << 20)?,
        threads,
        ahead: Some(ahead).filter(|ahead| *ahead > 0),
    })
}

impl Settings {
    fn args(&self) -> Vec<String> {
        let Self { pause_ms, block_kib, early, pool_mib, threads, ahead } = self;
        let pairs = [
            ("--pause-ms", pause_ms.to_string()),
            ("--block-kib", block_kib.to_string()),
            ("--early", early.to_string()),
            ("--pool-mib", pool_mib.to_string()),
            ("--threads", threads.to_string()),
            ("--ahead", ahead.to_string()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pause_ms, block_kib, early, threads, ahead, .. } = self;
        write!(
            f,
            "a pause of {pause_ms} ms, blocks up to {block_kib} KiB, early {early}, {threads} threads, {ahead} views ahead"
        )
    }
}

/// `false` if transactions were not answered.
fn load(options: &LoadOptions) -> io::Result<bool> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let before = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let before: Vec<_> = before.split(' ').take(3).collect();
    let machine = format!(
        "{cores} cores for validators and clients together, load average before {}",
        before.join(" ")
    );
    println!("{machine}; {} B a transaction", options.bytes);
    let mut runs = Vec::new();
    let mut complete = true;
    let mut folders = Vec::new();
    let mut settings = Vec::new();
    for rate in &options.rates {
        settings.push(if options.tune { tune::best(options, *rate)? } else { options.settings.clone() });
    }
    for _ in 0..options.rounds {
        for (rate, settings) in options.rates.iter().zip(&settings) {
            println!("# at {rate}/s: {settings}");
            let folder = tempfile::tempdir()?;
            let run = one(options, settings, *rate, options.seconds, folder.path())?;
            // Removed when all is measured, as Salus's load does it, and for its reason: a removal slows the next files.
            folders.push(folder);
            complete &= run["unanswered"] == 0;
            println!("{}", line(&run));
            runs.push(run);
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(
            path,
            format!("{:#}\n", json!({ "peer": "commonware", "machine": machine, "runs": runs })),
        )?;
    }
    Ok(complete)
}

fn one(
    options: &LoadOptions,
    settings: &Settings,
    rate: u64,
    seconds: u64,
    folder: &Path,
) -> io::Result<Value> {
    let LoadOptions { bytes, connections, .. } = *options;
    let validators = usize::try_from(options.validators).map_err(io::Error::other)?;
    let mut network = Network::start(folder, validators, &settings.args())?;
    let load = Load { rate, seconds, bytes, connections };
    let heights = network.statuses()?;
    let (validators_before, own_before) = (network.cpu_seconds(), cpu_seconds("self").unwrap_or_default());
    let outcome = load.run(&network.ports())?;
    let took = outcome.took.as_secs_f64();
    let cores = (network.cpu_seconds() - validators_before) / took;
    let own = (cpu_seconds("self").unwrap_or_default() - own_before) / took;
    let after = network.agreement(outcome.latencies.len() as u64)?;
    Ok(json((options, settings), load, &outcome, (cores, own), (&heights[0], &after[0])))
}

fn json(
    (options, settings): (&LoadOptions, &Settings),
    load: Load,
    outcome: &Outcome,
    cores: (f64, f64),
    (before, after): (&Status, &Status),
) -> Value {
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let Settings { pause_ms, block_kib, early, pool_mib, threads, ahead } = settings;
    let took = outcome.took.as_secs_f64();
    json!({
        "validators": options.validators,
        "seconds": load.seconds,
        "offered_per_s": load.rate,
        "committed_per_s": outcome.in_time as f64 / load.seconds as f64,
        "offered": load.transactions(),
        "final": outcome.latencies.len(),
        "final_in_time": outcome.in_time,
        "busy": outcome.busy,
        "refused": 0,
        "unanswered": outcome.unanswered,
        "finality_ms": {
            "p50": ms(outcome.percentile(500)), "p90": ms(outcome.percentile(900)), "p99": ms(outcome.percentile(990)),
            "p999": ms(outcome.percentile(999)), "max": ms(outcome.percentile(1_000)),
        },
        "client_lag_ms_max": ms(outcome.lag),
        "usage": { "seconds": took, "validators_cores": cores.0, "tool_cores": cores.1 },
        "transaction_bytes": options.bytes,
        "blocks_per_s": (after.height - before.height) as f64 / took,
        "blocks_with_transactions": after.blocks,
        "chain": after.chain,
        "settings": {
            "pause_ms": pause_ms, "block_kib": block_kib, "early": early, "pool_mib": pool_mib, "threads": threads,
            "ahead": ahead,
        },
    })
}

fn line(run: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let finality = &run["finality_ms"];
    format!(
        "peer/commonware/rate={}  committed {:>6.0}/s  p50 {:>6.1} ms  p99 {:>6.1} ms  max {:>6.1} ms  final {}  busy {}  \
         unanswered {}  client behind {:.1} ms at most  cores used by validators {:.2}, by this tool {:.2}; blocks/s {:.0}",
        run["offered_per_s"],
        number(&run["committed_per_s"]),
        number(&finality["p50"]),
        number(&finality["p99"]),
        number(&finality["max"]),
        run["final"],
        run["busy"],
        run["unanswered"],
        number(&run["client_lag_ms_max"]),
        number(&run["usage"]["validators_cores"]),
        number(&run["usage"]["tool_cores"]),
        number(&run["blocks_per_s"]),
    )
}
