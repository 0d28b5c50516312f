//! Turns committed leaders into numbered, hash-chained commits.

use thiserror::Error;

use crate::codec::{DecodeError, Reader, Writer};
use crate::dag::DagState;
use crate::planted::{self, Bug};
use crate::types::{BlockRef, CommitIndex, Digest, Round, TimestampMs, put_block_ref, read_block_ref};

/// Version byte of the commit record.
const COMMIT_VERSION: u8 = 1;

/// A leader and its part of the order.
///
/// Layout as a log record: `ver1 index8 leader42 time8 previous32 n4 {block42}*`, n at least 1. Its digest is
/// BLAKE3("salus/commit/v1\0" ‖ record), which the next commit names as `previous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Number, from 1 without gaps.
    pub index: CommitIndex,
    /// The leader block.
    pub leader: BlockRef,
    /// Block time: weighted median of the leader's parents, never going back.
    pub time: TimestampMs,
    /// Digest of the commit before; zero for the first.
    pub previous: Digest,
    /// Blocks that it orders, ascending by (round, author, digest); the leader is the last.
    pub blocks: Vec<BlockRef>,
}

/// Why a commit record of the log does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("commit record: {0}")]
pub struct CommitDecodeError(#[from] DecodeError);

impl Commit {
    /// The log record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(95 + 42 * self.blocks.len());
        out.put_u8(COMMIT_VERSION);
        out.put_u64(self.index.0);
        put_block_ref(&mut out, &self.leader);
        out.put_u64(self.time.0);
        out.put_bytes(&self.previous.0);
        out.put_len_u32(self.blocks.len());
        for block in &self.blocks {
            put_block_ref(&mut out, block);
        }
        out
    }

    /// Decodes a log record.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommitDecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("commit version")?;
        if version != COMMIT_VERSION {
            return Err(r.bad_value("commit version", 1, version.into()).into());
        }
        let index = CommitIndex(r.u64("commit index")?);
        let leader = read_block_ref(&mut r)?;
        let time = TimestampMs(r.u64("commit time")?);
        let previous = Digest(r.array("previous commit")?);
        let n = r.bounded("block count", r.remaining() / 42)?;
        let blocks = (0..n).map(|_| read_block_ref(&mut r)).collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { index, leader, time, previous, blocks })
    }

    /// Digest of the chain of commits up to and with this one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"salus/commit/v1\0");
        hasher.update(&self.encode());
        Digest(hasher.finalize().into())
    }
}

/// Where the chain of commits stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linearizer {
    index: CommitIndex,
    digest: Digest,
    time: TimestampMs,
    leader_round: Round,
    gc_depth: u64,
}

impl Linearizer {
    /// Before the first commit of a network made at `created`.
    #[must_use]
    pub fn new(created: TimestampMs, gc_depth: u64) -> Self {
        Self {
            index: CommitIndex(0),
            digest: Digest::default(),
            time: created,
            leader_round: Round(0),
            gc_depth,
        }
    }

    /// Block time of the last commit; before the first, when the network was made.
    #[must_use]
    pub fn time(&self) -> TimestampMs {
        self.time
    }

    /// Number of the last commit.
    #[must_use]
    pub fn index(&self) -> CommitIndex {
        self.index
    }

    /// Digest of the last commit; zero before the first.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Blocks of this round and below enter no commit any more: `gc_depth` rounds below the last committed leader.
    #[must_use]
    pub fn gc_round(&self) -> Round {
        Round(self.leader_round.0.saturating_sub(self.gc_depth))
    }

    /// Rounds that garbage collection stays below the last committed leader.
    #[must_use]
    pub fn gc_depth(&self) -> u64 {
        self.gc_depth
    }

    /// Goes on behind a commit that this node made before a restart.
    pub fn resume(&mut self, commit: &Commit) {
        self.index = commit.index;
        self.digest = commit.digest();
        self.time = commit.time;
        self.leader_round = commit.leader.round;
    }

    /// The commit of the next leader: its history above the garbage-collection round that no commit holds yet. Marks
    /// its blocks committed.
    pub fn commit(&mut self, dag: &mut DagState, leader: BlockRef) -> Commit {
        let blocks = self.take_history(dag, leader);
        let median = median_time(dag, &leader).unwrap_or(self.time);
        let time = if planted::is(Bug::TimeGoesBack) { median } else { self.time.max(median) };
        let commit =
            Commit { index: CommitIndex(self.index.0 + 1), leader, time, previous: self.digest, blocks };
        self.resume(&commit);
        commit
    }

    /// Takes over a commit that others decided and certified: the one behind the last, with all of its blocks in the DAG and
    /// none of them in a commit.
    ///
    /// # Panics
    /// If it is not.
    pub fn apply(&mut self, dag: &mut DagState, commit: &Commit) {
        assert_eq!(
            (commit.index.0, commit.previous),
            (self.index.0 + 1, self.digest),
            "commits form a chain"
        );
        for block in &commit.blocks {
            assert!(dag.contains(block), "{block} was applied before it came");
            dag.set_committed(block);
        }
        self.resume(commit);
    }

    fn take_history(&self, dag: &mut DagState, leader: BlockRef) -> Vec<BlockRef> {
        let gc_round = self.gc_round();
        let mut blocks = Vec::new();
        let mut stack = vec![leader];
        while let Some(block) = stack.pop() {
            let Some(entry) = dag.get(&block) else { continue };
            if entry.committed {
                continue;
            }
            stack.extend(entry.header.header().ancestors.iter().filter(|a| a.round > gc_round));
            dag.set_committed(&block);
            blocks.push(block);
        }
        blocks.sort_unstable();
        if planted::is(Bug::ArrivalOrder) {
            blocks.sort_by_key(|block| dag.get(block).and_then(|entry| entry.payload_seq));
        }
        blocks
    }
}

/// Median, weighted by stake, of the times of the leader's parents in the round before it. A quorum of the stake is
/// there, so neither end can be moved by fewer than f+1. `None` for a leader of round 1, whose parents are genesis.
fn median_time(dag: &DagState, leader: &BlockRef) -> Option<TimestampMs> {
    let entry = dag.get(leader)?;
    let mut times: Vec<(TimestampMs, u64)> = entry
        .header
        .header()
        .ancestors
        .iter()
        .filter(|a| a.round.next() == leader.round)
        .filter_map(|a| Some((dag.get(a)?.header.header().time, dag.committee().stake(a.author).0)))
        .collect();
    times.sort_unstable();
    if planted::is(Bug::TimeOfTheLast) {
        return times.last().map(|(time, _)| *time);
    }
    let total: u64 = times.iter().map(|(_, stake)| stake).sum();
    let mut below = 0;
    times.into_iter().find_map(|(time, stake)| {
        below += stake;
        (2 * below > total).then_some(time)
    })
}
