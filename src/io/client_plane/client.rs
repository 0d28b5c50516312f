//! The client's side.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};
use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::close;
use super::server::transport;
use crate::codec::DecodeError;
use crate::io::{NetError, tls};
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::types::{
    CLIENT_PROTOCOL_VERSION, ClientReply, FRAME_HEAD_BYTES, Hello, NetworkId, REPLY_FRAME, Submit,
    client_frame_limit,
};

/// Longest handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Transactions on the way; [`SalusClient::submit`] waits above that. Validators allow as many by default.
const OUTSTANDING_MAX: usize = 4_096;
/// Most replies to one submission: accepted, and the last one.
const REPLIES_MAX: usize = 2;
/// Bytes of replies that are read at a time.
const READ_TOGETHER: usize = 1 << 16;
/// Submissions that wait to be written above which [`SalusClient::submit`] waits.
const SUBMIT_BYTES_HIGH: usize = 1 << 20;

/// Why a client cannot submit.
#[derive(Debug, Error)]
pub enum ClientNetError {
    /// Set-up of QUIC or TLS failed.
    #[error(transparent)]
    Setup(#[from] NetError),
    /// Nobody answers there, or not with the network key that was expected.
    #[error("cannot connect to the validator at {address}: {why}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What QUIC said.
        why: String,
    },
    /// The connection ended; what had no last reply may or may not become final.
    #[error("connection to the validator is lost: {0}")]
    Lost(String),
    /// Longer than any transaction may be.
    #[error("a transaction of {0} bytes, limit {TRANSACTION_BYTES_MAX}")]
    TooLarge(usize),
}

/// A connection to one validator, over which any number of transactions are on the way at once.
pub struct SalusClient {
    endpoint: Endpoint,
    connection: Connection,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    tasks: [JoinHandle<()>; 2],
}

impl fmt::Debug for SalusClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SalusClient({})", self.connection.remote_address())
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    written: Notify,
    drained: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    submissions: Vec<u8>,
    waiting: BTreeMap<u64, Waiting>,
    /// Set once, when the connection ends.
    lost: Option<String>,
}

struct Waiting {
    listener: Listener,
    permit: OwnedSemaphorePermit,
}

enum Listener {
    /// Of one submission alone.
    One(mpsc::Sender<ClientReply>),
    /// Of many.
    Shared { token: u64, answers: mpsc::UnboundedSender<LastReply> },
}

/// The last reply to a submission. While it is held, its submission counts as one that is on the way.
#[derive(Debug)]
pub struct LastReply {
    /// What the submission was called by who made it.
    pub token: u64,
    /// The reply.
    pub reply: ClientReply,
    _permit: OwnedSemaphorePermit,
}

/// The replies to one submission.
#[derive(Debug)]
pub struct Replies {
    replies: mpsc::Receiver<ClientReply>,
}

impl Replies {
    /// The next reply; `None` after the last, or when the connection is lost.
    pub async fn next(&mut self) -> Option<ClientReply> {
        self.replies.recv().await
    }

