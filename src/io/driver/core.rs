//! The thread that owns the node: inputs from bounded queues in, effects out to those who carry them out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};
use tracing::{debug, error};

use super::clock::Clock;
use super::execution::Order;
use super::intake::Replies;
use super::librarian::Desk;
use crate::error::StorageError;
use crate::io::log_store::{LogEvent, LogWriter};
use crate::io::peer::PeerNet;
use crate::io::verify_pool::{Busy, Job, VerifyPool};
use crate::node::{Effect, Input, Node, NodeStats};
use crate::types::{BlockPayload, LogSeq};

/// Inputs that are handled before the clock is read again.
const INPUTS_PER_ROUND: usize = 64;
/// Pause before a payload that the full pool refused is offered again.
const POOL_PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep, so that figures for operators stay fresh.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// What other threads tell the core without ever waiting for it, and what they read of it.
#[derive(Debug)]
pub(super) struct Signals {
    durable: AtomicU64,
    wake: Sender<()>,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
    stats: Mutex<NodeStats>,
    busy_us: AtomicU64,
}

impl Signals {
    pub(super) fn new() -> (Arc<Self>, Receiver<()>) {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let signals = Self {
            durable: AtomicU64::new(0),
            wake,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            stats: Mutex::new(NodeStats::default()),
            busy_us: AtomicU64::new(0),
        };
        (Arc::new(signals), woken)
    }

    fn wake(&self) {
        // Full means that it will wake up anyway.
        let _ = self.wake.try_send(());
    }

    /// The log's word. Never blocks: the core may be waiting for room in the log's queue.
    pub(super) fn log_event(&self, event: LogEvent) {
        match event {
            LogEvent::Synced(seq) => {
                self.durable.fetch_max(seq.0, Ordering::Release);
                self.wake();
            }
            LogEvent::Failed(error) => self.fail(&error),
        }
    }

    /// Something failed that the node cannot go on without.
    pub(super) fn fail(&self, error: &StorageError) {
        self.halt(error.to_string());
    }

    pub(super) fn halt(&self, why: String) {
        error!(why, "the node halts");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Why the node halted, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stats(&self) -> NodeStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds that the core was not idle.
    pub(super) fn busy_us(&self) -> u64 {
        self.busy_us.load(Ordering::Relaxed)
    }
}

/// What the core needs to carry out effects.
pub(super) struct Core {
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) signals: Arc<Signals>,
    pub(super) inputs: Receiver<Input>,
    pub(super) woken: Receiver<()>,
    pub(super) log: LogWriter,
    pub(super) executor: Sender<Order>,
    pub(super) librarian: Desk,
    pub(super) pool: Arc<VerifyPool>,
    pub(super) peers: Arc<PeerNet>,
    pub(super) replies: Arc<Replies>,
    /// Payloads that the full pool refused.
    pub(super) unverified: VecDeque<BlockPayload>,
    pub(super) durable: LogSeq,
}

impl Core {
    /// Runs until the node is stopped or halts. Closes the log.
    pub(super) fn run(mut self) {
        let mut effects = Vec::new();
        self.handle(Input::Tick, &mut effects);
        while !self.signals.is_stopping() {
            let sleep = self.sleep();
            let first = select! {
                recv(self.inputs) -> input => match input {
                    Ok(input) => input,
                    Err(_everybody_is_gone) => break,
                },
                recv(self.woken) -> _ => Input::Tick,
                default(sleep) => Input::Tick,
            };
            let start = self.clock.now().monotonic_us;
            self.handle(first, &mut effects);
            for _ in 0..INPUTS_PER_ROUND {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.handle(input, &mut effects);
            }
            self.offer_payloads();
            *self.signals.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.node.stats();
            let busy = self.clock.now().monotonic_us - start;
            self.signals.busy_us.fetch_add(busy, Ordering::Relaxed);
        }
        self.log.close();
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let until = self.node.next_timeout(now).map_or(SLEEP_MAX, |at| {
            Duration::from_micros(at.saturating_sub(now.monotonic_us)).min(SLEEP_MAX)
        });
        if self.unverified.is_empty() { until } else { until.min(POOL_PAUSE) }
    }

    fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let durable = LogSeq(self.signals.durable.load(Ordering::Acquire));
        if durable > self.durable {
            self.durable = durable;
            self.node.handle(self.clock.now(), Input::Synced(durable), effects);
        }
        self.node.handle(self.clock.now(), input, effects);
        let mut given = std::mem::take(effects);
        for effect in given.drain(..) {
            if let Err(error) = self.carry_out(effect) {
                self.signals.fail(&error);
            }
        }
        // The room that they took is used again.
        *effects = given;
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), StorageError> {
        match effect {
            // What a full queue drops, the peer asks for again.
            Effect::Send { to, message } => {
                self.peers.send(to, message.encode());
            }
            Effect::Broadcast(message) => {
                self.peers.broadcast(message.encode());
            }
            Effect::Append { seq, record } => {
                let key = record.key().map(|key| key.block);
                self.log.append(seq, record.kind() as u8, record.parts(), key)?;
            }
            Effect::Sync(seq) => self.log.sync(seq)?,
            Effect::Verify { block, payload } => self.unverified.push_back(BlockPayload { block, payload }),
            Effect::Execute(dag) => self.give(Order::Execute(Box::new(dag))),
            Effect::Publish(head) => self.give(Order::Publish(head)),
            Effect::ServeFromLog { to, request } => {
                if !self.librarian.ask(to, request) {
                    debug!(peer = %to, "a request for old blocks was dropped: the peer has too many; it will ask again");
                }
            }
            Effect::Reply { ticket, reply } => self.replies.reply(ticket, reply),
            Effect::Blame { peer, error } => self.peers.blame(peer, &error),
            Effect::Halt(why) => self.signals.halt(why),
        }
        Ok(())
    }

    /// The executor takes more orders than the node gives at a time, so this never waits.
    fn give(&self, order: Order) {
        if self.executor.send(order).is_err() && !self.signals.is_stopping() {
            self.signals.halt("the executor has ended".to_owned());
        }
    }

    fn offer_payloads(&mut self) {
        while let Some(payload) = self.unverified.pop_front() {
            if let Err(Busy(Job::Payload(payload))) = self.pool.try_submit(Job::Payload(payload)) {
                self.unverified.push_front(payload);
                break;
            }
        }
    }
}
