//! Every DAG of four authorities, one of which equivocates, that can say anything different about one leader slot.
//!
//! **Why DAGs and not runs.** A decision is a function of the blocks in a view, not of the order in which they came. Two
//! honest views at two moments are two downward-closed parts of one DAG, that of all blocks ever made; their union is such
//! a part too. So views agree, and never take a decision back, exactly if in every DAG D and for every block b on top of
//! it, what D without b decides D decides alike. Interleavings of messages add nothing to that.
//!
//! **Why one slot and four rounds.** Decisions agree by induction from the newest slot to the oldest, so it is enough to
//! look at one slot while *any* block of the anchor's round may turn out to be the committed anchor. Of the slot's round
//! only the slot's blocks matter. Of the next round it matters who names which of them, and every choice is
//! open to every author, since the three others are a quorum of parents: all name all the rest. Of round r + 2
//! every set of parents matters; of the anchor its parents. An anchor of a later round holds in its history that of a block of
//! the first anchor's round, and more, hence the two conditions in [`disagreement`].
//!
//! **Symmetry.** Blocks of one round do not know of each other, so each row is filled in the order of authors, and each DAG
//! comes up once. Honest authors other than the leader are interchangeable: their votes come in ascending order.
//!
//! An absent block is one of the choices, so every view of every DAG comes up as a DAG of its own.

use std::ops::ControlFlow;

use crate::spec::{Author, Block, Blocks, Dag, Decision, Id, Round, Rules};

pub const AUTHORITIES: usize = 4;
/// The authority that may make two blocks of a round. The others make one, on top of their last.
pub const BYZANTINE: Author = 3;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub rules: Rules,
    /// Whose slot of round 1 is looked at.
    pub leader: Author,
    /// A planted mistake: blocks may name, and so vote for, both blocks of an equivocation.
    pub names_both: bool,
}

/// For each author in turn the blocks that it may have made in a round: for each block its ancestors.
type Choices = Vec<Vec<Blocks>>;

struct Walk<'a, F> {
    bounds: Bounds,
    dag: Dag,
    visit: &'a mut F,
}

/// Visits every DAG within the bounds until `visit` breaks off.
pub fn every_dag<B>(bounds: Bounds, mut visit: impl FnMut(&Dag) -> ControlFlow<B>) -> ControlFlow<B> {
    let mut walk = Walk { bounds, dag: Dag::default(), visit: &mut visit };
    for author in 0..AUTHORITIES {
        let twins = if author == BYZANTINE && bounds.leader == BYZANTINE { 2 } else { 1 };
        for _ in 0..twins {
            walk.dag.push(Block { round: 1, author, ancestors: Blocks::default() });
        }
    }
    walk.voters(0, 0)
}

impl<B, F: FnMut(&Dag) -> ControlFlow<B>> Walk<'_, F> {
    /// Round 2, from `author` on. Interchangeable authors make choices of ascending number, from `least`.
    fn voters(&mut self, author: Author, least: usize) -> ControlFlow<B> {
        if author == AUTHORITIES {
            return self.certifiers(0);
        }
        let choices = self.votes_of(author);
        let interchangeable = author != BYZANTINE && author != self.bounds.leader;
        for (number, blocks) in choices.iter().enumerate().skip(if interchangeable { least } else { 0 }) {
            let least = if interchangeable { number } else { least };
            self.with(2, author, blocks, |walk| walk.voters(author + 1, least))?;
        }
        ControlFlow::Continue(())
    }

    /// Round 3, from `author` on.
    fn certifiers(&mut self, author: Author) -> ControlFlow<B> {
        if author == AUTHORITIES {
            return (self.visit)(&self.dag);
        }
        for blocks in self.parents_of(author) {
            self.with(3, author, &blocks, |walk| walk.certifiers(author + 1))?;
        }
        ControlFlow::Continue(())
    }

    fn with<T>(
        &mut self,
        round: Round,
        author: Author,
        blocks: &[Blocks],
        go_on: impl FnOnce(&mut Self) -> T,
    ) -> T {
        for ancestors in blocks {
            self.dag.push(Block { round, author, ancestors: *ancestors });
        }
        let result = go_on(self);
        for _ in blocks {
            self.dag.pop();
        }
        result
    }

    fn votes_of(&self, author: Author) -> Choices {
        let view = self.dag.view();
        let leaders = view.slot(1, self.bounds.leader);
        let rest = view.round(1).without(leaders);
        let mut votes: Vec<Blocks> = leaders.iter().map(Blocks::of).collect();
        if author != self.bounds.leader || author == BYZANTINE {
            votes.push(Blocks::default());
        }
        if self.bounds.names_both {
            votes.push(leaders);
        }
        choices(author, votes.into_iter().map(|vote| rest.or(vote)).collect())
    }

    fn parents_of(&self, author: Author) -> Choices {
        let view = self.dag.view();
        let own = view.slot(2, author);
        if author != BYZANTINE && own.is_empty() {
            // It does not skip a round of its own.
            return vec![Vec::new()];
        }
        let mut parents = parent_sets(&self.dag, 2, self.bounds);
        if author != BYZANTINE {
            parents.retain(|set| !set.and(own).is_empty());
        }
        choices(author, parents)
    }
}

