//! Arguments of `salus node`.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
EXAMPLES
  Run a validator; Ctrl-C or SIGTERM stops it, and it goes on where it was when it is started again:
      salus node --config north/node.toml
  The same with more to read, as JSON:
      RUST_LOG=salus=debug salus node --config north/node.toml --log-format json";

/// Run a validator.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
