//! The folder with manifest and proofs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::super::CliError;
use super::super::hash::Manifest;
use super::super::progress::Progress;
use super::Anchored;
use super::batches::Clerk;
use crate::gateway::vault::{BatchMember, FileName};
use crate::genesis::Genesis;
use crate::io::files::write_atomically;
use crate::proof::batch::BatchTree;
use crate::proof::bundle::{Member, Opening, ProofBundle, Shown, Verified};
use crate::types::{Body, LeafIndex, OrgId, TxId};

/// Name and version of the format of `proofs.json`.
pub(in crate::cli) const PROOFS_FORMAT: &str = "salus-proofs/1";
const PROOFS_FILE: &str = "proofs.json";
const MANIFEST_FILE: &str = "manifest.json";
/// A proof opens a commitment: it is its owner's alone until they give it away.
const MODE: u32 = 0o600;

/// See the module's text.
pub(super) struct Folder {
    path: PathBuf,
}

/// A line of `proofs.json`. Fields in the order of RFC 8785.
#[derive(Serialize)]
struct Line<'a> {
    hash: String,
    index: u32,
    leaf: LeafIndex,
    path: &'a str,
    proof: String,
    transaction: String,
}

/// A batch whose proof was fetched and holds.
struct Proved {
    leaf: LeafIndex,
    id: TxId,
    bundle: ProofBundle,
    body: Body,
    members: Vec<BatchMember>,
    tree: BatchTree,
}

/// A file of this run, and where its batch and its place there are.
struct Place<'a> {
    file: &'a Anchored,
    root: [u8; 32],
    index: u32,
}

impl Folder {
    /// A folder that does not exist yet, is empty, or was written by this command before: nothing else is overwritten.
    pub(super) fn at(path: PathBuf) -> Result<Self, CliError> {
        let unable = |error: &std::io::Error| {
            CliError::unable(format!("cannot use {} for proofs: {error}", path.display()))
        };
        match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unable(&error)),
            Ok(mut entries) => {
                if entries.next().is_some() && !is_list(&path.join(PROOFS_FILE)) {
                    return Err(CliError::unable_hint(
                        format!("{} holds files that are no proofs", path.display()),
                        "choose another folder with --out DIR",
                    ));
                }
            }
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fetches the proof of each batch that is final, and writes that of each file in it; returns how many. What is there
    /// from an earlier run is replaced: proofs are the same but for their checkpoint.
    pub(super) fn write(
        &self,
        clerk: &Clerk<'_>,
        genesis: &Genesis,
        files: &[Anchored],
        manifest: &Manifest,
    ) -> Result<u64, CliError> {
        let places = places(clerk, genesis, files);
        let mut proved: BTreeMap<[u8; 32], Proved> = BTreeMap::new();
        for place in &places {
            if proved.contains_key(&place.root) {
                continue;
            }
            if let Some(one) = prove(clerk, genesis, &place.root)? {
                proved.insert(place.root, one);
            }
        }
        if proved.is_empty() {
            return Ok(0);
        }
        let done: Vec<(&Place<'_>, &Proved)> =
            places.iter().filter_map(|place| Some((place, proved.get(&place.root)?))).collect();
        let unable = |error: &dyn std::fmt::Display| {
            CliError::unable(format!("cannot write {}: {error}", self.path.display()))
        };
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.path).map_err(|error| unable(&error))?;
        // The list first: it is what a later run knows the folder by.
        let list = list(genesis, &done).map_err(|error| unable(&error))?;
        for (name, text) in [(PROOFS_FILE, list), (MANIFEST_FILE, manifest.text())] {
            write_atomically(&self.path.join(name), text.as_bytes(), MODE).map_err(|error| unable(&error))?;
        }
        let progress = Progress::new("writing proofs {wide_bar} {pos} of {len}", Some(done.len() as u64));
        let written = done.par_iter().try_for_each(|(place, proved)| {
            self.write_one(place, proved)?;
            progress.add(1);
            Ok(())
        });
        progress.finish();
        written.map(|()| done.len() as u64)
    }

