//! One validator: commonware's authenticated network, simplex, and marshal with its archives.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, max_payload_size};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::Finalization;
use commonware_consensus::simplex::{self, config};
use commonware_consensus::types::{Epoch, FixedEpocher, ViewDelta};
use commonware_cryptography::blake3::Digest;
use commonware_cryptography::certificate::{ConstantProvider, Verifier as _};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_cryptography::{ChaCha20Poly1305, Digestible, Signer};
use commonware_p2p::authenticated::lookup::{self, Network};
use commonware_p2p::{Address, AddressableManager, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::{CacheRef, page_size};
use commonware_runtime::{IoBuf, Quota, Runner, Spawner, Supervisor, tokio};
use commonware_storage::archive::prunable;
use commonware_storage::translator::EightCap;
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::ordered::{Map, Set};
use commonware_utils::{NZDuration, NZU32, NZU64, NZUsize};

use crate::application::{Application, Pace};
use crate::block::Block;
use crate::clients::{self, Split};
use crate::pool::Pool;
use crate::route::{Router, Turns};

const NAMESPACE: &[u8] = b"salus-peer";
const EPOCH: Epoch = Epoch::zero();
/// No network lives so long here that an epoch ends.
const EPOCH_LENGTH: NonZeroU64 = NZU64!(1 << 40);
/// Messages that one peer may send in a second on one channel: more than it ever does.
const QUOTA: Quota = Quota::per_second(NZU32!(2_000));
/// Most that is forwarded in one message, and more than a client's connection reads at once.
const FORWARDED_BYTES: usize = 1 << 20;
/// Validators say so often that they are there, until all have heard of all.
const GREET_EVERY: Duration = Duration::from_millis(100);
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
const MAILBOX: NonZeroUsize = NZUsize!(4_096);
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
const CERTIFICATION_TIMEOUT: Duration = Duration::from_secs(4);
const WRITE_BUFFER: NonZeroUsize = NZUsize!(1 << 20);
const REPLAY_BUFFER: NonZeroUsize = NZUsize!(8 << 20);
const PAGE: NonZeroU16 = page_size(4_096);
const PAGES: NonZeroUsize = NZUsize!(8_192);
const RETENTION: ViewDelta = ViewDelta::new(256);

/// What a validator is told.
#[derive(Clone)]
pub struct Options {
    pub index: usize,
    pub dir: PathBuf,
    /// Ports of all validators, in their order.
    pub ports: Vec<u16>,
    pub pace: Pace,
    /// Bytes of transactions that may wait or be in blocks of its own.
    pub pool_bytes: usize,
    pub threads: usize,
    /// Transactions go to the leader so many views ahead; none: they wait for a block of this validator's own.
    pub ahead: Option<u64>,
}

type Context = tokio::Context;
type Archive<V> = prunable::Archive<EightCap, Context, Digest, V>;

fn key(index: usize) -> PrivateKey {
    PrivateKey::from_seed(index as u64)
}

/// Runs until standard input ends. Says `ready PORT` when clients may come, and answers each line with its tally.
pub fn run(options: Options) -> std::io::Result<()> {
    let pool = Pool::new(options.pool_bytes);
    let runtime = tokio::Config::default()
        .with_worker_threads(options.threads)
        .with_tcp_nodelay(Some(true))
        .with_storage_directory(&options.dir);
    let (started, is_started) = std::sync::mpsc::channel();
    let (connected, is_connected) = std::sync::mpsc::channel();
    let alone = options.ports.len() == 1;
    std::thread::spawn({
        let pool = pool.clone();
        move || {
            tokio::Runner::new(runtime).start(|context| async move {
                let (tasks, router) = start(context, options, pool, connected).await;
                let _ = started.send(router);
                let _ = futures::future::select_all(tasks).await;
                eprintln!("error: a part of the validator has stopped");
                std::process::exit(1);
            })
        }
    });
    let router = is_started.recv().map_err(std::io::Error::other)?;
    // What is sent to one who is not connected yet is lost.
    if !alone {
        is_connected.recv_timeout(CONNECTED_WITHIN).map_err(std::io::Error::other)?;
    }
    let address = clients::serve(router)?;
    println!("ready {}", address.port());
    for line in std::io::stdin().lock().lines() {
        line?;
        let tally = pool.tally();
        println!(
            "{} {} {} {}",
            tally.height,
            tally.blocks_with_transactions,
            tally.transactions,
            blake3::Hash::from_bytes(tally.chain).to_hex()
        );
    }
    std::process::exit(0);
}

async fn archive<V: commonware_codec::Codec + Send + Sync>(
    context: &Context,
    name: &'static str,
    cache: &CacheRef,
    codec: V::Cfg,
) -> Archive<V> {
    let config = prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{name}-metadata"),
        key_partition: format!("{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{name}-value"),
        compression: None,
        codec_config: codec,
        items_per_section: NZU64!(4_096),
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    };
    prunable::Archive::init(context.child(name), config).await.expect("a new archive opens")
}

