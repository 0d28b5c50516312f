//! Eight elements of GF(2²⁵⁵ − 19) side by side, five limbs of 51 bits each, multiplied by the 52-bit multiply-add of AVX-512 IFMA.
//!
//! Limbs are not reduced more than they have to be, and types say how far they are. A [`Field8`] has limbs below 2⁵², so that
//! the multiplier, which sees the low 52 bits, sees all of it; most are *carried*, below 2⁵¹ + 2¹⁸. A [`Wide8`] has limbs of up to 64 bits,
//! comes from products, sums and differences, and is carried before it is multiplied. Bounds are asserted in debug builds.

use core::arch::x86_64::*;

use super::lanes::{V, splat};

const MASK: u64 = (1 << 51) - 1;
/// Limbs of p: 2⁵¹ − 19 once, 2⁵¹ − 1 four times.
const P: [u64; 5] = [MASK - 18, MASK, MASK, MASK, MASK];
/// Limbs that are multiplied are below this.
const FACTOR_END: u64 = 1 << 52;
/// Limbs that were carried are below this.
const CARRIED_END: u64 = (1 << 51) + (1 << 18);
/// Limbs of a product are below this: at most five low and twice five high halves below 2⁵² meet in one limb, and what is above the
/// fifth limb comes back nineteen times.
const PRODUCT_END: u64 = (20 * 15) << 52;

/// Every limb below 2⁵².
#[derive(Debug, Clone, Copy)]
pub(super) struct Field8(pub(super) [V; 5]);

/// Not carried: limbs of up to 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide8(pub(super) [V; 5]);

/// Asserts that no limb reaches `end`.
#[inline]
#[target_feature(enable = "avx512f")]
fn assert_below(limbs: &[V; 5], end: u64) {
    if cfg!(debug_assertions) {
        for limb in limbs {
            assert_eq!(_mm512_cmpge_epu64_mask(*limb, splat(end)), 0, "a limb reaches {end:#x}");
        }
    }
}

impl Field8 {
    /// The same element in all lanes, from its carried limbs.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn splat(limbs: [u64; 5]) -> Self {
        Self([splat(limbs[0]), splat(limbs[1]), splat(limbs[2]), splat(limbs[3]), splat(limbs[4])])
    }

    /// One, in all lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    /// From eight little-endian encodings; the top bit is ignored, values from p to 2²⁵⁵ − 1 are taken as they are.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn from_words(w: [V; 4]) -> Self {
        let mask = splat(MASK);
        let both = |low, high| _mm512_and_si512(_mm512_or_si512(low, high), mask);
        Self([
            _mm512_and_si512(w[0], mask),
            both(_mm512_srli_epi64::<51>(w[0]), _mm512_slli_epi64::<13>(w[1])),
            both(_mm512_srli_epi64::<38>(w[1]), _mm512_slli_epi64::<26>(w[2])),
            both(_mm512_srli_epi64::<25>(w[2]), _mm512_slli_epi64::<39>(w[3])),
            _mm512_and_si512(_mm512_srli_epi64::<12>(w[3]), mask),
        ])
    }

    /// As it is, to be added or subtracted.
    #[inline]
    pub(super) fn wide(self) -> Wide8 {
        Wide8(self.0)
    }

    /// Product; limbs below [`PRODUCT_END`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn mul(&self, other: &Self) -> Wide8 {
        let (a, b) = (&self.0, &other.0);
        assert_below(a, FACTOR_END);
        assert_below(b, FACTOR_END);
        // A high half is worth 2⁵², two units of the next limb.
        let mut r = [splat(0); 10];
        for i in 0..5 {
            for j in 0..5 {
                r[i + j + 1] = _mm512_madd52hi_epu64(r[i + j + 1], a[i], b[j]);
            }
        }
        for limb in &mut r[1..] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            for j in 0..5 {
                r[i + j] = _mm512_madd52lo_epu64(r[i + j], a[i], b[j]);
            }
        }
        fold(&r)
    }

    /// Square; limbs below [`PRODUCT_END`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn square(&self) -> Wide8 {
        let a = &self.0;
        assert_below(a, FACTOR_END);
        // Mixed products count twice: once doubled as high halves, then all but the low halves of squares doubled again.
        let mut r = [splat(0); 10];
        for i in 0..5 {
            for j in i + 1..5 {
                r[i + j + 1] = _mm512_madd52hi_epu64(r[i + j + 1], a[i], a[j]);
            }
        }
        for limb in &mut r[2..9] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            r[2 * i + 1] = _mm512_madd52hi_epu64(r[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                r[i + j] = _mm512_madd52lo_epu64(r[i + j], a[i], a[j]);
            }
        }
        for limb in &mut r[1..] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            r[2 * i] = _mm512_madd52lo_epu64(r[2 * i], a[i], a[i]);
        }
        fold(&r)
    }

    /// Lanes of `other` where `mask` has ones, of `self` elsewhere.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn or(&self, mask: u8, other: &Self) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(&other.0) {
            *limb = _mm512_mask_blend_epi64(mask, *limb, *other);
        }
        Self(out)
    }

    /// 2p − x, limb by limb: below 2⁵², so it can be multiplied as it is.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn negated(&self) -> Self {
        assert_below(&self.0, CARRIED_END);
        let mut out = self.0;
        for (limb, p) in out.iter_mut().zip(P) {
            *limb = _mm512_sub_epi64(splat(2 * p), *limb);
        }
        Self(out)
    }

    /// Lanes in which the canonical form is odd.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn is_odd(&self) -> u8 {
        _mm512_test_epi64_mask(self.wide().canonical()[0], splat(1))
    }
}

