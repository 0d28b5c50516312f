//! Asks peers for headers and payloads that are missing, and answers theirs.
//!
//! No peer can hold the room of others. Each has a **window** of blocks that it may be asked for at one time, which grows with each
//! useful answer and halves with each timeout. A peer that says nothing at all is paused, each time for longer, and probed with a
//! few blocks in between. What it was asked for is asked of a second peer after about one measured answer time (not after
//! a timeout), of two at a time at most, and a peer that was asked in vain is passed over as long as another was not.
//!
//! Who is asked first: the validator that sent or named the block, then others that name it, since they have to have it, then
//! anybody. An answer counts if it was asked for; anything else that comes earns a peer nothing. That a peer lacks a block costs it
//! only if it named it itself: otherwise one liar that names what does not exist could make honest peers look dead.
//!
//! What was asked of everybody in vain comes last. Among the rest the lowest rounds come first, since everything later waits
//! for them, and a quarter of each window is for what the next
//! undecided leader may wait for.

mod peers;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::effect::Effect;
use super::machine::Now;
use super::pace::Pace;
use crate::committee::{Committee, StakeSum};
use crate::dag::{BlockManager, DagState};
use crate::limits::{ANCESTORS_MAX, FETCH_ANSWER_BYTES_MAX, FETCH_REFS_MAX, FETCH_ROUNDS_MAX};
use crate::types::{AuthorityIndex, BLOCK_REF_BYTES, BlockRef, FetchRequest, PeerMessage, Round};
use peers::{Kind, PeerSet, Peers, Pick, Question};

pub(super) use serve::serve;
pub use serve::serve_from_log;

/// Headers up to this many rounds above the quorum round are asked for by name; beyond it, in ranges.
const BY_NAME_ROUNDS: u64 = 32;
/// Missing headers that are asked for because one validator names them.
const WANTS_PER_NAMER_MAX: usize = 256;
/// Payloads of one request.
const PAYLOADS_PER_REQUEST_MAX: usize = 32;
/// Bytes of a header beside its ancestors, system messages included: for sizing requests, so that an answer has room for all.
const HEADER_REST_BYTES: usize = 1_024;
/// Rounds above the next undecided slot whose blocks may decide it.
const DECIDING_ROUNDS: u64 = 2;

/// One peer that was asked for a block.
#[derive(Debug, Clone, Copy)]
struct Ask {
    peer: AuthorityIndex,
    at_us: u64,
    /// Whether it has to have the block.
    is_holder: bool,
}

/// State of one missing header or payload.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// Who is asked first.
    first: AuthorityIndex,
    attempts: u32,
    tried: PeerSet,
    /// Asked now: two at most.
    asks: [Option<Ask>; 2],
    /// When it is looked at again.
    due_us: u64,
}

impl Want {
    fn new(first: AuthorityIndex, due_us: u64) -> Self {
        Self { first, attempts: 0, tried: PeerSet::default(), asks: [None; 2], due_us }
    }

    fn asks(&self) -> impl Iterator<Item = &Ask> {
        self.asks.iter().flatten()
    }
}

/// A range of rounds that was asked for.
#[derive(Debug, Clone, Copy)]
struct RangeWant {
    from: Round,
    peer: AuthorityIndex,
    at_us: u64,
    due_us: u64,
}

/// Where the node stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frontier {
    /// Highest round with a quorum of blocks.
    pub(super) quorum: Round,
    /// Round of the next slot that is not decided.
    pub(super) undecided: Round,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Fetcher {
    committee: Arc<Committee>,
    own: AuthorityIndex,
    pace: Pace,
    peers: Peers,
    headers: BTreeMap<BlockRef, Want>,
    payloads: BTreeMap<BlockRef, Want>,
    /// Headers that one request may be for.
    headers_per_request: usize,
    /// What was missing when it was last looked at: (change of the block manager, quorum round); `None` to look again.
    looked_at: Option<(u64, Round)>,
    /// When the earliest want is due.
    wake_us: u64,
    range: Option<RangeWant>,
    range_turn: u32,
    /// Headers of certified commits among those that are asked for.
    certified: BTreeSet<BlockRef>,
    /// No rounds are asked for in ranges.
    holds_ranges: bool,
    /// Highest round of a valid header by each author.
    seen: Vec<Round>,
}

