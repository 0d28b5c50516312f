//! The one rule by which a signature is valid, for one and for many.
//!
//! (A, R, s, M) is accepted if and only if s < ℓ, A and R decode by ZIP-215's rule (a non-canonical y is allowed), and
//! \[8\]\[s\]B = \[8\]R + \[8\]\[k\]A with k = SHA-512(R ‖ A ‖ M) over the bytes as received. M is the domain prefix
//! followed by the message.
//!
//! Because of the cofactor 8 the parts of small order never count, so the equation of a batch, a random combination of
//! the equations of its members, holds if and only if theirs do (but for a chance of 2⁻¹²⁷ that nobody can steer: the
//! coefficients come from a secret stream). The verdict on a signature thus does not depend on its company.

use std::ops::Range;

use curve25519_dalek::edwards::CompressedEdwardsY;

#[cfg(target_arch = "x86_64")]
use super::avx512::Engine as Fast;
use super::backend::{Backend, Coefficients};
#[cfg(not(target_arch = "x86_64"))]
use super::portable::Portable as Fast;
use super::portable::{Portable, check_one};
use crate::types::SIGNATURE_BYTES;

/// Below this many signatures the equations one by one are cheaper than that of a batch.
const BATCH_MIN: usize = 3;
/// From so many signatures on eight lanes are faster than one.
const FAST_MIN: usize = 12;
/// What looking for the bad ones may cost: signatures put through equations of halves, as a multiple of the batch. One
/// bad signature needs at most 2; when the bad ones are so many that this is spent, the rest is judged one by one.
const SPLIT_BUDGET: usize = 2;

/// A signature with what it is said to sign.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The public key, A.
    pub key: &'a [u8; 32],
    /// Prefix of what is signed; see [`Domain`](super::Domain). Empty for formats that bring their own.
    pub domain: &'a [u8],
    /// What is signed behind the prefix.
    pub message: &'a [u8],
    /// R ‖ s.
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

/// Whether `key` may be registered: it decodes and is not of small order.
#[must_use]
pub fn is_acceptable_key(key: &[u8; 32]) -> bool {
    CompressedEdwardsY(*key).decompress().is_some_and(|point| !point.is_small_order())
}

/// Judges one signature. Equal to what a [`Verifier`] says in any batch.
#[must_use]
pub fn verify_one(signed: &Signed<'_>) -> bool {
    check_one(signed)
}

/// Judges signatures, many at once, with decoded keys kept between calls.
#[derive(Debug)]
pub struct Verifier {
    /// Where the processor has it.
    fast: Option<Box<Fast>>,
    portable: Portable,
    coefficients: Coefficients,
}

impl Verifier {
    /// With a secret `seed` for the coefficients of batches and room for about `cache_keys` decoded keys, some 800
    /// bytes each. Computes by AVX-512 IFMA where the processor has it.
    ///
    /// Who knows the seed can make batches of bad signatures that pass: outside of a simulator it comes from the
    /// operating system and no two verifiers share one.
    #[must_use]
    pub fn new(seed: [u8; 32], cache_keys: usize) -> Self {
        Self { fast: fast(&seed, cache_keys), ..Self::portable(seed, cache_keys) }
    }

    /// As [`Verifier::new`], by what any processor can do. The verdicts are the same.
    #[must_use]
    pub fn portable(seed: [u8; 32], cache_keys: usize) -> Self {
        let portable = Portable::new(&seed, cache_keys);
        Self { fast: None, portable, coefficients: Coefficients::new(seed) }
    }

