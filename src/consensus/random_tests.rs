//! The committer against the rule as it is written, and against the order in which blocks arrive, on random DAGs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::committee::Committee;
use crate::dag::random_testing::{Growth, Random, grow};
use crate::dag::testing::{committee, weighted};
use crate::dag::{Admission, BlockManager, DagState, ManagerLimits, VerifiedHeader};
use crate::types::{AuthorityIndex, BlockRef, Digest, Round, TimestampMs};

const FIRST: Slot = Slot { round: Round(1), rank: 0 };

/// Blocks in a random one of the orders in which they can enter a DAG.
fn shuffled(headers: &[VerifiedHeader], random: &mut Random) -> Vec<VerifiedHeader> {
    let mut order = headers.to_vec();
    random.shuffle(&mut order);
    let mut dag = BTreeMap::new();
    let mut entered: Vec<VerifiedHeader> = Vec::new();
    while entered.len() < headers.len() {
        for header in &order {
            let ready = |a: &BlockRef| a.round == Round(0) || dag.contains_key(a);
            if !dag.contains_key(&header.reference()) && header.header().ancestors.iter().all(ready) {
                dag.insert(header.reference(), ());
                entered.push(header.clone());
            }
        }
    }
    entered
}

/// After each block the committer must have decided of every slot, the first undecided one or a later one, what the reference
/// decides.
fn compare(committee: &Arc<Committee>, leaders: u16, headers: &[VerifiedHeader]) -> usize {
    let schedule = LeaderSchedule::new(Arc::clone(committee), leaders);
    let mut dag = DagState::new(Arc::clone(committee), Round(0));
    let mut committer = Committer::new(schedule.clone());
    let mut next = FIRST;
    let mut count = 0;
    for header in headers {
        dag.insert(header.clone());
        let expected = reference::decide(&schedule, &dag, next);
        let decided = committer.try_decide(&dag, next);
        let found: BTreeMap<Slot, Decision> = committer.all().split_off(&next);
        assert_eq!(found, expected, "after {}", header.reference());
        let prefix: Vec<(Slot, Decision)> =
            expected.into_iter().take_while(|(_, decision)| *decision != Decision::Undecided).collect();
        assert_eq!(decided, prefix, "after {}", header.reference());
        count += decided.len();
        if let Some((slot, _)) = decided.last() {
            next = committer.next_slot(*slot);
        }
    }
    assert_eq!(Committer::new(schedule).try_decide(&dag, FIRST).len(), count, "a new one decides the same");
    count
}

#[test]
fn the_committer_decides_what_the_rule_says_after_every_block() {
    let mut decided = 0;
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let committee = match seed % 8 {
            0..=3 => committee(4),
            4 => committee(5),
            5 => weighted(&[2, 1, 1, 1, 2]),
            6 => committee(7),
            _ => weighted(&[2, 1, 2, 1, 4, 3, 2]),
        };
        let n = committee.size();
        let growth = Growth {
            rounds: if n == 4 { 9 } else { 7 },
            silent_percent: [0, 10, 40][random.below(3)],
            lame_percent: 0,
            unseen_percent: [0, 10, 30, 60][random.below(4)],
            equivocators: u16::from(random.percent(50)),
        };
        let headers = grow(&committee, growth, &mut random);
        let headers = shuffled(&headers, &mut random);
        let leaders = [1, n.div_ceil(2), n][random.below(3)];
        decided += compare(&committee, u16::try_from(leaders).unwrap(), &headers);
    }
    assert!(decided > 20_000, "{decided} slots were decided");
}

const ROUNDS: u64 = 1_000;
const ORDERS: u64 = 100;
const GC_DEPTH: u64 = 150;

/// One validator that hears of blocks in some order.
struct Listener {
    dag: DagState,
    manager: BlockManager,
    committer: Committer,
    linearizer: Linearizer,
    next: Slot,
    /// Second blocks that nobody needed when they came.
    refused: BTreeMap<BlockRef, VerifiedHeader>,
    /// Windows of reputation after which somebody was left out.
    swaps: usize,
    /// Digests of commits in their order.
    commits: Vec<Digest>,
}

