//! `salus submit`: an organisation's records become signed transactions, handed to a validator until they are final.
//!
//! Order of events, so that whatever is cut off can be done again with the same command: the commitment keys go into the
//! vault and the sequence numbers into the state file, both durably, before a transaction leaves. A transaction that did
//! not become final is made again under the same number, so at most one of the two is ever executed.

mod records;
mod send;

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

pub(super) use self::records::read_events;
pub(super) use self::send::Tally;
use self::send::{Outgoing, send_all};
use super::desk::{Desk, SigningKey, now};
use super::node_client::NodeClient;
use super::{CliError, genesis, org_key};
use crate::gateway::{KeyTerms, key_add};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_TIME_SKEW_MS_MAX};
use crate::types::{Body, KeyId, Roles, TimestampMs, tx_id};

/// How long a key that is registered here is valid: two years, in milliseconds.
const KEY_LIFETIME_MS: u64 = 2 * 365 * 24 * 3_600 * 1_000;
/// Largest file of records or transactions.
const INPUT_BYTES_MAX: u64 = 1 << 30;

const EXAMPLES: &str = "\
EXAMPLES
  Once: make a key for records, and register it as number 1 of organisation 1 with its root key:
      salus keygen --organisation north/record
      salus submit --node http://127.0.0.1:7702 --genesis genesis.json --org 1 --key-id 0 \\
          --key north/root.key --add-key north/record.key --add-key-id 1 --roles record
  Anchor FHIR records: lines of {when, tx, resource}, lines of bare resources, or one resource:
      salus submit --node http://127.0.0.1:7702 --genesis genesis.json --org 1 --key-id 1 \\
          --key north/record.key --vault north/vault records.ndjson
  Hand in transactions that are signed already, one in hexadecimal a line, from standard input:
      salus submit --node http://127.0.0.1:7702 --hex -

  Safe to repeat: what is final is not anchored again, what is not is taken up where it stopped.
  Exit code 0: all are final. 1: some were refused or skipped. 2: not all could be handed in or
  became final in time.";

/// Submit records or transactions to a validator and wait until they are final.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SubmitArgs {
    /// HTTP address of a validator
    #[arg(long, value_name = "URL")]
    pub node: String,
    /// Genesis file of the network to sign for
    #[arg(long, value_name = "FILE", required_unless_present = "hex")]
    pub genesis: Option<PathBuf>,
    /// Key file of the organisation to sign with
    #[arg(long, value_name = "FILE", required_unless_present = "hex")]
    pub key: Option<PathBuf>,
    /// Organisation that signs
    #[arg(long, value_name = "N", required_unless_present = "hex")]
    pub org: Option<u32>,
    /// Number of its key; 0 is the root key, which only registers others
    #[arg(long, value_name = "N", required_unless_present = "hex")]
    pub key_id: Option<u32>,
    /// Next sequence number of the key [default: where the state file stands; a new key starts at 1]
    #[arg(long, value_name = "N")]
    pub seq: Option<u64>,
    /// Where the key's sequence numbers are kept [default: the key file's name with .state behind it]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// File of commitment keys, made if it is missing. Whoever loses it can never show what was anchored
    #[arg(long, value_name = "FILE", required_unless_present_any = ["hex", "add_key"])]
    pub vault: Option<PathBuf>,
    /// Register this key file's key for the organisation; `--key` is then its root key
    #[arg(long, value_name = "FILE", requires = "add_key_id", conflicts_with_all = ["vault", "file", "hex"])]
    pub add_key: Option<PathBuf>,
    /// Number of the key that is registered: from 1, never used before
    #[arg(long, value_name = "N", requires = "add_key", value_parser = clap::value_parser!(u32).range(1..))]
    pub add_key_id: Option<u32>,
    /// What the key that is registered may do
    #[arg(
        long,
        value_name = "ROLE",
        requires = "add_key",
        value_enum,
        value_delimiter = ',',
        default_value = "record"
    )]
    pub roles: Vec<Role>,
    /// FILE holds signed transactions, in hexadecimal, one a line
    #[arg(long, conflicts_with_all = ["key", "org", "key_id", "seq", "state", "vault"])]
    pub hex: bool,
    /// Seconds to wait for a transaction to be final; 0 does not wait
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub wait_s: u64,
    /// FHIR records or, with --hex, signed transactions; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "add_key")]
    pub file: Option<PathBuf>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Anchor records.
    Record,
    /// Grant and revoke consents.
    Custodian,
    /// Log accesses.
    Access,
    /// Vote on admissions, if the organisation governs.
    Govern,
}

