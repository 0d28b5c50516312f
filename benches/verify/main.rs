//! Signatures a second: the verifier, by what this processor has and by what any has, against ed25519-dalek's and
//! ed25519-zebra's batches, by size of the batch and number of keys.
//!
//! Messages of 300 bytes under 32 keys, as in a network whose gateways sign most of the load, or under a key each; known keys.
//! The names are stable: `verify/<verifier>/n=<batch>,keys=<keys>`; throughput is in signatures.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "what fills the pipeline is not measured")]
#![allow(missing_docs, reason = "criterion's macros")]

mod pipeline;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use salus::crypto::{SecretKey, Signed, Verifier, verify_one};

const FEW_KEYS: usize = 32;
const MESSAGE_BYTES: usize = 300;

struct Made {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn make(n: usize, keys: usize) -> Vec<Made> {
    let keys: Vec<SecretKey> =
        (0..keys).map(|i| SecretKey::from_seed(blake3::hash(&i.to_be_bytes()).as_bytes())).collect();
    (0..n)
        .map(|i| {
            let mut message = vec![0; MESSAGE_BYTES];
            message[..8].copy_from_slice(&(i as u64).to_be_bytes());
            let key = &keys[i % keys.len()];
            Made { key: key.public(), signature: key.sign_raw(&message), message }
        })
        .collect()
}

/// The operating system's random numbers, for zebra.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for (n, keys) in [(1, 1), (16, 16), (64, 32), (256, 32), (1_024, 1_024), (1_024, 32), (4_096, 32)] {
        let made = make(n, keys);
        let items = signed(&made);
        let name = format!("n={n},keys={keys}");
        group.throughput(Throughput::Elements(n as u64));
        if n == 1 {
            group.bench_function("single", |b| b.iter(|| assert!(verify_one(black_box(&items[0])))));
            bench_dalek_single(&mut group, &made[0]);
        }
        let mut verifiers =
            [("batch", Verifier::new(seed(), 4_096)), ("portable", Verifier::portable(seed(), 4_096))];
        for (verifier_name, verifier) in &mut verifiers {
            group.bench_function(BenchmarkId::new(*verifier_name, &name), |b| {
                b.iter(|| assert!(verifier.verify(black_box(&items)).into_iter().all(|valid| valid)));
            });
        }
        if n >= 64 {
            bench_peers(&mut group, &made, &name);
        }
    }
    let made = make(1_024, FEW_KEYS);
    for n in [64, 1_024] {
        group.throughput(Throughput::Elements(n as u64));
        bench_one_bad(&mut group, &signed(&made[..n]));
    }
    bench_cold(&mut group);
    pipeline::bench(&mut group);
    group.finish();
}

fn signed(made: &[Made]) -> Vec<Signed<'_>> {
    made.iter()
        .map(|m| Signed { key: &m.key, domain: &[], message: &m.message, signature: &m.signature })
        .collect()
}

/// With a key that was decoded before, as the verifier of a node has those that it knows.
fn bench_dalek_single(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    made: &Made,
) {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&made.key).unwrap();
    let signature = ed25519_dalek::Signature::from(made.signature);
    group.bench_function("dalek_single", |b| {
        b.iter(|| ed25519_dalek::Verifier::verify(black_box(&key), &made.message, &signature).unwrap());
    });
}

fn bench_peers(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    made: &[Made],
    name: &str,
) {
    let keys: Vec<_> =
        made.iter().map(|m| ed25519_dalek::VerifyingKey::from_bytes(&m.key).unwrap()).collect();
    let messages: Vec<&[u8]> = made.iter().map(|m| &m.message[..]).collect();
    let signatures: Vec<_> = made.iter().map(|m| ed25519_dalek::Signature::from(m.signature)).collect();
    group.bench_function(BenchmarkId::new("dalek", name), |b| {
        b.iter(|| {
            ed25519_dalek::verify_batch(black_box(&messages), &signatures, &keys).unwrap();
        });
    });
    group.bench_function(BenchmarkId::new("zebra", name), |b| {
        b.iter(|| {
            let mut batch = ed25519_zebra::batch::Verifier::new();
            for m in black_box(made) {
                let key = ed25519_zebra::VerificationKeyBytes::from(m.key);
                batch.queue((key, ed25519_zebra::Signature::from(m.signature), &&m.message[..]));
            }
            batch.verify(SeededNumbers::new()).unwrap();
        });
    });
}

/// What one bad signature costs its batch.
fn bench_one_bad(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    items: &[Signed<'_>],
) {
    let mut bad = items.to_vec();
    bad[items.len() / 3].message = b"another";
    let mut verifier = Verifier::new(seed(), 4_096);
    group.bench_function(BenchmarkId::new("one_bad", format!("n={}", items.len())), |b| {
        b.iter(|| {
            let bad_ones = verifier.verify(black_box(&bad)).into_iter().filter(|valid| !valid).count();
            assert_eq!(bad_ones, 1);
        });
    });
}

/// Each key met for the first time.
fn bench_cold(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    let made = make(1_024, 1_024);
    let items = signed(&made);
    group.throughput(Throughput::Elements(1_024));
    group.bench_function("cold/n=1024,keys=1024", |b| {
        b.iter_batched_ref(
            || Verifier::new(seed(), 4_096),
            |verifier| assert!(verifier.verify(black_box(&items)).into_iter().all(|valid| valid)),
            BatchSize::LargeInput,
        );
    });
}

/// A generator of the kind that zebra asks for.
struct SeededNumbers(blake3::OutputReader);

impl SeededNumbers {
    fn new() -> Self {
        Self(blake3::Hasher::new_keyed(&seed()).finalize_xof())
    }
}

impl rand_core::TryRng for SeededNumbers {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for SeededNumbers {}

criterion_group!(benches, bench);
criterion_main!(benches);
