//! The pacemaker with time: four authorities, one Byzantine, every choice of delays.
//!
//! Time goes in ticks. After synchrony a message takes one tick or two, as the adversary likes: Δ is two ticks, the leader
//! timeout 2Δ is four. A block brings its history along (what a receiver lacks is fetched; that cost is part of Δ here). The
//! Byzantine authority sees everything at once. In each round it is silent, or makes a block whenever it likes, leaves the
//! leader out if it can, and shows the block first to two of the others or to all. One leader a round, taking turns. All
//! start together, or one of them Δ later.
//!
//! Looked at are runs **without a commit**: a run is followed until three authors certify a leader. So
//! with a live pacemaker the tree of runs is finite, and its depth in rounds is the bound; and a pacemaker that can stall has
//! a state that comes up again, a few rounds later, in a run without a commit: a **lasso**, which goes on for ever.
//! Only direct commits need be looked at: an anchor that decides another slot has itself been committed, the last of
//! such a chain directly.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::explore::{AUTHORITIES, BYZANTINE};

/// Honest authorities are the first three.
const HONEST: usize = 3;
const QUORUM: usize = 3;
const TIMEOUT: u8 = 4;
/// Not on its way: it comes along with a block that names it.
const NEVER: u8 = u8::MAX;
/// Rounds that a state holds at most. Honest authorities are never that far apart, and older rounds decide nothing.
const ROWS: usize = 8;

/// Whether a validator keeps to A2: it makes a block of every round. Else it goes on behind the highest round that has a
/// quorum, and leaves out the rounds between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    EveryRound,
    Jump,
}

/// A block in a state.
#[derive(Clone, Copy, Debug, Hash)]
struct Made {
    /// Authors whose blocks of the round before it names, as bits.
    parents: u8,
    /// For each honest authority the ticks until it is there.
    arrives: [u8; HONEST],
}

type Row = [Option<Made>; AUTHORITIES];

/// An honest authority. Rounds are positions in [`State::rows`].
#[derive(Clone, Copy, Debug, Hash)]
struct Honest {
    /// Round of its last block.
    last: usize,
    /// Round that it may make a block of, by A1 and A2, and for how many ticks it has been so.
    ready: Option<(usize, u8)>,
}

/// What decides how a run goes on. Rounds count from the lowest that still matters, so that a run can come back.
#[derive(Clone, Debug, Hash)]
struct State {
    /// Number of the first row, as far as leaders depend on it.
    turn: usize,
    /// Lowest round that has a leader: genesis has none.
    led: usize,
    rows: Vec<Row>,
    honest: [Honest; HONEST],
    /// Round that the Byzantine authority makes its next block of.
    byzantine: usize,
}

/// Stands for a state: 128 bits, so that no two of the millions share one.
type Fingerprint = (u64, u64);

/// What exploring found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// No run goes farther than to this round before a leader is committed.
    Bounded { states: usize, rounds: usize },
    /// A state comes up again after so many rounds, without a commit between.
    Lasso { states: usize, rounds: usize },
}

fn count(bits: u8) -> usize {
    bits.count_ones() as usize
}

fn bit(author: usize) -> u8 {
    1 << author
}

