//! `salus proof`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::node_client::NodeClient;
use super::signer_state::load_vault;
use super::submit::read_events;
use super::{CliError, files, genesis};
use crate::proof::bundle::{Opening, ProofBundle, Shown, Verified};
use crate::types::{LeafIndex, TxId};

/// Largest file that a resource is looked for in.
const RESOURCES_BYTES_MAX: usize = 1 << 30;

const EXAMPLES: &str = "\
EXAMPLES
  Fetch the proof that a transaction is final and keep it; anybody can check it without a network:
      salus proof --node http://127.0.0.1:7702 --genesis genesis.json 3f0c…9a2e -o record.proof
      salus verify record.proof --genesis genesis.json
  The same by leaf number, with the record itself, to show which one was anchored:
      salus proof --node http://127.0.0.1:7702 --genesis genesis.json 17 -o record.proof \\
          --vault north/vault --resource records.ndjson

  Exit code 0: it holds. 1: it does not hold, nothing is written. 2: it cannot be fetched or written.";

/// Fetch the proof that a transaction is final, check it, and keep it to be checked by others.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ProofArgs {
    /// HTTP address of a validator. It need not be trusted
    #[arg(long, value_name = "URL")]
    pub node: String,
    /// Genesis file of the network, from a source that you trust: it names the validators whose signatures count
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
    /// Id of the transaction, 64 hexadecimal digits, or number of its leaf
    #[arg(value_name = "ID", value_parser = parse_of)]
    pub id: Of,
    /// File to write the bundle to; without it, it is only checked
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Vault with the commitment key: the bundle then shows the record itself to whoever gets it
    #[arg(long, value_name = "FILE", requires = "resource")]
    pub vault: Option<PathBuf>,
    /// The record: a FHIR resource, or a file of lines that it is one of
    #[arg(long, value_name = "FILE", requires = "vault")]
    pub resource: Option<PathBuf>,
    /// Seconds to wait for the checkpoint that covers the transaction
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub wait_s: u64,
}

/// What a proof is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A transaction.
    Transaction(TxId),
    /// Whatever is at a leaf.
    Leaf(LeafIndex),
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transaction(id) => id.fmt(f),
            Self::Leaf(leaf) => leaf.fmt(f),
        }
    }
}

fn parse_of(text: &str) -> Result<Of, String> {
    if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let leaf = text.parse().map_err(|_range| "a leaf's number is below 2^64".to_owned())?;
        return Ok(Of::Leaf(LeafIndex(leaf)));
    }
    let id = text.parse().map_err(|error| {
        format!("neither an id of 64 hexadecimal digits nor the number of a leaf: {error}")
    })?;
    Ok(Of::Transaction(id))
}

pub(super) fn run(args: &ProofArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let genesis = genesis::load(&args.genesis)?;
    let client = NodeClient::new(&args.node)?;
    let deadline = Instant::now() + Duration::from_secs(args.wait_s);
    let bytes = client.proof(&args.id.to_string(), deadline)?;
    let refuse = |why: &dyn std::fmt::Display| {
        CliError::DoesNotHold(format!("the proof that {} gives does not hold: {why}", args.node))
    };
    let mut bundle = ProofBundle::decode(&bytes).map_err(|error| refuse(&error))?;
    let mut verified = bundle.verify(&genesis).map_err(|error| refuse(&error))?;
    if !is_of(&verified, args.id) {
        let what = format!("it is of {} at leaf {}, not of {}", verified.tx_id, verified.leaf, args.id);
        return Err(refuse(&what));
    }
    if let (Some(vault), Some(resource)) = (&args.vault, &args.resource) {
        bundle.opening = Some(opening(&verified, vault, resource)?);
        verified = bundle.verify(&genesis).map_err(|error| {
            CliError::DoesNotHold(format!("{} does not open the transaction: {error}", resource.display()))
        })?;
    }
    if let Some(path) = &args.output {
        let bytes = bundle.encode().map_err(|error| CliError::unable(error.to_string()))?;
        files::write_new(path, &bytes, args.force)?;
    }
    Ok(writeln!(out, "holds: {verified}")?)
}

fn is_of(verified: &Verified, of: Of) -> bool {
    match of {
        Of::Transaction(id) => verified.tx_id == id,
        Of::Leaf(leaf) => verified.leaf == leaf,
    }
}

/// Finds the commitment key in the vault and the version that it is for among the resources.
fn opening(verified: &Verified, vault: &Path, resources: &Path) -> Result<Opening, CliError> {
    let found = load_vault(vault)?;
    let id = verified.tx_id;
    let (name, entry) = found.version_of(&id).ok_or_else(|| {
        CliError::unable(format!("{} has no commitment key of transaction {id}", vault.display()))
    })?;
    let events = read_events(&files::read(resources, RESOURCES_BYTES_MAX)?)?;
    let event = events
        .iter()
        .find(|event| event.resource == name.resource && event.version == name.version)
        .ok_or_else(|| CliError::unable(format!("{} does not hold {name}", resources.display())))?;
    let resource =
        serde_json::from_slice(&event.canonical).map_err(|error| CliError::unable(error.to_string()))?;
    Ok(Opening { key: entry.commitment_key, shown: Shown::Resource(resource) })
}