impl Fetcher {
    pub(super) fn new(committee: &Arc<Committee>, own: AuthorityIndex, pace: Pace) -> Self {
        let header_bytes = HEADER_REST_BYTES + BLOCK_REF_BYTES * committee.size().min(ANCESTORS_MAX);
        Self {
            own,
            pace,
            peers: Peers::new(committee, own, &pace),
            headers: BTreeMap::new(),
            payloads: BTreeMap::new(),
            headers_per_request: (FETCH_ANSWER_BYTES_MAX / header_bytes).min(FETCH_REFS_MAX),
            looked_at: None,
            wake_us: 0,
            range: None,
            range_turn: 0,
            certified: BTreeSet::new(),
            holds_ranges: false,
            seen: vec![Round(0); committee.size()],
            committee: Arc::clone(committee),
        }
    }

    /// Headers and payloads that are being asked for.
    pub(super) fn len(&self) -> usize {
        self.headers.len() + self.payloads.len()
    }

    pub(super) fn peer_up(&mut self, peer: AuthorityIndex) {
        self.peers.set_up(peer, true);
        self.wake_us = 0;
    }

    /// What was asked of a peer that is gone is due at once.
    pub(super) fn peer_down(&mut self, peer: AuthorityIndex) {
        self.peers.set_up(peer, false);
        for want in self.headers.values_mut().chain(self.payloads.values_mut()) {
            for ask in &mut want.asks {
                if ask.is_some_and(|ask| ask.peer == peer) {
                    *ask = None;
                    want.due_us = 0;
                }
            }
        }
        if self.range.is_some_and(|range| range.peer == peer) {
            self.range = None;
        }
        self.wake_us = 0;
    }

    /// A peer answered with no headers: it is there, and has nothing.
    pub(super) fn got_nothing(&mut self, now: Now, from: AuthorityIndex) {
        self.peers.heard(now.monotonic_us, from);
    }

    /// A header is here, and need not be asked for.
    pub(super) fn got_header(&mut self, now: Now, from: AuthorityIndex, block: &BlockRef) {
        self.certified.remove(block);
        if let Some(want) = self.headers.remove(block) {
            self.credit(now, from, Kind::Header, &want);
            self.looked_at = None;
        }
        if self.range.is_some_and(|range| range.peer == from && range.from <= block.round) {
            self.peers.heard(now.monotonic_us, from);
        }
    }

    /// A valid header of a round was shown.
    pub(super) fn saw_round(&mut self, block: &BlockRef) {
        let seen = &mut self.seen[block.author.as_usize()];
        *seen = (*seen).max(block.round);
    }

    /// Headers of certified commits are needed, whoever else names them; these take the place of those named before.
    pub(super) fn want_certified(&mut self, blocks: BTreeSet<BlockRef>) {
        for block in &blocks {
            self.headers.entry(*block).or_insert_with(|| Want::new(block.author, 0));
        }
        self.certified = blocks;
        self.looked_at = None;
        self.wake_us = 0;
    }

    /// Headers of certified commits that have not come.
    pub(super) fn certified_len(&self) -> usize {
        self.certified.len()
    }

    /// No rounds are asked for in ranges: certified commits say what to ask for, or will, or execution is far behind.
    pub(super) fn hold_ranges(&mut self, holds: bool) {
        self.holds_ranges = holds;
    }

    /// How long an answer with headers is waited for.
    pub(super) fn answer_timeout_us(&self) -> u64 {
        self.peers.timeout_us(Kind::Header)
    }

