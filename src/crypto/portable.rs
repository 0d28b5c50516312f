//! The verification equations on `curve25519-dalek`, for any processor. What it computes on is public, so nothing here
//! needs constant time.

use std::collections::BTreeMap;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};

use crate::planted::{self, Bug};

/// Bytes of a coefficient: 128 bits.
const COEFFICIENT_BYTES: usize = 16;

/// A signature, decoded.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Position in the caller's list.
    pub(super) at: usize,
    /// Position of A in the [`KeyTable`].
    pub(super) key: usize,
    pub(super) r: EdwardsPoint,
    pub(super) s: Scalar,
    /// SHA-512(R ‖ A ‖ M) mod ℓ.
    pub(super) k: Scalar,
}

/// Decoded keys. Decoding one costs a third of a verification, and few keys sign most of what arrives.
#[derive(Debug)]
pub(super) struct KeyTable {
    positions: BTreeMap<[u8; 32], usize>,
    points: Vec<EdwardsPoint>,
    capacity: usize,
}

impl KeyTable {
    pub(super) fn new(capacity: usize) -> Self {
        Self { positions: BTreeMap::new(), points: Vec::new(), capacity }
    }

    /// Forgets all keys if the table is full; called between batches, since it voids positions. So the table holds at
    /// most its capacity and the keys of one batch.
    pub(super) fn make_room(&mut self) {
        if self.points.len() >= self.capacity {
            self.positions.clear();
            self.points.clear();
            self.points.shrink_to(self.capacity);
        }
    }

    /// Position of a key, which is decoded at its first use; `None` if it is no point. Bytes decide: two encodings of
    /// a point have two positions.
    pub(super) fn decode(&mut self, key: &[u8; 32]) -> Option<usize> {
        if let Some(position) = self.positions.get(key) {
            return Some(*position);
        }
        let point = CompressedEdwardsY(*key).decompress()?;
        let position = self.points.len();
        self.points.push(point);
        self.positions.insert(*key, position);
        Some(position)
    }
}

/// The secret coefficients of batches: the stream of BLAKE3 keyed with the seed over a number that no two batches share.
pub(super) struct Coefficients {
    seed: [u8; 32],
    batch: u64,
}

impl std::fmt::Debug for Coefficients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coefficients").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl Coefficients {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, batch: 0 }
    }

    /// Coefficients for a batch of `n`.
    fn draw(&mut self, n: usize) -> Vec<Scalar> {
        self.batch += 1;
        let mut bytes = vec![0; COEFFICIENT_BYTES * n];
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&self.batch.to_be_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        let (chunks, _) = bytes.as_chunks::<COEFFICIENT_BYTES>();
        chunks.iter().map(|chunk| Scalar::from(u128::from_le_bytes(*chunk))).collect()
    }
}

/// \[8\](\[s\]B − \[k\]A − R) = 0.
pub(super) fn check_one(keys: &KeyTable, item: &Prepared) -> bool {
    let minus_a = -keys.points[item.key];
    let expected_r = EdwardsPoint::vartime_double_scalar_mul_basepoint(&item.k, &minus_a, &item.s);
    let difference = expected_r - item.r;
    if planted::is(Bug::BatchWithoutCofactor) {
        return difference.is_identity();
    }
    difference.mul_by_cofactor().is_identity()
}

/// \[8\](Σ\[z·k\]A + Σ\[z\]R − \[Σ z·s\]B) = 0 with a random z for each signature. The factors of the same A are added up
/// first.
pub(super) fn check_batch(keys: &KeyTable, batch: &[Prepared], coefficients: &mut Coefficients) -> bool {
    let z = coefficients.draw(batch.len());
    let mut by_key: Vec<(usize, Scalar)> =
        batch.iter().zip(&z).map(|(item, z)| (item.key, z * item.k)).collect();
    by_key.sort_unstable_by_key(|(key, _)| *key);
    by_key.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 += later.1;
        }
        same
    });
    let of_base: Scalar = batch.iter().zip(&z).map(|(item, z)| z * item.s).sum();
    let scalars = std::iter::once(-of_base).chain(by_key.iter().map(|(_, factor)| *factor)).chain(z);
    let points = std::iter::once(&ED25519_BASEPOINT_POINT)
        .chain(by_key.iter().map(|(key, _)| &keys.points[*key]))
        .chain(batch.iter().map(|item| &item.r));
    // The multiplication asks for exact lengths, which a chain does not know.
    let (scalars, points): (Vec<_>, Vec<_>) = (scalars.collect(), points.collect());
    let sum = EdwardsPoint::vartime_multiscalar_mul(scalars, points);
    if planted::is(Bug::BatchWithoutCofactor) {
        return sum.is_identity();
    }
    sum.mul_by_cofactor().is_identity()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    #[test]
    fn the_table_stays_within_capacity_and_a_batch() {
        let mut keys = KeyTable::new(3);
        let publics: Vec<[u8; 32]> = (0..10).map(|i| SecretKey::from_seed(&[i; 32]).public()).collect();
        for batch in publics.chunks(2) {
            keys.make_room();
            for key in batch {
                let position = keys.decode(key);
                assert!(position.is_some());
                assert_eq!(keys.decode(key), position);
            }
            assert!(keys.points.len() <= 4 && keys.points.len() == keys.positions.len());
        }
    }

    #[test]
    fn coefficients_depend_on_seed_and_batch() {
        let mut a = Coefficients::new([1; 32]);
        let mut b = Coefficients::new([1; 32]);
        let mut c = Coefficients::new([2; 32]);
        let first = a.draw(4);
        assert_eq!(first, b.draw(4));
        assert_ne!(first, c.draw(4));
        assert_ne!(first, a.draw(4));
        assert!(!format!("{a:?}").contains("seed"));
    }
}