    /// Name of the way in which it computes large batches.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        if self.fast.is_some() { "AVX-512 IFMA" } else { "portable" }
    }

    /// One verdict for each item, in their order.
    #[must_use]
    pub fn verify(&mut self, items: &[Signed<'_>]) -> Vec<bool> {
        if items.len() < BATCH_MIN {
            return self.portable.check_each(items);
        }
        match &mut self.fast {
            Some(fast) if items.len() >= FAST_MIN => judge(&mut **fast, items, &mut self.coefficients),
            _ => judge(&mut self.portable, items, &mut self.coefficients),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn fast(seed: &[u8; 32], cache_keys: usize) -> Option<Box<Fast>> {
    Fast::new(seed, cache_keys).map(Box::new)
}

#[cfg(not(target_arch = "x86_64"))]
fn fast(_seed: &[u8; 32], _cache_keys: usize) -> Option<Box<Fast>> {
    None
}

fn judge<B: Backend>(backend: &mut B, items: &[Signed<'_>], coefficients: &mut Coefficients) -> Vec<bool> {
    backend.prepare(items);
    let all = 0..backend.len();
    let budget = SPLIT_BUDGET * all.len();
    let mut judgement =
        Judgement { backend, items, coefficients, verdicts: vec![false; items.len()], budget };
    if !all.is_empty() && !judgement.accept(all.clone()) {
        judgement.split(all);
    }
    judgement.verdicts
}

/// A batch on trial.
struct Judgement<'a, B> {
    backend: &'a mut B,
    items: &'a [Signed<'a>],
    coefficients: &'a mut Coefficients,
    verdicts: Vec<bool>,
    /// Signatures that may still be put through equations of halves.
    budget: usize,
}

impl<B: Backend> Judgement<'_, B> {
    /// Accepts all of a range if its equation holds. A range below [`BATCH_MIN`] is judged one by one, which settles
    /// it either way.
    fn accept(&mut self, range: Range<usize>) -> bool {
        if range.len() < BATCH_MIN {
            self.judge_each(range);
            return true;
        }
        let holds = self.backend.holds(range.clone(), self.coefficients);
        if holds {
            for at in range {
                self.verdicts[self.backend.position(at)] = true;
            }
        }
        holds
    }

    /// Finds the bad ones in a range whose equation does not hold.
    fn split(&mut self, range: Range<usize>) {
        if range.len() <= B::EACH_MAX || self.budget < range.len() {
            self.judge_each(range);
            return;
        }
        self.budget -= range.len();
        let middle = range.start + range.len() / 2;
        let (left, right) = (range.start..middle, middle..range.end);
        if self.accept(left.clone()) {
            // The fault lies on the right then: no need to ask.
            self.split(right);
            return;
        }
        let right_holds = self.accept(right.clone());
        self.split(left);
        if !right_holds {
            self.split(right);
        }
    }

    fn judge_each(&mut self, range: Range<usize>) {
        for (at, verdict) in range.clone().zip(self.backend.check(range, self.items)) {
            self.verdicts[self.backend.position(at)] = verdict;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    fn messages(n: usize) -> Vec<(SecretKey, Vec<u8>)> {
        (0..n)
            .map(|i| {
                let byte = u8::try_from(i % 7).unwrap_or(0);
                (SecretKey::from_seed(&[byte; 32]), format!("message {i}").into_bytes())
            })
            .collect()
    }

    #[test]
    fn every_pattern_of_bad_ones_is_found() {
        let mut verifier = Verifier::new([9; 32], 4);
        let made = messages(300);
        let publics: Vec<[u8; 32]> = made.iter().map(|(key, _)| key.public()).collect();
        let honest: Vec<[u8; 64]> = made.iter().map(|(key, message)| key.sign_raw(message)).collect();
        let patterns: [fn(usize) -> bool; 7] = [
            |_| false,
            |_| true,
            |i| i == 0,
            |i| i == 299,
            |i| i % 2 == 0,
            |i| i < 150,
            |i| i == 63 || i == 64 || i == 200,
        ];
        for is_bad in patterns {
            for n in [1, 2, 3, 64, 65, 130, 300] {
                let signatures: Vec<[u8; 64]> = (0..n)
                    .map(|i| {
                        let mut signature = honest[i];
                        signature[40] ^= u8::from(is_bad(i));
                        signature
                    })
                    .collect();
                let items: Vec<Signed<'_>> = (0..n)
                    .map(|i| Signed {
                        key: &publics[i],
                        domain: &[],
                        message: &made[i].1,
                        signature: &signatures[i],
                    })
                    .collect();
                let expected: Vec<bool> = (0..n).map(|i| !is_bad(i)).collect();
                assert_eq!(verifier.verify(&items), expected, "{n}");
            }
        }
    }

    #[test]
    fn what_cannot_be_decoded_fails_alone() {
        let key = SecretKey::from_seed(&[1; 32]);
        let public = key.public();
        let signature = key.sign_raw(b"m");
        // y = 2 is on no point; s = ℓ is one too large.
        let mut no_point = [0; 32];
        no_point[0] = 2;
        let mut bad_r = signature;
        bad_r[..32].copy_from_slice(&no_point);
        let mut bad_s = signature;
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        bad_s[32..].copy_from_slice(&order.unwrap_or_default());
        let item = |key, signature| Signed { key, domain: b"", message: b"m", signature };
        let items = [
            item(&public, &signature),
            item(&no_point, &signature),
            item(&public, &bad_r),
            item(&public, &bad_s),
            item(&public, &signature),
            item(&public, &signature),
        ];
        let verdicts = Verifier::new([0; 32], 8).verify(&items);
        assert_eq!(verdicts, [true, false, false, false, true, true]);
        assert_eq!(items.each_ref().map(verify_one).to_vec(), verdicts);
    }

    #[test]
    fn the_domain_is_part_of_what_is_signed() {
        let key = SecretKey::from_seed(&[1; 32]);
        let (public, signature) = (key.public(), key.sign_raw(b"domain message"));
        let check = |domain: &[u8], message: &[u8]| {
            verify_one(&Signed { key: &public, domain, message, signature: &signature })
        };
        assert!(check(b"domain ", b"message"));
        assert!(check(b"", b"domain message"));
        assert!(!check(b"other  ", b"message"));
        assert!(!check(b"", b"message"));
    }

    #[test]
    fn nothing_to_verify_is_nothing_found() {
        assert!(Verifier::new([0; 32], 8).verify(&[]).is_empty());
    }

    #[test]
    fn keys_of_small_order_are_not_acceptable() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(!is_acceptable_key(&identity));
        assert!(!is_acceptable_key(&[0; 32]));
        assert!(is_acceptable_key(&SecretKey::from_seed(&[3; 32]).public()));
    }
}
