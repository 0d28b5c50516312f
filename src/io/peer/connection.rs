//! The life of connections: accept, dial, hello, messages, end.

#![expect(
    clippy::significant_drop_tightening,
    reason = "a reference to a slot holds no lock, only what the lint takes for one"
)]

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::HandshakeData;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, Incoming, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::link::{Counters, Link};
use super::receive::{StreamEnd, read_hello, read_message};
use super::{PeerEvent, Shared, Slot, close, lock};
use crate::error::PeerError;
use crate::io::tls::{self, peer_version};
use crate::types::{AuthorityIndex, FRAME_HEAD_BYTES, Hello, PROTOCOL_VERSION_OLDEST};

/// Longest handshake, and longest wait for the hello after it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest attempt to dial. A fresh attempt probes sooner than one whose retransmissions have backed off.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that lasted this long clears its peer's record of failures.
const STABLE: Duration = Duration::from_secs(10);
/// Half-open handshakes above which senders have to prove their address first (RFC 9000, section 8.1.2).
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Half-open handshakes above which more are turned away.
const HANDSHAKES_MAX: usize = 512;

/// Why a connection ended.
enum End {
    Lost(ConnectionError),
    NoHello,
    Replaced,
    Misbehaved(PeerError),
    /// Nobody receives events any more.
    Stopped,
}

impl End {
    /// Whether neither side accuses the other.
    fn is_blameless(&self) -> bool {
        match self {
            Self::Lost(ConnectionError::ApplicationClosed(closed)) => {
                closed.error_code != VarInt::from_u32(close::MISBEHAVED)
            }
            // Closed here, for a message that turned out to break a rule.
            Self::Lost(ConnectionError::LocallyClosed) => false,
            Self::Lost(_) | Self::Replaced => true,
            Self::NoHello | Self::Misbehaved(_) | Self::Stopped => false,
        }
    }
}

/// Takes connections in until the endpoint closes.
pub(super) async fn accept_all(shared: Arc<Shared>, endpoint: Endpoint) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(&shared, &mut handshakes, incoming),
                None => return,
            },
            Some(_) = handshakes.join_next() => {}
        }
    }
}

fn admit(shared: &Arc<Shared>, handshakes: &mut JoinSet<()>, incoming: Incoming) {
    if handshakes.len() >= HANDSHAKES_MAX {
        incoming.refuse();
    } else if handshakes.len() >= HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
        // Fails only for what was retried already, which `may_retry` excludes.
        let _ = incoming.retry();
    } else {
        handshakes.spawn(accept_one(shared.clone(), incoming));
    }
}

async fn accept_one(shared: Arc<Shared>, incoming: Incoming) {
    let address = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return info!(%address, %error, "connection refused in the handshake"),
        Err(_elapsed) => return debug!(%address, "handshake timed out"),
    };
    match who(&shared, &connection) {
        Some(peer) if peer < shared.own => shared.slots[peer.as_usize()].offer(connection),
        other => {
            debug!(%address, peer = ?other, "connection from a validator that should be dialled");
            connection.close(VarInt::from_u32(close::WRONG_DIRECTION), b"the lower index dials");
        }
    }
}

/// The validator whose key the other side has proven to hold.
fn who(shared: &Shared, connection: &Connection) -> Option<AuthorityIndex> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let key = tls::proven_key(&chain)?;
    shared.committee.iter().find(|(_, authority)| authority.network_key == key).map(|(index, _)| index)
}

/// Uses the connections that a peer of lower index dials, one after the other.
pub(super) async fn serve_forever(shared: Arc<Shared>, peer: AuthorityIndex) {
    let slot = &shared.slots[peer.as_usize()];
    let mut backoff = Backoff::default();
    loop {
        let Some(connection) = slot.take_incoming() else {
            slot.arrived.notified().await;
            continue;
        };
        let began = Instant::now();
        match run(&shared, peer, &connection).await.0 {
            End::Stopped => return,
            // The next connection waits; a peer that misbehaves again and again waits longer and longer.
            End::Misbehaved(_) | End::Lost(ConnectionError::LocallyClosed) => sleep(backoff.next()).await,
            End::Lost(_) | End::NoHello | End::Replaced => {}
        }
        if began.elapsed() >= STABLE {
            backoff.reset();
        }
    }
}

