//! What consensus orders: a block that carries its transactions.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, MaxEncodeSize, RangeCfg, Read, ReadExt, Write};
use commonware_consensus::types::Height;
use commonware_consensus::{Block as ConsensusBlock, BoundedBlock, Heightable};
use commonware_cryptography::blake3::Digest;
use commonware_cryptography::{Blake3, Digest as _, Digestible, Hasher};

/// Bytes before each transaction: its length.
pub const PREFIX: usize = 2;
/// Bytes of a transaction that name it: its number in the load.
pub const NUMBER: usize = 8;
/// Widest length of a payload.
const LENGTH: usize = 5;

/// A block. Its digest covers everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub parent: Digest,
    pub height: Height,
    /// Transactions, each behind its length.
    pub payload: Bytes,
}

impl Block {
    pub fn genesis() -> Self {
        Self { parent: Digest::EMPTY, height: Height::zero(), payload: Bytes::new() }
    }

    /// Whether the payload is whole transactions.
    pub fn is_whole(&self) -> bool {
        let mut frames = Frames(&self.payload);
        while frames.next().is_some() {}
        frames.0.is_empty()
    }
}

/// Transactions of a payload, in order; ends early where it is not well-formed.
pub struct Frames<'a>(pub &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.0.split_first_chunk::<PREFIX>()?;
        let len = usize::from(u16::from_le_bytes(*prefix));
        if len < NUMBER || len > rest.len() {
            return None;
        }
        let (transaction, rest) = rest.split_at(len);
        self.0 = rest;
        Some(transaction)
    }
}

/// The number that a transaction starts with.
pub fn number(transaction: &[u8]) -> u64 {
    transaction.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.parent.write(buf);
        self.height.write(buf);
        self.payload.write(buf);
    }

    fn write_bufs(&self, buf: &mut impl commonware_codec::BufsMut) {
        self.parent.write(buf);
        self.height.write(buf);
        self.payload.write_bufs(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        Digest::SIZE + self.height.encode_size() + self.payload.encode_size()
    }

    fn encode_inline_size(&self) -> usize {
        Digest::SIZE + self.height.encode_size() + self.payload.encode_inline_size()
    }
}

impl Read for Block {
    /// Greatest length of a payload.
    type Cfg = usize;

    fn read_cfg(buf: &mut impl Buf, most: &usize) -> Result<Self, Error> {
        let parent = Digest::read(buf)?;
        let height = Height::read(buf)?;
        let payload = Bytes::read_cfg(buf, &RangeCfg::new(0..=*most))?;
        Ok(Self { parent, height, payload })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Blake3::hash(&[self.parent.as_ref(), &self.height.get().to_be_bytes(), &self.payload])
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        self.height
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.parent
    }
}

impl BoundedBlock for Block {
    fn max_encode_size(most: &usize) -> usize {
        Digest::SIZE + Height::MAX_ENCODE_SIZE + LENGTH + most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{Decode, Encode};

    fn payload(numbers: &[u64]) -> Bytes {
        let mut bytes = Vec::new();
        for number in numbers {
            bytes.extend_from_slice(&10u16.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&[7, 7]);
        }
        bytes.into()
    }

    #[test]
    fn blocks_survive_the_wire_and_bounds_hold() {
        let block = Block { parent: Digest([3; 32]), height: Height::new(5), payload: payload(&[1, 2, 300]) };
        let bytes = block.encode();
        assert!(bytes.len() <= Block::max_encode_size(&block.payload.len()));
        assert_eq!(Block::decode_cfg(bytes.clone(), &block.payload.len()).unwrap(), block);
        assert!(Block::decode_cfg(bytes, &(block.payload.len() - 1)).is_err());
    }

    #[test]
    fn payloads_are_whole_transactions_or_not() {
        let whole = payload(&[1, 2, 300]);
        assert_eq!(Frames(&whole).map(number).collect::<Vec<_>>(), [1, 2, 300]);
        let block = |payload| Block { payload, ..Block::genesis() };
        assert!(block(whole.clone()).is_whole());
        assert!(block(Bytes::new()).is_whole());
        for cut in [1, 2, 11, whole.len() - 1] {
            assert!(!block(whole.slice(..cut)).is_whole(), "{cut}");
        }
        assert!(!block(Bytes::from_static(&[0, 0])).is_whole());
    }
}
