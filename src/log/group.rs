//! Verifies the groups of a segment: headers one after the other, since each continues the one before, and then what they
//! say of their records side by side, on all cores, since that is most of the work.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use super::disk::DiskFile;
use super::format::{
    Chain, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, PAGE_BYTES, Position, RECORD_HEADER_BYTES,
    RecordHeader, SegmentHeader, record_span,
};
use super::read::{RECORDS_PER_PLACE, Record};
use super::survey::{Each, KindTotal, ZERO_PAGE};
use crate::error::StorageError;
use crate::types::LogSeq;

/// Groups that are verified at a time end with the first that makes them as long as this.
const STRETCH_BYTES: usize = 8 << 20;
/// Below this, other threads cost more than they save.
const SIDE_BY_SIDE_BYTES_MIN: usize = 256 << 10;

/// Why the bytes at some place are not the next group.
pub(super) enum Fault {
    /// No intact group header of this place.
    NoHeader,
    /// The header is intact and continues the log, the records are not what it says.
    BadRecords,
    /// Intact, and yet not the next group: no interrupted write leaves this.
    Contradiction(String),
}

impl Fault {
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoHeader => "there is no intact group".into(),
            Self::BadRecords => "the records of the group do not match its digest".into(),
            Self::Contradiction(why) => why.clone(),
        }
    }
}

/// How far a log goes, and so what the next group continues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) groups: u64,
    pub(super) last: LogSeq,
    pub(super) chain: Chain,
}

impl Reached {
    /// With one group more.
    pub(super) fn after(&self, group: &GroupHeader) -> Self {
        Self { groups: group.group, last: group.last(), chain: group.digest() }
    }

    /// The header of the next group if it stands at `at`.
    fn next<F: DiskFile>(
        &self,
        file: &F,
        segment: &SegmentHeader,
        at: u64,
    ) -> Result<Result<GroupHeader, Fault>, StorageError> {
        if at >= segment.length {
            return Ok(Err(Fault::NoHeader));
        }
        let page = file.view(at, PAGE_BYTES)?;
        let Some(header) = GroupHeader::decode(&page).filter(|header| header.belongs(segment, at)) else {
            return Ok(Err(Fault::NoHeader));
        };
        let contradiction = |why| Ok(Err(Fault::Contradiction(why)));
        if (header.group, header.first_record.0) != (self.groups + 1, self.last.0 + 1) {
            return contradiction(format!(
                "group {} beginning with record {} stands where group {} with record {} belongs",
                header.group,
                header.first_record,
                self.groups + 1,
                self.last.0 + 1
            ));
        }
        if header.previous != self.chain {
            return contradiction("the chain of digests breaks".into());
        }
        let span = header.span();
        if span > GROUP_BYTES_MAX || at + span as u64 > segment.length {
            return contradiction(format!("a group of {span} bytes does not fit"));
        }
        Ok(Ok(header))
    }
}

/// A group that holds.
pub(super) struct Verified {
    pub(super) header: GroupHeader,
    /// Records that the index has entries for, and where they stand in the segment.
    pub(super) places: Vec<(LogSeq, u64)>,
    /// Records and bytes of each kind.
    pub(super) kinds: BTreeMap<u8, KindTotal>,
}

/// The next groups of a segment from `at` on, some [`STRETCH_BYTES`] of them, and why they end if they end there.
pub(super) fn read_stretch<F: DiskFile>(
    file: &F,
    segment: &SegmentHeader,
    mut at: u64,
    mut reached: Reached,
) -> Result<(Vec<Verified>, Option<Fault>), StorageError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut fault = None;
    while bytes < STRETCH_BYTES {
        match reached.next(file, segment, at)? {
            Ok(header) => {
                found.push((header, file.view(at, header.span())?));
                bytes += header.span();
                at += header.span() as u64;
                reached = reached.after(&header);
            }
            Err(why) => {
                fault = Some(why);
                break;
            }
        }
    }
    let verify = |(header, bytes): &(GroupHeader, Bytes)| verify(header, bytes);
    let results: Vec<_> = if bytes < SIDE_BY_SIDE_BYTES_MIN {
        found.iter().map(verify).collect()
    } else {
        found.par_iter().map(verify).collect()
    };
    let mut verified = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(group) => verified.push(group),
            // What follows continues a group that does not hold.
            Err(why) => return Ok((verified, Some(why))),
        }
    }
    Ok((verified, fault))
}

/// Checks that a group has the records that its header, which continues the log, promises.
fn verify(header: &GroupHeader, group: &[u8]) -> Result<Verified, Fault> {
    let (records, padding) = group[GROUP_HEADER_BYTES..].split_at(header.length as usize);
    if blake3::hash(records) != header.records || *padding != ZERO_PAGE[..padding.len()] {
        return Err(Fault::BadRecords);
    }
    take_records(header, records).map_err(Fault::Contradiction)
}

/// Takes in the records of a group whose digest holds.
fn take_records(group: &GroupHeader, records: &[u8]) -> Result<Verified, String> {
    let mut verified = Verified { header: *group, places: Vec::new(), kinds: BTreeMap::new() };
    let mut done = 0;
    for n in 0..group.count as usize {
        let seq = LogSeq(group.first_record.0 + n as u64);
        let bad = |what: &str| format!("record {seq} {what}");
        let rest = &records[done..];
        let header = rest.first_chunk::<RECORD_HEADER_BYTES>().ok_or_else(|| bad("is cut off"))?;
        let header = RecordHeader::decode(header);
        let body = rest.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.len as usize);
        let body = body.ok_or_else(|| bad("is longer than its group"))?;
        let at = group.at + (GROUP_HEADER_BYTES + done) as u64;
        let position = Position { generation: group.generation, segment: group.segment, at };
        if header.seq != seq || header.checksum(position, body) != header.crc {
            return Err(bad("does not match its checksum"));
        }
        if n % RECORDS_PER_PLACE == 0 {
            verified.places.push((seq, at));
        }
        let total = verified.kinds.entry(header.kind).or_default();
        total.records += 1;
        total.bytes += u64::from(header.len);
        done = (done + record_span(body.len())).min(records.len());
    }
    if done == records.len() { Ok(verified) } else { Err("bytes follow the last record of a group".into()) }
}

/// Gives the records of a group that holds to `each`.
pub(super) fn hand_over<F: DiskFile>(
    file: &F,
    group: &GroupHeader,
    each: &mut Each<'_>,
) -> Result<(), StorageError> {
    let bytes = file.view(group.at, group.span())?;
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..group.count {
        let Some(header) = bytes[at..].first_chunk::<RECORD_HEADER_BYTES>() else {
            unreachable!("the records of a group that holds lie in it")
        };
        let header = RecordHeader::decode(header);
        let (body, len) = (at + RECORD_HEADER_BYTES, header.len as usize);
        each(Record { seq: header.seq, kind: header.kind, bytes: bytes.slice(body..body + len) })?;
        at += record_span(len);
    }
    Ok(())
}