    /// The peer for a question that anybody may answer: the `turn`-th of those that do answer.
    pub(super) fn peer_in_turn(&self, now: Now, turn: u32) -> Option<AuthorityIndex> {
        self.peers.in_turn(now.monotonic_us, turn)
    }

    /// A header is in the DAG without its payload: the push should bring it soon.
    pub(super) fn want_payload(&mut self, now: Now, block: BlockRef) {
        let due_us = now.monotonic_us + self.pace.payload_grace_us;
        self.payloads.entry(block).or_insert_with(|| Want::new(block.author, due_us));
        self.wake_us = self.wake_us.min(due_us);
    }

    pub(super) fn got_payload(&mut self, now: Now, from: AuthorityIndex, block: &BlockRef) {
        if let Some(want) = self.payloads.remove(block) {
            self.credit(now, from, Kind::Payload, &want);
        }
    }

    fn credit(&mut self, now: Now, from: AuthorityIndex, kind: Kind, want: &Want) {
        if let Some(ask) = want.asks().find(|ask| ask.peer == from) {
            self.peers.answered(now.monotonic_us, from, kind, ask.at_us);
        }
        // Perhaps another block waits for the room.
        self.wake_us = 0;
    }

    pub(super) fn collect_garbage(&mut self, round: Round) {
        self.headers.retain(|block, _| block.round > round);
        self.certified.retain(|block| block.round > round);
        self.payloads.retain(|block, _| block.round > round);
    }

    /// Sends what is due.
    pub(super) fn poll(
        &mut self,
        now: Now,
        frontier: Frontier,
        manager: &BlockManager,
        dag: &DagState,
        out: &mut Vec<Effect>,
    ) {
        self.want_headers(frontier.quorum, manager);
        if self.wake_us <= now.monotonic_us {
            self.expire(now.monotonic_us);
            self.ask_for_due(now.monotonic_us, frontier, manager, dag, out);
            let next = self.headers.values().chain(self.payloads.values()).map(|want| want.due_us).min();
            // What is due and was not sent waits for a peer or for room; look again soon.
            let soon = now.monotonic_us + self.pace.payload_grace_us / 4 + 1;
            self.wake_us = next.map_or(u64::MAX, |next| next.max(soon));
        }
        self.poll_range(now.monotonic_us, frontier.quorum, out);
    }

    /// Adds what is missing to what is asked for: up to a number for each validator that names it, so that one that names
    /// what does not exist takes no room from the others.
    fn want_headers(&mut self, quorum_round: Round, manager: &BlockManager) {
        let now = Some((manager.changes(), quorum_round));
        if self.looked_at == now {
            return;
        }
        self.looked_at = now;
        let by_name = Round(quorum_round.0 + BY_NAME_ROUNDS);
        let mut named = vec![0; self.committee.size()];
        let certified = &self.certified;
        self.headers.retain(|block, _| manager.is_missing(block) || certified.contains(block));
        for (_, want) in self.headers.iter().filter(|(block, _)| !certified.contains(block)) {
            named[want.first.as_usize()] += 1;
        }
        for (block, waiting) in manager.missing().take_while(|(block, _)| block.round <= by_name) {
            if self.headers.contains_key(block) {
                continue;
            }
            let namers = waiting.iter().flat_map(|by| manager.sender(by).into_iter().chain([by.author]));
            let first =
                namers.filter(|by| *by != self.own).find(|by| named[by.as_usize()] < WANTS_PER_NAMER_MAX);
            if let Some(first) = first {
                named[first.as_usize()] += 1;
                self.headers.insert(*block, Want::new(first, 0));
                self.wake_us = 0;
            }
        }
    }

    /// Takes back what was not answered in time, and counts what is still out.
    fn expire(&mut self, now_us: u64) {
        self.peers.clear_load();
        for (kind, wants) in [(Kind::Header, &mut self.headers), (Kind::Payload, &mut self.payloads)] {
            let timeout_us = self.peers.timeout_us(kind);
            for ask in wants.values_mut().flat_map(|want| &mut want.asks) {
                let Some(out) = *ask else { continue };
                if out.at_us + timeout_us <= now_us {
                    *ask = None;
                    self.peers.missed(now_us, out.peer, kind, out.at_us, out.is_holder);
                } else {
                    self.peers.add_load(out.peer);
                }
            }
        }
    }

