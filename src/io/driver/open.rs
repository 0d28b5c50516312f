//! Opens what a validator stands on, in the order in which one thing needs the other, and starts its threads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use thiserror::Error;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::budget::Budget;
use super::checked::CheckedPayloads;
use super::clock::Clock;
use super::core::{Core, Signals, Waiting};
use super::data::{Data, check_lost_log, open_data};
use super::execution::{Execution, Shown, order_queue};
use super::gate::{Amount, Gate};
use super::inbox::{CoreSender, Inbox, Mail};
use super::intake::{self, Intake, Lone, Replies, Waits};
use super::ledger::Service;
use super::librarian;
use super::load::LoadMeter;
use super::outgoing::Outgoing;
use super::peers::{Pump, PumpControl};
use super::sockets::SocketThread;
use super::{Addresses, Runtimes, Validator};
use crate::committee::Committee;
use crate::config::{ConfigError, ConfigFile, Congestion};
use crate::crypto::Verifier;
use crate::error::StorageError;
use crate::execute::KeyDirectory;
use crate::genesis::Genesis;
use crate::io::NetError;
use crate::io::client_plane::{ClientPlane, ClientPlaneConfig, Outstanding, Submission};
use crate::io::http::{HttpConfig, HttpServer};
use crate::io::keys::{KeyError, NodeKeys, are_unused};
use crate::io::log_store::LogEvent;
use crate::io::peer::{PeerEventSender, PeerEvents, PeerNet, PeerNetConfig, peer_lanes};
use crate::io::verify_pool::{Answer, PoolStartError, VerifyPool, VerifyPoolConfig};
use crate::mempool::{MempoolLimits, Ticket};
use crate::node::{
    COMMIT_ROUNDS, ForeignState, Input, Node, NodeConfig, Pace, RecoverError, memory_bytes_min,
};
use crate::proof::checkpoint::CheckpointKeys;
use crate::types::{AuthorityIndex, LogSeq, PROTOCOL_VERSION};

/// Inputs that may wait for the core.
const INPUTS_MAX: usize = 4_096;
/// Time for which signatures are gathered: a fraction of the beat in which clients' transactions wait for a block anyway.
const GATHER: std::time::Duration = std::time::Duration::from_millis(4);
/// Orders that may wait for the executor: more than the node gives at a time.
const ORDERS_MAX: usize = 128;
/// Events of one peer that may wait to be checked.
const PEER_EVENTS_MAX: usize = 256;
/// Client transactions and payloads that may wait for the pool.
const POOL_TRANSACTIONS_MAX: usize = 16_384;
const POOL_PAYLOADS_MAX: usize = 256;
/// Decoded keys that each verifier keeps.
const CACHE_KEYS: usize = 65_536;
/// The same for those that check what came alone.
const LONE_KEYS: usize = 4_096;
/// Transactions that may be committed and not executed before own blocks go out empty.
const EXECUTION_BACKLOG_MAX: u64 = 65_536;

