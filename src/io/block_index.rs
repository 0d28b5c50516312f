//! Finds the record of a block by its name: the newest in memory, all others in a table on disk.
//!
//! The table holds what the log holds too, so none of it has to survive. It says up to which record it goes and by which name
//! that one is found; where the log does not agree, or is shorter, it is of another log, and made anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::codec::{Reader, Writer};
use crate::error::StorageError;
use crate::types::{
    AuthorityIndex, BLOCK_REF_BYTES, BlockDigest, BlockRef, LogSeq, Round, encode_block_ref, read_block_ref,
};

/// Records that are found in memory before the oldest are carried to the table.
const RECENT_MAX: usize = if cfg!(test) { 24 } else { 8_192 };
/// Records that are carried there together.
const TOGETHER: usize = if cfg!(test) { 8 } else { 1_024 };
/// Under this key the table says how far it goes. It is behind all others, as is what comes next: a key before them would have each new
/// part of a sorted table overlap all old ones.
const KEPT: &[u8] = &[u8::MAX];

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Keys and values in order, as bytes; a key begins with the kind of the record. Handles may be used by several threads.
pub trait BlockTable: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// Those of the disk.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// The first `most` pairs of a kind from a key on, up to and without another.
    ///
    /// # Errors
    /// Those of the disk.
    fn range(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Pair>, StorageError>;

    /// Puts all pairs, or none. A crash may take back the last of what was put, not some of it in between.
    ///
    /// # Errors
    /// Those of the disk.
    fn put(&self, pairs: Vec<Pair>) -> Result<(), StorageError>;

    /// Removes everything.
    ///
    /// # Errors
    /// Those of the disk.
    fn clear(&self) -> Result<(), StorageError>;
}

/// A table in memory, for logs that are short. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryTable(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl MemoryTable {
    fn with<T>(&self, run: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BlockTable for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.with(|pairs| pairs.get(key).cloned()))
    }

    fn range(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Pair>, StorageError> {
        let (from, to) = (from.to_vec(), to.to_vec());
        let pair = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(self.with(|pairs| pairs.range(from..to).take(most).map(pair).collect()))
    }

    fn put(&self, pairs: Vec<Pair>) -> Result<(), StorageError> {
        self.with(|held| held.extend(pairs));
        Ok(())
    }

    fn clear(&self) -> Result<(), StorageError> {
        self.with(BTreeMap::clear);
        Ok(())
    }
}

/// What a record is found by: its kind and the block.
type Name = (u8, BlockRef);

/// Maps (kind of record, block) to the record. The newest eight to nine thousand are in memory, some 200 bytes each.
pub struct BlockIndex {
    recent: RwLock<Recent>,
    table: Box<dyn BlockTable>,
}

impl std::fmt::Debug for BlockIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockIndex").field("recent", &self.recent).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Recent {
    records: BTreeMap<Name, LogSeq>,
    /// The same as they came.
    order: VecDeque<(LogSeq, Name)>,
    /// The last record of the table.
    kept: Option<(LogSeq, Name)>,
}

impl BlockIndex {
    /// An index of what a table holds.
    ///
    /// # Errors
    /// Those of the table. One that says how far it goes in a way that cannot be read is made anew.
    pub fn open(table: impl BlockTable) -> Result<Self, StorageError> {
        let kept = match table.get(KEPT)? {
            Some(bytes) => {
                let kept = read_kept(&bytes);
                if kept.is_none() {
                    table.clear()?;
                }
                kept
            }
            None => None,
        };
        Ok(Self { recent: RwLock::new(Recent { kept, ..Recent::default() }), table: Box::new(table) })
    }

    /// The last record of the table: those up to it need not be told again.
    #[must_use]
    pub fn kept(&self) -> Option<LogSeq> {
        self.read(|recent| recent.kept.map(|(seq, _)| seq))
    }

    /// Whether the last record of the table is found by this name.
    pub(super) fn agrees(&self, kind: u8, block: BlockRef) -> bool {
        self.read(|recent| recent.kept.is_some_and(|(_, name)| name == (kind, block)))
    }

