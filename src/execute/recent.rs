//! What is known of the newest leaves in memory alone: their transactions' ids, and the sequence numbers that they used.
//!
//! Ids are spread evenly, so an entry of its own for each id, commit by commit, would cost a search through all of the store's
//! memory each time, and a window for each key that signed in a commit nearly as much. Leaves hold both, so the store gets them only
//! once for thousands of leaves, in order, and a restart reads the leaves since then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use super::store::Batch;
use super::tables::{self, LeafRecord, Record};
use super::windows;
use crate::types::{KeyId, LeafIndex, OrgId, TxId};

/// Leaves that are indexed together; few in tests, where logs are short.
pub(super) const INDEXED_TOGETHER: u64 = if cfg!(test) { 64 } else { 16_384 };

/// Pages of replay windows in which numbers were used, by key.
pub(super) type UsedPages = BTreeMap<(OrgId, KeyId), BTreeSet<u64>>;

type Ids = BTreeMap<TxId, LeafIndex>;

/// Ids of transactions that the store's index does not hold yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct RecentIds(Arc<RwLock<Ids>>);

impl RecentIds {
    /// The leaf of a transaction, if it is one of these.
    pub(super) fn find(&self, id: &TxId) -> Option<LeafIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Leaves that the index covers.
    indexed: u64,
    /// Of commits that are applied; readers look here.
    shown: RecentIds,
    /// Of commits that are not.
    staged: Ids,
    /// Whether the changes that are not applied yet bring all of `shown` into the index.
    moved: bool,
    used: UsedPages,
}

impl Recent {
    /// Nothing, behind so many leaves that the index covers.
    pub(super) fn new(indexed: u64) -> Self {
        Self { indexed, ..Self::default() }
    }

    /// Leaves that the index covers.
    pub(super) fn indexed(&self) -> u64 {
        self.indexed
    }

    /// Takes note of a leaf.
    pub(super) fn note(&mut self, org: OrgId, leaf: LeafIndex, record: &LeafRecord) {
        self.staged.insert(record.id, leaf);
        self.used.entry((org, record.key)).or_default().insert(windows::page_of(record.seq));
    }

    /// The leaf of a transaction, if it is one of these.
    pub(super) fn find(&self, id: &TxId) -> Option<LeafIndex> {
        self.staged.get(id).copied().or_else(|| self.shown.find(id))
    }

    /// Puts the ids of all leaves up to `size` into a batch. Returns the pages of the windows that belong to them.
    pub(super) fn index(&mut self, size: u64, batch: &mut Batch) -> UsedPages {
        let staged = std::mem::take(&mut self.staged);
        let shown = self.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        for (id, leaf) in shown.iter().chain(&staged) {
            batch.put(tables::transaction(id), leaf.encode());
        }
        drop(shown);
        batch.put([tables::INDEXED], LeafIndex(size).encode());
        self.indexed = size;
        self.moved = true;
        std::mem::take(&mut self.used)
    }

    /// The changes were applied: readers see them.
    pub(super) fn applied(&mut self) {
        if self.staged.is_empty() && !self.moved {
            return;
        }
        let mut shown = self.shown.0.write().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut self.moved) {
            shown.clear();
        }
        // Not `append`, which makes all of it anew.
        shown.extend(std::mem::take(&mut self.staged));
    }

    /// For readers in other threads.
    pub(super) fn ids(&self) -> RecentIds {
        self.shown.clone()
    }
}
