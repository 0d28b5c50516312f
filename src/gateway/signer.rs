//! Signs transactions for an organisation, and consents for a patient.

use crate::crypto::{Domain, Purpose, SecretKey};
use crate::types::{
    Body, ConsentGrant, ConsentRevoke, Envelope, KeyAdd, KeyId, NetworkId, OrgId, PatientSeal, Roles,
    SIGNATURE_BYTES, TimestampMs, Transaction,
};

/// A key of an organisation, and the next sequence number that it signs with.
///
/// Each (organisation, key, number) may be used once on the ledger: whoever stores the key stores
/// [`OrgSigner::next_seq`] with it.
#[derive(Debug)]
pub struct OrgSigner {
    network: NetworkId,
    domain: Domain,
    org: OrgId,
    key: KeyId,
    secret: SecretKey,
    next_seq: u64,
}

impl OrgSigner {
    /// A signer that goes on at `next_seq`; a new key starts at 1.
    #[must_use]
    pub fn new(network: NetworkId, org: OrgId, key: KeyId, secret: SecretKey, next_seq: u64) -> Self {
        Self { network, domain: Domain::new(Purpose::Tx, network), org, key, secret, next_seq }
    }

    /// The organisation.
    #[must_use]
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// Number of the key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The key itself.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// Sequence number of the next transaction.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Signs a body, made at `now`, blinded with a fresh random `salt`.
    #[must_use]
    pub fn sign(&mut self, body: &Body, now: TimestampMs, salt: [u8; 16]) -> Transaction {
        let envelope = Envelope {
            kind: body.kind(),
            network: self.network,
            org: self.org,
            key: self.key,
            seq: self.next_seq,
            time: now,
            salt,
        };
        self.next_seq += 1;
        Transaction::build(envelope, &body.encode(), |bytes| self.secret.sign(&self.domain, bytes))
    }
}

/// What a new key is and may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerms {
    /// Organisation that it will belong to.
    pub org: OrgId,
    /// Its number; never used before.
    pub key: KeyId,
    /// What it may do.
    pub roles: Roles,
    /// Start of validity, inclusive.
    pub from: TimestampMs,
    /// End of validity, exclusive.
    pub to: TimestampMs,
}

/// The body that registers a key, with the new key's own proof that its owner holds it.
#[must_use]
pub fn key_add(network: NetworkId, terms: KeyTerms, secret: &SecretKey) -> KeyAdd {
    let KeyTerms { org, key, roles, from, to } = terms;
    let public = secret.public();
    let mut body = KeyAdd { org, key, public, roles, from, to, possession: [0; SIGNATURE_BYTES] };
    body.possession = secret.sign(&Domain::new(Purpose::Possession, network), &body.possession_bytes());
    body
}

/// Puts the patient's key and signature on a consent.
pub fn seal_grant(network: NetworkId, grant: &mut ConsentGrant, patient: &SecretKey) {
    // The signed bytes say that there is a seal, so it has to be there before they are taken.
    grant.patient = Some(PatientSeal { key: patient.public(), signature: [0; SIGNATURE_BYTES] });
    let signature = patient.sign(&Domain::new(Purpose::Consent, network), &grant.sealed_bytes());
    grant.patient = Some(PatientSeal { key: patient.public(), signature });
}

/// Puts the patient's signature on a revocation, by the key that sealed the consent.
pub fn seal_revoke(network: NetworkId, revoke: &mut ConsentRevoke, patient: &SecretKey) {
    let domain = Domain::new(Purpose::Consent, network);
    revoke.patient_signature = Some(patient.sign(&domain, &revoke.sealed_bytes()));
}
