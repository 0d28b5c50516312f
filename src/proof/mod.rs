//! The Merkle log and everything that can be proved from it: tiles, signed checkpoints, offline bundles.

pub mod batch;
pub mod bundle;
pub mod checkpoint;
pub mod commitment;
pub mod log;
pub mod merkle;
pub mod note;
pub mod tiles;
pub mod tlog_proof;

mod error;
#[cfg(test)]
mod fixture;
mod strict_json;

pub use error::ProofError;