    /// The last reply; `None` if the connection was lost before it came.
    pub async fn last(mut self) -> Option<ClientReply> {
        while let Some(reply) = self.replies.recv().await {
            if reply.is_last() {
                return Some(reply);
            }
        }
        None
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a transaction and takes `waiting` in; `false` if too much waits to be written.
    fn push(&self, tx: &Bytes, waiting: &mut Option<Waiting>) -> Result<bool, ClientNetError> {
        let mut state = self.state();
        if let Some(why) = &state.lost {
            return Err(ClientNetError::Lost(why.clone()));
        }
        if state.submissions.len() > SUBMIT_BYTES_HIGH {
            return Ok(false);
        }
        let request = state.next;
        state.next += 1;
        Submit { request, tx: tx.clone() }.encode_into(&mut state.submissions);
        state.waiting.extend(waiting.take().map(|waiting| (request, waiting)));
        drop(state);
        Ok(true)
    }

    fn lose(&self, why: String) {
        let mut state = self.state();
        state.lost.get_or_insert(why);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Each dropped sender tells its `Replies`, each permit a waiting `submit`.
        drop(waiting);
        self.drained.notify_waiters();
    }
}

impl SalusClient {
    /// Connects to a validator that has to prove `server_key`, its network key from the genesis.
    ///
    /// # Errors
    /// If nobody answers in time, or not with that key.
    pub async fn connect(
        address: SocketAddr,
        server_key: [u8; 32],
        network: NetworkId,
    ) -> Result<Self, ClientNetError> {
        let lost = |why: String| ClientNetError::Connect { address, why };
        let tls = QuicClientConfig::try_from(tls::client_plane_client(server_key)?)
            .map_err(|error| NetError::Quic(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport(0, 1 << 20, 1 << 20).build()?);
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(any).map_err(|error| lost(error.to_string()))?;
        let connecting = endpoint
            .connect_with(config, address, tls::SERVER_NAME)
            .map_err(|error| lost(error.to_string()))?;
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_elapsed| lost(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|error| lost(error.to_string()))?;
        let (submissions, replies) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
        let shared = Arc::new(Shared::default());
        shared.state().submissions = Hello { version: CLIENT_PROTOCOL_VERSION, network }.encode().head;
        let tasks = [
            tokio::spawn(write_all(shared.clone(), submissions)),
            tokio::spawn(read_all(shared.clone(), connection.clone(), replies)),
        ];
        Ok(Self { endpoint, connection, shared, permits: Arc::new(Semaphore::new(OUTSTANDING_MAX)), tasks })
    }

    /// Sends a transaction. Waits only while 4,096 are on the way or a megabyte waits to be written.
    ///
    /// # Errors
    /// If the connection is lost or the transaction is too long.
    pub async fn submit(&self, tx: Bytes) -> Result<Replies, ClientNetError> {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        self.send(tx, Listener::One(sender)).await?;
        Ok(Replies { replies })
    }

    /// Sends a transaction as [`SalusClient::submit`] does; its last reply goes to `answers`, under `token`, where those of
    /// other submissions may go too. It never comes if the connection is lost first; `answers` has one sender less then.
    ///
    /// # Errors
    /// As [`SalusClient::submit`].
    pub async fn submit_for(
        &self,
        tx: Bytes,
        token: u64,
        answers: &mpsc::UnboundedSender<LastReply>,
    ) -> Result<(), ClientNetError> {
        self.send(tx, Listener::Shared { token, answers: answers.clone() }).await
    }

    async fn send(&self, tx: Bytes, listener: Listener) -> Result<(), ClientNetError> {
        if tx.len() > TRANSACTION_BYTES_MAX {
            return Err(ClientNetError::TooLarge(tx.len()));
        }
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| ClientNetError::Lost(closed.to_string()))?;
        let mut waiting = Some(Waiting { listener, permit });
        loop {
            let drained = self.shared.drained.notified();
            tokio::pin!(drained);
            // Registers before the state is looked at, so that no notification is missed in between.
            drained.as_mut().enable();
            if self.shared.push(&tx, &mut waiting)? {
                break;
            }
            drained.await;
        }
        self.shared.written.notify_one();
        Ok(())
    }

