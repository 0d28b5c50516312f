//! Blocks that entered the DAG, above the garbage-collection round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::VerifiedHeader;
use super::rules::ancestors;
use crate::committee::{Committee, StakeSum};
use crate::execute::Verdict;
use crate::types::{AuthorityIndex, BlockDigest, BlockRef, LogSeq, Payload, Round};

/// One block of the DAG.
#[derive(Debug, Clone)]
pub struct DagBlock {
    /// Its header.
    pub header: VerifiedHeader,
    /// Its transactions, once they are here; dropped again after execution.
    pub payload: Option<Arc<Payload>>,
    /// Where the log holds the payload.
    pub payload_seq: Option<LogSeq>,
    /// What the pipeline found, one verdict for each transaction.
    pub verdicts: Option<Arc<[Verdict]>>,
    /// Whether payload and the payloads of the whole history (above garbage collection) are here.
    pub available: bool,
    /// Whether a commit holds it.
    pub committed: bool,
}

/// The DAG. Every block in it has its ancestors in it, as far as they lie above [`DagState::gc_round`].
#[derive(Debug)]
pub struct DagState {
    committee: Arc<Committee>,
    blocks: BTreeMap<BlockRef, DagBlock>,
    /// For a block that is not available: those that have it as ancestor.
    dependents: BTreeMap<BlockRef, Vec<BlockRef>>,
    gc_round: Round,
    highest_round: Round,
    /// For each authority its available block of the highest round.
    latest_available: Vec<Option<BlockRef>>,
    /// Transactions in blocks that no commit holds yet.
    uncommitted_transactions: u64,
}

impl DagState {
    /// Holds nothing; the genesis blocks are implied.
    #[must_use]
    pub fn new(committee: Arc<Committee>, gc_round: Round) -> Self {
        let latest_available = vec![None; committee.size()];
        Self {
            committee,
            latest_available,
            blocks: BTreeMap::new(),
            dependents: BTreeMap::new(),
            gc_round,
            highest_round: Round(0),
            uncommitted_transactions: 0,
        }
    }

    /// The committee.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Blocks of this round and below are gone, and count as present wherever an ancestor is asked for.
    #[must_use]
    pub fn gc_round(&self) -> Round {
        self.gc_round
    }

    /// Highest round that has a block.
    #[must_use]
    pub fn highest_round(&self) -> Round {
        self.highest_round
    }

    /// Number of blocks held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no block is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Transactions in blocks that no commit holds yet.
    #[must_use]
    pub fn uncommitted_transactions(&self) -> u64 {
        self.uncommitted_transactions
    }

    /// Whether a block is here, or need not be: genesis and what garbage collection took.
    #[must_use]
    pub fn contains(&self, block: &BlockRef) -> bool {
        block.round <= self.gc_round || block.round == Round(0) || self.blocks.contains_key(block)
    }

    /// A block that is here.
    #[must_use]
    pub fn get(&self, block: &BlockRef) -> Option<&DagBlock> {
        self.blocks.get(block)
    }

    /// All blocks of a round, by author.
    pub fn round(&self, round: Round) -> impl Iterator<Item = (&BlockRef, &DagBlock)> {
        self.blocks.range(first_of(round, 0)..first_of(round.next(), 0))
    }

    /// Blocks of one author in one round: more than one if it equivocated.
    pub fn slot(&self, round: Round, author: AuthorityIndex) -> impl Iterator<Item = (&BlockRef, &DagBlock)> {
        let last = BlockRef { round, author, digest: BlockDigest([0xff; 32]) };
        self.blocks.range(first_of(round, author.0)..=last)
    }

    /// The block that `author` made in the latest round below `before`, if it is available. Of an equivocator, the first.
    #[must_use]
    pub fn latest_available(&self, author: AuthorityIndex, before: Round) -> Option<BlockRef> {
        let latest = self.latest_available[author.as_usize()].filter(|block| block.round > self.gc_round)?;
        if latest.round < before {
            return Some(latest);
        }
        let mut round = before.previous();
        while round > self.gc_round {
            if let Some((block, _)) = self.slot(round, author).find(|(_, entry)| entry.available) {
                return Some(*block);
            }
            round = round.previous();
        }
        None
    }

    /// Stake that has an available block in `round`. In round 0 that is everybody.
    #[must_use]
    pub fn available_stake(&self, round: Round) -> StakeSum {
        self.stake_where(round, |entry| entry.available)
    }

    /// Stake that has a block in `round`. In round 0 that is everybody.
    #[must_use]
    pub fn accepted_stake(&self, round: Round) -> StakeSum {
        self.stake_where(round, |_| true)
    }

    fn stake_where(&self, round: Round, counts: impl Fn(&DagBlock) -> bool) -> StakeSum {
        let mut sum = StakeSum::new();
        if round == Round(0) {
            for author in self.committee.indices() {
                sum.add(&self.committee, author);
            }
        }
        for (block, entry) in self.round(round) {
            if counts(entry) {
                sum.add(&self.committee, block.author);
            }
        }
        sum
    }

