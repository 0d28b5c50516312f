//! Each rule as a picture; the language is that of [`Drawing`].
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::dag::testing::{Drawing, committee, letter};
use crate::types::{AuthorityIndex, CommitIndex, Digest, Round, TimestampMs};

const FIRST: Slot = Slot { round: Round(1), rank: 0 };

fn drawn(lines: &str) -> Drawing {
    let mut drawing = Drawing::new(4);
    drawing.draw(lines);
    drawing
}

/// With as many slots as validators, so that every author leads in every round.
fn schedule(drawing: &Drawing) -> LeaderSchedule {
    let n = u16::try_from(drawing.committee().size()).unwrap();
    LeaderSchedule::new(Arc::clone(drawing.committee()), n)
}

fn decided(drawing: &Drawing) -> Committer {
    let mut committer = Committer::new(schedule(drawing));
    let _ = committer.try_decide(&drawing.dag, FIRST);
    committer
}

fn shown(drawing: &Drawing, committer: &Committer) -> Vec<String> {
    let decisions = committer.all().into_iter().map(|(slot, decision)| {
        let leader = committer.schedule().leaders(slot.round)[slot.rank];
        let decision = match decision {
            Decision::Commit(block) => format!("commit {}", drawing.name(&block)),
            Decision::Skip => "skip".to_owned(),
            Decision::Undecided => "undecided".to_owned(),
        };
        format!("{}{} {decision}", slot.round, letter(leader.as_usize()))
    });
    decisions.collect()
}

/// Compares decisions, such as `1A commit, 2B skip, 3C undecided`; `1A commit A1'` says which block is committed, and
/// `1* commit` speaks of all slots of a round.
#[track_caller]
fn expect(drawing: &Drawing, expected: &str) {
    let committer = decided(drawing);
    let found = shown(drawing, &committer);
    assert_eq!(
        committer.all(),
        reference::decide(committer.schedule(), &drawing.dag, FIRST),
        "the committer differs from the reference in\n{}",
        drawing.text()
    );
    for wanted in expected.split(", ") {
        let (slot, decision) = wanted.split_once(' ').unwrap();
        let of = |line: &&String| match slot.strip_suffix('*') {
            Some(round) => line.split(' ').next().unwrap().trim_end_matches(char::is_alphabetic) == round,
            None => line.starts_with(&format!("{slot} ")),
        };
        let lines: Vec<&String> = found.iter().filter(of).collect();
        let fits = |line: &&String| line.split_once(' ').unwrap().1.starts_with(decision);
        assert!(
            !lines.is_empty() && lines.iter().all(fits),
            "expected {wanted:?}, found {lines:?} in\n{}",
            drawing.text()
        );
    }
}

#[test]
fn a_quorum_of_certificates_commits() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C D # each votes for all
             r3: A B C   # each certifies all",
        ),
        "1* commit, 2* undecided",
    );
}

#[test]
fn a_block_is_a_certificate_only_with_a_quorum_of_votes_among_its_parents() {
    // Three blocks of round 2 vote for A1; of round 3 only A's has all three as parents.
    let mut drawing = drawn(
        "r1: A B C D
         r2: A B C D-A
         r3: A B-C C-B D-A",
    );
    expect(&drawing, "1A undecided");
    drawing.draw("r4: A B C D");
    expect(&drawing, "1A undecided");
}

#[test]
fn certificates_of_less_than_a_quorum_commit_nothing() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C D
             r3: A B",
        ),
        "1* undecided",
    );
}

#[test]
fn a_quorum_that_does_not_vote_skips() {
    let mut drawing = drawn(
        "r1: A B C
         r2: A B",
    );
    expect(&drawing, "1D undecided");
    drawing = drawn(
        "r1: A B C
         r2: A B C",
    );
    expect(&drawing, "1D skip, 1A undecided");
    // It need not be silent: nobody voted in time.
    expect(
        &drawn(
            "r1: A B C D
             r2: A-D B-D C-D D",
        ),
        "1D skip, 1A undecided",
    );
}

#[test]
fn two_blames_of_four_skip_nothing() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A-D B-D C D
             r3: A B C D",
        ),
        "1D undecided, 1A commit",
    );
}

#[test]
fn an_anchor_commits_what_one_certificate_in_its_history_certifies() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C D-A
             r3: A B-C C-B D-A # A3 alone certifies A1
             r4: A B C D       # the anchors
             r5: A B C D
             r6: A B C D",
        ),
        "1A commit A1, 4* commit",
    );
}

