//! The state store on disk: fjall, a log-structured merge tree.
//!
//! fjall 3 was chosen over redb 4, a copy-on-write B-tree, by `benches/state_store.rs`: for commits of 600 point reads (half of
//! them absent keys) and one atomic batch of 1,000 puts of about 100 bytes over 200,000 entries, not synced, made durable
//! every 64 commits, on two cores:
//!
//! | store | time for a commit | puts/s | ratio |
//! |---|---|---|---|
//! | fjall 3.1 | 7.0 ms | 143,000 | 1 |
//! | redb 4.6 | 14.3 ms | 70,000 | 0.49 |
//!
//! (A commit wrote an entry for each id and each leaf then; now it writes fewer, and ids are files of their own, see
//! [`crate::execute`].) The reasons lie in the work itself. Keys that are spread evenly dirty pages all over a B-tree,
//! and each is copied with its path, while a merge tree appends the batch to its journal and sorts it in memory. Keys that
//! must be absent (consent handles) are answered by its filters, mostly without touching a block. And redb
//! rewrites all that changed since the last durable commit before it is durable again. What redb does better, no
//! background threads and steadier times for a single commit, matters less here: the executor runs behind consensus.
//!
//! Leaves have a tree of their own: their keys only grow, so its tables never overlap and are never rewritten. What fjall keeps
//! in memory for a table it would keep for ever then, so they keep little (`only_grows`).

use std::error::Error;
use std::path::{Path, PathBuf};

use fjall::config::{FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use super::block_index::BlockTable;
use super::id_files::IdFiles;
use crate::error::StorageError;
use crate::execute::{Batch, Files, LEAVES_TABLE, Pair, Read, Store};

/// Memory for blocks read from disk, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// Memory that a tree sorts new entries in before they become a table, in bytes; while one is written the next fills, and who writes
/// waits if four do.
const SORTED_BYTES: u64 = 16 << 20;
/// The same of each tree for a kind of records of the block log.
const BLOCKS_SORTED_BYTES: u64 = 4 << 20;
/// Kinds of records that the block log's index finds; each has a tree.
const BLOCK_KINDS: usize = 4;
/// Journal on disk before older parts of it are flushed to tables, in bytes.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Threads that write and merge tables. Of several, fjall 3.1 has one turn round and round for as long as another merges.
const WORKERS: usize = 1;

/// The executed state in a folder. Clones are handles on the same data.
#[derive(Clone)]
pub struct StateStore {
    database: Database,
    /// Of leaves, and of all else.
    trees: [Keyspace; 2],
    blocks: [Keyspace; BLOCK_KINDS],
    ids: IdFiles,
    path: PathBuf,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StateStore {
    /// Opens the folder, and makes it if it is not there. After a crash, what it holds is what was applied up to some batch,
    /// at least the last that was persisted.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it, [`StorageError::Full`], or what else the disk or the store say.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let path = path.into();
        let refuse = |error| storage_error("open", &path, error);
        let database = Database::builder(&path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()
            .map_err(refuse)?;
        let growing = |name: &str| database.keyspace(name, only_grows).map_err(refuse);
        let state = database.keyspace("state", KeyspaceCreateOptions::default).map_err(refuse)?;
        let trees = [growing("leaves")?, state];
        let blocks = [growing("blocks-1")?, growing("blocks-2")?, growing("blocks-3")?, growing("blocks-4")?];
        // Behind the lock that the database holds.
        let ids = IdFiles::open(path.join("ids"))?;
        Ok(Self { database, trees, blocks, ids, path })
    }

    /// Has trees that hold so many bytes in memory begin anew, and their thread make tables of what they hold.
    ///
    /// fjall 3.1 would ask that thread for it, with a word for each write to a tree above its size, in a queue of a thousand that the
    /// thread writes to as well: if it was busy merging for long, it would wait for itself for ever. And nothing would bound what a
    /// tree holds meanwhile. Its own sizes are larger, so that it never asks.
    fn turn_over(&self, trees: &[Keyspace], bytes: u64) -> Result<(), StorageError> {
        let mut full = trees.iter().filter(|tree| tree.tree.active_memtable().size() > bytes);
        full.try_for_each(|tree| tree.rotate_memtable().map(|_| ()))
            .map_err(|error| storage_error("write", &self.path, error))
    }

    /// A table for the index of the block log. It is as durable as the state is: whatever is persisted next.
    #[must_use]
    pub fn blocks(&self) -> impl BlockTable + use<> {
        Blocks(self.clone())
    }

    /// Which tree has a key.
    fn tree(&self, key: &[u8]) -> &Keyspace {
        &self.trees[usize::from(key.first() != Some(&LEAVES_TABLE))]
    }

    fn read_error(&self, error: fjall::Error) -> StorageError {
        storage_error("read", &self.path, error)
    }
}

impl Read for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.tree(key).get(key).map_err(|error| self.read_error(error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        self.snapshot().scan(prefix, from, limit)
    }
}

impl Files for StateStore {
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.ids.append(name, at, bytes)
    }

    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        self.ids.read_at(name, at, len)
    }

    fn sync(&self, name: &str) -> Result<(), StorageError> {
        self.ids.sync(name)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.ids.remove(name)
    }

    fn list(&self) -> Result<Vec<(String, u64)>, StorageError> {
        self.ids.list()
    }
}

