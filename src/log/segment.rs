//! Segments are filled with zeros ahead of use, begun, and mended after a crash.

use super::append::LogOptions;
use super::disk::{Disk, DiskFile};
use super::format::{Chain, GROUP_BYTES_MAX, SegmentHeader, generation, to_usize};
use super::survey::{SPARE_FILE, Survey, segment_name};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

/// Bytes that one [`super::Log::prepare`] fills.
pub const PREPARE_BYTES: usize = 1 << 20;
static ZEROS: Zeros = Zeros([0; PREPARE_BYTES]);

/// Zeros at an address that direct writes accept.
#[repr(align(4096))]
struct Zeros([u8; PREPARE_BYTES]);

/// The segment that is being filled with zeros ahead of use.
#[derive(Debug)]
pub(super) struct Spare<F> {
    file: F,
    filled: u64,
    length: u64,
}

impl<F> Spare<F> {
    /// Whether all of it is filled.
    pub(super) fn is_ready(&self) -> bool {
        self.filled == self.length
    }
}

/// Creates the spare, or fills and syncs its next part.
pub(super) fn prepare_step<D: Disk>(
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
            // Past the page cache: nobody reads zeros, and pages for them cost more than the write.
            spare.file.write_through(spare.filled, &ZEROS.0[..len])?;
            spare.filled += len as u64;
        }
        Some(_) => {}
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
