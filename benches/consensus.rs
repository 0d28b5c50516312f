//! What the protocol costs, without payloads, network and disk, for each block and n validators that all lead in every round.
//!
//! `consensus/<part>/n=<validators>`; throughput is in blocks. `decode` is a header from bytes with its digest;
//! `insert_and_decide` lets it through the block manager into the DAG, decides, linearizes and collects garbage; `both` is
//! one after the other; `signature` checks the header's signature alone and `signatures` those of 64 headers as a batch.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use salus::committee::{Authority, Committee};
use salus::consensus::{Committer, Decision, LeaderSchedule, Linearizer, Slot};
use salus::crypto::{Domain, Purpose, SecretKey, Verifier};
use salus::dag::{Admission, BlockManager, DagState, ManagerLimits, VerifiedHeader};
use salus::types::{
    AuthorityIndex, BlockRef, Epoch, HEADER_VERSION, Header, NetworkId, Payload, Round, SignedHeader, Stake,
    TimestampMs,
};

const ROUNDS: u64 = 60;
/// So that garbage collection takes part.
const GC_DEPTH: u64 = 30;
const BATCH: usize = 64;

fn keys(n: usize) -> Vec<SecretKey> {
    (0..n).map(|i| SecretKey::from_seed(&[u8::try_from(i).unwrap(); 32])).collect()
}

fn committee(keys: &[SecretKey]) -> Arc<Committee> {
    let authority = |(i, key): (usize, &SecretKey)| Authority {
        name: format!("v{i}"),
        stake: Stake(1),
        address: format!("v{i}:1"),
        network_key: [1; 32],
        consensus_key: key.public(),
        cosign_key: [3; 32],
        log_key: [4; 32],
    };
    let authorities = keys.iter().enumerate().map(authority).collect();
    Arc::new(Committee::new(Epoch(0), NetworkId(*b"bench-00"), authorities))
}

/// Rounds in which everybody names everybody, as headers on the wire.
fn headers(committee: &Committee, keys: &[SecretKey]) -> Vec<Bytes> {
    let domain = Domain::new(Purpose::Header, committee.network());
    let mut last: Vec<BlockRef> = committee.indices().map(|author| committee.genesis_block(author)).collect();
    let mut headers = Vec::new();
    for round in 1..=ROUNDS {
        let row: Vec<SignedHeader> = committee
            .indices()
            .map(|author| {
                let own = last[author.as_usize()];
                let others = last.iter().filter(|block| block.author != author).copied();
                header(round, author, std::iter::once(own).chain(others).collect())
            })
            .map(|header| {
                let key = &keys[header.author.as_usize()];
                SignedHeader::build(header, |bytes| key.sign(&domain, bytes))
            })
            .collect();
        last = row.iter().map(SignedHeader::reference).collect();
        headers.extend(row.iter().map(|header| header.bytes().clone()));
    }
    headers
}

fn header(round: u64, author: AuthorityIndex, ancestors: Vec<BlockRef>) -> Header {
    Header {
        version: HEADER_VERSION,
        epoch: Epoch(0),
        round: Round(round),
        author,
        time: TimestampMs(1_000 * round + u64::from(author.0)),
        ancestors,
        n_tx: 0,
        payload_len: 0,
        payload_root: Payload::empty().root(),
        system: Vec::new(),
    }
}

/// A validator without a pacemaker.
struct Core {
    dag: DagState,
    manager: BlockManager,
    committer: Committer,
    linearizer: Linearizer,
    next: Slot,
}

impl Core {
    fn new(committee: &Arc<Committee>) -> Self {
        let leaders = u16::try_from(committee.size()).unwrap();
        let schedule = LeaderSchedule::new(Arc::clone(committee), leaders).with_reputation(300);
        Self {
            dag: DagState::new(Arc::clone(committee), Round(0)),
            manager: BlockManager::new(committee.size(), ManagerLimits::default()),
            committer: Committer::new(schedule),
            linearizer: Linearizer::new(TimestampMs(0), GC_DEPTH),
            next: Slot { round: Round(1), rank: 0 },
        }
    }

    fn take(&mut self, header: VerifiedHeader) {
        let author = header.header().author;
        let Admission::Accepted(ready) = self.manager.admit(&self.dag, author, header) else {
            panic!("headers come in order")
        };
        for header in ready {
            self.dag.insert(header);
        }
        let decided = self.committer.try_decide(&self.dag, self.next);
        if decided.is_empty() {
            return;
        }
        for (slot, decision) in decided {
            self.next = self.committer.next_slot(slot);
            if let Decision::Commit(leader) = decision {
                let commit = self.linearizer.commit(&mut self.dag, leader);
                self.committer.on_commit(&commit);
            }
        }
        self.dag.collect_garbage(self.linearizer.gc_round());
        self.manager.collect_garbage(self.linearizer.gc_round());
    }
}

fn decode(bytes: &Bytes) -> VerifiedHeader {
    VerifiedHeader::trusted(SignedHeader::decode(bytes.clone()).unwrap())
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("consensus");
    for n in [4, 10, 22, 50] {
        let keys = keys(n);
        let committee = committee(&keys);
        let wire = headers(&committee, &keys);
        let verified: Vec<VerifiedHeader> = wire.iter().map(decode).collect();
        let name = |part: &str| BenchmarkId::new(part, format!("n={n}"));
        group.sample_size(20).throughput(Throughput::Elements(wire.len() as u64));
        group.bench_function(name("decode"), |b| {
            b.iter(|| wire.iter().for_each(|bytes| drop(black_box(decode(bytes)))));
        });
        group.bench_function(name("insert_and_decide"), |b| {
            b.iter(|| {
                let mut core = Core::new(&committee);
                verified.iter().for_each(|header| core.take(header.clone()));
                assert_eq!(core.next.round, Round(ROUNDS - 1));
            });
        });
        group.bench_function(name("both"), |b| {
            b.iter(|| {
                let mut core = Core::new(&committee);
                wire.iter().for_each(|bytes| core.take(decode(bytes)));
                assert_eq!(core.next.round, Round(ROUNDS - 1));
            });
        });
        group.throughput(Throughput::Elements(1));
        let signed = SignedHeader::decode(wire[0].clone()).unwrap();
        group.bench_function(name("signature"), |b| {
            b.iter(|| VerifiedHeader::verify(&committee, black_box(signed.clone())).unwrap());
        });
        group.throughput(Throughput::Elements(BATCH as u64));
        let batch: Vec<SignedHeader> =
            wire.iter().take(BATCH).map(|bytes| SignedHeader::decode(bytes.clone()).unwrap()).collect();
        let mut verifier = Verifier::new([7; 32], 4_096);
        group.bench_function(name("signatures"), |b| {
            b.iter(|| {
                let checked = VerifiedHeader::verify_all(&committee, &mut verifier, black_box(batch.clone()));
                assert!(checked.iter().all(Result::is_ok));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
