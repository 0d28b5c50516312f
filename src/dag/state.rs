//! Blocks that entered the DAG, above the garbage-collection round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::VerifiedHeader;
use super::block_manager::held_bytes;
use super::row::Row;
use super::rules::ancestors;
use crate::committee::{AuthoritySet, Committee, StakeSum};
use crate::execute::Verdict;
use crate::planted::{self, Bug};
use crate::types::{AuthorityIndex, BlockRef, LogSeq, Payload, Round};

/// What a payload takes beside its bytes, for each transaction: where it lies, its id, its verdict. Transactions of no bytes
/// are few on the wire and as many in memory.
const SLOT_BYTES: usize = 48;

/// Estimate of the memory of one payload with its verdicts.
#[must_use]
pub fn payload_held_bytes(payload: &Payload) -> usize {
    payload.bytes().len() + SLOT_BYTES * payload.len()
}

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
    /// Authors with a block of the next round that votes for it.
    pub voters: AuthoritySet,
    /// Authors with a block two rounds later that certifies it: with enough votes for it among its parents.
    pub certifiers: AuthoritySet,
}

/// The DAG. Every block in it has its ancestors in it, as far as they lie above [`DagState::gc_round`].
///
/// Votes, blames and certificates are counted as blocks enter. Since ancestors enter first, what a block says of earlier
/// rounds is known in full at that moment, and the counts depend on the blocks that are here, not on their order.
#[derive(Debug)]
pub struct DagState {
    committee: Arc<Committee>,
    rows: BTreeMap<Round, Row>,
    blocks: usize,
    /// For a block that is not available: those that have it as ancestor.
    dependents: BTreeMap<BlockRef, Vec<BlockRef>>,
    gc_round: Round,
    highest_round: Round,
    /// For each authority its available block of the highest round.
    latest_available: Vec<Option<BlockRef>>,
    /// Transactions in blocks that no commit holds yet.
    uncommitted_transactions: u64,
    /// Estimate of the memory of headers.
    header_bytes: usize,
    /// Estimate of the memory of payloads that are not executed.
    payload_bytes: usize,
}

impl DagState {
    /// Holds nothing; the genesis blocks are implied.
    #[must_use]
    pub fn new(committee: Arc<Committee>, gc_round: Round) -> Self {
        let latest_available = vec![None; committee.size()];
        Self {
            committee,
            latest_available,
            rows: BTreeMap::new(),
            blocks: 0,
            dependents: BTreeMap::new(),
            gc_round,
            highest_round: Round(0),
            uncommitted_transactions: 0,
            header_bytes: 0,
            payload_bytes: 0,
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

    /// Estimate of the memory that headers take.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Estimate of the memory that the payloads take that are held.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Number of blocks held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks
    }

    /// Whether no block is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Transactions in blocks that no commit holds yet.
    #[must_use]
    pub fn uncommitted_transactions(&self) -> u64 {
        self.uncommitted_transactions
    }

    /// Whether a block is here, or need not be: genesis and what garbage collection took.
    #[must_use]
    pub fn contains(&self, block: &BlockRef) -> bool {
        block.round <= self.gc_round || block.round == Round(0) || self.get(block).is_some()
    }

    /// A block that is here.
    #[must_use]
    pub fn get(&self, block: &BlockRef) -> Option<&DagBlock> {
        self.rows.get(&block.round)?.get(block)
    }

    fn get_mut(&mut self, block: &BlockRef) -> Option<&mut DagBlock> {
        self.rows.get_mut(&block.round)?.get_mut(block)
    }

    /// All blocks of a round, by author.
    pub fn round(&self, round: Round) -> impl Iterator<Item = (&BlockRef, &DagBlock)> {
        self.rows.get(&round).into_iter().flat_map(Row::blocks)
    }

    /// Number of blocks of a round.
    #[must_use]
    pub fn round_len(&self, round: Round) -> usize {
        self.rows.get(&round).map_or(0, Row::len)
    }

    /// Blocks of one author in one round: more than one if it equivocated.
    pub fn slot(&self, round: Round, author: AuthorityIndex) -> impl Iterator<Item = (&BlockRef, &DagBlock)> {
        let blocks = self.rows.get(&round).map_or(&[][..], |row| row.slot(author));
        blocks.iter().map(|(block, entry)| (block, entry))
    }

    /// Authors with a block of the next round that votes for no block of (round, author).
    #[must_use]
    pub fn blamers(&self, round: Round, author: AuthorityIndex) -> AuthoritySet {
        self.rows.get(&round).map_or(AuthoritySet::EMPTY, |row| row.blamers(author))
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
        self.stake(round, |row| row.available)
    }

    /// Stake that has a block in `round`. In round 0 that is everybody.
    #[must_use]
    pub fn accepted_stake(&self, round: Round) -> StakeSum {
        self.stake(round, |row| row.accepted)
    }

    fn stake(&self, round: Round, of: impl Fn(&Row) -> StakeSum) -> StakeSum {
        if round == Round(0) {
            let mut sum = StakeSum::new();
            for author in self.committee.indices() {
                sum.add(&self.committee, author);
            }
            return sum;
        }
        self.rows.get(&round).map_or_else(StakeSum::new, of)
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
            voters: AuthoritySet::EMPTY,
            certifiers: AuthoritySet::EMPTY,
        };
        for ancestor in ancestors(&entry.header) {
            if self.get(ancestor).is_some_and(|a| !a.available) {
                self.dependents.entry(*ancestor).or_default().push(block);
            }
        }
        self.highest_round = self.highest_round.max(block.round);
        self.uncommitted_transactions += u64::from(n_tx);
        self.blocks += 1;
        self.header_bytes += held_bytes(&entry.header);
        self.count_votes(&block, &entry.header.clone());
        let row = self.rows.entry(block.round).or_insert_with(|| Row::new(&self.committee));
        row.insert(&self.committee, block, entry);
        self.settle_availability(block)
    }

