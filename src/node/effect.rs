//! What goes into the node and what comes out.

use std::sync::Arc;

use bytes::Bytes;

use super::CertifiedHead;
use super::certificates::{Certificate, CertifiedCommits};
use crate::dag::VerifiedHeader;
use crate::execute::{Executed, Outcome, SubDag, Verdict};
use crate::mempool::{PooledTransaction, Ticket};
use crate::types::{
    AuthorityIndex, BLOCK_REF_BYTES, BlockRef, CommitIndex, EquivocationProof, FetchRequest, LogSeq, Payload,
    PeerMessage, Round, put_block_ref,
};

/// Something that happened outside.
#[derive(Debug)]
pub enum Input {
    /// A connection to a peer is up.
    PeerUp {
        /// The peer.
        peer: AuthorityIndex,
        /// The newest version of the protocol that it speaks.
        version: u16,
    },
    /// The connection to a peer is gone.
    PeerDown(AuthorityIndex),
    /// A peer sent headers, which were verified: new ones, or several as an answer.
    Headers {
        /// The peer.
        from: AuthorityIndex,
        /// The headers.
        headers: Vec<VerifiedHeader>,
    },
    /// A peer sent a payload; it was decoded, and not yet compared with its header.
    Payload {
        /// The peer.
        from: AuthorityIndex,
        /// The block that it claims to belong to.
        block: BlockRef,
        /// The transactions.
        payload: Arc<Payload>,
    },
    /// A peer asks for something.
    Fetch {
        /// The peer.
        from: AuthorityIndex,
        /// What it asks for.
        request: FetchRequest,
    },
    /// A peer says which header it made last, verified.
    Latest {
        /// The peer.
        from: AuthorityIndex,
        /// That of the request.
        nonce: u64,
        /// The header, if it has made one.
        header: Option<VerifiedHeader>,
    },
    /// A peer sent commits that a quorum certifies.
    Commits {
        /// The peer.
        from: AuthorityIndex,
        /// What it sent.
        commits: Arc<CertifiedCommits>,
    },
    /// Client transactions that the pipeline verified.
    Transactions(Vec<PooledTransaction>),
    /// The pipeline is through with a block's payload. Answer to [`Effect::Verify`].
    Verified {
        /// The block.
        block: BlockRef,
        /// One verdict for each transaction.
        verdicts: Arc<[Verdict]>,
    },
    /// Every record up to this one is durable. Answer to [`Effect::Sync`].
    Synced(LogSeq),
    /// A commit was executed. Answer to [`Effect::Execute`].
    Executed(Box<Executed>),
    /// Time has passed: to be given when [`super::Node::next_timeout`] is reached.
    Tick,
}

/// Something to be done outside.
#[derive(Debug)]
pub enum Effect {
    /// Send a message to one peer, as well as it goes.
    Send {
        /// The peer.
        to: AuthorityIndex,
        /// The message.
        message: PeerMessage,
    },
    /// Send a message to all peers.
    Broadcast(PeerMessage),
    /// Append a record to the log; numbers are given without gaps.
    Append {
        /// Number of the record.
        seq: LogSeq,
        /// The record.
        record: LogRecord,
    },
    /// Make every record up to this one durable, then give [`Input::Synced`].
    Sync(LogSeq),
    /// Check the signatures of a payload, then give [`Input::Verified`].
    Verify {
        /// The block.
        block: BlockRef,
        /// Its transactions.
        payload: Arc<Payload>,
    },
    /// Execute a commit, in the order in which these come, then give [`Input::Executed`].
    Execute(SubDag),
    /// Answer a peer from the log: what it asks for is not in memory any more, or never was.
    ServeFromLog {
        /// The peer that asked.
        to: AuthorityIndex,
        /// What it asked for.
        request: FetchRequest,
    },
    /// Tell a client what became of its transaction.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// What.
        reply: Reply,
    },
    /// A quorum signed a checkpoint: publish it.
    Publish(Box<CertifiedHead>),
    /// A peer broke the protocol in a way that only the node could see.
    Blame {
        /// The peer.
        peer: AuthorityIndex,
        /// What it did.
        error: crate::error::PeerError,
    },
    /// A validator signed two blocks of one round: tell the operator. Once for each validator.
    Accuse(Box<EquivocationProof>),
    /// The first header leaves now: remember durably that these keys have signed, before any later effect.
    KeysUsed,
    /// Stop: going on would be unsafe. The text says why and what to do.
    Halt(String),
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The pool is full.
    Busy,
    /// It waits for a block.
    Accepted,
    /// Its commit is executed, and rests on what is durable at a quorum, here among them: this does not change any more.
    Final(Outcome),
}

/// What a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// A signed header.
    Header = 1,
    /// `block42` and an encoded payload.
    Payload = 2,
    /// An encoded [`crate::consensus::Commit`].
    Commit = 3,
    /// A [`Certificate`].
    Certificate = 4,
    /// `round8`: the log before this one was lost; no own block up to this round. 0 as long as the round is not known.
    Rejoin = 5,
}

impl RecordKind {
    /// The kind that a byte stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Header, Self::Payload, Self::Commit, Self::Certificate, Self::Rejoin];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A record for the block log. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub enum LogRecord {
    /// A header that entered the DAG.
    Header(VerifiedHeader),
    /// A payload that matches its header.
    Payload {
        /// The block.
        block: BlockRef,
        /// The encoded payload.
        bytes: Bytes,
    },
    /// A commit and its number.
    Commit(CommitIndex, Bytes),
    /// Who voted for a commit.
    Certificate(Certificate),
    /// See [`RecordKind::Rejoin`].
    Rejoin(Round),
}

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogKey {
    /// What it is.
    pub kind: RecordKind,
    /// The block; of commits and certificates see [`LogKey::commit`].
    pub block: BlockRef,
}

impl LogKey {
    /// Commits and their certificates are found by the commit's number, in the place of a round.
    #[must_use]
    pub fn commit(kind: RecordKind, index: CommitIndex) -> Self {
        Self { kind, block: BlockRef { round: Round(index.0), ..BlockRef::default() } }
    }
}

impl LogRecord {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Header(_) => RecordKind::Header,
            Self::Payload { .. } => RecordKind::Payload,
            Self::Commit(..) => RecordKind::Commit,
            Self::Certificate(_) => RecordKind::Certificate,
            Self::Rejoin(_) => RecordKind::Rejoin,
        }
    }

    /// What it is found by, if it is searched for.
    #[must_use]
    pub fn key(&self) -> Option<LogKey> {
        let block = match self {
            Self::Header(header) => header.reference(),
            Self::Payload { block, .. } => *block,
            Self::Commit(index, _) => return Some(LogKey::commit(RecordKind::Commit, *index)),
            Self::Certificate(certificate) => {
                return Some(LogKey::commit(RecordKind::Certificate, certificate.vote.index));
            }
            Self::Rejoin(_) => return None,
        };
        Some(LogKey { kind: self.kind(), block })
    }

    /// The record's bytes, in parts that are shared and not copied.
    #[must_use]
    pub fn parts(&self) -> Vec<Bytes> {
        match self {
            Self::Header(header) => vec![header.bytes().clone()],
            Self::Payload { block, bytes } => {
                let mut reference = Vec::with_capacity(BLOCK_REF_BYTES);
                put_block_ref(&mut reference, block);
                vec![reference.into(), bytes.clone()]
            }
            Self::Commit(_, bytes) => vec![bytes.clone()],
            Self::Certificate(certificate) => vec![certificate.encode().into()],
            Self::Rejoin(round) => vec![Bytes::copy_from_slice(&round.0.to_be_bytes())],
        }
    }
}
