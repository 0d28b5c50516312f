//! Callers in the simulated world.

use super::Judged;
use super::history::{Placed, Read, Saw, Told};
use super::models::ConsentNow;
use super::session::{Ask, Sessions};
use crate::error::{ClientError, StorageError};
use crate::execute::{ConsentState, Outcome, SkipReason, TransactionStatus};
use crate::node::Reply;
use crate::proof::checkpoint::{CertifiedCheckpoint, CheckpointKeys, verify_checkpoint};
use crate::proof::log::{consistency_proof, inclusion_proof};
use crate::proof::merkle::{TreeHead, leaf_hash, verify_consistency, verify_inclusion};
use crate::sim::checker::Violation;
use crate::sim::event::{Answer, Event};
use crate::sim::host::Running;
use crate::sim::world::{World, storage};
use crate::types::{LeafIndex, Stub};

/// Numbers of callers among clients begin here.
pub(in crate::sim) const SESSIONS: usize = 1 << 20;

/// A proof that could not be made or does not hold.
fn broken(host: usize, what: &str, error: impl std::fmt::Display) -> Violation {
    Violation::Host { host, what: format!("{what}: {error}") }
}

impl World {
    /// A caller's turn.
    pub(in crate::sim) fn session(&mut self, caller: usize) {
        let wall = self.hosts[0].now(self.now_us).wall;
        let Some(sessions) = &mut self.sessions else { return };
        let ask = sessions.next(caller, &mut self.random, self.now_us, wall, self.loaded);
        if !self.loaded && sessions.all[caller].open.is_none() {
            return;
        }
        match ask {
            Some(Ask::Submit(request)) => {
                // Sometimes to a second validator too: executed once all the same.
                let copies = if self.random.chance(80) { 2 } else { 1 };
                for _ in 0..copies {
                    let host = self.open[self.random.index(self.open.len())];
                    self.after(100, 20_000, Event::Submit { client: SESSIONS + caller, request, host });
                }
            }
            Some(ask) => {
                let host = self.open[self.random.index(self.open.len())];
                self.after(100, 20_000, Event::Read { caller, ask, host });
            }
            None => {}
        }
        self.after(1_000, 25_000, Event::Session { caller });
    }

    /// A caller hears of its transaction.
    pub(in crate::sim) fn session_reply(&mut self, request: u64, reply: Answer) -> Result<(), Violation> {
        let Some(sessions) = &mut self.sessions else { return Ok(()) };
        let Some((_, id)) = sessions.get(request) else { return Ok(()) };
        let told = match reply {
            Answer::Known(leaf) | Answer::Node(Reply::Final(Outcome::Duplicate { leaf })) => {
                Told::Executed { leaf, violation: None }
            }
            Answer::Node(Reply::Final(Outcome::Executed { leaf, violation })) => {
                Told::Executed { leaf, violation: Some(violation) }
            }
            Answer::Node(Reply::Final(Outcome::Skipped(reason))) if is_an_answer(reason) => {
                Told::Skipped(reason)
            }
            Answer::Node(Reply::Accepted) => return Ok(()),
            Answer::Node(Reply::Busy)
            | Answer::Refused(ClientError::UnknownKey { .. } | ClientError::Busy) => {
                sessions.refused(request, self.now_us);
                return Ok(());
            }
            Answer::Node(Reply::Final(Outcome::Skipped(reason))) => {
                return Err(Violation::Outcome(id, format!("skipped: {reason:?}")));
            }
            Answer::Refused(error) => return Err(Violation::Outcome(id, format!("refused: {error}"))),
        };
        sessions.done(request, told, &mut self.random, self.now_us);
        if let Told::Executed { leaf, .. } = told {
            self.checker.acknowledge(id, leaf)?;
        }
        Ok(())
    }

    /// A caller asks a validator for its state or a proof.
    pub(in crate::sim) fn read(&mut self, caller: usize, ask: Ask, host: usize) -> Result<(), Violation> {
        let honest = self.is_honest(host);
        let Some(sessions) = &mut self.sessions else { return Ok(()) };
        // An answer to an older try came in between.
        if sessions.all[caller].open.is_none_or(|(open, _)| open != ask) {
            return Ok(());
        }
        let Some(running) = self.hosts[host].running.as_ref().filter(|_| honest) else {
            sessions.not_yet(caller, self.now_us);
            return Ok(());
        };
        let token = sessions.all[caller].token;
        let head = running.reader().head().map_err(|error| storage(host, &error))?;
        if head.tree_size < token {
            sessions.not_yet(caller, self.now_us);
            return Ok(());
        }
        if let Ask::Proof(leaf) = ask {
            let Some(published) = running.published.as_ref().filter(|shown| shown.checkpoint.size > leaf.0)
            else {
                sessions.not_yet(caller, self.now_us);
                return Ok(());
            };
            let keys = self.random.chance(125).then(|| CheckpointKeys::new(&self.genesis));
            let shown = prove(running, host, leaf, published, sessions.all[caller].checkpoint, keys)?;
            sessions.all[caller].checkpoint = Some(shown);
            sessions.history.proofs += 1;
        } else {
            let saw = look(running, ask).map_err(|error| storage(host, &error))?;
            sessions.history.reads.extend(saw.map(|saw| Read { token, tree_size: head.tree_size, saw }));
            sessions.all[caller].token = head.tree_size;
        }
        sessions.free(caller, &mut self.random, self.now_us);
        Ok(())
    }

