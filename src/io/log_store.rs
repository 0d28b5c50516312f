//! The thread that owns the block log.
//!
//! Records wait for a sync that somebody asks for: nobody waits for the others' blocks to be durable, but for an own one
//! or a payload that is to be executed, and those become durable together with all before them. Whatever is queued when the disk is free becomes
//! one group and one sync. Where a MiB is pending and more is queued, as when a node catches up, groups go to threads that write
//! several at a time ([`super::log_lanes`]). What nobody asks for is durable after a moment. Another thread fills the next segment as soon as
//! the one before has become the active one. When nothing is queued for a while, the watermark is made durable.
//!
//! Handing over records never waits: the owner looks at [`LogWriter::is_full`] and stops what leads to more.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::info;

use super::bell::Bell;
use super::block_index::{BlockIndex, BlockTable};
use super::disk::{FolderDisk, FolderFile};
use super::log_filler::LogFiller;
use super::log_lanes::{LANES, LogLanes};
use crate::error::StorageError;
use crate::log::{Disk, Log, LogOptions, LogReader, Record, Recovered};
use crate::types::{BlockRef, LogSeq, NetworkId};

/// Commands that wait for the writer above which it is full.
pub const QUEUED_COMMANDS_MAX: usize = 4_096;
/// Bytes of records that wait for the writer above which it is full.
pub const QUEUED_BYTES_MAX: usize = 32 << 20;
/// Pending bytes at which the writer commits without looking whether more is queued.
pub const COMMIT_BYTES: usize = 1 << 20;
/// Groups that may be on their way to the disk.
pub const IN_FLIGHT_MAX: usize = 2 * LANES;
/// Commands that the writer carries out before it says so: the counts are the owner's and the writer's, and each look at them costs both.
const SETTLED_COMMANDS: usize = 128;
/// Time after which records become durable that nobody asked for.
const COMMIT_PAUSE: Duration = Duration::from_millis(20);
/// Longest sleep when there is nothing to do.
const IDLE_SLEEP_MAX: Duration = Duration::from_secs(1);
/// Idle time after which the watermark is made durable.
const WATERMARK_PAUSE: Duration = Duration::from_millis(50);

/// What the writer tells its owner.
#[derive(Debug)]
pub enum LogEvent {
    /// All records up to and with this one are durable.
    Synced(LogSeq),
    /// The writer was full and is no more.
    Room,
    /// The disk failed. Nothing more becomes durable and the writer has ended: the node must halt.
    Failed(StorageError),
}

#[derive(Debug)]
enum Command {
    Append { seq: LogSeq, kind: u8, parts: Vec<Bytes>, key: Option<BlockRef> },
    Sync { seq: LogSeq },
}

/// Commands that the writer has not taken yet. It takes all at once, and so seldom holds the lock.
#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// The writer has ended and takes nothing more.
    is_over: bool,
}

/// What is queued, and how the writer hears of it.
#[derive(Debug)]
struct Backlog {
    queue: Mutex<Queue>,
    /// Commands that are not carried out, and bytes of their records.
    commands: AtomicUsize,
    bytes: AtomicUsize,
    bell: Arc<Bell>,
    /// The writer sleeps for a moment at most: records that nobody asks for need not wake it.
    naps: AtomicBool,
    closed: AtomicBool,
}

impl Backlog {
    fn new() -> Self {
        let (queue, commands, bytes, naps, closed) = Default::default();
        Self { queue, commands, bytes, bell: Arc::new(Bell::new(1)), naps, closed }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command with a record of so many bytes; false if the writer has ended.
    fn push(&self, command: Command, bytes: usize) -> bool {
        let mut queue = self.queue();
        if queue.is_over {
            return false;
        }
        // Before the writer can take it: the counts must not go below zero.
        self.commands.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        queue.commands.push_back(command);
        true
    }

    /// Wakes the writer for a record, unless it wakes soon by itself.
    fn ring_lazily(&self) {
        // Pairs with the fence in the bell's sleep: either it is seen here that this is no nap, or the writer sees the record.
        fence(Ordering::SeqCst);
        if !self.naps.load(Ordering::Relaxed) || self.bytes.load(Ordering::Relaxed) > COMMIT_BYTES {
            self.bell.ring();
        }
    }

    /// Whether it was full until now. The owner may have added meanwhile, so what counts is what this took it off from.
    fn remove(&self, commands: usize, bytes: usize) -> bool {
        let before = (
            self.commands.fetch_sub(commands, Ordering::AcqRel),
            self.bytes.fetch_sub(bytes, Ordering::AcqRel),
        );
        is_too_much(before) && !self.is_full()
    }

    fn is_full(&self) -> bool {
        is_too_much((self.commands.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire)))
    }
}

