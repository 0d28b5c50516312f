//! Tiles on disk beside the state.

use std::fs;

use super::world::*;
use crate::execute::*;
use crate::io::tile_store::TileStore;
use crate::proof::log::{TileCheck, check_tiles};

#[test]
fn tiles_on_disk_are_mended_from_the_state_whether_behind_ahead_or_torn() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with_store(MemStore::new());
    let mut tiles = TileStore::open(folder.path()).unwrap();
    let whole = |tiles: &TileStore, head: LedgerHead| {
        assert_eq!(check_tiles(head.tree_size, &head.root, tiles).unwrap(), TileCheck::Whole);
    };
    let path = folder.path().join("entries");
    let entries = || fs::read(&path).unwrap();
    let fill = |world: &mut World<MemStore>, leaves: u8| {
        let anchored: Vec<_> = (0..leaves).map(|n| world.tx(1, 1, &anchor(n, None))).collect();
        world.executes(&anchored);
        world.executor.head()
    };
    // Nothing but a right edge, then behind by a tile.
    let head = fill(&mut world, 100);
    assert!(!tiles.mend(&world.executor).unwrap());
    whole(&tiles, head);
    let head = fill(&mut world, 250);
    assert!(tiles.mend(&world.executor).unwrap());
    whole(&tiles, head);
    assert!(!tiles.mend(&world.executor).unwrap());
    let good = entries();
    assert_eq!(good.len() as u64, 56 * head.tree_size);
    // The right edge alone is missing, as after any stop between two checkpoints.
    fs::write(&path, &good[..56 * 256]).unwrap();
    assert!(!tiles.mend(&world.executor).unwrap());
    whole(&tiles, head);
    // Ahead, by what no leaf has made.
    fs::write(&path, [&good[..], &[7; 1_000]].concat()).unwrap();
    assert!(!tiles.mend(&world.executor).unwrap());
    assert_eq!(entries(), good);
    // Zeros in the middle, as power failure leaves them.
    fs::write(&path, [&good[..5_600], &[0; 56], &good[5_656..]].concat()).unwrap();
    assert!(tiles.mend(&world.executor).unwrap());
    whole(&tiles, head);
    assert_eq!(entries(), good);
}
