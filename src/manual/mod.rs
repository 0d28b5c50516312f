//! The manual: what the system withstands, what its bytes mean, how it agrees, and what it records.
//!
//! Text only. What a module says of itself stands with the module; here is what concerns several of them.

pub mod formats;
pub mod protocol;
pub mod records;
pub mod threat_model;
