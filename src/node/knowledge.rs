//! What each peer is known to have, and so which headers are pushed to it: the Push pacemaker (Starfish, eprint 2025/567).
//!
//! The paper sends a peer, along with each own block, everything in its history that the peer is not known to have. Known is
//! what the peer sent, what the histories of its blocks contain, and what was sent to it. A block's history contains its
//! author's chain, so one round for each pair (peer, author) says it all.
//!
//! Taken to the letter that sends every block n times, since nobody has named a block yet when the next round is made. So:
//! - what a peer **evidently lacks** (it made a block two rounds later without it) everybody pushes, again after a
//!   pause, as the proof of liveness asks;
//! - while that was seen to happen lately, or the peer asked for new headers, each new block is also relayed to that peer at once by [`RELAYS`] validators, a
//!   function of its author and round, and to everybody while this validator itself misses some: a header lost on one line comes
//!   by another within the same round;
//! - while nothing was missed, the push is the own block alone.

use std::sync::Arc;

use super::effect::Effect;
use crate::committee::{AuthoritySet, Committee};
use crate::dag::{DagBlock, DagState, VerifiedHeader};
use crate::types::{AuthorityIndex, BlockRef, PeerMessage, Round, SignedHeader};

/// Validators beside its author that relay a block at once when lines lose messages.
const RELAYS: usize = 2;
/// Rounds for which relaying goes on after a peer was seen to lack something.
const RELAY_ROUNDS: u64 = 64;
/// A peer lacks a block if it made one this many rounds later that does not know of it.
const EVIDENT_ROUNDS: u64 = 2;
/// Own rounds before something is pushed again.
const PAUSE_ROUNDS: u64 = 4;
/// Rounds back that are pushed; what is older is fetched.
const REACH_ROUNDS: u64 = 16;
/// Headers of one push to one peer.
const PUSH_MAX: usize = 32;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Knowledge {
    committee: Arc<Committee>,
    own: AuthorityIndex,
    /// Row peer, column author: highest round of the author's blocks that the peer is known to have.
    known: Vec<Round>,
    /// The same for what was pushed, with the own round at which it was.
    pushed: Vec<(Round, Round)>,
    /// Peers that are connected.
    up: AuthoritySet,
    /// Relaying to a peer goes on until this own round,
    relay_until: Vec<Round>,
    /// and to everybody until this one.
    relay_all_until: Round,
}

impl Knowledge {
    pub(super) fn new(committee: &Arc<Committee>, own: AuthorityIndex) -> Self {
        let n = committee.size();
        Self {
            own,
            known: vec![Round(0); n * n],
            pushed: vec![(Round(0), Round(0)); n * n],
            up: AuthoritySet::default(),
            relay_until: vec![Round(0); n],
            relay_all_until: Round(0),
            committee: Arc::clone(committee),
        }
    }

    fn cell(&self, peer: AuthorityIndex, author: AuthorityIndex) -> usize {
        peer.as_usize() * self.committee.size() + author.as_usize()
    }

    /// A connection is new: what was sent on the one before may be lost.
    pub(super) fn peer_up(&mut self, peer: AuthorityIndex) {
        self.up.insert(peer);
        let row = self.cell(peer, AuthorityIndex(0));
        self.pushed[row..row + self.committee.size()].fill((Round(0), Round(0)));
    }

    pub(super) fn peer_down(&mut self, peer: AuthorityIndex) {
        self.up.remove(peer);
    }

    /// A peer sent a block.
    pub(super) fn sent_by(&mut self, peer: AuthorityIndex, block: &BlockRef) {
        self.know(peer, block);
    }

    /// A header entered the DAG: its author has it and what it names.
    pub(super) fn entered(&mut self, header: &VerifiedHeader) {
        let author = header.header().author;
        self.know(author, &header.reference());
        for ancestor in &header.header().ancestors {
            self.know(author, ancestor);
        }
    }

    fn know(&mut self, peer: AuthorityIndex, block: &BlockRef) {
        let cell = self.cell(peer, block.author);
        self.known[cell] = self.known[cell].max(block.round);
    }