/// Dials a peer of higher index, and again whenever the connection is gone.
pub(super) async fn dial_forever(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    peer: AuthorityIndex,
    client: ClientConfig,
) {
    let mut backoff = Backoff::default();
    loop {
        match timeout(DIAL_TIMEOUT, dial(&shared, &endpoint, peer, &client)).await {
            Ok(Ok(connection)) => {
                let began = Instant::now();
                let (end, was_up) = run(&shared, peer, &connection).await;
                if matches!(end, End::Stopped) {
                    return;
                }
                // Lost while nobody was to blame: try again soon.
                if began.elapsed() >= STABLE || (was_up && end.is_blameless()) {
                    backoff.reset();
                }
            }
            Ok(Err(error)) => debug!(%peer, error, "dialling failed"),
            Err(_elapsed) => debug!(%peer, "dialling timed out"),
        }
        sleep(backoff.next()).await;
    }
}

async fn dial(
    shared: &Shared,
    endpoint: &Endpoint,
    peer: AuthorityIndex,
    client: &ClientConfig,
) -> Result<Connection, String> {
    let name = &shared.addresses[peer.as_usize()];
    let is_v6 = endpoint.local_addr().is_ok_and(|local| local.is_ipv6());
    let found = tokio::net::lookup_host(name).await.map_err(|error| format!("{name}: {error}"))?;
    let mut last = format!("{name}: no address of the listening socket's family");
    for address in found.filter(|address| is_v6 || address.is_ipv4()) {
        let connecting = endpoint
            .connect_with(client.clone(), address, tls::SERVER_NAME)
            .map_err(|error| format!("{address}: {error}"))?;
        match connecting.await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// Uses a connection until it ends, closes it, and tells of it. Returns why it ended and whether its hello was good.
async fn run(shared: &Arc<Shared>, peer: AuthorityIndex, connection: &Connection) -> (End, bool) {
    let slot = &shared.slots[peer.as_usize()];
    let mut is_up = false;
    let end = exchange(shared, peer, connection, &mut is_up).await;
    *lock(&slot.link) = None;
    let (code, reason) = match &end {
        End::Misbehaved(error) => (close::MISBEHAVED, error.to_string()),
        End::Replaced => (close::REPLACED, "replaced by a newer connection".to_owned()),
        End::NoHello => (close::NO_HELLO, "no hello in time".to_owned()),
        End::Lost(_) | End::Stopped => (close::SHUTDOWN, String::new()),
    };
    connection.close(VarInt::from_u32(code), reason.as_bytes());
    let address = connection.remote_address();
    if let End::Misbehaved(error) = &end {
        warn!(%peer, %address, %error, "peer misbehaved, connection closed");
        Counters::add(&slot.counters.misbehaved, 1);
        let event = PeerEvent::Misbehaved { from: peer, error: error.clone() };
        if shared.events.send(peer, event).await.is_err() {
            return (End::Stopped, is_up);
        }
    } else if let End::Lost(ConnectionError::LocallyClosed) = &end {
        info!(%peer, %address, "connection closed");
    } else if let (End::Lost(error), false) = (&end, end.is_blameless()) {
        warn!(%peer, %address, %error, "peer closed the connection and blames this node");
    } else if let End::Lost(error) = &end {
        info!(%peer, %address, %error, "peer disconnected");
    }
    if is_up && shared.events.send(peer, PeerEvent::Down(peer)).await.is_err() {
        return (End::Stopped, is_up);
    }
    (end, is_up)
}

async fn exchange(
    shared: &Arc<Shared>,
    peer: AuthorityIndex,
    connection: &Connection,
    is_up: &mut bool,
) -> End {
    let slot = &shared.slots[peer.as_usize()];
    let version = version_of(connection);
    match timeout(HANDSHAKE_TIMEOUT, greet(shared, connection, version)).await {
        Ok(Ok(())) => {}
        Ok(Err(end)) => return end,
        Err(_elapsed) => return End::NoHello,
    }
    let mut writers = JoinSet::new();
    let link = Link::start(connection, &shared.limits, &slot.counters, &mut writers);
    *lock(&slot.link) = Some(Arc::new(link));
    Counters::add(&slot.counters.connections, 1);
    info!(%peer, address = %connection.remote_address(), "peer connected");
    *is_up = true;
    if shared.events.send(peer, PeerEvent::Up { peer, version }).await.is_err() {
        return End::Stopped;
    }
    read_all(shared, slot, peer, connection).await
}

/// The version of the protocol that TLS has agreed on. (Without a common one the handshake fails.)
fn version_of(connection: &Connection) -> u16 {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let alpn = data.and_then(|data| data.protocol);
    alpn.and_then(|alpn| peer_version(&alpn)).unwrap_or(PROTOCOL_VERSION_OLDEST)
}

/// Says hello and checks the peer's, both on the first stream of their direction.
async fn greet(shared: &Shared, connection: &Connection, version: u16) -> Result<(), End> {
    let network = shared.committee.network();
    let hello = Hello { version, network }.encode();
    let mut stream = connection.open_uni().await.map_err(End::Lost)?;
    // Errors of writing show again, by their cause, in what is read.
    let _ = stream.write_all(&hello.head).await;
    let _ = stream.finish();
    // Streams are accepted in the order in which the peer opened them.
    let mut stream = connection.accept_uni().await.map_err(End::Lost)?;
    match read_hello(&mut stream, network, version).await {
        Ok(_hello) => Ok(()),
        Err(StreamEnd::Misbehaved(error)) => Err(End::Misbehaved(error)),
        Err(StreamEnd::Lost) => Err(connection
            .close_reason()
            .map_or(End::Misbehaved(PeerError::Unsolicited("a reset")), End::Lost)),
    }
}

/// Reads frames, several at a time, until the connection ends or a newer one arrives.
async fn read_all(shared: &Arc<Shared>, slot: &Slot, peer: AuthorityIndex, connection: &Connection) -> End {
    let mut readers = JoinSet::new();
    let limit = shared.limits.streams as usize;
    loop {
        tokio::select! {
            stream = connection.accept_uni(), if readers.len() < limit => match stream {
                Ok(stream) => {
                    let read = read_one(shared.clone(), peer, stream);
                    if let Some(Err(end)) = read_or_spawn(&mut readers, read).await {
                        return end;
                    }
                }
                Err(error) => return drain(readers, error).await,
            },
            Some(read) = readers.join_next() => match read {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(end)) => return end,
            },
            () = slot.arrived.notified() => {
                if lock(&slot.incoming).is_some() {
                    return End::Replaced;
                }
            }
        }
    }
}

/// Reads a frame that is here as a whole, as most are, without making a task for it.
async fn read_or_spawn(
    readers: &mut JoinSet<Result<(), End>>,
    read: impl Future<Output = Result<(), End>> + Send + 'static,
) -> Option<Result<(), End>> {
    let mut read = Box::pin(read);
    let first = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
    match first {
        Poll::Ready(result) => Some(result),
        Poll::Pending => {
            readers.spawn(read);
            None
        }
    }
}

/// Frames that came whole before the connection was lost are delivered still; a broken rule among them is told.
async fn drain(mut readers: JoinSet<Result<(), End>>, error: ConnectionError) -> End {
    while let Some(read) = readers.join_next().await {
        if let Ok(Err(end @ (End::Misbehaved(_) | End::Stopped))) = read {
            return end;
        }
    }
    End::Lost(error)
}

async fn read_one(shared: Arc<Shared>, from: AuthorityIndex, mut stream: RecvStream) -> Result<(), End> {
    let slot = &shared.slots[from.as_usize()];
    match read_message(&mut stream, &slot.budget).await {
        Ok((message, len, credit)) => {
            Counters::add(&slot.counters.received_frames, 1);
            Counters::add(&slot.counters.received_bytes, (FRAME_HEAD_BYTES + len) as u64);
            let event = PeerEvent::Message { from, message, credit };
            shared.events.send(from, event).await.map_err(|_closed| End::Stopped)
        }
        Err(StreamEnd::Lost) => Ok(()),
        Err(StreamEnd::Misbehaved(error)) => Err(End::Misbehaved(error)),
    }
}
