//! Block headers: what enters the DAG, votes, and is signed.

use bytes::Bytes;

use super::{
    AuthorityIndex, BlockDigest, BlockRef, Digest, Epoch, Round, SIGNATURE_BYTES, SystemMessage, TimestampMs,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{
    ANCESTORS_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_TRANSACTIONS_MAX, SYSTEM_MESSAGE_BYTES_MAX,
    SYSTEM_MESSAGES_MAX,
};

/// Newest version of the header format.
pub const HEADER_VERSION: u8 = 2;
/// Oldest version that is still read: its signature covers all bytes, and its only system message is the checkpoint vote.
pub const HEADER_VERSION_OLDEST: u8 = 1;

/// A block header without its signature.
///
/// Layout: `ver1 epoch4 round8 author2 time8 n_ancestors1 {round8 author2 digest32}* n_tx4 payload_len4
/// payload_root32 n_sys2 {len2 message}*`, then a 64-byte signature. The digest is the BLAKE3 of all but the signature.
///
/// From version 2 on the signature covers `epoch4 round8 author2 digest32` and so all bytes by their digest. Two references
/// of one slot with their signatures then prove an equivocation in 216 bytes, without the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Version of the format, [`HEADER_VERSION_OLDEST`] to [`HEADER_VERSION`].
    pub version: u8,
    /// Generation of the committee.
    pub epoch: Epoch,
    /// Height in the DAG, at least 1.
    pub round: Round,
    /// Who made it.
    pub author: AuthorityIndex,
    /// Author's clock when it was made.
    pub time: TimestampMs,
    /// Own previous block first, then at most one block for each other author in ascending order of author.
    pub ancestors: Vec<BlockRef>,
    /// Transactions in the payload.
    pub n_tx: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// BLAKE3 of the concatenated transaction ids.
    pub payload_root: Digest,
    /// Votes and reports of the author.
    pub system: Vec<SystemMessage>,
}

impl Header {
    /// The bytes that are hashed and signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + 42 * self.ancestors.len() + 160 * self.system.len());
        out.put_u8(self.version);
        out.put_u32(self.epoch.0);
        out.put_u64(self.round.0);
        out.put_u16(self.author.0);
        out.put_u64(self.time.0);
        out.put_u8(
            u8::try_from(self.ancestors.len()).unwrap_or_else(|_| panic!("more ancestors than authorities")),
        );
        for ancestor in &self.ancestors {
            put_block_ref(&mut out, ancestor);
        }
        out.put_u32(self.n_tx);
        out.put_u32(self.payload_len);
        out.put_bytes(&self.payload_root.0);
        out.put_len_u16(self.system.len());
        for message in &self.system {
            let bytes = message.encode();
            out.put_len_u16(bytes.len());
            out.put_bytes(&bytes);
        }
        out
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = r.u8("header version")?;
        if !(HEADER_VERSION_OLDEST..=HEADER_VERSION).contains(&version) {
            return Err(r.bad_value("header version", 1, version.into()));
        }
        let epoch = Epoch(r.u32("epoch")?);
        let round = Round(r.u64("round")?);
        let author = AuthorityIndex(r.u16("author")?);
        let time = TimestampMs(r.u64("time")?);
        let n = usize::from(r.u8("ancestor count")?);
        if n > ANCESTORS_MAX {
            let (value, limit) = (n as u64, ANCESTORS_MAX as u64);
            return Err(DecodeError::TooLarge { what: "ancestor count", value, limit });
        }
        let ancestors = (0..n).map(|_| read_block_ref(r)).collect::<Result<_, _>>()?;
        let n_tx = r.bounded("transaction count", PAYLOAD_TRANSACTIONS_MAX)?;
        let payload_len = r.bounded("payload length", PAYLOAD_BYTES_MAX)?;
        let payload_root = Digest(r.array("payload root")?);
        let n_sys = r.bounded_u16("system message count", SYSTEM_MESSAGES_MAX)?;
        let system = (0..n_sys)
            .map(|_| {
                let len = r.bounded_u16("system message length", SYSTEM_MESSAGE_BYTES_MAX)?;
                SystemMessage::decode(r.take("system message", len)?, version)
            })
            .collect::<Result<_, _>>()?;
        #[expect(clippy::cast_possible_truncation, reason = "both were read from 32 bits")]
        let (n_tx, payload_len) = (n_tx as u32, payload_len as u32);
        Ok(Self { version, epoch, round, author, time, ancestors, n_tx, payload_len, payload_root, system })
    }
}

