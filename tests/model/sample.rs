//! DAGs of more rounds than can be explored exhaustively: all that are drawn from a menu of rounds, and random ones.

use crate::explore::{AUTHORITIES, BYZANTINE};
use crate::spec::{Author, Block, Blocks, Dag, Id, Round};

/// SplitMix64: a seed names a sample.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick(&mut self, blocks: Blocks) -> Option<Id> {
        let all: Vec<Id> = blocks.iter().collect();
        (!all.is_empty()).then(|| all[self.below(all.len())])
    }
}

/// Kinds of rounds on the menu.
pub const MENU: usize = 8;

/// A round of everybody on top of everybody, then one round for each number of the menu, then two full ones.
pub fn from_menu(numbers: &[usize]) -> Dag {
    let mut dag = Dag::default();
    for author in 0..AUTHORITIES {
        dag.push(Block { round: 1, author, ancestors: Blocks::default() });
    }
    for (at, number) in numbers.iter().chain(&[0, 0]).enumerate() {
        serve(&mut dag, at + 2, *number);
    }
    dag
}

/// The DAG with full rounds on top, so that later slots are there to decide earlier ones. `None` if its last round has no quorum.
pub fn topped(dag: &Dag, rounds: Round) -> Option<Dag> {
    let mut dag = dag.clone();
    let last = dag.view().highest_round();
    let authors = (0..AUTHORITIES).filter(|author| !dag.view().slot(last, *author).is_empty()).count();
    (authors >= 3).then(|| {
        (1..=rounds).for_each(|more| serve(&mut dag, last + more, 0));
        dag
    })
}

/// 0: everybody names everybody. 1 to 4: nobody but itself names that author. 5: each leaves out the next. 6: the Byzantine
/// authority is silent. 7: it makes two blocks. Of two blocks, authors of even number name the first and the others the
/// second. Who lacks a quorum without a block names it after all.
fn serve(dag: &mut Dag, round: Round, number: usize) {
    let below: Vec<Blocks> = (0..AUTHORITIES).map(|author| dag.view().slot(round - 1, author)).collect();
    let present = below.iter().filter(|blocks| !blocks.is_empty()).count();
    let named = |author: Author, twin: usize, other: Author| {
        let omitted = match number {
            1..=4 => other == number - 1,
            5 => other == (author + 1) % AUTHORITIES,
            _ => false,
        };
        let skips = omitted && other != author && present == AUTHORITIES;
        let which = if other == author { twin } else { author % 2 };
        let made: Vec<Id> = below[other].iter().collect();
        (!skips && !made.is_empty()).then(|| made[which.min(made.len() - 1)])
    };
    for author in 0..AUTHORITIES {
        let blocks = match (author, number) {
            (BYZANTINE, 6) => 0,
            (BYZANTINE, 7) => 2,
            _ => 1,
        };
        for twin in 0..blocks {
            let ancestors = (0..AUTHORITIES).filter_map(|other| named(author, twin, other));
            let ancestors = ancestors.fold(Blocks::default(), |set, id| set.or(Blocks::of(id)));
            dag.push(Block { round, author, ancestors });
        }
    }
}

/// Up to `rounds` rounds in which blocks are missing, leave out others, reach back over several rounds, and come in pairs
/// from the Byzantine authority. Ends early if a round has no quorum.
pub fn random(random: &mut Random, rounds: Round) -> Dag {
    let mut dag = Dag::default();
    let presence = 60 + random.below(41);
    let naming = 50 + random.below(51);
    for round in 1..=rounds {
        for author in 0..AUTHORITIES {
            let made =
                if author == BYZANTINE { random.below(3) } else { usize::from(random.chance(presence)) };
            for _ in 0..made {
                if let Some(ancestors) = ancestors(&dag, random, round, author, naming) {
                    dag.push(Block { round, author, ancestors });
                }
            }
        }
    }
    dag
}

fn ancestors(dag: &Dag, random: &mut Random, round: Round, author: Author, naming: usize) -> Option<Blocks> {
    if round == 1 {
        return Some(Blocks::default());
    }
    let view = dag.view();
    // A few tries: leaving out too many is no block.
    (0..4).find_map(|_| {
        let mut named = Blocks::default();
        let mut parents = 0;
        for other in 0..AUTHORITIES {
            let of_other = |round| view.slot(round, other);
            let block = if other == author && author != BYZANTINE {
                // An honest author builds on its last block, and skips rounds only here, where it may: safety needs no A2.
                (1..round).rev().map(of_other).find(|blocks| !blocks.is_empty()).and_then(|b| b.iter().next())
            } else if random.chance(naming) {
                random.pick(of_other(round - 1))
            } else {
                let back = 1 + random.below(round - 1);
                random.chance(50).then(|| random.pick(of_other(back))).flatten()
            };
            if let Some(id) = block {
                named = named.or(Blocks::of(id));
                parents += usize::from(dag.get(id).round + 1 == round);
            }
        }
        (parents >= 3).then_some(named)
    })
}

/// A random order in which the blocks may come: each after its ancestors.
pub fn arrival(dag: &Dag, random: &mut Random) -> Vec<Id> {
    let mut order = Vec::new();
    let mut here = Blocks::default();
    while order.len() < dag.len() {
        let ready = dag
            .view()
            .blocks
            .filter(|id| !here.contains(id) && dag.get(id).ancestors.without(here).is_empty());
        let next = random.pick(ready).expect("the DAG is in causal order");
        here = here.or(Blocks::of(next));
        order.push(next);
    }
    order
}
