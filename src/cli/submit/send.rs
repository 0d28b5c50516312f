//! Hands transactions in, several at a time, and counts what becomes of them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cli::CliError;
use crate::cli::node_client::{Fate, NodeClient};
use crate::types::TxId;

/// Transactions that wait for their answers at the same time.
const AT_ONCE: usize = 32;

/// A transaction to hand in.
pub(super) struct Outgoing {
    pub(super) id: TxId,
    pub(super) bytes: Bytes,
    /// What it is of, for the line that is printed.
    pub(super) label: String,
}

/// Hands in all of them and calls `done` with the position of each and its fate, in the order of the answers. After an
/// error no more are begun; those that are under way are waited for.
pub(super) fn send_all(
    client: &NodeClient,
    wait: Option<Duration>,
    outgoing: &[Outgoing],
    mut done: impl FnMut(usize, Fate) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, fates) = channel();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(outgoing.len()) {
            let results = results.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(tx) = outgoing.get(at) else { break };
                    let fate = client.submit(tx.id, &tx.bytes, wait.map(|wait| Instant::now() + wait));
                    if results.send((at, fate)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let mut failed = None;
        for (at, fate) in fates {
            if let Err(error) = fate.and_then(|fate| done(at, fate)) {
                stop.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    })
}

/// What became of everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Tally {
    pub(in crate::cli) executed: usize,
    /// Final before this run.
    pub(in crate::cli) before: usize,
    pub(in crate::cli) pending: usize,
    pub(in crate::cli) refused: usize,
    /// Not handed in, since the version before is not final.
    pub(in crate::cli) held_back: usize,
}

impl Tally {
    /// Counts one and prints its line.
    pub(in crate::cli) fn note(
        &mut self,
        out: &mut dyn Write,
        id: TxId,
        fate: &Fate,
        label: &str,
    ) -> Result<(), CliError> {
        match fate {
            Fate::Executed { .. } => self.executed += 1,
            Fate::Pending => self.pending += 1,
            Fate::Skipped(_) | Fate::Refused { .. } => self.refused += 1,
        }
        writeln!(out, "{id} {fate}  {label}{}", advice(fate))?;
        Ok(())
    }

    /// Prints the summary; an error if not all is final.
    pub(in crate::cli) fn finish(&self, out: &mut dyn Write) -> Result<(), CliError> {
        write!(out, "{} final", self.executed)?;
        for (count, what) in [
            (self.before, "final before"),
            (self.pending, "pending"),
            (self.refused, "refused or skipped"),
            (self.held_back, "held back"),
        ] {
            if count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        writeln!(out)?;
        let missing = self.refused + self.held_back;
        if self.refused > 0 {
            return Err(CliError::DoesNotHold(format!("{missing} were not taken, see the lines above")));
        }
        if self.pending + self.held_back > 0 {
            return Err(CliError::unable_hint(
                format!("{} are not final yet", self.pending + self.held_back),
                "run the same command again: it goes on where this one stopped",
            ));
        }
        Ok(())
    }
}

/// What to do about a refusal that an integrator meets.
fn advice(fate: &Fate) -> &'static str {
    let code = match fate {
        Fate::Skipped(reason) => reason.as_str(),
        Fate::Refused { code, .. } => code.as_str(),
        Fate::Executed { .. } | Fate::Pending => "",
    };
    match code {
        "MissingRole" => " (the key may not do this: register one with the role by --add-key and --roles)",
        "UnknownKey" => " (is --key-id the number that --key was registered under?)",
        "BadSignature" => " (is --key the file of key --key-id?)",
        "Replayed" => " (give --seq with a number that was never used with this key)",
        "BadTime" => " (set this machine's clock)",
        "WrongNetwork" => " (is --genesis that of this validator's network?)",
        "NotAHead" => " (another version has replaced the one before already)",
        _ => "",
    }
}
