//! Reputation: who leads after which commits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::dag::testing::{Drawing, committee, letter, weighted};
use crate::types::{AuthorityIndex, BlockDigest, BlockRef, CommitIndex, Digest, Round, TimestampMs};

const WINDOW: u64 = 16;
const FIRST: Slot = Slot { round: Round(1), rank: 0 };

fn block(round: u64, author: u16) -> BlockRef {
    BlockRef { round: Round(round), author: AuthorityIndex(author), digest: BlockDigest([7; 32]) }
}

fn commit(leader: BlockRef, others: &[BlockRef]) -> Commit {
    let mut blocks = others.to_vec();
    blocks.push(leader);
    blocks.sort_unstable();
    let (index, time, previous) = (CommitIndex(1), TimestampMs(1), Digest::default());
    Commit { index, leader, time, previous, blocks }
}

/// A round in which the leaders of these authors are committed, and carry the blocks of others of the round before.
fn round(schedule: &mut LeaderSchedule, round: u64, leaders: &str, late: &str) {
    let author = |c: char| u16::try_from(u32::from(c) - u32::from('A')).unwrap();
    for (i, leader) in leaders.chars().enumerate() {
        let carried: Vec<BlockRef> = late.chars().map(|c| block(round - 1, author(c))).collect();
        schedule.on_commit(&commit(block(round, author(leader)), if i == 0 { &carried } else { &[] }));
    }
}

fn left_out(schedule: &LeaderSchedule, round: u64) -> String {
    schedule.left_out(Round(round)).iter().map(|a| letter(a.as_usize())).collect()
}

fn leaders(schedule: &LeaderSchedule, rounds: std::ops::RangeInclusive<u64>) -> String {
    let row = |round| schedule.leaders(Round(round)).iter().map(|a| letter(a.as_usize())).collect::<String>();
    rounds.map(row).collect::<Vec<_>>().join(" ")
}

/// Round by round A, B and C are committed and D is silent; one window later D is timely again.
fn history(schedule: &mut LeaderSchedule) {
    for number in 1..=WINDOW {
        round(schedule, number, "ABC", "");
    }
    for number in WINDOW + 1..=3 * WINDOW {
        round(schedule, number, "ABC", "D");
    }
}

fn schedule(n: usize, leaders: u16) -> LeaderSchedule {
    LeaderSchedule::new(committee(n), leaders).with_reputation(WINDOW)
}

/// Pinned: another order of leaders is another order of transactions.
#[test]
fn golden_history_gives_golden_leaders() {
    let mut schedule = schedule(4, 4);
    let mut seen = Vec::new();
    for number in 1..=WINDOW {
        round(&mut schedule, number, "ABC", "");
    }
    seen.push(leaders(&schedule, 23..=26));
    for number in WINDOW + 1..=2 * WINDOW {
        round(&mut schedule, number, "ABC", "D");
    }
    seen.push(leaders(&schedule, 39..=42));
    assert_eq!(seen, ["BCDA DBAC CBA ACB", "BAC ACB CAB BCA"]);
}

#[test]
fn who_was_silent_has_no_slot_until_it_is_timely_again() {
    let mut schedule = schedule(4, 4);
    for number in 1..WINDOW {
        round(&mut schedule, number, "ABC", "");
    }
    assert!(!schedule.may_change_at(Round(WINDOW - 1)) && schedule.may_change_at(Round(WINDOW)));
    round(&mut schedule, WINDOW, "ABC", "");
    // Slots of the last committed leader's round and of some after it stay as they were.
    assert_eq!(
        (left_out(&schedule, WINDOW + 8), left_out(&schedule, WINDOW + 9)),
        (String::new(), "D".to_owned())
    );
    assert_eq!((schedule.slots(Round(WINDOW + 8)), schedule.slots(Round(WINDOW + 9))), (4, 3));
    assert!((WINDOW + 9..1_000).all(|round| schedule.primary(Round(round)) != AuthorityIndex(3)));
    for number in WINDOW + 1..=3 * WINDOW {
        round(&mut schedule, number, "ABC", "D");
    }
    assert_eq!(
        left_out(&schedule, 4 * WINDOW),
        "",
        "D was carried by leaders of the next round all the time"
    );
}

