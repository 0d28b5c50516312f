//! Sums of products of scalars modulo the order of the group, ℓ = 2²⁵² + c, that are reduced once at the end.

use super::msm::Digits;

/// ℓ − 2²⁵².
const C: u128 = 0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed;
const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 1 << 60];

/// A number below ℓ, words of 64 bits, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scalar([u64; 4]);

/// A sum of products below 2⁶³⁹, of which it has room for 2⁶⁵.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum([u64; 11]);

impl Scalar {
    /// From little-endian bytes, if they are below ℓ.
    pub(super) fn canonical(bytes: &[u8; 32]) -> Option<Self> {
        let words = words(bytes);
        is_below(&words, &ORDER).then_some(Self(words))
    }

    /// The words.
    pub(super) fn words(&self) -> &[u64; 4] {
        &self.0
    }

    /// Difference modulo ℓ.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut out = self.0;
        if subtract(&mut out, &other.0) {
            add(&mut out, &ORDER);
        }
        Self(out)
    }

    /// Signed digits of W bits, W = 4 or 8, lowest first: all from −2^(W−1) up to below 2^(W−1), but for the last, which ends the
    /// number and is not negative.
    pub(super) fn digits<const W: usize>(&self) -> Digits {
        // Half a digit is added to each digit but the last, so that their carries run, and taken off each alone.
        let mut shifted = self.0;
        let half = halves::<W>();
        add(&mut shifted, &[half, half, half, half & (u64::MAX >> W)]);
        signed_digits::<W, 4>(&shifted)
    }
}

/// Half a digit, in each digit of a word.
const fn halves<const W: usize>() -> u64 {
    let one_in_each = if W == 8 { 0x0101_0101_0101_0101 } else { 0x1111_1111_1111_1111 };
    one_in_each << (W - 1)
}

/// Digits of W bits, less half a digit each but for the last.
#[expect(clippy::cast_possible_truncation, reason = "a digit has at most eight bits")]
fn signed_digits<const W: usize, const N: usize>(words: &[u64; N]) -> Digits {
    let mut digits = Digits::default();
    let n = 64 * N / W;
    for (at, digit) in digits.0[..n].iter_mut().enumerate() {
        let raw = words[at * W / 64] >> (at * W % 64) & ((1 << W) - 1);
        *digit = raw as i16 - if at + 1 < n { 1 << (W - 1) } else { 0 };
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
        let mut digits = signed_digits::<W, 2>(&[shifted as u64, (shifted >> 64) as u64]);
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

    /// Modulo ℓ: what is above bit 252 comes back times −c, until nothing is.
    pub(super) fn reduce(&self) -> Scalar {
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

/// `a` += `b`; four words.
fn add(a: &mut [u64; 4], b: &[u64; 4]) {
    let mut carry = false;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, carry) = a.carrying_add(*b, carry);
    }
}

/// `a` −= `b`; whether it went below zero.
fn subtract(a: &mut [u64; 4], b: &[u64; 4]) -> bool {
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
