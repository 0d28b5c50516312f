//! The writer: takes records, commits groups, prepares segments, and brings a log back after a crash.

use super::disk::{Disk, DiskFile};
use super::format::{
    Chain, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, PAGE_BYTES, Position, RECORD_BYTES_MAX,
    RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT, SegmentHeader, chain_start, generation, page_align,
    record_span, to_usize,
};
use super::group::hand_over;
use super::read::{LogReader, RECORDS_PER_PLACE, ReadableSegment, Record, Shared};
use super::survey::{Each, SPARE_FILE, Survey, place, segment_name, survey};
use super::watermark::{WatermarkFile, open_watermark};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

/// Bytes that one [`Log::prepare`] fills.
pub const PREPARE_BYTES: usize = 1 << 20;
static ZEROS: [u8; PREPARE_BYTES] = [0; PREPARE_BYTES];
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a log is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Length of new segments: whole pages, 16 KiB to 1 GiB. Segments that exist keep theirs.
    pub segment_bytes: u64,
    /// Secret number that generations are drawn from; the node takes it from the operating system at each start.
    pub seed: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, seed: 0 }
    }
}

impl LogOptions {
    /// Most bytes of a group: what fits the format and one segment.
    fn group_bytes(&self) -> usize {
        to_usize(self.segment_bytes - SEGMENT_DATA_AT).min(GROUP_BYTES_MAX)
    }

    /// Largest record: [`RECORD_BYTES_MAX`], less if segments are too small for that.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX.min(self.group_bytes() - GROUP_HEADER_BYTES - RECORD_HEADER_BYTES)
    }
}

/// What opening a log found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Last record; 0 in a new log.
    pub last: LogSeq,
    /// Number of groups.
    pub groups: u64,
    /// Number of segments.
    pub segments: usize,
    /// Bytes of an interrupted, never acknowledged write that were cut off.
    pub torn_tail_bytes: u64,
    /// Copies of segment headers that were rewritten from the other copy.
    pub repaired_headers: usize,
}

/// Records that wait for the next commit, laid out as they will stand on disk.
#[derive(Debug)]
struct Pending {
    /// Room for the header, then records.
    bytes: Vec<u8>,
    /// Where in `bytes` each record begins.
    records: Vec<usize>,
}

impl Pending {
    fn new() -> Self {
        Self { bytes: vec![0; GROUP_HEADER_BYTES], records: Vec::new() }
    }

    fn clear(&mut self) {
        self.bytes.truncate(GROUP_HEADER_BYTES);
        self.records.clear();
    }
}

/// The segment that is being filled with zeros ahead of use.
#[derive(Debug)]
struct Spare<F> {
    file: F,
    filled: u64,
    length: u64,
}

