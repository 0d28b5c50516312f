//! Lets headers into the DAG in causal order: one that comes before its ancestors is suspended until they are here.
//!
//! # What bounds it, and why honest needs get through
//! - **Suspended headers** are charged to the peer whose connection brought them: each may have [`ManagerLimits`] blocks
//!   and bytes here. Over it, that peer's own suspended header of the highest round makes room if the new one is lower, else
//!   the new one is refused; others' headers are never touched. What was let go is fetched again when it is needed. A header
//!   whose ancestors are all here is never suspended, hence never charged; what is missing is fetched from the lowest round up, and
//!   what lies more than a few rounds ahead in causal order, so a few rounds of room are enough for an honest peer to be of use.
//! - **Slots.** Of an author one block of each round is taken, and a second, since it proves the equivocation. More of one
//!   slot, and any second block of an author that is proven already, enter only if another block needs them. One that a block
//!   of an author names which has not equivocated enters freely: such authors have one block a slot, so these are few.
//!   Other needing is charged:
//!   to the nearest author that names the block, directly or through others, and has not equivocated itself; or, if only
//!   equivocators do, to the block's own author. Each has an account of [`ManagerLimits::extra_blocks`] blocks above garbage
//!   collection. An author that has not equivocated has one chain of blocks, the same for everybody, so what its account holds is
//!   the same everywhere: a block that one honest validator could take, the others can take as well. Equivocators that name
//!   each other's blocks, of which there may be exponentially many, share the accounts of these few.
//! - **Rounds** at most `horizon` above the DAG's. What is farther ahead is fetched in causal order.

mod account;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::rules::ancestors;
use super::{DagState, VerifiedHeader};
use crate::types::{AuthorityIndex, BlockRef, Round};
use account::{Accounts, Shelf};

/// Blocks of one slot that are taken from an author that was not known to equivocate: the second is the proof.
const PUSHED_PER_SLOT_MAX: usize = 2;
/// Suspended headers that are looked at to find out who needs a block.
const NEED_SEARCH_MAX: usize = 1_024;
/// Bytes that an ancestor that is waited for takes: its places in two maps, with a set of its own.
const MISSING_BYTES: usize = 640;
/// Bytes that a held header takes beside its encoding: its fields, its ancestors again, and its places in maps.
const HEADER_OVERHEAD_BYTES: usize = 512;

/// What came of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It and perhaps others that waited for it are ready to enter the DAG, in this order.
    Accepted(Vec<VerifiedHeader>),
    /// It waits for ancestors, of which these were not known to be missing before.
    Suspended(Vec<BlockRef>),
    /// It is here already, waits already, or is too old to matter.
    Known,
    /// It is too far ahead, one of too many of its slot, or its sender has too many waiting, and was dropped.
    Refused,
}

/// Bounds of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagerLimits {
    /// Rounds that a header may be above the DAG.
    pub horizon: u64,
    /// Suspended headers that one peer may have brought.
    pub sender_blocks: usize,
    /// Bytes of them.
    pub sender_bytes: usize,
    /// Blocks beyond the first two of a slot that one author may have enter.
    pub extra_blocks: usize,
}

impl Default for ManagerLimits {
    fn default() -> Self {
        Self { horizon: 256, sender_blocks: 4_096, sender_bytes: 8 << 20, extra_blocks: 64 }
    }
}

/// Headers that wait for ancestors. See the module's text.
#[derive(Debug)]
pub struct BlockManager {
    suspended: BTreeMap<BlockRef, Suspended>,
    /// For each missing block, those that wait for it.
    missing: BTreeMap<BlockRef, BTreeSet<BlockRef>>,
    /// What each peer has brought of the suspended ones.
    shelves: Vec<Shelf>,
    accounts: Accounts,
    limits: ManagerLimits,
    /// Counts the changes of `missing`.
    changes: u64,
}

#[derive(Debug)]
struct Suspended {
    header: VerifiedHeader,
    from: AuthorityIndex,
    waits_for: BTreeSet<BlockRef>,
}

impl BlockManager {
    /// Waits for nothing, for a committee of `size`.
    #[must_use]
    pub fn new(size: usize, limits: ManagerLimits) -> Self {
        Self {
            suspended: BTreeMap::new(),
            missing: BTreeMap::new(),
            shelves: vec![Shelf::default(); size],
            accounts: Accounts::new(size, limits.extra_blocks),
            limits,
            changes: 0,
        }
    }

    /// Blocks that others wait for and that are neither here nor suspended themselves, with the blocks that name them.
    pub fn missing(&self) -> impl Iterator<Item = (&BlockRef, &BTreeSet<BlockRef>)> {
        self.missing.iter().filter(|(block, _)| !self.suspended.contains_key(block))
    }

