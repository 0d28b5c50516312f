//! Random DAGs for tests.

use std::sync::Arc;

use super::VerifiedHeader;
use super::testing::header;
use crate::committee::{Committee, StakeSum};
use crate::types::{AuthorityIndex, BlockRef};

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % n).unwrap_or(0)
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// How a random DAG grows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) rounds: u64,
    /// Chance that an author makes no block in a round, if the round does without.
    pub(crate) silent_percent: usize,
    /// Chance that a block does not name a block it could name, if a quorum is left.
    pub(crate) unseen_percent: usize,
    /// The same for the last author, if it is more.
    pub(crate) lame_percent: usize,
    /// These, the first by index, make up to two blocks in a round.
    pub(crate) equivocators: u16,
}

/// Valid blocks, in an order in which they can enter a DAG.
pub(crate) fn grow(committee: &Arc<Committee>, growth: Growth, random: &mut Random) -> Vec<VerifiedHeader> {
    let mut last: Vec<Vec<BlockRef>> =
        committee.indices().map(|a| vec![committee.genesis_block(a)]).collect();
    let mut own: Vec<Vec<BlockRef>> = last.clone();
    let mut headers = Vec::new();
    for round in 1..=growth.rounds {
        let mut row: Vec<Vec<BlockRef>> = vec![Vec::new(); committee.size()];
        let mut stake_left = committee.total_stake();
        for author in committee.indices() {
            stake_left.0 -= committee.stake(author).0;
            let is_last = author.as_usize() + 1 == committee.size();
            let silent_percent = growth.silent_percent.max(if is_last { growth.lame_percent } else { 0 });
            if stake_left >= committee.thresholds().round_quorum && random.percent(silent_percent) {
                continue;
            }
            stake_left.0 += committee.stake(author).0;
            let twice = author.0 < growth.equivocators && random.percent(60);
            for salt in 0..=u64::from(twice) {
                let previous = pick(&own[author.as_usize()], random);
                let ancestors = ancestors(committee, author, previous, &last, growth, random);
                let block = header(round, author.0, ancestors, salt);
                row[author.as_usize()].push(block.reference());
                headers.push(block);
            }
        }
        for (own, made) in own.iter_mut().zip(&row).filter(|(_, made)| !made.is_empty()) {
            own.clone_from(made);
        }
        last = row;
    }
    headers
}

fn pick(blocks: &[BlockRef], random: &mut Random) -> BlockRef {
    blocks[random.below(blocks.len())]
}

fn ancestors(
    committee: &Committee,
    author: AuthorityIndex,
    own: BlockRef,
    last: &[Vec<BlockRef>],
    growth: Growth,
    random: &mut Random,
) -> Vec<BlockRef> {
    let mut others: Vec<BlockRef> = last
        .iter()
        .enumerate()
        .filter(|(other, made)| *other != author.as_usize() && !made.is_empty())
        .map(|(_, made)| pick(made, random))
        .collect();
    random.shuffle(&mut others);
    let mut parents = StakeSum::new();
    if own.round == others[0].round {
        parents.add(committee, author);
    }
    others.retain(|other| {
        let named =
            !parents.reaches(committee.thresholds().round_quorum) || !random.percent(growth.unseen_percent);
        if named {
            parents.add(committee, other.author);
        }
        named
    });
    others.sort_unstable_by_key(|other| other.author);
    std::iter::once(own).chain(others).collect()
}
