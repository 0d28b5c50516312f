//! Validators that lose their whole disk and come back with their old keys. The world's checker sees two blocks of one round,
//! whichever life they are from.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::intercept::Cast;
use super::world::World;
use super::*;
use crate::types::{CommitIndex, Round};

const SECOND_US: u64 = 1_000_000;

fn world(seed: u64, network: NetworkConfig) -> World {
    let config = SimConfig { network: Some(network), faults: false, ..SimConfig::default() };
    let mut world = World::new(seed, &config, Cast::default());
    world.boot_all().unwrap();
    world
}

fn lossy() -> NetworkConfig {
    NetworkConfig {
        delay_min_us: 5_000,
        delay_max_us: 80_000,
        loss_per_mille: 100,
        replay_per_mille: 100,
        shape: crate::sim::network::Shape::Uniform,
    }
}

#[test]
fn a_validator_that_lost_its_log_signs_no_round_twice_and_recovers_the_ledger() {
    for seed in 0..4 {
        let mut world = world(seed, lossy());
        world.run_until(4 * SECOND_US).unwrap();
        let before = world.running(3).node.stats();
        assert!(before.own_round > Round(5), "{before:?}");
        world.lose(3);
        world.start(3).unwrap();
        world.run_until(5 * SECOND_US).unwrap();
        world.lose(3);
        world.start(3).unwrap();
        world.run_until(20 * SECOND_US).unwrap();
        let after = world.running(3).node.stats();
        assert!(after.own_round > before.own_round, "it makes blocks again: {after:?}");
        assert!(after.executed > before.executed && after.executed > CommitIndex(0), "{after:?}");
        world.heal().unwrap();
        world.drain(60 * SECOND_US, SECOND_US / 2).unwrap();
        world.finish().unwrap();
    }
}

/// Its last blocks are on their way, and nobody has seen them when it asks.
#[test]
fn blocks_in_flight_that_nobody_has_seen_are_not_signed_again() {
    for seed in 10..14 {
        let slow = NetworkConfig {
            delay_min_us: 100_000,
            delay_max_us: 2_000_000,
            loss_per_mille: 0,
            replay_per_mille: 0,
            shape: crate::sim::network::Shape::Uniform,
        };
        let mut world = world(seed, slow);
        for life in 1..=5 {
            world.run_until(life * 8 * SECOND_US).unwrap();
            world.lose(2);
            world.start(2).unwrap();
        }
        world.run_until(70 * SECOND_US).unwrap();
        let stats = world.running(2).node.stats();
        assert!(stats.executed > CommitIndex(0), "{stats:?}");
    }
}

/// With as many lost logs as the others cannot make up for, nobody signs: silence is safe.
#[test]
fn two_of_four_that_lost_their_logs_stay_silent() {
    let mut world = world(5, lossy());
    world.run_until(4 * SECOND_US).unwrap();
    for host in [1, 2] {
        world.lose(host);
    }
    for host in [1, 2] {
        world.start(host).unwrap();
    }
    world.run_until(20 * SECOND_US).unwrap();
    for host in [1, 2] {
        assert!(world.running(host).node.is_rejoining());
    }
}
