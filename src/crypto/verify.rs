//! The one rule by which a signature is valid, for one and for many.
//!
//! (A, R, s, M) is accepted if and only if s < ℓ, A and R decode by ZIP-215's rule (a non-canonical y is allowed), and
//! \[8\]\[s\]B = \[8\]R + \[8\]\[k\]A with k = SHA-512(R ‖ A ‖ M) over the bytes as received.

use curve25519_dalek::edwards::CompressedEdwardsY;

/// Whether `key` may be registered: it decodes and is not of small order.
#[must_use]
pub fn is_acceptable_key(key: &[u8; 32]) -> bool {
    CompressedEdwardsY(*key).decompress().is_some_and(|point| !point.is_small_order())
}
