//! From a batch in the vault to its leaf.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::CliError;
use super::super::desk::Desk;
use super::super::node_client::{Fate, NodeClient};
use super::super::signer_state::save_vault;
use super::super::submit::Tally;
use crate::gateway::SystemEntropy;
use crate::gateway::vault::{BatchEntry, BatchTerms, Vault};
use crate::proof::batch::FileFacts;
use crate::types::{Body, LeafIndex, TxId};

/// Signs batches and hands them in.
pub(super) struct Clerk<'a> {
    pub(super) client: &'a NodeClient,
    pub(super) wait: Duration,
    pub(super) desk: Desk,
    pub(super) vault: Vault,
    /// Of the vault.
    pub(super) path: &'a Path,
}

impl Clerk<'_> {
    /// Makes keys for files and of them a batch, durably.
    pub(super) fn begin(
        &mut self,
        terms: BatchTerms,
        files: &[(String, FileFacts)],
    ) -> Result<[u8; 32], CliError> {
        let root = self.vault.add_batch(terms, files, &mut SystemEntropy);
        let root = root.map_err(|error| CliError::unable(error.to_string()))?;
        save_vault(self.path, &self.vault)?;
        Ok(root)
    }

    /// Brings a batch, of which `here` files are of this run, onto the ledger, unless it is there or on its way.
    pub(super) fn submit(
        &mut self,
        root: &[u8; 32],
        here: usize,
        out: &mut dyn Write,
        tally: &mut Tally,
    ) -> Result<(), CliError> {
        let entry = self.entry(root)?;
        let label = match (here, entry.count as usize) {
            (here, count) if here == count => format!("a batch of {count} files"),
            (here, count) => format!("a batch of {count} files, {here} of them given here"),
        };
        if let Some(leaf) = entry.leaf {
            tally.before += 1;
            return Ok(writeln!(out, "final before, leaf {leaf}  {label}")?);
        }
        self.refuse_other_key(&entry)?;
        if let Some((id, fate)) = self.known(&entry.transactions)? {
            self.note(root, &fate)?;
            return tally.note(out, id, &fate, &label);
        }
        let seq = match entry.seq {
            Some(seq) => seq,
            None => self.desk.state.take(None)?,
        };
        let transaction = self.desk.sign_with(&Body::RecordBatch(entry.body(*root)), seq)?;
        let id = transaction.id();
        // The number first: one that is passed over is of no consequence, one that is used by two is.
        self.desk.state.save()?;
        self.vault.note_batch_signed(root, id, seq);
        save_vault(self.path, &self.vault)?;
        let fate = self.client.submit(id, transaction.bytes(), Some(Instant::now() + self.wait))?;
        let (id, fate) = match is_replayed(&fate) {
            // By an earlier one, which has become final meanwhile?
            true => self.known(&entry.transactions)?.unwrap_or((id, fate)),
            false => (id, fate),
        };
        if is_replayed(&fate) {
            // By something else: a run that is told to go on takes the next number.
            self.vault.note_batch_number_lost(root);
            save_vault(self.path, &self.vault)?;
        }
        self.note(root, &fate)?;
        tally.note(out, id, &fate, &label)
    }

    fn entry(&self, root: &[u8; 32]) -> Result<BatchEntry, CliError> {
        let lost = || {
            let what = format!(
                "{} holds files of batch {} but not the batch",
                self.path.display(),
                hex::encode(root)
            );
            CliError::unable_hint(what, "it was altered: restore it from a copy")
        };
        self.vault.batch(root).cloned().ok_or_else(lost)
    }

    /// Signed by another key, it could become final twice: numbers are counted for each key.
    fn refuse_other_key(&self, entry: &BatchEntry) -> Result<(), CliError> {
        let BatchTerms { org, key, .. } = entry.terms;
        if (org, key) == (self.desk.org, self.desk.key) {
            return Ok(());
        }
        Err(CliError::unable_hint(
            format!("a batch of these files was begun with key {key} of organisation {org} and is not final"),
            format!("finish it with --org {org} --key-id {key}"),
        ))
    }

    /// The first of a batch's transactions that is final, or else one that may still become so.
    fn known(&self, ids: &[TxId]) -> Result<Option<(TxId, Fate)>, CliError> {
        let mut pending = None;
        for id in ids {
            match self.client.fate(*id)? {
                Some(fate @ Fate::Executed { .. }) => return Ok(Some((*id, fate))),
                Some(Fate::Pending) => pending = Some(*id),
                Some(Fate::Skipped(_) | Fate::Refused { .. }) | None => {}
            }
        }
        let Some(id) = pending else { return Ok(None) };
        let fate = self.client.wait(id, Instant::now() + self.wait)?;
        Ok(Some((id, fate)).filter(|(_, fate)| matches!(fate, Fate::Executed { .. } | Fate::Pending)))
    }

    fn note(&mut self, root: &[u8; 32], fate: &Fate) -> Result<(), CliError> {
        let Fate::Executed { leaf, .. } = fate else { return Ok(()) };
        self.vault.note_batch_final(root, LeafIndex(leaf.0));
        save_vault(self.path, &self.vault)
    }
}

/// Whether the number was used, by this batch or by something else.
fn is_replayed(fate: &Fate) -> bool {
    match fate {
        Fate::Refused { code, .. } => code == "Replayed",
        Fate::Skipped(reason) => reason == "Replayed",
        Fate::Executed { .. } | Fate::Pending => false,
    }
}
