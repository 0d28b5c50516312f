//! The genesis file: what all validators agree on before the first block.
//!
//! JSON, so that members can read what they sign up to. Its BLAKE3 names the network: one byte of difference is another
//! network. Unknown keys are errors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::committee::{Authority, Committee};
use crate::limits::COMMITTEE_SIZE_MAX;
use crate::types::{Epoch, NetworkId, OrgId, Rules, Stake, TimestampMs};

/// Value of `format` that this program reads.
pub const GENESIS_FORMAT: &str = "salus-genesis/1";
/// Largest genesis file.
pub const GENESIS_BYTES_MAX: usize = 1 << 20;

/// Window of the leaders' reputation in new networks: long enough that a lost round or two make no difference, and at most
/// a minute or so until nobody waits for a validator that went away.
pub const REPUTATION_WINDOW_ROUNDS: u64 = 300;

/// Content of the genesis file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// [`GENESIS_FORMAT`].
    pub format: String,
    /// Name of the network: 1 to 64 of `a–z 0–9 . -`. `<network>/salus` is the origin of its checkpoints.
    pub network: String,
    /// When it was made.
    pub created_ms: u64,
    /// Rules that decide order and state, the same for all validators.
    pub parameters: Parameters,
    /// The committee of epoch 0, in the order that gives its members their index.
    pub validators: Vec<ValidatorEntry>,
    /// Organisations that exist from the start.
    pub members: Vec<MemberEntry>,
}

/// Rules that decide order and state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Least block time between two checkpoints, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// Rounds below the last committed leader that may still enter a commit.
    pub gc_depth: u64,
    /// Leader slots of each round, 1 to the number of validators.
    pub leaders_per_round: u16,
    /// Rounds, 16 to 100,000, after which validators that were slow or silent in them lose their leader slots for as long.
    /// 0, as in files that do not say, is never.
    #[serde(default, skip_serializing_if = "is_never")]
    pub reputation_window_rounds: u64,
    /// Which rules the network has: new kinds of transactions, and whatever else decides state, are known by them. Files that do
    /// not say have the oldest, [`Rules::One`]; new networks are made with [`Rules::NEWEST`].
    #[serde(default, skip_serializing_if = "Rules::is_oldest")]
    pub rules: Rules,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_never(rounds: &u64) -> bool {
    *rounds == 0
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            checkpoint_interval_ms: 500,
            gc_depth: 500,
            leaders_per_round: 4,
            reputation_window_rounds: 0,
            rules: Rules::One,
        }
    }
}

/// One validator of the first committee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorEntry {
    /// Unique name: 1 to 64 of `a–z 0–9 . -`.
    pub name: String,
    /// Voting weight.
    pub stake: u32,
    /// `host:port` of its QUIC endpoint for peers.
    pub address: String,
    /// TLS identity, Ed25519, hexadecimal.
    pub network_key: HexKey,
    /// Header key, Ed25519, hexadecimal.
    pub consensus_key: HexKey,
    /// Checkpoint cosigning key, Ed25519, hexadecimal.
    pub cosign_key: HexKey,
    /// Checkpoint log key, Ed25519, hexadecimal.
    pub log_key: HexKey,
}

/// One organisation that exists from the start. Its root key is its key number 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    /// Number, from 1.
    pub org: u32,
    /// 1 provider, 2 payer, 3 authority, 4 research.
    pub kind: u8,
    /// Name of 1 to 64 bytes.
    pub name: String,
    /// Region.
    pub region: u16,
    /// Root key, Ed25519, hexadecimal.
    pub root_key: HexKey,
    /// Whether it votes on admissions.
    pub governs: bool,
}

/// 32 bytes that are written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexKey(pub [u8; 32]);

impl TryFrom<String> for HexKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut key = [0; 32];
        hex::decode_to_slice(&text, &mut key)
            .map_err(|error| format!("{text:?} is not a key of 64 hexadecimal digits: {error}"))?;
        Ok(Self(key))
    }
}

impl From<HexKey> for String {
    fn from(key: HexKey) -> Self {
        hex::encode(key.0)
    }
}

/// Why a genesis file is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// Not JSON of the expected shape; the text names line, column and key.
    #[error("genesis: {0}")]
    Json(String),
    /// Larger than [`GENESIS_BYTES_MAX`].
    #[error("genesis: {0} bytes, limit {GENESIS_BYTES_MAX}")]
    TooLarge(usize),
    /// A value that the rules do not allow.
    #[error("genesis: {key}: {why}")]
    Value {
        /// Path of the key, such as `validators[2].stake`.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A checked genesis file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    file: GenesisFile,
    network: NetworkId,
}

