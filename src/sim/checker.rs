//! What has to hold in every run.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::byzantine::Lies;
use super::taken::Taken;
use crate::execute::{Executed, LedgerHead, Outcome, SubDag};
use crate::types::{BlockDigest, BlockRef, CommitIndex, Digest, LeafIndex, Round, TimestampMs, TxId};

/// What a run found to be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Two validators ordered differently.
    #[error("agreement: commit {commit} is {found:?} on validator {host} and {first:?} on another")]
    Order {
        /// The commit.
        commit: CommitIndex,
        /// Where it differs.
        host: usize,
        /// Its digest there.
        found: Digest,
        /// Its digest elsewhere.
        first: Digest,
    },
    /// Two validators have different states after the same commit.
    #[error("agreement: after commit {0} two validators have different states")]
    State(CommitIndex),
    /// An honest validator signed two blocks of one round: it had sent the first before it was durable, or forgot it.
    #[error("validator {host} made two blocks of round {round}")]
    Equivocation {
        /// Who.
        host: usize,
        /// The round.
        round: Round,
    },
    /// A transaction was executed at two places.
    #[error("transaction {0} was executed twice")]
    Twice(TxId),
    /// A client was told final and a validator does not have it.
    #[error(
        "transaction {id} was acknowledged at leaf {leaf}, and validator {host} has it not, or elsewhere"
    )]
    Lost {
        /// The transaction.
        id: TxId,
        /// Where it was said to be.
        leaf: LeafIndex,
        /// Who does not have it.
        host: usize,
    },
    /// A validator blamed an honest one, halted, or a disk failed that had no fault.
    #[error("validator {host}: {what}")]
    Host {
        /// Who.
        host: usize,
        /// What happened.
        what: String,
    },
    /// A transaction met an end that the workload does not provoke.
    #[error("transaction {0} ended as {1}")]
    Outcome(TxId, String),
    /// No order explains what callers saw.
    #[error("history: {0}")]
    History(String),
    /// Block time went back.
    #[error("commit {0} has an earlier time than the one before it")]
    Time(CommitIndex),
    /// A validator holds more than garbage collection and the horizon allow.
    #[error("validator {host} holds {blocks} blocks, of which {suspended} are suspended: more than {limit}")]
    Memory {
        /// Who.
        host: usize,
        /// In its DAG.
        blocks: usize,
        /// Waiting for ancestors.
        suspended: usize,
        /// The limit of each.
        limit: usize,
    },
    /// A validator holds more bytes than its configuration allows.
    #[error("validator {host} holds {bytes} bytes, and is to hold {limit}")]
    Bytes {
        /// Who.
        host: usize,
        /// What its headers, payloads and transactions take.
        bytes: usize,
        /// The bound of its configuration.
        limit: usize,
    },
    /// A validator makes blocks and commits nothing.
    #[error("validator {host} made {blocks} blocks without a commit")]
    Burns {
        /// Who.
        host: usize,
        /// How many.
        blocks: u64,
    },
    /// A damaged log was opened as if it were whole.
    #[error("validator {host} opened a log with {damage} in it as if it were whole")]
    Silent {
        /// Who.
        host: usize,
        /// What had been done to it.
        damage: String,
    },
    /// A validator of an older version was sent what it cannot read.
    #[error("validator {host} of protocol version {version} was sent a header of version {header}")]
    Version {
        /// Who.
        host: usize,
        /// What it speaks.
        version: u16,
        /// What it was sent.
        header: u8,
    },
    /// A failure on purpose.
    #[error("canary: this seed fails on purpose")]
    Canary,
    /// Something was not final long after the faults had stopped.
    #[error(
        "liveness: {waiting} transactions wait {after_s} simulated seconds after the faults stopped; {state}"
    )]
    Stuck {
        /// How many.
        waiting: usize,
        /// How long.
        after_s: u64,
        /// Where the validators stand.
        state: String,
    },
}

