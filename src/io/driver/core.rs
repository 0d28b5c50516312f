//! The thread that owns the node: inputs from bounded queues in, effects out to those who carry them out.
//!
//! It never waits for another thread. What it gives away goes into queues that take everything at once; when one of them holds
//! more than it should, the core takes no inputs until there is room, and who feeds it waits.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::TrySendError;
use tracing::{debug, error, warn};

use super::checked::CheckedPayloads;
use super::clock::Clock;
use super::execution::{Order, OrderSender};
use super::gate::{Amount, Gate};
use super::inbox::{Gone, Held, Inbox, Mail};
use super::intake::Waits;
use super::librarian::Desk;
use super::load::{CoreLoad, LoadMeter};
use super::outgoing::{HOLD_US, Outgoing, Word};
use crate::error::StorageError;
use crate::io::bell::Bell;
use crate::io::keys::mark_used;
use crate::io::log_store::{LogEvent, LogWriter};
use crate::io::verify_pool::{Busy, Job, VerifyPool};
use crate::node::{Effect, Input, Node, NodeStats};
use crate::types::{BlockPayload, EquivocationProof, LogSeq};

/// Inputs that are handled together at most, and bytes that those of peers hold: what they lead to is bounded with them.
const TOGETHER_MAX: usize = 64;
const TOGETHER_BYTES_MAX: usize = 1 << 20;
/// Time after which figures are shown again.
const SHOW_EVERY_US: u64 = 10_000;
/// Pause before what a full queue refused is offered again.
const OFFER_PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep while a reply is held back.
const HOLD_MAX: Duration = Duration::from_micros(HOLD_US);
/// Longest sleep, so that figures for operators stay fresh.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// What other threads tell the core without ever waiting for it, and what they read of it.
#[derive(Debug)]
pub(super) struct Signals {
    durable: AtomicU64,
    bell: Arc<Bell>,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
    stats: Mutex<NodeStats>,
    load: CoreLoad,
    evidence: Mutex<Vec<EquivocationProof>>,
}

impl Signals {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            durable: AtomicU64::new(0),
            bell: Arc::new(Bell::new(1)),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            stats: Mutex::new(NodeStats::default()),
            evidence: Mutex::new(Vec::new()),
            load: CoreLoad::default(),
        })
    }

    /// What the core sleeps on.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// The log's word. Never blocks.
    pub(super) fn log_event(&self, event: LogEvent) {
        match event {
            LogEvent::Synced(seq) => {
                self.durable.fetch_max(seq.0, Ordering::Release);
                self.bell.ring();
            }
            LogEvent::Room => self.bell.ring(),
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

    /// A validator signed two blocks of one round. The node says so once for each.
    pub(super) fn accuse(&self, proof: EquivocationProof) {
        let [first, second] = proof.references().map(|reference| reference.block.digest);
        let (validator, round) = (proof.block().author, proof.block().round);
        warn!(%validator, %round, %first, %second, "a validator signed two blocks of one round: its key runs twice, or it lies");
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).push(proof);
    }

    /// Proofs against validators, at most one for each.
    pub(super) fn evidence(&self) -> Vec<EquivocationProof> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
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

    /// How busy the core is.
    pub(super) fn load(&self) -> &CoreLoad {
        &self.load
    }
}

/// What the core needs to carry out effects.
pub(super) struct Core {
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) signals: Arc<Signals>,
    pub(super) inbox: Inbox,
    pub(super) log: LogWriter,
    pub(super) executor: OrderSender,
    pub(super) librarian: Desk,
    pub(super) pool: Arc<VerifyPool<Waits>>,
    pub(super) outgoing: Outgoing,
    pub(super) waiting: Waiting,
    pub(super) checked: CheckedPayloads,
    /// Are being handled.
    pub(super) inputs: Vec<Input>,
    /// What they hold meanwhile.
    pub(super) held: Vec<Held>,
    /// Is told what the pool holds.
    pub(super) gate: Arc<Gate>,
    pub(super) durable: LogSeq,
    /// What the effects that are being carried out want durable.
    pub(super) wanted: Option<LogSeq>,
    pub(super) meter: LoadMeter,
    /// When figures were shown last.
    pub(super) shown_us: u64,
    /// Where it is remembered that the keys have signed.
    pub(super) keys_dir: PathBuf,
}