impl Store for StateStore {
    type Snapshot = StateSnapshot;

    fn apply(&self, batch: Batch) -> Result<(), StorageError> {
        // No durability is asked for: not even a write to the operating system, until a buffer is full or `persist`.
        let mut writes = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.len());
        // In the batch's order, whichever tree a key is in: so they become visible (see `Store::apply`).
        for (key, change) in batch {
            let tree = self.tree(&key);
            match change {
                Some(value) => writes.insert(tree, key, value),
                None => writes.remove(tree, key),
            }
        }
        writes.commit().map_err(|error| storage_error("write", &self.path, error))?;
        self.turn_over(&self.trees, SORTED_BYTES)
    }

    fn persist(&self) -> Result<(), StorageError> {
        let synced = self.database.persist(PersistMode::SyncData);
        synced.map_err(|error| storage_error("sync", &self.path, error))
    }

    fn snapshot(&self) -> StateSnapshot {
        StateSnapshot { snapshot: self.database.snapshot(), store: self.clone() }
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

/// The trees for the index of the block log: one for each kind of records, so that keys only grow in each and no tables overlap.
struct Blocks(StateStore);

impl Blocks {
    /// The tree of a key, which begins with the kind; the last has what is behind all kinds.
    fn tree(&self, key: &[u8]) -> &Keyspace {
        let kind = key.first().map_or(0, |kind| usize::from(*kind));
        &self.0.blocks[kind.saturating_sub(1).min(BLOCK_KINDS - 1)]
    }
}

impl BlockTable for Blocks {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.tree(key).get(key).map_err(|error| self.0.read_error(error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Pair>, StorageError> {
        let pair = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| self.0.read_error(error))?;
            Ok((key.to_vec(), value.to_vec()))
        };
        self.tree(from).range(from..to).take(most).map(pair).collect()
    }

    fn put(&self, pairs: Vec<Pair>) -> Result<(), StorageError> {
        let mut writes = fjall::OwnedWriteBatch::with_capacity(self.0.database.clone(), pairs.len());
        for (key, value) in pairs {
            writes.insert(self.tree(&key), key, value);
        }
        writes.commit().map_err(|error| storage_error("write", &self.0.path, error))?;
        self.0.turn_over(&self.0.blocks, BLOCKS_SORTED_BYTES)
    }

    fn clear(&self) -> Result<(), StorageError> {
        // The last first, which says what is there: what is left of a clear that is cut off is not taken for a whole.
        let mut trees = self.0.blocks.iter().rev();
        trees.try_for_each(Keyspace::clear).map_err(|error| storage_error("clear", &self.0.path, error))
    }
}

/// A [`StateStore`] as it was at one moment. Versions that it sees are not compacted away while it lives.
pub struct StateSnapshot {
    snapshot: fjall::Snapshot,
    store: StateStore,
}

impl std::fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateSnapshot").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Read for StateSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value =
            self.snapshot.get(self.store.tree(key), key).map_err(|error| self.store.read_error(error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        let mut found = Vec::new();
        // The first byte tells the tree; without one, both may hold what is asked for.
        let holds = |tree: &&Keyspace| prefix.is_empty() || tree.id() == self.store.tree(prefix).id();
        for tree in self.store.trees.iter().filter(holds) {
            for guard in self.snapshot.range(tree, from.max(prefix)..).take(limit) {
                let (key, value) = guard.into_inner().map_err(|error| self.store.read_error(error))?;
                if !key.starts_with(prefix) {
                    break;
                }
                found.push((key.to_vec(), value.to_vec()));
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }
}

/// For a tree whose keys only grow, but for one that says how far it goes, or that come a little late. Hardly ever more than one table
/// may have a key, so filters would tell little. And of where keys stand in a table only the summary stays in memory, some bytes for each 4 KiB of it; the rest is read when it is needed, through the cache.
/// With fjall's own choice, which counts on tables being merged into larger ones soon, a validator grew by a byte for each leaf.
fn only_grows() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .filter_policy(FilterPolicy::disabled())
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::disabled())
}

/// Sorts an error of the store by who has to act on it.
#[expect(clippy::wildcard_enum_match_arm, reason = "fjall may add errors; any of them is the store's")]
fn storage_error(what: &'static str, path: &Path, error: fjall::Error) -> StorageError {
    match error {
        fjall::Error::Locked => StorageError::Locked { path: path.display().to_string() },
        fjall::Error::Io(source) => StorageError::io(what, path, source),
        other if is_full(&other) => StorageError::Full { path: path.display().to_string() },
        other => StorageError::Store {
            path: path.display().to_string(),
            why: format!(
                "{what}: {other:?}; if it does not go away, remove the folder: the state is built again from the block log"
            ),
        },
    }
}

/// Whether a full disk is among the causes of an error: below fjall it comes wrapped in the tree's.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(source) = error.downcast_ref::<std::io::Error>() {
            return source.kind() == std::io::ErrorKind::StorageFull;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn put(store: &StateStore, entries: &[(&str, &str)]) {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.put(*key, *value);
        }
        store.apply(batch).unwrap();
    }

    fn keys(read: &impl Read, prefix: &str, from: &str, limit: usize) -> Vec<String> {
        let found = read.scan(prefix.as_bytes(), from.as_bytes(), limit).unwrap();
        found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn memory_for_new_entries_is_bounded_and_all_are_found() {
        const BATCHES: u64 = 60;
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path()).unwrap();
        let key = |n: u64| [&[LEAVES_TABLE], &n.to_be_bytes()[..]].concat();
        let block = |n: u64| [&[2], &n.to_be_bytes()[..]].concat();
        for n in 0..BATCHES {
            let mut batch = Batch::default();
            batch.put(key(n), vec![7; 1 << 20]);
            store.apply(batch).unwrap();
            store.blocks().put(vec![(block(n), vec![9; 1 << 19])]).unwrap();
            let held = |tree: &Keyspace| tree.tree.active_memtable().size();
            assert!(store.trees.iter().all(|tree| held(tree) <= SORTED_BYTES));
            assert!(store.blocks.iter().all(|tree| held(tree) <= BLOCKS_SORTED_BYTES));
        }
        for n in 0..BATCHES {
            assert_eq!(store.get(&key(n)).unwrap().unwrap().len(), 1 << 20);
            assert_eq!(store.blocks().get(&block(n)).unwrap().unwrap().len(), 1 << 19);
        }
    }

    #[test]
    fn little_memory_is_kept_for_what_only_grows() {
        const CHUNKS: u64 = 20_000;
        const CHUNK_BYTES: usize = 3_000;
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path()).unwrap();
        for first in (0..CHUNKS).step_by(200) {
            let mut batch = Batch::default();
            for n in first..first + 200 {
                batch.put([&[LEAVES_TABLE], &n.to_be_bytes()[..]].concat(), vec![7; CHUNK_BYTES]);
            }
            store.apply(batch).unwrap();
        }
        let leaves = &store.trees[0];
        leaves.rotate_memtable_and_wait().unwrap();
        let tables = leaves.tree.table_count();
        assert!(tables >= 3, "{tables}");
        assert_eq!(leaves.tree.pinned_filter_size(), 0);
        let kept = leaves.tree.pinned_block_index_size();
        assert!(kept <= tables * 4_096, "{kept} bytes for {tables} tables");
        let key = [&[LEAVES_TABLE], &(CHUNKS / 2).to_be_bytes()[..]].concat();
        assert_eq!(store.get(&key).unwrap().unwrap().len(), CHUNK_BYTES);
    }

    #[test]
    fn the_table_of_blocks_is_kept_apart_and_can_be_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let pair = |n: u8| (vec![1, n], vec![n; 8]);
        let store = StateStore::open(dir.path()).unwrap();
        store.blocks().put((0..100).map(pair).collect()).unwrap();
        store.persist().unwrap();
        drop(store);
        let store = StateStore::open(dir.path()).unwrap();
        let table = store.blocks();
        assert_eq!(table.get(&[1, 7]).unwrap(), Some(vec![7; 8]));
        assert_eq!(table.range(&[1, 10], &[1, 20], 5).unwrap(), (10..15).map(pair).collect::<Vec<_>>());
        assert_eq!(table.range(&[1, 98], &[2], 5).unwrap(), (98..100).map(pair).collect::<Vec<_>>());
        for kind in [0, 2, 3, 4, 5, 255] {
            table.put(vec![(vec![kind], vec![kind])]).unwrap();
            assert_eq!(table.get(&[kind]).unwrap(), Some(vec![kind]));
        }
        assert!(store.scan(&[], &[], 10).unwrap().is_empty(), "no part of the state");
        table.clear().unwrap();
        table.put(vec![pair(3)]).unwrap();
        store.persist().unwrap();
        drop((table, store));
        let table = StateStore::open(dir.path()).unwrap().blocks();
        assert_eq!(table.range(&[1], &[2], 200).unwrap(), [pair(3)]);
        assert_eq!(table.get(&[255]).unwrap(), None);
    }

    #[test]
    fn entries_survive_reopening_and_snapshots_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open(folder.path().join("state")).unwrap();
        put(&store, &[("a", "1"), ("ab", "2"), ("ac", "3"), ("b", "4")]);
        let before = store.snapshot();
        let mut batch = Batch::default();
        batch.delete(*b"ab");
        batch.put(*b"ac", *b"33");
        store.apply(batch).unwrap();
        assert_eq!(store.get(b"ab").unwrap(), None);
        assert_eq!(before.get(b"ab").unwrap().unwrap(), b"2");
        assert_eq!(keys(&before, "a", "", 9), ["a", "ab", "ac"]);
        assert_eq!(keys(&store, "a", "", 9), ["a", "ac"]);
        assert_eq!(keys(&store, "a", "aa", 9), ["ac"]);
        assert_eq!(keys(&store, "", "", 2), ["a", "ac"]);
        store.persist().unwrap();
        drop((before, store));
        let store = StateStore::open(folder.path().join("state")).unwrap();
        assert_eq!(store.get(b"ac").unwrap().unwrap(), b"33");
        assert_eq!(keys(&store, "", "", 9), ["a", "ac", "b"]);
    }

    #[test]
    fn a_folder_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let _store = StateStore::open(folder.path()).unwrap();
        let second = StateStore::open(folder.path()).unwrap_err();
        assert!(matches!(second, StorageError::Locked { .. }), "{second}");
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        let error = StateStore::open(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