/// Bytes of an encoded block reference.
pub const BLOCK_REF_BYTES: usize = 42;

/// Appends `round8 author2 digest32`.
pub fn put_block_ref(out: &mut Vec<u8>, block: &BlockRef) {
    out.put_bytes(&encode_block_ref(block));
}

/// `round8 author2 digest32`.
#[must_use]
pub fn encode_block_ref(block: &BlockRef) -> [u8; BLOCK_REF_BYTES] {
    let mut out = [0; BLOCK_REF_BYTES];
    out[..8].copy_from_slice(&block.round.0.to_be_bytes());
    out[8..10].copy_from_slice(&block.author.0.to_be_bytes());
    out[10..].copy_from_slice(&block.digest.0);
    out
}

/// Bytes that the signature of a header covers from version 2 on.
pub const SIGNED_REFERENCE_BYTES: usize = 4 + BLOCK_REF_BYTES;

/// `epoch4 round8 author2 digest32`: what the signature of a header covers from version 2 on. (Rounds start again with each
/// epoch, so a reference alone would let two honest blocks of two epochs look like an equivocation.)
#[must_use]
pub fn signed_reference(epoch: Epoch, block: &BlockRef) -> [u8; SIGNED_REFERENCE_BYTES] {
    let mut out = [0; SIGNED_REFERENCE_BYTES];
    out[..4].copy_from_slice(&epoch.0.to_be_bytes());
    out[4..].copy_from_slice(&encode_block_ref(block));
    out
}

/// Reads `round8 author2 digest32`.
pub fn read_block_ref(r: &mut Reader<'_>) -> Result<BlockRef, DecodeError> {
    Ok(BlockRef {
        round: Round(r.u64("block round")?),
        author: AuthorityIndex(r.u16("block author")?),
        digest: BlockDigest(r.array("block digest")?),
    })
}

/// A header with its signature, decoded; the signature and the rules of the DAG are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeader {
    bytes: Bytes,
    header: Header,
    reference: BlockRef,
    /// What is signed from version 2 on.
    signed: [u8; SIGNED_REFERENCE_BYTES],
}

impl SignedHeader {
    /// Decodes one header that fills `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > HEADER_BYTES_MAX {
            let (value, limit) = (bytes.len() as u64, HEADER_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what: "header", value, limit });
        }
        let mut r = Reader::new(&bytes);
        let header = Header::decode(&mut r)?;
        let unsigned = r.position();
        r.take("header signature", SIGNATURE_BYTES)?;
        r.finish()?;
        let reference = reference_of(&header, &bytes[..unsigned]);
        let signed = signed_reference(header.epoch, &reference);
        Ok(Self { bytes, header, reference, signed })
    }

    /// Encodes a header and appends the signature that `sign` makes over it.
    #[must_use]
    pub fn build(header: Header, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES]) -> Self {
        let mut bytes = header.encode();
        let reference = reference_of(&header, &bytes);
        let signed = signed_reference(header.epoch, &reference);
        let signature = sign(if header.version == 1 { &bytes } else { &signed });
        bytes.put_bytes(&signature);
        assert!(bytes.len() <= HEADER_BYTES_MAX, "a header of {} bytes was built", bytes.len());
        Self { bytes: bytes.into(), header, reference, signed }
    }

    /// All bytes, signature included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The fields.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Name of the block.
    #[must_use]
    pub fn reference(&self) -> BlockRef {
        self.reference
    }

    /// What the signature covers (behind the domain prefix).
    #[must_use]
    pub fn signed_bytes(&self) -> &[u8] {
        if self.header.version == 1 {
            &self.bytes[..self.bytes.len() - SIGNATURE_BYTES]
        } else {
            &self.signed
        }
    }

    /// The signature: R ‖ s.
    #[must_use]
    pub fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        self.bytes.last_chunk().unwrap_or_else(|| unreachable!("a decoded header ends in a signature"))
    }
}

fn reference_of(header: &Header, unsigned: &[u8]) -> BlockRef {
    BlockRef {
        round: header.round,
        author: header.author,
        digest: BlockDigest(blake3::hash(unsigned).into()),
    }
}
