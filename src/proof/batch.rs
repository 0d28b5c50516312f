//! Batches of files: what is committed to of each, and the tree under whose root a RECORD_BATCH puts the commitments.
//!
//! ```text
//! file ──hash──► bytes8 algorithm1 hash32 ──HMAC under a key of its own──► commitment ──leaf──► root of RECORD_BATCH
//! ```
//!
//! A hash without a key would tell whoever guesses the file that the guess is right, so the ledger never holds one. The key
//! is made for one file and one batch; with key, file, place and path anybody can recompute the root.

use super::commitment::commit;
use super::merkle::{leaf_hashes, level_above, root_of};
use crate::limits::BATCH_MEMBERS_MAX;
use crate::types::NodeHash;

/// Domain of a commitment to a file.
pub const FILE_DOMAIN: &[u8] = b"salus/commitment/file/v1\0";
/// Commitment algorithm of RECORD_BATCH: HMAC-SHA-256 over length, hash function and hash of a file.
pub const COMMITMENT_HMAC_FILE: u8 = 2;
/// Bytes that a commitment to a file is made over.
pub const FILE_FACTS_BYTES: usize = 41;

/// A hash function for files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileHash {
    /// BLAKE3, 32 bytes of output.
    Blake3,
    /// SHA-256 (FIPS 180-4).
    Sha256,
}

impl FileHash {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Blake3, Self::Sha256];

    /// The byte that stands for it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Blake3 => 1,
            Self::Sha256 => 2,
        }
    }

    /// As manifests and bundles name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// What is committed to of a file: its content, and neither its name nor its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileFacts {
    /// Its length.
    pub bytes: u64,
    /// By which function `hash` is.
    pub algorithm: FileHash,
    /// Hash of its content.
    pub hash: [u8; 32],
}

impl FileFacts {
    /// The one encoding that commitments are made over: `bytes8 algorithm1 hash32`.
    #[must_use]
    pub fn canonical(&self) -> [u8; FILE_FACTS_BYTES] {
        let mut out = [0; FILE_FACTS_BYTES];
        out[..8].copy_from_slice(&self.bytes.to_be_bytes());
        out[8] = self.algorithm.code();
        out[9..].copy_from_slice(&self.hash);
        out
    }

    /// The commitment under a key.
    #[must_use]
    pub fn commit(&self, key: &[u8; 32]) -> [u8; 32] {
        commit(key, FILE_DOMAIN, &self.canonical())
    }
}

/// The RFC 9162 tree over the commitments of a batch, with all of its nodes: 4 MiB for the largest.
#[derive(Debug, Clone)]
pub struct BatchTree {
    /// From the leaves to the root.
    levels: Vec<Vec<NodeHash>>,
}

