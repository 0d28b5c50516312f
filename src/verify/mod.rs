//! Signatures of transactions: those that clients send, and those in the payloads of blocks.
//!
//! A verdict depends on the transaction and its registered key alone, never on what else is in the batch, so units of
//! work may be put together and cut apart freely.

use std::ops::Range;
use std::sync::Arc;

use crate::crypto::{Domain, Purpose, Signed, Verifier};
use crate::error::ClientError;
use crate::execute::{KeyDirectory, Verdict};
use crate::ingress::PendingTx;
use crate::types::{NetworkId, Payload, Transaction, TxId};

/// Signatures of one batch. More gain little per signature and cost latency.
pub const BATCH_SIGNATURES_MAX: usize = 1_024;

/// A client's transaction whose signature verifies under the registered key, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTx<T = ()> {
    transaction: Transaction,
    id: TxId,
    owner: T,
}

impl<T> VerifiedTx<T> {
    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TxId {
        self.id
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// The transaction, its id, and whose it is.
    #[must_use]
    pub fn into_parts(self) -> (Transaction, TxId, T) {
        (self.transaction, self.id, self.owner)
    }
}

/// Client transactions that were judged: those that verify, and the others with why not, each in their former order.
pub type Judged<T> = (Vec<VerifiedTx<T>>, Vec<(PendingTx<T>, ClientError)>);

/// A piece of work for [`verify_units`].
#[derive(Debug)]
pub enum Unit<T = ()> {
    /// Admitted client transactions.
    Transactions(Vec<PendingTx<T>>),
    /// A part of a block's payload.
    Payload {
        /// The payload.
        payload: Arc<Payload>,
        /// Which of its transactions.
        part: Range<usize>,
    },
}

impl<T> Unit<T> {
    /// Signatures that it holds.
    #[must_use]
    pub fn signatures(&self) -> usize {
        match self {
            Self::Transactions(batch) => batch.len(),
            Self::Payload { part, .. } => part.len(),
        }
    }
}

/// What became of a [`Unit`].
#[derive(Debug, PartialEq, Eq)]
pub enum UnitVerdict<T = ()> {
    /// Of client transactions.
    Transactions(Judged<T>),
    /// One verdict for each transaction of the part.
    Payload(Vec<Verdict>),
}

/// Checks the signatures of client transactions.
#[must_use]
pub fn verify_transactions<T>(
    verifier: &mut Verifier,
    network: NetworkId,
    batch: Vec<PendingTx<T>>,
) -> Judged<T> {
    let domain = Domain::new(Purpose::Tx, network);
    let items: Vec<Signed<'_>> =
        batch.iter().map(|tx| signed(&domain, tx.transaction(), tx.public())).collect();
    let verdicts = verifier.verify(&items);
    judge(batch, &mut verdicts.into_iter())
}

/// Checks every transaction of a payload: one verdict for each.
///
/// What does not decode as an envelope, or is of another network, is invalid; the body is left to the executor.
#[must_use]
pub fn verify_payload(
    verifier: &mut Verifier,
    network: NetworkId,
    keys: &KeyDirectory,
    payload: &Payload,
) -> Vec<Verdict> {
    let domain = Domain::new(Purpose::Tx, network);
    let mut verdicts = Vec::with_capacity(payload.len());
    while verdicts.len() < payload.len() {
        let end = payload.len().min(verdicts.len() + BATCH_SIGNATURES_MAX);
        let opened = OpenedPart::open(network, keys, payload, verdicts.len()..end);
        let items: Vec<Signed<'_>> = opened.signed(&domain).collect();
        let valid = verifier.verify(&items);
        verdicts.extend(opened.close(&mut valid.into_iter()));
    }
    verdicts
}

/// Checks all signatures of all units as one batch: one result for each unit, in their order.
#[must_use]
pub fn verify_units<T>(
    verifier: &mut Verifier,
    network: NetworkId,
    keys: &KeyDirectory,
    units: Vec<Unit<T>>,
) -> Vec<UnitVerdict<T>> {
    enum Opened<T> {
        Transactions(Vec<PendingTx<T>>),
        Payload(OpenedPart),
    }
    let domain = Domain::new(Purpose::Tx, network);
    let opened: Vec<Opened<T>> = units
        .into_iter()
        .map(|unit| match unit {
            Unit::Transactions(batch) => Opened::Transactions(batch),
            Unit::Payload { payload, part } => {
                Opened::Payload(OpenedPart::open(network, keys, &payload, part))
            }
        })
        .collect();
    let mut items: Vec<Signed<'_>> = Vec::new();
    for unit in &opened {
        match unit {
            Opened::Transactions(batch) => {
                items.extend(batch.iter().map(|tx| signed(&domain, tx.transaction(), tx.public())));
            }
            Opened::Payload(part) => items.extend(part.signed(&domain)),
        }
    }
    let mut valid = verifier.verify(&items).into_iter();
    opened
        .into_iter()
        .map(|unit| match unit {
            Opened::Transactions(batch) => UnitVerdict::Transactions(judge(batch, &mut valid)),
            Opened::Payload(part) => UnitVerdict::Payload(part.close(&mut valid)),
        })
        .collect()
}

fn signed<'a>(domain: &'a Domain, tx: &'a Transaction, key: &'a [u8; 32]) -> Signed<'a> {
    Signed { key, domain: domain.as_bytes(), message: tx.signed_bytes(), signature: tx.signature() }
}