    /// Headers had waited for one that came late: lines lose messages.
    pub(super) fn missed(&mut self, own_round: Round) {
        self.relay_all_until = Round(own_round.0 + RELAY_ROUNDS);
    }

    /// A peer asked for headers by name, of which the newest is of `round`: it has a block that names what it lacks. If it is given
    /// a block only once it asks (a Byzantine author leaves it out, say) that costs it two delays in each round.
    pub(super) fn asked_by(&mut self, peer: AuthorityIndex, round: Round, own_round: Round) {
        if own_round.0 <= round.0 + REACH_ROUNDS {
            self.relay_until[peer.as_usize()] = Round(own_round.0 + RELAY_ROUNDS);
        }
    }

    /// Highest own round that f+1 of the stake has named: at least one honest validator built on it.
    pub(super) fn own_named(&self) -> Round {
        let mut rounds: Vec<(Round, u64)> = self
            .committee
            .indices()
            .filter(|peer| *peer != self.own)
            .map(|peer| (self.known[self.cell(peer, self.own)], self.committee.stake(peer).0))
            .collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        let others = self.committee.total_stake().0 - self.committee.stake(self.own).0;
        let validity = self.committee.validity_threshold().0.min(others);
        let named = rounds.into_iter().find_map(|(round, stake)| {
            sum += stake;
            (sum >= validity).then_some(round)
        });
        named.unwrap_or_default()
    }

    /// Whether this validator relays the blocks of `author` in `round`.
    fn has_duty(&self, author: AuthorityIndex, round: Round) -> bool {
        let n = self.committee.size();
        if n < 3 {
            return false;
        }
        let others = n as u64 - 1;
        (0..RELAYS as u64).any(|i| {
            let step = 1 + (round.0 + i * (others / 2).max(1)) % others;
            (author.as_usize() as u64 + step) % (n as u64) == self.own.as_usize() as u64
        })
    }

    /// Pushes what goes along with the own block of `own_round`.
    pub(super) fn push(&mut self, dag: &DagState, own_round: Round, out: &mut Vec<Effect>) {
        let others = self.committee.indices().filter(|author| *author != self.own);
        let latest: Vec<BlockRef> =
            others.filter_map(|author| dag.latest_available(author, own_round)).collect();
        for peer in self.up.iter() {
            let headers = self.lacking(dag, peer, &latest, own_round);
            if !headers.is_empty() {
                out.push(Effect::Send { to: peer, message: PeerMessage::Headers(headers) });
            }
        }
    }

