//! A small network with real keys for the tests of this room.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::json;

use super::batch::{BatchTree, COMMITMENT_HMAC_FILE, FileFacts, FileHash};
use super::bundle::{Member, Opening, ProofBundle, Shown};
use super::checkpoint::{CertifiedCheckpoint, Checkpoint, CheckpointKeys, Cosignature};
use super::commitment::{FHIR_R4_DOMAIN, canonical_json, commit};
use super::log::inclusion_proof;
use super::note::{cosign, sign_text};
use super::tiles::{LogTree, MemTiles, TileWriter as _};
use super::tlog_proof::TlogProof;
use crate::crypto::{Domain, Purpose, SecretKey};
use crate::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use crate::types::*;

/// Unix time at which the validators of the tests cosign.
pub(crate) const TIME_S: u64 = 1_800_000_000;

fn key(purpose: u8, i: usize) -> SecretKey {
    let mut seed = [purpose; 32];
    seed[..8].copy_from_slice(&(i as u64).to_be_bytes());
    SecretKey::from_seed(&seed)
}

pub(crate) struct Network {
    pub(crate) genesis: Genesis,
    pub(crate) keys: CheckpointKeys,
}

impl Network {
    /// Validators `v0`, `v1`, … of stake 1.
    pub(crate) fn new(n: usize) -> Self {
        let public = |purpose, i| HexKey(key(purpose, i).public());
        let file = GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "north".to_owned(),
            created_ms: 1_000 * TIME_S,
            parameters: Parameters { leaders_per_round: 1, rules: Rules::NEWEST, ..Parameters::default() },
            validators: (0..n)
                .map(|i| ValidatorEntry {
                    name: format!("v{i}"),
                    stake: 1,
                    address: format!("127.0.0.1:{}", 9_000 + i),
                    network_key: public(1, i),
                    consensus_key: public(2, i),
                    cosign_key: public(3, i),
                    log_key: public(4, i),
                })
                .collect(),
            members: vec![MemberEntry {
                org: 7,
                kind: 1,
                name: "Clinic".to_owned(),
                region: 1,
                root_key: public(5, 0),
                governs: true,
            }],
        };
        let genesis = Genesis::decode(&Genesis::encode(&file).unwrap()).unwrap();
        let keys = CheckpointKeys::new(&genesis);
        Self { genesis, keys }
    }

    /// Signs as validator 0 as the log, and as `cosigners` as themselves.
    pub(crate) fn certify(
        &self,
        size: u64,
        root: NodeHash,
        cosigners: impl IntoIterator<Item = usize>,
    ) -> CertifiedCheckpoint {
        let checkpoint = Checkpoint { origin: self.genesis.origin(), size, root };
        let text = checkpoint.text();
        let cosignatures: BTreeMap<_, _> = cosigners
            .into_iter()
            .map(|i| {
                let time_s = TIME_S + i as u64;
                let signature = cosign(&key(3, i), &text, time_s);
                (AuthorityIndex::from_usize(i), Cosignature { time_s, signature })
            })
            .collect();
        let log_signature = Some((AuthorityIndex(0), sign_text(&key(4, 0), &text)));
        CertifiedCheckpoint { checkpoint, cosignatures, log_signature }
    }

    /// A log of record anchors, certified by a quorum.
    pub(crate) fn log(&self, size: u64) -> Log {
        self.log_of((0..size).map(|i| self.anchor(i)).collect())
    }

    /// The proof of one file of a batch of `count`, which is leaf 1 of a log of 3.
    pub(crate) fn batch_bundle(&self, index: u32, count: u32) -> ProofBundle {
        let commitments: Vec<_> = (0..count).map(|i| facts(i).commit(&commitment_key(i.into()))).collect();
        let tree = BatchTree::new(&commitments);
        let batch = RecordBatch {
            root: tree.root().0,
            count,
            class: 4,
            alg: COMMITMENT_HMAC_FILE,
            retain_days: 3_650,
        };
        let transactions =
            vec![self.anchor(0), self.transaction(1, &Body::RecordBatch(batch)), self.anchor(2)];
        let member = Member {
            file: facts(index),
            commitment: commitments[usize::try_from(index).unwrap()],
            index,
            count,
            path: tree.path(index),
        };
        let opening = Opening { key: commitment_key(index.into()), shown: Shown::Member(member) };
        ProofBundle { opening: Some(opening), ..self.log_of(transactions).bundle(1) }
    }

    pub(crate) fn log_of(&self, transactions: Vec<Transaction>) -> Log {
        let size = transactions.len() as u64;
        let stubs: Vec<_> = transactions
            .iter()
            .map(|tx| {
                Stub::of(tx, stub_hash(tx), false, CommitIndex(9), TimestampMs(1_000 * TIME_S + 5)).encode()
            })
            .collect();
        let mut tree = LogTree::new();
        let mut tiles = MemTiles::new();
        for tile in tree.append(&stubs).iter().chain(&tree.partials()) {
            tiles.put(tile).unwrap();
        }
        let n = self.keys.committee().size();
        let certified = self.certify(size, tree.root(), 0..n - (n - 1) / 3);
        Log { transactions, stubs, tiles, note: certified.to_note(&self.keys), size }
    }

    /// The anchor of [`resource`] `i` under [`commitment_key`] `i`.
    fn anchor(&self, i: u64) -> Transaction {
        let body = Body::RecordAnchor(RecordAnchor {
            commit: commit(&commitment_key(i), FHIR_R4_DOMAIN, &canonical_json(&resource(i)).unwrap()),
            prev: None,
            class: 1,
            alg: 1,
            retain_days: 3_650,
        });
        self.transaction(i, &body)
    }

    pub(crate) fn transaction(&self, seq: u64, body: &Body) -> Transaction {
        let network = self.genesis.network();
        let envelope = Envelope {
            kind: body.kind(),
            network,
            org: OrgId(7),
            key: KeyId(0),
            seq,
            time: TimestampMs(1_000 * TIME_S),
            salt: [9; 16],
        };
        let domain = Domain::new(Purpose::Tx, network);
        Transaction::build(envelope, &body.encode(), |bytes| key(5, 0).sign(&domain, bytes))
    }
}

