//! The bytes of the log: segment headers, group headers, record headers and the watermark. See [`super`] for the tables.

use crate::codec::{DecodeError, Reader, Writer};
use crate::hash::crc32c;
use crate::types::{LogSeq, NetworkId};

/// Unit that groups are padded to, so that no page is written twice.
pub const PAGE_BYTES: usize = 4_096;
/// Newest version of the format that this program reads and writes.
pub const LOG_VERSION: u32 = 1;
/// Bytes before the first group of a segment: two copies of its header.
pub(super) const SEGMENT_DATA_AT: u64 = 2 * PAGE_BYTES as u64;
/// Bytes of a group header.
pub(super) const GROUP_HEADER_BYTES: usize = 192;
/// Bytes of a record header.
pub(super) const RECORD_HEADER_BYTES: usize = 16;
/// Largest record: a payload with what the node adds to it, and room to grow.
pub const RECORD_BYTES_MAX: usize = 5 << 20;
/// Largest group, header and padding included.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"SALUSLOG";
const GROUP_MAGIC: [u8; 8] = *b"SALUSGRP";
const WATERMARK_MAGIC: [u8; 8] = *b"SALUSWMK";
const CRC_BYTES: usize = 4;
/// Bytes of one slot of the watermark file; the two slots start a page apart.
pub(super) const WATERMARK_BYTES: usize = 64;
/// Part of a group header that the chain of digests covers.
const GROUP_CHAINED_BYTES: usize = 128;

/// A 32-byte BLAKE3 digest that links a group to the one before.
pub(super) type Chain = [u8; 32];

/// Converts an offset or length that was checked against a file or a limit that fits memory.
pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or_else(|_| panic!("{value} bytes exceed the address space"))
}

/// `len` rounded up to whole pages.
pub(super) fn page_align(len: usize) -> usize {
    len.next_multiple_of(PAGE_BYTES)
}

/// Bytes that a record of `len` bytes takes in a group: header, body, padding to 8.
pub(super) fn record_span(len: usize) -> usize {
    (RECORD_HEADER_BYTES + len).next_multiple_of(8)
}

/// What the first group of a log names as the group before.
pub(super) fn chain_start(network: NetworkId) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"salus/log/v1\0");
    hasher.update(&network.0);
    hasher.finalize().into()
}

/// Number that marks everything written into one segment file. It is drawn from a secret seed, so that neither a stale
/// group of an earlier use of the same blocks nor bytes made by a client pass for a group of this segment.
pub(super) fn generation(seed: u64, network: NetworkId, segment: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"salus/log-generation/v1\0");
    hasher.update(&network.0);
    hasher.update(&seed.to_be_bytes());
    hasher.update(&segment.to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// Why bytes are not the header that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Magic, checksum or a reserved field does not hold.
    Bad,
    /// Intact, but of a newer version.
    Newer(u32),
}

/// Fills `out` up to `len - 4` bytes with zeros and appends the checksum of all before it.
fn seal_fields(out: &mut Vec<u8>, len: usize) {
    debug_assert!(out.len() + CRC_BYTES <= len, "fields overlap the checksum");
    out.resize(len - CRC_BYTES, 0);
    out.put_u32(crc32c(out, &[]));
}

/// Checks magic and trailing checksum, in that order.
fn has_seal(bytes: &[u8], magic: [u8; 8]) -> bool {
    let Some((fields, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else { return false };
    fields.starts_with(&magic) && crc32c(fields, &[]) == u32::from_be_bytes(*crc)
}

/// First page of a segment, stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) network: NetworkId,
    /// Number of the segment, from 0.
    pub(super) segment: u64,
    pub(super) generation: u64,
    /// Sequence number of the first group that goes into it.
    pub(super) first_group: u64,
    /// Sequence number of the first record that goes into it.
    pub(super) first_record: LogSeq,
    /// Length of the file.
    pub(super) length: u64,
    /// Digest of the last group of the segment before.
    pub(super) chain: Chain,
}

impl SegmentHeader {
    /// One copy: a whole page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_BYTES);
        out.put_bytes(&SEGMENT_MAGIC);
        out.put_u32(LOG_VERSION);
        out.put_u32(0);
        out.put_bytes(&self.network.0);
        out.put_u64(self.segment);
        out.put_u64(self.generation);
        out.put_u64(self.first_group);
        out.put_u64(self.first_record.0);
        out.put_u64(self.length);
        out.put_bytes(&self.chain);
        seal_fields(&mut out, PAGE_BYTES);
        out
    }

    /// Decodes one copy. Magic, version and the place of the checksum are the same in all versions to come.
    pub(super) fn decode(page: &[u8]) -> Result<Self, Unreadable> {
        if page.len() != PAGE_BYTES || !has_seal(page, SEGMENT_MAGIC) {
            return Err(Unreadable::Bad);
        }
        let mut r = Reader::new(&page[SEGMENT_MAGIC.len()..]);
        let version = r.u32("version").or(Err(Unreadable::Bad))?;
        if version > LOG_VERSION {
            return Err(Unreadable::Newer(version));
        }
        let header = Self::read_fields(&mut r).or(Err(Unreadable::Bad))?;
        if header.encode() == page { Ok(header) } else { Err(Unreadable::Bad) }
    }

    fn read_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u32("reserved")?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            segment: r.u64("segment")?,
            generation: r.u64("generation")?,
            first_group: r.u64("first group")?,
            first_record: LogSeq(r.u64("first record")?),
            length: r.u64("length")?,
            chain: r.array("chain")?,
        })
    }
}

