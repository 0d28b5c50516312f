//! Keys, domains and the one rule by which a signature is valid.

mod key;
mod verify;

pub use key::{Domain, Purpose, SecretKey};
pub use verify::is_acceptable_key;
