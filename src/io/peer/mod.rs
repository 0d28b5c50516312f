//! QUIC between validators: one connection for each pair, one stream for each frame.
//!
//! The validator with the lower index dials and reconnects; the other accepts. Each side says hello on the first
//! stream that it opens; nothing else is read before the other's hello is checked. Then each header, payload, request and
//! answer travels on a stream of its own, headers and requests at the highest priority, so frames may overtake each
//! other.
//!
//! **Bounds.** Sending never waits: each peer and class of frame has a queue bounded in frames and bytes, and what does
//! not fit is dropped and counted, since the protocol asks again for what it misses. Receiving waits: when the
//! queue of a peer's events is full, or what it sent and nobody has handled yet takes what it may ([`ReceiveCredit`]), its
//! streams are not read, their credit is not renewed, and it stops. A peer occupies at most [`PeerLimits::receive_bytes`] with
//! large frames, [`PeerLimits::receive_small_bytes`] with small ones, and the connection's window.

mod backoff;
mod connection;
mod events;
mod link;
mod receive;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, VarInt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinHandle;

use super::NetError;
use super::quic::{self, Transport};
use super::tls::Identity;
use crate::committee::Committee;
use crate::config::Congestion;
use crate::crypto::SecretKey;
use crate::error::PeerError;
use crate::types::{AuthorityIndex, Frame, FrameClass, PeerMessage};
use tracing::warn;

use link::{Counters, Link, WireFrame};
use receive::Budget;

pub use events::{PeerEventSender, PeerEvents, PeerEventsWaker, peer_events, peer_lanes};

/// Application error codes that a connection is closed with (RFC 9000, section 20.2).
pub mod close {
    /// The node stops.
    pub const SHUTDOWN: u32 = 0;
    /// The peer broke a rule of the protocol; the reason says which.
    pub const MISBEHAVED: u32 = 1;
    /// A newer connection of the same peer has taken its place.
    pub const REPLACED: u32 = 2;
    /// The validator with the lower index dials, and this one has the higher.
    pub const WRONG_DIRECTION: u32 = 3;
    /// No hello came in time.
    pub const NO_HELLO: u32 = 4;
}

/// What the network of validators is started with.
#[derive(Debug)]
pub struct PeerNetConfig {
    /// Index of this validator.
    pub own: AuthorityIndex,
    /// The committee: nobody else is let in.
    pub committee: Arc<Committee>,
    /// Secret half of this validator's network key.
    pub key: SecretKey,
    /// Where to accept and to dial from.
    pub listen: SocketAddr,
    /// `host:port` of each validator, by index. Resolved anew at each attempt.
    pub addresses: Vec<String>,
    /// Congestion control.
    pub congestion: Congestion,
    /// What one peer may occupy.
    pub limits: PeerLimits,
}

impl PeerNetConfig {
    /// With the committee's own addresses and the default limits.
    #[must_use]
    pub fn new(own: AuthorityIndex, committee: Arc<Committee>, key: SecretKey, listen: SocketAddr) -> Self {
        let addresses = committee.iter().map(|(_, authority)| authority.address.clone()).collect();
        let (congestion, limits) = Default::default();
        Self { own, committee, key, listen, addresses, congestion, limits }
    }
}

/// What one peer may occupy.
#[derive(Debug, Clone, Copy)]
pub struct PeerLimits {
    /// Most frames that wait to be sent, for each class.
    pub queue_frames: usize,
    /// Most bytes that wait to be sent, for each class.
    pub queue_bytes: usize,
    /// Most streams that a peer may have open, and frames of it that are being read.
    pub streams: u32,
    /// Most bytes of answers, and of payloads above 4 KiB, that are being read or not handled yet, with what decoding makes of them.
    pub receive_bytes: usize,
    /// The same of headers, requests and smaller payloads.
    pub receive_small_bytes: usize,
    /// Most bytes that a peer may have in flight, on all streams together.
    pub receive_window: u32,
    /// Most bytes that wait for a peer's acknowledgement.
    pub send_window: u32,
    /// Silence after which a connection counts as lost.
    pub idle_timeout: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            queue_frames: 1_024,
            queue_bytes: 16 << 20,
            streams: 256,
            receive_bytes: 16 << 20,
            receive_small_bytes: 4 << 20,
            receive_window: 8 << 20,
            send_window: 16 << 20,
            idle_timeout: Duration::from_secs(10),
        }
    }
}

