//! The validators of an epoch, their keys and their weight.

use crate::limits::COMMITTEE_SIZE_MAX;
use crate::planted::{self, Bug};
use crate::types::{AuthorityIndex, BlockDigest, BlockRef, Epoch, NetworkId, Round, Stake};

/// A bit for each validator.
type Bits = u128;

const _: () = assert!(COMMITTEE_SIZE_MAX <= Bits::BITS as usize, "a committee fits a set of authorities");

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
    origin: String,
    authorities: Vec<Authority>,
    total: Stake,
    thresholds: Thresholds,
}

/// How much stake each step of the protocol takes. All are a quorum; each step names its own, so that a rule with other
/// numbers (a fast path, say) changes one of them and not the meaning of "quorum".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Parents of a block in the round before, and blocks that let a validator enter the next round.
    pub round_quorum: Stake,
    /// Votes that make a block of round r+2 a certificate of a leader.
    pub certificate: Stake,
    /// Certificates that commit a leader directly.
    pub commit: Stake,
    /// Blocks without a vote that skip a slot directly.
    pub skip: Stake,
    /// Votes that a block of round r+2 in an anchor's history must hold to commit a leader indirectly.
    pub indirect_commit: Stake,
    /// Equal signatures that certify a checkpoint.
    pub checkpoint: Stake,
}

impl Committee {
    /// From validators that the genesis decoder has checked: 1 to [`COMMITTEE_SIZE_MAX`], stakes ≥ 1.
    ///
    /// # Panics
    /// If there is no validator, or one too many, or the stakes overflow.
    #[must_use]
    pub fn new(epoch: Epoch, network: NetworkId, authorities: Vec<Authority>) -> Self {
        assert!(!authorities.is_empty(), "a committee has at least one authority");
        assert!(authorities.len() <= COMMITTEE_SIZE_MAX, "a committee of {} authorities", authorities.len());
        let total = Stake(authorities.iter().map(|a| a.stake.0).sum());
        let quorum = quorum(total);
        let few = Stake(fault_tolerance(total).0 + 1);
        let or = |bug, mistaken| if planted::is(bug) { mistaken } else { quorum };
        let thresholds = Thresholds {
            round_quorum: quorum,
            certificate: or(Bug::CertificateByFewer, fault_tolerance(total)),
            commit: or(Bug::CommitByOneCertificate, Stake(1)),
            skip: or(Bug::SkipByFewer, few),
            indirect_commit: or(Bug::CertificateByFewer, fault_tolerance(total)),
            checkpoint: quorum,
        };
        Self { epoch, network, origin: String::new(), authorities, total, thresholds }
    }

    /// The same committee, of the log with this origin.
    #[must_use]
    pub fn of_log(self, origin: String) -> Self {
        Self { origin, ..self }
    }

    /// Origin of the log whose checkpoints it cosigns (C2SP tlog-checkpoint).
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
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
        fault_tolerance(self.total)
    }

    /// Stake of a quorum: total − f, which is 2f+1 where total is 3f+1. Any two quorums share an honest validator.
    #[must_use]
    pub fn quorum_threshold(&self) -> Stake {
        quorum(self.total)
    }

    /// What each step of the protocol takes.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Sum of the weights of some validators.
    #[must_use]
    pub fn stake_of(&self, authorities: AuthoritySet) -> Stake {
        Stake(authorities.iter().map(|authority| self.stake(authority).0).sum())
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

fn fault_tolerance(total: Stake) -> Stake {
    Stake((total.0 - 1) / 3)
}

fn quorum(total: Stake) -> Stake {
    let quorum = total.0 - fault_tolerance(total).0;
    Stake(if planted::is(Bug::QuorumOf2f) { quorum - 1 } else { quorum })
}

/// Some of the validators of a committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AuthoritySet(Bits);

impl AuthoritySet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// Adds one; returns whether it is new.
    pub fn insert(&mut self, authority: AuthorityIndex) -> bool {
        let before = self.0;
        self.0 |= bit(authority);
        self.0 != before
    }

    /// Takes one out; returns whether it was in.
    pub fn remove(&mut self, authority: AuthorityIndex) -> bool {
        let before = self.0;
        self.0 &= !bit(authority);
        self.0 != before
    }

    /// Whether one is in.
    #[must_use]
    pub fn contains(self, authority: AuthorityIndex) -> bool {
        self.0 & bit(authority) != 0
    }

    /// How many are in.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in one or the other.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in here and not in the other.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = AuthorityIndex> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let lowest = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(AuthorityIndex::from_usize(lowest))
        })
    }
}

impl FromIterator<AuthorityIndex> for AuthoritySet {
    fn from_iter<T: IntoIterator<Item = AuthorityIndex>>(authorities: T) -> Self {
        let mut set = Self::EMPTY;
        for authority in authorities {
            set.insert(authority);
        }
        set
    }
}

fn bit(authority: AuthorityIndex) -> Bits {
    assert!(u32::from(authority.0) < Bits::BITS, "authority {authority} is in no committee");
    1 << authority.0
}

/// Adds up the stake of distinct authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StakeSum {
    authorities: AuthoritySet,
    sum: Stake,
}

impl StakeSum {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an authority, once; returns whether it was new.
    pub fn add(&mut self, committee: &Committee, index: AuthorityIndex) -> bool {
        let new = self.authorities.insert(index);
        if new {
            self.sum.0 += committee.stake(index).0;
        }
        new
    }

    /// Stake so far.
    #[must_use]
    pub fn stake(&self) -> Stake {
        self.sum
    }

    /// Whether there is as much as one of the committee's thresholds.
    #[must_use]
    pub fn reaches(&self, threshold: Stake) -> bool {
        self.sum >= threshold
    }

    /// Who was counted.
    #[must_use]
    pub fn authorities(&self) -> AuthoritySet {
        self.authorities
    }

    /// Whether an authority was counted.
    #[must_use]
    pub fn contains(&self, index: AuthorityIndex) -> bool {
        self.authorities.contains(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_authorities_are_sets() {
        let members = [127, 0, 64, 3].map(AuthorityIndex);
        let set: AuthoritySet = members.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 64, 127].map(AuthorityIndex));
        assert_eq!(set.len(), 4);
        assert!(members.iter().all(|member| set.contains(*member)) && !set.contains(AuthorityIndex(1)));
        let mut other = set;
        assert!(!other.insert(AuthorityIndex(3)) && other.insert(AuthorityIndex(1)));
        assert!(other.remove(AuthorityIndex(127)) && !other.remove(AuthorityIndex(127)));
        assert_eq!(set.union(other).len(), 5);
        assert_eq!(set.intersection(other), [0, 3, 64].map(AuthorityIndex).into_iter().collect());
        assert_eq!(set.difference(other), [127].map(AuthorityIndex).into_iter().collect());
        assert!(AuthoritySet::EMPTY.is_empty() && !set.is_empty());
    }
}
