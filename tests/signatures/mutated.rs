//! Batches that a string of bytes describes: honest signatures, and among them altered ones, points of small order, encodings that
//! are not canonical and arbitrary bytes, at any position. Every back end and `ed25519-zebra`, one by one, have to agree on each member.
//!
//! The bytes come from a seed, in the tests and the soak, or from a fuzzer.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use salus::crypto::{SecretKey, Signed, Verifier, verify_one};

use crate::points::{challenge, plus_order, small_order_encodings, torsion, zebra_says};

/// Sizes of batches: about every bound at which a back end changes its way, and some between.
const SIZES: [usize; 16] = [1, 2, 3, 8, 11, 12, 13, 16, 17, 63, 65, 130, 159, 160, 161, 257];
const DOMAIN: &[u8] = b"domain";
const KEYS: u8 = 50;

#[derive(Clone)]
struct Member {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
    valid: bool,
}

/// The judges, and what batches are made of.
pub struct Judges {
    verifiers: [Verifier; 2],
    honest: Vec<Member>,
    small: Vec<[u8; 32]>,
    torsion: Vec<EdwardsPoint>,
}

/// The bytes that have not been looked at; zeros behind them.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % bound
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}

impl Judges {
    pub fn new() -> Self {
        let honest = (0..257_u16).map(|i| {
            let secret = SecretKey::from_seed(&[i.to_le_bytes()[0] % KEYS; 32]);
            let message = vec![i.to_le_bytes()[0]; usize::from(37 * i % 400)];
            let signature = secret.sign_raw(&[DOMAIN, &message].concat());
            Member { key: secret.public(), message, signature, valid: true }
        });
        Self {
            // One with room for fewer keys than there are, so that its table is emptied again and again.
            verifiers: [Verifier::new([5; 32], 20), Verifier::portable([5; 32], 1_000)],
            honest: honest.collect(),
            small: small_order_encodings(),
            torsion: torsion(),
        }
    }

    /// Judges the batch that `bytes` describe; says how many signatures it has, and how many are valid.
    ///
    /// # Panics
    /// If the verdicts differ.
    pub fn judge(&mut self, bytes: &[u8]) -> (usize, usize) {
        let mut choices = Choices(bytes);
        let size = SIZES[usize::from(choices.byte()) % SIZES.len()];
        let mut batch = self.honest[..size].to_vec();
        let altered = 1 + usize::from(choices.byte()) % 24;
        for _ in 0..altered {
            let at = choices.below(size);
            let mut member = batch[at].clone();
            self.alter(&mut member, &batch, &mut choices);
            member.valid = zebra_says(&member.key, &[DOMAIN, &member.message].concat(), &member.signature);
            assert_eq!(verify_one(&member.signed()), member.valid, "alone: {}", member.shown());
            batch[at] = member;
        }
        let items: Vec<Signed<'_>> = batch.iter().map(Member::signed).collect();
        for verifier in &mut self.verifiers {
            let verdicts = verifier.verify(&items);
            assert_eq!(verdicts.len(), size);
            for (at, (member, verdict)) in batch.iter().zip(verdicts).enumerate() {
                let backend = verifier.backend();
                assert_eq!(verdict, member.valid, "{backend}, at {at} of {size}: {}", member.shown());
            }
        }
        (size, batch.iter().filter(|member| member.valid).count())
    }

    /// Alters one member in one way.
    fn alter(&self, member: &mut Member, batch: &[Member], choices: &mut Choices<'_>) {
        let kind = choices.byte() % 16;
        let small = |choices: &mut Choices<'_>| self.small[choices.below(self.small.len())];
        match kind {
            0 => member.signature[choices.below(64)] ^= 1 << (choices.byte() % 8),
            1 => member.key[choices.below(32)] ^= 1 << (choices.byte() % 8),
            2 => member.message.push(choices.byte()),
            3 => member.signature[..32].copy_from_slice(&small(choices)),
            4 => member.key = small(choices),
            5 => {
                member.key = small(choices);
                member.signature[..32].copy_from_slice(&small(choices));
                member.signature[32..].fill(0);
            }
            6 => member.signature[32..].fill(0),
            7 => {
                let s = *member.signature.last_chunk::<32>().expect("32 of 64");
                member.signature[32..].copy_from_slice(&plus_order(s));
            }
            8 => member.key = batch[choices.below(batch.len())].key,
            9 => member.signature = choices.bytes(),
            10 => member.key = choices.bytes(),
            11 => *member = batch[choices.below(batch.len())].clone(),
            // A y of p and more: only a few of them are points.
            12 => member.signature[..32].copy_from_slice(&above_p(choices)),
            13 => member.key = above_p(choices),
            14 => self.sign_with_torsion(member, choices, Scalar::ZERO),
            _ => {
                let off = Scalar::from(choices.byte());
                self.sign_with_torsion(member, choices, off);
            }
        }
    }

    /// Signs under a key and with a nonce that have parts of small order: s = r + k·a + `off`, which is valid for an `off` of 0.
    fn sign_with_torsion(&self, member: &mut Member, choices: &mut Choices<'_>, off: Scalar) {
        let (a, r) = (Scalar::from(choices.byte()), Scalar::from(choices.byte()));
        let mut encoded = |log: Scalar| {
            let torsion = self.torsion[choices.below(self.torsion.len())];
            (ED25519_BASEPOINT_POINT * log + torsion).compress().0
        };
        let (key, nonce) = (encoded(a), encoded(r));
        let s = r + challenge(&nonce, &key, &[DOMAIN, &member.message].concat()) * a + off;
        member.key = key;
        member.signature[..32].copy_from_slice(&nonce);
        member.signature[32..].copy_from_slice(s.as_bytes());
    }
}

/// One of the encodings of a y from p to 2²⁵⁵ − 1, with either sign.
fn above_p(choices: &mut Choices<'_>) -> [u8; 32] {
    let mut y = [0xff; 32];
    y[0] = 0xed + choices.byte() % 19;
    y[31] = 0x7f | choices.byte() << 7;
    y
}

impl Member {
    fn signed(&self) -> Signed<'_> {
        Signed { key: &self.key, domain: DOMAIN, message: &self.message, signature: &self.signature }
    }

    fn shown(&self) -> String {
        let [key, message, signature] = [&self.key[..], &self.message, &self.signature].map(hex::encode);
        format!("key {key}, message {message}, signature {signature}")
    }
}
