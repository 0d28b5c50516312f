//! A validator that is far behind takes its commits from others, some of which have their own idea of it. The world's
//! checker compares every commit that anybody executes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use super::intercept::{Cast, Intercept, Outgoing, View};
use super::world::World;
use super::*;
use crate::consensus::Commit;
use crate::dag::VerifiedHeader;
use crate::dag::testing::header_saying;
use crate::node::{CertifiedCommits, Effect, Input, Now};
use crate::types::{
    AuthorityIndex, BlockDigest, BlockRef, CommitIndex, CommitVote, Digest, FetchRequest, PeerMessage, Round,
    SignedHeader, SystemMessage, TimestampMs,
};

const SECOND_US: u64 = 1_000_000;

/// Honest in everything but its answers to those that are behind.
#[derive(Debug)]
enum Answers {
    /// None at all.
    Nothing,
    /// The commits, with less than a quorum behind them.
    TooFewVotes,
    /// A commit is missing.
    Gap,
}

impl Intercept for Answers {
    fn outgoing(&mut self, _view: &mut View<'_>, to: usize, message: PeerMessage) -> Vec<(usize, Outgoing)> {
        let message = match (&self, message) {
            (Self::Nothing, PeerMessage::Commits { .. } | PeerMessage::Headers(_)) => return Vec::new(),
            (Self::TooFewVotes, PeerMessage::Commits { commits, mut certificate }) => {
                certificate.pop();
                PeerMessage::Commits { commits, certificate }
            }
            (Self::Gap, PeerMessage::Commits { mut commits, certificate }) if commits.len() > 2 => {
                commits.remove(1);
                PeerMessage::Commits { commits, certificate }
            }
            (_, message) => message,
        };
        vec![(to, Outgoing::Message(message))]
    }
}

fn config(validators: usize) -> SimConfig {
    let network = NetworkConfig { delay_min_us: 2_000, delay_max_us: 6_000, ..NetworkConfig::default() };
    SimConfig { validators, network: Some(network), faults: false, ..SimConfig::default() }
}

/// The last host is down for a while, and comes back far behind.
fn far_behind(seed: u64, config: &SimConfig, intercepts: Vec<(usize, Answers)>) -> World {
    let boxed = |(host, answers)| (host, Box::new(answers) as Box<dyn Intercept>);
    let cast = Cast { intercepts: intercepts.into_iter().map(boxed).collect(), twins: Vec::new() };
    let mut world = World::new(seed, config, cast);
    world.boot_all().unwrap();
    world.run_until(SECOND_US).unwrap();
    let last = config.validators - 1;
    world.crash(last);
    world.run_until(6 * SECOND_US).unwrap();
    world.start(last).unwrap();
    let before = world.running(last).node.stats();
    let others = world.running(2).node.stats();
    assert!(others.quorum_round.0 > before.quorum_round.0 + 64, "{before:?} {others:?}");
    world
}

#[test]
fn a_validator_far_behind_catches_up_by_certificates_past_lying_and_silent_peers() {
    let mut blamed = 0;
    let bad = [
        (1, Answers::Nothing, Answers::TooFewVotes),
        (2, Answers::Gap, Answers::TooFewVotes),
        (3, Answers::TooFewVotes, Answers::Nothing),
    ];
    for (seed, first, second) in bad {
        let mut world = far_behind(seed, &config(7), vec![(0, first), (1, second)]);
        let before = world.running(6).node.stats();
        world.run_until(10 * SECOND_US).unwrap();
        let (after, others) = (world.running(6).node.stats(), world.running(3).node.stats());
        assert!(others.certificates > 10, "{others:?}");
        assert!(after.applied_commits > 200, "{after:?}");
        assert!(after.executed.0 > before.executed.0 + 200, "{after:?}");
        assert!(after.quorum_round.0 + 64 > others.quorum_round.0, "{after:?} {others:?}");
        blamed += world.report.blamed;
        world.heal().unwrap();
        world.drain(60 * SECOND_US, SECOND_US / 2).unwrap();
        world.finish().unwrap();
    }
    assert!(blamed > 0);
}

/// A new log takes the commits from the first one on, and restarts and crashes change nothing of it.
#[test]
fn a_lost_log_is_recovered_by_certificates_through_crashes() {
    let mut world = far_behind(5, &config(4), Vec::new());
    world.lose(3);
    let mut applied = 0;
    for half in 0..8 {
        if half % 2 == 0 {
            world.crash(3);
            world.start(3).unwrap();
        }
        world.run_until(world.now_us + SECOND_US / 2).unwrap();
        applied += world.running(3).node.stats().applied_commits;
    }
    assert!(applied > 100, "{applied}");
    world.heal().unwrap();
    world.drain(60 * SECOND_US, SECOND_US / 2).unwrap();
    world.finish().unwrap();
}

