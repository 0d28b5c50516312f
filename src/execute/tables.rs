//! Where the state lies in the store: one byte for the table, then the entry's name, big-endian so that entries scan in
//! order.
//!
//! Changes become visible in the order of these bytes: leaves before what points to them.
//!
//! | table | key behind the byte | value | bytes, key and value |
//! |---|---|---|---|
//! | `f` format | | magic, version, network | 25, once |
//! | `h` head | | [`HeadRecord`] | 241, once |
//! | `d` indexed | | files of ids (`ids/mod.rs`) up to which `w` and `b` hold everything | 3 + 8 for each file, once |
//! | `l` leaves | chunk8 | 32 [`LeafRecord`]s (`leaves.rs`) | 110 for each executed transaction, and 9 for 32 |
//! | `m` last leaves | | chunk8, and the [`LeafRecord`]s of the chunk that is not full | up to 3,419, once |
//! | `s` superseded | leaf8 | leaf8 of the version that replaced it | 17 for each record version replaced |
//! | `n` tree node | level1 index8 | hash of a full hash tile of the level below | 42 for each 256 leaves |
//! | `x` skipped | id32 | [`SkipRecord`] | 42 for each skipped transaction whose signature holds |
//! | `c` consent | handle32 | [`super::ConsentState`] | 84 + 13 for each provision, + 32 with a patient's key, + 20 revoked |
//! | `k` key | org4 key4 | [`super::KeyState`] | 60 |
//! | `o` organisation | org4 | [`super::OrgState`] | 76 + name |
//! | `p` proposal | org4 body-hash32 | votes | 39 + 4 for each vote |
//! | `w` replay window | org4 key4 | first word8, words2 | 19 for each key used |
//! | `b` bits of a window | org4 key4 page8 | 512 bits | 81 for each page of a window with a gap |
//! | `a` tally | author2 | [`super::Tally`] | 27 for each validator |
//! | `i` trie | level1 digits | page of the authenticated map (`trie.rs`) | about 80 for each consent, key, organisation and proposal |
//!
//! So an executed transaction costs 110 bytes and 16 in the files of ids, whatever its own length, and more only where it changes
//! the state; a commit writes up to 3.4 KiB of leaves once more. A store's own overhead comes on top.

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::StorageError;
use crate::execute::{LedgerHead, SkipReason};
use crate::types::{
    AuthorityIndex, CommitIndex, Digest, KeyId, LeafIndex, LogSeq, NodeHash, OrgId, STUB_BYTES, Stub,
    TimestampMs, TxId,
};

pub(super) const FORMAT: u8 = b'f';
pub(super) const HEAD: u8 = b'h';
pub(super) const INDEXED: u8 = b'd';
/// First byte of the keys of leaves, each of which is written once, in ascending order: a store may keep them apart.
pub const LEAF: u8 = b'l';
/// Behind the full chunks, which are visible before it (see [`super::Store::apply`]): who finds here that a chunk has become full finds
/// that chunk.
pub(super) const LAST_LEAVES: u8 = b'm';
const _: () = assert!(LEAF < LAST_LEAVES);
pub(super) const SUPERSEDED: u8 = b's';
pub(super) const NODE: u8 = b'n';
pub(super) const SKIPPED: u8 = b'x';
pub(super) const CONSENT: u8 = b'c';
pub(super) const KEY: u8 = b'k';
pub(super) const ORG: u8 = b'o';
pub(super) const PROPOSAL: u8 = b'p';
pub(super) const WINDOW: u8 = b'w';
pub(super) const WINDOW_BITS: u8 = b'b';
pub(super) const TALLY: u8 = b'a';
pub(super) const TRIE: u8 = b'i';

/// Puts a table's byte and the parts of a name together.
fn join<const N: usize>(table: u8, parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    key[0] = table;
    let mut at = 1;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, N, "a key of table {table}");
    key
}

pub(super) fn leaves(chunk: u64) -> [u8; 9] {
    join(LEAF, &[&chunk.to_be_bytes()])
}

pub(super) fn superseded(leaf: LeafIndex) -> [u8; 9] {
    join(SUPERSEDED, &[&leaf.0.to_be_bytes()])
}

pub(super) fn node(level: u8, index: u64) -> [u8; 10] {
    join(NODE, &[&[level], &index.to_be_bytes()])
}

pub(super) fn skipped(id: &TxId) -> [u8; 33] {
    join(SKIPPED, &[&id.0])
}

pub(super) fn consent(handle: &[u8; 32]) -> [u8; 33] {
    join(CONSENT, &[handle])
}

pub(super) fn key((org, key): (OrgId, KeyId)) -> [u8; 9] {
    join(KEY, &[&org.0.to_be_bytes(), &key.0.to_be_bytes()])
}

pub(super) fn org(org: OrgId) -> [u8; 5] {
    join(ORG, &[&org.0.to_be_bytes()])
}

pub(super) fn proposals(org: OrgId) -> [u8; 5] {
    join(PROPOSAL, &[&org.0.to_be_bytes()])
}

pub(super) fn proposal(org: OrgId, body: &Digest) -> [u8; 37] {
    join(PROPOSAL, &[&org.0.to_be_bytes(), &body.0])
}

pub(super) fn window((org, key): (OrgId, KeyId)) -> [u8; 9] {
    join(WINDOW, &[&org.0.to_be_bytes(), &key.0.to_be_bytes()])
}

