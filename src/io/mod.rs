//! The only room with files, sockets, clocks and threads.

pub mod state_store;
pub mod tile_store;
pub mod verify_pool;
