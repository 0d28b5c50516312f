//! Batches of files: a commitment key for each file, and what became of each batch.
//!
//! A batch stays what it was when its keys were made: the same files in the same order, and so the same root, however often its
//! transaction has to be signed again. It keeps the sequence number that it was signed under, so at most one of those is
//! ever executed.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::super::entropy::Entropy;
use super::{VAULT_LINE_BYTES_MAX, Vault, VaultError};
use crate::genesis::HexKey;
use crate::limits::BATCH_MEMBERS_MAX;
use crate::proof::batch::{BatchTree, COMMITMENT_HMAC_FILE, FileFacts, FileHash};
use crate::types::{KeyId, LeafIndex, NetworkId, OrgId, RecordBatch, TxId};

/// Most transactions of one batch that are remembered: each time that it is signed again makes one more.
const TRANSACTIONS_MAX: usize = 32;
/// Larger than a line of a file is without its path.
const LINE_REST_BYTES: usize = 1_024;
/// A character of a path takes as much in JSON, at most.
const ESCAPED_BYTES: usize = 6;

/// Names a file with a content. Its path is not for the ledger, nor for logs outside of the organisation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// Network that it is anchored in.
    pub network: NetworkId,
    /// As it was given when it was anchored.
    pub path: String,
    /// Its content. With another content it is another file.
    pub facts: FileFacts,
}

/// What is kept of one file.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FileEntry {
    /// Key of its commitment. Whoever has this and the file can open the commitment.
    pub commitment_key: [u8; 32],
    /// Root of its batch.
    #[zeroize(skip)]
    pub batch: [u8; 32],
    /// Its place there, from 0.
    #[zeroize(skip)]
    pub index: u32,
}

impl fmt::Debug for FileEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEntry").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Who signs a batch, and what its transaction says beside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchTerms {
    /// Network that it is anchored in.
    pub network: NetworkId,
    /// Organisation that signs.
    pub org: OrgId,
    /// Number of its key.
    pub key: KeyId,
    /// As in [`RecordBatch`].
    pub class: u8,
    /// As in [`RecordBatch`].
    pub retain_days: u32,
}

/// What is kept of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEntry {
    /// Who signs it, and how.
    pub terms: BatchTerms,
    /// Its members.
    pub count: u32,
    /// The sequence number that its transactions have, once one is signed.
    pub seq: Option<u64>,
    /// Its transactions, the newest last.
    pub transactions: Vec<TxId>,
    /// Its leaf, once one of them is final.
    pub leaf: Option<LeafIndex>,
}

impl BatchEntry {
    /// The body of its transactions.
    #[must_use]
    pub fn body(&self, root: [u8; 32]) -> RecordBatch {
        let BatchTerms { class, retain_days, .. } = self.terms;
        RecordBatch { root, count: self.count, class, alg: COMMITMENT_HMAC_FILE, retain_days }
    }
}

/// One member of a batch.
#[derive(Clone, PartialEq, Eq)]
pub struct BatchMember {
    /// What is committed to.
    pub facts: FileFacts,
    /// Under which key.
    pub key: [u8; 32],
}

impl fmt::Debug for BatchMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchMember(…)")
    }
}

/// The line of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLine {
    network: String,
    path: String,
    algorithm: String,
    bytes: u64,
    hash: HexKey,
    commitment_key: HexKey,
    batch: HexKey,
    index: u32,
}

/// The line of a batch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchLine {
    root: HexKey,
    network: String,
    org: u32,
    key: u32,
    class: u8,
    retain_days: u32,
    count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    transactions: Vec<HexKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<LeafIndex>,
}

impl Vault {
    /// What is kept of a file.
    #[must_use]
    pub fn file(&self, name: &FileName) -> Option<&FileEntry> {
        self.files.get(name)
    }

    /// What is kept of a batch.
    #[must_use]
    pub fn batch(&self, root: &[u8; 32]) -> Option<&BatchEntry> {
        self.batches.get(root)
    }

