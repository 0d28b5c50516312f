//! Who has taken how much room.

use std::collections::BTreeMap;

use crate::types::{AuthorityIndex, BlockRef, Round};

/// Suspended headers that one peer brought.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    blocks: BTreeMap<BlockRef, usize>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn add(&mut self, block: BlockRef, bytes: usize) {
        self.bytes += bytes - self.blocks.insert(block, bytes).unwrap_or(0);
    }

    pub(super) fn remove(&mut self, block: &BlockRef) {
        self.bytes -= self.blocks.remove(block).unwrap_or(0);
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn highest_first(&self) -> impl Iterator<Item = (&BlockRef, &usize)> {
        self.blocks.iter().rev()
    }

    pub(super) fn collect_garbage(&mut self, round: Round) {
        let mut freed = 0;
        self.blocks.retain(|block, bytes| {
            let keep = block.round > round;
            freed += if keep { 0 } else { *bytes };
            keep
        });
        self.bytes -= freed;
    }
}

/// Who has equivocated, and who pays for blocks beyond the quota of their slots.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Highest round in which an author is known to have two blocks.
    proven: Vec<Option<Round>>,
    charged: BTreeMap<BlockRef, AuthorityIndex>,
    spent: Vec<usize>,
    extra_blocks: usize,
}

impl Accounts {
    pub(super) fn new(size: usize, extra_blocks: usize) -> Self {
        Self { proven: vec![None; size], charged: BTreeMap::new(), spent: vec![0; size], extra_blocks }
    }

    /// A second block of a slot was seen.
    pub(super) fn prove(&mut self, block: BlockRef) {
        let proven = &mut self.proven[block.author.as_usize()];
        *proven = (*proven).max(Some(block.round));
    }

    pub(super) fn is_proven(&self, author: AuthorityIndex) -> bool {
        self.proven[author.as_usize()].is_some()
    }

    pub(super) fn has_room(&self, author: AuthorityIndex) -> bool {
        self.spent[author.as_usize()] < self.extra_blocks
    }

    pub(super) fn charge(&mut self, author: AuthorityIndex, block: BlockRef) {
        self.spent[author.as_usize()] += 1;
        if let Some(before) = self.charged.insert(block, author) {
            self.spent[before.as_usize()] -= 1;
        }
    }

    pub(super) fn refund(&mut self, block: &BlockRef) {
        if let Some(author) = self.charged.remove(block) {
            self.spent[author.as_usize()] -= 1;
        }
    }

    /// What lies that deep takes no room any more, and an equivocation of that long ago is forgiven.
    pub(super) fn collect_garbage(&mut self, round: Round) {
        let spent = &mut self.spent;
        self.charged.retain(|block, author| {
            let keep = block.round > round;
            spent[author.as_usize()] -= usize::from(!keep);
            keep
        });
        for proven in &mut self.proven {
            *proven = proven.filter(|at| *at > round);
        }
    }
}
