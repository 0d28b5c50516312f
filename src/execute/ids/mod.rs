//! Which leaf holds a transaction: ids of the newest in memory, of all others in sorted files.
//!
//! Ids are spread evenly, so an entry of a store's own for each id would cost a search through all of its memory, and its
//! tables would be rewritten whole again and again. Here thousands of ids become a file at once ([`Run`]), and as soon as
//! [`FAN`] files of one size stand side by side they are merged into the next size, some entries with each new file: an id
//! is written once for each [`FAN`]-fold growth of the log, in order, and no moment has to wait for a large merge.
//!
//! Files hold what the leaves hold too, so none of them has to survive: one that is missing is made anew from the leaves.
//! One is durable before the store names it, and is removed once the store durably names it no more.

mod merge;
mod recent;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use self::merge::Merge;
use self::recent::Recent;
use self::run::{Entry, Run, Writing, prefix_of};
use super::store::{Batch, Files};
use super::tables::{self, LeafRecord, Record};
use super::windows;
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::StorageError;
use crate::types::{KeyId, LeafIndex, OrgId, TxId};

/// Leaves that are indexed together; few in tests, where logs are short.
pub(super) const INDEXED_TOGETHER: u64 = if cfg!(test) { 64 } else { 16_384 };
/// Files of one size that become one of the next.
const FAN: usize = 4;
/// Entries that each merge goes on by, for each new file. Until there are [`FAN`] files of its size again, there come more than
/// enough new ones to end it.
const MERGED_TOGETHER: u64 = 3 * INDEXED_TOGETHER;
/// Most files that the store may name: many more than there can be.
const RUNS_MAX: usize = 1_024;

/// Pages of replay windows in which numbers were used, by key.
pub(super) type UsedPages = BTreeMap<(OrgId, KeyId), BTreeSet<u64>>;

/// The ends of the files that the store names; the first begins with leaf 0, each other where the one before it ends. Replay
/// windows are stored up to the last end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Indexed(Vec<u64>);

impl Record for Indexed {
    const NAME: &'static str = "index";

    /// `n2 end8×n`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + 8 * self.0.len());
        out.put_len_u16(self.0.len());
        self.0.iter().for_each(|end| out.put_u64(*end));
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const END: &str = "end of a file of ids";
        let n = r.bounded_u16("files of ids", RUNS_MAX)?;
        let mut ends = Vec::with_capacity(n);
        for _ in 0..n {
            let at = r.position();
            let end = r.u64(END)?;
            if end <= ends.last().copied().unwrap_or(0) {
                return Err(DecodeError::NotCanonical { what: END, at });
            }
            ends.push(end);
        }
        Ok(Self(ends))
    }
}

/// What readers in other threads look at.
#[derive(Debug, Default)]
struct Shown {
    /// Of leaves that are in no file.
    recent: Recent,
    /// All files, in the order of their leaves.
    runs: Vec<Run>,
}

/// The ids of all commits that are applied. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedIds(Arc<RwLock<Shown>>);

impl SharedIds {
    /// Leaves that may hold a transaction: mostly none or the one that does. A leaf may be of a commit that is not applied.
    pub(super) fn find(&self, files: &impl Files, id: &TxId) -> Result<Vec<LeafIndex>, StorageError> {
        let (prefix, mut found) = (prefix_of(id), Vec::new());
        // Held to the end: what is merged meanwhile is removed only after it.
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.recent.find(prefix, &mut found);
        shown.runs.iter().rev().try_for_each(|run| run.find(files, prefix, &mut found))?;
        drop(shown);
        Ok(found.into_iter().map(LeafIndex).collect())
    }

    fn write<R>(&self, change: impl FnOnce(&mut Shown) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn runs(&self) -> Vec<Run> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).runs.clone()
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ids {
    shared: SharedIds,
    /// Of commits that are not applied.
    staged: Recent,
    /// Leaves that the files cover.
    covered: u64,
    /// Leaves that the replay windows in the store cover.
    windows: u64,
    used: UsedPages,
    merges: Vec<Merge>,
    /// Merged into others; removed once the store durably does not name them.
    merged: Vec<Run>,
}

impl Ids {
    /// What a store and its files hold of a log of `size` leaves. Files that are not named, or of another length, are removed.
    pub(super) fn open(
        indexed: Option<Vec<u8>>,
        files: &impl Files,
        size: u64,
    ) -> Result<Self, StorageError> {
        let name = [tables::INDEXED];
        let Indexed(ends) = Indexed::stored(&name, indexed)?.unwrap_or_default();
        let windows = ends.last().copied().unwrap_or(0);
        if windows > size {
            return Err(tables::damaged("index", &name, &format!("covers {windows} of {size} leaves")));
        }
        let there: BTreeMap<String, u64> = files.list()?.into_iter().collect();
        let firsts = [0].into_iter().chain(ends.iter().copied());
        let runs: Vec<Run> = firsts
            .zip(&ends)
            .map(|(first, end)| Run { first, end: *end })
            .take_while(|run| there.get(&run.name()) == Some(&run.bytes()))
            .collect();
        let named: BTreeSet<String> = runs.iter().map(|run| run.name()).collect();
        there.keys().filter(|name| !named.contains(*name)).try_for_each(|name| files.remove(name))?;
        let covered = runs.last().map_or(0, |run| run.end);
        let shared = SharedIds::default();
        shared.write(|shown| shown.runs = runs);
        Ok(Self { shared, covered, windows, ..Self::default() })
    }

