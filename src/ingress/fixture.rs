//! Keys and signed transactions for the tests of the pipeline.

use crate::crypto::{Domain, Purpose, SecretKey};
use crate::execute::{KeyDirectory, KeyEntry, ReplayWindow};
use crate::types::{
    Body, Envelope, KeyId, Kind, NetworkId, OrgId, RecordAnchor, Roles, TimestampMs, Transaction,
};

pub(crate) const NETWORK: NetworkId = NetworkId(*b"network!");
pub(crate) const NOW: TimestampMs = TimestampMs(1_750_000_000_000);
pub(crate) const ORG: OrgId = OrgId(7);
/// Keys of the organisation, numbered from 0.
pub(crate) const KEYS: u32 = 4;

pub(crate) fn secret(key: u32) -> SecretKey {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&key.to_be_bytes());
    SecretKey::from_seed(&seed)
}

pub(crate) fn directory() -> KeyDirectory {
    let entry = |key| KeyEntry {
        public: secret(key).public(),
        roles: Roles::RECORD,
        from: TimestampMs(0),
        to: TimestampMs(u64::MAX),
        active: true,
        window: ReplayWindow::new(),
    };
    KeyDirectory::new((0..KEYS).map(|key| ((ORG, KeyId(key)), entry(key))).collect())
}

pub(crate) fn envelope(key: u32, seq: u64) -> Envelope {
    Envelope {
        kind: Kind::RecordAnchor,
        network: NETWORK,
        org: ORG,
        key: KeyId(key),
        seq,
        time: NOW,
        salt: [9; 16],
    }
}

pub(crate) fn body() -> Vec<u8> {
    Body::RecordAnchor(RecordAnchor { commit: [1; 32], prev: None, class: 1, alg: 1, retain_days: 30 })
        .encode()
}

/// Signed by the key that the envelope names, whether registered or not.
pub(crate) fn signed(envelope: Envelope, body: &[u8]) -> Transaction {
    let domain = Domain::new(Purpose::Tx, envelope.network);
    Transaction::build(envelope, body, |bytes| secret(envelope.key.0).sign(&domain, bytes))
}

/// The same with a signature that does not verify.
pub(crate) fn forged(envelope: Envelope, body: &[u8]) -> Transaction {
    Transaction::build(envelope, body, |bytes| {
        secret(envelope.key.0).sign(&Domain::new(Purpose::Consent, envelope.network), bytes)
    })
}