/// What full queues refused, to be offered again. The node bounds both: it gives few orders at a time, and the payloads lie
/// in its DAG.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    payloads: VecDeque<BlockPayload>,
    orders: VecDeque<Order>,
}

impl Core {
    /// Runs until the node is stopped or halts. Closes the log.
    pub(super) fn run(mut self) {
        let mut effects = Vec::new();
        self.inputs.push(Input::Tick);
        self.handle(&mut effects);
        while !self.signals.is_stopping() {
            match self.turn(&mut effects) {
                Ok(true) => {}
                Ok(false) => self.sleep(),
                Err(Gone) => break,
            }
        }
        self.log.close();
    }

    /// Shows figures to others, unless somebody is reading them just now: the next ones come soon.
    fn show(&mut self, now_us: u64) {
        if let Ok(mut shown) = self.signals.stats.try_lock() {
            *shown = self.node.stats();
            self.shown_us = now_us;
        }
    }

    /// Handles what there is, but not for long; whether there was anything.
    fn turn(&mut self, effects: &mut Vec<Effect>) -> Result<bool, Gone> {
        let has_room = self.has_room();
        if has_room {
            self.take_inputs()?;
            if self.inputs.is_empty() && self.is_due() {
                self.inputs.push(Input::Tick);
            }
        }
        let any = !self.inputs.is_empty();
        if any {
            self.handle(effects);
        }
        self.offer();
        Ok(any)
    }

    /// Takes what is there, to be handled together, up to a bound.
    fn take_inputs(&mut self) -> Result<(), Gone> {
        let mut bytes = 0;
        while self.inputs.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX {
            let (input, credit) = match self.inbox.take()? {
                Some(Mail::Input(input)) => (input, None),
                Some(Mail::Peer { input, credit }) => (input, Some(credit)),
                Some(Mail::Checked { from, block, payload, verdicts, credit }) => {
                    self.checked.insert(block, Arc::clone(&payload), verdicts);
                    (Input::Payload { from, block, payload }, Some(credit))
                }
                Some(Mail::Transactions { verified, place }) => {
                    self.held.push(Held::Client { _place: place });
                    (Input::Transactions(verified), None)
                }
                None => break,
            };
            if let Some(credit) = credit {
                bytes += credit.bytes();
                self.held.push(Held::Peer { _credit: credit });
            }
            self.inputs.push(input);
        }
        Ok(())
    }

    /// Whether what the next input leads to has somewhere to go.
    fn has_room(&self) -> bool {
        !self.log.is_full() && !self.outgoing.is_full()
    }

