//! From decided leaders to executed commits: write the record, wait until what the decision rests on is durable, hand it over
//! in order.
//!
//! The record itself is not waited for. A decision rests on blocks of a quorum, and each of its validators made its own
//! durable, with all before it, before it let it go. Own ones and the payloads that are executed are what is waited for here.
//! A crash may so leave the state a few commits ahead of the log: the same commits are decided again, and not executed.

use std::collections::VecDeque;

use bytes::Bytes;

use super::effect::{Effect, LogRecord, Reply};
use super::machine::Node;
use super::recovery::ForeignState;
use crate::consensus::{Commit, Decision};
use crate::execute::{CommittedBlock, Executed, SubDag};
use crate::planted::{self, Bug};
use crate::types::{BlockRef, CommitIndex, CommitVote, Digest, LogSeq, Round};

/// Commits that are with the executor at one time.
const EXECUTING_MAX: usize = 8;

/// Commits after which a sync is asked for. Fewer become durable with the next own block, or with whatever is synced next.
const UNSYNCED_MAX: usize = 32;

/// Commits by which the state may be ahead of the log: the most that are executed while their records are not durable. In
/// committees so large that a beat commits more leaders, the rest waits for a sync.
pub const STATE_AHEAD_MAX: u64 = 64;

/// Commits that are not executed yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    queue: VecDeque<PendingCommit>,
    /// Commits whose records are not durable.
    unsynced: VecDeque<(CommitIndex, LogSeq)>,
    /// How many of them, from the front, are with the executor.
    executing: usize,
    /// Transactions in them.
    transactions: u64,
}

#[derive(Debug)]
struct PendingCommit {
    commit: Commit,
    digest: Digest,
    /// Own blocks up to this record may be what decided it.
    rests_on: LogSeq,
    transactions: u64,
}

/// Rounds of leaders between two commits that validators vote for.
const VOTE_ROUNDS: u64 = 8;

/// The own word on the chain of commits: a vote for each **boundary**, the first commit whose leader lies in a later group of
/// [`VOTE_ROUNDS`] rounds than the one before it. A function of the commits, so everybody votes for the same ones.
#[derive(Debug, Default)]
pub(super) struct CommitVotes {
    group: u64,
    untold: Option<CommitVote>,
}

impl CommitVotes {
    /// A commit was decided (or found decided, at the start): whether it is a boundary.
    pub(super) fn decided(&mut self, commit: &Commit) -> bool {
        let group = commit.leader.round.0 / VOTE_ROUNDS;
        let is_boundary = group > self.group;
        self.group = group;
        if is_boundary {
            self.untold = Some(CommitVote { index: commit.index, digest: commit.digest() });
        }
        is_boundary
    }

    /// The vote that the next own header carries.
    pub(super) fn take(&mut self) -> Option<CommitVote> {
        self.untold.take()
    }
}

impl CommitQueue {
    /// Queues a commit that is to be executed once records up to `rests_on` are durable.
    pub(super) fn push(&mut self, commit: Commit, digest: Digest, rests_on: LogSeq, transactions: u64) {
        self.transactions += transactions;
        self.queue.push_back(PendingCommit { commit, digest, rests_on, transactions });
    }

    /// The record of a commit was given to the log.
    fn recorded(&mut self, index: CommitIndex, seq: LogSeq) {
        self.unsynced.push_back((index, seq));
    }

    /// Records up to this one are durable.
    fn settle(&mut self, durable: LogSeq) {
        while self.unsynced.front().is_some_and(|(_, seq)| *seq <= durable) {
            self.unsynced.pop_front();
        }
    }

    /// The last record, if so many are not durable that a sync is due.
    fn overdue(&self) -> Option<LogSeq> {
        self.unsynced.back().filter(|_| self.unsynced.len() >= UNSYNCED_MAX).map(|(_, seq)| *seq)
    }

    /// Whether the state may go on to a commit.
    fn admits(&self, index: CommitIndex) -> bool {
        self.unsynced.front().is_none_or(|(oldest, _)| index.0 < oldest.0 + STATE_AHEAD_MAX)
    }

    /// Transactions that are committed and not executed.
    pub(super) fn backlog(&self) -> u64 {
        self.transactions
    }

    /// Whether a block is of the first commit that is not with the executor.
    pub(super) fn first_needs(&self, block: &BlockRef) -> bool {
        self.queue.get(self.executing).is_some_and(|pending| pending.commit.blocks.contains(block))
    }

    /// Round of the leader of the first commit that is not executed.
    pub(super) fn oldest_leader_round(&self) -> Option<Round> {
        self.queue.front().map(|pending| pending.commit.leader.round)
    }

    /// Lowest round of a block that waits for execution.
    pub(super) fn oldest_round(&self) -> Option<Round> {
        self.queue.iter().filter_map(|pending| pending.commit.blocks.first()).map(|block| block.round).min()
    }
}

