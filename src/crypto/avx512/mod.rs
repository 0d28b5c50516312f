//! The equation of a batch by AVX-512 IFMA: eight field elements, eight SHA-512 streams and eight windows of the sum side by side.
//!
//! Same rule, same verdicts as [`super::portable`], four to eight times as fast. Everything is public, so nothing needs
//! constant time.
//!
//! *Safety.* Functions name the processor features that they use, and are safe for callers that have them. An [`Engine`] exists only where
//! all of them were found at run time, so its methods are where safe code without features enters. Besides, only
//! [`lanes`] and one function of [`msm`] are `unsafe`: they read and write what a reference vouches for.

mod each;
mod field;
mod lanes;
mod msm;
mod point;
mod scalar;
mod sha512;

use std::ops::Range;
use std::sync::OnceLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_COMPRESSED;

use super::backend::{Backend, Coefficients};
use super::keys::KeyTable;
use super::verify::{Signed, verify_one};
use msm::{Digits, Multiples};
use point::{Extended8, Niels8, Row, decompress};
use scalar::{Coefficient, Scalar, Sum};
use sha512::Messages;

/// Points that are decoded in one go.
const DECODED: usize = 16;
/// From so many signatures on, eight equations side by side take less time than one after the other.
const LANES_MIN: usize = 3;
/// From so many points in a sum on, digits of eight bits pay for their 129 buckets; below, four bits and nine.
const WIDE_DIGITS_MIN: usize = 220;

/// Whether the processor, and the operating system, have what is needed, and what the compiler takes to come with it.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512ifma")
}

/// A signature, decoded.
#[derive(Debug)]
struct Prepared {
    /// Position in the caller's list.
    at: usize,
    /// Position of A in the table.
    key: usize,
    r: Row,
    s: Scalar,
    /// SHA-512(R ‖ A ‖ M), not reduced.
    k: [u64; 8],
}

/// A known key, or the base.
#[derive(Debug, Clone, Copy)]
struct Key {
    row: Row,
    /// The point times 2¹²⁸, once a batch needed it: it costs more than to decode the key.
    high: Option<Row>,
}

/// What a key's signatures add up to in one batch: Σ m·k of the positive coefficients, and of the negative ones.
#[derive(Debug, Clone, Copy, Default)]
struct KeySum {
    /// The batch that it belongs to.
    batch: u64,
    plus: Sum,
    minus: Sum,
}

/// See the module's text. Memory is kept from batch to batch.
#[derive(Debug)]
pub(super) struct Engine {
    keys: KeyTable<Key>,
    prepared: Vec<Prepared>,
    messages: Messages,
    sums: Vec<KeySum>,
    batch: u64,
    multiples: Multiples,
}

impl Engine {
    /// An engine, where the processor can; with room for about `cache_keys` decoded keys.
    pub(super) fn new(seed: &[u8; 32], cache_keys: usize) -> Option<Self> {
        is_supported().then(|| Self {
            keys: KeyTable::new(seed, cache_keys),
            prepared: Vec::new(),
            messages: Messages::default(),
            sums: Vec::new(),
            batch: 0,
            multiples: Multiples::new(),
        })
    }

