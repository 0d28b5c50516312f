//! System messages: what validators tell each other inside headers.

use super::{
    BlockRef, CommitIndex, Digest, Epoch, NodeHash, SIGNATURE_BYTES, SIGNED_REFERENCE_BYTES, put_block_ref,
    read_block_ref, signed_reference,
};
use crate::codec::{DecodeError, Reader, Writer};

/// What validators tell each other inside headers. A header holds them in ascending order of kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemMessage {
    /// The author's signature of a checkpoint of the Merkle log.
    CheckpointVote(CheckpointVote),
    /// The author's word on the chain of commits; headers of version 2.
    CommitVote(CommitVote),
    /// Proof that a validator made two blocks of one round; headers of version 2.
    Evidence(EquivocationProof),
}

/// Kinds of system messages, as their first byte says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SystemKind {
    /// [`CheckpointVote`].
    CheckpointVote = 1,
    /// [`CommitVote`].
    CommitVote = 2,
    /// [`EquivocationProof`].
    Evidence = 3,
}

/// One validator's word on the state of the ledger after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointVote {
    /// Leaves in the Merkle log.
    pub tree_size: u64,
    /// Its root.
    pub root: NodeHash,
    /// Root of the authenticated state.
    pub state_root: Digest,
    /// Last commit executed.
    pub commit: CommitIndex,
    /// Seconds since the epoch at which the cosignature was made.
    pub cosigned_at: u64,
    /// `cosignature/v1` (C2SP tlog-cosignature) of the checkpoint's text by the author's cosigning key.
    pub cosignature: [u8; SIGNATURE_BYTES],
}

/// That the author decided a commit. The signed headers of a quorum that hold the same vote are a **commit certificate**: it
/// proves this commit, and by the chain of digests every one before it.
///
/// Layout: `index8 digest32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitVote {
    /// The commit.
    pub index: CommitIndex,
    /// Its digest.
    pub digest: Digest,
}

/// Two blocks of one author and round, each with the author's signature of its reference: nobody else can make it, and
/// whoever holds it needs nothing more to know that the author broke the protocol.
///
/// Layout: `epoch4`, then `{round8 author2 digest32 signature64}` twice, the lower digest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EquivocationProof {
    epoch: Epoch,
    first: SignedReference,
    second: SignedReference,
}

/// A block's reference and its author's signature of it, as headers of version 2 have it, but for the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedReference {
    /// The block.
    pub block: BlockRef,
    /// Signature of epoch and reference by the author's consensus key.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl EquivocationProof {
    /// Puts two references of an epoch together; `None` unless they are two blocks of one author and round.
    #[must_use]
    pub fn new(epoch: Epoch, a: SignedReference, b: SignedReference) -> Option<Self> {
        let one_slot = (a.block.round, a.block.author) == (b.block.round, b.block.author);
        if !one_slot || a.block.digest == b.block.digest {
            return None;
        }
        let (first, second) = if a.block.digest < b.block.digest { (a, b) } else { (b, a) };
        Some(Self { epoch, first, second })
    }

    /// The two, the lower digest first. Both are of one author and round.
    #[must_use]
    pub fn references(&self) -> [&SignedReference; 2] {
        [&self.first, &self.second]
    }

    /// The epoch that both signatures cover.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// One of the two blocks: its author is who is accused.
    #[must_use]
    pub fn block(&self) -> BlockRef {
        self.first.block
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = Epoch(r.u32("evidence epoch")?);
        let mut read = || {
            let block = read_block_ref(r)?;
            Ok(SignedReference { block, signature: r.array("evidence signature")? })
        };
        let (first, second) = (read()?, read()?);
        let at = r.position();
        let proof = Self::new(epoch, first, second).filter(|proof| proof.first == first);
        proof.ok_or(DecodeError::NotCanonical { what: "evidence of two blocks of one slot", at })
    }
}

impl SignedReference {
    /// What the signature covers (behind the domain prefix).
    #[must_use]
    pub fn signed_bytes(&self, epoch: Epoch) -> [u8; SIGNED_REFERENCE_BYTES] {
        signed_reference(epoch, &self.block)
    }
}

impl SystemMessage {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SystemKind {
        match self {
            Self::CheckpointVote(_) => SystemKind::CheckpointVote,
            Self::CommitVote(_) => SystemKind::CommitVote,
            Self::Evidence(_) => SystemKind::Evidence,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(224);
        out.put_u8(self.kind() as u8);
        match self {
            Self::CheckpointVote(vote) => {
                out.put_u64(vote.tree_size);
                out.put_bytes(&vote.root.0);
                out.put_bytes(&vote.state_root.0);
                out.put_u64(vote.commit.0);
                out.put_u64(vote.cosigned_at);
                out.put_bytes(&vote.cosignature);
            }
            Self::CommitVote(vote) => {
                out.put_u64(vote.index.0);
                out.put_bytes(&vote.digest.0);
            }
            Self::Evidence(proof) => {
                out.put_u32(proof.epoch.0);
                for reference in proof.references() {
                    put_block_ref(&mut out, &reference.block);
                    out.put_bytes(&reference.signature);
                }
            }
        }
        out
    }

    /// Decodes a message of a header of the given version.
    pub(super) fn decode(bytes: &[u8], version: u8) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let tag = r.u8("system message type")?;
        let message = match tag {
            1 => Self::CheckpointVote(CheckpointVote {
                tree_size: r.u64("checkpoint tree size")?,
                root: NodeHash(r.array("checkpoint root")?),
                state_root: Digest(r.array("checkpoint state root")?),
                commit: CommitIndex(r.u64("checkpoint commit")?),
                cosigned_at: r.u64("checkpoint time")?,
                cosignature: r.array("checkpoint cosignature")?,
            }),
            2 if version >= 2 => Self::CommitVote(CommitVote {
                index: CommitIndex(r.u64("commit vote index")?),
                digest: Digest(r.array("commit vote digest")?),
            }),
            3 if version >= 2 => Self::Evidence(EquivocationProof::decode(&mut r)?),
            _ => return Err(r.bad_value("system message type", 1, tag.into())),
        };
        r.finish()?;
        Ok(message)
    }
}
