//! Hashes a second: transaction ids, leaves and nodes of the Merkle log, and a whole tree, beside `sha2` one by one.
//!
//! The names are stable: `hash/<what>/<size>`, and `hash/<what>_sha2/<size>` for the same by `sha2` on one thread; throughput is
//! in hashes, and for the tree in leaves.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use salus::proof::merkle::{leaf_hash, leaf_hashes, node_hash, node_hashes, root_of, root_of_data};
use salus::types::{NodeHash, STUB_BYTES, tx_id, tx_ids};

/// As in the program, since what is hashed at a time is allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 1_024;
const LEAVES: usize = 1_000_000;

/// Bytes that the hash of a number fills.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn bench_ids(group: &mut BenchmarkGroup<'_, WallTime>, size: &str, length: impl Fn(usize) -> usize) {
    let transactions: Vec<Vec<u8>> = (0..MESSAGES).map(|i| bytes(i, length(i))).collect();
    let transactions: Vec<&[u8]> = transactions.iter().map(Vec::as_slice).collect();
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function(BenchmarkId::new("tx_ids", size), |b| {
        b.iter(|| tx_ids(black_box(&transactions)));
    });
    group.bench_function(BenchmarkId::new("tx_ids_sha2", size), |b| {
        b.iter(|| black_box(&transactions).iter().map(|tx| tx_id(tx)).collect::<Vec<_>>());
    });
}

fn bench_leaves_and_nodes(group: &mut BenchmarkGroup<'_, WallTime>, stubs: &[[u8; STUB_BYTES]]) {
    for n in [8, 16, 64, MESSAGES] {
        let size = format!("n={n}");
        let stubs = &stubs[..n];
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::new("leaves", &size), |b| b.iter(|| leaf_hashes(black_box(stubs))));
        group.bench_function(BenchmarkId::new("leaves_sha2", &size), |b| {
            b.iter(|| black_box(stubs).iter().map(|stub| leaf_hash(stub)).collect::<Vec<_>>());
        });
        let children: Vec<NodeHash> =
            (0..2 * n).map(|i| NodeHash(bytes(i, 32).try_into().unwrap())).collect();
        group.bench_function(BenchmarkId::new("nodes", &size), |b| {
            b.iter(|| node_hashes(black_box(&children)))
        });
        group.bench_function(BenchmarkId::new("nodes_sha2", &size), |b| {
            b.iter(|| {
                let (pairs, _) = black_box(&children).as_chunks::<2>();
                pairs.iter().map(|[left, right]| node_hash(left, right)).collect::<Vec<_>>()
            });
        });
    }
}

fn bench_tree(group: &mut BenchmarkGroup<'_, WallTime>, stubs: &[[u8; STUB_BYTES]]) {
    let size = format!("leaves={}", stubs.len());
    group.throughput(Throughput::Elements(stubs.len() as u64));
    group.bench_function(BenchmarkId::new("tree", &size), |b| b.iter(|| root_of_data(black_box(stubs))));
    group.bench_function(BenchmarkId::new("tree_one_thread", &size), |b| {
        b.iter(|| {
            let parts = black_box(stubs).chunks(2_048).map(|part| root_of(&leaf_hashes(part)));
            root_of(&parts.collect::<Vec<_>>())
        });
    });
    group.bench_function(BenchmarkId::new("tree_sha2", &size), |b| {
        b.iter(|| by_definition(black_box(stubs)));
    });
}

/// RFC 9162, section 2.1.1, word for word.
fn by_definition(stubs: &[[u8; STUB_BYTES]]) -> NodeHash {
    if let [stub] = stubs {
        return leaf_hash(stub);
    }
    let (left, right) = stubs.split_at(stubs.len().next_power_of_two() / 2);
    node_hash(&by_definition(left), &by_definition(right))
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    bench_ids(&mut group, "bytes=180", |_| 180);
    bench_ids(&mut group, "bytes=350", |_| 350);
    bench_ids(&mut group, "bytes=180..480", |i| 180 + (i * 7_919) % 300);
    let stubs: Vec<[u8; STUB_BYTES]> =
        (0..LEAVES).map(|i| bytes(i, STUB_BYTES).try_into().unwrap()).collect();
    bench_leaves_and_nodes(&mut group, &stubs);
    bench_tree(&mut group, &stubs);
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