    /// Asks for what is due, headers and payloads alike: first for what was asked of everybody the fewest times, then for the
    /// lowest rounds. Else what is named and never comes, as the blocks of an equivocator that nobody takes, would fill all
    /// windows again whenever they empty, and what comes as soon as it is asked for would not be asked for.
    fn ask_for_due(
        &mut self,
        now_us: u64,
        frontier: Frontier,
        manager: &BlockManager,
        dag: &DagState,
        out: &mut Vec<Effect>,
    ) {
        let mut due: Vec<(u32, BlockRef, Kind)> = Vec::new();
        for (kind, wants) in [(Kind::Header, &self.headers), (Kind::Payload, &self.payloads)] {
            let wants = wants.iter().filter(|(_, want)| want.due_us <= now_us);
            due.extend(wants.map(|(block, want)| (want.attempts, *block, kind)));
        }
        due.sort_unstable();
        let mut headers: BTreeMap<AuthorityIndex, Vec<BlockRef>> = BTreeMap::new();
        let mut payloads: BTreeMap<AuthorityIndex, Vec<(BlockRef, usize)>> = BTreeMap::new();
        for (_, block, kind) in due {
            let (wants, holders, bytes) = match kind {
                Kind::Header => (&mut self.headers, header_holders(manager, &block), 0),
                Kind::Payload => {
                    let Some(entry) = dag.get(&block) else { continue };
                    let bytes = entry.header.header().payload_len as usize;
                    (&mut self.payloads, payload_holders(dag, &block), bytes)
                }
            };
            let Some(want) = wants.get_mut(&block) else { continue };
            let urgent = is_urgent(&block, frontier);
            let Some(peer) = ask(&mut self.peers, now_us, kind, want, holders, urgent) else { continue };
            match kind {
                Kind::Header => headers.entry(peer).or_default().push(block),
                Kind::Payload => payloads.entry(peer).or_default().push((block, bytes)),
            }
        }
        for (to, blocks) in headers {
            for chunk in blocks.chunks(self.headers_per_request) {
                let message = PeerMessage::Fetch(FetchRequest::Headers(chunk.to_vec()));
                out.push(Effect::Send { to, message });
            }
        }
        for (to, blocks) in payloads {
            for blocks in in_answers(&blocks) {
                let message = PeerMessage::Fetch(FetchRequest::Payloads(blocks));
                out.push(Effect::Send { to, message });
            }
        }
    }

    /// Asks for the next rounds as long as f+1 stake shows headers far above the quorum round.
    fn poll_range(&mut self, now_us: u64, quorum_round: Round, out: &mut Vec<Effect>) {
        if self.holds_ranges || self.honest_round().0 <= quorum_round.0 + BY_NAME_ROUNDS {
            self.range = None;
            return;
        }
        let from = quorum_round.next();
        match self.range {
            Some(range) if range.from == from => {
                if range.due_us > now_us {
                    return;
                }
                self.peers.missed(now_us, range.peer, Kind::Header, range.at_us, true);
                self.range_turn = self.range_turn.wrapping_add(1);
            }
            // One that gives little at a time does not keep the turn.
            Some(range) if from.0 - range.from.0 < FETCH_ROUNDS_MAX / 2 => {
                self.range_turn = self.range_turn.wrapping_add(1);
            }
            _ => {}
        }
        let Some(peer) = self.peers.in_turn(now_us, self.range_turn) else {
            self.range = None;
            return;
        };
        let due_us = now_us + self.pace.fetch_timeout_us;
        self.range = Some(RangeWant { from, peer, at_us: now_us, due_us });
        let message = PeerMessage::Fetch(FetchRequest::Range { from, rounds: FETCH_ROUNDS_MAX });
        out.push(Effect::Send { to: peer, message });
    }

