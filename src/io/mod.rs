//! The only room with files, sockets, clocks and threads.

pub mod tile_store;
