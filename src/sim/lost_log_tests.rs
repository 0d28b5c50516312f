//! Validators that lose their whole disk and come back with their old keys. The world's checker sees two blocks of one round,
//! whichever life they are from.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::intercept::Cast;
use super::world::World;
use super::*;
use crate::dag::VerifiedHeader;
use crate::dag::testing::header;
use crate::node::{Effect, Input, LogRecord, Now};
use crate::types::{
    AuthorityIndex, BlockRef, CommitIndex, FetchRequest, LogSeq, PeerMessage, Round, TimestampMs,
};

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

/// A proof lies in the log for good, in an own header, and not only as long as the blocks that it is about.
#[test]
fn a_proof_of_equivocation_outlives_garbage_collection_and_restarts() {
    let config = SimConfig { faults: false, ..SimConfig::default() };
    let cast = Cast { twins: vec![0], ..Cast::default() };
    let mut world = World::new(3, &config, cast);
    world.boot_all().unwrap();
    world.run_until(30 * SECOND_US).unwrap();
    let proofs = |world: &mut World| world.running(1).node.evidence().copied().collect::<Vec<_>>();
    let before = proofs(&mut world);
    assert_eq!(before.len(), 1);
    let gc_depth = world.genesis.parameters().gc_depth;
    let round = world.running(1).node.stats().quorum_round;
    assert!(round.0 > before[0].block().round.0 + 2 * gc_depth, "{round} {before:?}");
    world.crash(1);
    world.start(1).unwrap();
    assert_eq!(proofs(&mut world)[0].block().author, AuthorityIndex(0));
}

/// The last of some validators, without its log, and what the others send it.
struct Silent {
    world: World,
    nonce: u64,
}

impl Silent {
    fn new(validators: usize) -> Self {
        let config = SimConfig { validators, faults: false, ..SimConfig::default() };
        let mut world = World::new(1, &config, Cast::default());
        world.hosts[validators - 1].keys_used = true;
        world.start(validators - 1).unwrap();
        let mut silent = Self { world, nonce: 0 };
        for peer in 0..validators - 1 {
            for effect in silent.give(Input::PeerUp { peer: AuthorityIndex::from_usize(peer), version: 2 }) {
                if let Effect::Send { message: PeerMessage::Fetch(FetchRequest::Latest { nonce }), .. } =
                    effect
                {
                    silent.nonce = nonce;
                }
            }
        }
        silent
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        let last = self.world.hosts.len() - 1;
        let mut effects = Vec::new();
        let now = Now { monotonic_us: 1_000, wall: TimestampMs(1) };
        self.world.running(last).node.handle(now, input, &mut effects);
        effects
    }

    /// Up to which round it is to be silent, if that is known after this claim.
    fn claims(&mut self, from: u16, header: Option<VerifiedHeader>) -> Option<Round> {
        let nonce = self.nonce;
        let effects = self.give(Input::Latest { from: AuthorityIndex(from), nonce, header });
        let floor = |effect: &Effect| {
            if let Effect::Append { record: LogRecord::Rejoin(round), .. } = effect {
                Some(*round)
            } else {
                None
            }
        };
        effects.iter().find_map(floor)
    }
}

/// A claim of a round that never was counts for nothing: neither as one of the quorum nor for its height.
#[test]
fn an_absurd_claim_neither_frees_a_validator_nor_silences_it_for_ever() {
    let mut silent = Silent::new(7);
    let parents = |round: u64| {
        let ghost =
            |author| BlockRef { round: Round(round), author: AuthorityIndex(author), ..BlockRef::default() };
        (0..7).map(ghost).collect::<Vec<_>>()
    };
    for round in [1 << 20, u64::MAX] {
        assert_eq!(silent.claims(0, Some(header(round, 0, parents(round - 1), 0))), None);
    }
    for honest in 1..5 {
        assert_eq!(silent.claims(honest, None), None);
    }
    assert_eq!(silent.claims(5, None), Some(Round(1)));
}

