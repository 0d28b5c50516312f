//! The commit rule in sets, written from the text of `salus::manual::protocol` and from nothing else: it shares no line
//! and no type with `salus::consensus`, and is written to be read, not to be fast.
//!
//! Authorities have stake 1 each. Genesis is implied: a block of round 1 has no ancestors here.

use std::collections::{BTreeMap, BTreeSet};

/// Position of a block in its DAG.
pub type Id = usize;
/// Position of an authority in the committee.
pub type Author = usize;
/// Number of a round, from 1.
pub type Round = usize;

/// A set of blocks of one DAG.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Blocks(pub u64);

impl Blocks {
    /// The set of one block.
    pub fn of(block: Id) -> Self {
        Self(1 << block)
    }

    pub fn contains(self, block: Id) -> bool {
        self.0 & (1 << block) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Members, ascending.
    pub fn iter(self) -> impl Iterator<Item = Id> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros() as Id)?;
            left &= left - 1;
            Some(next)
        })
    }

    pub fn filter(self, mut keep: impl FnMut(Id) -> bool) -> Self {
        self.iter().filter(|block| keep(*block)).fold(Self::default(), |set, block| set.or(Self::of(block)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub round: Round,
    pub author: Author,
    /// At most one of each author, all of lower rounds.
    pub ancestors: Blocks,
}

/// Blocks in causal order: each comes after its ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Dag {
    blocks: Vec<Block>,
}

impl Dag {
    pub fn push(&mut self, block: Block) -> Id {
        assert!(self.blocks.len() < 64, "a set of blocks is one word");
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    pub fn pop(&mut self) {
        self.blocks.pop();
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn get(&self, block: Id) -> &Block {
        &self.blocks[block]
    }

    /// All of it as a view.
    pub fn view(&self) -> View<'_> {
        View { dag: self, blocks: (0..self.len()).fold(Blocks::default(), |all, id| all.or(Blocks::of(id))) }
    }
}

/// What a validator may have seen of a DAG: a set of blocks that holds the ancestors of its members.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub dag: &'a Dag,
    pub blocks: Blocks,
}

/// The numbers in the rule. [`Rules::SOUND`] are those of the protocol; the others are there to be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub quorum: usize,
    /// Rounds from a leader to the first that may be its anchor.
    pub anchor: usize,
}

impl Rules {
    /// Four authorities: f = 1, a quorum is 2f + 1.
    pub const SOUND: Self = Self { quorum: 3, anchor: 3 };
}

/// The leader slot of an author in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub round: Round,
    /// Position among the leaders of the round.
    pub rank: usize,
    pub author: Author,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Commit(Id),
    Skip,
    Undecided,
}

