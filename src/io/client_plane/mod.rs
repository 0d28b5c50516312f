//! QUIC for clients that submit transactions: one connection and one stream for each client, pipelined.
//!
//! The client pins the validator's network key and shows none of its own: whether a transaction is let in is decided by
//! its signature. Frames are those of [`crate::types::Submit`] and [`crate::types::ClientReply`]; many go into one
//! packet, since one stream for each small message costs twice as much.
//!
//! **Bounds.** Connections, transactions of a client without their last reply, and the size of each frame are limited.
//! A transaction too many is refused as `Busy`. A client that does not read its replies is not read either.

mod client;
mod server;
mod submissions;
#[cfg(test)]
mod tests;

pub use client::{ClientNetError, LastReply, Replies, SalusClient};
pub use server::{CLIENT_BYTES_MAX, ClientPlane, ClientPlaneConfig, OnSubmissions, Outstanding, Submission};

/// Application error codes that a connection is closed with.
pub mod close {
    /// Done, or the node stops.
    pub const DONE: u32 = 0;
    /// The client broke a rule of the protocol; the reason says which.
    pub const MISBEHAVED: u32 = 1;
    /// The node has as many clients as it may hold.
    pub const BUSY: u32 = 2;
}
