//! Tiles on disk: a file for each level of hashes, and one for entries, in which every tile has its place.
//!
//! A file for each tile, under its C2SP path, as a static file server has it, cost a validator at 57,000 transactions a second a
//! sixth of all its CPU for the names, and two inodes for each 256 transactions. Paths are served all the same.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use crate::error::StorageError;
use crate::execute::{Executor, Store};
use crate::proof::log::{TileCheck, check_tiles, rebuild};
use crate::proof::tiles::{TILE_HEIGHT, TILE_LEVELS, TileId, TileKind, TileReader, TileWrite, TileWriter};
use crate::types::LeafIndex;

/// Stubs that are read from the state at a time when tiles are made anew.
const STUBS_AT_ONCE: usize = 4_096;
/// Files of hashes, and that of entries.
const FILES: usize = TILE_LEVELS as usize + 1;

/// Tiles in a folder. Clones share it.
///
/// Tile *n* of a kind begins at *n* times the length of a full one. A partial tile is the beginning of the full one, so all that
/// were ever written can be read, and a file reaches as far as its last tile. Nothing is synced: the block
/// log is the truth, and after a power failure [`TileStore::mend`] finds what is missing and
/// writes it again.
#[derive(Debug, Clone)]
pub struct TileStore {
    root: PathBuf,
    /// Of hashes, by level, and of entries.
    files: Arc<[File; FILES]>,
}

impl TileStore {
    /// Opens the folder, and makes it if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|source| StorageError::io("make folder", &root, source))?;
        let mut files = Vec::with_capacity(FILES);
        for kind in kinds() {
            let path = path(&root, kind);
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            files.push(opened.map_err(|source| StorageError::io("open", &path, source))?);
        }
        let Ok(files) = files.try_into() else { unreachable!("there are as many kinds as files") };
        Ok(Self { root, files: Arc::new(files) })
    }

    /// Writes tiles in order.
    pub fn put_all(&mut self, tiles: &[TileWrite]) -> Result<(), StorageError> {
        tiles.iter().try_for_each(|tile| self.put(tile))
    }

    /// Makes the tiles agree with the state: they may be behind, ahead or torn after a crash. Reads all of them; whether they
    /// were made anew.
    ///
    /// # Errors
    /// Those of disk and state; [`StorageError::Damaged`] if the state contradicts itself.
    pub fn mend<S: Store>(&mut self, executor: &Executor<S>) -> Result<bool, StorageError> {
        let head = executor.head();
        // The right edge is on disk only where a checkpoint was due; the state knows it.
        self.put_all(&executor.log().partials())?;
        match check_tiles(head.tree_size, &head.root, self)? {
            TileCheck::Whole => return self.cut(head.tree_size).map(|()| false),
            TileCheck::Damaged { path, why } => {
                info!(path, why, leaves = head.tree_size, "making the tiles anew")
            }
        }
        let state = executor.reader().tiles();
        let firsts = (0..head.tree_size).step_by(STUBS_AT_ONCE);
        let chunks = firsts.map(|first| state.stubs(LeafIndex(first), STUBS_AT_ONCE));
        let root = rebuild(chunks, self)?.root();
        if root != head.root {
            return Err(StorageError::Damaged {
                path: "state".to_owned(),
                at: 0,
                why: format!(
                    "its {} leaves make root {root} and its head says {}; remove the folder, so that it is built again from the \
                     block log",
                    head.tree_size, head.root
                ),
            });
        }
        self.cut(head.tree_size).map(|()| true)
    }

    /// Cuts off what is behind a tree of so many leaves: what was written before power failed may be there in parts.
    fn cut(&self, leaves: u64) -> Result<(), StorageError> {
        for kind in kinds() {
            let level = match kind {
                TileKind::Hashes { level } => u32::from(level),
                TileKind::Entries => 0,
            };
            let held = leaves >> (u32::from(TILE_HEIGHT) * level);
            let end = held * TileId { kind, index: 0, width: 1 }.byte_len() as u64;
            let refused = |source| StorageError::io("cut", path(&self.root, kind), source);
            if self.file(kind).metadata().map_err(refused)?.len() > end {
                self.file(kind).set_len(end).map_err(refused)?;
            }
        }
        Ok(())
    }

    fn file(&self, kind: TileKind) -> &File {
        match kind {
            TileKind::Hashes { level } => &self.files[usize::from(level)],
            TileKind::Entries => &self.files[FILES - 1],
        }
    }
}

/// All kinds, in the order of their files.
fn kinds() -> impl Iterator<Item = TileKind> {
    (0..TILE_LEVELS).map(|level| TileKind::Hashes { level }).chain([TileKind::Entries])
}

/// Where the tiles of a kind are.
fn path(root: &Path, kind: TileKind) -> PathBuf {
    match kind {
        TileKind::Hashes { level } => root.join(format!("hashes-{level}")),
        TileKind::Entries => root.join("entries"),
    }
}