/// Why a validator does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A key file.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The data folder.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// A record of the block log.
    #[error(
        "{0}: the data folder was written by another program or a bug; keep it, and start from an empty one"
    )]
    Recover(#[from] RecoverError),
    /// An address.
    #[error("{0}")]
    Net(#[from] NetError),
    /// The block log is lost, and nobody can say which rounds were signed.
    #[error(
        "the keys have signed before, the block log is empty, and the other validators hold no quorum that could say which \
         rounds were signed: restore the data folder, or make a network with new keys"
    )]
    LostLog,
    /// The state was not made from the block log beside it.
    #[error("{0}")]
    ForeignState(#[from] ForeignState),
    /// Verification threads.
    #[error("{0}")]
    Pool(#[from] PoolStartError),
    /// The operating system gives no threads or no random numbers.
    #[error("cannot start: {0}")]
    System(String),
}

fn system(error: impl std::fmt::Display) -> StartError {
    StartError::System(error.to_string())
}

/// Whether the DAG of this network fits: with less memory than that a validator stands still for ever.
fn check_memory(config: &ConfigFile, genesis: &Genesis) -> Result<(), ConfigError> {
    let validators = genesis.committee().size();
    let gc_depth = genesis.parameters().gc_depth;
    let least_mb = memory_bytes_min(validators, gc_depth).div_ceil(1 << 20);
    if config.config().limits.memory_mb >= least_mb {
        return Ok(());
    }
    let why = format!("{validators} validators that keep {gc_depth} rounds need at least {least_mb}");
    Err(config.refuse("limits.memory_mb", why))
}

fn node_config(
    config: &ConfigFile,
    own: AuthorityIndex,
    keys: &mut NodeKeys,
    first_life: bool,
) -> NodeConfig {
    let values = config.config();
    let us = |ms: u64| ms * 1_000;
    let again = |key: &crate::crypto::SecretKey| crate::crypto::SecretKey::from_seed(&key.seed());
    NodeConfig {
        authority: own,
        consensus_key: again(&keys.consensus),
        cosign_key: again(&keys.cosign),
        pace: Pace {
            leader_timeout_min_us: us(values.rounds.leader_timeout_ms),
            leader_timeout_max_us: us(values.rounds.leader_timeout_max_ms),
            beat_us: us(values.rounds.beat_ms),
            beat_rounds: COMMIT_ROUNDS,
            idle_round_interval_us: us(values.rounds.idle_round_interval_ms),
            ..Pace::default()
        },
        mempool: MempoolLimits {
            transactions: values.mempool.transactions,
            bytes: values.mempool.bytes,
            block_transactions: values.payload.transactions,
            block_bytes: values.payload.bytes,
        },
        execution_backlog_max: EXECUTION_BACKLOG_MAX,
        protocol: PROTOCOL_VERSION,
        memory_bytes: values.limits.memory_mb << 20,
        first_life,
    }
}

/// A secret seed from the operating system.
fn secret_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(system)?;
    Ok(seed)
}

fn start_pool(
    config: &ConfigFile,
    genesis: &Genesis,
    keys: &KeyDirectory,
    core: &CoreSender,
    replies: &Arc<Replies>,
) -> Result<Arc<VerifyPool<Waits>>, StartError> {
    let pool = VerifyPoolConfig {
        threads: verify_threads(config),
        client_transactions_max: POOL_TRANSACTIONS_MAX,
        payloads_max: POOL_PAYLOADS_MAX,
        cache_keys: CACHE_KEYS,
        seed: secret_seed()?,
        gather: GATHER,
    };
    let (core, replies) = (core.clone(), Arc::clone(replies));
    let on_answer = move |answer| match answer {
        Answer::Transactions { verified, refused } => {
            intake::refused(refused, &replies);
            intake::verified(verified, &core);
        }
        Answer::Payload { block, verdicts } => {
            let _ = core.send_lazily(Mail::Input(Input::Verified { block, verdicts: verdicts.into() }));
        }
    };
    Ok(Arc::new(VerifyPool::start(&pool, genesis.network(), keys.clone(), on_answer)?))
}

/// Halts the node if the thread that holds it ends by a panic: a validator without one of its threads must not seem to be well.
struct HaltOnPanic {
    signals: Arc<Signals>,
    thread: &'static str,
}

impl Drop for HaltOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = self.thread;
            self.signals
                .halt(format!("thread {thread} ended by a panic: this is a bug; the lines above say where"));
        }
    }
}

fn spawn(
    thread: &'static str,
    signals: &Arc<Signals>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let guard = HaltOnPanic { signals: Arc::clone(signals), thread };
    let run = move || {
        let _guard = guard;
        run();
    };
    Builder::new().name(format!("salus-{thread}")).spawn(run).map_err(system)
}

fn spawn_all(
    signals: &Arc<Signals>,
    core: Core,
    execution: Execution,
    library: impl FnOnce() + Send + 'static,
    pump: impl FnOnce() + Send + 'static,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    Ok(vec![
        spawn("core", signals, move || core.run())?,
        spawn("exec", signals, move || execution.run())?,
        spawn("library", signals, library)?,
        spawn("peers", signals, pump)?,
    ])
}

