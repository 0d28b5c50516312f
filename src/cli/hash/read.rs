//! Hashes of files, on all cores.
//!
//! Files are read, not mapped: a mapped file that somebody makes shorter ends the process with SIGBUS, and reading into a buffer
//! that stays in the cache costs no more (`perf/hash.md`).

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use clap::ValueEnum;
use rayon::prelude::*;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::super::CliError;
use super::super::progress::Progress;
use super::walk::{special, unreadable};
use crate::proof::batch::FileHash;

/// Bytes that are read at a time. A power of two of at least 1,024, so that it is a subtree of BLAKE3; about what the cache
/// of a core holds.
pub(super) const PART_BYTES: usize = 1 << 20;
/// Files from this size on are shared out to all cores, one file after another; smaller ones are hashed side by side.
pub(super) const LARGE_BYTES: u64 = 16 * PART_BYTES as u64;

/// Which hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// A tree hash: a large file, too, is hashed on all cores
    Blake3,
    /// FIPS 180-4: one core to a file
    Sha256,
}

impl Algorithm {
    /// As manifests name it.
    pub(super) fn name(self) -> &'static str {
        FileHash::from(self).name()
    }
}

impl From<Algorithm> for FileHash {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Blake3 => Self::Blake3,
            Algorithm::Sha256 => Self::Sha256,
        }
    }
}

impl From<FileHash> for Algorithm {
    fn from(hash: FileHash) -> Self {
        match hash {
            FileHash::Blake3 => Self::Blake3,
            FileHash::Sha256 => Self::Sha256,
        }
    }
}

/// What was read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Hashed {
    pub(in crate::cli) bytes: u64,
    pub(in crate::cli) hash: [u8; 32],
}

/// Hashes files, given with the sizes that they are expected to have. The first failure ends it.
pub(super) fn hash_all(
    files: &[(&str, u64)],
    algorithm: Algorithm,
    progress: &Progress,
) -> Result<Vec<Hashed>, CliError> {
    let shared_out = |(_, bytes): &(&str, u64)| algorithm == Algorithm::Blake3 && *bytes >= LARGE_BYTES;
    let mut large = Vec::new();
    for (name, _) in files.iter().filter(|file| shared_out(file)) {
        large.push(Source::open(name)?.shared_out(progress)?);
    }
    let small = files
        .par_iter()
        .filter(|file| !shared_out(file))
        .map_init(Vec::new, |buffer, (name, _)| Source::open(name)?.in_order(algorithm, buffer, progress));
    let small: Vec<Hashed> = small.collect::<Result<_, CliError>>()?;
    let (mut large, mut small) = (large.into_iter(), small.into_iter());
    let in_order = files.iter().map(|file| if shared_out(file) { large.next() } else { small.next() });
    Ok(in_order.map(|hashed| hashed.unwrap_or_else(|| unreachable!("each file was hashed"))).collect())
}

/// Size and times of a file: a change of its content shows in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that is being hashed.
pub(super) struct Source<'a> {
    name: &'a str,
    file: File,
    before: Stamp,
}

impl<'a> Source<'a> {
    /// Opens a file and remembers what it is like.
    pub(super) fn open(name: &'a str) -> Result<Self, CliError> {
        // Should it have become a named pipe since it was found, opening it does not wait for somebody who writes.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_else(|_| unreachable!("a small flag"));
        let file = OpenOptions::new().read(true).custom_flags(flags).open(name);
        let file = file.map_err(|error| unreadable(name, &error))?;
        let before = stamp(name, &file)?;
        Ok(Self { name, file, before })
    }

    /// Hashes it from beginning to end.
    pub(super) fn in_order(
        self,
        algorithm: Algorithm,
        buffer: &mut Vec<u8>,
        progress: &Progress,
    ) -> Result<Hashed, CliError> {
        let hash = match algorithm {
            Algorithm::Blake3 => {
                let mut hasher = blake3::Hasher::new();
                self.each_part(buffer, progress, |part| {
                    hasher.update(part);
                })?;
                hasher.finalize().into()
            }
            Algorithm::Sha256 => {
                let mut hasher = Sha256::new();
                self.each_part(buffer, progress, |part| hasher.update(part))?;
                hasher.finalize().into()
            }
        };
        self.finish(hash)
    }

    /// Hashes its parts on all cores, by BLAKE3, and merges them as its tree asks.
    pub(super) fn shared_out(self, progress: &Progress) -> Result<Hashed, CliError> {
        let parts = self.before.bytes.div_ceil(PART_BYTES as u64);
        if parts < 2 {
            // It has become smaller since it was found.
            return self.in_order(Algorithm::Blake3, &mut Vec::new(), progress);
        }
        let subtrees = (0..parts).into_par_iter().map_init(Vec::new, |buffer, part| {
            let at = part * PART_BYTES as u64;
            let bytes = self.read_part(at, buffer)?;
            progress.add(bytes.len() as u64);
            let mut hasher = blake3::Hasher::new();
            Ok(hasher.set_input_offset(at).update(bytes).finalize_non_root())
        });
        let subtrees: Vec<ChainingValue> = subtrees.collect::<Result<_, CliError>>()?;
        let (left, right) = halves(&subtrees);
        let root = merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
        self.finish(root.into())
    }

    fn each_part(
        &self,
        buffer: &mut Vec<u8>,
        progress: &Progress,
        mut update: impl FnMut(&[u8]),
    ) -> Result<(), CliError> {
        let mut at = 0;
        while at < self.before.bytes {
            let part = self.read_part(at, buffer)?;
            update(part);
            at += part.len() as u64;
            progress.add(part.len() as u64);
        }
        Ok(())
    }

    /// Reads a part from a position on, or as far as the file goes. The buffer grows to what its files need.
    fn read_part<'b>(&self, at: u64, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], CliError> {
        let rest = usize::try_from(self.before.bytes - at).unwrap_or(usize::MAX);
        let wanted = rest.min(PART_BYTES);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let part = &mut buffer[..wanted];
        match self.file.read_exact_at(part, at) {
            Ok(()) => Ok(part),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(changed(self.name)),
            Err(error) => Err(unreadable(self.name, &error)),
        }
    }

    /// The hash holds if the file is still what it was.
    fn finish(self, hash: [u8; 32]) -> Result<Hashed, CliError> {
        if stamp(self.name, &self.file)? != self.before {
            return Err(changed(self.name));
        }
        Ok(Hashed { bytes: self.before.bytes, hash })
    }
}

fn stamp(name: &str, file: &File) -> Result<Stamp, CliError> {
    let metadata = file.metadata().map_err(|error| unreadable(name, &error))?;
    if !metadata.is_file() {
        return Err(special(name, metadata.file_type()));
    }
    Ok(Stamp {
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn changed(name: &str) -> CliError {
    CliError::unable_hint(
        format!("{name} changed while it was read"),
        "hash it when nobody writes to it, or hash a snapshot",
    )
}

/// Where BLAKE3's tree parts subtrees: the left side is the largest power of two that leaves something for the right.
fn halves(subtrees: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    subtrees.split_at(subtrees.len().next_power_of_two() / 2)
}

fn merged(subtrees: &[ChainingValue]) -> ChainingValue {
    if let [subtree] = subtrees {
        return *subtree;
    }
    let (left, right) = halves(subtrees);
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}
