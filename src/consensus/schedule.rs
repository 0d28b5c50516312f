//! Which validators lead a round.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::Commit;
use crate::committee::{AuthoritySet, Committee};
use crate::genesis::Genesis;
use crate::types::{AuthorityIndex, Round, Stake};

/// Rounds between the leader of the commit that ends a window and the first round without those that did badly in it.
/// Decisions stay right with any number from 0 on; with the few rounds that commits need to follow, nearly no slot has to be
/// decided twice and proposers agree whom to wait for.
const NOTICE_ROUNDS: u64 = 8;
/// Rounds whose first leader is remembered; two in a row have different places.
const PRIMARIES: usize = 4;
/// Who has fewer timely blocks in a window than three quarters of the best loses its slots in the next.
const TIMELY_QUARTERS: u64 = 3;

/// Assigns the leader slots of each round by stake, alike on all validators: a sample without replacement, weighted by
/// stake, from BLAKE3(network, epoch, round).
///
/// With reputation (after HammerHead, arXiv 2309.12713) validators that were slow or silent in the last window of rounds take
/// no part in the sample: nobody waits for them, and no slot of theirs holds up later ones. At most f of the stake is left out.
/// Their blocks are still ordered, by the leaders that name them, and are still counted, so they come back.
#[derive(Debug, Clone)]
pub struct LeaderSchedule {
    committee: Arc<Committee>,
    leaders_per_round: usize,
    reputation: Option<Reputation>,
    /// First leaders of the rounds that were asked for last, each in the place of its round: a proposer asks for two of them
    /// whenever it looks whether it may go on.
    primaries: Cell<[Option<(Round, AuthorityIndex)>; PRIMARIES]>,
}

/// A function of the commits heard so far, and of nothing else.
#[derive(Debug, Clone)]
struct Reputation {
    window_rounds: u64,
    /// Leader's round of the commit that ended the window before.
    window_start: Round,
    /// For each authority its timely blocks in the window.
    timely: Vec<u64>,
    /// Who has no slots from a round on. Two entries reach back far enough: to the last committed leader and the round before.
    left_out: VecDeque<(Round, AuthoritySet)>,
}

impl LeaderSchedule {
    /// # Panics
    /// If there are more leaders than validators; the genesis decoder refuses that.
    #[must_use]
    pub fn new(committee: Arc<Committee>, leaders_per_round: u16) -> Self {
        let leaders_per_round = usize::from(leaders_per_round);
        assert!(
            (1..=committee.size()).contains(&leaders_per_round),
            "{leaders_per_round} leaders each round"
        );
        Self { committee, leaders_per_round, reputation: None, primaries: Cell::default() }
    }

    /// The schedule of a network before its first commit.
    #[must_use]
    pub fn of(genesis: &Genesis) -> Self {
        let parameters = genesis.parameters();
        Self::new(Arc::new(genesis.committee()), parameters.leaders_per_round)
            .with_reputation(parameters.reputation_window_rounds)
    }

    /// The same with reputation over windows of so many rounds; 0 is without.
    #[must_use]
    pub fn with_reputation(mut self, window_rounds: u64) -> Self {
        self.reputation = (window_rounds > 0).then(|| Reputation {
            window_rounds,
            window_start: Round(0),
            timely: vec![0; self.committee.size()],
            left_out: VecDeque::from([(Round(0), AuthoritySet::EMPTY)]),
        });
        self
    }

    /// Number of leader slots of a round.
    #[must_use]
    pub fn slots(&self, round: Round) -> usize {
        self.leaders_per_round.min(self.committee.size() - self.left_out(round).len())
    }

    /// Validators that have no slot in a round because of what they did before.
    #[must_use]
    pub fn left_out(&self, round: Round) -> AuthoritySet {
        let entries = self.reputation.iter().flat_map(|reputation| &reputation.left_out);
        entries.rev().find(|(from, _)| *from <= round).map_or(AuthoritySet::EMPTY, |(_, set)| *set)
    }

    /// The leaders of a round, in the order in which they are committed.
    #[must_use]
    pub fn leaders(&self, round: Round) -> Vec<AuthorityIndex> {
        self.draw(round, self.slots(round))
    }

