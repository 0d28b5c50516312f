//! The blocks of one round, and what later rounds say of them.

use super::DagBlock;
use crate::committee::{AuthoritySet, Committee, StakeSum};
use crate::types::{AuthorityIndex, BlockRef};

/// One round. Looking up a block, and the stake that is here, cost the same however many validators there are.
#[derive(Debug)]
pub(super) struct Row {
    slots: Vec<RowSlot>,
    blocks: usize,
    pub(super) accepted: StakeSum,
    pub(super) available: StakeSum,
}

/// What one author made in the round: at most one block, unless it equivocates.
#[derive(Debug, Clone, Default)]
struct RowSlot {
    /// Ascending by digest.
    blocks: Vec<(BlockRef, DagBlock)>,
    blamers: AuthoritySet,
}

impl Row {
    pub(super) fn new(committee: &Committee) -> Self {
        Self {
            slots: vec![RowSlot::default(); committee.size()],
            blocks: 0,
            accepted: StakeSum::new(),
            available: StakeSum::new(),
        }
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks
    }

    /// All blocks, ascending.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&BlockRef, &DagBlock)> {
        self.slots.iter().flat_map(|slot| &slot.blocks).map(|(block, entry)| (block, entry))
    }

    /// All blocks, ascending, to keep.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = (BlockRef, DagBlock)> {
        self.slots.into_iter().flat_map(|slot| slot.blocks)
    }

    /// Blocks of one author.
    pub(super) fn slot(&self, author: AuthorityIndex) -> &[(BlockRef, DagBlock)] {
        self.slots.get(author.as_usize()).map_or(&[], |slot| &slot.blocks)
    }

    pub(super) fn get(&self, block: &BlockRef) -> Option<&DagBlock> {
        self.slot(block.author).iter().find(|(other, _)| other == block).map(|(_, entry)| entry)
    }

    pub(super) fn get_mut(&mut self, block: &BlockRef) -> Option<&mut DagBlock> {
        let slot = self.slots.get_mut(block.author.as_usize())?;
        slot.blocks.iter_mut().find(|(other, _)| other == block).map(|(_, entry)| entry)
    }

    /// # Panics
    /// If it is here already.
    pub(super) fn insert(&mut self, committee: &Committee, block: BlockRef, entry: DagBlock) {
        let blocks = &mut self.slots[block.author.as_usize()].blocks;
        let Err(at) = blocks.binary_search_by_key(&block, |(other, _)| *other) else {
            panic!("{block} entered the DAG twice");
        };
        blocks.insert(at, (block, entry));
        self.blocks += 1;
        self.accepted.add(committee, block.author);
    }

    /// Notes a vote of `author` for every block of a slot, which is a mistake.
    pub(super) fn vote_for_all(&mut self, slot: AuthorityIndex, author: AuthorityIndex) {
        for (_, entry) in &mut self.slots[slot.as_usize()].blocks {
            entry.voters.insert(author);
        }
    }

    /// Notes that a block of the next round by `author` votes for none of the slots in `of`.
    pub(super) fn blame(&mut self, of: AuthoritySet, author: AuthorityIndex) {
        for slot in of.iter() {
            self.slots[slot.as_usize()].blamers.insert(author);
        }
    }

    pub(super) fn blamers(&self, author: AuthorityIndex) -> AuthoritySet {
        self.slots.get(author.as_usize()).map_or(AuthoritySet::EMPTY, |slot| slot.blamers)
    }

    /// Notes for every block of the round whether a block two rounds later, by `author`, certifies it: whether the votes
    /// among that block's parents are enough.
    pub(super) fn certify(
        &mut self,
        committee: &Committee,
        author: AuthorityIndex,
        votes: impl Fn(&BlockRef, &DagBlock) -> AuthoritySet,
    ) {
        for (block, entry) in self.slots.iter_mut().flat_map(|slot| &mut slot.blocks) {
            if committee.stake_of(votes(block, entry)) >= committee.thresholds().certificate {
                entry.certifiers.insert(author);
            }
        }
    }
}
