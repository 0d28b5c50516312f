//! The commit rule as the manual states it, decided anew from the whole DAG: what the committer must agree with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, LeaderSchedule, Slot};
use crate::committee::StakeSum;
use crate::dag::{DagBlock, DagState};
use crate::types::{AuthorityIndex, BlockRef, Round};

/// Rounds from a leader to the blocks that certify it.
const CERTIFY: u64 = 2;
/// Rounds from a leader to the first that may be its anchor.
const ANCHOR: u64 = 3;

/// Decisions of all slots from `from` on.
pub(super) fn decide(schedule: &LeaderSchedule, dag: &DagState, from: Slot) -> BTreeMap<Slot, Decision> {
    let mut decided = BTreeMap::new();
    for round in (from.round.0..dag.highest_round().0).rev().map(Round) {
        for (rank, leader) in schedule.leaders(round).into_iter().enumerate().rev() {
            let slot = Slot { round, rank };
            if slot < from {
                continue;
            }
            let mut decision = decide_directly(dag, round, leader);
            if decision == Decision::Undecided {
                decision = decide_by_anchor(dag, round, leader, &decided);
            }
            decided.insert(slot, decision);
        }
    }
    decided
}

/// Stake of the authors at `round` of whom one block fulfils a condition.
fn stake_at(dag: &DagState, round: Round, mut holds: impl FnMut(&DagBlock) -> bool) -> StakeSum {
    let mut sum = StakeSum::new();
    for (block, entry) in dag.round(round) {
        if holds(entry) {
            sum.add(dag.committee(), block.author);
        }
    }
    sum
}

/// The block of the slot (round, author) that a block of the next round votes for.
fn vote(entry: &DagBlock, round: Round, author: AuthorityIndex) -> Option<BlockRef> {
    entry.header.header().ancestors.iter().find(|a| a.round == round && a.author == author).copied()
}

/// Votes for `leader` among the ancestors of a block of round r+2.
fn votes_in(dag: &DagState, entry: &DagBlock, leader: &BlockRef) -> StakeSum {
    let mut votes = StakeSum::new();
    for ancestor in entry.header.header().ancestors.iter().filter(|a| a.round == leader.round.next()) {
        let Some(voter) = dag.get(ancestor) else { continue };
        if vote(voter, leader.round, leader.author) == Some(*leader) {
            votes.add(dag.committee(), ancestor.author);
        }
    }
    votes
}

/// By a quorum of certificates, or a quorum of blocks that do not vote for any block of the slot.
fn decide_directly(dag: &DagState, round: Round, leader: AuthorityIndex) -> Decision {
    let thresholds = dag.committee().thresholds();
    if stake_at(dag, round.next(), |entry| vote(entry, round, leader).is_none()).reaches(thresholds.skip) {
        return Decision::Skip;
    }
    let certifying = Round(round.0 + CERTIFY);
    let certifies =
        |entry: &DagBlock, block: &BlockRef| votes_in(dag, entry, block).reaches(thresholds.certificate);
    let mut certified = dag.slot(round, leader).map(|(block, _)| *block).filter(|block| {
        stake_at(dag, certifying, |entry| certifies(entry, block)).reaches(thresholds.commit)
    });
    let first = certified.next();
    assert!(certified.next().is_none(), "two blocks of round {round} by authority {leader} are certified");
    first.map_or(Decision::Undecided, Decision::Commit)
}

/// By the first later slot, from round r+3 on, that is not skipped.
fn decide_by_anchor(
    dag: &DagState,
    round: Round,
    leader: AuthorityIndex,
    later: &BTreeMap<Slot, Decision>,
) -> Decision {
    let first = Slot { round: Round(round.0 + ANCHOR), rank: 0 };
    for decision in later.range(first..).map(|(_, decision)| *decision) {
        match decision {
            Decision::Skip => {}
            Decision::Undecided => return Decision::Undecided,
            Decision::Commit(anchor) => return decide_in_history(dag, round, leader, &anchor),
        }
    }
    Decision::Undecided
}

fn decide_in_history(dag: &DagState, round: Round, leader: AuthorityIndex, anchor: &BlockRef) -> Decision {
    let certifying = Round(round.0 + CERTIFY);
    let threshold = dag.committee().thresholds().indirect_commit;
    let history = history_at(dag, anchor, certifying);
    let certifies = |candidate: &BlockRef, block: &BlockRef| {
        dag.get(candidate).is_some_and(|entry| votes_in(dag, entry, block).reaches(threshold))
    };
    let mut certified = dag
        .slot(round, leader)
        .map(|(block, _)| *block)
        .filter(|block| history.iter().any(|candidate| certifies(candidate, block)));
    let first = certified.next();
    assert!(certified.next().is_none(), "two blocks of round {round} by authority {leader} are certified");
    first.map_or(Decision::Skip, Decision::Commit)
}

/// Blocks of `round` in the history of `from`.
fn history_at(dag: &DagState, from: &BlockRef, round: Round) -> BTreeSet<BlockRef> {
    let mut front = BTreeSet::from([*from]);
    let mut found = BTreeSet::new();
    while let Some(block) = front.pop_last() {
        if block.round <= round {
            if block.round == round {
                found.insert(block);
            }
            continue;
        }
        let Some(entry) = dag.get(&block) else { continue };
        front.extend(entry.header.header().ancestors.iter().filter(|a| a.round >= round));
    }
    found
}