    /// Makes the commitment keys of files, and of their commitments in this order a batch; returns its root.
    ///
    /// # Errors
    /// If a file has a key already or too long a path, or there are no random bytes. The vault is unchanged then.
    ///
    /// # Panics
    /// If there are no files, or more than [`BATCH_MEMBERS_MAX`].
    pub fn add_batch(
        &mut self,
        terms: BatchTerms,
        files: &[(String, FileFacts)],
        entropy: &mut impl Entropy,
    ) -> Result<[u8; 32], VaultError> {
        let mut keys = zeroize::Zeroizing::new(Vec::with_capacity(files.len()));
        let mut names = Vec::with_capacity(files.len());
        let mut commitments = Vec::with_capacity(files.len());
        for (path, facts) in files {
            if path.len() * ESCAPED_BYTES > VAULT_LINE_BYTES_MAX - LINE_REST_BYTES {
                return Err(VaultError::LongPath(path.len()));
            }
            let name = FileName { network: terms.network, path: path.clone(), facts: *facts };
            if self.files.contains_key(&name) {
                return Err(VaultError::Taken(path.clone()));
            }
            let key: [u8; 32] = entropy.bytes()?;
            commitments.push(facts.commit(&key));
            keys.push(key);
            names.push(name);
        }
        let tree = BatchTree::new(&commitments);
        let (root, count) = (tree.root().0, tree.count());
        for ((name, key), index) in names.into_iter().zip(keys.iter()).zip(0..) {
            self.files.insert(name, FileEntry { commitment_key: *key, batch: root, index });
        }
        let entry = BatchEntry { terms, count, seq: None, transactions: Vec::new(), leaf: None };
        self.batches.insert(root, entry);
        Ok(root)
    }

    /// The members of a batch in their order, and the tree over their commitments. Looks at every file.
    ///
    /// # Errors
    /// [`VaultError::Batch`] if they are not those that the batch was made of.
    pub fn members(&self, root: &[u8; 32]) -> Result<(Vec<BatchMember>, BatchTree), VaultError> {
        let damaged = || VaultError::Batch(hex::encode(root));
        let count = self.batches.get(root).ok_or_else(damaged)?.count;
        let mut found: Vec<Option<BatchMember>> = vec![None; count as usize];
        for (name, entry) in self.files.iter().filter(|(_, entry)| entry.batch == *root) {
            let place = found.get_mut(entry.index as usize).ok_or_else(damaged)?;
            *place = Some(BatchMember { facts: name.facts, key: entry.commitment_key });
        }
        let members = found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        let commitments: Vec<_> = members.iter().map(|member| member.facts.commit(&member.key)).collect();
        let tree = BatchTree::new(&commitments);
        if tree.root().0 == *root { Ok((members, tree)) } else { Err(damaged()) }
    }

    /// Notes that a transaction of a batch was signed under a number and may be on its way.
    pub fn note_batch_signed(&mut self, root: &[u8; 32], id: TxId, seq: u64) {
        let Some(entry) = self.batches.get_mut(root) else { return };
        entry.seq = Some(seq);
        entry.transactions.push(id);
        if entry.transactions.len() > TRANSACTIONS_MAX {
            entry.transactions.remove(0);
        }
    }

    /// Notes that a batch's number was used by something else: its next transaction takes another one.
    pub fn note_batch_number_lost(&mut self, root: &[u8; 32]) {
        if let Some(entry) = self.batches.get_mut(root) {
            entry.seq = None;
        }
    }

    /// Notes the leaf of a batch that became final.
    pub fn note_batch_final(&mut self, root: &[u8; 32], leaf: LeafIndex) {
        if let Some(entry) = self.batches.get_mut(root) {
            entry.leaf = Some(leaf);
        }
    }

