//! How a validator comes back that has lost its log and still has its keys.
//!
//! It may have signed blocks that it does not know of, and must not sign another for any of their rounds. So before it makes a
//! block it asks every other validator for the last header that this one made itself. A claim counts once its header is in the
//! DAG here, or lies below garbage collection: then its round exists, and nobody holds the validator off with rounds that do
//! not. With claims of a quorum of the stake, all of others, it keeps silent up to the round after the highest of them, and makes
//! its first block above that.
//!
//! *Why that is enough.* Let R be the round of a block that it signed before. That block names blocks of round R − 1 from a quorum.
//! A validator that lost its log counts among the faulty until it is back. Of the quorum, then, honest others hold at least
//! f + 1 (in stake; less its own), and among those whose claims count at most f − 1 are missing or lie: so one of them
//! made a block of round R − 1 before and says so, hence R ≤ highest claim + 1. The block itself need not have reached anybody.
//! A validator that is rejoining itself gives no answer, since it does not know either.
//!
//! The log says that it began like this, before anything else, and later up to which round to be silent. Own blocks that
//! come back from peers therefore never pass for all that there were.
//!
//! A committee in which the others hold no quorum (one to three validators of equal stake) cannot help: there the program refuses to start.

use std::collections::BTreeMap;

use super::effect::{Effect, LogRecord};
use super::machine::{Node, Now};
use crate::committee::StakeSum;
use crate::dag::VerifiedHeader;
use crate::planted::{self, Bug};
use crate::types::{AuthorityIndex, BlockRef, FetchRequest, PeerMessage, Round, SignedHeader};

/// Where the validator stands.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    /// No own block up to this round.
    floor: Round,
    asking: Option<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    /// Whether the log says that it is asking.
    is_written: bool,
    nonce: Option<u64>,
    /// What the others say they made last; genesis if nothing.
    claims: BTreeMap<AuthorityIndex, BlockRef>,
    due_us: u64,
}

impl Rejoin {
    /// From what the log says: `None` if no log was lost, round 0 if it is not known up to where to be silent.
    pub(super) fn new(lost: Option<Round>, is_written: bool) -> Self {
        match lost {
            None => Self::default(),
            Some(Round(0)) => {
                Self { floor: Round(0), asking: Some(Asking { is_written, ..Asking::default() }) }
            }
            Some(floor) => Self { floor, asking: None },
        }
    }

    /// Whether own blocks are not to be made at all.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Own blocks are made only above this round.
    pub(super) fn floor(&self) -> Round {
        self.floor
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.asking.as_ref().map(|asking| asking.due_us)
    }
}

impl Node {
    /// Asks again whoever has not answered, and goes on when enough have.
    pub(super) fn poll_rejoin(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(asking) = &mut self.rejoin.asking else { return };
        if !std::mem::replace(&mut asking.is_written, true) {
            // First of all records but those of the start.
            self.append(LogRecord::Rejoin(Round(0)), out);
        }
        if self.settle_rejoin(out) {
            return;
        }
        let Some(asking) = &mut self.rejoin.asking else { return };
        if asking.due_us > now.monotonic_us {
            return;
        }
        asking.due_us = now.monotonic_us + 2 * self.config.pace.fetch_timeout_us;
        let nonce = *asking.nonce.get_or_insert_with(|| nonce(now, self.config.authority));
        let request = PeerMessage::Fetch(FetchRequest::Latest { nonce });
        let unanswered = self.committee.indices().filter(|peer| {
            *peer != self.config.authority
                && self.versions.speaks_2(*peer)
                && asking.claims.get(peer).is_none_or(|claim| !self.dag.contains(claim))
        });
        out.extend(unanswered.map(|to| Effect::Send { to, message: request.clone() }));
    }

    /// A peer that is there now is asked at once.
    pub(super) fn rejoin_peer_up(&mut self) {
        if let Some(asking) = &mut self.rejoin.asking {
            asking.due_us = 0;
        }
    }

    /// Whether the claims of a quorum count; then up to where to be silent is known.
    fn settle_rejoin(&mut self, out: &mut Vec<Effect>) -> bool {
        let Some(asking) = &self.rejoin.asking else { return true };
        let mut sum = StakeSum::new();
        let mut highest = Round(0);
        for (peer, claim) in asking.claims.iter().filter(|(_, claim)| self.dag.contains(claim)) {
            sum.add(&self.committee, *peer);
            highest = highest.max(claim.round);
        }
        let enough = sum.reaches(self.committee.thresholds().round_quorum)
            || planted::is(Bug::RejoinAtOnce) && !asking.claims.is_empty();
        if !enough {
            return false;
        }
        self.rejoin.floor = highest.next().max(self.proposer.last().round);
        self.rejoin.asking = None;
        // An own block is durable only after this.
        let seq = self.append(LogRecord::Rejoin(self.rejoin.floor), out);
        self.sync(seq, out);
        true
    }

    /// A peer says what it made last.
    pub(super) fn on_latest(
        &mut self,
        now: Now,
        from: AuthorityIndex,
        nonce: u64,
        header: Option<VerifiedHeader>,
        out: &mut Vec<Effect>,
    ) {
        let Some(asking) = &mut self.rejoin.asking else { return };
        let is_own = header.as_ref().is_none_or(|header| header.header().author == from);
        if asking.nonce != Some(nonce) || from == self.config.authority || !is_own {
            return;
        }
        let block = header.as_ref().map_or_else(|| self.committee.genesis_block(from), |h| h.reference());
        // A later answer replaces one that does not count yet, so that a false one does not stand for ever.
        let claim = asking.claims.entry(from).or_insert(block);
        if !self.dag.contains(claim) {
            *claim = block;
        }
        self.on_headers(now, from, header.into_iter().collect(), out);
    }

    /// Answers a validator that has lost its log; one that is rejoining itself does not know.
    pub(super) fn serve_latest(&self, to: AuthorityIndex, nonce: u64, out: &mut Vec<Effect>) {
        let header = self.proposer.latest_sent().map(|header| SignedHeader::clone(header));
        if header.is_none() && !self.config.first_life {
            return;
        }
        out.push(Effect::Send { to, message: PeerMessage::Latest { nonce, header } });
    }
}

/// Differs from that of any earlier life, so that an answer on its way since then does not count.
fn nonce(now: Now, own: AuthorityIndex) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"salus/rejoin/v1\0");
    hasher.update(&now.wall.0.to_be_bytes());
    hasher.update(&now.monotonic_us.to_be_bytes());
    hasher.update(&own.0.to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