    /// Whether others wait for a block that is not suspended itself.
    #[must_use]
    pub fn is_missing(&self, block: &BlockRef) -> bool {
        self.missing.contains_key(block) && !self.suspended.contains_key(block)
    }

    /// The suspended headers that name a block.
    pub fn waiting_for(&self, block: &BlockRef) -> impl Iterator<Item = &BlockRef> {
        self.missing.get(block).into_iter().flatten()
    }

    /// The peer that brought a suspended header.
    #[must_use]
    pub fn sender(&self, block: &BlockRef) -> Option<AuthorityIndex> {
        self.suspended.get(block).map(|suspended| suspended.from)
    }

    /// Changes whenever what is missing does.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Number of headers that wait.
    #[must_use]
    pub fn suspended_len(&self) -> usize {
        self.suspended.len()
    }

    /// Estimate of the memory that they take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.shelves.iter().map(Shelf::bytes).sum()
    }

    /// Takes a header that `from` sent. Accepted ones are to be inserted into `dag` by the caller, in order and before the
    /// next call.
    pub fn admit(&mut self, dag: &DagState, from: AuthorityIndex, header: VerifiedHeader) -> Admission {
        let block = header.reference();
        if dag.contains(&block) || self.suspended.contains_key(&block) {
            return Admission::Known;
        }
        let payer = match self.payer(dag, &block) {
            Ok(payer) => payer,
            Err(Refused) => return Admission::Refused,
        };
        let waits_for: BTreeSet<BlockRef> =
            ancestors(&header).iter().filter(|ancestor| !dag.contains(ancestor)).copied().collect();
        if !waits_for.is_empty() && !self.make_room(from, &header) {
            return Admission::Refused;
        }
        if let Some(payer) = payer {
            self.accounts.charge(payer, block);
        }
        if waits_for.is_empty() {
            return Admission::Accepted(self.release(header));
        }
        self.suspend(from, header, waits_for)
    }

    fn suspend(
        &mut self,
        from: AuthorityIndex,
        header: VerifiedHeader,
        waits_for: BTreeSet<BlockRef>,
    ) -> Admission {
        let block = header.reference();
        let mut news = Vec::new();
        for ancestor in &waits_for {
            let waiting = self.missing.entry(*ancestor).or_default();
            if waiting.is_empty() && !self.suspended.contains_key(ancestor) {
                news.push(*ancestor);
            }
            waiting.insert(block);
        }
        self.changes += 1;
        self.shelves[from.as_usize()].add(block, waiting_bytes(&header));
        self.suspended.insert(block, Suspended { header, from, waits_for });
        Admission::Suspended(news)
    }

    /// Whose account a block is charged to; nobody's if it is within the quota of its slot.
    fn payer(&mut self, dag: &DagState, block: &BlockRef) -> Result<Option<AuthorityIndex>, Refused> {
        let slot = slot_range(block.round, block.author);
        let known = dag.slot(block.round, block.author).count() + self.suspended.range(slot).count();
        let quota = if self.accounts.is_proven(block.author) { 1 } else { PUSHED_PER_SLOT_MAX };
        if known > 0 {
            self.accounts.prove(*block);
        }
        if known < quota && block.round.0 <= dag.highest_round().0 + self.limits.horizon {
            return Ok(None);
        }
        if self.is_named_by_honest(block) {
            return Ok(None);
        }
        let needed_by = self.needed_by(block);
        if needed_by.is_empty() {
            return Err(Refused);
        }
        if known == 0 {
            // Far ahead, and needed: the only one of its slot.
            return Ok(None);
        }
        let payer =
            needed_by.into_iter().find(|by| !self.accounts.is_proven(*by) && self.accounts.has_room(*by));
        let payer = payer.or_else(|| Some(block.author).filter(|author| self.accounts.has_room(*author)));
        payer.map(Some).ok_or(Refused)
    }

    /// Whether a block of an author that is not proven to have equivocated names it. There is one such block for each slot,
    /// and it names one of each author: few, and what honest validators have named has to get in.
    fn is_named_by_honest(&self, block: &BlockRef) -> bool {
        let waiting = self.missing.get(block).into_iter().flatten();
        waiting.into_iter().any(|by| by.author != block.author && !self.accounts.is_proven(by.author))
    }

    /// Authors other than its own that wait for a block, if only through later blocks that wait for it; the nearest first.
    fn needed_by(&self, block: &BlockRef) -> Vec<AuthorityIndex> {
        let mut authors = Vec::new();
        let mut seen = BTreeSet::from([*block]);
        let mut open = std::collections::VecDeque::from([*block]);
        while let Some(named) = open.pop_front() {
            for by in self.missing.get(&named).into_iter().flatten() {
                if by.author != block.author && !authors.contains(&by.author) {
                    authors.push(by.author);
                }
                if seen.len() < NEED_SEARCH_MAX && seen.insert(*by) {
                    open.push_back(*by);
                }
            }
        }
        authors
    }

    /// Lets headers of higher rounds go that the same peer brought, until there is room for one more.
    fn make_room(&mut self, from: AuthorityIndex, header: &VerifiedHeader) -> bool {
        let bytes = waiting_bytes(header);
        let shelf = &self.shelves[from.as_usize()];
        let (mut len, mut held) = (shelf.len(), shelf.bytes());
        let mut evicted = Vec::new();
        for (block, size) in shelf.highest_first() {
            if len < self.limits.sender_blocks && held + bytes <= self.limits.sender_bytes {
                break;
            }
            if *block < header.reference() {
                return false;
            }
            evicted.push(*block);
            len -= 1;
            held -= size;
        }
        for block in evicted {
            self.evict(&block);
        }
        true
    }

    fn evict(&mut self, block: &BlockRef) {
        let Some(suspended) = self.suspended.remove(block) else { return };
        self.changes += 1;
        self.shelves[suspended.from.as_usize()].remove(block);
        self.accounts.refund(block);
        for ancestor in &suspended.waits_for {
            if let Some(waiting) = self.missing.get_mut(ancestor) {
                waiting.remove(block);
                if waiting.is_empty() {
                    self.missing.remove(ancestor);
                }
            }
        }
    }

    /// The header, and every suspended one that waited for nothing else, parents first.
    fn release(&mut self, header: VerifiedHeader) -> Vec<VerifiedHeader> {
        let mut ready = vec![header];
        self.resolve_all(&mut ready);
        ready
    }

    /// Appends what waited for nothing but the headers in `ready`.
    fn resolve_all(&mut self, ready: &mut Vec<VerifiedHeader>) {
        let mut next = 0;
        while next < ready.len() {
            let block = ready[next].reference();
            next += 1;
            self.resolve(&block, ready);
        }
    }

    fn resolve(&mut self, block: &BlockRef, ready: &mut Vec<VerifiedHeader>) {
        let Some(waiting) = self.missing.remove(block) else { return };
        self.changes += 1;
        for waiting in waiting {
            let Some(suspended) = self.suspended.get_mut(&waiting) else { continue };
            suspended.waits_for.remove(block);
            if suspended.waits_for.is_empty()
                && let Some(suspended) = self.suspended.remove(&waiting)
            {
                self.shelves[suspended.from.as_usize()].remove(&waiting);
                ready.push(suspended.header);
            }
        }
    }

    /// Forgets what lies at `round` or below. Returns headers above it that waited for such blocks alone: they are to
    /// be inserted as those of [`Admission::Accepted`].
    pub fn collect_garbage(&mut self, round: Round) -> Vec<VerifiedHeader> {
        let old = |block: &BlockRef| block.round <= round;
        self.changes += 1;
        self.accounts.collect_garbage(round);
        for shelf in &mut self.shelves {
            shelf.collect_garbage(round);
        }
        self.suspended.retain(|block, _| !old(block));
        let gone: Vec<BlockRef> = self.missing.keys().take_while(|block| old(block)).copied().collect();
        let mut ready = Vec::new();
        for block in gone {
            self.resolve(&block, &mut ready);
        }
        self.resolve_all(&mut ready);
        // What waited for a collected header alone is gone with it: nobody asks for its ancestors any more.
        let suspended = &self.suspended;
        self.missing.retain(|_, waiting| {
            waiting.retain(|block| suspended.contains_key(block));
            !waiting.is_empty()
        });
        ready
    }
}

/// There is no room for a block.
struct Refused;

/// Estimate of the memory of one header.
pub(super) fn held_bytes(header: &VerifiedHeader) -> usize {
    2 * header.bytes().len() + HEADER_OVERHEAD_BYTES
}

/// The same for one that waits for ancestors.
fn waiting_bytes(header: &VerifiedHeader) -> usize {
    held_bytes(header) + MISSING_BYTES * ancestors(header).len()
}

fn slot_range(round: Round, author: AuthorityIndex) -> std::ops::RangeInclusive<BlockRef> {
    let at = |byte| BlockRef { round, author, digest: crate::types::BlockDigest([byte; 32]) };
    at(0)..=at(0xff)
}