/// Elsewhere the rule was run with own blocks alone, and commits came a round late. Who makes none commits as soon as it can.
#[test]
fn a_header_that_decides_commits_at_once_without_an_own_block() {
    let mut silent = Silent::new(4);
    let committee = silent.world.genesis.committee();
    let mut row: Vec<BlockRef> = committee.indices().map(|author| committee.genesis_block(author)).collect();
    let mut commits = Vec::new();
    for round in 1..=3 {
        let mut next = Vec::new();
        for author in 0..3 {
            let own = usize::from(author);
            let others = row.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, block)| *block);
            let header = header(round, author, std::iter::once(row[own]).chain(others).collect(), 0);
            next.push(header.reference());
            let effects = silent.give(Input::Headers { from: AuthorityIndex(author), headers: vec![header] });
            let own_blocks = effects.iter().filter(|effect| matches!(effect, Effect::Broadcast(_))).count();
            let is_commit =
                |effect: &&Effect| matches!(effect, Effect::Append { record: LogRecord::Commit(..), .. });
            commits.push((round, author, effects.iter().filter(is_commit).count()));
            assert_eq!(own_blocks, 0);
        }
        row = next;
    }
    let (last, before) = commits.split_last().unwrap();
    assert!(before.iter().all(|(.., count)| *count == 0), "{commits:?}");
    assert!(last.2 >= 1, "the third header of round 3 certifies leaders of round 1: {commits:?}");
}

/// The own block makes up the quorum: were it lost, another one could take its place, and the leader be skipped.
#[test]
fn a_commit_waits_for_the_own_block_that_decided_it() {
    let config = SimConfig { faults: false, ..SimConfig::default() };
    let mut world = World::new(1, &config, Cast::default());
    world.start(3).unwrap();
    world.run_until(SECOND_US).unwrap();
    let committee = world.genesis.committee();
    let mut now_us = SECOND_US;
    let mut give = |input: Input| {
        now_us += SECOND_US;
        let (now, mut effects) = (Now { monotonic_us: now_us, wall: TimestampMs(1) }, Vec::new());
        world.running(3).node.handle(now, input, &mut effects);
        effects
    };
    // Its first block is durable; it tells everybody who connects.
    let mut own = Vec::new();
    for peer in 0..3 {
        own.clear();
        for effect in give(Input::PeerUp { peer: AuthorityIndex(peer), version: 2 }) {
            if let Effect::Send { message: PeerMessage::Header(header), .. } = effect {
                own.push((header.reference(), LogSeq(0)));
            }
        }
    }
    assert_eq!(own.len(), 1);
    let mut row: Vec<BlockRef> =
        (0..4).map(|author| committee.genesis_block(AuthorityIndex(author))).collect();
    let mut rests_on = None;
    for round in 1..=3 {
        let mut effects = Vec::new();
        let mut next = Vec::new();
        for author in 0..2 {
            let first = row[usize::from(author)];
            let others = row.iter().copied().filter(|block| *block != first);
            let header = header(round, author, std::iter::once(first).chain(others).collect(), 0);
            next.push(header.reference());
            effects.extend(give(Input::Headers { from: AuthorityIndex(author), headers: vec![header] }));
        }
        effects.extend(give(Input::Tick));
        for effect in effects {
            assert!(
                !matches!(effect, Effect::Execute(_)),
                "round {round}: of {own:?} the first alone is durable"
            );
            let Effect::Append { seq, record } = effect else { continue };
            if let LogRecord::Header(header) = &record
                && header.header().author == AuthorityIndex(3)
            {
                own.push((header.reference(), seq));
            }
            if let LogRecord::Commit(..) = record {
                rests_on = rests_on.or(own.last().map(|(_, seq)| *seq));
            }
        }
        next.extend(own.iter().map(|(block, _)| *block).find(|block| block.round == Round(round)));
        row = next;
    }
    let rests_on = rests_on.unwrap();
    let is_execution = |effect: &Effect| matches!(effect, Effect::Execute(_));
    assert!(!give(Input::Synced(LogSeq(rests_on.0 - 1))).iter().any(is_execution));
    assert!(give(Input::Synced(rests_on)).iter().any(is_execution));
}
