//! `salus hash`.

mod read;
mod walk;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::progress::Progress;
use super::{CliError, files};
use crate::proof::merkle::root_of_data;
use crate::types::NodeHash;
pub use read::Algorithm;
pub(super) use read::Hashed;
use read::hash_all;
pub(super) use walk::walk;
use walk::{Found, name_of};

/// Name and version of the manifest's format.
pub(super) const MANIFEST_FORMAT: &str = "salus-manifest/1";

const EXAMPLES: &str = "\
EXAMPLES
  Hash an export, on all cores, and keep the manifest beside it:
      salus hash export -o export.json
  Several folders and files, by SHA-256, to look at:
      salus hash --algorithm sha256 images/2026 report.pdf
  Has anything changed since?
      salus hash export | diff export.json -

  Names are those of the command line: give relative paths for a manifest that others can repeat.
  Symbolic links below a folder are not followed, but listed with their target. Empty folders are
  not listed. Pipes, sockets, devices, names that are not UTF-8 and files that change while they
  are read are refused: a manifest is of everything, or there is none.

  Exit code 0: done. 2: something cannot be read or written, or changed; such a file is named.";

/// Hash files and folders into a manifest.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct HashArgs {
    /// Files and folders
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Hash function
    #[arg(long, value_enum, default_value_t = Algorithm::Blake3)]
    pub algorithm: Algorithm,
    /// File to write the manifest to; without it, it goes to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
}

pub(super) fn run(args: &HashArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let found = walk(&args.paths)?;
    if let Some(output) = &args.output
        && found.contains_key(&name_of(output)?)
    {
        return Err(CliError::unable_hint(
            format!("{} would be in the manifest that it holds", output.display()),
            "write it to another folder",
        ));
    }
    let manifest = Manifest::make(&found, args.algorithm)?;
    let text = manifest.text();
    let Some(output) = &args.output else { return Ok(out.write_all(text.as_bytes())?) };
    files::write_new(output, text.as_bytes(), args.force)?;
    let Manifest { bytes, root, .. } = &manifest;
    let files = found.values().filter(|what| matches!(what, Found::File(_))).count();
    writeln!(out, "hashed {} files, {}", HumanCount(files as u64), HumanBytes(*bytes))?;
    writeln!(out, "  manifest  {}", output.display())?;
    writeln!(out, "  root      {root}")?;
    Ok(())
}

/// What a manifest says of one path. Fields in the order of RFC 8785.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    path: &'a str,
}

/// All that was found, hashed.
pub(super) struct Manifest {
    algorithm: Algorithm,
    /// Of all files.
    pub(super) bytes: u64,
    /// In the order of their paths' bytes.
    pub(super) files: Vec<(String, Hashed)>,
    /// In the order of their paths' bytes, each in RFC 8785 form.
    entries: Vec<Vec<u8>>,
    /// Of the RFC 9162 tree whose leaves are the entries.
    pub(super) root: NodeHash,
}

impl Manifest {
    pub(super) fn make(found: &BTreeMap<String, Found>, algorithm: Algorithm) -> Result<Self, CliError> {
        let files: Vec<(&str, u64)> = found
            .iter()
            .filter_map(|(name, what)| match what {
                Found::File(bytes) => Some((name.as_str(), *bytes)),
                Found::Link(_) => None,
            })
            .collect();
        let total = files.iter().map(|(_, bytes)| bytes).sum();
        let template = "hashing {bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}";
        let progress = Progress::new(template, Some(total));
        let hashed = hash_all(&files, algorithm, &progress);
        progress.finish();
        let mut bytes = 0;
        let mut hashed = hashed?.into_iter();
        let mut entries = Vec::with_capacity(found.len());
        let mut read_files = Vec::with_capacity(files.len());
        for (path, what) in found {
            let entry = match what {
                Found::Link(target) => Entry { bytes: None, hash: None, link: Some(target), path },
                Found::File(_) => {
                    let one @ Hashed { bytes: read, hash } =
                        hashed.next().unwrap_or_else(|| unreachable!("each file was hashed"));
                    bytes += read;
                    read_files.push((path.clone(), one));
                    Entry { bytes: Some(read), hash: Some(hex::encode(hash)), link: None, path }
                }
            };
            let entry = serde_json_canonicalizer::to_vec(&entry);
            entries.push(entry.map_err(|error| CliError::unable(format!("{path}: {error}")))?);
        }
        let root = root_of_data(&entries);
        Ok(Self { algorithm, bytes, files: read_files, entries, root })
    }

    /// RFC 8785 but for the line breaks: an entry to a line.
    pub(super) fn text(&self) -> String {
        let entries: Vec<_> = self.entries.iter().map(|entry| String::from_utf8_lossy(entry)).collect();
        format!(
            "{{\"algorithm\":\"{}\",\"entries\":[\n{}\n],\"format\":\"{MANIFEST_FORMAT}\",\"root\":\"{}\"}}\n",
            self.algorithm.name(),
            entries.join(",\n"),
            self.root,
        )
    }
}

/// Hashes one file, or what a link to one leads to.
pub(super) fn hash_file(path: &std::path::Path, algorithm: Algorithm) -> Result<Hashed, CliError> {
    let not_a_file = || CliError::unable(format!("{} is not a file", path.display()));
    if path.is_dir() {
        return Err(not_a_file());
    }
    let found = walk(&[path.to_owned()])?;
    let hashed = Manifest::make(&found, algorithm)?.files.pop();
    hashed.map(|(_, hashed)| hashed).ok_or_else(not_a_file)
}

#[cfg(test)]
mod tests;
