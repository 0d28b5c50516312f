//! How long a validator waits for the blocks of a round before it makes its own of the next one.
//!
//! Two waits, both measured. For the round's **first leader** it waits up to 2Δ (the paper's C2): Δ follows how late leaders
//! are, doubles with every few waits in vain until something commits again, and so outgrows any delay that the network settles
//! at; that is what liveness asks for. (Doubling at once would make a few lost messages cost seconds.)
//!
//! For the blocks of **everybody else who was there in the round before and has a slot** it waits a grace, never longer than a
//! round: a block that misses the next round's ancestors gets votes from some and none from others, and a slot that is neither
//! committed nor skipped holds up all behind it. Nobody waits for who is later, on the mean, than a round takes without
//! waiting: rounds that have grown by waiting must not be the reason to wait as long (one author that comes a delay late doubled
//! the rounds of all). Lateness is measured for each author and judged by what a quorum shows, so that a few slow ones cannot
//! stretch the waits of all.

use std::cell::Cell;
use std::collections::VecDeque;

use super::pace::Pace;
use crate::committee::Committee;
use crate::types::{AuthorityIndex, Round};

/// Rounds whose moments are remembered, so that blocks that come late are measured too.
const MOMENTS_MAX: usize = 32;
/// Multiple of the least wait that a measurement counts for at most. What takes longer is an outage: it says nothing about
/// how late blocks are, and waits that had learned from it would take minutes to forget it.
const OUTAGE_FACTOR: u64 = 4;
/// Waits in vain without a commit before the wait is doubled, and again after as many.
const PATIENCE: u32 = 4;
/// Doublings at most; the configured bound comes first.
const BACKOFF_MAX: u32 = 16;
/// Part of the time of a round that the grace for a block which has never been late takes.
const GRACE_PART: u64 = 8;

/// A smoothed value and its smoothed deviation, as RFC 6298 keeps them for round-trip times.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    mean: u64,
    deviation: u64,
    seen: bool,
}

impl Smoothed {
    fn observe(&mut self, sample: u64) {
        if !self.seen {
            (self.mean, self.deviation, self.seen) = (sample, sample / 2, true);
            return;
        }
        self.deviation = (3 * self.deviation + self.mean.abs_diff(sample)) / 4;
        self.mean = (7 * self.mean + sample) / 8;
    }

