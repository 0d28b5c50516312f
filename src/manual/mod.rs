//! The manual: what the system withstands, what its bytes mean, how it agrees, and what it records.
//!
//! What was weighed and left out for a reason stands in [`decisions`].
//!
//! Text only. What a module says of itself stands with the module; here is what concerns several of them.

pub mod back_pressure;
pub mod decisions;
pub mod formats;
pub mod protocol;
pub mod records;
pub mod threat_model;
