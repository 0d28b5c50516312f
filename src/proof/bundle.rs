//! Proof bundles: one file, `proof.json`, that shows offline that a transaction is in the log and who vouches for it.
//!
//! A verifier needs the bundle and the genesis file, nothing else. With the opening, which only the holder of the record can
//! make, the bundle also shows what was anchored: a resource, or one file of a batch ([`super::batch`]). Whether the sender's key had signed the transaction was checked
//! by the validators before they executed it, so the bundle does not carry the key.

mod opening;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::opening::{Member, Opening, Shown, ShownMember};
use self::opening::{Opened, OpeningFile, open};
use super::checkpoint::{CertifiedCheckpoint, CheckpointKeys, verify_checkpoint};
use super::error::ProofError;
use super::merkle::{PATH_HASHES_MAX, leaf_hash, verify_inclusion};
use super::tlog_proof::TlogProof;
use crate::committee::Committee;
use crate::genesis::Genesis;
use crate::types::{
    Body, Kind, LeafIndex, NodeHash, OrgId, STUB_BYTES, Stake, Stub, TimestampMs, Transaction, TxId,
    stub_hash,
};

/// Value of `format` that this program writes and reads.
pub const BUNDLE_FORMAT: &str = "salus-proof/1";
/// Largest bundle.
pub const BUNDLE_BYTES_MAX: usize = 1 << 20;

/// Content of a proof bundle, not verified.
#[derive(Debug, Clone, PartialEq)]
pub struct ProofBundle {
    /// Bytes of the transaction, signature included.
    pub transaction: Vec<u8>,
    /// The leaf's data.
    pub stub: [u8; STUB_BYTES],
    /// Position of the leaf.
    pub leaf_index: LeafIndex,
    /// Leaves of the tree that the path is for.
    pub tree_size: u64,
    /// From the leaf's sibling upwards.
    pub inclusion_path: Vec<NodeHash>,
    /// Signed note of the checkpoint of that tree.
    pub checkpoint: String,
    /// Shows what was anchored.
    pub opening: Option<Opening>,
}

/// The file's layout. Byte strings are base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BundleFile {
    format: String,
    transaction: String,
    stub: String,
    leaf_index: u64,
    tree_size: u64,
    inclusion_path: Vec<String>,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opening: Option<OpeningFile>,
}

impl ProofBundle {
    /// The file's bytes.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] if the opened resource makes it larger than a bundle may be.
    pub fn encode(&self) -> Result<Vec<u8>, ProofError> {
        let file = BundleFile {
            format: BUNDLE_FORMAT.to_owned(),
            transaction: BASE64.encode(&self.transaction),
            stub: BASE64.encode(self.stub),
            leaf_index: self.leaf_index.0,
            tree_size: self.tree_size,
            inclusion_path: self.inclusion_path.iter().map(|hash| BASE64.encode(hash.0)).collect(),
            checkpoint: self.checkpoint.clone(),
            opening: self.opening.as_ref().map(OpeningFile::from),
        };
        let mut bytes =
            serde_json::to_vec_pretty(&file).map_err(|error| ProofError::Json(error.to_string()))?;
        bytes.push(b'\n');
        check_size(&bytes)?;
        Ok(bytes)
    }

    /// Reads a bundle. Nothing of it is verified.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        check_size(bytes)?;
        let file: BundleFile =
            serde_json::from_slice(bytes).map_err(|error| ProofError::Json(error.to_string()))?;
        if file.format != BUNDLE_FORMAT {
            return Err(ProofError::Format(file.format));
        }
        let transaction = BASE64
            .decode(&file.transaction)
            .map_err(|_base64| ProofError::Part { part: "transaction", expected: "a transaction's bytes" })?;
        if file.inclusion_path.len() > PATH_HASHES_MAX {
            return Err(ProofError::Part { part: "inclusionPath", expected: "at most 64 hashes" });
        }
        let opening = file.opening.map(Opening::try_from).transpose()?;
        Ok(Self {
            transaction,
            stub: array("stub", "54 bytes", &file.stub)?,
            leaf_index: LeafIndex(file.leaf_index),
            tree_size: file.tree_size,
            inclusion_path: file
                .inclusion_path
                .iter()
                .map(|hash| array("inclusionPath", "32 bytes for each hash", hash).map(NodeHash))
                .collect::<Result<_, _>>()?,
            checkpoint: file.checkpoint,
            opening,
        })
    }

    /// The part of it that clients of C2SP tlog-proof read; its entry is the stub.
    #[must_use]
    pub fn to_tlog_proof(&self) -> TlogProof {
        TlogProof {
            index: self.leaf_index,
            path: self.inclusion_path.clone(),
            checkpoint: self.checkpoint.clone(),
        }
    }

    /// Checks what the bundle opens, if it opens anything, against a body alone: that of a bundle which was verified without it.
    pub fn verify_opening(&self, body: &Body) -> Result<(), ProofError> {
        self.opening.as_ref().map_or(Ok(()), |opening| open(body, opening).map(|_| ()))
    }

    /// Checks every part of the bundle against the others and against the genesis file.
    pub fn verify(&self, genesis: &Genesis) -> Result<Verified, ProofError> {
        let tx = Transaction::decode(Bytes::copy_from_slice(&self.transaction), genesis.rules())
            .map_err(ProofError::Transaction)?;
        if tx.envelope().network != genesis.network() {
            let (found, expected) = (tx.envelope().network, genesis.network());
            return Err(ProofError::WrongNetwork { found, expected });
        }
        let body = Body::of(&tx).map_err(ProofError::Body)?;
        let stub = Stub::decode(&self.stub).map_err(ProofError::Stub)?;
        check_stub(&stub, &tx)?;
        let keys = CheckpointKeys::new(genesis);
        let checkpoint = verify_checkpoint(self.checkpoint.as_bytes(), &keys)?;
        let head = checkpoint.certified.checkpoint.head();
        if head.size != self.tree_size {
            return Err(ProofError::TreeSize { bundle: self.tree_size, checkpoint: head.size });
        }
        let leaf = leaf_hash(&self.stub);
        verify_inclusion(&leaf, self.leaf_index.0, head.size, &self.inclusion_path, &head.root)
            .map_err(ProofError::Inclusion)?;
        let (resource, member) =
            match self.opening.as_ref().map(|opening| open(&body, opening)).transpose()? {
                Some(Opened::Resource(resource)) => (Some(resource), None),
                Some(Opened::Member(member)) => (None, Some(member)),
                None => (None, None),
            };
        Ok(Verified {
            tx_id: tx.id(),
            body,
            stub,
            leaf: self.leaf_index,
            checkpoint: checkpoint.certified,
            stake: checkpoint.stake,
            committee: keys.committee().clone(),
            resource,
            member,
        })
    }
}

