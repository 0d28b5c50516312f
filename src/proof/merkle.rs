//! The Merkle tree of RFC 9162, section 2.1, over SHA-256: hashes, proofs and their verification.
//!
//! A *perfect subtree* of height `h` and index `i` covers leaves `i·2^h .. (i+1)·2^h`. Proofs are made from the hashes
//! of perfect subtrees alone, which is what tiles store; where they come from is left to a [`HashReader`].

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::types::NodeHash;

const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;
/// Most hashes of an inclusion path, and one less than the most of a consistency path: a tree has fewer than 2^64
/// leaves.
pub const PATH_HASHES_MAX: usize = 64;

/// Hash of a leaf: SHA-256(0x00 ‖ data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> NodeHash {
    let mut hasher = Sha256::new();
    hasher.update([LEAF_PREFIX]);
    hasher.update(data);
    NodeHash(hasher.finalize().into())
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &NodeHash, right: &NodeHash) -> NodeHash {
    let mut bytes = [NODE_PREFIX; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    NodeHash(Sha256::digest(bytes).into())
}

/// Root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> NodeHash {
    NodeHash(Sha256::digest([]).into())
}

/// Root over leaf hashes, by the recursive definition (RFC 9162, section 2.1.1): the oracle that the fast paths are
/// tested against, and what hashes a tile's nodes together.
#[must_use]
pub fn root_of(leaves: &[NodeHash]) -> NodeHash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// Largest power of two that is smaller than `n` ≥ 2.
fn largest_power_below(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Roots of the perfect subtrees that a tree of `size` leaves is made of, one for each set bit of `size`: all that
/// appending and the root need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// From the highest, which is the leftmost, to the lowest.
    peaks: Vec<NodeHash>,
}

