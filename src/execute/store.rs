//! The key-value store under the executed state: what is asked of it, the form that lives in memory, and the layer that
//! collects the changes of one commit.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::StorageError;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Reads entries.
pub trait Read {
    /// The value under a key.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Up to `limit` entries whose keys start with `prefix` and are not below `from`, in ascending order.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError>;
}

/// Files beside the entries, each written from its beginning to its end.
pub trait Files {
    /// Writes the bytes of a file from `at` on, which is where it ends; at 0 one that is there begins anew.
    ///
    /// # Errors
    /// If it cannot be written.
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Up to `len` bytes of a file from `at` on; fewer where it ends.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>, StorageError>;

    /// Makes a file durable, with its name.
    ///
    /// # Errors
    /// If it cannot be written.
    fn sync(&self, name: &str) -> Result<(), StorageError>;

    /// Removes a file that is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    fn remove(&self, name: &str) -> Result<(), StorageError>;

    /// Names and lengths of all files.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn list(&self) -> Result<Vec<(String, u64)>, StorageError>;
}

/// An ordered key-value store. Clones are handles on the same data; any thread may read while one writes.
pub trait Store: Read + Files + Clone + Send + Sync + 'static {
    /// The store as it was at one moment.
    type Snapshot: Read;

    /// Makes all changes of a batch, or none: no snapshot and no restart ever sees a part of it. Who reads without a snapshot may,
    /// for as long as this takes: it sees them in ascending order of their keys, none before those of smaller keys. They need not be
    /// durable yet, but become durable in the order in which they were made.
    ///
    /// # Errors
    /// If the store cannot be written. It must not be used further.
    fn apply(&self, batch: Batch) -> Result<(), StorageError>;

    /// Makes durable what was applied.
    ///
    /// # Errors
    /// If the store cannot be written. It must not be used further.
    fn persist(&self) -> Result<(), StorageError>;

    /// The store as it is now, untouched by what is applied later.
    fn snapshot(&self) -> Self::Snapshot;

    /// Where the data lies, for messages.
    fn location(&self) -> String;
}

/// Changes that are made together: `None` deletes. The last change of a key counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Sets the value under a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), None);
    }

    /// Number of keys that change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds what is to be changed after this.
    pub(super) fn then(&mut self, later: Self) {
        self.changes.extend(later.changes);
    }
}

impl IntoIterator for Batch {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = std::collections::btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;

    /// Changes in ascending order of their keys.
    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}

/// The changes of one commit over the store that they will be applied to, behind those of commits that are not applied yet:
/// reads see them all, the store does not.
#[derive(Debug)]
pub(super) struct Overlay<'a, R> {
    base: &'a R,
    staged: &'a Batch,
    batch: Batch,
}

impl<'a, R: Read> Overlay<'a, R> {
    pub(super) fn new(base: &'a R, staged: &'a Batch) -> Self {
        Self { base, staged, batch: Batch::default() }
    }

    /// What it lies over.
    pub(super) fn base(&self) -> &'a R {
        self.base
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.batch.changes.get(key).or_else(|| self.staged.changes.get(key)) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    pub(super) fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.batch.put(key, value);
    }

    pub(super) fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.batch.delete(key);
    }

    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store in memory, for the simulator and for tests. Nothing survives the last handle.
#[derive(Debug, Clone, Default)]
pub struct MemStore {
    /// Shared with snapshots: a batch that meets a living snapshot copies the entries first.
    entries: Arc<RwLock<Arc<Entries>>>,
    files: Arc<RwLock<BTreeMap<String, Vec<u8>>>>,
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with the entries that this one has now, which goes its own way from here: what a restart finds.
    #[must_use]
    pub fn fork(&self) -> Self {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { entries: Arc::new(RwLock::new(self.current())), files: Arc::new(RwLock::new(files)) }
    }

    fn current(&self) -> Arc<Entries> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Read for MemStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.entries.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        MemSnapshot(self.current()).scan(prefix, from, limit)
    }
}