pub(super) fn start(config: &ConfigFile, genesis: Genesis) -> Result<Validator, StartError> {
    start_with(config, genesis, |signals| move |event| signals.log_event(event))
}

/// The same; what the log says goes to what `listen` makes.
pub(super) fn start_with<N: FnMut(LogEvent) + Send + 'static>(
    config: &ConfigFile,
    genesis: Genesis,
    listen: impl FnOnce(Arc<Signals>) -> N,
) -> Result<Validator, StartError> {
    let genesis = Arc::new(genesis);
    let committee = Arc::new(genesis.committee());
    let own = config.own_index(&committee)?;
    let addresses = config.addresses(&committee)?;
    check_memory(config, &genesis)?;
    let keys_dir = config.path(&config.config().keys_dir);
    let mut keys = NodeKeys::load(&keys_dir)?;
    keys.check(committee.authority(own), &keys_dir)?;

    let signals = Signals::new();
    let directory = KeyDirectory::default();
    let data = open_data(config, &genesis, own, &directory, listen(Arc::clone(&signals)))?;
    let first_life = are_unused(&keys_dir);
    check_lost_log(&data, &committee, own, first_life)?;
    let sockets = |name| SocketThread::start(name).map_err(system);
    let runtimes = Runtimes { io: sockets("salus-io")?, net: sockets("salus-net")? };
    let budget = Budget::of(config.config(), committee.size(), verify_threads(config), CACHE_KEYS);
    let wiring = Wiring {
        config,
        budget,
        genesis,
        committee,
        own,
        addresses,
        node_config: node_config(config, own, &mut keys, first_life),
        keys,
        keys_dir,
        directory,
        signals,
    };
    wiring.connect(data, runtimes)
}

fn verify_threads(config: &ConfigFile) -> usize {
    match config.config().verify.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Everything that the threads are made of.
struct Wiring<'a> {
    config: &'a ConfigFile,
    budget: Budget,
    genesis: Arc<Genesis>,
    committee: Arc<Committee>,
    own: AuthorityIndex,
    addresses: Vec<String>,
    node_config: NodeConfig,
    keys: NodeKeys,
    keys_dir: PathBuf,
    directory: KeyDirectory,
    signals: Arc<Signals>,
}

