//! `salus genesis new` and `salus genesis show`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{CliError, files};
use crate::genesis::{
    GENESIS_BYTES_MAX, GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters,
    REPUTATION_WINDOW_ROUNDS, ValidatorEntry,
};
use crate::types::Rules;

/// Value of `format` in a file of public keys.
pub const PUBLIC_KEYS_FORMAT: &str = "salus-public-keys/1";
/// Name of the file of public keys in a validator's key folder.
pub const PUBLIC_KEYS_FILE: &str = "public.json";
/// Largest file of public keys.
const PUBLIC_KEYS_BYTES_MAX: usize = 4_096;

const EXAMPLES: &str = "\
EXAMPLES
  Four hospitals found a network. Each has made its keys and sent its folder's public.json to
  whoever makes the genesis file, and the public half of its organisation's root key:
      salus genesis new --network region.example.org \\
          --validator name=north,address=north.example.org:7100,keys=north/public.json \\
          --validator name=harbour,address=harbour.example.org:7100,keys=harbour/public.json \\
          --validator name=lake,address=lake.example.org:7100,keys=lake/public.json \\
          --validator name=health-office,address=office.example.org:7100,keys=office/public.json \\
          --member 'org=1,kind=provider,governs=yes,key=north/root.pub,name=North Hospital' \\
          --member 'org=2,kind=authority,governs=yes,key=office/root.pub,name=Health Office' \\
          --output genesis.json
  All of them compare what it says, and the network id above all:
      salus genesis show genesis.json";

/// Make or show a genesis file.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenesisArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: GenesisCommand,
}

/// What to do with a genesis file.
#[derive(Debug, Clone, Subcommand)]
pub enum GenesisCommand {
    /// Make one from validators' and members' public keys
    #[command(after_help = EXAMPLES)]
    New(Box<NewArgs>),
    /// Check one, and print network id, committee, thresholds and members
    #[command(after_help = EXAMPLES)]
    Show {
        /// Genesis file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Arguments of `salus genesis new`.
#[derive(Debug, Clone, Args)]
pub struct NewArgs {
    /// Name of the network: 1 to 64 of a-z, 0-9, '.' and '-'
    #[arg(long, value_name = "NAME")]
    pub network: String,
    /// A validator: name=NAME,address=HOST:PORT,keys=PATH[,stake=N]. PATH is its public.json, or the
    /// folder with it. The order gives validators their index
    #[arg(long = "validator", value_name = "KEY=VALUE,…", required = true)]
    pub validators: Vec<ValidatorSpec>,
    /// An organisation that exists from the start:
    /// org=N,kind=provider|payer|authority|research,name=NAME,key=FILE|HEX
    /// and, if wanted, region=N and governs=yes|no, with commas between them.
    /// `key` is its public root key, 64 hexadecimal digits or a file of them. `name` comes last if it
    /// has a comma in it
    #[arg(long = "member", value_name = "KEY=VALUE,…", required = true)]
    pub members: Vec<MemberSpec>,
    /// Least time between two checkpoints
    #[arg(long, value_name = "MS", default_value_t = Parameters::default().checkpoint_interval_ms)]
    pub checkpoint_interval_ms: u64,
    /// Leader slots of each round [default: 4, or the number of validators if that is less]
    #[arg(long, value_name = "N")]
    pub leaders_per_round: Option<u16>,
    /// Rounds after which validators that were slow or silent in them lose their leader slots for as
    /// long; 0 is never
    #[arg(long, value_name = "ROUNDS", default_value_t = REPUTATION_WINDOW_ROUNDS)]
    pub reputation_window_rounds: u64,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "genesis.json")]
    pub output: PathBuf,
    /// Replace the file if it exists. Another genesis file is another network
    #[arg(long)]
    pub force: bool,
}

/// A `--validator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSpec {
    name: String,
    address: String,
    keys: PathBuf,
    stake: u32,
}

/// A `--member`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSpec {
    org: u32,
    kind: u8,
    name: String,
    key: String,
    region: u16,
    governs: bool,
}

/// Public keys of a validator: the file that it sends to whoever makes the genesis file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// TLS identity.
    pub network_key: HexKey,
    /// Header key.
    pub consensus_key: HexKey,
    /// Checkpoint cosigning key.
    pub cosign_key: HexKey,
    /// Checkpoint log key.
    pub log_key: HexKey,
}

