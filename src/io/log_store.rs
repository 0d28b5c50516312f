//! The thread that owns the block log.
//!
//! Records wait for a sync that somebody asks for: nobody waits for the others' blocks to be durable, but for an own one
//! or a payload that is to be executed, and those become durable together with all before them. Whatever is queued when the disk is free becomes
//! one group and one sync. Where a MiB is pending and more is queued, as when a node catches up, groups go to threads that write
//! several at a time ([`super::log_lanes`]). What nobody asks for is durable after a moment. When nothing is queued the thread prepares the
//! next segment and, after a pause, makes the watermark durable.
//!
//! Handing over records never waits: the owner looks at [`LogWriter::is_full`] and stops what leads to more.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use tracing::info;

use super::bell::Bell;
use super::block_index::{BlockIndex, BlockTable};
use super::disk::{FolderDisk, FolderFile};
use super::log_lanes::{LANES, LogLanes};
use crate::error::StorageError;
use crate::log::{Disk, Log, LogOptions, LogReader, PREPARE_BYTES, Record, Recovered};
use crate::types::{BlockRef, LogSeq, NetworkId};

/// Commands that wait for the writer above which it is full.
pub const QUEUED_COMMANDS_MAX: usize = 4_096;
/// Bytes of records that wait for the writer above which it is full.
pub const QUEUED_BYTES_MAX: usize = 32 << 20;
/// Pending bytes at which the writer commits without looking whether more is queued.
pub const COMMIT_BYTES: usize = 1 << 20;
/// Groups that may be on their way to the disk.
pub const IN_FLIGHT_MAX: usize = 2 * LANES;
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

enum Command {
    Append { seq: LogSeq, kind: u8, parts: Vec<Bytes>, key: Option<BlockRef> },
    Sync { seq: LogSeq },
}

/// What is queued, and how the writer hears of it.
#[derive(Debug)]
struct Backlog {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    bell: Arc<Bell>,
    /// The writer sleeps for a moment at most: records that nobody asks for need not wake it.
    naps: AtomicBool,
    closed: AtomicBool,
}

impl Backlog {
    fn new() -> Self {
        let (commands, bytes, naps, closed) = Default::default();
        Self { commands, bytes, bell: Arc::new(Bell::new(1)), naps, closed }
    }

    /// Wakes the writer for a record, unless it wakes soon by itself.
    fn ring_lazily(&self) {
        // Pairs with the fence in the bell's sleep: either it is seen here that this is no nap, or the writer sees the record.
        fence(Ordering::SeqCst);
        if !self.naps.load(Ordering::Relaxed) || self.bytes.load(Ordering::Relaxed) > COMMIT_BYTES {
            self.bell.ring();
        }
    }

    fn add(&self, bytes: usize) {
        self.commands.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: usize) {
        self.commands.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn is_full(&self) -> bool {
        self.commands.load(Ordering::Acquire) > QUEUED_COMMANDS_MAX
            || self.bytes.load(Ordering::Acquire) > QUEUED_BYTES_MAX
    }
}

/// Sends records to the thread that owns the log.
#[derive(Debug)]
pub struct LogWriter {
    queue: Option<Sender<Command>>,
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
        let (queue, commands) = unbounded();
        let backlog = Arc::new(Backlog::new());
        let (path, cut) = (log.path(), log.durable());
        let worker = Worker {
            log,
            lanes: LogLanes::new(Arc::clone(&backlog.bell)),
            index,
            commands,
            backlog: Arc::clone(&backlog),
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
        Ok(Self { queue: Some(queue), backlog, thread: Some(thread), path })
    }

    fn send(&self, command: Command) -> Result<(), StorageError> {
        let halted = || StorageError::Halted { path: self.path.clone() };
        self.queue.as_ref().ok_or_else(halted)?.send(command).map_err(|_unsent| halted())
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
        self.backlog.add(parts.iter().map(Bytes::len).sum());
        self.send(Command::Append { seq, kind, parts, key })?;
        self.backlog.ring_lazily();
        Ok(())
    }

    /// Asks for [`LogEvent::Synced`] when all records up to `seq`, which was queued, are durable; answered even if they are
    /// already.
    ///
    /// # Errors
    /// As [`LogWriter::append`].
    pub fn sync(&self, seq: LogSeq) -> Result<(), StorageError> {
        self.backlog.add(0);
        self.send(Command::Sync { seq })?;
        self.backlog.bell.ring();
        Ok(())
    }

    /// Commits what is queued, makes the watermark durable and ends the thread. Dropping does the same.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.queue = None;
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
    index: Arc<BlockIndex>,
    commands: Receiver<Command>,
    backlog: Arc<Backlog>,
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
                && let Ok(command) = self.commands.try_recv()
            {
                self.take(command)?;
            }
            // What was asked for may be on its way already.
            if self.asked > Some(self.cut) || self.log.pending_bytes() >= COMMIT_BYTES {
                self.commit()?;
            }
            self.publish()?;
        }
        while self.lanes.busy() > 0 {
            self.land()?;
        }
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
            match self.commands.try_recv() {
                Ok(command) => return Ok(Some(command)),
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(TryRecvError::Empty) => {}
            }
            if self.log.pending_bytes() > 0 {
                if !self.nap(COMMIT_PAUSE.saturating_sub(self.pending_since.elapsed())) {
                    self.commit()?;
                }
            } else if self.lanes.busy() > 0 {
                self.sleep(IDLE_SLEEP_MAX);
            } else if !self.log.is_prepared() {
                self.log.prepare()?;
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

    fn is_work(&self) -> bool {
        !self.commands.is_empty() || self.lanes.is_ready() || self.backlog.closed.load(Ordering::SeqCst)
    }

    fn sleep(&self, most: Duration) {
        self.backlog.bell.sleep(0, Some(most), || self.is_work());
    }

    /// Carries a command into the pending group.
    fn take(&mut self, command: Command) -> Result<(), StorageError> {
        let was_full = self.backlog.is_full();
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
                self.backlog.remove(bytes);
                self.keys.extend(key.map(|block| (kind, block, seq)));
            }
            Command::Sync { seq } => {
                assert!(seq < self.log.next_seq(), "a sync of record {seq}, which was not appended");
                self.backlog.remove(0);
                self.asked = self.asked.max(Some(seq));
            }
        }
        if was_full && !self.backlog.is_full() {
            (self.notify)(LogEvent::Room);
        }
        Ok(())
    }

    /// Makes what is pending a group, and that durable: here if nothing else is to be done, and beside other groups if there is.
    fn commit(&mut self) -> Result<(), StorageError> {
        let bytes = self.log.pending_bytes();
        if self.lanes.busy() == 0 && (bytes < COMMIT_BYTES || self.commands.is_empty()) {
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
        self.prepare(1 + 2 * bytes / PREPARE_BYTES)
    }

    /// Waits for a group that is on its way.
    fn land(&mut self) -> Result<(), StorageError> {
        if let Some(outcome) = self.lanes.wait() {
            self.log.end_write(outcome)?;
        }
        Ok(())
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

    /// Under constant load there is no idle time: prepares the next segment at twice the pace at which this one fills.
    fn prepare(&mut self, steps: usize) -> Result<(), StorageError> {
        if self.log.is_past_half() {
            for _ in 0..steps {
                if self.log.is_prepared() {
                    break;
                }
                self.log.prepare()?;
            }
        }
        Ok(())
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