impl State {
    fn fingerprint(&self) -> Fingerprint {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, self).hash(&mut hasher);
            hasher.finish()
        };
        (half(0), half(1))
    }

    /// Everybody holds a block of round 0, and learns of the others' after its own delay.
    fn start(turn: usize, delays: [u8; HONEST]) -> Self {
        let genesis = Made { parents: 0, arrives: delays };
        let honest = [Honest { last: 0, ready: None }; HONEST];
        Self { turn, led: 1, rows: vec![[Some(genesis); AUTHORITIES]], honest, byzantine: 1 }
    }

    fn leader(&self, round: usize) -> usize {
        (self.turn + round) % AUTHORITIES
    }

    /// Authors whose blocks of a round fulfil a condition, as bits.
    fn authors(&self, round: usize, holds: impl Fn(&Made) -> bool) -> u8 {
        let Some(row) = self.rows.get(round) else { return 0 };
        let of = |author: usize| row[author].filter(|made| holds(made)).map_or(0, |_| bit(author));
        (0..AUTHORITIES).map(of).fold(0, |all, one| all | one)
    }

    fn here(&self, round: usize, at: usize) -> u8 {
        self.authors(round, |made| made.arrives[at] == 0)
    }

    /// A1, and A2 or what stands for it.
    fn next_round(&self, at: usize, advance: Advance) -> Option<usize> {
        let last = self.honest[at].last;
        let quorum = |round: &usize| count(self.here(*round, at)) >= QUORUM;
        match advance {
            Advance::EveryRound => Some(last).filter(quorum),
            Advance::Jump => (last..self.rows.len()).rev().find(quorum),
        }
        .map(|round| round + 1)
    }

    /// C1 for a block on top of `parent`.
    fn leaders_are_settled(&self, parent: usize, at: usize) -> bool {
        let before = bit((self.leader(parent) + AUTHORITIES - 1) % AUTHORITIES);
        let votes = self.authors(parent, |made| made.arrives[at] == 0 && made.parents & before != 0);
        let blames = self.authors(parent, |made| made.arrives[at] == 0 && made.parents & before == 0);
        self.here(parent, at) & bit(self.leader(parent)) != 0
            && (count(votes) >= QUORUM || count(blames) >= QUORUM)
    }

    /// The round that an honest authority makes a block of now.
    fn makes(&self, at: usize) -> Option<usize> {
        let (round, waited) = self.honest[at].ready?;
        let others_are_there = count(self.here(round, at)) >= QUORUM;
        (others_are_there || waited >= TIMEOUT || self.leaders_are_settled(round - 1, at)).then_some(round)
    }

    fn follow(&mut self, at: usize, advance: Advance) {
        let next = self.next_round(at, advance);
        let honest = &mut self.honest[at];
        honest.ready = match (honest.ready, next) {
            (Some((round, waited)), Some(next)) if round == next => Some((round, waited)),
            (_, next) => next.map(|round| (round, 0)),
        };
    }

    fn put(&mut self, round: usize, author: usize, made: Made) {
        if self.rows.len() == round {
            self.rows.push([None; AUTHORITIES]);
        }
        assert!(self.rows.len() <= ROWS, "honest authorities are {ROWS} rounds apart");
        self.rows[round][author] = Some(made);
    }

    /// Whether a block of this round gave the leader two rounds before its last certificate.
    fn commits(&self, round: usize) -> bool {
        if round < self.led + 2 {
            return false;
        }
        let leader = bit(self.leader(round - 2));
        let votes = self.authors(round - 1, |made| made.parents & leader != 0);
        count(self.authors(round, |made| count(made.parents & votes) >= QUORUM)) >= QUORUM
    }

    /// A tick passes: messages arrive, each with its history, and who waits has waited longer.
    fn pass(&mut self, advance: Advance) {
        for made in self.rows.iter_mut().flatten().flatten() {
            for arrives in made.arrives.iter_mut().filter(|arrives| **arrives != NEVER) {
                *arrives = arrives.saturating_sub(1);
            }
        }
        for round in (1..self.rows.len()).rev() {
            for made in self.rows[round].into_iter().flatten() {
                for author in (0..AUTHORITIES).filter(|author| made.parents & bit(*author) != 0) {
                    let Some(parent) = &mut self.rows[round - 1][author] else { continue };
                    for at in (0..HONEST).filter(|at| made.arrives[*at] == 0) {
                        parent.arrives[at] = 0;
                    }
                }
            }
        }
        for at in 0..HONEST {
            if let Some((_, waited)) = &mut self.honest[at].ready {
                *waited = TIMEOUT.min(*waited + 1);
            }
            self.follow(at, advance);
        }
    }

    /// Forgets rounds that everybody has left behind. Returns how many.
    fn forget(&mut self) -> usize {
        let gone = self.honest.iter().map(|honest| honest.last).min().unwrap_or(0).saturating_sub(2);
        self.rows.drain(..gone);
        self.turn = (self.turn + gone) % AUTHORITIES;
        self.led = self.led.saturating_sub(gone);
        for honest in &mut self.honest {
            honest.last -= gone;
            honest.ready = honest.ready.map(|(round, waited)| (round - gone, waited));
        }
        // A block of a round that all honest ones have left behind changes nothing any more.
        self.byzantine = self.byzantine.saturating_sub(gone).max(1);
        gone
    }

    /// Every state one tick later that is reached without a commit.
    fn successors(&self, advance: Advance) -> Vec<Self> {
        let mut now = self.clone();
        now.pass(advance);
        let mut done = Vec::new();
        let mut open = vec![now];
        while let Some(state) = open.pop() {
            match (0..HONEST).find_map(|at| Some((at, state.makes(at)?))) {
                Some((at, round)) => open.extend(state.honest_block(at, round, advance)),
                None => done.extend(state.byzantine_blocks()),
            }
        }
        done
    }

    /// An honest block, with every choice of delays, unless it brings a commit.
    fn honest_block(&self, at: usize, round: usize, advance: Advance) -> Vec<Self> {
        let parents = self.here(round - 1, at);
        let others: Vec<usize> = (0..HONEST).filter(|other| *other != at).collect();
        let mut states = Vec::new();
        for choice in 0..4_u8 {
            let mut arrives = [0; HONEST];
            arrives[others[0]] = 1 + (choice & 1);
            arrives[others[1]] = 1 + (choice >> 1);
            let mut next = self.clone();
            next.put(round, at, Made { parents, arrives });
            if next.commits(round) {
                // It does with every choice of delays.
                return Vec::new();
            }
            next.honest[at] = Honest { last: round, ready: None };
            next.follow(at, advance);
            states.push(next);
        }
        states
    }

    /// Nothing new, or the next Byzantine block, once the round before lets it be made: shown first to two honest authorities
    /// or to all. It comes when the adversary likes, until the slowest honest authority has left its round behind.
    fn byzantine_blocks(self) -> Vec<Self> {
        let lowest = self.honest.iter().map(|honest| honest.last).min().unwrap_or(0);
        let round = self.byzantine.max(lowest + 1);
        let mut states = vec![Self { byzantine: round, ..self.clone() }];
        let made = self.authors(round - 1, |_| true);
        // Without the leader if that leaves a quorum.
        let without = made & !bit(self.leader(round - 1));
        let parents = if count(without) >= QUORUM { without } else { made };
        if round > self.rows.len() || count(parents) < QUORUM {
            return states;
        }
        for shown in [0b011, 0b101, 0b110, 0b111] {
            let mut next = self.clone();
            let arrives = std::array::from_fn(|at| if shown & bit(at) != 0 { 1 } else { NEVER });
            next.put(round, BYZANTINE, Made { parents, arrives });
            next.byzantine = round + 1;
            if !next.commits(round) {
                states.push(next);
            }
        }
        states
    }
}

