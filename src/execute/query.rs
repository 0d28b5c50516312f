//! The read side: what clients ask, answered while commits are applied.

use super::ids::SharedIds;
use super::leaves;
use super::state::{ConsentState, KeyState, OrgState, Tally, Votes};
use super::store::{Read, Store};
use super::tables::{self, HeadRecord, LeafRecord, Record, SkipRecord};
use super::trie::{self, StateProof};
use super::{LedgerHead, SkipReason, StateTiles};
use crate::error::StorageError;
use crate::types::{
    AuthorityIndex, CommitIndex, Digest, KeyId, Kind, LeafIndex, LogSeq, OrgId, STUB_BYTES, Stub, TxId,
};

/// Most versions that one question about a record walks over.
pub const RECORD_VERSIONS_MAX: usize = 1_024;
/// Most proposals that an answer about an organisation lists.
pub const PROPOSALS_MAX: usize = 64;

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatus {
    /// It was not executed, and not skipped after its signature was found valid. It may wait in a queue, or nobody has it.
    Unknown,
    /// It was executed.
    Executed(Leaf),
    /// It was skipped, and not executed by another way since. As long as its time allows it may still be.
    Skipped {
        /// Why, the last time.
        reason: SkipReason,
        /// In which commit, the last time.
        commit: CommitIndex,
    },
}

/// A leaf of the Merkle log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its position.
    pub index: LeafIndex,
    /// The leaf's data.
    pub stub: [u8; STUB_BYTES],
    /// Where the block log holds the payload with its transaction.
    pub payload_seq: LogSeq,
    /// Position of the transaction in that payload.
    pub payload_index: usize,
}

impl Leaf {
    fn new(index: LeafIndex, record: &LeafRecord) -> Self {
        let &LeafRecord { stub, payload_seq, index: payload_index, .. } = record;
        Self { index, stub, payload_seq, payload_index: payload_index as usize }
    }
}

/// Where one version of a record stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordStatus {
    /// The version that was asked for.
    pub version: Leaf,
    /// The version that replaced it.
    pub superseded_by: Option<LeafIndex>,
    /// The newest version; `None` if more than [`RECORD_VERSIONS_MAX`] lie between.
    pub head: Option<LeafIndex>,
}

/// An organisation, or the votes for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrgStatus {
    /// Nobody voted for it.
    Unknown,
    /// Not admitted yet.
    Proposed(Vec<Proposal>),
    /// Admitted.
    Admitted(OrgState),
}

/// The votes for one body of ORG_ADMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// BLAKE3 of the body.
    pub body: Digest,
    /// The members that voted for it.
    pub votes: Votes,
}

/// Answers questions about the executed state, from any thread. Each answer is as of some commit, the newest when it
/// was asked; two answers may be of different commits.
#[derive(Debug, Clone)]
pub struct LedgerReader<S> {
    store: S,
    ids: SharedIds,
}

impl<S: Store> LedgerReader<S> {
    /// Reads a store that an executor has opened, and what that executor keeps in memory.
    #[must_use]
    pub(super) fn new(store: S, ids: SharedIds) -> Self {
        Self { store, ids }
    }

    /// The ledger after the last commit.
    ///
    /// # Errors
    /// If the store cannot be read, as all questions here.
    pub fn head(&self) -> Result<LedgerHead, StorageError> {
        head(&self.store)
    }

