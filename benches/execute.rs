//! Transactions a second that one thread executes, by transactions of a commit: decoding, rules, replay windows, the Merkle log
//! and the state store on disk, as a validator has them.
//!
//! Record anchors of 64 keys, in blocks of four authors, whose signatures were found valid before. Commits are applied one by one and never made durable
//! meanwhile: a validator does that every five seconds. Names: `execute/anchor/commit=<transactions>`.
#![allow(missing_docs, clippy::expect_used, reason = "a bench stops at the first error")]
#![allow(clippy::disallowed_methods, reason = "what makes the commits is not measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use salus::crypto::{Domain, Purpose, SecretKey};
use salus::execute::{CommittedBlock, Executor, KeyDirectory, SubDag, Verdict};
use salus::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use salus::io::state_store::StateStore;
use salus::types::{
    AuthorityIndex, BlockDigest, BlockRef, Body, CommitIndex, Digest, Envelope, KeyAdd, KeyId, LogSeq, OrgId,
    PayloadBuilder, RecordAnchor, Roles, Round, TimestampMs, Transaction, tx_ids,
};

const KEYS: u32 = 64;
const BLOCKS: usize = 4;
const NOW: TimestampMs = TimestampMs(1_700_000_000_000);
const ORG: OrgId = OrgId(1);

fn secret(number: u32) -> SecretKey {
    SecretKey::from_seed(blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn genesis() -> Genesis {
    let key = |number: u32| HexKey(secret(1_000 + number).public());
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: "bench.example".to_owned(),
        created_ms: NOW.0 - 1_000,
        parameters: Parameters { leaders_per_round: 1, ..Parameters::default() },
        validators: vec![ValidatorEntry {
            name: "one".to_owned(),
            stake: 1,
            address: "localhost:1".to_owned(),
            network_key: key(1),
            consensus_key: key(2),
            cosign_key: key(3),
            log_key: key(4),
        }],
        members: vec![MemberEntry {
            org: ORG.0,
            kind: 1,
            name: "Hospital".to_owned(),
            region: 1,
            root_key: HexKey(secret(0).public()),
            governs: true,
        }],
    };
    let encoded = Genesis::encode(&file).expect("a genesis file");
    Genesis::decode(&encoded).expect("a genesis file")
}

/// A ledger on disk and what comes next in it.
struct Ledger {
    executor: Executor<StateStore>,
    genesis: Genesis,
    commit: u64,
    made: u64,
}

impl Ledger {
    fn new(folder: &std::path::Path) -> Self {
        let genesis = genesis();
        let store = StateStore::open(folder.join("state")).expect("a store");
        let executor = Executor::open(&genesis, store, KeyDirectory::default()).expect("a state");
        let mut ledger = Self { executor, genesis, commit: 0, made: 0 };
        let keys: Vec<Transaction> = (1..=KEYS).map(|key| ledger.key_add(key)).collect();
        let dag = ledger.commit_of(&keys);
        assert_eq!(ledger.execute(&dag), keys.len() as u64);
        ledger
    }

    fn execute(&mut self, dag: &SubDag) -> u64 {
        self.executor.execute(dag).expect("executed").head.tree_size
    }

    fn transaction(&mut self, key: u32, seq: u64, body: &Body) -> Transaction {
        self.made += 1;
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&self.made.to_be_bytes());
        let envelope = Envelope {
            kind: body.kind(),
            network: self.genesis.network(),
            org: ORG,
            key: KeyId(key),
            seq,
            time: NOW,
            salt,
        };
        // Verdicts come with the block; execution looks at no signature.
        Transaction::build(envelope, &body.encode(), |_| [7; 64])
    }

    fn key_add(&mut self, number: u32) -> Transaction {
        let new = secret(number);
        let mut body = KeyAdd {
            org: ORG,
            key: KeyId(number),
            public: new.public(),
            roles: Roles::RECORD,
            from: TimestampMs(0),
            to: TimestampMs(u64::MAX),
            possession: [0; 64],
        };
        let domain = Domain::new(Purpose::Possession, self.genesis.network());
        body.possession = new.sign(&domain, &body.possession_bytes());
        self.transaction(0, u64::from(number), &Body::KeyAdd(body))
    }

    /// A commit with so many record anchors.
    fn anchors(&mut self, count: u64) -> SubDag {
        let anchors: Vec<Transaction> = (0..count)
            .map(|_| {
                let number = self.made - u64::from(KEYS);
                let commit = *blake3::hash(&number.to_be_bytes()).as_bytes();
                let body = RecordAnchor { commit, prev: None, class: 1, alg: 1, retain_days: 3_650 };
                let key = u32::try_from(number % u64::from(KEYS)).expect("a small number") + 1;
                self.transaction(key, 1 + number / u64::from(KEYS), &Body::RecordAnchor(body))
            })
            .collect();
        self.commit_of(&anchors)
    }

    fn commit_of(&mut self, transactions: &[Transaction]) -> SubDag {
        self.commit += 1;
        let index = CommitIndex(self.commit);
        let blocks = transactions.chunks(transactions.len().div_ceil(BLOCKS)).enumerate();
        let blocks = blocks.map(|(author, transactions)| {
            let bytes: Vec<&[u8]> = transactions.iter().map(|tx| &tx.bytes()[..]).collect();
            let mut payload = PayloadBuilder::default();
            for (id, bytes) in tx_ids(&bytes).into_iter().zip(bytes) {
                assert!(payload.push(id, bytes), "it fits");
            }
            let payload = payload.finish();
            let digest = BlockDigest(payload.root().0);
            CommittedBlock {
                reference: BlockRef {
                    round: Round(index.0),
                    author: AuthorityIndex::from_usize(author),
                    digest,
                },
                verdicts: vec![Verdict::Valid; payload.len()].into(),
                payload: Arc::new(payload),
                payload_seq: LogSeq(4 * index.0 + author as u64),
            }
        });
        let blocks = blocks.collect();
        SubDag { index, leader: BlockRef::default(), time: NOW, digest: Digest::default(), blocks }
    }
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("execute");
    for transactions in [16, 128, 1_024] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::new(folder.path());
        group.throughput(Throughput::Elements(transactions));
        group.bench_function(format!("anchor/commit={transactions}"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let dag = ledger.anchors(transactions);
                    let before = ledger.executor.head().tree_size;
                    let start = Instant::now();
                    let after = ledger.execute(&dag);
                    spent += start.elapsed();
                    assert_eq!(after, before + transactions, "all are executed");
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
