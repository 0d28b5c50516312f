//! Submits transactions over QUIC to whichever validator is up, until they are final.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::{Api, TransactionView};
use crate::error::ClientError;
use crate::execute::SkipReason;
use crate::io::client_plane::{ClientNetError, SalusClient};
use crate::types::{ClientReply, LeafIndex, NetworkId, Transaction, TxId};

/// How long one validator is waited for before the transaction is given to another one too.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);
/// First wait between two attempts; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long a validator that cannot be reached is left alone.
const DOWN_FOR: Duration = Duration::from_millis(250);
/// Longer than connecting takes: until then nobody else tries.
const CONNECTING_FOR: Duration = Duration::from_secs(12);

/// Where a validator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in the genesis.
    pub name: String,
    /// QUIC from clients.
    pub clients: SocketAddr,
    /// Its HTTP API: `http://HOST:PORT`.
    pub http: String,
    /// Network key that it proves.
    pub network_key: [u8; 32],
}

/// A final transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Final {
    /// Position of its stub in the log.
    pub leaf: LeafIndex,
    /// An access without a permit.
    pub violation: bool,
}

/// Why a transaction is not final.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotFinal {
    /// A validator refuses it for good.
    #[error("{validator} refuses it as {code}: {message}")]
    Refused {
        /// The validator.
        validator: String,
        /// Stable name of the refusal.
        code: String,
        /// The refusal in words.
        message: String,
    },
    /// It entered a block and every validator skipped it.
    #[error("every validator skipped it: {0}")]
    Skipped(String),
    /// No last answer in time. It may become final yet.
    #[error("no validator made it final within {seconds} s and {attempts} attempts; the last one: {last}")]
    GaveUp {
        /// Time that was allowed.
        seconds: u64,
        /// Attempts made.
        attempts: u64,
        /// How the last one ended.
        last: String,
    },
}

/// What it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolCounts {
    /// Refusals as `Busy`.
    pub busy: u64,
    /// Attempts after the first of a transaction.
    pub retries: u64,
    /// Connections that were lost.
    pub lost: u64,
}

/// Clients of all validators of a network.
#[derive(Debug)]
pub struct ClientPool {
    links: Vec<Link>,
    network: NetworkId,
    api: Api,
    busy: AtomicU64,
    retries: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Link {
    endpoint: Endpoint,
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    client: Option<Arc<SalusClient>>,
    /// Nobody connects before.
    retry_at: Option<Instant>,
}

impl Link {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one attempt at one validator ended.
enum Attempt {
    Final(Final),
    /// Used already, by this transaction or by another one.
    Used(&'static str),
    /// Try again, here or elsewhere.
    Again(String),
    Never(NotFinal),
}

impl ClientPool {
    pub(super) fn new(endpoints: Vec<Endpoint>, network: NetworkId, api: Api) -> Self {
        let link = |endpoint| Link { endpoint, state: Mutex::default() };
        let links = endpoints.into_iter().map(link).collect();
        let [busy, retries, lost] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { links, network, api, busy, retries, lost }
    }

    /// What it took so far.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            busy: self.busy.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Connects to every validator that is up; returns how many there are.
    pub async fn connect(&self) -> usize {
        let mut up = 0;
        for link in &self.links {
            up += usize::from(self.client(link).await.is_ok());
        }
        up
    }

    /// Submits a transaction, to validator number `first` before others, until it is final or `within` is over.
    ///
    /// The same bytes may go to several validators: whatever happens to connections and processes on the way, they
    /// execute once.
    ///
    /// # Errors
    /// Why it is not final.
    pub async fn submit(
        &self,
        transaction: &Transaction,
        first: usize,
        within: Duration,
    ) -> Result<Final, NotFinal> {
        let started = Instant::now();
        let (mut attempts, mut backoff) = (0, BACKOFF_MIN);
        let order = (0..self.links.len()).cycle().skip(first % self.links.len().max(1));
        for link in order.map(|index| &self.links[index]) {
            attempts += 1;
            let mut attempt = self.attempt(link, transaction.bytes()).await;
            if let Attempt::Used(how) = attempt {
                attempt = self.look(link, transaction.id(), how).await;
            }
            let last = match attempt {
                Attempt::Final(done) => return Ok(done),
                Attempt::Never(why) => return Err(why),
                Attempt::Used(how) => how.to_owned(),
                Attempt::Again(why) => why,
            };
            if started.elapsed() + backoff > within {
                return Err(NotFinal::GaveUp { seconds: within.as_secs(), attempts, last });
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Err(NotFinal::GaveUp { seconds: 0, attempts, last: "the network has no validators".to_owned() })
    }

    #[expect(
        clippy::significant_drop_tightening,
        reason = "the connection has to live until its answer is there"
    )]
    async fn attempt(&self, link: &Link, bytes: &Bytes) -> Attempt {
        let client = match self.client(link).await {
            Ok(client) => client,
            Err(why) => return Attempt::Again(why),
        };
        let replies = match client.submit(bytes.clone()).await {
            Ok(replies) => replies,
            Err(error @ ClientNetError::TooLarge(_)) => {
                return self.refused(link, "Malformed".to_owned(), error.to_string());
            }
            Err(
                error @ (ClientNetError::Setup(_) | ClientNetError::Connect { .. } | ClientNetError::Lost(_)),
            ) => {
                self.forget(link, &client);
                return Attempt::Again(error.to_string());
            }
        };
        match tokio::time::timeout(ATTEMPT_WITHIN, replies.last()).await {
            Ok(Some(reply)) => self.judge(link, reply),
            Ok(None) => {
                self.forget(link, &client);
                Attempt::Again(format!("the connection to {} was lost", link.endpoint.name))
            }
            Err(_elapsed) => {
                // A process that was killed says no goodbye: its clients would wait for QUIC's idle time-out.
                if !self.api.is_alive(&link.endpoint.http).await {
                    self.forget(link, &client);
                }
                Attempt::Again(format!("{} did not answer in time", link.endpoint.name))
            }
        }
    }