#[test]
fn an_anchor_skips_what_nothing_in_its_history_certifies() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C-A D-A
             r3: A B C D
             r4: A B C D
             r5: A B C D
             r6: A B C D",
        ),
        "1A skip, 1B commit, 4* commit",
    );
    // There is a certificate, but no anchor has it in its history.
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C D-A
             r3: A B-C C-B D-A
             r4: B-A C-A D-A
             r5: B C D
             r6: B C D",
        ),
        "1A skip, 4A skip, 4B commit",
    );
}

#[test]
fn an_undecided_anchor_leaves_the_slot_undecided() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C-A D-A
             r3: A B C D
             r4: A B C D
             r5: A B C D
             r6: A B # no quorum of certificates",
        ),
        "1A undecided, 4* undecided",
    );
}

#[test]
fn anchors_begin_three_rounds_up() {
    // Round 3 is committed, but its blocks are the ones that may certify A1: it decides nothing about it.
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C-A D-A
             r3: A B C D
             r4: A B C D
             r5: A B C D",
        ),
        "3* commit, 1A undecided, 4* undecided",
    );
}

#[test]
fn skipped_slots_are_no_anchors() {
    // All of round 4 but D's is silent or unseen; the anchor is D4, or the first of round 5 if D4 is skipped too.
    expect(
        &drawn(
            "r1: A B C D
             r2: A B C-A D-A
             r3: A B C D
             r4: B C D
             r5: B C D
             r6: B C D",
        ),
        "4A skip, 4B commit, 1A skip",
    );
}

#[test]
fn of_an_equivocating_leader_only_the_certified_block_is_committed() {
    expect(
        &drawn(
            "r1: A A' B C D
             r2: A:A'BCD B:A'BCD C:A'BCD D
             r3: A B C D",
        ),
        "1A commit A1', 1B commit B1",
    );
}

#[test]
fn votes_split_over_equivocations_commit_neither() {
    // Everybody voted for some block of the slot, so nobody blames it.
    let mut drawing = drawn(
        "r1: A A' B C D
         r2: A B C:A'BCD D:A'BCD
         r3: A B C D",
    );
    expect(&drawing, "1A undecided, 1B commit");
    drawing.draw(
        "r4: A B C D
         r5: A B C D
         r6: A B C D",
    );
    expect(&drawing, "1A skip");
}

#[test]
fn a_voter_with_two_blocks_is_heard_once() {
    // D votes for A1 in both of its blocks; with A that makes two votes and not three.
    let mut drawing = drawn(
        "r1: A B C D
         r2: A B-A C-A D D':ABCD
         r3: A B C D
         r4: A B C D
         r5: A B C D",
    );
    expect(&drawing, "1A undecided, 3* commit");
    drawing.draw("r6: A B C D");
    expect(&drawing, "1A skip");
}

#[test]
fn a_voter_with_two_blocks_is_heard_for_the_one_that_is_a_parent() {
    let twofold = "r1: A A' B C D
                   r2: A B C:A'BCD D:ABCD D':A'BCD";
    let mut with_first = drawn(twofold);
    with_first.draw("r3: A B C");
    expect(&with_first, "1A commit A1");
    let mut with_second = drawn(twofold);
    with_second.draw("r3: A:ABCD' B:ABCD' C:ABCD'");
    expect(&with_second, "1A undecided, 1B commit");
}

#[test]
fn a_voter_with_two_blocks_blames_and_votes() {
    // D votes for A1 and blames it: both count, once each.
    let drawing = drawn(
        "r1: A B C D
         r2: A B C-A D D'-A
         r3: A B C D",
    );
    expect(&drawing, "1A commit");
    let drawing = drawn(
        "r1: A B C D
         r2: A B-A C-A D D'-A",
    );
    expect(&drawing, "1A skip");
}

#[test]
fn an_ancestor_of_an_older_round_is_no_vote() {
    expect(
        &drawn(
            "r1: A B C D
             r2: A-D B-D C-D
             r3: A+D1 B+D1 C+D1",
        ),
        "1D skip, 2D skip",
    );
}

#[test]
fn thresholds_are_of_stake() {
    // Seven in all, at most two faulty: a quorum is five.
    let draw = |lines: &str| {
        let mut drawing = Drawing::with_stakes(&[3, 1, 1, 1, 1]);
        drawing.draw(lines);
        drawing
    };
    expect(
        &draw(
            "r1: A B C D E
             r2: A B C D E
             r3: A B C # 3 + 1 + 1",
        ),
        "1* commit",
    );
    expect(
        &draw(
            "r1: A B C D E
             r2: A B C D E
             r3: B C D E # 4",
        ),
        "1* undecided",
    );
    expect(
        &draw(
            "r1: A B C D E
             r2: A-E B-E C-E D",
        ),
        "1E skip",
    );
}

