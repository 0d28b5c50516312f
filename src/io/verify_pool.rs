//! The verification pipeline: bounded queues, and threads that form batches and verify them.
//!
//! A thread that is idle takes whatever is queued, up to [`BATCH_SIGNATURES_MAX`]. A batch has a price of its own, whatever it
//! holds, so the next one begins only when [`ENOUGH`] signatures wait or [`VerifyPoolConfig::gather`] has passed since the last
//! began: an idle node verifies at once what comes, and one with idle cores does not spend them on batches of three. Payloads
//! of blocks go before client transactions: a flood of clients cannot hold up consensus.
//!
//! Submitting takes no lock and never waits: the core does it. Every job that was accepted is answered, also when the pool
//! is dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use thiserror::Error;

use super::bell::Bell;
use crate::crypto::Verifier;
use crate::error::ClientError;
use crate::execute::{KeyDirectory, Verdict};
use crate::ingress::PendingTx;
use crate::types::{BlockPayload, BlockRef, NetworkId};
use crate::verify::{BATCH_SIGNATURES_MAX, Unit, UnitVerdict, VerifiedTx, verify_units};

/// Signatures that are worth a batch at once: more of them save less than their wait costs.
pub const ENOUGH: usize = 512;

/// What the pool is made with.
#[derive(Debug, Clone)]
pub struct VerifyPoolConfig {
    /// Threads that verify, at least 1.
    pub threads: usize,
    /// Client transactions that may wait, at least 1. A chunk of more is taken if none waits.
    pub client_transactions_max: usize,
    /// Payloads that may wait, at least 1.
    pub payloads_max: usize,
    /// Decoded keys that each verifier keeps, some 800 bytes each.
    pub cache_keys: usize,
    /// Secret from the operating system that the verifiers' coefficients come from.
    pub seed: [u8; 32],
    /// Time between the beginnings of two batches of less than [`ENOUGH`] signatures.
    pub gather: Duration,
}

/// Something to verify.
#[derive(Debug)]
pub enum Job<T = ()> {
    /// Client transactions that were admitted, each with whose it is.
    Transactions(Vec<PendingTx<T>>),
    /// The payload of a block.
    Payload(BlockPayload),
}

/// What was found. Jobs are answered in no particular order; a chunk of more than [`BATCH_SIGNATURES_MAX`] client
/// transactions is answered in pieces.
#[derive(Debug)]
pub enum Answer<T = ()> {
    /// Of client transactions.
    Transactions {
        /// Those whose signature verifies.
        verified: Vec<VerifiedTx<T>>,
        /// The others, with why.
        refused: Vec<(PendingTx<T>, ClientError)>,
    },
    /// Of the payload of a block.
    Payload {
        /// The block.
        block: BlockRef,
        /// One verdict for each transaction.
        verdicts: Vec<Verdict>,
    },
}

/// Why the pool did not start.
#[derive(Debug, Error)]
#[error("verification threads: {0}")]
pub struct PoolStartError(String);

/// The queue is full; the job comes back.
#[derive(Debug)]
pub struct Busy<T = ()>(pub Job<T>);

/// The running pipeline. Dropping it waits until all accepted jobs are answered.
#[derive(Debug)]
pub struct VerifyPool<T = ()> {
    clients: Sender<Vec<PendingTx<T>>>,
    client_transactions_max: usize,
    payloads: Sender<BlockPayload>,
    waking: Arc<Waking>,
    threads: Vec<JoinHandle<()>>,
}

/// How the threads hear of work and of the end.
#[derive(Debug)]
struct Waking {
    bell: Bell,
    closed: AtomicBool,
    /// Client transactions that wait.
    client_transactions: AtomicUsize,
    /// Signatures that wait; what has none counts as one. A job is counted after it is queued, and may be taken, and taken off,
    /// before: so this is never more than what waits or is just being taken.
    signatures: AtomicIsize,
}

impl Waking {
    /// So many signatures were queued. A thread is woken for the first, to take it or to wait for more, and once there is enough.
    ///
    /// If others waited before, none has to be woken: the thread that was woken for them takes these too, or looks for more
    /// after it has taken those off the number, which it then does after this was added to it.
    fn added(&self, signatures: usize) {
        let before = self.signatures.fetch_add(signed(signatures), Ordering::AcqRel);
        if before <= 0 || before < signed(ENOUGH) && before + signed(signatures) >= signed(ENOUGH) {
            self.bell.ring();
        }
    }

    fn taken(&self, signatures: usize) {
        self.signatures.fetch_sub(signed(signatures), Ordering::AcqRel);
    }

    fn is_enough(&self) -> bool {
        self.signatures.load(Ordering::Acquire) >= signed(ENOUGH)
    }
}

fn signed(signatures: usize) -> isize {
    isize::try_from(signatures).unwrap_or(isize::MAX)
}

