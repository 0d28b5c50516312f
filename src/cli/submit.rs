//! Arguments of `salus submit`.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
EXAMPLES
  Sign a body with a key of organisation 101, submit it and wait until it is final:
      salus submit --node http://127.0.0.1:8101 --genesis genesis.json \\
          --org 101 --key-id 1 --key keys/record.key --seq 42 --kind RECORD_ANCHOR body.bin
  Submit transactions that are signed already, one in hexadecimal a line, from standard input:
      salus submit --node http://127.0.0.1:8101 -";

/// Submit transactions to a validator and wait until they are final.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SubmitArgs {
    /// HTTP address of a validator
    #[arg(long, value_name = "URL")]
    pub node: String,
    /// Key file to sign with; without it, FILE holds signed transactions
    #[arg(long, value_name = "FILE", requires_all = ["org", "key_id", "genesis", "kind", "seq"])]
    pub key: Option<PathBuf>,
    /// Organisation that signs
    #[arg(long, value_name = "N", requires = "key")]
    pub org: Option<u32>,
    /// Number of its key
    #[arg(long, value_name = "N", requires = "key")]
    pub key_id: Option<u32>,
    /// Sequence number, never used before with this key
    #[arg(long, value_name = "N", requires = "key")]
    pub seq: Option<u64>,
    /// What the body is, such as RECORD_ANCHOR
    #[arg(long, value_name = "KIND", requires = "key")]
    pub kind: Option<String>,
    /// Genesis file of the network to sign for
    #[arg(long, value_name = "FILE", requires = "key")]
    pub genesis: Option<PathBuf>,
    /// Seconds to wait until it is final; 0 does not wait
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub wait_s: u64,
    /// Body to sign, or signed transactions in hexadecimal, one a line; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}