/// No block, or one of these; of the Byzantine authority also two.
fn choices(author: Author, blocks: Vec<Blocks>) -> Choices {
    let mut choices = vec![Vec::new()];
    for (at, first) in blocks.iter().enumerate() {
        choices.push(vec![*first]);
        if author == BYZANTINE {
            choices.extend(blocks[at..].iter().map(|second| vec![*first, *second]));
        }
    }
    choices
}

/// Every set of blocks of `round` that a block of the next round may name: at most one of each author, a quorum.
pub fn parent_sets(dag: &Dag, round: Round, bounds: Bounds) -> Vec<Blocks> {
    let mut sets = vec![(Blocks::default(), 0)];
    for author in 0..AUTHORITIES {
        let made = dag.view().slot(round, author);
        let with = |(set, authors): &(Blocks, usize)| {
            made.iter().map(|more| (set.or(Blocks::of(more)), authors + 1)).collect::<Vec<_>>()
        };
        let more: Vec<_> = sets.iter().flat_map(with).collect();
        sets.extend(more);
    }
    sets.into_iter().filter(|(_, authors)| *authors >= bounds.rules.quorum).map(|(set, _)| set).collect()
}

/// What is wrong with a DAG, in words; `None` if nothing is.
pub fn disagreement(dag: &Dag, bounds: Bounds) -> Option<String> {
    let Bounds { rules, leader, .. } = bounds;
    let all = dag.view();
    let certified = all.certified(1, leader, all.blocks, rules);
    if certified.iter().count() > 1 {
        return Some("two blocks of one slot are certified".to_owned());
    }
    let decision = all.decide_directly(1, leader, rules);
    for block in tops(dag) {
        let less = all.blocks.without(Blocks::of(block));
        let before = crate::spec::View { dag, blocks: less }.decide_directly(1, leader, rules);
        if before != Decision::Undecided && before != decision {
            return Some(format!("{before:?} turns into {decision:?} when block {block} arrives"));
        }
    }
    match decision {
        Decision::Undecided => None,
        // Whatever a later anchor has in its history.
        Decision::Skip => {
            (!certified.is_empty()).then(|| "a view skips what an anchor may commit".to_owned())
        }
        Decision::Commit(_) => anchors(dag, bounds)
            .into_iter()
            .find(|history| all.decide_by_anchor(1, leader, *history, rules) != decision)
            .map(|history| {
                format!("{decision:?} in one view, not for an anchor with the history {history:?}")
            }),
    }
}

/// Blocks that no other names.
fn tops(dag: &Dag) -> impl Iterator<Item = Id> {
    let named = (0..dag.len()).fold(Blocks::default(), |named, id| named.or(dag.get(id).ancestors));
    (0..dag.len()).filter(move |id| !named.contains(*id))
}

/// The history of every block that may be the anchor.
fn anchors(dag: &Dag, bounds: Bounds) -> Vec<Blocks> {
    let view = dag.view();
    if bounds.rules.anchor < 3 {
        return view.round(1 + bounds.rules.anchor).iter().map(|block| view.history(block)).collect();
    }
    let history = |parents: Blocks| parents.iter().fold(parents, |all, parent| all.or(view.history(parent)));
    parent_sets(dag, 3, bounds).into_iter().map(history).collect()
}

/// A DAG as a reader can follow it: `B2 = A1 C1 D1'`, of each author the second block of a round with a stroke.
pub fn shown(dag: &Dag) -> String {
    let name = |id: Id| {
        let block = dag.get(id);
        let author = char::from(b'A' + u8::try_from(block.author).unwrap());
        let twin = dag.view().slot(block.round, block.author).iter().position(|other| other == id).unwrap();
        format!("{author}{}{}", block.round, "'".repeat(twin))
    };
    let line = |id: Id| {
        let ancestors: Vec<String> = dag.get(id).ancestors.iter().map(name).collect();
        format!("{} = {}", name(id), ancestors.join(" "))
    };
    (0..dag.len()).map(line).collect::<Vec<_>>().join("\n")
}