    /// The first leader of a round: the one that proposers wait for.
    #[must_use]
    pub fn primary(&self, round: Round) -> AuthorityIndex {
        let at = usize::try_from(round.0 % PRIMARIES as u64).unwrap_or(0);
        let mut primaries = self.primaries.get();
        match primaries[at] {
            Some((of, leader)) if of == round => leader,
            _ => {
                let leader = self.draw(round, 1)[0];
                primaries[at] = Some((round, leader));
                self.primaries.set(primaries);
                leader
            }
        }
    }

    /// Whether the schedule of later rounds may change by the commit of a leader of this round.
    pub(super) fn may_change_at(&self, leader: Round) -> bool {
        self.reputation.as_ref().is_some_and(|reputation| reputation.ends_at(leader))
    }

    /// Hears of every commit, in order. Returns whether the schedule of later rounds changed.
    pub fn on_commit(&mut self, commit: &Commit) -> bool {
        let before = commit.leader.round.previous();
        let leaders_before = match &self.reputation {
            None => return false,
            // Everybody leads, but for those left out: no need to draw.
            Some(_) if self.leaders_per_round == self.committee.size() => {
                self.committee.indices().collect::<AuthoritySet>().difference(self.left_out(before))
            }
            Some(_) => self.leaders(before).into_iter().collect(),
        };
        let Some(reputation) = &mut self.reputation else { return false };
        for block in &commit.blocks {
            // A block is timely if it was committed in its own slot, or, if it had none, by a leader of the next round.
            let timely =
                *block == commit.leader || block.round == before && !leaders_before.contains(block.author);
            reputation.timely[block.author.as_usize()] += u64::from(timely);
        }
        let changes = reputation.ends_at(commit.leader.round)
            && reputation.end_window(&self.committee, commit.leader.round);
        if changes {
            self.primaries.take();
        }
        changes
    }

    /// The first `count` of the sample for a round.
    fn draw(&self, round: Round, count: usize) -> Vec<AuthorityIndex> {
        let left_out = self.left_out(round);
        let mut left: Vec<AuthorityIndex> =
            self.committee.indices().filter(|authority| !left_out.contains(*authority)).collect();
        let mut stake_left = self.committee.total_stake().0 - self.committee.stake_of(left_out).0;
        let mut random = self.random(round);
        let mut leaders = Vec::with_capacity(count);
        while leaders.len() < count {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            // The modulo favours low values by less than 2^32 / 2^64: the sum of stakes fits 39 bits.
            let mut ticket = u64::from_be_bytes(bytes) % stake_left;
            let winner = left
                .iter()
                .position(|authority| {
                    let stake = self.committee.stake(*authority).0;
                    let wins = ticket < stake;
                    ticket = ticket.saturating_sub(stake);
                    wins
                })
                .unwrap_or_else(|| unreachable!("a ticket below the sum of the stakes falls on one of them"));
            let authority = left.remove(winner);
            stake_left -= self.committee.stake(authority).0;
            leaders.push(authority);
        }
        leaders
    }

    fn random(&self, round: Round) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"salus/leaders/v1\0");
        hasher.update(&self.committee.network().0);
        hasher.update(&self.committee.epoch().0.to_be_bytes());
        hasher.update(&round.0.to_be_bytes());
        hasher.finalize_xof()
    }
}

impl Reputation {
    fn ends_at(&self, leader: Round) -> bool {
        leader.0 >= self.window_start.0 + self.window_rounds
    }

    /// Leaves out the worst, within f of the stake. Returns whether that is a change.
    fn end_window(&mut self, committee: &Committee, leader: Round) -> bool {
        let best = self.timely.iter().copied().max().unwrap_or(0);
        let mut ranking: Vec<(u64, AuthorityIndex)> =
            committee.indices().map(|authority| (self.timely[authority.as_usize()], authority)).collect();
        ranking.sort_unstable();
        let mut out = AuthoritySet::EMPTY;
        let mut stake = Stake(0);
        for (timely, authority) in ranking {
            let stake_with = Stake(stake.0 + committee.stake(authority).0);
            if 4 * timely < TIMELY_QUARTERS * best && stake_with <= committee.fault_tolerance() {
                out.insert(authority);
                stake = stake_with;
            }
        }
        self.window_start = leader;
        self.timely.fill(0);
        let changed = self.left_out.back().is_none_or(|(_, before)| *before != out);
        if changed {
            self.left_out.push_back((Round(leader.0 + 1 + NOTICE_ROUNDS), out));
            if self.left_out.len() > 2 {
                self.left_out.pop_front();
            }
        }
        changed
    }
}
