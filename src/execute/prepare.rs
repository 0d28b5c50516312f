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
/// a millisecond at most, and on a node whose cores are busy nothing. Signatures inside them are another matter.
pub(super) const SHARED_FROM: usize = 8 * PART;

/// Signatures inside the transactions of a commit from which on other cores are asked: each takes some 20 µs by itself.
pub(super) const INNER_SHARED_FROM: usize = if cfg!(test) { 4 } else { 16 };

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
    check_inner(&mut put, blocks, constants);
    put
}

/// Checks the signatures inside the transactions.
fn check_inner(put: &mut [PreparedBlock], blocks: &[CommittedBlock], constants: &Constants) {
    let mut bring_keys: Vec<&mut Prepared> = put
        .iter_mut()
        .zip(blocks)
        .flat_map(|(prepared, block)| prepared.iter_mut().zip(block.verdicts.iter()))
        .filter(|(_, verdict)| **verdict == Verdict::Valid)
        .filter_map(|(prepared, _)| prepared.as_mut())
        .filter(|prepared| prepared.body.as_ref().is_some_and(brings_key))
        .collect();
    let check = |prepared: &mut &mut Prepared| {
        prepared.inner = prepared.body.as_ref().and_then(|body| inner_of(body, constants));
    };
    if bring_keys.len() < INNER_SHARED_FROM {
        bring_keys.iter_mut().for_each(check);
    } else {
        bring_keys.par_iter_mut().for_each(check);
    }
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

/// Prepares some transactions of a block, but for the signatures inside them.
pub(super) fn prepare_part(
    block: &CommittedBlock,
    part: Range<usize>,
    constants: &Constants,
) -> PreparedBlock {
    let decode = |index| Transaction::decode(block.payload.transaction_bytes(index), constants.rules).ok();
    let decoded: Vec<Option<Transaction>> = part.map(decode).collect();
    // Many are hashed faster together than those alone that will be executed.
    let mut hashes = stub_hashes(decoded.iter().flatten()).into_iter();
    let mut prepared = Vec::with_capacity(decoded.len());
    for tx in decoded {
        prepared.push(tx.map(|tx| {
            let stub_hash = hashes.next().unwrap_or_else(|| unreachable!("one for each that decodes"));
            Prepared { body: Body::of(&tx).ok(), tx, stub_hash, inner: None }
        }));
    }
    prepared
}

/// Whether [`inner_of`] has something to check.
fn brings_key(body: &Body) -> bool {
    matches!(body, Body::KeyAdd(_) | Body::ConsentGrant(ConsentGrant { patient: Some(_), .. }))
}

pub(super) fn inner_of(body: &Body, constants: &Constants) -> Option<Inner> {
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
