#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::sim::NetworkConfig;

fn short(seconds: u64) -> SimConfig {
    SimConfig { duration_us: seconds * 1_000_000, faults: false, ..SimConfig::default() }
}

/// Each attack alone, without pauses: it is carried out, often, and everything holds all the same.
#[test]
fn every_attack_is_carried_out_and_withstood() {
    for attack in Attack::ALL {
        let mut times = 0;
        for seed in 0..2 {
            let report = run(seed, &short(8), Some(&[attack]))
                .unwrap_or_else(|violation| panic!("{} with seed {seed}: {violation}", attack.name()));
            assert!(report.acknowledged > 5, "{} with seed {seed}: {report:?}", attack.name());
            let done = report.lies.get(&attack).copied().unwrap_or_default();
            times += done;
            // Whoever makes two blocks of one round is found out by everybody, by proof.
            let divides = [Attack::Equivocate, Attack::FloodRound].contains(&attack) && done > 10;
            assert!(!divides || report.convicted == 1, "{} with seed {seed}: {report:?}", attack.name());
        }
        let rare = [Attack::StolenKey, Attack::Censor].contains(&attack);
        let least = if rare { 1 } else { 6 };
        assert!(times >= least, "{}: {times} times", attack.name());
    }
}

#[test]
fn drawn_adversaries_and_faults_together_are_withstood() {
    let mut lies = Lies::new();
    for seed in 0..8 {
        let validators = if seed % 2 == 0 { 4 } else { 7 };
        let config = SimConfig { validators, faults: true, ..short(10) };
        let report = run(seed, &config, None).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        for (attack, times) in report.lies {
            *lies.entry(attack).or_default() += times;
        }
    }
    assert!(lies.len() > 5 && lies.values().sum::<u64>() > 500, "{lies:?}");
}

/// Somebody who is dead to the others: nothing leaves, nothing arrives.
#[derive(Debug)]
struct Dead;

impl Intercept for Dead {
    fn outgoing(&mut self, _: &mut View<'_>, _: usize, _: PeerMessage) -> Post {
        Vec::new()
    }

    fn incoming(&mut self, _: &mut View<'_>, _: usize, _: &PeerMessage) -> bool {
        false
    }
}

/// One peer is dead and another lies to whoever asks it, while the others crash and are cut off, and have to ask: catching
/// up goes round both. (Networks of this kind have stood still for synchronizers that insisted on a peer.)
#[test]
fn catching_up_goes_round_dead_and_hostile_peers() {
    let mut away = 0;
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let mut cast = Cast::default();
        let hostile = [Attack::LieToFetchers, Attack::WithholdPayloads, Attack::Amplify];
        cast.intercepts.insert(0, Box::new(Adversary::new(&hostile, true, &mut random)));
        cast.intercepts.insert(1, Box::new(Dead));
        let network = NetworkConfig {
            delay_min_us: 500,
            delay_max_us: 8_000,
            loss_per_mille: 50,
            replay_per_mille: 20,
            ..NetworkConfig::default()
        };
        let config = SimConfig { validators: 7, network: Some(network), faults: true, ..short(12) };
        let report =
            run_cast(seed, &config, cast).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(report.acknowledged > 20, "{report:?}");
        away += report.restarts + report.partitions;
    }
    assert!(away > 0, "some were away");
}

/// Equivocations that no commit holds are ancestors of honest blocks: whoever was down has to get them all the same.
#[test]
fn those_that_were_down_catch_up_through_equivocations() {
    let (mut restarts, mut equivocations) = (0, 0);
    for seed in 0..6 {
        let attacks = [Attack::Equivocate, Attack::FloodRound];
        let config = SimConfig { faults: true, ..short(12) };
        let report =
            run(seed, &config, Some(&attacks)).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        restarts += report.restarts;
        equivocations += report.lies.get(&Attack::Equivocate).copied().unwrap_or_default();
    }
    assert!(restarts >= 3 && equivocations > 20, "{restarts} {equivocations}");
}

/// Headers with altered fields and signatures that hold, by the thousand: none stops a peer.
#[test]
fn thousands_of_mutants_stop_nobody() {
    let mut mutants = 0;
    for seed in 0..3 {
        let attacks = [Attack::Mutate, Attack::Garbage];
        let report = run(seed, &short(15), Some(&attacks))
            .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        mutants += report.lies.values().sum::<u64>();
    }
    assert!(mutants > 1_000, "{mutants}");
}

/// Of the measurement of latency: both harms are done to honest validators that clients hear from all the same.
#[test]
fn a_single_liar_does_its_harm_and_blocks_are_measured() {
    for (harm, attack) in [(Harm::Withhold, Attack::WithholdHeaders), (Harm::Equivocate, Attack::Equivocate)]
    {
        let config = SimConfig { measure_from_us: Some(2_000_000), ..short(6) };
        let report = run_harmed(1, &config, harm).unwrap();
        assert!(report.lies[&attack] > 10, "{report:?}");
        assert!(report.block_latency_us.len() > 30 && report.client_latency_us.len() > 10, "{report:?}");
        assert_eq!(report.convicted, u64::from(harm == Harm::Equivocate));
    }
}