/// Sorts a batch by the verdicts on its signatures.
fn judge<T>(batch: Vec<PendingTx<T>>, valid: &mut impl Iterator<Item = bool>) -> Judged<T> {
    let mut verified = Vec::with_capacity(batch.len());
    let mut refused = Vec::new();
    for tx in batch {
        if valid.next() == Some(true) {
            let (transaction, id, owner) = tx.into_parts();
            verified.push(VerifiedTx { transaction, id, owner });
        } else {
            refused.push((tx, ClientError::BadSignature));
        }
    }
    (verified, refused)
}

/// A part of a payload, with the transactions that have a signature to check.
struct OpenedPart {
    verdicts: Vec<Verdict>,
    checks: Vec<Check>,
}

struct Check {
    /// Position in the part.
    at: usize,
    transaction: Transaction,
    /// Nothing if the key is not registered: then there is nothing to check.
    public: Option<[u8; 32]>,
}

impl OpenedPart {
    fn open(network: NetworkId, keys: &KeyDirectory, payload: &Payload, part: Range<usize>) -> Self {
        let mut verdicts = vec![Verdict::Invalid; part.len()];
        let rules = keys.rules();
        let mut checks = Vec::with_capacity(part.len());
        checks.extend(part.enumerate().filter_map(|(at, index)| {
            let transaction = Transaction::decode(payload.transaction_bytes(index), rules).ok()?;
            (transaction.envelope().network == network).then_some(Check { at, transaction, public: None })
        }));
        let signer = |check: &Check| (check.transaction.envelope().org, check.transaction.envelope().key);
        let publics = keys.publics(checks.iter().map(signer));
        for (check, public) in checks.iter_mut().zip(publics) {
            check.public = public;
            if public.is_none() {
                verdicts[check.at] = Verdict::UnknownKey;
            }
        }
        Self { verdicts, checks }
    }

    fn signed<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = Signed<'a>> {
        let known = self.checks.iter().filter_map(|check| Some((check, check.public.as_ref()?)));
        known.map(|(check, public)| signed(domain, &check.transaction, public))
    }

    fn close(mut self, valid: &mut impl Iterator<Item = bool>) -> Vec<Verdict> {
        for check in self.checks.iter().filter(|check| check.public.is_some()) {
            if valid.next() == Some(true) {
                self.verdicts[check.at] = Verdict::Valid;
            }
        }
        self.verdicts
    }
}

#[cfg(test)]
mod tests;