    /// Headers to push to a peer, parents first.
    fn lacking(
        &mut self,
        dag: &DagState,
        peer: AuthorityIndex,
        latest: &[BlockRef],
        own_round: Round,
    ) -> Vec<SignedHeader> {
        let made = self.known[self.cell(peer, peer)];
        let mut found = Vec::new();
        for &latest in latest.iter().filter(|latest| latest.author != peer) {
            let cell = self.cell(peer, latest.author);
            let (known, (pushed, at)) = (self.known[cell], self.pushed[cell]);
            if latest.round <= known {
                continue;
            }
            let reach = Round(own_round.0.saturating_sub(REACH_ROUNDS)).max(known);
            let rounds = (reach.0 + 1..=latest.round.0).map(Round);
            let unknown: Vec<(&BlockRef, &DagBlock)> =
                rounds.filter_map(|round| dag.slot(round, latest.author).next()).collect();
            let evident = unknown
                .first()
                .is_some_and(|(block, _)| made.0.saturating_sub(block.round.0) >= EVIDENT_ROUNDS);
            if evident {
                self.relay_until[peer.as_usize()] = Round(own_round.0 + RELAY_ROUNDS);
            }
            let duty = own_round <= self.relay_until[peer.as_usize()].max(self.relay_all_until)
                && latest.round.next() == own_round
                && self.has_duty(latest.author, latest.round);
            let pause_over = own_round.0 >= at.0 + PAUSE_ROUNDS;
            if duty || (evident && pause_over) {
                let from = if pause_over { Round(0) } else { pushed };
                let push = unknown
                    .into_iter()
                    .filter(|(block, _)| block.round > from && (evident || **block == latest));
                found.extend(push.map(|(block, entry)| (*block, entry.header.clone())));
                self.pushed[cell] = (latest.round, own_round);
            }
        }
        found.sort_unstable_by_key(|(block, _)| *block);
        found.into_iter().take(PUSH_MAX).map(|(_, header)| SignedHeader::clone(&header)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::dag::testing::{Drawing, committee};

    /// What validator A, whose DAG is drawn, pushes with its block of `own_round`: (peer, authors and rounds).
    fn pushed(knowledge: &mut Knowledge, dag: &DagState, own_round: u64) -> Vec<(u16, Vec<(u16, u64)>)> {
        let mut out = Vec::new();
        knowledge.push(dag, Round(own_round), &mut out);
        out.into_iter()
            .map(|effect| {
                let Effect::Send { to, message: PeerMessage::Headers(headers) } = effect else {
                    panic!("{effect:?}")
                };
                let names = headers.iter().map(|h| (h.header().author.0, h.header().round.0));
                (to.0, names.collect())
            })
            .collect()
    }

    /// Knowledge of A after it has seen a drawn DAG.
    fn knowing(drawing: &Drawing, rounds: u64) -> Knowledge {
        let mut knowledge = Knowledge::new(&committee(4), AuthorityIndex(0));
        for peer in 1..4 {
            knowledge.peer_up(AuthorityIndex(peer));
        }
        for round in 1..=rounds {
            for (_, entry) in drawing.dag.round(Round(round)) {
                knowledge.entered(&entry.header);
            }
        }
        knowledge
    }

    #[test]
    fn in_the_good_case_nothing_goes_along() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 6);
        let mut knowledge = knowing(&drawing, 6);
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 7), []);
        assert_eq!(knowledge.own_named(), Round(5));
    }

    #[test]
    fn what_a_peer_evidently_lacks_is_pushed_and_again_after_a_pause() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 1);
        // D gets nothing of C from round 2 on.
        for _ in 2..=5 {
            drawing.round("A B C D-C");
        }
        let mut knowledge = knowing(&drawing, 5);
        let lacks = vec![(3, vec![(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)])];
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 6), lacks);
        assert!(pushed(&mut knowledge, &drawing.dag, 7).is_empty(), "it was sent a round ago");
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 10), lacks, "no answer: again");
        knowledge.sent_by(AuthorityIndex(3), &drawing.named("C5"));
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 14), []);
    }

    #[test]
    fn while_lines_lose_messages_two_others_relay_each_block_at_once() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 40);
        let mut relayed = 0;
        for own_round in 10..40 {
            let mut knowledge = knowing(&drawing, own_round - 2);
            knowledge.missed(Round(own_round));
            for (_, blocks) in pushed(&mut knowledge, &drawing.dag, own_round) {
                assert!(blocks.iter().all(|(_, round)| *round == own_round - 1), "{blocks:?}");
                relayed += blocks.len();
            }
        }
        // In each of 30 rounds, blocks of three others, relayed by two of the three that did not make them, each to two peers:
        // of twelve relays a round and author, a third falls on A.
        assert_eq!(relayed, 30 * 3 * 2 * 2 / 3);
    }

    #[test]
    fn to_a_peer_that_asks_for_a_new_header_blocks_are_relayed_too() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 9);
        let mut knowledge = knowing(&drawing, 7);
        knowledge.asked_by(AuthorityIndex(3), Round(9), Round(40));
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 9), [], "it catches up");
        knowledge.asked_by(AuthorityIndex(3), Round(7), Round(8));
        let to: Vec<u16> = pushed(&mut knowledge, &drawing.dag, 9).into_iter().map(|(to, _)| to).collect();
        assert_eq!(to, [3]);
    }

    #[test]
    fn peers_that_are_not_connected_get_nothing() {
        let mut drawing = Drawing::new(4);
        drawing.full("ABCD", 1);
        for _ in 2..=5 {
            drawing.round("A B C D-C");
        }
        let mut knowledge = knowing(&drawing, 5);
        knowledge.peer_down(AuthorityIndex(3));
        assert_eq!(pushed(&mut knowledge, &drawing.dag, 6), []);
    }
}
