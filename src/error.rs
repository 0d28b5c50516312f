//! Errors by who has to act on them: a peer that misbehaved, a client whose request is refused, an operator whose
//! storage or configuration is at fault. Bugs of our own are assertions.

use thiserror::Error;

use crate::codec::DecodeError;
use crate::types::{AuthorityIndex, BlockRef, NetworkId, Round};

/// What a peer did that no honest validator does. The connection is closed and the peer is charged for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// Bytes that no message decodes from.
    #[error("malformed {what}: {source}")]
    Malformed {
        /// Message that was expected.
        what: &'static str,
        /// Where decoding stopped.
        source: DecodeError,
    },
    /// A frame of a type that this version does not know.
    #[error("frame of unknown type {0}")]
    UnknownFrame(u8),
    /// A frame longer than its type allows.
    #[error("frame of type {kind} announces {len} bytes, limit {limit}")]
    FrameTooLarge {
        /// Type byte.
        kind: u8,
        /// Length announced.
        len: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A hello of another network.
    #[error("peer is of network {found}, this is {expected}")]
    WrongNetwork {
        /// Network of the peer.
        found: NetworkId,
        /// Network of this node.
        expected: NetworkId,
    },
    /// A hello of another protocol version.
    #[error("peer speaks version {found}, this node {expected}")]
    WrongVersion {
        /// Version of the peer.
        found: u16,
        /// Version of this node.
        expected: u16,
    },
    /// A header whose signature does not verify under its author's key.
    #[error("header {0} has a bad signature")]
    BadHeaderSignature(BlockRef),
    /// A header that breaks a rule of the DAG.
    #[error("header {block} is invalid: {why}")]
    InvalidHeader {
        /// The block.
        block: BlockRef,
        /// The rule that it breaks.
        why: HeaderFault,
    },
    /// A payload that is not what the header commits to.
    #[error("payload of {0} does not match its header")]
    PayloadMismatch(BlockRef),
    /// Commits that are no chain, or that no quorum certifies.
    #[error("commits {0}")]
    FalseCommits(&'static str),
    /// Something that was not asked for.
    #[error("{0} that was not asked for")]
    Unsolicited(&'static str),
}

/// Rule of the DAG that a header breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderFault {
    /// Another epoch than the committee's.
    #[error("its epoch is not the committee's")]
    WrongEpoch,
    /// An author outside the committee.
    #[error("author {0} is not in the committee")]
    UnknownAuthor(AuthorityIndex),
    /// Round 0 is genesis and made by nobody.
    #[error("round 0 is genesis")]
    GenesisRound,
    /// The first ancestor is not an earlier block of the author.
    #[error("its first ancestor is not an earlier block of its author")]
    NoOwnAncestor,
    /// An ancestor of the same or a later round.
    #[error("ancestor {0} is not of an earlier round")]
    AncestorNotEarlier(BlockRef),
    /// An ancestor of an author outside the committee.
    #[error("ancestor {0} has an unknown author")]
    AncestorUnknownAuthor(BlockRef),
    /// Ancestors after the first are not in ascending order of author, or name an author twice.
    #[error("ancestor {0} is out of order")]
    AncestorOrder(BlockRef),
    /// A genesis ancestor that is not the network's.
    #[error("ancestor {0} is not the genesis block of its author")]
    NotGenesis(BlockRef),
    /// Less than a quorum of the stake among the ancestors of the round before.
    #[error("ancestors of round {0} hold less than a quorum")]
    NoQuorum(Round),
    /// Transaction count, length and root contradict each other.
    #[error("its payload fields contradict each other")]
    PayloadFields,
    /// Two votes of one kind, too many proofs, or an order that is not canonical.
    #[error("its system messages are too many of a kind or out of order")]
    SystemMessages,
    /// A proof of equivocation that proves nothing.
    #[error("it accuses a validator without proof")]
    BadEvidence,
}

/// What the disk did. All but [`StorageError::Full`] at start-up are fatal: the node halts and never retries a failed
/// write or sync, since the kernel may have dropped the pages.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No space is left, or a quota or a limit of the process ends the file.
    #[error(
        "disk full or limit reached while writing {path}: free space, lift the limit or move the data folder, then start \
         the node again"
    )]
    Full {
        /// The file.
        path: String,
    },
    /// Data that was durable has changed.
    #[error("{path} is damaged at byte {at}: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// Offset of the damage.
        at: u64,
        /// What does not hold.
        why: String,
    },
    /// Data of another network.
    #[error("{path} belongs to network {found}, this node is of {expected}")]
    WrongNetwork {
        /// The file or folder.
        path: String,
        /// Network found in it.
        found: NetworkId,
        /// Network of this node.
        expected: NetworkId,
    },
    /// Data of a newer version.
    #[error("{path} has format version {found}, this program knows up to {known}")]
    NewerVersion {
        /// The file.
        path: String,
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// Another process has the folder.
    #[error("{path} is locked by another process: is this validator already running?")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// A call after one that failed: what the disk holds is unknown until the files are opened anew.
    #[error("{path} takes nothing more after a failed write or sync: start the node again")]
    Halted {
        /// The file.
        path: String,
    },
    /// The key-value store refused.
    #[error("state store {path}: {why}")]
    Store {
        /// The folder.
        path: String,
        /// What it said.
        why: String,
    },
}

impl StorageError {
    /// Classifies an error of the operating system.
    #[must_use]
    pub fn io(what: &'static str, path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

        let path = path.as_ref().display().to_string();
        if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            Self::Full { path }
        } else {
            Self::Io { what, path, source }
        }
    }
}

/// Why a client's transaction is refused before it enters a block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The node has as much work as it may hold.
    #[error("busy: the node's queues are full, try again later or at another validator")]
    Busy,
    /// Bytes that no transaction decodes from.
    #[error("malformed transaction: {0}")]
    Malformed(#[from] DecodeError),
    /// Made for another network.
    #[error("transaction is for network {found}, this is {expected}")]
    WrongNetwork {
        /// Network in the envelope.
        found: NetworkId,
        /// Network of this node.
        expected: NetworkId,
    },
    /// No such key, or not active.
    #[error("key {key} of organisation {org} is unknown or not active")]
    UnknownKey {
        /// Organisation in the envelope.
        org: u32,
        /// Key in the envelope.
        key: u32,
    },
    /// The signature does not verify.
    #[error("bad signature")]
    BadSignature,
    /// The sequence number was used, or is below the window.
    #[error("sequence number {0} was used already or is too old")]
    Replayed(u64),
    /// The time is too far from the node's.
    #[error("transaction time is {0} ms away from the node's clock, limit 600000")]
    BadTime(u64),
}

impl ClientError {
    /// Stable name of the refusal, as clients see it in answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy => "Busy",
            Self::Malformed(_) => "Malformed",
            Self::WrongNetwork { .. } => "WrongNetwork",
            Self::UnknownKey { .. } => "UnknownKey",
            Self::BadSignature => "BadSignature",
            Self::Replayed(_) => "Replayed",
            Self::BadTime(_) => "BadTime",
        }
    }
}