impl Frontier {
    /// Of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of a tree whose perfect subtrees `peak` knows: called with each height that is a set bit of `size`, from the
    /// highest down, and the index of the subtree.
    pub fn restore<E>(size: u64, mut peak: impl FnMut(u8, u64) -> Result<NodeHash, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        for height in (0..64u8).rev().filter(|height| size >> height & 1 == 1) {
            peaks.push(peak(height, (size >> height) - 1)?);
        }
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf and calls `completed` with the height and hash of each perfect subtree that it completes, itself
    /// (height 0) first.
    pub fn push(&mut self, leaf: NodeHash, mut completed: impl FnMut(u8, NodeHash)) {
        let mut hash = leaf;
        completed(0, hash);
        let merges = self.size.trailing_ones();
        for (height, _) in (1u8..).zip(0..merges) {
            let left = self.peaks.pop().unwrap_or_else(|| unreachable!("one peak for each set bit"));
            hash = node_hash(&left, &hash);
            completed(height, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> NodeHash {
        let mut peaks = self.peaks.iter().rev();
        let Some(lowest) = peaks.next() else { return empty_root() };
        peaks.fold(*lowest, |right, left| node_hash(left, &right))
    }
}

/// Where the hashes of perfect subtrees come from.
pub trait HashReader {
    /// Why a hash cannot be had.
    type Error;

    /// Hash of the perfect subtree of `height` that starts at leaf `index << height`.
    fn hash(&mut self, height: u8, index: u64) -> Result<NodeHash, Self::Error>;
}

/// Root of leaves `from..to`, where `from` is a multiple of the smallest power of two that is not below `to - from`.
fn range_hash<R: HashReader>(reader: &mut R, from: u64, to: u64) -> Result<NodeHash, R::Error> {
    let frontier =
        Frontier::restore(to - from, |height, index| reader.hash(height, (from >> height) + index))?;
    Ok(frontier.root())
}

/// Root of the tree of the first `size` leaves.
pub fn root<R: HashReader>(reader: &mut R, size: u64) -> Result<NodeHash, R::Error> {
    range_hash(reader, 0, size)
}

/// Inclusion path of leaf `index` in the tree of the first `size` leaves (RFC 9162, section 2.1.3.1), from the leaf's
/// sibling upwards.
///
/// # Panics
/// If `index` is not below `size`.
pub fn inclusion_path<R: HashReader>(
    reader: &mut R,
    index: u64,
    size: u64,
) -> Result<Vec<NodeHash>, R::Error> {
    assert!(index < size, "leaf {index} was asked of a tree of {size}");
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + largest_power_below(to - from);
        if index < middle {
            path.push(range_hash(reader, middle, to)?);
            to = middle;
        } else {
            path.push(range_hash(reader, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency path from the tree of the first `old` leaves to that of the first `new` (RFC 9162, section 2.1.4.1).
/// Empty if the sizes are equal or the old tree is empty.
///
/// # Panics
/// If `old` is above `new`.
pub fn consistency_path<R: HashReader>(
    reader: &mut R,
    old: u64,
    new: u64,
) -> Result<Vec<NodeHash>, R::Error> {
    assert!(old <= new, "consistency of {old} leaves with {new} was asked");
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut path = Vec::new();
    while to != old {
        let middle = from + largest_power_below(to - from);
        if old <= middle {
            path.push(range_hash(reader, middle, to)?);
            to = middle;
        } else {
            path.push(range_hash(reader, from, middle)?);
            from = middle;
        }
    }
    if from != 0 {
        // The old tree's right end is not the old tree itself, so the verifier cannot know its hash.
        path.push(range_hash(reader, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Why a path does not prove what it is said to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// The leaf lies outside the tree.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    OutsideTree {
        /// Leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {old} leaves cannot be the beginning of one of {new}")]
    Shrinks {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// Too few or too many hashes for a tree of this size.
    #[error("the path has {0} hashes, which does not fit the size of the tree")]
    Length(usize),
    /// The path leads from the leaf to another root.
    #[error("the path does not lead to the root")]
    Root,
    /// The path leads to another root of the older tree.
    #[error("the path does not lead to the older root")]
    OldRoot,
}

/// Checks that `path` leads from a leaf's hash at `index` to `root` in a tree of `size` leaves (RFC 9162, section
/// 2.1.3.2).
pub fn verify_inclusion(
    leaf: &NodeHash,
    index: u64,
    size: u64,
    path: &[NodeHash],
    root: &NodeHash,
) -> Result<(), PathError> {
    if index >= size {
        return Err(PathError::OutsideTree { index, size });
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(PathError::Length(path.len()));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            let shift = node.trailing_zeros().min(63);
            node >>= shift;
            last >>= shift;
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(PathError::Length(path.len()));
    }
    if hash == *root { Ok(()) } else { Err(PathError::Root) }
}

/// A tree as it stood once: its size and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: NodeHash,
}

/// Checks that the older tree is the beginning of the newer one (RFC 9162, section 2.1.4.2). Between trees of equal size,
/// and from the empty tree, the path is empty.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, path: &[NodeHash]) -> Result<(), PathError> {
    if old.size > new.size {
        return Err(PathError::Shrinks { old: old.size, new: new.size });
    }
    if old.size == 0 || old.size == new.size {
        let expected = if old.size == 0 { empty_root() } else { new.root };
        return match path {
            [] if old.root == expected && (new.size != 0 || new.root == expected) => Ok(()),
            [] => Err(PathError::OldRoot),
            _ => Err(PathError::Length(path.len())),
        };
    }
    let (start, rest) = if old.size.is_power_of_two() {
        (&old.root, path)
    } else {
        path.split_first().ok_or(PathError::Length(0))?
    };
    let shift = (old.size - 1).trailing_ones();
    let (mut node, mut last) = ((old.size - 1) >> shift, (new.size - 1) >> shift);
    let (mut old_hash, mut new_hash) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return Err(PathError::Length(path.len()));
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            let shift = node.trailing_zeros().min(63);
            node >>= shift;
            last >>= shift;
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(PathError::Length(path.len()));
    }
    if old_hash != old.root {
        return Err(PathError::OldRoot);
    }
    if new_hash == new.root { Ok(()) } else { Err(PathError::Root) }
}

#[cfg(test)]
mod tests;
