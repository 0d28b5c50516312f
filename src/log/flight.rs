//! Groups between the moment they are cut off and the one in which they are known to be durable.
//!
//! Several may be written at a time, by as many threads, and become durable in any order; the log makes them known in its
//! own. Most of what a group costs besides its write is hashing, so that is done by whoever writes it, side by side; only
//! the link from one group to the next goes from one to the other.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::disk::DiskFile;
use super::format::{
    Chain, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, PAGE_BYTES, Position, RECORD_HEADER_BYTES,
    RecordHeader, page_align,
};
use super::pages::Pages;
use super::read::Place;
use crate::error::StorageError;
use crate::types::LogSeq;

/// From this length on a group that is alone is written past the page cache, where its bytes are not copied once more.
const DIRECT_BYTES_MIN: usize = 64 << 10;
/// From this length on a group that is alone is written while its digest is made out: another thread costs less than it saves.
const OVERLAP_BYTES_MIN: usize = 256 << 10;

/// Digest of a group's header, for the next one; `None` if it will never be known.
type Link = Arc<OnceLock<Option<Chain>>>;

/// The digest of the last group that was cut off.
#[derive(Debug, Clone)]
pub(super) struct ChainEnd(Link);

impl ChainEnd {
    pub(super) fn new(chain: Chain) -> Self {
        Self(Arc::new(OnceLock::from(Some(chain))))
    }

    /// Waits until it is known, which it is when nothing is in flight.
    pub(super) fn get(&self) -> Option<Chain> {
        *self.0.wait()
    }
}

/// Records that wait to be written, laid out as they will stand on disk.
#[derive(Debug)]
pub(super) struct Pending {
    /// Room for the header, then records.
    pub(super) bytes: Pages,
    /// Where in `bytes` each record begins.
    pub(super) records: Vec<usize>,
}

impl Pending {
    /// For groups of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        let mut bytes = Pages::new(most);
        bytes.resize(GROUP_HEADER_BYTES);
        Self { bytes, records: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(GROUP_HEADER_BYTES);
        self.records.clear();
    }
}

/// A group that is to be written and synced, on any thread, side by side with those before and after it. Its result is for
/// [`super::Log::end_write`]. Groups must be taken up in the order in which they were made out, since each waits for the header of
/// the one before.
#[derive(Debug)]
#[must_use = "what was appended is durable only after its write"]
pub struct GroupWrite<F> {
    file: F,
    /// All but the links, the digest of the records and the length.
    header: GroupHeader,
    pending: Pending,
    previous: ChainEnd,
    own: ChainEnd,
}

impl<F: DiskFile> GroupWrite<F> {
    /// Of a header whose lengths and digests are still to be filled in.
    pub(super) fn new(file: F, header: GroupHeader, pending: Pending, previous: ChainEnd) -> Self {
        Self { file, header, pending, previous, own: ChainEnd(Link::default()) }
    }

    /// The name by which people find the file that it goes to.
    #[must_use]
    pub fn path(&self) -> String {
        self.file.path()
    }

    pub(super) fn chain_end(&self) -> ChainEnd {
        self.own.clone()
    }

    /// Writes the group past the page cache, if the disk can, and waits until it is durable.
    ///
    /// # Errors
    /// That of the disk. It is final.
    pub fn run(mut self) -> Result<GroupDurable, StorageError> {
        self.seal()?;
        self.file.write_through(self.header.at, &self.pending.bytes)?;
        Ok(self.done())
    }

    /// As [`GroupWrite::run`], but a short group goes through the page cache, where it stays for readers. Nothing else may be in
    /// flight.
    pub(super) fn run_alone(mut self) -> Result<GroupDurable, StorageError> {
        let len = self.pending.bytes.len();
        if len >= OVERLAP_BYTES_MIN {
            return self.run_overlapped();
        }
        if len >= DIRECT_BYTES_MIN {
            return self.run();
        }
        self.seal()?;
        self.file.write_at(self.header.at, &self.pending.bytes)?;
        self.file.sync()?;
        Ok(self.done())
    }

    /// Writes all behind the first page while the digest of the records, which stands in that page, is made out by another thread. The
    /// write begins here and at once; only the digest may have to wait for a thread of the pool, none of whose jobs waits for the log.
    fn run_overlapped(mut self) -> Result<GroupDurable, StorageError> {
        self.fill_in_checksums();
        let end = self.pending.bytes.len();
        self.pending.bytes.resize(page_align(end));
        let (file, at, bytes) = (&self.file, self.header.at, &self.pending.bytes);
        let mut records = Chain::default();
        let written = rayon::in_place_scope(|scope| {
            scope.spawn(|_| records = blake3::hash(&bytes[GROUP_HEADER_BYTES..end]).into());
            file.write_past_cache(at + PAGE_BYTES as u64, &bytes[PAGE_BYTES..])
        });
        self.fill_in_header(records)?;
        written?;
        self.file.write_past_cache(at, &self.pending.bytes[..PAGE_BYTES])?;
        self.file.sync()?;
        Ok(self.done())
    }

