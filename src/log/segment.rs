//! Segments are filled with zeros ahead of use, begun, and mended after a crash.

use super::append::LogOptions;
use super::disk::{Disk, DiskFile};
use super::format::{Chain, GROUP_BYTES_MAX, SegmentHeader, generation, to_usize};
use super::survey::{SPARE_FILE, Survey, segment_name};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

/// Bytes that are filled at a time.
const PREPARE_BYTES: usize = 1 << 20;
/// Zeros are synced each time that so many are written: one sync of a whole segment would hold up those of groups, and one for each MiB
/// takes longer than its write.
const SYNC_BYTES: u64 = 8 << 20;
static ZEROS: Zeros = Zeros([0; PREPARE_BYTES]);

/// Zeros at an address that direct writes accept.
#[repr(align(4096))]
struct Zeros([u8; PREPARE_BYTES]);

/// The segment ahead, while it is filled with zeros: by the log, or by whoever it is lent to
/// ([`super::Log::lend_spare`]), on any thread.
#[derive(Debug)]
pub struct Spare<F> {
    file: F,
    filled: u64,
    length: u64,
}

impl<F: DiskFile> Spare<F> {
    /// Whether all of it is filled.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.filled == self.length
    }

    /// The name by which people find its file.
    #[must_use]
    pub fn path(&self) -> String {
        self.file.path()
    }

    /// Fills the next MiB. When all is filled, all of it is durable.
    ///
    /// # Errors
    /// That of the disk. It is final.
    pub fn fill(&mut self) -> Result<(), StorageError> {
        let len = to_usize(self.length - self.filled).min(PREPARE_BYTES);
        if len > 0 {
            // Past the page cache: nobody reads zeros, and pages for them cost more than the write.
            self.file.write_past_cache(self.filled, &ZEROS.0[..len])?;
            let filled = self.filled + len as u64;
            if filled == self.length || filled.is_multiple_of(SYNC_BYTES) {
                self.file.sync()?;
            }
            self.filled = filled;
        }
        Ok(())
    }
}

/// Creates the file of the segment ahead, empty.
pub(super) fn create_spare<D: Disk>(
    disk: &mut D,
    options: LogOptions,
) -> Result<Spare<D::File>, StorageError> {
    Ok(Spare { file: disk.create(SPARE_FILE)?, filled: 0, length: options.segment_bytes })
}

/// Creates the spare, or fills and syncs its next part.
pub(super) fn prepare_step<D: Disk>(
    disk: &mut D,
    spare: &mut Option<Spare<D::File>>,
    options: LogOptions,
) -> Result<(), StorageError> {
    match spare {
        None => *spare = Some(create_spare(disk, options)?),
        Some(spare) => spare.fill()?,
    }
    Ok(())
}

/// Turns the spare into a segment: its header is durable before it bears a segment's name, so a segment's file without
/// an intact header is damage. `start` is (first group, first record, chain).
pub(super) fn begin_segment<D: Disk>(
    disk: &mut D,
    spare: &mut Option<Spare<D::File>>,
    network: NetworkId,
    options: LogOptions,
    segment: u64,
    (first_group, first_record, chain): (u64, LogSeq, Chain),
) -> Result<(D::File, SegmentHeader), StorageError> {
    let ready = loop {
        match spare.take() {
            Some(ready) if ready.is_ready() => break ready,
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
pub(super) fn repair<F: DiskFile>(found: &Survey<F>) -> Result<(), StorageError> {
    for segment in &found.segments {
        for at in &segment.bad_copies {
            segment.file.write_at(*at, &segment.header.encode())?;
        }
        if !segment.bad_copies.is_empty() {
            segment.file.sync()?;
        }
    }
    let Some(active) = found.segments.last() else { return Ok(()) };
    // As far as groups in flight can have reached, even if it reads as zeros: the sync of an earlier repair may have failed and
    // left zeros in the page cache alone, and groups that were cut off must not come back behind new ones.
    let end = active.header.length.min(active.end + GROUP_BYTES_MAX as u64);
    let mut at = active.end;
    while at < end {
        let len = to_usize(end - at).min(PREPARE_BYTES);
        active.file.write_at(at, &ZEROS.0[..len])?;
        at += len as u64;
    }
    // These may never have been synced, or their sync may have failed and left them in the page cache, clean, and not on the
    // disk. Written again they are either durable or an error.
    for last in &found.unsure {
        let mut group = vec![0; last.span()];
        active.file.read_at(last.at, &mut group)?;
        active.file.write_at(last.at, &group)?;
    }
    active.file.sync()
}
