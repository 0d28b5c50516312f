//! Tests of the executor as a whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect, it panics on"
)]

mod rules;
mod whole;
mod world;
