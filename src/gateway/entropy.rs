//! Where salts, keys and handles come from.

use thiserror::Error;

/// The source of random bytes has failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the operating system gives no random bytes: {0}")]
pub struct EntropyError(pub String);

/// A source of random bytes.
pub trait Entropy {
    /// Fills `out`.
    ///
    /// # Errors
    /// If the source has failed; nothing may be made of `out` then.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError>;

    /// The next `N` bytes.
    ///
    /// # Errors
    /// If the source has failed.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], EntropyError>
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|error| EntropyError(error.to_string()))
    }
}

/// BLAKE3's output stream from a seed: the same bytes every time. For tests and simulation only: who knows the seed
/// knows every key.
#[derive(Debug, Clone)]
pub struct SeededEntropy(blake3::OutputReader);

impl SeededEntropy {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"salus/seeded-entropy/v1\0");
        hasher.update(&seed.to_be_bytes());
        Self(hasher.finalize_xof())
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(out);
        Ok(())
    }
}
