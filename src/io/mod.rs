//! Everything that touches the world outside: threads, sockets, clocks and files.

pub mod verify_pool;
