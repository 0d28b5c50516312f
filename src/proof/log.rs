//! Proofs out of tiles, and the check and rebuilding of tiles.

use std::collections::BTreeMap;

use thiserror::Error;

use super::merkle::{self, HashReader, root_of};
use super::tiles::{
    LogTree, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind, TileReader, TileWrite, TileWriter, hashes_of,
    partial_tiles, read_tile, stubs_of,
};
use crate::error::StorageError;
use crate::types::{LeafIndex, NodeHash, STUB_BYTES};

/// Why a proof cannot be made.
#[derive(Debug, Error)]
pub enum LogError {
    /// The leaf lies beyond the log of that size.
    #[error("leaf {leaf} is not in a log of {size} leaves")]
    NoSuchLeaf {
        /// Leaf that was asked for.
        leaf: LeafIndex,
        /// Leaves of the log.
        size: u64,
    },
    /// The older log is the larger one.
    #[error("a log of {old} leaves is not the beginning of one of {new}")]
    NotAPrefix {
        /// Leaves of the older log.
        old: u64,
        /// Leaves of the newer log.
        new: u64,
    },
    /// A tile is missing or damaged, or the disk refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Inclusion path of `leaf` in the log of `size` leaves, which may be any size for which tiles are there: every
/// checkpointed one.
pub fn inclusion_proof(
    leaf: LeafIndex,
    size: u64,
    reader: &dyn TileReader,
) -> Result<Vec<NodeHash>, LogError> {
    if leaf.0 >= size {
        return Err(LogError::NoSuchLeaf { leaf, size });
    }
    Ok(merkle::inclusion_path(&mut TileHashes::new(size, reader), leaf.0, size)?)
}

/// Consistency path from the log of `old` leaves to that of `new`, of which the newer one needs its tiles.
pub fn consistency_proof(old: u64, new: u64, reader: &dyn TileReader) -> Result<Vec<NodeHash>, LogError> {
    if old > new {
        return Err(LogError::NotAPrefix { old, new });
    }
    Ok(merkle::consistency_path(&mut TileHashes::new(new, reader), old, new)?)
}

/// The stub of a leaf of the log of `size` leaves.
pub fn stub_at(leaf: LeafIndex, size: u64, reader: &dyn TileReader) -> Result<[u8; STUB_BYTES], LogError> {
    if leaf.0 >= size {
        return Err(LogError::NoSuchLeaf { leaf, size });
    }
    let id = tile_of(TileKind::Entries, leaf.0 >> TILE_HEIGHT, size);
    let stubs = stubs_of(id, &read_tile(reader, id)?)?;
    Ok(stubs[position(leaf.0)])
}

/// The tile of a kind and index as it is in a log of `size` leaves, which reaches into it.
fn tile_of(kind: TileKind, index: u64, size: u64) -> TileId {
    let nodes = match kind {
        TileKind::Entries => size,
        TileKind::Hashes { level } => size >> (level * TILE_HEIGHT),
    };
    let width = (nodes - (index << TILE_HEIGHT)).min(u64::from(TILE_WIDTH));
    TileId { kind, index, width: u16::try_from(width).unwrap_or(TILE_WIDTH) }
}

/// Position of a node in its tile.
fn position(node: u64) -> usize {
    usize::try_from(node % u64::from(TILE_WIDTH)).unwrap_or_else(|_| unreachable!("less than a tile's width"))
}

/// Reads hashes of perfect subtrees off the tiles of a log of a given size. A proof touches at most three tiles of each
/// level, which are kept until it is made.
struct TileHashes<'a> {
    size: u64,
    reader: &'a dyn TileReader,
    tiles: BTreeMap<TileId, Vec<NodeHash>>,
}

impl<'a> TileHashes<'a> {
    fn new(size: u64, reader: &'a dyn TileReader) -> Self {
        Self { size, reader, tiles: BTreeMap::new() }
    }
}

