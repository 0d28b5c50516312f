//! What execution asks of a transaction and no state decides: how it decodes, its hash, whether the signatures inside it hold. Worked
//! out ahead of a commit's execution, on all cores if it is large.
//!
//! These take nearly all of the time: what is left (who may, what is free, what it changes) is done one after another, in the
//! commit's order, so that nothing depends on which transactions conflict. Each result is a function of the transaction alone,
//! and stands in the transaction's place, however the work was cut and whoever did it.

use std::ops::Range;

use rayon::prelude::*;

use super::rules::{Constants, verifies};
use super::{CommittedBlock, SubDag, Verdict};
use crate::crypto::is_acceptable_key;
use crate::types::{Body, Transaction, stub_hashes};

/// Transactions that are prepared together: enough to hash many at a time.
const PART: usize = if cfg!(test) { 8 } else { 256 };
/// Transactions of a commit from which on other cores are asked: what they save is more than waking them costs.
pub(super) const SHARED_FROM: usize = 2 * PART;

/// A transaction that decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) tx: Transaction,
    /// Nothing if it does not decode.
    pub(super) body: Option<Body>,
    pub(super) stub_hash: [u8; 32],
    pub(super) inner: Inner,
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

/// Prepares all blocks of a commit.
pub(super) fn prepare(dag: &SubDag, constants: &Constants) -> Vec<PreparedBlock> {
    let parts: Vec<(usize, Range<usize>)> = parts(dag).collect();
    let work =
        |(block, part): &(usize, Range<usize>)| prepare_part(&dag.blocks[*block], part.clone(), constants);
    let prepared: Vec<PreparedBlock> = if transactions(dag) < SHARED_FROM {
        parts.iter().map(work).collect()
    } else {
        parts.par_iter().map(work).collect()
    };
    let mut blocks: Vec<PreparedBlock> =
        dag.blocks.iter().map(|block| Vec::with_capacity(block.payload.len())).collect();
    for ((block, _), mut part) in parts.into_iter().zip(prepared) {
        blocks[block].append(&mut part);
    }
    blocks
}

pub(super) fn transactions(dag: &SubDag) -> usize {
    dag.blocks.iter().map(|block| block.payload.len()).sum()
}

/// The blocks of a commit, cut into pieces of work.
fn parts(dag: &SubDag) -> impl Iterator<Item = (usize, Range<usize>)> {
    dag.blocks.iter().enumerate().flat_map(|(at, block)| {
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
            // Nobody is made to check what comes in a transaction that nobody has signed.
            let body_counts = *verdict != Verdict::Invalid;
            let inner = body.as_ref().filter(|_| body_counts).map(|body| inner_of(body, constants));
            Prepared { tx, body, stub_hash, inner: inner.unwrap_or_default() }
        }));
    }
    prepared
}

fn inner_of(body: &Body, constants: &Constants) -> Inner {
    match body {
        Body::ConsentGrant(grant) => grant.patient.as_ref().map_or_else(Inner::default, |seal| {
            let is_acceptable = is_acceptable_key(&seal.key);
            let bytes = grant.sealed_bytes();
            let holds = is_acceptable && verifies(&constants.consent, &seal.key, &bytes, &seal.signature);
            Inner { is_acceptable, holds }
        }),
        Body::KeyAdd(add) => {
            let is_acceptable = is_acceptable_key(&add.public);
            let bytes = add.possession_bytes();
            let holds =
                is_acceptable && verifies(&constants.possession, &add.public, &bytes, &add.possession);
            Inner { is_acceptable, holds }
        }
        Body::RecordAnchor(_)
        | Body::RecordBatch(_)
        | Body::ConsentRevoke(_)
        | Body::AccessLog(_)
        | Body::OrgAdmit(_) => Inner::default(),
    }
}
