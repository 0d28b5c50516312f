//! What goes wrong when a socket is set up.

use std::net::SocketAddr;

use thiserror::Error;

/// Why a room of the network does not start. All of them are the operator's to mend.
#[derive(Debug, Error)]
pub enum NetError {
    /// The address is taken, not of this machine, or not allowed.
    #[error(
        "{key} = \"{address}\": cannot listen there: {source}. Choose another address in node.toml, or stop what uses it"
    )]
    Bind {
        /// Key of the configuration that the address comes from.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS library refuses a key or a setting.
    #[error("{what}: {source}")]
    Tls {
        /// What was being set up.
        what: &'static str,
        /// What it said.
        source: rustls::Error,
    },
    /// The QUIC library refuses a setting.
    #[error("QUIC: {0}")]
    Quic(String),
    /// The network key that was given is not the one that the genesis names for this validator.
    #[error("network key {found} is not the key {expected} that the genesis names for validator {validator}")]
    ForeignKey {
        /// Name of the validator.
        validator: String,
        /// Public key of the secret key given.
        found: String,
        /// Public key in the genesis.
        expected: String,
    },
}
