//! A network of validators on this machine: made in a folder, each validator a process of its own on loopback.
//!
//! `salus demo`, the load tool and the tests of whole processes stand on it. The folder:
//!
//! ```text
//! DIR/genesis.json
//! DIR/members/member-1.key …    root keys of the founding members, all of which govern
//! DIR/validator-1/node.toml     and keys/, data/, node.log, node.pid
//! ```
//!
//! Whoever holds a [`LocalNetwork`] holds its processes: dropping it, also by a panic, ends every process that it started.

mod api;
mod pool;
mod process;
mod records;

pub use api::{Api, ApiAnswer, NodeStatus, TransactionView};
pub use pool::{ClientPool, Endpoint, Final, NotFinal, PoolCounts};
pub use process::Frozen;
pub use records::{RecordMaker, register_record_keys};

pub(crate) use api::describe;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use process::{STOP_WITHIN, ValidatorProcess, log_tail};

use super::{CliError, files, genesis, org_key};
use crate::config::{CONFIG_BYTES_MAX, ConfigFile, NodeConfig};
use crate::crypto::SecretKey;
use crate::gateway::OrgSigner;
use crate::genesis::{
    GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, REPUTATION_WINDOW_ROUNDS,
    ValidatorEntry,
};
use crate::io::keys::NodeKeys;
use crate::types::{KeyId, OrgId, Rules, TimestampMs};

/// Size of the log segments: the smallest, since several validators share one disk.
const SEGMENT_BYTES: u64 = 16 << 20;
/// How often a validator is asked again.
const POLL: Duration = Duration::from_millis(20);
/// Region of the founding members.
pub const REGION: u16 = 1;

/// What network to make.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Folder to make it in; must not exist or be empty.
    pub dir: PathBuf,
    /// Number of validators, and of founding member organisations.
    pub validators: u16,
    /// The `salus` program.
    pub program: PathBuf,
    /// Whether Ctrl-C at the terminal is kept from the validators, so that they can be left running.
    pub own_group: bool,
}

/// A network of validators on this machine.
#[derive(Debug)]
pub struct LocalNetwork {
    dir: PathBuf,
    program: PathBuf,
    own_group: bool,
    genesis: Genesis,
    members: Vec<SecretKey>,
    validators: Vec<LocalValidator>,
    api: Api,
}

#[derive(Debug)]
struct LocalValidator {
    endpoint: Endpoint,
    dir: PathBuf,
    /// Kept until the first start, so that nobody else is given the ports meanwhile.
    ports: Option<Ports>,
    process: Option<ValidatorProcess>,
}

/// All validators have the same log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Leaves of the log.
    pub size: u64,
    /// Its Merkle root, hexadecimal.
    pub root: String,
    /// Root of the state, hexadecimal.
    pub state_root: String,
}

/// Free ports of loopback, held.
#[derive(Debug)]
struct Ports {
    peers: UdpSocket,
    clients: UdpSocket,
    http: TcpListener,
}

impl Ports {
    fn find() -> std::io::Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(Self {
            peers: UdpSocket::bind(any)?,
            clients: UdpSocket::bind(any)?,
            http: TcpListener::bind(any)?,
        })
    }
}

/// The machine's clock.
///
/// # Errors
/// If it stands before 1970.
pub fn clock() -> Result<TimestampMs, CliError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let ms = now.and_then(|now| u64::try_from(now.as_millis()).ok());
    ms.map(TimestampMs).ok_or_else(|| {
        CliError::unable_hint("this machine's clock stands before 1970", "set the clock, then try again")
    })
}

