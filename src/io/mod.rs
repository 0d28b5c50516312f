//! The room with sockets, clocks and files: QUIC between validators and from clients, HTTP, key files, tiles.
//!
//! **Invariant**: tokio, quinn and rustls are named here and in the commands, nowhere else. What crosses the wall is
//! plain values: decoded messages, transactions as bytes, typed replies.

mod error;
mod quic;

pub mod client_plane;
pub mod http;
pub mod keys;
pub mod peer;
pub mod tile_store;
pub mod tls;

pub use error::NetError;
