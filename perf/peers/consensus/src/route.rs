//! Where a client's transactions go: to the validator that is to propose soon, so that they need not wait until it is this one's turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use commonware_cryptography::ed25519::PublicKey;

use crate::pool::Pool;

/// The turns of the validators, and the latest view that this one has heard of.
pub struct Turns {
    /// In the order of their turns: `RoundRobin` has the leader of view v at v modulo their number.
    validators: Vec<PublicKey>,
    view: AtomicU64,
}

impl Turns {
    /// `validators` in the order of their keys.
    pub fn new(validators: Vec<PublicKey>) -> Self {
        Self { validators, view: AtomicU64::new(0) }
    }

    pub fn saw(&self, view: u64) {
        self.view.fetch_max(view, Ordering::Relaxed);
    }

    /// Who leads so many views after the latest.
    pub fn leader(&self, ahead: u64) -> &PublicKey {
        let view = self.view.load(Ordering::Relaxed) + ahead;
        let validators = self.validators.len() as u64;
        &self.validators[usize::try_from(view % validators).unwrap_or_default()]
    }
}

/// Sends a message to a validator, if there is room.
pub type Send = Box<dyn Fn(&PublicKey, Bytes) -> bool + std::marker::Send + Sync>;

#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    me: PublicKey,
    turns: Arc<Turns>,
    /// How many views ahead; none: all stays here.
    ahead: Option<u64>,
    send: Send,
}

impl Router {
    pub fn new(pool: Pool, me: PublicKey, turns: Arc<Turns>, ahead: Option<u64>, send: Send) -> Self {
        Self { inner: Arc::new(Inner { pool, me, turns, ahead, send }) }
    }

    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// Takes a client's frames in, and to where they are to be proposed.
    pub fn submit(&self, client: usize, frames: impl Iterator<Item = Bytes>) {
        let Inner { pool, me, turns, ahead, send } = &*self.inner;
        let frames = pool.admit(client, frames);
        match ahead.map(|ahead| turns.leader(ahead)).filter(|leader| *leader != me) {
            Some(leader) if !frames.is_empty() => {
                let mut bytes = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
                frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
                if !send(leader, bytes.freeze()) {
                    pool.push(frames);
                }
            }
            _ => pool.push(frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::Signer;
    use commonware_cryptography::ed25519::PrivateKey;
    use std::sync::Mutex;

    #[test]
    fn transactions_go_to_who_leads_next() {
        let keys: Vec<PublicKey> = (0..4).map(|seed| PrivateKey::from_seed(seed).public_key()).collect();
        let turns = Arc::new(Turns::new(keys.clone()));
        let sent: Arc<Mutex<Vec<PublicKey>>> = Arc::default();
        let send: Send = Box::new({
            let sent = sent.clone();
            move |to, _| {
                sent.lock().unwrap().push(to.clone());
                true
            }
        });
        let pool = Pool::new(1_000);
        let (sender, _answers) = std::sync::mpsc::channel();
        let client = pool.client(sender);
        let router = Router::new(pool, keys[2].clone(), turns.clone(), Some(1), send);
        let frame = Bytes::from_static(&[8, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        for view in [5, 6, 4] {
            turns.saw(view);
            router.submit(client, [frame.clone()].into_iter());
        }
        // View 6 is its own: it stays. What is heard late changes nothing.
        assert_eq!(*sent.lock().unwrap(), [keys[3].clone(), keys[3].clone()]);
    }
}