    /// Decodes the keys that are not known yet; what is no point stays unknown.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn learn(&mut self, items: &[Signed<'_>]) {
        let mut missing: Vec<&[u8; 32]> =
            items.iter().map(|item| item.key).filter(|key| self.keys.position(key).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        for keys in missing.chunks(DECODED) {
            for (key, row) in keys.iter().zip(decode(keys)) {
                if let Some(row) = row {
                    self.keys.insert(key, Key { row, high: None });
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    fn decode_all(&mut self, items: &[Signed<'_>]) {
        self.learn(items);
        // In sixteens: what fails alone leaves a gap in its sixteen, and no more.
        for (first, chunk) in items.chunks(DECODED).enumerate() {
            let from = self.prepared.len();
            let encoded: [&[u8; 32]; DECODED] =
                std::array::from_fn(|i| halves(chunk[i.min(chunk.len() - 1)].signature).0);
            for ((i, item), row) in chunk.iter().enumerate().zip(decode(&encoded)) {
                let s = Scalar::canonical(halves(item.signature).1);
                let (Some(r), Some(s), Some(key)) = (row, s, self.keys.position(item.key)) else { continue };
                self.prepared.push(Prepared { at: first * DECODED + i, key, r, s, k: [0; 8] });
            }
            self.hash(items, from);
        }
    }

    /// Hashes for the signatures from `from` on.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn hash(&mut self, items: &[Signed<'_>], from: usize) {
        for chunk in self.prepared[from..].chunks_mut(8) {
            for lane in 0..8 {
                let item = &items[chunk[lane.min(chunk.len() - 1)].at];
                let heads = [halves(item.signature).0, item.key];
                self.messages.set(lane, heads, [item.domain, item.message]);
            }
            for (prepared, digest) in chunk.iter_mut().zip(sha512::hash(&self.messages)) {
                let (words, _) = digest.as_chunks::<8>();
                for (word, bytes) in prepared.k.iter_mut().zip(words) {
                    *word = u64::from_le_bytes(*bytes);
                }
            }
        }
    }

    /// Judges signatures each by its own equation.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn check_each(&self, prepared: &[Prepared]) -> Vec<bool> {
        let mut verdicts = Vec::with_capacity(prepared.len());
        for chunk in prepared.chunks(each::LANES) {
            let equations = std::array::from_fn(|lane| {
                let one = &chunk[lane.min(chunk.len() - 1)];
                let (k, s) =
                    (Scalar::reduced(&one.k).digits::<{ each::WIDTH }>(), one.s.digits::<{ each::WIDTH }>());
                each::Equation { key: &self.keys.get(one.key).row, r: &one.r, k, s }
            });
            let hold = each::hold(&equations);
            verdicts.extend((0..chunk.len()).map(|lane| hold >> lane & 1 == 1));
        }
        verdicts
    }

    /// \[8\](Σ\[z\]R + Σ\[z·k\]A − \[Σ z·s\]B) = 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma")]
    fn equation(&mut self, range: Range<usize>, coefficients: &[u128]) -> bool {
        self.batch += 1;
        self.sums.resize(self.keys.len().max(self.sums.len()), KeySum::default());
        let (mut plus, mut minus) = (Sum::default(), Sum::default());
        let mut used = Vec::new();
        for (item, bits) in self.prepared[range.clone()].iter().zip(coefficients) {
            let z = Coefficient::new(*bits);
            let sum = &mut self.sums[item.key];
            if sum.batch != self.batch {
                *sum = KeySum { batch: self.batch, ..KeySum::default() };
                used.push(item.key);
            }
            // The base counts against the others.
            let (of_key, of_base) =
                if z.is_negative { (&mut sum.minus, &mut plus) } else { (&mut sum.plus, &mut minus) };
            of_key.add_product(z.amount, &item.k);
            of_base.add_product(z.amount, item.s.words());
        }
        self.raise(&used);
        let of_base = plus.minus(&minus);
        if range.len() + 2 * (used.len() + 1) < WIDE_DIGITS_MIN {
            self.cancels::<4, 4>(range, coefficients, &used, &of_base)
        } else {
            self.cancels::<8, 2>(range, coefficients, &used, &of_base)
        }
    }

    /// Whether the sum is neutral: of what was decoded in a range, of the keys that are used there, and of the base.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma")]
    fn cancels<const W: usize, const G: usize>(
        &mut self,
        range: Range<usize>,
        coefficients: &[u128],
        used: &[usize],
        of_base: &Scalar,
    ) -> bool {
        self.multiples.clear();
        for (item, bits) in self.prepared[range].iter().zip(coefficients) {
            self.multiples.push(item.r, Coefficient::new(*bits).digits::<W>());
        }
        for key in used {
            let sum = &self.sums[*key];
            push(&mut self.multiples, self.keys.get(*key), &sum.plus.minus(&sum.minus).digits::<W>());
        }
        push(&mut self.multiples, base(), &of_base.digits::<W>());
        self.multiples.cancel::<W, G>()
    }

    /// Has 2¹²⁸ times these keys at hand.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn raise(&mut self, used: &[usize]) {
        let missing: Vec<usize> =
            used.iter().copied().filter(|key| self.keys.get(*key).high.is_none()).collect();
        for keys in missing.chunks(8) {
            let rows = std::array::from_fn(|lane| self.keys.get(keys[lane.min(keys.len() - 1)]).row);
            for (key, high) in keys.iter().zip(raised(&rows)) {
                self.keys.get_mut(*key).high = Some(high);
            }
        }
    }
}

/// Adds a point with a factor of 256 bits.
fn push(multiples: &mut Multiples, key: &Key, [low, high]: &[Digits; 2]) {
    multiples.push(key.row, *low);
    let raised = key.high.unwrap_or_else(|| unreachable!("it was made for this batch"));
    multiples.push(raised, *high);
}

/// 2¹²⁸ times the points.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn raised(rows: &[Row; 8]) -> [Row; 8] {
    let mut points = Extended8::identity().add_niels(&Niels8::gather(rows.each_ref()));
    for _ in 0..128 {
        points = points.double();
    }
    points.to_niels().rows()
}

impl Backend for Engine {
    const EACH_MAX: usize = 64;

