//! How a validator that is far behind takes its commits from others: with proof, and so without waiting for what decides them.
//!
//! Once f + 1 of the stake has shown rounds far above the own ones, one peer after another is asked for the commits behind the last
//! own one. What comes was checked on the way in (see [`super::CertifiedCommits`]); here it has to follow the own chain. The
//! chain then says exactly which blocks are needed, and these are asked for by name, of all peers at once. A commit
//! is **applied** as soon as its headers are in the DAG: a quorum voted for it, so an honest validator decided it, and the
//! rule would decide the same. The rule runs beside it as always, and whichever comes first commits.
//!
//! Headers still enter in causal order. A header of a commit names nothing above the garbage-collection round of its time that
//! is not in this or an earlier commit, since a commit takes all of its leader's history above that round. What
//! lies below stops mattering when commits have been applied and executed, and garbage collection has followed.
//!
//! A peer that is silent, has nothing, or lies costs one timeout; each question goes to the next one. After f + 1 of them in vain, perhaps
//! nobody has certificates: for a while the rounds are asked for in ranges, whatever decides them included.

use std::collections::VecDeque;
use std::sync::Arc;

use super::certificates::CertifiedCommits;
use super::effect::Effect;
use super::machine::{Node, Now};
use crate::committee::AuthoritySet;
use crate::consensus::{Commit, Slot};
use crate::types::{AuthorityIndex, BlockRef, CommitIndex, Digest, FetchRequest, PeerMessage, Round};

/// Rounds behind from which commits are asked for; half of garbage collection's depth, if that is less.
const FAR_ROUNDS: u64 = 128;
/// Commits that are here and not applied at which more are asked for.
const LOW_COMMITS: usize = 128;
/// The same, in blocks of these commits.
const LOW_BLOCKS: usize = 2_048;
/// Blocks of them that are asked for at one time.
const BLOCKS_MAX: usize = 512;
/// Rounds above the quorum's round up to which they are: what is farther ahead has no place in the DAG yet.
const ROUNDS_MAX: u64 = 128;
/// Timeouts of requests for headers until a peer has had its turn: the answer is large, and comes from a disk.
const ANSWER_TIMEOUTS: u64 = 2;
/// Rounds that execution may be behind the last commit until no more is asked for: headers come faster than payloads, and the
/// DAG keeps all that is not executed.
const UNEXECUTED_ROUNDS_MAX: u64 = 128;
/// Fetch timeouts without a commit after which the chain is dropped, and until the next try after enough were asked in vain.
const PAUSE_TIMEOUTS: u64 = 10;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct CommitSync {
    /// Certified commits that are not applied, oldest first.
    chain: VecDeque<(Commit, Digest)>,
    asked: Option<Asked>,
    /// All who were asked and have not answered. What proves itself is taken late too: a disk may be slower than measured answers.
    owing: AuthoritySet,
    /// Whose turn it is next, whatever the last one gave: a peer that gives just enough, as late as it may, does not keep it.
    turn: u32,
    /// Peers asked in vain, one after another.
    in_vain: usize,
    /// Nobody is asked before.
    rests_until_us: u64,
    /// The last commit, and since when it is that.
    progress: (CommitIndex, u64),
    /// What was looked at when the blocks of the chain were last asked for.
    looked_at: (CommitIndex, usize, Round),
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    peer: AuthorityIndex,
    due_us: u64,
}

impl CommitSync {
    /// What does not go on from the last commit is of no use any more.
    fn drop_chain(&mut self) {
        self.chain.clear();
        self.asked = None;
        self.owing = AuthoritySet::EMPTY;
    }

    /// Whether there is enough to do: nobody is asked for more, and what comes late makes it no longer.
    fn has_enough(&self) -> bool {
        self.chain.len() >= LOW_COMMITS
            || self.chain.iter().map(|(commit, _)| commit.blocks.len()).sum::<usize>() >= LOW_BLOCKS
    }

    /// Memory that the commits which are not applied take, about.
    pub(super) fn bytes(&self) -> usize {
        self.chain.iter().map(|(commit, _)| size_of::<Commit>() + size_of_val(&commit.blocks[..])).sum()
    }

