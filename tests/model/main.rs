//! The protocol as a small executable specification, explored exhaustively, and the committer that runs held against it.
//!
//! [`spec`] is the commit rule in sets. [`explore`] takes every DAG of four authorities with one equivocator that can say
//! something different about a leader slot. [`drive`] gives DAGs block by block, in several orders, to
//! `salus::consensus` and demands the specification's decisions after each. [`pacemaker`] explores the rules by which
//! blocks are made, with time.
//!
//! The explorers are written by hand. Stateright 0.31 was considered: a DAG comes up here exactly once by construction, so
//! there is nothing for its table of visited states to do; and its `eventually` properties do not see cycles, as its
//! documentation says, where a cycle without a commit is the very thing that [`pacemaker`] looks for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(unreachable_pub, missing_docs, clippy::print_stdout, reason = "not a library")]

mod drive;
mod explore;
mod pacemaker;
mod sample;
mod spec;

use std::ops::ControlFlow;

use drive::Judge;
use explore::{AUTHORITIES, BYZANTINE, Bounds, disagreement, every_dag, shown};
use pacemaker::{Advance, Found};
use sample::{MENU, Random, arrival, from_menu, random, topped};
use spec::{Dag, Decision, Rules, View};

/// The leader that equivocates, and one that keeps to the rules. Honest leaders are interchangeable.
const LEADERS: [usize; 2] = [BYZANTINE, 0];

/// Explores until something is wrong; returns the number of DAGs, or the first fault with its DAG.
fn explore(rules: Rules, names_both: bool) -> Result<u64, String> {
    let mut states = 0;
    for leader in LEADERS {
        let bounds = Bounds { rules, leader, names_both };
        let found = every_dag(bounds, |dag| {
            states += 1;
            match disagreement(dag, bounds) {
                Some(fault) => ControlFlow::Break(format!("{fault}\n{}", shown(dag))),
                None => ControlFlow::Continue(()),
            }
        });
        if let ControlFlow::Break(fault) = found {
            return Err(fault);
        }
    }
    Ok(states)
}

#[test]
fn no_two_views_decide_a_slot_differently() {
    let states = explore(Rules::SOUND, false).unwrap_or_else(|fault| panic!("{fault}"));
    println!("model: {states} states, depth 4 rounds, agreement holds");
}

#[test]
fn a_quorum_of_two_thirds_is_caught() {
    let fault = explore(Rules { quorum: 2, ..Rules::SOUND }, false).unwrap_err();
    println!("model: quorum 2f: {fault}");
}

#[test]
fn an_anchor_two_rounds_later_is_caught() {
    let fault = explore(Rules { anchor: 2, ..Rules::SOUND }, false).unwrap_err();
    println!("model: anchor at r + 2: {fault}");
}

#[test]
fn votes_for_both_of_an_equivocation_are_caught() {
    let fault = explore(Rules::SOUND, true).unwrap_err();
    println!("model: votes for both: {fault}");
}

/// In a synchronous round every honest block names every honest block of the round before. Whatever the Byzantine
/// authority does then, an honest leader is committed by the three honest blocks two rounds later.
#[test]
fn every_honest_leader_commits_in_synchronous_rounds() {
    let bounds = Bounds { rules: Rules::SOUND, leader: 0, names_both: false };
    let mut states = 0;
    let _: ControlFlow<()> = every_dag(bounds, |dag| {
        let honest = |round| dag.view().round(round).filter(|id| dag.get(id).author != BYZANTINE);
        let synchronous = (1..=3).all(|round| {
            honest(round).iter().count() == AUTHORITIES - 1
                && (round == 1
                    || honest(round)
                        .iter()
                        .all(|id| honest(round - 1).without(dag.get(id).ancestors).is_empty()))
        });
        if synchronous {
            states += 1;
            let blocks = (1..=3).map(honest).fold(spec::Blocks::default(), spec::Blocks::or);
            let seen = (0..dag.len()).rev().fold(blocks, |seen, id| {
                if seen.contains(id) { seen.or(dag.get(id).ancestors) } else { seen }
            });
            let decision = View { dag, blocks: seen }.decide_directly(1, 0, Rules::SOUND);
            assert_eq!(decision, Decision::Commit(0), "{}", shown(dag));
        }
        ControlFlow::Continue(())
    });
    assert!(states > 0);
    println!("model: {states} synchronous states, every honest leader commits");
}

