//! Networks of four validators as processes of their own, under load, with SIGKILL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::significant_drop_tightening,
    reason = "tests of whole processes bound their waits by the clock"
)]

/// The test runner runs the tests of modules of this name one at a time: each has the machine for itself.
mod processes;