impl View<'_> {
    pub fn round(&self, round: Round) -> Blocks {
        self.blocks.filter(|block| self.dag.get(block).round == round)
    }

    pub fn slot(&self, round: Round, author: Author) -> Blocks {
        self.round(round).filter(|block| self.dag.get(block).author == author)
    }

    pub fn highest_round(&self) -> Round {
        self.blocks.iter().map(|block| self.dag.get(block).round).max().unwrap_or(0)
    }

    /// Whether the authors of these blocks are a quorum. An author counts once, however many blocks it made.
    fn is_quorum(&self, blocks: Blocks, rules: Rules) -> bool {
        let authors = blocks.iter().fold(0_u64, |authors, block| authors | 1 << self.dag.get(block).author);
        authors.count_ones() as usize >= rules.quorum
    }

    fn ancestors(&self, block: Id) -> Blocks {
        self.dag.get(block).ancestors
    }

    /// The block and everything below it.
    pub fn history(&self, block: Id) -> Blocks {
        let mut history = Blocks::of(block);
        // Descending: ancestors come before their descendants in the DAG.
        for id in (0..=block).rev().filter(|id| self.blocks.contains(*id)) {
            if history.contains(id) {
                history = history.or(self.ancestors(id));
            }
        }
        history
    }

    /// Blocks of the next round that name `leader`.
    pub fn votes(&self, leader: Id) -> Blocks {
        let next = self.dag.get(leader).round + 1;
        self.round(next).filter(|block| self.ancestors(block).contains(leader))
    }

    /// Blocks two rounds later that have a quorum of votes for `leader` among their ancestors.
    pub fn certificates(&self, leader: Id, rules: Rules) -> Blocks {
        let votes = self.votes(leader);
        self.round(self.dag.get(leader).round + 2)
            .filter(|block| self.is_quorum(self.ancestors(block).and(votes), rules))
    }

    /// Blocks of the next round that name no block of the slot.
    fn blames(&self, round: Round, author: Author) -> Blocks {
        let leaders = self.slot(round, author);
        self.round(round + 1).filter(|block| self.ancestors(block).and(leaders).is_empty())
    }

    /// Blocks of the slot that have a certificate within `history`.
    pub fn certified(&self, round: Round, author: Author, history: Blocks, rules: Rules) -> Blocks {
        self.slot(round, author).filter(|leader| !self.certificates(leader, rules).and(history).is_empty())
    }

    pub fn decide_directly(&self, round: Round, author: Author, rules: Rules) -> Decision {
        if self.is_quorum(self.blames(round, author), rules) {
            return Decision::Skip;
        }
        self.slot(round, author)
            .iter()
            .find(|leader| self.is_quorum(self.certificates(*leader, rules), rules))
            .map_or(Decision::Undecided, Decision::Commit)
    }

    /// What a committed anchor with this history makes of the slot.
    pub fn decide_by_anchor(&self, round: Round, author: Author, history: Blocks, rules: Rules) -> Decision {
        self.certified(round, author, history, rules).iter().next().map_or(Decision::Skip, Decision::Commit)
    }

    /// The decision on `slots[at]`, where `slots` are all slots up to the highest round in their order.
    fn decide(
        &self,
        slots: &[Slot],
        at: usize,
        rules: Rules,
        known: &mut BTreeMap<usize, Decision>,
    ) -> Decision {
        if let Some(decision) = known.get(&at) {
            return *decision;
        }
        let Slot { round, author, .. } = slots[at];
        let mut decision = self.decide_directly(round, author, rules);
        if decision == Decision::Undecided {
            let later = (at + 1..slots.len()).filter(|later| slots[*later].round >= round + rules.anchor);
            let anchor = later
                .map(|later| self.decide(slots, later, rules, known))
                .find(|decision| *decision != Decision::Skip);
            if let Some(Decision::Commit(anchor)) = anchor {
                decision = self.decide_by_anchor(round, author, self.history(anchor), rules);
            }
        }
        known.insert(at, decision);
        decision
    }

    /// Every slot from round 1 on, oldest first, up to the first that is undecided.
    pub fn decisions(&self, leaders: &impl Fn(Round) -> Vec<Author>, rules: Rules) -> Vec<(Slot, Decision)> {
        let slots: Vec<Slot> = (1..=self.highest_round())
            .flat_map(|round| {
                let slot = move |(rank, author)| Slot { round, rank, author };
                leaders(round).into_iter().enumerate().map(slot)
            })
            .collect();
        let mut known = BTreeMap::new();
        let decide = |(at, slot): (usize, &Slot)| (*slot, self.decide(&slots, at, rules, &mut known));
        slots
            .iter()
            .enumerate()
            .map(decide)
            .take_while(|(_, decision)| *decision != Decision::Undecided)
            .collect()
    }

    /// The order that decisions give: of each committed leader the part of its history that no leader before it brought
    /// and that lies above `gc_depth` rounds below the leader before it.
    pub fn order(&self, decisions: &[(Slot, Decision)], gc_depth: usize) -> Vec<(Id, BTreeSet<Id>)> {
        let mut taken = Blocks::default();
        let mut before: Round = 0;
        let mut order = Vec::new();
        for (slot, decision) in decisions {
            let Decision::Commit(leader) = decision else { continue };
            let collected = before.saturating_sub(gc_depth);
            let new = self.history(*leader).without(taken).filter(|id| self.dag.get(id).round > collected);
            taken = taken.or(new);
            before = slot.round;
            order.push((*leader, new.iter().collect()));
        }
        order
    }
}
