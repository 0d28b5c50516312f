//! The thread that executes commits, keeps the tiles on disk and publishes checkpoints.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::core::Signals;
use super::inbox::{CoreSender, Mail};
use crate::crypto::SecretKey;
use crate::error::StorageError;
use crate::execute::{Executor, LedgerHead, SubDag};
use crate::io::bell::Bell;
use crate::io::files::write_atomically;
use crate::io::state_store::StateStore;
use crate::io::tile_store::TileStore;
use crate::node::{CertifiedHead, Input};
use crate::proof::checkpoint::{CheckpointKeys, verify_checkpoint};
use crate::proof::note::sign_text;
use crate::types::AuthorityIndex;

/// Time between two moments at which the state is made durable. What is lost in between is executed again from the log.
const PERSIST_EVERY: Duration = Duration::from_secs(5);
/// Longest sleep without an order.
const SLEEP_MAX: Duration = Duration::from_millis(250);
/// Commits after whose execution the core is told, though more wait.
const TOLD_TOGETHER: usize = 8;
/// Orders in the queue for which the executor is woken, though all are commits without transactions.
const EMPTY_TOGETHER: usize = 4;
/// Mode of the published checkpoint: anybody may read it.
const PUBLIC: u32 = 0o644;

/// What the executor is asked to do, in order.
#[derive(Debug)]
pub(super) enum Order {
    /// Execute a commit.
    Execute(Box<SubDag>),
    /// Publish a certified checkpoint.
    Publish(Box<CertifiedHead>),
}

/// Hands orders to the executor, and wakes it.
#[derive(Debug)]
pub(super) struct OrderSender {
    /// Taken at the end, so that the executor sees that no more come when it is woken.
    queue: Option<Sender<Order>>,
    bell: Arc<Bell>,
}

/// The executor's end.
#[derive(Debug)]
pub(super) struct Orders {
    queue: Receiver<Order>,
    bell: Arc<Bell>,
}

/// A queue with room for `orders`.
pub(super) fn order_queue(orders: usize) -> (OrderSender, Orders) {
    let (sender, queue) = bounded(orders);
    let bell = Arc::new(Bell::new(1));
    (OrderSender { queue: Some(sender), bell: Arc::clone(&bell) }, Orders { queue, bell })
}

impl OrderSender {
    /// Queues an order, or gives it back if the queue is full. Never waits. For commits without transactions the executor is
    /// not woken before there are some: nobody waits for them.
    pub(super) fn try_send(&self, order: Order) -> Result<(), TrySendError<Order>> {
        let Some(queue) = &self.queue else { return Err(TrySendError::Disconnected(order)) };
        let can_wait = matches!(&order, Order::Execute(dag) if dag.blocks.is_empty());
        queue.try_send(order)?;
        if !can_wait || queue.len() >= EMPTY_TOGETHER {
            self.bell.ring();
        }
        Ok(())
    }
}

impl Drop for OrderSender {
    fn drop(&mut self) {
        self.queue = None;
        self.bell.ring();
    }
}

impl Orders {
    /// The next order, waited for until `end`; `Err` once no more can come.
    fn next(&self, end: Instant) -> Result<Option<Order>, TryRecvError> {
        loop {
            match self.queue.try_recv() {
                Ok(order) => return Ok(Some(order)),
                Err(TryRecvError::Empty) => {}
                Err(end @ TryRecvError::Disconnected) => return Err(end),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // It is rung for the end too; should that ring come just before the sleep, the sleep's own end is soon enough.
            self.bell.sleep(0, Some(left.min(SLEEP_MAX)), || !self.queue.is_empty());
        }
    }
}

/// The latest published checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// Leaves that it covers.
    pub(super) size: u64,
    /// The signed note.
    pub(super) note: String,
}

/// What others read of the execution.
#[derive(Debug)]
pub(super) struct Shown {
    published: RwLock<Option<Arc<Published>>>,
    head: RwLock<LedgerHead>,
}