impl Wiring<'_> {
    /// Carries away what the core says: to peers on the one runtime, to clients on the other.
    fn start_outgoing(
        &self,
        (net, io): (&Handle, &Handle),
        (peers, control): (&Arc<PeerNet>, &Arc<PumpControl>),
        replies: &Arc<Replies>,
    ) -> Outgoing {
        let (outgoing, to_peers, to_clients) = Outgoing::new(self.signals.bell());
        self.keep_running(net, "net", to_peers.run(Arc::clone(peers), Arc::clone(control)));
        self.keep_running(io, "io", to_clients.run(Arc::clone(replies)));
        outgoing
    }

    fn connect(self, data: Data, runtimes: Runtimes) -> Result<Validator, StartError> {
        let (handle, net) = (runtimes.io.handle().clone(), runtimes.net.handle().clone());
        let clock = Clock::start();
        let (core_tx, inbox) = Inbox::new(INPUTS_MAX, Arc::clone(self.signals.bell()), clock.clone());
        let replies = Arc::default();
        let (orders_tx, orders) = order_queue(ORDERS_MAX);
        let pool = start_pool(self.config, &self.genesis, &self.directory, &core_tx, &replies)?;
        let (events_tx, quick, slow) = peer_lanes(self.committee.size(), PEER_EVENTS_MAX);
        let peers = self.start_peers(&net, events_tx)?;
        let (pump, control) = self.start_pumps(&net, (quick, slow), &peers, &core_tx)?;
        let outgoing = self.start_outgoing((&net, &handle), (&peers, &control), &replies);
        let checkpoint_keys = CheckpointKeys::new(&self.genesis);
        let (replay_until, shown) = (data.last_commit(), data.shown(&checkpoint_keys));
        let gate = Gate::new(&self.node_config.mempool);
        let intake = self.intake(&clock, &gate, &pool, &core_tx)?;
        let clients = self.start_clients(&handle, intake.clone(), &replies)?;
        let service = self.service(&data, intake, &replies, &shown, (&peers, &control));
        let http = self.start_http(&handle, service)?;
        let addresses = self.listening(&peers, &clients, &http)?;

        let (head, checkpoint) = (data.executor.head(), data.executor.checkpoint());
        let execution = Execution {
            executor: data.executor,
            tiles: data.tiles,
            own: self.own,
            log_key: self.keys.log,
            keys: checkpoint_keys,
            checkpoint_file: data.checkpoint_file,
            shown: Arc::clone(&shown),
            signals: Arc::clone(&self.signals),
            orders,
            core: core_tx,
        };
        let (librarian, library) =
            librarian::desk(self.committee.size(), data.store.reader, data.store.index, Arc::clone(&peers));
        let node = Node::new(self.node_config, &self.genesis, data.recovered, head, checkpoint);
        node.evidence().for_each(|proof| self.signals.accuse(*proof));
        let core = Core {
            node,
            clock,
            signals: Arc::clone(&self.signals),
            inbox,
            log: data.store.writer,
            executor: orders_tx,
            librarian,
            pool,
            outgoing,
            waiting: Waiting::default(),
            checked: CheckedPayloads::default(),
            inputs: Vec::new(),
            held: Vec::new(),
            gate,
            durable: LogSeq(0),
            wanted: None,
            meter: LoadMeter::default(),
            shown_us: 0,
            keys_dir: self.keys_dir,
        };
        let threads = spawn_all(&self.signals, core, execution, library, || pump.run())?;
        Ok(Validator {
            signals: self.signals,
            pump: control,
            threads,
            peers,
            clients,
            http,
            addresses,
            replay_until,
            shown,
            runtimes,
            _lock: data.lock,
        })
    }

    /// Starts the task for what is quick; the pump for the rest is for a thread to run.
    fn start_pumps(
        &self,
        net: &Handle,
        (quick, slow): (PeerEvents, PeerEvents),
        peers: &Arc<PeerNet>,
        core: &CoreSender,
    ) -> Result<(Pump, Arc<PumpControl>), StartError> {
        let control = PumpControl::new(&slow, self.committee.size());
        let make = |events| -> Result<Pump, StartError> {
            let verifier = Verifier::new(secret_seed()?, CACHE_KEYS);
            let (committee, keys) = (Arc::clone(&self.committee), self.directory.clone());
            let (peers, control) = (Arc::clone(peers), Arc::clone(&control));
            Ok(Pump::new(committee, (keys, verifier), events, peers, core.clone(), control))
        };
        let (quick, pump) = (make(quick)?, make(slow)?);
        self.keep_running(net, "net", quick.run_as_task());
        Ok((pump, control))
    }

    /// Starts a task that the node cannot do without.
    fn keep_running(
        &self,
        runtime: &Handle,
        thread: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = HaltOnPanic { signals: Arc::clone(&self.signals), thread };
        runtime.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// How transactions get in. Clones share all.
    fn intake(
        &self,
        clock: &Clock,
        gate: &Arc<Gate>,
        pool: &Arc<VerifyPool<Waits>>,
        core: &CoreSender,
    ) -> Result<Intake, StartError> {
        let lone = Lone::new(Verifier::new(secret_seed()?, LONE_KEYS));
        Ok(Intake {
            network: self.genesis.network(),
            clock: clock.clone(),
            gate: Arc::clone(gate),
            keys: self.directory.clone(),
            pool: Arc::clone(pool),
            core: core.clone(),
            lone: Arc::new(Mutex::new(lone)),
        })
    }

    /// The node as the HTTP API sees it.
    fn service(
        &self,
        data: &Data,
        intake: Intake,
        replies: &Arc<Replies>,
        shown: &Arc<Shown>,
        (peers, pump): (&Arc<PeerNet>, &Arc<PumpControl>),
    ) -> Arc<Service> {
        Arc::new(Service {
            genesis: Arc::clone(&self.genesis),
            committee: Arc::clone(&self.committee),
            own: self.own,
            intake,
            replies: Arc::clone(replies),
            state: data.executor.reader(),
            log: data.store.reader.clone(),
            tiles: data.tiles.clone(),
            shown: Arc::clone(shown),
            signals: Arc::clone(&self.signals),
            peers: Arc::clone(peers),
            pump: Arc::clone(pump),
            memory_limit: (self.config.config().limits.memory_mb << 20) as u64,
            memory_bound: self.budget.total() as u64,
        })
    }

    fn start_peers(&self, runtime: &Handle, events: PeerEventSender) -> Result<Arc<PeerNet>, StartError> {
        let values = self.config.config();
        let key = crate::crypto::SecretKey::from_seed(&self.keys.network.seed());
        let mut config = PeerNetConfig::new(self.own, Arc::clone(&self.committee), key, values.listen.peers);
        config.addresses.clone_from(&self.addresses);
        config.limits = self.budget.peer_limits();
        config.congestion = values.network.congestion;
        if config.congestion == Congestion::Bbr {
            warn!(
                "network.congestion is \"bbr\": under load, one validator that hangs for a second makes lines slow for many; \"cubic\" does not. \"bbr\" is for lines that lose a percent of packets or more"
            );
        }
        Ok(Arc::new(PeerNet::start(config, runtime, events)?))
    }

    fn start_clients(
        &self,
        runtime: &Handle,
        intake: Intake,
        replies: &Replies,
    ) -> Result<ClientPlane, StartError> {
        let values = self.config.config();
        let config = ClientPlaneConfig {
            listen: values.listen.clients,
            key: crate::crypto::SecretKey::from_seed(&self.keys.network.seed()),
            network: self.genesis.network(),
            connections: values.clients.connections,
            outstanding: values.clients.outstanding,
        };
        let on_submissions = move |before: Outstanding, all: Vec<Submission>| {
            let ticketed =
                all.into_iter().map(|Submission { client, request, tx }| (Ticket { client, request }, tx));
            let held = Amount { transactions: before.transactions, bytes: before.bytes };
            let refused = intake.submit(held, ticketed.collect());
            refused.into_iter().map(|(ticket, error)| (ticket.request, error)).collect()
        };
        let clients = ClientPlane::start(config, runtime, Arc::new(on_submissions))?;
        replies.attach(clients.clone());
        Ok(clients)
    }

    fn start_http(&self, runtime: &Handle, service: Arc<Service>) -> Result<HttpServer, StartError> {
        let values = self.config.config();
        let config = HttpConfig {
            listen: values.listen.http,
            connections: values.http.connections,
            wait_final: std::time::Duration::from_millis(values.http.wait_final_ms),
        };
        Ok(HttpServer::start(config, runtime, service)?)
    }

    fn listening(
        &self,
        peers: &PeerNet,
        clients: &ClientPlane,
        http: &HttpServer,
    ) -> Result<Addresses, StartError> {
        let known = |address: std::io::Result<SocketAddr>| address.map_err(system);
        let addresses = Addresses {
            peers: known(peers.local_addr())?,
            clients: known(clients.local_addr())?,
            http: http.local_addr(),
        };
        let parts = self.budget.parts().iter().map(|(of, bytes)| format!("{of} {}", bytes >> 20));
        info!(
            mib = self.budget.total() >> 20,
            parts = parts.collect::<Vec<_>>().join(", "),
            "memory for what is under way is bounded"
        );
        info!(
            network = %self.genesis.network(),
            validator = self.committee.authority(self.own).name,
            index = self.own.0,
            of = self.committee.size(),
            "validator started"
        );
        Ok(addresses)
    }
}
