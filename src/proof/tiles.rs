//! The Merkle log as C2SP tlog-tiles of height 8: names of tiles, and the growing log that fills them.
//!
//! A hash tile of level `l` holds 256 hashes of perfect subtrees of height `8·l`; an entry bundle holds 256 leaves, each
//! behind a 2-byte length. What lies left of the right edge never changes, so [`LogTree`] keeps the right edge alone: at
//! most 255 hashes for each level, and 255 stubs.

use std::collections::BTreeMap;
use std::fmt;

use super::merkle::{Frontier, leaf_hashes, root_of};
use crate::codec::Writer as _;
use crate::error::StorageError;
use crate::types::{NodeHash, STUB_BYTES};

/// Height of a tile in levels of the tree.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes of a full hash tile, and leaves of a full entry bundle.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;
/// Levels of hash tiles that a tree of fewer than 2^64 leaves can have.
pub const TILE_LEVELS: u8 = 8;
/// Bytes of a stub in an entry bundle, with its length.
const ENTRY_BYTES: usize = 2 + STUB_BYTES;
const HASH_BYTES: usize = 32;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// Hashes of perfect subtrees of height 8 × level.
    Hashes {
        /// Level, 0 to 7.
        level: u8,
    },
    /// Leaves.
    Entries,
}

/// Names one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// Position among the tiles of its kind.
    pub index: u64,
    /// Hashes or leaves in it, 1 to [`TILE_WIDTH`]. Less than that is a partial tile.
    pub width: u16,
}

impl TileId {
    /// The same tile, full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// Bytes of the tile.
    #[must_use]
    pub fn byte_len(self) -> usize {
        usize::from(self.width)
            * match self.kind {
                TileKind::Hashes { .. } => HASH_BYTES,
                TileKind::Entries => ENTRY_BYTES,
            }
    }

    /// Reads a path as [`fmt::Display`] writes it. Nothing else has a tile behind it, so that paths that come from
    /// clients can be used once they are read.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes { level: canonical(level)? },
        };
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => (digits, canonical(width)?),
            None => (rest, TILE_WIDTH),
        };
        let mut index = 0u64;
        for group in digits.split('/') {
            let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index = index.checked_mul(1_000)?.checked_add(group)?;
        }
        let id = Self { kind, index, width };
        // One path for each tile: whatever else the reading above let through is not a name.
        let possible = match kind {
            TileKind::Hashes { level } => level < TILE_LEVELS,
            TileKind::Entries => true,
        };
        (possible && width > 0 && id.to_string() == path).then_some(id)
    }
}

fn canonical<T: std::str::FromStr + ToString>(digits: &str) -> Option<T> {
    digits.parse::<T>().ok().filter(|number| number.to_string() == digits)
}

impl fmt::Display for TileId {
    /// The C2SP path, such as `tile/0/x001/x234/067.p/5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() {
                write!(f, "{group:03}")?;
            } else {
                write!(f, "x{group:03}/")?;
            }
        }
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// A tile to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileWrite {
    /// Its C2SP path.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Of a full hash tile: level and index of the node above all of it, and that node's hash, an entry of the next level's tile.
    pub above: Option<(u8, u64, NodeHash)>,
}

impl TileWrite {
    fn new(id: TileId, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(bytes.len(), id.byte_len(), "content of {id}");
        Self { path: id.to_string(), bytes, above: None }
    }
}

/// Where tiles are read.
pub trait TileReader {
    /// Content of the tile at a C2SP path, or `None` where there is none.
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError>;
}

/// Where tiles are written.
pub trait TileWriter {
    /// Writes a tile over what may be there: the same, or a shorter beginning of it. Readers see it whole or not at all.
    fn put(&mut self, tile: &TileWrite) -> Result<(), StorageError>;
}

/// Tiles in memory, for simulations and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemTiles {
    tiles: BTreeMap<String, Vec<u8>>,
}

impl MemTiles {
    /// No tiles.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tiles by path, to look at or to damage.
    pub fn tiles_mut(&mut self) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.tiles
    }
}

impl TileReader for MemTiles {
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.tiles.get(path).cloned())
    }
}

impl TileWriter for MemTiles {
    fn put(&mut self, tile: &TileWrite) -> Result<(), StorageError> {
        self.tiles.insert(tile.path.clone(), tile.bytes.clone());
        Ok(())
    }
}

