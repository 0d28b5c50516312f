//! Files as a validator needs them: written whole or not at all, and one process to a data folder.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::StorageError;

/// Name of the lock file of a data folder.
pub const LOCK_FILE: &str = "LOCK";

/// Makes the names in a folder durable.
///
/// # Errors
/// Those of the operating system.
pub fn sync_folder(path: &Path) -> Result<(), StorageError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(|e| StorageError::io("sync folder", path, e))
}

/// Creates a folder and those above it, durably; does nothing if it is there.
///
/// # Errors
/// Those of the operating system.
pub fn create_folder(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        Some(_) | None => Path::new("."),
    };
    create_folder(above)?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(StorageError::io("create folder", path, e)),
        Ok(()) | Err(_) => sync_folder(above),
    }
}

/// Replaces the content of a file so that after a crash either the old or the new content is there, whole. `mode` are the
/// permission bits, such as `0o600`.
///
/// # Errors
/// Those of the operating system. A leftover `.NAME.tmp` beside the file is of no consequence.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StorageError> {
    let failed = |e| StorageError::io("write", path, e);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(std::io::Error::new(ErrorKind::InvalidInput, "not the path of a file")));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = folder.join(temporary);
    let write = || {
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(failed)?;
    sync_folder(folder)
}

/// Holds a data folder for this process; let go when dropped, or when the process dies.
#[derive(Debug)]
pub struct DataLock {
    path: PathBuf,
    file: File,
}

impl DataLock {
    /// Locks a data folder, which is created if need be.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process (or another part of this one) has it.
    pub fn acquire(folder: &Path) -> Result<Self, StorageError> {
        create_folder(folder)?;
        let path = folder.join(LOCK_FILE);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|e| StorageError::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(StorageError::Locked { path: path.display().to_string() })
            }
            Err(std::fs::TryLockError::Error(e)) => Err(StorageError::io("lock", &path, e)),
        }
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Closing the file lets go too; a failure here changes nothing.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_folder_is_locked_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/data");
        let lock = DataLock::acquire(&data).unwrap();
        let error = DataLock::acquire(&data).unwrap_err();
        assert!(matches!(&error, StorageError::Locked { path } if path.ends_with("a/data/LOCK")), "{error}");
        drop(lock);
        DataLock::acquire(&data).unwrap();
    }

    #[test]
    fn atomic_write_replaces_content_and_sets_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(dir.path().join(".key.tmp"), b"left over").unwrap();
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_atomically(&dir.path().join("no/such"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
    }
}
