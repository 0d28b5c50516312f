//! What memory peers can make a node hold, and when it refuses more.
//!
//! The bound of the configuration is divided into shares, one for each kind of thing that peers can make grow. Above its share
//! a kind is refused, which is back pressure and no loss: headers and payloads that are refused are asked for again
//! once commits have been executed and garbage collection has made room. So that room does come, the payloads of the first commit
//! that waits for execution are always taken, and own blocks go out empty from half of the share of payloads on, on every
//! honest validator: then a quorum of blocks without payloads suffices for new rounds.

use std::sync::Arc;

use super::machine::Node;
use crate::dag::{ManagerLimits, payload_held_bytes};
use crate::types::{AuthorityIndex, BlockRef, Payload};

/// Most payloads that came before their headers, for each author.
const EARLY_PAYLOADS_PER_AUTHOR_MAX: usize = 4;
/// Rounds that such a payload may be ahead of the DAG.
const HORIZON_ROUNDS: u64 = 256;

/// How the bound is divided. What is left of it is for the lists of what is missing and asked for, which the others bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Headers in the DAG.
    pub(super) headers: usize,
    /// Payloads in the DAG that are not executed.
    pub(super) payloads: usize,
    /// Suspended headers, of all peers.
    suspended: usize,
    /// Payloads that came before their headers, of all authors.
    early: usize,
    validators: usize,
}

/// Rounds above garbage collection's depth for which the DAG has to have room.
const ROUNDS_ABOVE_GC: u64 = 64;

/// About what a header with an ancestor for each validator takes in the DAG.
fn header_bytes(validators: usize) -> usize {
    2 * (42 * validators + 300) + 512
}

/// The least bound with which a node works: a DAG that is full before garbage collection begins takes no header, so nothing is
/// committed, and nothing is ever let go of.
#[must_use]
pub fn memory_bytes_min(validators: usize, gc_depth: u64) -> usize {
    let rounds = usize::try_from(gc_depth.saturating_add(ROUNDS_ABOVE_GC)).unwrap_or(usize::MAX);
    rounds.saturating_mul(4 * validators * header_bytes(validators))
}

impl Shares {
    pub(super) fn of(total: usize, validators: usize) -> Self {
        Self { headers: total / 4, payloads: total / 2, suspended: total / 8, early: total / 16, validators }
    }

    pub(super) fn manager(&self) -> ManagerLimits {
        ManagerLimits {
            sender_bytes: self.suspended / self.validators,
            extra_blocks: (self.headers / 4 / self.validators / header_bytes(self.validators)).clamp(4, 64),
            ..ManagerLimits::default()
        }
    }
}

impl Node {
    /// Estimate of the memory that headers, payloads and transactions take.
    pub(super) fn memory_bytes(&self) -> usize {
        let early: usize = self.early_payloads.values().map(|(_, payload)| payload_held_bytes(payload)).sum();
        self.dag.header_bytes()
            + self.dag.payload_bytes()
            + self.manager.memory_bytes()
            + early
            + self.mempool.bytes()
            + self.own_bytes
            + self.commit_sync.bytes()
    }

    /// Whether the DAG has room for headers.
    pub(super) fn has_header_room(&self) -> bool {
        self.dag.header_bytes() <= self.shares.headers
    }

    /// Whether a payload of a block in the DAG may be taken now.
    pub(super) fn has_payload_room(&self, block: &BlockRef, payload: &Payload) -> bool {
        self.dag.payload_bytes() + payload_held_bytes(payload) <= self.shares.payloads
            || self.commits.first_needs(block)
    }

    /// Whether own blocks go out empty for lack of room.
    pub(super) fn is_pressed(&self) -> bool {
        self.dag.payload_bytes() > self.shares.payloads / 2
    }

    /// Keeps a payload whose header is on its way, within bounds.
    pub(super) fn keep_early(&mut self, from: AuthorityIndex, block: BlockRef, payload: Arc<Payload>) {
        let plausible = self.committee.contains(block.author)
            && block.round > self.dag.gc_round()
            && block.round.0 <= self.dag.highest_round().0 + HORIZON_ROUNDS;
        let of_author = self.early_payloads.iter().filter(|(early, _)| early.author == block.author);
        let (held, bytes) =
            of_author.fold((0, 0), |(n, bytes), (_, (_, early))| (n + 1, bytes + payload_held_bytes(early)));
        let fits = held < EARLY_PAYLOADS_PER_AUTHOR_MAX
            && bytes + payload_held_bytes(&payload) <= self.shares.early / self.committee.size();
        if plausible && fits {
            self.early_payloads.insert(block, (from, payload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::testing::Drawing;

    #[test]
    fn with_the_least_memory_the_dag_holds_what_garbage_collection_keeps() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 100);
        let held = drawing.dag.header_bytes();
        let share = Shares::of(memory_bytes_min(4, 100 - ROUNDS_ABOVE_GC), 4).headers;
        assert!(held <= share, "{held} bytes are held, {share} may be");
        assert!(held >= share / 4, "{held} bytes are held, {share} may be: the estimate is too high");
        assert_eq!(memory_bytes_min(4, 500) >> 20, 12);
        assert_eq!(memory_bytes_min(50, 500) >> 20, 571);
    }
}