/// Reads the first `id.width` hashes or leaves of a tile, from the partial tile of that width, or else from the full
/// tile, or else from any wider partial one: what a tile begins with never changes.
///
/// # Errors
/// [`StorageError::Damaged`] if there is none, or its length is not its width's.
pub fn read_tile(reader: &dyn TileReader, id: TileId) -> Result<Vec<u8>, StorageError> {
    let wider = (id.width + 1..TILE_WIDTH).map(|width| TileId { width, ..id });
    for candidate in [id, id.full()].into_iter().chain(wider) {
        let path = candidate.to_string();
        let Some(mut bytes) = reader.tile(&path)? else { continue };
        if bytes.len() != candidate.byte_len() {
            let why = format!("the tile has {} bytes, expected {}", bytes.len(), candidate.byte_len());
            return Err(StorageError::Damaged { path, at: bytes.len() as u64, why });
        }
        bytes.truncate(id.byte_len());
        return Ok(bytes);
    }
    let why = "the tile is missing: rebuild the tiles from the block log".to_owned();
    Err(StorageError::Damaged { path: id.to_string(), at: 0, why })
}

/// Splits the bytes of a hash tile into its hashes.
pub(super) fn hashes_of(bytes: &[u8]) -> Vec<NodeHash> {
    bytes.as_chunks::<HASH_BYTES>().0.iter().map(|hash| NodeHash(*hash)).collect()
}

/// Splits the bytes of an entry bundle into its stubs.
pub(super) fn stubs_of(id: TileId, bytes: &[u8]) -> Result<Vec<[u8; STUB_BYTES]>, StorageError> {
    let mut stubs = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
    for (i, entry) in bytes.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
        let Some((&[high, low], stub)) = entry.split_first_chunk::<2>() else { continue };
        let len = u16::from_be_bytes([high, low]);
        let mut out = [0; STUB_BYTES];
        if usize::from(len) != STUB_BYTES {
            let why = format!("an entry of {len} bytes, expected {STUB_BYTES}");
            return Err(StorageError::Damaged { path: id.to_string(), at: (i * ENTRY_BYTES) as u64, why });
        }
        out.copy_from_slice(stub);
        stubs.push(out);
    }
    Ok(stubs)
}

/// The growing log: size, root and right edge. It writes nothing itself; tiles that became complete are handed out once,
/// by the [`LogTree::append`] that completed them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTree {
    frontier: Frontier,
    /// Bytes of the partial hash tile of each level.
    edge: [Vec<u8>; TILE_LEVELS as usize],
    /// Bytes of the partial entry bundle.
    entries: Vec<u8>,
}