/// Where a tile begins in its file; `None` behind what a file can reach.
fn start(id: TileId) -> Option<u64> {
    id.index.checked_mul(id.full().byte_len() as u64)
}

impl TileReader for TileStore {
    fn tile(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        // The name may come from a client.
        let Some((id, start)) = TileId::parse(name).and_then(|id| Some((id, start(id)?))) else {
            return Ok(None);
        };
        let mut bytes = vec![0; id.byte_len()];
        match self.file(id.kind).read_exact_at(&mut bytes, start) {
            Ok(()) => Ok(Some(bytes)),
            // The file ends before, or no file reaches as far.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) => {
                Ok(None)
            }
            Err(error) => Err(StorageError::io("read", path(&self.root, id.kind), error)),
        }
    }
}

impl TileWriter for TileStore {
    fn put(&mut self, tile: &TileWrite) -> Result<(), StorageError> {
        let id = TileId::parse(&tile.path)
            .unwrap_or_else(|| panic!("a tile was to be written to {:?}, which names none", tile.path));
        let start = start(id).unwrap_or_else(|| panic!("{id} is behind all leaves"));
        let written = self.file(id.kind).write_all_at(&tile.bytes, start);
        written.map_err(|source| StorageError::io("write", path(&self.root, id.kind), source))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::proof::tiles::{LogTree, MemTiles};
    use crate::types::STUB_BYTES;

    fn stubs(from: u8, n: usize) -> Vec<[u8; STUB_BYTES]> {
        vec![[from; STUB_BYTES]; n]
    }

    #[test]
    fn what_is_written_is_read_and_can_be_restored() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = TileStore::open(folder.path().join("tiles")).unwrap();
        let mut memory = MemTiles::new();
        let mut tree = LogTree::new();
        for round in 0..10u8 {
            for tile in tree.append(&stubs(round, 77)).iter().chain(&tree.partials()) {
                store.put(tile).unwrap();
                memory.put(tile).unwrap();
            }
        }
        let root = folder.path().join("tiles");
        let opened = TileStore::open(&root).unwrap();
        assert_eq!(LogTree::restore(770, &opened).unwrap(), tree);
        assert_eq!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Whole);
        for (path, bytes) in memory.tiles_mut() {
            assert_eq!(opened.tile(path).unwrap().as_ref(), Some(&*bytes), "{path}");
        }
        opened.cut(770).unwrap();
        assert_eq!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Whole);
        // Of all others, those that hold no more than what is there.
        assert!(opened.tile("tile/0/003.p/2").unwrap().is_some());
        assert_eq!(opened.tile("tile/0/003.p/3").unwrap(), None);
        assert_eq!(opened.tile("tile/entries/003").unwrap(), None);
        assert_eq!(opened.tile("tile/2/000.p/1").unwrap(), None);

        let wanted = opened.tile("tile/0/001").unwrap().unwrap();
        OpenOptions::new()
            .write(true)
            .open(root.join("hashes-0"))
            .unwrap()
            .write_all_at(&[wanted[99] ^ 1], 8_192 + 99)
            .unwrap();
        assert!(matches!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Damaged { .. }));
        let all = (0..10u8).map(|round| Ok(stubs(round, 77)));
        assert_eq!(rebuild(all, &mut store).unwrap(), tree);
        assert_eq!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Whole);
        opened.cut(700).unwrap();
        assert!(matches!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Damaged { .. }));
        assert!(opened.tile("tile/0/002.p/188").unwrap().is_some());
        for gone in ["tile/0/002.p/189", "tile/entries/002", "tile/1/000.p/3"] {
            assert_eq!(opened.tile(gone).unwrap(), None, "{gone}");
        }
        assert!(matches!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Damaged { .. }));
        let all = (0..10u8).map(|round| Ok(stubs(round, 77)));
        assert_eq!(rebuild(all, &mut store).unwrap(), tree);
        assert_eq!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Whole);
    }

    #[test]
    fn only_tiles_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = TileStore::open(folder.path().join("tiles")).unwrap();
        fs::write(folder.path().join("secret"), b"x").unwrap();
        for path in ["../secret", "hashes-0", "entries", "tile/0/../../secret", "", "/etc/hostname"] {
            assert_eq!(store.tile(path).unwrap(), None);
        }
        assert_eq!(store.tile("tile/0/000").unwrap(), None);
        // The last names that there are, behind what any file can hold.
        for index in [u64::MAX, u64::MAX / 8_192, i64::MAX.unsigned_abs() / 8_192] {
            let id = TileId { kind: TileKind::Hashes { level: 0 }, index, width: 256 };
            assert_eq!(store.tile(&id.to_string()).unwrap(), None, "{id}");
        }
    }

    #[test]
    fn the_disk_s_refusal_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        // A folder where a file has to be.
        fs::create_dir_all(folder.path().join("tiles/entries")).unwrap();
        let error = TileStore::open(folder.path().join("tiles")).unwrap_err().to_string();
        assert!(error.contains("tiles/entries"), "{error}");
    }
}
