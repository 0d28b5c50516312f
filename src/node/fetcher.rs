//! Asks peers for headers and payloads that are missing, and answers theirs.
//!
//! Bounded: one request for each missing block at a time, a bound on what one peer is asked for at once, and a timeout
//! after which another peer is asked. The lowest rounds come first, since everything later waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{Effect, LogKey, RecordKind};
use super::machine::{Now, Pace};
use crate::committee::{Committee, StakeSum};
use crate::dag::{DagBlock, DagState};
use crate::limits::{FETCH_ANSWER_BYTES_MAX, FETCH_REFS_MAX, FETCH_ROUNDS_MAX};
use crate::types::{
    AuthorityIndex, BLOCK_REF_BYTES, BlockRef, FetchRequest, PeerMessage, Round, SignedHeader,
};

/// Headers up to this many rounds above the quorum round are asked for by name; beyond it, in ranges.
const BY_NAME_ROUNDS: u64 = 32;
/// Blocks that one peer is asked for and has not answered.
const IN_FLIGHT_PER_PEER_MAX: usize = 2 * FETCH_REFS_MAX;
/// Bytes of payloads that one request is answered with.
const PAYLOAD_ANSWER_BYTES_MAX: usize = 8 << 20;
/// Missing headers that are asked for because one validator names them.
const WANTS_PER_NAMER_MAX: usize = 256;
/// Payloads of one request: each answer may have 4 MiB.
const PAYLOADS_PER_REQUEST_MAX: usize = 32;

/// State of one missing header or payload.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// Peers asked so far.
    attempts: u32,
    /// Who is asked first: a validator that names the block, and so has to have it.
    first: AuthorityIndex,
    /// Peer that is asked now.
    asked: Option<AuthorityIndex>,
    /// When it is asked for, or asked for again.
    due_us: u64,
}

/// A range of rounds that was asked for.
#[derive(Debug, Clone, Copy)]
struct RangeWant {
    from: Round,
    due_us: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Fetcher {
    committee: Arc<Committee>,
    own: AuthorityIndex,
    pace: Pace,
    up: Vec<bool>,
    headers: BTreeMap<BlockRef, Want>,
    payloads: BTreeMap<BlockRef, Want>,
    range: Option<RangeWant>,
    range_attempts: u32,
    /// Highest round of a valid header by each author.
    seen: Vec<Round>,
}

impl Fetcher {
    pub(super) fn new(committee: &Arc<Committee>, own: AuthorityIndex, pace: Pace) -> Self {
        Self {
            own,
            pace,
            up: vec![false; committee.size()],
            headers: BTreeMap::new(),
            payloads: BTreeMap::new(),
            range: None,
            range_attempts: 0,
            seen: vec![Round(0); committee.size()],
            committee: Arc::clone(committee),
        }
    }

    /// Headers and payloads that are being asked for.
    pub(super) fn len(&self) -> usize {
        self.headers.len() + self.payloads.len()
    }

    pub(super) fn peer_up(&mut self, peer: AuthorityIndex) {
        self.up[peer.as_usize()] = true;
    }

    /// What was asked of a peer that is gone is due at once.
    pub(super) fn peer_down(&mut self, peer: AuthorityIndex) {
        self.up[peer.as_usize()] = false;
        for want in self.headers.values_mut().chain(self.payloads.values_mut()) {
            if want.asked == Some(peer) {
                want.asked = None;
                want.due_us = 0;
            }
        }
    }

    /// A header is here, and need not be asked for.
    pub(super) fn got_header(&mut self, block: &BlockRef) {
        self.headers.remove(block);
    }

    /// A valid header of a round was shown.
    pub(super) fn saw_round(&mut self, block: &BlockRef) {
        let seen = &mut self.seen[block.author.as_usize()];
        *seen = (*seen).max(block.round);
    }

    /// A header is in the DAG without its payload: the push should bring it soon.
    pub(super) fn want_payload(&mut self, now: Now, block: BlockRef) {
        let due_us = now.monotonic_us + self.pace.payload_grace_us;
        self.payloads.entry(block).or_insert(Want { attempts: 0, first: block.author, asked: None, due_us });
    }

