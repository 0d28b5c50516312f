//! What the organisation keeps to itself: without it, what the ledger holds says nothing.
//!
//! For each version of each resource one commitment key, the transaction that carried the commitment and, once that is
//! final, its leaf; for each file of a batch one commitment key, and for each batch what became of it; for each consent and grantee a random handle and the patient's one-time key. Held in memory, written as
//! lines of JSON. Deleting an entry makes its commitment unopenable for ever.

mod batches;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::entropy::{Entropy, EntropyError};
use crate::genesis::HexKey;
use crate::types::{LeafIndex, OrgId, TxId};
use batches::{BatchLine, FileLine};

pub use batches::{BatchEntry, BatchMember, BatchTerms, FileEntry, FileName};

/// Longest line of a vault file, in bytes: one with the longest path that a system opens.
pub const VAULT_LINE_BYTES_MAX: usize = 32 << 10;

/// Names one version of one resource. It holds a FHIR id: not for the ledger, nor for logs outside of the organisation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionName {
    /// Which repetition of the stream; 0 unless a load is made of repeated samples.
    pub copy: u32,
    /// `Type/id`.
    pub resource: String,
    /// `meta.versionId`.
    pub version: u32,
    /// For a consent, the grantee: each grantee's commitment has a key of its own, so that the grants of one consent
    /// cannot be linked on the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grantee: Option<OrgId>,
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/_history/{}", self.resource, self.version)?;
        if let Some(grantee) = self.grantee {
            write!(f, " for organisation {grantee}")?;
        }
        if self.copy > 0 {
            write!(f, " (copy {})", self.copy)?;
        }
        Ok(())
    }
}

/// Names a consent as one grantee has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConsentName {
    /// As in [`VersionName`].
    pub copy: u32,
    /// `Consent/id`.
    pub resource: String,
    /// The grantee.
    pub grantee: OrgId,
}

/// What is kept of one version.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VersionEntry {
    /// Key of its commitment. Whoever has this and the resource can open the commitment.
    pub commitment_key: [u8; 32],
    /// Transaction that carries the commitment, once one is made.
    #[zeroize(skip)]
    pub transaction: Option<TxId>,
    /// Its leaf, once final.
    #[zeroize(skip)]
    pub leaf: Option<LeafIndex>,
}

impl fmt::Debug for VersionEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionEntry")
            .field("transaction", &self.transaction)
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

/// What is kept of one consent and grantee.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ConsentEntry {
    /// Its name on the ledger, random.
    pub handle: [u8; 32],
    /// Seed of the patient's one-time key, kept on the patient's behalf.
    pub patient_seed: [u8; 32],
}

impl fmt::Debug for ConsentEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentEntry").finish_non_exhaustive()
    }
}