impl Role {
    fn bits(self) -> Roles {
        match self {
            Self::Record => Roles::RECORD,
            Self::Custodian => Roles::CUSTODIAN,
            Self::Access => Roles::ACCESS,
            Self::Govern => Roles::GOVERN,
        }
    }
}

pub(super) fn run(args: &SubmitArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = NodeClient::new(&args.node)?;
    let wait = (args.wait_s > 0).then(|| Duration::from_secs(args.wait_s));
    let mut tally = Tally::default();
    match (&args.file, &args.add_key) {
        (Some(file), _) if args.hex => signed(&client, wait, &read_input(file)?, out, &mut tally)?,
        (Some(file), _) => {
            let mut desk = open_desk(args)?;
            let vault = needed(args.vault.as_ref(), "--vault")?;
            records::submit(&client, wait, &mut desk, vault, &read_input(file)?, out, &mut tally)?;
        }
        (None, Some(key)) => {
            let mut desk = open_desk(args)?;
            register(&client, wait, &mut desk, (key, args), out, &mut tally)?;
        }
        (None, None) => return Err(CliError::unable("give FILE, or --add-key")),
    }
    tally.finish(out)
}

/// An argument that clap has made sure of.
fn needed<'a, T>(value: Option<&'a T>, name: &str) -> Result<&'a T, CliError> {
    value.ok_or_else(|| CliError::unable(format!("{name} is missing")))
}

fn open_desk(args: &SubmitArgs) -> Result<Desk, CliError> {
    let network = genesis::load(needed(args.genesis.as_ref(), "--genesis")?)?.network();
    Desk::open(&SigningKey {
        network,
        org: *needed(args.org.as_ref(), "--org")?,
        key: *needed(args.key_id.as_ref(), "--key-id")?,
        file: needed(args.key.as_ref(), "--key")?,
        state: args.state.as_deref(),
        seq: args.seq,
    })
}

fn read_input(path: &Path) -> Result<Vec<u8>, CliError> {
    let unable =
        |error: &std::io::Error| CliError::unable(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(|error| unable(&error))?;
        file.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)
    };
    read.map_err(|error| unable(&error))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        let what = format!("{} is larger than {INPUT_BYTES_MAX} bytes", path.display());
        return Err(CliError::unable_hint(what, "cut it at a line's end and submit the parts"));
    }
    Ok(bytes)
}

/// Hands in transactions that are signed already.
fn signed(
    client: &NodeClient,
    wait: Option<Duration>,
    input: &[u8],
    out: &mut dyn Write,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let mut outgoing = Vec::new();
    for (i, text) in input.split(|byte| *byte == b'\n').enumerate() {
        let (line, text) = (i + 1, text.trim_ascii());
        if text.is_empty() {
            continue;
        }
        // Twice the limit of the node at most, so that its answer can be seen.
        if text.len() > 4 * TRANSACTION_BYTES_MAX {
            return Err(CliError::unable(format!("line {line}: longer than any transaction")));
        }
        let bytes = hex::decode(text)
            .map_err(|error| CliError::unable(format!("line {line}: not hexadecimal: {error}")))?;
        outgoing.push(Outgoing { id: tx_id(&bytes), bytes: bytes.into(), label: format!("line {line}") });
    }
    send_all(client, wait, &outgoing, |at, fate| tally.note(out, outgoing[at].id, &fate, &outgoing[at].label))
}

/// Registers a key.
fn register(
    client: &NodeClient,
    wait: Option<Duration>,
    desk: &mut Desk,
    (path, args): (&Path, &SubmitArgs),
    out: &mut dyn Write,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let secret = org_key::read(path)?;
    let key = KeyId(*needed(args.add_key_id.as_ref(), "--add-key-id")?);
    let now = now()?.0;
    let terms = KeyTerms {
        org: desk.org,
        key,
        roles: args.roles.iter().fold(Roles::default(), |roles, role| roles.with(role.bits())),
        // Block time may lag behind this clock by as much as a transaction's time may differ from it.
        from: TimestampMs(now.saturating_sub(TRANSACTION_TIME_SKEW_MS_MAX)),
        to: TimestampMs(now.saturating_add(KEY_LIFETIME_MS)),
    };
    let transaction = desk.sign(&Body::KeyAdd(key_add(desk.network, terms, &secret)))?;
    desk.state.save()?;
    let label = format!("key {key} of organisation {} from {}", desk.org, path.display());
    let outgoing = [Outgoing { id: transaction.id(), bytes: transaction.bytes().clone(), label }];
    send_all(client, wait, &outgoing, |_, fate| tally.note(out, outgoing[0].id, &fate, &outgoing[0].label))
}
