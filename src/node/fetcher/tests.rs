#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::peers::{WINDOW_MAX, WINDOW_MIN};
use super::*;
use crate::dag::testing::{committee, header};
use crate::dag::{Admission, ManagerLimits, VerifiedHeader};
use crate::types::{BlockDigest, LogSeq, Payload, SignedHeader, TimestampMs};

/// One way; an answer takes twice as long.
const DELAY_US: u64 = 10_000;
const OWN: AuthorityIndex = AuthorityIndex(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Honest,
    /// Takes every request and answers none.
    Dead,
    /// Answers with one of the blocks it was asked for.
    Stingy,
    /// Answers at once with headers that nobody asked for.
    Garbage,
}

/// Answers under way: headers and payloads.
type Answer = (AuthorityIndex, Vec<VerifiedHeader>, Vec<BlockRef>);

struct World {
    fetcher: Fetcher,
    manager: BlockManager,
    dag: DagState,
    habits: Vec<Habit>,
    all: BTreeMap<BlockRef, VerifiedHeader>,
    quorum: Round,
    now_us: u64,
    under_way: BTreeMap<(u64, u64), Answer>,
    order: u64,
    /// Blocks that each peer was asked for.
    asked: Vec<usize>,
    /// Most at one time.
    in_flight_max: Vec<usize>,
}

impl World {
    /// `rounds` full rounds exist; the last habits belong to the last peers.
    fn new(n: usize, rounds: u64, bad: &[Habit]) -> Self {
        let committee = committee(n);
        let mut all = BTreeMap::new();
        let mut last: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
        for round in 1..=rounds {
            let row: Vec<VerifiedHeader> = (0..last.len())
                .map(|author| {
                    let others = (0..last.len()).filter(|other| *other != author).map(|other| last[other]);
                    let ancestors = std::iter::once(last[author]).chain(others).collect();
                    header(round, AuthorityIndex::from_usize(author).0, ancestors, 0)
                })
                .collect();
            last = row.iter().map(|header| header.reference()).collect();
            all.extend(row.into_iter().map(|header| (header.reference(), header)));
        }
        let mut habits = vec![Habit::Honest; n - bad.len()];
        habits.extend_from_slice(bad);
        let mut fetcher = Fetcher::new(&committee, OWN, Pace::default());
        for peer in committee.indices().filter(|peer| *peer != OWN) {
            fetcher.peer_up(peer);
        }
        Self {
            fetcher,
            manager: BlockManager::new(n, ManagerLimits::default()),
            dag: DagState::new(committee, Round(0)),
            habits,
            all,
            quorum: Round(0),
            now_us: 0,
            under_way: BTreeMap::new(),
            order: 0,
            asked: vec![0; n],
            in_flight_max: vec![0; n],
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_us: self.now_us, wall: TimestampMs(0) }
    }

    fn deliver(&mut self, from: AuthorityIndex, headers: Vec<VerifiedHeader>) {
        for header in headers {
            let block = header.reference();
            let admission = self.manager.admit(&self.dag, from, header);
            assert_ne!(admission, Admission::Refused);
            self.fetcher.got_header(self.now(), from, &block);
            if let Admission::Accepted(ready) = admission {
                for header in ready {
                    self.dag.insert(header);
                }
            }
        }
        let quorum = self.dag.committee().thresholds().round_quorum;
        while self.dag.accepted_stake(self.quorum.next()).reaches(quorum) {
            self.quorum = self.quorum.next();
        }
    }

    fn poll(&mut self) {
        let mut out = Vec::new();
        let frontier = Frontier { quorum: self.quorum, undecided: self.quorum };
        self.fetcher.poll(self.now(), frontier, &self.manager, &self.dag, &mut out);
        for peer in 0..self.habits.len() {
            let in_flight = self.fetcher.peers.in_flight(AuthorityIndex::from_usize(peer));
            self.in_flight_max[peer] = self.in_flight_max[peer].max(in_flight);
        }
        for effect in out {
            let Effect::Send { to, message: PeerMessage::Fetch(request) } = effect else {
                panic!("{effect:?}")
            };
            self.ask(to, request);
        }
    }