pub(super) fn window_pages((org, key): (OrgId, KeyId)) -> [u8; 9] {
    join(WINDOW_BITS, &[&org.0.to_be_bytes(), &key.0.to_be_bytes()])
}

pub(super) fn window_page((org, key): (OrgId, KeyId), page: u64) -> [u8; 17] {
    join(WINDOW_BITS, &[&org.0.to_be_bytes(), &key.0.to_be_bytes(), &page.to_be_bytes()])
}

pub(super) fn tally(author: AuthorityIndex) -> [u8; 3] {
    join(TALLY, &[&author.0.to_be_bytes()])
}

/// The error for an entry that this program would not have written.
pub(super) fn damaged(table: &str, key: &[u8], why: &dyn std::fmt::Display) -> StorageError {
    StorageError::Damaged {
        path: format!("{table} entry {}", hex::encode(key)),
        at: 0,
        why: format!("{why}; remove the state folder, so that it is built again from the block log"),
    }
}

/// A value with one encoding.
pub(super) trait Record: Sized {
    /// What messages call it.
    const NAME: &'static str;

    fn encode(&self) -> Vec<u8>;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Decodes what a store holds under `key`.
    fn stored(key: &[u8], bytes: Option<Vec<u8>>) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = bytes else { return Ok(None) };
        let mut r = Reader::new(&bytes);
        Self::read(&mut r)
            .and_then(|record| r.finish().map(|()| record))
            .map(Some)
            .map_err(|error| damaged(Self::NAME, key, &error))
    }
}

/// The head and what decides when the next checkpoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadRecord {
    pub(super) head: LedgerHead,
    /// The last head that was due as a checkpoint.
    pub(super) checkpoint: LedgerHead,
}

impl Record for HeadRecord {
    const NAME: &'static str = "head";

    /// `commit8 digest32 time8 size8 root32 state-root32` of the head, then of the checkpoint.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(240);
        for head in [&self.head, &self.checkpoint] {
            out.put_u64(head.commit.0);
            out.put_bytes(&head.digest.0);
            out.put_u64(head.time.0);
            out.put_u64(head.tree_size);
            out.put_bytes(&head.root.0);
            out.put_bytes(&head.state_root.0);
        }
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { head: read_head(r)?, checkpoint: read_head(r)? })
    }
}

fn read_head(r: &mut Reader<'_>) -> Result<LedgerHead, DecodeError> {
    Ok(LedgerHead {
        commit: CommitIndex(r.u64("commit")?),
        digest: Digest(r.array("commit digest")?),
        time: TimestampMs(r.u64("block time")?),
        tree_size: r.u64("tree size")?,
        root: NodeHash(r.array("root")?),
        state_root: Digest(r.array("state root")?),
    })
}

/// Bytes of a [`LeafRecord`].
pub(super) const LEAF_BYTES: usize = STUB_BYTES + 56;

/// A leaf of the Merkle log, and where the block log holds the transaction behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeafRecord {
    pub(super) stub: [u8; STUB_BYTES],
    pub(super) payload_seq: LogSeq,
    /// Position in the payload.
    pub(super) index: u32,
    /// Key of the stub's organisation that signed the transaction, and the number that it used.
    pub(super) key: KeyId,
    pub(super) seq: u64,
    pub(super) id: TxId,
}

impl LeafRecord {
    /// `stub54 payload-seq8 index4 key4 seq8 id32`.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.stub);
        out.put_u64(self.payload_seq.0);
        out.put_u32(self.index);
        out.put_u32(self.key.0);
        out.put_u64(self.seq);
        out.put_bytes(&self.id.0);
    }

    /// The stub of the leaf that this is the record of.
    pub(super) fn stub(&self, leaf: LeafIndex) -> Result<Stub, StorageError> {
        Stub::decode(&self.stub).map_err(|error| damaged("leaf", &leaf.0.to_be_bytes(), &error))
    }

    /// Decodes a record of the entry under `key`.
    pub(super) fn decode(key: &[u8], bytes: &[u8; LEAF_BYTES]) -> Result<Self, StorageError> {
        let mut r = Reader::new(bytes);
        let mut read = || -> Result<Self, DecodeError> {
            let stub = r.array("stub")?;
            let payload_seq = LogSeq(r.u64("payload sequence number")?);
            let index = r.u32("index in the payload")?;
            let (key, seq) = (KeyId(r.u32("key")?), r.u64("sequence number")?);
            Ok(Self { stub, payload_seq, index, key, seq, id: TxId(r.array("transaction id")?) })
        };
        read().map_err(|error| damaged("leaf", key, &error))
    }
}

impl Record for LeafIndex {
    const NAME: &'static str = "leaf index";

    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u64("leaf").map(Self)
    }
}

/// Why and where a transaction was skipped last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SkipRecord {
    pub(super) reason: SkipReason,
    pub(super) commit: CommitIndex,
}

impl Record for SkipRecord {
    const NAME: &'static str = "skipped transaction";

    /// `reason1 commit8`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9);
        out.put_u8(self.reason.code());
        out.put_u64(self.commit.0);
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = r.u8("skip reason")?;
        let reason = SkipReason::from_code(code).ok_or_else(|| r.bad_value("skip reason", 1, code.into()))?;
        Ok(Self { reason, commit: CommitIndex(r.u64("commit")?) })
    }
}