    /// Leaves that the files cover.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    /// Leaves that the replay windows in the store cover.
    pub(super) fn windows(&self) -> u64 {
        self.windows
    }

    /// Takes note of the next leaf.
    pub(super) fn note(&mut self, org: OrgId, leaf: LeafIndex, record: &LeafRecord) {
        self.staged.push(Entry { prefix: prefix_of(&record.id), leaf: leaf.0 });
        if leaf.0 >= self.windows {
            self.used.entry((org, record.key)).or_default().insert(windows::page_of(record.seq));
        }
    }

    /// Leaves that may hold a transaction, those just noted included.
    pub(super) fn find(&self, files: &impl Files, id: &TxId) -> Result<Vec<LeafIndex>, StorageError> {
        let mut found = Vec::new();
        self.staged.find(prefix_of(id), &mut found);
        let mut found: Vec<LeafIndex> = found.into_iter().map(LeafIndex).collect();
        found.extend(self.shared.find(files, id)?);
        Ok(found)
    }

    /// The changes were applied: readers see them.
    pub(super) fn applied(&mut self) {
        if !self.staged.is_empty() {
            let staged = std::mem::take(&mut self.staged);
            self.shared.write(|shown| shown.recent.absorb(staged));
        }
    }

    /// Puts the ids of all leaves up to `size` into a file.
    pub(super) fn cover(&mut self, files: &impl Files, size: u64) -> Result<(), StorageError> {
        let staged = std::mem::take(&mut self.staged);
        let recent = self.shared.write(|shown| {
            shown.recent.absorb(staged);
            // Not taken out before the file is there.
            shown.recent.all()
        });
        let run = Run { first: self.covered, end: size };
        let mut writing = Writing::new(run);
        recent.into_iter().for_each(|entry| writing.push(entry));
        writing.finish(files)?;
        self.shared.write(|shown| {
            shown.recent = Recent::default();
            shown.runs.push(run);
        });
        self.covered = size;
        self.merge(files)
    }

    /// Names all files in a batch. Returns the pages of the windows that belong to the leaves since this was done last.
    pub(super) fn name_files(&mut self, batch: &mut Batch) -> UsedPages {
        let ends = self.shared.runs().iter().map(|run| run.end).collect();
        batch.put([tables::INDEXED], Indexed(ends).encode());
        self.windows = self.covered;
        std::mem::take(&mut self.used)
    }

    /// Goes on with merges, and begins those that are due.
    fn merge(&mut self, files: &impl Files) -> Result<(), StorageError> {
        for mut merge in std::mem::take(&mut self.merges) {
            if merge.go_on(files, MERGED_TOGETHER)? {
                let run = merge.finish(files)?;
                let merged = self.shared.write(|shown| {
                    let within = |old: &Run| run.first <= old.first && old.end <= run.end;
                    let from = shown.runs.partition_point(|old| old.first < run.first);
                    let to = from + shown.runs[from..].iter().take_while(|old| within(old)).count();
                    shown.runs.splice(from..to, [run]).collect::<Vec<_>>()
                });
                self.merged.extend(merged);
            } else {
                self.merges.push(merge);
            }
        }
        let runs = self.shared.runs();
        let is_free = |run: &Run| !self.merges.iter().any(|merge| merge.covers(*run));
        let free: Vec<Run> = runs.into_iter().filter(is_free).collect();
        for alike in free.chunk_by(|a, b| a.end == b.first && size_class(*a) == size_class(*b)) {
            if let Some((inputs, _)) = alike.split_first_chunk::<FAN>() {
                self.merges.push(Merge::new(inputs));
            }
        }
        Ok(())
    }

    /// The store is durable as it is: what it does not name is removed.
    pub(super) fn persisted(&mut self, files: &impl Files) -> Result<(), StorageError> {
        std::mem::take(&mut self.merged).into_iter().try_for_each(|run| files.remove(&run.name()))
    }

    /// For readers in other threads.
    pub(super) fn shared(&self) -> SharedIds {
        self.shared.clone()
    }
}

/// Files of one class are merged with one another.
fn size_class(run: Run) -> u32 {
    (run.len() / INDEXED_TOGETHER).max(1).ilog(FAN as u64)
}

#[cfg(test)]
mod tests;