    /// Judges what callers saw by what the ledger holds.
    pub(in crate::sim) fn judge(&self) -> Result<Judged, Violation> {
        let honest = (0..self.hosts.len()).find(|host| self.is_honest(*host));
        let running = honest.and_then(|host| self.hosts[host].running.as_ref());
        let (Some(host), Some(running), Some(sessions)) = (honest, running, &self.sessions) else {
            return Err(Violation::History("nobody is left to ask".to_owned()));
        };
        let mut placed = Placed::new();
        for entry in sessions.history.entries.values() {
            let status = running.reader().transaction(&entry.id).map_err(|error| storage(host, &error))?;
            if let TransactionStatus::Executed(leaf) = status {
                let stub = Stub::decode(&leaf.stub).map_err(|error| broken(host, "a stub", error))?;
                placed.insert(entry.id, (leaf.index, stub.violation));
            }
        }
        sessions.history.judge(&placed).map_err(Violation::History)
    }
}

/// Whether a reason to skip is the answer of a key's state, rather than a fault of the caller.
fn is_an_answer(reason: SkipReason) -> bool {
    use SkipReason::{AlreadyRevoked, HandleTaken, NotAHead, NotTheCustodian, UnknownConsent};

    [AlreadyRevoked, HandleTaken, NotAHead, NotTheCustodian, UnknownConsent].contains(&reason)
}

/// What a validator's state shows.
fn look(running: &Running, ask: Ask) -> Result<Option<Saw>, StorageError> {
    let reader = running.reader();
    Ok(match ask {
        Ask::Consent(handle) => Some(Saw::Consent(handle, now_of(reader.consent(&handle)?))),
        Ask::Head(from) => Some(Saw::Head(from, reader.record(from)?.and_then(|found| found.head))),
        Ask::Submit(_) | Ask::Proof(_) => None,
    })
}

fn now_of(state: Option<ConsentState>) -> ConsentNow {
    match state {
        None => ConsentNow::Absent,
        Some(ConsentState { custodian: by, grantee: to, revocation: None, .. }) => {
            ConsentNow::Granted { by, to }
        }
        Some(ConsentState { custodian: by, grantee: to, revocation: Some(_), .. }) => {
            ConsentNow::Revoked { by, to }
        }
    }
}

/// Proves a leaf against a published checkpoint, and that checkpoint against the one that the caller knew; checks both as
/// a stranger would, and with `keys` the cosignatures too.
fn prove(
    running: &Running,
    host: usize,
    leaf: LeafIndex,
    published: &CertifiedCheckpoint,
    known: Option<TreeHead>,
    keys: Option<CheckpointKeys>,
) -> Result<TreeHead, Violation> {
    if let Some(keys) = keys {
        verify_checkpoint(published.to_note(&keys).as_bytes(), &keys)
            .map_err(|error| broken(host, "a published checkpoint", error))?;
    }
    let reader = running.reader();
    let (tiles, shown) = (reader.tiles(), published.checkpoint.head());
    let stub = reader.leaf(leaf).map_err(|error| storage(host, &error))?;
    let stub = stub.ok_or_else(|| broken(host, "a proof", format!("leaf {leaf} is not there")))?.stub;
    let path = inclusion_proof(leaf, shown.size, &tiles)
        .map_err(|error| broken(host, "an inclusion proof", error))?;
    verify_inclusion(&leaf_hash(&stub), leaf.0, shown.size, &path, &shown.root)
        .map_err(|error| broken(host, "an inclusion proof", error))?;
    if let Some(known) = known {
        let (old, new) = if known.size <= shown.size { (known, shown) } else { (shown, known) };
        if new.size <= reader.head().map_err(|error| storage(host, &error))?.tree_size {
            let path = consistency_proof(old.size, new.size, &tiles)
                .map_err(|error| broken(host, "a consistency proof", error))?;
            verify_consistency(&old, &new, &path)
                .map_err(|error| broken(host, "a consistency proof", error))?;
        }
    }
    Ok(shown)
}

impl Sessions {
    /// Numbers of the callers.
    pub(in crate::sim) fn callers(&self) -> std::ops::Range<usize> {
        0..self.all.len()
    }
}