impl HashReader for TileHashes<'_> {
    type Error = StorageError;

    fn hash(&mut self, height: u8, index: u64) -> Result<NodeHash, StorageError> {
        let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        let first = index << within;
        let id = tile_of(TileKind::Hashes { level }, first >> TILE_HEIGHT, self.size);
        let from = position(first);
        if let Some(hashes) = self.tiles.get(&id) {
            return Ok(root_of(&hashes[from..from + (1 << within)]));
        }
        let hashes = hashes_of(&read_tile(self.reader, id)?);
        let hash = root_of(&hashes[from..from + (1 << within)]);
        self.tiles.insert(id, hashes);
        Ok(hash)
    }
}

/// Writes all tiles of a log anew from its stubs, in order and in chunks of any size, partial tiles included, and returns the
/// log. What was there under the same names is replaced.
///
/// # Errors
/// The first error of the stubs' source or of the writer.
pub fn rebuild(
    chunks: impl IntoIterator<Item = Result<Vec<[u8; STUB_BYTES]>, StorageError>>,
    writer: &mut dyn TileWriter,
) -> Result<LogTree, StorageError> {
    let mut tree = LogTree::new();
    for stubs in chunks {
        for tile in tree.append(&stubs?) {
            writer.put(&tile)?;
        }
    }
    for tile in tree.partials() {
        writer.put(&tile)?;
    }
    Ok(tree)
}

/// What [`check_tiles`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TileCheck {
    /// Every tile of the log is there and leads to the root.
    Whole,
    /// Something does not hold; the tiles have to be rebuilt.
    Damaged {
        /// The first tile in which it shows.
        path: String,
        /// What does not hold.
        why: String,
    },
}

/// Reads the whole log of `size` leaves, leaves and hashes of every level, and says whether it is whole and has `root`.
///
/// Takes the leaves from the entry bundles, fills tiles with them again and compares: memory stays that of a [`LogTree`],
/// and time is that of reading and hashing them all.
///
/// # Errors
/// Those of the reader beside [`StorageError::Damaged`].
pub fn check_tiles(size: u64, root: &NodeHash, reader: &dyn TileReader) -> Result<TileCheck, StorageError> {
    match compare_tiles(size, root, reader) {
        Ok(()) => Ok(TileCheck::Whole),
        Err(StorageError::Damaged { path, why, .. }) => Ok(TileCheck::Damaged { path, why }),
        Err(other) => Err(other),
    }
}

fn compare_tiles(size: u64, root: &NodeHash, reader: &dyn TileReader) -> Result<(), StorageError> {
    let mut tree = LogTree::new();
    while tree.size() < size {
        let id = tile_of(TileKind::Entries, tree.size() >> TILE_HEIGHT, size);
        let stubs = stubs_of(id, &read_tile(reader, id)?)?;
        for tile in tree.append(&stubs) {
            compare(&tile, reader)?;
        }
    }
    for (tile, id) in tree.partials().iter().zip(partial_tiles(size)) {
        if read_tile(reader, id)? != tile.bytes {
            return Err(contradiction(&tile.path));
        }
    }
    if tree.root() != *root {
        let path = tile_of(TileKind::Entries, size.saturating_sub(1) >> TILE_HEIGHT, size).to_string();
        let why = format!("the tiles of {size} leaves have the root {}, expected {root}", tree.root());
        return Err(StorageError::Damaged { path, at: 0, why });
    }
    Ok(())
}

fn compare(expected: &TileWrite, reader: &dyn TileReader) -> Result<(), StorageError> {
    match reader.tile(&expected.path)? {
        Some(bytes) if bytes == expected.bytes => Ok(()),
        Some(_) => Err(contradiction(&expected.path)),
        None => {
            let why = "the tile is missing".to_owned();
            Err(StorageError::Damaged { path: expected.path.clone(), at: 0, why })
        }
    }
}

fn contradiction(path: &str) -> StorageError {
    let why = "the tile is not what the leaves in the entry bundles hash to".to_owned();
    StorageError::Damaged { path: path.to_owned(), at: 0, why }
}

#[cfg(test)]
mod tests;
