//! The running node as the HTTP API sees it.

use std::sync::Arc;

use bytes::Bytes;

use super::core::Signals;
use super::execution::Shown;
use super::intake::{HttpRequest, Intake, Replies};
use super::metrics;
use super::peers::PumpControl;
use crate::committee::Committee;
use crate::error::StorageError;
use crate::execute::{self, Leaf, LedgerReader};
use crate::genesis::Genesis;
use crate::io::disk::FolderFile;
use crate::io::peer::PeerNet;
use crate::io::state_store::StateStore;
use crate::io::tile_store::TileStore;
use crate::log::LogReader;
use crate::proof::bundle::ProofBundle;
use crate::proof::log::{consistency_proof, inclusion_proof};
use crate::proof::tiles::TileReader;
use crate::serve::{
    ConsentStatus, EquivocatorStatus, Ledger, PeerStatus, ProofOf, RecordStatus, ServeError, Status, Ticket,
    TilePath, TransactionStatus,
};
use crate::types::{
    AuthorityIndex, BLOCK_REF_BYTES, Body, CommitIndex, LeafIndex, NodeHash, Payload, SignedReference, Stub,
    Transaction, TxId, tx_id,
};

/// Commits that may wait for execution while the node still counts as ready.
const READY_LAG_MAX: u64 = 200;

/// See the module's text.
pub(super) struct Service {
    pub(super) genesis: Arc<Genesis>,
    pub(super) committee: Arc<Committee>,
    pub(super) own: AuthorityIndex,
    pub(super) intake: Intake,
    pub(super) replies: Arc<Replies>,
    pub(super) state: LedgerReader<StateStore>,
    pub(super) log: LogReader<FolderFile>,
    pub(super) tiles: TileStore,
    pub(super) shown: Arc<Shown>,
    pub(super) signals: Arc<Signals>,
    pub(super) peers: Arc<PeerNet>,
    pub(super) pump: Arc<PumpControl>,
    /// Bound of the memory that the node takes, in bytes.
    pub(super) memory_limit: u64,
    /// Bound of all that may be under way, in bytes.
    pub(super) memory_bound: u64,
}

fn internal(error: &StorageError) -> ServeError {
    ServeError::Internal(error.to_string())
}

fn damaged(what: impl std::fmt::Display) -> ServeError {
    ServeError::Internal(what.to_string())
}

impl Service {
    /// The transaction at a leaf, out of the block log.
    fn transaction_at(&self, leaf: &Leaf) -> Result<Transaction, ServeError> {
        let record = self.log.read(leaf.payload_seq).map_err(|error| internal(&error))?;
        let record =
            record.ok_or_else(|| damaged(format_args!("record {} is not in the log", leaf.payload_seq)))?;
        let payload = record.bytes.slice(BLOCK_REF_BYTES..);
        let bytes = Payload::pick(&payload, leaf.payload_index).map_err(damaged)?;
        let bytes = bytes.ok_or_else(|| damaged(format_args!("record {} is too short", leaf.payload_seq)))?;
        Transaction::decode(bytes, self.genesis.rules()).map_err(damaged)
    }

    fn leaf_of(&self, of: ProofOf) -> Result<Option<Leaf>, ServeError> {
        let found = match of {
            ProofOf::Leaf(leaf) => self.state.leaf(leaf),
            ProofOf::Transaction(id) => self.state.transaction(&id).map(|status| match status {
                execute::TransactionStatus::Executed(leaf) => Some(leaf),
                execute::TransactionStatus::Unknown | execute::TransactionStatus::Skipped { .. } => None,
            }),
        };
        found.map_err(|error| internal(&error))
    }

    /// Who signed two blocks of one round.
    fn equivocators(&self) -> Vec<EquivocatorStatus> {
        let proofs = self.signals.evidence();
        let authors = self.signals.stats().equivocators;
        let status = |author: AuthorityIndex| {
            let proof = proofs.iter().find(|proof| proof.block().author == author);
            EquivocatorStatus {
                name: self.committee.authority(author).name.clone(),
                round: proof.map(|proof| proof.block().round),
                evidence: proof.map(|proof| {
                    let signed = |of: &SignedReference| of.signed_bytes(proof.epoch());
                    let both = proof.references().map(|of| [&signed(of)[..], &of.signature].concat());
                    hex::encode(both.concat())
                }),
            }
        };
        authors.iter().map(status).collect()
    }

    /// Stake of the validators that are connected, own included.
    fn connected_stake(&self) -> u64 {
        let peers = self.peers.stats().into_iter().filter(|peer| peer.up).map(|peer| peer.peer);
        peers.chain([self.own]).map(|index| self.committee.stake(index).0).sum()
    }
}

