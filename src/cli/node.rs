//! `salus node`: runs a validator.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::CliError;
use super::files::{read, read_text};
use crate::config::{CONFIG_BYTES_MAX, ConfigFile, Trace, TraceFormat};
use crate::genesis::{GENESIS_BYTES_MAX, Genesis};
use crate::io::driver::Validator;

const EXAMPLES: &str = "\
EXAMPLES
  Run a validator; Ctrl-C or SIGTERM stops it, and it goes on where it was when it is started again:
      salus node --config north/node.toml
  The same with more to read, as JSON:
      RUST_LOG=salus=debug salus node --config north/node.toml --log-format json

It prints one line that starts with `ready` once it serves, and logs to standard error.
Exit code 3: it had to halt, since going on would not have been safe; the last lines say why.";

/// How long a validator executes what its log holds before it says that it is ready.
const REPLAY_PATIENCE: Duration = Duration::from_secs(60);

/// Run a validator.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How log lines are written, instead of as the configuration says
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Sample where time goes, and write a flame graph (SVG) here at the end
    #[cfg(feature = "profile")]
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs until it is told to stop.
pub(super) fn run(args: &NodeArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let text = read_text(&args.config, CONFIG_BYTES_MAX)?;
    let config = ConfigFile::parse(&args.config, &text)
        .map_err(|error| CliError::unable_hint(error.to_string(), "node.sample.toml explains every key"))?;
    start_log(&config.config().trace, args.log_format)?;
    small_pages();

    let path = config.path(&config.config().genesis);
    let genesis = Genesis::decode(&read(&path, GENESIS_BYTES_MAX)?)
        .map_err(|error| CliError::unable(format!("{}: {error}", path.display())))?;
    #[cfg(feature = "profile")]
    let profile =
        args.profile.clone().map(crate::io::profile::Profile::start).transpose().map_err(CliError::unable)?;
    let validator =
        Validator::start(&config, genesis).map_err(|error| CliError::unable(error.to_string()))?;
    if !validator.wait_for_replay(REPLAY_PATIENCE) {
        tracing::warn!("a part of the log waits for payloads of peers before it can be executed");
    }
    // Before anybody hears that it is ready: whoever does may ask it to stop.
    let requests =
        validator.listen_for_stop().map_err(|error| CliError::unable(format!("signals: {error}")))?;
    let at = validator.addresses();
    let name = &config.config().validator;
    // Whoever started it may not read what it says.
    let _ =
        writeln!(out, "ready validator={name} peers={} clients={} http={}", at.peers, at.clients, at.http)
            .and_then(|()| out.flush());
    validator.wait(requests);
    #[cfg(feature = "profile")]
    if let Some(profile) = profile {
        profile.write().map_err(CliError::unable)?;
    }
    validator.stop().map_err(CliError::Halted)
}

/// Has memory come in pages of 4 KiB. Many threads take a little of it each; with huge pages the kernel clears two megabytes for
/// every such bit, a validator stands still for it when load begins, and holds several times as much.
fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::info!(%error, "huge pages stay as the system has them");
    }
}

fn start_log(trace: &Trace, format: Option<LogFormat>) -> Result<(), CliError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(directives),
        Err(_) => EnvFilter::try_new(&trace.level),
    };
    let filter = filter.map_err(|error| {
        CliError::unable_hint(
            format!("trace.level or RUST_LOG: {error}"),
            "for example `info` or `salus=debug`",
        )
    })?;
    let json = match format {
        Some(format) => format == LogFormat::Json,
        None => trace.format == TraceFormat::Json,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().init()
    } else {
        log.with_ansi(false).init()
    }
    Ok(())
}
