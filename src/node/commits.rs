//! From decided leaders to executed commits: write the record, wait until it is durable, hand it over in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::effect::{Effect, LogRecord, Reply};
use super::machine::Node;
use crate::consensus::{Commit, Decision};
use crate::execute::{CommittedBlock, Executed, SubDag};
use crate::planted::{self, Bug};
use crate::types::{BlockRef, CommitVote, LogSeq, Round};

/// Commits that are with the executor at one time.
const EXECUTING_MAX: usize = 8;

/// Commits without transactions after which a sync is asked for. For fewer nobody waits, but for a checkpoint that may be due;
/// they become durable with the next own block.
const UNSYNCED_MAX: usize = 8;

/// Commits that are not executed yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    queue: VecDeque<PendingCommit>,
    /// The last record that was asked to be made durable.
    asked: LogSeq,
    /// How many of them, from the front, are with the executor.
    executing: usize,
    /// Transactions in them.
    transactions: u64,
}

#[derive(Debug)]
struct PendingCommit {
    commit: Commit,
    seq: LogSeq,
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
    pub(super) fn push(&mut self, commit: Commit, seq: LogSeq, transactions: u64) {
        self.transactions += transactions;
        self.queue.push_back(PendingCommit { commit, seq, transactions });
    }

    /// The record to be made durable next, if it is time: the last one, once somebody waits for a transaction or there are many.
    fn take_sync(&mut self, durable: LogSeq) -> Option<LogSeq> {
        let settled = self.asked.max(durable);
        let unasked = self.queue.iter().rev().take_while(|pending| pending.seq > settled);
        let (count, is_awaited) =
            unasked.fold((0, false), |(count, is_awaited), p| (count + 1, is_awaited || p.transactions > 0));
        let last = self.queue.back().filter(|_| is_awaited || count >= UNSYNCED_MAX)?.seq;
        self.asked = last;
        Some(last)
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
            out.extend(self.commits.take_sync(self.durable).map(Effect::Sync));
            self.collect_garbage(out);
        }
    }

    fn commit(&mut self, leader: BlockRef, out: &mut Vec<Effect>) {
        let commit = self.linearizer.commit(&mut self.dag, leader);
        self.take_commit(commit, out);
    }

    /// Writes a commit down and queues it for execution.
    pub(super) fn take_commit(&mut self, commit: Commit, out: &mut Vec<Effect>) {
        self.stats.committed_leaders += 1;
        self.committer.on_commit(&commit);
        self.pacemaker.committed();
        let seq = self.append(LogRecord::Commit(commit.index, Bytes::from(commit.encode())), out);
        if self.commit_votes.decided(&commit) {
            let own = CommitVote { index: commit.index, digest: self.linearizer.digest() };
            let certificate = self.certificates.decided(own);
            self.keep_certificate(certificate, out);
        }
        let transactions = self.transactions_of(&commit);
        self.commits.push(commit, seq, transactions);
    }

    pub(super) fn transactions_of(&self, commit: &Commit) -> u64 {
        let entries = commit.blocks.iter().filter_map(|block| self.dag.get(block));
        entries.map(|entry| u64::from(entry.header.header().n_tx)).sum()
    }

    /// Hands commits to the executor: in order, once their record is durable and every payload is here and checked.
    pub(super) fn try_execute(&mut self, out: &mut Vec<Effect>) {
        while self.commits.executing < EXECUTING_MAX {
            let Some(pending) = self.commits.queue.get(self.commits.executing) else { return };
            if pending.seq > self.durable && !planted::is(Bug::ExecuteBeforeDurable) {
                return;
            }
            let Some(sub_dag) = self.assemble(&pending.commit) else { return };
            self.commits.executing += 1;
            out.push(Effect::Execute(sub_dag));
        }
    }

    /// The commit with its payloads; `None` if one is not here or not checked yet.
    fn assemble(&self, commit: &Commit) -> Option<SubDag> {
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
            let payload_seq = entry.payload_seq.filter(|seq| *seq <= self.durable)?;
            blocks.push(CommittedBlock { reference: *reference, payload, verdicts, payload_seq });
        }
        Some(SubDag {
            index: commit.index,
            leader: commit.leader,
            time: commit.time,
            digest: commit.digest(),
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