impl Ledger for Service {
    fn status(&self) -> Status {
        let head = self.shown.head();
        let stats = self.signals.stats();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.genesis.network(),
            origin: self.genesis.origin(),
            validator: self.committee.authority(self.own).name.clone(),
            round: stats.own_round,
            commit: head.commit,
            time_ms: head.time,
            tree_size: head.tree_size,
            root: head.root,
            state_root: head.state_root,
            checkpoint_size: self.shown.published().map_or(0, |published| published.size),
            mempool_transactions: stats.mempool as u64,
            mempool_bytes: stats.mempool_bytes as u64,
            peers: self
                .peers
                .stats()
                .into_iter()
                .map(|peer| PeerStatus {
                    name: self.committee.authority(peer.peer).name.clone(),
                    up: peer.up,
                })
                .collect(),
            leader_timeout_us: stats.leader_timeout_us,
            equivocators: self.equivocators(),
        }
    }

    fn submit(&self, tx: Bytes) -> Ticket {
        let id = tx_id(&tx);
        let HttpRequest { ticket, held, admitted, outcome } = self.replies.http_request(id, tx.len());
        for (ticket, error) in self.intake.submit(held, vec![(ticket, tx)]) {
            self.replies.refuse(ticket, &error);
        }
        let busy = crate::error::ClientError::Busy;
        Ticket {
            id,
            // The other end is dropped unused only if the node stops.
            admitted: Box::pin(async move { admitted.await.unwrap_or(Err(busy)) }),
            outcome: Box::pin(async move { outcome.await.ok() }),
        }
    }

    fn transaction(&self, id: TxId) -> Result<Option<TransactionStatus>, ServeError> {
        Ok(match self.state.transaction(&id).map_err(|error| internal(&error))? {
            execute::TransactionStatus::Executed(leaf) => {
                let stub = Stub::decode(&leaf.stub).map_err(damaged)?;
                Some(TransactionStatus::Executed {
                    leaf: leaf.index,
                    commit: stub.height,
                    time: stub.time,
                    violation: stub.violation,
                })
            }
            execute::TransactionStatus::Skipped { reason, .. } => {
                Some(TransactionStatus::Skipped { reason: reason.code() })
            }
            execute::TransactionStatus::Unknown if self.replies.is_pending(&id) => {
                Some(TransactionStatus::Pending)
            }
            execute::TransactionStatus::Unknown => None,
        })
    }

    fn proof(&self, of: ProofOf) -> Result<Option<String>, ServeError> {
        let Some(leaf) = self.leaf_of(of)? else { return Ok(None) };
        let published = self.shown.published().filter(|published| published.size > leaf.index.0);
        let Some(published) = published else {
            return Err(ServeError::NotYet(
                "no certified checkpoint covers this leaf; it takes a moment".to_owned(),
            ));
        };
        let path = inclusion_proof(leaf.index, published.size, &self.tiles).map_err(damaged)?;
        let bundle = ProofBundle {
            transaction: self.transaction_at(&leaf)?.bytes().to_vec(),
            stub: leaf.stub,
            leaf_index: leaf.index,
            tree_size: published.size,
            inclusion_path: path,
            checkpoint: published.note.clone(),
            opening: None,
        };
        let bytes = bundle.encode().map_err(damaged)?;
        String::from_utf8(bytes).map(Some).map_err(damaged)
    }

    fn record(&self, leaf: LeafIndex) -> Result<Option<RecordStatus>, ServeError> {
        let Some(found) = self.state.record(leaf).map_err(|error| internal(&error))? else { return Ok(None) };
        let tx = self.transaction_at(&found.version)?;
        let Body::RecordAnchor(body) = Body::of(&tx).map_err(damaged)? else {
            return Err(damaged(format_args!("leaf {leaf} is of a record and its transaction is not")));
        };
        Ok(Some(RecordStatus {
            leaf,
            org: tx.envelope().org,
            class: body.class,
            commitment: body.commit,
            previous: body.prev,
            superseded_by: found.superseded_by,
            retain_days: body.retain_days,
        }))
    }

    fn consent(&self, handle: [u8; 32]) -> Result<Option<ConsentStatus>, ServeError> {
        let found = self.state.consent(&handle).map_err(|error| internal(&error))?;
        Ok(found.map(|state| ConsentStatus {
            handle,
            custodian: state.custodian,
            grantee: state.grantee,
            provisions: state.provisions,
            granted_leaf: state.leaf,
            as_of: self.shown.head().time,
            revoked: state.revocation.map(|revocation| (revocation.leaf, revocation.effective)),
        }))
    }

    fn consistency(&self, from: u64, to: u64) -> Result<Option<Vec<NodeHash>>, ServeError> {
        if to > self.shown.published().map_or(0, |published| published.size) {
            return Ok(None);
        }
        consistency_proof(from, to, &self.tiles).map(Some).map_err(damaged)
    }

    fn checkpoint(&self) -> Option<String> {
        self.shown.published().map(|published| published.note.clone())
    }

    fn tile(&self, path: &TilePath) -> Result<Option<Bytes>, ServeError> {
        let name = format!("tile/{path}");
        self.tiles.tile(&name).map(|tile| tile.map(Bytes::from)).map_err(|error| internal(&error))
    }

    fn metrics(&self) -> String {
        metrics::text(self)
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(why) = self.signals.failure() {
            return Err(why);
        }
        let (connected, quorum) = (self.connected_stake(), self.committee.quorum_threshold().0);
        if connected < quorum {
            return Err(format!("connected to {connected} of the {quorum} stake that a quorum needs"));
        }
        let CommitIndex(behind) =
            CommitIndex(self.signals.stats().commit.0.saturating_sub(self.shown.head().commit.0));
        if behind > READY_LAG_MAX {
            return Err(format!("{behind} commits wait for execution"));
        }
        Ok(())
    }
}
