//! The Merkle log and everything that can be proved from it: tiles, signed checkpoints, offline bundles.

pub mod commitment;
pub mod log;
pub mod merkle;
pub mod tiles;
