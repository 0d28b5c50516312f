//! `node.toml`: what one operator chooses for one validator.
//!
//! Unknown keys are errors, every key but `validator` has a default, and errors name file, line and key. Nothing here
//! decides order or validity; that is the genesis' part. `node.sample.toml` documents every key, and a test keeps it true.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::committee::Committee;
use crate::limits::{Limits, PAYLOAD_BYTES_MAX, PAYLOAD_TRANSACTIONS_MAX, TRANSACTION_BYTES_MAX};
use crate::types::AuthorityIndex;

/// Largest configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// What the size of a segment of the block log is a multiple of: the page that the log writes.
const PAGE_BYTES: u64 = 4_096;

/// Content of `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Name of this validator in the genesis.
    pub validator: String,
    /// Genesis file, relative to the folder of `node.toml`.
    #[serde(default = "default_genesis")]
    pub genesis: PathBuf,
    /// Data folder, relative to the folder of `node.toml`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Folder of the secret keys, relative to the folder of `node.toml`.
    #[serde(default = "default_keys_dir")]
    pub keys_dir: PathBuf,
    /// Where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// Addresses of other validators, `host:port` by name, where they differ from the genesis.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// The lines between validators.
    #[serde(default)]
    pub network: Network,
    /// Limits of the QUIC client plane.
    #[serde(default)]
    pub clients: Clients,
    /// Limits of the HTTP API.
    #[serde(default)]
    pub http: Http,
    /// Signature verification.
    #[serde(default)]
    pub verify: Verify,
    /// Transactions that wait to enter a block.
    #[serde(default)]
    pub mempool: Mempool,
    /// Bounds of what others may make this validator use.
    #[serde(default)]
    pub limits: Limits,
    /// The blocks that this validator makes.
    #[serde(default)]
    pub payload: PayloadCaps,
    /// Pace of rounds.
    #[serde(default)]
    pub rounds: Rounds,
    /// The block log on disk.
    #[serde(default)]
    pub log: BlockLog,
    /// The log that people read.
    #[serde(default)]
    pub trace: Trace,
}

fn default_genesis() -> PathBuf {
    "genesis.json".into()
}

fn default_data_dir() -> PathBuf {
    "data".into()
}

fn default_keys_dir() -> PathBuf {
    "keys".into()
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// QUIC between validators (UDP).
    pub peers: SocketAddr,
    /// QUIC from clients (UDP).
    pub clients: SocketAddr,
    /// HTTP API (TCP, plain).
    pub http: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self { peers: any(7700), clients: any(7701), http: SocketAddr::from((Ipv4Addr::LOCALHOST, 7702)) }
    }
}

/// Congestion control of the lines between validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// The internet's usual one. Each loss costs it a part of its rate, which short lines have again within milliseconds, long ones
    /// within seconds (RFC 9438).
    #[default]
    Cubic,
    /// Keeps its rate under random loss. The library marks it experimental, with reason: while a line is never full its window
    /// grows without end, so that the first stall ends in a burst which loses thousands of packets, and in a window so small
    /// that lines stay slow for many seconds. For lines that lose a percent or more, where Cubic is slower all the time.
    Bbr,
}

/// The lines between validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Congestion control.
    pub congestion: Congestion,
}

/// Limits of the QUIC client plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// Most connections.
    pub connections: usize,
    /// Most transactions of one connection that have no last reply yet.
    pub outstanding: usize,
}

impl Default for Clients {
    fn default() -> Self {
        Self { connections: 1_024, outstanding: 4_096 }
    }
}

/// Limits of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Most connections.
    pub connections: usize,
    /// Longest time that `?wait=final` waits, in milliseconds.
    pub wait_final_ms: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self { connections: 1_024, wait_final_ms: 10_000 }
    }
}

/// Signature verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Threads; 0 is one for each core.
    pub threads: usize,
}

/// Transactions that wait to enter a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mempool {
    /// Most transactions.
    pub transactions: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Default for Mempool {
    fn default() -> Self {
        Self { transactions: 200_000, bytes: 128 << 20 }
    }
}

/// Caps of the payloads that this validator makes. Others' may be as large as the format allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PayloadCaps {
    /// Most transactions.
    pub transactions: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Default for PayloadCaps {
    fn default() -> Self {
        Self { transactions: 8_192, bytes: 2 << 20 }
    }
}

