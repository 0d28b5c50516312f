//! Reads a log from its first byte to its last and says what is there: what holds, where it ends, and whether what is
//! behind the end is the torn tail of an interrupted write or damage. Changes nothing.

use std::collections::{BTreeMap, VecDeque};

use super::disk::{Disk, DiskFile};
use super::format::{
    GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, LOG_VERSION, PAGE_BYTES, SEGMENT_DATA_AT,
    SegmentHeader, Unreadable, WATERMARK_BYTES, Watermark, chain_start, to_usize,
};
use super::group::{Fault, Reached, Verified, hand_over, read_stretch};
use super::read::{Place, Places, Record};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

/// Name of the file of the watermark.
pub(super) const WATERMARK_FILE: &str = "watermark";
/// Name of the segment that is being filled with zeros ahead of use.
pub(super) const SPARE_FILE: &str = "spare";
const SEGMENT_SUFFIX: &str = ".seg";
const READ_BYTES: usize = 1 << 20;
/// How far the disk is told ahead what will be read, and in what steps: enough to keep it busy, little to hold in memory.
const AHEAD_BYTES: u64 = 32 << 20;
const AHEAD_STEP_BYTES: u64 = 4 << 20;
pub(super) static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// Name of a segment's file.
pub(super) fn segment_name(segment: u64) -> String {
    format!("{segment:010}{SEGMENT_SUFFIX}")
}

/// A [`StorageError::Damaged`] that says what to do.
pub(super) fn damaged(path: String, at: u64, why: &str) -> StorageError {
    let why = format!(
        "{why}; restore the data folder from a backup, or delete it and start again: the node then fetches everything \
         from its peers"
    );
    StorageError::Damaged { path, at, why }
}

/// A segment that holds.
#[derive(Debug)]
pub(super) struct SurveyedSegment<F> {
    pub(super) file: F,
    pub(super) header: SegmentHeader,
    /// Where its last group ends.
    pub(super) end: u64,
    /// Copies of the header that do not hold.
    pub(super) bad_copies: Vec<u64>,
}

/// Records and bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindTotal {
    /// Number of records.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// What an interrupted write left behind the last group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TornTail {
    pub(super) at: u64,
    /// Bytes up to and with the last one that is not zero.
    pub(super) len: u64,
}

/// Everything that a pass over the log finds.
#[derive(Debug)]
pub(super) struct Survey<F> {
    pub(super) network: Option<NetworkId>,
    pub(super) segments: Vec<SurveyedSegment<F>>,
    pub(super) places: Places,
    pub(super) reached: Reached,
    pub(super) kinds: BTreeMap<u8, KindTotal>,
    /// Groups at the end of the newest segment of which nobody says that they were durable: no later group, and not the file of
    /// the watermark. They were perhaps in flight.
    pub(super) unsure: VecDeque<GroupHeader>,
    /// The last record that a group or the file of the watermark says was durable.
    sure: LogSeq,
    pub(super) torn: Option<TornTail>,
    /// The highest watermark that the file holds, if it holds one.
    pub(super) watermark: Option<LogSeq>,
    /// Slot of the watermark file to write next.
    pub(super) watermark_slot: u64,
}

/// Takes the records of a log, in order.
pub(super) type Each<'a> = dyn FnMut(Record) -> Result<(), StorageError> + 'a;

/// A segment that is read or will be next, and how far the disk was told of it.
struct Ahead<F> {
    file: F,
    length: u64,
    told: u64,
}

impl<F: DiskFile> Ahead<F> {
    fn open<D: Disk<File = F>>(disk: &D, segment: u64) -> Result<Self, StorageError> {
        let file = disk.open(&segment_name(segment))?;
        let length = file.len()?;
        Ok(Self { file, length, told: 0 })
    }

    /// Tells the disk that everything up to `end` is read soon.
    fn tell(&mut self, end: u64) {
        let end = end.min(self.length);
        if end >= self.told + AHEAD_STEP_BYTES || (end == self.length && end > self.told) {
            self.file.read_ahead(self.told, end - self.told);
            self.told = end;
        }
    }
}