    /// Closes the connection; what has no last reply may or may not become final.
    pub async fn close(self) {
        self.connection.close(VarInt::from_u32(close::DONE), b"");
        let _ = tokio::time::timeout(Duration::from_secs(2), self.endpoint.wait_idle()).await;
    }
}

impl Drop for SalusClient {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(close::DONE), b"");
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Writes whatever was submitted in one piece.
async fn write_all(shared: Arc<Shared>, mut stream: SendStream) {
    loop {
        let submissions = std::mem::take(&mut shared.state().submissions);
        if submissions.is_empty() {
            shared.written.notified().await;
            continue;
        }
        shared.drained.notify_waiters();
        if let Err(error) = stream.write_chunk(submissions.into()).await {
            // If the connection is gone, the reader may say more of why; if only this stream is, it says nothing.
            return shared.lose(error.to_string());
        }
    }
}

async fn read_all(shared: Arc<Shared>, connection: Connection, mut stream: RecvStream) {
    let mut unread = Vec::new();
    let why = loop {
        match stream.read_chunk(READ_TOGETHER, true).await {
            Ok(Some(chunk)) => unread.extend_from_slice(&chunk.bytes),
            Ok(None) => break "the validator ended its replies".to_owned(),
            Err(error) => break error.to_string(),
        }
        match take_replies(&mut unread) {
            Ok(replies) => deliver(&shared, replies),
            Err(error) => break error,
        }
    };
    // The reason that the validator gave says more than what reading said.
    let why = match connection.close_reason() {
        Some(reason) => reason.to_string(),
        None => why,
    };
    connection.close(VarInt::from_u32(close::MISBEHAVED), b"");
    shared.lose(why);
}

/// Takes all whole replies off the front of what was read. What is left is shorter than a frame may be.
fn take_replies(unread: &mut Vec<u8>) -> Result<Vec<(u64, ClientReply)>, String> {
    let (mut replies, mut at) = (Vec::new(), 0);
    while let Some((head, rest)) = unread[at..].split_first_chunk::<FRAME_HEAD_BYTES>() {
        let [a, b, c, d, kind] = *head;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind != REPLY_FRAME || client_frame_limit(kind).is_none_or(|limit| len > limit) {
            return Err("the validator said nothing sensible".to_owned());
        }
        let Some(body) = rest.get(..len) else { break };
        replies.push(ClientReply::decode(body).map_err(|error: DecodeError| error.to_string())?);
        at += FRAME_HEAD_BYTES + len;
    }
    unread.drain(..at);
    Ok(replies)
}

fn deliver(shared: &Shared, replies: Vec<(u64, ClientReply)>) {
    let mut ended = Vec::with_capacity(replies.len());
    let mut state = shared.state();
    for (request, reply) in replies {
        if reply.is_last() {
            ended.extend(state.waiting.remove(&request).map(|waiting| (waiting, reply)));
        } else if let Some(Waiting { listener: Listener::One(replies), .. }) = state.waiting.get(&request)
            // One place is kept for the last reply.
            && replies.capacity() > 1
        {
            let _ = replies.try_send(reply);
        }
    }
    drop(state);
    for (Waiting { listener, permit }, reply) in ended {
        // Nobody may listen any more, and more replies than the protocol has are dropped.
        match listener {
            Listener::One(replies) => drop(replies.try_send(reply)),
            Listener::Shared { token, answers } => {
                let _ = answers.send(LastReply { token, reply, _permit: permit });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let mut all = Vec::new();
        let sent: Vec<(u64, ClientReply)> =
            (0..40).map(|request| (request, ClientReply::Skipped { reason: 3 })).collect();
        sent.iter().for_each(|(request, reply)| reply.encode_into(*request, &mut all));
        for cut in [1, 2, 7, 64, all.len()] {
            let (mut unread, mut read) = (Vec::new(), Vec::new());
            for piece in all.chunks(cut) {
                unread.extend_from_slice(piece);
                read.append(&mut take_replies(&mut unread).unwrap());
            }
            assert_eq!(read, sent, "pieces of {cut}");
            assert!(unread.is_empty());
        }
        for bad in [
            &[0xff, 0, 0, 0, REPLY_FRAME][..],
            &[0, 0, 0, 1, REPLY_FRAME ^ 0xff],
            &[0, 0, 0, 1, REPLY_FRAME, 9],
        ] {
            assert!(take_replies(&mut bad.to_vec()).is_err(), "{bad:?}");
        }
    }
}
