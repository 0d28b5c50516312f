//! Names and byte formats of everything that validators exchange, sign, store or prove.

mod body;
mod client;
mod header;
mod kind;
mod message;
mod payload;
mod stub;
mod system;
mod transaction;

pub use body::*;
pub use client::*;
pub use header::*;
pub use kind::*;
pub use message::*;
pub use payload::*;
pub use stub::*;
pub use system::*;
pub use transaction::*;

use std::fmt;

/// Declares a newtype over an integer that orders and prints as the integer does.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Declares a newtype over 32 bytes that prints as hexadecimal, shortened by `{:?}`.
macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0[..4]))
            }
        }

        impl std::str::FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

number!(
    /// Height of a block in the DAG. Genesis blocks have round 0.
    Round, u64
);
number!(
    /// Generation of the committee.
    Epoch, u32
);
number!(
    /// Position of a validator in the committee.
    AuthorityIndex, u16
);
number!(
    /// Voting weight.
    Stake, u64
);
number!(
    /// An organisation of the network: hospital, authority, insurer.
    OrgId, u32
);
number!(
    /// A key of an organisation; never given twice.
    KeyId, u32
);
number!(
    /// Unix time in milliseconds, UTC.
    TimestampMs, u64
);
number!(
    /// Position of a stub in the Merkle log.
    LeafIndex, u64
);
number!(
    /// Number of a commit; the first is 1.
    CommitIndex, u64
);
number!(
    /// Sequence number of a record in the block log, given by the node.
    LogSeq, u64
);

bytes32!(
    /// SHA-256 of all bytes of a transaction, signature included.
    TxId
);
bytes32!(
    /// BLAKE3 of a header without its signature.
    BlockDigest
);
bytes32!(
    /// BLAKE3 digest of anything else: payload root, commit chain, state.
    Digest
);
bytes32!(
    /// SHA-256 hash of a node of the Merkle log.
    NodeHash
);

impl AsRef<[u8; 32]> for NodeHash {
    fn as_ref(&self) -> &[u8; 32] {
        &self.0
    }
}

/// First eight bytes of the BLAKE3 of the genesis file: no signature made for one network holds on another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NetworkId(pub [u8; 8]);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Round {
    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The round before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl AuthorityIndex {
    /// As an index into a vector with one entry for each authority.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }

    /// From a position in the committee, which is bounded by [`crate::limits::COMMITTEE_SIZE_MAX`].
    #[must_use]
    pub fn from_usize(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or_else(|_| panic!("authority index {index} exceeds 16 bits")))
    }
}

/// Names one block: where it stands and what it says. Orders by (round, author, digest), the order of linearisation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockRef {
    /// Round of the block.
    pub round: Round,
    /// Who made it.
    pub author: AuthorityIndex,
    /// BLAKE3 of its header.
    pub digest: BlockDigest,
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "B{}[{}]{:?}", self.round, self.author, self.digest)
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
