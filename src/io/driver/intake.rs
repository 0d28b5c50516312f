//! Client transactions on their way in, and replies on their way out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::crypto::Verifier;
use crate::error::ClientError;
use crate::execute::{KeyDirectory, Outcome};
use crate::ingress::{PendingTx, admit};
use crate::io::client_plane::ClientPlane;
use crate::io::verify_pool::{Busy, Job, VerifyPool};
use crate::mempool::{PooledTransaction, Ticket};
use crate::node::Reply;
use crate::types::{ClientReply, NetworkId, TxId};
use crate::verify::{VerifiedTx, verify_transactions};

use super::clock::Clock;
use super::gate::{Amount, Gate, Place};
use super::inbox::{CoreSender, Mail};

/// The client number of requests that came by HTTP; the client plane counts from 0 and never gets there.
const HTTP_CLIENT: u64 = u64::MAX;

/// Time after others from which on a transaction counts as alone.
const ALONE_US: u64 = 250;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for a transaction that is with the verification pool, and its place.
#[derive(Debug)]
pub(super) struct Waits {
    ticket: Ticket,
    place: Place,
}

/// Hands verified transactions to the node.
pub(super) fn verified(verified: Vec<VerifiedTx<Waits>>, core: &CoreSender) {
    if let Some((verified, place)) = pooled(verified) {
        // The node has stopped if nobody listens.
        let _ = core.send_lazily(Mail::Transactions { verified, place });
    }
}

/// Tells those who sent transactions that do not verify.
pub(super) fn refused(refused: Vec<(PendingTx<Waits>, ClientError)>, replies: &Replies) {
    for (tx, error) in refused {
        let (_, _, waits) = tx.into_parts();
        replies.refuse(waits.ticket, &error);
    }
}

/// As the node takes them, and the place of all; nothing if there are none.
fn pooled(verified: Vec<VerifiedTx<Waits>>) -> Option<(Vec<PooledTransaction>, Place)> {
    let (mut pooled, mut all) = (Vec::with_capacity(verified.len()), None::<Place>);
    for (tx, id, Waits { ticket, place }) in verified.into_iter().map(VerifiedTx::into_parts) {
        pooled.push(PooledTransaction { id, ticket: Some(ticket), tx });
        match &mut all {
            Some(all) => all.join(place),
            None => all = Some(place),
        }
    }
    Some((pooled, all?))
}

/// Admits transactions and has their signatures checked. Called on threads of sockets; never blocks.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    pub(super) network: NetworkId,
    pub(super) clock: Clock,
    pub(super) gate: Arc<Gate>,
    pub(super) keys: KeyDirectory,
    pub(super) pool: Arc<VerifyPool<Waits>>,
    pub(super) core: CoreSender,
    pub(super) lone: Arc<Mutex<Lone>>,
}

/// Checks a transaction that came alone, a while after the one before it, where it came: to wake a thread of the pool costs as
/// much. While more come the pool does it, whose batches cost less for each.
#[derive(Debug)]
pub(super) struct Lone {
    verifier: Verifier,
    /// Until then the next ones are not alone.
    alone_from_us: u64,
}

impl Lone {
    /// The seed of `verifier` is secret and from the operating system.
    pub(super) fn new(verifier: Verifier) -> Self {
        Self { verifier, alone_from_us: 0 }
    }

    /// Whether what comes now, so many together, is alone.
    fn is_alone(&mut self, now_us: u64, came: usize) -> bool {
        let is_alone = came == 1 && self.alone_from_us <= now_us;
        self.alone_from_us = now_us + ALONE_US;
        is_alone
    }
}

impl Intake {
    /// Takes transactions of one client that came together, and that had `held` without an answer before; those that are refused
    /// at once, with why. Where there is no room nothing is looked into.
    pub(super) fn submit(&self, mut held: Amount, all: Vec<(Ticket, Bytes)>) -> Vec<(Ticket, ClientError)> {
        let now = self.clock.now();
        let (mut admitted, mut refused) = (Vec::with_capacity(all.len()), Vec::new());
        let is_room = self.pool.has_room(all.len());
        for (ticket, tx) in all {
            let bytes = tx.len();
            let Some(place) = is_room.then(|| self.gate.enter(held, bytes)).flatten() else {
                refused.push((ticket, ClientError::Busy));
                continue;
            };
            match admit(tx, self.network, now.wall, &self.keys) {
                Ok(pending) => {
                    held.transactions += 1;
                    held.bytes += bytes;
                    admitted.push(pending.of(Waits { ticket, place }));
                }
                Err(error) => refused.push((ticket, error)),
            }
        }
        if admitted.is_empty() {
            return refused;
        }
        refused.extend(match self.lone(now.monotonic_us, admitted.len()) {
            Some(lone) => self.check_here(lone, admitted),
            None => self.check_in_pool(admitted),
        });
        refused
    }

    /// Who checks what came, if it is alone.
    fn lone(&self, now_us: u64, came: usize) -> Option<MutexGuard<'_, Lone>> {
        let mut lone = self.lone.try_lock().ok()?;
        lone.is_alone(now_us, came).then_some(lone)
    }

    fn check_here(
        &self,
        mut lone: MutexGuard<'_, Lone>,
        admitted: Vec<PendingTx<Waits>>,
    ) -> Vec<(Ticket, ClientError)> {
        let (verified, refused) = verify_transactions(&mut lone.verifier, self.network, admitted);
        drop(lone);
        let mut refused: Vec<_> = refused.into_iter().map(|(tx, error)| (tx.owner().ticket, error)).collect();
        let busy: Vec<_> = verified.iter().map(|tx| (tx.owner().ticket, ClientError::Busy)).collect();
        if let Some((verified, place)) = pooled(verified)
            && self.core.try_send_lazily(Mail::Transactions { verified, place }).is_err()
        {
            refused.extend(busy);
        }
        refused
    }

    fn check_in_pool(&self, admitted: Vec<PendingTx<Waits>>) -> Vec<(Ticket, ClientError)> {
        let busy = |tx: PendingTx<Waits>| (tx.owner().ticket, ClientError::Busy);
        match self.pool.try_submit(Job::Transactions(admitted)) {
            Err(Busy(Job::Transactions(admitted))) => admitted.into_iter().map(busy).collect(),
            Err(Busy(Job::Payload(_))) => unreachable!("transactions come back as they went"),
            Ok(()) => Vec::new(),
        }
    }
}

