//! Sums of products of scalars modulo the order of the group, ℓ = 2²⁵² + c, that are reduced once at the end.

use super::msm::Digits;

/// ℓ − 2²⁵².
const C: u128 = 0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed;
const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 1 << 60];

/// A number below ℓ, words of 64 bits, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scalar([u64; 4]);

/// 2⁴⁵¹ℓ: zero modulo ℓ, and above any [`Sum`] of products.
const ABOVE_SUMS: [u64; 11] = {
    let mut out = [0; 11];
    let mut at = 0;
    while at < 4 {
        out[at + 7] = ORDER[at] << 3 | if at > 0 { ORDER[at - 1] >> 61 } else { 0 };
        at += 1;
    }
    out
};

/// A sum of products below 2⁶³⁹, of which it has room for 2⁶².
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum([u64; 11]);

impl Scalar {
    /// From little-endian bytes, if they are below ℓ.
    pub(super) fn canonical(bytes: &[u8; 32]) -> Option<Self> {
        let words = words(bytes);
        is_below(&words, &ORDER).then_some(Self(words))
    }

    /// From any number of 512 bits, modulo ℓ.
    pub(super) fn reduced(words: &[u64; 8]) -> Self {
        let mut sum = Sum::default();
        sum.0[..8].copy_from_slice(words);
        sum.reduce()
    }

    /// The words.
    pub(super) fn words(&self) -> &[u64; 4] {
        &self.0
    }

    /// Signed digits of W bits, W = 4 or 8, for two halves that count 1 and 2¹²⁸: all from −2^(W−1) up to below 2^(W−1), but for the
    /// last of the upper half, which is not negative. The lower half may be, which the upper one makes up for.
    pub(super) fn digits<const W: usize>(&self) -> [Digits; 2] {
        // Half a digit is added to each digit but the last, so that their carries run, and taken off each alone.
        let mut shifted = self.0;
        let half = halves::<W>();
        add(&mut shifted, &[half, half, half, half & (u64::MAX >> W)]);
        let [a, b, c, d] = shifted;
        [signed_digits::<W>([a, b], false), signed_digits::<W>([c, d], true)]
    }
}

/// Half a digit, in each digit of a word.
const fn halves<const W: usize>() -> u64 {
    let one_in_each = if W == 8 { 0x0101_0101_0101_0101 } else { 0x1111_1111_1111_1111 };
    one_in_each << (W - 1)
}

/// Digits of W bits, less half a digit each but for the last where the number ends.
#[expect(clippy::cast_possible_truncation, reason = "a digit has at most eight bits")]
fn signed_digits<const W: usize>(words: [u64; 2], ends: bool) -> Digits {
    let mut digits = Digits::default();
    let n = 128 / W;
    for (at, digit) in digits.0[..n].iter_mut().enumerate() {
        let raw = words[at * W / 64] >> (at * W % 64) & ((1 << W) - 1);
        *digit = raw as i16 - if ends && at + 1 == n { 0 } else { 1 << (W - 1) };
    }
    digits
}

/// A coefficient of a batch: ± m with m below 2¹²⁷.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficient {
    /// Its amount.
    pub(super) amount: u128,
    /// Whether it counts negative.
    pub(super) is_negative: bool,
}

impl Coefficient {
    /// From 128 random bits.
    pub(super) fn new(bits: u128) -> Self {
        Self { amount: bits & (u128::MAX >> 1), is_negative: bits >> 127 == 1 }
    }

    /// Its signed digits of W bits.
    #[expect(clippy::cast_possible_truncation, reason = "two halves of it")]
    pub(super) fn digits<const W: usize>(self) -> Digits {
        let half = halves::<W>();
        let all_but_last = u128::from(half) | u128::from(half & (u64::MAX >> W)) << 64;
        let shifted = self.amount + all_but_last;
        let mut digits = signed_digits::<W>([shifted as u64, (shifted >> 64) as u64], true);
        if self.is_negative {
            for digit in &mut digits.0 {
                *digit = -*digit;
            }
        }
        digits
    }
}

impl Sum {
    /// Adds m · x. `x` has at most 512 bits, m at most 127.
    pub(super) fn add_product<const N: usize>(&mut self, m: u128, x: &[u64; N]) {
        multiply_add(&mut self.0, m, x);
    }

