//! One simulated validator: the machine, its disk, its state and its clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::config::SimConfig;
use super::random::Random;
use crate::crypto::{SecretKey, Verifier};
use crate::error::{ClientError, StorageError};
use crate::execute::{
    Executed, Executor, KeyDirectory, LedgerReader, MemStore, SubDag, TransactionStatus, Verdict,
};
use crate::genesis::Genesis;
use crate::ingress::admit;
use crate::log::{Disk, Fault, Log, LogOptions, SimDisk, Survives};
use crate::mempool::{MempoolLimits, PooledTransaction, Ticket};
use crate::node::{
    LogKey, LogRecord, Node, NodeConfig, Now, Pace, RecordKind, Recovered, memory_bytes_min, serve_from_log,
};
use crate::proof::checkpoint::CertifiedCheckpoint;
use crate::types::{
    AuthorityIndex, BlockRef, Digest, FetchRequest, LeafIndex, LogSeq, PROTOCOL_VERSION,
    PROTOCOL_VERSION_OLDEST, Payload, PeerMessage, Round, TimestampMs, TxId,
};
use crate::verify::{verify_payload, verify_transactions};

/// Simulated segments are small, so that runs cross their borders.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Memory that peers may make a simulated validator use; more in committees so large that it would not do.
pub(super) const MEMORY_BYTES: usize = 64 << 20;

/// A validator that may be running or down.
#[derive(Debug)]
pub(super) struct Host {
    /// Whose keys it has.
    pub(super) authority: usize,
    key: SecretKey,
    genesis: Arc<Genesis>,
    seeds: HostSeeds,
    pub(super) pace: Pace,
    disk: SimDisk,
    store: MemStore,
    /// The state as it was last made durable.
    durable_store: MemStore,
    /// Difference of its clock from the true time, milliseconds.
    clock: Clock,
    keep_log: bool,
    mempool: MempoolLimits,
    /// Newest version of the protocol that its program speaks.
    pub(super) protocol: u16,
    /// Whether a header of its key has left.
    pub(super) keys_used: bool,
    /// Whether a call of its disk is set up to fail.
    pub(super) armed: bool,
    /// What was done to its log while it was down, and what the log held before.
    damaged: Option<(String, LogSeq, Digest)>,
    /// Counts its lives: what was scheduled in an earlier one is void.
    pub(super) life: u64,
    pub(super) running: Option<Running>,
}

/// How wrong a clock is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// At the beginning, milliseconds.
    pub(super) offset_ms: i64,
    /// Millionths by which it is too fast.
    pub(super) drift_ppm: i64,
    /// It is never more wrong than this: somebody sets it then.
    pub(super) most_ms: i64,
}

/// How a start ended.
#[derive(Debug)]
pub(super) enum Started {
    Runs,
    /// The disk failed: try again.
    Failed,
    /// The log was refused: its disk has to be replaced.
    Refused,
    /// Damage in the log went unseen.
    Silent(String),
}

/// Seeds of a validator's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostSeeds {
    pub(super) consensus: [u8; 32],
    pub(super) cosign: [u8; 32],
}

/// What a validator has while it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) node: Node,
    executor: Executor<MemStore>,
    directory: KeyDirectory,
    verifier: Verifier,
    /// `None` in runs that keep no log.
    log: Option<Log<SimDisk>>,
    last_seq: LogSeq,
    index: BTreeMap<LogKey, LogSeq>,
    /// When the executor is done with what it was given.
    pub(super) executor_free_us: u64,
    /// Latest checkpoint that it published.
    pub(super) published: Option<CertifiedCheckpoint>,
    /// When the next tick is scheduled.
    pub(super) tick_us: Option<u64>,
}

impl Host {
    pub(super) fn new(
        authority: usize,
        genesis: Arc<Genesis>,
        seeds: HostSeeds,
        pace: Pace,
        clock: Clock,
        config: &SimConfig,
    ) -> Self {
        Self {
            authority,
            key: SecretKey::from_seed(&seeds.consensus),
            genesis,
            seeds,
            pace,
            disk: SimDisk::new(),
            store: MemStore::new(),
            durable_store: MemStore::new(),
            clock,
            keep_log: config.keep_log,
            mempool: config.mempool,
            protocol: if config.upgrade { PROTOCOL_VERSION_OLDEST } else { PROTOCOL_VERSION },
            keys_used: false,
            armed: false,
            damaged: None,
            life: 0,
            running: None,
        }
    }

    /// The key that it signs headers with.
    pub(super) fn key(&self) -> &SecretKey {
        &self.key
    }

    /// The key that it cosigns checkpoints with.
    pub(super) fn cosign_key(&self) -> SecretKey {
        SecretKey::from_seed(&self.seeds.cosign)
    }

