//! `salus log check`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::CliError;
use super::progress::Progress;
use crate::error::StorageError;
use crate::io::files::LOCK_FILE;
use crate::log::{CheckReport, Disk, DiskFile, check};
use crate::node::RecordKind;

/// Folder of the block log in a data folder.
const BLOCKS: &str = "blocks";

const EXAMPLES: &str = "\
EXAMPLES
  Check a stopped validator's data, every record and every checksum:
      salus log check north/data

  Exit code 0: whole, with or without the torn tail of an interrupted write, which the next start removes.
  1: damaged. 2: it cannot be read, or the validator is running.";

/// Look at a validator's data folder.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// What to do with a data folder.
#[derive(Debug, Clone, Subcommand)]
pub enum LogCommand {
    /// Check every record and every checksum, changing nothing; exit code 1 if there is damage
    #[command(after_help = EXAMPLES)]
    Check {
        /// Data folder of a validator that does not run, or the folder `blocks` in it
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

pub(super) fn run(args: &LogArgs, out: &mut dyn Write) -> Result<(), CliError> {
    match &args.command {
        LogCommand::Check { dir } => check_folder(dir, out),
    }
}

fn check_folder(dir: &Path, out: &mut dyn Write) -> Result<(), CliError> {
    let unable = |error: &dyn std::fmt::Display| CliError::unable(error.to_string());
    let inner = dir.join(BLOCKS);
    let blocks = if inner.is_dir() { inner } else { dir.to_owned() };
    let _lock = lock(&blocks)?;
    let disk = ReadDisk::new(blocks.clone()).map_err(|error| unable(&error))?;
    let report = check(&disk, None);
    disk.progress.finish();
    match report {
        Ok(CheckReport { network: None, .. }) => Err(CliError::unable_hint(
            format!("{} holds no block log", blocks.display()),
            "give the folder that `data_dir` in the validator's node.toml says",
        )),
        Ok(report) => show(&blocks, &report, out),
        Err(error @ (StorageError::Damaged { .. } | StorageError::WrongNetwork { .. })) => {
            Err(CliError::DoesNotHold(error.to_string()))
        }
        Err(error) => Err(unable(&error)),
    }
}

/// Keeps a validator from starting on a data folder while it is read; refuses one that runs.
fn lock(blocks: &Path) -> Result<Option<File>, CliError> {
    let data = match blocks.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // A copy of the blocks alone has no lock file, and a folder may be one that cannot be written to.
    let Ok(file) = File::open(data.join(LOCK_FILE)) else { return Ok(None) };
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => Err(CliError::unable_hint(
            format!("{} is in use by a running validator", data.display()),
            "stop it first, or check a copy",
        )),
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(Some(file)),
    }
}

fn show(blocks: &Path, report: &CheckReport, out: &mut dyn Write) -> Result<(), CliError> {
    let CheckReport { network, segments, groups, last, .. } = report;
    let network = network.map(|id| id.to_string()).unwrap_or_default();
    writeln!(out, "{}: whole, of network {network}", blocks.display())?;
    writeln!(out, "  segments   {segments}")?;
    writeln!(out, "  groups     {groups}")?;
    writeln!(out, "  records    {last}")?;
    for (code, total) in &report.kinds {
        let name = match RecordKind::from_code(*code) {
            Some(RecordKind::Header) => "headers".to_owned(),
            Some(RecordKind::Payload) => "payloads".to_owned(),
            Some(RecordKind::Commit) => "commits".to_owned(),
            Some(RecordKind::Certificate) => "certificates".to_owned(),
            Some(RecordKind::Rejoin) => "marks of a lost log".to_owned(),
            None => format!("kind {code}"),
        };
        writeln!(out, "    {name:<9}{} with {} bytes", total.records, total.bytes)?;
    }
    match report.watermark {
        Some(durable) => writeln!(out, "  watermark  record {durable} is known to have been durable")?,
        None => writeln!(out, "  watermark  lost; the next start makes it anew")?,
    }
    if report.torn_tail_bytes > 0 {
        let bytes = report.torn_tail_bytes;
        writeln!(out, "  torn tail  {bytes} bytes of an interrupted write; the next start removes them")?;
    } else {
        writeln!(out, "  torn tail  none")?;
    }
    if report.bad_header_copies > 0 {
        let copies = report.bad_header_copies;
        writeln!(out, "  repair     {copies} segment headers have one bad copy; the next start mends them")?;
    }
    Ok(())
}

/// A folder that is only read: checking works on a read-only copy, and cannot change what it checks.
struct ReadDisk {
    folder: PathBuf,
    progress: Progress,
}

impl ReadDisk {
    fn new(folder: PathBuf) -> Result<Self, StorageError> {
        let total = || -> Result<u64, std::io::Error> {
            let mut total = 0;
            for entry in std::fs::read_dir(&folder)? {
                total += entry?.metadata()?.len();
            }
            Ok(total)
        };
        let total = total().map_err(|error| StorageError::io("cannot read", &folder, error))?;
        let progress = Progress::new("checking {bytes} of {total_bytes} {wide_bar} {eta}", Some(total));
        Ok(Self { folder, progress })
    }
}

fn read_only(path: &Path) -> StorageError {
    StorageError::io("cannot write", path, std::io::Error::other("it is only read here"))
}

impl Disk for ReadDisk {
    type File = ReadFile;

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let names = || -> Result<Vec<String>, std::io::Error> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&self.folder)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            names.sort();
            Ok(names)
        };
        names().map_err(|error| StorageError::io("cannot read", &self.folder, error))
    }

    fn open(&self, name: &str) -> Result<ReadFile, StorageError> {
        let path = self.folder.join(name);
        let file = File::open(&path).map_err(|error| StorageError::io("cannot open", &path, error))?;
        Ok(ReadFile { file: Arc::new(file), path, progress: self.progress.clone() })
    }

    fn create(&mut self, name: &str) -> Result<ReadFile, StorageError> {
        Err(read_only(&self.folder.join(name)))
    }

    fn rename(&mut self, _from: &str, to: &str) -> Result<(), StorageError> {
        Err(read_only(&self.folder.join(to)))
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        Err(read_only(&self.folder.join(name)))
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[derive(Clone)]
struct ReadFile {
    file: Arc<File>,
    path: PathBuf,
    progress: Progress,
}

impl DiskFile for ReadFile {
    fn path(&self) -> String {
        self.path.display().to_string()
    }

    fn len(&self) -> Result<u64, StorageError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|error| StorageError::io("cannot inspect", &self.path, error))?.len())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<(), StorageError> {
        self.progress.add(out.len() as u64);
        let read = self.file.read_exact_at(out, at);
        read.map_err(|error| StorageError::io("cannot read", &self.path, error))
    }

    fn view(&self, at: u64, len: usize) -> Result<Bytes, StorageError> {
        let mut bytes = vec![0; len];
        self.read_at(at, &mut bytes)?;
        Ok(bytes.into())
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> Result<(), StorageError> {
        Err(read_only(&self.path))
    }

    fn write_through(&self, _at: u64, _bytes: &[u8]) -> Result<(), StorageError> {
        Err(read_only(&self.path))
    }

    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn seal(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::io::disk::FolderDisk;
    use crate::io::files::DataLock;
    use crate::log::{Log, LogOptions};
    use crate::types::NetworkId;

    fn check_text(dir: &Path) -> Result<String, CliError> {
        let mut out = Vec::new();
        check_folder(dir, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// A data folder whose log has three groups.
    fn data() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let disk = FolderDisk::open_or_create(&dir.path().join(BLOCKS)).unwrap();
        let options = LogOptions { segment_bytes: 64 << 10, seed: 7 };
        let (mut log, _) = Log::open(disk, NetworkId(*b"network1"), options).unwrap();
        for group in 0..3 {
            for kind in [RecordKind::Header, RecordKind::Payload] {
                log.append(kind as u8, log.next_seq(), &[&vec![group; 100]]).unwrap();
            }
            log.commit().unwrap();
        }
        log.close().unwrap();
        dir
    }

    #[test]
    fn a_whole_log_is_counted_by_kind_and_left_as_it_is() {
        let dir = data();
        let files = || {
            let mut files: Vec<_> = std::fs::read_dir(dir.path().join(BLOCKS))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
                .collect();
            files.sort();
            files
        };
        let before = files();
        let text = check_text(dir.path()).unwrap();
        assert!(text.contains(&format!("blocks: whole, of network {}", NetworkId(*b"network1"))), "{text}");
        assert!(text.contains("  groups     3\n  records    6\n"), "{text}");
        assert!(text.contains("    headers  3 with 300 bytes\n    payloads 3 with 300 bytes\n"), "{text}");
        assert!(text.contains("  torn tail  none\n"), "{text}");
        assert_eq!(check_text(&dir.path().join(BLOCKS)).unwrap(), text);
        assert_eq!(files(), before);
    }

    #[test]
    fn damage_is_one_line_that_says_where_and_a_torn_tail_is_none() {
        let dir = data();
        let segment = dir.path().join(BLOCKS).join("0000000000.seg");
        let whole = std::fs::read(&segment).unwrap();
        let mut torn = whole.clone();
        // Behind the three groups of one page each.
        torn[8_192 + 3 * 4_096..][..100].fill(0xff);
        std::fs::write(&segment, &torn).unwrap();
        let text = check_text(dir.path()).unwrap();
        assert!(text.contains("  torn tail  100 bytes of an interrupted write"), "{text}");
        let mut bad = whole;
        bad[8_192 + 4_096 + 300] ^= 1;
        std::fs::write(&segment, &bad).unwrap();
        let error = check_text(dir.path()).unwrap_err();
        assert!(matches!(error, CliError::DoesNotHold(_)));
        let text = error.to_string();
        assert!(text.contains("0000000000.seg is damaged at byte 12288: "), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn what_is_no_log_or_in_use_cannot_be_checked() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            let error = check_text(path).unwrap_err();
            assert!(matches!(error, CliError::Unable { .. }));
            error.to_string()
        };
        assert!(refused(dir.path()).contains("holds no block log\n  give the folder that `data_dir`"));
        assert!(refused(&dir.path().join("nowhere")).contains("nowhere"));
        let dir = data();
        let lock = DataLock::acquire(dir.path()).unwrap();
        assert!(refused(dir.path()).contains("is in use by a running validator"));
        drop(lock);
        check_text(dir.path()).unwrap();
    }
}
