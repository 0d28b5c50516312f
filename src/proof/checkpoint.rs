//! Checkpoints (C2SP tlog-checkpoint): what the validators say of the log, and whose word it takes to believe it.
//!
//! A checkpoint is certified by cosignatures of validators with a quorum of the stake. Each validator has two keys for
//! it: its log key signs under the origin's name, for clients that know nothing of validators, and its cosigning key
//! under `<network>/<validator>`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::error::ProofError;
use super::merkle::TreeHead;
use super::note::{
    KeyType, NoteSignature, SignedNote, VerifierKey, check_cosignature, check_text, cosignature_blob,
    split_cosignature,
};
use crate::committee::{Committee, StakeSum};
use crate::genesis::Genesis;
use crate::types::{AuthorityIndex, NodeHash, SIGNATURE_BYTES, Stake};

/// The text of a checkpoint: origin, size and root, each on its line, and no extension lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: NodeHash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// Reads a text as [`Checkpoint::text`] writes it.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let wrong = ProofError::CheckpointText;
        let text = text.strip_suffix('\n').ok_or(wrong("it does not end in a newline"))?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(wrong("it has no origin"))?;
        let digits = lines.next().ok_or(wrong("it has no tree size"))?;
        let size: u64 = digits.parse().map_err(|_int| wrong("its tree size is not a number"))?;
        if size.to_string() != digits {
            return Err(wrong("its tree size has leading zeros or a sign"));
        }
        let root = lines.next().ok_or(wrong("it has no root"))?;
        let root = BASE64.decode(root).map_err(|_base64| wrong("its root is not base64"))?;
        let root = NodeHash(root.try_into().map_err(|_len| wrong("its root is not of 32 bytes"))?);
        if lines.next().is_some() {
            return Err(wrong("it has lines behind the root"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root }
    }
}

/// The keys that sign a network's checkpoints, under the names that they do it by.
#[derive(Debug, Clone)]
pub struct CheckpointKeys {
    origin: String,
    committee: Committee,
    log: Vec<VerifierKey>,
    cosigners: Vec<VerifierKey>,
}

impl CheckpointKeys {
    /// Those of the committee of the genesis file.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let origin = genesis.origin();
        let network = &genesis.file().network;
        let committee = genesis.committee();
        let log = committee
            .iter()
            .map(|(_, authority)| VerifierKey {
                name: origin.clone(),
                key_type: KeyType::Ed25519,
                public: authority.log_key,
            })
            .collect();
        let cosigners = committee
            .iter()
            .map(|(_, authority)| VerifierKey {
                name: format!("{network}/{}", authority.name),
                key_type: KeyType::CosignatureV1,
                public: authority.cosign_key,
            })
            .collect();
        Self { origin, committee, log, cosigners }
    }

    /// Origin line of the network's checkpoints.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The validators.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Key by which a validator signs as the log; its name is the origin.
    #[must_use]
    pub fn log_key(&self, index: AuthorityIndex) -> &VerifierKey {
        &self.log[index.as_usize()]
    }

    /// Key by which a validator cosigns; its name is `<network>/<validator>`.
    #[must_use]
    pub fn cosigner(&self, index: AuthorityIndex) -> &VerifierKey {
        &self.cosigners[index.as_usize()]
    }

    fn find(&self, keys: &[VerifierKey], line: &NoteSignature) -> Option<AuthorityIndex> {
        self.committee.indices().find(|index| {
            let key = &keys[index.as_usize()];
            key.name == line.name && key.key_id() == line.key_id
        })
    }
}

/// A validator's word, at a time of its clock, that the log has this size and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosignature {
    /// Unix time in seconds.
    pub time_s: u64,
    /// Ed25519 signature by the cosigning key.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// A checkpoint with the signatures that were collected for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Cosignatures, one for each validator.
    pub cosignatures: BTreeMap<AuthorityIndex, Cosignature>,
    /// Signature as the log, by the validator that publishes the checkpoint.
    pub log_signature: Option<(AuthorityIndex, [u8; SIGNATURE_BYTES])>,
}

impl CertifiedCheckpoint {
    /// The signed note: the log's signature first, then cosignatures by the validators' order.
    #[must_use]
    pub fn to_note(&self, keys: &CheckpointKeys) -> String {
        let log =
            self.log_signature.iter().map(|(index, signature)| keys.log_key(*index).line(signature.to_vec()));
        let cosignatures = self.cosignatures.iter().map(|(index, cosignature)| {
            keys.cosigner(*index).line(cosignature_blob(cosignature.time_s, &cosignature.signature))
        });
        SignedNote { text: self.checkpoint.text(), signatures: log.chain(cosignatures).collect() }.encode()
    }

    /// Stake of the validators that cosigned.
    #[must_use]
    pub fn stake(&self, committee: &Committee) -> Stake {
        Stake(self.cosignatures.keys().map(|index| committee.stake(*index).0).sum())
    }
}

/// A checkpoint that a quorum vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    /// What they vouch for and their cosignatures. Where several validators signed as the log, the first of them stands
    /// for all; every one of them holds.
    pub certified: CertifiedCheckpoint,
    /// Stake of the cosigners.
    pub stake: Stake,
}

/// Checks a signed note as a checkpoint of the network: its origin, and cosignatures of validators with a quorum of the
/// stake. Lines of keys that are not the committee's are ignored, as C2SP signed-note demands; a line of the committee's
/// that does not verify, or a second one by one key, refuses the whole note.
pub fn verify_checkpoint(note: &[u8], keys: &CheckpointKeys) -> Result<VerifiedCheckpoint, ProofError> {
    let note = SignedNote::parse(note)?;
    let checkpoint = Checkpoint::parse(&note.text)?;
    if checkpoint.origin != keys.origin {
        return Err(ProofError::WrongOrigin { found: checkpoint.origin, expected: keys.origin.clone() });
    }
    let mut cosignatures = BTreeMap::new();
    let mut log_signatures = BTreeMap::new();
    let mut stake = StakeSum::new();
    for line in &note.signatures {
        if let Some(index) = keys.find(&keys.cosigners, line) {
            let key = keys.cosigner(index);
            let cosignature = split_cosignature(&line.blob)
                .filter(|(time_s, signature)| check_cosignature(&key.public, &note.text, *time_s, signature))
                .map(|(time_s, signature)| Cosignature { time_s, signature })
                .ok_or_else(|| bad_signature(key))?;
            if !stake.add(&keys.committee, index) {
                return Err(ProofError::SignedTwice(key.name.clone()));
            }
            cosignatures.insert(index, cosignature);
        } else if let Some(index) = keys.find(&keys.log, line) {
            let key = keys.log_key(index);
            let signature = <[u8; SIGNATURE_BYTES]>::try_from(line.blob.as_slice())
                .ok()
                .filter(|signature| check_text(&key.public, &note.text, signature))
                .ok_or_else(|| bad_signature(key))?;
            if log_signatures.insert(index, signature).is_some() {
                return Err(ProofError::SignedTwice(key.name.clone()));
            }
        }
    }
    let needed = keys.committee.thresholds().checkpoint;
    if !stake.reaches(needed) {
        return Err(ProofError::NoQuorum { found: stake.stake(), needed });
    }
    let log_signature = log_signatures.pop_first();
    let certified = CertifiedCheckpoint { checkpoint, cosignatures, log_signature };
    Ok(VerifiedCheckpoint { certified, stake: stake.stake() })
}

fn bad_signature(key: &VerifierKey) -> ProofError {
    ProofError::BadSignature { name: key.name.clone(), key: hex::encode(key.public) }
}

#[cfg(test)]
mod tests;