/// What happened on the network of validators.
#[derive(Debug)]
pub enum PeerEvent {
    /// Connected, hello checked; from now on frames to it are queued.
    Up {
        /// Who.
        peer: AuthorityIndex,
        /// The newest version of the protocol that both speak.
        version: u16,
    },
    /// Disconnected. Frames that were queued are lost. It is reconnected by itself.
    Down(AuthorityIndex),
    /// A message. Messages of one peer may overtake each other.
    Message {
        /// Who sent it, proven by its network key.
        from: AuthorityIndex,
        /// What it says, decoded; signatures in it are not verified.
        message: PeerMessage,
        /// The message's share of what the peer may occupy, given back on drop.
        credit: ReceiveCredit,
    },
    /// A peer broke a rule; its connection is closed.
    Misbehaved {
        /// Who.
        from: AuthorityIndex,
        /// Which rule.
        error: PeerError,
    },
}

/// A received message's share of what its peer may occupy. It goes along with what the message is made into until that is
/// handled, so that all queues on the way are bounded in bytes too. Given back when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct ReceiveCredit {
    permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl ReceiveCredit {
    /// Bytes that it stands for: those of the message and of what decoding makes of it, at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits())
    }
}

/// Figures about one peer since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// Who.
    pub peer: AuthorityIndex,
    /// Whether it is connected.
    pub up: bool,
    /// Connections that got as far as its hello.
    pub connections: u64,
    /// Rules broken.
    pub misbehaved: u64,
    /// Frames handed to QUIC.
    pub sent_frames: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Messages received.
    pub received_frames: u64,
    /// Bytes of their frames.
    pub received_bytes: u64,
    /// Bytes that it occupies: what it sent that is being read or not handled yet, see [`ReceiveCredit`].
    pub held_bytes: u64,
    /// Frames dropped since the peer was not connected or its queue was full, by class in the order of
    /// [`FrameClass::ALL`].
    pub dropped: [u64; FrameClass::ALL.len()],
    /// The line to it as it is now; all 0 while it is not connected.
    pub path: PathStats,
}

/// What QUIC knows of the line to a peer, since the connection began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathStats {
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u64,
    /// Bytes that may be under way without acknowledgement.
    pub window: u64,
    /// Bytes of one UDP payload.
    pub mtu: u64,
    /// Packets that were lost.
    pub lost_packets: u64,
}

/// The running network of validators. Dropping it closes all connections.
pub struct PeerNet {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl fmt::Debug for PeerNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerNet({} of {})", self.shared.own, self.shared.committee.size())
    }
}

/// What the tasks of all peers share.
struct Shared {
    own: AuthorityIndex,
    committee: Arc<Committee>,
    addresses: Vec<String>,
    limits: PeerLimits,
    events: PeerEventSender,
    slots: Vec<Slot>,
}

/// One peer.
struct Slot {
    /// Queues of the connection in use.
    link: Mutex<Option<Arc<Link>>>,
    /// A connection of the peer that passed the handshake and waits to be used; a newer one takes its place.
    incoming: Mutex<Option<Connection>>,
    /// Tells the peer's task of `incoming`.
    arrived: Notify,
    /// Room for frames of this peer.
    budget: Budget,
    counters: Arc<Counters>,
}

impl Slot {
    fn new(limits: &PeerLimits) -> Self {
        Self {
            link: Mutex::new(None),
            incoming: Mutex::new(None),
            arrived: Notify::new(),
            budget: Budget::new(limits),
            counters: Arc::default(),
        }
    }

    fn link(&self) -> Option<Arc<Link>> {
        lock(&self.link).clone()
    }

    /// Hands over a connection that the peer dialled.
    fn offer(&self, connection: Connection) {
        let older = lock(&self.incoming).replace(connection);
        if let Some(older) = older {
            older.close(VarInt::from_u32(close::REPLACED), b"replaced by a newer connection");
        }
        self.arrived.notify_one();
    }

    fn take_incoming(&self) -> Option<Connection> {
        lock(&self.incoming).take()
    }
}