/// Head of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) generation: u64,
    pub(super) segment: u64,
    /// Where in the segment it was written.
    pub(super) at: u64,
    /// Sequence number of the group, from 1.
    pub(super) group: u64,
    pub(super) first_record: LogSeq,
    /// Last record that was known to be durable when this group was written.
    pub(super) durable: LogSeq,
    /// Number of records.
    pub(super) count: u32,
    /// Bytes of the records, their headers and their padding to 8.
    pub(super) length: u32,
    /// Digest of the group before.
    pub(super) previous: Chain,
    /// BLAKE3 of the `length` bytes of records.
    pub(super) records: Chain,
}

impl GroupHeader {
    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = Vec::with_capacity(GROUP_HEADER_BYTES);
        self.put_chained(&mut out);
        seal_fields(&mut out, GROUP_HEADER_BYTES);
        let mut header = [0; GROUP_HEADER_BYTES];
        header.copy_from_slice(&out);
        header
    }

    fn put_chained(&self, out: &mut Vec<u8>) {
        out.put_bytes(&GROUP_MAGIC);
        out.put_u64(self.generation);
        out.put_u64(self.segment);
        out.put_u64(self.at);
        out.put_u64(self.group);
        out.put_u64(self.first_record.0);
        out.put_u64(self.durable.0);
        out.put_u32(self.count);
        out.put_u32(self.length);
        out.put_bytes(&self.previous);
        out.put_bytes(&self.records);
        debug_assert_eq!(out.len(), GROUP_CHAINED_BYTES, "the chained part has a fixed size");
    }

    /// Decodes the header at the start of `bytes`; `None` if there is no intact one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if !has_seal(bytes, GROUP_MAGIC) {
            return None;
        }
        let header = Self::read_fields(&mut Reader::new(&bytes[GROUP_MAGIC.len()..])).ok()?;
        (header.encode() == bytes).then_some(header)
    }

    fn read_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: r.u64("generation")?,
            segment: r.u64("segment")?,
            at: r.u64("offset")?,
            group: r.u64("group")?,
            first_record: LogSeq(r.u64("first record")?),
            durable: LogSeq(r.u64("durable")?),
            count: r.u32("count")?,
            length: r.u32("length")?,
            previous: r.array("previous group")?,
            records: r.array("digest of records")?,
        })
    }

    /// What the next group names as the group before.
    pub(super) fn digest(&self) -> Chain {
        let mut out = Vec::with_capacity(GROUP_CHAINED_BYTES);
        self.put_chained(&mut out);
        blake3::hash(&out).into()
    }

    /// Its last record.
    pub(super) fn last(&self) -> LogSeq {
        LogSeq(self.first_record.0 + u64::from(self.count) - 1)
    }

    /// Bytes on disk: header, records, padding to whole pages.
    pub(super) fn span(&self) -> usize {
        page_align(GROUP_HEADER_BYTES + self.length as usize)
    }

    /// Whether it was written at this place of this use of this segment.
    pub(super) fn belongs(&self, segment: &SegmentHeader, at: u64) -> bool {
        self.generation == segment.generation && self.segment == segment.segment && self.at == at
    }
}

/// Where a record stands; part of what its checksum covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) generation: u64,
    pub(super) segment: u64,
    pub(super) at: u64,
}

/// Head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: u8,
    /// Bytes of the body; below 2²⁴.
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) seq: LogSeq,
}

impl RecordHeader {
    /// The header's bytes.
    #[inline]
    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        assert!(self.len < 1 << 24, "a record of {} bytes", self.len);
        // Put together in registers. Read back as a whole, what was written in parts waits for all that was written before it, and
        // that is the body of the record before, on its way to memory that is in no cache.
        let head = u64::from(self.kind) << 56 | u64::from(self.len) << 32 | u64::from(self.crc);
        (u128::from(head) << 64 | u128::from(self.seq.0)).to_be_bytes()
    }

    /// Decodes any 16 bytes; what they mean is for the checksum to say.
    #[inline]
    pub(super) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let [kind, l1, l2, l3, c0, c1, c2, c3, seq @ ..] = *bytes;
        Self {
            kind,
            len: u32::from_be_bytes([0, l1, l2, l3]),
            crc: u32::from_be_bytes([c0, c1, c2, c3]),
            seq: LogSeq(u64::from_be_bytes(seq)),
        }
    }

    /// Checksum over position, header and body.
    pub(super) fn checksum(&self, position: Position, body: &[u8]) -> u32 {
        let mut prefix = [0; 36];
        prefix[..8].copy_from_slice(&position.generation.to_be_bytes());
        prefix[8..16].copy_from_slice(&position.segment.to_be_bytes());
        prefix[16..24].copy_from_slice(&position.at.to_be_bytes());
        prefix[24..28].copy_from_slice(&self.encode()[..4]);
        prefix[28..].copy_from_slice(&self.seq.0.to_be_bytes());
        crc32c(&prefix, body)
    }
}