    fn ask(&mut self, to: AuthorityIndex, request: FetchRequest) {
        let (mut headers, mut payloads) = (Vec::new(), Vec::new());
        match request {
            FetchRequest::Headers(blocks) => {
                // What never existed is in nobody's answer.
                headers = blocks.iter().filter_map(|block| self.all.get(block).cloned()).collect();
                self.asked[to.as_usize()] += blocks.len();
            }
            FetchRequest::Payloads(blocks) => {
                self.asked[to.as_usize()] += blocks.len();
                payloads = blocks;
            }
            FetchRequest::Range { .. } | FetchRequest::Latest { .. } | FetchRequest::Commits { .. } => {
                panic!("nothing is that far ahead")
            }
        }
        match self.habits[to.as_usize()] {
            Habit::Honest => {}
            Habit::Dead => return,
            Habit::Stingy => {
                headers.truncate(1);
                payloads.truncate(1);
            }
            Habit::Garbage => {
                headers = self.all.values().take(3).cloned().collect();
                payloads.clear();
            }
        }
        self.order += 1;
        self.under_way.insert((self.now_us + 2 * DELAY_US, self.order), (to, headers, payloads));
    }

    /// Runs until nothing is being asked for; the time it took.
    fn run(&mut self) -> u64 {
        self.poll();
        while self.fetcher.len() > 0 {
            self.step();
        }
        self.now_us
    }

    /// Goes to the next answer or timeout.
    fn step(&mut self) {
        let timer = self.fetcher.next_timeout().unwrap();
        let answer = self.under_way.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
        self.now_us = timer.min(answer).max(self.now_us + 1);
        assert!(self.now_us < 60_000_000, "{} blocks are still being asked for", self.fetcher.len());
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now_us) {
            let (from, headers, payloads) = entry.remove();
            self.deliver(from, headers);
            for block in payloads {
                self.fetcher.got_payload(self.now(), from, &block);
                self.dag.set_payload(&block, Arc::new(Payload::empty()), LogSeq(1));
            }
        }
        self.poll();
    }
}

/// Hostile peers in all shapes; more of them than a network could bear otherwise.
fn worst(n: usize) -> Vec<Habit> {
    let f = (n - 1) / 3;
    std::iter::repeat_n(Habit::Dead, f).chain([Habit::Garbage, Habit::Stingy]).take(n - 2).collect()
}

#[test]
fn a_chain_of_missing_headers_is_fetched_past_dead_and_hostile_peers() {
    for n in [4, 10] {
        let rounds = 30;
        let mut world = World::new(n, rounds, &worst(n));
        let top: Vec<VerifiedHeader> =
            world.all.values().filter(|header| header.header().round == Round(rounds)).cloned().collect();
        for header in top {
            world.deliver(header.header().author, vec![header]);
        }
        let took = world.run();
        assert_eq!(world.dag.len(), n * usize::try_from(rounds).unwrap());
        // One answer a round, or one and what it takes to ask a second peer; and a few timeouts until the dead are known.
        assert!(took < rounds * 6 * DELAY_US + 4 * 500_000, "n = {n}: {took} µs");
        for (peer, habit) in world.habits.iter().enumerate() {
            let most = if *habit == Habit::Honest { WINDOW_MAX } else { WINDOW_MAX / 4 };
            assert!(world.in_flight_max[peer] <= most, "{habit:?}: {}", world.in_flight_max[peer]);
        }
    }
}

/// Hundreds of blocks at once: what saturated the synchronisers in the outage that this is after.
#[test]
fn dead_peers_cannot_hold_the_slots() {
    for n in [4, 10] {
        let mut world = World::new(n, 60, &worst(n));
        let all: Vec<BlockRef> = world.all.keys().copied().collect();
        for block in &all {
            world.dag.insert(world.all[block].clone());
            world.fetcher.want_payload(world.now(), *block);
        }
        let took = world.run();
        // An answer takes 20 ms; there are several hundred blocks, and windows start at 64.
        assert!(took < 4_000_000, "n = {n}: {took} µs");
        for (peer, habit) in world.habits.iter().enumerate().skip(1) {
            match habit {
                Habit::Honest => assert!(world.asked[peer] >= all.len() / n),
                // Its first window, what its timeouts left of it, and probes.
                Habit::Dead => assert!(world.asked[peer] < 160, "n = {n}: {}", world.asked[peer]),
                Habit::Stingy | Habit::Garbage => {
                    assert!(world.fetcher.peers.window(AuthorityIndex::from_usize(peer)) < 64, "{habit:?}")
                }
            }
        }
    }
}