    /// Writes the group and leaves it at that: what power finds that fails in between.
    #[cfg(test)]
    pub(super) fn run_half(mut self) -> Result<(), StorageError> {
        self.seal()?;
        self.file.write_at(self.header.at, &self.pending.bytes)
    }

    fn done(mut self) -> GroupDurable {
        let pending =
            std::mem::replace(&mut self.pending, Pending { bytes: Pages::empty(), records: Vec::new() });
        GroupDurable { last: self.header.last(), pending }
    }

    /// Fills in checksums, header and padding.
    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        if self.own.0.get().is_some() {
            return Ok(());
        }
        self.fill_in_checksums();
        let end = self.pending.bytes.len();
        self.fill_in_header(blake3::hash(&self.pending.bytes[GROUP_HEADER_BYTES..end]).into())?;
        self.pending.bytes.resize(page_align(end));
        Ok(())
    }

    fn fill_in_checksums(&mut self) {
        let GroupHeader { generation, segment, at, .. } = self.header;
        let bytes = &mut self.pending.bytes;
        for &start in &self.pending.records {
            let (head, body) = bytes[start..].split_at_mut(RECORD_HEADER_BYTES);
            let mut header = [0; RECORD_HEADER_BYTES];
            header.copy_from_slice(head);
            let mut header = RecordHeader::decode(&header);
            let position = Position { generation, segment, at: at + start as u64 };
            header.crc = header.checksum(position, &body[..header.len as usize]);
            head.copy_from_slice(&header.encode());
        }
    }

    /// Waits for the header of the group before, whose digest this one names.
    fn fill_in_header(&mut self, records: Chain) -> Result<(), StorageError> {
        self.header.records = records;
        let Some(previous) = self.previous.get() else {
            return Err(StorageError::Halted { path: self.file.path() });
        };
        self.header.previous = previous;
        // The next group can go on: it needs the header, not the disk.
        let _ = self.own.0.set(Some(self.header.digest()));
        self.pending.bytes[..GROUP_HEADER_BYTES].copy_from_slice(&self.header.encode());
        Ok(())
    }
}

impl<F> Drop for GroupWrite<F> {
    fn drop(&mut self) {
        // Whoever waits for a group that is never written shall not wait for ever.
        let _ = self.own.0.set(None);
    }
}

/// A group that was seen to become durable. Nobody but [`GroupWrite`] makes one.
#[derive(Debug)]
pub struct GroupDurable {
    last: LogSeq,
    /// To be used again.
    pub(super) pending: Pending,
}

/// A group that was cut off.
#[derive(Debug)]
struct Cut {
    last: LogSeq,
    bytes: usize,
    places: Vec<Place>,
    is_durable: bool,
}

/// The groups that are not known to be durable, or follow one that is not, in the order of the log. They take at most
/// [`GROUP_BYTES_MAX`] together, so that recovery knows how far behind the last durable group an interrupted write can reach.
#[derive(Debug, Default)]
pub(super) struct Flight {
    groups: VecDeque<Cut>,
    bytes: usize,
}

impl Flight {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether a group of so many bytes may be written now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.groups.is_empty() || self.bytes + bytes <= GROUP_BYTES_MAX
    }

    pub(super) fn add(&mut self, last: LogSeq, bytes: usize, places: Vec<Place>) {
        self.bytes += bytes;
        self.groups.push_back(Cut { last, bytes, places, is_durable: false });
    }

    /// Takes in that a group is durable; takes out all groups that no other one stands before that is not, and gives the last
    /// record of them and their entries of the index.
    pub(super) fn land(&mut self, durable: &GroupDurable) -> Option<(LogSeq, Vec<Place>)> {
        if let Some(group) = self.groups.iter_mut().find(|group| group.last == durable.last) {
            group.is_durable = true;
        }
        let mut landed = None;
        while let Some(group) = self.groups.pop_front_if(|group| group.is_durable) {
            self.bytes -= group.bytes;
            let (last, places) = landed.get_or_insert_with(|| (group.last, Vec::new()));
            *last = group.last;
            places.extend(group.places);
        }
        landed
    }
}