/// One slot of the watermark file: a record that was durable when the slot was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) network: NetworkId,
    pub(super) durable: LogSeq,
}

impl Watermark {
    /// The slot's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WATERMARK_BYTES);
        out.put_bytes(&WATERMARK_MAGIC);
        out.put_u32(LOG_VERSION);
        out.put_u32(0);
        out.put_bytes(&self.network.0);
        out.put_u64(self.durable.0);
        seal_fields(&mut out, WATERMARK_BYTES);
        out
    }

    /// Decodes one slot.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() != WATERMARK_BYTES || !has_seal(bytes, WATERMARK_MAGIC) {
            return Err(Unreadable::Bad);
        }
        let mut r = Reader::new(&bytes[WATERMARK_MAGIC.len()..]);
        let version = r.u32("version").or(Err(Unreadable::Bad))?;
        if version > LOG_VERSION {
            return Err(Unreadable::Newer(version));
        }
        let mark = Self::read_fields(&mut r).or(Err(Unreadable::Bad))?;
        if mark.encode() == bytes { Ok(mark) } else { Err(Unreadable::Bad) }
    }

    fn read_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u32("reserved")?;
        Ok(Self { network: NetworkId(r.array("network")?), durable: LogSeq(r.u64("durable")?) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    fn group() -> GroupHeader {
        GroupHeader {
            generation: 1,
            segment: 2,
            at: 8_192,
            group: 3,
            first_record: LogSeq(4),
            durable: LogSeq(3),
            count: 5,
            length: 600,
            previous: [6; 32],
            records: [7; 32],
        }
    }

    fn segment() -> SegmentHeader {
        SegmentHeader {
            network: NetworkId([9; 8]),
            segment: 2,
            generation: 1,
            first_group: 3,
            first_record: LogSeq(4),
            length: 65_536,
            chain: [5; 32],
        }
    }

    #[test]
    fn headers_read_back_and_every_flip_shows() {
        let (bytes, header) = (group().encode(), group());
        assert_eq!(GroupHeader::decode(&bytes), Some(header));
        for i in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[i] ^= 1 << (i % 8);
            assert_eq!(GroupHeader::decode(&flipped), None, "byte {i}");
        }
        let page = segment().encode();
        assert_eq!(SegmentHeader::decode(&page), Ok(segment()));
        for i in 0..page.len() {
            let mut flipped = page.clone();
            flipped[i] ^= 1 << (i % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(Unreadable::Bad), "byte {i}");
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut page = segment().encode();
        page[11] = 2;
        page.truncate(PAGE_BYTES - CRC_BYTES);
        seal_fields(&mut page, PAGE_BYTES);
        assert_eq!(SegmentHeader::decode(&page), Err(Unreadable::Newer(2)));
        let mut slot = Watermark { network: NetworkId([9; 8]), durable: LogSeq(8) }.encode();
        assert_eq!(Watermark::decode(&slot).unwrap().durable, LogSeq(8));
        slot[11] = 7;
        slot.truncate(WATERMARK_BYTES - CRC_BYTES);
        seal_fields(&mut slot, WATERMARK_BYTES);
        assert_eq!(Watermark::decode(&slot), Err(Unreadable::Newer(7)));
    }

    #[test]
    fn record_checksum_covers_position_header_and_body() {
        let here = Position { generation: 1, segment: 2, at: 3 };
        let header = RecordHeader { kind: 1, len: 3, crc: 0, seq: LogSeq(9) };
        let base = header.checksum(here, b"abc");
        assert_eq!(RecordHeader::decode(&header.encode()), header);
        let others = [
            header.checksum(Position { generation: 2, ..here }, b"abc"),
            header.checksum(Position { segment: 3, ..here }, b"abc"),
            header.checksum(Position { at: 4, ..here }, b"abc"),
            RecordHeader { kind: 2, ..header }.checksum(here, b"abc"),
            RecordHeader { seq: LogSeq(8), ..header }.checksum(here, b"abc"),
            header.checksum(here, b"abd"),
        ];
        assert!(others.iter().all(|crc| *crc != base));
    }
}
