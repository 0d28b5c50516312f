//! Which files there are below the paths that are given.

use std::collections::BTreeMap;
use std::fs::{FileType, Metadata};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use super::super::CliError;
use super::super::progress::Progress;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Found {
    /// A file, of so many bytes when it was found.
    File(u64),
    /// A symbolic link to this, which is not followed.
    Link(String),
}

/// Everything below the paths, by name. Links below them are not followed, paths that are given are.
pub(in crate::cli) fn walk(paths: &[PathBuf]) -> Result<BTreeMap<String, Found>, CliError> {
    let progress = Progress::new("looking for files: {pos}", None);
    let mut found = BTreeMap::new();
    let mut folders = Vec::new();
    for path in paths {
        let name = name_of(path)?;
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(&name, &error))?;
        if metadata.is_dir() {
            folders.push(name);
        } else {
            found.insert(name.clone(), file(&name, &metadata)?);
        }
    }
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let name = inside(&folder, utf8(Path::new(&entry.file_name()), &folder)?);
            let failed = |error| unreadable(&name, &error);
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(name);
                continue;
            }
            let what = if kind.is_symlink() {
                let target = std::fs::read_link(&name).map_err(failed)?;
                Found::Link(utf8(&target, &name)?.to_owned())
            } else {
                file(&name, &entry.metadata().map_err(failed)?)?
            };
            found.insert(name, what);
            progress.add(1);
        }
    }
    progress.finish();
    Ok(found)
}

fn file(name: &str, metadata: &Metadata) -> Result<Found, CliError> {
    if metadata.is_file() {
        Ok(Found::File(metadata.len()))
    } else {
        Err(special(name, metadata.file_type()))
    }
}

/// What is neither file nor folder nor link has no content of its own, and reading it may never end.
pub(super) fn special(name: &str, kind: FileType) -> CliError {
    let kind = if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "no file"
    };
    CliError::unable_hint(
        format!("{name} is {kind}"),
        "only files, folders and links can be hashed: leave it out or remove it",
    )
}

pub(super) fn unreadable(name: &str, error: &std::io::Error) -> CliError {
    CliError::unable(format!("cannot read {name}: {error}"))
}

/// A path as the manifest names it: without `.` and repeated or trailing slashes.
pub(super) fn name_of(path: &Path) -> Result<String, CliError> {
    let shortened: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    let name = utf8(&shortened, "the arguments")?;
    Ok(if name.is_empty() { "." } else { name }.to_owned())
}

fn inside(folder: &str, name: &str) -> String {
    match folder {
        "." => name.to_owned(),
        "/" => format!("/{name}"),
        _ => format!("{folder}/{name}"),
    }
}

/// JSON holds Unicode alone, and a name that is written differently would be another one.
fn utf8<'a>(name: &'a Path, at: &str) -> Result<&'a str, CliError> {
    name.to_str().ok_or_else(|| {
        CliError::unable_hint(
            format!("{at} has a name that is not UTF-8: {name:?}"),
            "a manifest cannot hold it: rename it first",
        )
    })
}
