//! Networks of four validators as processes of their own, under load, with SIGKILL.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

/// The test runner runs the tests of modules of this name one at a time: each has the machine for itself.
mod processes;
