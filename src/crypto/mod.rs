//! Keys, domains and the one rule by which a signature is valid.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod backend;
mod headers;
mod key;
mod keys;
mod portable;
mod verify;

pub use headers::{check_header_signature, check_header_signatures, evidence_holds};
pub use key::{Domain, Purpose, SecretKey};
pub use verify::{Signed, Verifier, is_acceptable_key, verify_one};