/// Brings what is above the fifth limb back: 2²⁵⁵ = 19. By a 64-bit multiplication, which on these processors takes one slot of the
/// multiplier where shifts and additions take four more of others.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn fold(r: &[V; 10]) -> Wide8 {
    let mut out = [splat(0); 5];
    for k in 0..5 {
        out[k] = _mm512_add_epi64(r[k], _mm512_mullo_epi64(r[k + 5], splat(19)));
    }
    assert_below(&out, PRODUCT_END);
    Wide8(out)
}

impl Wide8 {
    /// Zero, in all lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn zero() -> Self {
        Self([splat(0); 5])
    }

    /// One pass of carries, all limbs at once. Whatever the limbs are, those of the result are below 2⁵¹ + 19 · 2¹³.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn carry(self) -> Field8 {
        let (z, mask) = (self.0, splat(MASK));
        let with =
            |limb, below| _mm512_add_epi64(_mm512_and_si512(limb, mask), _mm512_srli_epi64::<51>(below));
        let top = _mm512_srli_epi64::<51>(z[4]);
        Field8([
            _mm512_madd52lo_epu64(_mm512_and_si512(z[0], mask), top, splat(19)),
            with(z[1], z[0]),
            with(z[2], z[1]),
            with(z[3], z[2]),
            with(z[4], z[3]),
        ])
    }

    /// Sum. The caller vouches that no limb comes to 2⁶⁴: four products may be added.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn plus(self, other: Self) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(other.0) {
            *limb = _mm512_add_epi64(*limb, other);
        }
        Self(out)
    }

    /// Difference, plus 2¹⁰p so that nothing is negative: `other` is a product or carried, `self` at most two products.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn minus(self, other: Self) -> Self {
        assert_below(&other.0, PRODUCT_END);
        self.difference::<10>(other)
    }

    /// Difference, plus 2¹²p: `other` is the sum of at most three products, `self` a product.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn minus_sum(self, other: Self) -> Self {
        assert_below(&other.0, 3 * PRODUCT_END);
        self.difference::<12>(other)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn difference<const SHIFT: u32>(self, other: Self) -> Self {
        let mut out = self.0;
        for k in 0..5 {
            assert!(SHIFT <= 12);
            out[k] = _mm512_sub_epi64(_mm512_add_epi64(out[k], splat(P[k] << SHIFT)), other.0[k]);
        }
        Self(out)
    }

    /// Limbs of the one representative below p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn canonical(self) -> [V; 5] {
        let (mask, nineteen) = (splat(MASK), splat(19));
        let mut z = self.carry().0;
        // In sequence twice: what the first turn brings back into the lowest limb is small, and goes no further than one limb but
        // for a run of full limbs, which the second turn settles.
        for _ in 0..2 {
            let top = carry_up(&mut z, mask);
            z[0] = _mm512_madd52lo_epu64(z[0], top, nineteen);
        }
        // Now z < 2²⁵⁵ + 19, and the bit that z + 19 has above 255 says whether z reaches p.
        let mut bit = _mm512_srli_epi64::<51>(_mm512_add_epi64(z[0], nineteen));
        for limb in &z[1..] {
            bit = _mm512_srli_epi64::<51>(_mm512_add_epi64(*limb, bit));
        }
        z[0] = _mm512_madd52lo_epu64(z[0], bit, nineteen);
        carry_up(&mut z, mask);
        z
    }

    /// Lanes that are zero modulo p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn is_zero(self) -> u8 {
        let z = self.canonical();
        let low = _mm512_or_si512(_mm512_or_si512(z[0], z[1]), _mm512_or_si512(z[2], z[3]));
        let any = _mm512_or_si512(low, z[4]);
        _mm512_testn_epi64_mask(any, any)
    }
}