impl<T: Send + 'static> VerifyPool<T> {
    /// Starts the threads. `on_answer` is called on them: it hands the answer on and neither blocks for long nor owns
    /// the pool.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    pub fn start(
        config: &VerifyPoolConfig,
        network: NetworkId,
        keys: KeyDirectory,
        on_answer: impl Fn(Answer<T>) + Send + Sync + 'static,
    ) -> Result<Self, PoolStartError> {
        let threads = config.threads.max(1);
        let client_transactions_max = config.client_transactions_max.max(1);
        let (clients, client_queue) = bounded(client_transactions_max);
        let (payloads, payload_queue) = bounded(config.payloads_max.max(1));
        let waking = Arc::new(Waking {
            bell: Bell::new(threads),
            closed: AtomicBool::new(false),
            client_transactions: AtomicUsize::new(0),
            signatures: AtomicIsize::new(0),
        });
        let queues = Queues {
            clients: client_queue,
            payloads: payload_queue,
            cut: VecDeque::new(),
            waking: Arc::clone(&waking),
            gather: config.gather,
            began: None,
        };
        let shared = Arc::new(Shared {
            network,
            keys,
            queues: Mutex::new(queues),
            waking: Arc::clone(&waking),
            on_answer: Box::new(on_answer),
        });
        let mut pool = Self { clients, client_transactions_max, payloads, waking, threads: Vec::new() };
        for seat in 0..threads {
            let seed = blake3::keyed_hash(&config.seed, &seat.to_be_bytes());
            let verifier = Verifier::new(seed.into(), config.cache_keys);
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("salus-verify-{seat}"))
                .spawn(move || shared.run(seat, verifier))
                .map_err(|error| PoolStartError(error.to_string()))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Whether so many client transactions would be taken now.
    #[must_use]
    pub fn has_room(&self, transactions: usize) -> bool {
        let waiting = self.waking.client_transactions.load(Ordering::Relaxed);
        waiting == 0 || waiting + transactions <= self.client_transactions_max
    }

    /// Queues a job, or gives it back if its queue is full. Never blocks.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn try_submit(&self, job: Job<T>) -> Result<(), Busy<T>> {
        let signatures = match &job {
            Job::Transactions(chunk) => chunk.len().max(1),
            Job::Payload(payload) => payload.payload.len().max(1),
        };
        self.queue(job)?;
        self.waking.added(signatures);
        Ok(())
    }

    fn queue(&self, job: Job<T>) -> Result<(), Busy<T>> {
        match job {
            Job::Transactions(chunk) => {
                let (n, waiting) = (chunk.len(), &self.waking.client_transactions);
                let before = waiting.fetch_add(n, Ordering::Relaxed);
                let sent = if before > 0 && before + n > self.client_transactions_max {
                    Err(chunk)
                } else {
                    self.clients.try_send(chunk).map_err(given_back)
                };
                sent.map_err(|chunk| {
                    waiting.fetch_sub(n, Ordering::Relaxed);
                    Busy(Job::Transactions(chunk))
                })
            }
            Job::Payload(payload) => {
                self.payloads.try_send(payload).map_err(|refused| Busy(Job::Payload(given_back(refused))))
            }
        }
    }
}

fn given_back<J>(refused: TrySendError<J>) -> J {
    match refused {
        TrySendError::Full(job) => job,
        TrySendError::Disconnected(_) => panic!("the verification threads ended before their pool"),
    }
}

impl<T> Drop for VerifyPool<T> {
    fn drop(&mut self) {
        self.waking.closed.store(true, Ordering::SeqCst);
        self.waking.bell.ring_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("a verification thread panicked");
            }
        }
    }
}

/// What the threads of the pool share.
struct Shared<T> {
    network: NetworkId,
    keys: KeyDirectory,
    /// Held by a thread while it forms a batch, never by who submits.
    queues: Mutex<Queues<T>>,
    waking: Arc<Waking>,
    on_answer: Box<dyn Fn(Answer<T>) + Send + Sync>,
}

/// A unit of work with where its verdicts go.
struct Piece<T> {
    unit: Unit<T>,
    /// The payload that it is a part of, with the position of the part.
    part_of: Option<(Arc<Assembly>, usize)>,
}