    /// Not synced: what is lost is written again by the same command.
    fn write_one(&self, place: &Place<'_>, proved: &Proved) -> Result<(), CliError> {
        let path = self.path.join(name(proved.leaf, place.index));
        let bundle = proved.open(place.index);
        let refuse = |error: &dyn std::fmt::Display| {
            CliError::DoesNotHold(format!("the proof of {} does not hold: {error}", place.file.path))
        };
        bundle.verify_opening(&proved.body).map_err(|error| refuse(&error))?;
        let bytes = bundle.encode().map_err(|error| refuse(&error))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(MODE).open(&path);
        file.and_then(|mut file| file.write_all(&bytes))
            .map_err(|error| CliError::unable(format!("cannot write {}: {error}", path.display())))
    }
}

impl Proved {
    /// The proof of one member.
    fn open(&self, index: u32) -> ProofBundle {
        let BatchMember { facts, key } = self.members[index as usize];
        let member = Member {
            file: facts,
            commitment: facts.commit(&key),
            index,
            count: self.tree.count(),
            path: self.tree.path(index),
        };
        let opening = Some(Opening { key, shown: Shown::Member(member) });
        ProofBundle { opening, ..self.bundle.clone() }
    }
}

/// Whether a file is a list of proofs, by its first bytes.
fn is_list(path: &Path) -> bool {
    let start = format!("{{\"format\":\"{PROOFS_FORMAT}\"");
    let mut found = Vec::new();
    let read = File::open(path).and_then(|file| file.take(start.len() as u64).read_to_end(&mut found));
    read.is_ok() && found == start.as_bytes()
}

/// Name of the proof of a member of the batch at a leaf: the same in every run.
fn name(leaf: LeafIndex, index: u32) -> String {
    format!("{leaf}-{index:05}.proof")
}

fn places<'a>(clerk: &Clerk<'_>, genesis: &Genesis, files: &'a [Anchored]) -> Vec<Place<'a>> {
    let place = |file: &'a Anchored| {
        let name = FileName { network: genesis.network(), path: file.path.clone(), facts: file.facts };
        let entry = clerk.vault.file(&name)?;
        Some(Place { file, root: entry.batch, index: entry.index })
    };
    files.iter().filter_map(place).collect()
}

/// The proof of a batch, if it is final. The validator need not be trusted.
fn prove(clerk: &Clerk<'_>, genesis: &Genesis, root: &[u8; 32]) -> Result<Option<Proved>, CliError> {
    let Some((entry, leaf)) = clerk.vault.batch(root).and_then(|entry| Some((entry, entry.leaf?))) else {
        return Ok(None);
    };
    let (members, tree) = clerk.vault.members(root).map_err(|error| {
        CliError::unable_hint(format!("{}: {error}", clerk.path.display()), "restore the vault from a copy")
    })?;
    let bytes = clerk.client.proof(&leaf.to_string(), Instant::now() + clerk.wait)?;
    let refuse = |why: &dyn std::fmt::Display| {
        CliError::DoesNotHold(format!(
            "the proof that the validator gives of leaf {leaf} does not hold: {why}"
        ))
    };
    let bundle = ProofBundle::decode(&bytes).map_err(|error| refuse(&error))?;
    let verified: Verified = bundle.verify(genesis).map_err(|error| refuse(&error))?;
    let body = Body::RecordBatch(entry.body(*root));
    if verified.body != body || verified.org() != OrgId(entry.terms.org.0) || verified.leaf != leaf {
        return Err(refuse(&format!("it is of {} at leaf {}", verified.tx_id, verified.leaf)));
    }
    Ok(Some(Proved { leaf, id: verified.tx_id, bundle, body, members, tree }))
}

/// RFC 8785 but for the line breaks: an entry to a line.
fn list(genesis: &Genesis, done: &[(&Place<'_>, &Proved)]) -> Result<String, serde_json::Error> {
    let line = |(place, proved): &(&Place<'_>, &Proved)| {
        let line = Line {
            hash: hex::encode(place.file.facts.hash),
            index: place.index,
            leaf: proved.leaf,
            path: &place.file.path,
            proof: name(proved.leaf, place.index),
            transaction: proved.id.to_string(),
        };
        serde_json_canonicalizer::to_string(&line)
    };
    let lines = done.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(format!(
        "{{\"format\":\"{PROOFS_FORMAT}\",\"network\":\"{}\",\"proofs\":[\n{}\n]}}\n",
        genesis.network(),
        lines.join(",\n"),
    ))
}