impl Listener {
    fn new(committee: &Arc<Committee>) -> Self {
        let leaders = u16::try_from(committee.size()).unwrap();
        let schedule = LeaderSchedule::new(Arc::clone(committee), leaders).with_reputation(100);
        Self {
            dag: DagState::new(Arc::clone(committee), Round(0)),
            manager: BlockManager::new(
                committee.size(),
                ManagerLimits { extra_blocks: 4_096, ..ManagerLimits::default() },
            ),
            committer: Committer::new(schedule),
            linearizer: Linearizer::new(TimestampMs(0), GC_DEPTH),
            next: FIRST,
            refused: BTreeMap::new(),
            swaps: 0,
            commits: Vec::new(),
        }
    }

    fn hear(&mut self, header: VerifiedHeader) {
        self.admit(header);
        // As a node does, it asks again for what turns out to be needed.
        loop {
            let missing = self.manager.missing().map(|(block, _)| *block);
            let needed: Vec<BlockRef> = missing.filter(|block| self.refused.contains_key(block)).collect();
            let mut taken = 0;
            for block in needed {
                let header = self.refused.remove(&block).unwrap();
                taken += usize::from(self.admit(header));
            }
            if taken == 0 {
                break;
            }
        }
    }

    /// Returns whether it was taken.
    fn admit(&mut self, header: VerifiedHeader) -> bool {
        match self.manager.admit(&self.dag, header.header().author, header.clone()) {
            Admission::Accepted(ready) => {
                for header in ready {
                    self.dag.insert(header);
                    self.decide();
                }
            }
            Admission::Refused => {
                self.refused.insert(header.reference(), header);
                return false;
            }
            Admission::Suspended(_) | Admission::Known => {}
        }
        true
    }

    fn decide(&mut self) {
        loop {
            let decided = self.committer.try_decide(&self.dag, self.next);
            if decided.is_empty() {
                break;
            }
            for (slot, decision) in decided {
                self.next = self.committer.next_slot(slot);
                if let Decision::Commit(leader) = decision {
                    let commit = self.linearizer.commit(&mut self.dag, leader);
                    let later = Round(leader.round.0 + 20);
                    let before = self.committer.schedule().left_out(later);
                    self.committer.on_commit(&commit);
                    self.swaps += usize::from(self.committer.schedule().left_out(later) != before);
                    self.commits.push(commit.digest());
                }
            }
        }
        self.dag.collect_garbage(self.linearizer.gc_round());
        for header in self.manager.collect_garbage(self.linearizer.gc_round()) {
            self.dag.insert(header);
        }
    }
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let committee = committee(4);
    let mut random = Random::new(4);
    let growth =
        Growth { rounds: ROUNDS, silent_percent: 3, lame_percent: 60, unseen_percent: 15, equivocators: 1 };
    let headers = grow(&committee, growth, &mut random);
    let mut first: Option<(Vec<Digest>, AuthorityIndex)> = None;
    for order in 0..ORDERS {
        // Every block is late by up to so many rounds. Garbage collection must not overtake one that matters.
        let late = [1, 4, 16, 60][random.below(4)];
        let mut arrivals: Vec<(usize, VerifiedHeader)> = headers
            .iter()
            .enumerate()
            .map(|(at, header)| (at + random.below(4 * late), header.clone()))
            .collect();
        arrivals.sort_by_key(|(at, _)| *at);
        let mut listener = Listener::new(&committee);
        for (_, header) in arrivals {
            listener.hear(header);
        }
        assert!(listener.swaps > 0, "the schedule never changed");
        let primary = listener.committer.schedule().primary(Round(ROUNDS));
        assert!(listener.commits.len() > 2_000, "{} commits", listener.commits.len());
        let (commits, led) = first.get_or_insert_with(|| (listener.commits.clone(), primary));
        let same = commits.iter().zip(&listener.commits).take_while(|(a, b)| a == b).count();
        let lengths = (commits.len(), listener.commits.len());
        assert_eq!(lengths, (same, same), "commits of order 0 and {order}, up to {late} rounds late");
        assert_eq!(primary, *led);
    }
    #[expect(clippy::print_stdout, reason = "the figure that the list of goals asks for")]
    {
        println!("delivery orders: {ORDERS} x {ROUNDS} rounds x 4 validators, all commits equal");
    }
}
