#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, reason = "tests")]

use super::*;
use crate::dag::testing::{Drawing, committee};
use crate::types::{AuthorityIndex, CommitIndex, Round, TimestampMs};

fn committer(n: usize, leaders: u16) -> Committer {
    Committer::new(LeaderSchedule::new(committee(n), leaders))
}

/// The name of the primary leader of a round in drawings.
fn leader(n: usize, round: u64) -> char {
    char::from(b'A' + committer(n, 1).schedule().primary(Round(round)).0 as u8)
}

fn others(n: usize, but: char) -> String {
    ('A'..).take(n).filter(|author| *author != but).collect()
}

fn decisions(drawing: &Drawing, leaders: u16) -> Vec<(Slot, Decision)> {
    committer(4, leaders).try_decide(&drawing.dag, Slot { round: Round(1), rank: 0 })
}

#[test]
fn schedules_are_permutations_and_follow_stake() {
    let schedule = LeaderSchedule::new(committee(7), 7);
    let mut first = vec![0; 7];
    for round in 1..=7_000 {
        let mut leaders = schedule.leaders(Round(round));
        first[leaders[0].as_usize()] += 1;
        leaders.sort_unstable();
        assert_eq!(leaders, (0..7).map(AuthorityIndex).collect::<Vec<_>>());
    }
    assert!(first.iter().all(|count| (800..1_200).contains(count)), "{first:?}");
}

#[test]
fn a_leader_is_committed_by_certificates_two_rounds_later_and_not_before() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 2);
    assert_eq!(decisions(&drawing, 1), []);
    // Two certificates are no quorum.
    drawing.round("A B");
    assert_eq!(decisions(&drawing, 1), []);
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 2).round("A B C");
    let slot = Slot { round: Round(1), rank: 0 };
    assert_eq!(decisions(&drawing, 1), [(slot, Decision::Commit(drawing.block(leader(4, 1), 1)))]);
}

#[test]
fn all_slots_of_a_round_are_committed_with_as_many_leaders_as_validators() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 3);
    let decided = decisions(&drawing, 4);
    assert_eq!(decided.len(), 4);
    assert!(
        decided
            .iter()
            .all(|(slot, decision)| slot.round == Round(1) && matches!(decision, Decision::Commit(_)))
    );
}

#[test]
fn a_silent_leader_is_skipped_one_round_later() {
    let silent = leader(4, 1);
    let mut drawing = Drawing::new(4);
    drawing.full(&others(4, silent), 2);
    // The slot of round 1 is decided by its blame alone, as soon as round 2 is there.
    let decided = decisions(&drawing, 1);
    assert_eq!(decided, [(Slot { round: Round(1), rank: 0 }, Decision::Skip)]);
}

#[test]
fn a_leader_without_quorum_of_either_kind_waits_for_its_anchor() {
    // Two blocks vote for the leader of round 1, two do not: neither commit nor skip.
    let lead = leader(4, 1);
    let rest = others(4, lead);
    let (b, c, d) = (rest.as_bytes()[0] as char, rest.as_bytes()[1] as char, rest.as_bytes()[2] as char);
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 1);
    drawing.round(&format!("{lead} {b} {c}-{lead} {d}-{lead}"));
    drawing.full("ABCD", 1);
    assert_eq!(decisions(&drawing, 1), []);
    // Round 4 leads; it is committed by round 6 and has no certificate of the round-1 leader in its history: skip.
    drawing.full("ABCD", 3);
    let decided = decisions(&drawing, 1);
    assert_eq!(decided[0], (Slot { round: Round(1), rank: 0 }, Decision::Skip));
    assert!(
        decided.len() >= 4 && decided[1..].iter().all(|(_, d)| matches!(d, Decision::Commit(_))),
        "{decided:?}"
    );
}

#[test]
fn an_anchor_commits_what_one_certificate_in_its_history_certifies() {
    let lead = leader(4, 1);
    let rest = others(4, lead);
    let (b, c, d) = (rest.as_bytes()[0] as char, rest.as_bytes()[1] as char, rest.as_bytes()[2] as char);
    let mut drawing = Drawing::new(4);
    // Three votes, but only one block of round 3 holds all three: one certificate.
    drawing.full("ABCD", 1).round(&format!("{lead} {b} {c} {d}-{lead}"));
    drawing.round(&format!("{lead} {b}-{c} {c}-{b} {d}-{lead}"));
    assert_eq!(decisions(&drawing, 1), []);
    drawing.full("ABCD", 3);
    let decided = decisions(&drawing, 1);
    assert_eq!(decided[0], (Slot { round: Round(1), rank: 0 }, Decision::Commit(drawing.block(lead, 1))));
}

#[test]
fn the_linearizer_orders_each_block_once_and_chains_its_commits() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 12);
    let mut linearizer = Linearizer::new(TimestampMs(5), 500);
    let mut commits: Vec<Commit> = Vec::new();
    for (_, decision) in decisions(&drawing, 4) {
        if let Decision::Commit(leader) = decision {
            commits.push(linearizer.commit(&mut drawing.dag, leader));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut previous = crate::types::Digest::default();
    let mut time = TimestampMs(0);
    for (i, commit) in commits.iter().enumerate() {
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
fn block_time_is_the_median_of_the_parents() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 2);
    let leader = drawing.block('B', 2);
    // Parents of round 1 have times 1000, 1010, 1020 and 1030; more than half of the stake lies at 1020 and below.
    let commit = Linearizer::new(TimestampMs(0), 500).commit(&mut drawing.dag, leader);
    assert_eq!(commit.time, TimestampMs(1_020));
    let late = Linearizer::new(TimestampMs(9_999), 500);
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 2);
    let leader = drawing.block('B', 2);
    assert_eq!(
        late.clone().commit(&mut drawing.dag, leader).time,
        TimestampMs(9_999),
        "time never goes back"
    );
}

#[test]
fn commits_leave_out_what_garbage_collection_took() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 1).full("ABC", 30);
    // D's block of round 1 is named by nobody of round 3 and later; a late block of D brings it back.
    drawing.round("A B C D");
    let mut linearizer = Linearizer::new(TimestampMs(0), 16);
    let (early, late) = (drawing.block('A', 28), drawing.block('A', 32));
    let first = linearizer.commit(&mut drawing.dag, early);
    assert!(first.blocks.iter().all(|block| block.round <= Round(28)));
    assert_eq!(linearizer.gc_round(), Round(12));
    drawing.dag.collect_garbage(linearizer.gc_round());
    let second = linearizer.commit(&mut drawing.dag, late);
    assert!(second.blocks.iter().all(|block| block.round > Round(12)), "{:?}", second.blocks);
}

#[test]
fn damaged_commit_records_are_refused() {
    let mut drawing = Drawing::new(4);
    drawing.full("ABCD", 3);
    let leader = drawing.block('A', 2);
    let bytes = Linearizer::new(TimestampMs(0), 500).commit(&mut drawing.dag, leader).encode();
    for cut in 0..bytes.len() {
        assert!(Commit::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(Commit::decode(&long).is_err());
}