impl Node {
    /// Decides what the DAG allows to decide and writes the commits down.
    pub(super) fn try_commit(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.dag_changed) {
            return;
        }
        let mut is_any = self.apply_certified(out);
        loop {
            let decided = self.committer.try_decide(&self.dag, self.next_slot);
            if decided.is_empty() {
                break;
            }
            for (slot, decision) in decided {
                self.next_slot = self.committer.next_slot(slot);
                match decision {
                    Decision::Commit(leader) => {
                        is_any = true;
                        self.commit(leader, out);
                    }
                    Decision::Skip | Decision::Undecided => self.stats.skipped_leaders += 1,
                }
            }
        }
        if is_any {
            self.commits.settle(self.durable);
            if let Some(seq) = self.commits.overdue() {
                self.sync(seq, out);
            }
            self.collect_garbage(out);
        }
    }

    fn commit(&mut self, leader: BlockRef, out: &mut Vec<Effect>) {
        let commit = self.linearizer.commit(&mut self.dag, leader);
        self.take_commit(commit, out);
    }

    /// Writes a commit down and queues it for execution.
    pub(super) fn take_commit(&mut self, commit: Commit, out: &mut Vec<Effect>) {
        let (digest, held) = (self.linearizer.digest(), self.resumed_at);
        if commit.index == held.commit && digest != held.digest {
            let index = commit.index;
            return self.halt(
                ForeignState::OtherCommit { index, held: held.digest, found: digest }.to_string(),
                out,
            );
        }
        self.stats.committed_leaders += 1;
        self.committer.on_commit(&commit);
        self.pacemaker.committed();
        let seq = self.append(LogRecord::Commit(commit.index, Bytes::from(commit.encode())), out);
        if self.commit_votes.decided(&commit) {
            let certificate = self.certificates.decided(CommitVote { index: commit.index, digest });
            self.keep_certificate(certificate, out);
        }
        self.commits.recorded(commit.index, seq);
        if commit.index <= held.commit {
            return self.pass_over(&commit);
        }
        let transactions = self.transactions_of(&commit);
        self.commits.push(commit, digest, self.proposer.held_back_up_to(), transactions);
    }

    /// A commit that the state holds already was decided again.
    fn pass_over(&mut self, commit: &Commit) {
        self.stats.repeated_commits += 1;
        for block in &commit.blocks {
            self.dag.drop_payload(block);
        }
    }

    pub(super) fn transactions_of(&self, commit: &Commit) -> u64 {
        let entries = commit.blocks.iter().filter_map(|block| self.dag.get(block));
        entries.map(|entry| u64::from(entry.header.header().n_tx)).sum()
    }

    /// Hands commits to the executor: in order, once what they rest on is durable and every payload is here and checked.
    pub(super) fn try_execute(&mut self, out: &mut Vec<Effect>) {
        self.commits.settle(self.durable);
        while self.commits.executing < EXECUTING_MAX {
            let Some(pending) = self.commits.queue.get(self.commits.executing) else { return };
            if !self.commits.admits(pending.commit.index) {
                return;
            }
            let rests_on = self.rests_on(pending);
            if rests_on > self.durable && !planted::is(Bug::ExecuteBeforeDurable) {
                return self.sync(rests_on, out);
            }
            let Some(sub_dag) = self.assemble(pending) else { return };
            self.commits.executing += 1;
            out.push(Effect::Execute(sub_dag));
        }
    }

    /// The record up to which the log has to be durable: own blocks that may have decided the commit, and its payloads.
    fn rests_on(&self, pending: &PendingCommit) -> LogSeq {
        let entries = pending.commit.blocks.iter().filter_map(|block| self.dag.get(block));
        let payloads =
            entries.filter(|entry| entry.header.header().n_tx > 0).filter_map(|entry| entry.payload_seq);
        payloads.fold(pending.rests_on, LogSeq::max)
    }

    /// The commit with its payloads; `None` if one is not here or not checked yet.
    fn assemble(&self, PendingCommit { commit, digest, .. }: &PendingCommit) -> Option<SubDag> {
        let mut blocks = Vec::new();
        for reference in &commit.blocks {
            let entry = self
                .dag
                .get(reference)
                .unwrap_or_else(|| panic!("{reference} was collected before execution"));
            if entry.header.header().n_tx == 0 {
                continue;
            }
            let payload = entry.payload.clone()?;
            let verdicts = entry.verdicts.clone()?;
            let payload_seq = entry.payload_seq?;
            blocks.push(CommittedBlock { reference: *reference, payload, verdicts, payload_seq });
        }
        Some(SubDag {
            index: commit.index,
            leader: commit.leader,
            time: commit.time,
            digest: *digest,
            blocks,
        })
    }

    pub(super) fn on_executed(&mut self, executed: Executed, out: &mut Vec<Effect>) {
        let pending = self
            .commits
            .queue
            .pop_front()
            .unwrap_or_else(|| panic!("a commit was executed that nobody gave"));
        let index = pending.commit.index;
        assert_eq!(index, executed.head.commit, "commits are executed in order");
        self.commits.executing -= 1;
        self.commits.transactions -= pending.transactions;
        self.stats.executed = index;
        for block in &pending.commit.blocks {
            self.dag.drop_payload(block);
        }
        for block in &executed.blocks {
            let Some(txs) = self.take_own(&block.reference) else { continue };
            for (tx, outcome) in txs.into_iter().zip(&block.outcomes) {
                if let Some(ticket) = tx.ticket {
                    out.push(Effect::Reply { ticket, reply: Reply::Final(*outcome) });
                }
            }
        }
        self.checkpoints.executed(&executed, out);
        self.collect_garbage(out);
    }
}
