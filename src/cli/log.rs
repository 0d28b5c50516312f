//! Arguments of `salus log`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
EXAMPLES
  Check a stopped validator's data, every record and every checksum:
      salus log check north/data";

/// Look at a validator's data folder.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// What to do with a data folder.
#[derive(Debug, Clone, Subcommand)]
pub enum LogCommand {
    /// Check every record and every checksum, changing nothing; exit code 1 if there is damage
    Check {
        /// Data folder of a validator that does not run
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}