impl Shown {
    pub(super) fn new(head: LedgerHead, published: Option<Published>) -> Arc<Self> {
        Arc::new(Self { published: RwLock::new(published.map(Arc::new)), head: RwLock::new(head) })
    }

    pub(super) fn published(&self) -> Option<Arc<Published>> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn head(&self) -> LedgerHead {
        *self.head.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
pub(super) struct Execution {
    pub(super) executor: Executor<StateStore>,
    pub(super) tiles: TileStore,
    pub(super) own: AuthorityIndex,
    pub(super) log_key: SecretKey,
    pub(super) keys: CheckpointKeys,
    /// `data/checkpoint`.
    pub(super) checkpoint_file: PathBuf,
    pub(super) shown: Arc<Shown>,
    pub(super) signals: Arc<Signals>,
    pub(super) orders: Orders,
    pub(super) core: CoreSender,
}

impl Execution {
    /// Runs until the core is gone; makes the state durable at the end.
    pub(super) fn run(mut self) {
        let mut persisted = Instant::now();
        let mut dirty = false;
        loop {
            let Ok(first) = self.orders.next(Instant::now() + PERSIST_EVERY) else { break };
            dirty |= first.is_some();
            let done = self.work(first);
            let persist = dirty && persisted.elapsed() >= PERSIST_EVERY;
            let done = done.and_then(|()| if persist { self.executor.persist() } else { Ok(()) });
            if persist {
                persisted = Instant::now();
                dirty = false;
            }
            if let Err(error) = done {
                self.signals.fail(&error);
                return;
            }
        }
        if self.signals.failure().is_none()
            && let Err(error) = self.executor.persist()
        {
            self.signals.fail(&error);
        }
    }

    /// Does what was ordered, and what has been ordered meanwhile: the commits of a round come together, are applied together,
    /// and the core is told of them together.
    fn work(&mut self, first: Option<Order>) -> Result<(), StorageError> {
        let (mut executed, mut tiles, mut published) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = first;
        while let Some(order) = next {
            match order {
                Order::Execute(dag) => {
                    let mut done = self.executor.stage(&dag)?;
                    tiles.append(&mut done.tiles);
                    if done.checkpoint_due {
                        tiles.append(&mut self.executor.log().partials());
                    }
                    executed.push(done);
                }
                Order::Publish(head) => published.push(head),
            }
            next = if executed.len() < TOLD_TOGETHER { self.orders.queue.try_recv().ok() } else { None };
        }
        self.executor.apply()?;
        self.tiles.put_all(&tiles)?;
        if let Some(last) = executed.last() {
            *self.shown.head.write().unwrap_or_else(PoisonError::into_inner) = last.head;
            let mail = executed.into_iter().map(|done| Mail::Input(Input::Executed(Box::new(done))));
            // The core is gone if nobody listens; then nothing is to be acknowledged either.
            let _ = self.core.send_all(mail);
        }
        // Their tiles are written: they were certified after they had been executed.
        published.into_iter().try_for_each(|head| self.publish(*head))
    }

    fn publish(&self, head: CertifiedHead) -> Result<(), StorageError> {
        let mut certified = head.certified;
        let signature = sign_text(&self.log_key, &certified.checkpoint.text());
        certified.log_signature = Some((self.own, signature));
        let note = certified.to_note(&self.keys);
        write_atomically(&self.checkpoint_file, note.as_bytes(), PUBLIC)?;
        let published = Published { size: certified.checkpoint.size, note };
        *self.shown.published.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(published));
        Ok(())
    }
}

/// The checkpoint that was published before a restart, if it holds and the state covers it.
pub(super) fn last_published(
    file: &std::path::Path,
    keys: &CheckpointKeys,
    head: &LedgerHead,
) -> Option<Published> {
    let note = std::fs::read_to_string(file).ok()?;
    let size = verify_checkpoint(note.as_bytes(), keys).ok()?.certified.checkpoint.size;
    (size <= head.tree_size).then_some(Published { size, note })
}
