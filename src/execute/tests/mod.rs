//! Tests of the executor as a whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect, it panics on"
)]
#![allow(clippy::disallowed_methods, reason = "copies a store on disk, and asks it from another thread")]

mod batches;
mod prepare;
mod rules;
mod tiles;
mod whole;
mod world;