/// Why a vault refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VaultError {
    /// A name that it holds already.
    #[error("{0} is in the vault already: each version goes on the ledger once")]
    Taken(String),
    /// A line of its file that is not an entry.
    #[error("vault line {line}: {why}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A path that does not fit a line of its file.
    #[error("a path of {0} bytes is too long for the vault")]
    LongPath(usize),
    /// A batch whose files it does not hold as they were.
    #[error("the vault does not hold all files of batch {0}: it was altered, and cannot open the batch")]
    Batch(String),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The vault of a gateway.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Vault {
    versions: BTreeMap<VersionName, VersionEntry>,
    consents: BTreeMap<ConsentName, ConsentEntry>,
    /// Versions whose transaction has no leaf yet.
    pending: BTreeMap<TxId, VersionName>,
    files: BTreeMap<FileName, FileEntry>,
    /// By their roots.
    batches: BTreeMap<[u8; 32], BatchEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
enum Line {
    Version {
        #[serde(flatten)]
        name: VersionName,
        commitment_key: HexKey,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transaction: Option<HexKey>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaf: Option<LeafIndex>,
    },
    Consent {
        #[serde(flatten)]
        name: ConsentName,
        handle: HexKey,
        patient_seed: HexKey,
    },
    File(FileLine),
    Batch(BatchLine),
}

impl Vault {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of versions.
    #[must_use]
    pub fn versions(&self) -> usize {
        self.versions.len()
    }

    /// What is kept of a version.
    #[must_use]
    pub fn version(&self, name: &VersionName) -> Option<&VersionEntry> {
        self.versions.get(name)
    }

    /// The latest version before `name` of the same resource.
    #[must_use]
    pub fn version_before(&self, name: &VersionName) -> Option<(&VersionName, &VersionEntry)> {
        let first = VersionName { version: 0, grantee: None, ..name.clone() };
        let before = self.versions.range(first..name.clone());
        before.rev().find(|(other, _)| other.version < name.version && other.grantee == name.grantee)
    }

    /// The version whose commitment a transaction carries. Looks at every version.
    #[must_use]
    pub fn version_of(&self, id: &TxId) -> Option<(&VersionName, &VersionEntry)> {
        self.versions.iter().find(|(_, entry)| entry.transaction.as_ref() == Some(id))
    }

    /// What is kept of a consent.
    #[must_use]
    pub fn consent(&self, name: &ConsentName) -> Option<&ConsentEntry> {
        self.consents.get(name)
    }

    /// The version whose commitment a transaction carries, while its leaf is not known.
    #[must_use]
    pub fn pending(&self, id: &TxId) -> Option<&VersionName> {
        self.pending.get(id)
    }

    /// Makes the commitment key of a version.
    ///
    /// # Errors
    /// If the version has one already, or there are no random bytes.
    pub fn add_version(
        &mut self,
        name: &VersionName,
        entropy: &mut impl Entropy,
    ) -> Result<[u8; 32], VaultError> {
        if self.versions.contains_key(name) {
            return Err(VaultError::Taken(name.to_string()));
        }
        let commitment_key = entropy.bytes()?;
        self.versions.insert(name.clone(), VersionEntry { commitment_key, transaction: None, leaf: None });
        Ok(commitment_key)
    }

    /// Makes handle and patient's key of a consent.
    ///
    /// # Errors
    /// If the consent has them already for this grantee, or there are no random bytes.
    pub fn add_consent(
        &mut self,
        name: ConsentName,
        entropy: &mut impl Entropy,
    ) -> Result<&ConsentEntry, VaultError> {
        match self.consents.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => Err(VaultError::Taken(format!(
                "{} for organisation {}",
                entry.key().resource,
                entry.key().grantee
            ))),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let (handle, patient_seed) = (entropy.bytes()?, entropy.bytes()?);
                Ok(entry.insert(ConsentEntry { handle, patient_seed }))
            }
        }
    }

    /// Notes which transaction carries the commitment of a version that the vault holds.
    pub fn note_transaction(&mut self, name: &VersionName, id: TxId) {
        if let Some(entry) = self.versions.get_mut(name) {
            entry.transaction = Some(id);
            self.pending.insert(id, name.clone());
        }
    }

    /// Notes the leaf of a transaction that became final; returns whether the vault was waiting for it.
    pub fn note_final(&mut self, id: &TxId, leaf: LeafIndex) -> bool {
        let Some(name) = self.pending.remove(id) else { return false };
        if let Some(entry) = self.versions.get_mut(&name) {
            entry.leaf = Some(leaf);
        }
        true
    }

    /// The file's lines, each with its newline. They hold secrets: the file belongs to its owner alone (mode 0600).
    pub fn encode(&self) -> impl Iterator<Item = Result<String, serde_json::Error>> + '_ {
        let versions = self.versions.iter().map(|(name, entry)| Line::Version {
            name: name.clone(),
            commitment_key: HexKey(entry.commitment_key),
            transaction: entry.transaction.map(|id| HexKey(id.0)),
            leaf: entry.leaf,
        });
        let consents = self.consents.iter().map(|(name, entry)| Line::Consent {
            name: name.clone(),
            handle: HexKey(entry.handle),
            patient_seed: HexKey(entry.patient_seed),
        });
        let files = self.file_lines().map(Line::File);
        let batches = self.batch_lines().map(Line::Batch);
        versions.chain(consents).chain(files).chain(batches).map(|line| {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            Ok(text)
        })
    }

    /// Adds line number `line` (from 1) of a file that [`Vault::encode`] made; an empty line adds nothing.
    ///
    /// # Errors
    /// If it is too long, is no entry, or names what the vault holds already.
    pub fn decode_line(&mut self, line: usize, text: &str) -> Result<(), VaultError> {
        let refuse = |why: String| VaultError::Line { line, why };
        if text.len() > VAULT_LINE_BYTES_MAX {
            return Err(refuse(format!("{} bytes, limit {VAULT_LINE_BYTES_MAX}", text.len())));
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        match serde_json::from_str(text).map_err(|error| refuse(error.to_string()))? {
            Line::Version { name, commitment_key, transaction, leaf } => {
                let transaction = transaction.map(|id| TxId(id.0));
                if self.versions.contains_key(&name) {
                    return Err(refuse(format!("{name} appears twice")));
                }
                if let (Some(id), None) = (transaction, leaf) {
                    self.pending.insert(id, name.clone());
                }
                let entry = VersionEntry { commitment_key: commitment_key.0, transaction, leaf };
                self.versions.insert(name, entry);
            }
            Line::Consent { name, handle, patient_seed } => {
                if self.consents.contains_key(&name) {
                    return Err(refuse(format!("{} appears twice for one grantee", name.resource)));
                }
                let entry = ConsentEntry { handle: handle.0, patient_seed: patient_seed.0 };
                self.consents.insert(name, entry);
            }
            Line::File(file) => self.take_file(file).map_err(refuse)?,
            Line::Batch(batch) => self.take_batch(batch).map_err(refuse)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::gateway::SeededEntropy;

    fn name(resource: &str, version: u32) -> VersionName {
        VersionName { copy: 0, resource: resource.to_owned(), version, grantee: None }
    }

    fn filled() -> Vault {
        let mut vault = Vault::new();
        let mut entropy = SeededEntropy::new(1);
        for version in 1..=3 {
            vault.add_version(&name("DocumentReference/a", version), &mut entropy).unwrap();
        }
        vault.note_transaction(&name("DocumentReference/a", 1), TxId([1; 32]));
        vault.note_transaction(&name("DocumentReference/a", 2), TxId([2; 32]));
        assert!(vault.note_final(&TxId([1; 32]), LeafIndex(7)));
        let consent = ConsentName { copy: 2, resource: "Consent/b".to_owned(), grantee: OrgId(3) };
        vault.add_consent(consent, &mut entropy).unwrap();
        vault
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let vault = filled();
        let mut read = Vault::new();
        for (i, line) in vault.encode().enumerate() {
            read.decode_line(i + 1, &line.unwrap()).unwrap();
        }
        assert_eq!(read, vault);
        assert_eq!(read.pending(&TxId([2; 32])), Some(&name("DocumentReference/a", 2)));
        assert_eq!(read.version(&name("DocumentReference/a", 1)).unwrap().leaf, Some(LeafIndex(7)));
    }

    #[test]
    fn versions_are_found_by_the_next_one_and_by_their_transaction() {
        let vault = filled();
        let before = |version| {
            vault.version_before(&name("DocumentReference/a", version)).map(|(name, _)| name.version)
        };
        assert_eq!([before(1), before(2), before(3), before(9)], [None, Some(1), Some(2), Some(3)]);
        assert!(vault.version_before(&name("DocumentReference/b", 2)).is_none());
        let (found, entry) = vault.version_of(&TxId([1; 32])).unwrap();
        assert_eq!((found.version, entry.leaf), (1, Some(LeafIndex(7))));
        assert!(vault.version_of(&TxId([9; 32])).is_none());
    }

    #[test]
    fn keys_differ_and_names_are_taken_once() {
        let mut vault = filled();
        let keys: Vec<_> = vault.versions.values().map(|entry| entry.commitment_key).collect();
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        let again = vault.add_version(&name("DocumentReference/a", 1), &mut SeededEntropy::new(9));
        assert_eq!(
            again.unwrap_err().to_string(),
            "DocumentReference/a/_history/1 is in the vault already: each version goes on the ledger once"
        );
        assert!(!vault.note_final(&TxId([1; 32]), LeafIndex(8)), "a leaf is noted once");
    }

    #[test]
    fn damaged_lines_are_refused_by_number() {
        let lines: Vec<String> = filled().encode().map(Result::unwrap).collect();
        let mut vault = Vault::new();
        vault.decode_line(1, &lines[0]).unwrap();
        let error = vault.decode_line(2, &lines[0]).unwrap_err();
        assert_eq!(error.to_string(), "vault line 2: DocumentReference/a/_history/1 appears twice");
        for bad in ["{", "{}", &lines[1].replace("version", "wersion"), &lines[1][..40], &"x".repeat(40_000)]
        {
            assert!(matches!(vault.decode_line(5, bad), Err(VaultError::Line { line: 5, .. })), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let vault = filled();
        let shown = format!("{vault:?}");
        for entry in vault.versions.values() {
            assert!(!shown.contains(&format!("{:?}", entry.commitment_key)));
        }
        assert!(!shown.contains("commitment_key") && !shown.contains("patient_seed"));
    }
}
