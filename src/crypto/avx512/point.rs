//! Eight points of edwards25519 side by side: −x² + y² = 1 + dx²y², RFC 8032, section 5.1; formulas for extended coordinates of
//! Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves Revisited", section 3.

use super::field::{Field8, Wide8};
use super::lanes::{Line, V, load, splat, store, transpose};

const D: [u64; 5] = [
    929_955_233_495_203,
    466_365_720_129_213,
    1_662_059_464_998_953,
    2_033_849_074_728_123,
    1_442_794_654_840_575,
];
const TWICE_D: [u64; 5] = [
    1_859_910_466_990_425,
    932_731_440_258_426,
    1_072_319_116_312_658,
    1_815_898_335_770_999,
    633_789_495_995_903,
];
const SQRT_MINUS_ONE: [u64; 5] = [
    1_718_705_420_411_056,
    234_908_883_556_509,
    2_233_514_472_574_048,
    2_117_202_627_021_982,
    765_476_049_583_133,
];

/// X = EF, Y = GH, Z = FG, T = EH. A macro, since a function of four points' coordinates is not put in line, and its arguments go
/// through memory.
macro_rules! from_parts {
    ($e:expr, $f:expr, $g:expr, $h:expr) => {{
        let (e, f, g, h) = ($e.carry(), $f.carry(), $g.carry(), $h.carry());
        Self { x: e.mul(&f), y: g.mul(&h), z: f.mul(&g), t: e.mul(&h) }
    }};
}

/// Encodings of eight points.
pub(super) type Encoded8 = [[u8; 32]; 8];

/// Points as they are added: y + x, y − x and 2dxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Niels8 {
    pub(super) sum: Field8,
    pub(super) difference: Field8,
    pub(super) product: Field8,
}

/// The same of one point, in memory: three times five limbs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row([Line; 2]);

/// Points in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z. The coordinates are products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extended8 {
    x: Wide8,
    y: Wide8,
    z: Wide8,
    t: Wide8,
}

/// One point in extended coordinates, in memory: four times five limbs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot([Line; 3]);

impl Slot {
    /// The neutral point.
    pub(super) const IDENTITY: Self =
        Self([Line([0, 0, 0, 0, 0, 1, 0, 0]), Line([0, 0, 1, 0, 0, 0, 0, 0]), Line([0; 8])]);
}

impl Niels8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn of_affine(x: &Field8, y: &Field8) -> Self {
        Self {
            sum: y.wide().plus(x.wide()).carry(),
            difference: y.wide().minus(x.wide()).carry(),
            product: x.mul(y).carry().mul(&Field8::splat(TWICE_D)).carry(),
        }
    }

    /// One point, in all lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn splat(row: &Row) -> Self {
        let [Line(a), Line(b)] = &row.0;
        Self {
            sum: Field8([splat(a[0]), splat(a[1]), splat(a[2]), splat(a[3]), splat(a[4])]),
            difference: Field8([splat(a[5]), splat(a[6]), splat(a[7]), splat(b[0]), splat(b[1])]),
            product: Field8([splat(b[2]), splat(b[3]), splat(b[4]), splat(b[5]), splat(b[6])]),
        }
    }

    /// Point i from row i.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn gather(rows: [&Row; 8]) -> Self {
        let a = transpose(load_all(rows.map(|row| &row.0[0])));
        let b = transpose(load_all(rows.map(|row| &row.0[1])));
        Self {
            sum: Field8([a[0], a[1], a[2], a[3], a[4]]),
            difference: Field8([a[5], a[6], a[7], b[0], b[1]]),
            product: Field8([b[2], b[3], b[4], b[5], b[6]]),
        }
    }

    /// The negative points in the lanes of `mask`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn negated_in(&self, mask: u8) -> Self {
        Self {
            sum: self.sum.or(mask, &self.difference),
            difference: self.difference.or(mask, &self.sum),
            product: self.product.or(mask, &self.product.negated()),
        }
    }

    /// Each point by itself.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn rows(&self) -> [Row; 8] {
        let (s, d, p) = (&self.sum.0, &self.difference.0, &self.product.0);
        let first = transpose([s[0], s[1], s[2], s[3], s[4], d[0], d[1], d[2]]);
        let second = transpose([d[3], d[4], p[0], p[1], p[2], p[3], p[4], splat(0)]);
        let mut rows = [Row([Line([0; 8]); 2]); 8];
        for (row, (first, second)) in rows.iter_mut().zip(first.into_iter().zip(second)) {
            store(&mut row.0[0], first);
            store(&mut row.0[1], second);
        }
        rows
    }
}