fn is_too_much((commands, bytes): (usize, usize)) -> bool {
    commands > QUEUED_COMMANDS_MAX || bytes > QUEUED_BYTES_MAX
}

/// Sends records to the thread that owns the log.
#[derive(Debug)]
pub struct LogWriter {
    backlog: Arc<Backlog>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl LogWriter {
    /// Starts the thread. It adds keys to `index` when their records are durable, and then calls `notify`.
    ///
    /// `notify` must not block. Watermarks only grow, so a cell with the latest one and a wake-up is enough.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn spawn<D: Disk + 'static>(
        log: Log<D>,
        index: Arc<BlockIndex>,
        notify: impl FnMut(LogEvent) + Send + 'static,
    ) -> Result<Self, StorageError> {
        let backlog = Arc::new(Backlog::new());
        let (path, cut) = (log.path(), log.durable());
        let worker = Worker {
            log,
            lanes: LogLanes::new(Arc::clone(&backlog.bell)),
            filler: LogFiller::spawn(&path, Arc::clone(&backlog.bell))?,
            index,
            backlog: Arc::clone(&backlog),
            taken: VecDeque::new(),
            settled: (0, 0),
            keys: VecDeque::new(),
            notify,
            asked: None,
            cut,
            told: LogSeq(0),
            pending_since: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || worker.run())
            .map_err(|e| StorageError::io("start the writer thread of", &path, e))?;
        Ok(Self { backlog, thread: Some(thread), path })
    }

    fn send(&self, command: Command, bytes: usize) -> Result<(), StorageError> {
        if self.backlog.push(command, bytes) {
            Ok(())
        } else {
            Err(StorageError::Halted { path: self.path.clone() })
        }
    }

    /// Whether so much is queued that the owner should give nothing more until [`LogEvent::Room`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.backlog.is_full()
    }

    /// Queues a record, whose body is the concatenation of `parts`; `key` is the block that it is found by. Records are
    /// numbered without a gap ([`Log::append`]). Never waits.
    ///
    /// # Errors
    /// [`StorageError::Halted`] if the writer has ended; the reason went to `notify`.
    pub fn append(
        &self,
        seq: LogSeq,
        kind: u8,
        parts: Vec<Bytes>,
        key: Option<BlockRef>,
    ) -> Result<(), StorageError> {
        let bytes = parts.iter().map(Bytes::len).sum();
        self.send(Command::Append { seq, kind, parts, key }, bytes)?;
        self.backlog.ring_lazily();
        Ok(())
    }

    /// Asks for [`LogEvent::Synced`] when all records up to `seq`, which was queued, are durable; answered even if they are
    /// already.
    ///
    /// # Errors
    /// As [`LogWriter::append`].
    pub fn sync(&self, seq: LogSeq) -> Result<(), StorageError> {
        self.send(Command::Sync { seq }, 0)?;
        self.backlog.bell.ring();
        Ok(())
    }

    /// Commits what is queued, makes the watermark durable and ends the thread. Dropping does the same.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.backlog.closed.store(true, Ordering::SeqCst);
        self.backlog.bell.ring();
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker<D: Disk, N> {
    log: Log<D>,
    lanes: LogLanes<D::File>,
    filler: LogFiller<D::File>,
    index: Arc<BlockIndex>,
    backlog: Arc<Backlog>,
    /// Commands that were taken out of the queue and not carried out yet.
    taken: VecDeque<Command>,
    /// Commands, and bytes of their records, that were carried out and still count as queued.
    settled: (usize, usize),
    keys: VecDeque<(u8, BlockRef, LogSeq)>,
    notify: N,
    /// The last record whose sync was asked for and not answered.
    asked: Option<LogSeq>,
    /// The last record of the last group that was cut off.
    cut: LogSeq,
    told: LogSeq,
    /// When the first of the records came that wait for a commit.
    pending_since: Instant,
}

impl<D: Disk, N: FnMut(LogEvent)> Worker<D, N> {
    fn run(mut self) {
        if let Err(error) = self.work() {
            (self.notify)(LogEvent::Failed(error));
        }
    }

    fn work(&mut self) -> Result<(), StorageError> {
        while let Some(command) = self.next()? {
            self.take(command)?;
            while self.log.pending_bytes() < COMMIT_BYTES
                && let Some(command) = self.next_queued()
            {
                self.take(command)?;
            }
            // What was asked for may be on its way already.
            if self.asked > Some(self.cut) || self.log.pending_bytes() >= COMMIT_BYTES {
                self.commit()?;
            }
            self.publish()?;
        }
        self.land_all()?;
        self.log.commit()?;
        self.publish()?;
        self.log.sync_watermark()
    }

