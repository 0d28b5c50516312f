#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::intercept::{Cast, Intercept, Outgoing, View};
use super::world::run_cast;
use super::*;
use crate::node::{COMMIT_ROUNDS, Pace};
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
    let network = NetworkConfig { delay_min_us: 1_000, delay_max_us: 2_000, ..NetworkConfig::default() };
    let config = SimConfig { network: Some(network), faults: false, clock_skew_ms: 0, ..short(4) };
    let report = run(1, &config).unwrap();
    assert_eq!((report.restarts, report.lost_messages), (0, 0));
    assert!(report.acknowledged > 150, "{report:?}");
}

/// Writes down when its validator first sends its header of each round, and changes nothing.
#[derive(Debug)]
struct Watch(Arc<Mutex<BTreeMap<u64, u64>>>);

impl Intercept for Watch {
    fn outgoing(&mut self, view: &mut View<'_>, to: usize, message: PeerMessage) -> Vec<(usize, Outgoing)> {
        if let PeerMessage::Header(header) = &message
            && header.header().author.as_usize() == view.host
        {
            self.0.lock().unwrap().entry(header.header().round.0).or_insert(view.now_us);
        }
        vec![(to, Outgoing::Message(message))]
    }
}

#[test]
fn rounds_come_in_beats_of_three() {
    let sent = Arc::new(Mutex::new(BTreeMap::new()));
    let watch: Box<dyn Intercept> = Box::new(Watch(Arc::clone(&sent)));
    let cast = Cast { intercepts: [(0, watch)].into(), twins: Vec::new() };
    let network = NetworkConfig { delay_min_us: 100, delay_max_us: 200, ..NetworkConfig::default() };
    let services = Services { sync_us: (1, 50), ..Services::default() };
    let beats = SimConfig { beat_rounds: COMMIT_ROUNDS, ..short(8) };
    let config = SimConfig { network: Some(network), services, faults: false, clock_skew_ms: 0, ..beats };
    run_cast(1, &config, cast).unwrap();
    let (sent, pace) = (sent.lock().unwrap().clone(), Pace::default());
    let gap = |from: u64, to: u64| Some(sent.get(&to)? - sent.get(&from)?);
    let rounds = || 3..sent.len() as u64;
    let starts: Vec<u64> =
        rounds().filter(|round| round % 3 == 0).filter_map(|round| gap(round, round + 3)).collect();
    let quick = rounds()
        .filter(|round| round % 3 != 0)
        .filter(|round| gap(round - 1, *round).is_some_and(|us| us < pace.beat_us / 2));
    // The others may be a little ahead and take this one along.
    let least = starts.iter().min().copied().unwrap_or_default();
    assert!(least + 1_000 >= 3 * pace.beat_us, "two beats began {least} us apart");
    assert!(2 * quick.count() > starts.len(), "the rounds of a beat follow each other at once");
}

#[test]
fn networks_in_beats_survive_faults() {
    for seed in 300..304 {
        let config = SimConfig { beat_rounds: COMMIT_ROUNDS, ..short(15) };
        let report = run(seed, &config).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(report.acknowledged > 20, "seed {seed}: {report:?}");
    }
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

#[test]
fn each_kind_of_fault_happens_and_can_be_switched_off() {
    let mut sum = Report::default();
    for seed in 200..206 {
        let report = run(seed, &short(30)).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        sum.slow_hosts += report.slow_hosts;
        sum.lossy_hosts += report.lossy_hosts;
        sum.disk_errors += report.disk_errors;
        sum.drifting += report.drifting;
        assert!(report.core_drain_us < 60_000_000, "{report:?}");
    }
    assert!(sum.slow_hosts > 0 && sum.lossy_hosts > 0 && sum.disk_errors > 0 && sum.drifting > 0, "{sum:?}");
    let none = SimConfig { kinds: Faults::NONE.with(FaultKind::Restart), ..short(20) };
    let mut restarts = 0;
    for seed in 200..204 {
        let report = run(seed, &none).unwrap();
        assert_eq!((report.partitions, report.replayed_messages, report.disk_errors), (0, 0, 0));
        restarts += report.restarts;
    }
    assert!(restarts > 0, "what is left happens");
}

#[test]
fn one_seed_in_a_hundred_is_a_canary() {
    let config = SimConfig { canary: true, ..short(1) };
    assert_eq!(run(137, &config).unwrap_err(), Violation::Canary);
    assert!(run(138, &config).is_ok());
}

#[test]
fn validators_are_upgraded_one_after_another_under_load() {
    let kinds = SimConfig::default().kinds.without(FaultKind::Blackout);
    let config = SimConfig { upgrade: true, kinds, ..short(20) };
    let report = run(3, &config).unwrap();
    assert_eq!(report.upgrades, 4);
    assert!(report.newest_headers > 0 && report.acknowledged > 20, "{report:?}");
}

#[test]
fn a_trace_tells_what_happened_and_changes_nothing() {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&lines);
    let observer: Observer = Box::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let report = run_observed(11, &short(4), observer).unwrap();
    assert_eq!(run(11, &short(4)).unwrap(), report);
    let lines = lines.lock().unwrap().clone();
    for wanted in ["start 0", "headers: ", "executes commit 1", "submits", "final "] {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}");
    }
}

const DELTA_US: u64 = 50_000;

/// A world in which nothing but messages takes time.
fn measured(validators: usize, seconds: u64) -> SimConfig {
    let network =
        NetworkConfig { delay_min_us: DELTA_US, delay_max_us: DELTA_US + 500, ..NetworkConfig::default() };
    SimConfig {
        validators,
        network: Some(network),
        faults: false,
        clock_skew_ms: 0,
        services: Services { think_us: (1_000, 20_000), ..Services::instant() },
        measure_from_us: Some(3_000_000),
        ..short(seconds)
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn a_block_commits_in_few_message_delays() {
    let report = run(1, &measured(4, 12)).unwrap();
    let blocks = &report.block_latency_us;
    let mean = blocks.iter().sum::<u64>() / blocks.len() as u64;
    assert!(blocks.len() > 500, "{}", blocks.len());
    assert!(mean < 6 * DELTA_US, "{mean}");
    assert!(!report.client_latency_us.is_empty());
}

/// In arXiv 2405.20488 five of a hundred validators that lost one percent of what they sent made the median latency of all
/// ten times longer.
#[test]
fn one_validator_that_loses_a_little_does_not_slow_all_down() {
    let clean = run(1, &measured(20, 7)).unwrap();
    let config = SimConfig { lossy: 1, lossy_per_mille: 10, ..measured(20, 7) };
    let lossy = run(1, &config).unwrap();
    assert!(lossy.lost_messages > 10, "{}", lossy.lost_messages);
    let (before, after) = (median(&clean.block_latency_us), median(&lossy.block_latency_us));
    assert!(after < 2 * before, "{before} us before, {after} us after");
}
