#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::proof::merkle::{empty_root, leaf_hash};

fn stub(i: u64) -> [u8; STUB_BYTES] {
    let mut stub = [0x5a; STUB_BYTES];
    stub[..8].copy_from_slice(&i.to_be_bytes());
    stub
}

fn put_all(tiles: &mut MemTiles, writes: &[TileWrite]) {
    for write in writes {
        tiles.put(write).unwrap();
    }
}

#[test]
fn paths_are_those_of_the_specification() {
    let hashes = |level, index, width| TileId { kind: TileKind::Hashes { level }, index, width };
    let entries = |index, width| TileId { kind: TileKind::Entries, index, width };
    let cases = [
        (hashes(0, 0, 256), "tile/0/000"),
        (hashes(0, 999, 255), "tile/0/999.p/255"),
        (hashes(1, 1_000, 256), "tile/1/x001/000"),
        (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (hashes(7, 1_234, 5), "tile/7/x001/234.p/5"),
        (entries(273, 112), "tile/entries/273.p/112"),
        (entries(1_234_067, 256), "tile/entries/x001/x234/067"),
    ];
    for (id, path) in cases {
        assert_eq!(id.to_string(), path);
        assert_eq!(TileId::parse(path), Some(id));
    }
}

#[test]
fn other_paths_are_not_tiles() {
    let others = [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/00/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/+00",
        "tile/-1/000",
        "tile/8/000",
        "tile/256/000",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/entries/../../keys",
        "tile/data/000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ];
    for path in others {
        assert_eq!(TileId::parse(path), None, "{path}");
    }
    // The largest index there is.
    assert!(TileId::parse("tile/0/x018/x446/x744/x073/x709/x551/615").is_some());
}

#[test]
fn partial_tiles_of_the_specification_s_example() {
    let paths: Vec<_> = partial_tiles(70_000).map(|id| id.to_string()).collect();
    assert_eq!(paths, ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    let paths: Vec<_> = partial_tiles(256).map(|id| id.to_string()).collect();
    assert_eq!(paths, ["tile/1/000.p/1"]);
    assert_eq!(partial_tiles(0).count(), 0);
}

#[test]
fn root_and_restored_log_match_the_definition_at_every_size() {
    let mut tiles = MemTiles::new();
    let mut tree = LogTree::new();
    let mut leaves = Vec::new();
    assert_eq!(tree.root(), empty_root());
    for i in 0..600 {
        let restored = LogTree::restore(i, &tiles).unwrap();
        assert_eq!(restored, tree, "restored at {i}");
        put_all(&mut tiles, &tree.append(&[stub(i)]));
        put_all(&mut tiles, &tree.partials());
        leaves.push(leaf_hash(&stub(i)));
        assert_eq!(tree.root(), root_of(&leaves));
        assert_eq!(tree.size(), i + 1);
    }
}

/// Each full hash tile knows the node above all of it, and nothing else does.
fn assert_above(writes: &[TileWrite]) {
    for write in writes {
        let id = TileId::parse(&write.path).unwrap();
        let above = match id.kind {
            TileKind::Hashes { level } if id.width == TILE_WIDTH => {
                Some((level + 1, id.index, root_of(&hashes_of(&write.bytes))))
            }
            TileKind::Hashes { .. } | TileKind::Entries => None,
        };
        assert_eq!(write.above, above, "{id}");
    }
}

#[test]
fn a_restored_log_knows_the_nodes_above_the_tiles_that_become_full() {
    for size in [0, 1, 255, 256, 257, 511, 65_279, 65_280, 65_535, 65_536] {
        let (mut tiles, mut tree) = (MemTiles::new(), LogTree::new());
        put_all(&mut tiles, &tree.append(&(0..size).map(stub).collect::<Vec<_>>()));
        put_all(&mut tiles, &tree.partials());
        let mut restored = LogTree::restore(size, &tiles).unwrap();
        let writes = restored.append(&(size..size + 300).map(stub).collect::<Vec<_>>());
        assert!(writes.iter().any(|write| write.above.is_some()), "a tile becomes full behind {size}");
        assert_above(&writes);
        assert_above(&restored.partials());
    }
}

#[test]
fn appending_at_once_or_one_by_one_writes_the_same_tiles() {
    let stubs: Vec<_> = (0..66_100).map(stub).collect();
    let mut at_once = LogTree::new();
    let writes = at_once.append(&stubs);
    let mut in_parts = LogTree::new();
    let mut part_writes = Vec::new();
    for part in stubs.chunks(777) {
        part_writes.extend(in_parts.append(part));
    }
    assert_eq!(at_once, in_parts);
    assert_eq!(writes, part_writes);
    // 258 full bundles and level-0 tiles, one full level-1 tile.
    assert_eq!(writes.len(), 258 + 258 + 1);
    assert_above(&writes);
    let leaves: Vec<_> = stubs.iter().map(|stub| leaf_hash(stub)).collect();
    assert_eq!(at_once.root(), root_of(&leaves));
}

#[test]
fn restoring_takes_wider_tiles_and_names_what_is_missing_or_wrong() {
    let mut tiles = MemTiles::new();
    let mut tree = LogTree::new();
    for i in 0..300 {
        put_all(&mut tiles, &tree.append(&[stub(i)]));
    }
    put_all(&mut tiles, &tree.partials());
    // Only the partial tiles of 300 leaves are there: shorter logs are their beginnings, and those of full tiles.
    for size in [1, 200, 255, 256, 257, 299, 300] {
        assert_eq!(LogTree::restore(size, &tiles).unwrap().size(), size);
    }
    let missing = LogTree::restore(301, &tiles).unwrap_err().to_string();
    assert!(missing.contains("tile/entries/001.p/45") && missing.contains("missing"), "{missing}");

    let mut damaged = tiles.clone();
    damaged.tiles_mut().get_mut("tile/entries/001.p/44").unwrap()[9] ^= 1;
    let wrong = LogTree::restore(300, &damaged).unwrap_err().to_string();
    assert!(wrong.contains("tile/entries/001.p/44") && wrong.contains("hash"), "{wrong}");

    let mut short = tiles;
    short.tiles_mut().get_mut("tile/0/001.p/44").unwrap().pop();
    let wrong = LogTree::restore(300, &short).unwrap_err().to_string();
    assert!(wrong.contains("1407 bytes, expected 1408"), "{wrong}");
}
