//! Pace of rounds and of requests.

use crate::types::Round;

/// Rounds that it takes to commit a block: the one that it is made in, one that votes and one that certifies.
pub const COMMIT_ROUNDS: u64 = 3;

/// Pace of rounds and of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Least wait for a leader's block, 2Δ, before the node has measured how late they come.
    pub leader_timeout_min_us: u64,
    /// Longest, whatever was measured and however often it was in vain.
    pub leader_timeout_max_us: u64,
    /// Least time between the first own blocks of two beats while there is something to order.
    pub beat_us: u64,
    /// Rounds of a beat, at least 1: they follow each other at once and then pause together. With [`COMMIT_ROUNDS`], a
    /// transaction waits for part of one pause; were they evenly spread, for part of one and for two more.
    pub beat_rounds: u64,
    /// Least time between two own blocks while there is nothing to order.
    pub idle_round_interval_us: u64,
    /// Wait for an answer before another peer is asked.
    pub fetch_timeout_us: u64,
    /// Wait for a pushed payload before it is asked for.
    pub payload_grace_us: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            leader_timeout_min_us: 100_000,
            leader_timeout_max_us: 10_000_000,
            beat_us: 4_000,
            beat_rounds: 1,
            idle_round_interval_us: 100_000,
            fetch_timeout_us: 500_000,
            payload_grace_us: 60_000,
        }
    }
}

impl Pace {
    /// Whether a round is the first of a beat. A function of the round, so that all validators pause before the same ones.
    pub(super) fn begins_beat(&self, round: Round) -> bool {
        round.0.is_multiple_of(self.beat_rounds)
    }
}
