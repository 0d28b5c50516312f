//! `salus anchor`: files as they are become members of signed batches, and each gets a proof of its own.
//!
//! Order of events, so that whatever is cut off can be done again with the same command: the commitment keys and the batch that
//! they make are in the vault, durably, before a transaction of it is signed, and its number and id before it leaves. A batch
//! whose transaction did not become final is signed again as it was, under the same number, so at most one of them is ever
//! executed; and a file whose batch is final is not anchored again. A validator that lies, and says that the number was used, can have a
//! batch anchored twice, within the ten minutes for which its first transaction may be executed: proofs of both hold.

mod batches;
mod proofs;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use self::batches::Clerk;
use self::proofs::Folder;
use super::desk::{Desk, SigningKey};
use super::hash::{Algorithm, Manifest, walk};
use super::node_client::NodeClient;
use super::signer_state::{FileLock, beside, load_vault};
use super::submit::Tally;
use super::{CliError, genesis};
use crate::gateway::codes;
use crate::gateway::vault::{BatchTerms, FileName, Vault};
use crate::genesis::Genesis;
use crate::limits::BATCH_MEMBERS_MAX;
use crate::proof::batch::FileFacts;
use crate::types::Kind;

const EXAMPLES: &str = "\
EXAMPLES
  Anchor an export and a report, with the key that `salus submit --add-key` registered for records:
      salus anchor export report.pdf --node http://127.0.0.1:7702 --genesis genesis.json \\
          --org 1 --key-id 1 --key north/record.key --vault north/vault --out export.proofs
  Check one of the files against its proof, on any machine, without any network:
      salus verify export.proofs/17-00003.proof --genesis genesis.json --file export/a.json

  Up to 65,536 files make one transaction; more make several. Names stay here: the ledger gets a
  commitment to length and hash of each file, under a key of its own that the vault keeps. DIR gets
  manifest.json (as `salus hash` writes it), proofs.json (which proof is of which file) and a proof
  for each file. Whoever gets a proof can check the file; give it to nobody else, since it shows the
  file's hash. Links are listed in the manifest and not anchored.

  Safe to repeat: what is final is not anchored again, what is not is taken up where it stopped. A
  file that changed since is anchored as it is now.
  Exit code 0: all are final and have their proofs. 1: some were refused or skipped, or a proof does
  not hold. 2: something cannot be read or written, or not all became final in time.";

/// Anchor files as they are: hash them, put them on the ledger in batches, and keep a proof of each.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct AnchorArgs {
    /// Files and folders
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// HTTP address of a validator
    #[arg(long, value_name = "URL")]
    pub node: String,
    /// Genesis file of the network to sign for, from a source that you trust
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
    /// Key file of the organisation to sign with
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Organisation that signs
    #[arg(long, value_name = "N")]
    pub org: u32,
    /// Number of its key, which has the role of records
    #[arg(long, value_name = "N")]
    pub key_id: u32,
    /// Next sequence number of the key [default: where the state file stands; a new key starts at 1]
    #[arg(long, value_name = "N")]
    pub seq: Option<u64>,
    /// Where the key's sequence numbers are kept [default: the key file's name with .state behind it]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// File of commitment keys, made if it is missing. Whoever loses it, and the proofs, can never show what was anchored
    #[arg(long, value_name = "FILE")]
    pub vault: PathBuf,
    /// Folder for manifest and proofs [default: the first PATH with .proofs behind it]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Hash function
    #[arg(long, value_enum, default_value_t = Algorithm::Blake3)]
    pub algorithm: Algorithm,
    /// Class of the files, as the network's policy numbers them
    #[arg(long, value_name = "N", default_value_t = codes::CLASS_FILES)]
    pub class: u8,
    /// Days that the files have to be kept
    #[arg(long, value_name = "DAYS", default_value_t = codes::RETAIN_DAYS)]
    pub retain_days: u32,
    /// Seconds to wait for a batch to be final, and for its proof
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait_s: u64,
}

/// A file of this run.
struct Anchored {
    path: String,
    facts: FileFacts,
}