    /// Notes what a block that enters says of the two rounds before it.
    fn count_votes(&mut self, block: &BlockRef, header: &VerifiedHeader) {
        let voting = block.round.previous();
        if voting <= self.gc_round {
            return;
        }
        let parents: Vec<&BlockRef> = ancestors(header).iter().filter(|a| a.round == voting).collect();
        let named: AuthoritySet = parents.iter().map(|parent| parent.author).collect();
        let everybody: AuthoritySet = self.committee.indices().collect();
        let committee = &self.committee;
        let row = self.rows.entry(voting).or_insert_with(|| Row::new(committee));
        row.blame(everybody.difference(named), block.author);
        // An author with several blocks may vote for several; only the one that is a parent here is heard.
        let mut doubtful = Vec::new();
        for parent in parents {
            if let Some(entry) = row.get_mut(parent) {
                entry.voters.insert(block.author);
            }
            if planted::is(Bug::VoteForBoth) {
                row.vote_for_all(parent.author, block.author);
            }
            if row.slot(parent.author).len() != 1 {
                doubtful.push(*parent);
            }
        }
        let leading = voting.previous();
        let Some(mut row) = self.rows.remove(&leading) else { return };
        let sure = named.difference(doubtful.iter().map(|parent| parent.author).collect());
        row.certify(&self.committee, block.author, |leader, entry| {
            let mut votes = entry.voters.intersection(sure);
            for parent in &doubtful {
                if self.get(parent).is_some_and(|entry| ancestors(&entry.header).contains(leader)) {
                    votes.insert(parent.author);
                }
            }
            votes
        });
        self.rows.insert(leading, row);
    }

    /// Adds the payload of a block that is here, once. Returns blocks that became available by it.
    pub fn set_payload(&mut self, block: &BlockRef, payload: Arc<Payload>, seq: LogSeq) -> Vec<BlockRef> {
        let Some(entry) = self.get_mut(block) else { return Vec::new() };
        let bytes = payload_held_bytes(&payload);
        let before = entry.payload.replace(payload).map_or(0, |before| payload_held_bytes(&before));
        entry.payload_seq = Some(seq);
        self.payload_bytes = self.payload_bytes + bytes - before;
        self.settle_availability(*block)
    }

    /// Notes what the pipeline found for a block's transactions.
    pub fn set_verdicts(&mut self, block: &BlockRef, verdicts: Arc<[Verdict]>) {
        if let Some(entry) = self.get_mut(block) {
            entry.verdicts = Some(verdicts);
        }
    }

    /// Lets go of payload and verdicts of a block that was executed; the log keeps them.
    pub fn drop_payload(&mut self, block: &BlockRef) {
        if let Some(entry) = self.get_mut(block) {
            let bytes = entry.payload.take().map_or(0, |payload| payload_held_bytes(&payload));
            entry.verdicts = None;
            self.payload_bytes -= bytes;
        }
    }

    /// Marks a block as part of a commit.
    pub fn set_committed(&mut self, block: &BlockRef) {
        if let Some(entry) = self.get_mut(block) {
            assert!(!entry.committed, "{block} was committed twice");
            entry.committed = true;
            self.uncommitted_transactions -= u64::from(entry.header.header().n_tx);
        }
    }

    /// Whether `block` has nothing left to wait for.
    fn is_complete(&self, block: &BlockRef) -> bool {
        self.get(block).is_some_and(|entry| {
            entry.payload_seq.is_some()
                && ancestors(&entry.header).iter().all(|a| self.get(a).is_none_or(|a| a.available))
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
            let Some(row) = self.rows.get_mut(&block.round) else { continue };
            let Some(entry) = row.get_mut(&block) else { continue };
            if std::mem::replace(&mut entry.available, true) {
                continue;
            }
            row.available.add(&self.committee, block.author);
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
        let mut orphans = Vec::new();
        let mut waiting = BTreeSet::new();
        let rows = &mut self.rows;
        let gone = std::iter::from_fn(|| {
            rows.first_entry().filter(|row| *row.key() <= round).map(|row| row.remove())
        });
        for (block, entry) in gone.flat_map(Row::into_blocks) {
            self.blocks -= 1;
            self.header_bytes -= held_bytes(&entry.header);
            self.payload_bytes -= entry.payload.as_deref().map_or(0, payload_held_bytes);
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