#[test]
fn commits_stop_at_the_first_undecided_slot() {
    let drawing = drawn(
        "r1: A B C D
         r2: A-D B-D C D
         r3: A B C D
         r4: A B C D
         r5: A B C D",
    );
    let mut committer = decided(&drawing);
    let in_order = committer.try_decide(&drawing.dag, FIRST);
    let all = committer.all();
    let held_up = all.iter().find(|(_, decision)| **decision == Decision::Undecided).unwrap().0;
    assert_eq!(committer.schedule().leaders(Round(1))[held_up.rank], AuthorityIndex(3), "D1 is undecided");
    assert_eq!(in_order.len(), held_up.rank);
    assert!(all.values().filter(|decision| matches!(decision, Decision::Commit(_))).count() >= 11);
}

#[test]
fn what_garbage_collection_took_changes_no_later_decision() {
    let mut drawing = Drawing::new(4);
    for _ in 0..8 {
        drawing.draw("A B C D\nA B C D-A\nA B-C C-B D-A");
    }
    let from = Slot { round: Round(10), rank: 0 };
    let mut committer = Committer::new(schedule(&drawing));
    let before = committer.try_decide(&drawing.dag, from);
    drawing.dag.collect_garbage(Round(9));
    assert_eq!(committer.try_decide(&drawing.dag, from), before);
    drawing.draw("A B C D\nA B C D-A\nA B C D");
    let after = committer.try_decide(&drawing.dag, from);
    assert!(after.len() > before.len() && after.starts_with(&before));
    assert_eq!(Committer::new(schedule(&drawing)).try_decide(&drawing.dag, from), after);
}

/// An infinite run of a production protocol in which no leader ever commits (a mechanised proof found it): in every other
/// round the leader jumps over its own round, so that nobody is left to give the leader before it a third vote or a third
/// blame. With condition A2 of the pacemaker, never to skip an own round, its block is there, and so are the commits.
#[test]
fn validators_that_jump_over_rounds_commit_nothing_and_those_that_do_not_do() {
    let committed = |jumping: bool| {
        let mut drawing = Drawing::new(4);
        let mut committer = Committer::new(LeaderSchedule::new(committee(4), 1));
        let leader = |round| committer.schedule().primary(Round(round));
        for round in (1..200).step_by(2) {
            let (leads, jumps) = (leader(round), leader(round + 1));
            drawing.draw("A B C D");
            let blames = drawing.committee().indices().find(|a| *a != leads && *a != jumps).unwrap();
            let word = |author: AuthorityIndex| match letter(author.as_usize()) {
                _ if author == jumps && jumping => String::new(),
                name if author == blames => format!("{name}-{}", letter(leads.as_usize())),
                name => name.to_string(),
            };
            let words: Vec<String> = drawing.committee().indices().map(word).collect();
            drawing.round(&words.join(" "));
        }
        let _ = committer.try_decide(&drawing.dag, FIRST);
        committer.all().values().filter(|decision| matches!(decision, Decision::Commit(_))).count()
    };
    assert_eq!(committed(true), 0);
    assert!(committed(false) > 190);
}

#[test]
fn schedules_are_permutations_and_follow_stake() {
    let schedule = LeaderSchedule::new(committee(7), 7);
    let mut first = vec![0; 7];
    for round in 1..=7_000 {
        let mut leaders = schedule.leaders(Round(round));
        assert_eq!(leaders[0], schedule.primary(Round(round)));
        first[leaders[0].as_usize()] += 1;
        leaders.sort_unstable();
        assert_eq!(leaders, (0..7).map(AuthorityIndex).collect::<Vec<_>>());
    }
    assert!(first.iter().all(|count| (800..1_200).contains(count)), "{first:?}");
}

fn commits(drawing: &mut Drawing, linearizer: &mut Linearizer) -> Vec<Commit> {
    let decisions = Committer::new(schedule(drawing)).try_decide(&drawing.dag, FIRST);
    let mut commits = Vec::new();
    for (_, decision) in decisions {
        if let Decision::Commit(leader) = decision {
            commits.push(linearizer.commit(&mut drawing.dag, leader));
        }
    }
    commits
}

