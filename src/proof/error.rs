//! Why a proof is refused, said so that whoever holds it knows which part does not hold.

use thiserror::Error;

use super::merkle::PathError;
use super::note::NoteError;
use crate::codec::DecodeError;
use crate::types::{NetworkId, Stake};

/// What does not hold of a checkpoint or a proof bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Larger than proofs are.
    #[error("the proof has {found} bytes, limit {limit}")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Most bytes.
        limit: usize,
    },
    /// Not JSON of the expected shape.
    #[error("the proof bundle is not readable: {0}")]
    Json(String),
    /// Another format or a newer version.
    #[error("the proof bundle has format {0:?}, this program reads \"salus-proof/1\"")]
    Format(String),
    /// A part that is not base64 of the right length.
    #[error("{part} is not base64 of {expected}")]
    Part {
        /// Key of the part.
        part: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A text proof of another form.
    #[error("the text proof has a wrong line {line}: expected {expected}")]
    TextProof {
        /// Line, from 1.
        line: usize,
        /// What it has to be.
        expected: &'static str,
    },
    /// The checkpoint is not a signed note.
    #[error("the checkpoint is malformed: {0}")]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("the note is not a checkpoint: {0}")]
    CheckpointText(&'static str),
    /// A checkpoint of another log.
    #[error("the checkpoint is of the log {found:?}, expected {expected:?}")]
    WrongOrigin {
        /// Origin line.
        found: String,
        /// Origin of the network.
        expected: String,
    },
    /// A line of a validator's key whose signature does not verify.
    #[error(
        "the signature of {name} under key {key} does not verify: the checkpoint or the signature was altered"
    )]
    BadSignature {
        /// Name in the line.
        name: String,
        /// Public key, hexadecimal.
        key: String,
    },
    /// Two lines of one key.
    #[error("{0} signed the checkpoint twice")]
    SignedTwice(String),
    /// Too little stake among the cosigners.
    #[error("validators with stake {found} cosigned the checkpoint, needed {needed}")]
    NoQuorum {
        /// Stake of the cosigners.
        found: Stake,
        /// Stake of a quorum.
        needed: Stake,
    },
    /// The transaction does not decode.
    #[error("the transaction is malformed: {0}")]
    Transaction(DecodeError),
    /// The transaction's body does not decode.
    #[error("the transaction's body is malformed: {0}")]
    Body(DecodeError),
    /// A transaction of another network.
    #[error("the transaction was made for network {found}, the genesis file is that of {expected}")]
    WrongNetwork {
        /// Network in the envelope.
        found: NetworkId,
        /// Network of the genesis file.
        expected: NetworkId,
    },
    /// The stub does not decode.
    #[error("the stub is malformed: {0}")]
    Stub(DecodeError),
    /// The stub is that of another transaction.
    #[error("the stub does not belong to the transaction: its {0} differs")]
    StubMismatch(&'static str),
    /// The bundle and its checkpoint speak of different trees.
    #[error("the bundle's path is for a tree of {bundle} leaves, its checkpoint for one of {checkpoint}")]
    TreeSize {
        /// Size in the bundle.
        bundle: u64,
        /// Size in the checkpoint.
        checkpoint: u64,
    },
    /// The inclusion path does not hold.
    #[error("the stub is not in the log: {0}")]
    Inclusion(PathError),
    /// An opening of a transaction that commits to nothing.
    #[error("the bundle opens a commitment, but a {0} has none")]
    NothingToOpen(&'static str),
    /// A commitment by an algorithm that this version does not know.
    #[error("the commitment is of algorithm {found}, this program knows {known}")]
    CommitmentAlgorithm {
        /// Algorithm in the transaction.
        found: u8,
        /// What it would have to be.
        known: &'static str,
    },
    /// An opening that is neither of a resource nor of a member of a batch.
    #[error("opening has to hold key and resource, or key, file and batch")]
    OpeningShape,
    /// An opening of the other form.
    #[error("the bundle shows a {shown}, which is not how a {kind} is opened")]
    OpeningForm {
        /// Kind of the transaction.
        kind: &'static str,
        /// What the opening is of.
        shown: &'static str,
    },
    /// A hash function that this version does not know.
    #[error("opening.file is of the hash function {0:?}, this program knows blake3 and sha256")]
    FileHash(String),
    /// The opening and the transaction speak of different batches.
    #[error("the bundle's path is for a batch of {bundle} members, its transaction is one of {transaction}")]
    BatchCount {
        /// Members in the opening.
        bundle: u32,
        /// Members in the transaction.
        transaction: u32,
    },
    /// The path within the batch does not hold.
    #[error("the commitment is not in the batch: {0}")]
    BatchInclusion(PathError),
    /// Key and file give another commitment.
    #[error("the file is not the one that was anchored: key, length and hash give another commitment")]
    FileOpening,
    /// The resource cannot be brought into canonical form.
    #[error("the resource has no canonical form: {0}")]
    Canonical(String),
    /// Key and resource give another commitment.
    #[error("the resource is not the one that was anchored: key and resource give another commitment")]
    Opening,
}
