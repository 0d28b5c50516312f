#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::intercept::{Cast, Intercept, Outgoing, View};
use super::world::run_cast;
use super::*;
use crate::types::PeerMessage;

fn short(seconds: u64) -> SimConfig {
    SimConfig { duration_us: seconds * 1_000_000, ..SimConfig::default() }
}

#[test]
fn a_seed_gives_the_same_trace_twice_and_another_seed_another() {
    let first = run(11, &short(8)).unwrap();
    assert_eq!(run(11, &short(8)).unwrap(), first);
    assert_ne!(run(12, &short(8)).unwrap().trace, first.trace);
}

#[test]
fn faults_happen_and_nothing_acknowledged_is_lost() {
    let mut sum = Report::default();
    for seed in 100..108 {
        let report = run(seed, &short(20)).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        sum.restarts += report.restarts;
        sum.partitions += report.partitions;
        sum.lost_messages += report.lost_messages;
        sum.acknowledged += report.acknowledged;
        sum.checkpoints += report.checkpoints;
    }
    // A run in which nothing breaks or nothing is submitted would show nothing.
    assert!(sum.restarts > 5 && sum.partitions > 5 && sum.lost_messages > 100, "{sum:?}");
    assert!(sum.acknowledged > 500 && sum.checkpoints > 20, "{sum:?}");
}

#[test]
fn a_whole_network_without_faults_keeps_its_pace() {
    let network =
        NetworkConfig { delay_min_us: 1_000, delay_max_us: 2_000, loss_per_mille: 0, replay_per_mille: 0 };
    let config = SimConfig { network: Some(network), faults: false, clock_skew_ms: 0, ..short(4) };
    let report = run(1, &config).unwrap();
    assert_eq!((report.restarts, report.lost_messages), (0, 0));
    assert!(report.acknowledged > 150, "{report:?}");
}

#[test]
fn networks_of_other_sizes_agree_too() {
    for validators in [1, 2, 5, 7] {
        let config = SimConfig { validators, ..short(6) };
        let report =
            run(31, &config).unwrap_or_else(|violation| panic!("{validators} validators: {violation}"));
        assert!(report.acknowledged > 0, "{validators} validators: {report:?}");
    }
}

/// Says nothing to the odd ones, and sends nonsense now and then.
#[derive(Debug)]
struct Rude;

impl Intercept for Rude {
    fn outgoing(&mut self, view: &mut View<'_>, to: usize, message: PeerMessage) -> Vec<(usize, Outgoing)> {
        if view.random.chance(20) {
            return vec![(to, Outgoing::Frame { kind: 2, body: vec![1, 2, 3].into() })];
        }
        if to % 2 == 1 { Vec::new() } else { vec![(to, Outgoing::Message(message))] }
    }
}

#[test]
fn one_byzantine_validator_of_four_is_blamed_and_stops_nothing() {
    let cast = Cast { intercepts: [(2, Box::new(Rude) as Box<dyn Intercept>)].into(), twins: Vec::new() };
    let report = run_cast(5, &short(10), cast).unwrap();
    assert!(report.blamed > 0 && report.acknowledged > 10, "{report:?}");
}

#[test]
fn a_validator_that_runs_twice_stops_nothing() {
    let cast = Cast { intercepts: std::collections::BTreeMap::new(), twins: vec![1] };
    let report = run_cast(6, &short(10), cast).unwrap();
    assert!(report.acknowledged > 20, "{report:?}");
}
