//! Decides leader slots from the DAG alone.

use std::collections::BTreeMap;

use super::{Commit, LeaderSchedule};
use crate::committee::StakeSum;
use crate::dag::{DagBlock, DagState};
use crate::planted::{self, Bug};
use crate::types::{AuthorityIndex, BlockRef, Round};

/// Rounds from a leader to the blocks that certify it.
const CERTIFY: u64 = 2;
/// Rounds from a leader to the first that may be its anchor.
const ANCHOR: u64 = 3;

/// One leader slot: the `rank`-th leader of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Slot {
    /// Round of the leader's block.
    pub round: Round,
    /// Position among the leaders of the round.
    pub rank: usize,
}

/// What is decided of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This block is the leader of the slot.
    Commit(BlockRef),
    /// The slot has no leader.
    Skip,
    /// Not decided yet.
    Undecided,
}

/// The commit rule.
///
/// A decision never changes as the DAG grows, so each is made once and kept; an undecided slot is looked at again only
/// when blocks entered one or two rounds above it, or a later slot was decided. What is kept is a shortcut and no
/// state: a new committer decides the same.
#[derive(Debug, Clone)]
pub struct Committer {
    schedule: LeaderSchedule,
    rounds: BTreeMap<Round, Judged>,
}

/// The slots of a round, in order.
#[derive(Debug, Clone)]
struct Judged {
    slots: Vec<(AuthorityIndex, Decision)>,
    /// Blocks one and two rounds above when the slots were last looked at.
    seen: [usize; 2],
}

/// Blocks of a round in the history of an anchor: many slots ask for the same.
type Histories = BTreeMap<(BlockRef, Round), Vec<BlockRef>>;

impl Committer {
    /// Decides the slots of a schedule.
    #[must_use]
    pub fn new(schedule: LeaderSchedule) -> Self {
        Self { schedule, rounds: BTreeMap::new() }
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &LeaderSchedule {
        &self.schedule
    }

    /// The slot after `slot` in the order in which slots are committed.
    #[must_use]
    pub fn next_slot(&self, slot: Slot) -> Slot {
        if slot.rank + 1 < self.schedule.slots(slot.round) {
            Slot { round: slot.round, rank: slot.rank + 1 }
        } else {
            Slot { round: slot.round.next(), rank: 0 }
        }
    }

    /// Decisions from `from` on, oldest first, up to the first slot that is undecided, or up to a commit that may change
    /// the schedule: slots after it are decided once [`Committer::on_commit`] has heard of it. So call again until nothing comes.
    #[must_use]
    pub fn try_decide(&mut self, dag: &DagState, from: Slot) -> Vec<(Slot, Decision)> {
        // A slot can be decided directly once round r+1 exists, indirectly only by a decided later slot.
        let Some(last) = dag.highest_round().0.checked_sub(1).filter(|last| *last >= from.round.0) else {
            return Vec::new();
        };
        while self.rounds.first_key_value().is_some_and(|(round, _)| *round < from.round) {
            self.rounds.pop_first();
        }
        let mut histories = Histories::new();
        let mut decided_above = false;
        for round in (from.round.0..=last).rev().map(Round) {
            let first = if round == from.round { from.rank } else { 0 };
            decided_above |= self.judge(dag, round, first, decided_above, &mut histories);
        }
        self.in_order(from)
    }

    /// Hears of every commit, in order. At some of them the schedule of later rounds changes, and with it what is known of
    /// slots that are not committed yet.
    pub fn on_commit(&mut self, commit: &Commit) {
        if self.schedule.on_commit(commit) {
            self.rounds.clear();
        }
    }

    /// What was decided of all slots when the committer last looked, beyond the first undecided one too.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeMap<Slot, Decision> {
        let slots = |(round, judged): (&Round, &Judged)| {
            let round = *round;
            let decisions: Vec<Decision> = judged.slots.iter().map(|(_, decision)| *decision).collect();
            decisions.into_iter().enumerate().map(move |(rank, decision)| (Slot { round, rank }, decision))
        };
        self.rounds.iter().flat_map(slots).collect()
    }

    /// Looks at the slots of a round that may have become decided; returns whether one did.
    fn judge(
        &mut self,
        dag: &DagState,
        round: Round,
        first: usize,
        decided_above: bool,
        histories: &mut Histories,
    ) -> bool {
        let known = self.rounds.remove(&round);
        let by_anchor = decided_above || known.is_none();
        let mut judged = known.unwrap_or_else(|| Judged::new(&self.schedule, round));
        let seen = [1, 2].map(|above| dag.round_len(Round(round.0 + above)));
        let directly = std::mem::replace(&mut judged.seen, seen) != seen;
        let mut any = false;
        for (leader, decision) in judged.slots.iter_mut().skip(first) {
            if *decision != Decision::Undecided {
                continue;
            }
            if directly {
                *decision = decide_directly(dag, round, *leader);
            }
            if by_anchor && *decision == Decision::Undecided {
                *decision = self.decide_by_anchor(dag, round, *leader, histories);
            }
            any |= *decision != Decision::Undecided;
        }
        self.rounds.insert(round, judged);
        any
    }