impl MemStore {
    fn no_file(name: &str) -> StorageError {
        StorageError::io("open", name, std::io::Error::from(std::io::ErrorKind::NotFound))
    }
}

impl Files for MemStore {
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let file = files.entry(name.to_owned()).or_default();
        if at == 0 {
            file.clear();
        }
        assert_eq!(file.len() as u64, at, "{name} is written in order");
        file.extend_from_slice(bytes);
        drop(files);
        Ok(())
    }

    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let file = files.get(name).ok_or_else(|| Self::no_file(name))?;
        let from = usize::try_from(at).map_or(file.len(), |at| at.min(file.len()));
        let bytes = file[from..file.len().min(from.saturating_add(len))].to_vec();
        drop(files);
        Ok(bytes)
    }

    fn sync(&self, _name: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let removed = self.files.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        removed.map(|_| ()).ok_or_else(|| Self::no_file(name))
    }

    fn list(&self) -> Result<Vec<(String, u64)>, StorageError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        Ok(files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }
}

impl Store for MemStore {
    type Snapshot = MemSnapshot;

    fn apply(&self, batch: Batch) -> Result<(), StorageError> {
        let mut guard = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entries = Arc::make_mut(&mut guard);
        for (key, change) in batch {
            match change {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        drop(guard);
        Ok(())
    }

    fn persist(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn snapshot(&self) -> MemSnapshot {
        MemSnapshot(self.current())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// A [`MemStore`] as it was at one moment.
#[derive(Debug, Clone)]
pub struct MemSnapshot(Arc<Entries>);

impl Read for MemSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        let start = from.max(prefix);
        Ok(self
            .0
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let store = MemStore::new();
        let mut batch = Batch::default();
        batch.put(*b"a1", *b"x");
        batch.put(*b"a2", *b"y");
        batch.put(*b"b1", *b"z");
        store.apply(batch).unwrap();
        let before = store.snapshot();
        let fork = store.fork();
        let mut batch = Batch::default();
        batch.delete(*b"a1");
        batch.put(*b"a2", *b"yy");
        store.clone().apply(batch).unwrap();
        assert_eq!(store.get(b"a1").unwrap(), None);
        assert_eq!(store.get(b"a2").unwrap().unwrap(), b"yy");
        for old in [&before as &dyn Read, &fork] {
            assert_eq!(old.get(b"a1").unwrap().unwrap(), b"x");
            assert_eq!(old.get(b"a2").unwrap().unwrap(), b"y");
        }
    }

    #[test]
    fn a_scan_keeps_to_prefix_start_and_limit() {
        let store = MemStore::new();
        let mut batch = Batch::default();
        for key in ["a", "ab", "ac", "ad", "b"] {
            batch.put(key, key);
        }
        store.apply(batch).unwrap();
        let keys = |prefix: &str, from: &str, limit| {
            let found = store.scan(prefix.as_bytes(), from.as_bytes(), limit).unwrap();
            found.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys("a", "", 9), ["a", "ab", "ac", "ad"]);
        assert_eq!(keys("a", "ac", 9), ["ac", "ad"]);
        assert_eq!(keys("a", "", 2), ["a", "ab"]);
        assert_eq!(keys("c", "", 9), [""; 0]);
    }

    #[test]
    fn an_overlay_shows_its_changes_and_leaves_the_store_alone() {
        let store = MemStore::new();
        let mut batch = Batch::default();
        batch.put(*b"a", *b"old");
        batch.put(*b"b", *b"old");
        store.apply(batch).unwrap();
        let mut staged = Batch::default();
        staged.put(*b"staged", *b"1");
        let mut overlay = Overlay::new(&store, &staged);
        assert_eq!(overlay.get(b"staged").unwrap().unwrap(), b"1");
        overlay.put(*b"a", *b"new");
        overlay.delete(*b"b");
        assert_eq!(overlay.get(b"a").unwrap().unwrap(), b"new");
        assert_eq!(overlay.get(b"b").unwrap(), None);
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"old");
        store.apply(overlay.into_batch()).unwrap();
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"new");
        assert_eq!(store.get(b"b").unwrap(), None);
    }
}