/// Every DAG of the menu, and the committer that runs.
#[test]
fn the_committer_decides_as_the_specification_does_on_every_dag_of_the_menu() {
    const ROUNDS: u32 = 4;
    let mut chance = Random(1);
    let (mut dags, mut decisions) = (0, 0);
    for number in 0..MENU.pow(ROUNDS) {
        let numbers: Vec<usize> = (0..ROUNDS).map(|place| number / MENU.pow(place) % MENU).collect();
        decisions += run(&from_menu(&numbers), &mut chance, 1);
        dags += 1;
    }
    println!("model: {dags} DAGs of the menu drove the committer, {decisions} decisions agree");
}

/// Of the DAGs that are explored every 211th, with full rounds on top that decide what they leave open.
#[test]
fn the_committer_decides_as_the_specification_does_on_explored_dags() {
    let mut chance = Random(3);
    let (mut seen, mut dags, mut decisions) = (0_u64, 0, 0);
    for leader in LEADERS {
        let bounds = Bounds { rules: Rules::SOUND, leader, names_both: false };
        let _: ControlFlow<()> = every_dag(bounds, |dag| {
            seen += 1;
            if let Some(dag) = (seen % 211 == 0).then(|| topped(dag, 3)).flatten() {
                decisions += run(&dag, &mut chance, 2);
                dags += 1;
            }
            ControlFlow::Continue(())
        });
    }
    println!("model: {dags} explored DAGs drove the committer in 2 orders each, {decisions} decisions agree");
}

/// A large random sample, each DAG in several orders.
#[test]
fn the_committer_decides_as_the_specification_does_on_random_dags() {
    const DAGS: usize = 4_000;
    let mut chance = Random(2);
    let mut decisions = 0;
    for _ in 0..DAGS {
        let rounds = 4 + chance.below(9);
        let dag = random(&mut chance, rounds);
        decisions += run(&dag, &mut chance, 3);
    }
    println!("model: {DAGS} random DAGs drove the committer in 3 orders each, {decisions} decisions agree");
}

/// Drives the committer through a DAG in the order in which it was made and in `orders` − 1 random ones.
fn run(dag: &Dag, chance: &mut Random, orders: usize) -> usize {
    let leaders = [1, 2, 4][chance.below(3)];
    let judge = Judge::new(leaders, 2 + u64::try_from(chance.below(6)).unwrap());
    let built = judge.build(dag, chance);
    let made: Vec<usize> = (0..dag.len()).collect();
    let random = (1..orders).map(|_| arrival(dag, chance)).collect::<Vec<_>>();
    std::iter::once(made).chain(random).map(|order| judge.drive(&built, &order)).sum()
}

#[test]
fn with_a_block_of_every_round_some_leader_commits() {
    let Found::Bounded { states, rounds } = pacemaker::explore(Advance::EveryRound) else {
        panic!("a run goes on for ever without a commit");
    };
    println!("model: pacemaker with A2: {states} states, a leader commits within {rounds} rounds");
}

#[test]
fn jumping_over_rounds_can_go_on_for_ever_without_a_commit() {
    let Found::Lasso { states, rounds } = pacemaker::explore(Advance::Jump) else {
        panic!("every run commits");
    };
    println!(
        "model: pacemaker without A2: a run comes back after {rounds} rounds without a commit, {states} states left behind"
    );
    assert!(rounds > 0, "standing still is another fault than the one looked for");
}