impl PublicKeys {
    /// The file's text.
    ///
    /// # Errors
    /// If JSON cannot be made of it.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        value["format"] = PUBLIC_KEYS_FORMAT.into();
        Ok(format!("{value:#}\n"))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without the file's name.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.as_object_mut().and_then(|fields| fields.remove("format")) {
            Some(format) if format == PUBLIC_KEYS_FORMAT => {}
            Some(format) => return Err(format!("format is {format}, expected {PUBLIC_KEYS_FORMAT:?}")),
            None => return Err(format!("no format, expected {PUBLIC_KEYS_FORMAT:?}")),
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// Splits `a=1,b=2`. The value of `last`, if it is there, takes all of the rest, commas too.
fn split_spec(text: &str, last: &str) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("{rest:?} is not KEY=VALUE"))?;
        let (value, next) =
            if key == last { (after, "") } else { after.split_once(',').unwrap_or((after, "")) };
        if out.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key} is given twice"));
        }
        rest = next;
    }
    Ok(out)
}

fn take(fields: &mut BTreeMap<String, String>, key: &str) -> Result<String, String> {
    fields.remove(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("{key}= is missing"))
}

fn take_number<T: FromStr>(
    fields: &mut BTreeMap<String, String>,
    key: &str,
    default: Option<T>,
) -> Result<T, String> {
    match (fields.remove(key), default) {
        (Some(text), _) => {
            text.parse().map_err(|_malformed| format!("{key}={text} is not a number in its range"))
        }
        (None, Some(default)) => Ok(default),
        (None, None) => Err(format!("{key}= is missing")),
    }
}

fn refuse_rest(fields: &BTreeMap<String, String>) -> Result<(), String> {
    match fields.keys().next() {
        None => Ok(()),
        Some(key) => Err(format!("{key}= is not known here")),
    }
}

impl FromStr for ValidatorSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = split_spec(text, "")?;
        let spec = Self {
            name: take(&mut fields, "name")?,
            address: take(&mut fields, "address")?,
            keys: take(&mut fields, "keys")?.into(),
            stake: take_number(&mut fields, "stake", Some(1))?,
        };
        refuse_rest(&fields)?;
        Ok(spec)
    }
}

impl FromStr for MemberSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = split_spec(text, "name")?;
        let kind = match take(&mut fields, "kind")?.as_str() {
            "provider" => 1,
            "payer" => 2,
            "authority" => 3,
            "research" => 4,
            other => return Err(format!("kind={other}, expected provider, payer, authority or research")),
        };
        let governs = match fields.remove("governs").as_deref() {
            None | Some("no") => false,
            Some("yes") => true,
            Some(other) => return Err(format!("governs={other}, expected yes or no")),
        };
        let spec = Self {
            org: take_number(&mut fields, "org", None)?,
            kind,
            name: take(&mut fields, "name")?,
            key: take(&mut fields, "key")?,
            region: take_number(&mut fields, "region", Some(0))?,
            governs,
        };
        refuse_rest(&fields)?;
        Ok(spec)
    }
}

pub(super) fn run(args: GenesisArgs, out: &mut dyn Write) -> Result<(), CliError> {
    match args.command {
        GenesisCommand::New(args) => new(&args, out),
        GenesisCommand::Show { file } => show(&load(&file)?, out),
    }
}

/// Reads and checks a genesis file.
pub(super) fn load(path: &Path) -> Result<Genesis, CliError> {
    let bytes = files::read(path, GENESIS_BYTES_MAX)?;
    Genesis::decode(&bytes).map_err(|error| CliError::unable(format!("{}: {error}", path.display())))
}

fn new(args: &NewArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let created_ms = now.and_then(|now| u64::try_from(now.as_millis()).ok()).ok_or_else(|| {
        CliError::unable_hint("this machine's clock stands before 1970", "set the clock, then try again")
    })?;
    let validators = args.validators.iter().map(validator).collect::<Result<Vec<_>, _>>()?;
    let most_leaders = u16::try_from(validators.len()).unwrap_or(u16::MAX);
    let defaults = Parameters::default();
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: args.network.clone(),
        created_ms,
        parameters: Parameters {
            checkpoint_interval_ms: args.checkpoint_interval_ms,
            leaders_per_round: args
                .leaders_per_round
                .unwrap_or_else(|| defaults.leaders_per_round.min(most_leaders)),
            reputation_window_rounds: args.reputation_window_rounds,
            rules: Rules::NEWEST,
            ..defaults
        },
        validators,
        members: args.members.iter().map(member).collect::<Result<_, _>>()?,
    };
    let refuse = |error: crate::genesis::GenesisError| CliError::unable(error.to_string());
    let bytes = Genesis::encode(&file).map_err(refuse)?;
    let genesis = Genesis::decode(&bytes).map_err(refuse)?;
    files::write_new(&args.output, &bytes, args.force)?;
    writeln!(out, "{} written", args.output.display())?;
    show(&genesis, out)
}

