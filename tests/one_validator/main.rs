//! The program as its users meet it: a network of one validator, which is the smallest legal one, run as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "starts processes and writes what they read"
)]

mod processes;
