#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::super::testing::{committee, header};
use super::*;

fn admit(manager: &mut BlockManager, dag: &mut DagState, from: u16, header: &VerifiedHeader) -> Admission {
    let admission = manager.admit(dag, AuthorityIndex(from), header.clone());
    if let Admission::Accepted(ready) = &admission {
        for header in ready {
            dag.insert(header.clone());
        }
    }
    admission
}

struct World {
    manager: BlockManager,
    dag: DagState,
    /// Honest blocks of each round by author.
    rows: Vec<Vec<VerifiedHeader>>,
}

impl World {
    /// The honest are authors `bad` and above; they make `rounds` rounds, which enter the DAG.
    fn new(n: usize, bad: usize, rounds: u64, limits: ManagerLimits) -> Self {
        let committee = committee(n);
        let genesis: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
        let mut manager = BlockManager::new(n, limits);
        let mut dag = DagState::new(committee, Round(0));
        let mut rows: Vec<Vec<VerifiedHeader>> = vec![Vec::new()];
        let mut last = genesis;
        for round in 1..=rounds {
            let row: Vec<VerifiedHeader> = (bad..n)
                .map(|author| {
                    let own = *last.iter().find(|block| block.author.as_usize() == author).unwrap();
                    let others = last.iter().filter(|block| **block != own).copied();
                    header(
                        round,
                        AuthorityIndex::from_usize(author).0,
                        std::iter::once(own).chain(others).collect(),
                        0,
                    )
                })
                .collect();
            for header in &row {
                admit(&mut manager, &mut dag, header.header().author.0, header);
            }
            last = row.iter().map(|header| header.reference()).collect();
            rows.push(row);
        }
        Self { manager, dag, rows }
    }

    /// A block of `author` on the honest row before, on `own` and on further blocks.
    fn block(&self, round: u64, own: BlockRef, others: &[BlockRef], salt: u64) -> VerifiedHeader {
        let parents = &self.rows[usize::try_from(round).unwrap() - 1];
        let mut rest: Vec<BlockRef> = parents.iter().map(|header| header.reference()).collect();
        rest.retain(|block| block.author != own.author);
        rest.extend_from_slice(others);
        rest.sort_unstable_by_key(|block| block.author);
        header(round, own.author.0, std::iter::once(own).chain(rest).collect(), salt)
    }

    fn genesis(&self, author: u16) -> BlockRef {
        self.dag.committee().genesis_block(AuthorityIndex(author))
    }
}

/// A block that nobody has.
fn ghost(round: u64, author: u16, salt: u64) -> BlockRef {
    header(round, author, vec![BlockRef { author: AuthorityIndex(author), ..BlockRef::default() }], salt)
        .reference()
}

#[test]
fn a_flooding_sender_fills_its_own_room_and_nobody_elses() {
    let limits = ManagerLimits { sender_blocks: 50, sender_bytes: 60_000, ..ManagerLimits::default() };
    let mut world = World::new(4, 1, 40, limits);
    // Peer 0 shows hundreds of its own blocks that name what does not exist, the highest first.
    let flood: Vec<VerifiedHeader> =
        (2..40).rev().map(|round| world.block(round, ghost(round - 1, 0, 7), &[], 0)).collect();
    for header in &flood {
        admit(&mut world.manager, &mut world.dag, 0, header);
        assert!(world.manager.memory_bytes() <= 60_000);
    }
    assert!(world.manager.suspended_len() <= 50 && world.manager.suspended_len() > 10);
    // The lowest are kept: what comes last and lowest makes room for itself.
    assert!(world.manager.sender(&flood.last().unwrap().reference()).is_some());
    assert!(world.manager.sender(&flood[0].reference()).is_none(), "the highest was let go");
    // Another peer has its own room, and what was let go may come again by it.
    assert!(matches!(admit(&mut world.manager, &mut world.dag, 2, &flood[0]), Admission::Suspended(_)));
    let before = world.manager.suspended_len();
    world.manager.collect_garbage(Round(50));
    assert!(before > 0 && world.manager.suspended_len() == 0 && world.manager.memory_bytes() == 0);
}

