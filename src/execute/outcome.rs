//! What goes into execution and what comes out of it.

use std::sync::Arc;

use crate::proof::tiles::TileWrite;
use crate::types::{
    BlockRef, CommitIndex, Digest, LeafIndex, LogSeq, NodeHash, Payload, STUB_BYTES, TimestampMs,
};

/// What the verification pipeline found for one transaction of a payload, ahead of its execution.
///
/// A key, once registered under (org, key number), never changes, so a verdict under a known key is final. A key that was not
/// registered yet when the pipeline looked is looked up again by the executor, at the transaction's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The signature verifies under the registered key.
    Valid,
    /// Malformed, of another network, or the signature does not verify under the registered key.
    Invalid,
    /// No such key was registered when the pipeline looked.
    UnknownKey,
}

/// One block of a commit.
#[derive(Debug, Clone)]
pub struct CommittedBlock {
    /// Its name.
    pub reference: BlockRef,
    /// Its transactions.
    pub payload: Arc<Payload>,
    /// One verdict for each transaction.
    pub verdicts: Arc<[Verdict]>,
    /// Where the block log holds the payload.
    pub payload_seq: LogSeq,
}

/// A commit: a leader's history that no earlier commit holds, in the order in which it executes.
#[derive(Debug, Clone)]
pub struct SubDag {
    /// Number of the commit.
    pub index: CommitIndex,
    /// The leader that was committed.
    pub leader: BlockRef,
    /// Block time: weighted median of the leader's ancestors, never going back.
    pub time: TimestampMs,
    /// Digest of the chain of commits up to this one.
    pub digest: Digest,
    /// Blocks in ascending (round, author, digest). Blocks without transactions may be left out.
    pub blocks: Vec<CommittedBlock>,
}

/// Why a transaction of a committed block was not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SkipReason {
    /// It does not decode, or its body does not.
    Malformed = 1,
    /// It was made for another network.
    WrongNetwork = 2,
    /// No such key, or not active at the block's time.
    UnknownKey = 3,
    /// The signature does not verify.
    BadSignature = 4,
    /// (org, key, seq) was used, or seq is below the window.
    Replayed = 5,
    /// Its time is more than ten minutes away from the block's.
    BadTime = 6,
    /// The key does not have the role that the kind asks for.
    MissingRole = 7,
    /// RECORD_ANCHOR: `prev` is not a live head of the organisation.
    NotAHead = 8,
    /// CONSENT_GRANT: the handle is taken.
    HandleTaken = 9,
    /// CONSENT_GRANT: the grantee is not an active organisation.
    UnknownGrantee = 10,
    /// The patient's signature does not verify, or there is no patient's key to verify it with.
    BadPatientSignature = 11,
    /// CONSENT_REVOKE: no such consent.
    UnknownConsent = 12,
    /// CONSENT_REVOKE: revoked already.
    AlreadyRevoked = 13,
    /// CONSENT_REVOKE: neither the granting custodian nor the patient, or the grantee.
    NotTheCustodian = 14,
    /// KEY_ADD: another organisation's key, a number that is taken, or a key that may not be registered.
    BadKey = 15,
    /// KEY_ADD: the proof of possession does not verify.
    BadPossession = 16,
    /// ORG_ADMIT: the sender does not govern.
    NotGoverning = 17,
    /// ORG_ADMIT: the organisation exists.
    OrgExists = 18,
    /// ORG_ADMIT: this member voted for this body before.
    AlreadyVoted = 19,
}

impl SkipReason {
    /// All reasons, in order of their codes.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::WrongNetwork,
        Self::UnknownKey,
        Self::BadSignature,
        Self::Replayed,
        Self::BadTime,
        Self::MissingRole,
        Self::NotAHead,
        Self::HandleTaken,
        Self::UnknownGrantee,
        Self::BadPatientSignature,
        Self::UnknownConsent,
        Self::AlreadyRevoked,
        Self::NotTheCustodian,
        Self::BadKey,
        Self::BadPossession,
        Self::NotGoverning,
        Self::OrgExists,
        Self::AlreadyVoted,
    ];

    /// The byte that stands for it.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The reason that a byte stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// What became of one transaction of a committed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Executed, and in the Merkle log.
    Executed {
        /// Position of its stub.
        leaf: LeafIndex,
        /// An access that no consent in force permitted.
        violation: bool,
    },
    /// The very same transaction was executed before, here or in an earlier block.
    Duplicate {
        /// Position of its stub.
        leaf: LeafIndex,
    },
    /// Skipped, by every validator alike.
    Skipped(SkipReason),
}

/// What became of the transactions of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOutcome {
    /// The block.
    pub reference: BlockRef,
    /// One outcome for each transaction.
    pub outcomes: Vec<Outcome>,
}

/// The ledger after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerHead {
    /// The commit.
    pub commit: CommitIndex,
    /// Its digest; zeros before the first.
    pub digest: Digest,
    /// Its block time.
    pub time: TimestampMs,
    /// Leaves in the Merkle log.
    pub tree_size: u64,
    /// Its root (RFC 9162).
    pub root: NodeHash,
    /// Root of the authenticated state.
    pub state_root: Digest,
}

/// What executing one commit did.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The ledger after it.
    pub head: LedgerHead,
    /// Whether this head is to be signed as a checkpoint; a function of committed history alone.
    pub checkpoint_due: bool,
    /// Outcomes by block, in order of execution.
    pub blocks: Vec<BlockOutcome>,
    /// Stubs that were appended, in order of their leaves.
    pub stubs: Vec<[u8; STUB_BYTES]>,
    /// Tiles of the Merkle log that became full.
    pub tiles: Vec<TileWrite>,
}