impl Extended8 {
    /// The neutral point, in all lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn identity() -> Self {
        let (zero, one) = (Wide8::zero(), Field8::one().wide());
        Self { x: zero, y: one, z: one, t: zero }
    }

    /// Sum with points of Z = 1: seven multiplications. Complete, since −1 is a square and d is none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add_niels(&self, other: &Niels8) -> Self {
        let a = self.y.minus(self.x).carry().mul(&other.difference);
        let b = self.y.plus(self.x).carry().mul(&other.sum);
        let c = self.t.carry().mul(&other.product);
        let d = self.z.plus(self.z);
        from_parts!(b.minus(a), d.minus(c), d.plus(c), b.plus(a))
    }

    /// Adds points of Z = 1 to those in slots, as [`Extended8::add_niels`] does. What is done is written as soon as it is there, so that
    /// turning it round goes on beside multiplications.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add_niels_to(mut slots: [&mut Slot; 8], other: &Niels8) {
        let line = |at: usize| slots.each_ref().map(|slot| &slot.0[at]);
        let (p, q) = (transpose(load_all(line(0))), transpose(load_all(line(1))));
        let x = Wide8([p[0], p[1], p[2], p[3], p[4]]);
        let y = Wide8([p[5], p[6], p[7], q[0], q[1]]);
        let z = Wide8([q[2], q[3], q[4], q[5], q[6]]);
        let a = y.minus(x).carry().mul(&other.difference);
        let b = y.plus(x).carry().mul(&other.sum);
        let r = transpose(load_all(line(2)));
        let t = Wide8([q[7], r[0], r[1], r[2], r[3]]);
        let c = t.carry().mul(&other.product);
        let d = z.plus(z);
        let (e, f, g, h) = (b.minus(a).carry(), d.minus(c).carry(), d.plus(c).carry(), b.plus(a).carry());
        let (x, y) = (e.mul(&f).0, g.mul(&h).0);
        let done = transpose([x[0], x[1], x[2], x[3], x[4], y[0], y[1], y[2]]);
        for (slot, done) in slots.iter_mut().zip(done) {
            store(&mut slot.0[0], done);
        }
        let z = f.mul(&g).0;
        let t = e.mul(&h).0;
        let done = transpose([y[3], y[4], z[0], z[1], z[2], z[3], z[4], t[0]]);
        for (slot, done) in slots.iter_mut().zip(done) {
            store(&mut slot.0[1], done);
        }
        let done = transpose([t[1], t[2], t[3], t[4], t[1], t[2], t[3], t[4]]);
        for (slot, done) in slots.iter_mut().zip(done) {
            store(&mut slot.0[2], done);
        }
    }

    /// Sum: nine multiplications.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add(&self, other: &Self) -> Self {
        let a = self.y.minus(self.x).carry().mul(&other.y.minus(other.x).carry());
        let b = self.y.plus(self.x).carry().mul(&other.y.plus(other.x).carry());
        let c = self.t.carry().mul(&Field8::splat(TWICE_D)).carry().mul(&other.t.carry());
        let zz = self.z.carry().mul(&other.z.carry());
        let d = zz.plus(zz);
        from_parts!(b.minus(a), d.minus(c), d.plus(c), b.plus(a))
    }

    /// Twice the points: four squares and four multiplications.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn double(&self) -> Self {
        let a = self.x.carry().square();
        let b = self.y.carry().square();
        let zz = self.z.carry().square();
        let both = self.x.plus(self.y).carry().square();
        let ab = a.plus(b);
        let f = b.minus_sum(a.plus(zz).plus(zz));
        from_parts!(both.minus_sum(ab), f, b.minus(a), Wide8::zero().minus_sum(ab))
    }

    /// As they are added, with Z = 1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn to_niels(self) -> Niels8 {
        // 1 / Z = Z^(p − 2), and p − 2 = 8 (p − 5) / 8 + 3.
        let z = [self.z.carry()];
        let cubed = multiply(&squared(z, 1), &z);
        let [inverse] = multiply(&squared(power_22523(&z), 3), &cubed);
        let (x, y) = (self.x.carry().mul(&inverse).carry(), self.y.carry().mul(&inverse).carry());
        Niels8::of_affine(&x, &y)
    }

    /// The negative points.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn negated(&self) -> Self {
        let minus = |field| Wide8::zero().minus(field).carry().wide();
        Self { x: minus(self.x), y: self.y, z: self.z, t: minus(self.t) }
    }

    /// Lanes that hold the neutral point: X = 0 and Y = Z.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn is_identity(&self) -> u8 {
        self.x.is_zero() & self.y.minus(self.z).is_zero()
    }

    /// Point i from slot i.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn gather(slots: [&Slot; 8]) -> Self {
        let a = transpose(load_all(slots.map(|slot| &slot.0[0])));
        let b = transpose(load_all(slots.map(|slot| &slot.0[1])));
        let c = transpose(load_all(slots.map(|slot| &slot.0[2])));
        Self {
            x: Wide8([a[0], a[1], a[2], a[3], a[4]]),
            y: Wide8([a[5], a[6], a[7], b[0], b[1]]),
            z: Wide8([b[2], b[3], b[4], b[5], b[6]]),
            t: Wide8([b[7], c[0], c[1], c[2], c[3]]),
        }
    }

    /// The eight points, each as a slot holds it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn scatter(&self) -> Scattered {
        let (x, y, z, t, none) = (&self.x.0, &self.y.0, &self.z.0, &self.t.0, splat(0));
        Scattered([
            transpose([x[0], x[1], x[2], x[3], x[4], y[0], y[1], y[2]]),
            transpose([y[3], y[4], z[0], z[1], z[2], z[3], z[4], t[0]]),
            transpose([t[1], t[2], t[3], t[4], none, none, none, none]),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_all(lines: [&Line; 8]) -> [V; 8] {
    let l = lines;
    [load(l[0]), load(l[1]), load(l[2]), load(l[3]), load(l[4]), load(l[5]), load(l[6]), load(l[7])]
}

/// Eight points on their way to slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scattered([[V; 8]; 3]);

impl Scattered {
    /// Writes the point of a lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn put(&self, lane: usize, slot: &mut Slot) {
        for (line, part) in slot.0.iter_mut().zip(&self.0) {
            store(line, part[lane]);
        }
    }
}

/// Decodes K times eight points by ZIP-215's rule: a y of p and more is taken, and so is the sign of x = 0. Also says which lanes
/// are points. K chains run beside each other, since one leaves the multiplier idle half of the time.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn decompress<const K: usize>(encoded: &[Encoded8; K]) -> [(Niels8, u8); K] {
    let zero = Field8([splat(0); 5]);
    let (mut y, mut u, mut v) = ([zero; K], [zero; K], [zero; K]);
    for k in 0..K {
        y[k] = Field8::from_words(words(&encoded[k]));
        let yy = y[k].square().carry();
        // x² = u / v = (y² − 1) / (dy² + 1)
        u[k] = yy.wide().minus(Field8::one().wide()).carry();
        v[k] = yy.mul(&Field8::splat(D)).plus(Field8::one().wide()).carry();
    }
    // A candidate for the root: u v³ (u v⁷)^((p − 5) / 8).
    let v3 = multiply(&squared(v, 1), &v);
    let v7 = multiply(&squared(v3, 1), &v);
    let root = multiply(&multiply(&u, &v3), &power_22523(&multiply(&u, &v7)));
    let mut out = [(Niels8 { sum: zero, difference: zero, product: zero }, 0); K];
    for k in 0..K {
        let vxx = v[k].mul(&root[k].square().carry());
        let is_root = vxx.minus(u[k].wide()).is_zero();
        let is_rotated = vxx.plus(u[k].wide()).is_zero();
        let rotated = root[k].mul(&Field8::splat(SQRT_MINUS_ONE)).carry();
        let x = root[k].or(is_rotated & !is_root, &rotated);
        let minus_x = Wide8::zero().minus(x.wide()).carry();
        let x = x.or(x.is_odd() ^ signs(&encoded[k]), &minus_x);
        out[k] = (Niels8::of_affine(&x, &y[k]), is_root | is_rotated);
    }
    out
}

