//! The operating system's disk under the block log: `pwrite` and `fdatasync` to write, read-only maps to read.
//!
//! Appends do not go through a map: a store into a map of a full disk is a SIGBUS, and dirtying a map writes whole large
//! folios back. Reads do: a hot record costs a tenth of a `pread`, and its bytes are shared without a copy. A page that the
//! device cannot read kills the process (SIGBUS), which for a validator is the right end: it halts and is repaired.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use memmap2::{Advice, Mmap};
use rustix::fs::OFlags;

use super::files::{create_folder, sync_folder};
use super::read_ahead::ReadAhead;
use crate::error::StorageError;
use crate::log::{Disk, DiskFile};

/// A folder of the file system, which must be locked for this process ([`super::files::DataLock`]).
#[derive(Debug)]
pub struct FolderDisk {
    folder: PathBuf,
    read_ahead: Arc<ReadAhead>,
}

impl FolderDisk {
    /// Opens a folder, which is created if need be.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open_or_create(folder: &Path) -> Result<Self, StorageError> {
        create_folder(folder)?;
        Ok(Self { folder: folder.to_path_buf(), read_ahead: Arc::default() })
    }

    /// Opens a folder that must exist.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open_existing(folder: &Path) -> Result<Self, StorageError> {
        std::fs::read_dir(folder).map_err(|e| StorageError::io("open folder", folder, e))?;
        Ok(Self { folder: folder.to_path_buf(), read_ahead: Arc::default() })
    }

    fn open_file(
        &self,
        name: &str,
        what: &'static str,
        options: &OpenOptions,
    ) -> Result<FolderFile, StorageError> {
        let path = self.folder.join(name);
        let file = options.open(&path).map_err(|e| StorageError::io(what, &path, e))?;
        let read_ahead = Arc::clone(&self.read_ahead);
        let file = RwLock::new(Some(Opened { file, direct: OnceLock::new() }));
        let (map, one_at_a_time) = Default::default();
        let inner = Inner { path, file, map, one_at_a_time, read_ahead };
        Ok(FolderFile { inner: Arc::new(inner) })
    }
}

impl Disk for FolderDisk {
    type File = FolderFile;

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let read = || {
            let mut names = BTreeMap::new();
            for entry in std::fs::read_dir(&self.folder)? {
                let entry = entry?;
                // The log's own names are ASCII; what is not is not the log's.
                if entry.file_type()?.is_file()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.insert(name, ());
                }
            }
            Ok(names.into_keys().collect())
        };
        read().map_err(|e| StorageError::io("list", &self.folder, e))
    }

    fn open(&self, name: &str) -> Result<FolderFile, StorageError> {
        self.open_file(name, "open", OpenOptions::new().read(true).write(true))
    }

    fn create(&mut self, name: &str) -> Result<FolderFile, StorageError> {
        let mut options = OpenOptions::new();
        self.open_file(name, "create", options.read(true).write(true).create_new(true).mode(0o600))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        let (from, to) = (self.folder.join(from), self.folder.join(to));
        std::fs::rename(&from, &to).map_err(|e| StorageError::io("rename to", &to, e))
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        std::fs::remove_file(&path).map_err(|e| StorageError::io("remove", &path, e))
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        sync_folder(&self.folder)
    }
}

/// An open file of a [`FolderDisk`].
#[derive(Debug, Clone)]
pub struct FolderFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    /// The same, for writes past the page cache; `None` inside if the file system has no such.
    direct: OnceLock<Option<File>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Closed when the file is sealed: maps do without, and a log has thousands of segments.
    file: RwLock<Option<Opened>>,
    map: OnceLock<Mmap>,
    one_at_a_time: Mutex<()>,
    read_ahead: Arc<ReadAhead>,
}

impl FolderFile {
    fn error(&self, what: &'static str, source: Error) -> StorageError {
        StorageError::io(what, &self.inner.path, source)
    }

    fn with<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&File) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.with_opened(what, |opened| run(&opened.file))
    }

    fn with_opened<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Opened) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        let opened = self.inner.file.read().unwrap_or_else(PoisonError::into_inner);
        let result = opened.as_ref().map_or_else(|| Err(Error::other("the file is sealed")), run);
        drop(opened);
        result.map_err(|e| self.error(what, e))
    }

    /// Reads a range into memory and maps it, as far as the system lets it. An error shows when the bytes are viewed.
    pub(super) fn populate(&self, at: u64, len: u64) {
        if let (Ok(map), Ok(at), Ok(len)) = (self.map(), usize::try_from(at), usize::try_from(len)) {
            let _ = map.advise_range(Advice::PopulateRead, at, len);
        }
    }

    fn map(&self) -> Result<&Mmap, StorageError> {
        if let Some(map) = self.inner.map.get() {
            return Ok(map);
        }
        let map = self.with("map", |file| {
            // SAFETY: a map must not shrink under its readers, and bytes that a slice covers must not change. The data
            // folder is locked for this process; nothing in it truncates a segment; and slices are made by `Inner::slice`
            // alone, over ranges that their caller vouches for (`DiskFile::view`): the log views nothing above its
            // watermark while it writes, and never writes below it.
            unsafe { Mmap::map(file) }
        })?;
        // Another thread may have been faster; its map is as good.
        Ok(self.inner.map.get_or_init(|| map))
    }
}