    /// What its clock shows.
    pub(super) fn now(&self, now_us: u64) -> Now {
        let now_ms = now_us / 1_000;
        let drifted = now_ms.cast_signed() * self.clock.drift_ppm / 1_000_000;
        let most = self.clock.most_ms;
        let wrong = (self.clock.offset_ms + drifted).clamp(-most, most);
        let wall = self.genesis.created().0 + now_ms;
        Now { monotonic_us: now_us, wall: TimestampMs(wall.saturating_add_signed(wrong)) }
    }

    /// Starts it on what its disk and its state hold.
    pub(super) fn start(&mut self) -> Result<Started, StorageError> {
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, seed: self.life };
        let authority = AuthorityIndex::from_usize(self.authority);
        let directory = KeyDirectory::default();
        let executor = Executor::open(&self.genesis, self.store.clone(), directory.clone())?;
        let mut recovered = Recovered::new(authority, executor.head(), &self.genesis);
        let mut index = BTreeMap::new();
        let opened = Log::open_and_read(self.disk.clone(), self.genesis.network(), options, |record| {
            if let Some(key) = LogKey::of(record.kind, &record.bytes) {
                index.insert(key, record.seq);
            }
            let read = recovered.record(record.seq, record.kind, record.bytes);
            read.unwrap_or_else(|error| panic!("a simulated log holds what was written: {error}"));
            Ok(())
        });
        let log = match opened {
            Ok((log, _)) => log,
            Err(_) if self.armed => return Ok(Started::Failed),
            Err(_) if self.damaged.is_some() => return Ok(Started::Refused),
            Err(error) => return Err(error),
        };
        if let Some((what, up_to, before)) = self.damaged.take()
            && (log.durable() < up_to || fingerprint(&log, up_to)? != before)
        {
            return Ok(Started::Silent(what));
        }
        if let Err(why) = recovered.check_state(executor.last_payload()?) {
            panic!("{why}");
        }
        self.run_on(log, recovered, executor, directory, index);
        Ok(Started::Runs)
    }

    fn run_on(
        &mut self,
        log: Log<SimDisk>,
        recovered: Recovered,
        executor: Executor<MemStore>,
        directory: KeyDirectory,
        index: BTreeMap<LogKey, LogSeq>,
    ) {
        let authority = AuthorityIndex::from_usize(self.authority);
        let config = NodeConfig {
            authority,
            consensus_key: SecretKey::from_seed(&self.seeds.consensus),
            cosign_key: SecretKey::from_seed(&self.seeds.cosign),
            pace: self.pace,
            mempool: self.mempool,
            execution_backlog_max: 2_000,
            protocol: self.protocol,
            memory_bytes: memory_bytes_min(
                self.genesis.committee().size(),
                self.genesis.parameters().gc_depth,
            )
            .max(MEMORY_BYTES),
            first_life: !self.keys_used,
        };
        let node = Node::new(config, &self.genesis, recovered, executor.head(), executor.checkpoint());
        let verifier = Verifier::new([7; 32], 1_024);
        self.life += 1;
        let last_seq = log.durable();
        self.running = Some(Running {
            node,
            executor,
            directory,
            verifier,
            log: self.keep_log.then_some(log),
            last_seq,
            index,
            executor_free_us: 0,
            published: None,
            tick_us: None,
        });
    }

    /// Power fails: what was not synced survives in part, as `random` has it. The state falls back to when it was last made
    /// durable, or not.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let survives = match random.below(3) {
            0 => Survives::Nothing,
            1 => Survives::Everything,
            _ => Survives::Seeded(random.next()),
        };
        let falls_back = random.chance(500);
        self.life += 1;
        self.armed = false;
        if self.running.take().is_some() {
            self.disk.crash(survives);
            if falls_back {
                self.store = self.durable_store.fork();
            }
        }
    }

    /// The process dies and nothing else: what it wrote is still on its way to the disk.
    pub(super) fn stop(&mut self) {
        self.life += 1;
        self.armed = false;
        if self.running.take().is_some() {
            self.disk.crash(Survives::Everything);
        }
    }

    /// Lets a call of its disk fail, soon.
    pub(super) fn arm(&mut self, random: &mut Random) {
        self.armed = true;
        let fault = if random.chance(500) { Fault::Io } else { Fault::Full };
        if random.chance(200) {
            self.disk.fail_read(random.between(1, 20));
        } else {
            self.disk.fail_call(random.between(1, 40), fault);
        }
    }

    /// Damages a sector of the log of a stopped validator; false if it holds nothing yet.
    pub(super) fn damage(&mut self, random: &mut Random) -> Result<bool, StorageError> {
        if self.damaged.is_some() {
            return Ok(false);
        }
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, seed: self.life };
        let (log, _) = Log::open(self.disk.snapshot(), self.genesis.network(), options)?;
        let durable = log.durable();
        let before = fingerprint(&log, durable)?;
        let segments: Vec<String> =
            self.disk.list()?.into_iter().filter(|name| name.ends_with(".seg")).collect();
        if durable == LogSeq(0) || segments.is_empty() {
            return Ok(false);
        }
        let name = &segments[random.index(segments.len())];
        let Some(what) = self.disk.damage(name, random.next()) else { return Ok(false) };
        self.damaged = Some((what, durable, before));
        Ok(true)
    }

    /// A new disk: log and state are gone, the keys are not.
    pub(super) fn lose_everything(&mut self) {
        self.disk = SimDisk::new();
        self.store = MemStore::new();
        self.durable_store = MemStore::new();
        self.damaged = None;
    }

    /// Makes the state durable.
    pub(super) fn persist(&mut self) -> Result<(), StorageError> {
        if let Some(running) = &mut self.running {
            running.executor.persist()?;
        }
        self.durable_store = self.store.fork();
        Ok(())
    }
}