/// What a run without violation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash of everything that happened, in order.
    pub trace: Digest,
    /// Simulated time, microseconds.
    pub simulated_us: u64,
    /// Events handled.
    pub events: u64,
    /// Highest commit executed.
    pub commits: u64,
    /// Transactions that clients were told are final.
    pub acknowledged: u64,
    /// Leaves in the log.
    pub leaves: u64,
    /// Transactions that came to a validator, each time that they did.
    pub submissions: u64,
    /// Of these, those that clients heard a full pool refused.
    pub busy: u64,
    /// Most transactions in the pool of any validator.
    pub pool_max: usize,
    /// Messages lost to loss and partitions.
    pub lost_messages: u64,
    /// Messages delivered twice.
    pub replayed_messages: u64,
    /// Single validators that were stopped and started again.
    pub restarts: u64,
    /// Times that all were stopped at once.
    pub blackouts: u64,
    /// Partitions.
    pub partitions: u64,
    /// Checkpoints that a quorum signed.
    pub checkpoints: u64,
    /// Hosts whose links were slow for a while.
    pub slow_hosts: u64,
    /// Hosts that lost a part of what they sent for a while.
    pub lossy_hosts: u64,
    /// Hosts whose clock ran at another speed.
    pub drifting: u64,
    /// Calls of a disk that failed, and stopped the host.
    pub disk_errors: u64,
    /// Logs that were damaged.
    pub damages: u64,
    /// Of these, those that were refused at the start, and so repaired.
    pub damages_detected: u64,
    /// Logs that were lost.
    pub lost_logs: u64,
    /// Single validators that were upgraded.
    pub upgrades: u64,
    /// Headers of the newest version that were sent, by their authors.
    pub newest_headers: u64,
    /// Highest round of an own block.
    pub rounds: u64,
    /// Most headers that waited for ancestors on any validator.
    pub suspended_max: usize,
    /// Longest time from the end of the faults until a core of the least size had made everything final.
    pub core_drain_us: u64,
    /// If measured: from the making of each honest block until each honest validator committed it, microseconds.
    pub block_latency_us: Vec<u64>,
    /// If measured: from a client's submission until it heard that its transaction is final, microseconds.
    pub client_latency_us: Vec<u64>,
    /// Times that somebody Byzantine was blamed.
    pub blamed: u64,
    /// What those did.
    pub lies: Lies,
    /// Validators that every honest one holds proof against, of two blocks of one round.
    pub convicted: u64,
    /// Most blocks in the DAG of any validator.
    pub dag_blocks_max: usize,
    /// Most bytes that the headers, payloads and transactions of any validator took.
    pub bytes_max: usize,
}

/// Compares what the validators do.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// What each validator has sent of its own.
    sent: BTreeMap<(usize, Round), BlockDigest>,
    orders: BTreeMap<CommitIndex, (Digest, TimestampMs)>,
    heads: BTreeMap<CommitIndex, LedgerHead>,
    /// For each commit its executed transactions, from whoever executed it first.
    executed: BTreeMap<TxId, (CommitIndex, LeafIndex)>,
    acknowledged: BTreeMap<TxId, LeafIndex>,
    /// What honest validators took in.
    pub(super) taken: Taken,
}

impl Checker {
    /// A validator sends a block of its own.
    pub(super) fn sent(&mut self, host: usize, block: &BlockRef) -> Result<(), Violation> {
        if *self.sent.entry((host, block.round)).or_insert(block.digest) != block.digest {
            return Err(Violation::Equivocation { host, round: block.round });
        }
        Ok(())
    }

    /// A validator is about to execute a commit.
    pub(super) fn ordered(&mut self, host: usize, dag: &SubDag) -> Result<(), Violation> {
        let (first, _) = *self.orders.entry(dag.index).or_insert((dag.digest, dag.time));
        let before = self.orders.range(..dag.index).next_back();
        if before.is_some_and(|(_, (_, time))| *time > dag.time) {
            return Err(Violation::Time(dag.index));
        }
        if first != dag.digest {
            return Err(Violation::Order { commit: dag.index, host, found: dag.digest, first });
        }
        Ok(())
    }

    /// A validator has executed a commit.
    pub(super) fn executed(&mut self, dag: &SubDag, executed: &Executed) -> Result<(), Violation> {
        let head = executed.head;
        if *self.heads.entry(head.commit).or_insert(head) != head {
            return Err(Violation::State(head.commit));
        }
        let mut here = BTreeSet::new();
        for (block, outcome) in dag.blocks.iter().zip(&executed.blocks) {
            for (i, outcome) in outcome.outcomes.iter().enumerate() {
                let Outcome::Executed { leaf, .. } = outcome else { continue };
                let id = block.payload.id(i);
                let place = (head.commit, *leaf);
                if !here.insert(id) || *self.executed.entry(id).or_insert(place) != place {
                    return Err(Violation::Twice(id));
                }
            }
        }
        Ok(())
    }

    /// A client was told that its transaction is final.
    pub(super) fn acknowledge(&mut self, id: TxId, leaf: LeafIndex) -> Result<(), Violation> {
        if *self.acknowledged.entry(id).or_insert(leaf) != leaf {
            return Err(Violation::Twice(id));
        }
        Ok(())
    }

    /// Forgets what every validator is past: for runs so long that it would not fit.
    pub(super) fn forget_below(&mut self, commit: CommitIndex, round: Round) {
        self.orders = self.orders.split_off(&commit);
        self.heads = self.heads.split_off(&commit);
        self.executed.retain(|_, (at, _)| *at >= commit);
        self.sent.retain(|(_, at), _| *at >= round);
    }

    /// All that clients were told.
    pub(super) fn acknowledged(&self) -> &BTreeMap<TxId, LeafIndex> {
        &self.acknowledged
    }

    /// The last commit that anybody executed, with the ledger after it.
    pub(super) fn last(&self) -> Option<&LedgerHead> {
        self.heads.last_key_value().map(|(_, head)| head)
    }
}
