//! Crashes that leave the state ahead of the log: commits are executed before their records are durable.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::intercept::Cast;
use super::setup::genesis;
use super::world::World;
use super::*;
use crate::consensus::Commit;
use crate::execute::LedgerHead;
use crate::node::{COMMIT_ROUNDS, ForeignState, RecordKind, Recovered, STATE_AHEAD_MAX};
use crate::types::{AuthorityIndex, BlockRef, CommitIndex, Digest, LogSeq, NodeHash, Round, TimestampMs};

const SECOND_US: u64 = 1_000_000;

/// Commits that were decided again, in a network in which syncs take many rounds and some lose their power again and again.
fn repeated(seed: u64, validators: usize, crashing: &[usize]) -> u64 {
    let network = NetworkConfig { delay_min_us: 500, delay_max_us: 1_500, ..NetworkConfig::default() };
    let services = Services { sync_us: (20_000, 80_000), ..Services::default() };
    let config = SimConfig {
        validators,
        network: Some(network),
        services,
        beat_rounds: COMMIT_ROUNDS,
        faults: false,
        ..SimConfig::default()
    };
    let mut world = World::new(seed, &config, Cast::default());
    world.boot_all().unwrap();
    let mut repeated = 0;
    for life in 1..=12 {
        world.run_until(life * SECOND_US).unwrap();
        for &host in crashing {
            repeated += world.running(host).node.stats().repeated_commits;
            world.crash(host);
        }
        for &host in crashing {
            world.start(host).unwrap();
        }
    }
    world.heal().unwrap();
    world.drain(60 * SECOND_US, SECOND_US / 2).unwrap();
    assert!(world.running(crashing[0]).node.stats().executed > CommitIndex(50));
    world.finish().unwrap();
    repeated
}

/// The checker compares every state, and sees whatever is executed twice or not at all.
#[test]
fn commits_that_the_state_holds_are_decided_again_and_not_executed() {
    for (validators, crashing) in [(4, &[1][..]), (4, &[0, 1, 2, 3]), (7, &[0, 1, 2, 3, 4, 5, 6])] {
        let repeated: u64 = (0..2).map(|seed| repeated(seed, validators, crashing)).sum();
        assert!(repeated > 3, "{repeated} commits of {validators} validators: this run shows nothing");
    }
}

/// A log without commits beside a state of so many.
fn beside(executed: u64) -> Recovered {
    let head = LedgerHead {
        commit: CommitIndex(executed),
        digest: Digest([1; 32]),
        time: TimestampMs(0),
        tree_size: 0,
        root: NodeHash([0; 32]),
        state_root: Digest([0; 32]),
    };
    Recovered::new(AuthorityIndex(0), head, &genesis(1, 4, 1_000))
}

#[test]
fn a_state_may_be_a_little_ahead_of_its_log() {
    assert_eq!(beside(0).check_state(None), Ok(()));
    assert_eq!(beside(STATE_AHEAD_MAX).check_state(None), Ok(()));
    let refused = ForeignState::Ahead { executed: CommitIndex(STATE_AHEAD_MAX + 1), found: CommitIndex(0) };
    assert_eq!(beside(STATE_AHEAD_MAX + 1).check_state(None), Err(refused));
}

#[test]
fn a_log_without_the_last_payload_is_not_the_one() {
    let mut recovered = beside(1);
    let rejoin = vec![0; 8].into();
    recovered.record(LogSeq(5), RecordKind::Rejoin as u8, rejoin).unwrap();
    assert_eq!(recovered.check_state(Some(LogSeq(5))), Ok(()));
    let refused = ForeignState::Ahead { executed: CommitIndex(1), found: CommitIndex(0) };
    assert_eq!(recovered.check_state(Some(LogSeq(6))), Err(refused));
}

#[test]
fn a_state_of_another_commit_is_refused() {
    let mut recovered = beside(1);
    let commit = Commit {
        index: CommitIndex(1),
        previous: Digest([0; 32]),
        leader: BlockRef { round: Round(1), ..BlockRef::default() },
        time: TimestampMs(1),
        blocks: vec![BlockRef { round: Round(1), ..BlockRef::default() }],
    };
    recovered.record(LogSeq(1), RecordKind::Commit as u8, commit.encode().into()).unwrap();
    let (index, held, found) = (CommitIndex(1), Digest([1; 32]), commit.digest());
    assert_eq!(recovered.check_state(None), Err(ForeignState::OtherCommit { index, held, found }));
}