    fn judge(&self, link: &Link, reply: ClientReply) -> Attempt {
        match reply {
            ClientReply::Executed { leaf, violation } => Attempt::Final(Final { leaf, violation }),
            ClientReply::Duplicate { .. } => Attempt::Used("Duplicate"),
            ClientReply::Skipped { reason } if reason == SkipReason::Replayed as u8 => {
                Attempt::Used("Replayed")
            }
            ClientReply::Skipped { reason } => Attempt::Never(NotFinal::Skipped(reason_name(reason))),
            ClientReply::Refused { code, message } => self.refused(link, code, message),
            ClientReply::Accepted => Attempt::Again("accepted, and nothing more".to_owned()),
        }
    }

    fn refused(&self, link: &Link, code: String, message: String) -> Attempt {
        if code == ClientError::Busy.code() {
            self.busy.fetch_add(1, Ordering::Relaxed);
            return Attempt::Again(format!("{} is busy", link.endpoint.name));
        }
        if code == ClientError::Replayed(0).code() {
            return Attempt::Used("Replayed");
        }
        // A validator may not have executed yet what registered the key: others have, since that was final.
        if code == (ClientError::UnknownKey { org: 0, key: 0 }).code() {
            return Attempt::Again(format!("{}: {message}", link.endpoint.name));
        }
        Attempt::Never(NotFinal::Refused { validator: link.endpoint.name.clone(), code, message })
    }

    /// Asks whether it was this very transaction that has used the sequence number.
    async fn look(&self, link: &Link, id: TxId, how: &'static str) -> Attempt {
        match self.api.transaction(&link.endpoint.http, id).await {
            Ok(Some(TransactionView::Executed { leaf, violation })) => {
                Attempt::Final(Final { leaf, violation })
            }
            Ok(Some(TransactionView::Skipped { reason })) => Attempt::Never(NotFinal::Skipped(reason)),
            Ok(Some(TransactionView::Pending) | None) => Attempt::Used(how),
            Err(why) => Attempt::Again(why),
        }
    }

    /// The connection, made if there is none.
    async fn client(&self, link: &Link) -> Result<Arc<SalusClient>, String> {
        let down = || format!("{} is not reachable", link.endpoint.name);
        {
            let mut state = link.state();
            if let Some(client) = &state.client {
                return Ok(client.clone());
            }
            let now = Instant::now();
            if state.retry_at.is_some_and(|at| now < at) {
                return Err(down());
            }
            // One connects, the others go elsewhere. Should this future be dropped, the time passes.
            state.retry_at = Some(now + CONNECTING_FOR);
        }
        let Endpoint { clients, http, network_key, .. } = &link.endpoint;
        // Over TCP a missing process refuses at once; over UDP only silence says so.
        let connected = if self.api.is_alive(http).await {
            SalusClient::connect(*clients, *network_key, self.network)
                .await
                .map_err(|error| error.to_string())
        } else {
            Err(down())
        };
        let mut state = link.state();
        let connected = connected.map(Arc::new);
        state.client = connected.as_ref().ok().cloned();
        state.retry_at = Some(Instant::now() + DOWN_FOR);
        drop(state);
        connected
    }

    /// Drops a connection that is of no use any more, unless another one has taken its place.
    fn forget(&self, link: &Link, client: &Arc<SalusClient>) {
        let mut state = link.state();
        let is_current = state.client.as_ref().is_some_and(|current| Arc::ptr_eq(current, client));
        if is_current {
            state.client = None;
            state.retry_at = Some(Instant::now() + DOWN_FOR);
        }
        drop(state);
        self.lost.fetch_add(u64::from(is_current), Ordering::Relaxed);
    }
}

fn reason_name(code: u8) -> String {
    let reason = SkipReason::ALL.into_iter().find(|reason| *reason as u8 == code);
    reason.map_or_else(|| format!("reason {code}"), |reason| format!("{reason:?}"))
}