/// An append-only log with group commit, owned by one thread.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    network: NetworkId,
    options: LogOptions,
    reader: LogReader<D::File>,
    active: D::File,
    segment: SegmentHeader,
    /// Where the next group goes.
    at: u64,
    groups: u64,
    chain: Chain,
    durable: LogSeq,
    pending: Pending,
    spare: Option<Spare<D::File>>,
    watermark: WatermarkFile<D::File>,
    /// A write or sync failed: what the disk holds is no longer known.
    failed: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log in a folder, or begins one in an empty folder. Verifies everything in it, cuts off the torn tail of
    /// an interrupted write, and makes sure that what it reports is on the disk and not in a cache alone.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if durable data changed, [`StorageError::WrongNetwork`] and
    /// [`StorageError::NewerVersion`] for logs that are not ours to write, or an error of the disk.
    ///
    /// # Panics
    /// If the options are outside their bounds.
    pub fn open(disk: D, network: NetworkId, options: LogOptions) -> Result<(Self, Recovered), StorageError> {
        Self::open_with(disk, network, options, None)
    }

    /// As [`Log::open`], and gives all records to `each`, in order, while they are read and verified anyhow: the log is read
    /// from the disk once. What `each` was given counts only if the log then opens.
    ///
    /// # Errors
    /// As [`Log::open`], and what `each` returns.
    ///
    /// # Panics
    /// As [`Log::open`].
    pub fn open_and_read(
        disk: D,
        network: NetworkId,
        options: LogOptions,
        mut each: impl FnMut(Record) -> Result<(), StorageError>,
    ) -> Result<(Self, Recovered), StorageError> {
        Self::open_with(disk, network, options, Some(&mut each))
    }

    fn open_with(
        mut disk: D,
        network: NetworkId,
        options: LogOptions,
        mut each: Option<&mut Each<'_>>,
    ) -> Result<(Self, Recovered), StorageError> {
        assert!(
            (4 * PAGE_BYTES as u64..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes)
                && options.segment_bytes.is_multiple_of(PAGE_BYTES as u64),
            "segments of {} bytes",
            options.segment_bytes
        );
        let found = survey(&disk, Some(network), each.as_deref_mut())?;
        if disk.list()?.iter().any(|name| name == SPARE_FILE) {
            disk.remove(SPARE_FILE)?;
        }
        let mut spare = None;
        let first = if found.segments.is_empty() {
            let start = (1, LogSeq(1), chain_start(network));
            Some(begin_segment(&mut disk, &mut spare, network, options, 0, start)?)
        } else {
            repair(&found)?;
            if let (Some(each), Some((index, last))) = (each, &found.last_group) {
                hand_over(&found.segments[*index].file, last, each)?;
            }
            None
        };
        disk.sync_folder()?;
        let watermark = open_watermark(&mut disk, network, &found)?;
        let recovered = Recovered {
            last: found.reached.last,
            groups: found.reached.groups,
            segments: found.segments.len().max(1),
            torn_tail_bytes: found.torn.map_or(0, |torn| torn.len),
            repaired_headers: found.segments.iter().map(|segment| segment.bad_copies.len()).sum(),
        };
        let at = found.segments.last().map_or(SEGMENT_DATA_AT, |segment| segment.end);
        let mut files: Vec<_> = found.segments.into_iter().map(|found| (found.file, found.header)).collect();
        files.extend(first);
        let Some((active, segment)) = files.last().cloned() else { unreachable!("a log has a segment") };
        for (sealed, _) in &files[..files.len() - 1] {
            sealed.seal()?;
        }
        let segments = files.into_iter().map(|(file, header)| readable(file, &header)).collect();
        let shared = Shared { durable: found.reached.last, places: found.places, segments };
        let log = Self {
            disk,
            network,
            options,
            reader: LogReader::new(shared),
            active,
            segment,
            at,
            groups: found.reached.groups,
            chain: found.reached.chain,
            durable: found.reached.last,
            pending: Pending::new(),
            spare,
            watermark,
            failed: false,
        };
        Ok((log, recovered))
    }

    /// A handle that reads durable records from any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader<D::File> {
        self.reader.clone()
    }

    /// The last durable record; 0 if there is none.
    #[must_use]
    pub fn durable(&self) -> LogSeq {
        self.durable
    }

    /// The number that the next record must have.
    #[must_use]
    pub fn next_seq(&self) -> LogSeq {
        LogSeq(self.durable.0 + self.pending.records.len() as u64 + 1)
    }

    /// The file that is being written.
    #[must_use]
    pub fn path(&self) -> String {
        self.active.path()
    }

    /// Bytes that wait for the next commit.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes.len() - GROUP_HEADER_BYTES
    }

    /// Adds a record, whose body is the concatenation of `parts`, to the group that the next [`Log::commit`] writes. A
    /// group that is full is committed first.
    ///
    /// # Errors
    /// Those of [`Log::commit`].
    ///
    /// # Panics
    /// If `seq` is not [`Log::next_seq`] or the record is larger than [`LogOptions::record_bytes_max`].
    pub fn append<P: AsRef<[u8]>>(&mut self, kind: u8, seq: LogSeq, parts: &[P]) -> Result<(), StorageError> {
        self.halt_if_failed()?;
        let len: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        let most = self.options.record_bytes_max();
        assert!(len <= most, "record {seq} has {len} bytes, at most {most} are allowed");
        assert_eq!(seq, self.next_seq(), "records are numbered without a gap");
        if page_align(self.pending.bytes.len() + record_span(len)) > self.options.group_bytes() {
            self.commit()?;
        }
        let pending = &mut self.pending;
        let start = pending.bytes.len();
        let len32 = u32::try_from(len).unwrap_or_else(|_| unreachable!("records are below 5 MiB"));
        // The checksum covers the position, which is known when the group is written.
        pending.bytes.extend_from_slice(&RecordHeader { kind, len: len32, crc: 0, seq }.encode());
        for part in parts {
            pending.bytes.extend_from_slice(part.as_ref());
        }
        pending.bytes.resize(start + record_span(len), 0);
        pending.records.push(start);
        Ok(())
    }

    /// Writes and syncs what was appended; returns the last durable record.
    ///
    /// # Errors
    /// Any error of the disk is final: what it holds is unknown, nothing more is acknowledged, and every later call
    /// returns [`StorageError::Halted`]. Opening the log again finds out.
    pub fn commit(&mut self) -> Result<LogSeq, StorageError> {
        self.guarded(Self::write_group)?;
        Ok(self.durable)
    }

    /// The record of this number if it is durable; see [`LogReader::read`].
    ///
    /// # Errors
    /// Those of [`LogReader::read`].
    pub fn read(&self, seq: LogSeq) -> Result<Option<Record>, StorageError> {
        self.halt_if_failed()?;
        self.reader.read(seq)
    }

    /// All durable records from `from` on; see [`LogReader::scan`].
    ///
    /// # Errors
    /// Those of [`LogReader::scan`].
    pub fn scan(
        &self,
        from: LogSeq,
        each: impl FnMut(Record) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.halt_if_failed()?;
        self.reader.scan(from, each)
    }

    /// Whether the segment ahead is ready to be used.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.filled == spare.length)
    }

    /// Whether more than half of the active segment is used.
    #[must_use]
    pub fn is_past_half(&self) -> bool {
        self.at > self.segment.length / 2
    }

    /// Fills the next [`PREPARE_BYTES`] of the segment ahead with zeros and syncs them; returns whether there is more to do. To be
    /// called when there is nothing else to do; what was not prepared is prepared when the segment is needed.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn prepare(&mut self) -> Result<bool, StorageError> {
        self.guarded(|log| {
            prepare_step(&mut log.disk, &mut log.spare, log.options)?;
            Ok(!log.is_prepared())
        })
    }

    /// Whether the watermark on disk is behind.
    #[must_use]
    pub fn is_watermark_behind(&self) -> bool {
        self.watermark.synced() < Some(self.durable)
    }

    /// Makes the watermark durable, so that even damage to the last group is told from a torn tail. To be called when
    /// idle and before the log is closed.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn sync_watermark(&mut self) -> Result<(), StorageError> {
        self.guarded(|log| {
            if log.is_watermark_behind() {
                log.watermark.write(log.network, log.durable)?;
                log.watermark.sync(log.network)?;
            }
            Ok(())
        })
    }

    /// Commits what was appended and makes the watermark durable.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn close(mut self) -> Result<(), StorageError> {
        self.commit()?;
        self.sync_watermark()
    }

    fn halt_if_failed(&self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Halted { path: self.active.path() });
        }
        Ok(())
    }

    /// Runs what changes the disk; after an error nothing does any more.
    fn guarded<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.halt_if_failed()?;
        let result = run(self);
        self.failed = result.is_err();
        result
    }

    fn write_group(&mut self) -> Result<(), StorageError> {
        if self.pending.records.is_empty() {
            return Ok(());
        }
        if self.at + page_align(self.pending.bytes.len()) as u64 > self.segment.length {
            self.roll()?;
        }
        let header = self.seal_group();
        self.active.write_at(self.at, &self.pending.bytes)?;
        self.active.sync()?;
        // Durable from here on, and only now visible.
        self.publish();
        self.at += self.pending.bytes.len() as u64;
        self.groups = header.group;
        self.chain = header.digest();
        self.pending.clear();
        self.watermark.write(self.network, self.durable)
    }

    /// Fills in checksums, header and padding, now that the position is known.
    fn seal_group(&mut self) -> GroupHeader {
        let (generation, segment) = (self.segment.generation, self.segment.segment);
        let bytes = &mut self.pending.bytes;
        for &start in &self.pending.records {
            let (head, body) = bytes[start..].split_at_mut(RECORD_HEADER_BYTES);
            let mut header = [0; RECORD_HEADER_BYTES];
            header.copy_from_slice(head);
            let mut header = RecordHeader::decode(&header);
            let position = Position { generation, segment, at: self.at + start as u64 };
            header.crc = header.checksum(position, &body[..header.len as usize]);
            head.copy_from_slice(&header.encode());
        }
        let narrow =
            |len: usize| u32::try_from(len).unwrap_or_else(|_| unreachable!("groups are below 8 MiB"));
        let header = GroupHeader {
            generation,
            segment,
            at: self.at,
            group: self.groups + 1,
            first_record: LogSeq(self.durable.0 + 1),
            durable: self.durable,
            count: narrow(self.pending.records.len()),
            length: narrow(bytes.len() - GROUP_HEADER_BYTES),
            previous: self.chain,
            records: blake3::hash(&bytes[GROUP_HEADER_BYTES..]).into(),
        };
        bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
        bytes.resize(page_align(bytes.len()), 0);
        header
    }

    fn publish(&mut self) {
        let first = self.durable.0 + 1;
        self.durable.0 += self.pending.records.len() as u64;
        let mut shared = self.reader.publish();
        let segment = shared.segments.len() - 1;
        for (n, start) in self.pending.records.iter().enumerate().step_by(RECORDS_PER_PLACE) {
            shared.places.push(place(LogSeq(first + n as u64), segment, self.at + *start as u64));
        }
        shared.durable = self.durable;
        drop(shared);
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), StorageError> {
        let segment = self.segment.segment + 1;
        let start = (self.groups + 1, LogSeq(self.durable.0 + 1), self.chain);
        let (file, header) =
            begin_segment(&mut self.disk, &mut self.spare, self.network, self.options, segment, start)?;
        self.active.seal()?;
        self.reader.publish().segments.push(readable(file.clone(), &header));
        self.active = file;
        self.segment = header;
        self.at = SEGMENT_DATA_AT;
        Ok(())
    }
}

