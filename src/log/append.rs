//! The writer: takes records, commits groups, prepares segments, and brings a log back after a crash.

use super::disk::{Disk, DiskFile};
use super::flight::{ChainEnd, Flight, GroupDurable, GroupWrite, Pending};
use super::format::{
    GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, PAGE_BYTES, RECORD_BYTES_MAX, RECORD_HEADER_BYTES,
    RecordHeader, SEGMENT_DATA_AT, SegmentHeader, chain_start, page_align, record_span, to_usize,
};
use super::group::hand_over;
use super::read::{LogReader, RECORDS_PER_PLACE, ReadableSegment, Record, Shared};
use super::segment::{Spare, begin_segment, create_spare, prepare_step, repair};
use super::survey::{Each, SPARE_FILE, place, survey};
use super::watermark::{WatermarkFile, open_watermark};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

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
    chain: ChainEnd,
    /// The last record of the last group that was cut off.
    cut: LogSeq,
    durable: LogSeq,
    pending: Pending,
    flight: Flight,
    /// Buffers of groups that are durable.
    free: Vec<Pending>,
    spare: Option<Spare<D::File>>,
    /// The spare is filled by somebody else.
    is_spare_lent: bool,
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
            if let (Some(each), Some(newest)) = (each, found.segments.last()) {
                found.unsure.iter().try_for_each(|group| hand_over(&newest.file, group, each))?;
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
            chain: ChainEnd::new(found.reached.chain),
            cut: found.reached.last,
            durable: found.reached.last,
            pending: Pending::new(options.group_bytes()),
            flight: Flight::default(),
            free: Vec::new(),
            spare,
            is_spare_lent: false,
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
        LogSeq(self.cut.0 + self.pending.records.len() as u64 + 1)
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

    /// Whether a record of `len` bytes fits into the group that is being filled.
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        page_align(self.pending.bytes.len() + record_span(len)) <= self.options.group_bytes()
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
        if !self.fits(len) {
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
        pending.bytes.resize(start + record_span(len));
        pending.records.push(start);
        Ok(())
    }

    /// Writes and syncs what was appended; returns the last durable record.
    ///
    /// # Errors
    /// Any error of the disk is final: what it holds is unknown, nothing more is acknowledged, and every later call
    /// returns [`StorageError::Halted`]. Opening the log again finds out.
    ///
    /// # Panics
    /// If groups are in flight that [`Log::begin_write`] gave out, or if it needs a segment whose file is lent ([`Log::needs_spare`]).
    pub fn commit(&mut self) -> Result<LogSeq, StorageError> {
        self.guarded(|log| {
            assert!(log.flight.is_empty(), "groups are in flight");
            assert!(!log.needs_spare(), "the file of the next segment is lent");
            let Some(write) = log.cut_group()? else { return Ok(()) };
            let durable = write.run_alone()?;
            log.land(durable)
        })?;
        Ok(self.durable)
    }

    /// Cuts off what was appended, as a group for the caller to write, side by side with those that he has already; `None`
    /// if there is nothing, or if groups in flight have to be durable first, or if [`Log::needs_spare`].
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn begin_write(&mut self) -> Result<Option<GroupWrite<D::File>>, StorageError> {
        self.guarded(Self::cut_group)
    }

    /// Takes the result of a write, in whatever order they come, and returns the last record up to which all are durable.
    ///
    /// # Errors
    /// As [`Log::commit`], and that of the write.
    pub fn end_write(&mut self, result: Result<GroupDurable, StorageError>) -> Result<LogSeq, StorageError> {
        self.guarded(|log| log.land(result?))?;
        Ok(self.durable)
    }

    /// Groups that were cut off and are not known to be durable, or follow such a one.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flight.len()
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
        self.spare.as_ref().is_some_and(Spare::is_ready)
    }

    /// Fills the next MiB of the segment ahead with zeros; returns whether there is more to do. For those that have no other thread
    /// for it ([`Log::lend_spare`]); what was not prepared is prepared when the segment is needed.
    ///
    /// # Errors
    /// As [`Log::commit`].
    ///
    /// # Panics
    /// If it is lent.
    pub fn prepare(&mut self) -> Result<bool, StorageError> {
        self.guarded(|log| {
            assert!(!log.is_spare_lent, "the file of the next segment is lent");
            prepare_step(&mut log.disk, &mut log.spare, log.options)?;
            Ok(!log.is_prepared())
        })
    }

    /// The segment ahead, for the caller to fill on another thread and to give to [`Log::return_spare`]; `None` if it is
    /// prepared, or lent already.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn lend_spare(&mut self) -> Result<Option<Spare<D::File>>, StorageError> {
        self.guarded(|log| {
            if log.is_spare_lent || log.is_prepared() {
                return Ok(None);
            }
            let spare = match log.spare.take() {
                Some(spare) => spare,
                None => create_spare(&mut log.disk, log.options)?,
            };
            log.is_spare_lent = true;
            Ok(Some(spare))
        })
    }

    /// Takes the segment ahead back, however far it was filled.
    ///
    /// # Errors
    /// As [`Log::commit`], and that of the filling.
    pub fn return_spare(&mut self, result: Result<Spare<D::File>, StorageError>) -> Result<(), StorageError> {
        self.guarded(|log| {
            log.is_spare_lent = false;
            log.spare = Some(result?);
            Ok(())
        })
    }

    /// Whether what was appended goes into a new segment whose file is lent: that must be returned before a commit.
    #[must_use]
    pub fn needs_spare(&self) -> bool {
        let is_some = !self.pending.records.is_empty();
        is_some && self.is_spare_lent && self.is_full(page_align(self.pending.bytes.len()))
    }

    /// Whether a group of so many bytes does not fit into the active segment.
    fn is_full(&self, bytes: usize) -> bool {
        self.at + bytes as u64 > self.segment.length
    }

    /// Writes, without a sync, how far the log is durable. To be called when everybody has been told: nobody needs to wait for this, and
    /// without it the log is as durable, but says less of what is damaged later ([`crate::log`]).
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn write_watermark(&mut self) -> Result<(), StorageError> {
        self.guarded(|log| log.watermark.write(log.network, log.durable))
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

    /// As [`Log::begin_write`].
    fn cut_group(&mut self) -> Result<Option<GroupWrite<D::File>>, StorageError> {
        if self.pending.records.is_empty() {
            return Ok(None);
        }
        let bytes = page_align(self.pending.bytes.len());
        let is_full = self.is_full(bytes);
        if !self.flight.has_room(bytes) || (is_full && (self.is_spare_lent || !self.flight.is_empty())) {
            return Ok(None);
        }
        if is_full {
            self.roll()?;
        }
        let narrow =
            |len: usize| u32::try_from(len).unwrap_or_else(|_| unreachable!("groups are below 8 MiB"));
        let header = GroupHeader {
            generation: self.segment.generation,
            segment: self.segment.segment,
            at: self.at,
            group: self.groups + 1,
            first_record: LogSeq(self.cut.0 + 1),
            durable: self.durable,
            count: narrow(self.pending.records.len()),
            length: narrow(self.pending.bytes.len() - GROUP_HEADER_BYTES),
            previous: [0; 32],
            records: [0; 32],
        };
        let segment = to_usize(header.segment);
        let places = self.pending.records.iter().enumerate().step_by(RECORDS_PER_PLACE).map(|(n, start)| {
            place(LogSeq(header.first_record.0 + n as u64), segment, header.at + *start as u64)
        });
        self.flight.add(header.last(), bytes, places.collect());
        self.cut = header.last();
        self.at += bytes as u64;
        self.groups = header.group;
        let next = self.free.pop().unwrap_or_else(|| Pending::new(self.options.group_bytes()));
        let pending = std::mem::replace(&mut self.pending, next);
        let write = GroupWrite::new(self.active.clone(), header, pending, self.chain.clone());
        self.chain = write.chain_end();
        Ok(Some(write))
    }

    /// A group is durable: it and what follows it become visible, if all before it are durable too.
    fn land(&mut self, mut group: GroupDurable) -> Result<(), StorageError> {
        let landed = self.flight.land(&group);
        group.pending.clear();
        self.free.push(group.pending);
        let Some((last, places)) = landed else { return Ok(()) };
        self.durable = last;
        let mut shared = self.reader.publish();
        places.into_iter().for_each(|place| shared.places.add(place));
        shared.durable = last;
        drop(shared);
        Ok(())
    }

    /// Goes on in a new segment. All of the one before is durable: where a later segment stands, no tail is torn.
    fn roll(&mut self) -> Result<(), StorageError> {
        let segment = self.segment.segment + 1;
        let Some(chain) = self.chain.get() else { unreachable!("nothing is in flight") };
        let start = (self.groups + 1, LogSeq(self.cut.0 + 1), chain);
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
