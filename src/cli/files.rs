//! Reading and writing whole files, with errors that name them.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use super::CliError;

/// Reads a file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, CliError> {
    let unable =
        |error: &std::io::Error| CliError::unable(format!("cannot read {}: {error}", path.display()));
    let file = fs::File::open(path).map_err(|error| unable(&error))?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| unable(&error))?;
    if bytes.len() > limit {
        return Err(CliError::unable(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: usize) -> Result<String, CliError> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| CliError::unable(format!("{} is not UTF-8: {error}", path.display())))
}

/// Writes a new file, durably; an existing one only if `replace`.
pub(super) fn write_new(path: &Path, bytes: &[u8], replace: bool) -> Result<(), CliError> {
    let unable = |error: &std::io::Error| {
        if error.kind() == ErrorKind::AlreadyExists {
            CliError::unable_hint(
                format!("{} exists already", path.display()),
                "choose another name, or replace it with --force",
            )
        } else {
            CliError::unable(format!("cannot write {}: {error}", path.display()))
        }
    };
    let mut options = fs::OpenOptions::new();
    options.write(true);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(|error| unable(&error))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| unable(&error))
}