#[test]
fn blocks_that_come_late_are_not_timely() {
    let mut schedule = schedule(4, 4);
    // D has a slot, and is carried by others in place of being committed in it.
    for number in 1..=WINDOW {
        round(&mut schedule, number, "ABC", if number > 1 { "D" } else { "" });
    }
    assert_eq!(left_out(&schedule, 100), "D");
}

#[test]
fn at_most_the_stake_that_may_be_faulty_is_left_out() {
    let mut four = schedule(4, 4);
    for number in 1..=WINDOW {
        round(&mut four, number, "AB", "");
    }
    assert_eq!(left_out(&four, 100), "C");
    // Total 10, f = 3: B is too heavy, C is not.
    let mut weights = LeaderSchedule::new(weighted(&[4, 4, 1, 1]), 4).with_reputation(WINDOW);
    for number in 1..=WINDOW {
        round(&mut weights, number, "AD", "");
    }
    assert_eq!(left_out(&weights, 100), "C");
}

#[test]
fn slightly_worse_is_good_enough() {
    let mut schedule = schedule(4, 4);
    for number in 1..=WINDOW {
        round(&mut schedule, number, if number > 3 { "ABCD" } else { "ABC" }, "");
    }
    assert_eq!(
        left_out(&schedule, 100),
        "",
        "twelve of A's sixteen are three quarters; its last belongs to the next window"
    );
}

#[test]
fn without_reputation_commits_change_nothing() {
    let mut plain = LeaderSchedule::new(committee(4), 4);
    let before = leaders(&plain, 1..=100);
    history(&mut plain);
    assert_eq!(leaders(&plain, 1..=100), before);
    assert_eq!(leaders(&schedule(4, 4), 1..=100), before, "and before the first window ends it is the same");
}

#[test]
fn commits_of_the_log_alone_bring_a_schedule_back() {
    let mut schedule = schedule(4, 2);
    let mut again = schedule.clone();
    for number in 1..=50 {
        for author in [0, 1, 2] {
            let record = commit(block(number, author), &[]).encode();
            schedule.on_commit(&Commit::decode(&record).unwrap());
        }
        // Stopped and started anew after each round.
        let mut restarted = LeaderSchedule::new(committee(4), 2).with_reputation(WINDOW);
        for number in 1..=number {
            for author in [0, 1, 2] {
                restarted.on_commit(&commit(block(number, author), &[]));
            }
        }
        assert_eq!(leaders(&restarted, number..=number + 30), leaders(&schedule, number..=number + 30));
        again = restarted;
    }
    assert_eq!(left_out(&again, 60), "D");
}

/// Runs the committer as a node does; returns the leaders committed, by name.
fn follow(drawing: &mut Drawing, steps: bool) -> Vec<BlockRef> {
    let headers = drawing.headers().to_vec();
    let mut dag = crate::dag::DagState::new(std::sync::Arc::clone(drawing.committee()), Round(0));
    let mut committer = Committer::new(
        LeaderSchedule::new(std::sync::Arc::clone(drawing.committee()), 4).with_reputation(WINDOW),
    );
    let mut linearizer = Linearizer::new(TimestampMs(0), 500);
    let (mut next, mut committed) = (FIRST, Vec::new());
    let last = headers.len() - 1;
    for (i, header) in headers.into_iter().enumerate() {
        dag.insert(header);
        if !steps && i < last {
            continue;
        }
        loop {
            let decided = committer.try_decide(&dag, next);
            if decided.is_empty() {
                break;
            }
            for (slot, decision) in decided {
                next = committer.next_slot(slot);
                if let Decision::Commit(leader) = decision {
                    let commit = linearizer.commit(&mut dag, leader);
                    committer.on_commit(&commit);
                    committed.push(leader);
                }
            }
        }
    }
    committed
}

#[test]
fn decisions_stop_at_a_change_of_the_schedule_however_much_of_the_dag_is_here() {
    let mut drawing = Drawing::new(4);
    for number in 0..100 {
        // D is seen by two of the others only, and then by nobody.
        drawing.draw(if number < 30 { "A B C-D D" } else { "A B C" });
    }
    let at_once = follow(&mut drawing, false);
    assert_eq!(at_once, follow(&mut drawing, true));
    assert!(at_once.len() > 280, "{} leaders", at_once.len());
}