    /// Whether something has become possible without an input.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        self.is_more_durable() || self.node.next_timeout(now).is_some_and(|at| at <= now.monotonic_us)
    }

    fn is_more_durable(&self) -> bool {
        self.signals.durable.load(Ordering::Acquire) > self.durable.0
    }

    fn sleep(&mut self) {
        let now = self.clock.now();
        self.meter.enter(&self.signals.load, now.monotonic_us);
        let until = self.node.next_timeout(now).map_or(SLEEP_MAX, |at| {
            Duration::from_micros(at.saturating_sub(now.monotonic_us)).min(SLEEP_MAX)
        });
        let has_room = self.has_room();
        let waits = !self.waiting.payloads.is_empty() || !self.waiting.orders.is_empty();
        let most = match (has_room, waits) {
            (false, _) => SLEEP_MAX,
            (true, true) => until.min(OFFER_PAUSE),
            (true, false) => until,
        };
        let most = if self.outgoing.is_holding() { most.min(HOLD_MAX) } else { most };
        if most.as_micros() >= u128::from(SHOW_EVERY_US) {
            self.show(now.monotonic_us);
        }
        self.inbox.wakes_at(now.monotonic_us + u64::try_from(most.as_micros()).unwrap_or(u64::MAX));
        self.signals.bell.sleep(0, Some(most), || {
            let is_work = || !self.inbox.is_empty() || self.is_more_durable();
            self.signals.is_stopping() || self.has_room() && (!has_room || is_work())
        });
        self.inbox.wakes_at(0);
        self.outgoing.release_held(self.clock.now().monotonic_us);
    }

    fn handle(&mut self, effects: &mut Vec<Effect>) {
        let start = self.clock.now();
        let n = self.inputs.len() as u64;
        let durable = LogSeq(self.signals.durable.load(Ordering::Acquire));
        let synced = (durable > self.durable).then_some(Input::Synced(durable));
        self.durable = durable;
        self.node.handle_all(start, synced.into_iter().chain(self.inputs.drain(..)), effects);
        self.carry_out_all(effects);
        while self.checked.has_asked() && !self.signals.is_stopping() {
            let verified = std::iter::from_fn(|| self.checked.next_asked());
            let verified = verified.map(|(block, verdicts)| Input::Verified { block, verdicts });
            self.node.handle_all(start, verified, effects);
            self.carry_out_all(effects);
        }
        self.outgoing.flush(start.monotonic_us);
        let (transactions, bytes) = self.node.pooled();
        self.gate.pooled(Amount { transactions, bytes });
        // Handled: who sent it may send on.
        self.held.clear();
        let end = self.clock.now().monotonic_us;
        self.meter.note(&self.signals.load, n, start.monotonic_us, end);
        if end >= self.shown_us + SHOW_EVERY_US {
            self.show(end);
        }
    }

    fn carry_out_all(&mut self, effects: &mut Vec<Effect>) {
        let mut given = std::mem::take(effects);
        for effect in given.drain(..) {
            // Later effects rest on this one: the first header may leave only once it is remembered that the keys have signed.
            if let Err(error) = self.carry_out(effect) {
                self.signals.fail(&error);
                return;
            }
        }
        if let Some(seq) = self.wanted.take()
            && let Err(error) = self.log.sync(seq)
        {
            self.signals.fail(&error);
        }
        // The room that they took is used again.
        *effects = given;
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), StorageError> {
        match effect {
            Effect::Send { to, message } => self.outgoing.say(Word::Send(to, message)),
            Effect::Broadcast(message) => self.outgoing.say(Word::Broadcast(message)),
            Effect::Append { seq, record } => {
                let key = record.key().map(|key| key.block);
                self.log.append(seq, record.kind() as u8, record.parts(), key)?;
            }
            // Asked for once, when all is in the log's queue: the log would begin with the first and then sync again.
            Effect::Sync(seq) => self.wanted = self.wanted.max(Some(seq)),
            Effect::Verify { block, payload } => {
                if !self.checked.ask(&block, &payload) {
                    self.waiting.payloads.push_back(BlockPayload { block, payload });
                    self.offer_payloads();
                }
            }
            Effect::Execute(dag) => self.give(Order::Execute(Box::new(dag))),
            Effect::Publish(head) => self.give(Order::Publish(head)),
            Effect::ServeFromLog { to, request } => {
                if !self.librarian.ask(to, request) {
                    debug!(peer = %to, "a request for old blocks was dropped: the peer has too many; it will ask again");
                }
            }
            Effect::Reply { ticket, reply } => self.outgoing.reply(ticket, reply),
            Effect::Blame { peer, error } => self.outgoing.say(Word::Blame(peer, error)),
            Effect::Accuse(proof) => self.signals.accuse(*proof),
            Effect::KeysUsed => mark_used(&self.keys_dir)?,
            Effect::Halt(why) => self.signals.halt(why),
        }
        Ok(())
    }

    fn give(&mut self, order: Order) {
        self.waiting.orders.push_back(order);
        self.offer_orders();
    }

    fn offer(&mut self) {
        self.offer_payloads();
        self.offer_orders();
    }

    fn offer_orders(&mut self) {
        while let Some(order) = self.waiting.orders.pop_front() {
            match self.executor.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order)) => return self.waiting.orders.push_front(order),
                Err(TrySendError::Disconnected(_)) if self.signals.is_stopping() => return,
                Err(TrySendError::Disconnected(_)) => {
                    return self.signals.halt("the executor has ended".to_owned());
                }
            }
        }
    }

    fn offer_payloads(&mut self) {
        while let Some(payload) = self.waiting.payloads.pop_front() {
            if let Err(Busy(Job::Payload(payload))) = self.pool.try_submit(Job::Payload(payload)) {
                return self.waiting.payloads.push_front(payload);
            }
        }
    }
}