    pub(super) fn got_payload(&mut self, block: &BlockRef) {
        self.payloads.remove(block);
    }

    pub(super) fn collect_garbage(&mut self, round: Round) {
        self.headers.retain(|block, _| block.round > round);
        self.payloads.retain(|block, _| block.round > round);
    }

    /// Sends what is due. `missing` are the headers that suspended ones wait for, in ascending order, with those.
    pub(super) fn poll<'a>(
        &mut self,
        now: Now,
        quorum_round: Round,
        missing: impl Iterator<Item = (&'a BlockRef, &'a BTreeSet<BlockRef>)>,
        dag: &DagState,
        out: &mut Vec<Effect>,
    ) {
        self.want_headers(quorum_round, missing);
        let peers = Peers { own: self.own, up: &self.up };
        let mut load = vec![0; self.committee.size()];
        for want in
            self.headers.values().chain(self.payloads.values()).filter(|want| want.due_us > now.monotonic_us)
        {
            // What has timed out burdens nobody any more.
            if let Some(asked) = want.asked {
                load[asked.as_usize()] += 1;
            }
        }
        let timeout = self.pace.fetch_timeout_us;
        for (to, blocks) in due(&mut self.headers, now, timeout, &peers, &mut load) {
            for chunk in blocks.chunks(FETCH_REFS_MAX) {
                let message = PeerMessage::Fetch(FetchRequest::Headers(chunk.to_vec()));
                out.push(Effect::Send { to, message });
            }
        }
        for (block, want) in self.payloads.iter_mut().filter(|(_, want)| want.due_us <= now.monotonic_us) {
            if want.attempts == 0 {
                want.first = holder(dag, block, self.own);
            }
        }
        for (to, blocks) in due(&mut self.payloads, now, timeout, &peers, &mut load) {
            for chunk in blocks.chunks(PAYLOADS_PER_REQUEST_MAX) {
                let message = PeerMessage::Fetch(FetchRequest::Payloads(chunk.to_vec()));
                out.push(Effect::Send { to, message });
            }
        }
        self.poll_range(now, quorum_round, out);
    }

