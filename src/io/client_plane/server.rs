//! The validator's side.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, Incoming, ReadError, ReadExactError, RecvStream, SendStream, ServerConfig, VarInt,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::debug;

use super::close;
use super::submissions::Submissions;
use crate::codec::DecodeError;
use crate::config::Congestion;
use crate::crypto::SecretKey;
use crate::error::{ClientError, PeerError};
use crate::io::quic::{self, Transport};
use crate::io::{NetError, tls};
use crate::types::{CLIENT_PROTOCOL_VERSION, ClientReply, FRAME_HEAD_BYTES, HELLO, Hello, NetworkId, Submit};

/// Longest handshake, and longest wait for the hello after it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a client counts as gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a client's submissions that are on their way, or were read and not handed on; and of replies to it without an
/// acknowledgement.
const WINDOW_BYTES: u32 = 128 << 10;
/// Replies that wait for a client above which its submissions are not read. The replies of all outstanding ones may come
/// on top.
const REPLY_BYTES_HIGH: usize = 64 << 10;
/// What one client can make the node hold, beside its outstanding transactions and their replies: QUIC's two windows, what was
/// taken off the stream, and replies of which one half is being written.
pub const CLIENT_BYTES_MAX: usize = 3 * WINDOW_BYTES as usize + 2 * REPLY_BYTES_HIGH;
/// Submissions of a client that are handed on together.
const TOGETHER_MAX: usize = 64;
/// Bytes of a hello's body.
const HELLO_BYTES: usize = 10;

/// A transaction from a client, not looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The connection; never given twice by one process.
    pub client: u64,
    /// The client's number for it.
    pub request: u64,
    /// The transaction.
    pub tx: Bytes,
}

/// What a client has submitted that has no last reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outstanding {
    /// Transactions.
    pub transactions: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// Takes what a client has sent, all that was there together, and what it had outstanding before. Must not block for long. Each has to be answered with
/// [`ClientPlane::reply`] until a last reply, else it counts as outstanding for as long as the client is connected. Those that
/// are refused at once are returned with why, by the client's number for them.
pub type OnSubmissions = Arc<dyn Fn(Outstanding, Vec<Submission>) -> Vec<(u64, ClientError)> + Send + Sync>;

/// What the client plane is started with.
#[derive(Debug)]
pub struct ClientPlaneConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Secret half of the validator's network key, which clients pin.
    pub key: SecretKey,
    /// The network; clients of others are refused.
    pub network: NetworkId,
    /// Most connections.
    pub connections: usize,
    /// Most transactions of one connection without their last reply.
    pub outstanding: usize,
}

/// The running client plane. Dropping it closes all connections. Clones share it.
#[derive(Clone)]
pub struct ClientPlane {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(close::DONE), b"the node stops");
        self.accept.abort();
    }
}

impl fmt::Debug for ClientPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientPlane({} clients)", self.clients())
    }
}

struct Shared {
    network: NetworkId,
    connections: usize,
    outstanding: usize,
    on_submissions: OnSubmissions,
    next_client: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Session>>>,
}

/// Values behind these locks stay whole even if a holder panicked: each step leaves them consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connected client.
#[derive(Default)]
struct Session {
    state: Mutex<SessionState>,
    /// Tells the writer of replies, or that the last one is there.
    written: Notify,
    /// Tells the reader that replies have left.
    drained: Notify,
}

#[derive(Default)]
struct SessionState {
    /// Requests without their last reply, and the bytes of their transactions.
    outstanding: BTreeMap<u64, u32>,
    outstanding_bytes: usize,
    /// Encoded replies that wait to be written.
    replies: Vec<u8>,
    /// No more submissions come.
    finished: bool,
}

impl Session {
    fn reply(&self, request: u64, reply: &ClientReply) {
        let mut state = lock(&self.state);
        if !state.outstanding.contains_key(&request) {
            return;
        }
        if reply.is_last()
            && let Some(bytes) = state.outstanding.remove(&request)
        {
            state.outstanding_bytes -= bytes as usize;
        }
        reply.encode_into(request, &mut state.replies);
        drop(state);
        self.written.notify_one();
    }

    /// Notes a request, or refuses it.
    fn open(&self, request: u64, bytes: usize, limit: usize) -> Result<bool, PeerError> {
        let mut state = lock(&self.state);
        if state.outstanding.len() < limit {
            // A transaction's limit is far below 32 bits.
            let short = u32::try_from(bytes).unwrap_or(u32::MAX);
            if let Some(before) = state.outstanding.insert(request, short) {
                state.outstanding.insert(request, before);
                return Err(PeerError::Unsolicited("a request number that is in use"));
            }
            state.outstanding_bytes += bytes;
            return Ok(true);
        }
        ClientReply::from(&ClientError::Busy).encode_into(request, &mut state.replies);
        drop(state);
        self.written.notify_one();
        Ok(false)
    }