type Task = commonware_runtime::Handle<()>;

async fn start(
    context: Context,
    options: Options,
    pool: Pool,
    connected: std::sync::mpsc::Sender<()>,
) -> (Vec<Task>, Router) {
    let Options { index, ports, pace, ahead, .. } = options;
    let me = key(index);
    let public = me.public_key();
    let keys: Vec<PublicKey> = (0..ports.len()).map(|index| key(index).public_key()).collect();
    let participants: Set<PublicKey> = Set::from_iter_dedup(keys.clone());
    let validators = u32::try_from(ports.len()).expect("few validators");
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    let message = max_payload_size::<Standard<Block>, Scheme>(validators, &pace.most).max(FORWARDED_BYTES);
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: me.clone(),
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut config = lookup::Config::local(
        handshake,
        NAMESPACE,
        at(ports[index]),
        NonZeroUsize::new(ports.len()).expect("some validators"),
        u32::try_from(message).expect("blocks are small enough"),
        MAILBOX,
    );
    // The set never changes. Queues are sized, and their memory cleared, for so many sets.
    config.tracked_peer_sets = NZUsize!(1);
    let (mut network, mut oracle) = Network::new(context.child("network"), config);
    let peers: Vec<(PublicKey, Address)> =
        keys.iter().cloned().zip(ports.iter().map(|port| at(*port).into())).collect();
    let peers: Map<PublicKey, Address> = peers.try_into().expect("keys differ");
    let votes = network.register(0, QUOTA);
    let certificates = network.register(1, QUOTA);
    let resolver = network.register(2, QUOTA);
    let broadcast = network.register(3, QUOTA);
    let backfill = network.register(4, QUOTA);
    let (to_leaders, from_others) = network.register(5, QUOTA);
    let network = network.start();
    oracle.track(0, peers);

    let (buffer, buffer_mailbox) = buffered::Engine::new(
        context.child("buffer"),
        buffered::Config {
            public_key: public.clone(),
            mailbox_size: MAILBOX,
            deque_size: 16,
            priority: true,
            codec_config: pace.most,
            peer_provider: oracle.clone(),
            strategy: Sequential,
        },
    );
    let marshal_resolver = marshal::resolver::p2p::init(
        context.child("backfill"),
        marshal::resolver::p2p::Config {
            public_key: public.clone(),
            peer_provider: oracle.clone(),
            blocker: oracle.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );

    let cache = CacheRef::new(PAGE, PAGES);
    let scheme = Scheme::signer(NAMESPACE, participants.clone(), me).expect("it is one of the validators");
    let certificate_codec = Scheme::certificate_codec_config_unbounded();
    let finalizations =
        archive::<Finalization<Scheme, Digest>>(&context, "finalizations", &cache, certificate_codec).await;
    let blocks = archive::<Arc<Block>>(&context, "blocks", &cache, pace.most).await;
    let genesis = Block::genesis();
    let epocher = FixedEpocher::new(EPOCH_LENGTH);
    let (marshal, marshal_mailbox, _) = marshal::core::Actor::init(
        context.child("marshal"),
        finalizations,
        blocks,
        marshal::Config {
            provider: ConstantProvider::<Scheme, Epoch>::new(scheme.clone()),
            epocher: epocher.clone(),
            start: marshal::Start::Genesis(commonware_cryptography::Digested::precomputed(
                genesis.clone(),
                genesis.digest(),
            )),
            partition_prefix: "marshal".to_owned(),
            mailbox_size: MAILBOX,
            view_retention: ViewDelta::new(RETENTION.get() * 10),
            prunable_items_per_section: NZU64!(4_096),
            page_cache: cache.clone(),
            replay_buffer: REPLAY_BUFFER,
            key_write_buffer: WRITE_BUFFER,
            value_write_buffer: WRITE_BUFFER,
            block_codec_config: pace.most,
            max_repair: NZUsize!(20),
            max_pending_acks: NZUsize!(16),
            strategy: Sequential,
        },
    )
    .await;
    let turns = Arc::new(Turns::new(participants.iter().cloned().collect()));
    let greetings = to_leaders.clone();
    let router = router(pool.clone(), public.clone(), turns.clone(), ahead, to_leaders);
    let forwarded = context.child("forwarded").spawn({
        let (pool, others) = (pool.clone(), ports.len() - 1);
        move |_| take_forwarded(from_others, greetings, pool, others, connected)
    });
    let application = Application::new(pool, pace, turns);
    let inline = Inline::new(context.child("inline"), application.clone(), marshal_mailbox, epocher);
    let engine = simplex::Engine::new(
        context.child("simplex"),
        config::Config {
            scheme,
            elector: <RoundRobin>::default(),
            blocker: oracle,
            automaton: inline.clone(),
            relay: inline.clone(),
            reporter: inline,
            track_historical_votes: false,
            strategy: Sequential,
            partition: "simplex".to_owned(),
            mailbox_size: MAILBOX,
            epoch: EPOCH,
            floor: config::Floor::Genesis(genesis.digest()),
            replay_buffer: REPLAY_BUFFER,
            write_buffer: WRITE_BUFFER,
            page_cache: cache,
            leader_timeout: LEADER_TIMEOUT,
            certification_timeout: CERTIFICATION_TIMEOUT,
            timeout_retry: Duration::from_secs(5),
            view_retention: RETENTION,
            skip: config::SkipPolicy::Disabled,
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            forward: config::ForwardPolicy::Disabled,
        },
    );
    let tasks = vec![
        network,
        buffer.start(broadcast),
        marshal.start(application, buffer_mailbox, marshal_resolver),
        engine.start(votes, certificates, resolver),
        forwarded,
    ];
    (tasks, router)
}

fn router(
    pool: Pool,
    me: PublicKey,
    turns: Arc<Turns>,
    ahead: Option<u64>,
    sender: impl Sender<PublicKey = PublicKey> + Sync,
) -> Router {
    let send = move |leader: &PublicKey, bytes: Bytes| {
        !sender.clone().send(Recipients::One(leader.clone()), IoBuf::from(bytes), false).is_empty()
    };
    Router::new(pool, me, turns, ahead, Box::new(send))
}

/// Takes what other validators have sent here to be proposed. An empty message says only that they are connected, and is
/// answered the first time; when all have been heard of, `connected` is told.
async fn take_forwarded(
    mut receiver: impl Receiver<PublicKey = PublicKey>,
    mut sender: impl Sender<PublicKey = PublicKey>,
    pool: Pool,
    others: usize,
    connected: std::sync::mpsc::Sender<()>,
) {
    let mut heard = BTreeSet::new();
    let mut greet = ::tokio::time::interval(GREET_EVERY);
    loop {
        ::tokio::select! {
            message = receiver.recv() => {
                let Ok((from, message)) = message else { return };
                pool.push(Split(message.into()));
                if heard.insert(from.clone()) {
                    let _ = sender.send(Recipients::One(from), IoBuf::default(), false);
                    if heard.len() == others {
                        let _ = connected.send(());
                    }
                }
            }
            _ = greet.tick(), if heard.len() < others => {
                let _ = sender.send(Recipients::All, IoBuf::default(), false);
            }
        }
    }
}
