#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::proof::merkle::{TreeHead, leaf_hash, verify_consistency, verify_inclusion};
use crate::proof::tiles::MemTiles;

fn stub(i: u64) -> [u8; STUB_BYTES] {
    let mut stub = [0xa5; STUB_BYTES];
    stub[..8].copy_from_slice(&i.to_be_bytes());
    stub
}

/// A log with checkpoints at these sizes, and its heads there, behind that of the empty log.
fn log(sizes: impl IntoIterator<Item = u64>) -> (MemTiles, Vec<TreeHead>) {
    let mut tiles = MemTiles::new();
    let mut tree = LogTree::new();
    let mut heads = vec![TreeHead { size: 0, root: tree.root() }];
    for size in sizes {
        let part: Vec<_> = (tree.size()..size).map(stub).collect();
        for tile in tree.append(&part).iter().chain(&tree.partials()) {
            tiles.put(tile).unwrap();
        }
        heads.push(TreeHead { size: tree.size(), root: tree.root() });
    }
    (tiles, heads)
}

fn assert_included(leaf: u64, head: &TreeHead, tiles: &MemTiles) {
    let path = inclusion_proof(LeafIndex(leaf), head.size, tiles).unwrap();
    let hash = leaf_hash(&stub(leaf));
    verify_inclusion(&hash, leaf, head.size, &path, &head.root)
        .unwrap_or_else(|error| panic!("leaf {leaf} of {}: {error}", head.size));
    assert_eq!(stub_at(LeafIndex(leaf), head.size, tiles).unwrap(), stub(leaf));
}

fn assert_consistent(old: &TreeHead, new: &TreeHead, tiles: &MemTiles) {
    let path = consistency_proof(old.size, new.size, tiles).unwrap();
    verify_consistency(old, new, &path)
        .unwrap_or_else(|error| panic!("from {} to {}: {error}", old.size, new.size));
}

#[test]
fn every_proof_up_to_300_leaves() {
    let (tiles, heads) = log(1..=300);
    for head in &heads {
        for leaf in 0..head.size {
            assert_included(leaf, head, &tiles);
        }
        for old in &heads[..=usize::try_from(head.size).unwrap()] {
            assert_consistent(old, head, &tiles);
        }
    }
}

#[test]
fn proofs_across_the_boundaries_of_tiles_of_every_level() {
    let sizes =
        [1, 255, 256, 257, 511, 512, 513, 40_000, 65_279, 65_535, 65_536, 65_537, 65_792, 65_793, 66_559];
    let (tiles, heads) = log(sizes);
    for head in &heads {
        for leaf in [0, 1, 254, 255, 256, 257, 511, 512, 40_000, 65_279, 65_535, 65_536, 66_047, 66_559] {
            if leaf < head.size {
                assert_included(leaf, head, &tiles);
            }
        }
        for old in heads.iter().filter(|old| old.size <= head.size) {
            assert_consistent(old, head, &tiles);
        }
    }
}

#[test]
fn proofs_of_older_sizes_come_out_of_fuller_tiles() {
    let (_, heads) = log(1..=300);
    // Only the partial tiles of the last size.
    let (tiles, _) = log([300]);
    for size in [1, 7, 255, 256, 257, 299] {
        for leaf in 0..size {
            assert_included(leaf, &heads[usize::try_from(size).unwrap()], &tiles);
        }
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let (tiles, _) = log([20]);
    assert!(matches!(
        inclusion_proof(LeafIndex(20), 20, &tiles),
        Err(LogError::NoSuchLeaf { leaf: LeafIndex(20), size: 20 })
    ));
    assert!(matches!(stub_at(LeafIndex(u64::MAX), 20, &tiles), Err(LogError::NoSuchLeaf { .. })));
    assert!(matches!(consistency_proof(21, 20, &tiles), Err(LogError::NotAPrefix { old: 21, new: 20 })));
    for size in [21, 1 << 40, u64::MAX] {
        assert!(matches!(
            inclusion_proof(LeafIndex(3), size, &tiles),
            Err(LogError::Storage(StorageError::Damaged { .. }))
        ));
    }
}

#[test]
fn check_finds_every_kind_of_damage_and_rebuilding_mends_it() {
    let (tiles, heads) = log([66_000]);
    let head = heads[1];
    assert_eq!(check_tiles(head.size, &head.root, &tiles).unwrap(), TileCheck::Whole);
    let other = NodeHash([3; 32]);
    assert!(matches!(check_tiles(head.size, &other, &tiles).unwrap(), TileCheck::Damaged { .. }));
    let paths = [
        "tile/0/000",
        "tile/0/257.p/208",
        "tile/1/000",
        "tile/1/001.p/1",
        "tile/2/000.p/1",
        "tile/entries/100",
        "tile/entries/257.p/208",
    ];
    for (i, damaged_path) in paths.into_iter().enumerate() {
        let mut altered = tiles.clone();
        let bytes = altered.tiles_mut().get_mut(damaged_path).unwrap();
        let at = (i * 997) % bytes.len();
        bytes[at] ^= 0x10;
        assert!(matches!(check_tiles(head.size, &head.root, &altered).unwrap(), TileCheck::Damaged { .. }));

        let mut missing = tiles.clone();
        missing.tiles_mut().remove(damaged_path).unwrap();
        let TileCheck::Damaged { path, why } = check_tiles(head.size, &head.root, &missing).unwrap() else {
            panic!("a log without {damaged_path} passed for whole");
        };
        assert_eq!(path, damaged_path);
        assert!(why.contains("missing"), "{why}");

        let rebuilt = rebuild((0..head.size).map(|i| Ok(vec![stub(i)])), &mut missing).unwrap();
        assert_eq!(rebuilt.root(), head.root);
        assert_eq!(missing, tiles);
    }
}

#[test]
fn an_empty_log_is_whole() {
    let root = LogTree::new().root();
    assert_eq!(check_tiles(0, &root, &MemTiles::new()).unwrap(), TileCheck::Whole);
    assert!(matches!(
        check_tiles(0, &NodeHash([0; 32]), &MemTiles::new()).unwrap(),
        TileCheck::Damaged { .. }
    ));
}