    /// What became of a transaction.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn transaction(&self, id: &TxId) -> Result<TransactionStatus, StorageError> {
        let mut found = None;
        self.ids.find(&self.store, id, |index| {
            let record = leaves::read(&self.store, index)?.filter(|record| record.id == *id);
            found = record.map(|record| Leaf::new(index, &record));
            Ok(found.is_some())
        })?;
        if let Some(leaf) = found {
            return Ok(TransactionStatus::Executed(leaf));
        }
        let key = tables::skipped(id);
        Ok(match SkipRecord::stored(&key, self.store.get(&key)?)? {
            Some(SkipRecord { reason, commit }) => TransactionStatus::Skipped { reason, commit },
            None => TransactionStatus::Unknown,
        })
    }

    /// A leaf of the log.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn leaf(&self, index: LeafIndex) -> Result<Option<Leaf>, StorageError> {
        leaf(&self.store, index)
    }

    /// A version of a record and the newest one; `None` if the leaf is none of a record.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn record(&self, index: LeafIndex) -> Result<Option<RecordStatus>, StorageError> {
        let snapshot = self.store.snapshot();
        let Some(version) = leaf(&snapshot, index)? else { return Ok(None) };
        let stub = Stub::decode(&version.stub)
            .map_err(|error| tables::damaged("leaf", &index.0.to_be_bytes(), &error))?;
        if stub.kind != Kind::RecordAnchor {
            return Ok(None);
        }
        let next = |leaf| {
            let key = tables::superseded(leaf);
            LeafIndex::stored(&key, snapshot.get(&key)?)
        };
        let superseded_by = next(index)?;
        let mut newest = index;
        let mut following = superseded_by;
        for _ in 0..RECORD_VERSIONS_MAX {
            let Some(leaf) = following else { break };
            newest = leaf;
            following = next(leaf)?;
        }
        let head = following.is_none().then_some(newest);
        Ok(Some(RecordStatus { version, superseded_by, head }))
    }

    /// A consent by its handle.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn consent(&self, handle: &[u8; 32]) -> Result<Option<ConsentState>, StorageError> {
        self.find(&tables::consent(handle))
    }

    /// A key.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn key(&self, org: OrgId, key: KeyId) -> Result<Option<KeyState>, StorageError> {
        self.find(&tables::key((org, key)))
    }

    /// An organisation, or the first [`PROPOSALS_MAX`] proposals to admit one under that number.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn org(&self, org: OrgId) -> Result<OrgStatus, StorageError> {
        if let Some(state) = self.find(&tables::org(org))? {
            return Ok(OrgStatus::Admitted(state));
        }
        let found = self.store.scan(&tables::proposals(org), &[], PROPOSALS_MAX)?;
        if found.is_empty() {
            return Ok(OrgStatus::Unknown);
        }
        let proposal = |(key, bytes): (Vec<u8>, Vec<u8>)| {
            let body = key.last_chunk().ok_or_else(|| tables::damaged(Votes::NAME, &key, &"a short key"))?;
            let votes = Votes::stored(&key, Some(bytes))?.unwrap_or_default();
            Ok(Proposal { body: Digest(*body), votes })
        };
        found.into_iter().map(proposal).collect::<Result<_, StorageError>>().map(OrgStatus::Proposed)
    }

    /// What became of the transactions that a validator proposed.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tally(&self, author: AuthorityIndex) -> Result<Tally, StorageError> {
        self.find(&tables::tally(author)).map(Option::unwrap_or_default)
    }

    /// Proves what the authenticated state holds under a key (see [`super::consent_map_key`] and its like), or that it holds
    /// nothing, against the state root of the head that comes with it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn prove_state(&self, key: &Digest) -> Result<(LedgerHead, StateProof), StorageError> {
        let snapshot = self.store.snapshot();
        Ok((head(&snapshot)?, trie::prove(&snapshot, key)?))
    }

    /// The tiles of the log, made from the state.
    #[must_use]
    pub fn tiles(&self) -> StateTiles<S> {
        StateTiles::new(self.store.clone())
    }

    /// The store itself.
    #[cfg(test)]
    pub(super) fn store(&self) -> &S {
        &self.store
    }

    fn find<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        T::stored(key, self.store.get(key)?)
    }
}

fn head(store: &impl Read) -> Result<LedgerHead, StorageError> {
    let key = [tables::HEAD];
    HeadRecord::stored(&key, store.get(&key)?)?
        .map(|record| record.head)
        .ok_or_else(|| tables::damaged("head", &key, &"it is missing: no executor has opened this store"))
}

fn leaf(store: &impl Read, index: LeafIndex) -> Result<Option<Leaf>, StorageError> {
    Ok(leaves::read(store, index)?.map(|record| Leaf::new(index, &record)))
}
