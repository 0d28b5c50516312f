#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use super::*;

/// The definition (RFC 9162, section 2.1.1).
fn root_by_definition(leaves: &[NodeHash]) -> NodeHash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

/// Reads perfect subtrees off a list of leaf hashes, by the definition.
struct Leaves(Vec<NodeHash>);

impl HashReader for Leaves {
    type Error = Infallible;

    fn hash(&mut self, height: u8, index: u64) -> Result<NodeHash, Infallible> {
        let from = usize::try_from(index << height).unwrap();
        Ok(root_by_definition(&self.0[from..from + (1 << height)]))
    }
}

fn leaves(n: u64) -> Leaves {
    Leaves((0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect())
}

fn hash(text: &str) -> NodeHash {
    text.parse().unwrap()
}

/// The eight leaves that implementations of RFC 6962 have been tested with since the first.
fn classic() -> Leaves {
    let data =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    Leaves(data.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect())
}

const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const N23: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const N4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const N45: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const N67: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const N4567: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const N1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";

#[test]
fn classic_roots() {
    let mut tree = classic();
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (i, expected) in ROOTS.iter().enumerate() {
        frontier.extend(&tree.0[i..=i], |_, _| {});
        assert_eq!(frontier.root(), hash(expected));
        assert_eq!(root_of(&tree.0[..=i]), hash(expected));
        assert_eq!(root(&mut tree, i as u64 + 1).unwrap(), hash(expected));
    }
}

#[test]
fn leaves_together_are_leaves_one_by_one() {
    let all = leaves(300).0;
    let data: Vec<[u8; 8]> = (0..300u64).map(u64::to_be_bytes).collect();
    assert_eq!(leaf_hashes(&data), all);
    for size in 0..=300 {
        assert_eq!(root_of(&all[..size]), root_by_definition(&all[..size]), "{size} leaves");
    }
    assert_eq!(root_of_data(&data), root_by_definition(&all));
    let many = leaves(5_000).0;
    for size in [0, 1, LEAVES_AT_ONCE - 1, LEAVES_AT_ONCE, LEAVES_AT_ONCE + 1, 2 * LEAVES_AT_ONCE, 5_000] {
        let data: Vec<[u8; 8]> = (0..size as u64).map(u64::to_be_bytes).collect();
        assert_eq!(root_of_data(&data), root_by_definition(&many[..size]), "{size} leaves");
    }
    for before in (0..70).chain([127, 128, 129]) {
        let grown = |parts: &[&[NodeHash]]| {
            let mut frontier = Frontier::new();
            let mut rows = vec![Vec::new(); 64];
            for part in parts {
                frontier.extend(part, |height, hashes| rows[usize::from(height)].extend_from_slice(hashes));
            }
            (frontier, rows)
        };
        let one_by_one = grown(&all.chunks(1).collect::<Vec<_>>());
        assert_eq!(grown(&[&all[..before], &all[before..]]), one_by_one, "{before} and the rest");
        assert_eq!(one_by_one.0.root(), root_by_definition(&all));
        assert_eq!(one_by_one.1[3][5], root_by_definition(&all[40..48]));
    }
}

#[test]
fn classic_inclusion_paths() {
    let cases: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[N1, N23, N4567]),
        (5, 8, &[N4, N67, ROOTS[3]]),
        (2, 3, &[ROOTS[1]]),
        (1, 5, &[ROOTS[0], N23, N4]),
    ];
    for (index, size, expected) in cases {
        let path = inclusion_path(&mut classic(), index, size).unwrap();
        let expected: Vec<_> = expected.iter().map(|text| hash(text)).collect();
        assert_eq!(path, expected, "leaf {index} of {size}");
    }
}

