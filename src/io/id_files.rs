//! The state's files of ids, in a folder of their own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::StorageError;
use crate::execute::Files;
use crate::io::files::{create_folder, sync_folder};

/// A folder of files that are kept open: there are few, and a transaction may be looked up in each. Clones are handles on the same.
#[derive(Debug, Clone)]
pub(super) struct IdFiles {
    folder: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Arc<File>>>>,
}

impl IdFiles {
    /// Opens a folder, and makes it if it is not there.
    pub(super) fn open(folder: PathBuf) -> Result<Self, StorageError> {
        create_folder(&folder)?;
        Ok(Self { folder, open: Arc::default() })
    }

    /// Does something with a file; `what` names it in errors.
    fn with<R>(
        &self,
        name: &str,
        what: &'static str,
        create: bool,
        work: impl FnOnce(&File) -> std::io::Result<R>,
    ) -> Result<R, StorageError> {
        let path = self.folder.join(name);
        let file = self.file(name, &path, create);
        file.and_then(|file| work(&file)).map_err(|error| failed(what, &path, error))
    }

    fn file(&self, name: &str, path: &Path, create: bool) -> std::io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        let file = Arc::new(file);
        open.insert(name.to_owned(), Arc::clone(&file));
        drop(open);
        Ok(file)
    }
}

fn failed(what: &'static str, path: &Path, error: std::io::Error) -> StorageError {
    if error.kind() == ErrorKind::StorageFull {
        return StorageError::Full { path: path.display().to_string() };
    }
    StorageError::io(what, path, error)
}

impl Files for IdFiles {
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with(name, "write", true, |file| {
            if at == 0 {
                file.set_len(0)?;
            }
            file.write_all_at(bytes, at)
        })
    }

    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        self.with(name, "read", false, |file| {
            let mut bytes = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut bytes[filled..], at + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        })
    }

    fn sync(&self, name: &str) -> Result<(), StorageError> {
        self.with(name, "sync", false, File::sync_data)?;
        sync_folder(&self.folder)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let path = self.folder.join(name);
        std::fs::remove_file(&path).map_err(|error| failed("remove", &path, error))
    }

    fn list(&self) -> Result<Vec<(String, u64)>, StorageError> {
        let list = || -> std::io::Result<Vec<(String, u64)>> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&self.folder)? {
                let entry = entry?;
                let length = entry.metadata()?.len();
                // What has no such name is nobody's.
                found.extend(entry.file_name().into_string().ok().map(|name| (name, length)));
            }
            found.sort();
            Ok(found)
        };
        list().map_err(|error| failed("list", &self.folder, error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_are_written_read_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = IdFiles::open(folder.path().join("ids")).unwrap();
        files.append("a", 0, b"left over").unwrap();
        files.append("a", 0, b"one").unwrap();
        files.append("a", 3, b"two").unwrap();
        files.append("b", 0, b"").unwrap();
        files.sync("a").unwrap();
        assert_eq!(files.read_at("a", 1, 4).unwrap(), b"netw");
        assert_eq!(files.read_at("a", 4, 9).unwrap(), b"wo");
        let again = IdFiles::open(folder.path().join("ids")).unwrap();
        assert_eq!(again.list().unwrap(), [("a".to_owned(), 6), ("b".to_owned(), 0)]);
        again.remove("b").unwrap();
        assert_eq!(again.list().unwrap().len(), 1);
        let error = again.read_at("c", 0, 1).unwrap_err().to_string();
        assert!(error.contains("ids/c"), "{error}");
    }
}
