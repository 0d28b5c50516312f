//! The folder of tiles: what any static file server can serve as it is.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::error::StorageError;
use crate::proof::tiles::{TILE_WIDTH, TileId, TileReader, TileWrite, TileWriter};

/// Name of the file that a tile is written to before it is renamed. One is enough: the folder has one writer, the
/// process that holds the lock of the data folder.
const TEMPORARY: &str = "tile.tmp";

/// Tiles in a folder, under their C2SP paths.
///
/// Each tile appears whole or not at all to whoever reads the folder meanwhile. Tiles are not synced one by one: the block
/// log is the truth, and after a power failure [`check_tiles`](crate::proof::log::check_tiles) finds what is missing and
/// [`rebuild`](crate::proof::log::rebuild) writes it again.
///
/// Partial tiles stay until the full tile *after* theirs is written, so that readers of the last checkpoints find them;
/// readers of older ones take the full tile, as C2SP tlog-tiles foresees.
#[derive(Debug, Clone)]
pub struct TileStore {
    root: PathBuf,
}

impl TileStore {
    /// Opens the folder, and makes it if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|source| StorageError::io("make folder", &root, source))?;
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes tiles in order.
    pub fn put_all(&mut self, tiles: &[TileWrite]) -> Result<(), StorageError> {
        tiles.iter().try_for_each(|tile| self.put(tile))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let temporary = self.root.join(TEMPORARY);
        File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| StorageError::io("write", &temporary, source))?;
        let renamed = match fs::rename(&temporary, path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The first tile of its folder.
                path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::rename(&temporary, path))
            }
            other => other,
        };
        renamed.map_err(|source| StorageError::io("rename into", path, source))
    }

    /// Removes the partial tiles of the tile before `full`. Those that `full` itself supersedes stay a while.
    fn remove_superseded(&self, full: TileId) -> Result<(), StorageError> {
        let Some(index) = full.index.checked_sub(1) else { return Ok(()) };
        let mut name = TileId { index, ..full }.to_string();
        name.push_str(".p");
        let folder = self.root.join(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StorageError::io("remove partial tiles", &folder, error))
            }
            _ => Ok(()),
        }
    }
}

impl TileReader for TileStore {
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        // Only names of tiles reach the file system, so `path` may come from a client.
        if TileId::parse(path).is_none() {
            return Ok(None);
        }
        let file = self.root.join(path);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(StorageError::io("read", &file, error)),
        }
    }
}

impl TileWriter for TileStore {
    fn put(&mut self, tile: &TileWrite) -> Result<(), StorageError> {
        let id = TileId::parse(&tile.path)
            .unwrap_or_else(|| panic!("a tile was to be written to {:?}, which names none", tile.path));
        self.write(&self.root.join(&tile.path), &tile.bytes)?;
        if id.width == TILE_WIDTH { self.remove_superseded(id) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::proof::log::{TileCheck, check_tiles, rebuild};
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
        let opened = TileStore::open(store.root()).unwrap();
        assert_eq!(LogTree::restore(770, &opened).unwrap(), tree);
        assert_eq!(check_tiles(770, &tree.root(), &opened).unwrap(), TileCheck::Whole);
        assert!(!opened.root().join(TEMPORARY).exists());
        for (path, bytes) in memory.tiles_mut() {
            // The partial tiles of tile 0 and 1 were superseded by the full tiles 1 and 2.
            let kept = !path.contains("/000.p/") && !path.contains("/001.p/") || path.starts_with("tile/1/");
            assert_eq!(opened.tile(path).unwrap(), kept.then(|| bytes.clone()), "{path}");
        }

        let wanted = opened.tile("tile/0/001").unwrap().unwrap();
        fs::write(opened.root().join("tile/0/001"), &wanted[..100]).unwrap();
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
        fs::write(store.root().join("other"), b"x").unwrap();
        for path in ["../secret", "other", "tile/0/../../other", "", "/etc/hostname"] {
            assert_eq!(store.tile(path).unwrap(), None);
        }
        assert_eq!(store.tile("tile/0/000").unwrap(), None);
    }

    #[test]
    fn the_disk_s_refusal_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = TileStore::open(folder.path().join("tiles")).unwrap();
        // A file where a folder has to be.
        fs::write(store.root().join("tile"), b"x").unwrap();
        let mut tree = LogTree::new();
        let _full = tree.append(&stubs(1, 1));
        let error = store.put_all(&tree.partials()).unwrap_err().to_string();
        assert!(error.contains("tile/entries/000.p/1"), "{error}");
    }
}
