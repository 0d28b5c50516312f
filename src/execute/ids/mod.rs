//! Which leaf holds a transaction: ids of the newest in memory, of all others in sorted files.
//!
//! Ids are spread evenly, so an entry of a store's own for each id would cost a search through all of its memory, and its
//! tables would be rewritten whole again and again. Here thousands of ids become a file at once ([`Run`]), and as soon as
//! files that stand side by side come to the next size together, [`FAN`] times that of the largest of them, they are merged,
//! some entries with each new file: an id is written once for each [`FAN`]-fold growth of the log, in order, and no moment
//! has to wait for a large merge, but each new file for three times its own entries of each merge under way: some milliseconds.
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
/// How many times as large the next size is.
const FAN: u64 = 4;
/// Entries that each merge goes on by, for each new file. Until as many have come again as it merges, there come more than
/// enough new files to end it.
const MERGED_TOGETHER: u64 = 3 * INDEXED_TOGETHER;
/// Most files that the store may name: many more than there can be.
const RUNS_MAX: usize = 1_024;
/// Files up to which their number is no reason to merge them; above, the smallest neighbours are, whatever their sizes.
const RUNS_MANY: usize = 32;

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
    runs: Arc<Vec<Run>>,
}

/// The ids of all commits that are applied. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedIds(Arc<RwLock<Shown>>);

impl SharedIds {
    /// The leaf that holds a transaction, according to `is_it`, which is asked about each that may. It may not be there: a leaf
    /// may be of a commit that is not applied. Newest first: what comes twice mostly comes soon.
    pub(super) fn find(
        &self,
        files: &impl Files,
        id: &TxId,
        mut is_it: impl FnMut(LeafIndex) -> Result<bool, StorageError>,
    ) -> Result<Option<LeafIndex>, StorageError> {
        let prefix = prefix_of(id);
        loop {
            // Nothing is read while the lock is held: the executor may want it.
            let mut found = Vec::new();
            let runs = self.read(|shown| {
                shown.recent.find(prefix, &mut found);
                Arc::clone(&shown.runs)
            });
            match find_in(&runs, files, prefix, found, &mut is_it) {
                // A file may have been merged and removed meanwhile.
                Err(_) if !Arc::ptr_eq(&runs, &self.runs()) => {}
                found => return found,
            }
        }
    }

    fn read<R>(&self, look: impl FnOnce(&Shown) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Shown) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn runs(&self) -> Arc<Vec<Run>> {
        self.read(|shown| Arc::clone(&shown.runs))
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
    /// Merged into others since the store named all files.
    merged: Vec<Run>,
    /// Merged into others before that; removed once the store durably does not name them.
    unnamed: Vec<Run>,
    is_named: bool,
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
        let is_ours = |name: &&String| Run::is_name(name) && !named.contains(*name);
        there.keys().filter(is_ours).try_for_each(|name| files.remove(name))?;
        let covered = runs.last().map_or(0, |run| run.end);
        let shared = SharedIds::default();
        let is_behind = runs.len() > RUNS_MANY;
        shared.write(|shown| shown.runs = Arc::new(runs));
        let mut ids = Self { shared, covered, windows, is_named: covered == windows, ..Self::default() };
        if is_behind {
            // Who is started again and again never comes to the end of a merge otherwise.
            while ids.merge(files, MERGED_TOGETHER)? {}
        }
        Ok(ids)
    }

