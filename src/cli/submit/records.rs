//! Records: from FHIR to final anchors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::send::{Outgoing, Tally, send_all};
use crate::cli::CliError;
use crate::cli::desk::Desk;
use crate::cli::node_client::{Fate, NodeClient};
use crate::cli::signer_state::{FileLock, load_vault, save_vault};
use crate::gateway::fhir::{Content, Event, parse_line, parse_resource};
use crate::gateway::vault::{Vault, VersionName};
use crate::gateway::{AnchorError, SystemEntropy, anchor};
use crate::types::{Body, LeafIndex, TxId};

/// Records that are signed and handed in before vault and state are written again.
const CHUNK: usize = 512;

/// Reads one resource, or lines of resources with or without `{when, tx, …}` around them.
pub(in crate::cli) fn read_events(input: &[u8]) -> Result<Vec<Event>, CliError> {
    let refuse = |error: &dyn std::fmt::Display| CliError::unable(error.to_string());
    let is_bare = |json: &[u8]| {
        let value: Option<serde_json::Value> = serde_json::from_slice(json).ok();
        value.map(|value| value.get("resourceType").is_some())
    };
    let whole = input.trim_ascii();
    // One resource may be laid out over many lines.
    if let Some(is_bare) = is_bare(whole) {
        let parse = if is_bare { parse_resource } else { parse_line };
        return Ok(vec![parse(1, whole).map_err(|error| refuse(&error))?]);
    }
    let mut events = Vec::new();
    for (i, line) in input.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parse = if is_bare(line) == Some(true) { parse_resource } else { parse_line };
        events.push(parse(i + 1, line).map_err(|error| refuse(&error))?);
    }
    Ok(events)
}

/// Keeps the records, earlier versions first, and says what else there was.
fn pick_records(events: Vec<Event>, out: &mut dyn Write) -> Result<Vec<Event>, CliError> {
    let mut seen: BTreeMap<(String, u32), usize> = BTreeMap::new();
    let mut others: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut records = Vec::new();
    for event in events {
        if let Some(first) = seen.insert((event.resource.clone(), event.version), event.line) {
            let Event { line, resource, version, .. } = &event;
            let what = format!("line {line}: version {version} of {resource} came on line {first} already");
            return Err(CliError::unable(what));
        }
        if matches!(event.content, Content::Record { .. }) {
            records.push(event);
        } else {
            *others.entry(event.label.name()).or_default() += 1;
        }
    }
    for (label, count) in others {
        writeln!(out, "left out: {count} lines of {label}, which are not records")?;
    }
    records.sort_by_key(|event| event.version);
    Ok(records)
}

/// One record on its way.
struct Item {
    name: VersionName,
    /// Its former transaction, which this one replaces.
    earlier: Option<TxId>,
}

/// What to do with a record.
enum Step {
    Done,
    HeldBack(u32),
    Send(Item, Outgoing),
}

struct Clerk<'a> {
    client: &'a NodeClient,
    wait: Option<Duration>,
    desk: &'a mut Desk,
    vault: Vault,
    path: &'a Path,
}

/// Anchors the records of `input`.
pub(super) fn submit(
    client: &NodeClient,
    wait: Option<Duration>,
    desk: &mut Desk,
    path: &Path,
    input: &[u8],
    out: &mut dyn Write,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let _lock = FileLock::acquire(path)?;
    let mut queue = pick_records(read_events(input)?, out)?;
    let mut clerk = Clerk { client, wait, desk, vault: load_vault(path)?, path };
    while !queue.is_empty() {
        // Versions of one resource follow each other: the next is signed when the one before has its leaf.
        let mut resources = BTreeSet::new();
        let (mut chunk, mut rest) = (Vec::new(), Vec::new());
        for event in queue {
            if chunk.len() < CHUNK && resources.insert(event.resource.clone()) {
                chunk.push(event);
            } else {
                rest.push(event);
            }
        }
        clerk.chunk(&chunk, out, tally)?;
        queue = rest;
    }
    Ok(())
}

