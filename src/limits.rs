//! Every limit of the system in one place: what a decoder accepts, what a queue holds, what memory a peer can occupy.
//!
//! Limits that two validators must agree on (they decide validity) are constants; those that one operator may choose
//! live in [`crate::config`], with the values here as upper bounds.

use serde::{Deserialize, Serialize};

/// `[limits]` of the configuration of one validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory for what peers send: headers, payloads, what waits for what is missing. Above it, more is refused.
    pub memory_mb: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: 1_024 }
    }
}

/// Bytes of a transaction beside its body: everything before the body, and the signature after it.
pub const TRANSACTION_OVERHEAD_BYTES: usize = 116;
/// Largest transaction body.
pub const TRANSACTION_BODY_BYTES_MAX: usize = 4_096;
/// Largest transaction.
pub const TRANSACTION_BYTES_MAX: usize = TRANSACTION_OVERHEAD_BYTES + TRANSACTION_BODY_BYTES_MAX;

/// Largest encoded block header, signature included.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most ancestors of one header: one for each authority.
pub const ANCESTORS_MAX: usize = COMMITTEE_SIZE_MAX;
/// Most system messages of one header.
pub const SYSTEM_MESSAGES_MAX: usize = 64;
/// Most proofs of equivocation of one header.
pub const EVIDENCE_PER_HEADER_MAX: usize = 4;
/// Largest system message.
pub const SYSTEM_MESSAGE_BYTES_MAX: usize = 512;

/// Most transactions of one payload.
pub const PAYLOAD_TRANSACTIONS_MAX: usize = 16_384;
/// Largest encoded payload: each transaction with its 4-byte length.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Most validators of a committee.
pub const COMMITTEE_SIZE_MAX: usize = 128;

/// Sequence numbers below the highest one used by a key that may still be used (RFC 4303, section 3.4.3, as the model).
pub const REPLAY_WINDOW: u64 = 65_536;
/// Largest distance between a transaction's time and the block time it executes at, in milliseconds.
pub const TRANSACTION_TIME_SKEW_MS_MAX: u64 = 10 * 60 * 1_000;
/// Most keys of one organisation, its root key among them: each has a replay window of up to 8 KiB in memory.
pub const KEYS_PER_ORG_MAX: usize = 4_096;
/// Most members of one batch of records.
pub const BATCH_MEMBERS_MAX: u32 = 65_536;
/// Most provisions of one consent.
pub const CONSENT_PROVISIONS_MAX: usize = 16;

/// Largest frame a peer may send: a payload with its reference.
pub const PEER_FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 64;
/// Most block references of one fetch request.
pub const FETCH_REFS_MAX: usize = 256;
/// Most rounds of one range request.
pub const FETCH_ROUNDS_MAX: u64 = 64;
/// Most bytes of headers, or of commits, of one answer.
pub const FETCH_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Most commits of one answer.
pub const FETCH_COMMITS_MAX: usize = 1_024;
/// Most bytes of the headers that certify the last of them.
pub const CERTIFICATE_BYTES_MAX: usize = 2 << 20;