    fn prepare(&mut self, items: &[Signed<'_>]) {
        self.keys.make_room();
        self.prepared.clear();
        if !items.is_empty() {
            // SAFETY: an engine exists only where the features are.
            unsafe { self.decode_all(items) }
        }
    }

    fn len(&self) -> usize {
        self.prepared.len()
    }

    fn position(&self, at: usize) -> usize {
        self.prepared[at].at
    }

    fn check(&self, range: Range<usize>, items: &[Signed<'_>]) -> Vec<bool> {
        let prepared = &self.prepared[range];
        if prepared.len() < LANES_MIN {
            return prepared.iter().map(|one| verify_one(&items[one.at])).collect();
        }
        // SAFETY: an engine exists only where the features are.
        unsafe { self.check_each(prepared) }
    }

    fn holds(&mut self, range: Range<usize>, coefficients: &mut Coefficients) -> bool {
        let drawn = coefficients.draw(range.len());
        // SAFETY: an engine exists only where the features are.
        unsafe { self.equation(range, &drawn) }
    }
}

/// R and s.
fn halves(signature: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (halves, _) = signature.as_chunks::<32>();
    (&halves[0], &halves[1])
}

/// Up to sixteen points.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn decode(encoded: &[&[u8; 32]]) -> [Option<Row>; DECODED] {
    let mut lanes = [[[0; 32]; 8]; 2];
    for i in 0..DECODED {
        lanes[i / 8][i % 8] = *encoded[i.min(encoded.len() - 1)];
    }
    let mut out = [None; DECODED];
    for (k, (points, are_points)) in decompress::<2>(&lanes).into_iter().enumerate() {
        for (lane, row) in points.rows().into_iter().enumerate() {
            out[8 * k + lane] = (are_points >> lane & 1 == 1).then_some(row);
        }
    }
    out
}

/// The base point B.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn base() -> &'static Key {
    static BASE: OnceLock<Key> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return base;
    }
    let [row, ..] = decode(&[&ED25519_BASEPOINT_COMPRESSED.0]);
    let row = row.unwrap_or_else(|| unreachable!("the base is a point"));
    let [high, ..] = raised(&[row; 8]);
    BASE.get_or_init(|| Key { row, high: Some(high) })
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::Scalar as DalekScalar;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use sha2::{Digest as _, Sha512};

