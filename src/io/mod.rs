//! The room of files, threads and sockets: everything that the sans-IO rooms are driven by.

pub mod disk;
pub mod files;
pub mod log_store;