    pub(super) fn file_lines(&self) -> impl Iterator<Item = FileLine> + '_ {
        self.files.iter().map(|(name, entry)| FileLine {
            network: name.network.to_string(),
            path: name.path.clone(),
            algorithm: name.facts.algorithm.name().to_owned(),
            bytes: name.facts.bytes,
            hash: HexKey(name.facts.hash),
            commitment_key: HexKey(entry.commitment_key),
            batch: HexKey(entry.batch),
            index: entry.index,
        })
    }

    pub(super) fn batch_lines(&self) -> impl Iterator<Item = BatchLine> + '_ {
        self.batches.iter().map(|(root, entry)| BatchLine {
            root: HexKey(*root),
            network: entry.terms.network.to_string(),
            org: entry.terms.org.0,
            key: entry.terms.key.0,
            class: entry.terms.class,
            retain_days: entry.terms.retain_days,
            count: entry.count,
            seq: entry.seq,
            transactions: entry.transactions.iter().map(|id| HexKey(id.0)).collect(),
            leaf: entry.leaf,
        })
    }

    /// Adds the line of a file, or says what is wrong with it.
    pub(super) fn take_file(&mut self, line: FileLine) -> Result<(), String> {
        let algorithm = FileHash::from_name(&line.algorithm)
            .ok_or_else(|| format!("{:?} is no hash function that this program knows", line.algorithm))?;
        if line.index >= BATCH_MEMBERS_MAX {
            return Err(format!("index {}, limit {}", line.index, BATCH_MEMBERS_MAX - 1));
        }
        let facts = FileFacts { bytes: line.bytes, algorithm, hash: line.hash.0 };
        let name = FileName { network: network(&line.network)?, path: line.path, facts };
        let entry =
            FileEntry { commitment_key: line.commitment_key.0, batch: line.batch.0, index: line.index };
        match self.files.entry(name) {
            std::collections::btree_map::Entry::Occupied(held) => {
                Err(format!("{} appears twice with one content", held.key().path))
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(entry);
                Ok(())
            }
        }
    }

    /// Adds the line of a batch, or says what is wrong with it.
    pub(super) fn take_batch(&mut self, line: BatchLine) -> Result<(), String> {
        if !(1..=BATCH_MEMBERS_MAX).contains(&line.count) {
            return Err(format!("count {}, expected 1 to {BATCH_MEMBERS_MAX}", line.count));
        }
        if line.transactions.len() > TRANSACTIONS_MAX {
            return Err(format!("{} transactions, limit {TRANSACTIONS_MAX}", line.transactions.len()));
        }
        let terms = BatchTerms {
            network: network(&line.network)?,
            org: OrgId(line.org),
            key: KeyId(line.key),
            class: line.class,
            retain_days: line.retain_days,
        };
        let transactions = line.transactions.into_iter().map(|id| TxId(id.0)).collect();
        let entry = BatchEntry { terms, count: line.count, seq: line.seq, transactions, leaf: line.leaf };
        match self.batches.insert(line.root.0, entry) {
            None => Ok(()),
            Some(_) => Err(format!("batch {} appears twice", hex::encode(line.root.0))),
        }
    }
}