    fn in_order(&self, from: Slot) -> Vec<(Slot, Decision)> {
        let mut decided = Vec::new();
        let slots = self.rounds.iter().flat_map(|(round, judged)| {
            let slot = |rank| Slot { round: *round, rank };
            judged.slots.iter().enumerate().map(move |(rank, (_, decision))| (slot(rank), *decision))
        });
        for (slot, decision) in slots.skip_while(|(slot, _)| *slot < from) {
            match decision {
                Decision::Undecided if planted::is(Bug::CommitUndecided) => {}
                Decision::Undecided => break,
                Decision::Skip => decided.push((slot, decision)),
                Decision::Commit(leader) => {
                    decided.push((slot, decision));
                    if self.schedule.may_change_at(leader.round) {
                        break;
                    }
                }
            }
        }
        decided
    }

    /// By the first later slot, from round r+3 on, that is not skipped.
    fn decide_by_anchor(
        &self,
        dag: &DagState,
        round: Round,
        leader: AuthorityIndex,
        histories: &mut Histories,
    ) -> Decision {
        let first = Round(round.0 + ANCHOR - u64::from(planted::is(Bug::AnchorTooNear)));
        let later = self.rounds.range(first..).flat_map(|(_, judged)| &judged.slots);
        for (_, decision) in later {
            match decision {
                Decision::Skip => {}
                Decision::Undecided => return Decision::Undecided,
                Decision::Commit(anchor) => return decide_in_history(dag, round, leader, anchor, histories),
            }
        }
        Decision::Undecided
    }
}

impl Judged {
    fn new(schedule: &LeaderSchedule, round: Round) -> Self {
        let leaders = schedule.leaders(round);
        Self {
            slots: leaders.into_iter().map(|leader| (leader, Decision::Undecided)).collect(),
            seen: [0; 2],
        }
    }
}

/// By enough certificates, or enough blocks that do not vote for any block of the slot.
fn decide_directly(dag: &DagState, round: Round, leader: AuthorityIndex) -> Decision {
    let committee = dag.committee();
    let thresholds = committee.thresholds();
    if committee.stake_of(dag.blamers(round, leader)) >= thresholds.skip {
        return Decision::Skip;
    }
    let certified = dag
        .slot(round, leader)
        .filter(|(_, entry)| committee.stake_of(entry.certifiers) >= thresholds.commit)
        .map(|(block, _)| *block);
    the_only(certified, round, leader).map_or(Decision::Undecided, Decision::Commit)
}

fn decide_in_history(
    dag: &DagState,
    round: Round,
    leader: AuthorityIndex,
    anchor: &BlockRef,
    histories: &mut Histories,
) -> Decision {
    let committee = dag.committee();
    let threshold = committee.thresholds().indirect_commit;
    let certifying = Round(round.0 + CERTIFY);
    let mut certified = Vec::new();
    for (block, entry) in dag.slot(round, leader) {
        // No block can hold more votes than there are.
        if committee.stake_of(entry.voters) < threshold {
            continue;
        }
        let history =
            histories.entry((*anchor, certifying)).or_insert_with(|| history_at(dag, anchor, certifying));
        let holds = |candidate: &BlockRef| {
            dag.get(candidate).is_some_and(|entry| votes_in(dag, entry, block).reaches(threshold))
        };
        if history.iter().any(holds) {
            certified.push(*block);
        }
    }
    the_only(certified.into_iter(), round, leader).map_or(Decision::Skip, Decision::Commit)
}

fn the_only(
    mut certified: impl Iterator<Item = BlockRef>,
    round: Round,
    leader: AuthorityIndex,
) -> Option<BlockRef> {
    let first = certified.next();
    assert!(certified.next().is_none(), "two blocks of round {round} by authority {leader} are certified");
    first
}

/// Votes for `leader` among the parents of a block of round r+2.
fn votes_in(dag: &DagState, entry: &DagBlock, leader: &BlockRef) -> StakeSum {
    let mut votes = StakeSum::new();
    for parent in entry.header.header().ancestors.iter().filter(|a| a.round == leader.round.next()) {
        if dag.get(parent).is_some_and(|voter| voter.header.header().ancestors.contains(leader)) {
            votes.add(dag.committee(), parent.author);
        }
    }
    votes
}

/// Blocks of `round` in the history of `from`.
fn history_at(dag: &DagState, from: &BlockRef, round: Round) -> Vec<BlockRef> {
    let mut front = std::collections::BTreeSet::from([*from]);
    let mut found = Vec::new();
    while let Some(block) = front.pop_last() {
        if block.round == round {
            found.push(block);
            continue;
        }
        let Some(entry) = dag.get(&block) else { continue };
        front.extend(entry.header.header().ancestors.iter().filter(|a| a.round >= round));
    }
    found
}