    /// The difference modulo ℓ of two sums of products.
    pub(super) fn minus(&self, other: &Self) -> Scalar {
        let mut out = self.0;
        add(&mut out, &ABOVE_SUMS);
        subtract(&mut out, &other.0);
        Self(out).reduce()
    }

    /// Modulo ℓ: what is above bit 252 comes back times −c, until nothing is.
    fn reduce(&self) -> Scalar {
        let (low0, high) = split::<11, 8>(&self.0);
        let (low1, high) = split::<10, 6>(&times_c(&high)); // 452 + 125 bits
        let (low2, high) = split::<8, 4>(&times_c(&high)); // 325 + 125
        let (low3, high) = split::<6, 2>(&times_c(&high)); // 198 + 125
        let low4: [u64; 4] = times_c(&high); // 71 + 125
        // low0 + low2 + low4 + 2ℓ is below 2²⁵⁶ and more than low1 + low3.
        let mut out = low0;
        for plus in [low2, low4, ORDER, ORDER] {
            add(&mut out, &plus);
        }
        for minus in [low1, low3] {
            subtract(&mut out, &minus);
        }
        while !is_below(&out, &ORDER) {
            subtract(&mut out, &ORDER);
        }
        Scalar(out)
    }
}

/// The low 252 bits, and what is above them.
fn split<const N: usize, const H: usize>(x: &[u64; N]) -> ([u64; 4], [u64; H]) {
    let low = [x[0], x[1], x[2], x[3] & (u64::MAX >> 4)];
    let mut high = [0; H];
    for (at, word) in high.iter_mut().enumerate() {
        let above = x.get(4 + at).map_or(0, |above| above << 4);
        *word = x.get(3 + at).map_or(0, |below| below >> 60) | above;
    }
    (low, high)
}

fn times_c<const H: usize, const O: usize>(high: &[u64; H]) -> [u64; O] {
    let mut out = [0; O];
    multiply_add(&mut out, C, high);
    out
}

/// `sum` += m · x. What does not fit is lost: callers have room.
#[expect(clippy::cast_possible_truncation, reason = "words of a longer number")]
fn multiply_add<const N: usize, const A: usize>(sum: &mut [u64; A], m: u128, x: &[u64; N]) {
    for (from, half) in [(0, m as u64), (1, (m >> 64) as u64)] {
        let mut carry = 0;
        for (at, word) in x.iter().enumerate().take(A - from) {
            let next = u128::from(half) * u128::from(*word) + u128::from(sum[at + from]) + u128::from(carry);
            sum[at + from] = next as u64;
            carry = (next >> 64) as u64;
        }
        for word in sum.iter_mut().skip(from + N) {
            if carry == 0 {
                break;
            }
            let (next, over) = word.overflowing_add(carry);
            *word = next;
            carry = u64::from(over);
        }
    }
}

/// `a` += `b`. What does not fit is lost: callers have room.
fn add<const N: usize>(a: &mut [u64; N], b: &[u64; N]) {
    let mut carry = false;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, carry) = a.carrying_add(*b, carry);
    }
}

/// `a` −= `b`; whether it went below zero.
fn subtract<const N: usize>(a: &mut [u64; N], b: &[u64; N]) -> bool {
    let mut borrow = false;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, borrow) = a.borrowing_sub(*b, borrow);
    }
    borrow
}