fn network(text: &str) -> Result<NetworkId, String> {
    let mut id = NetworkId::default();
    hex::decode_to_slice(text, &mut id.0)
        .map_err(|error| format!("{text:?} is not a network id of 16 hexadecimal digits: {error}"))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::gateway::SeededEntropy;

    const TERMS: BatchTerms = BatchTerms {
        network: NetworkId(*b"network1"),
        org: OrgId(1),
        key: KeyId(2),
        class: 4,
        retain_days: 3_653,
    };

    fn files(from: u8, to: u8) -> Vec<(String, FileFacts)> {
        let facts = |i| FileFacts { bytes: u64::from(i), algorithm: FileHash::Blake3, hash: [i; 32] };
        (from..to).map(|i| (format!("a/{i:03} \u{1}.json"), facts(i))).collect()
    }

    fn read_again(vault: &Vault) -> Vault {
        let mut read = Vault::new();
        for (i, line) in vault.encode().enumerate() {
            read.decode_line(i + 1, &line.unwrap()).unwrap();
        }
        read
    }

    #[test]
    fn batches_read_back_and_stay_what_they_were() {
        let (mut vault, mut entropy) = (Vault::new(), SeededEntropy::new(1));
        let first = vault.add_batch(TERMS, &files(0, 5), &mut entropy).unwrap();
        let second = vault.add_batch(TERMS, &files(5, 6), &mut entropy).unwrap();
        vault.note_batch_signed(&first, TxId([1; 32]), 9);
        vault.note_batch_signed(&first, TxId([2; 32]), 9);
        vault.note_batch_final(&first, LeafIndex(7));
        let read = read_again(&vault);
        assert_eq!(read, vault);
        let entry = read.batch(&first).unwrap();
        assert_eq!((entry.seq, entry.leaf, entry.transactions.len()), (Some(9), Some(LeafIndex(7)), 2));
        let (members, tree) = read.members(&first).unwrap();
        assert_eq!((members.len(), tree.root().0), (5, first));
        assert_eq!(read.members(&second).unwrap().0.len(), 1);
        for (i, (path, facts)) in files(0, 5).into_iter().enumerate() {
            let name = FileName { network: TERMS.network, path, facts };
            let held = read.file(&name).unwrap();
            assert_eq!((held.index as usize, held.batch), (i, first));
            assert_eq!(members[i], BatchMember { facts, key: held.commitment_key });
            assert!(members[..i].iter().all(|other| other.key != held.commitment_key), "a key for each");
            let elsewhere = FileName { network: NetworkId(*b"network2"), ..name };
            assert_eq!(read.file(&elsewhere), None);
        }
        vault.note_batch_number_lost(&first);
        assert_eq!(vault.batch(&first).unwrap().seq, None);
        for n in 0..100 {
            vault.note_batch_signed(&second, TxId([n; 32]), 1);
        }
        assert_eq!(vault.batch(&second).unwrap().transactions.len(), TRANSACTIONS_MAX);
        assert_eq!(read_again(&vault), vault);
    }

    #[test]
    fn files_are_taken_once_and_paths_fit_their_lines() {
        let (mut vault, mut entropy) = (Vault::new(), SeededEntropy::new(1));
        vault.add_batch(TERMS, &files(0, 2), &mut entropy).unwrap();
        let before = read_again(&vault);
        let again = vault.add_batch(TERMS, &files(1, 3), &mut entropy).unwrap_err();
        assert!(matches!(again, VaultError::Taken(_)), "{again}");
        // The longest path that a system opens is no obstacle, whatever it is made of; a longer one is refused.
        let facts = files(9, 10)[0].1;
        let long = vault.add_batch(TERMS, &[("x".repeat(40_000), facts)], &mut entropy).unwrap_err();
        assert!(matches!(long, VaultError::LongPath(40_000)), "{long}");
        assert_eq!(vault, before);
        vault.add_batch(TERMS, &[("\u{1}".repeat(4_096), facts)], &mut entropy).unwrap();
        assert_eq!(read_again(&vault), vault);
    }

    #[test]
    fn a_vault_that_lost_a_member_does_not_open_the_batch() {
        let (mut vault, mut entropy) = (Vault::new(), SeededEntropy::new(1));
        let root = vault.add_batch(TERMS, &files(0, 3), &mut entropy).unwrap();
        let lines: Vec<String> = vault.encode().map(Result::unwrap).collect();
        let read = |lines: &[String]| {
            let mut read = Vault::new();
            lines.iter().enumerate().try_for_each(|(i, line)| read.decode_line(i + 1, line))?;
            read.members(&root).map(|_| ())
        };
        assert_eq!(read(&lines), Ok(()));
        let damaged = Err(VaultError::Batch(hex::encode(root)));
        for lost in 0..lines.len() {
            let rest: Vec<_> =
                lines.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, l)| l.clone()).collect();
            assert_eq!(read(&rest), damaged, "without line {lost}");
        }
        let altered = |from: &str, to: &str| {
            let at = lines.iter().position(|line| line.contains(from)).unwrap();
            let mut lines = lines.clone();
            lines[at] = lines[at].replace(from, to);
            read(&lines)
        };
        assert_eq!(altered("\"bytes\":1,", "\"bytes\":2,"), damaged);
        assert_eq!(altered("\"index\":1", "\"index\":0"), damaged);
        assert_eq!(altered("\"count\":3", "\"count\":4"), damaged);
        for (from, to, why) in [
            ("\"count\":3", "\"count\":0", "count 0, expected 1 to 65536"),
            ("\"index\":1", "\"index\":65536", "index 65536, limit 65535"),
            ("blake3", "md5", "\"md5\" is no hash function"),
            ("6e6574776f726b31", "6e65", "is not a network id"),
            ("\"index\"", "\"idx\"", "unknown field"),
        ] {
            let error = altered(from, to).unwrap_err().to_string();
            assert!(error.starts_with("vault line ") && error.contains(why), "{error}");
        }
        let mut twice = lines.clone();
        twice.push(lines[0].clone());
        assert!(read(&twice).unwrap_err().to_string().contains("appears twice"));
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let mut vault = Vault::new();
        let root = vault.add_batch(TERMS, &files(0, 2), &mut SeededEntropy::new(1)).unwrap();
        let shown = format!("{vault:?} {:?}", vault.members(&root).unwrap().0);
        for entry in vault.files.values() {
            assert!(!shown.contains(&format!("{:?}", entry.commitment_key)));
        }
    }
}