    /// What almost every sample stays below.
    fn bound(&self) -> u64 {
        self.mean + 4 * self.deviation
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Pacemaker {
    leader_timeout_min_us: u64,
    leader_timeout_max_us: u64,
    /// Waits for a leader in vain since the last commit.
    in_vain: u32,
    /// For each author, how long after a quorum of its round its blocks come.
    lateness: Vec<Smoothed>,
    /// When a quorum of a round was there: (round, moment), oldest first.
    quorums: VecDeque<(Round, u64)>,
    round_us: Smoothed,
    /// From an own block until those of a quorum of its round are here: a round without waits.
    unwaited_us: Smoothed,
    /// What [`Pacemaker::find_late_us`] found, until the lateness of an author changes: it is asked for with every input.
    late_us: Cell<Option<u64>>,
}

impl Pacemaker {
    pub(super) fn new(committee: &Committee, pace: &Pace) -> Self {
        Self {
            leader_timeout_min_us: pace.leader_timeout_min_us,
            leader_timeout_max_us: pace.leader_timeout_max_us.max(pace.leader_timeout_min_us),
            in_vain: 0,
            lateness: vec![Smoothed::default(); committee.size()],
            quorums: VecDeque::new(),
            round_us: Smoothed::default(),
            unwaited_us: Smoothed::default(),
            late_us: Cell::new(None),
        }
    }

    /// Blocks of a quorum at `round` are available for the first time.
    pub(super) fn quorum_at(&mut self, round: Round, now_us: u64) {
        if self.quorums.back().is_some_and(|(last, _)| *last >= round) {
            return;
        }
        self.quorums.push_back((round, now_us));
        if self.quorums.len() > MOMENTS_MAX {
            self.quorums.pop_front();
        }
    }

    /// A block of `round` by `author` has become available.
    pub(super) fn came(&mut self, author: AuthorityIndex, round: Round, now_us: u64) {
        let Some((last, _)) = self.quorums.back() else { return };
        let late = match self.quorums.binary_search_by_key(&round, |(round, _)| *round) {
            Ok(at) => now_us.saturating_sub(self.quorums[at].1),
            Err(_) if round > *last => 0,
            // Too old to tell.
            Err(_) => return,
        };
        let late = late.min(self.longest_us());
        self.lateness[author.as_usize()].observe(late);
        self.late_us.set(None);
    }

    /// An own block was made `us` after the one before it, and could have been `unwaited_us` after it.
    pub(super) fn made_round(&mut self, us: u64, unwaited_us: Option<u64>) {
        let longest = self.longest_us();
        self.round_us.observe(us.min(longest));
        if let Some(unwaited) = unwaited_us {
            self.unwaited_us.observe(unwaited.min(longest));
        }
    }

    fn longest_us(&self) -> u64 {
        OUTAGE_FACTOR * self.leader_timeout_min_us
    }

    /// A leader was waited for in vain.
    pub(super) fn timed_out(&mut self) {
        self.in_vain = (self.in_vain + 1).min(PATIENCE * BACKOFF_MAX);
    }

    /// Something was committed: the waits are long enough.
    pub(super) fn committed(&mut self) {
        self.in_vain = 0;
    }

    /// 2Δ: how long to wait for the first leader's block.
    pub(super) fn leader_timeout_us(&self, committee: &Committee) -> u64 {
        let late = self.late_us.get().unwrap_or_else(|| self.find_late_us(committee));
        self.late_us.set(Some(late));
        let base = (2 * late).max(self.leader_timeout_min_us);
        base.saturating_mul(1 << (self.in_vain / PATIENCE)).min(self.leader_timeout_max_us)
    }

    /// What a quorum stays below: at least f+1 honest authors are at or above it, and no f can lift it.
    fn find_late_us(&self, committee: &Committee) -> u64 {
        let mut bounds: Vec<(u64, u64)> = committee
            .indices()
            .map(|a| (self.lateness[a.as_usize()].bound(), committee.stake(a).0))
            .collect();
        bounds.sort_unstable();
        let mut below = 0;
        let quorum = committee.quorum_threshold().0;
        let bound = bounds.into_iter().find_map(|(bound, stake)| {
            below += stake;
            (below >= quorum).then_some(bound)
        });
        bound.unwrap_or_default()
    }

    /// How long after the quorum to wait for a block of an author that is not the first leader.
    pub(super) fn grace_us(&self, author: AuthorityIndex) -> u64 {
        let lateness = &self.lateness[author.as_usize()];
        let most = self.round_us.mean;
        // For who is not too late there is always some grace: a wait for who comes costs little, and who does not come is
        // waited for in one round only.
        if lateness.mean >= self.unwaited_us.mean.min(most) {
            0
        } else {
            (2 * lateness.bound()).clamp(most / GRACE_PART, most)
        }
    }

    /// Smoothed time between own blocks.
    pub(super) fn round_us(&self) -> u64 {
        self.round_us.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::testing::committee;

    fn pacemaker() -> Pacemaker {
        let pace =
            Pace { leader_timeout_min_us: 20_000, leader_timeout_max_us: 5_000_000, ..Pace::default() };
        Pacemaker::new(&committee(4), &pace)
    }

    /// Rounds of 100 ms in which the authors come as late as said.
    fn run(pacemaker: &mut Pacemaker, rounds: std::ops::Range<u64>, late_us: [u64; 4]) {
        for round in rounds {
            let quorum = 100_000 * round;
            pacemaker.quorum_at(Round(round), quorum);
            pacemaker.made_round(100_000, Some(50_000));
            for (author, late) in (0..4).map(AuthorityIndex).zip(late_us) {
                pacemaker.came(author, Round(round), quorum + late);
            }
        }
    }

    #[test]
    fn the_wait_follows_what_a_quorum_shows_and_few_slow_ones_do_not_stretch_it() {
        let mut pacemaker = pacemaker();
        assert_eq!(pacemaker.leader_timeout_us(&committee(4)), 20_000);
        run(&mut pacemaker, 1..200, [0, 30_000, 40_000, 3_000_000]);
        let timeout = pacemaker.leader_timeout_us(&committee(4));
        assert!((80_000..100_000).contains(&timeout), "{timeout}");
        run(&mut pacemaker, 200..400, [0, 1_000, 2_000, 3_000]);
        assert_eq!(pacemaker.leader_timeout_us(&committee(4)), 20_000, "it shrinks again");
    }

    #[test]
    fn an_outage_is_forgotten_within_some_rounds() {
        let mut pacemaker = pacemaker();
        run(&mut pacemaker, 1..100, [0, 1_000, 1_000, 1_000]);
        for author in (0..4).map(AuthorityIndex) {
            pacemaker.came(author, Round(99), 60_000_000);
        }
        pacemaker.made_round(60_000_000, Some(60_000_000));
        assert!(pacemaker.leader_timeout_us(&committee(4)) < 400_000);
        run(&mut pacemaker, 700..720, [0, 1_000, 1_000, 1_000]);
        assert!(pacemaker.leader_timeout_us(&committee(4)) < 50_000);
        assert!(pacemaker.round_us() <= 80_000);
    }

    #[test]
    fn waits_in_vain_double_it_up_to_its_bound_and_a_commit_ends_that() {
        let mut pacemaker = pacemaker();
        let mut seen = Vec::new();
        for _ in 0..10 {
            seen.push(pacemaker.leader_timeout_us(&committee(4)) / 1_000);
            for _ in 0..PATIENCE {
                pacemaker.timed_out();
            }
        }
        assert_eq!(seen, [20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_000, 5_000]);
        pacemaker.committed();
        assert_eq!(pacemaker.leader_timeout_us(&committee(4)), 20_000);
    }

    #[test]
    fn the_grace_follows_each_author_and_nobody_waits_for_those_who_are_always_too_late() {
        let mut pacemaker = Pacemaker::new(&committee(4), &Pace::default());
        run(&mut pacemaker, 1..200, [0, 2_000, 20_000, 190_000]);
        let grace = |pacemaker: &Pacemaker| [0, 1, 2, 3].map(|a| pacemaker.grace_us(AuthorityIndex(a)));
        let [first, second, third, last] = grace(&pacemaker);
        assert_eq!((first, second, last), (12_500, 12_500, 0));
        assert!((40_000..45_000).contains(&third), "{third}");
        // Rounds take 100 ms only since all wait, and would take 50 without.
        run(&mut pacemaker, 200..400, [0, 45_000, 55_000, 99_000]);
        assert_eq!(grace(&pacemaker)[2..], [0, 0]);
        assert!((90_000..=100_000).contains(&grace(&pacemaker)[1]));
    }
}