fn readable<F>(file: F, header: &SegmentHeader) -> ReadableSegment<F> {
    ReadableSegment { file, segment: header.segment, generation: header.generation }
}

/// Creates the spare, or fills and syncs its next part.
fn prepare_step<D: Disk>(
    disk: &mut D,
    spare: &mut Option<Spare<D::File>>,
    options: LogOptions,
) -> Result<(), StorageError> {
    match spare {
        None => {
            let file = disk.create(SPARE_FILE)?;
            *spare = Some(Spare { file, filled: 0, length: options.segment_bytes });
        }
        Some(spare) if spare.filled < spare.length => {
            let len = to_usize(spare.length - spare.filled).min(PREPARE_BYTES);
            spare.file.write_at(spare.filled, &ZEROS[..len])?;
            spare.file.sync()?;
            spare.filled += len as u64;
        }
        Some(_) => {}
    }
    Ok(())
}

/// Turns the spare into a segment: its header is durable before it bears a segment's name, so a segment's file without
/// an intact header is damage. `start` is (first group, first record, chain).
fn begin_segment<D: Disk>(
    disk: &mut D,
    spare: &mut Option<Spare<D::File>>,
    network: NetworkId,
    options: LogOptions,
    segment: u64,
    (first_group, first_record, chain): (u64, LogSeq, Chain),
) -> Result<(D::File, SegmentHeader), StorageError> {
    let ready = loop {
        match spare.take() {
            Some(ready) if ready.filled == ready.length => break ready,
            other => {
                *spare = other;
                prepare_step(disk, spare, options)?;
            }
        }
    };
    let header = SegmentHeader {
        network,
        segment,
        generation: generation(options.seed, network, segment),
        first_group,
        first_record,
        length: ready.length,
        chain,
    };
    ready.file.write_at(0, &header.encode().repeat(2))?;
    ready.file.sync()?;
    let name = segment_name(segment);
    disk.rename(SPARE_FILE, &name)?;
    disk.sync_folder()?;
    Ok((disk.open(&name)?, header))
}

