//! The program as its users meet it: a network of one validator, which is the smallest legal one, run as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bad_input;
mod commands;
mod disk_full;
mod validator;
