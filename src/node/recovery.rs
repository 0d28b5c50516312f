//! What a node finds in its log when it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::certificates::Certificate;
use super::commits::STATE_AHEAD_MAX;
use super::effect::{LogKey, RecordKind};
use super::machine::{Node, Now};
use super::rejoin::Rejoin;
use crate::codec::{DecodeError, Reader};
use crate::consensus::{Commit, CommitDecodeError, LeaderSchedule, Slot};
use crate::dag::VerifiedHeader;
use crate::execute::LedgerHead;
use crate::genesis::Genesis;
use crate::planted::{self, Bug};
use crate::types::{
    AuthorityIndex, BlockRef, CommitIndex, Digest, EquivocationProof, LogSeq, Payload, Round, SignedHeader,
    SystemMessage, TimestampMs, read_block_ref,
};

/// Why a record of the log cannot be used. The log's checksums held, so it was written by another program or a bug.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("log record {seq} of kind {kind}: {why}")]
pub struct RecoverError {
    /// Number of the record.
    pub seq: LogSeq,
    /// Its kind byte.
    pub kind: u8,
    /// What is wrong with it.
    pub why: String,
}

/// The state was not made from this log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForeignState {
    /// It holds more than the log can have led to.
    #[error(
        "the state holds commit {executed}, and the block log, which ends at commit {found}, is not what led there: the log is \
         lost or an old copy of it; move the data folder away and start again, the validator fetches everything from the others"
    )]
    Ahead {
        /// Last commit of the state.
        executed: CommitIndex,
        /// Last commit of the log.
        found: CommitIndex,
    },
    /// Its last commit is another one.
    #[error(
        "the state was made by commit {index} of digest {held}, and the network agreed on {found}: move the folder `state` away \
         and start again, it is made anew from the block log"
    )]
    OtherCommit {
        /// Its number.
        index: CommitIndex,
        /// Digest of the one that the state was made by.
        held: Digest,
        /// Digest of the one in the log, or as decided.
        found: Digest,
    },
}

/// Collects the records of the log, in order, and keeps what the node needs to go on: blocks above garbage collection,
/// commits that are not executed, the last own block.
#[derive(Debug)]
pub struct Recovered {
    authority: AuthorityIndex,
    executed: LedgerHead,
    /// Digest of the commit of that number in the log.
    at_head: Option<Digest>,
    gc_depth: u64,
    /// As the commits found so far leave it.
    pub(super) schedule: LeaderSchedule,
    last_seq: LogSeq,
    headers: BTreeMap<BlockRef, VerifiedHeader>,
    payloads: BTreeMap<BlockRef, (LogSeq, Bytes)>,
    committed: BTreeMap<BlockRef, CommitIndex>,
    pending: Vec<Commit>,
    /// Lowest round of a block in them.
    oldest_pending: Option<Round>,
    last_commit: Option<Commit>,
    own: Option<VerifiedHeader>,
    /// The last word on a log that was lost before this one.
    rejoin: Option<Round>,
    /// The first proof against each validator that a header carries, however old: own headers carry all that is known.
    evidence: BTreeMap<AuthorityIndex, EquivocationProof>,
}