/// Carries from the lowest limb to the highest; returns what goes beyond it.
#[inline]
#[target_feature(enable = "avx512f")]
fn carry_up(z: &mut [V; 5], mask: V) -> V {
    for k in 0..4 {
        z[k + 1] = _mm512_add_epi64(z[k + 1], _mm512_srli_epi64::<51>(z[k]));
        z[k] = _mm512_and_si512(z[k], mask);
    }
    let top = _mm512_srli_epi64::<51>(z[4]);
    z[4] = _mm512_and_si512(z[4], mask);
    top
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Line, store};
    use super::*;

    /// Eight elements by their limbs.
    type Limbs8 = [[u64; 5]; 8];

    /// The product and its canonical limbs by 128-bit arithmetic, one element at a time.
    fn product(a: &[u64; 5], b: &[u64; 5]) -> [u64; 5] {
        let mut wide = [0_u128; 5];
        for i in 0..5 {
            for j in 0..5 {
                let times = if i + j < 5 { 1 } else { 19 };
                wide[(i + j) % 5] += u128::from(a[i]) * u128::from(b[j]) * times;
            }
        }
        canonical(wide)
    }

    fn canonical(mut z: [u128; 5]) -> [u64; 5] {
        for _ in 0..4 {
            for k in 0..5 {
                let carry = z[k] >> 51;
                z[k] &= u128::from(MASK);
                z[(k + 1) % 5] += carry * if k == 4 { 19 } else { 1 };
            }
        }
        let is_p_or_more = z[0] >= u128::from(P[0]) && z[1..].iter().all(|limb| *limb == u128::from(MASK));
        if is_p_or_more {
            z = [z[0] - u128::from(P[0]), 0, 0, 0, 0];
        }
        z.map(|limb| u64::try_from(limb).unwrap_or(u64::MAX))
    }

    /// Limbs at the ends of what is allowed, and some in between.
    fn elements(seed: u8, end: u64) -> Limbs8 {
        let mut random = blake3::Hasher::new().update(&[seed]).finalize_xof();
        let mut limb = || {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            u64::from_le_bytes(bytes) % end
        };
        let mut out: Limbs8 = std::array::from_fn(|_| std::array::from_fn(|_| limb()));
        (out[0], out[1], out[2], out[3]) = ([0; 5], [end - 1; 5], P, [0, 0, 0, 0, end - 1]);
        out
    }

    #[target_feature(enable = "avx512f")]
    fn field(elements: &Limbs8) -> Field8 {
        let mut limbs = [splat(0); 5];
        for (at, limb) in limbs.iter_mut().enumerate() {
            *limb = super::super::lanes::load(&Line(elements.map(|element| element[at])));
        }
        Field8(limbs)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn canonical_of(wide: Wide8) -> Limbs8 {
        let mut lines = [Line([0; 8]); 5];
        for (line, limb) in lines.iter_mut().zip(wide.canonical()) {
            store(line, limb);
        }
        std::array::from_fn(|lane| std::array::from_fn(|at| lines[at].0[lane]))
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn compare() {
        for seed in 0..50 {
            let (a, b) = (elements(seed, FACTOR_END), elements(100 + seed, FACTOR_END));
            let (x, y) = (field(&a), field(&b));
            let (products, squares) = (canonical_of(x.mul(&y)), canonical_of(x.square()));
            for lane in 0..8 {
                assert_eq!(products[lane], product(&a[lane], &b[lane]), "{:?} {:?}", a[lane], b[lane]);
                assert_eq!(squares[lane], product(&a[lane], &a[lane]), "{:?}", a[lane]);
            }
            let sum = canonical_of(x.mul(&y).plus(y.square()).plus(x.square()).plus(x.mul(&y)));
            let carried = elements(200 - seed, CARRIED_END);
            let difference = canonical_of(x.mul(&y).minus(field(&carried).wide()));
            let negated = canonical_of(field(&carried).negated().wide());
            let zeros = x.mul(&y).minus(y.mul(&x)).is_zero();
            assert_eq!(zeros, u8::MAX);
            for lane in 0..8 {
                let wide = |limbs: [u64; 5]| limbs.map(u128::from);
                let (ab, aa, bb) = (products[lane], squares[lane], product(&b[lane], &b[lane]));
                let all: [u128; 5] = std::array::from_fn(|k| 2 * wide(ab)[k] + wide(aa)[k] + wide(bb)[k]);
                assert_eq!(sum[lane], canonical(all));
                let less = |from: [u64; 5]| {
                    let with_p = |k: usize| u128::from(from[k]) + 8 * u128::from(P[k]);
                    canonical(std::array::from_fn(|k| with_p(k) - u128::from(carried[lane][k])))
                };
                assert_eq!((difference[lane], negated[lane]), (less(ab), less([0; 5])));
            }
        }
    }

    #[test]
    fn eight_lanes_are_eight_times_one() {
        if super::super::is_supported() {
            // SAFETY: the features were found.
            unsafe { compare() }
        }
    }
}
