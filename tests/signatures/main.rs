//! One rule, whatever the code path: the verdict on a signature is ZIP-215's, singly and at every position of batches
//! of 1, 2, 3, 64 and 257, on every back end.
//!
//! What is covered, with V any vector:
//! - each V singly, against its known verdict and against `ed25519-zebra`;
//! - each V at every position of batches of 1, 2 and 3 of else honest signatures;
//! - each of ZIP-215's 196, the twelve of eprint 2020/1244 and RFC 8032's five at every position of a batch of 64 of
//!   else honest signatures;
//! - every V at every position of batches of 64 and 257 in which every other signature is honest and the rest are
//!   vectors: a group of vectors moves on by one position from batch to batch, so that n batches show each of the group at
//!   each position. Valid and invalid vectors form groups of their own, since a group of valid ones must
//!   pass by one equation;
//! - each invalid V alone among 256 honest signatures, at the first and last position and at one that differs from
//!   vector to vector.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(unreachable_pub, missing_docs, reason = "not a library")]

mod mutated;
mod points;
mod random;
mod vectors;

use salus::crypto::{SecretKey, Signed, Verifier, verify_one};
use vectors::{Vector, honest, mixed_order, rfc8032, speccheck, wycheproof, zip215};

/// By what this processor has, and by what any has.
fn verifiers() -> [Verifier; 2] {
    let seed = *b"a seed for tests, known to all..";
    [Verifier::new(seed, 1_024), Verifier::portable(seed, 1_024)]
}

/// The sets that are small enough to be taken through every batch one by one.
fn small_sets() -> Vec<Vector> {
    let rfc = rfc8032().into_iter().map(|(_, vector)| vector);
    zip215().into_iter().chain(speccheck()).chain(rfc).collect()
}

fn all() -> Vec<Vector> {
    small_sets().into_iter().chain(wycheproof()).chain(mixed_order()).collect()
}

/// The batch must be judged as each of its members is, by every back end.
fn check(verifiers: &mut [Verifier], batch: &[&Vector]) {
    let items: Vec<Signed<'_>> = batch.iter().map(|vector| vector.signed()).collect();
    for verifier in verifiers {
        let verdicts = verifier.verify(&items);
        assert_eq!(verdicts.len(), batch.len());
        for (at, (vector, verdict)) in batch.iter().zip(verdicts).enumerate() {
            let (name, n, backend) = (&vector.name, batch.len(), verifier.backend());
            assert_eq!(verdict, vector.valid, "{name} at {at} of {n}, {backend}");
        }
    }
}

/// `vector` at every position of a batch of `n` of else honest signatures.
fn check_everywhere(verifiers: &mut [Verifier], vector: &Vector, honest: &[Vector], n: usize) {
    let mut batch: Vec<&Vector> = honest[..n].iter().collect();
    for at in 0..n {
        let before = std::mem::replace(&mut batch[at], vector);
        check(verifiers, &batch);
        batch[at] = before;
    }
}

/// Every vector at every position of a batch of `n`: vectors at every other place, moving on by one from batch to batch.
fn check_rotating(vectors: &[&Vector], n: usize) {
    let honest = honest(n);
    let mut verifiers = verifiers();
    for group in vectors.chunks(n.div_ceil(2)) {
        for shift in 0..n {
            let mut batch: Vec<&Vector> = honest.iter().collect();
            for (i, vector) in group.iter().enumerate() {
                batch[(2 * i + shift) % n] = vector;
            }
            assert_eq!(batch.iter().filter(|v| !v.name.starts_with("honest")).count(), group.len());
            check(&mut verifiers, &batch);
        }
    }
}

#[test]
fn verdicts_are_those_of_the_rule() {
    let vectors = all();
    for vector in &vectors {
        assert_eq!(vector.zebra_says(), vector.valid, "zebra on {}", vector.name);
        assert_eq!(verify_one(&vector.signed()), vector.valid, "{}", vector.name);
    }
    let valid = vectors.iter().filter(|vector| vector.valid).count();
    assert!(valid > 800 && vectors.len() - valid > 300, "{valid} of {}", vectors.len());
}

#[test]
fn signing_agrees_with_rfc_8032() {
    for (secret, vector) in rfc8032() {
        let key = SecretKey::from_seed(&secret);
        assert_eq!(key.public(), vector.key, "{}", vector.name);
        assert_eq!(key.sign_raw(&vector.message), vector.signature, "{}", vector.name);
    }
}

#[test]
fn every_position_of_1_2_and_3() {
    let (honest, mut verifiers) = (honest(3), verifiers());
    for vector in all() {
        for n in [1, 2, 3] {
            check_everywhere(&mut verifiers, &vector, &honest, n);
        }
    }
}

#[test]
fn every_position_of_64() {
    let (honest, mut verifiers) = (honest(64), verifiers());
    for vector in small_sets() {
        check_everywhere(&mut verifiers, &vector, &honest, 64);
    }
}

#[test]
fn every_position_of_64_and_257_by_rotation_of_valid_ones() {
    let vectors = all();
    let valid: Vec<&Vector> = vectors.iter().filter(|vector| vector.valid).collect();
    check_rotating(&valid, 64);
    check_rotating(&valid, 257);
}

#[test]
fn every_position_of_64_and_257_by_rotation_of_invalid_ones() {
    let vectors = all();
    let invalid: Vec<&Vector> = vectors.iter().filter(|vector| !vector.valid).collect();
    check_rotating(&invalid, 64);
    check_rotating(&invalid, 257);
}

#[test]
fn one_bad_among_256_honest_is_found() {
    let (honest, mut verifiers) = (honest(257), verifiers());
    let vectors = all();
    for (i, vector) in vectors.iter().filter(|vector| !vector.valid).enumerate() {
        for at in [0, (7 * i) % 257, 256] {
            let mut batch: Vec<&Vector> = honest.iter().collect();
            batch[at] = vector;
            check(&mut verifiers, &batch);
        }
    }
}
