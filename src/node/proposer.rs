//! When this validator makes a block, and what goes into it.
//!
//! The conditions are those of the Push pacemaker (Starfish, eprint 2025/567), which is proved live: A1 and A2 let a
//! validator advance to a round, C1 to C3 let it make its block there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::effect::{Effect, LogRecord};
use super::machine::{Node, Now};
use super::pace::Pace;
use super::payload_cap::{UNNAMED_ROUNDS_MAX, UNNAMED_TIMEOUTS};
use crate::committee::{AuthoritySet, Committee, StakeSum};
use crate::dag::{DagBlock, VerifiedHeader};
use crate::execute::Verdict;
use crate::limits::TRANSACTION_TIME_SKEW_MS_MAX;
use crate::planted::{self, Bug};
use crate::types::{
    AuthorityIndex, BlockRef, Header, LogSeq, Payload, PeerMessage, Round, SignedHeader, SystemMessage,
    TimestampMs,
};

/// Payload bytes of own blocks that are not executed yet. Above it they go out empty: nobody names them, or execution is behind.
pub const OWN_BYTES_MAX: usize = 32 << 20;

/// Multiple of the least wait for a leader after which, twice, an own header goes out again at the latest.
const RESEND_FACTOR: u64 = 5;
/// Rounds back from the quorum's that a validator looks at to go on after it was away for long.
const REENTRY_ROUNDS: usize = 64;

/// State of making own blocks.
#[derive(Debug)]
pub(super) struct Proposer {
    last: BlockRef,
    last_time: TimestampMs,
    last_created_us: u64,
    /// When the last own block was made that begins a beat.
    last_beat_us: u64,
    /// Since when the next round could be entered (A1 and A2).
    ready_since_us: Option<u64>,
    /// Own blocks that are not durable yet: they do not leave before.
    outbox: VecDeque<(LogSeq, VerifiedHeader, Arc<Payload>)>,
    latest_sent: Option<VerifiedHeader>,
    last_sent_us: u64,
    /// For each author the highest round that an own block has named as ancestor.
    named: Vec<Round>,
    /// Highest own round that f+1 have named, with the own round and the moment at which that was seen.
    last_named: (Round, Round, u64),
    /// Whether the last own block had a payload.
    was_loaded: bool,
}

/// Whether a block may be made now.
enum Readiness {
    Now,
    At(u64),
    NotYet,
}

impl Proposer {
    pub(super) fn new(committee: &Committee, own: AuthorityIndex) -> Self {
        Self {
            last: committee.genesis_block(own),
            last_time: TimestampMs(0),
            last_created_us: 0,
            last_beat_us: 0,
            ready_since_us: None,
            outbox: VecDeque::new(),
            latest_sent: None,
            last_sent_us: 0,
            named: vec![Round(0); committee.size()],
            last_named: (Round(0), Round(0), 0),
            was_loaded: false,
        }
    }

    /// Whether others build on own blocks. If f+1 of them have named none more for a while, more payload would only pile up.
    fn is_named(&mut self, now: Now, named: Round, pace: &Pace) -> bool {
        if named > self.last_named.0 || self.last_named.0 == Round(0) {
            self.last_named = (named, self.last.round, now.monotonic_us);
        }
        let (_, at_round, at_us) = self.last_named;
        self.last.round.0 <= at_round.0 + UNNAMED_ROUNDS_MAX
            || now.monotonic_us <= at_us + UNNAMED_TIMEOUTS * pace.leader_timeout_min_us
    }

    /// An own block of the log: what it names is not named again.
    pub(super) fn has_named(&mut self, header: &VerifiedHeader) {
        for ancestor in &header.header().ancestors {
            let named = &mut self.named[ancestor.author.as_usize()];
            *named = (*named).max(ancestor.round);
        }
    }

    /// Last own block.
    pub(super) fn last(&self) -> BlockRef {
        self.last
    }

    /// Whether a block is an own one that may not leave yet.
    pub(super) fn is_held_back(&self, block: &BlockRef) -> bool {
        self.outbox.iter().any(|(_, header, _)| header.reference() == *block)
    }

    /// The record of the last own block that may not leave yet; 0 if all have left.
    pub(super) fn held_back_up_to(&self) -> LogSeq {
        self.outbox.back().map_or(LogSeq(0), |(seq, _, _)| *seq)
    }

    /// Last own block that is durable.
    pub(super) fn latest_sent(&self) -> Option<&VerifiedHeader> {
        self.latest_sent.as_ref()
    }

    /// An own block entered the DAG: made now, found in the log, or come back from a peer. No round up to its own is ever
    /// signed again.
    pub(super) fn adopt(&mut self, block: BlockRef) {
        if block.round > self.last.round {
            self.last = block;
            self.ready_since_us = None;
        }
    }