impl<T> Shared<T> {
    /// Verifies batches until the pool is closed and nothing is left.
    fn run(&self, seat: usize, mut verifier: Verifier) {
        loop {
            // Read before the queues are: what was accepted before the end is found afterwards.
            let closed = self.waking.closed.load(Ordering::SeqCst);
            let (batch, is_more, wait) = {
                let mut queues = self.queues();
                let wait = queues.wait().filter(|_| !closed);
                let batch = if wait.is_some() { Vec::new() } else { queues.fill() };
                (batch, queues.is_work(), wait)
            };
            if !batch.is_empty() {
                if is_more {
                    self.waking.bell.ring();
                }
                self.verify(&mut verifier, batch);
            } else if closed {
                return;
            } else {
                let is_work = || {
                    let queues = self.queues();
                    self.waking.closed.load(Ordering::SeqCst)
                        || if wait.is_some() { queues.wait().is_none() } else { queues.is_work() }
                };
                self.waking.bell.sleep(seat, wait, is_work);
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<T>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies a batch and answers.
    fn verify(&self, verifier: &mut Verifier, batch: Vec<Piece<T>>) {
        let (units, origins): (Vec<Unit<T>>, Vec<_>) =
            batch.into_iter().map(|piece| (piece.unit, piece.part_of)).unzip();
        let found = verify_units(verifier, self.network, &self.keys, units);
        for (verdict, origin) in found.into_iter().zip(origins) {
            let answer = match (verdict, origin) {
                (UnitVerdict::Transactions((verified, refused)), _) => {
                    Some(Answer::Transactions { verified, refused })
                }
                (UnitVerdict::Payload(verdicts), Some((assembly, start))) => assembly.add(start, &verdicts),
                (UnitVerdict::Payload(_), None) => unreachable!("a part knows its payload"),
            };
            if let Some(answer) = answer {
                (self.on_answer)(answer);
            }
        }
    }
}

/// The verdicts of a payload whose parts are verified apart.
struct Assembly {
    block: BlockRef,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    verdicts: Vec<Verdict>,
    parts_missing: usize,
}

impl Assembly {
    /// Puts the verdicts of a part in place; the answer, if it was the last part.
    fn add<T>(&self, start: usize, part: &[Verdict]) -> Option<Answer<T>> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.verdicts[start..start + part.len()].copy_from_slice(part);
        gathered.parts_missing -= 1;
        let verdicts = (gathered.parts_missing == 0).then(|| std::mem::take(&mut gathered.verdicts))?;
        drop(gathered);
        Some(Answer::Payload { block: self.block, verdicts })
    }
}

/// What waits to be verified.
struct Queues<T> {
    clients: Receiver<Vec<PendingTx<T>>>,
    payloads: Receiver<BlockPayload>,
    /// What is left of the last job that was taken off a queue.
    cut: VecDeque<Piece<T>>,
    waking: Arc<Waking>,
    gather: Duration,
    /// When the last batch began.
    began: Option<Instant>,
}

impl<T> Queues<T> {
    /// How long what waits is still gathered; `None` if a batch is to begin now, or nothing waits.
    fn wait(&self) -> Option<Duration> {
        if !self.is_work() || self.waking.is_enough() {
            return None;
        }
        let left = self.gather.saturating_sub(self.began?.elapsed());
        (!left.is_zero()).then_some(left)
    }

    fn is_work(&self) -> bool {
        !self.cut.is_empty() || !self.payloads.is_empty() || !self.clients.is_empty()
    }

    /// Takes the next job off the queues and cuts it, if there is one.
    fn take_queued(&mut self) -> bool {
        if let Ok(job) = self.payloads.try_recv() {
            self.cut_payload(&job);
            return true;
        }
        if let Ok(job) = self.clients.try_recv() {
            self.waking.client_transactions.fetch_sub(job.len(), Ordering::Relaxed);
            self.cut_chunk(job);
            return true;
        }
        false
    }

    /// Pieces for one batch: whatever is there, up to [`BATCH_SIGNATURES_MAX`].
    fn fill(&mut self) -> Vec<Piece<T>> {
        let mut batch = Vec::new();
        let mut signatures = 0;
        while !self.cut.is_empty() || self.take_queued() {
            let Some(piece) = self.cut.pop_front() else { break };
            // A piece without signatures counts too, so that a batch ends.
            signatures += piece.unit.signatures().max(1);
            if signatures > BATCH_SIGNATURES_MAX && !batch.is_empty() {
                self.cut.push_front(piece);
                break;
            }
            batch.push(piece);
        }
        if !batch.is_empty() {
            let taken: usize = batch.iter().map(|piece| piece.unit.signatures().max(1)).sum();
            self.waking.taken(taken);
            self.began = Some(Instant::now());
        }
        batch
    }

    fn cut_payload(&mut self, job: &BlockPayload) {
        let n = job.payload.len();
        let starts: Vec<usize> = match n {
            0 => vec![0],
            _ => (0..n).step_by(BATCH_SIGNATURES_MAX).collect(),
        };
        let gathered = Gathered { verdicts: vec![Verdict::Invalid; n], parts_missing: starts.len() };
        let assembly = Arc::new(Assembly { block: job.block, gathered: Mutex::new(gathered) });
        self.cut.extend(starts.into_iter().map(|start| Piece {
            unit: Unit::Payload {
                payload: Arc::clone(&job.payload),
                part: start..n.min(start + BATCH_SIGNATURES_MAX),
            },
            part_of: Some((Arc::clone(&assembly), start)),
        }));
    }

    fn cut_chunk(&mut self, mut chunk: Vec<PendingTx<T>>) {
        while chunk.len() > BATCH_SIGNATURES_MAX {
            let rest = chunk.split_off(BATCH_SIGNATURES_MAX);
            self.cut.push_back(Piece { unit: Unit::Transactions(chunk), part_of: None });
            chunk = rest;
        }
        self.cut.push_back(Piece { unit: Unit::Transactions(chunk), part_of: None });
    }
}

#[cfg(test)]
#[path = "verify_pool_tests.rs"]
mod tests;