fn check_size(bytes: &[u8]) -> Result<(), ProofError> {
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(ProofError::TooLarge { found: bytes.len(), limit: BUNDLE_BYTES_MAX });
    }
    Ok(())
}

fn array<const N: usize>(
    part: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<[u8; N], ProofError> {
    let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(ProofError::Part { part, expected })
}

fn check_stub(stub: &Stub, tx: &Transaction) -> Result<(), ProofError> {
    let envelope = tx.envelope();
    if stub.kind != envelope.kind {
        return Err(ProofError::StubMismatch("kind"));
    }
    if stub.org != envelope.org {
        return Err(ProofError::StubMismatch("organisation"));
    }
    if stub.hash != stub_hash(tx) {
        return Err(ProofError::StubMismatch("hash"));
    }
    Ok(())
}

/// Reads and checks a bundle.
pub fn verify_bundle(bytes: &[u8], genesis: &Genesis) -> Result<Verified, ProofError> {
    ProofBundle::decode(bytes)?.verify(genesis)
}

/// What a bundle has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Id of the transaction.
    pub tx_id: TxId,
    /// What it says.
    pub body: Body,
    /// What the log says of it.
    pub stub: Stub,
    /// Where in the log.
    pub leaf: LeafIndex,
    /// The log's size and root, and who vouches for them.
    pub checkpoint: CertifiedCheckpoint,
    /// Stake of those.
    pub stake: Stake,
    /// The validators among whom they are.
    pub committee: Committee,
    /// The resource that was anchored, in canonical form, if the bundle opens the commitment.
    pub resource: Option<Vec<u8>>,
    /// The file that was anchored, if the bundle opens its commitment in a batch.
    pub member: Option<ShownMember>,
}

impl Verified {
    /// Kind of the transaction.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.stub.kind
    }

    /// Organisation that sent it.
    #[must_use]
    pub fn org(&self) -> OrgId {
        self.stub.org
    }
}

impl fmt::Display for Verified {
    /// One line: what holds, and whose word that is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stub { kind, violation, org, height, time, .. } = self.stub;
        write!(f, "{} of organisation {org}", kind.name())?;
        if violation {
            f.write_str(" (an access without a permit)")?;
        }
        write!(f, " is leaf {} of {} in the log", self.leaf, self.checkpoint.checkpoint.size)?;
        write!(f, " {}", self.checkpoint.checkpoint.origin)?;
        write!(f, ", executed by commit {height} at {}", Utc(time))?;
        if self.resource.is_some() {
            f.write_str(", and is of the resource shown")?;
        }
        if let Some(member) = &self.member {
            write!(f, ", and {member}")?;
        }
        let names: Vec<_> =
            self.checkpoint.cosignatures.keys().map(|i| self.committee.authority(*i).name.as_str()).collect();
        write!(
            f,
            "; signed by {} with stake {} of {}",
            names.join(", "),
            self.stake,
            self.committee.total_stake()
        )
    }
}

/// A time as ISO 8601 writes it, in UTC.
struct Utc(TimestampMs);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_MS: u64 = 86_400_000;
        let (days, ms) = (self.0.0 / DAY_MS, self.0.0 % DAY_MS);
        // Days since 0000-03-01, so that leap days end their years; eras of 400 years have 146,097 days.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = 400 * era + year_of_era + u64::from(month <= 2);
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1_000)
    }
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod tests;
