//! Tests of the executor as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod rules;
mod whole;
mod world;
