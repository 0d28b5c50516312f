//! What a simulated world starts with: genesis file, keys and network, all from its seed.

use super::client::root_key;
use super::config::{FaultKind, SimConfig};
use super::host::HostSeeds;
use super::network::{NetworkConfig, Shape};
use super::random::Random;
use crate::crypto::SecretKey;
use crate::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use crate::types::{OrgId, Rules};

pub(super) fn draw_network(random: &mut Random, config: &SimConfig) -> NetworkConfig {
    let delay_min_us = random.between(200, 20_000);
    let delay_max_us = delay_min_us + random.between(100, 80_000);
    let (loss, replay) = (random.between(0, 300), random.between(0, 500));
    let shaped = match random.below(8) {
        0..3 => Shape::Uniform,
        3..5 => Shape::Bell,
        5..7 => Shape::LongTail,
        _ => return with_faults(NetworkConfig::regions(), config, loss, replay),
    };
    let network = NetworkConfig { shape: shaped, delay_min_us, delay_max_us, ..NetworkConfig::default() };
    with_faults(network, config, loss, replay)
}

fn with_faults(network: NetworkConfig, config: &SimConfig, loss: u64, replay: u64) -> NetworkConfig {
    let if_on = |kind, per_mille| if config.may(kind) { per_mille } else { 0 };
    NetworkConfig {
        loss_per_mille: if_on(FaultKind::Loss, loss),
        replay_per_mille: if_on(FaultKind::Replay, replay),
        ..network
    }
}

pub(super) fn host_seeds(seed: u64, host: usize) -> HostSeeds {
    let derive = |context| {
        let mut material = seed.to_be_bytes().to_vec();
        material.extend_from_slice(&(host as u64).to_be_bytes());
        blake3::derive_key(context, &material)
    };
    HostSeeds {
        consensus: derive("salus simulated consensus key"),
        cosign: derive("salus simulated cosign key"),
    }
}

pub(super) fn genesis(seed: u64, validators: usize, checkpoint_interval_ms: u64) -> Genesis {
    let public = |context: &str, i: usize| {
        let mut material = seed.to_be_bytes().to_vec();
        material.extend_from_slice(&(i as u64).to_be_bytes());
        HexKey(SecretKey::from_seed(&blake3::derive_key(context, &material)).public())
    };
    let validator = |i: usize| {
        let seeds = host_seeds(seed, i);
        ValidatorEntry {
            name: format!("v{i}"),
            stake: 1,
            address: format!("v{i}:1"),
            network_key: public("salus simulated network key", i),
            consensus_key: HexKey(SecretKey::from_seed(&seeds.consensus).public()),
            cosign_key: HexKey(SecretKey::from_seed(&seeds.cosign).public()),
            log_key: public("salus simulated log key", i),
        }
    };
    let member = |org: u32| MemberEntry {
        org,
        kind: 1,
        name: format!("Simulated member {org}"),
        region: 1,
        root_key: HexKey(root_key(seed, OrgId(org)).public()),
        governs: true,
    };
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: "sim".to_owned(),
        created_ms: 1_767_600_000_000,
        parameters: Parameters {
            checkpoint_interval_ms,
            gc_depth: 64,
            leaders_per_round: u16::try_from(validators).unwrap_or(u16::MAX),
            // Short, so that the schedule changes often.
            reputation_window_rounds: 48,
            rules: Rules::NEWEST,
        },
        validators: (0..validators).map(validator).collect(),
        members: (1..=4).map(member).collect(),
    };
    let bytes =
        Genesis::encode(&file).unwrap_or_else(|error| panic!("the simulated genesis is valid: {error}"));
    Genesis::decode(&bytes).unwrap_or_else(|error| panic!("the simulated genesis is valid: {error}"))
}
