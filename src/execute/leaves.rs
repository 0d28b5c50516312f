//! The leaves of the log in the store, many to an entry: an entry for each would cost more than all else that execution does.
//!
//! An entry holds the leaves of one chunk, in order, and is written once, when the chunk is full: so a store that keeps these
//! entries apart never has to merge them. Until then the leaves of the last chunk are an entry of their own, written anew, longer,
//! by each commit.

use super::ids::{INDEXED_TOGETHER, Ids};
use super::store::{Overlay, Read, Store};
use super::tables::{self, LAST_LEAVES, LEAF_BYTES, LeafRecord};
use crate::codec::Writer as _;
use crate::error::StorageError;
use crate::types::{LeafIndex, OrgId, TxId};

/// Leaves of a full chunk. A commit rewrites half of that many on the mean, and reading one leaf reads them all.
pub(super) const CHUNK_LEAVES: u64 = CHUNK as u64;
const CHUNK: usize = 32;
/// Leaves that are read at a time after a restart; few in tests, where logs are short.
const READ_TOGETHER: usize = if cfg!(test) { 70 } else { 4_096 };

/// The end of the log: where the next leaf goes.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    next: u64,
    /// The records of the chunk that the next leaf goes into.
    tail: Vec<u8>,
    pub(super) ids: Ids,
}

impl Leaves {
    /// The end of a log of so many leaves that a store holds. `each` gets those whose sequence numbers the windows in the
    /// store do not cover.
    pub(super) fn open(
        store: &impl Store,
        size: u64,
        mut each: impl FnMut(OrgId, &LeafRecord) -> Result<(), StorageError>,
    ) -> Result<Self, StorageError> {
        let records = size % CHUNK_LEAVES;
        let last = last_chunk(store)?.filter(|(chunk, _)| *chunk == size / CHUNK_LEAVES);
        let tail = last.map(|(_, records)| records).unwrap_or_default();
        if tail.len() as u64 != records * LEAF_BYTES as u64 {
            let why = format!("expected {records} leaves of chunk {}", size / CHUNK_LEAVES);
            return Err(tables::damaged("last leaves", &[LAST_LEAVES], &why));
        }
        let mut ids = Ids::open(store.get(&[tables::INDEXED])?, store, size)?;
        let mut next = ids.covered();
        while next < size {
            let limit = usize::try_from(size - next).unwrap_or(usize::MAX).min(READ_TOGETHER);
            let records = read_many(store, LeafIndex(next), limit)?;
            if records.is_empty() {
                let key = tables::leaves(next / CHUNK_LEAVES);
                return Err(tables::damaged("leaf", &key, &format!("leaf {next} of {size} is missing")));
            }
            for record in records {
                let org = record.stub(LeafIndex(next))?.org;
                if next >= ids.windows() {
                    each(org, &record)?;
                }
                ids.note(org, LeafIndex(next), &record);
                next += 1;
            }
            if next - ids.covered() >= INDEXED_TOGETHER {
                ids.cover(store, next)?;
            }
        }
        if ids.covered() < ids.windows() {
            // Files were missing. Windows are stored up to the end of a file.
            ids.cover(store, size)?;
        }
        ids.applied();
        Ok(Self { next: size, tail, ids })
    }

    /// Position of the next leaf.
    pub(super) fn next(&self) -> LeafIndex {
        LeafIndex(self.next)
    }

    /// Adds a leaf. It is sure to be among the changes only after [`Leaves::put_tail`].
    pub(super) fn push<R: Read>(&mut self, overlay: &mut Overlay<'_, R>, org: OrgId, record: &LeafRecord) {
        self.ids.note(org, self.next(), record);
        if self.tail.is_empty() {
            self.tail.reserve_exact(CHUNK * LEAF_BYTES);
        }
        record.append_to(&mut self.tail);
        self.next += 1;
        if self.next.is_multiple_of(CHUNK_LEAVES) {
            let full = std::mem::take(&mut self.tail);
            overlay.put(tables::leaves(self.next / CHUNK_LEAVES - 1), full);
        }
    }

