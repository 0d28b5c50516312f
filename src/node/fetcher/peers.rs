//! What the fetcher knows of each peer: how much it may be asked for at once, and how long its answers take.

use super::super::pace::Pace;
use crate::committee::Committee;
use crate::limits::FETCH_REFS_MAX;
use crate::types::AuthorityIndex;

/// Blocks that one peer is asked for and has not answered, at most.
pub(super) const WINDOW_MAX: usize = 2 * FETCH_REFS_MAX;
/// Window of a peer that nothing is known of.
const WINDOW_START: usize = 64;
/// Window of a peer that does not answer: enough to find out that it does again.
pub(super) const WINDOW_MIN: usize = 4;
/// The pause of a silent peer doubles up to 2 to the power of this, in timeouts.
const PAUSE_DOUBLINGS_MAX: u32 = 5;
/// Lower bound of the adaptive timeout, as a part of the configured one, which is its upper bound.
const TIMEOUT_MIN_PART: u64 = 8;
/// Payloads may take this many times as long as headers.
const PAYLOAD_TIMEOUT_FACTOR: u64 = 4;
/// After each full turn of the peers the pause before the next doubles, up to 2 to the power of this.
const TURN_DOUBLINGS_MAX: u32 = 4;
/// Longest such pause, as a multiple of the configured time-out: a line that lost everything for a minute may be well again, and
/// a whole network can wait for one payload.
const PAUSE_FACTOR: u64 = 8;

/// What is asked for; their answers take different times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Header = 0,
    Payload = 1,
}

/// Smoothed answer time and its spread, as RFC 6298 has it for round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    mean_us: u64,
    spread_us: u64,
}

impl Estimate {
    fn first(sample_us: u64) -> Self {
        Self { mean_us: sample_us, spread_us: sample_us / 2 }
    }

    fn add(&mut self, sample_us: u64) {
        self.spread_us = (3 * self.spread_us + self.mean_us.abs_diff(sample_us)) / 4;
        self.mean_us = (7 * self.mean_us + sample_us) / 8;
    }
}

#[derive(Debug, Clone)]
struct Peer {
    up: bool,
    window: usize,
    in_flight: usize,
    /// Timeouts in a row without any answer.
    silent: u32,
    quiet_until_us: u64,
    /// One timeout counts once, however many blocks it was for.
    counted_until_us: u64,
    last_answer_us: Option<u64>,
    estimates: [Option<Estimate>; 2],
}

/// A set of validators: a committee has at most 128.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PeerSet(u128);

impl PeerSet {
    pub(super) fn insert(&mut self, peer: AuthorityIndex) {
        self.0 |= 1 << peer.0;
    }

    pub(super) fn contains(self, peer: AuthorityIndex) -> bool {
        self.0 & (1 << peer.0) != 0
    }
}

/// A block to ask for, as far as the choice of a peer depends on it.
pub(super) struct Question {
    /// Who sent or named it.
    pub(super) first: AuthorityIndex,
    /// Asked before.
    pub(super) tried: PeerSet,
    /// Asked now.
    pub(super) asked: PeerSet,
    /// Who has to have it, if it exists and they are honest.
    pub(super) holders: PeerSet,
    /// Whether the next leader may wait for it: then it gets the last quarter of a window too.
    pub(super) urgent: bool,
}

/// Whom to ask.
pub(super) enum Pick {
    Ask(AuthorityIndex),
    /// Everybody has enough to do.
    Full,
}

#[derive(Debug)]
pub(super) struct Peers {
    own: AuthorityIndex,
    timeout_max_us: u64,
    peers: Vec<Peer>,
}

impl Peers {
    pub(super) fn new(committee: &Committee, own: AuthorityIndex, pace: &Pace) -> Self {
        let peer = Peer {
            up: false,
            window: WINDOW_START,
            in_flight: 0,
            silent: 0,
            quiet_until_us: 0,
            counted_until_us: 0,
            last_answer_us: None,
            estimates: [None; 2],
        };
        Self { own, timeout_max_us: pace.fetch_timeout_us, peers: vec![peer; committee.size()] }
    }

    /// A new connection is a new chance.
    pub(super) fn set_up(&mut self, peer: AuthorityIndex, up: bool) {
        let peer = &mut self.peers[peer.as_usize()];
        peer.up = up;
        peer.silent = 0;
        peer.quiet_until_us = 0;
    }

    pub(super) fn clear_load(&mut self) {
        for peer in &mut self.peers {
            peer.in_flight = 0;
        }
    }

    pub(super) fn add_load(&mut self, peer: AuthorityIndex) {
        self.peers[peer.as_usize()].in_flight += 1;
    }

    /// Median over the peers that have answered: those that lie about their speed are fewer.
    fn estimate(&self, kind: Kind) -> Option<Estimate> {
        let mut known: Vec<Estimate> =
            self.peers.iter().filter_map(|peer| peer.estimates[kind as usize]).collect();
        known.sort_unstable_by_key(|estimate| estimate.mean_us + 4 * estimate.spread_us);
        known.get(known.len() / 2).copied()
    }

    fn bounds(&self, kind: Kind) -> (u64, u64) {
        let max = match kind {
            Kind::Header => self.timeout_max_us,
            Kind::Payload => PAYLOAD_TIMEOUT_FACTOR * self.timeout_max_us,
        };
        (self.timeout_max_us / TIMEOUT_MIN_PART, max)
    }