impl LocalNetwork {
    /// Makes keys, genesis and configurations. Starts nothing.
    ///
    /// # Errors
    /// If the folder has something in it already, cannot be written, or no ports are free.
    pub fn create(options: &NetworkOptions) -> Result<Self, CliError> {
        let dir = empty_dir(&options.dir)?;
        let mut validators = Vec::new();
        let mut entries = Vec::new();
        for number in 1..=options.validators {
            let (validator, entry) = make_validator(&dir, number)?;
            validators.push(validator);
            entries.push(entry);
        }
        let members = (1..=options.validators)
            .map(|number| make_member(&dir, number))
            .collect::<Result<Vec<_>, _>>()?;
        let defaults = Parameters::default();
        let file = GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "local.salus".to_owned(),
            created_ms: clock()?.0,
            parameters: Parameters {
                leaders_per_round: defaults.leaders_per_round.min(options.validators),
                reputation_window_rounds: REPUTATION_WINDOW_ROUNDS,
                rules: Rules::NEWEST,
                ..defaults
            },
            validators: entries,
            members: (1..).zip(&members).map(|(org, key)| member_entry(org, key)).collect(),
        };
        let refuse = |error: crate::genesis::GenesisError| CliError::unable(error.to_string());
        let bytes = Genesis::encode(&file).map_err(refuse)?;
        let genesis = Genesis::decode(&bytes).map_err(refuse)?;
        files::write_new(&dir.join("genesis.json"), &bytes, false)?;
        let (program, own_group) = (options.program.clone(), options.own_group);
        Ok(Self { dir, program, own_group, genesis, members, validators, api: Api::default() })
    }

    /// A network that [`LocalNetwork::create`] has made before, and whose validators run already or are to be started.
    ///
    /// # Errors
    /// If the folder does not hold one.
    pub fn open(dir: &Path, program: &Path) -> Result<Self, CliError> {
        let genesis = genesis::load(&dir.join("genesis.json"))?;
        let mut validators = Vec::new();
        for (_, authority) in genesis.committee().iter() {
            let folder = dir.join(&authority.name);
            let path = folder.join("node.toml");
            let text = files::read_text(&path, CONFIG_BYTES_MAX)?;
            let config =
                ConfigFile::parse(&path, &text).map_err(|error| CliError::unable(error.to_string()))?;
            let listen = config.config().listen;
            let endpoint = Endpoint {
                name: authority.name.clone(),
                clients: listen.clients,
                http: format!("http://{}", listen.http),
                network_key: authority.network_key,
            };
            validators.push(LocalValidator { endpoint, dir: folder, ports: None, process: None });
        }
        let members = (1..=genesis.file().members.len())
            .map(|number| org_key::read(&member_key_path(dir, number)))
            .collect::<Result<_, _>>()?;
        let (dir, program) = (dir.to_owned(), program.to_owned());
        Ok(Self { dir, program, own_group: false, genesis, members, validators, api: Api::default() })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The genesis file's content.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The genesis file.
    #[must_use]
    pub fn genesis_path(&self) -> PathBuf {
        self.dir.join("genesis.json")
    }

    /// Number of validators. Others are named by an index below it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.validators.len()
    }

    /// Where a validator is reached.
    ///
    /// # Panics
    /// If there is none of that index, as all that take one.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> &Endpoint {
        &self.validators[index].endpoint
    }

    /// Data folder of a validator.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.validators[index].dir.join("data")
    }

    /// What a validator logs.
    #[must_use]
    pub fn log_path(&self, index: usize) -> PathBuf {
        self.validators[index].dir.join("node.log")
    }

    /// Process id of a validator, while it runs.
    pub fn pid(&mut self, index: usize) -> Option<u32> {
        let process = self.validators[index].process.as_mut()?;
        if process.ended().is_some() { None } else { process.id() }
    }

    /// Reads of the HTTP APIs.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Submits transactions to the validators, wherever they are up.
    #[must_use]
    pub fn pool(&self) -> Arc<ClientPool> {
        let endpoints = self.validators.iter().map(|validator| validator.endpoint.clone()).collect();
        Arc::new(ClientPool::new(endpoints, self.genesis.network(), self.api.clone()))
    }

    /// The founding members' root keys as signers that go on at sequence number `next_seq`; 1 in a new network.
    #[must_use]
    pub fn governors(&self, next_seq: u64) -> Vec<OrgSigner> {
        let network = self.genesis.network();
        let root = |(org, key): (u32, &SecretKey)| {
            let key = SecretKey::from_seed(&key.seed());
            OrgSigner::new(network, OrgId(org), KeyId(0), key, next_seq)
        };
        (1..).zip(&self.members).map(root).collect()
    }

    /// Starts a validator that does not run. It serves a little later: [`LocalNetwork::wait_ready`].
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self, index: usize) -> Result<(), CliError> {
        let log = self.log_path(index);
        let validator = &mut self.validators[index];
        validator.ports = None;
        // An earlier process is ended first: two would fight for the folder.
        validator.process = None;
        let config = validator.dir.join("node.toml");
        let process = ValidatorProcess::spawn(&self.program, &config, &log, self.own_group)?;
        if let Some(id) = process.id() {
            files::write_new(&validator.dir.join("node.pid"), format!("{id}\n").as_bytes(), true)?;
        }
        validator.process = Some(process);
        Ok(())
    }

    /// Starts all validators.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start_all(&mut self) -> Result<(), CliError> {
        (0..self.size()).try_for_each(|index| self.start(index))
    }

    /// Makes a validator that this network has started stand still (SIGSTOP) until what is returned is dropped. `None` if it was
    /// not started, or its exit was seen.
    #[must_use]
    pub fn freeze(&self, index: usize) -> Option<Frozen<'_>> {
        self.validators[index].process.as_ref()?.freeze()
    }

    /// Kills a validator with SIGKILL and waits until it is gone.
    pub fn kill(&mut self, index: usize) {
        if let Some(process) = self.validators[index].process.take() {
            process.kill();
        }
    }

    /// Stops a validator with SIGTERM and says how it ended; `None` if it did not run or had to be killed.
    pub async fn stop(&mut self, index: usize) -> Option<ExitStatus> {
        let process = self.validators[index].process.as_mut()?;
        process.terminate();
        let until = Instant::now() + STOP_WITHIN;
        let mut ended = process.ended();
        while ended.is_none() && Instant::now() < until {
            tokio::time::sleep(POLL).await;
            ended = process.ended();
        }
        self.kill(index);
        ended
    }

    /// Waits until a validator takes part and serves.
    ///
    /// # Errors
    /// If it ends, or is not ready in time; with the last lines of its log.
    pub async fn wait_ready(&mut self, index: usize, within: Duration) -> Result<(), CliError> {
        let until = Instant::now() + within;
        loop {
            self.check_running(index)?;
            let name = &self.validators[index].endpoint.name;
            match self.api.ready(&self.validators[index].endpoint.http).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= until => {
                    let log = log_tail(&self.log_path(index));
                    let what = format!("{name} is not ready after {} s: {why}{log}", within.as_secs());
                    return Err(CliError::unable(what));
                }
                Err(_not_yet) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until all validators take part and serve.
    ///
    /// # Errors
    /// As [`LocalNetwork::wait_ready`].
    pub async fn wait_all_ready(&mut self, within: Duration) -> Result<(), CliError> {
        let until = Instant::now() + within;
        for index in 0..self.size() {
            self.wait_ready(index, until.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// Fails if a validator that was started here has ended.
    fn check_running(&mut self, index: usize) -> Result<(), CliError> {
        let ended = self.validators[index].process.as_mut().and_then(ValidatorProcess::ended);
        let Some(status) = ended else { return Ok(()) };
        let log = log_tail(&self.log_path(index));
        Err(CliError::unable(format!("{} has ended, {status}{log}", self.endpoint(index).name)))
    }

    /// Where each validator stands.
    ///
    /// # Errors
    /// If one does not answer.
    pub async fn statuses(&self) -> Result<Vec<NodeStatus>, String> {
        let mut out = Vec::with_capacity(self.size());
        for validator in &self.validators {
            out.push(self.api.status(&validator.endpoint.http).await?);
        }
        Ok(out)
    }

    /// Waits until all validators have the same log of at least `size` leaves, and compares roots.
    ///
    /// # Errors
    /// [`CliError::DoesNotHold`] if logs of one size have different roots, or they do not get there in time.
    pub async fn wait_agreement(&self, size: u64, within: Duration) -> Result<Agreement, CliError> {
        let until = Instant::now() + within;
        loop {
            let why = match self.statuses().await {
                Ok(statuses) => match agreement(&statuses, size) {
                    Ok(agreement) => return Ok(agreement),
                    Err(Disagreement::Fork(what)) => return Err(CliError::DoesNotHold(what)),
                    Err(Disagreement::NotYet(why)) => why,
                },
                Err(why) => why,
            };
            if Instant::now() >= until {
                let what = format!("the validators do not agree after {} s: {why}", within.as_secs());
                return Err(CliError::DoesNotHold(what));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Leaves all processes running.
    pub fn release(mut self) {
        for validator in &mut self.validators {
            if let Some(process) = validator.process.take() {
                process.release();
            }
        }
    }
}

impl Drop for LocalNetwork {
    fn drop(&mut self) {
        // All at once; each process then waits for its own.
        for process in self.validators.iter().filter_map(|validator| validator.process.as_ref()) {
            process.terminate();
        }
    }
}

/// Why validators do not have the same log.
#[derive(Debug, PartialEq, Eq)]
enum Disagreement {
    /// They never will.
    Fork(String),
    /// They may, later.
    NotYet(String),
}

fn agreement(statuses: &[NodeStatus], size: u64) -> Result<Agreement, Disagreement> {
    let Some(first) = statuses.first() else {
        return Err(Disagreement::NotYet("there are no validators".to_owned()));
    };
    for status in statuses {
        for other in statuses.iter().filter(|other| other.tree_size == status.tree_size) {
            if other.root != status.root {
                return Err(Disagreement::Fork(format!(
                    "at {} leaves {} has root {} and {} has root {}",
                    status.tree_size, status.validator, status.root, other.validator, other.root
                )));
            }
        }
    }
    if let Some(status) = statuses.iter().find(|status| status.tree_size != first.tree_size) {
        return Err(Disagreement::NotYet(format!(
            "{} has {} leaves, {} has {}",
            first.validator, first.tree_size, status.validator, status.tree_size
        )));
    }
    if first.tree_size < size {
        let what = format!("all have {} leaves, expected {size}", first.tree_size);
        return Err(Disagreement::NotYet(what));
    }
    let (root, state_root) = (first.root.clone(), first.state_root.clone());
    Ok(Agreement { size: first.tree_size, root, state_root })
}

/// Makes the folder if it is missing; its absolute path.
fn empty_dir(dir: &Path) -> Result<PathBuf, CliError> {
    let unable = |error: std::io::Error| CliError::unable(format!("cannot use {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(unable)?;
    if fs::read_dir(dir).map_err(unable)?.next().is_some() {
        return Err(CliError::unable_hint(
            format!("{} is not empty", dir.display()),
            "choose a folder that does not exist yet: keys and data are never overwritten",
        ));
    }
    dir.canonicalize().map_err(unable)
}

fn make_validator(dir: &Path, number: u16) -> Result<(LocalValidator, ValidatorEntry), CliError> {
    let name = format!("validator-{number}");
    let dir = dir.join(&name);
    let keys = NodeKeys::create(&dir.join("keys")).map_err(|error| CliError::unable(error.to_string()))?;
    let no_port = |error: std::io::Error| CliError::unable(format!("no free port on 127.0.0.1: {error}"));
    let ports = Ports::find().map_err(no_port)?;
    let address = |socket: std::io::Result<SocketAddr>| socket.map_err(no_port);
    let peers = address(ports.peers.local_addr())?;
    let mut config = NodeConfig::new(&name);
    config.genesis = "../genesis.json".into();
    config.listen.peers = peers;
    config.listen.clients = address(ports.clients.local_addr())?;
    config.listen.http = address(ports.http.local_addr())?;
    config.log.segment_bytes = SEGMENT_BYTES;
    let text = config.to_toml().map_err(|error| CliError::unable(error.to_string()))?;
    files::write_new(&dir.join("node.toml"), text.as_bytes(), false)?;
    let endpoint = Endpoint {
        name: name.clone(),
        clients: config.listen.clients,
        http: format!("http://{}", config.listen.http),
        network_key: keys.network.public(),
    };
    let entry = ValidatorEntry {
        name,
        stake: 1,
        address: peers.to_string(),
        network_key: HexKey(keys.network.public()),
        consensus_key: HexKey(keys.consensus.public()),
        cosign_key: HexKey(keys.cosign.public()),
        log_key: HexKey(keys.log.public()),
    };
    Ok((LocalValidator { endpoint, dir, ports: Some(ports), process: None }, entry))
}

fn member_key_path(dir: &Path, number: usize) -> PathBuf {
    dir.join("members").join(format!("member-{number}.key"))
}

fn make_member(dir: &Path, number: u16) -> Result<SecretKey, CliError> {
    let path = member_key_path(dir, number.into());
    let parent = dir.join("members");
    fs::create_dir_all(&parent)
        .map_err(|error| CliError::unable(format!("cannot create {}: {error}", parent.display())))?;
    let key = SecretKey::generate()
        .map_err(|error| CliError::unable(format!("no random numbers for a key: {error}")))?;
    org_key::write(&path, &key)?;
    Ok(key)
}

fn member_entry(org: u32, key: &SecretKey) -> MemberEntry {
    let (name, root_key) = (format!("Founding member {org}"), HexKey(key.public()));
    MemberEntry { org, kind: 1, name, region: REGION, root_key, governs: true }
}

#[cfg(test)]
mod tests;