fn validator(spec: &ValidatorSpec) -> Result<ValidatorEntry, CliError> {
    let path = if spec.keys.is_dir() { spec.keys.join(PUBLIC_KEYS_FILE) } else { spec.keys.clone() };
    let keys = PublicKeys::decode(&files::read_text(&path, PUBLIC_KEYS_BYTES_MAX)?).map_err(|why| {
        CliError::unable_hint(
            format!("{}: {why}", path.display()),
            format!("`salus keygen` writes {PUBLIC_KEYS_FILE} beside a validator's keys"),
        )
    })?;
    let PublicKeys { network_key, consensus_key, cosign_key, log_key } = keys;
    Ok(ValidatorEntry {
        name: spec.name.clone(),
        stake: spec.stake,
        address: spec.address.clone(),
        network_key,
        consensus_key,
        cosign_key,
        log_key,
    })
}

fn member(spec: &MemberSpec) -> Result<MemberEntry, CliError> {
    let root_key = match HexKey::try_from(spec.key.clone()) {
        Ok(key) => key,
        Err(_not_hex) => {
            let path = Path::new(&spec.key);
            let text = files::read_text(path, PUBLIC_KEYS_BYTES_MAX)?;
            HexKey::try_from(text.trim().to_owned()).map_err(|_not_hex| {
                CliError::unable(format!("{} does not hold a key of 64 hexadecimal digits", path.display()))
            })?
        }
    };
    let MemberSpec { org, kind, region, governs, .. } = *spec;
    Ok(MemberEntry { org, kind, name: spec.name.clone(), region, root_key, governs })
}