    /// Whether the store names all files.
    pub(super) fn is_named(&self) -> bool {
        self.is_named
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

    /// As [`SharedIds::find`], those just noted included.
    pub(super) fn find(
        &self,
        files: &impl Files,
        id: &TxId,
        mut is_it: impl FnMut(LeafIndex) -> Result<bool, StorageError>,
    ) -> Result<Option<LeafIndex>, StorageError> {
        let mut found = Vec::new();
        self.staged.find(prefix_of(id), &mut found);
        match first_of(&found, &mut is_it)? {
            Some(leaf) => Ok(Some(leaf)),
            None => self.shared.find(files, id, is_it),
        }
    }

    /// The changes were applied: readers see them.
    pub(super) fn applied(&mut self) {
        if !self.staged.is_empty() {
            self.shared.write(|shown| shown.recent.absorb(&self.staged));
            self.staged.clear();
        }
    }

    /// Puts the ids of all leaves up to `size` into a file.
    pub(super) fn cover(&mut self, files: &impl Files, size: u64) -> Result<(), StorageError> {
        self.shared.write(|shown| shown.recent.absorb(&self.staged));
        self.staged.clear();
        // Not taken out before the file is there; and sorted while others may look.
        let mut recent = self.shared.read(|shown| shown.recent.all());
        recent.sort_unstable();
        let run = Run { first: self.covered, end: size };
        let mut writing = Writing::new(run);
        recent.into_iter().for_each(|entry| writing.push(entry));
        writing.finish(files)?;
        self.shared.write(|shown| {
            shown.recent.clear();
            Arc::make_mut(&mut shown.runs).push(run);
        });
        self.covered = size;
        self.is_named = false;
        self.merge(files, MERGED_TOGETHER).map(|_| ())
    }

    /// Names all files in a batch. Returns the pages of the windows that belong to the leaves since this was done last.
    pub(super) fn name_files(&mut self, batch: &mut Batch) -> UsedPages {
        let ends: Vec<u64> = self.shared.runs().iter().map(|run| run.end).collect();
        assert!(ends.len() <= RUNS_MAX, "merges keep files few");
        batch.put([tables::INDEXED], Indexed(ends).encode());
        self.windows = self.covered;
        self.is_named = true;
        self.unnamed.append(&mut self.merged);
        std::mem::take(&mut self.used)
    }

    /// Goes on with merges by so many entries each, and begins one that is due; whether any is under way.
    fn merge(&mut self, files: &impl Files, entries: u64) -> Result<bool, StorageError> {
        for mut merge in std::mem::take(&mut self.merges) {
            if merge.go_on(files, entries)? {
                self.is_named = false;
                let run = merge.finish(files)?;
                let merged = self.shared.write(|shown| {
                    let within = |old: &Run| run.first <= old.first && old.end <= run.end;
                    let from = shown.runs.partition_point(|old| old.first < run.first);
                    let to = from + shown.runs[from..].iter().take_while(|old| within(old)).count();
                    Arc::make_mut(&mut shown.runs).splice(from..to, [run]).collect::<Vec<_>>()
                });
                self.merged.extend(merged);
            } else {
                self.merges.push(merge);
            }
        }
        let runs = self.shared.runs();
        let is_free = |run: &Run| !self.merges.iter().any(|merge| merge.covers(*run));
        let free: Vec<Run> = runs.iter().copied().filter(is_free).collect();
        self.merges.extend(due(&free).map(Merge::new));
        Ok(!self.merges.is_empty())
    }

    /// The store is durable as it is: what it does not name is removed.
    pub(super) fn persisted(&mut self, files: &impl Files) -> Result<(), StorageError> {
        std::mem::take(&mut self.unnamed).into_iter().try_for_each(|run| files.remove(&run.name()))
    }

    /// For readers in other threads.
    pub(super) fn shared(&self) -> SharedIds {
        self.shared.clone()
    }
}

/// The first leaf that is it, of those found already and of those in files, the newest file first.
fn find_in(
    runs: &[Run],
    files: &impl Files,
    prefix: u64,
    mut found: Vec<u64>,
    is_it: &mut impl FnMut(LeafIndex) -> Result<bool, StorageError>,
) -> Result<Option<LeafIndex>, StorageError> {
    let mut older = runs.iter().rev();
    loop {
        if let Some(leaf) = first_of(&found, is_it)? {
            return Ok(Some(leaf));
        }
        found.clear();
        let Some(run) = older.next() else { return Ok(None) };
        run.find(files, prefix, &mut found)?;
    }
}

/// The first leaf that is it.
fn first_of(
    leaves: &[u64],
    is_it: &mut impl FnMut(LeafIndex) -> Result<bool, StorageError>,
) -> Result<Option<LeafIndex>, StorageError> {
    for leaf in leaves.iter().copied().map(LeafIndex) {
        if is_it(leaf)? {
            return Ok(Some(leaf));
        }
    }
    Ok(None)
}

/// Files side by side that are to be merged: those of a size, and smaller ones among them, that come to the next size together.
/// So an id is in few merges, and small files that large ones stand around wait for as many as are worth it.
fn due(free: &[Run]) -> Option<&[Run]> {
    let most = free.iter().map(|run| size_class(run.len())).max()?;
    let worth = (0..=most).find_map(|class| {
        let is_small = |run: &Run| size_class(run.len()) <= class;
        let together = |a: &Run, b: &Run| a.end == b.first && is_small(a) && is_small(b);
        free.chunk_by(together).find(|runs| runs.len() > 1 && size_class(covered_by(runs)) > class)
    });
    let fewest = || {
        let neighbours = free.windows(2).filter(|two| two[0].end == two[1].first);
        neighbours.min_by_key(|two| covered_by(two)).filter(|_| free.len() > RUNS_MANY)
    };
    worth.or_else(fewest)
}

/// Leaves that files side by side cover.
fn covered_by(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.len()).sum()
}

/// Which power of [`FAN`] times [`INDEXED_TOGETHER`] so many leaves come to.
fn size_class(leaves: u64) -> u32 {
    (leaves / INDEXED_TOGETHER).max(1).ilog(FAN)
}

#[cfg(test)]
mod tests;