    /// Goes on behind the last own block of the log.
    pub(super) fn resume(&mut self, header: VerifiedHeader) {
        self.adopt(header.reference());
        self.last_time = self.last_time.max(header.header().time);
        self.latest_sent = Some(header);
    }
}

impl Node {
    /// Sends own blocks that became durable: all headers first, since they are what others wait for.
    pub(super) fn flush_outbox(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (mut payloads, mut sent) = (Vec::new(), false);
        while let Some((seq, header, payload)) = self.proposer.outbox.pop_front() {
            if seq > self.durable && !planted::is(Bug::SendBeforeSync) {
                self.proposer.outbox.push_front((seq, header, payload));
                break;
            }
            sent = true;
            if std::mem::take(&mut self.config.first_life) {
                out.push(Effect::KeysUsed);
            }
            out.push(Effect::Broadcast(PeerMessage::Header(SignedHeader::clone(&header))));
            if !payload.is_empty() {
                payloads
                    .push(PeerMessage::Payload { block: header.reference(), bytes: payload.bytes().clone() });
            }
            self.proposer.latest_sent = Some(header);
            self.proposer.last_sent_us = now.monotonic_us;
        }
        if let Some(header) = sent.then_some(self.proposer.latest_sent.as_ref()).flatten() {
            self.knowledge.push(&self.dag, header.header().round, out);
        }
        out.extend(payloads.into_iter().map(Effect::Broadcast));
    }

    /// Sends the last own header again if nothing has moved for long: the first copies may have been lost.
    pub(super) fn resend_latest(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.monotonic_us < self.resend_at() {
            return;
        }
        if let Some(header) = &self.proposer.latest_sent {
            out.push(Effect::Broadcast(PeerMessage::Header(SignedHeader::clone(header))));
            self.proposer.last_sent_us = now.monotonic_us;
        }
    }

    fn resend_at(&self) -> u64 {
        let pace = &self.config.pace;
        let timeout =
            self.pacemaker.leader_timeout_us(&self.committee).min(RESEND_FACTOR * pace.leader_timeout_min_us);
        self.proposer.last_sent_us + 2 * timeout.max(pace.idle_round_interval_us)
    }

    /// Makes the next own block if the pacemaker allows it. Returns whether it did: there may be another to make.
    pub(super) fn try_propose(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let Some(round) = self.next_round() else {
            self.proposer.ready_since_us = None;
            return false;
        };
        self.proposer.ready_since_us.get_or_insert(now.monotonic_us);
        self.pacemaker.quorum_at(round.previous(), now.monotonic_us);
        if !matches!(self.readiness(now, round), Readiness::Now) {
            return false;
        }
        if self.quorum_round < round && !self.leaders_are_settled(round.previous()) {
            self.pacemaker.timed_out();
        }
        self.propose(now, round, out);
        true
    }

    /// When time alone may let the next block be made, or the last be sent again.
    pub(super) fn propose_timeout(&self, now: Now) -> Option<u64> {
        let propose = self.next_round().and_then(|round| match self.readiness(now, round) {
            Readiness::Now => Some(now.monotonic_us),
            Readiness::At(at) => Some(at),
            Readiness::NotYet => None,
        });
        let resend = self.proposer.latest_sent.as_ref().map(|_| self.resend_at());
        [propose, resend].into_iter().flatten().min()
    }

    /// The round to make a block of: A1 and A2 hold for it.
    ///
    /// A validator that was away for longer than garbage collection reaches back enters at the round of the others: the
    /// blocks in between could enter no commit. (Jumping otherwise would break the pacemaker's proof.)
    fn next_round(&self) -> Option<Round> {
        let last = self.proposer.last.round;
        if self.rejoin.is_asking() {
            return None;
        }
        let jump = if planted::is(Bug::RoundJump) { 0 } else { self.gc_depth() };
        let floor = self.rejoin.floor();
        let lowest = if floor > Round(0) && last <= floor {
            floor
        } else if self.quorum_round.0 > last.0 + jump {
            Round(last.0 + jump + 1)
        } else {
            return self.is_nameable_quorum(last).then(|| last.next());
        };
        // Payloads trail headers, so it need not be the newest round.
        let rounds = (lowest.0..=self.quorum_round.0).rev().map(Round).take(REENTRY_ROUNDS);
        // Who was away has no blocks there, so that those of who equivocated lately may be needed.
        rounds
            .into_iter()
            .find(|round| self.is_quorum_of(*round, |_, entry| entry.available))
            .map(Round::next)
    }

    /// A1: own blocks may name blocks of a quorum at `round`.
    fn is_nameable_quorum(&self, round: Round) -> bool {
        round == Round(0) || self.is_quorum_of(round, |block, entry| self.is_nameable(block, entry))
    }