    /// Enters a block whose ancestors are all here (the block manager sees to that). Returns blocks that became
    /// available by it: itself, if it has no transactions and its history is complete.
    ///
    /// # Panics
    /// If it is here already or an ancestor is missing: that is a bug of ours.
    pub fn insert(&mut self, header: VerifiedHeader) -> Vec<BlockRef> {
        assert!(
            ancestors(&header).iter().all(|ancestor| self.contains(ancestor)),
            "{} entered the DAG before its ancestors",
            header.reference()
        );
        self.restore(header)
    }

    /// Enters a block that was in the DAG before a restart. Garbage collection may have reached farther then than it
    /// does now, so that an ancestor may be missing that no commit can hold any more; it counts as available.
    ///
    /// # Panics
    /// If it is here already.
    pub fn restore(&mut self, header: VerifiedHeader) -> Vec<BlockRef> {
        let block = header.reference();
        let n_tx = header.header().n_tx;
        let empty = n_tx == 0;
        let entry = DagBlock {
            header,
            payload: empty.then(|| Arc::new(Payload::empty())),
            payload_seq: empty.then_some(LogSeq(0)),
            verdicts: empty.then(|| Vec::new().into()),
            available: false,
            committed: false,
        };
        for ancestor in ancestors(&entry.header) {
            if self.blocks.get(ancestor).is_some_and(|a| !a.available) {
                self.dependents.entry(*ancestor).or_default().push(block);
            }
        }
        self.highest_round = self.highest_round.max(block.round);
        self.uncommitted_transactions += u64::from(n_tx);
        assert!(self.blocks.insert(block, entry).is_none(), "{block} entered the DAG twice");
        self.settle_availability(block)
    }

    /// Adds the payload of a block that is here, once. Returns blocks that became available by it.
    pub fn set_payload(&mut self, block: &BlockRef, payload: Arc<Payload>, seq: LogSeq) -> Vec<BlockRef> {
        let Some(entry) = self.blocks.get_mut(block) else { return Vec::new() };
        entry.payload = Some(payload);
        entry.payload_seq = Some(seq);
        self.settle_availability(*block)
    }

    /// Notes what the pipeline found for a block's transactions.
    pub fn set_verdicts(&mut self, block: &BlockRef, verdicts: Arc<[Verdict]>) {
        if let Some(entry) = self.blocks.get_mut(block) {
            entry.verdicts = Some(verdicts);
        }
    }

    /// Lets go of payload and verdicts of a block that was executed; the log keeps them.
    pub fn drop_payload(&mut self, block: &BlockRef) {
        if let Some(entry) = self.blocks.get_mut(block) {
            entry.payload = None;
            entry.verdicts = None;
        }
    }

    /// Marks a block as part of a commit.
    pub fn set_committed(&mut self, block: &BlockRef) {
        if let Some(entry) = self.blocks.get_mut(block) {
            assert!(!entry.committed, "{block} was committed twice");
            entry.committed = true;
            self.uncommitted_transactions -= u64::from(entry.header.header().n_tx);
        }
    }

    /// Whether `block` has nothing left to wait for.
    fn is_complete(&self, block: &BlockRef) -> bool {
        self.blocks.get(block).is_some_and(|entry| {
            entry.payload_seq.is_some()
                && ancestors(&entry.header).iter().all(|a| self.blocks.get(a).is_none_or(|a| a.available))
        })
    }

    /// Marks `start` and what waited for it available, as far as it is so.
    fn settle_availability(&mut self, start: BlockRef) -> Vec<BlockRef> {
        let mut settled = Vec::new();
        let mut queue = vec![start];
        while let Some(block) = queue.pop() {
            if !self.is_complete(&block) {
                continue;
            }
            let Some(entry) = self.blocks.get_mut(&block) else { continue };
            if std::mem::replace(&mut entry.available, true) {
                continue;
            }
            let latest = &mut self.latest_available[block.author.as_usize()];
            if latest.is_none_or(|latest| latest.round < block.round) {
                *latest = Some(block);
            }
            settled.push(block);
            queue.extend(self.dependents.remove(&block).unwrap_or_default());
        }
        settled.sort_unstable();
        settled
    }

    /// Forgets every block of `round` and below. Returns those that no commit held.
    pub fn collect_garbage(&mut self, round: Round) -> Vec<BlockRef> {
        if round <= self.gc_round {
            return Vec::new();
        }
        self.gc_round = round;
        let kept = self.blocks.split_off(&first_of(round.next(), 0));
        let gone = std::mem::replace(&mut self.blocks, kept);
        let mut orphans = Vec::new();
        let mut waiting = BTreeSet::new();
        for (block, entry) in gone {
            if !entry.committed {
                self.uncommitted_transactions -= u64::from(entry.header.header().n_tx);
                orphans.push(block);
            }
            waiting.extend(self.dependents.remove(&block).unwrap_or_default());
        }
        // A block that waited for the payload of a collected one need not wait any longer.
        for block in waiting {
            self.settle_availability(block);
        }
        orphans
    }
}

fn first_of(round: Round, author: u16) -> BlockRef {
    BlockRef { round, author: AuthorityIndex(author), digest: BlockDigest([0; 32]) }
}
