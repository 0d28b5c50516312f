//! The transactions of a block, apart from its header.

use bytes::Bytes;

use super::{BlockRef, Digest, Header, TxId, tx_ids};
use crate::codec::{DecodeError, Reader};
use crate::limits::{PAYLOAD_BYTES_MAX, PAYLOAD_TRANSACTIONS_MAX, TRANSACTION_BYTES_MAX};

/// The transactions of one block: the bytes as they travel (each transaction behind a 4-byte length), where each
/// transaction lies in them, and what the header commits to.
#[derive(Debug, Clone)]
pub struct Payload {
    bytes: Bytes,
    slots: Vec<Slot>,
    root: Digest,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: u32,
    end: u32,
    id: TxId,
}

impl Payload {
    /// Splits payload bytes into transactions and hashes their ids. A transaction may be malformed: the block stays
    /// valid and execution skips it.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            let (value, limit) = (bytes.len() as u64, PAYLOAD_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what: "payload", value, limit });
        }
        let mut r = Reader::new(&bytes);
        let (mut starts, mut transactions) = (Vec::new(), Vec::new());
        while r.remaining() > 0 {
            if transactions.len() == PAYLOAD_TRANSACTIONS_MAX {
                let limit = PAYLOAD_TRANSACTIONS_MAX as u64;
                return Err(DecodeError::TooLarge { what: "payload transactions", value: limit + 1, limit });
            }
            let len = r.bounded("transaction length", TRANSACTION_BYTES_MAX)?;
            starts.push(r.position());
            transactions.push(r.take("transaction", len)?);
        }
        let slots: Vec<Slot> = starts
            .into_iter()
            .zip(&transactions)
            .zip(tx_ids(&transactions))
            .map(|((start, tx), id)| Slot { start: position(start), end: position(start + tx.len()), id })
            .collect();
        let root = payload_root(slots.iter().map(|slot| &slot.id));
        Ok(Self { bytes, slots, root })
    }

    /// The bytes of one transaction out of an encoded payload, shared, without hashing the others; `None` if there are fewer.
    pub fn pick(bytes: &Bytes, index: usize) -> Result<Option<Bytes>, DecodeError> {
        let mut r = Reader::new(bytes);
        for _ in 0..index {
            if r.remaining() == 0 {
                return Ok(None);
            }
            let len = r.bounded("transaction length", TRANSACTION_BYTES_MAX)?;
            r.take("transaction", len)?;
        }
        if r.remaining() == 0 {
            return Ok(None);
        }
        let len = r.bounded("transaction length", TRANSACTION_BYTES_MAX)?;
        let start = r.position();
        r.take("transaction", len)?;
        Ok(Some(bytes.slice(start..start + len)))
    }

    /// The payload without transactions.
    #[must_use]
    pub fn empty() -> Self {
        Self { bytes: Bytes::new(), slots: Vec::new(), root: payload_root([].iter()) }
    }

    /// Whether this is what `header` commits to.
    #[must_use]
    pub fn matches(&self, header: &Header) -> bool {
        self.root == header.payload_root
            && self.slots.len() == header.n_tx as usize
            && self.bytes.len() == header.payload_len as usize
    }

    /// The encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// BLAKE3 of the concatenated transaction ids.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Id of the transaction at `index`.
    #[must_use]
    pub fn id(&self, index: usize) -> TxId {
        self.slots[index].id
    }

    /// Bytes of the transaction at `index`, shared.
    #[must_use]
    pub fn transaction_bytes(&self, index: usize) -> Bytes {
        let slot = self.slots[index];
        self.bytes.slice(slot.start as usize..slot.end as usize)
    }
}

/// Collects transactions into a payload, within the limits of a block.
#[derive(Debug, Default)]
pub struct PayloadBuilder {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl PayloadBuilder {
    /// Bytes so far.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Transactions so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Appends a transaction with its id; `false` and unchanged if it would exceed a limit of the format.
    pub fn push(&mut self, id: TxId, tx: &[u8]) -> bool {
        if self.slots.len() == PAYLOAD_TRANSACTIONS_MAX || self.bytes.len() + 4 + tx.len() > PAYLOAD_BYTES_MAX
        {
            return false;
        }
        self.bytes.extend_from_slice(&position(tx.len()).to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(tx);
        self.slots.push(Slot { start: position(start), end: position(start + tx.len()), id });
        true
    }

    /// The payload.
    #[must_use]
    pub fn finish(self) -> Payload {
        let root = payload_root(self.slots.iter().map(|slot| &slot.id));
        Payload { bytes: self.bytes.into(), slots: self.slots, root }
    }
}

/// A payload together with the block that it belongs to.
#[derive(Debug, Clone)]
pub struct BlockPayload {
    /// The block.
    pub block: BlockRef,
    /// Its transactions.
    pub payload: std::sync::Arc<Payload>,
}

/// Ids that are hashed together: BLAKE3 takes sixteen KiB at a time faster than one id after the other.
const IDS_TOGETHER: usize = 512;

fn payload_root<'a>(ids: impl Iterator<Item = &'a TxId>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let (mut together, mut n) = ([[0; 32]; IDS_TOGETHER], 0);
    for id in ids {
        together[n] = id.0;
        n += 1;
        if n == IDS_TOGETHER {
            hasher.update(together.as_flattened());
            n = 0;
        }
    }
    hasher.update(together[..n].as_flattened());
    Digest(hasher.finalize().into())
}

/// Positions inside a payload are bounded by [`PAYLOAD_BYTES_MAX`].
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or_else(|_| unreachable!("payload positions are below 4 MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_of_all_ids_one_after_the_other() {
        let n = u32::try_from(IDS_TOGETHER).unwrap_or_else(|_| unreachable!("some hundreds"));
        for n in [0, 1, 2, n - 1, n, n + 1, 2 * n, 2 * n + 7] {
            let ids: Vec<TxId> = (0..n).map(|i| TxId(*blake3::hash(&i.to_be_bytes()).as_bytes())).collect();
            let together: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
            assert_eq!(payload_root(ids.iter()).0, *blake3::hash(&together).as_bytes(), "{n} ids");
        }
    }
}
