//! One simulated validator: the machine, its disk, its state and its clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::random::Random;
use crate::crypto::{SecretKey, Verifier};
use crate::error::{ClientError, StorageError};
use crate::execute::{
    Executed, Executor, KeyDirectory, LedgerReader, MemStore, SubDag, TransactionStatus, Verdict,
};
use crate::genesis::Genesis;
use crate::ingress::admit;
use crate::log::{Log, LogOptions, SimDisk, Survives};
use crate::mempool::{MempoolLimits, PooledTransaction, Ticket};
use crate::node::{LogKey, LogRecord, Node, NodeConfig, Now, Pace, RecordKind, Recovered, serve_from_log};
use crate::proof::checkpoint::CertifiedCheckpoint;
use crate::types::{
    AuthorityIndex, BlockRef, FetchRequest, LeafIndex, LogSeq, PROTOCOL_VERSION, Payload, PeerMessage, Round,
    TimestampMs, TxId,
};
use crate::verify::{verify_payload, verify_transactions};

/// Simulated segments are small, so that runs cross their borders.
const SEGMENT_BYTES: u64 = 1 << 20;

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
    clock_offset_ms: i64,
    /// Counts its lives: what was scheduled in an earlier one is void.
    pub(super) life: u64,
    pub(super) running: Option<Running>,
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
    log: Log<SimDisk>,
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
        clock_offset_ms: i64,
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
            clock_offset_ms,
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
        let wall = self.genesis.created().0 + now_us / 1_000;
        Now { monotonic_us: now_us, wall: TimestampMs(wall.saturating_add_signed(self.clock_offset_ms)) }
    }

    /// Starts it on what its disk and its state hold.
    pub(super) fn start(&mut self) -> Result<(), StorageError> {
        let authority = AuthorityIndex::from_usize(self.authority);
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, seed: self.life };
        let (log, _) = Log::open(self.disk.clone(), self.genesis.network(), options)?;
        let directory = KeyDirectory::default();
        let executor = Executor::open(&self.genesis, self.store.clone(), directory.clone())?;
        let mut recovered = Recovered::new(authority, executor.head().commit, &self.genesis);
        let mut index = BTreeMap::new();
        log.scan(LogSeq(1), |record| {
            if let Some(key) = LogKey::of(record.kind, &record.bytes) {
                index.insert(key, record.seq);
            }
            let read = recovered.record(record.seq, record.kind, record.bytes);
            read.unwrap_or_else(|error| panic!("a simulated log holds what was written: {error}"));
            Ok(())
        })?;
        let config = NodeConfig {
            authority,
            consensus_key: SecretKey::from_seed(&self.seeds.consensus),
            cosign_key: SecretKey::from_seed(&self.seeds.cosign),
            pace: self.pace,
            mempool: MempoolLimits {
                transactions: 1_000,
                bytes: 1 << 20,
                block_transactions: 40,
                block_bytes: 1 << 16,
            },
            execution_backlog_max: 2_000,
            protocol: PROTOCOL_VERSION,
            first_life: self.life == 0,
        };
        let node = Node::new(config, &self.genesis, recovered, executor.head(), executor.checkpoint());
        let verifier = Verifier::new([7; 32], 1_024);
        self.life += 1;
        self.running = Some(Running {
            node,
            executor,
            directory,
            verifier,
            log,
            index,
            executor_free_us: 0,
            published: None,
            tick_us: None,
        });
        Ok(())
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
        if self.running.take().is_some() {
            self.disk.crash(survives);
            if falls_back {
                self.store = self.durable_store.fork();
            }
        }
    }

    /// Makes the state durable.
    pub(super) fn persist(&mut self) {
        self.durable_store = self.store.fork();
    }
}

impl Running {
    /// Adds a record to the log; it is durable with the next sync.
    pub(super) fn append(&mut self, seq: LogSeq, record: &LogRecord) -> Result<(), StorageError> {
        if let Some(key) = record.key() {
            self.index.insert(key, seq);
        }
        self.log.append(record.kind() as u8, seq, &record.parts())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&mut self) -> Result<LogSeq, StorageError> {
        self.log.commit()
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
        Ok(PooledTransaction { id: tx.id(), tx: tx.transaction().clone(), ticket: Some(ticket) })
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
        let in_rounds = |from: Round, to: Round| {
            let key =
                |round| LogKey { kind: RecordKind::Header, block: BlockRef { round, ..BlockRef::default() } };
            self.index.range(key(from)..key(to)).map(|(key, _)| key.block).collect()
        };
        let read = |key: LogKey| match self.index.get(&key) {
            Some(seq) => Ok(self.log.read(*seq)?.map(|record| record.bytes)),
            None => Ok(None),
        };
        serve_from_log(request, in_rounds, read)
    }
}