    /// Highest round that f+1 stake has shown a header of or above: at least one of them is honest.
    pub(super) fn honest_round(&self) -> Round {
        let mut rounds: Vec<(Round, AuthorityIndex)> =
            self.committee.indices().map(|author| (self.seen[author.as_usize()], author)).collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = StakeSum::new();
        for (round, author) in rounds {
            sum.add(&self.committee, author);
            if sum.reaches(self.committee.validity_threshold()) {
                return round;
            }
        }
        Round(0)
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        let wants = (!self.headers.is_empty() || !self.payloads.is_empty()).then_some(self.wake_us);
        wants.into_iter().chain(self.range.map(|range| range.due_us)).min()
    }
}

/// Whether the next undecided slot may wait for a block.
fn is_urgent(block: &BlockRef, frontier: Frontier) -> bool {
    block.round.0 <= frontier.undecided.0 + DECIDING_ROUNDS
}

/// Asks a peer for a block that is due, if there is one to ask.
fn ask(
    peers: &mut Peers,
    now_us: u64,
    kind: Kind,
    want: &mut Want,
    holders: PeerSet,
    urgent: bool,
) -> Option<AuthorityIndex> {
    let mut asked = PeerSet::default();
    for ask in want.asks() {
        asked.insert(ask.peer);
    }
    let first_out = want.asks().map(|ask| ask.at_us).min();
    let Some(free) = want.asks.iter_mut().find(|ask| ask.is_none()) else {
        want.due_us = first_out.unwrap_or(now_us) + peers.timeout_us(kind);
        return None;
    };
    let question = Question { first: want.first, tried: want.tried, asked, holders, urgent };
    let Some(Pick::Ask(peer)) = peers.pick(now_us, &question) else {
        // The one that is out may still answer; else it is due as soon as there is room.
        if let Some(at) = first_out {
            want.due_us = at + peers.timeout_us(kind);
        }
        return None;
    };
    if want.tried.contains(peer) {
        // Everybody was asked: the next turn begins.
        want.tried = PeerSet::default();
        want.attempts += 1;
    }
    want.tried.insert(peer);
    *free = Some(Ask { peer, at_us: now_us, is_holder: holders.contains(peer) });
    peers.add_load(peer);
    want.due_us = match first_out {
        None => now_us + peers.pause_us(kind, want.attempts),
        Some(at) => at + peers.timeout_us(kind),
    };
    Some(peer)
}

/// Those who have to hold a header: the authors of what waits for it.
fn header_holders(manager: &BlockManager, block: &BlockRef) -> PeerSet {
    let mut holders = PeerSet::default();
    for by in manager.waiting_for(block) {
        holders.insert(by.author);
    }
    holders
}

/// Those who have to hold a payload: an honest author names only what is available to it.
fn payload_holders(dag: &DagState, block: &BlockRef) -> PeerSet {
    let mut holders = PeerSet::default();
    holders.insert(block.author);
    for (by, entry) in dag.round(block.round.next()) {
        if entry.header.header().ancestors.contains(block) {
            holders.insert(by.author);
        }
    }
    holders
}

/// Divides payloads into requests that one answer has room for.
fn in_answers(blocks: &[(BlockRef, usize)]) -> Vec<Vec<BlockRef>> {
    let mut requests: Vec<Vec<BlockRef>> = Vec::new();
    let mut bytes = usize::MAX;
    for (block, size) in blocks {
        let fits = bytes.saturating_add(*size) <= serve::PAYLOAD_ANSWER_BYTES_MAX;
        match requests.last_mut() {
            Some(last) if fits && last.len() < PAYLOADS_PER_REQUEST_MAX => {
                last.push(*block);
                bytes += size;
            }
            _ => {
                requests.push(vec![*block]);
                bytes = *size;
            }
        }
    }
    requests
}
