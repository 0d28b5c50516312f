//! The only room with files, sockets, clocks and threads.

pub mod state_store;
pub mod tile_store;
//! Everything that touches the world outside: threads, sockets, clocks and files.

pub mod verify_pool;