/// As long as one validator still runs a program without certificates, nobody has any.
#[test]
fn without_certificates_rounds_are_fetched_in_ranges() {
    let config = SimConfig { upgrade: true, duration_us: 1_000 * SECOND_US, ..config(4) };
    let mut world = far_behind(3, &config, Vec::new());
    world.run_until(10 * SECOND_US).unwrap();
    let (after, others) = (world.running(3).node.stats(), world.running(2).node.stats());
    assert_eq!((after.applied_commits, after.certificates, others.certificates), (0, 0, 0));
    assert!(after.quorum_round.0 + 64 > others.quorum_round.0, "{after:?} {others:?}");
}

/// One node, told that it is far behind; its effects are looked at.
struct Lone {
    world: World,
    now_us: u64,
}

fn voting(author: u16, round: u64, vote: Option<CommitVote>) -> SignedHeader {
    let system = vote.map(SystemMessage::CommitVote).into_iter().collect();
    SignedHeader::clone(&header_saying(round, author, vec![block(round - 1, author)], 0, system))
}

fn block(round: u64, author: u16) -> BlockRef {
    BlockRef { round: Round(round), author: AuthorityIndex(author), digest: BlockDigest([7; 32]) }
}

impl Lone {
    fn new() -> Self {
        let mut world = World::new(1, &config(7), Cast::default());
        world.start(0).unwrap();
        let mut lone = Self { world, now_us: 1_000 };
        for peer in 1..7 {
            lone.give(Input::PeerUp { peer: AuthorityIndex(peer), version: 2 });
        }
        lone
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let now = Now { monotonic_us: self.now_us, wall: TimestampMs(0) };
        self.world.running(0).node.handle(now, input, &mut effects);
        effects
    }

    /// Headers of f + 1 authors, far ahead: what it asks for then.
    fn show(&mut self) -> Vec<Effect> {
        let headers = (1..4).map(|author| VerifiedHeader::trusted(voting(author, 250, None))).collect();
        self.give(Input::Headers { from: AuthorityIndex(1), headers })
    }

    fn answer(&mut self, from: u16, commits: &[Commit]) -> Vec<Effect> {
        let records: Vec<_> = commits.iter().map(|commit| commit.encode().into()).collect();
        let vote = commits.last().map(|last| CommitVote { index: last.index, digest: last.digest() });
        let certificate: Vec<SignedHeader> = (1..6).map(|author| voting(author, 240, vote)).collect();
        let holds = |header: &SignedHeader| Ok(VerifiedHeader::trusted(header.clone()));
        let committee = self.world.post.committee();
        let commits = Arc::new(CertifiedCommits::open(committee, &records, &certificate, holds).unwrap());
        self.give(Input::Commits { from: AuthorityIndex(from), commits })
    }

    fn bytes(&mut self) -> usize {
        self.world.running(0).node.stats().memory_bytes
    }

    fn wait(&mut self) -> Vec<Effect> {
        self.now_us += 3 * SECOND_US;
        self.give(Input::Tick)
    }
}

/// Whom it asks for commits.
fn asked(effects: &[Effect]) -> Vec<(u16, u64)> {
    let mut asked = Vec::new();
    for effect in effects {
        if let Effect::Send { to, message: PeerMessage::Fetch(FetchRequest::Commits { after }) } = effect {
            asked.push((to.0, after.0));
        }
    }
    asked
}

fn asks_for_ranges(effects: &[Effect]) -> bool {
    let range = |effect: &Effect| {
        matches!(effect, Effect::Send { message: PeerMessage::Fetch(FetchRequest::Range { .. }), .. })
    };
    effects.iter().any(range)
}

fn chain(first: u64, previous: Digest, count: u64) -> Vec<Commit> {
    let mut previous = previous;
    let commit = |index: u64| {
        let leader = block(index, 1);
        let commit = Commit {
            index: CommitIndex(index),
            leader,
            time: TimestampMs(index),
            previous,
            blocks: vec![leader],
        };
        previous = commit.digest();
        commit
    };
    (first..first + count).map(commit).collect()
}

