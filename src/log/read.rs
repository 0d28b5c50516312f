//! Reading durable records: by number and in order.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::disk::DiskFile;
use super::format::{Position, RECORD_HEADER_BYTES, RecordHeader, record_span};
use super::survey::damaged;
use crate::error::StorageError;
use crate::types::LogSeq;

/// Each group has an entry in the index in memory for its first record and one for each so many after it.
pub(super) const RECORDS_PER_PLACE: usize = 64;

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
    pub(super) places: Vec<Place>,
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

/// Where to look for a record: walk from `at`, whose record is `seq`; the next indexed one is `next`.
struct Start<F> {
    segment: ReadableSegment<F>,
    seq: LogSeq,
    at: u64,
    next: LogSeq,
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
        let after = shared.places.partition_point(|place| place.seq <= seq);
        let place = *shared.places.get(after.checked_sub(1)?)?;
        let next = shared.places.get(after).map_or(LogSeq(shared.durable.0 + 1), |place| place.seq);
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
        while start.seq < seq {
            start.skip()?;
        }
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
        let from = LogSeq(from.0.max(1));
        let mut next = from;
        while let Some(mut start) = self.locate(next) {
            while start.seq < start.next {
                if start.seq < from {
                    start.skip()?;
                } else {
                    each(start.take()?)?;
                }
            }
            next = start.next;
        }
        Ok(())
    }
}

impl<F: DiskFile> Start<F> {
    fn header(&self) -> Result<RecordHeader, StorageError> {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        self.segment.file.read_at(self.at, &mut bytes)?;
        let header = RecordHeader::decode(&bytes);
        if header.seq != self.seq {
            let why = format!("record {} expected, a record numbered {} found", self.seq, header.seq);
            return Err(damaged(self.segment.file.path(), self.at, &why));
        }
        Ok(header)
    }

    fn skip(&mut self) -> Result<(), StorageError> {
        let header = self.header()?;
        self.advance(header.len);
        Ok(())
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