    /// Adds what is missing to what is asked for: up to a number for each validator that names it, so that one that names
    /// what does not exist takes no room from the others.
    fn want_headers<'a>(
        &mut self,
        quorum_round: Round,
        missing: impl Iterator<Item = (&'a BlockRef, &'a BTreeSet<BlockRef>)>,
    ) {
        let by_name = Round(quorum_round.0 + BY_NAME_ROUNDS);
        let mut named = vec![0; self.committee.size()];
        for want in self.headers.values() {
            named[want.first.as_usize()] += 1;
        }
        for (block, waiting) in missing.take_while(|(block, _)| block.round <= by_name) {
            if self.headers.contains_key(block) {
                continue;
            }
            let namer =
                waiting.iter().map(|by| by.author).find(|by| named[by.as_usize()] < WANTS_PER_NAMER_MAX);
            if let Some(first) = namer {
                named[first.as_usize()] += 1;
                self.headers.insert(*block, Want { attempts: 0, first, asked: None, due_us: 0 });
            }
        }
    }

    /// Asks for the next rounds as long as f+1 stake shows headers far above the quorum round.
    fn poll_range(&mut self, now: Now, quorum_round: Round, out: &mut Vec<Effect>) {
        if self.honest_round().0 <= quorum_round.0 + BY_NAME_ROUNDS {
            self.range = None;
            return;
        }
        let from = quorum_round.next();
        if self.range.is_some_and(|range| range.from == from && range.due_us > now.monotonic_us) {
            return;
        }
        // Progress keeps to the peer that brought it; a timeout goes on to the next.
        if self.range.is_some_and(|range| range.from == from) {
            self.range_attempts = self.range_attempts.wrapping_add(1);
        }
        let Some(to) =
            (Peers { own: self.own, up: &self.up }).pick(self.own, self.range_attempts.wrapping_add(1))
        else {
            return;
        };
        self.range = Some(RangeWant { from, due_us: now.monotonic_us + self.pace.fetch_timeout_us });
        let message = PeerMessage::Fetch(FetchRequest::Range { from, rounds: FETCH_ROUNDS_MAX });
        out.push(Effect::Send { to, message });
    }

    /// Highest round that f+1 stake has shown a header of or above: at least one of them is honest.
    fn honest_round(&self) -> Round {
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

    pub(super) fn next_timeout(&self, now: Now) -> Option<u64> {
        let wants = self.headers.values().chain(self.payloads.values()).map(|want| want.due_us);
        let next = wants.chain(self.range.map(|range| range.due_us)).min()?;
        // What is due and was not sent waits for a peer or for room; look again soon.
        Some(next.max(now.monotonic_us + self.pace.payload_grace_us / 4 + 1))
    }

    /// Answers a request from memory, or leaves it to the log. Own blocks that are held back, since they are not durable
    /// yet, are not given away here either; the log gives nothing that is not durable.
    pub(super) fn serve(
        dag: &DagState,
        held_back: impl Fn(&BlockRef) -> bool,
        to: AuthorityIndex,
        request: FetchRequest,
        out: &mut Vec<Effect>,
    ) {
        let get = |block: &BlockRef| dag.get(block).filter(|_| !held_back(block));
        match request {
            FetchRequest::Headers(blocks) => {
                let (here, elsewhere): (Vec<_>, Vec<_>) =
                    blocks.into_iter().partition(|b| dag.get(b).is_some());
                let headers = here.iter().filter_map(get).map(|entry| SignedHeader::clone(&entry.header));
                answer_headers(to, headers, out);
                if !elsewhere.is_empty() {
                    out.push(Effect::ServeFromLog { to, request: FetchRequest::Headers(elsewhere) });
                }
            }
            FetchRequest::Payloads(blocks) => {
                let mut elsewhere = Vec::new();
                let mut bytes_sent = 0;
                for block in blocks.into_iter().filter(|block| !held_back(block)) {
                    match get(&block).and_then(|entry| entry.payload.as_ref()) {
                        Some(payload) => {
                            bytes_sent += payload.bytes().len();
                            if bytes_sent > PAYLOAD_ANSWER_BYTES_MAX {
                                // The peer asks again for the rest.
                                break;
                            }
                            let message = PeerMessage::Payload { block, bytes: payload.bytes().clone() };
                            out.push(Effect::Send { to, message });
                        }
                        None => elsewhere.push(block),
                    }
                }
                if !elsewhere.is_empty() {
                    out.push(Effect::ServeFromLog { to, request: FetchRequest::Payloads(elsewhere) });
                }
            }
            FetchRequest::Range { from, rounds } if from > dag.gc_round() => {
                let last = from.0.saturating_add(rounds).min(dag.highest_round().0 + 1);
                let blocks = (from.0..last).flat_map(|round| dag.round(Round(round)));
                let headers = blocks
                    .filter(|(block, _)| !held_back(block))
                    .map(|(_, entry)| SignedHeader::clone(&entry.header));
                answer_headers(to, headers, out);
            }
            FetchRequest::Range { .. } => out.push(Effect::ServeFromLog { to, request }),
        }
    }
}

/// Sends headers up to the size of one answer.
fn answer_headers(to: AuthorityIndex, headers: impl Iterator<Item = SignedHeader>, out: &mut Vec<Effect>) {
    let mut bytes = 0;
    let answer: Vec<SignedHeader> = headers
        .take_while(|header| {
            bytes += 4 + header.bytes().len();
            bytes <= FETCH_ANSWER_BYTES_MAX
        })
        .collect();
    if !answer.is_empty() {
        out.push(Effect::Send { to, message: PeerMessage::Headers(answer) });
    }
}

/// Who can be asked.
struct Peers<'a> {
    own: AuthorityIndex,
    up: &'a [bool],
}