fn show(genesis: &Genesis, out: &mut dyn Write) -> Result<(), CliError> {
    let committee = genesis.committee();
    let file = genesis.file();
    writeln!(out, "network    {}, id {}", file.network, genesis.network())?;
    writeln!(out, "origin     {}", genesis.origin())?;
    writeln!(out, "created    {} ms after 1970-01-01", file.created_ms)?;
    let Parameters { checkpoint_interval_ms, gc_depth, leaders_per_round, reputation_window_rounds, rules } =
        genesis.parameters();
    writeln!(
        out,
        "rules      {rules}; a checkpoint every {checkpoint_interval_ms} ms, {leaders_per_round} leaders a round, \
         {gc_depth} rounds kept, reputation over {reputation_window_rounds} rounds"
    )?;
    writeln!(
        out,
        "committee  {} validators with stake {}; quorum {}, tolerates {} faulty",
        committee.size(),
        committee.total_stake(),
        committee.quorum_threshold(),
        committee.fault_tolerance()
    )?;
    for (index, authority) in committee.iter() {
        let key = &hex::encode(authority.consensus_key)[..16];
        writeln!(
            out,
            "  {index:>3}  {:<20} stake {:<6} {:<28} header key {key}…",
            authority.name, authority.stake, authority.address
        )?;
    }
    let governing = file.members.iter().filter(|member| member.governs).count();
    let needed = governing * 2 / 3 + 1;
    writeln!(
        out,
        "members    {}, of which {governing} govern; {needed} votes admit an organisation",
        file.members.len()
    )?;
    for (org, member) in genesis.members() {
        let kind = ["", "provider", "payer", "authority", "research"][usize::from(member.kind)];
        let governs = if member.governs { "governs" } else { "" };
        writeln!(out, "  {org:>3}  {:<40} {kind:<10} region {:<5} {governs}", member.name, member.region)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::crypto::SecretKey;

    fn key(seed: u8) -> HexKey {
        HexKey(SecretKey::from_seed(&[seed; 32]).public())
    }

    /// Writes key files for four validators and a member, and runs `genesis new` on them with changes to its arguments.
    fn make(dir: &Path, change: impl Fn(&mut Vec<String>)) -> Result<String, String> {
        let mut args: Vec<String> =
            ["salus", "genesis", "new", "--network", "test.example"].map(String::from).into();
        for i in 0..4_u8 {
            let [network_key, consensus_key, cosign_key, log_key] = [1, 2, 3, 4].map(|n| key(10 * i + n));
            let keys = PublicKeys { network_key, consensus_key, cosign_key, log_key };
            let folder = dir.join(format!("v{i}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(PUBLIC_KEYS_FILE), keys.encode().unwrap()).unwrap();
            args.push("--validator".to_owned());
            args.push(format!("name=v{i},address=127.0.0.1:710{i},keys={}", folder.display()));
        }
        std::fs::write(dir.join("root.pub"), String::from(key(99)) + "\n").unwrap();
        args.push("--member".to_owned());
        let root = dir.join("root.pub");
        args.push(format!("org=1,kind=provider,governs=yes,key={},name=Clinic, North", root.display()));
        args.push("--output".to_owned());
        args.push(dir.join("genesis.json").display().to_string());
        change(&mut args);
        execute(&args)
    }

    fn execute(args: &[String]) -> Result<String, String> {
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        let Command::Genesis(args) = cli.command else { panic!("not genesis") };
        let mut out = Vec::new();
        run(args, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_genesis_file_is_made_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), |_| {}).unwrap();
        let path = dir.path().join("genesis.json");
        let genesis = Genesis::decode(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(genesis.file().members[0].name, "Clinic, North");
        assert_eq!(genesis.file().members[0].root_key, key(99));
        assert_eq!(genesis.file().validators[3].log_key, key(34));
        let expected = Parameters {
            reputation_window_rounds: REPUTATION_WINDOW_ROUNDS,
            rules: Rules::NEWEST,
            ..Parameters::default()
        };
        assert_eq!(genesis.parameters(), expected);
        let path = path.display().to_string();
        let shown = execute(&["salus", "genesis", "show", &path].map(String::from)).unwrap();
        assert!(made.ends_with(&shown));
        assert!(shown.contains(&format!("id {}", genesis.network())), "{shown}");
        assert!(shown.contains("4 validators with stake 4; quorum 3, tolerates 1 faulty"), "{shown}");
        assert!(shown.contains("1, of which 1 govern; 1 votes admit"), "{shown}");
    }

    #[test]
    fn an_existing_file_is_kept_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), |_| {}).unwrap();
        let error = make(dir.path(), |_| {}).unwrap_err();
        assert!(error.contains("genesis.json exists already\n  choose another name"), "{error}");
        make(dir.path(), |args| args.push("--force".to_owned())).unwrap();
    }

    #[test]
    fn bad_arguments_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let replace = |at: usize, from: &'static str, to: &'static str| {
            let error = make(dir.path(), |args| args[at] = args[at].replace(from, to)).unwrap_err();
            assert!(!dir.path().join("genesis.json").exists(), "{error}");
            error
        };
        let (first, member) = (6, 14);
        for (at, from, to, expected) in [
            (first, "name=v0", "name=v1", "validators[1].name: \"v1\" appears twice"),
            (first, "name=v0,", "", "name= is missing"),
            (first, "name=v0", "name=v0,stake=0", "validators[0].stake: must be at least 1"),
            (first, "name=v0", "name=v0,stake=-1", "stake=-1 is not a number in its range"),
            (first, "name=v0", "name=v0,weight=1", "weight= is not known here"),
            (first, "127.0.0.1:7100", "127.0.0.1", "validators[0].address"),
            (first, "/v0", "/v1", "appears twice: every key has one owner and one use"),
            (first, "/v0", "/v9", "cannot read"),
            (member, "provider", "hospital", "kind=hospital, expected provider, payer"),
            (member, "governs=yes", "governs=no", "none governs"),
            (member, "root.pub", "v0/public.json", "does not hold a key of 64 hexadecimal digits"),
        ] {
            let error = replace(at, from, to);
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn public_key_files_with_anything_else_in_them_are_refused() {
        let keys =
            PublicKeys { network_key: key(1), consensus_key: key(2), cosign_key: key(3), log_key: key(4) };
        let text = keys.encode().unwrap();
        assert_eq!(PublicKeys::decode(&text), Ok(keys));
        for (from, to, expected) in [
            ("salus-public-keys/1", "salus-public-keys/2", "format is \"salus-public-keys/2\""),
            ("\"format\"", "\"fromat\"", "no format"),
            ("cosign_key", "cosine_key", "unknown field `cosine_key`"),
            (&String::from(key(2)), "12", "\"12\" is not a key of 64 hexadecimal digits"),
            ("{", "[", "expected"),
        ] {
            let error = PublicKeys::decode(&text.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