/// One request by HTTP that waits.
#[derive(Debug)]
struct HttpWaiter {
    id: TxId,
    bytes: usize,
    admitted: Option<oneshot::Sender<Result<(), ClientError>>>,
    outcome: oneshot::Sender<ClientReply>,
}

/// The two ends of a request by HTTP.
pub(super) struct HttpRequest {
    pub(super) ticket: Ticket,
    /// What all requests by HTTP had without an answer before: to the gate they are one client.
    pub(super) held: Amount,
    pub(super) admitted: oneshot::Receiver<Result<(), ClientError>>,
    pub(super) outcome: oneshot::Receiver<ClientReply>,
}

#[derive(Debug, Default)]
struct HttpWaiters {
    next: u64,
    /// Of the transactions of all requests.
    bytes: usize,
    by_request: HashMap<u64, HttpWaiter>,
    /// Transactions let in by HTTP that are not final: requests by id.
    pending: HashMap<TxId, u64>,
}

/// Brings replies to who waits for them.
#[derive(Default)]
pub(super) struct Replies {
    plane: OnceLock<ClientPlane>,
    http: Mutex<HttpWaiters>,
}

impl Replies {
    /// Tells where QUIC clients are answered; once, before they can submit anything.
    pub(super) fn attach(&self, plane: ClientPlane) {
        let _ = self.plane.set(plane);
    }

    /// A new request by HTTP.
    pub(super) fn http_request(&self, id: TxId, bytes: usize) -> HttpRequest {
        let (admitted_tx, admitted) = oneshot::channel();
        let (outcome_tx, outcome) = oneshot::channel();
        let mut http = lock(&self.http);
        let request = http.next;
        http.next += 1;
        let held = Amount { transactions: http.by_request.len(), bytes: http.bytes };
        http.bytes += bytes;
        http.by_request
            .insert(request, HttpWaiter { id, bytes, admitted: Some(admitted_tx), outcome: outcome_tx });
        http.pending.insert(id, request);
        drop(http);
        HttpRequest { ticket: Ticket { client: HTTP_CLIENT, request }, held, admitted, outcome }
    }

    /// Whether a transaction was let in by HTTP and is not final.
    pub(super) fn is_pending(&self, id: &TxId) -> bool {
        lock(&self.http).pending.contains_key(id)
    }

    /// A transaction is not let in.
    pub(super) fn refuse(&self, ticket: Ticket, error: &ClientError) {
        if ticket.client == HTTP_CLIENT {
            if let Some(waiter) = self.take_http(ticket.request)
                && let Some(admitted) = waiter.admitted
            {
                let _ = admitted.send(Err(error.clone()));
            }
            return;
        }
        let reply = ClientReply::Refused { code: error.code().to_owned(), message: error.to_string() };
        self.quic(ticket, &reply);
    }

    /// What the node says.
    pub(super) fn reply(&self, ticket: Ticket, reply: Reply) {
        let reply = match reply {
            Reply::Busy => return self.refuse(ticket, &ClientError::Busy),
            Reply::Accepted => ClientReply::Accepted,
            Reply::Final(Outcome::Executed { leaf, violation }) => ClientReply::Executed { leaf, violation },
            Reply::Final(Outcome::Duplicate { leaf }) => ClientReply::Duplicate { leaf },
            Reply::Final(Outcome::Skipped(reason)) => ClientReply::Skipped { reason: reason.code() },
        };
        if ticket.client != HTTP_CLIENT {
            return self.quic(ticket, &reply);
        }
        if reply == ClientReply::Accepted {
            let admitted =
                lock(&self.http).by_request.get_mut(&ticket.request).and_then(|w| w.admitted.take());
            if let Some(admitted) = admitted {
                let _ = admitted.send(Ok(()));
            }
        } else if let Some(waiter) = self.take_http(ticket.request) {
            // A request that waited only for admission has dropped the other end.
            let _ = waiter.outcome.send(reply);
        }
    }

    fn take_http(&self, request: u64) -> Option<HttpWaiter> {
        let mut http = lock(&self.http);
        let waiter = http.by_request.remove(&request)?;
        http.bytes -= waiter.bytes;
        if http.pending.get(&waiter.id) == Some(&request) {
            http.pending.remove(&waiter.id);
        }
        drop(http);
        Some(waiter)
    }

    fn quic(&self, ticket: Ticket, reply: &ClientReply) {
        if let Some(plane) = self.plane.get() {
            plane.reply(ticket.client, ticket.request, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_is_what_comes_singly_and_a_while_after_the_others() {
        let mut lone = Lone::new(Verifier::portable([1; 32], 4));
        assert!(lone.is_alone(1_000, 1));
        assert!(!lone.is_alone(1_000 + ALONE_US - 1, 1), "the one before came just now");
        assert!(!lone.is_alone(1_000 + 2 * ALONE_US - 2, 1), "and so did this one's");
        assert!(!lone.is_alone(50_000, 2), "two");
        assert!(!lone.is_alone(50_000 + ALONE_US - 1, 1), "just after them");
        assert!(lone.is_alone(100_000, 1));
    }
}