impl Genesis {
    /// Decodes and checks the bytes of a genesis file.
    pub fn decode(bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > GENESIS_BYTES_MAX {
            return Err(GenesisError::TooLarge(bytes.len()));
        }
        let file: GenesisFile =
            serde_json::from_slice(bytes).map_err(|error| GenesisError::Json(error.to_string()))?;
        check(&file)?;
        let hash = blake3::hash(bytes);
        let mut network = NetworkId::default();
        network.0.copy_from_slice(&hash.as_bytes()[..8]);
        Ok(Self { file, network })
    }

    /// The bytes to write for a new network.
    ///
    /// # Errors
    /// If the values do not pass the checks that [`Genesis::decode`] makes.
    pub fn encode(file: &GenesisFile) -> Result<Vec<u8>, GenesisError> {
        check(file)?;
        let mut bytes =
            serde_json::to_vec_pretty(file).map_err(|error| GenesisError::Json(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Identity of the network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Content of the file.
    #[must_use]
    pub fn file(&self) -> &GenesisFile {
        &self.file
    }

    /// Rules of the network.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.file.parameters
    }

    /// Which rules the network has.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.file.parameters.rules
    }

    /// Origin line of the network's checkpoints.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/salus", self.file.network)
    }

    /// When the network was made: the first block time cannot be earlier.
    #[must_use]
    pub fn created(&self) -> TimestampMs {
        TimestampMs(self.file.created_ms)
    }

    /// Members with their numbers.
    pub fn members(&self) -> impl Iterator<Item = (OrgId, &MemberEntry)> {
        self.file.members.iter().map(|member| (OrgId(member.org), member))
    }

    /// The committee of epoch 0.
    #[must_use]
    pub fn committee(&self) -> Committee {
        let authorities = self
            .file
            .validators
            .iter()
            .map(|v| Authority {
                name: v.name.clone(),
                stake: Stake(v.stake.into()),
                address: v.address.clone(),
                network_key: v.network_key.0,
                consensus_key: v.consensus_key.0,
                cosign_key: v.cosign_key.0,
                log_key: v.log_key.0,
            })
            .collect();
        Committee::new(Epoch(0), self.network, authorities).of_log(self.origin())
    }
}

fn refuse(key: impl Into<String>, why: impl Into<String>) -> GenesisError {
    GenesisError::Value { key: key.into(), why: why.into() }
}

fn check(file: &GenesisFile) -> Result<(), GenesisError> {
    if file.format != GENESIS_FORMAT {
        return Err(refuse("format", format!("{:?}, expected {GENESIS_FORMAT:?}", file.format)));
    }
    check_name("network", &file.network)?;
    check_parameters(file)?;
    let n = file.validators.len();
    if n == 0 || n > COMMITTEE_SIZE_MAX {
        return Err(refuse("validators", format!("{n} entries, expected 1 to {COMMITTEE_SIZE_MAX}")));
    }
    let mut names = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for (i, v) in file.validators.iter().enumerate() {
        let at = |field: &str| format!("validators[{i}].{field}");
        check_name(&at("name"), &v.name)?;
        if !names.insert(&v.name) {
            return Err(refuse(at("name"), format!("{:?} appears twice", v.name)));
        }
        if v.stake == 0 {
            return Err(refuse(at("stake"), "must be at least 1"));
        }
        if v.address
            .rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(refuse(at("address"), format!("{:?} is not host:port", v.address)));
        }
        let fields = [
            ("network_key", v.network_key),
            ("consensus_key", v.consensus_key),
            ("cosign_key", v.cosign_key),
            ("log_key", v.log_key),
        ];
        for (field, key) in fields {
            check_key(&mut keys, at(field), key)?;
        }
    }
    let mut orgs = BTreeSet::new();
    for (i, m) in file.members.iter().enumerate() {
        let at = |field: &str| format!("members[{i}].{field}");
        if m.org == 0 || !orgs.insert(m.org) {
            return Err(refuse(at("org"), format!("{} is 0 or appears twice", m.org)));
        }
        if !(1..=4).contains(&m.kind) {
            return Err(refuse(at("kind"), format!("{}, expected 1 to 4", m.kind)));
        }
        if m.name.is_empty() || m.name.len() > 64 || m.name.contains('\0') {
            return Err(refuse(at("name"), "must have 1 to 64 bytes and no NUL"));
        }
        check_key(&mut keys, at("root_key"), m.root_key)?;
    }
    if !file.members.iter().any(|m| m.governs) {
        return Err(refuse("members", "none governs, so nobody could ever be admitted"));
    }
    Ok(())
}