#[test]
fn the_linearizer_orders_each_block_once_and_chains_its_commits() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 12);
    let mut seen = BTreeSet::new();
    let mut previous = Digest::default();
    let mut time = TimestampMs(0);
    for (i, commit) in commits(&mut drawing, &mut Linearizer::new(TimestampMs(5), 500)).iter().enumerate() {
        assert_eq!(commit.index, CommitIndex(i as u64 + 1));
        assert_eq!(commit.previous, previous);
        assert_eq!(commit.blocks.last(), Some(&commit.leader));
        assert!(commit.blocks.is_sorted() && commit.blocks.iter().all(|block| seen.insert(*block)));
        assert!(commit.time >= time);
        assert_eq!(Commit::decode(&commit.encode()).as_ref(), Ok(commit));
        (previous, time) = (commit.digest(), commit.time);
    }
    assert_eq!(seen.len(), 40, "ten rounds of four leaders are committed");
}

#[test]
fn a_commit_is_the_new_part_of_its_leaders_history_in_order() {
    let mut drawing = drawn(
        "r1: A B C D
         r2: A B C D-A
         r3: A B C D",
    );
    let mut linearizer = Linearizer::new(TimestampMs(0), 500);
    let mut order = |leader: &str| {
        let leader = drawing.named(leader);
        let commit = linearizer.commit(&mut drawing.dag, leader);
        commit.blocks.iter().map(|block| drawing.name(block)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("D2"), "B1 C1 D1 D2");
    assert_eq!(order("A2"), "A1 A2");
    assert_eq!(order("C3"), "B2 C2 C3");
}

#[test]
fn block_time_is_the_median_of_the_parents() {
    let lines = "r1: A B C D\nr2: A B C D";
    let mut drawing = drawn(lines);
    let leader = drawing.named("B2");
    // Parents of round 1 have times 1000, 1010, 1020 and 1030; more than half of the stake lies at 1020 and below.
    let commit = Linearizer::new(TimestampMs(0), 500).commit(&mut drawing.dag, leader);
    assert_eq!(commit.time, TimestampMs(1_020));
    let mut drawing = drawn(lines);
    let commit = Linearizer::new(TimestampMs(9_999), 500).commit(&mut drawing.dag, leader);
    assert_eq!(commit.time, TimestampMs(9_999), "time never goes back");
    let mut drawing = Drawing::with_stakes(&[4, 1, 1, 1]);
    drawing.draw(lines);
    let leader = drawing.named("B2");
    let commit = Linearizer::new(TimestampMs(0), 500).commit(&mut drawing.dag, leader);
    assert_eq!(commit.time, TimestampMs(1_000), "A has more than half of the stake");
}

#[test]
fn commits_leave_out_what_garbage_collection_took() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 1).full("ABC", 30);
    // D's block of round 1 is named by nobody of round 3 and later; a late block of D brings it back.
    drawing.round("A B C D");
    let mut linearizer = Linearizer::new(TimestampMs(0), 16);
    let (early, late) = (drawing.named("A28"), drawing.named("A32"));
    let first = linearizer.commit(&mut drawing.dag, early);
    assert!(first.blocks.iter().all(|block| block.round <= Round(28)));
    assert_eq!(linearizer.gc_round(), Round(12));
    drawing.dag.collect_garbage(linearizer.gc_round());
    let second = linearizer.commit(&mut drawing.dag, late);
    assert!(second.blocks.iter().all(|block| block.round > Round(12)), "{:?}", second.blocks);
}

#[test]
fn what_is_remembered_of_committed_blocks_shrinks_with_garbage_collection() {
    // A linearizer that keeps every block it ever committed grows for ever. Here the mark is in the DAG and goes with it.
    let mut drawing = Drawing::new(4);
    let (mut linearizer, mut committer) =
        (Linearizer::new(TimestampMs(0), 16), Committer::new(schedule(&drawing)));
    let (mut next, mut most) = (FIRST, 0);
    for _ in 0..300 {
        drawing.full("ABCD", 1);
        for (slot, decision) in committer.try_decide(&drawing.dag, next) {
            next = committer.next_slot(slot);
            if let Decision::Commit(leader) = decision {
                linearizer.commit(&mut drawing.dag, leader);
            }
        }
        drawing.dag.collect_garbage(linearizer.gc_round());
        most = most.max(drawing.dag.len());
    }
    assert!(most <= 4 * (16 + 3), "{most} blocks are held");
    assert!(committer.all().len() <= 4 * 4);
    assert!(linearizer.index().0 > 1_100);
}

#[test]
fn damaged_commit_records_are_refused() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 3);
    let leader = drawing.named("A2");
    let bytes = Linearizer::new(TimestampMs(0), 500).commit(&mut drawing.dag, leader).encode();
    for cut in 0..bytes.len() {
        assert!(Commit::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(Commit::decode(&long).is_err());
}
