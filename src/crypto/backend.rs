//! What the ways to compute the equations have in common.

use std::ops::Range;

use super::verify::Signed;

/// Bytes of a coefficient: 128 bits.
const COEFFICIENT_BYTES: usize = 16;

/// A way to compute the equation of a batch. All ways decide alike.
pub(super) trait Backend {
    /// So many at most of which one is bad are judged one by one; more are split in halves. It is where the two take as long.
    const EACH_MAX: usize;

    /// Decodes a batch, in place of the last one. What fails by itself is left out.
    fn prepare(&mut self, items: &[Signed<'_>]);

    /// Signatures that were decoded.
    fn len(&self) -> usize;

    /// Position in the batch of a signature that was decoded.
    fn position(&self, at: usize) -> usize;

    /// Judges those of a range, each by its own equation; `items` is what they were decoded from. One verdict for each, in their order.
    fn check(&self, range: Range<usize>, items: &[Signed<'_>]) -> Vec<bool>;

    /// Whether the random combination of the equations of these signatures holds.
    fn holds(&mut self, range: Range<usize>, coefficients: &mut Coefficients) -> bool;
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

    /// Coefficients for a batch of `n`, 128 random bits each.
    pub(super) fn draw(&mut self, n: usize) -> Vec<u128> {
        self.batch += 1;
        let mut bytes = vec![0; COEFFICIENT_BYTES * n];
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&self.batch.to_be_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        let (chunks, _) = bytes.as_chunks::<COEFFICIENT_BYTES>();
        chunks.iter().map(|chunk| u128::from_le_bytes(*chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