fn check_parameters(file: &GenesisFile) -> Result<(), GenesisError> {
    let p = &file.parameters;
    if !(10..=60_000).contains(&p.checkpoint_interval_ms) {
        return Err(refuse("parameters.checkpoint_interval_ms", "must be 10 to 60000"));
    }
    if !(16..=100_000).contains(&p.gc_depth) {
        return Err(refuse("parameters.gc_depth", "must be 16 to 100000"));
    }
    if p.leaders_per_round == 0 || usize::from(p.leaders_per_round) > file.validators.len() {
        return Err(refuse("parameters.leaders_per_round", "must be 1 to the number of validators"));
    }
    if p.reputation_window_rounds != 0 && !(16..=100_000).contains(&p.reputation_window_rounds) {
        return Err(refuse("parameters.reputation_window_rounds", "must be 0, or 16 to 100000"));
    }
    Ok(())
}

fn check_name(key: &str, name: &str) -> Result<(), GenesisError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(refuse(key, format!("{name:?} must have 1 to 64 of a-z, 0-9, '.' and '-'")));
    }
    Ok(())
}

fn check_key(seen: &mut BTreeSet<HexKey>, at: String, key: HexKey) -> Result<(), GenesisError> {
    if !crate::crypto::is_acceptable_key(&key.0) {
        return Err(refuse(at, "not an Ed25519 key, or one of small order"));
    }
    if !seen.insert(key) {
        return Err(refuse(
            at,
            format!("key {} appears twice: every key has one owner and one use", hex::encode(key.0)),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn file(rules: Rules) -> GenesisFile {
        let key = |seed| HexKey(crate::crypto::SecretKey::from_seed(&[seed; 32]).public());
        let validator = ValidatorEntry {
            name: "v0".to_owned(),
            stake: 1,
            address: "localhost:1".to_owned(),
            network_key: key(1),
            consensus_key: key(2),
            cosign_key: key(3),
            log_key: key(4),
        };
        let (name, root_key) = ("Clinic".to_owned(), key(5));
        GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "test".to_owned(),
            created_ms: 0,
            parameters: Parameters { leaders_per_round: 1, rules, ..Parameters::default() },
            validators: vec![validator],
            members: vec![MemberEntry { org: 1, kind: 1, name, region: 0, root_key, governs: true }],
        }
    }

    #[test]
    fn files_that_say_nothing_of_rules_keep_their_bytes_and_have_the_oldest() {
        let old = Genesis::encode(&file(Rules::One)).unwrap();
        assert!(!String::from_utf8(old.clone()).unwrap().contains("\"rules\""));
        assert_eq!(Genesis::decode(&old).unwrap().rules(), Rules::One);
        let new = Genesis::encode(&file(Rules::NEWEST)).unwrap();
        assert!(String::from_utf8(new.clone()).unwrap().contains("\"rules\": 2"));
        let (old, new) = (Genesis::decode(&old).unwrap(), Genesis::decode(&new).unwrap());
        assert_eq!(new.rules(), Rules::Two);
        assert_ne!(old.network(), new.network(), "other rules are another network");
    }

    #[test]
    fn rules_that_this_program_does_not_know_are_refused_with_what_to_do() {
        let good = String::from_utf8(Genesis::encode(&file(Rules::Two)).unwrap()).unwrap();
        for (number, expected) in [
            ("3", "genesis: parameters.rules: 3, this program knows 1 to 2"),
            ("0", "genesis: parameters.rules: 0, this program knows 1 to 2"),
            ("-1", "invalid value: integer `-1`"),
            ("\"2\"", "invalid type: string"),
            ("null", "invalid type: null"),
        ] {
            let text = good.replace("\"rules\": 2", &format!("\"rules\": {number}"));
            let error = Genesis::decode(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error =
            Genesis::decode(good.replace("rules\": 2", "rules\": 9").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("install the release that the network runs on"), "{error}");
    }
}