#[test]
fn classic_consistency_paths() {
    let cases: [(u64, u64, &[&str]); 4] =
        [(1, 1, &[]), (1, 8, &[N1, N23, N4567]), (6, 8, &[N45, N67, ROOTS[3]]), (2, 5, &[N23, N4])];
    for (old, new, expected) in cases {
        let path = consistency_path(&mut classic(), old, new).unwrap();
        let expected: Vec<_> = expected.iter().map(|text| hash(text)).collect();
        assert_eq!(path, expected, "from {old} to {new}");
    }
}

/// Whatever is altered, added or left out, the proof fails.
fn assert_bound(path: &[NodeHash], holds: impl Fn(&[NodeHash]) -> Result<(), PathError>) {
    holds(path).unwrap();
    for i in 0..path.len() {
        let mut altered = path.to_vec();
        altered[i].0[i % 32] ^= 1 << (i % 8);
        assert!(holds(&altered).is_err());
        let mut shorter = path.to_vec();
        shorter.remove(i);
        assert!(holds(&shorter).is_err());
    }
    let mut longer = path.to_vec();
    longer.push(NodeHash([7; 32]));
    assert!(holds(&longer).is_err());
}

#[test]
fn every_inclusion_proof_of_small_trees_holds_and_is_bound() {
    let mut tree = leaves(70);
    for size in 1..=70 {
        let root = root_of(&tree.0[..usize::try_from(size).unwrap()]);
        for index in 0..size {
            let path = inclusion_path(&mut tree, index, size).unwrap();
            let leaf = tree.0[usize::try_from(index).unwrap()];
            assert_bound(&path, |path| verify_inclusion(&leaf, index, size, path, &root));
            let other = NodeHash([1; 32]);
            assert!(verify_inclusion(&other, index, size, &path, &root).is_err());
            assert!(verify_inclusion(&leaf, index, size, &path, &other).is_err());
            for elsewhere in (0..size).filter(|elsewhere| *elsewhere != index) {
                assert!(verify_inclusion(&leaf, elsewhere, size, &path, &root).is_err());
            }
        }
        let leaf = tree.0[0];
        assert_eq!(
            verify_inclusion(&leaf, size, size, &[], &root),
            Err(PathError::OutsideTree { index: size, size })
        );
    }
}

#[test]
fn every_consistency_proof_of_small_trees_holds_and_is_bound() {
    let mut tree = leaves(70);
    let heads: Vec<TreeHead> = (0..=70)
        .map(|size| TreeHead { size, root: root_of(&tree.0[..usize::try_from(size).unwrap()]) })
        .collect();
    for new in &heads {
        for old in &heads[..=usize::try_from(new.size).unwrap()] {
            let path = consistency_path(&mut tree, old.size, new.size).unwrap();
            assert_bound(&path, |path| verify_consistency(old, new, path));
            let forged = TreeHead { root: NodeHash([1; 32]), ..*old };
            assert!(verify_consistency(&forged, new, &path).is_err());
            if old.size > 0 {
                let forged = TreeHead { root: NodeHash([1; 32]), ..*new };
                assert!(verify_consistency(old, &forged, &path).is_err());
            }
        }
    }
    assert_eq!(verify_consistency(&heads[3], &heads[2], &[]), Err(PathError::Shrinks { old: 3, new: 2 }));
}

#[test]
fn verification_bears_the_largest_numbers() {
    let root = NodeHash([0; 32]);
    let path = vec![root; 200];
    let top = TreeHead { size: u64::MAX, root };
    assert!(verify_inclusion(&root, u64::MAX, u64::MAX, &path, &root).is_err());
    assert!(verify_inclusion(&root, u64::MAX - 1, u64::MAX, &path, &root).is_err());
    assert!(verify_inclusion(&root, 0, u64::MAX, &path[..64], &root).is_err());
    for size in [1, 2, 1 << 63, (1 << 63) + 1, u64::MAX - 1] {
        assert!(verify_consistency(&TreeHead { size, root }, &top, &path).is_err());
        assert!(verify_consistency(&TreeHead { size, root }, &top, &[]).is_err());
    }
}
