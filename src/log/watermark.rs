//! The file that remembers what was durable, so that damage to the last group is told from a torn tail.

use super::disk::{Disk, DiskFile};
use super::format::{PAGE_BYTES, Watermark};
use super::survey::{Survey, WATERMARK_FILE, damaged};
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

/// The file of the watermark.
#[derive(Debug)]
pub(super) struct WatermarkFile<F> {
    file: F,
    slot: u64,
    written: Option<LogSeq>,
    synced: Option<LogSeq>,
}

/// Opens or creates the file, and makes it say what was found to be durable.
pub(super) fn open_watermark<D: Disk>(
    disk: &mut D,
    network: NetworkId,
    found: &Survey<D::File>,
) -> Result<WatermarkFile<D::File>, StorageError> {
    let exists = disk.list()?.iter().any(|name| name == WATERMARK_FILE);
    let file = if exists { disk.open(WATERMARK_FILE)? } else { disk.create(WATERMARK_FILE)? };
    if found.watermark > Some(found.reached.last) {
        return Err(damaged(file.path(), 0, "the watermark is above the last record"));
    }
    if file.len()? < 2 * PAGE_BYTES as u64 {
        file.write_at(0, &[0; 2 * PAGE_BYTES])?;
    }
    let mut watermark =
        WatermarkFile { file, slot: found.watermark_slot, written: found.watermark, synced: found.watermark };
    watermark.write(network, found.reached.last)?;
    watermark.sync(network)?;
    disk.sync_folder()?;
    Ok(watermark)
}

impl<F: DiskFile> WatermarkFile<F> {
    /// Writes, without a sync, that records up to `durable` are durable, into the slot that holds the older value.
    pub(super) fn write(&mut self, network: NetworkId, durable: LogSeq) -> Result<(), StorageError> {
        if Some(durable) == self.written {
            return Ok(());
        }
        let slot = Watermark { network, durable }.encode();
        self.file.write_at(self.slot * PAGE_BYTES as u64, &slot)?;
        self.slot = 1 - self.slot;
        self.written = Some(durable);
        Ok(())
    }

    /// Makes the value durable in one slot and then in the other, so that the loss of either loses nothing.
    pub(super) fn sync(&mut self, network: NetworkId) -> Result<(), StorageError> {
        self.file.sync()?;
        if let Some(durable) = self.written.take() {
            self.write(network, durable)?;
            self.file.sync()?;
        }
        self.synced = self.written;
        Ok(())
    }

    /// The last record that it says is durable, on the disk.
    pub(super) fn synced(&self) -> Option<LogSeq> {
        self.synced
    }
}