    /// Puts the chunk that is not full among the changes.
    pub(super) fn put_tail<R: Read>(&self, overlay: &mut Overlay<'_, R>) {
        if !self.tail.is_empty() {
            let mut entry = Vec::with_capacity(size_of::<u64>() + self.tail.len());
            entry.put_u64(self.next / CHUNK_LEAVES);
            entry.put_bytes(&self.tail);
            overlay.put([LAST_LEAVES], entry);
        }
    }

    /// The leaf of a transaction, of those just pushed or of an earlier commit.
    pub(super) fn find_id<S: Store>(
        &self,
        overlay: &Overlay<'_, S>,
        id: &TxId,
    ) -> Result<Option<LeafIndex>, StorageError> {
        self.ids.find(overlay.base(), id, |leaf| {
            Ok(self.find(overlay, leaf)?.is_some_and(|record| record.id == *id))
        })
    }

    /// A leaf, of those just pushed or of an earlier commit.
    pub(super) fn find<R: Read>(
        &self,
        overlay: &Overlay<'_, R>,
        leaf: LeafIndex,
    ) -> Result<Option<LeafRecord>, StorageError> {
        let key = tables::leaves(leaf.0 / CHUNK_LEAVES);
        if leaf.0 / CHUNK_LEAVES == self.next / CHUNK_LEAVES {
            return record(&key, &self.tail, leaf);
        }
        overlay.get(&key)?.map_or(Ok(None), |chunk| record(&key, &chunk, leaf))
    }
}

/// Number and records of the chunk that is not full, or of the last one that was not.
fn last_chunk(store: &impl Read) -> Result<Option<(u64, Vec<u8>)>, StorageError> {
    let Some(mut entry) = store.get(&[LAST_LEAVES])? else { return Ok(None) };
    let Some((chunk, _)) = entry.split_first_chunk() else {
        return Err(tables::damaged("last leaves", &[LAST_LEAVES], &format!("{} bytes", entry.len())));
    };
    let chunk = u64::from_be_bytes(*chunk);
    entry.drain(..size_of::<u64>());
    Ok(Some((chunk, entry)))
}

/// The records of a chunk that a store holds, of which there may be none.
fn chunk_of(store: &impl Read, chunk: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let key = tables::leaves(chunk);
    if let Some(full) = store.get(&key)? {
        return Ok(Some(full));
    }
    match last_chunk(store)? {
        Some((last, records)) if last == chunk => Ok(Some(records)),
        // It became full between the two looks: full chunks are visible before the last one.
        Some((last, _)) if last > chunk => store.get(&key),
        Some(_) | None => Ok(None),
    }
}

/// A leaf that a store holds.
pub(super) fn read(store: &impl Read, leaf: LeafIndex) -> Result<Option<LeafRecord>, StorageError> {
    let chunk = leaf.0 / CHUNK_LEAVES;
    chunk_of(store, chunk)?.map_or(Ok(None), |records| record(&tables::leaves(chunk), &records, leaf))
}

/// Up to `limit` leaves from `first` on, in order, that a store holds.
pub(super) fn read_many(
    store: &impl Read,
    first: LeafIndex,
    limit: usize,
) -> Result<Vec<LeafRecord>, StorageError> {
    let mut next = first;
    let mut found = Vec::with_capacity(limit.min(4_096));
    while found.len() < limit {
        let chunk = next.0 / CHUNK_LEAVES;
        let key = tables::leaves(chunk);
        let Some(bytes) = chunk_of(store, chunk)? else { break };
        while found.len() < limit && next.0 / CHUNK_LEAVES == chunk {
            let Some(record) = record(&key, &bytes, next)? else { return Ok(found) };
            found.push(record);
            next.0 += 1;
        }
    }
    Ok(found)
}