    /// Whether the blocks of a round that pass are of a quorum.
    fn is_quorum_of(&self, round: Round, passes: impl Fn(&BlockRef, &DagBlock) -> bool) -> bool {
        let mut sum = StakeSum::new();
        for (block, _) in self.dag.round(round).filter(|(block, entry)| passes(block, entry)) {
            sum.add(&self.committee, block.author);
        }
        sum.reaches(self.committee.thresholds().round_quorum)
    }

    /// Whether an own block may name a block: it is available, and its author did not equivocate lately.
    fn is_nameable(&self, block: &BlockRef, entry: &DagBlock) -> bool {
        entry.available
            && (block.author == self.config.authority
                || !self.equivocations.is_shunned(block.author, block.round))
    }

    fn gc_depth(&self) -> u64 {
        self.linearizer.gc_depth()
    }

    fn readiness(&self, now: Now, round: Round) -> Readiness {
        let pace = &self.config.pace;
        // C3: the others are there already.
        if self.quorum_round >= round {
            return Readiness::Now;
        }
        let Some(ready_since) = self.proposer.ready_since_us else { return Readiness::NotYet };
        let earliest = if !self.has_work() {
            self.proposer.last_created_us + pace.idle_round_interval_us
        } else if pace.begins_beat(round) {
            self.proposer.last_beat_us + pace.beat_us
        } else {
            0
        };
        // C2: the leader had its time. C1: it did not need it, and the others had a little.
        let at = if self.leaders_are_settled(round.previous()) {
            ready_since + self.grace_us(round.previous())
        } else {
            ready_since + self.pacemaker.leader_timeout_us(&self.committee)
        };
        let at = at.max(earliest);
        if at <= now.monotonic_us { Readiness::Now } else { Readiness::At(at) }
    }

    /// How long after the quorum to wait for blocks of `parent` by authors that were there in the round before and are not
    /// yet here. Who has lost its slots is not waited for: whether its block is voted for holds up nobody.
    fn grace_us(&self, parent: Round) -> u64 {
        let before = parent.previous();
        if before == Round(0) {
            return 0;
        }
        let (mut was_there, mut is_here) = (AuthoritySet::default(), AuthoritySet::default());
        for (round, set) in [(before, &mut was_there), (parent, &mut is_here)] {
            for (block, _) in self.dag.round(round).filter(|(block, entry)| self.is_nameable(block, entry)) {
                set.insert(block.author);
            }
        }
        let missing = was_there.difference(is_here).difference(self.committer.schedule().left_out(parent));
        missing.iter().map(|author| self.pacemaker.grace_us(author)).max().unwrap_or(0)
    }

    /// Whether blocks are needed for more than keeping the pace.
    fn has_work(&self) -> bool {
        !self.mempool.is_empty() || self.dag.uncommitted_transactions() > 0 || self.checkpoints.has_own_vote()
    }

    /// C1: the leader's block of `parent` is here, and the leader of the round before has a quorum of votes or of blocks
    /// that do not vote for it, among blocks that can be named as ancestors.
    fn leaders_are_settled(&self, parent: Round) -> bool {
        if parent == Round(0) {
            return true;
        }
        let leader = self.committer.schedule().primary(parent);
        // A leader whose blocks are left out is not waited for.
        let shunned = self.equivocations.is_shunned(leader, parent);
        if !shunned && !self.dag.slot(parent, leader).any(|(_, entry)| entry.available) {
            return false;
        }
        let before = parent.previous();
        if before == Round(0) {
            return true;
        }
        let leader = self.committer.schedule().primary(before);
        let (mut votes, mut blames) = (StakeSum::new(), StakeSum::new());
        for (block, entry) in self.dag.round(parent).filter(|(block, entry)| self.is_nameable(block, entry)) {
            let voted =
                entry.header.header().ancestors.iter().any(|a| a.round == before && a.author == leader);
            let sum = if voted { &mut votes } else { &mut blames };
            sum.add(&self.committee, block.author);
        }
        let thresholds = self.committee.thresholds();
        votes.reaches(thresholds.certificate) || blames.reaches(thresholds.skip)
    }

    /// Whether block time has come near the clock. Before the first commit it is the time at which the network was made, and
    /// after an outage of all the time of the last commit: transactions of now would be skipped for being too far from it. A
    /// few rounds without them bring it here. Block time never goes back, so what is near now stays near.
    fn block_time_is_near(&self, now: Now) -> bool {
        now.wall.0.saturating_sub(self.linearizer.time().0) <= TRANSACTION_TIME_SKEW_MS_MAX / 2
    }

