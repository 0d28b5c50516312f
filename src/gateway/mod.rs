//! What stands between an EHR and the ledger: FHIR R4 resources come in, signed transactions come out.
//!
//! ```text
//! stream line ─ fhir ─► Event ─ plan ─► Body ─ signer ─► Transaction
//!                                 │
//!                               vault: commitment keys, consent handles, patients' one-time keys
//! ```
//!
//! A gateway runs inside its organisation. Ids, names, references and text of a resource end here: what leaves is a
//! commitment under a key that stays in the [`vault`], codes from [`codes`], numbers of organisations, and times.
//!
//! What the version of today leaves out: studies and their subjects (labels `STUDY_REGISTER` and `STUDY_LINK`) have no
//! kind of their own yet. They are anchored as records of class [`codes::CLASS_RESEARCH`], which proves that and when they
//! existed and keeps the link of a patient to a study off the ledger altogether.

mod anchor;
pub mod codes;
mod date;
mod entropy;
pub mod fhir;
mod plan;
mod signer;
pub mod vault;

#[cfg(test)]
mod tests;

pub use anchor::{AnchorError, anchor};
pub use date::DateSpan;
pub use entropy::{Entropy, EntropyError, SeededEntropy, SystemEntropy};
pub use plan::{Gateway, Next, OrgKeys, PlanError, Prepared, Settings, Stage};
pub use signer::{KeyTerms, OrgSigner, key_add, seal_grant, seal_revoke};

/// The synthetic sample stream that ships with the program; see `tests/data/fhir/README.md`.
pub const SAMPLE_STREAM: &[u8] = include_bytes!("../../tests/data/fhir/stream.ndjson");