impl BatchTree {
    /// Over commitments in their order; each is the data of a leaf.
    ///
    /// # Panics
    /// If there are none, or more than [`BATCH_MEMBERS_MAX`].
    #[must_use]
    pub fn new(commitments: &[[u8; 32]]) -> Self {
        let n = u32::try_from(commitments.len()).unwrap_or(u32::MAX);
        assert!((1..=BATCH_MEMBERS_MAX).contains(&n), "a batch of {n} members was made");
        let mut levels = vec![leaf_hashes(commitments)];
        while let Some(above) = levels.last().filter(|level| level.len() > 1).map(|level| level_above(level))
        {
            levels.push(above);
        }
        Self { levels }
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> NodeHash {
        // The highest level has one node, which is its own root.
        root_of(self.levels.last().map_or(&[], Vec::as_slice))
    }

    /// Number of leaves.
    #[must_use]
    pub fn count(&self) -> u32 {
        let leaves = self.levels.first().map_or(0, Vec::len);
        u32::try_from(leaves).unwrap_or_else(|_| unreachable!("checked when it was made"))
    }

    /// Inclusion path of a leaf (RFC 9162, section 2.1.3.1), from its sibling upwards.
    ///
    /// # Panics
    /// If there is no such leaf.
    #[must_use]
    pub fn path(&self, index: u32) -> Vec<NodeHash> {
        assert!(index < self.count(), "member {index} was asked of a batch of {}", self.count());
        let mut at = index as usize;
        let mut path = Vec::new();
        for level in &self.levels {
            // A node without a right neighbour goes up as it is.
            path.extend(level.get(at ^ 1));
            at >>= 1;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::proof::merkle::{HashReader, inclusion_path, leaf_hash, verify_inclusion};

    fn commitments(n: u32) -> Vec<[u8; 32]> {
        (0..n)
            .map(|i| {
                FileFacts { bytes: i.into(), algorithm: FileHash::Blake3, hash: [7; 32] }.commit(&[9; 32])
            })
            .collect()
    }

    /// Perfect subtrees, each from its leaves: the way that the log's own proofs are made.
    struct Subtrees(Vec<NodeHash>);

    impl HashReader for Subtrees {
        type Error = std::convert::Infallible;

        fn hash(&mut self, height: u8, index: u64) -> Result<NodeHash, Self::Error> {
            let from = usize::try_from(index << height).unwrap();
            Ok(root_of(&self.0[from..from + (1 << height)]))
        }
    }

    #[test]
    fn paths_are_those_of_the_log_and_lead_to_the_root() {
        for n in (1..=70).chain([127, 128, 129, 1_000]) {
            let commitments = commitments(n);
            let tree = BatchTree::new(&commitments);
            let leaves = leaf_hashes(&commitments);
            assert_eq!((tree.count(), tree.root()), (n, root_of(&leaves)));
            let mut subtrees = Subtrees(leaves.clone());
            for i in 0..n {
                let path = tree.path(i);
                assert_eq!(path, inclusion_path(&mut subtrees, i.into(), n.into()).unwrap(), "{i} of {n}");
                let leaf = leaf_hash(&commitments[i as usize]);
                verify_inclusion(&leaf, i.into(), n.into(), &path, &tree.root()).unwrap();
            }
        }
    }

    #[test]
    fn the_largest_batch_has_paths_of_sixteen_hashes() {
        let tree = BatchTree::new(&commitments(BATCH_MEMBERS_MAX));
        assert_eq!(tree.path(0).len(), 16);
        assert_eq!(tree.path(BATCH_MEMBERS_MAX - 1).len(), 16);
    }

    #[test]
    fn committed_bytes_are_pinned() {
        let facts = FileFacts { bytes: 0x0102, algorithm: FileHash::Sha256, hash: [0xab; 32] };
        assert_eq!(hex::encode(facts.canonical()), format!("000000000000010202{}", "ab".repeat(32)));
        // As Python's `hmac` has it.
        assert_eq!(
            hex::encode(facts.commit(&[0xc0; 32])),
            "0688b070c8965ace9cd55f0636e5957492181167487a8eb7640e87633b582425"
        );
        for algorithm in FileHash::ALL {
            assert_eq!(FileHash::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(FileHash::from_name("md5"), None);
    }

    proptest! {
        #[test]
        fn other_facts_or_another_key_are_another_commitment(
            bytes in any::<u64>(), other in any::<u64>(), hash in any::<[u8; 32]>(), at in 0..32_usize, key in any::<[u8; 32]>(),
        ) {
            let facts = FileFacts { bytes, algorithm: FileHash::Blake3, hash };
            let commitment = facts.commit(&key);
            let mut hash = hash;
            hash[at] ^= 1;
            let mut another = key;
            another[at] ^= 1;
            prop_assert_ne!(FileFacts { hash, ..facts }.commit(&key), commitment);
            prop_assert_ne!(FileFacts { algorithm: FileHash::Sha256, ..facts }.commit(&key), commitment);
            prop_assert_ne!(facts.commit(&another), commitment);
            prop_assert_eq!(FileFacts { bytes: other, ..facts }.commit(&key) == commitment, other == bytes);
        }
    }
}