impl LogTree {
    /// The log without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The log of the first `size` leaves, from its partial tiles.
    ///
    /// The full tiles are not looked at: compare [`LogTree::root`] with the root that the ledger's state or a checkpoint
    /// holds, and see [`super::log::check_tiles`].
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if a tile is missing or contradicts another; the reader's errors.
    pub fn restore(size: u64, reader: &dyn TileReader) -> Result<Self, StorageError> {
        let mut tree = Self::default();
        for id in partial_tiles(size) {
            let bytes = read_tile(reader, id)?;
            match id.kind {
                TileKind::Hashes { level } => tree.edge[usize::from(level)] = bytes,
                TileKind::Entries => tree.entries = bytes,
            }
        }
        let bundle = TileId { kind: TileKind::Entries, index: size >> TILE_HEIGHT, width: width_at(size, 0) };
        let stubs = stubs_of(bundle, &tree.entries)?;
        let mut pairs = leaf_hashes(&stubs).into_iter().zip(hashes_of(&tree.edge[0]));
        if let Some(entry) = pairs.position(|(of_stub, in_tile)| of_stub != in_tile) {
            let why = "an entry's hash is not the one in the hash tile".to_owned();
            let at = (entry * ENTRY_BYTES) as u64;
            return Err(StorageError::Damaged { path: bundle.to_string(), at, why });
        }
        let edge = tree.edge.each_ref().map(|bytes| hashes_of(bytes));
        tree.frontier = Frontier::restore(size, |height, index| {
            let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
            let first = usize::try_from((index << within) % u64::from(TILE_WIDTH))
                .unwrap_or_else(|_| unreachable!("less than a tile's width"));
            Ok::<_, StorageError>(root_of(&edge[usize::from(level)][first..first + (1 << within)]))
        })?;
        Ok(tree)
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root of the log (RFC 9162, section 2.1.1): at most 63 hashes of work.
    #[must_use]
    pub fn root(&self) -> NodeHash {
        self.frontier.root()
    }

    /// Appends leaves, in order, and returns the tiles that became full, lower levels first. Each leaf costs its own hash
    /// and, on average, one node's.
    #[must_use = "the tiles are handed out once"]
    pub fn append(&mut self, stubs: &[[u8; STUB_BYTES]]) -> Vec<TileWrite> {
        let mut full = Vec::new();
        let leaves = leaf_hashes(stubs);
        let (mut stubs, mut leaves) = (stubs, &leaves[..]);
        while !stubs.is_empty() {
            let until_full = usize::from(TILE_WIDTH - width_at(self.size(), 0)).min(stubs.len());
            let (now, later) = stubs.split_at(until_full);
            let (leaves_now, leaves_later) = leaves.split_at(until_full);
            self.fill(now, leaves_now, &mut full);
            (stubs, leaves) = (later, leaves_later);
        }
        full
    }

    /// Appends leaves, no more than the last tile of level 0 has room for.
    fn fill(&mut self, stubs: &[[u8; STUB_BYTES]], leaves: &[NodeHash], full: &mut Vec<TileWrite>) {
        let tile = self.size() >> TILE_HEIGHT;
        for stub in stubs {
            self.entries.put_len_u16(STUB_BYTES);
            self.entries.put_bytes(stub);
        }
        let bundle = TileId { kind: TileKind::Entries, index: tile, width: TILE_WIDTH };
        if self.entries.len() == bundle.byte_len() {
            full.push(TileWrite::new(bundle, std::mem::take(&mut self.entries)));
        }
        let edge = &mut self.edge;
        self.frontier.extend(leaves, |height, hashes| {
            if height % TILE_HEIGHT != 0 {
                return;
            }
            let level = height / TILE_HEIGHT;
            // A tile of level l spans 2^(8·(l+1)) leaves; level 7 never fills.
            let index = tile.checked_shr(u32::from(level * TILE_HEIGHT)).unwrap_or(0);
            if let (Some(below), Some(hash)) = (full.last_mut().filter(|_| level > 0), hashes.first()) {
                debug_assert_eq!(hashes.len(), 1, "one tile of each level at most becomes full");
                below.above = Some((level, tile >> (u32::from(level - 1) * u32::from(TILE_HEIGHT)), *hash));
            }
            let bytes = &mut edge[usize::from(level)];
            for hash in hashes {
                bytes.put_bytes(&hash.0);
            }
            let id = TileId { kind: TileKind::Hashes { level }, index, width: TILE_WIDTH };
            if bytes.len() == id.byte_len() {
                full.push(TileWrite::new(id, std::mem::take(bytes)));
            }
        });
    }

    /// The partial tiles of the present size: to be written before a checkpoint of this size is published.
    #[must_use]
    pub fn partials(&self) -> Vec<TileWrite> {
        partial_tiles(self.size())
            .map(|id| {
                let bytes = match id.kind {
                    TileKind::Hashes { level } => &self.edge[usize::from(level)],
                    TileKind::Entries => &self.entries,
                };
                TileWrite::new(id, bytes.clone())
            })
            .collect()
    }
}

/// Width of the partial hash tile of a level in a log of `size` leaves; 0 if there is none.
fn width_at(size: u64, level: u8) -> u16 {
    u16::try_from((size >> (level * TILE_HEIGHT)) % u64::from(TILE_WIDTH))
        .unwrap_or_else(|_| unreachable!("less than a tile's width"))
}

/// The partial tiles of a log of `size` leaves: the entry bundle, then hash tiles from level 0 up.
pub(super) fn partial_tiles(size: u64) -> impl Iterator<Item = TileId> {
    let tile = move |kind, level: u8| TileId {
        kind,
        index: (size >> (level * TILE_HEIGHT)) >> TILE_HEIGHT,
        width: width_at(size, level),
    };
    std::iter::once(tile(TileKind::Entries, 0))
        .chain((0..TILE_LEVELS).map(move |level| tile(TileKind::Hashes { level }, level)))
        .filter(|id| id.width > 0)
}

#[cfg(test)]
mod tests;