/// The four words of each encoding, lane by lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn words(encoded: &Encoded8) -> [V; 4] {
    let mut lines = [Line([0; 8]); 4];
    for (lane, bytes) in encoded.iter().enumerate() {
        let (chunks, _) = bytes.as_chunks::<8>();
        for (line, word) in lines.iter_mut().zip(chunks) {
            line.0[lane] = u64::from_le_bytes(*word);
        }
    }
    let mut out = [splat(0); 4];
    for (lanes, line) in out.iter_mut().zip(&lines) {
        *lanes = load(line);
    }
    out
}

/// The top bits.
fn signs(encoded: &Encoded8) -> u8 {
    encoded.iter().enumerate().fold(0, |mask, (lane, bytes)| mask | (bytes[31] >> 7) << lane)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn squared<const K: usize>(mut x: [Field8; K], times: usize) -> [Field8; K] {
    for _ in 0..times {
        for element in &mut x {
            *element = element.square().carry();
        }
    }
    x
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn multiply<const K: usize>(a: &[Field8; K], b: &[Field8; K]) -> [Field8; K] {
    let mut out = *a;
    for (element, b) in out.iter_mut().zip(b) {
        *element = element.mul(b).carry();
    }
    out
}

/// x^((p − 5) / 8) = x^(2²⁵² − 3).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn power_22523<const K: usize>(x: &[Field8; K]) -> [Field8; K] {
    let x2 = squared(*x, 1);
    let x9 = multiply(&squared(x2, 2), x);
    let x11 = multiply(&x2, &x9);
    // x to the power of 2ⁿ − 1.
    let ones5 = multiply(&squared(x11, 1), &x9);
    let ones10 = multiply(&squared(ones5, 5), &ones5);
    let ones20 = multiply(&squared(ones10, 10), &ones10);
    let ones40 = multiply(&squared(ones20, 20), &ones20);
    let ones50 = multiply(&squared(ones40, 10), &ones10);
    let ones100 = multiply(&squared(ones50, 50), &ones50);
    let ones200 = multiply(&squared(ones100, 100), &ones100);
    let ones250 = multiply(&squared(ones200, 50), &ones50);
    multiply(&squared(ones250, 2), x)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use curve25519_dalek::scalar::Scalar;

    use super::*;

    /// Encodings: multiples of the base, and bytes of which half are no point.
    fn encodings(seed: u8) -> Encoded8 {
        let hash = |lane: u8| *blake3::hash(&[seed, lane]).as_bytes();
        [0, 1, 2, 3, 4, 5, 6, 7].map(|lane| match lane {
            0..4 => (ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order(hash(lane))).compress().0,
            _ => hash(lane),
        })
    }

    /// Encodings with a y of p and more, and of zero, one and their signs.
    fn edges() -> [Encoded8; 2] {
        let mut all = [[[0; 32]; 8]; 2];
        let p_plus = |n: u8| {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (0xed + n, 0x7f);
            bytes
        };
        let small = |n: u8| {
            let mut bytes = [0; 32];
            bytes[0] = n;
            bytes
        };
        let signed = |mut bytes: [u8; 32]| {
            bytes[31] |= 0x80;
            bytes
        };
        let plain = [small(0), small(1), small(2), p_plus(0), p_plus(1), p_plus(2), p_plus(18), p_plus(3)];
        all[0] = plain;
        all[1] = plain.map(signed);
        all
    }

    /// Where both are points: whether they are the same.
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn same(a: &Extended8, b: [EdwardsPoint; 8]) -> u8 {
        let [(minus_b, points)] = decompress::<1>(&[b.map(|point| (-point).compress().0)]);
        assert_eq!(points, u8::MAX);
        a.add_niels(&minus_b).is_identity()
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn decode_like_others() {
        let some = (0..64).map(encodings).chain(edges());
        for encoded in some {
            let [(points, mask), (_, again)] = decompress::<2>(&[encoded, encoded]);
            assert_eq!(mask, again);
            let decoded = encoded.map(|bytes| CompressedEdwardsY(bytes).decompress());
            for (lane, point) in decoded.iter().enumerate() {
                assert_eq!(mask >> lane & 1 == 1, point.is_some(), "{}", hex::encode(encoded[lane]));
            }
            let neutral = EdwardsPoint::default();
            let sum = Extended8::identity().add_niels(&points);
            assert_eq!(same(&sum, decoded.map(|point| point.unwrap_or(neutral))) & mask, mask);
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn add_like_others() {
        let identity = Extended8::identity();
        for seed in 0..16 {
            let multiple = |n: u8| {
                let factor = *blake3::hash(&[seed, n]).as_bytes();
                ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order(factor)
            };
            let (a, mut b) =
                ([0, 1, 2, 3, 4, 5, 6, 7].map(multiple), [8, 9, 10, 11, 12, 13, 14, 15].map(multiple));
            // The same point, its negative, and the neutral one, which other formulas make exceptions of.
            (b[0], b[1], b[2]) = (a[0], -a[1], EdwardsPoint::default());
            let encode = |points: [EdwardsPoint; 8]| points.map(|point| point.compress().0);
            let [(p, _), (q, _)] = decompress::<2>(&[encode(a), encode(b)]);
            let (p, q_alone) = (identity.add_niels(&p), identity.add_niels(&q));
            let sums: [EdwardsPoint; 8] = std::array::from_fn(|lane| a[lane] + b[lane]);
            assert_eq!(same(&p.add_niels(&q), sums), u8::MAX);
            assert_eq!(same(&p.add(&q_alone), sums), u8::MAX);
            assert_eq!(same(&p.double(), a.map(|point| point + point)), u8::MAX);
            let four_times = identity.add_niels(&p.double().double().to_niels());
            assert_eq!(same(&four_times, a.map(|point| point * Scalar::from(4_u8))), u8::MAX);
            let minus = p.add_niels(&q.negated_in(0b1010_1011));
            let differences: [EdwardsPoint; 8] = std::array::from_fn(|lane| {
                if 0b1010_1011 >> lane & 1 == 1 { a[lane] - b[lane] } else { a[lane] + b[lane] }
            });
            assert_eq!(same(&minus, differences), u8::MAX);
            // Through memory, turned round.
            let mut slots = [Slot::IDENTITY; 8];
            let scattered = p.scatter();
            for (lane, slot) in slots.iter_mut().rev().enumerate() {
                scattered.put(lane, slot);
            }
            let mut turned = a;
            turned.reverse();
            assert_eq!(same(&Extended8::gather(slots.each_ref()), turned), u8::MAX);
        }
    }

    #[test]
    fn points_are_decoded_as_by_dalek() {
        if super::super::is_supported() {
            // SAFETY: the features were found.
            unsafe { decode_like_others() }
        }
    }

    #[test]
    fn points_are_added_as_by_dalek() {
        if super::super::is_supported() {
            // SAFETY: the features were found.
            unsafe { add_like_others() }
        }
    }
}