pub(crate) fn resource(i: u64) -> serde_json::Value {
    json!({"resourceType": "Observation", "id": format!("o{i}"), "valueQuantity": {"value": 5.1, "unit": "mmol/L"}})
}

/// Length and hash of a file.
pub(crate) fn facts(i: u32) -> FileFacts {
    let algorithm = FileHash::ALL[usize::try_from(i % 2).unwrap()];
    FileFacts { bytes: u64::from(i) << 20, algorithm, hash: [u8::try_from(i % 251).unwrap(); 32] }
}

pub(crate) fn commitment_key(i: u64) -> [u8; 32] {
    let mut key = [0xc0; 32];
    key[24..].copy_from_slice(&i.to_be_bytes());
    key
}

pub(crate) struct Log {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) stubs: Vec<[u8; STUB_BYTES]>,
    pub(crate) tiles: MemTiles,
    pub(crate) note: String,
    pub(crate) size: u64,
}

impl Log {
    pub(crate) fn tlog_proof(&self, leaf: u64) -> TlogProof {
        let index = LeafIndex(leaf);
        let path = inclusion_proof(index, self.size, &self.tiles).unwrap();
        TlogProof { index, path, checkpoint: self.note.clone() }
    }

    pub(crate) fn bundle(&self, leaf: u64) -> ProofBundle {
        let i = usize::try_from(leaf).unwrap();
        ProofBundle {
            transaction: self.transactions[i].bytes().to_vec(),
            stub: self.stubs[i],
            leaf_index: LeafIndex(leaf),
            tree_size: self.size,
            inclusion_path: self.tlog_proof(leaf).path,
            checkpoint: self.note.clone(),
            opening: Some(Opening { key: commitment_key(leaf), shown: Shown::Resource(resource(leaf)) }),
        }
    }
}