    /// How long an answer is waited for.
    pub(super) fn timeout_us(&self, kind: Kind) -> u64 {
        let (min, max) = self.bounds(kind);
        self.estimate(kind).map_or(max, |e| (2 * (e.mean_us + 4 * e.spread_us)).clamp(min, max))
    }

    /// After how long a second peer is asked: about one answer time.
    pub(super) fn hedge_us(&self, kind: Kind) -> u64 {
        let (min, max) = self.bounds(kind);
        self.estimate(kind).map_or(max / 4, |e| (e.mean_us + 2 * e.spread_us).clamp(min / 2, max))
    }

    /// The same after so many turns in vain.
    pub(super) fn pause_us(&self, kind: Kind, turns: u32) -> u64 {
        let doubled = self.hedge_us(kind) << turns.min(TURN_DOUBLINGS_MAX);
        doubled.min(PAUSE_FACTOR * self.timeout_max_us)
    }

    /// The peer to ask: the first if it was not asked yet, then others that have to have it, then anybody, in turn; those
    /// that have not answered for a while only if there is nobody else.
    pub(super) fn pick(&self, now_us: u64, question: &Question) -> Option<Pick> {
        let n = self.peers.len();
        let first = question.first.as_usize();
        let candidates = (0..n).map(|i| AuthorityIndex::from_usize((first + i) % n)).filter(|peer| {
            *peer != self.own && self.peers[peer.as_usize()].up && !question.asked.contains(*peer)
        });
        let rank = |peer: &AuthorityIndex| {
            let quiet = self.is_quiet(now_us, *peer);
            let holds = *peer == question.first || question.holders.contains(*peer);
            (quiet, question.tried.contains(*peer), !holds)
        };
        let mut ranked: Vec<_> = candidates.map(|peer| (rank(&peer), peer)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let any_awake = ranked.first().is_some_and(|((quiet, ..), _)| !quiet);
        if ranked.is_empty() {
            return None;
        }
        let room = |((quiet, ..), peer): &&((bool, bool, bool), AuthorityIndex)| {
            let peer = &self.peers[peer.as_usize()];
            let window = if *quiet { WINDOW_MIN } else { peer.window };
            let window = if question.urgent { window } else { window - window / 4 };
            *quiet != any_awake && peer.in_flight < window
        };
        Some(ranked.iter().find(room).map_or(Pick::Full, |(_, peer)| Pick::Ask(*peer)))
    }

    /// The peer for a range of rounds: the `turn`-th of those that answer, or of all if none does.
    pub(super) fn in_turn(&self, now_us: u64, turn: u32) -> Option<AuthorityIndex> {
        let up = |peer: &AuthorityIndex| *peer != self.own && self.peers[peer.as_usize()].up;
        let all = (1..=self.peers.len())
            .map(|i| AuthorityIndex::from_usize((self.own.as_usize() + i) % self.peers.len()));
        let (quiet, awake): (Vec<_>, Vec<_>) = all.filter(up).partition(|peer| self.is_quiet(now_us, *peer));
        let candidates = if awake.is_empty() { quiet } else { awake };
        (!candidates.is_empty()).then(|| candidates[turn as usize % candidates.len()])
    }

    fn is_quiet(&self, now_us: u64, peer: AuthorityIndex) -> bool {
        self.peers[peer.as_usize()].quiet_until_us > now_us
    }

    /// A peer answered what it was asked for.
    pub(super) fn answered(&mut self, now_us: u64, peer: AuthorityIndex, kind: Kind, asked_us: u64) {
        self.heard(now_us, peer);
        let peer = &mut self.peers[peer.as_usize()];
        peer.window = (peer.window + 1).min(WINDOW_MAX);
        peer.in_flight = peer.in_flight.saturating_sub(1);
        let sample = now_us.saturating_sub(asked_us);
        match &mut peer.estimates[kind as usize] {
            Some(estimate) => estimate.add(sample),
            none => *none = Some(Estimate::first(sample)),
        }
    }

    /// A peer answered something, if only that it has nothing.
    pub(super) fn heard(&mut self, now_us: u64, peer: AuthorityIndex) {
        let peer = &mut self.peers[peer.as_usize()];
        peer.silent = 0;
        peer.quiet_until_us = 0;
        peer.last_answer_us = Some(now_us);
    }

    /// A peer did not answer in time what it was asked for. Had it to have the block, it is asked for half as much from here
    /// on; if it has said nothing at all since, it is asked less and less often. (That a peer lacks what another one names is
    /// no fault of its own: anybody may name what does not exist.)
    pub(super) fn missed(
        &mut self,
        now_us: u64,
        who: AuthorityIndex,
        kind: Kind,
        asked_us: u64,
        is_holder: bool,
    ) {
        let timeout_us = self.timeout_us(kind);
        let peer = &mut self.peers[who.as_usize()];
        let is_silent = peer.last_answer_us.is_none_or(|at| at < asked_us);
        if peer.counted_until_us > now_us || !(is_holder || is_silent) {
            return;
        }
        peer.counted_until_us = now_us + timeout_us;
        peer.window = (peer.window / 2).max(WINDOW_MIN);
        if is_silent {
            peer.silent += 1;
            if peer.silent > 1 {
                peer.window = WINDOW_MIN;
                let doublings = (peer.silent - 2).min(PAUSE_DOUBLINGS_MAX);
                peer.quiet_until_us = now_us + (timeout_us << doublings);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn window(&self, peer: AuthorityIndex) -> usize {
        self.peers[peer.as_usize()].window
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self, peer: AuthorityIndex) -> usize {
        self.peers[peer.as_usize()].in_flight
    }
}
