//! Which validators lead a round.

use std::sync::Arc;

use crate::committee::Committee;
use crate::types::{AuthorityIndex, Round};

/// Assigns the leader slots of each round by stake, alike on all validators: a sample without replacement, weighted by
/// stake, from BLAKE3(network, epoch, round).
#[derive(Debug, Clone)]
pub struct LeaderSchedule {
    committee: Arc<Committee>,
    leaders_per_round: usize,
}

impl LeaderSchedule {
    /// # Panics
    /// If there are more leaders than validators; the genesis decoder refuses that.
    #[must_use]
    pub fn new(committee: Arc<Committee>, leaders_per_round: u16) -> Self {
        let leaders_per_round = usize::from(leaders_per_round);
        assert!(
            (1..=committee.size()).contains(&leaders_per_round),
            "{leaders_per_round} leaders each round"
        );
        Self { committee, leaders_per_round }
    }

    /// Number of leader slots of each round.
    #[must_use]
    pub fn leaders_per_round(&self) -> usize {
        self.leaders_per_round
    }

    /// The leaders of a round, in the order in which they are committed.
    #[must_use]
    pub fn leaders(&self, round: Round) -> Vec<AuthorityIndex> {
        let mut random = self.random(round);
        let mut left: Vec<AuthorityIndex> = self.committee.indices().collect();
        let mut stake_left = self.committee.total_stake().0;
        let mut leaders = Vec::with_capacity(self.leaders_per_round);
        while leaders.len() < self.leaders_per_round {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            // The modulo favours low values by less than 2^32 / 2^64: the sum of stakes fits 39 bits.
            let mut ticket = u64::from_be_bytes(bytes) % stake_left;
            let winner = left
                .iter()
                .position(|authority| {
                    let stake = self.committee.stake(*authority).0;
                    let wins = ticket < stake;
                    ticket = ticket.saturating_sub(stake);
                    wins
                })
                .unwrap_or_else(|| unreachable!("a ticket below the sum of the stakes falls on one of them"));
            let authority = left.remove(winner);
            stake_left -= self.committee.stake(authority).0;
            leaders.push(authority);
        }
        leaders
    }

    /// The first leader of a round: the one that proposers wait for.
    #[must_use]
    pub fn primary(&self, round: Round) -> AuthorityIndex {
        self.leaders(round)[0]
    }

    fn random(&self, round: Round) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"salus/leaders/v1\0");
        hasher.update(&self.committee.network().0);
        hasher.update(&self.committee.epoch().0.to_be_bytes());
        hasher.update(&round.0.to_be_bytes());
        hasher.finalize_xof()
    }
}
