//! Commitments: what the ledger holds of a document, and how its holder opens it.
//!
//! A commitment is HMAC-SHA-256(key, domain ‖ canonical bytes) under 32 random bytes that are made for one version of
//! one document and never leave the holder's vault. Without the key it says nothing of the document; with the key and the
//! document anybody can recompute it.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Domain of a commitment to a FHIR R4 resource in RFC 8785 form.
pub const FHIR_R4_DOMAIN: &[u8] = b"salus/commitment/fhir-r4/v1\0";

/// HMAC-SHA-256(key, domain ‖ canonical).
#[must_use]
pub fn commit(key: &[u8; 32], domain: &[u8], canonical: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(domain);
    mac.update(canonical);
    mac.finalize().into_bytes().into()
}

/// The one encoding of a JSON value (RFC 8785) that commitments are made over.
///
/// # Errors
/// If the value holds a number that RFC 8785 cannot express.
pub fn canonical_json(value: &serde_json::Value) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// RFC 4231, test cases 1 and 2, have keys of 20 and 4 bytes; HMAC pads keys with zeros to the block size, so the same
    /// keys padded to 32 bytes give the same result.
    #[test]
    fn is_hmac_sha_256() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        assert_eq!(
            hex::encode(commit(&key, b"Hi ", b"There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            hex::encode(commit(&key, b"what do ya want ", b"for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn canonical_form_does_not_depend_on_layout() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b": [1.0, "é"], "a": null}"#).unwrap();
        let b: serde_json::Value = serde_json::from_str("{\"a\":null,\n\"b\":[1,\"\\u00e9\"]}").unwrap();
        assert_eq!(canonical_json(&a).unwrap(), "{\"a\":null,\"b\":[1,\"é\"]}".as_bytes());
        assert_eq!(canonical_json(&a).unwrap(), canonical_json(&b).unwrap());
    }
}