#[test]
fn a_silent_peer_is_asked_less_and_less_and_welcomed_back() {
    let mut world = World::new(4, 60, &[Habit::Dead, Habit::Dead, Habit::Dead]);
    let all: Vec<BlockRef> = world.all.keys().copied().collect();
    for block in &all {
        world.dag.insert(world.all[block].clone());
        world.fetcher.want_payload(world.now(), *block);
    }
    let mut asked_in = Vec::new();
    for second in 1..=16_u64 {
        let before: usize = world.asked.iter().sum();
        while world.now_us < second * 1_000_000 {
            world.now_us = world.fetcher.next_timeout().unwrap().max(world.now_us + 1);
            world.poll();
        }
        asked_in.push(world.asked.iter().sum::<usize>() - before);
    }
    // Three windows of 64 at first, a quarter of each kept free; probes in the end.
    let (first, last): (usize, usize) = (asked_in[0], asked_in[12..].iter().sum());
    assert!(first >= 3 * 48 && last > 0 && last < first / 2, "{asked_in:?}");
    for peer in 1..4 {
        assert!(world.fetcher.peers.in_flight(AuthorityIndex(peer)) <= WINDOW_MIN);
    }
    // They come to life: everything is there soon.
    world.habits = vec![Habit::Honest; 4];
    let since = world.now_us;
    assert!(world.run() - since < 5_000_000);
}

/// An equivocator's headers name what nobody has, and what is asked for in vain fills every window again and again. A payload
/// that any peer would give is asked for all the same. (A case of twins stood still for good without it.)
#[test]
fn what_never_comes_does_not_keep_what_comes_waiting() {
    let mut world = World::new(4, 1, &[]);
    let wanted: Vec<BlockRef> = world.all.keys().copied().collect();
    for block in &wanted {
        world.dag.insert(world.all[block].clone());
    }
    let liar = AuthorityIndex(3);
    for round in 2..=33 {
        let ghost = BlockRef { round: Round(round - 1), author: liar, digest: BlockDigest([9; 32]) };
        world.deliver(liar, vec![header(round, liar.0, vec![ghost], 0)]);
    }
    world.poll();
    while world.now_us < 8_000_000 {
        world.step();
    }
    for peer in 1..4 {
        assert_eq!(world.fetcher.peers.window(AuthorityIndex(peer)), WINDOW_MIN);
    }
    let since = world.now_us;
    for block in wanted {
        world.fetcher.want_payload(world.now(), block);
    }
    while !world.fetcher.payloads.is_empty() {
        world.step();
    }
    // The windows empty with the next timeout.
    assert!(world.now_us - since < 2_000_000, "{} µs", world.now_us - since);
}

#[test]
fn what_was_not_asked_for_earns_nothing() {
    let mut world = World::new(4, 2, &[]);
    let liar = AuthorityIndex(3);
    let before = world.fetcher.peers.window(liar);
    for header in world.all.values().cloned().collect::<Vec<_>>() {
        world.deliver(liar, vec![header]);
    }
    assert_eq!(world.fetcher.peers.window(liar), before);
    assert_eq!(world.fetcher.peers.hedge_us(Kind::Header), Pace::default().fetch_timeout_us / 4);
}

