//! Reading durable records: by number and in order.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::disk::DiskFile;
use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, PAGE_BYTES, Position, RECORD_HEADER_BYTES, RecordHeader, record_span,
};
use super::survey::damaged;
use crate::error::StorageError;
use crate::types::LogSeq;

/// The first record of each group may have an entry in the index in memory, and each so many after it.
pub(super) const RECORDS_PER_PLACE: usize = 64;
/// But two entries of a segment are so far from each other at least: what is in memory for ever takes 256 bytes for a MiB of the log.
pub(super) const BYTES_PER_PLACE: u32 = 64 << 10;

/// One durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: LogSeq,
    /// What the node says it is; the log does not look.
    pub kind: u8,
    /// Its body, shared with the map of the segment where the disk has one.
    pub bytes: Bytes,
}

/// Entry of the sparse index: where a record's header stands. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: LogSeq,
    /// Position in [`Shared::segments`].
    pub(super) segment: u32,
    pub(super) at: u32,
}

/// The sparse index, in the order of the log. Each segment's first record is in it.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Place>);

impl Places {
    /// Takes in where the next record stands that may have an entry.
    pub(super) fn add(&mut self, place: Place) {
        let is_near = |last: &Place| last.segment == place.segment && place.at - last.at < BYTES_PER_PLACE;
        if !self.0.last().is_some_and(is_near) {
            self.0.push(place);
        }
    }