/// Surveys the log in a folder, and gives all records but those of the groups in [`Survey::unsure`] to `each`: those have to be
/// written once more, which must not happen while somebody holds their bytes.
///
/// # Errors
/// Damage, another network's or a newer version's log, an error of the disk, or what `each` returns.
pub(super) fn survey<D: Disk>(
    disk: &D,
    network: Option<NetworkId>,
    mut each: Option<&mut Each<'_>>,
) -> Result<Survey<D::File>, StorageError> {
    let names = disk.list()?;
    let segments = segment_numbers(disk, &names)?;
    let mut survey = Survey {
        network,
        segments: Vec::new(),
        places: Places::default(),
        reached: Reached { groups: 0, last: LogSeq(0), chain: network.map(chain_start).unwrap_or_default() },
        kinds: BTreeMap::new(),
        unsure: VecDeque::new(),
        sure: LogSeq(0),
        torn: None,
        watermark: None,
        watermark_slot: 0,
    };
    if names.iter().any(|name| name == WATERMARK_FILE) {
        survey.read_watermark(disk)?;
        survey.sure = survey.watermark.unwrap_or_default();
    }
    let mut ahead = None;
    for segment in 0..segments {
        let now = ahead.take().map_or_else(|| Ahead::open(disk, segment), Ok)?;
        ahead = (segment + 1 < segments).then(|| Ahead::open(disk, segment + 1)).transpose()?;
        survey.read_segment(now, ahead.as_mut(), segment, each.as_deref_mut())?;
    }
    if survey.segments.is_empty()
        && let Some(durable) = survey.watermark.filter(|durable| durable.0 > 0)
    {
        let why = format!("records up to {durable} were durable, but there is no segment");
        return Err(damaged(disk.path(&segment_name(0)), 0, &why));
    }
    Ok(survey)
}

/// Number of segments, which must be numbered from 0 without a gap.
fn segment_numbers<D: Disk>(disk: &D, names: &[String]) -> Result<u64, StorageError> {
    let numbers = names.iter().filter_map(|name| {
        let number = name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
        (segment_name(number) == *name).then_some(number)
    });
    let mut expected = 0;
    for number in numbers {
        if number != expected {
            return Err(damaged(disk.path(&segment_name(expected)), 0, "the segment is missing"));
        }
        expected += 1;
    }
    Ok(expected)
}

impl<F: DiskFile> Survey<F> {
    fn check_network(&mut self, path: &dyn Fn() -> String, found: NetworkId) -> Result<(), StorageError> {
        let expected = *self.network.get_or_insert_with(|| {
            self.reached.chain = chain_start(found);
            found
        });
        if found == expected {
            Ok(())
        } else {
            Err(StorageError::WrongNetwork { path: path(), found, expected })
        }
    }