/// Two equivocators build a tree of blocks that all name each other's; each of them is "named by another".
#[test]
fn colluding_equivocators_share_small_accounts() {
    let limits = ManagerLimits { extra_blocks: 20, ..ManagerLimits::default() };
    let rounds = 12;
    let mut world = World::new(7, 2, rounds, limits);
    let honest = world.dag.len();
    let mut rows = vec![vec![world.genesis(0)], vec![world.genesis(1)]];
    let mut levels: Vec<Vec<VerifiedHeader>> = Vec::new();
    for round in 1..rounds {
        let mut level = Vec::new();
        let mut next = vec![Vec::new(), Vec::new()];
        for author in 0..2_usize {
            for (salt, own) in rows[author].iter().enumerate() {
                let twice = 2 * u64::try_from(salt).unwrap();
                for twin in [twice, twice + 1] {
                    let other: Vec<BlockRef> = rows[1 - author].get(salt).copied().into_iter().collect();
                    let block = world.block(round, *own, &other, twin);
                    next[author].push(block.reference());
                    level.push(block);
                }
            }
        }
        for row in &mut next {
            row.truncate(64);
        }
        rows = next;
        levels.push(level);
    }
    // From the top down, so that each is named by the other's block when it comes; then again from below.
    for round in (0..levels.len()).rev().chain(0..levels.len()) {
        for (i, block) in levels[round].iter().enumerate() {
            admit(&mut world.manager, &mut world.dag, u16::try_from(i % 2).unwrap(), block);
        }
    }
    let made: usize = levels.iter().map(Vec::len).sum();
    let held = world.dag.len() + world.manager.suspended_len() - honest;
    // One of each slot, one more that proves it, and the accounts of the two.
    let most = 2 * usize::try_from(rounds).unwrap() + 2 + 2 * 20;
    assert!(made > 900 && held <= most, "{held} of {made} blocks are held, {most} allowed");
}

/// An equivocator's room is full, and an honest validator that could take one more of its blocks builds on it.
#[test]
fn equivocating_ancestors_of_honest_blocks_do_not_block_catching_up() {
    let limits = ManagerLimits { extra_blocks: 3, ..ManagerLimits::default() };
    let mut world = World::new(4, 1, 3, limits);
    let twins: Vec<VerifiedHeader> =
        (0..20).map(|salt| world.block(1, world.genesis(0), &[], salt)).collect();
    // The equivocator has its own later blocks need its twins, which fills its account.
    for twin in &twins[..10] {
        let later = world.block(2, twin.reference(), &[], 0);
        admit(&mut world.manager, &mut world.dag, 0, &later);
        admit(&mut world.manager, &mut world.dag, 0, twin);
    }
    assert_eq!(admit(&mut world.manager, &mut world.dag, 0, &twins[15]), Admission::Refused);
    // An honest block names yet another one, directly; and one through the equivocator's next block.
    let own = world.rows[3][0].reference();
    let through = world.block(3, twins[16].reference(), &[], 1);
    let honest = world.block(4, own, &[through.reference()], 0);
    assert!(matches!(admit(&mut world.manager, &mut world.dag, 1, &honest), Admission::Suspended(_)));
    let missing: Vec<BlockRef> = world.manager.missing().map(|(block, _)| *block).collect();
    assert!(missing.contains(&through.reference()));
    admit(&mut world.manager, &mut world.dag, 1, &through);
    assert!(matches!(admit(&mut world.manager, &mut world.dag, 1, &twins[16]), Admission::Accepted(_)));
    assert!(world.dag.contains(&honest.reference()));
}

#[test]
fn garbage_collection_gives_room_back_and_forgives() {
    let mut accounts = Accounts::new(4, 1);
    let block = ghost(5, 2, 0);
    accounts.prove(block);
    accounts.charge(AuthorityIndex(1), block);
    assert!(accounts.is_proven(AuthorityIndex(2)) && !accounts.has_room(AuthorityIndex(1)));
    accounts.collect_garbage(Round(4));
    assert!(accounts.is_proven(AuthorityIndex(2)) && !accounts.has_room(AuthorityIndex(1)));
    accounts.collect_garbage(Round(5));
    assert!(!accounts.is_proven(AuthorityIndex(2)) && accounts.has_room(AuthorityIndex(1)));
}
