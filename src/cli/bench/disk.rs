//! What the disk does: the block log of a validator, written and synced in a folder.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::compute::bytes;
use super::sample::{Figure, go_on};
use crate::cli::CliError;
use crate::cli::load::percentile;
use crate::error::StorageError;
use crate::io::disk::FolderDisk;
use crate::log::{Log, LogOptions};
use crate::node::RecordKind;
use crate::types::NetworkId;

/// Bytes of the record of a small group, which with it makes one page: a block of a network with little to do.
const SMALL_RECORD: usize = 1_024;
/// Bytes that such a group has on the disk.
const SMALL_GROUP: usize = 4 << 10;
/// Bytes of a large group on the disk.
const LARGE_GROUP: usize = 1 << 20;
/// Bytes of its record: all but the headers of group and record, which share the last page.
const LARGE_RECORD: usize = LARGE_GROUP - 256;
/// Large groups in a segment, and in a sample. So each sample has its share of making the next segment ready.
const GROUPS_PER_SEGMENT: usize = 16;
/// Bytes of a segment: its two headers, and its groups.
const SEGMENT_BYTES: u64 = (8 << 10) + (GROUPS_PER_SEGMENT * LARGE_GROUP) as u64;

/// How much to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    /// Small groups, at most.
    pub(super) syncs: usize,
    /// Samples of large groups, at most.
    pub(super) samples: usize,
    /// Time after which no more are begun, for each of the two.
    pub(super) within: Duration,
}

/// What is durable, how soon.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Logged {
    /// The folder whose disk it is.
    pub(super) dir: String,
    /// What it lies on, where the system says so.
    pub(super) file_system: Option<FileSystem>,
    /// Small groups written.
    pub(super) syncs: usize,
    pub(super) sync_bytes: usize,
    pub(super) sync_ms_p50: f64,
    pub(super) sync_ms_p99: f64,
    pub(super) sync_ms_max: f64,
    pub(super) group_bytes: usize,
    /// Of large groups; what makes the next segment ready is part of the time.
    pub(super) bytes_per_s: Figure,
}

/// What a folder lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FileSystem {
    pub(super) kind: String,
    pub(super) device: String,
    pub(super) mounted_at: String,
}

impl FileSystem {
    /// That of a folder, whose path must be absolute and without links.
    fn of(folder: &Path) -> Option<Self> {
        Self::find(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, folder)
    }

    /// The innermost mount above a folder; of two at one place the later one hides the other.
    fn find(mounts: &str, folder: &Path) -> Option<Self> {
        let above = |mount: &Self| folder.starts_with(&mount.mounted_at);
        mounts.lines().filter_map(Self::parse).filter(above).max_by_key(|mount| mount.mounted_at.len())
    }

    /// A line of `/proc/PID/mountinfo`, see proc_pid_mountinfo(5): the mount point is its fifth field; type and device
    /// follow a lone hyphen.
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, device) = (unescape(system.next()?), unescape(system.next()?));
        Some(Self { kind, device, mounted_at: unescape(mount.split(' ').nth(4)?) })
    }

    /// Whether it keeps files in memory alone.
    pub(super) fn is_memory(&self) -> bool {
        ["tmpfs", "ramfs"].contains(&self.kind.as_str())
    }
}

/// Undoes what the kernel does to characters that would end a field.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

