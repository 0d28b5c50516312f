//! Finds the record of a block by its name.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::types::{AuthorityIndex, BlockDigest, BlockRef, LogSeq, Round};

/// Maps (kind of record, block) to the record, in memory, rebuilt from the log at start.
///
/// Costs at most 128 bytes for each record with a key (64 bytes of key and value, in B-tree nodes at least half full):
/// 2.5 MB for each 10,000 blocks whose header and payload are both indexed.
#[derive(Debug, Default)]
pub struct BlockIndex {
    records: RwLock<BTreeMap<(u8, BlockRef), LogSeq>>,
}

impl BlockIndex {
    /// An index of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a durable record. A block that is already there keeps its first record.
    pub fn insert(&self, kind: u8, block: BlockRef, seq: LogSeq) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.entry((kind, block)).or_insert(seq);
    }

    /// The record of this kind of a block.
    #[must_use]
    pub fn get(&self, kind: u8, block: &BlockRef) -> Option<LogSeq> {
        self.records.read().unwrap_or_else(PoisonError::into_inner).get(&(kind, *block)).copied()
    }

    /// Number of records that can be found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none can be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `most` records of a kind with a round in `from .. from + rounds`, by (round, author, digest).
    #[must_use]
    pub fn in_rounds(&self, kind: u8, from: Round, rounds: u64, most: usize) -> Vec<(BlockRef, LogSeq)> {
        let lowest = |round| BlockRef { round, author: AuthorityIndex(0), digest: BlockDigest([0; 32]) };
        let end = Round(from.0.saturating_add(rounds));
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let range = records.range((kind, lowest(from))..(kind, lowest(end)));
        let found = range.take(most).map(|((_, block), seq)| (*block, *seq)).collect();
        drop(records);
        found
    }
}
