//! The block log: numbered records that are durable, in order, and verified, before anybody hears of them.
//!
//! The node numbers its records 1, 2, 3, … and appends them; [`Log::commit`] writes everything appended since the last
//! one as a **group**, syncs it, and only then moves the **watermark** ([`Log::durable`]). Readers see nothing above it. When there
//! is more to write, [`Log::begin_write`] cuts a group off for another thread, and several are on their way to the disk at a
//! time ([`crate::io::log_lanes`]): so the disk does not wait for hashes, nor they for it. The file of the next segment is lent to a
//! thread that fills it ([`Log::lend_spare`]). A lone short group goes through the page
//! cache, where readers find it; all others go past it. The
//! log is written against [`Disk`], so the simulator's [`SimDisk`] and the operating system's
//! ([`crate::io::disk::FolderDisk`]) run the same code. What records mean is the node's business.
//!
//! # Files
//! | file | content |
//! |---|---|
//! | `0000000000.seg`, `0000000001.seg`, … | segments, of a fixed length each, numbered without a gap |
//! | `spare` | the next segment while it is filled with zeros; of no consequence after a crash |
//! | `watermark` | a record that was durable when it was last written |
//!
//! Integers are big-endian, checksums are CRC-32C (Castagnoli), digests are BLAKE3, reserved bytes are zero. A checksum
//! covers all bytes of its header before it. A value that does not encode back to the same bytes is not intact.
//!
//! **Segment.** Two copies of a header of one page (4,096 bytes), then groups from offset 8,192 on, then zeros.
//!
//! | offset | bytes | segment header |
//! |---|---|---|
//! | 0 | 8 | `SALUSLOG` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | reserved |
//! | 16 | 8 | network |
//! | 24 | 8 | number of the segment, from 0 |
//! | 32 | 8 | generation: drawn from a secret seed, marks everything written into this file |
//! | 40 | 8 | number of its first group |
//! | 48 | 8 | number of its first record |
//! | 56 | 8 | length of the file |
//! | 64 | 32 | digest of the group before its first |
//! | 96 | 3,996 | reserved |
//! | 4,092 | 4 | checksum |
//!
//! **Group.** Header, records, zeros up to a whole page: no page is written twice. At most 8 MiB.
//!
//! | offset | bytes | group header |
//! |---|---|---|
//! | 0 | 8 | `SALUSGRP` |
//! | 8 | 8 | generation of the segment |
//! | 16 | 8 | number of the segment |
//! | 24 | 8 | offset of the group in it |
//! | 32 | 8 | number of the group, from 1 |
//! | 40 | 8 | number of its first record |
//! | 48 | 8 | watermark when it was written |
//! | 56 | 4 | number of records |
//! | 60 | 4 | bytes of the records with their headers and padding |
//! | 64 | 32 | digest of the group before: BLAKE3 of bytes 0 to 127 of its header (of the first group: of `salus/log/v1`, a zero byte and the network) |
//! | 96 | 32 | digest of the records |
//! | 128 | 60 | reserved (for an erasure: a flag and the digest of what is left, outside of the chain) |
//! | 188 | 4 | checksum |
//!
//! **Record.** Header, body, zeros up to a multiple of 8. A body has at most 5 MiB.
//!
//! | offset | bytes | record header |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 3 | bytes of the body |
//! | 4 | 4 | checksum of: generation8, number of the segment8, offset of the record in it8, kind1, length3, number8, body |
//! | 8 | 8 | number |
//!
//! **Watermark.** Two slots of 64 bytes, at offsets 0 and 4,096, written in turn: `SALUSWMK`, version4, reserved4, network8,
//! number of the last durable record8, reserved, checksum4 at 60.
//!
//! # Why a crash loses nothing acknowledged
//! 1. A segment's file is filled with zeros and synced to its full length, gets its header, is synced again, and only then
//!    renamed from `spare`, and the folder synced. So each file with a segment's name has an intact header, and all behind its
//!    last group is zero.
//! 2. Groups are in flight from the moment they are cut off until they and all before them are known to be synced, each by a sync that
//!    began when it was written. All in flight together take at most 8 MiB, lie in one segment, and go to pages that are
//!    zero; a segment is begun when nothing is in flight. They may get to the disk in any order, so what an interrupted write
//!    leaves is: any part of them, at the end of the newest segment, within 8 MiB, with nothing but zeros behind it. None
//!    was acknowledged that stands behind one that is not durable.
//! 3. A group counts if its header is intact and of this place, continues numbers and chain, and its records match their
//!    digest. So it is there whole or not at all, and what is torn off are groups in flight: the first that does not hold, and what
//!    follows it.
//! 4. Recovery walks to the first group that does not count. The bytes there are a **torn tail** if nothing contradicts it,
//!    and **damage** ([`crate::error::StorageError::Damaged`], nothing is changed) if anything does:
//!    - a later segment exists;
//!    - an intact header stands there but does not continue the log: interrupted writes do not leave that;
//!    - an intact header of this segment follows whose watermark covers the record in question;
//!    - data follows farther behind than groups in flight can reach;
//!    - the `watermark` file covers the record in question.
//! 5. All that groups in flight can have reached is overwritten with zeros. The groups before it that neither the watermark of a later
//!    group nor the `watermark` file covers are written once more. Both are synced before the log opens, and before
//!    anybody is given the records of those groups. When a sync had failed and the process alone was restarted, such a group, or the
//!    zeros of an earlier recovery, read back from the page cache, are marked clean, and are not on the disk.
//! 6. After an error of a write or a sync nothing is known about the disk, so nothing is tried again: every later call fails
//!    ([`crate::error::StorageError::Halted`]) until the log is opened anew.
//!
//! What remains: if the *last* groups of the log, those that were in flight together at its end, are damaged later, by the disk, they
//! look like the torn tail of groups in flight, except for the `watermark` file. That file is written when a commit has been
//! told: at once while several groups are on their way, otherwise when nothing more is queued (the header of the next group says the
//! same); and synced after 50 ms of idleness and at an orderly end. A process that dies before leaves it behind by what it told last. So the
//! damage passes for a tail only if the process died, or power failed within the seconds that the system keeps the file's
//! page in memory, *and* a group is damaged whose sync had succeeded; and then exactly
//! the groups from that one on are cut off, 8 MiB at most, and one alone where groups were committed one after the
//! other. Damage of any other group is always refused, with or without the file.
//!
//! # Memory
//! Where records stand takes 16 bytes for each 64 KiB: 256 KiB for each GiB of log. Appended records take at most 8 MiB, and those in
//! flight 8 MiB more, in buffers that are kept for the next ones. Opening reads the log once, some 8 MiB of groups at a time, which all
//! cores verify, with 32 MiB fetched ahead.

mod append;
mod disk;
mod flight;
mod format;
mod group;
mod pages;
mod read;
mod segment;
mod sim_disk;
mod survey;
#[cfg(test)]
mod tests;
mod watermark;

pub use append::{Log, LogOptions, Recovered};
pub use disk::{Disk, DiskFile};
pub use flight::{GroupDurable, GroupWrite};
pub use format::{GROUP_BYTES_MAX, LOG_VERSION, PAGE_BYTES, RECORD_BYTES_MAX};
pub use read::{LogReader, Record};
pub use segment::Spare;
pub use sim_disk::{Fault, SimDisk, SimFile, Survives};
pub use survey::{CheckReport, KindTotal, check};
