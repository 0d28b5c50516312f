//! The signed envelope that every client transaction travels in.

use bytes::Bytes;

use super::{KeyId, Kind, NetworkId, OrgId, Rules, TimestampMs, TxId};
use crate::codec::{DecodeError, Reader, Writer};
use crate::hash::{Message, sha256_many};
use crate::limits::{TRANSACTION_BODY_BYTES_MAX, TRANSACTION_BYTES_MAX};

/// Version byte of the transaction format.
pub const TRANSACTION_VERSION: u8 = 1;
/// Bytes before the body.
const ENVELOPE_BYTES: usize = 52;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Fields of a transaction beside body and signature.
///
/// Layout, 52 bytes: `ver1 kind1 network8 org4 key4 seq8 time8 salt16 len2`; body and a 64-byte signature follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// What the body is.
    pub kind: Kind,
    /// Network that it is meant for.
    pub network: NetworkId,
    /// Organisation that sends it.
    pub org: OrgId,
    /// Key of that organisation that signed it.
    pub key: KeyId,
    /// Sequence number, used once by (org, key).
    pub seq: u64,
    /// When it was made, by the sender's clock.
    pub time: TimestampMs,
    /// Random bytes that blind the leaf stub.
    pub salt: [u8; 16],
}

/// A decoded transaction over the bytes that came from the wire. Cloning shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    bytes: Bytes,
    envelope: Envelope,
}

impl Transaction {
    /// Decodes one transaction that fills `bytes`, of a kind that the network's rules know. The signature is not checked and the
    /// body is not looked into.
    pub fn decode(bytes: Bytes, rules: Rules) -> Result<Self, DecodeError> {
        let envelope = decode_envelope(&bytes, rules)?;
        Ok(Self { bytes, envelope })
    }

    /// Lays out envelope and body and appends the signature that `sign` makes over them.
    ///
    /// # Panics
    /// If the body is longer than [`TRANSACTION_BODY_BYTES_MAX`]: bodies are built by us.
    #[must_use]
    pub fn build(envelope: Envelope, body: &[u8], sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES]) -> Self {
        assert!(body.len() <= TRANSACTION_BODY_BYTES_MAX, "a body of {} bytes was built", body.len());
        let mut out = Vec::with_capacity(ENVELOPE_BYTES + body.len() + SIGNATURE_BYTES);
        out.put_u8(TRANSACTION_VERSION);
        out.put_u8(envelope.kind.code());
        out.put_bytes(&envelope.network.0);
        out.put_u32(envelope.org.0);
        out.put_u32(envelope.key.0);
        out.put_u64(envelope.seq);
        out.put_u64(envelope.time.0);
        out.put_bytes(&envelope.salt);
        out.put_len_u16(body.len());
        out.put_bytes(body);
        let signature = sign(&out);
        out.put_bytes(&signature);
        Self { bytes: out.into(), envelope }
    }

    /// All bytes, signature included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Fields of the envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The body, to be decoded by its kind.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[ENVELOPE_BYTES..self.bytes.len() - SIGNATURE_BYTES]
    }

    /// What the signature covers (behind the domain prefix).
    #[must_use]
    pub fn signed_bytes(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - SIGNATURE_BYTES]
    }

    /// The signature: R ‖ s.
    #[must_use]
    pub fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        self.bytes.last_chunk().unwrap_or_else(|| unreachable!("a decoded transaction ends in a signature"))
    }

    /// SHA-256 of all bytes.
    #[must_use]
    pub fn id(&self) -> TxId {
        tx_id(&self.bytes)
    }
}

/// SHA-256 of the bytes of a transaction, well-formed or not.
#[must_use]
pub fn tx_id(bytes: &[u8]) -> TxId {
    TxId(Message::from(bytes).hash())
}

/// The ids of transactions, well-formed or not, many at a time.
#[must_use]
pub fn tx_ids(transactions: &[&[u8]]) -> Vec<TxId> {
    let messages: Vec<Message<'_>> = transactions.iter().map(|bytes| Message::from(*bytes)).collect();
    sha256_many(&messages).into_iter().map(TxId).collect()
}

fn decode_envelope(bytes: &[u8], rules: Rules) -> Result<Envelope, DecodeError> {
    if bytes.len() > TRANSACTION_BYTES_MAX {
        return Err(DecodeError::TooLarge {
            what: "transaction",
            value: bytes.len() as u64,
            limit: TRANSACTION_BYTES_MAX as u64,
        });
    }
    let mut r = Reader::new(bytes);
    let version = r.u8("transaction version")?;
    if version != TRANSACTION_VERSION {
        return Err(r.bad_value("transaction version", 1, version.into()));
    }
    let code = r.u8("transaction kind")?;
    let kind = Kind::from_code(code, rules).ok_or_else(|| r.bad_value("transaction kind", 1, code.into()))?;
    let envelope = Envelope {
        kind,
        network: NetworkId(r.array("network")?),
        org: OrgId(r.u32("org")?),
        key: KeyId(r.u32("key")?),
        seq: r.u64("seq")?,
        time: TimestampMs(r.u64("time")?),
        salt: r.array("salt")?,
    };
    let len = r.bounded_u16("body length", TRANSACTION_BODY_BYTES_MAX)?;
    r.take("body", len)?;
    r.take("signature", SIGNATURE_BYTES)?;
    r.finish()?;
    Ok(envelope)
}
