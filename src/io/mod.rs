//! Everything that touches the world outside: threads, sockets, clocks and files.

pub mod client_plane;
pub mod disk;
pub mod driver;
mod error;
pub mod files;
pub mod http;
pub mod keys;
pub mod log_store;
pub mod peer;
mod quic;
pub mod state_store;
pub mod tile_store;
pub mod tls;
pub mod verify_pool;

pub use error::NetError;