    fn read_watermark<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), StorageError> {
        let file = disk.open(WATERMARK_FILE)?;
        let len = file.len()?;
        for slot in 0..2 {
            let at = slot * PAGE_BYTES as u64;
            if at + WATERMARK_BYTES as u64 > len {
                continue;
            }
            let mut bytes = [0; WATERMARK_BYTES];
            file.read_at(at, &mut bytes)?;
            match Watermark::decode(&bytes) {
                Ok(mark) => {
                    self.check_network(&|| file.path(), mark.network)?;
                    if self.watermark.is_none_or(|best| mark.durable >= best) {
                        self.watermark = Some(mark.durable);
                        self.watermark_slot = 1 - slot;
                    }
                }
                Err(Unreadable::Newer(found)) => return Err(newer(file.path(), found)),
                // A slot that was being written when power failed: the other one holds.
                Err(Unreadable::Bad) => {}
            }
        }
        Ok(())
    }

    /// Reads a segment; `ahead` is the one after it, if there is one.
    fn read_segment(
        &mut self,
        mut now: Ahead<F>,
        mut ahead: Option<&mut Ahead<F>>,
        segment: u64,
        mut each: Option<&mut Each<'_>>,
    ) -> Result<(), StorageError> {
        let (file, length, newest) = (now.file.clone(), now.length, ahead.is_none());
        let path = || file.path();
        let (header, bad_copies) = read_header(&file, length)?;
        self.check_network(&path, header.network)?;
        let wrong = |why: String| Err(damaged(path(), 0, &why));
        if header.segment != segment {
            return wrong(format!("it is segment {} under another's name", header.segment));
        }
        if header.length != length || !length.is_multiple_of(PAGE_BYTES as u64) {
            return wrong(format!("it has {length} bytes, its header says {}", header.length));
        }
        if (header.first_group, header.first_record.0) != (self.reached.groups + 1, self.reached.last.0 + 1)
            || header.chain != self.reached.chain
        {
            return self.missing_before(&header, &file);
        }
        let index = self.segments.len();
        let mut at = SEGMENT_DATA_AT;
        let fault = loop {
            now.tell(at + AHEAD_BYTES);
            if let Some(ahead) = ahead.as_deref_mut() {
                ahead.tell((at + AHEAD_BYTES).saturating_sub(length));
            }
            let (groups, fault) = read_stretch(&file, &header, at, self.reached)?;
            for group in groups {
                at += group.header.span() as u64;
                self.take(&file, index, group, each.as_deref_mut())?;
            }
            if let Some(fault) = fault {
                break fault;
            }
        };
        self.judge_end(&file, &header, at, &fault, newest)?;
        if !newest {
            // A segment is begun when all of the one before is durable.
            self.sure = self.reached.last;
            self.settle(&file, each)?;
        }
        if !newest && bad_copies.is_empty() {
            // Nothing is left to write; a log has more segments than a process may have descriptors.
            file.seal()?;
        }
        self.segments.push(SurveyedSegment { file, header, end: at, bad_copies });
        Ok(())
    }

    /// The segment before ends earlier than this one says.
    fn missing_before(&self, header: &SegmentHeader, file: &F) -> Result<(), StorageError> {
        let (path, at) =
            self.segments.last().map_or_else(|| (file.path(), 0), |before| (before.file.path(), before.end));
        let why = format!(
            "record {} should follow; segment {} begins with record {} of a chain that does not continue it",
            self.reached.last.0 + 1,
            header.segment,
            header.first_record
        );
        Err(damaged(path, at, &why))
    }

    /// Takes in a group that holds.
    fn take(
        &mut self,
        file: &F,
        index: usize,
        group: Verified,
        each: Option<&mut Each<'_>>,
    ) -> Result<(), StorageError> {
        group.places.iter().for_each(|(seq, at)| self.places.add(place(*seq, index, *at)));
        for (kind, more) in &group.kinds {
            let total = self.kinds.entry(*kind).or_default();
            total.records += more.records;
            total.bytes += more.bytes;
        }
        self.reached = self.reached.after(&group.header);
        self.sure = self.sure.max(group.header.durable);
        self.unsure.push_back(group.header);
        self.settle(file, each)
    }

    /// Hands over the groups that were durable for sure.
    fn settle(&mut self, file: &F, mut each: Option<&mut Each<'_>>) -> Result<(), StorageError> {
        while let Some(group) = self.unsure.pop_front_if(|group| group.last() <= self.sure) {
            if let Some(each) = each.as_deref_mut() {
                hand_over(file, &group, each)?;
            }
        }
        Ok(())
    }

    /// Decides what the bytes behind the last group of a segment are.
    fn judge_end(
        &mut self,
        file: &F,
        segment: &SegmentHeader,
        at: u64,
        fault: &Fault,
        newest: bool,
    ) -> Result<(), StorageError> {
        let refuse = |why: &str| Err(damaged(file.path(), at, why));
        let end = end_of_data(file, at, segment.length)?;
        if matches!(fault, Fault::Contradiction(_)) {
            return refuse(&fault.text());
        }
        if newest && let Some(durable) = self.watermark.filter(|durable| *durable > self.reached.last) {
            let (fault, last) = (fault.text(), self.reached.last);
            return refuse(&format!(
                "{fault}, records up to {durable} were durable and {last} is the last that holds"
            ));
        }
        if end == at {
            return Ok(());
        }
        if !newest {
            return refuse(&format!("{}, and a later segment was begun", fault.text()));
        }
        if let Some(later) = self.later_group(file, segment, at, end)? {
            return refuse(&format!(
                "{}, and a group at byte {later}, written when it was durable, follows",
                fault.text()
            ));
        }
        // All groups in flight together are no longer than one may be.
        if end - at > GROUP_BYTES_MAX as u64 {
            let why =
                format!("{}, and data follows at byte {} where none was written", fault.text(), end - 1);
            return refuse(&why);
        }
        self.torn = Some(TornTail { at, len: end - at });
        Ok(())
    }

    /// The first group behind `at` that was written when the record expected at `at` was durable already.
    fn later_group(
        &self,
        file: &F,
        segment: &SegmentHeader,
        at: u64,
        end: u64,
    ) -> Result<Option<u64>, StorageError> {
        let mut header = [0; GROUP_HEADER_BYTES];
        let mut page = at + PAGE_BYTES as u64;
        while page < end {
            file.read_at(page, &mut header)?;
            let later = GroupHeader::decode(&header)
                .is_some_and(|group| group.belongs(segment, page) && group.durable > self.reached.last);
            if later {
                return Ok(Some(page));
            }
            page += PAGE_BYTES as u64;
        }
        Ok(None)
    }
}