/// What kept validators behind for hours elsewhere: one peer that is asked for commits over and over, and gives none.
#[test]
fn whoever_gives_nothing_is_asked_once_and_then_the_next() {
    let mut lone = Lone::new();
    let effects = lone.show();
    assert_eq!(asked(&effects), [(1, 0)]);
    assert!(!asks_for_ranges(&effects));
    // The first has nothing, the second says nothing.
    assert_eq!(asked(&lone.answer(1, &[])), [(2, 0)]);
    assert_eq!(asked(&lone.wait()), [(3, 0)]);
    // Three of seven in vain, an honest one among them: ranges, and after a while another try with the next one.
    let effects = lone.answer(3, &[]);
    assert!(asked(&effects).is_empty() && asks_for_ranges(&effects));
    assert!(asked(&lone.wait()).is_empty());
    assert_eq!(asked(&lone.wait()), [(4, 0)]);
}

/// What would keep a validator behind for ever: a peer that gives just as much as makes it keep the turn, as late as it may.
#[test]
fn whoever_gives_enough_is_not_asked_again_before_the_others() {
    let mut lone = Lone::new();
    assert_eq!(asked(&lone.show()), [(1, 0)]);
    assert!(asked(&lone.answer(1, &chain(1, Digest::default(), 128))).is_empty(), "there is enough to do");
    // Its blocks do not come, and after a pause there is a new question.
    let later: Vec<_> = (0..4).flat_map(|_| asked(&lone.wait())).collect();
    assert_eq!(later, [(2, 0)]);
}

#[test]
fn only_the_answer_to_the_own_question_counts() {
    let mut lone = Lone::new();
    assert_eq!(asked(&lone.show()), [(1, 0)]);
    // Nobody asked this one.
    assert!(asked(&lone.answer(2, &chain(1, Digest::default(), 9))).is_empty());
    // An answer to an earlier question changes nothing and is no fault.
    let effects = lone.answer(1, &chain(5, Digest([3; 32]), 9));
    assert!(
        asked(&effects).is_empty() && !effects.iter().any(|effect| matches!(effect, Effect::Blame { .. }))
    );
    // The right one: its blocks are asked for by name, and more commits of the next peer.
    let effects = lone.answer(1, &chain(1, Digest::default(), 9));
    assert_eq!(asked(&effects), [(2, 9)]);
    let mut named = Vec::new();
    for effect in &effects {
        if let Effect::Send { message: PeerMessage::Fetch(FetchRequest::Headers(blocks)), .. } = effect {
            named.extend(blocks.iter().copied());
        }
    }
    named.sort_unstable();
    assert_eq!(named, (1..=9).map(|index| block(index, 1)).collect::<Vec<_>>());
    // What never comes is given up.
    lone.wait();
    assert!(asks_for_ranges(&lone.wait()));
}

/// A disk may be slower than the answers that were measured: the commits prove themselves, whenever they come.
#[test]
fn a_late_answer_counts_as_far_as_it_says_something_new() {
    let mut lone = Lone::new();
    assert_eq!(asked(&lone.show()), [(1, 0)]);
    assert_eq!(asked(&lone.wait()), [(2, 0)]);
    assert_eq!(asked(&lone.answer(1, &chain(1, Digest::default(), 9))), [(3, 9)]);
    assert_eq!(asked(&lone.answer(2, &chain(1, Digest::default(), 12))), [(4, 12)]);
    // Nothing new from those that owe nothing, and from those that do no fault and no failure.
    assert!(asked(&lone.answer(2, &chain(1, Digest::default(), 20))).is_empty());
    assert!(asked(&lone.answer(3, &chain(1, Digest::default(), 12))).is_empty());
    let rest = chain(13, chain(1, Digest::default(), 12)[11].digest(), 403);
    assert_eq!(asked(&lone.answer(4, &rest[..3])), [(5, 15)]);
    assert_eq!(asked(&lone.wait()), [(6, 15)]);
    // What is late does not pile up.
    let few = lone.bytes();
    lone.answer(5, &rest[3..203]);
    let many = lone.bytes();
    assert!(many > few);
    lone.answer(6, &rest[3..]);
    assert_eq!(lone.bytes(), many);
}

/// More than f lie, or this validator's own commits are wrong: it says so and does nothing any more.
#[test]
fn a_quorum_for_other_commits_than_the_own_halts_the_validator() {
    let mut lone = Lone::new();
    lone.show();
    let effects = lone.answer(1, &chain(1, Digest([3; 32]), 9));
    assert!(
        matches!(&effects[..], [Effect::Halt(reason)] if reason.contains("certified other commits")),
        "{effects:?}"
    );
    assert!(lone.wait().is_empty());
}
