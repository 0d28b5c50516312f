//! One at a time: they share the cores, and one of them fills a disk.

mod anchoring;
mod bad_input;
mod commands;
mod disk_full;
mod validator;