    /// The next command; `None` when all senders are gone. Does what can wait meanwhile.
    fn next(&mut self) -> Result<Option<Command>, StorageError> {
        loop {
            while let Some(outcome) = self.lanes.take() {
                self.log.end_write(outcome)?;
                self.publish()?;
            }
            self.tend_spare()?;
            // Before the look at the queue: what was queued by then is carried out.
            let is_closed = self.backlog.closed.load(Ordering::SeqCst);
            if let Some(command) = self.next_queued() {
                return Ok(Some(command));
            }
            if is_closed {
                return Ok(None);
            }
            self.log.write_watermark()?;
            if self.log.pending_bytes() > 0 {
                if !self.nap(COMMIT_PAUSE.saturating_sub(self.pending_since.elapsed())) {
                    self.commit()?;
                }
            } else if self.lanes.busy() > 0 {
                self.sleep(IDLE_SLEEP_MAX);
            } else if self.log.is_watermark_behind() {
                if !self.nap(WATERMARK_PAUSE) {
                    self.log.sync_watermark()?;
                }
            } else {
                self.sleep(IDLE_SLEEP_MAX);
            }
        }
    }

    /// Sleeps for a moment; false if nothing has come by its end.
    fn nap(&self, most: Duration) -> bool {
        let end = Instant::now() + most;
        // Records that come meanwhile need no ring: they are found at its end at the latest.
        self.backlog.naps.store(true, Ordering::Relaxed);
        while !self.is_work() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.sleep(left);
        }
        self.backlog.naps.store(false, Ordering::Relaxed);
        self.is_work()
    }

    /// The next command that is queued, if any is. What was carried out counts as queued no more when the writer has all.
    fn next_queued(&mut self) -> Option<Command> {
        if self.taken.is_empty() {
            self.settle();
            std::mem::swap(&mut self.taken, &mut self.backlog.queue().commands);
        }
        self.taken.pop_front()
    }

    fn is_queued(&self) -> bool {
        !self.taken.is_empty() || !self.backlog.queue().commands.is_empty()
    }

    fn is_work(&self) -> bool {
        self.is_queued()
            || self.lanes.is_ready()
            || self.filler.is_ready()
            || self.backlog.closed.load(Ordering::SeqCst)
    }

    fn sleep(&self, most: Duration) {
        self.backlog.bell.sleep(0, Some(most), || self.is_work());
    }

    /// Carries a command into the pending group.
    fn take(&mut self, command: Command) -> Result<(), StorageError> {
        match command {
            Command::Append { seq, kind, parts, key } => {
                let bytes = parts.iter().map(Bytes::len).sum();
                if !self.log.fits(bytes) {
                    self.commit()?;
                }
                if self.log.pending_bytes() == 0 {
                    self.pending_since = Instant::now();
                }
                self.log.append(kind, seq, &parts)?;
                self.settled.1 += bytes;
                self.keys.extend(key.map(|block| (kind, block, seq)));
            }
            Command::Sync { seq } => {
                assert!(seq < self.log.next_seq(), "a sync of record {seq}, which was not appended");
                self.asked = self.asked.max(Some(seq));
            }
        }
        self.settled.0 += 1;
        if self.settled.0 >= SETTLED_COMMANDS || self.settled.1 >= COMMIT_BYTES {
            self.settle();
        }
        Ok(())
    }

    /// Takes what was carried out out of the counts of what is queued.
    fn settle(&mut self) {
        let (commands, bytes) = std::mem::take(&mut self.settled);
        if commands == 0 {
            return;
        }
        if self.backlog.remove(commands, bytes) {
            (self.notify)(LogEvent::Room);
        }
    }

    /// Makes what is pending a group, and that durable: here if nothing else is to be done, and beside other groups if there is.
    fn commit(&mut self) -> Result<(), StorageError> {
        // The owner shall not wait for the disk as well.
        self.settle();
        if self.log.needs_spare() {
            self.land_all()?;
        }
        let bytes = self.log.pending_bytes();
        if self.lanes.busy() == 0 && (bytes < COMMIT_BYTES || !self.is_queued()) {
            self.log.commit()?;
        } else {
            while self.lanes.busy() >= IN_FLIGHT_MAX {
                self.land()?;
            }
            while self.log.pending_bytes() > 0 {
                match self.log.begin_write()? {
                    Some(write) => self.lanes.give(write),
                    None => self.land()?,
                }
            }
        }
        self.cut = LogSeq(self.log.next_seq().0 - 1);
        self.publish()?;
        // Of a lone group the header of the next one says that it was durable; those that are in flight do not say it of each other.
        if self.lanes.busy() > 0 { self.log.write_watermark() } else { Ok(()) }
    }

    /// Waits for a group that is on its way.
    fn land(&mut self) -> Result<(), StorageError> {
        if let Some(outcome) = self.lanes.wait() {
            self.log.end_write(outcome)?;
        }
        Ok(())
    }

    /// Waits for all groups that are on their way, and then for the next segment if what is pending needs it.
    fn land_all(&mut self) -> Result<(), StorageError> {
        while self.lanes.busy() > 0 {
            self.land()?;
            self.publish()?;
        }
        if self.log.needs_spare() {
            let outcome = self.filler.wait(&self.log.path());
            self.log.return_spare(outcome)?;
        }
        Ok(())
    }

    /// Takes back the segment that is filled, and has the next one filled.
    fn tend_spare(&mut self) -> Result<(), StorageError> {
        if let Some(outcome) = self.filler.take() {
            self.log.return_spare(outcome)?;
        }
        match self.log.lend_spare()? {
            Some(spare) => self.filler.give(spare),
            None => Ok(()),
        }
    }

    /// Says what is durable now.
    fn publish(&mut self) -> Result<(), StorageError> {
        let durable = self.log.durable();
        while let Some((kind, block, seq)) = self.keys.pop_front_if(|(_, _, seq)| *seq <= durable) {
            self.index.insert(kind, block, seq);
        }
        let answers = self.asked.is_some_and(|seq| seq <= durable);
        if answers {
            self.asked = None;
        }
        if answers || durable > self.told {
            self.told = durable;
            (self.notify)(LogEvent::Synced(durable));
        }
        // Afterwards: it may wait for syncs of the table, and nobody waits for it.
        self.index.carry()
    }
}