/// Writes a block log in `folder`, which is made and may be removed afterwards with the temporary folder that it is in.
pub(super) fn log(folder: &Path, writing: Writing, stop: &AtomicBool) -> Result<Logged, CliError> {
    let failed = |error: StorageError| {
        CliError::unable_hint(
            error.to_string(),
            "name a folder with --dir that can be written to, on a disk with 1 GiB to spare",
        )
    };
    let disk = FolderDisk::open_or_create(folder).map_err(failed)?;
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, seed: 0 };
    let (mut log, _) = Log::open(disk, NetworkId(*b"measured"), options).map_err(failed)?;
    // As another thread of a validator does: no small sync waits for this.
    while log.prepare().map_err(failed)? {
        go_on(stop)?;
    }
    let mut syncs = Vec::with_capacity(writing.syncs);
    let small = bytes(1, SMALL_RECORD);
    let begun = Instant::now();
    while syncs.len() < writing.syncs && (syncs.is_empty() || begun.elapsed() < writing.within) {
        go_on(stop)?;
        syncs.push(timed(&mut log, &small).map_err(failed)?);
    }
    syncs.sort_unstable();
    let large = bytes(2, LARGE_RECORD);
    let (mut rates, begun) = (Vec::with_capacity(writing.samples), Instant::now());
    while rates.len() < writing.samples && (rates.is_empty() || begun.elapsed() < writing.within) {
        let mut took = Duration::ZERO;
        for _ in 0..GROUPS_PER_SEGMENT {
            go_on(stop)?;
            took += timed(&mut log, &large).map_err(failed)?;
        }
        rates.push((GROUPS_PER_SEGMENT * LARGE_GROUP) as f64 / took.as_secs_f64());
    }
    log.close().map_err(failed)?;
    let folder = folder.canonicalize().unwrap_or_else(|_unresolved| folder.to_owned());
    let ms = |per_mille| 1_000.0 * percentile(&syncs, per_mille).as_secs_f64();
    Ok(Logged {
        dir: folder.ancestors().nth(2).unwrap_or(&folder).display().to_string(),
        file_system: FileSystem::of(&folder),
        syncs: syncs.len(),
        sync_bytes: SMALL_GROUP,
        sync_ms_p50: ms(500),
        sync_ms_p99: ms(990),
        sync_ms_max: ms(1_000),
        group_bytes: LARGE_GROUP,
        bytes_per_s: Figure::of(rates),
    })
}

/// Makes one record durable, and says how long that took.
fn timed(log: &mut Log<FolderDisk>, record: &[u8]) -> Result<Duration, StorageError> {
    let begun = Instant::now();
    log.append(RecordKind::Payload as u8, log.next_seq(), &[record])?;
    log.commit()?;
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_innermost_mount_above_a_folder_is_found() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      30 22 0:25 / /tmp rw - tmpfs tmpfs rw,size=8g\n\
                      31 22 254:16 / /srv/my\\040data rw shared:3 master:2 - xfs /dev/vdb rw\n\
                      nothing like a mount\n";
        let kind = |folder: &str| FileSystem::find(mounts, Path::new(folder)).unwrap().kind;
        assert_eq!(kind("/var/lib"), "ext4");
        assert_eq!(kind("/tmpfiles"), "ext4");
        assert_eq!(kind("/tmp/a"), "tmpfs");
        let data = FileSystem::find(mounts, Path::new("/srv/my data/salus")).unwrap();
        assert_eq!((data.kind.as_str(), data.device.as_str()), ("xfs", "/dev/vdb"));
        assert_eq!(data.mounted_at, "/srv/my data");
        assert!(!data.is_memory());
        assert_eq!(FileSystem::find("", Path::new("/")), None);
    }

    #[test]
    fn a_sample_is_a_segment_and_what_was_written_is_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("blocks");
        let writing = Writing { syncs: 3, samples: 2, within: Duration::from_secs(60) };
        let logged = log(&folder, writing, &AtomicBool::new(false)).unwrap();
        assert_eq!(logged.syncs, 3);
        assert!(logged.sync_ms_p50 > 0.0 && logged.sync_ms_p50 <= logged.sync_ms_p99);
        assert!(logged.bytes_per_s.low > 0.0);
        let report = crate::log::check(&FolderDisk::open_existing(&folder).unwrap(), None).unwrap();
        assert_eq!((report.groups, report.segments), (3 + 32, 3));
        let other = dir.path().join("other");
        assert!(log_is_stopped(&other, writing));
    }

    fn log_is_stopped(folder: &Path, writing: Writing) -> bool {
        log(folder, writing, &AtomicBool::new(true))
            .is_err_and(|error| error.to_string().contains("interrupted"))
    }
}