    /// The last one that is not behind a record, and the next after it.
    fn around(&self, seq: LogSeq) -> Option<(Place, Option<Place>)> {
        let after = self.0.partition_point(|place| place.seq <= seq);
        Some((*self.0.get(after.checked_sub(1)?)?, self.0.get(after).copied()))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A segment as readers need it.
#[derive(Debug, Clone)]
pub(super) struct ReadableSegment<F> {
    pub(super) file: F,
    pub(super) segment: u64,
    pub(super) generation: u64,
}

/// What the writer publishes after each observed sync.
#[derive(Debug)]
pub(super) struct Shared<F> {
    pub(super) durable: LogSeq,
    pub(super) places: Places,
    pub(super) segments: Vec<ReadableSegment<F>>,
}

/// Reads durable records from any thread while the log is being written; never sees one above the watermark.
#[derive(Debug)]
pub struct LogReader<F> {
    shared: Arc<RwLock<Shared<F>>>,
}

impl<F> Clone for LogReader<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Where to look for a record: walk from `at`, where `seq` stands, or the group before it has ended; the next indexed one is `next`.
struct Start<F> {
    segment: ReadableSegment<F>,
    seq: LogSeq,
    at: u64,
    next: LogSeq,
}

/// What stands where a walk has come to.
enum Here {
    /// The next record.
    Record(RecordHeader),
    /// The group that begins with it.
    Group(GroupHeader),
}

impl<F: DiskFile> LogReader<F> {
    pub(super) fn new(shared: Shared<F>) -> Self {
        Self { shared: Arc::new(RwLock::new(shared)) }
    }

    fn get(&self) -> RwLockReadGuard<'_, Shared<F>> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self) -> RwLockWriteGuard<'_, Shared<F>> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last durable record; 0 if there is none.
    #[must_use]
    pub fn durable(&self) -> LogSeq {
        self.get().durable
    }

    fn locate(&self, seq: LogSeq) -> Option<Start<F>> {
        let shared = self.get();
        if seq.0 == 0 || seq > shared.durable {
            return None;
        }
        let (place, next) = shared.places.around(seq)?;
        let next = next.map_or(LogSeq(shared.durable.0 + 1), |place| place.seq);
        let segment = shared.segments.get(place.segment as usize)?.clone();
        drop(shared);
        Some(Start { segment, seq: place.seq, at: u64::from(place.at), next })
    }

    /// The record of this number, its checksum verified; `None` if it is not durable (yet).
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if its bytes changed since they were written, or an error of the disk.
    pub fn read(&self, seq: LogSeq) -> Result<Option<Record>, StorageError> {
        let Some(mut start) = self.locate(seq) else { return Ok(None) };
        start.skip_to(seq)?;
        start.take().map(Some)
    }

    /// Hands all durable records from `from` on to `each`, in order, until the watermark as it stands when it gets
    /// there, or until `each` fails.
    ///
    /// # Errors
    /// As [`LogReader::read`], and what `each` returns.
    pub fn scan(
        &self,
        from: LogSeq,
        mut each: impl FnMut(Record) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut next = LogSeq(from.0.max(1));
        while let Some(mut start) = self.locate(next) {
            start.skip_to(next)?;
            while start.seq < start.next {
                each(start.take()?)?;
            }
            next = start.next;
        }
        Ok(())
    }
}

impl<F: DiskFile> Start<F> {
    /// What stands here, or with the next page: a group is padded to whole pages.
    fn here(&self) -> Result<Here, StorageError> {
        let page = self.at.next_multiple_of(PAGE_BYTES as u64);
        // First, since a group's header read as a record's could have any number.
        if page == self.at
            && let Some(group) = self.group(page)?
        {
            return Ok(Here::Group(group));
        }
        let file = &self.segment.file;
        if self.at + RECORD_HEADER_BYTES as u64 > file.len()? {
            let why = format!("record {} expected behind the end of the segment", self.seq);
            return Err(damaged(file.path(), self.at, &why));
        }
        let mut bytes = [0; RECORD_HEADER_BYTES];
        file.read_at(self.at, &mut bytes)?;
        let header = RecordHeader::decode(&bytes);
        if header.seq == self.seq {
            return Ok(Here::Record(header));
        }
        if let Some(group) = self.group(page)? {
            return Ok(Here::Group(group));
        }
        let why = format!("record {} expected, a record numbered {} found", self.seq, header.seq);
        Err(damaged(file.path(), self.at, &why))
    }

    /// The group that begins there with the next record, if it does.
    fn group(&self, at: u64) -> Result<Option<GroupHeader>, StorageError> {
        let file = &self.segment.file;
        if at + GROUP_HEADER_BYTES as u64 > file.len()? {
            return Ok(None);
        }
        let mut bytes = [0; GROUP_HEADER_BYTES];
        file.read_at(at, &mut bytes)?;
        let (segment, generation) = (self.segment.segment, self.segment.generation);
        let is_it = |group: &GroupHeader| {
            (group.segment, group.generation, group.at) == (segment, generation, at)
                && group.first_record == self.seq
        };
        Ok(GroupHeader::decode(&bytes).filter(is_it))
    }

    /// Goes on until a record is the next; over a group that ends before it at once.
    fn skip_to(&mut self, seq: LogSeq) -> Result<(), StorageError> {
        while self.seq < seq {
            match self.here()? {
                Here::Record(header) => self.advance(header.len),
                Here::Group(group) if group.last() < seq => {
                    self.at = group.at + group.span() as u64;
                    self.seq.0 += u64::from(group.count);
                }
                Here::Group(group) => self.enter(&group),
            }
        }
        Ok(())
    }

    fn enter(&mut self, group: &GroupHeader) {
        self.at = group.at + GROUP_HEADER_BYTES as u64;
    }

    fn header(&mut self) -> Result<RecordHeader, StorageError> {
        loop {
            match self.here()? {
                Here::Record(header) => return Ok(header),
                Here::Group(group) => self.enter(&group),
            }
        }
    }

    fn advance(&mut self, len: u32) {
        self.at += record_span(len as usize) as u64;
        self.seq.0 += 1;
    }

    fn take(&mut self) -> Result<Record, StorageError> {
        let header = self.header()?;
        let body = self.at + RECORD_HEADER_BYTES as u64;
        let here = || self.segment.file.path();
        if body + u64::from(header.len) > self.segment.file.len()? {
            let why = format!("record {} is said to have {} bytes", header.seq, header.len);
            return Err(damaged(here(), self.at, &why));
        }
        let bytes = self.segment.file.view(body, header.len as usize)?;
        let (segment, generation) = (self.segment.segment, self.segment.generation);
        if header.checksum(Position { generation, segment, at: self.at }, &bytes) != header.crc {
            return Err(damaged(
                here(),
                self.at,
                &format!("the checksum of record {} does not hold", header.seq),
            ));
        }
        self.advance(header.len);
        Ok(Record { seq: header.seq, kind: header.kind, bytes })
    }
}