impl<D: Disk, N> Drop for Worker<D, N> {
    /// Whatever the end was: what is sent from now on is refused.
    fn drop(&mut self) {
        let mut queue = self.backlog.queue();
        queue.is_over = true;
        queue.commands.clear();
    }
}

/// The block log of a node: its writer, its readers, its index.
#[derive(Debug)]
pub struct LogStore {
    /// Takes records.
    pub writer: LogWriter,
    /// Reads durable records.
    pub reader: LogReader<FolderFile>,
    /// Finds records by block.
    pub index: Arc<BlockIndex>,
}

impl LogStore {
    /// Opens the log in `folder` (locked by the caller, see [`super::files::DataLock`]), gives all of its records to `each`
    /// ([`Log::open_and_read`]), and starts the writer, which reports to `notify` (see [`LogWriter::spawn`]). `name` says under
    /// which block a record is found, if by any. `table` keeps the index of older records; what it lacks is added, and if it is
    /// of another log it is made anew. The seed of the options is replaced by one of the operating system.
    ///
    /// # Errors
    /// Those of [`Log::open`], and of the table.
    pub fn open(
        folder: &Path,
        network: NetworkId,
        options: LogOptions,
        table: impl BlockTable,
        name: impl Fn(&Record) -> Option<BlockRef>,
        mut each: impl FnMut(Record),
        notify: impl FnMut(LogEvent) + Send + 'static,
    ) -> Result<(Self, Recovered), StorageError> {
        let seed = getrandom::u64().map_err(|e| {
            StorageError::io("draw a random seed for", folder, std::io::Error::other(e.to_string()))
        })?;
        let disk = FolderDisk::open_or_create(folder)?;
        let index = Arc::new(BlockIndex::open(table)?);
        let options = LogOptions { seed, ..options };
        let insert = |record: &Record| match name(record) {
            Some(block) => {
                index.insert(record.kind, block, record.seq);
                index.carry()
            }
            None => Ok(()),
        };
        let kept = index.kept();
        let mut is_of_this = kept.is_none();
        let (log, recovered) = Log::open_and_read(disk, network, options, |record| {
            if kept == Some(record.seq) {
                is_of_this = name(&record).is_some_and(|block| index.agrees(record.kind, block));
            } else if is_of_this && Some(record.seq) > kept {
                insert(&record)?;
            }
            each(record);
            Ok(())
        })?;
        if !is_of_this {
            info!(records = recovered.last.0, "the index of blocks is of another log: making it anew");
            index.clear()?;
            log.scan(LogSeq(1), |record| insert(&record))?;
        }
        let reader = log.reader();
        let writer = LogWriter::spawn(log, Arc::clone(&index), notify)?;
        Ok((Self { writer, reader, index }, recovered))
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
