//! Lets headers into the DAG in causal order: one that comes before its ancestors is suspended until they are here.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::ancestors;
use super::{DagState, VerifiedHeader};
use crate::types::{AuthorityIndex, BlockRef, Round};

/// Blocks of one slot that are taken from pushes. More of them enter only if another block names them as ancestor, so
/// that an equivocator cannot fill the memory of its peers.
const PUSHED_PER_SLOT_MAX: usize = 4;

/// What came of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It and perhaps others that waited for it are ready to enter the DAG, in this order.
    Accepted(Vec<VerifiedHeader>),
    /// It waits for ancestors, of which these were not known to be missing before.
    Suspended(Vec<BlockRef>),
    /// It is here already, waits already, or is too old to matter.
    Known,
    /// It is too far ahead or one of too many of its slot, and was dropped.
    Refused,
}

/// Headers that wait for ancestors. Bounded: rounds up to `horizon` above the DAG's, and few blocks for each slot.
#[derive(Debug)]
pub struct BlockManager {
    suspended: BTreeMap<BlockRef, Suspended>,
    /// For each missing block, those that wait for it.
    missing: BTreeMap<BlockRef, BTreeSet<BlockRef>>,
    horizon: u64,
}

#[derive(Debug)]
struct Suspended {
    header: VerifiedHeader,
    waits_for: BTreeSet<BlockRef>,
}

impl BlockManager {
    /// Waits for nothing. Headers more than `horizon` rounds above the DAG are refused.
    #[must_use]
    pub fn new(horizon: u64) -> Self {
        Self { suspended: BTreeMap::new(), missing: BTreeMap::new(), horizon }
    }

    /// Blocks that others wait for and that are neither here nor suspended themselves, with the blocks that name them.
    pub fn missing(&self) -> impl Iterator<Item = (&BlockRef, &BTreeSet<BlockRef>)> {
        self.missing.iter().filter(|(block, _)| !self.suspended.contains_key(block))
    }

    /// Number of headers that wait.
    #[must_use]
    pub fn suspended_len(&self) -> usize {
        self.suspended.len()
    }

    /// Takes a header. Accepted ones are to be inserted into `dag` by the caller, in order and before the next call.
    pub fn admit(&mut self, dag: &DagState, header: VerifiedHeader) -> Admission {
        let block = header.reference();
        if dag.contains(&block) || self.suspended.contains_key(&block) {
            return Admission::Known;
        }
        if !self.is_named_by_another(&block) && !self.has_room(dag, &block) {
            return Admission::Refused;
        }
        let waits_for: BTreeSet<BlockRef> =
            ancestors(&header).iter().filter(|ancestor| !dag.contains(ancestor)).copied().collect();
        if waits_for.is_empty() {
            return Admission::Accepted(self.release(header));
        }
        let mut news = Vec::new();
        for ancestor in &waits_for {
            let waiting = self.missing.entry(*ancestor).or_default();
            if waiting.is_empty() && !self.suspended.contains_key(ancestor) {
                news.push(*ancestor);
            }
            waiting.insert(block);
        }
        self.suspended.insert(block, Suspended { header, waits_for });
        Admission::Suspended(news)
    }

    /// Whether somebody else than its author waits for a block, if only for a later block of the author that waits for it.
    /// (Without such a one the author could make any number of blocks matter.)
    fn is_named_by_another(&self, block: &BlockRef) -> bool {
        let mut seen = BTreeSet::from([*block]);
        let mut open = vec![*block];
        while let Some(named) = open.pop() {
            for by in self.missing.get(&named).into_iter().flatten() {
                if by.author != block.author {
                    return true;
                }
                if seen.insert(*by) {
                    open.push(*by);
                }
            }
        }
        false
    }

    fn has_room(&self, dag: &DagState, block: &BlockRef) -> bool {
        if block.round.0 > dag.highest_round().0 + self.horizon {
            return false;
        }
        let slot = slot_range(block.round, block.author);
        let known = dag.slot(block.round, block.author).count() + self.suspended.range(slot).count();
        known < PUSHED_PER_SLOT_MAX
    }

    /// The header, and every suspended one that waited for nothing else, parents first.
    fn release(&mut self, header: VerifiedHeader) -> Vec<VerifiedHeader> {
        let mut ready = vec![header];
        let mut next = 0;
        while next < ready.len() {
            let block = ready[next].reference();
            next += 1;
            self.resolve(&block, &mut ready);
        }
        ready
    }

    fn resolve(&mut self, block: &BlockRef, ready: &mut Vec<VerifiedHeader>) {
        for waiting in self.missing.remove(block).unwrap_or_default() {
            let Some(suspended) = self.suspended.get_mut(&waiting) else { continue };
            suspended.waits_for.remove(block);
            if suspended.waits_for.is_empty()
                && let Some(suspended) = self.suspended.remove(&waiting)
            {
                ready.push(suspended.header);
            }
        }
    }

    /// Forgets what lies at `round` or below. Returns headers above it that waited for such blocks alone: they are to
    /// be inserted as those of [`Admission::Accepted`].
    pub fn collect_garbage(&mut self, round: Round) -> Vec<VerifiedHeader> {
        let old = |block: &BlockRef| block.round <= round;
        self.suspended.retain(|block, _| !old(block));
        let gone: Vec<BlockRef> = self.missing.keys().take_while(|block| old(block)).copied().collect();
        let mut ready = Vec::new();
        for block in gone {
            self.resolve(&block, &mut ready);
        }
        let mut next = 0;
        while next < ready.len() {
            let block = ready[next].reference();
            next += 1;
            self.resolve(&block, &mut ready);
        }
        // What waited for a collected header alone is gone with it: nobody asks for its ancestors any more.
        let suspended = &self.suspended;
        self.missing.retain(|_, waiting| {
            waiting.retain(|block| suspended.contains_key(block));
            !waiting.is_empty()
        });
        ready
    }
}

fn slot_range(round: Round, author: AuthorityIndex) -> std::ops::RangeInclusive<BlockRef> {
    let at = |byte| BlockRef { round, author, digest: crate::types::BlockDigest([byte; 32]) };
    at(0)..=at(0xff)
}