pub(super) fn run(args: &AnchorArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let genesis = genesis::load(&args.genesis)?;
    refuse_old_rules(&genesis)?;
    let client = NodeClient::new(&args.node)?;
    let folder = Folder::at(out_of(args)?)?;
    refuse_own_files(args, folder.path())?;
    let manifest = Manifest::make(&walk(&args.paths)?, args.algorithm)?;
    if manifest.files.is_empty() {
        return Err(CliError::unable("there are no files to anchor"));
    }
    let count = HumanCount(manifest.files.len() as u64);
    writeln!(out, "hashed {count} files, {}", HumanBytes(manifest.bytes))?;
    let algorithm = args.algorithm.into();
    let files: Vec<Anchored> = manifest
        .files
        .iter()
        .map(|(path, hashed)| {
            let facts = FileFacts { bytes: hashed.bytes, algorithm, hash: hashed.hash };
            Anchored { path: path.clone(), facts }
        })
        .collect();
    let desk = Desk::open(&SigningKey {
        network: genesis.network(),
        org: args.org,
        key: args.key_id,
        file: &args.key,
        state: args.state.as_deref(),
        seq: args.seq,
    })?;
    let _lock = FileLock::acquire(&args.vault)?;
    let vault = load_vault(&args.vault)?;
    let terms = BatchTerms {
        network: genesis.network(),
        org: desk.org,
        key: desk.key,
        class: args.class,
        retain_days: args.retain_days,
    };
    let wait = Duration::from_secs(args.wait_s);
    let mut clerk = Clerk { client: &client, wait, desk, vault, path: &args.vault };
    let mut tally = Tally::default();
    anchor(&mut clerk, terms, &files, out, &mut tally)?;
    let proved = folder.write(&clerk, &genesis, &files, &manifest)?;
    if proved > 0 {
        writeln!(out, "{} proofs in {}", HumanCount(proved), folder.path().display())?;
    }
    tally.finish(out)
}

/// Batches that earlier runs have begun first, then one after another of what is new.
fn anchor(
    clerk: &mut Clerk<'_>,
    terms: BatchTerms,
    files: &[Anchored],
    out: &mut dyn Write,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let mut begun: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut new = Vec::new();
    for file in files {
        match root_of(&clerk.vault, terms, file) {
            Some(root) => *begun.entry(root).or_default() += 1,
            None => new.push((file.path.clone(), file.facts)),
        }
    }
    for (root, here) in begun {
        clerk.submit(&root, here, out, tally)?;
    }
    for chunk in new.chunks(BATCH_MEMBERS_MAX as usize) {
        let root = clerk.begin(terms, chunk)?;
        clerk.submit(&root, chunk.len(), out, tally)?;
    }
    Ok(())
}

/// The batch that a file is in, if it was put into one.
fn root_of(vault: &Vault, terms: BatchTerms, file: &Anchored) -> Option<[u8; 32]> {
    let name = FileName { network: terms.network, path: file.path.clone(), facts: file.facts };
    vault.file(&name).map(|entry| entry.batch)
}

fn refuse_old_rules(genesis: &Genesis) -> Result<(), CliError> {
    let needed = Kind::RecordBatch.since();
    if genesis.rules() >= needed {
        return Ok(());
    }
    let name = &genesis.file().network;
    Err(CliError::unable_hint(
        format!("the network {name} is of rules {}, and batches need rules {needed}", genesis.rules()),
        "rules are fixed when a network is made; `salus submit` anchors FHIR records one by one in it",
    ))
}

fn out_of(args: &AnchorArgs) -> Result<PathBuf, CliError> {
    if let Some(out) = &args.out {
        return Ok(out.clone());
    }
    let first = args.paths.first().map_or(Path::new(""), PathBuf::as_path);
    match first.components().next_back() {
        Some(Component::Normal(_)) => Ok(beside(&first.components().collect::<PathBuf>(), ".proofs")),
        _ => Err(CliError::unable_hint(
            format!("{} has no name to call a folder of proofs after", first.display()),
            "say with --out DIR where the proofs are to go",
        )),
    }
}

/// What is written here must not lie below what is anchored: the next run would find it.
fn refuse_own_files(args: &AnchorArgs, out: &Path) -> Result<(), CliError> {
    let state = args.state.clone().unwrap_or_else(|| beside(&args.key, ".state"));
    for path in &args.paths {
        let Ok(whole) = path.canonicalize() else { continue };
        for own in [out, args.vault.as_path(), state.as_path()] {
            if resolved(own).starts_with(&whole) {
                return Err(CliError::unable_hint(
                    format!("{} lies in {}, which is being anchored", own.display(), path.display()),
                    "keep vault, state and proofs outside of it: they change with each run",
                ));
            }
        }
    }
    Ok(())
}

/// A path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return path.to_owned(),
    };
    path.file_name().map_or_else(|| resolved(above), |name| resolved(above).join(name))
}

#[cfg(test)]
mod tests;
