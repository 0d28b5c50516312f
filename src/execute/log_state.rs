//! The Merkle log as far as the state holds it: every stub, and one hash for each full tile. That is enough to go on after
//! a restart without the tiles on disk, and to write any of them again.

use super::store::{Overlay, Read};
use super::{leaves, tables};
use crate::error::StorageError;
use crate::proof::merkle::leaf_hashes;
use crate::proof::tiles::{TILE_WIDTH, TileId, TileKind, TileReader, TileWrite};
use crate::types::{LeafIndex, STUB_BYTES};

/// Makes the tiles of the log from the state, for [`LogTree::restore`](crate::proof::tiles::LogTree::restore) and to write
/// lost tiles again. A tile of level 0 or of entries costs 8 reads, one of a higher level 256 in a row.
#[derive(Debug)]
pub struct StateTiles<R> {
    store: R,
}

impl<R: Read> StateTiles<R> {
    /// Reads the state in a store or a snapshot of one.
    pub fn new(store: R) -> Self {
        Self { store }
    }

    /// Up to `limit` stubs from `first` on, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn stubs(&self, first: LeafIndex, limit: usize) -> Result<Vec<[u8; STUB_BYTES]>, StorageError> {
        let found = leaves::read_many(&self.store, first, limit)?;
        Ok(found.into_iter().map(|record| record.stub).collect())
    }

    /// Hashes of perfect subtrees of height 8 × `level`, `level` ≥ 1, from `first` on.
    fn nodes(&self, level: u8, first: u64, limit: usize) -> Result<Vec<u8>, StorageError> {
        let found = self.store.scan(&[tables::NODE, level], &tables::node(level, first), limit)?;
        let mut bytes = Vec::with_capacity(32 * limit);
        for (index, (key, hash)) in (first..).zip(found) {
            if key != tables::node(level, index) || hash.len() != 32 {
                return Err(tables::damaged(
                    "tree node",
                    &key,
                    &format!("expected node {index} of 32 bytes"),
                ));
            }
            bytes.extend_from_slice(&hash);
        }
        Ok(bytes)
    }
}

impl<R: Read> TileReader for StateTiles<R> {
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(id) = TileId::parse(path) else { return Ok(None) };
        let Some(first) = id.index.checked_mul(TILE_WIDTH.into()) else { return Ok(None) };
        let width = usize::from(id.width);
        let bytes = match id.kind {
            TileKind::Hashes { level: 0 } => {
                let stubs = self.stubs(LeafIndex(first), width)?;
                leaf_hashes(&stubs).into_iter().flat_map(|hash| hash.0).collect()
            }
            TileKind::Hashes { level } => self.nodes(level, first, width)?,
            TileKind::Entries => {
                let stubs = self.stubs(LeafIndex(first), width)?;
                let [high, low] = entry_len();
                stubs.iter().flat_map(|stub| [high, low].into_iter().chain(*stub)).collect()
            }
        };
        Ok((bytes.len() == id.byte_len()).then_some(bytes))
    }
}

/// The length in front of each entry of a bundle.
fn entry_len() -> [u8; 2] {
    u16::try_from(STUB_BYTES).unwrap_or_else(|_| unreachable!("54")).to_be_bytes()
}

/// Keeps the hash of each hash tile that became full: it is an entry of the level above.
pub(super) fn keep_nodes<R: Read>(overlay: &mut Overlay<'_, R>, full: &[TileWrite]) {
    for (level, index, hash) in full.iter().filter_map(|tile| tile.above) {
        overlay.put(tables::node(level, index), hash.0);
    }
}