/// The record of a leaf in the entry of its chunk.
fn record(key: &[u8], chunk: &[u8], leaf: LeafIndex) -> Result<Option<LeafRecord>, StorageError> {
    let (records, rest) = chunk.as_chunks::<LEAF_BYTES>();
    if !rest.is_empty() || records.len() as u64 > CHUNK_LEAVES {
        return Err(tables::damaged("leaf", key, &format!("{} bytes", chunk.len())));
    }
    let at = usize::try_from(leaf.0 % CHUNK_LEAVES).unwrap_or_else(|_| unreachable!("below 32"));
    records.get(at).map(|bytes| LeafRecord::decode(key, bytes)).transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::execute::store::{Batch, MemStore, Pair, Store};
    use crate::types::{CommitIndex, KeyId, Kind, LogSeq, OrgId, Stub, TimestampMs};

    const ORG: OrgId = OrgId(3);

    fn record_of(leaf: u64) -> LeafRecord {
        let hash = *blake3::hash(&leaf.to_be_bytes()).as_bytes();
        let kind = Kind::RecordAnchor;
        let stub =
            Stub { kind, violation: false, org: ORG, height: CommitIndex(leaf), time: TimestampMs(1), hash };
        let key = KeyId(u32::try_from(leaf % 3).unwrap());
        LeafRecord {
            stub: stub.encode(),
            payload_seq: LogSeq(leaf),
            index: 7,
            key,
            seq: leaf,
            id: TxId(hash),
        }
    }

    fn reopen(store: &MemStore, size: u64) -> Leaves {
        Leaves::open(store, size, |_, _| Ok(())).unwrap()
    }

    #[test]
    fn what_is_read_is_what_was_pushed_across_chunks_commits_and_restarts() {
        let store = MemStore::new();
        let nothing = Batch::default();
        let mut leaves = reopen(&store, 0);
        let mut size = 0;
        for (i, pushed) in [1, 30, 1, 1, 31, 32, 64, 100, 5].into_iter().enumerate() {
            let mut overlay = Overlay::new(&store, &nothing);
            for leaf in size..size + pushed {
                assert_eq!(leaves.next(), LeafIndex(leaf));
                leaves.push(&mut overlay, ORG, &record_of(leaf));
                for known in [0, leaf / 2, leaf] {
                    let found = leaves.find(&overlay, LeafIndex(known)).unwrap();
                    assert_eq!(found, Some(record_of(known)), "{known} of {leaf}");
                    let found = leaves.find_id(&overlay, &record_of(known).id).unwrap();
                    assert_eq!(found, Some(LeafIndex(known)));
                }
                assert_eq!(leaves.find(&overlay, LeafIndex(leaf + 1)).unwrap(), None);
                assert_eq!(leaves.find_id(&overlay, &record_of(leaf + 1).id).unwrap(), None);
            }
            leaves.put_tail(&mut overlay);
            let mut batch = overlay.into_batch();
            if i % 3 == 2 {
                leaves.ids.cover(&store, size + pushed).unwrap();
                leaves.ids.name_files(&mut batch);
            }
            store.apply(batch).unwrap();
            leaves.ids.applied();
            size += pushed;
            let again = reopen(&store, size);
            assert_eq!((again.next, &again.tail), (leaves.next, &leaves.tail));
            assert!(again.ids.covered() >= leaves.ids.covered());
            let overlay = Overlay::new(&store, &nothing);
            for known in 0..size {
                let found = again.find_id(&overlay, &record_of(known).id).unwrap();
                assert_eq!(found, Some(LeafIndex(known)));
            }
            assert_eq!(read(&store, LeafIndex(size - 1)).unwrap(), Some(record_of(size - 1)));
            assert_eq!(read(&store, LeafIndex(size)).unwrap(), None);
        }
        let all = read_many(&store, LeafIndex(3), 10_000).unwrap();
        assert_eq!(all, (3..size).map(record_of).collect::<Vec<_>>());
        assert_eq!(read_many(&store, LeafIndex(40), 2).unwrap(), [record_of(40), record_of(41)]);
    }

    /// Shows at each look what is there when so many changes of a batch have become visible.
    struct Applying {
        stages: Vec<MemStore>,
        looks: Mutex<VecDeque<usize>>,
    }

    impl Read for Applying {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
            let mut looks = self.looks.lock().unwrap();
            let now = looks.front().copied().unwrap();
            if looks.len() > 1 {
                looks.pop_front();
            }
            drop(looks);
            self.stages[now].get(key)
        }

        fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Pair>, StorageError> {
            unreachable!("leaves are not scanned")
        }
    }

    fn pushed(leaves: &mut Leaves, store: &MemStore, upto: u64) -> Batch {
        let nothing = Batch::default();
        let mut overlay = Overlay::new(store, &nothing);
        while leaves.next < upto {
            let record = record_of(leaves.next);
            leaves.push(&mut overlay, ORG, &record);
        }
        leaves.put_tail(&mut overlay);
        overlay.into_batch()
    }

    #[test]
    fn whoever_reads_while_chunks_become_full_finds_what_was_there() {
        let store = MemStore::new();
        let mut leaves = reopen(&store, 0);
        let before = pushed(&mut leaves, &store, 40);
        store.apply(before.clone()).unwrap();
        let later = pushed(&mut leaves, &store, 110);
        let stages: Vec<MemStore> = (0..=later.len())
            .map(|n| {
                let (store, mut visible) = (MemStore::new(), Batch::default());
                for (key, value) in later.clone().into_iter().take(n) {
                    visible.put(key, value.unwrap());
                }
                store.apply(before.clone()).unwrap();
                store.apply(visible).unwrap();
                store
            })
            .collect();
        let last = stages.len() - 1;
        for first in 0..=last {
            for second in first..=last {
                for third in second..=last {
                    let read_of = |leaf| {
                        let looks = Mutex::new([first, second, third].into());
                        read(&Applying { stages: stages.clone(), looks }, LeafIndex(leaf)).unwrap()
                    };
                    for leaf in [0, 31, 32, 39] {
                        assert_eq!(read_of(leaf), Some(record_of(leaf)), "{leaf}, {first} {second} {third}");
                    }
                    let new = read_of(50);
                    assert!(new.is_none() && first < last || new == Some(record_of(50)));
                    assert_eq!(read_of(128), None, "of a chunk that nobody has begun");
                }
            }
        }
    }

    #[test]
    fn last_leaves_of_another_chunk_are_not_taken_for_those_of_this_one() {
        let store = MemStore::new();
        let mut leaves = reopen(&store, 0);
        store.apply(pushed(&mut leaves, &store, 33)).unwrap();
        // The chunk becomes full: what was written of it last stays.
        store.apply(pushed(&mut leaves, &store, 64)).unwrap();
        assert_eq!(store.get(&[LAST_LEAVES]).unwrap().unwrap().len(), 8 + LEAF_BYTES);
        let again = reopen(&store, 64);
        assert_eq!((again.next, again.tail.len()), (64, 0));
        assert_eq!(read(&store, LeafIndex(64)).unwrap(), None);
        assert!(matches!(Leaves::open(&store, 65, |_, _| Ok(())), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn a_store_that_lacks_leaves_is_damaged() {
        let store = MemStore::new();
        let open = |size| Leaves::open(&store, size, |_, _| Ok(())).map(|_| ());
        assert!(matches!(open(5), Err(StorageError::Damaged { .. })));
        assert!(matches!(open(64), Err(StorageError::Damaged { .. })));
        assert!(open(0).is_ok());
        let mut batch = Batch::default();
        batch.put(tables::leaves(0), vec![0; LEAF_BYTES + 1]);
        store.apply(batch).unwrap();
        let mut batch = Batch::default();
        batch.put([LAST_LEAVES], vec![0; 7]);
        store.apply(batch).unwrap();
        assert!(matches!(read(&store, LeafIndex(32)), Err(StorageError::Damaged { .. })));
        assert!(matches!(read(&store, LeafIndex(0)), Err(StorageError::Damaged { .. })));
    }
}
