//! What execution asks of a transaction and no state decides: how it decodes, its hash, whether the signatures inside it hold. Worked
//! out ahead of a commit's execution, on all cores if it is large.
//!
//! These take nearly all of the time: what is left (who may, what is free, what it changes) is done one after another, in the
//! commit's order, so that nothing depends on which transactions conflict. Each result is a function of the transaction alone,
//! and stands in the transaction's place, however the work was cut and whoever did it.

use std::ops::Range;

use rayon::prelude::*;

use super::rules::{Constants, verifies};
use super::{CommittedBlock, Verdict};
use crate::crypto::is_acceptable_key;
use crate::limits::PAYLOAD_TRANSACTIONS_MAX;
use crate::types::{Body, ConsentGrant, KeyAdd, PatientSeal, Transaction, stub_hashes};

/// Transactions that are prepared together: enough to hash many at a time.
const PART: usize = if cfg!(test) { 8 } else { 256 };
/// Transactions of a commit from which on other cores are asked: what they save is more than waking them costs. Below, that is half of
/// a millisecond at most, and on a node whose cores are busy nothing.
pub(super) const SHARED_FROM: usize = 8 * PART;

/// Transactions that are prepared ahead of their execution: as many as a block may hold.
const TOGETHER_MAX: usize = if cfg!(test) { 50 } else { PAYLOAD_TRANSACTIONS_MAX };

/// A transaction that decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) tx: Transaction,
    /// Nothing if it does not decode.
    pub(super) body: Option<Body>,
    pub(super) stub_hash: [u8; 32],
    /// Nothing if nobody is known to have signed the transaction: then it is checked once somebody is.
    pub(super) inner: Option<Inner>,
}

/// The key that a body brings along, and its signature: that of a patient in CONSENT_GRANT, and the one that is added by KEY_ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Inner {
    /// Whether the key may be used at all.
    pub(super) is_acceptable: bool,
    /// Whether the signature verifies under it.
    pub(super) holds: bool,
}

/// The transactions of a block, in their order; nothing for those that do not decode.
pub(super) type PreparedBlock = Vec<Option<Prepared>>;

/// The blocks of a commit, cut so that no more transactions are together than memory is wanted for at once.
pub(super) fn together(mut blocks: &[CommittedBlock]) -> impl Iterator<Item = &[CommittedBlock]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let within = |block: &&CommittedBlock| {
            sum += block.payload.len();
            sum <= TOGETHER_MAX
        };
        let n = blocks.iter().take_while(within).count().max(1).min(blocks.len());
        let (first, rest) = blocks.split_at(n);
        blocks = rest;
        (!first.is_empty()).then_some(first)
    })
}

/// Prepares some blocks of a commit.
pub(super) fn prepare(blocks: &[CommittedBlock], constants: &Constants) -> Vec<PreparedBlock> {
    let parts: Vec<(usize, Range<usize>)> = parts(blocks).collect();
    let work = |(block, part): &(usize, Range<usize>)| prepare_part(&blocks[*block], part.clone(), constants);
    let prepared: Vec<PreparedBlock> = if transactions(blocks) < SHARED_FROM {
        parts.iter().map(work).collect()
    } else {
        parts.par_iter().map(work).collect()
    };
    let mut put: Vec<PreparedBlock> = blocks.iter().map(|_| Vec::new()).collect();
    for ((block, range), mut part) in parts.into_iter().zip(prepared) {
        if range.start == 0 {
            // Mostly all of the block: it need not be copied.
            part.reserve_exact(blocks[block].payload.len() - range.end);
            put[block] = part;
        } else {
            put[block].append(&mut part);
        }
    }
    put
}

pub(super) fn transactions(blocks: &[CommittedBlock]) -> usize {
    blocks.iter().map(|block| block.payload.len()).sum()
}

/// The blocks of a commit, cut into pieces of work.
fn parts(blocks: &[CommittedBlock]) -> impl Iterator<Item = (usize, Range<usize>)> {
    blocks.iter().enumerate().flat_map(|(at, block)| {
        let n = block.payload.len();
        (0..n).step_by(PART).map(move |start| (at, start..n.min(start + PART)))
    })
}

/// Prepares some transactions of a block.
pub(super) fn prepare_part(
    block: &CommittedBlock,
    part: Range<usize>,
    constants: &Constants,
) -> PreparedBlock {
    let decode = |index| Transaction::decode(block.payload.transaction_bytes(index), constants.rules).ok();
    let decoded: Vec<Option<Transaction>> = part.clone().map(decode).collect();
    // Many are hashed faster together than those alone that will be executed.
    let mut hashes = stub_hashes(decoded.iter().flatten()).into_iter();
    let verdicts = &block.verdicts[part];
    let mut prepared = Vec::with_capacity(decoded.len());
    for (tx, verdict) in decoded.into_iter().zip(verdicts) {
        prepared.push(tx.map(|tx| {
            let stub_hash = hashes.next().unwrap_or_else(|| unreachable!("one for each that decodes"));
            let body = Body::of(&tx).ok();
            let inner = body.as_ref().filter(|_| *verdict == Verdict::Valid);
            Prepared { inner: inner.and_then(|body| inner_of(body, constants)), tx, body, stub_hash }
        }));
    }
    prepared
}

fn inner_of(body: &Body, constants: &Constants) -> Option<Inner> {
    match body {
        Body::ConsentGrant(grant) => grant.patient.as_ref().map(|seal| seal_of(grant, seal, constants)),
        Body::KeyAdd(add) => Some(possession_of(add, constants)),
        Body::RecordAnchor(_)
        | Body::RecordBatch(_)
        | Body::ConsentRevoke(_)
        | Body::AccessLog(_)
        | Body::OrgAdmit(_) => None,
    }
}

/// The patient's seal of a CONSENT_GRANT.
pub(super) fn seal_of(grant: &ConsentGrant, seal: &PatientSeal, constants: &Constants) -> Inner {
    let is_acceptable = is_acceptable_key(&seal.key);
    let bytes = grant.sealed_bytes();
    let holds = is_acceptable && verifies(&constants.consent, &seal.key, &bytes, &seal.signature);
    Inner { is_acceptable, holds }
}

/// The key that a KEY_ADD adds.
pub(super) fn possession_of(add: &KeyAdd, constants: &Constants) -> Inner {
    let is_acceptable = is_acceptable_key(&add.public);
    let bytes = add.possession_bytes();
    let holds = is_acceptable && verifies(&constants.possession, &add.public, &bytes, &add.possession);
    Inner { is_acceptable, holds }
}