/// Values behind these locks stay whole even if a holder panicked: they are replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PeerNet {
    /// Binds the endpoint and starts to dial and accept on `runtime`. Events go to `events`; while a peer's
    /// queue is full nothing is read from it.
    ///
    /// # Errors
    /// If the address cannot be bound, or the network key is not the one of the genesis.
    ///
    /// # Panics
    /// If `own` is not in the committee or `addresses` has not one entry for each validator.
    pub fn start(config: PeerNetConfig, runtime: &Handle, events: PeerEventSender) -> Result<Self, NetError> {
        let PeerNetConfig { own, committee, key, listen, addresses, congestion, limits } = config;
        assert!(committee.contains(own), "validator {own} of a committee of {}", committee.size());
        assert_eq!(addresses.len(), committee.size(), "one address for each validator");
        let identity = Identity::new(&key)?;
        check_own_key(&committee, own, &identity)?;
        let transport = Transport {
            congestion,
            uni_streams: limits.streams,
            bidi_streams: 0,
            receive_window: limits.receive_window,
            send_window: limits.send_window,
            idle_timeout: limits.idle_timeout,
        }
        .build()?;
        let allowed = committee.iter().filter(|(i, _)| *i != own).map(|(_, authority)| authority.network_key);
        let tls = QuicServerConfig::try_from(identity.peer_server(allowed)?)
            .map_err(|error| NetError::Quic(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(transport.clone());

        let mut dialled = Vec::new();
        for (peer, authority) in committee.iter().filter(|(peer, _)| own < *peer) {
            let tls = QuicClientConfig::try_from(identity.peer_client(authority.network_key)?)
                .map_err(|error| NetError::Quic(error.to_string()))?;
            let mut client = ClientConfig::new(Arc::new(tls));
            client.transport_config(transport.clone());
            dialled.push((peer, client));
        }

        let _guard = runtime.enter();
        let endpoint = quic::bind("listen.peers", listen, &key, server)?;
        let slots = committee.indices().map(|_| Slot::new(&limits)).collect();
        let shared = Arc::new(Shared { own, committee, addresses, limits, events, slots });
        let mut tasks = vec![runtime.spawn(connection::accept_all(shared.clone(), endpoint.clone()))];
        for (peer, client) in dialled {
            tasks.push(runtime.spawn(connection::dial_forever(
                shared.clone(),
                endpoint.clone(),
                peer,
                client,
            )));
        }
        for peer in shared.committee.indices().take_while(|peer| *peer < own) {
            tasks.push(runtime.spawn(connection::serve_forever(shared.clone(), peer)));
        }
        Ok(Self { endpoint, shared, tasks })
    }

    /// Where it listens: the port is known here if the configuration said 0.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Queues a frame to a peer; never waits. `false` if it was dropped, because the peer is not connected or its queue of this class
    /// is full.
    pub fn send(&self, to: AuthorityIndex, frame: Frame) -> bool {
        self.enqueue(to, WireFrame::from(frame))
    }

    /// Queues a frame to every other validator; never waits. Returns how many took it.
    pub fn broadcast(&self, frame: Frame) -> usize {
        let frame = WireFrame::from(frame);
        let own = self.shared.own;
        self.shared
            .committee
            .indices()
            .filter(|peer| *peer != own && self.enqueue(*peer, frame.clone()))
            .count()
    }

    /// Closes the connection of a peer whose message broke a rule that only its receiver could check. It is reconnected
    /// after a pause.
    pub fn blame(&self, peer: AuthorityIndex, error: &PeerError) {
        let Some(slot) = self.shared.slots.get(peer.as_usize()) else { return };
        warn!(%peer, %error, "peer misbehaved, connection closed");
        Counters::add(&slot.counters.misbehaved, 1);
        if let Some(link) = slot.link() {
            link.close(&error.to_string());
        }
    }

    fn enqueue(&self, to: AuthorityIndex, frame: WireFrame) -> bool {
        let Some(slot) = self.shared.slots.get(to.as_usize()) else { return false };
        let class = frame.class;
        let queued = slot.link().is_some_and(|link| link.send(frame));
        if !queued {
            Counters::add(&slot.counters.dropped[class as usize], 1);
        }
        queued
    }

    /// Figures about every other validator.
    #[must_use]
    pub fn stats(&self) -> Vec<PeerStats> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let others = self.shared.committee.indices().filter(|peer| *peer != self.shared.own);
        others
            .map(|peer| {
                let slot = &self.shared.slots[peer.as_usize()];
                let c = &slot.counters;
                let link = slot.link();
                PeerStats {
                    peer,
                    up: link.is_some(),
                    path: link.map(|link| link.path()).unwrap_or_default(),
                    connections: read(&c.connections),
                    misbehaved: read(&c.misbehaved),
                    sent_frames: read(&c.sent_frames),
                    sent_bytes: read(&c.sent_bytes),
                    received_frames: read(&c.received_frames),
                    received_bytes: read(&c.received_bytes),
                    held_bytes: slot.budget.held() as u64,
                    dropped: std::array::from_fn(|class| read(&c.dropped[class])),
                }
            })
            .collect()
    }

    /// Closes all connections and waits, at most two seconds, until the peers have been told.
    pub async fn shutdown(self) {
        self.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.endpoint.wait_idle()).await;
    }

    /// Closes all connections; nothing is dialled or accepted any more.
    pub fn close(&self) {
        self.endpoint.close(VarInt::from_u32(close::SHUTDOWN), b"the node stops");
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for PeerNet {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_own_key(committee: &Committee, own: AuthorityIndex, identity: &Identity) -> Result<(), NetError> {
    let authority = committee.authority(own);
    if authority.network_key == identity.public() {
        return Ok(());
    }
    Err(NetError::ForeignKey {
        validator: authority.name.clone(),
        found: hex::encode(identity.public()),
        expected: hex::encode(authority.network_key),
    })
}
