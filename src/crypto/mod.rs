//! Keys, domains and the one rule by which a signature is valid.

mod headers;
mod key;
mod portable;
mod verify;

pub use headers::{check_header_signature, check_header_signatures, evidence_holds};
pub use key::{Domain, Purpose, SecretKey};
pub use verify::{Signed, Verifier, is_acceptable_key, verify_one};
