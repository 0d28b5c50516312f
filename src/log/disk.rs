//! What the log asks of a disk: a flat folder of files that are written at an offset, synced and read.
//!
//! Two disks implement it: the operating system's ([`crate::io::disk`]) and one in memory that can lose power and fail
//! calls ([`super::SimDisk`]). All calls block; all offsets and lengths are in bytes.

use bytes::Bytes;

use crate::error::StorageError;

/// A folder of files.
pub trait Disk: Send {
    /// An open file.
    type File: DiskFile;

    /// The name by which people find a file of this folder (its path).
    fn path(&self, name: &str) -> String;

    /// Names of all files, ascending.
    fn list(&self) -> Result<Vec<String>, StorageError>;

    /// Opens an existing file.
    fn open(&self, name: &str) -> Result<Self::File, StorageError>;

    /// Creates an empty file; one of that name must not exist. Durable after the file's sync and [`Disk::sync_folder`].
    fn create(&mut self, name: &str) -> Result<Self::File, StorageError>;

    /// Gives a file another name, replacing what had it. Durable after [`Disk::sync_folder`].
    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError>;

    /// Removes a file. Durable after [`Disk::sync_folder`].
    fn remove(&mut self, name: &str) -> Result<(), StorageError>;

    /// Makes names durable: creations, renames and removals.
    fn sync_folder(&mut self) -> Result<(), StorageError>;
}

/// An open file, shared between the one thread that writes and those that read.
pub trait DiskFile: Clone + Send + Sync + 'static {
    /// The name by which people find it.
    fn path(&self) -> String;

    /// Length in bytes.
    fn len(&self) -> Result<u64, StorageError>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.len()? == 0)
    }

    /// Copies the bytes from `at` on into all of `out`; an error if the file ends before.
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<(), StorageError>;

    /// Shares `len` bytes from `at` on, without a copy where the disk can. The file must have its final length and the
    /// range must not be written to while the bytes are held.
    fn view(&self, at: u64, len: usize) -> Result<Bytes, StorageError>;

    /// Says that `len` bytes from `at` on will be read soon, so that a disk may fetch them meanwhile. Waits for nothing and
    /// promises nothing.
    fn read_ahead(&self, _at: u64, _len: u64) {}

    /// Writes all of `bytes` at `at`, growing the file if need be. Durable after [`DiskFile::sync`].
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// As [`DiskFile::write_at`] of whole pages that begin at one in memory and on disk, which nobody will read soon: a disk need not
    /// keep them in its cache. It may be mixed with the others, on other pages.
    fn write_past_cache(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write_at(at, bytes)
    }

    /// Makes everything written so far durable, the length included. After an error nothing is known about what was
    /// written since the last success, and a later success says nothing about it either.
    fn sync(&self) -> Result<(), StorageError>;

    /// Writes all of `bytes`, whole pages that begin at one in memory and on disk, and makes them durable. Several threads may do so
    /// at a time, and an error is told to the one whose bytes it hit; nobody may use [`DiskFile::write_at`] and
    /// [`DiskFile::sync`] meanwhile.
    fn write_through(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Promises that nothing will be written through any handle of this file any more, so that a disk may close its
    /// descriptor. Reading goes on.
    fn seal(&self) -> Result<(), StorageError>;
}