/// Makes what a survey found whole and durable.
fn repair<F: DiskFile>(found: &Survey<F>) -> Result<(), StorageError> {
    for segment in &found.segments {
        for at in &segment.bad_copies {
            segment.file.write_at(*at, &segment.header.encode())?;
        }
        if !segment.bad_copies.is_empty() {
            segment.file.sync()?;
        }
    }
    let Some(active) = found.segments.last() else { return Ok(()) };
    let mut dirty = false;
    if let Some(torn) = found.torn {
        let end = torn.at + page_align(to_usize(torn.len)) as u64;
        let mut at = torn.at;
        while at < end {
            let len = to_usize(end - at).min(PREPARE_BYTES);
            active.file.write_at(at, &ZEROS[..len])?;
            at += len as u64;
        }
        dirty = true;
    }
    // The last group may never have been synced, or its sync may have failed and left it in the page cache, clean, and
    // not on the disk. Written again it is either durable or an error.
    if let Some((index, last)) = found.last_group
        && index + 1 == found.segments.len()
        && found.watermark < Some(found.reached.last)
    {
        let mut group = vec![0; last.span()];
        active.file.read_at(last.at, &mut group)?;
        active.file.write_at(last.at, &group)?;
        dirty = true;
    }
    if dirty {
        active.file.sync()?;
    }
    Ok(())
}
