//! The 54 bytes that enter the Merkle log for each transaction.

use super::{CommitIndex, Kind, OrgId, Rules, TimestampMs, Transaction};
use crate::codec::{DecodeError, Reader, Writer};
use crate::hash::{Message, sha256_many};

/// Version byte of the stub format.
pub const STUB_VERSION: u8 = 1;
/// Bytes of an encoded stub.
pub const STUB_BYTES: usize = 54;
/// Set in the type byte of an access that no consent in force permitted.
const VIOLATION_BIT: u8 = 0x80;

/// What the Merkle log says of one transaction: enough to prove it, nothing that tells its content once its bytes are
/// erased, since the salt inside the transaction goes with them.
///
/// Layout: `ver1 type1 org4 height8 time8 SHA-256(salt16 ‖ transaction)32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub {
    /// Kind of the transaction.
    pub kind: Kind,
    /// Whether execution flagged it as an access without a permit.
    pub violation: bool,
    /// Organisation that sent it.
    pub org: OrgId,
    /// Commit that executed it.
    pub height: CommitIndex,
    /// Block time of that commit.
    pub time: TimestampMs,
    /// SHA-256(salt ‖ transaction).
    pub hash: [u8; 32],
}

impl Stub {
    /// The stub of a transaction, of which `hash` is the [`stub_hash`], that was executed in a commit.
    #[must_use]
    pub fn of(
        tx: &Transaction,
        hash: [u8; 32],
        violation: bool,
        height: CommitIndex,
        time: TimestampMs,
    ) -> Self {
        let envelope = tx.envelope();
        Self { kind: envelope.kind, violation, org: envelope.org, height, time, hash }
    }

    /// The encoded stub: the leaf's data.
    #[must_use]
    pub fn encode(&self) -> [u8; STUB_BYTES] {
        let mut out = Vec::with_capacity(STUB_BYTES);
        out.put_u8(STUB_VERSION);
        out.put_u8(self.kind.code() | if self.violation { VIOLATION_BIT } else { 0 });
        out.put_u32(self.org.0);
        out.put_u64(self.height.0);
        out.put_u64(self.time.0);
        out.put_bytes(&self.hash);
        let mut stub = [0; STUB_BYTES];
        stub.copy_from_slice(&out);
        stub
    }

    /// Decodes exactly one stub, of any kind that this program knows: which of them are in a log was decided when their
    /// transactions were executed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("stub version")?;
        if version != STUB_VERSION {
            return Err(r.bad_value("stub version", 1, version.into()));
        }
        let code = r.u8("stub type")?;
        let kind = Kind::from_code(code & !VIOLATION_BIT, Rules::NEWEST)
            .ok_or_else(|| r.bad_value("stub type", 1, code.into()))?;
        let violation = code & VIOLATION_BIT != 0;
        if violation && kind != Kind::AccessLog {
            return Err(r.bad_value("stub type", 1, code.into()));
        }
        let stub = Self {
            kind,
            violation,
            org: OrgId(r.u32("stub org")?),
            height: CommitIndex(r.u64("stub height")?),
            time: TimestampMs(r.u64("stub time")?),
            hash: r.array("stub hash")?,
        };
        r.finish()?;
        Ok(stub)
    }
}

/// SHA-256(salt ‖ transaction), the last field of the stub.
#[must_use]
pub fn stub_hash(tx: &Transaction) -> [u8; 32] {
    Message { head: &tx.envelope().salt, body: tx.bytes() }.hash()
}

/// [`stub_hash`] of transactions, many at a time.
#[must_use]
pub fn stub_hashes<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> Vec<[u8; 32]> {
    let messages: Vec<Message<'_>> =
        transactions.into_iter().map(|tx| Message { head: &tx.envelope().salt, body: tx.bytes() }).collect();
    sha256_many(&messages)
}