impl Clerk<'_> {
    fn chunk(&mut self, events: &[Event], out: &mut dyn Write, tally: &mut Tally) -> Result<(), CliError> {
        let (mut items, mut outgoing) = (Vec::new(), Vec::new());
        for event in events {
            match self.prepare(event, out, tally)? {
                Step::Done => {}
                Step::HeldBack(version) => {
                    tally.held_back += 1;
                    let Event { line, resource, .. } = event;
                    writeln!(
                        out,
                        "held back: line {line}, since version {version} of {resource} is not final"
                    )?;
                }
                Step::Send(item, tx) => {
                    items.push(item);
                    outgoing.push(tx);
                }
            }
        }
        // Durable before anything leaves: without its commitment key an anchor can never be opened.
        self.save()?;
        let (client, wait) = (self.client, self.wait);
        let sent = send_all(client, wait, &outgoing, |at, fate| {
            let fate = self.settle(&items[at], outgoing[at].id, fate)?;
            tally.note(out, outgoing[at].id, &fate, &outgoing[at].label)
        });
        self.save()?;
        sent
    }

    fn save(&self) -> Result<(), CliError> {
        save_vault(self.path, &self.vault)?;
        self.desk.state.save()
    }

    /// Signs the anchor of a record, unless it is final or on its way.
    fn prepare(&mut self, event: &Event, out: &mut dyn Write, tally: &mut Tally) -> Result<Step, CliError> {
        let label = format!("{}/_history/{} (line {})", event.resource, event.version, event.line);
        let name =
            VersionName { copy: 0, resource: event.resource.clone(), version: event.version, grantee: None };
        let held = self.vault.version(&name).map(|entry| (entry.transaction, entry.leaf));
        let mut earlier = None;
        match held {
            Some((_, Some(leaf))) => {
                tally.before += 1;
                writeln!(out, "final before, leaf {leaf}  {label}")?;
                return Ok(Step::Done);
            }
            Some((Some(id), None)) => {
                if let Some(fate) = self.fate_now(id)? {
                    if let Fate::Executed { leaf, .. } = fate {
                        self.note_final(&name, id, leaf);
                    }
                    tally.note(out, id, &fate, &label)?;
                    return Ok(Step::Done);
                }
                earlier = Some(id);
            }
            Some((None, None)) | None => {}
        }
        let (body, name) = match anchor(event, &mut self.vault, &mut SystemEntropy) {
            Ok(anchored) => anchored,
            Err(AnchorError::NotFinal { version }) => return Ok(Step::HeldBack(version)),
            Err(error) => return Err(CliError::unable(format!("line {}: {error}", event.line))),
        };
        let seq = self.desk.state.take(earlier)?;
        let transaction = self.desk.sign_with(&Body::RecordAnchor(body), seq)?;
        let id = transaction.id();
        self.desk.state.note_signed(id, seq);
        self.vault.note_transaction(&name, id);
        let outgoing = Outgoing { id, bytes: transaction.bytes().clone(), label };
        Ok(Step::Send(Item { name, earlier }, outgoing))
    }

    /// The fate of a transaction of an earlier run, if it is final or may still become so.
    fn fate_now(&self, id: TxId) -> Result<Option<Fate>, CliError> {
        let fate = match (self.client.fate(id)?, self.wait) {
            (Some(Fate::Pending), Some(wait)) => Some(self.client.wait(id, Instant::now() + wait)?),
            (fate, _) => fate,
        };
        Ok(fate.filter(|fate| matches!(fate, Fate::Executed { .. } | Fate::Pending)))
    }

    /// Notes what became of an anchor. One whose number was used has lost to the one that it replaces.
    fn settle(&mut self, item: &Item, id: TxId, fate: Fate) -> Result<Fate, CliError> {
        let is_replayed = match &fate {
            Fate::Refused { code, .. } => code == "Replayed",
            Fate::Skipped(reason) => reason == "Replayed",
            Fate::Executed { .. } | Fate::Pending => false,
        };
        if let (true, Some(earlier)) = (is_replayed, item.earlier)
            && let Some(Fate::Executed { leaf, violation }) = self.fate_now(earlier)?
        {
            self.note_final(&item.name, earlier, leaf);
            self.desk.state.note_final(&id);
            return Ok(Fate::Executed { leaf, violation });
        }
        if is_replayed {
            // Used by something else: the next attempt takes another number.
            self.desk.state.note_final(&id);
        }
        if let Fate::Executed { leaf, .. } = fate {
            self.note_final(&item.name, id, leaf);
        }
        Ok(fate)
    }

    fn note_final(&mut self, name: &VersionName, id: TxId, leaf: LeafIndex) {
        self.vault.note_transaction(name, id);
        self.vault.note_final(&id, leaf);
        self.desk.state.note_final(&id);
    }
}