#[test]
fn one_that_names_what_does_not_exist_does_not_make_honest_peers_look_dead() {
    let mut world = World::new(4, 1, &[]);
    let committee = committee(4);
    let genesis: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
    let row: Vec<BlockRef> = world.all.keys().copied().collect();
    world.deliver(AuthorityIndex(3), world.all.values().cloned().collect());
    let ghosts: BTreeSet<BlockRef> = (1..100)
        .map(|salt| header(1, 2, vec![genesis[2], genesis[0], genesis[1], genesis[3]], salt).reference())
        .collect();
    for (salt, ghost) in ghosts.iter().enumerate() {
        let naming = header(2, 3, vec![row[3], row[0], row[1], *ghost], salt as u64);
        let _ = world.manager.admit(&world.dag, AuthorityIndex(3), naming);
    }
    // Honest peers say that they have nothing; the liar says nothing.
    for _ in 0..200 {
        let mut out = Vec::new();
        let frontier = Frontier { quorum: Round(1), undecided: Round(1) };
        world.fetcher.poll(world.now(), frontier, &world.manager, &world.dag, &mut out);
        world.now_us += DELAY_US;
        for effect in out {
            if let Effect::Send { to, .. } = effect
                && to != AuthorityIndex(3)
            {
                world.fetcher.got_nothing(world.now(), to);
            }
        }
    }
    assert!(world.fetcher.peers.window(AuthorityIndex(1)) >= 64);
    assert!(world.fetcher.peers.window(AuthorityIndex(3)) < 64);
}

#[test]
fn a_request_with_nothing_to_give_is_answered() {
    let dag = DagState::new(committee(4), Round(0));
    let mut out = Vec::new();
    let range = FetchRequest::Range { from: Round(1), rounds: 4 };
    serve(&dag, |_| false, |_| false, AuthorityIndex(2), range, &mut out);
    let empty = |effect: &Effect| matches!(effect, Effect::Send { message: PeerMessage::Headers(headers), .. } if headers.is_empty());
    assert!(out.len() == 1 && empty(&out[0]), "{out:?}");
    let block = BlockRef { round: Round(7), ..BlockRef::default() };
    for request in [FetchRequest::Headers(vec![block]), FetchRequest::Payloads(vec![block])] {
        let answers = serve_from_log(&request, |_, _, _| Ok(Vec::new()), |_| Ok::<_, ()>(None)).unwrap();
        assert!(matches!(&answers[..], [PeerMessage::Headers(headers)] if headers.is_empty()), "{answers:?}");
        let bytes = answers[0].encode();
        assert!(matches!(
            PeerMessage::decode(bytes.head[4], bytes.head[5..].to_vec().into()),
            Ok(PeerMessage::Headers(headers)) if headers == Vec::<SignedHeader>::new()
        ));
    }
}

/// One round trip for the chain of an equivocator, in which each header is known to be missing before it comes, and no more than
/// what was asked for of anybody else.
#[test]
fn an_answer_brings_the_chain_of_an_equivocator_from_its_end() {
    let committee = committee(4);
    let mut dag = DagState::new(committee.clone(), Round(0));
    let mut row: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
    for round in 1..=40 {
        let made: Vec<_> = (0..4_u16)
            .map(|author| {
                let mut ancestors = row.clone();
                ancestors.rotate_left(usize::from(author));
                header(round, author, ancestors, 0)
            })
            .collect();
        row = made.iter().map(|header| header.reference()).collect();
        for header in made {
            dag.insert(header);
        }
    }
    let is_shunned =
        |block: &BlockRef| block.author == AuthorityIndex(3) && block.round.0 > 4 && block.round.0 < 39;
    let answer = |block: BlockRef| {
        let mut out = Vec::new();
        serve(&dag, is_shunned, |_| false, AuthorityIndex(1), FetchRequest::Headers(vec![block]), &mut out);
        match out.pop() {
            Some(Effect::Send { message: PeerMessage::Headers(headers), .. }) => headers,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer(row[0]).len(), 1);
    assert_eq!(answer(row[3]).len(), 1, "the one below is not shunned");
    let parent = *dag.get(&row[3]).unwrap().header.header().ancestors.first().unwrap();
    let chain = answer(parent);
    let rounds: Vec<u64> = chain.iter().map(|header| header.header().round.0).collect();
    assert_eq!(rounds, (5..=39).rev().collect::<Vec<_>>());
    assert!(chain.iter().all(|header| header.header().author == AuthorityIndex(3)));
}