    fn outstanding(&self) -> Outstanding {
        let state = lock(&self.state);
        Outstanding { transactions: state.outstanding.len(), bytes: state.outstanding_bytes }
    }

    /// Waits until the client has taken replies.
    async fn wait_drained(&self) {
        while lock(&self.state).replies.len() > REPLY_BYTES_HIGH {
            self.drained.notified().await;
        }
    }

    fn finish(&self) {
        lock(&self.state).finished = true;
        self.written.notify_one();
    }
}

impl ClientPlane {
    /// Binds the endpoint and serves clients on `runtime`.
    ///
    /// # Errors
    /// If the address cannot be bound or the key is refused.
    pub fn start(
        config: ClientPlaneConfig,
        runtime: &Handle,
        on_submissions: OnSubmissions,
    ) -> Result<Self, NetError> {
        let ClientPlaneConfig { listen, key, network, connections, outstanding } = config;
        let tls = QuicServerConfig::try_from(tls::Identity::new(&key)?.client_plane_server()?)
            .map_err(|error| NetError::Quic(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(transport(1, WINDOW_BYTES, WINDOW_BYTES).build()?);
        let _guard = runtime.enter();
        let endpoint = quic::bind("listen.clients", listen, &key, server)?;
        let shared = Arc::new(Shared {
            network,
            connections,
            outstanding,
            on_submissions,
            next_client: AtomicU64::new(1),
            clients: Mutex::default(),
        });
        let accept = runtime.spawn(accept_all(shared.clone(), endpoint.clone()));
        Ok(Self { inner: Arc::new(Inner { endpoint, shared, accept }) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// Queues a reply; never waits. A reply to a client that left, or to a request that had its last reply, is dropped.
    pub fn reply(&self, client: u64, request: u64, reply: &ClientReply) {
        let session = lock(&self.inner.shared.clients).get(&client).cloned();
        if let Some(session) = session {
            session.reply(request, reply);
        }
    }

    /// Number of clients that are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        lock(&self.inner.shared.clients).len()
    }

    /// Closes all connections and waits, at most two seconds, until the clients have been told.
    pub async fn shutdown(self) {
        self.inner.endpoint.close(VarInt::from_u32(close::DONE), b"the node stops");
        let _ = timeout(Duration::from_secs(2), self.inner.endpoint.wait_idle()).await;
    }
}

/// Clients sit on ordinary lines, so their plane has the internet's usual congestion control.
pub(super) fn transport(bidi_streams: u32, receive_window: u32, send_window: u32) -> Transport {
    Transport {
        congestion: Congestion::Cubic,
        uni_streams: 0,
        bidi_streams,
        receive_window,
        send_window,
        idle_timeout: IDLE_TIMEOUT,
    }
}

async fn accept_all(shared: Arc<Shared>, endpoint: Endpoint) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                // A quarter of the places stays with senders that have proven their address (RFC 9000, section 8.1.2).
                Some(incoming) if sessions.len() >= shared.connections => refuse(incoming),
                Some(incoming) if sessions.len() >= shared.connections / 4 * 3 && incoming.may_retry() => {
                    let _ = incoming.retry();
                }
                Some(incoming) => {
                    sessions.spawn(serve(shared.clone(), incoming));
                }
                None => return,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

fn refuse(incoming: Incoming) {
    debug!(address = %incoming.remote_address(), "client refused: as many clients as may be");
    incoming.refuse();
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client is done or gone.
    Done,
    Misbehaved(PeerError),
}

impl From<PeerError> for End {
    fn from(error: PeerError) -> Self {
        Self::Misbehaved(error)
    }
}

async fn serve(shared: Arc<Shared>, incoming: Incoming) {
    let address = incoming.remote_address();
    let greeting = async {
        let connection = incoming.into_future().await.ok()?;
        let (replies, mut submissions) = connection.accept_bi().await.ok()?;
        let hello = read_hello(&mut submissions, shared.network).await;
        Some((connection, replies, submissions, hello))
    };
    let Ok(Some((connection, replies, submissions, hello))) = timeout(HANDSHAKE_TIMEOUT, greeting).await
    else {
        return debug!(%address, "client went away before its hello");
    };
    let end = match hello {
        Ok(()) => converse(&shared, &connection, replies, submissions).await,
        Err(end) => end,
    };
    match end {
        End::Done => connection.close(VarInt::from_u32(close::DONE), b""),
        End::Misbehaved(error) => {
            debug!(%address, %error, "client misbehaved, connection closed");
            connection.close(VarInt::from_u32(close::MISBEHAVED), error.to_string().as_bytes());
        }
    }
}

async fn converse(
    shared: &Arc<Shared>,
    connection: &Connection,
    replies: SendStream,
    submissions: RecvStream,
) -> End {
    let client = shared.next_client.fetch_add(1, Ordering::Relaxed);
    let session = Arc::new(Session::default());
    lock(&shared.clients).insert(client, session.clone());
    let reader = async {
        let end = read_all(shared, client, &session, submissions).await;
        session.finish();
        end
    };
    let end = {
        let writer = write_all(&session, replies);
        tokio::pin!(reader, writer);
        tokio::select! {
            // The client sends no more; what is outstanding is answered still.
            end = &mut reader => match end {
                End::Done => {
                    tokio::select! {
                        () = &mut writer => {}
                        _ = connection.closed() => {}
                    }
                    End::Done
                }
                misbehaved @ End::Misbehaved(_) => misbehaved,
            },
            () = &mut writer => End::Done,
        }
    };
    lock(&shared.clients).remove(&client);
    end
}

async fn read_all(shared: &Shared, client: u64, session: &Session, stream: RecvStream) -> End {
    let mut submissions = Submissions::new(stream);
    loop {
        let here = match submissions.next(TOGETHER_MAX).await {
            Ok(here) => here,
            Err(end) => return end,
        };
        let mut taken = Vec::with_capacity(here.len());
        let mut broken = None;
        let before = session.outstanding();
        for Submit { request, tx } in here {
            match session.open(request, tx.len(), shared.outstanding) {
                Ok(true) => taken.push(Submission { client, request, tx }),
                Ok(false) => {}
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        for (request, error) in (shared.on_submissions)(before, taken) {
            session.reply(request, &ClientReply::from(&error));
        }
        if let Some(error) = broken {
            return End::Misbehaved(error);
        }
        session.wait_drained().await;
    }
}

/// Writes whatever replies there are in one piece, until no more can come or the client is gone.
async fn write_all(session: &Session, mut stream: SendStream) {
    loop {
        let (replies, is_last) = {
            let mut state = lock(&session.state);
            (std::mem::take(&mut state.replies), state.finished && state.outstanding.is_empty())
        };
        if !replies.is_empty() {
            if stream.write_chunk(replies.into()).await.is_err() {
                return;
            }
            session.drained.notify_one();
        } else if is_last {
            let _ = stream.finish();
            // Until the client has it all, or is gone.
            let _ = stream.stopped().await;
            return;
        } else {
            session.written.notified().await;
        }
    }
}

async fn read_hello(stream: &mut RecvStream, network: NetworkId) -> Result<(), End> {
    let (kind, len) = read_head(stream).await?;
    if kind == HELLO && len > HELLO_BYTES {
        return Err(PeerError::FrameTooLarge { kind, len, limit: HELLO_BYTES }.into());
    }
    let body = if kind == HELLO { read_body(stream, len).await? } else { Vec::new() };
    Hello::check(kind, &body, network, CLIENT_PROTOCOL_VERSION)?;
    Ok(())
}

/// Type and length of the next frame. The end of the stream between frames is the end of the session.
async fn read_head(stream: &mut RecvStream) -> Result<(u8, usize), End> {
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await.map_err(|error| ended(error, 0, head.len()))?;
    let [a, b, c, d, kind] = head;
    Ok((kind, u32::from_be_bytes([a, b, c, d]) as usize))
}

/// The caller has checked `len` against the frame's limit.
async fn read_body(stream: &mut RecvStream, len: usize) -> Result<Vec<u8>, End> {
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.map_err(|error| ended(error, FRAME_HEAD_BYTES, len))?;
    Ok(body)
}

fn ended(error: ReadExactError, start: usize, len: usize) -> End {
    match error {
        ReadExactError::FinishedEarly(0) if start == 0 => End::Done,
        ReadExactError::FinishedEarly(got) => {
            let source = DecodeError::Truncated { what: "frame", at: start + got, missing: len - got };
            End::Misbehaved(PeerError::Malformed { what: "frame", source })
        }
        ReadExactError::ReadError(
            ReadError::Reset(_)
            | ReadError::ConnectionLost(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected,
        ) => End::Done,
    }
}
