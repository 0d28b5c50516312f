//! Arguments of `salus proof`.

use std::path::PathBuf;

use clap::Args;

use crate::types::TxId;

const EXAMPLES: &str = "\
EXAMPLES
  Fetch the proof that a transaction is final, then check it without any network:
      salus proof --node http://127.0.0.1:8101 3f0c…9a2e -o record.proof
      salus verify record.proof --genesis genesis.json";

/// Fetch the proof that a transaction is final, to be checked offline with `salus verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ProofArgs {
    /// HTTP address of a validator
    #[arg(long, value_name = "URL")]
    pub node: String,
    /// Id of the transaction, 64 hexadecimal digits
    #[arg(value_name = "ID")]
    pub id: TxId,
    /// File to write the bundle to
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}
