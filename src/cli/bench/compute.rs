//! What the processor does: signatures and hashes.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::sample::{Cores, Figure, Sampling};
use crate::cli::CliError;
use crate::crypto::{SecretKey, Signed, Verifier, verify_one};
use crate::proof::merkle::leaf_hashes;
use crate::types::{SIGNATURE_BYTES, STUB_BYTES};

/// Bytes of a signed message: about as many as a transaction has.
pub(super) const MESSAGE_BYTES: usize = 300;
/// Keys of the batch in which each signs once, and its signatures.
pub(super) const MANY_KEYS: usize = 1_024;
/// Keys of the batch of a network whose gateways sign most of the load.
pub(super) const FEW_KEYS: usize = 32;
/// Signatures of that batch.
pub(super) const FEW_KEYS_BATCH: usize = 4_096;
/// Leaves hashed together.
const LEAVES: usize = 1_024;

/// Signatures verified each second.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verified {
    /// What batches are computed by.
    pub(super) backend: &'static str,
    pub(super) message_bytes: usize,
    /// One signature alone, on one core.
    pub(super) single_per_s: Figure,
    /// 1,024 signatures of as many keys.
    pub(super) many_keys_per_s: Cores,
    /// 4,096 signatures of 32 keys.
    pub(super) few_keys_per_s: Cores,
}

/// What is hashed each second.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hashed {
    /// SHA-256 of leaves of the Merkle log, many together.
    pub(super) sha256_leaves_per_s: Cores,
    /// Bytes of the buffer that BLAKE3 hashes.
    pub(super) blake3_buffer_bytes: usize,
    pub(super) blake3_bytes_per_s: Cores,
}

struct Made {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

/// Signatures of different messages, the keys in turn.
fn make(count: usize, keys: usize) -> Vec<Made> {
    let secrets: Vec<SecretKey> = (0..keys)
        .map(|number| SecretKey::from_seed(blake3::hash(&number.to_be_bytes()).as_bytes()))
        .collect();
    let sign = |(number, secret): (usize, &SecretKey)| {
        let message = bytes(number, MESSAGE_BYTES);
        Made { key: secret.public(), signature: secret.sign_raw(&message), message }
    };
    (0..count).zip(secrets.iter().cycle()).map(sign).collect()
}

fn signed(made: &[Made]) -> Vec<Signed<'_>> {
    made.iter()
        .map(|made| Signed {
            key: &made.key,
            domain: &[],
            message: &made.message,
            signature: &made.signature,
        })
        .collect()
}

/// Bytes that the hash of a number fills: nothing that could be compressed.
pub(super) fn bytes(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A verifier with room for all keys, as each thread of a validator has one. Here threads may share the secret: nobody is deceived.
fn verifier(seed: [u8; 32]) -> Verifier {
    Verifier::new(seed, FEW_KEYS_BATCH)
}

fn batches(
    sampling: Sampling,
    cores: usize,
    stop: &AtomicBool,
    (count, keys): (usize, usize),
) -> Result<Cores, CliError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| CliError::unable(format!("no random numbers for a verifier: {error}")))?;
    let made = make(count, keys);
    let items = signed(&made);
    sampling.on_cores(cores, stop, || {
        let mut verifier = verifier(seed);
        let items = &items;
        move || verifier.verify(black_box(items)).into_iter().map(u64::from).sum()
    })
}

/// Measures the verification of signatures.
pub(super) fn verify(sampling: Sampling, cores: usize, stop: &AtomicBool) -> Result<Verified, CliError> {
    let made = make(1, 1);
    let one = signed(&made);
    let single = sampling.rate(1, stop, || {
        let one = &one;
        move || one.iter().map(|one| u64::from(verify_one(black_box(one)))).sum()
    })?;
    Ok(Verified {
        backend: verifier([0; 32]).backend(),
        message_bytes: MESSAGE_BYTES,
        single_per_s: single,
        many_keys_per_s: batches(sampling, cores, stop, (MANY_KEYS, MANY_KEYS))?,
        few_keys_per_s: batches(sampling, cores, stop, (FEW_KEYS_BATCH, FEW_KEYS))?,
    })
}

/// Measures hashing. All threads hash the same buffer.
pub(super) fn hash(
    sampling: Sampling,
    cores: usize,
    stop: &AtomicBool,
    buffer_bytes: usize,
) -> Result<Hashed, CliError> {
    let leaves: Vec<Vec<u8>> = (0..LEAVES).map(|number| bytes(number, STUB_BYTES)).collect();
    let sha256 = sampling.on_cores(cores, stop, || {
        let leaves = &leaves;
        move || black_box(leaf_hashes(black_box(leaves))).len() as u64
    })?;
    let buffer = bytes(0, buffer_bytes);
    let blake3 = sampling.on_cores(cores, stop, || {
        let buffer = &buffer;
        move || {
            black_box(blake3::hash(black_box(buffer)));
            buffer.len() as u64
        }
    })?;
    Ok(Hashed { sha256_leaves_per_s: sha256, blake3_buffer_bytes: buffer_bytes, blake3_bytes_per_s: blake3 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_verified_holds_and_all_is_counted() {
        let made = make(40, 3);
        let mut verifier = verifier([1; 32]);
        assert!(verifier.verify(&signed(&made)).into_iter().all(|valid| valid));
        let sampling = Sampling { samples: 1, each: Duration::ZERO };
        let stop = AtomicBool::new(false);
        let verified = verify(sampling, 2, &stop).unwrap();
        let hashed = hash(sampling, 2, &stop, 1 << 16).unwrap();
        let rates = [
            verified.single_per_s,
            verified.many_keys_per_s.one_core,
            verified.few_keys_per_s.all_cores,
            hashed.sha256_leaves_per_s.one_core,
            hashed.blake3_bytes_per_s.all_cores,
        ];
        assert!(rates.iter().all(|rate| rate.median > 0.0), "{rates:?}");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(verify(sampling, 1, &stop).is_err());
    }
}
