//! The verification equations on `curve25519-dalek`, for any processor. What it computes on is public, so nothing here
//! needs constant time.

use std::ops::Range;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use sha2::{Digest as _, Sha512};

use super::backend::{Backend, Coefficients};
use super::keys::KeyTable;
use super::verify::Signed;
use crate::planted::{self, Bug};

/// A signature, decoded.
#[derive(Debug)]
struct Decoded {
    r: EdwardsPoint,
    s: Scalar,
    /// SHA-512(R ‖ A ‖ M) mod ℓ.
    k: Scalar,
}

/// s, if it is below ℓ, and SHA-512(R ‖ A ‖ M) mod ℓ.
fn scalars(signed: &Signed<'_>) -> Option<(Scalar, Scalar)> {
    let (r, s) = signed.signature.split_first_chunk::<32>()?;
    let s = Option::from(Scalar::from_canonical_bytes(*s.first_chunk()?))?;
    let k: [u8; 64] = Sha512::new()
        .chain_update(r)
        .chain_update(signed.key)
        .chain_update(signed.domain)
        .chain_update(signed.message)
        .finalize()
        .into();
    Some((s, Scalar::from_bytes_mod_order_wide(&k)))
}

/// R, if it is a point.
fn decoded_r(signed: &Signed<'_>) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*signed.signature.first_chunk()?).decompress()
}

/// \[s\]B − \[k\]A.
fn expected_r(a: &EdwardsPoint, s: &Scalar, k: &Scalar) -> EdwardsPoint {
    EdwardsPoint::vartime_double_scalar_mul_basepoint(k, &-a, s)
}

/// Whether two points are equal but for a part of small order.
fn are_equal(a: &EdwardsPoint, b: &EdwardsPoint) -> bool {
    let difference = a - b;
    if planted::is(Bug::BatchWithoutCofactor) {
        return difference.is_identity();
    }
    difference.mul_by_cofactor().is_identity()
}

impl Decoded {
    /// `None` if R is no point or s is not below ℓ.
    fn of(signed: &Signed<'_>) -> Option<Self> {
        let (s, k) = scalars(signed)?;
        Some(Self { r: decoded_r(signed)?, s, k })
    }

    /// \[8\](\[s\]B − \[k\]A − R) = 0.
    fn holds(&self, a: &EdwardsPoint) -> bool {
        are_equal(&expected_r(a, &self.s, &self.k), &self.r)
    }
}

/// Judges one signature under its decoded key.
fn check_under(a: &EdwardsPoint, signed: &Signed<'_>) -> bool {
    let Some((s, k)) = scalars(signed) else { return false };
    let expected = expected_r(a, &s, &k);
    // Nearly always R is the expected point in the one canonical encoding: then it decodes, and the equation holds. To encode the
    // one costs no more than to decode the other.
    expected.compress().0[..] == signed.signature[..32]
        || decoded_r(signed).is_some_and(|r| are_equal(&expected, &r))
}

/// Judges one signature by itself, with nothing kept.
pub(super) fn check_one(signed: &Signed<'_>) -> bool {
    CompressedEdwardsY(*signed.key).decompress().is_some_and(|a| check_under(&a, signed))
}

/// A signature of a batch.
#[derive(Debug)]
struct Prepared {
    /// Position in the caller's list.
    at: usize,
    /// Position of A in the table.
    key: usize,
    decoded: Decoded,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Portable {
    keys: KeyTable<EdwardsPoint>,
    prepared: Vec<Prepared>,
}

impl Portable {
    /// With room for about `cache_keys` decoded keys.
    pub(super) fn new(seed: &[u8; 32], cache_keys: usize) -> Self {
        Self { keys: KeyTable::new(seed, cache_keys), prepared: Vec::new() }
    }

    /// Judges signatures one by one, with decoded keys kept.
    pub(super) fn check_each(&mut self, items: &[Signed<'_>]) -> Vec<bool> {
        self.keys.make_room();
        items
            .iter()
            .map(|signed| self.key(signed).is_some_and(|key| check_under(self.keys.get(key), signed)))
            .collect()
    }

    /// Position of A in the table, where it comes to if need be; `None` if it is no point.
    fn key(&mut self, signed: &Signed<'_>) -> Option<usize> {
        match self.keys.position(signed.key) {
            Some(position) => Some(position),
            None => Some(self.keys.insert(signed.key, CompressedEdwardsY(*signed.key).decompress()?)),
        }
    }

    /// Everything about the signature at `at` of its batch that does not depend on others; `None` if it fails by itself.
    fn decode(&mut self, at: usize, signed: &Signed<'_>) -> Option<Prepared> {
        let key = self.key(signed)?;
        Some(Prepared { at, key, decoded: Decoded::of(signed)? })
    }
}

impl Backend for Portable {
    const EACH_MAX: usize = 8;

    fn prepare(&mut self, items: &[Signed<'_>]) {
        self.keys.make_room();
        self.prepared.clear();
        for (at, signed) in items.iter().enumerate() {
            let prepared = self.decode(at, signed);
            self.prepared.extend(prepared);
        }
    }

    fn len(&self) -> usize {
        self.prepared.len()
    }

    fn position(&self, at: usize) -> usize {
        self.prepared[at].at
    }

    fn check(&self, range: Range<usize>, _items: &[Signed<'_>]) -> Vec<bool> {
        self.prepared[range].iter().map(|item| item.decoded.holds(self.keys.get(item.key))).collect()
    }

    /// \[8\](Σ\[z·k\]A + Σ\[z\]R − \[Σ z·s\]B) = 0 with a random z for each signature. The factors of the same A are added up
    /// first.
    fn holds(&mut self, range: Range<usize>, coefficients: &mut Coefficients) -> bool {
        let batch = &self.prepared[range];
        let z: Vec<Scalar> = coefficients.draw(batch.len()).into_iter().map(Scalar::from).collect();
        let mut by_key: Vec<(usize, Scalar)> =
            batch.iter().zip(&z).map(|(item, z)| (item.key, z * item.decoded.k)).collect();
        by_key.sort_unstable_by_key(|(key, _)| *key);
        by_key.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 += later.1;
            }
            same
        });
        let of_base: Scalar = batch.iter().zip(&z).map(|(item, z)| z * item.decoded.s).sum();
        let scalars = std::iter::once(-of_base).chain(by_key.iter().map(|(_, factor)| *factor)).chain(z);
        let points = std::iter::once(&ED25519_BASEPOINT_POINT)
            .chain(by_key.iter().map(|(key, _)| self.keys.get(*key)))
            .chain(batch.iter().map(|item| &item.decoded.r));
        // The multiplication asks for exact lengths, which a chain does not know.
        let (scalars, points): (Vec<_>, Vec<_>) = (scalars.collect(), points.collect());
        let sum = EdwardsPoint::vartime_multiscalar_mul(scalars, points);
        if planted::is(Bug::BatchWithoutCofactor) {
            return sum.is_identity();
        }
        sum.mul_by_cofactor().is_identity()
    }
}