impl Inner {
    /// Runs what writes past the page cache; false if the file system has no such writes, or not of this alignment.
    fn directly(&self, opened: &Opened, run: impl FnOnce(&File) -> Result<(), Error>) -> Result<bool, Error> {
        let open = || {
            let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
            OpenOptions::new().write(true).custom_flags(flags).open(&self.path).ok()
        };
        match opened.direct.get_or_init(open).as_ref().map(run) {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) if error.kind() != ErrorKind::InvalidInput => Err(error),
            Some(Err(_)) | None => Ok(false),
        }
    }

    /// The bytes of a range of the map that was checked to lie in it.
    fn slice(&self, at: usize, len: usize) -> &[u8] {
        let Some(map) = self.map.get() else { unreachable!("a view is made of a map") };
        assert!(at.checked_add(len).is_some_and(|end| end <= map.len()), "a view outside its map");
        // SAFETY: the range lies in the map (asserted), which lives as long as `self`; nothing writes to the range while it
        // is viewed (see `FolderFile::map`). A slice of the range alone, and not of the whole map by its `Deref`, since
        // other parts of the file do change under it.
        unsafe { std::slice::from_raw_parts(map.as_ptr().add(at), len) }
    }
}

/// Keeps a map alive for the bytes that are shared out of it.
struct View {
    inner: Arc<Inner>,
    at: usize,
    len: usize,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.inner.slice(self.at, self.len)
    }
}

/// Start of a range of `len` bytes at `at` in a map, if it lies in it.
fn start_in(map: &Mmap, at: u64, len: usize) -> Option<usize> {
    let start = usize::try_from(at).ok()?;
    start.checked_add(len).filter(|end| *end <= map.len())?;
    Some(start)
}

impl DiskFile for FolderFile {
    fn path(&self) -> String {
        self.inner.path.display().to_string()
    }

    fn len(&self) -> Result<u64, StorageError> {
        match self.inner.map.get() {
            Some(map) => Ok(map.len() as u64),
            None => self.with("length of", |file| file.metadata().map(|m| m.len())),
        }
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<(), StorageError> {
        let Some(map) = self.inner.map.get() else {
            return self.with("read", |file| file.read_exact_at(out, at));
        };
        let Some(start) = start_in(map, at, out.len()) else {
            return Err(self.error("read", Error::from(ErrorKind::UnexpectedEof)));
        };
        out.copy_from_slice(self.inner.slice(start, out.len()));
        Ok(())
    }

    fn view(&self, at: u64, len: usize) -> Result<Bytes, StorageError> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let Some(start) = start_in(self.map()?, at, len) else {
            return Err(self.error("read", Error::from(ErrorKind::UnexpectedEof)));
        };
        Ok(Bytes::from_owner(View { inner: Arc::clone(&self.inner), at: start, len }))
    }

    fn read_ahead(&self, at: u64, len: u64) {
        self.inner.read_ahead.ask(self.clone(), at, len);
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with("write", |file| file.write_all_at(bytes, at))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.with("sync", File::sync_data)
    }

    fn write_past_cache(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with_opened("write", |opened| {
            let direct = self.inner.directly(opened, |direct| direct.write_all_at(bytes, at))?;
            if direct { Ok(()) } else { opened.file.write_all_at(bytes, at) }
        })
    }

    fn write_through(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with_opened("write", |opened| {
            // An error of the write is the answer to it, and each sync flushes the disk's own cache by itself.
            let write = |direct: &File| direct.write_all_at(bytes, at).and_then(|()| direct.sync_data());
            if self.inner.directly(opened, write)? {
                return Ok(());
            }
            // The system tells an error of the page cache to one sync alone: it must be that of whose bytes it hit.
            let one = self.inner.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            let result = opened.file.write_all_at(bytes, at).and_then(|()| opened.file.sync_data());
            drop(one);
            result
        })
    }

    fn seal(&self) -> Result<(), StorageError> {
        self.map()?;
        *self.inner.file.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