/// An index entry. Segments are below 4 GiB and fewer than 2³².
pub(super) fn place(seq: LogSeq, segment: usize, at: u64) -> Place {
    let narrow = |value: u64| {
        u32::try_from(value).unwrap_or_else(|_| panic!("segment number or offset {value} exceeds 32 bits"))
    };
    Place { seq, segment: narrow(segment as u64), at: narrow(at) }
}

fn newer(path: String, found: u32) -> StorageError {
    StorageError::NewerVersion { path, found, known: LOG_VERSION }
}

/// The header of a segment from whichever copy holds, and where the copies are that do not.
fn read_header<F: DiskFile>(file: &F, length: u64) -> Result<(SegmentHeader, Vec<u64>), StorageError> {
    let mut header = None;
    let mut bad = Vec::new();
    for at in [0, PAGE_BYTES as u64] {
        let mut page = [0; PAGE_BYTES];
        if at + PAGE_BYTES as u64 <= length {
            file.read_at(at, &mut page)?;
        }
        match SegmentHeader::decode(&page) {
            Ok(copy) if header.is_some_and(|first| first != copy) => {
                return Err(damaged(file.path(), at, "the two copies of the segment header differ"));
            }
            Ok(copy) => header = Some(copy),
            Err(Unreadable::Newer(found)) => return Err(newer(file.path(), found)),
            Err(Unreadable::Bad) => bad.push(at),
        }
    }
    header
        .map(|header| (header, bad))
        .ok_or_else(|| damaged(file.path(), 0, "neither copy of the segment header is intact"))
}

/// One past the last byte in `from..length` that is not zero; `from` if all are.
fn end_of_data<F: DiskFile>(file: &F, from: u64, length: u64) -> Result<u64, StorageError> {
    let mut end = length;
    while end > from {
        let len = to_usize(end - from).min(READ_BYTES);
        let start = end - len as u64;
        let chunk = file.view(start, len)?;
        let mut page_end = len;
        for page in chunk.rchunks(PAGE_BYTES) {
            if *page != ZERO_PAGE[..page.len()] {
                let zeros = page.iter().rev().take_while(|b| **b == 0).count();
                return Ok(start + (page_end - zeros) as u64);
            }
            page_end -= page.len();
        }
        end = start;
    }
    Ok(from)
}

/// What `salus log check` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Network of the log; `None` if there is none in the folder.
    pub network: Option<NetworkId>,
    /// Number of segments.
    pub segments: usize,
    /// Number of groups.
    pub groups: u64,
    /// Last record.
    pub last: LogSeq,
    /// Records and bytes of each kind.
    pub kinds: BTreeMap<u8, KindTotal>,
    /// Bytes that an interrupted write left behind the last group; opening the log removes them.
    pub torn_tail_bytes: u64,
    /// Copies of segment headers that do not hold while the other does; opening the log repairs them.
    pub bad_header_copies: usize,
    /// Last record that the watermark file knows to have been durable; `None` if the file is lost.
    pub watermark: Option<LogSeq>,
}

/// Verifies a log without changing anything: every checksum, digest and link. `network` of `None` takes the log's own.
///
/// # Errors
/// As [`super::Log::open`].
pub fn check<D: Disk>(disk: &D, network: Option<NetworkId>) -> Result<CheckReport, StorageError> {
    let survey = survey(disk, network, None)?;
    Ok(CheckReport {
        network: survey.network.filter(|_| !survey.segments.is_empty()),
        segments: survey.segments.len(),
        groups: survey.reached.groups,
        last: survey.reached.last,
        torn_tail_bytes: survey.torn.map_or(0, |torn| torn.len),
        bad_header_copies: survey.segments.iter().map(|segment| segment.bad_copies.len()).sum(),
        watermark: survey.watermark,
        kinds: survey.kinds,
    })
}
