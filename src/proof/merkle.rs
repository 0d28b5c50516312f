//! The Merkle tree of RFC 9162, section 2.1, over SHA-256: hashes, proofs and their verification.
//!
//! A *perfect subtree* of height `h` and index `i` covers leaves `i·2^h .. (i+1)·2^h`. Proofs are made from the hashes
//! of perfect subtrees alone, which is what tiles store; where they come from is left to a [`HashReader`].

use rayon::prelude::*;
use thiserror::Error;

use crate::hash::{Message, hash_pair, sha256_many, sha256_pairs};
use crate::types::NodeHash;

const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;
/// Leaves whose subtree one thread hashes at a time: a power of two, and so few that what is hashed stays in its cache.
const LEAVES_AT_ONCE: usize = 2_048;
/// Most hashes of an inclusion path, and one less than the most of a consistency path: a tree has fewer than 2^64
/// leaves.
pub const PATH_HASHES_MAX: usize = 64;

/// Hash of a leaf: SHA-256(0x00 ‖ data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> NodeHash {
    NodeHash(Message { head: &[LEAF_PREFIX], body: data }.hash())
}

/// Hashes of leaves, many at a time.
#[must_use]
pub fn leaf_hashes<D: AsRef<[u8]>>(leaves: &[D]) -> Vec<NodeHash> {
    let messages: Vec<Message<'_>> =
        leaves.iter().map(|data| Message { head: &[LEAF_PREFIX], body: data.as_ref() }).collect();
    sha256_many(&messages).into_iter().map(NodeHash).collect()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &NodeHash, right: &NodeHash) -> NodeHash {
    NodeHash(hash_pair(NODE_PREFIX, &left.0, &right.0))
}

/// Hashes of the nodes above each two neighbours, many at a time. If their number is odd, the last one is left out.
#[must_use]
pub fn node_hashes(children: &[NodeHash]) -> Vec<NodeHash> {
    sha256_pairs(NODE_PREFIX, children).into_iter().map(NodeHash).collect()
}

/// Root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> NodeHash {
    NodeHash(Message::from(&[][..]).hash())
}

/// Root over leaf hashes (RFC 9162, section 2.1.1), level by level: a node without a right neighbour goes up as it is.
#[must_use]
pub fn root_of(leaves: &[NodeHash]) -> NodeHash {
    let mut level = match leaves {
        [] => return empty_root(),
        [leaf] => return *leaf,
        _ => level_above(leaves),
    };
    while level.len() > 1 {
        level = level_above(&level);
    }
    level[0]
}

/// Root over leaves themselves, hashed on all cores. Who hashes what does not show in the root.
#[must_use]
pub fn root_of_data<D: AsRef<[u8]> + Sync>(leaves: &[D]) -> NodeHash {
    let subtrees = leaves.par_chunks(LEAVES_AT_ONCE).map(|part| root_of(&leaf_hashes(part)));
    root_of(&subtrees.collect::<Vec<_>>())
}

/// The level above one, of which there is more than one node; a node without a right neighbour goes up as it is.
pub(super) fn level_above(level: &[NodeHash]) -> Vec<NodeHash> {
    let mut above = node_hashes(level);
    above.extend(level.as_chunks::<2>().1);
    above
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

    /// Appends leaves, many hashes at a time, and calls `completed` with each height and the hashes, in order, of the perfect
    /// subtrees of that height that they complete: first with height 0 and the leaves themselves.
    pub fn extend(&mut self, leaves: &[NodeHash], mut completed: impl FnMut(u8, &[NodeHash])) {
        let mut row = leaves.to_vec();
        let mut new_peaks: Vec<NodeHash> = Vec::new();
        for height in 0..64u8 {
            if row.is_empty() {
                break;
            }
            completed(height, &row);
            if self.size >> height & 1 == 1 {
                row.insert(0, self.peaks.pop().unwrap_or_else(|| unreachable!("one peak for each set bit")));
            }
            new_peaks.extend(row.as_chunks::<2>().1);
            row = node_hashes(&row);
        }
        self.peaks.extend(new_peaks.into_iter().rev());
        self.size += leaves.len() as u64;
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
