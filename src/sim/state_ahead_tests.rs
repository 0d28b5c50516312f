//! Crashes that leave the state ahead of the log: commits are executed before their records are durable.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::intercept::Cast;
use super::setup::genesis;
use super::world::World;
use super::*;
use crate::node::{RecordKind, Recovered, STATE_AHEAD_MAX, StateAhead};
use crate::types::{AuthorityIndex, CommitIndex, LogSeq};

const SECOND_US: u64 = 1_000_000;

/// Syncs take many rounds here, so that a crash cuts off commits that were executed. The checker compares every state, and
/// sees whatever is executed twice.
#[test]
fn commits_that_the_state_holds_are_decided_again_and_not_executed() {
    let network = NetworkConfig { delay_min_us: 500, delay_max_us: 1_500, ..NetworkConfig::default() };
    let services = Services { hang_per_mille: 500, hang_us: 60_000, ..Services::default() };
    let config = SimConfig { network: Some(network), services, faults: false, ..SimConfig::default() };
    let mut repeated = 0;
    for seed in 0..4 {
        let mut world = World::new(seed, &config, Cast::default());
        world.boot_all().unwrap();
        for life in 1..=10 {
            world.run_until(life * SECOND_US).unwrap();
            repeated += world.running(1).node.stats().repeated_commits;
            world.crash(1);
            world.start(1).unwrap();
        }
        world.heal().unwrap();
        world.drain(60 * SECOND_US, SECOND_US / 2).unwrap();
        assert!(world.running(1).node.stats().executed > CommitIndex(50));
        world.finish().unwrap();
    }
    assert!(repeated > 0, "no crash has left the state ahead of the log: this run shows nothing");
}

/// A log that is empty beside a state of so many commits.
fn beside(executed: u64) -> Recovered {
    Recovered::new(AuthorityIndex(0), CommitIndex(executed), &genesis(1, 4, 1_000))
}

#[test]
fn a_state_may_be_a_little_ahead_of_its_log() {
    assert_eq!(beside(0).check_state(None), Ok(()));
    assert_eq!(beside(STATE_AHEAD_MAX).check_state(None), Ok(()));
    let refused = StateAhead { executed: CommitIndex(STATE_AHEAD_MAX + 1), found: CommitIndex(0) };
    assert_eq!(beside(STATE_AHEAD_MAX + 1).check_state(None), Err(refused));
}

#[test]
fn a_log_without_the_last_payload_is_not_the_one() {
    let mut recovered = beside(1);
    let rejoin = vec![0; 8].into();
    recovered.record(LogSeq(5), RecordKind::Rejoin as u8, rejoin).unwrap();
    assert_eq!(recovered.check_state(Some(LogSeq(5))), Ok(()));
    let refused = StateAhead { executed: CommitIndex(1), found: CommitIndex(0) };
    assert_eq!(recovered.check_state(Some(LogSeq(6))), Err(refused));
}