impl Recovered {
    /// Nothing yet. `executed` is what the state holds.
    #[must_use]
    pub fn new(authority: AuthorityIndex, executed: LedgerHead, genesis: &Genesis) -> Self {
        Self {
            authority,
            executed,
            at_head: None,
            gc_depth: genesis.parameters().gc_depth,
            schedule: LeaderSchedule::of(genesis),
            last_seq: LogSeq(0),
            headers: BTreeMap::new(),
            payloads: BTreeMap::new(),
            committed: BTreeMap::new(),
            pending: Vec::new(),
            oldest_pending: None,
            last_commit: None,
            own: None,
            rejoin: None,
            evidence: BTreeMap::new(),
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn record(&mut self, seq: LogSeq, kind: u8, bytes: Bytes) -> Result<(), RecoverError> {
        let fail = |why: String| RecoverError { seq, kind, why };
        match RecordKind::from_code(kind).ok_or_else(|| fail("unknown kind".to_owned()))? {
            RecordKind::Header => {
                let header = SignedHeader::decode(bytes).map_err(|error| fail(error.to_string()))?;
                let header = VerifiedHeader::trusted(header);
                if header.header().author == self.authority
                    && self.own.as_ref().is_none_or(|own| {
                        own.header().round < header.header().round && !planted::is(Bug::VoteLostOnRestart)
                    })
                {
                    self.own = Some(header.clone());
                }
                for message in &header.header().system {
                    if let SystemMessage::Evidence(proof) = message {
                        self.evidence.entry(proof.block().author).or_insert(*proof);
                    }
                }
                self.headers.insert(header.reference(), header);
            }
            RecordKind::Payload => {
                let (block, at) = payload_block(&bytes).map_err(|error| fail(error.to_string()))?;
                self.payloads.insert(block, (seq, bytes.slice(at..)));
            }
            RecordKind::Commit => {
                let commit =
                    Commit::decode(&bytes).map_err(|error: CommitDecodeError| fail(error.to_string()))?;
                self.commit(commit);
            }
            // Kept for peers alone.
            RecordKind::Certificate => {
                Certificate::decode(&bytes).map_err(|error| fail(error.to_string()))?;
            }
            RecordKind::Rejoin => {
                let mut r = Reader::new(&bytes);
                let round = r.u64("round").and_then(|round| r.finish().map(|()| Round(round)));
                self.rejoin = Some(round.map_err(|error| fail(error.to_string()))?);
            }
        }
        self.last_seq = seq;
        Ok(())
    }

    fn commit(&mut self, commit: Commit) {
        self.schedule.on_commit(&commit);
        for block in &commit.blocks {
            self.committed.insert(*block, commit.index);
        }
        if commit.index == self.executed.commit {
            self.at_head = Some(commit.digest());
        }
        if commit.index > self.executed.commit {
            let first = commit.blocks.first().map(|block| block.round);
            self.oldest_pending = [self.oldest_pending, first].into_iter().flatten().min();
            self.pending.push(commit.clone());
        }
        let mut gc_round = Round(commit.leader.round.0.saturating_sub(self.gc_depth));
        if let Some(oldest) = self.oldest_pending {
            gc_round = gc_round.min(oldest.previous());
        }
        let first = BlockRef { round: gc_round.next(), ..BlockRef::default() };
        self.headers = self.headers.split_off(&first);
        self.payloads = self.payloads.split_off(&first);
        self.committed = self.committed.split_off(&first);
        self.last_commit = Some(commit);
    }

    /// Where the log that was lost before this one leaves the validator; `None` if none was lost. Own blocks in the log
    /// prove that it is the first one, unless it says otherwise itself: then they may have come back from peers.
    pub(super) fn lost(&self, first_life: bool) -> Option<Round> {
        let is_first = first_life || self.own.is_some();
        self.rejoin.or((!is_first).then_some(Round(0)))
    }

    /// Whether the validator has to find out from others which rounds it may sign.
    #[must_use]
    pub fn has_lost_log(&self, first_life: bool) -> bool {
        self.lost(first_life) == Some(Round(0))
    }

    /// Whether the state can be what this log led to: at most [`STATE_AHEAD_MAX`] commits ahead of it, with a last transaction
    /// from a payload that it holds (`last_payload` is its record), and with a last commit that is the log's, if that has it.
    ///
    /// # Errors
    /// If it cannot: the log is lost, an old copy of it is in its place, or the state is another's.
    pub fn check_state(&self, last_payload: Option<LogSeq>) -> Result<(), ForeignState> {
        if let Some(found) = self.at_head.filter(|found| *found != self.executed.digest) {
            let (index, held) = (self.executed.commit, self.executed.digest);
            return Err(ForeignState::OtherCommit { index, held, found });
        }
        let (executed, found) =
            (self.executed.commit, self.last_commit().map_or(CommitIndex(0), |c| c.index));
        let is_ahead = executed.0 > found.0 + STATE_AHEAD_MAX || last_payload > Some(self.last_seq);
        if is_ahead { Err(ForeignState::Ahead { executed, found }) } else { Ok(()) }
    }

    /// Last commit found.
    #[must_use]
    pub fn last_commit(&self) -> Option<&Commit> {
        self.last_commit.as_ref()
    }
}

/// Block and offset of the payload in a payload record.
fn payload_block(bytes: &[u8]) -> Result<(BlockRef, usize), DecodeError> {
    let mut r = Reader::new(bytes);
    let block = read_block_ref(&mut r)?;
    Ok((block, r.position()))
}

impl LogKey {
    /// What a record of the log is found by; `None` for what is not searched for or does not decode.
    #[must_use]
    pub fn of(kind: u8, bytes: &[u8]) -> Option<Self> {
        let kind = RecordKind::from_code(kind)?;
        let block = match kind {
            RecordKind::Header => SignedHeader::decode(Bytes::copy_from_slice(bytes)).ok()?.reference(),
            RecordKind::Payload => payload_block(bytes).ok()?.0,
            RecordKind::Commit => return Some(Self::commit(kind, Commit::decode(bytes).ok()?.index)),
            RecordKind::Certificate => {
                return Some(Self::commit(kind, Certificate::decode(bytes).ok()?.vote.index));
            }
            RecordKind::Rejoin => return None,
        };
        Some(Self { kind, block })
    }
}

impl Node {
    /// Puts what the log held into place.
    pub(super) fn resume(&mut self, recovered: Recovered, checkpoint: LedgerHead) {
        self.last_seq = recovered.last_seq;
        self.sync_asked = recovered.last_seq;
        self.durable = recovered.last_seq;
        self.stats.executed = self.resumed_at.commit;
        if let Some(commit) = &recovered.last_commit {
            self.linearizer.resume(commit);
            self.commit_votes.decided(commit);
            // Told before, or told by others.
            let _ = self.commit_votes.take();
            let slot = self.slot_of(commit);
            let slot =
                slot.unwrap_or_else(|| panic!("{} in the log leads no slot of its round", commit.leader));
            self.next_slot = self.committer.next_slot(slot);
            // As far as it was collected before, and not by the first header: one that came late, while old commits waited for
            // execution, stands behind younger ones in the log.
            let oldest = recovered.oldest_pending.map_or(Round(u64::MAX), Round::previous);
            self.dag.collect_garbage(self.linearizer.gc_round().min(oldest));
            self.quorum_round = self.dag.gc_round();
        }
        self.checkpoints.resume(&checkpoint);
        self.equivocations.recall(recovered.evidence.values());
        self.resume_blocks(&recovered);
        self.rejoin = Rejoin::new(recovered.lost(self.config.first_life), recovered.rejoin.is_some());
        if let Some(own) = recovered.own {
            if own.header().round > self.rejoin.floor() && !self.rejoin.is_asking() {
                self.proposer.resume(own);
            } else {
                // It came back from a peer; what this validator made last it does not know.
                self.proposer.adopt(own.reference());
            }
        }
        for commit in recovered.pending {
            let transactions = self.transactions_of(&commit);
            let digest = commit.digest();
            self.commits.push(commit, digest, LogSeq(0), transactions);
        }
    }

    fn resume_blocks(&mut self, recovered: &Recovered) {
        let start = Now { monotonic_us: 0, wall: TimestampMs(0) };
        for (block, header) in &recovered.headers {
            if block.round <= self.dag.gc_round() {
                continue;
            }
            self.versions.saw(block.author, header.header().version);
            self.knowledge.entered(header);
            // The operator is told of all proofs at the start: [`Node::evidence`].
            self.note_equivocation(header, &mut Vec::new());
            if block.author == self.config.authority {
                self.proposer.has_named(header);
            }
            // Ascending order of rounds puts ancestors first.
            self.dag.restore(header.clone());
            self.checkpoints.keep_votes(header);
            self.follow_quorum();
            if let Some(commit) = recovered.committed.get(block) {
                self.dag.set_committed(block);
                let executed = *commit <= self.stats.executed;
                if executed {
                    // Neither payload nor verdicts are needed again; the log serves them to peers.
                    let seq = recovered.payloads.get(block).map_or(LogSeq(0), |(seq, _)| *seq);
                    self.dag.set_payload(block, Arc::new(Payload::empty()), seq);
                    self.dag.drop_payload(block);
                    continue;
                }
            }
            if self.dag.get(block).is_some_and(|entry| entry.payload_seq.is_some()) {
                continue;
            }
            match recovered.payloads.get(block).map(|(seq, bytes)| (*seq, Payload::decode(bytes.clone()))) {
                Some((seq, Ok(payload))) => {
                    let payload = Arc::new(payload);
                    self.dag.set_payload(block, Arc::clone(&payload), seq);
                    self.unverified.push((*block, payload));
                }
                Some((_, Err(error))) => panic!("payload of {block} in the log: {error}"),
                None => self.fetcher.want_payload(start, *block),
            }
        }
    }

    /// The slot of a commit's leader.
    pub(super) fn slot_of(&self, commit: &Commit) -> Option<Slot> {
        let leaders = self.committer.schedule().leaders(commit.leader.round);
        let rank = leaders.iter().position(|leader| *leader == commit.leader.author)?;
        Some(Slot { round: commit.leader.round, rank })
    }

    /// Verdicts are kept in memory alone: after a restart the pipeline looks at these payloads again.
    pub(super) fn take_unverified(&mut self) -> Vec<(BlockRef, Arc<Payload>)> {
        std::mem::take(&mut self.unverified)
    }
}
