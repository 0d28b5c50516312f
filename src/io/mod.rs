//! Everything that touches the world outside: threads, sockets, clocks and files.

pub mod disk;
pub mod files;
pub mod log_store;
pub mod state_store;
pub mod tile_store;
pub mod verify_pool;
