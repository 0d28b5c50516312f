//! The real driver with a core that is held up: what is held stays bounded, clients hear that the node is busy, peers have to stop,
//! and everything goes on where it was once the core does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::Validator;
use super::clock::Clock;
use super::inbox::{CoreSender, Inbox, Mail};
use super::open::start_with;
use super::peers::{Pump, PumpControl};
use crate::committee::{Authority, Committee};
use crate::config::{ConfigFile, NodeConfig};
use crate::crypto::{SecretKey, Verifier};
use crate::execute::KeyDirectory;
use crate::gateway::{KeyTerms, OrgSigner, key_add};
use crate::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use crate::io::bell::Bell;
use crate::io::client_plane::SalusClient;
use crate::io::keys::NodeKeys;
use crate::io::peer::{PeerNet, PeerNetConfig, peer_events, peer_lanes};
use crate::node::Input;
use crate::types::{
    AuthorityIndex, BlockRef, Body, ClientReply, Epoch, FetchRequest, Frame, KeyId, NetworkId, OrgId,
    PayloadBuilder, PeerMessage, RecordAnchor, Roles, Round, Stake, TimestampMs, TxId,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Times that the round is asked for and found to be the same before the core counts as one that stands still: it makes a thousand a
/// second otherwise.
const STILL: usize = 100;
/// Transactions that the pool may hold.
const POOL: usize = 500;
const ORG: OrgId = OrgId(1);

fn now() -> TimestampMs {
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Holds up whoever passes while it is shut.
#[derive(Debug, Default)]
struct Valve {
    is_shut: Mutex<bool>,
    changed: Condvar,
}

impl Valve {
    fn set(&self, shut: bool) {
        *self.is_shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let shut = self.is_shut.lock().unwrap();
        drop(self.changed.wait_while(shut, |shut| *shut).unwrap());
    }
}

/// Opens a valve however a test ends: the log's thread must not wait for ever.
struct Opens(Arc<Valve>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

struct Network {
    folder: TempDir,
    genesis: Genesis,
    server: [u8; 32],
    root: SecretKey,
}

impl Network {
    /// One validator, the smallest legal network.
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = NodeKeys::create(&folder.path().join("keys")).unwrap();
        let root = SecretKey::from_seed(&[42; 32]);
        let file = GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "one.example".to_owned(),
            created_ms: now().0,
            parameters: Parameters { leaders_per_round: 1, ..Parameters::default() },
            validators: vec![ValidatorEntry {
                name: "north".to_owned(),
                stake: 1,
                address: "127.0.0.1:7700".to_owned(),
                network_key: HexKey(keys.network.public()),
                consensus_key: HexKey(keys.consensus.public()),
                cosign_key: HexKey(keys.cosign.public()),
                log_key: HexKey(keys.log.public()),
            }],
            members: vec![MemberEntry {
                org: ORG.0,
                kind: 1,
                name: "North Hospital".to_owned(),
                region: 0,
                root_key: HexKey(root.public()),
                governs: true,
            }],
        };
        let genesis = Genesis::decode(&Genesis::encode(&file).unwrap()).unwrap();
        Self { folder, genesis, server: keys.network.public(), root }
    }

    fn config(&self) -> ConfigFile {
        let mut config = NodeConfig::new("north");
        let any = "127.0.0.1:0".parse().unwrap();
        (config.listen.peers, config.listen.clients, config.listen.http) = (any, any, any);
        config.log.segment_bytes = 16 << 20;
        // So the log's queue fills soon, also with blocks of nothing.
        (config.rounds.beat_ms, config.rounds.idle_round_interval_ms) = (1, 1);
        config.mempool.transactions = POOL;
        ConfigFile::parse(&self.folder.path().join("node.toml"), &config.to_toml().unwrap()).unwrap()
    }

    async fn connect(&self, address: SocketAddr) -> SalusClient {
        SalusClient::connect(address, self.server, self.genesis.network()).await.unwrap()
    }

    fn signer(&self) -> OrgSigner {
        OrgSigner::new(self.genesis.network(), ORG, KeyId(1), SecretKey::from_seed(&[5; 32]), 1)
    }

    fn registration(&self, signer: &OrgSigner) -> Bytes {
        let terms = KeyTerms {
            org: ORG,
            key: KeyId(1),
            roles: Roles::RECORD,
            from: TimestampMs(0),
            to: TimestampMs(u64::MAX),
        };
        let body = Body::KeyAdd(key_add(self.genesis.network(), terms, signer.secret()));
        let root = SecretKey::from_seed(&self.root.seed());
        let mut root = OrgSigner::new(self.genesis.network(), ORG, KeyId(0), root, 1);
        root.sign(&body, now(), [0; 16]).bytes().clone()
    }
}

fn record(signer: &mut OrgSigner, number: u64) -> Bytes {
    let mut commit = [0; 32];
    commit[..8].copy_from_slice(&number.to_be_bytes());
    let body = Body::RecordAnchor(RecordAnchor { commit, prev: None, class: 1, alg: 1, retain_days: 30 });
    signer.sign(&body, now(), [1; 16]).bytes().clone()
}

/// A figure of the validator's metrics.
fn gauge(validator: &Validator, name: &str) -> usize {
    let mut stream = TcpStream::connect(validator.addresses().http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// What became of what was submitted.
struct Answers {
    sender: mpsc::UnboundedSender<ClientReply>,
    receiver: mpsc::UnboundedReceiver<ClientReply>,
    submitted: usize,
    busy: usize,
    executed: usize,
}

impl Answers {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver, submitted: 0, busy: 0, executed: 0 }
    }

    async fn submit(&mut self, client: &SalusClient, tx: Bytes) {
        let replies = client.submit(tx).await.unwrap();
        let sender = self.sender.clone();
        self.submitted += 1;
        tokio::spawn(async move { sender.send(replies.last().await.expect("the connection holds")) });
    }

    fn note(&mut self, reply: &ClientReply) {
        match reply {
            ClientReply::Executed { .. } => self.executed += 1,
            ClientReply::Refused { code, .. } if code == "Busy" => self.busy += 1,
            ClientReply::Accepted
            | ClientReply::Refused { .. }
            | ClientReply::Duplicate { .. }
            | ClientReply::Skipped { .. } => panic!("{reply:?}"),
        }
    }

    /// Those that have come.
    fn take(&mut self) {
        while let Ok(reply) = self.receiver.try_recv() {
            self.note(&reply);
        }
    }

    async fn all(&mut self) {
        while self.busy + self.executed < self.submitted {
            let reply = tokio::time::timeout(PATIENCE, self.receiver.recv()).await.expect("an answer");
            self.note(&reply.unwrap());
        }
    }
}

#[test]
#[expect(clippy::significant_drop_tightening, reason = "the validator runs to the end of the test")]
fn a_stalled_log_makes_clients_hear_busy_and_loses_nothing() {
    let network = Network::make();
    let valve = Arc::new(Valve::default());
    let opens = Opens(Arc::clone(&valve));
    let validator = start_with(&network.config(), network.genesis.clone(), |signals| {
        move |event| {
            valve.pass();
            signals.log_event(event);
        }
    })
    .unwrap();
    let runtime = Runtime::new().unwrap();
    let address = validator.addresses().clients;
    let mut signer = network.signer();
    let mut answers = Answers::new();
    let held = || {
        let waiting = gauge(&validator, "salus_intake_transactions");
        let pooled = validator.signals.stats().mempool;
        assert!(waiting <= POOL && pooled <= POOL, "{waiting} wait and {pooled} are pooled, of {POOL}");
        waiting
    };

    let (greedy, modest) = runtime.block_on(async {
        let greedy = [network.connect(address).await, network.connect(address).await];
        answers.submit(&greedy[0], network.registration(&signer)).await;
        answers.all().await;
        assert_eq!(answers.executed, 1);
        (greedy, network.connect(address).await)
    });

    // From now on nothing becomes durable. The core goes on until the log has taken all that it may.
    opens.0.set(true);
    let (mut number, mut round, mut still) = (0, 0, 0);
    until("clients are refused, and the core stands still", || {
        runtime.block_on(async {
            for client in &greedy {
                for _ in 0..50 {
                    number += 1;
                    answers.submit(client, record(&mut signer, number)).await;
                }
            }
        });
        answers.take();
        held();
        let before = std::mem::replace(&mut round, gauge(&validator, "salus_round"));
        still = if round == before { still + 1 } else { 0 };
        answers.busy > 10 * POOL && still > STILL
    });
    assert_eq!(answers.executed, 1, "nothing is final that is not durable");
    // Some room is always left for who has nothing.
    let (busy, mut late) = (answers.busy, Answers::new());
    number += 1;
    runtime.block_on(late.submit(&modest, record(&mut signer, number)));
    until("it waits for the core", || held() > 0);
    runtime.block_on(async {
        opens.0.set(false);
        late.all().await;
        assert_eq!((late.busy, late.executed), (0, 1), "greedy clients do not keep out a modest one");
        answers.all().await;
        assert_eq!(answers.executed + answers.busy, answers.submitted);
        assert!(answers.executed > 1 && answers.busy >= busy);
        // And there is room again.
        let mut next = Answers::new();
        number += 1;
        next.submit(&greedy[0], record(&mut signer, number)).await;
        next.all().await;
        assert_eq!(next.executed, 1);
    });
    until("all places are given back", || held() == 0);
    assert_eq!(validator.signals.stats().mempool, 0);
    drop((greedy, modest));
    runtime.shutdown_background();
    assert_eq!(validator.stop(), Ok(()));
}

const NETWORK: NetworkId = NetworkId(*b"testnet1");

fn secret(of: u8) -> SecretKey {
    SecretKey::from_seed(&[of + 1; 32])
}

fn committee() -> Arc<Committee> {
    let authority = |of: u8| Authority {
        name: format!("v{of}"),
        stake: Stake(1),
        address: UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string(),
        network_key: secret(of).public(),
        consensus_key: [0; 32],
        cosign_key: [0; 32],
        log_key: [0; 32],
    };
    Arc::new(Committee::new(Epoch(0), NETWORK, (0..2).map(authority).collect()))
}

fn net_config(committee: &Arc<Committee>, own: u8) -> PeerNetConfig {
    let index = AuthorityIndex(own.into());
    let listen = committee.authority(index).address.parse().unwrap();
    PeerNetConfig::new(index, Arc::clone(committee), secret(own), listen)
}

/// A validator that receives, up to the core's queue.
struct Receiver {
    net: Arc<PeerNet>,
    inbox: Inbox,
    control: Arc<PumpControl>,
    slow: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    fn start(committee: &Arc<Committee>, config: PeerNetConfig, runtime: &Runtime) -> Self {
        let (events, quick, slow) = peer_lanes(2, 256);
        let net = Arc::new(PeerNet::start(config, runtime.handle(), events).unwrap());
        let control = PumpControl::new(&slow, 2);
        let (core, inbox) = Inbox::new(4_096, Arc::new(Bell::new(1)), Clock::start());
        let pump = |events| {
            let verifier = (KeyDirectory::default(), Verifier::portable([1; 32], 4));
            let core: CoreSender = core.clone();
            Pump::new(Arc::clone(committee), verifier, events, Arc::clone(&net), core, Arc::clone(&control))
        };
        let (quick, slow) = (pump(quick), pump(slow));
        runtime.spawn(quick.run_as_task());
        let slow = std::thread::spawn(move || slow.run());
        Self { net, inbox, control, slow: Some(slow) }
    }

    fn held(&self) -> usize {
        self.net.stats()[0].held_bytes.try_into().unwrap()
    }

    fn received(&self) -> u64 {
        self.net.stats()[0].received_frames
    }

    /// What the core would take.
    fn take(&self) -> Vec<Mail> {
        std::iter::from_fn(|| self.inbox.take().unwrap()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.control.stop();
        let _ = self.slow.take().map(std::thread::JoinHandle::join);
    }
}

fn payload(number: u64) -> Frame {
    let mut builder = PayloadBuilder::default();
    for tx in 0..100_u64 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number * 100 + tx).to_be_bytes());
        builder.push(TxId(id), &[7; 4_000]);
    }
    PeerMessage::Payload { block: BlockRef::default(), bytes: builder.finish().bytes().clone() }.encode()
}

