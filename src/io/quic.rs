//! What both planes ask of QUIC.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    ServerConfig, TransportConfig, VarInt,
};
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};
use tracing::info;

use super::NetError;
use crate::config::Congestion;
use crate::crypto::SecretKey;

/// Largest UDP payload that path discovery tries. Ten segments of it, the most that quinn hands to the kernel at once,
/// stay below the 65,507 bytes of one UDP send: above that, datagrams vanish and the discovery falls back to 1,200.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
/// Packets above which, and time after which, they are acknowledged. An acknowledgement of every second one costs as much as the
/// packets.
const ACK_EVERY: u32 = 8;
const ACK_DELAY_MAX: Duration = Duration::from_millis(10);
/// quinn's default of 333 ms costs a second when a packet of the handshake is lost.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Above 2 MiB quinn closes connections under loss ("too many gaps in stream buffer").
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// What the system is asked to keep of packets that came and were not read yet. A stalled validator and its peers catch up by
/// bursts; the 208 KiB that Linux gives unasked overflow with them, and each packet lost there shrinks a window.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The parts in which planes differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transport {
    pub(super) congestion: Congestion,
    pub(super) uni_streams: u32,
    pub(super) bidi_streams: u32,
    /// Bytes that the other side may have in flight on all streams together.
    pub(super) receive_window: u32,
    /// Bytes that wait for acknowledgement on this side.
    pub(super) send_window: u32,
    pub(super) idle_timeout: Duration,
}

impl Transport {
    pub(super) fn build(self) -> Result<Arc<TransportConfig>, NetError> {
        let idle = self
            .idle_timeout
            .try_into()
            .map_err(|error| NetError::Quic(format!("idle time-out: {error}")))?;
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY)).max_ack_delay(Some(ACK_DELAY_MAX));
        let mut config = TransportConfig::default();
        config
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.bidi_streams))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES.min(self.receive_window)))
            .receive_window(VarInt::from_u32(self.receive_window))
            .send_window(self.send_window.into())
            // An earlier message finishes before a later one of its priority starts.
            .send_fairness(false)
            .initial_rtt(INITIAL_RTT)
            .mtu_discovery_config(Some(mtu))
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.idle_timeout / 4))
            .ack_frequency_config(Some(acks))
            .datagram_receive_buffer_size(None);
        match self.congestion {
            Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
            Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        };
        Ok(Arc::new(config))
    }
}

/// Binds an endpoint. Has to be called inside of the runtime that shall drive it.
pub(super) fn bind(
    key: &'static str,
    address: SocketAddr,
    secret: &SecretKey,
    mut server: ServerConfig,
) -> Result<Endpoint, NetError> {
    server.migration(false);
    let socket = UdpSocket::bind(address).map_err(|source| NetError::Bind { key, address, source })?;
    enlarge(key, &socket);
    Endpoint::new(endpoint_config(secret)?, Some(server), socket, Arc::new(quinn::TokioRuntime))
        .map_err(|source| NetError::Bind { key, address, source })
}

/// Asks for the receive buffer. The system gives what its administrator allows; with less it works, and loses more under load.
fn enlarge(key: &'static str, socket: &UdpSocket) {
    let sized = receive_buffer(socket).and_then(|bytes| {
        if bytes < RECEIVE_BUFFER_BYTES {
            set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_BYTES)?;
        }
        receive_buffer(socket)
    });
    match sized {
        Ok(bytes) if bytes >= RECEIVE_BUFFER_BYTES => {}
        Ok(bytes) => info!(
            "{key}: the system gives {} KiB of receive buffer instead of {} KiB, so that packets may be lost under load; `sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}` allows it",
            bytes >> 10,
            RECEIVE_BUFFER_BYTES >> 10,
        ),
        Err(error) => info!("{key}: the receive buffer could not be sized: {error}"),
    }
}

/// Bytes that a socket's packets may wait in. Linux doubles what it is asked for, for its own overhead, and tells the double (socket(7)).
fn receive_buffer(socket: &UdpSocket) -> rustix::io::Result<usize> {
    Ok(socket_recv_buffer_size(socket)? / 2)
}

/// Keys for stateless resets come from the secret key, so that a validator that was restarted can tell its peers at
/// once that their connections are gone, instead of leaving them to the idle time-out (RFC 9000, section 10.3.2).
fn endpoint_config(secret: &SecretKey) -> Result<EndpointConfig, NetError> {
    let reset = ResetKey(blake3::derive_key("salus 2026 QUIC stateless reset v1", &*secret.seed()));
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| NetError::Quic(format!("no random numbers: {error}")))?;
    let issued = Arc::new(AtomicU64::new(0));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(ConnectionIds { key, issued: issued.clone() }));
    config
        .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
        .map_err(|error| NetError::Quic(format!("UDP payload size: {error}")))?;
    Ok(config)
}

/// Connection ids that nobody can tell from random ones. quinn's own generator refuses, after a restart, to answer
/// packets to ids of the process before it, and so to send the stateless resets that make peers reconnect at once.
struct ConnectionIds {
    key: [u8; 32],
    issued: Arc<AtomicU64>,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        ConnectionId::new(&blake3::keyed_hash(&self.key, &number.to_be_bytes()).as_bytes()[..self.cid_len()])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Keyed BLAKE3 as the message authentication code of stateless resets.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_error| CryptoError)?;
        // Comparison of BLAKE3 hashes takes constant time.
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_socket_gets_the_receive_buffer_that_the_system_allows() {
        let [plain, large] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        enlarge("test", &large);
        let [plain, large] = [plain, large].map(|socket| receive_buffer(&socket).unwrap());
        // Not shown inside of some containers.
        if let Ok(most) = std::fs::read_to_string("/proc/sys/net/core/rmem_max") {
            let most: usize = most.trim().parse().unwrap();
            assert!(large >= most.min(RECEIVE_BUFFER_BYTES));
        }
        assert!(large >= plain, "never less than without asking");
    }
}