    fn propose(&mut self, now: Now, round: Round, out: &mut Vec<Effect>) {
        let ancestors = self.choose_ancestors(round);
        let has_room =
            self.commits.backlog() < self.config.execution_backlog_max && self.own_bytes < OWN_BYTES_MAX;
        let is_named = self.proposer.is_named(now, self.knowledge.own_named(), &self.config.pace);
        let (payload, txs) = if has_room && !self.is_pressed() && is_named && self.block_time_is_near(now) {
            self.mempool.take_block(self.payload_cap.bytes())
        } else {
            (Payload::empty(), Vec::new())
        };
        let time = now.wall.max(self.proposer.last_time);
        let header = Header {
            version: self.versions.header_version(),
            epoch: self.committee.epoch(),
            round,
            author: self.config.authority,
            time,
            ancestors,
            n_tx: count(payload.len()),
            payload_len: count(payload.bytes().len()),
            payload_root: payload.root(),
            system: self.system_messages(now, round),
        };
        let key = &self.config.consensus_key;
        let header =
            VerifiedHeader::trusted(SignedHeader::build(header, |b| key.sign(&self.header_domain, b)));
        let block = header.reference();
        self.proposer.last_time = time;
        let took = now.monotonic_us - self.proposer.last_created_us;
        self.proposer.last_created_us = now.monotonic_us;
        if self.config.pace.begins_beat(round) {
            self.proposer.last_beat_us = now.monotonic_us;
        }
        let ready_since = self.proposer.ready_since_us;
        let unwaited = ready_since.map(|since| took.saturating_sub(now.monotonic_us.saturating_sub(since)));
        self.pacemaker.made_round(took, unwaited);
        // The first round after a quiet time says nothing.
        let loaded = std::mem::replace(&mut self.proposer.was_loaded, !payload.is_empty());
        self.payload_cap.round_took(took, loaded);
        let payload = Arc::new(payload);
        // The payload goes first: a log that holds an own header holds all of its block, whatever a crash cuts off.
        let payload_seq = (!payload.is_empty())
            .then(|| self.append(LogRecord::Payload { block, bytes: payload.bytes().clone() }, out));
        let seq = self.append(LogRecord::Header(header.clone()), out);
        self.checkpoints.collect_votes(&header, out);
        let certificate = self.certificates.collect(&header);
        self.keep_certificate(certificate, out);
        self.enter(now, header.clone());
        if let Some(payload_seq) = payload_seq {
            self.dag.set_payload(&block, Arc::clone(&payload), payload_seq);
            // The pipeline verified them before they entered the pool.
            self.dag.set_verdicts(&block, vec![Verdict::Valid; payload.len()].into());
            self.own_bytes += payload.bytes().len();
            self.own_blocks.insert(block, txs);
        }
        assert!(
            self.dag.get(&block).is_some_and(|entry| entry.available),
            "own block {block} names what is not here"
        );
        self.proposer.adopt(block);
        self.proposer.outbox.push_back((seq, header, payload));
        self.sync(seq, out);
    }

    /// What the next header tells the others, in the order of kinds.
    fn system_messages(&mut self, now: Now, round: Round) -> Vec<SystemMessage> {
        let vote = self.checkpoints.take_own_vote(now, &self.config.cosign_key);
        let mut messages: Vec<SystemMessage> = vote.map(SystemMessage::CheckpointVote).into_iter().collect();
        if self.versions.header_version() >= 2 {
            messages.extend(self.commit_votes.take().map(SystemMessage::CommitVote));
            messages.extend(self.equivocations.take_untold(round).into_iter().map(SystemMessage::Evidence));
        }
        messages
    }

    /// The last own block, then of each other author the latest available block below `round` that no own block named
    /// before.
    fn choose_ancestors(&mut self, round: Round) -> Vec<BlockRef> {
        let mut own = self.proposer.last;
        let is_here = own.round <= self.dag.gc_round() || self.dag.get(&own).is_some_and(|e| e.available);
        if own.round <= self.rejoin.floor() || !is_here {
            // An own block that came back from a peer, after the log was lost or because somebody else has the key too. Its
            // payload may be nowhere.
            let available = self.dag.latest_available(own.author, round);
            own = available.unwrap_or_else(|| self.committee.genesis_block(own.author));
        }
        // Nobody is left out where there is no quorum otherwise.
        let is_picky = self.is_nameable_quorum(round.previous());
        let equivocations = &self.equivocations;
        let shunned = |block: &BlockRef| is_picky && equivocations.is_shunned(block.author, block.round);
        let mut ancestors = vec![own];
        for author in self.committee.indices().filter(|author| *author != own.author) {
            let named = &mut self.proposer.named[author.as_usize()];
            let block = if round == Round(1) {
                self.committee.genesis_block(author)
            } else {
                match self.dag.latest_available(author, round) {
                    Some(block) if block.round > *named && !shunned(&block) => block,
                    _ => continue,
                }
            };
            *named = block.round;
            ancestors.push(block);
        }
        ancestors
    }
}

/// Counts and lengths of a payload are far below 32 bits.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or_else(|_| unreachable!("payload sizes are bounded by 4 MiB"))
}