fn ask(number: u64) -> Frame {
    PeerMessage::Fetch(FetchRequest::Range { from: Round(number), rounds: 1 }).encode()
}

/// A peer sends as much of `frame` as it can to a validator whose core takes nothing, then takes it.
fn flood(frame: impl Fn(u64) -> Frame, receive_bytes: usize, receive_small_bytes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let committee = committee();
    let (events, _kept) = peer_events(2, 64);
    let sender = PeerNet::start(net_config(&committee, 0), runtime.handle(), events).unwrap();
    let mut config = net_config(&committee, 1);
    (config.limits.receive_bytes, config.limits.receive_small_bytes) = (receive_bytes, receive_small_bytes);
    let receiver = Receiver::start(&committee, config, &runtime);
    until("the connection", || receiver.net.stats()[0].up && sender.stats()[0].up);

    let mut sent = 0;
    // Nothing gives room back, so once less than a frame takes is left of either room, it stays so, and what is sent then stays in
    // the sender's queue.
    until("the peer has to stop", || {
        let before = sent;
        while sender.send(AuthorityIndex(1), frame(sent)) {
            sent += 1;
        }
        let held = receiver.held();
        assert!(held <= receive_bytes + receive_small_bytes, "{held} bytes are held");
        let each = held / usize::try_from(receiver.received()).unwrap().max(1);
        let is_full = |room: usize| held > 0 && held + each > room;
        sent == before && (is_full(receive_bytes) || is_full(receive_small_bytes))
    });
    let stuck = receiver.received();
    assert!(stuck < sent, "{stuck} of {sent} frames came in while the core took nothing");
    let held = receiver.held();
    assert!(held > 0 && held <= receive_bytes + receive_small_bytes, "{held} bytes are held");

    // The mail is what holds them: while the core has it in its hands nothing more comes, and then all does.
    let mut taken = 0;
    until("all that was sent", || {
        let mail = receiver.take();
        assert!(receiver.held() <= receive_bytes + receive_small_bytes);
        let counts = |mail: &Mail| {
            matches!(mail, Mail::Peer { input: Input::Payload { .. } | Input::Fetch { .. }, .. })
        };
        taken += mail.iter().filter(|mail| counts(mail)).count() as u64;
        taken == sent
    });
    until("nothing is held", || receiver.take().is_empty() && receiver.held() == 0);
    drop(receiver);
    drop(sender);
    runtime.shutdown_timeout(Duration::from_secs(2));
}

#[test]
fn a_core_that_takes_nothing_stops_a_peer_that_sends_payloads() {
    flood(payload, 4 << 20, 1 << 20);
}

#[test]
fn a_core_that_takes_nothing_stops_a_peer_that_sends_requests() {
    flood(ask, 16 << 20, 8 << 10);
}