impl Peers<'_> {
    /// The peer to ask at the given attempt: `first`, then the others in turn. Peers that are down are passed over.
    fn pick(&self, first: AuthorityIndex, attempt: u32) -> Option<AuthorityIndex> {
        let n = self.up.len();
        let candidates: Vec<AuthorityIndex> = (0..n)
            .map(|i| AuthorityIndex::from_usize((first.as_usize() + i) % n))
            .filter(|peer| *peer != self.own && self.up[peer.as_usize()])
            .collect();
        if candidates.is_empty() { None } else { Some(candidates[attempt as usize % candidates.len()]) }
    }
}

/// Somebody who has to hold a payload: an author that names the block, or its own author.
fn holder(dag: &DagState, block: &BlockRef, own: AuthorityIndex) -> AuthorityIndex {
    let names = |entry: &DagBlock| entry.header.header().ancestors.contains(block);
    let mut namers = dag.round(block.round.next()).filter(|(by, entry)| by.author != own && names(entry));
    namers.next().map_or(block.author, |(by, _)| by.author)
}

/// Marks what is due as asked and groups it by the peer to ask.
fn due(
    wants: &mut BTreeMap<BlockRef, Want>,
    now: Now,
    timeout_us: u64,
    peers: &Peers<'_>,
    load: &mut [usize],
) -> BTreeMap<AuthorityIndex, Vec<BlockRef>> {
    let mut requests: BTreeMap<AuthorityIndex, Vec<BlockRef>> = BTreeMap::new();
    for (block, want) in wants.iter_mut().filter(|(_, want)| want.due_us <= now.monotonic_us) {
        let Some(peer) = peers.pick(want.first, want.attempts) else { break };
        if load[peer.as_usize()] >= IN_FLIGHT_PER_PEER_MAX {
            continue;
        }
        load[peer.as_usize()] += 1;
        want.attempts = want.attempts.wrapping_add(1);
        want.asked = Some(peer);
        want.due_us = now.monotonic_us + timeout_us;
        requests.entry(peer).or_default().push(*block);
    }
    requests
}

/// Answers a request from the log: `in_rounds` lists the headers of the rounds from the first up to and without the
/// second, `read` gets a record's bytes. What is not there is left out. The answer is bounded as those from memory are.
///
/// # Errors
/// Those of `read`.
pub fn serve_from_log<E>(
    request: &FetchRequest,
    in_rounds: impl Fn(Round, Round) -> Vec<BlockRef>,
    read: impl Fn(LogKey) -> Result<Option<Bytes>, E>,
) -> Result<Vec<PeerMessage>, E> {
    let blocks = match request {
        FetchRequest::Headers(blocks) => blocks.clone(),
        FetchRequest::Range { from, rounds } => in_rounds(*from, Round(from.0.saturating_add(*rounds))),
        FetchRequest::Payloads(blocks) => {
            let mut answers = Vec::new();
            let mut bytes_sent = 0;
            for block in blocks {
                let Some(record) = read(LogKey { kind: RecordKind::Payload, block: *block })? else {
                    continue;
                };
                bytes_sent += record.len();
                if bytes_sent > PAYLOAD_ANSWER_BYTES_MAX {
                    break;
                }
                answers.push(PeerMessage::Payload { block: *block, bytes: record.slice(BLOCK_REF_BYTES..) });
            }
            return Ok(answers);
        }
    };
    let mut headers = Vec::new();
    let mut bytes_sent = 0;
    for block in blocks {
        let Some(record) = read(LogKey { kind: RecordKind::Header, block })? else { continue };
        bytes_sent += 4 + record.len();
        if bytes_sent > FETCH_ANSWER_BYTES_MAX {
            break;
        }
        // The log's checksums hold, so it decodes; if it did not, the peer would ask another.
        headers.extend(SignedHeader::decode(record));
    }
    Ok(if headers.is_empty() { Vec::new() } else { vec![PeerMessage::Headers(headers)] })
}
