//! Everything that touches the world outside: threads, sockets, clocks and files.

pub mod tile_store;
pub mod verify_pool;