    /// The one that was asked is gone: the next one's turn.
    pub(super) fn peer_down(&mut self, peer: AuthorityIndex) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.peer == peer) {
            asked.due_us = 0;
        }
    }

    /// The peer that was asked gave nothing of use; after so many in a row that an honest one was probably among them a
    /// pause.
    fn asked_in_vain(&mut self, now: Now, most: usize, pause_us: u64) {
        self.asked = None;
        self.in_vain += 1;
        if self.in_vain >= most {
            self.in_vain = 0;
            self.rests_until_us = now.monotonic_us + pause_us;
        }
    }

    pub(super) fn next_timeout(&self, pause_us: u64) -> Option<u64> {
        let stalls_us = (!self.chain.is_empty()).then_some(self.progress.1.saturating_add(pause_us));
        self.asked.map(|asked| asked.due_us).into_iter().chain(stalls_us).min()
    }
}

impl Node {
    pub(super) fn commit_sync_pause_us(&self) -> u64 {
        PAUSE_TIMEOUTS * self.config.pace.fetch_timeout_us
    }

    /// Applies what can be applied; whether anything could.
    pub(super) fn apply_certified(&mut self, out: &mut Vec<Effect>) -> bool {
        let mut is_any = false;
        while let Some((slot, commit)) = self.next_certified(out) {
            self.next_slot = self.committer.next_slot(slot);
            self.linearizer.apply(&mut self.dag, &commit);
            self.stats.applied_commits += 1;
            self.take_commit(commit, out);
            is_any = true;
        }
        is_any
    }

    /// The commit behind the last one, if it is certified and all of its headers are here.
    fn next_certified(&mut self, out: &mut Vec<Effect>) -> Option<(Slot, Commit)> {
        let index = self.linearizer.index();
        // The rule may have been faster.
        while self.commit_sync.chain.front().is_some_and(|(commit, _)| commit.index <= index) {
            self.commit_sync.chain.pop_front();
        }
        let (commit, _) = self.commit_sync.chain.front()?;
        let follows = commit.index.0 == index.0 + 1 && commit.previous == self.linearizer.digest();
        // The leader comes last.
        if follows && !commit.blocks.iter().rev().all(|block| self.dag.contains(block)) {
            return None;
        }
        let is_new =
            commit.blocks.iter().all(|block| self.dag.get(block).is_some_and(|entry| !entry.committed));
        let slot = self.slot_of(commit).filter(|slot| *slot >= self.next_slot);
        let (true, true, Some(slot)) = (follows, is_new, slot) else {
            let index = commit.index;
            self.contradicted(index, out);
            return None;
        };
        self.commit_sync.chain.pop_front().map(|(commit, _)| (slot, commit))
    }

    /// Number and digest of the last commit that is certified here, or the own one that nothing certified follows.
    fn last_certified(&self) -> (CommitIndex, Digest) {
        let own = (self.linearizer.index(), self.linearizer.digest());
        let last = self.commit_sync.chain.back().map(|(commit, digest)| (commit.index, *digest));
        last.filter(|last| last.0 > own.0).unwrap_or(own)
    }

    /// A peer answered with commits.
    pub(super) fn on_commits(
        &mut self,
        now: Now,
        from: AuthorityIndex,
        answer: &Arc<CertifiedCommits>,
        out: &mut Vec<Effect>,
    ) {
        let (most, pause_us) = (self.committee.size() / 3 + 1, self.commit_sync_pause_us());
        let (after, digest) = self.last_certified();
        let sync = &mut self.commit_sync;
        if !sync.owing.contains(from) {
            return;
        }
        let is_awaited = sync.asked.is_some_and(|asked| asked.peer == from);
        let news = answer.commits().partition_point(|(commit, _)| commit.index <= after);
        let Some((first, _)) = answer.commits().get(news).filter(|_| !sync.has_enough()) else {
            sync.owing.remove(from);
            if is_awaited && answer.commits().is_empty() {
                sync.asked_in_vain(now, most, pause_us);
            } else if is_awaited {
                sync.asked = None;
            }
            return;
        };
        if first.index.0 != after.0 + 1 {
            // To an earlier question, perhaps; this one may still be answered.
            return;
        }
        if first.previous != digest {
            return self.contradicted(after, out);
        }
        let sync = &mut self.commit_sync;
        sync.owing.remove(from);
        sync.asked = None;
        sync.in_vain = 0;
        sync.rests_until_us = 0;
        if sync.chain.is_empty() {
            sync.progress = (self.linearizer.index(), now.monotonic_us);
        }
        sync.chain.extend(answer.commits()[news..].iter().cloned());
        // All of it may be here already.
        self.dag_changed = true;
    }

