//! What the holder of a record adds to a bundle: the key of a commitment, and what it is a commitment to.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::array;
use crate::genesis::HexKey;
use crate::proof::ProofError;
use crate::proof::batch::{COMMITMENT_HMAC_FILE, FileFacts, FileHash};
use crate::proof::commitment::{FHIR_R4_DOMAIN, canonical_json, commit};
use crate::proof::merkle::{leaf_hash, verify_inclusion};
use crate::proof::strict_json::StrictJson;
use crate::types::{Body, NodeHash, RecordBatch};

/// Commitment algorithm of a record anchor: HMAC-SHA-256 over RFC 8785 JSON.
const COMMITMENT_HMAC_JCS: u8 = 1;
/// Most hashes of a path within a batch: as many as double a batch of one to the largest.
pub(super) const BATCH_PATH_HASHES_MAX: usize = 16;

/// What the holder of a record adds to show what was anchored.
#[derive(Clone, PartialEq)]
pub struct Opening {
    /// Key of the commitment.
    pub key: [u8; 32],
    /// What it is a commitment to.
    pub shown: Shown,
}

impl fmt::Debug for Opening {
    /// Neither key nor what it shows: both are health data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(…)")
    }
}

/// What a commitment is shown to be of.
#[derive(Clone, PartialEq)]
pub enum Shown {
    /// A resource, as JSON: of a transaction that carries its commitment itself.
    Resource(serde_json::Value),
    /// A file: of a batch that its commitment is a leaf of.
    Member(Member),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// One file of a batch, and the way from its commitment to the batch's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What is committed to.
    pub file: FileFacts,
    /// The commitment.
    pub commitment: [u8; 32],
    /// Its place in the batch, from 0.
    pub index: u32,
    /// Members of the batch.
    pub count: u32,
    /// From the leaf's sibling upwards.
    pub path: Vec<NodeHash>,
}

/// What an opening has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opened {
    /// The resource, in canonical form.
    Resource(Vec<u8>),
    /// A member of a batch.
    Member(ShownMember),
}

/// A file that was shown to be in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownMember {
    /// Its length and hash.
    pub file: FileFacts,
    /// Its place in the batch, from 0.
    pub index: u32,
    /// Members of the batch.
    pub count: u32,
}

impl fmt::Display for ShownMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file: FileFacts { bytes, algorithm, hash }, index, count } = self;
        write!(f, "its member {index} of {count} is the file of {bytes} bytes with ")?;
        write!(f, "{} {}", algorithm.name(), hex::encode(hash))
    }
}

/// The layout in the bundle's file: `key` with `resource`, or `key` with `file` and `batch`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OpeningFile {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<StrictJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FactsFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<BatchFile>,
}

/// As a manifest's entry has it, without the path.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    algorithm: String,
    bytes: u64,
    hash: HexKey,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BatchFile {
    commitment: String,
    index: u32,
    count: u32,
    inclusion_path: Vec<String>,
}

impl From<&Opening> for OpeningFile {
    fn from(opening: &Opening) -> Self {
        let mut out = Self { key: BASE64.encode(opening.key), resource: None, file: None, batch: None };
        match &opening.shown {
            Shown::Resource(resource) => out.resource = Some(StrictJson(resource.clone())),
            Shown::Member(member) => {
                let FileFacts { bytes, algorithm, hash } = member.file;
                let algorithm = algorithm.name().to_owned();
                out.file = Some(FactsFile { algorithm, bytes, hash: HexKey(hash) });
                out.batch = Some(BatchFile {
                    commitment: BASE64.encode(member.commitment),
                    index: member.index,
                    count: member.count,
                    inclusion_path: member.path.iter().map(|hash| BASE64.encode(hash.0)).collect(),
                });
            }
        }
        out
    }
}

impl TryFrom<OpeningFile> for Opening {
    type Error = ProofError;