    use super::*;
    use crate::crypto::SecretKey;

    /// The verdicts are right also where an equation wrongly fails, since each is judged alone then; so it is looked at by itself.
    #[test]
    fn the_equation_holds_for_good_ones_and_for_no_bad_one() {
        // Room for few keys, so that the table is emptied in between.
        let Some(mut engine) = Engine::new(&[1; 32], 20) else { return };
        let mut coefficients = Coefficients::new([2; 32]);
        // Of those up to 138, sums have less than 220 points.
        let keys: Vec<SecretKey> = (0..40).map(|i| SecretKey::from_seed(&[i; 32])).collect();
        for n in [12, 64, 137, 138, 139, 1_024] {
            let messages: Vec<[u8; 8]> = (0..n).map(|i| (i as u64 / 2).to_be_bytes()).collect();
            let made: Vec<([u8; 32], [u8; 64])> = messages
                .iter()
                .zip(keys.iter().cycle())
                .map(|(message, key)| (key.public(), key.sign_raw(message)))
                .collect();
            let mut items: Vec<Signed<'_>> = made
                .iter()
                .zip(&messages)
                .map(|((key, signature), message)| Signed { key, domain: &[], message, signature })
                .collect();
            // One of them twice.
            items[n / 2] = items[0];
            engine.prepare(&items);
            assert_eq!(engine.len(), n);
            assert!(
                engine.holds(0..n, &mut coefficients) && engine.holds(n / 3..n, &mut coefficients),
                "{n}"
            );
            items[n - 1].message = b"another";
            assert_eq!(engine.check(0..n, &items), vec![true; n], "{n}, one by one");
            engine.prepare(&items);
            let last = engine.check(n - 3..n, &items);
            assert_eq!(last, [true, true, false], "{n}, one by one");
            assert!(
                !engine.holds(0..n, &mut coefficients) && engine.holds(0..n - 1, &mut coefficients),
                "{n}"
            );
        }
    }

    /// Keys and R outside of the group of the base, which ZIP-215 takes, in sums of few points and of many. The slow way would
    /// find the right verdicts too.
    #[test]
    fn the_equation_holds_for_points_of_small_order() {
        let Some(mut engine) = Engine::new(&[1; 32], 100) else { return };
        let mut coefficients = Coefficients::new([2; 32]);
        let made: Vec<([u8; 32], [u8; 64])> = (0..300_u32)
            .map(|i| {
                let secret = DalekScalar::from(u64::from(i % 8) * 0x1234_5678_9abc_def1);
                let nonce = DalekScalar::from(u64::from(i) << 32 | 7);
                let torsion = |n: u32| EIGHT_TORSION[n as usize % 8];
                let key = (ED25519_BASEPOINT_POINT * secret + torsion(i)).compress().0;
                let r = (ED25519_BASEPOINT_POINT * nonce + torsion(i / 8)).compress().0;
                let mut hash = Sha512::new();
                [&r, &key].into_iter().for_each(|part| hash.update(part));
                hash.update(i.to_be_bytes());
                let k = DalekScalar::from_bytes_mod_order_wide(&hash.finalize().into());
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&r);
                signature[32..].copy_from_slice(&(nonce + k * secret).to_bytes());
                (key, signature)
            })
            .collect();
        let messages: Vec<[u8; 4]> = (0..300_u32).map(u32::to_be_bytes).collect();
        let items: Vec<Signed<'_>> = made
            .iter()
            .zip(&messages)
            .map(|((key, signature), message)| Signed { key, domain: &[], message, signature })
            .collect();
        engine.prepare(&items);
        assert_eq!(engine.len(), 300);
        assert!(engine.holds(0..300, &mut coefficients) && engine.holds(0..100, &mut coefficients));
        assert_eq!(engine.check(0..300, &items), vec![true; 300]);
    }
}