fn is_below(a: &[u64; 4], b: &[u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (chunks, _) = bytes.as_chunks::<8>();
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::scalar::Scalar as Other;

    use super::*;

    fn hash(name: &str, n: u64) -> [u8; 64] {
        let mut bytes = [0; 64];
        blake3::Hasher::new()
            .update(name.as_bytes())
            .update(&n.to_be_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn wide_words(bytes: &[u8; 64]) -> [u64; 8] {
        let (chunks, _) = bytes.as_chunks::<8>();
        std::array::from_fn(|at| u64::from_le_bytes(chunks[at]))
    }

    fn bytes(scalar: &Scalar) -> [u8; 32] {
        let mut out = [0; 32];
        for (chunk, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(scalar.0) {
            *chunk = word.to_le_bytes();
        }
        out
    }

    #[test]
    fn sums_are_reduced_as_by_dalek() {
        let mut sum = Sum::default();
        let mut other = Other::ZERO;
        for n in 0..2_000 {
            let wide = if n % 9 == 0 { [0xff; 64] } else { hash("wide", n) };
            let m = if n % 7 == 0 {
                u128::MAX >> 1
            } else {
                u128::from_le_bytes(hash("m", n)[..16].try_into().unwrap_or_default()) >> 1
            };
            sum.add_product(m, &wide_words(&wide));
            other += Other::from(m) * Other::from_bytes_mod_order_wide(&wide);
            assert_eq!(bytes(&sum.reduce()), other.to_bytes(), "{n}");
            let mut less = Sum::default();
            less.add_product(m, &wide_words(&hash("less", n)));
            let lesser = other - Other::from(m) * Other::from_bytes_mod_order_wide(&hash("less", n));
            assert_eq!(bytes(&sum.minus(&less)), lesser.to_bytes(), "{n}");
            assert_eq!(bytes(&less.minus(&sum)), (-lesser).to_bytes(), "{n}");
        }
        assert_eq!(Sum::default().reduce(), Scalar([0; 4]));
    }

    #[test]
    fn what_is_below_the_order_is_canonical() {
        let order = bytes(&Scalar(ORDER));
        let mut below = order;
        below[0] -= 1;
        assert_eq!(Scalar::canonical(&order), None);
        assert_eq!(Scalar::canonical(&[0xff; 32]), None);
        assert_eq!(Scalar::canonical(&below).map(|scalar| bytes(&scalar)), Some(below));
        for n in 0..1_000 {
            let [first, ..] = hash("canonical", n).as_chunks::<32>().0.try_into().unwrap_or([[0; 32]; 2]);
            let expected: Option<Other> = Other::from_canonical_bytes(first).into();
            assert_eq!(Scalar::canonical(&first).is_some(), expected.is_some());
        }
    }

    /// The number that digits stand for.
    fn value<const W: usize>(digits: &Digits) -> Other {
        digits.0[..128 / W].iter().rev().fold(Other::ZERO, |value, digit| {
            let amount = Other::from(u64::from(digit.unsigned_abs()));
            let shifted = value * Other::from(1_u64 << W);
            if *digit < 0 { shifted - amount } else { shifted + amount }
        })
    }

    fn compare_digits<const W: usize>() {
        let half = 1_i16 << (W - 1);
        let edges = [
            Scalar([0; 4]),
            Scalar([u64::MAX, u64::MAX, u64::MAX, 0]),
            Scalar([ORDER[0] - 1, ORDER[1], 0, 1 << 60]),
        ];
        let some = (0..500).map(|n| {
            let mut sum = Sum::default();
            sum.add_product(1, &wide_words(&hash("digits", n)));
            sum.reduce()
        });
        for scalar in some.chain(edges) {
            let [low, high] = scalar.digits::<W>();
            let upper = value::<W>(&high) * Other::from(1_u128 << 64) * Other::from(1_u128 << 64);
            assert_eq!(Some(value::<W>(&low) + upper), Other::from_canonical_bytes(bytes(&scalar)).into());
            assert!(low.0.iter().chain(&high.0).all(|digit| (-half..=half).contains(digit)));
        }
        for bits in [0, 1, u128::MAX, u128::MAX >> 1, 1 << 127].into_iter().chain(
            (0..500).map(|n| u128::from_le_bytes(hash("bits", n)[..16].try_into().unwrap_or_default())),
        ) {
            let coefficient = Coefficient::new(bits);
            let amount = Other::from(coefficient.amount);
            let expected = if coefficient.is_negative { -amount } else { amount };
            let digits = coefficient.digits::<W>();
            assert_eq!(value::<W>(&digits), expected, "{bits:#x}");
            assert!(digits.0.iter().all(|digit| (-half..=half).contains(digit)));
            assert!(digits.0[128 / W..].iter().all(|digit| *digit == 0), "no more digits than 128 bits have");
        }
    }

    #[test]
    fn digits_stand_for_their_number() {
        compare_digits::<4>();
        compare_digits::<8>();
    }
}
