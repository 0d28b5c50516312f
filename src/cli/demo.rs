//! Arguments of `salus demo`.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
EXAMPLES
  The whole story on the sample that ships with the program:
      salus demo
  Seven validators, the sample a hundred times over, everything left behind to look at:
      salus demo --validators 7 --times 100 --dir /tmp/salus-demo --keep
  Your own events:
      salus demo --data events.ndjson";

/// Run a network of validators on this machine, make a hospital's day final on it, and prove a record.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Folder to make the network in [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Number of validators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=22))]
    pub validators: u16,
    /// Event stream, one JSON object {when, tx, resource} a line [default: the sample in the program]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How many times the clinical events are submitted, each time as those of other patients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub times: u32,
    /// Leave the validators running and the folder in place
    #[arg(long)]
    pub keep: bool,
}