/// Pace of rounds, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rounds {
    /// How long to wait for a round's leader at least.
    pub leader_timeout_ms: u64,
    /// How long to wait for it at most, however late leaders were measured to be.
    pub leader_timeout_max_ms: u64,
    /// Least time between the first own blocks of two beats: rounds come in threes, with one pause.
    pub beat_ms: u64,
    /// Time between two own blocks when there is nothing to order.
    pub idle_round_interval_ms: u64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            leader_timeout_ms: 100,
            leader_timeout_max_ms: 10_000,
            beat_ms: 8,
            idle_round_interval_ms: 250,
        }
    }
}

/// The block log on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockLog {
    /// Size of a segment file.
    pub segment_bytes: u64,
}

impl Default for BlockLog {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// Shape of the log that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceFormat {
    /// One readable line for each event.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// The log that people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// Shape.
    pub format: TraceFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,salus::io=debug`.
    pub level: String,
}

impl Default for Trace {
    fn default() -> Self {
        Self { format: TraceFormat::Text, level: "info".to_owned() }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}{}: {}{why}", line.map(|n| format!(":{n}")).unwrap_or_default(), key_prefix(key))]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// Path of the key, such as `rounds.leader_timeout_ms`; empty if the fault is not at a key.
    pub key: String,
    /// What is wrong and what to do.
    pub why: String,
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

impl NodeConfig {
    /// The defaults for a validator.
    #[must_use]
    pub fn new(validator: &str) -> Self {
        Self {
            validator: validator.to_owned(),
            genesis: default_genesis(),
            data_dir: default_data_dir(),
            keys_dir: default_keys_dir(),
            listen: Listen::default(),
            peers: BTreeMap::new(),
            network: Network::default(),
            clients: Clients::default(),
            http: Http::default(),
            verify: Verify::default(),
            mempool: Mempool::default(),
            limits: Limits::default(),
            payload: PayloadCaps::default(),
            rounds: Rounds::default(),
            log: BlockLog::default(),
            trace: Trace::default(),
        }
    }

    /// As text that [`ConfigFile::parse`] reads.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The first value that is out of its bounds, with its key.
    fn fault(&self) -> Option<(&'static str, String)> {
        let (payload, rounds) = (&self.payload, &self.rounds);
        let ranges = [
            ("clients.connections", self.clients.connections as u64, 1, 1 << 20),
            ("clients.outstanding", self.clients.outstanding as u64, 1, 1 << 20),
            ("http.connections", self.http.connections as u64, 1, 1 << 20),
            ("http.wait_final_ms", self.http.wait_final_ms, 0, 60_000),
            ("verify.threads", self.verify.threads as u64, 0, 1_024),
            ("mempool.transactions", self.mempool.transactions as u64, 1, 100_000_000),
            ("mempool.bytes", self.mempool.bytes as u64, TRANSACTION_BYTES_MAX as u64, 1 << 40),
            ("limits.memory_mb", self.limits.memory_mb as u64, 64, 1 << 20),
            ("payload.transactions", payload.transactions as u64, 1, PAYLOAD_TRANSACTIONS_MAX as u64),
            // A block holds at least one transaction of any size, behind its 4-byte length.
            (
                "payload.bytes",
                payload.bytes as u64,
                4 + TRANSACTION_BYTES_MAX as u64,
                PAYLOAD_BYTES_MAX as u64,
            ),
            ("rounds.leader_timeout_ms", rounds.leader_timeout_ms, 10, 60_000),
            ("rounds.leader_timeout_max_ms", rounds.leader_timeout_max_ms, rounds.leader_timeout_ms, 600_000),
            ("rounds.beat_ms", rounds.beat_ms, 1, rounds.leader_timeout_ms),
            ("rounds.idle_round_interval_ms", rounds.idle_round_interval_ms, rounds.beat_ms, 60_000),
            ("log.segment_bytes", self.log.segment_bytes, 16 << 20, 1 << 30),
        ];
        let out = ranges.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        if let Some((key, value, min, max)) = out {
            return Some((key, format!("{value}, expected {min} to {max}")));
        }
        if !self.log.segment_bytes.is_multiple_of(PAGE_BYTES) {
            let why = format!("{}, expected a multiple of {PAGE_BYTES}", self.log.segment_bytes);
            return Some(("log.segment_bytes", why));
        }
        if self.listen.peers == self.listen.clients && self.listen.peers.port() != 0 {
            return Some(("listen.clients", "is the address of listen.peers; both are UDP".to_owned()));
        }
        if self.trace.level.is_empty() || self.trace.level.len() > 1_024 {
            return Some(("trace.level", "must have 1 to 1024 characters".to_owned()));
        }
        None
    }
}

/// A checked configuration that remembers where it came from.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    name: PathBuf,
    config: NodeConfig,
    lines: BTreeMap<String, usize>,
}

impl ConfigFile {
    /// Decodes and checks the text of the file `name`.
    pub fn parse(name: &Path, text: &str) -> Result<Self, ConfigError> {
        let file = name.display().to_string();
        if text.len() > CONFIG_BYTES_MAX {
            let why = format!("{} bytes, limit {CONFIG_BYTES_MAX}", text.len());
            return Err(ConfigError { file, line: None, key: String::new(), why });
        }
        let (tree, _errors) = DeTable::parse_recoverable(text);
        let mut keys = Vec::new();
        collect("", tree.get_ref(), &mut keys);
        let config: NodeConfig = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| span.start);
            // The deepest key around the fault is the one that starts last.
            let inside = |key: &&Key| at.is_some_and(|at| key.start <= at && at < key.end);
            let key = keys.iter().filter(inside).max_by_key(|key| key.start);
            ConfigError {
                file: file.clone(),
                line: at.map(|at| line_of(text, at)),
                key: key.map(|key| key.path.clone()).unwrap_or_default(),
                why: error.message().to_owned(),
            }
        })?;
        let lines = keys.into_iter().map(|key| (key.path, line_of(text, key.start))).collect();
        let checked = Self { name: name.to_owned(), config, lines };
        match checked.config.fault() {
            Some((key, why)) => Err(checked.refuse(key, why)),
            None => Ok(checked),
        }
    }

    /// The values.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// A path of the configuration, taken relative to the folder that the file is in.
    #[must_use]
    pub fn path(&self, value: &Path) -> PathBuf {
        self.name.parent().unwrap_or(Path::new("")).join(value)
    }

    /// Index of this validator.
    ///
    /// # Errors
    /// If the committee has none of that name.
    pub fn own_index(&self, committee: &Committee) -> Result<AuthorityIndex, ConfigError> {
        find(committee, &self.config.validator)
            .ok_or_else(|| self.refuse("validator", unknown(committee, &self.config.validator)))
    }

    /// `host:port` of each validator by index: the genesis', or the one given here.
    ///
    /// # Errors
    /// If a name is not in the committee or an address is not `host:port`.
    pub fn addresses(&self, committee: &Committee) -> Result<Vec<String>, ConfigError> {
        let mut addresses: Vec<_> =
            committee.iter().map(|(_, authority)| authority.address.clone()).collect();
        for (name, address) in &self.config.peers {
            let key = format!("peers.{name}");
            let Some(index) = find(committee, name) else {
                return Err(self.refuse(&key, unknown(committee, name)));
            };
            let is_address = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !is_address {
                return Err(self.refuse(&key, format!("{address:?} is not host:port")));
            }
            addresses[index.as_usize()].clone_from(address);
        }
        Ok(addresses)
    }

    /// An error about the value of a key of this file.
    #[must_use]
    pub fn refuse(&self, key: &str, why: String) -> ConfigError {
        let file = self.name.display().to_string();
        ConfigError { file, line: self.lines.get(key).copied(), key: key.to_owned(), why }
    }
}

fn find(committee: &Committee, name: &str) -> Option<AuthorityIndex> {
    committee.iter().find(|(_, authority)| authority.name == name).map(|(index, _)| index)
}

fn unknown(committee: &Committee, name: &str) -> String {
    let names: Vec<_> = committee.iter().map(|(_, authority)| authority.name.as_str()).collect();
    format!("no validator {name:?} in the genesis; it has {}", names.join(", "))
}

/// A key of the file and the bytes from its name to the end of its value.
struct Key {
    path: String,
    start: usize,
    end: usize,
}

fn collect(prefix: &str, table: &DeTable<'_>, keys: &mut Vec<Key>) {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        keys.push(Key { path: path.clone(), start: name.span().start, end: value.span().end });
        if let DeValue::Table(inner) = value.get_ref() {
            collect(&path, inner, keys);
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::committee::Authority;
    use crate::types::{Epoch, NetworkId, Stake};

    const SAMPLE: &str = include_str!("../node.sample.toml");

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(Path::new("/etc/salus/node.toml"), text)
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    /// Paths of all keys, each table listed even if it is empty.
    fn paths(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            if let Some(inner) = value.as_table() {
                paths(&format!("{path}."), inner, out);
            }
            out.push(path);
        }
        out.sort();
    }

    #[test]
    fn the_sample_documents_every_key_with_its_default() {
        let sample = parse(SAMPLE).unwrap();
        let defaults = NodeConfig::new("hospital-a");
        assert_eq!(*sample.config(), defaults);
        let (mut written, mut known) = (Vec::new(), Vec::new());
        paths("", &SAMPLE.parse().unwrap(), &mut written);
        paths("", &toml::Table::try_from(&defaults).unwrap(), &mut known);
        assert_eq!(written, known);
        // Every key is explained: a comment stands in the line above it.
        let lines: Vec<_> = SAMPLE.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
            assert!(line.starts_with('#') || lines[i - 1].starts_with("# "), "{line} has no comment");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut config = NodeConfig::new("b");
        config.peers.insert("a".into(), "host:1".into());
        config.network.congestion = Congestion::Bbr;
        let text = config.to_toml().unwrap();
        assert_eq!(*parse(&text).unwrap().config(), config);
        assert_eq!(*parse("validator = \"b\"").unwrap().config(), NodeConfig::new("b"));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let typo = message("validator = \"a\"\n[listen]\npears = \"1.2.3.4:5\"\n");
        assert!(typo.starts_with("/etc/salus/node.toml:3: listen.pears: unknown field `pears`"), "{typo}");
        let kind = message("validator = \"a\"\n\n[rounds]\nleader_timeout_ms = \"soon\"\n");
        assert!(kind.starts_with("/etc/salus/node.toml:4: rounds.leader_timeout_ms: invalid type"), "{kind}");
        let range = message("validator = \"a\"\n[payload]\nbytes = 5_000_000\n");
        assert_eq!(range, "/etc/salus/node.toml:3: payload.bytes: 5000000, expected 4216 to 4194304");
        let address = message("validator = \"a\"\n[listen]\nhttp = \"localhost\"\n");
        assert!(
            address.starts_with("/etc/salus/node.toml:3: listen.http: invalid socket address"),
            "{address}"
        );
        let missing = message("genesis = \"g\"\n");
        assert!(missing.contains("missing field `validator`"), "{missing}");
        let syntax = message("validator = \"a\"\n[listen\n");
        assert!(syntax.starts_with("/etc/salus/node.toml:2: "), "{syntax}");
        let same = message("validator = \"a\"\n[listen]\npeers = \"[::]:1\"\nclients = \"[::]:1\"\n");
        assert!(same.starts_with("/etc/salus/node.toml:4: listen.clients: "), "{same}");
        assert!(message(&"#".repeat(CONFIG_BYTES_MAX + 1)).contains("limit"));
    }

    #[test]
    fn names_are_looked_up_in_the_genesis() {
        let authority = |name: &str| Authority {
            name: name.into(),
            stake: Stake(1),
            address: format!("{name}.example:7700"),
            network_key: [0; 32],
            consensus_key: [0; 32],
            cosign_key: [0; 32],
            log_key: [0; 32],
        };
        let committee = Committee::new(Epoch(0), NetworkId::default(), vec![authority("a"), authority("b")]);

        let file = parse("validator = \"b\"\n[peers]\na = \"10.0.0.1:9\"\n").unwrap();
        assert_eq!(file.own_index(&committee).unwrap(), AuthorityIndex(1));
        assert_eq!(file.addresses(&committee).unwrap(), ["10.0.0.1:9", "b.example:7700"]);
        assert_eq!(file.path(&file.config().genesis), Path::new("/etc/salus/genesis.json"));
        assert_eq!(file.path(Path::new("/x")), Path::new("/x"));

        let file = parse("validator = \"c\"\n[peers]\nxyz = \"10.0.0.1:9\"\n").unwrap();
        assert_eq!(
            file.own_index(&committee).unwrap_err().to_string(),
            "/etc/salus/node.toml:1: validator: no validator \"c\" in the genesis; it has a, b"
        );
        assert_eq!(
            file.addresses(&committee).unwrap_err().to_string(),
            "/etc/salus/node.toml:3: peers.xyz: no validator \"xyz\" in the genesis; it has a, b"
        );
        let file = parse("validator = \"a\"\n[peers]\nb = \"10.0.0.1\"\n").unwrap();
        let error = file.addresses(&committee).unwrap_err().to_string();
        assert!(error.contains(":3: peers.b: \"10.0.0.1\" is not host:port"), "{error}");
    }
}
