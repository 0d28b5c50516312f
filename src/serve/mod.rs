//! What the HTTP API says: requests in, bytes of answers out. No sockets and no clock; `crate::io::http` has those.
//!
//! The node implements [`Ledger`]; [`Request::parse`] decides what a path asks for, and [`answer`] says it.

mod answer;
mod request;
mod tile;

pub use answer::{Answer, answer, bad_request, error, index_page, method_not_allowed, outcome, refusal};
pub use request::{ProofOf, Request};
pub use tile::{TileKind, TilePath};

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::error::ClientError;
use crate::types::{
    ClientReply, CommitIndex, Digest, LeafIndex, NetworkId, NodeHash, OrgId, Provision, Round, TimestampMs,
    TxId,
};

/// A value that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The node as the API sees it. Reads may touch the disk and are called on threads that may block.
pub trait Ledger: Send + Sync + 'static {
    /// Where the node stands.
    fn status(&self) -> Status;

    /// Hands in a transaction; must not block.
    fn submit(&self, tx: Bytes) -> Ticket;

    /// What is known of a transaction.
    fn transaction(&self, id: TxId) -> Result<Option<TransactionStatus>, ServeError>;

    /// The proof bundle, JSON, of a transaction that is in the log.
    fn proof(&self, of: ProofOf) -> Result<Option<String>, ServeError>;

    /// The record that has a version at a leaf.
    fn record(&self, leaf: LeafIndex) -> Result<Option<RecordStatus>, ServeError>;

    /// The consent under a handle.
    fn consent(&self, handle: [u8; 32]) -> Result<Option<ConsentStatus>, ServeError>;

    /// RFC 9162 consistency proof between the trees of two sizes, `from` ≤ `to`; `None` if the log is shorter than `to`.
    fn consistency(&self, from: u64, to: u64) -> Result<Option<Vec<NodeHash>>, ServeError>;

    /// The latest certified checkpoint as a signed note (C2SP tlog-checkpoint).
    fn checkpoint(&self) -> Option<String>;

    /// A tile or bundle of entries (C2SP tlog-tiles).
    fn tile(&self, path: &TilePath) -> Result<Option<Bytes>, ServeError>;

    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Whether the node takes part and serves; `Err` says why not.
    fn ready(&self) -> Result<(), String>;
}

/// A transaction that was handed in.
pub struct Ticket {
    /// Its id.
    pub id: TxId,
    /// Whether it was let in: resolves once its signature was checked.
    pub admitted: Later<Result<(), ClientError>>,
    /// Its last reply; `None` if the node stops before.
    pub outcome: Later<Option<ClientReply>>,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServeError {
    /// It will be there soon.
    #[error("not yet: {0}")]
    NotYet(String),
    /// The node cannot say now.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A fault of the node.
    #[error("internal error: {0}")]
    Internal(String),
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn hexadecimal<S: Serializer>(value: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex::encode(value))
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Identity of the network.
    #[serde(serialize_with = "text")]
    pub network: NetworkId,
    /// Origin line of its checkpoints.
    pub origin: String,
    /// Name of the validator.
    pub validator: String,
    /// Round of its last own block.
    pub round: Round,
    /// Last commit executed.
    pub commit: CommitIndex,
    /// Block time of that commit, Unix milliseconds.
    pub time_ms: TimestampMs,
    /// Leaves in the Merkle log.
    pub tree_size: u64,
    /// Root of the Merkle log.
    #[serde(serialize_with = "text")]
    pub root: NodeHash,
    /// Root of the authenticated state.
    #[serde(serialize_with = "text")]
    pub state_root: Digest,
    /// Leaves that the latest certified checkpoint covers.
    pub checkpoint_size: u64,
    /// Transactions that wait to enter a block.
    pub mempool_transactions: u64,
    /// Bytes of them.
    pub mempool_bytes: u64,
    /// How long the first leader of a round is waited for at the moment, in microseconds.
    pub leader_timeout_us: u64,
    /// The other validators.
    pub peers: Vec<PeerStatus>,
    /// Validators that signed two blocks of one round: their keys are in wrong hands, or run twice.
    pub equivocators: Vec<EquivocatorStatus>,
}

/// Another validator as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub up: bool,
}

/// A validator that signed two blocks of one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EquivocatorStatus {
    /// Its name.
    pub name: String,
    /// Round of the blocks that prove it, if a proof is here.
    pub round: Option<Round>,
    /// The proof, hexadecimal: `{round8 author2 digest32 signature64}` of both blocks. It convinces anybody who has the genesis.
    pub evidence: Option<String>,
}

/// What is known of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Let in here, not final yet.
    Pending,
    /// Final and in the log.
    Executed {
        /// Position of its stub.
        leaf: LeafIndex,
        /// Commit that executed it.
        commit: CommitIndex,
        /// Block time of that commit.
        time: TimestampMs,
        /// An access that no consent in force permitted.
        violation: bool,
    },
    /// It entered a block and every validator skipped it.
    Skipped {
        /// Code of a [`SkipReason`](crate::execute::SkipReason).
        reason: u8,
    },
}

/// One version of a record, and whether a newer one has replaced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordStatus {
    /// The version asked for.
    pub leaf: LeafIndex,
    /// Organisation that anchored it.
    pub org: OrgId,
    /// Class of the record.
    pub class: u8,
    /// Commitment to this version, hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub commitment: [u8; 32],
    /// The version before it.
    pub previous: Option<LeafIndex>,
    /// The version that replaced it; none if this is the head.
    pub superseded_by: Option<LeafIndex>,
    /// Days that it has to be kept.
    pub retain_days: u32,
}

/// A consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentStatus {
    /// Its random name.
    pub handle: [u8; 32],
    /// Organisation that granted it as custodian.
    pub custodian: OrgId,
    /// Organisation that may access.
    pub grantee: OrgId,
    /// Its rules.
    pub provisions: Vec<Provision>,
    /// Leaf of the grant.
    pub granted_leaf: LeafIndex,
    /// Block time at which the question was answered: expiry follows from it.
    pub as_of: TimestampMs,
    /// Leaf of the revocation and when it takes effect.
    pub revoked: Option<(LeafIndex, TimestampMs)>,
}