    /// Forgets everything: the table is of another log.
    pub(super) fn clear(&self) -> Result<(), StorageError> {
        self.table.clear()?;
        self.write(|recent| *recent = Recent::default());
        Ok(())
    }

    /// Adds a durable record. By one thread, in the order of the log; [`BlockIndex::carry`] keeps memory bounded. Of two records of
    /// one name the last is found.
    pub fn insert(&self, kind: u8, block: BlockRef, seq: LogSeq) {
        let name = (kind, block);
        self.write(|recent| {
            recent.records.insert(name, seq);
            recent.order.push_back((seq, name));
        });
    }

    /// Carries the oldest records to the table if there are many; may wait for the disk. They are there before they are gone from
    /// memory. By the thread that inserts.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn carry(&self) -> Result<(), StorageError> {
        while self.read(|recent| recent.order.len()) >= RECENT_MAX + TOGETHER {
            self.carry_some()?;
        }
        Ok(())
    }

    fn carry_some(&self) -> Result<(), StorageError> {
        let old: Vec<_> = self.read(|recent| recent.order.iter().take(TOGETHER).copied().collect());
        // The last whose name is a digest: commits have numbers for names, which are the same in every log.
        let is_digest = |(_, (_, block)): &&(LogSeq, Name)| block.digest != BlockDigest::default();
        let last = old.iter().rev().find(is_digest).copied();
        let mut pairs: Vec<Pair> = old
            .iter()
            .map(|(seq, (kind, block))| (key(*kind, block).to_vec(), seq.0.to_be_bytes().to_vec()))
            .collect();
        pairs.extend(last.map(|last| (KEPT.to_vec(), encode_kept(last))));
        self.table.put(pairs)?;
        self.write(|recent| {
            for (seq, name) in old {
                recent.order.pop_front();
                if recent.records.get(&name) == Some(&seq) {
                    recent.records.remove(&name);
                }
            }
            recent.kept = last.or(recent.kept);
        });
        Ok(())
    }

    /// The record of this kind of a block.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn get(&self, kind: u8, block: &BlockRef) -> Result<Option<LogSeq>, StorageError> {
        // Memory first: what is carried is for a moment in both, never in none.
        if let Some(seq) = self.read(|recent| recent.records.get(&(kind, *block)).copied()) {
            return Ok(Some(seq));
        }
        Ok(self.table.get(&key(kind, block))?.and_then(|value| read_seq(&value)))
    }

    /// The first `most` records of a kind with a round in `from .. from + rounds`, by (round, author, digest).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn in_rounds(
        &self,
        kind: u8,
        from: Round,
        rounds: u64,
        most: usize,
    ) -> Result<Vec<(BlockRef, LogSeq)>, StorageError> {
        let lowest = |round| BlockRef { round, author: AuthorityIndex(0), digest: BlockDigest([0; 32]) };
        let (from, to) = (lowest(from), lowest(Round(from.0.saturating_add(rounds))));
        let recent: Vec<_> = self.read(|recent| {
            let found = recent.records.range((kind, from)..(kind, to)).take(most);
            found.map(|((_, block), seq)| (*block, *seq)).collect()
        });
        let kept = self.table.range(&key(kind, &from), &key(kind, &to), most)?;
        let mut found: BTreeMap<BlockRef, LogSeq> = kept.iter().filter_map(read_pair).collect();
        found.extend(recent);
        Ok(found.into_iter().take(most).collect())
    }

    fn read<T>(&self, run: impl FnOnce(&Recent) -> T) -> T {
        run(&self.recent.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, run: impl FnOnce(&mut Recent) -> T) -> T {
        run(&mut self.recent.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `kind1 round8 author2 digest32`.
fn key(kind: u8, block: &BlockRef) -> [u8; 1 + BLOCK_REF_BYTES] {
    let mut key = [kind; 1 + BLOCK_REF_BYTES];
    key[1..].copy_from_slice(&encode_block_ref(block));
    key
}

fn read_seq(value: &[u8]) -> Option<LogSeq> {
    Some(LogSeq(u64::from_be_bytes(value.try_into().ok()?)))
}

fn read_pair((key, value): &Pair) -> Option<(BlockRef, LogSeq)> {
    Some((read_block_ref(&mut Reader::new(key.get(1..)?)).ok()?, read_seq(value)?))
}

/// `seq8 kind1 round8 author2 digest32`.
fn encode_kept((seq, (kind, block)): (LogSeq, Name)) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + BLOCK_REF_BYTES);
    out.put_u64(seq.0);
    out.put_bytes(&key(kind, &block));
    out
}

fn read_kept(bytes: &[u8]) -> Option<(LogSeq, Name)> {
    let mut r = Reader::new(bytes);
    let seq = LogSeq(r.u64("record").ok()?);
    let kind = r.u8("kind").ok()?;
    Some((seq, (kind, read_block_ref(&mut r).ok()?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn block(n: u64) -> BlockRef {
        let digest = BlockDigest(*blake3::hash(&n.to_be_bytes()).as_bytes());
        BlockRef { round: Round(n / 4), author: AuthorityIndex(u16::try_from(n % 4).unwrap()), digest }
    }

    fn fill(index: &BlockIndex, blocks: u64) {
        for n in 0..blocks {
            index.insert(1, block(n), LogSeq(2 * n + 1));
            if n % 5 != 0 {
                index.insert(2, block(n), LogSeq(2 * n + 2));
            }
            index.carry().unwrap();
        }
    }

    #[test]
    fn blocks_are_found_by_kind_and_by_rounds_in_memory_and_in_the_table() {
        let table = MemoryTable::default();
        let index = BlockIndex::open(table.clone()).unwrap();
        fill(&index, 200);
        assert!(index.read(|recent| recent.order.len()) < RECENT_MAX + TOGETHER);
        assert!(table.with(|pairs| pairs.len()) > 300);
        for n in 0..200 {
            assert_eq!(index.get(1, &block(n)).unwrap(), Some(LogSeq(2 * n + 1)));
            assert_eq!(index.get(2, &block(n)).unwrap(), (n % 5 != 0).then_some(LogSeq(2 * n + 2)));
        }
        assert_eq!(index.get(1, &block(200)).unwrap(), None);
        // Rounds 40 to 49 lie across the border between the two.
        let mut all: Vec<_> = (160..200).map(|n| (block(n), LogSeq(2 * n + 1))).collect();
        all.sort_unstable();
        assert_eq!(index.in_rounds(1, Round(40), 10, 100).unwrap(), all);
        assert_eq!(index.in_rounds(1, Round(40), 10, 37).unwrap(), all[..37]);
        assert_eq!(index.in_rounds(1, Round(40), u64::MAX, 100).unwrap(), all);
        assert!(index.in_rounds(1, Round(50), 5, 100).unwrap().is_empty());
        assert_eq!(index.in_rounds(2, Round(0), 1, 100).unwrap().len(), 3);
    }

    #[test]
    fn a_table_says_how_far_it_goes_and_one_that_does_not_is_made_anew() {
        let table = MemoryTable::default();
        fill(&BlockIndex::open(table.clone()).unwrap(), 200);
        let index = BlockIndex::open(table.clone()).unwrap();
        let kept = index.kept().unwrap();
        let last = (0..200).find(|n| 2 * n + 1 >= kept.0 - 1).unwrap();
        let kind = if kept.0 % 2 == 1 { 1 } else { 2 };
        assert!(index.agrees(kind, block(last)));
        assert!(!index.agrees(kind, block(last + 1)));
        assert_eq!(index.get(1, &block(3)).unwrap(), Some(LogSeq(7)));
        assert_eq!(index.get(1, &block(199)).unwrap(), None, "not carried");

        table.put(vec![(KEPT.to_vec(), vec![1, 2, 3])]).unwrap();
        let index = BlockIndex::open(table.clone()).unwrap();
        assert_eq!((index.kept(), table.with(|pairs| pairs.len())), (None, 0));
    }
}