impl Running {
    /// Adds a record to the log; it is durable with the next sync.
    pub(super) fn append(&mut self, seq: LogSeq, record: &LogRecord) -> Result<(), StorageError> {
        self.last_seq = seq;
        let Some(log) = &mut self.log else { return Ok(()) };
        if let Some(key) = record.key() {
            self.index.insert(key, seq);
        }
        log.append(record.kind() as u8, seq, &record.parts())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&mut self) -> Result<LogSeq, StorageError> {
        let Some(log) = &mut self.log else { return Ok(self.last_seq) };
        let durable = log.commit()?;
        log.write_watermark()?;
        Ok(durable)
    }

    pub(super) fn verify(&mut self, genesis: &Genesis, payload: &Payload) -> Arc<[Verdict]> {
        verify_payload(&mut self.verifier, genesis.network(), &self.directory, payload).into()
    }

    pub(super) fn execute(&mut self, dag: &SubDag) -> Result<Executed, StorageError> {
        self.executor.execute(dag)
    }

    /// Admits and verifies a client's transaction as ingress does.
    pub(super) fn admit(
        &mut self,
        genesis: &Genesis,
        now: TimestampMs,
        tx: Bytes,
        ticket: Ticket,
    ) -> Result<PooledTransaction, ClientError> {
        let pending = admit(tx, genesis.network(), now, &self.directory)?;
        let (mut verified, refused) =
            verify_transactions(&mut self.verifier, genesis.network(), vec![pending]);
        if let Some((_, error)) = refused.into_iter().next() {
            return Err(error);
        }
        let tx = verified.pop().unwrap_or_else(|| unreachable!("one transaction went in"));
        let (tx, id, ()) = tx.into_parts();
        Ok(PooledTransaction { id, tx, ticket: Some(ticket) })
    }

    /// Answers questions about its state.
    pub(super) fn reader(&self) -> LedgerReader<MemStore> {
        self.executor.reader()
    }

    /// Where a transaction was executed.
    pub(super) fn leaf_of(&self, id: &TxId) -> Result<Option<LeafIndex>, StorageError> {
        match self.executor.reader().transaction(id)? {
            TransactionStatus::Executed(leaf) => Ok(Some(leaf.index)),
            TransactionStatus::Unknown | TransactionStatus::Skipped { .. } => Ok(None),
        }
    }

    /// Answers a peer's request from the log.
    pub(super) fn serve(&self, request: &FetchRequest) -> Result<Vec<PeerMessage>, StorageError> {
        let in_rounds = |kind: RecordKind, from: Round, to: Round| {
            let key = |round| LogKey { kind, block: BlockRef { round, ..BlockRef::default() } };
            Ok(self.index.range(key(from)..key(to)).map(|(key, _)| key.block).collect())
        };
        let read = |key: LogKey| match (self.index.get(&key), &self.log) {
            (Some(seq), Some(log)) => Ok(log.read(*seq)?.map(|record| record.bytes)),
            (None, _) | (_, None) => Ok(None),
        };
        serve_from_log(request, in_rounds, read)
    }
}

/// Hash of all records up to one.
fn fingerprint(log: &Log<SimDisk>, up_to: LogSeq) -> Result<Digest, StorageError> {
    let mut hasher = blake3::Hasher::new();
    log.scan(LogSeq(1), |record| {
        if record.seq <= up_to {
            hasher.update(&record.seq.0.to_be_bytes());
            hasher.update(&[record.kind]);
            hasher.update(&record.bytes);
        }
        Ok(())
    })?;
    Ok(Digest(hasher.finalize().into()))
}
