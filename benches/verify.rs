//! Signatures a second: the verifier against ed25519-dalek's and ed25519-zebra's batches, by size of the batch.
//!
//! Messages of 300 bytes under 32 keys, as in a network whose gateways sign most of the load. The names are stable:
//! `verify/<verifier>/n=<batch>`; throughput is in signatures.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use salus::crypto::{SecretKey, Signed, Verifier, verify_one};

const KEYS: usize = 32;
const MESSAGE_BYTES: usize = 300;

struct Made {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn make(n: usize) -> Vec<Made> {
    let keys: Vec<SecretKey> =
        (0..KEYS).map(|i| SecretKey::from_seed(&[u8::try_from(i).unwrap(); 32])).collect();
    (0..n)
        .map(|i| {
            let mut message = vec![0; MESSAGE_BYTES];
            message[..8].copy_from_slice(&(i as u64).to_be_bytes());
            let key = &keys[i % KEYS];
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
    let made = make(4_096);
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    let items: Vec<Signed<'_>> = made
        .iter()
        .map(|m| Signed { key: &m.key, domain: &[], message: &m.message, signature: &m.signature })
        .collect();
    group.bench_function("single", |b| b.iter(|| assert!(verify_one(black_box(&items[0])))));
    for n in [1, 16, 64, 256, 1_024, 4_096] {
        group.throughput(Throughput::Elements(n as u64));
        let mut verifier = Verifier::new(seed(), 4_096);
        group.bench_with_input(BenchmarkId::new("batch", format!("n={n}")), &n, |b, n| {
            b.iter(|| assert!(verifier.verify(black_box(&items[..*n])).into_iter().all(|valid| valid)));
        });
    }
    for n in [64, 1_024] {
        group.throughput(Throughput::Elements(n as u64));
        bench_peers(&mut group, &made[..n]);
        bench_one_bad(&mut group, &items[..n]);
    }
    group.finish();
}

fn bench_peers(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, made: &[Made]) {
    let n = made.len();
    let keys: Vec<_> =
        made.iter().map(|m| ed25519_dalek::VerifyingKey::from_bytes(&m.key).unwrap()).collect();
    let messages: Vec<&[u8]> = made.iter().map(|m| &m.message[..]).collect();
    let signatures: Vec<_> = made.iter().map(|m| ed25519_dalek::Signature::from(m.signature)).collect();
    group.bench_function(BenchmarkId::new("dalek", format!("n={n}")), |b| {
        b.iter(|| {
            ed25519_dalek::verify_batch(black_box(&messages), &signatures, &keys).unwrap();
        });
    });
    group.bench_function(BenchmarkId::new("zebra", format!("n={n}")), |b| {
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