    fn try_from(file: OpeningFile) -> Result<Self, ProofError> {
        let key = array("opening.key", "32 bytes", &file.key)?;
        let shown = match (file.resource, file.file, file.batch) {
            (Some(StrictJson(resource)), None, None) => Shown::Resource(resource),
            (None, Some(facts), Some(batch)) => Shown::Member(member(&facts, &batch)?),
            _ => return Err(ProofError::OpeningShape),
        };
        Ok(Self { key, shown })
    }
}

fn member(facts: &FactsFile, batch: &BatchFile) -> Result<Member, ProofError> {
    let algorithm = FileHash::from_name(&facts.algorithm)
        .ok_or_else(|| ProofError::FileHash(facts.algorithm.chars().take(32).collect()))?;
    const PATH: &str = "opening.batch.inclusionPath";
    if batch.inclusion_path.len() > BATCH_PATH_HASHES_MAX {
        return Err(ProofError::Part { part: PATH, expected: "at most 16 hashes" });
    }
    let path = batch.inclusion_path.iter();
    Ok(Member {
        file: FileFacts { bytes: facts.bytes, algorithm, hash: facts.hash.0 },
        commitment: array("opening.batch.commitment", "32 bytes", &batch.commitment)?,
        index: batch.index,
        count: batch.count,
        path: path
            .map(|hash| array(PATH, "32 bytes for each hash", hash).map(NodeHash))
            .collect::<Result<_, _>>()?,
    })
}

/// Checks that key and what is shown give what the body commits to.
pub(super) fn open(body: &Body, opening: &Opening) -> Result<Opened, ProofError> {
    let expected = match body {
        Body::RecordAnchor(anchor) if anchor.alg != COMMITMENT_HMAC_JCS => {
            let known = "1 (HMAC-SHA-256 over RFC 8785 JSON)";
            return Err(ProofError::CommitmentAlgorithm { found: anchor.alg, known });
        }
        Body::RecordBatch(batch) => {
            return match &opening.shown {
                Shown::Member(member) => open_member(batch, &opening.key, member).map(Opened::Member),
                Shown::Resource(_) => {
                    Err(ProofError::OpeningForm { kind: body.kind().name(), shown: "resource" })
                }
            };
        }
        Body::RecordAnchor(anchor) => anchor.commit,
        Body::ConsentGrant(grant) => grant.commit,
        Body::ConsentRevoke(revoke) => revoke.commit,
        Body::AccessLog(access) => access.commit,
        Body::KeyAdd(_) | Body::OrgAdmit(_) => return Err(ProofError::NothingToOpen(body.kind().name())),
    };
    let Shown::Resource(resource) = &opening.shown else {
        return Err(ProofError::OpeningForm { kind: body.kind().name(), shown: "member of a batch" });
    };
    let canonical = canonical_json(resource).map_err(|error| ProofError::Canonical(error.to_string()))?;
    if commit(&opening.key, FHIR_R4_DOMAIN, &canonical) != expected {
        return Err(ProofError::Opening);
    }
    Ok(Opened::Resource(canonical))
}

/// From the batch down to the file: its size, the commitment's place, what the commitment is to.
fn open_member(batch: &RecordBatch, key: &[u8; 32], member: &Member) -> Result<ShownMember, ProofError> {
    if batch.alg != COMMITMENT_HMAC_FILE {
        let known = "2 (HMAC-SHA-256 over length and hash of a file) of batches";
        return Err(ProofError::CommitmentAlgorithm { found: batch.alg, known });
    }
    let &Member { file, commitment, index, count, ref path } = member;
    if count != batch.count {
        return Err(ProofError::BatchCount { bundle: count, transaction: batch.count });
    }
    verify_inclusion(&leaf_hash(&commitment), index.into(), count.into(), path, &NodeHash(batch.root))
        .map_err(ProofError::BatchInclusion)?;
    if file.commit(key) != commitment {
        return Err(ProofError::FileOpening);
    }
    Ok(ShownMember { file, index, count })
}