    /// A quorum certified what cannot follow from the own commits. Either this validator's log was damaged in a way that its
    /// checksums do not show, or more than f lie: in both cases nothing that it does or says from here on is of use.
    fn contradicted(&mut self, index: CommitIndex, out: &mut Vec<Effect>) {
        self.commit_sync.drop_chain();
        let reason = format!(
            "a quorum of validators certified other commits than this one has, at commit {}: its data folder is not that of \
             this network, or is damaged, or more than a third of the validators lie; compare it with `salus log check` \
             on another validator before starting it anew with an empty folder",
            index.0
        );
        self.halt(reason, out);
    }

    /// Asks for commits while this validator is far behind, and for the blocks of those that it was given.
    pub(super) fn poll_commit_sync(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (most, pause_us) = (self.committee.size() / 3 + 1, self.commit_sync_pause_us());
        let index = self.linearizer.index();
        let waits = self.waits_for_execution();
        let sync = &mut self.commit_sync;
        if sync.progress.0 != index || waits {
            sync.progress = (index, now.monotonic_us);
        }
        if !sync.chain.is_empty() && sync.progress.1 + pause_us <= now.monotonic_us {
            sync.drop_chain();
            sync.rests_until_us = now.monotonic_us + pause_us;
        }
        if sync.asked.is_some_and(|asked| asked.due_us <= now.monotonic_us) {
            sync.asked_in_vain(now, most, pause_us);
        }
        if !waits {
            self.want_certified();
            self.ask_for_commits(now, out);
        }
        let sync = &self.commit_sync;
        self.fetcher.hold_ranges(waits || sync.asked.is_some() || !sync.chain.is_empty());
    }

    fn waits_for_execution(&self) -> bool {
        let oldest = self.commits.oldest_leader_round().unwrap_or(self.next_slot.round);
        self.next_slot.round.0 > oldest.0 + UNEXECUTED_ROUNDS_MAX
    }

    fn want_certified(&mut self) {
        let sync = &mut self.commit_sync;
        let look = (self.linearizer.index(), sync.chain.len(), self.quorum_round);
        if sync.looked_at == look {
            return;
        }
        let top = Round(self.quorum_round.0 + ROUNDS_MAX);
        if self.fetcher.certified_len() > BLOCKS_MAX / 2 {
            return;
        }
        sync.looked_at = look;
        let blocks = sync.chain.iter().flat_map(|(commit, _)| &commit.blocks);
        let is_absent = |block: &&BlockRef| !self.dag.contains(block) && self.manager.sender(block).is_none();
        let wanted = blocks.take_while(|block| block.round <= top).filter(is_absent).take(BLOCKS_MAX);
        self.fetcher.want_certified(wanted.copied().collect());
    }

    fn ask_for_commits(&mut self, now: Now, out: &mut Vec<Effect>) {
        let sync = &self.commit_sync;
        let far = FAR_ROUNDS.min(self.linearizer.gc_depth() / 2);
        if sync.asked.is_some()
            || sync.has_enough()
            || sync.rests_until_us > now.monotonic_us
            || self.fetcher.honest_round().0 <= self.quorum_round.0 + far
        {
            return;
        }
        let turns = (0..).take(self.committee.size()).map(|i| sync.turn.wrapping_add(i));
        let mut turns = turns.filter_map(|turn| Some((turn, self.fetcher.peer_in_turn(now, turn)?)));
        let Some((turn, peer)) = turns.find(|(_, peer)| self.versions.speaks_2(*peer)) else { return };
        let due_us = now.monotonic_us + ANSWER_TIMEOUTS * self.fetcher.answer_timeout_us();
        self.commit_sync.turn = turn.wrapping_add(1);
        self.commit_sync.asked = Some(Asked { peer, due_us });
        self.commit_sync.owing.insert(peer);
        let (after, _) = self.last_certified();
        let message = PeerMessage::Fetch(FetchRequest::Commits { after });
        out.push(Effect::Send { to: peer, message });
    }
}
