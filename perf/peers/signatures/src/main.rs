//! Verifiers of Ed25519 in turn, on one thread: 1,024 signatures under as many keys, of messages of 300 bytes.
//!
//! Each round runs all of them, beginning with another; ratios are taken within a round.

use std::hint::black_box;
use std::time::{Duration, Instant};

use salus::crypto::{SecretKey, Signed, Verifier};

const N: usize = 1_024;
const MESSAGE_BYTES: usize = 300;
const ROUNDS: usize = 21;
/// Each has at least so long in a round.
const LONG: Duration = Duration::from_millis(60);

struct Made {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

/// Judges all of them; true if all are good.
type Judge<'a> = Box<dyn FnMut() -> bool + 'a>;

struct Candidate<'a> {
    name: &'static str,
    judge: Judge<'a>,
    per_second: Vec<f64>,
}

fn make() -> Vec<Made> {
    (0..N as u64)
        .map(|i| {
            let key = SecretKey::from_seed(blake3::hash(&i.to_be_bytes()).as_bytes());
            let mut message = vec![0; MESSAGE_BYTES];
            blake3::Hasher::new().update(&i.to_le_bytes()).finalize_xof().fill(&mut message);
            Made { key: key.public(), signature: key.sign_raw(&message), message }
        })
        .collect()
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("random numbers");
    seed
}

fn candidates(made: &[Made]) -> Vec<Candidate<'_>> {
    let mut all =
        vec![("salus", salus(made)), ("dalek", dalek_batch(made)), ("dalek-single", dalek_single(made))];
    #[cfg(feature = "simd")]
    all.extend([("ed25519-simd", simd(made, None)), ("ed25519-simd-cached", simd(made, Some(4_096)))]);
    all.extend([("aws-lc-rs", aws_lc(made)), ("ring", ring(made))]);
    all.into_iter().map(|(name, judge)| Candidate { name, judge, per_second: Vec::new() }).collect()
}

/// As a validator has it: with room for the decoded keys.
fn salus(made: &[Made]) -> Judge<'_> {
    let mut verifier = Verifier::new(seed(), 4_096);
    let items: Vec<Signed<'_>> = made
        .iter()
        .map(|m| Signed { key: &m.key, domain: &[], message: &m.message, signature: &m.signature })
        .collect();
    Box::new(move || verifier.verify(black_box(&items)).into_iter().all(|valid| valid))
}

/// One verdict for all; which one is bad it does not say.
fn dalek_batch(made: &[Made]) -> Judge<'_> {
    let keys: Vec<_> = made.iter().map(dalek_key).collect();
    let messages: Vec<&[u8]> = made.iter().map(|m| &m.message[..]).collect();
    let signatures: Vec<_> = made.iter().map(|m| ed25519_dalek::Signature::from(m.signature)).collect();
    Box::new(move || ed25519_dalek::verify_batch(black_box(&messages), &signatures, &keys).is_ok())
}

fn dalek_key(made: &Made) -> ed25519_dalek::VerifyingKey {
    ed25519_dalek::VerifyingKey::from_bytes(&made.key).expect("a good key")
}

fn dalek_single(made: &[Made]) -> Judge<'_> {
    let keys: Vec<_> = made.iter().map(dalek_key).collect();
    Box::new(move || {
        let valid = |(made, key): (&Made, &ed25519_dalek::VerifyingKey)| {
            let signature = ed25519_dalek::Signature::from(made.signature);
            ed25519_dalek::Verifier::verify(key, &made.message, &signature).is_ok()
        };
        black_box(made).iter().zip(&keys).map(valid).fold(true, |all, valid| all & valid)
    })
}

/// By its rule of ZIP-215, which is Salus's too; with room for decoded keys, or none as it recommends.
#[cfg(feature = "simd")]
fn simd(made: &[Made], keys: Option<usize>) -> Judge<'_> {
    use ed25519_simd::{HotKeyCache, VerifyInput, Zip215Verifier};

    let inputs: Vec<_> = made
        .iter()
        .map(|m| VerifyInput { public_key: m.key, signature: m.signature, message: &m.message })
        .collect();
    let mut out = vec![false; inputs.len()];
    match keys {
        None => {
            let mut verifier = Zip215Verifier::new();
            Box::new(move || {
                verifier.verify_batch(black_box(&inputs), &mut out);
                out.iter().all(|valid| *valid)
            })
        }
        Some(keys) => {
            let mut verifier = Zip215Verifier::with_cache(HotKeyCache::with_capacity(keys));
            Box::new(move || {
                verifier.verify_batch(black_box(&inputs), &mut out);
                out.iter().all(|valid| *valid)
            })
        }
    }
}

fn aws_lc(made: &[Made]) -> Judge<'_> {
    use aws_lc_rs::signature::{ED25519, ParsedPublicKey};

    let keys: Vec<_> =
        made.iter().map(|m| ParsedPublicKey::new(&ED25519, m.key).expect("a good key")).collect();
    Box::new(move || {
        let valid =
            |(made, key): (&Made, &ParsedPublicKey)| key.verify_sig(&made.message, &made.signature).is_ok();
        black_box(made).iter().zip(&keys).map(valid).fold(true, |all, valid| all & valid)
    })
}

fn ring(made: &[Made]) -> Judge<'_> {
    use ring::signature::{ED25519, UnparsedPublicKey};

    Box::new(move || {
        let valid = |made: &Made| {
            UnparsedPublicKey::new(&ED25519, made.key).verify(&made.message, &made.signature).is_ok()
        };
        black_box(made).iter().map(valid).fold(true, |all, valid| all & valid)
    })
}

/// First quartile, median and third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [1, 2, 3].map(|quarter| values[last * quarter / 4])
}

fn main() {
    let made = make();
    let mut bad = make();
    bad[N / 3].message[7] ^= 1;
    for mut candidate in candidates(&bad) {
        assert!(!(candidate.judge)(), "{} takes a bad signature for a good one", candidate.name);
    }
    let mut all = candidates(&made);
    for candidate in &mut all {
        assert!((candidate.judge)(), "{} refuses good signatures", candidate.name);
    }
    let rounds = if std::env::args().any(|word| word == "--quick") { 3 } else { ROUNDS };
    for turn in 0..rounds {
        for step in 0..all.len() {
            let one = (turn + step) % all.len();
            let Candidate { judge, per_second, .. } = &mut all[one];
            let (start, mut times) = (Instant::now(), 0);
            while start.elapsed() < LONG {
                assert!(judge());
                times += 1;
            }
            per_second.push((times * N) as f64 / start.elapsed().as_secs_f64());
        }
    }
    let what = format!("n={N},keys={N}");
    println!("# one thread; Salus computes by {}", Verifier::new(seed(), 1).backend());
    for Candidate { name, per_second, .. } in &all {
        let [low, median, high] = quartiles(per_second.clone()).map(|speed| speed / 1e3);
        println!(
            "{:<52} {median:>7.1} ksig/s ({low:.1} to {high:.1})",
            format!("peer/signatures/{name}/{what}")
        );
    }
    let ours = &all[0].per_second;
    for Candidate { name, per_second, .. } in &all[1..] {
        let ratios = ours.iter().zip(per_second).map(|(ours, theirs)| ours / theirs).collect();
        let [low, median, high] = quartiles(ratios);
        println!(
            "{:<52} {median:>7.2} of {name} ({low:.2} to {high:.2})",
            format!("peer/signatures/salus/{what}")
        );
    }
}
