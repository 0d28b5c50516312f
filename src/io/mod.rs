//! Everything that touches the world outside: threads, sockets, clocks and files.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the room that has threads, clocks and files, so that no other needs them"
)]

mod bell;
pub mod block_index;
pub mod client_plane;
pub mod disk;
pub mod driver;
mod error;
pub mod files;
pub mod http;
mod id_files;
pub mod keys;
mod log_filler;
pub mod log_lanes;
pub mod log_store;
pub mod peer;
#[cfg(feature = "profile")]
pub mod profile;
mod quic;
mod read_ahead;
pub mod state_store;
pub mod tile_store;
pub mod tls;
pub mod verify_pool;

pub use error::NetError;