/// One state on the path that is being followed.
struct Step {
    fingerprint: Fingerprint,
    /// Successors that are left to follow, each with the rounds that it moves on.
    left: Vec<(State, usize)>,
    /// Rounds from the start of the path.
    rounds: usize,
    /// Highest round, counted from here, that is made on a way from here.
    longest: usize,
    /// Rounds from the step before.
    moved: usize,
}

/// Follows every run without a commit from every start.
pub fn explore(advance: Advance) -> Found {
    let mut done: BTreeMap<Fingerprint, usize> = BTreeMap::new();
    let mut longest = 0;
    for delays in [[0, 0, 0], [0, 0, 2]] {
        for turn in 0..AUTHORITIES {
            match follow(State::start(turn, delays), advance, &mut done) {
                Ok(rounds) => longest = longest.max(rounds),
                Err(rounds) => return Found::Lasso { states: done.len(), rounds },
            }
        }
    }
    Found::Bounded { states: done.len(), rounds: longest }
}

/// Depth first. `Ok` with the longest run in rounds, `Err` with the rounds of a lasso.
fn follow(start: State, advance: Advance, done: &mut BTreeMap<Fingerprint, usize>) -> Result<usize, usize> {
    let mut on_path: BTreeMap<Fingerprint, usize> = BTreeMap::new();
    let mut path: Vec<Step> = Vec::new();
    let mut next = Some((start, 0));
    loop {
        if let Some((state, moved)) = next.take() {
            let rounds = path.last().map_or(0, |step| step.rounds) + moved;
            let fingerprint = state.fingerprint();
            if let Some(longest) = done.get(&fingerprint) {
                let Some(step) = path.last_mut() else { return Ok(*longest) };
                step.longest = step.longest.max(moved + longest);
            } else if let Some(before) = on_path.get(&fingerprint) {
                return Err(rounds - before);
            } else {
                let left = state.successors(advance).into_iter();
                let left = left.map(|mut state| {
                    let moved = state.forget();
                    (state, moved)
                });
                on_path.insert(fingerprint, rounds);
                let longest = state.rows.len() - 1;
                path.push(Step { left: left.rev().collect(), fingerprint, rounds, longest, moved });
            }
        }
        let Some(step) = path.last_mut() else { unreachable!("the first step returns") };
        next = step.left.pop();
        if next.is_none() {
            let Some(step) = path.pop() else { unreachable!("looked at above") };
            on_path.remove(&step.fingerprint);
            done.insert(step.fingerprint, step.longest);
            let Some(before) = path.last_mut() else { return Ok(step.longest) };
            before.longest = before.longest.max(step.moved + step.longest);
        }
    }
}
