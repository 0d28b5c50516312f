//! The way into the core: a bounded queue that the core empties without waiting, and its bell.
//!
//! The queue counts mails. Their bytes are bounded where they came in from outside: mail of peers carries the credit that was taken
//! when it was read, mail of clients the places of its transactions, and both are given back when the core has handled it. What comes
//! from the node's own threads answers what the core gave them, and is as bounded as that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::clock::Clock;
use super::gate::Place;
use crate::execute::Verdict;
use crate::io::bell::Bell;
use crate::io::peer::ReceiveCredit;
use crate::mempool::PooledTransaction;
use crate::node::Input;
use crate::types::{AuthorityIndex, BlockRef, Payload};

/// How soon the core must wake by itself so that it is not woken for what can wait a moment.
const SOON_US: u64 = 1_000;

/// The core has ended.
#[derive(Debug)]
pub(super) struct Gone;

/// The queue is full, or the core has ended.
#[derive(Debug)]
pub(super) struct Refused;

/// Something for the core.
#[derive(Debug)]
pub(super) enum Mail {
    /// For the node, from a thread of its own.
    Input(Input),
    /// For the node, from a peer.
    Peer { input: Input, credit: ReceiveCredit },
    /// A peer's payload whose signatures have been checked already.
    Checked {
        from: AuthorityIndex,
        block: BlockRef,
        payload: Arc<Payload>,
        verdicts: Arc<[Verdict]>,
        credit: ReceiveCredit,
    },
    /// Client transactions that were verified.
    Transactions { verified: Vec<PooledTransaction>, place: Place },
}

/// What mail holds until it is handled.
#[derive(Debug)]
pub(super) enum Held {
    Peer { _credit: ReceiveCredit },
    Client { _place: Place },
}

/// Hands things to the core. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct CoreSender {
    queue: Sender<Mail>,
    bell: Arc<Bell>,
    wakes_at: Arc<AtomicU64>,
    clock: Clock,
}

impl CoreSender {
    /// Queues things, and wakes the core once. Waits while the queue is full: whoever feeds the core is held up when it is behind.
    pub(super) fn send_all(&self, mail: impl IntoIterator<Item = Mail>) -> Result<(), Gone> {
        for mail in mail {
            self.push(mail)?;
        }
        self.bell.ring();
        Ok(())
    }

    /// Queues mail that may wait a moment: if the core wakes soon by itself, it is not woken.
    pub(super) fn send_lazily(&self, mail: Mail) -> Result<(), Gone> {
        self.push(mail)?;
        self.ring_lazily();
        Ok(())
    }

    /// The same for who may not wait. If the queue is full, or the core gone, the mail is lost.
    pub(super) fn try_send_lazily(&self, mail: Mail) -> Result<(), Refused> {
        self.queue.try_send(mail).map_err(|_full| Refused)?;
        self.ring_lazily();
        Ok(())
    }

    fn ring_lazily(&self) {
        // Pairs with the fence in the bell's sleep: either the core finds this input before it sleeps, or the time at which it
        // wakes is seen here.
        fence(Ordering::SeqCst);
        if self.wakes_at.load(Ordering::Relaxed) > self.clock.now().monotonic_us + SOON_US {
            self.bell.ring();
        }
    }

    /// Queues what there is room for, and leaves the rest. Never waits.
    pub(super) fn offer(&self, mail: &mut VecDeque<Mail>) -> Result<(), Gone> {
        while let Some(next) = mail.pop_front() {
            match self.queue.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(next)) => {
                    mail.push_front(next);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Err(Gone),
            }
        }
        self.bell.ring();
        Ok(())
    }

    fn push(&self, mail: Mail) -> Result<(), Gone> {
        match self.queue.try_send(mail) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mail)) => {
                // It may sleep on what was queued before without a ring.
                self.bell.ring();
                self.queue.send(mail).map_err(|_mail| Gone)
            }
            Err(TrySendError::Disconnected(_)) => Err(Gone),
        }
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Receiver<Mail>,
    wakes_at: Arc<AtomicU64>,
}

impl Inbox {
    /// A queue with room for `mails`, which rings `bell`.
    pub(super) fn new(mails: usize, bell: Arc<Bell>, clock: Clock) -> (CoreSender, Self) {
        let (sender, queue) = bounded(mails);
        let wakes_at = Arc::new(AtomicU64::new(0));
        (CoreSender { queue: sender, bell, wakes_at: Arc::clone(&wakes_at), clock }, Self { queue, wakes_at })
    }

    /// The next mail, if there is one; `Err` once nobody can send any more.
    pub(super) fn take(&self) -> Result<Option<Mail>, Gone> {
        match self.queue.try_recv() {
            Ok(mail) => Ok(Some(mail)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Tells when the core wakes by itself, before it goes to sleep; 0 when it is awake.
    pub(super) fn wakes_at(&self, monotonic_us: u64) {
        self.wakes_at.store(monotonic_us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_can_wait_wakes_nobody_who_wakes_soon() {
        let (bell, clock) = (Arc::new(Bell::new(1)), Clock::start());
        let (sender, inbox) = Inbox::new(2, Arc::clone(&bell), clock);
        inbox.wakes_at(0);
        sender.send_lazily(Mail::Input(Input::Tick)).unwrap();
        assert!(matches!(inbox.take(), Ok(Some(Mail::Input(Input::Tick)))));
        // Would the last of these not be seen, this would sleep for ever.
        inbox.wakes_at(u64::MAX);
        let sleeper = std::thread::spawn(move || {
            while inbox.is_empty() {
                bell.sleep(0, None, || !inbox.is_empty());
            }
        });
        sender.send_lazily(Mail::Input(Input::Tick)).unwrap();
        sleeper.join().unwrap();
        assert!(sender.send_all([Mail::Input(Input::Tick)]).is_err(), "the inbox is gone");
    }

    #[test]
    #[expect(
        clippy::significant_drop_tightening,
        reason = "what is in the mail gives its room back when the test is over"
    )]
    fn what_has_no_room_is_left_to_who_may_not_wait() {
        let (sender, inbox) = Inbox::new(2, Arc::new(Bell::new(1)), Clock::start());
        let mut mail: VecDeque<Mail> = (0..3).map(|_| Mail::Input(Input::Tick)).collect();
        sender.offer(&mut mail).unwrap();
        sender.offer(&mut mail).unwrap();
        assert_eq!(mail.len(), 1);
        assert!(matches!(inbox.take(), Ok(Some(_))));
        sender.offer(&mut mail).unwrap();
        assert!(mail.is_empty());
        drop(inbox);
        mail.push_back(Mail::Input(Input::Tick));
        assert!(sender.offer(&mut mail).is_err(), "the inbox is gone");
    }
}
