//! The validators of an epoch, their keys and their weight.

use crate::types::{AuthorityIndex, BlockDigest, BlockRef, Epoch, NetworkId, Round, Stake};

/// One validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Name as people call it; part of its cosigner name.
    pub name: String,
    /// Voting weight, at least 1.
    pub stake: Stake,
    /// `host:port` at which peers reach it over QUIC.
    pub address: String,
    /// Identity in TLS between validators.
    pub network_key: [u8; 32],
    /// Signs headers.
    pub consensus_key: [u8; 32],
    /// Cosigns checkpoints (C2SP `cosignature/v1`).
    pub cosign_key: [u8; 32],
    /// Signs checkpoints as the log (signed note type 0x01).
    pub log_key: [u8; 32],
}

/// The validators of one epoch, in the order that gives them their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    epoch: Epoch,
    network: NetworkId,
    authorities: Vec<Authority>,
    total: Stake,
}

impl Committee {
    /// From validators that the genesis decoder has checked: at least one, stakes ≥ 1, sum within 32 bits.
    ///
    /// # Panics
    /// If there is no validator or the stakes overflow.
    #[must_use]
    pub fn new(epoch: Epoch, network: NetworkId, authorities: Vec<Authority>) -> Self {
        assert!(!authorities.is_empty(), "a committee has at least one authority");
        let total = Stake(authorities.iter().map(|a| a.stake.0).sum());
        Self { epoch, network, authorities, total }
    }

    /// Generation of this committee.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Network that it runs.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Number of validators.
    #[must_use]
    pub fn size(&self) -> usize {
        self.authorities.len()
    }

    /// Whether an index names a validator.
    #[must_use]
    pub fn contains(&self, index: AuthorityIndex) -> bool {
        index.as_usize() < self.authorities.len()
    }

    /// The validator at an index that is known to be in the committee.
    #[must_use]
    pub fn authority(&self, index: AuthorityIndex) -> &Authority {
        &self.authorities[index.as_usize()]
    }

    /// All validators with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (AuthorityIndex, &Authority)> {
        self.authorities.iter().enumerate().map(|(i, a)| (AuthorityIndex::from_usize(i), a))
    }

    /// All indices.
    pub fn indices(&self) -> impl Iterator<Item = AuthorityIndex> + use<> {
        (0..self.authorities.len()).map(AuthorityIndex::from_usize)
    }

    /// Weight of a validator.
    #[must_use]
    pub fn stake(&self, index: AuthorityIndex) -> Stake {
        self.authority(index).stake
    }

    /// Sum of all weights.
    #[must_use]
    pub fn total_stake(&self) -> Stake {
        self.total
    }

    /// Most stake that may be Byzantine: the largest f with 3f + 1 ≤ total.
    #[must_use]
    pub fn fault_tolerance(&self) -> Stake {
        Stake((self.total.0 - 1) / 3)
    }

    /// Stake of a quorum: total − f, which is 2f+1 where total is 3f+1. Any two quorums share an honest validator.
    #[must_use]
    pub fn quorum_threshold(&self) -> Stake {
        Stake(self.total.0 - self.fault_tolerance().0)
    }

    /// Stake that holds at least one honest validator: f+1.
    #[must_use]
    pub fn validity_threshold(&self) -> Stake {
        Stake(self.fault_tolerance().0 + 1)
    }

    /// The block of round 0 that an author's first block builds on. Nobody makes or sends it.
    #[must_use]
    pub fn genesis_block(&self, author: AuthorityIndex) -> BlockRef {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"salus/genesis-block/v1\0");
        hasher.update(&self.network.0);
        hasher.update(&self.epoch.0.to_be_bytes());
        hasher.update(&author.0.to_be_bytes());
        BlockRef { round: Round(0), author, digest: BlockDigest(hasher.finalize().into()) }
    }
}

/// Adds up the stake of distinct authorities.
#[derive(Debug, Clone)]
pub struct StakeSum {
    seen: Vec<bool>,
    sum: Stake,
}

impl StakeSum {
    /// Nobody yet.
    #[must_use]
    pub fn new(committee: &Committee) -> Self {
        Self { seen: vec![false; committee.size()], sum: Stake(0) }
    }

    /// Counts an authority, once; returns whether it was new.
    pub fn add(&mut self, committee: &Committee, index: AuthorityIndex) -> bool {
        let seen = &mut self.seen[index.as_usize()];
        if *seen {
            return false;
        }
        *seen = true;
        self.sum.0 += committee.stake(index).0;
        true
    }

    /// Stake so far.
    #[must_use]
    pub fn stake(&self) -> Stake {
        self.sum
    }

    /// Whether a quorum is reached.
    #[must_use]
    pub fn is_quorum(&self, committee: &Committee) -> bool {
        self.sum >= committee.quorum_threshold()
    }

    /// Whether an authority was counted.
    #[must_use]
    pub fn contains(&self, index: AuthorityIndex) -> bool {
        self.seen[index.as_usize()]
    }
}
