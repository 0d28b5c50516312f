//! The thread that owns the block log.
//!
//! Records wait for a sync that somebody asks for: nobody waits for the others' blocks to be durable, but for an own one
//! or a payload that is to be executed, and those become durable together with all before them. Whatever is queued when the disk is free becomes
//! one group and one sync. What nobody asks for is durable after a moment. When nothing is queued the thread prepares the
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

use super::bell::Bell;
use super::disk::{FolderDisk, FolderFile};
use super::log_lanes::{LANES, LogLanes};
use crate::error::StorageError;
use crate::log::{BlockIndex, Disk, Log, LogOptions, LogReader, PREPARE_BYTES, Record, Recovered};
use crate::types::{BlockRef, LogSeq, NetworkId};

/// Commands that wait for the writer above which it is full.
pub const QUEUED_COMMANDS_MAX: usize = 4_096;
/// Bytes of records that wait for the writer above which it is full.
pub const QUEUED_BYTES_MAX: usize = 32 << 20;
/// Pending bytes at which the writer commits without looking whether more is queued.
pub const COMMIT_BYTES: usize = 1 << 20;
/// Groups that may be on their way to the disk.
const IN_FLIGHT_MAX: usize = 2 * LANES;
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
        let path = log.path();
        let worker = Worker {
            log,
            lanes: LogLanes::new(Arc::clone(&backlog.bell)),
            index,
            commands,
            backlog: Arc::clone(&backlog),
            keys: VecDeque::new(),
            notify,
            asked: None,
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
            if self.asked.is_some() || self.log.pending_bytes() >= COMMIT_BYTES {
                self.commit()?;
            }
        }
        self.land_all()?;
        self.commit()?;
        self.log.sync_watermark()
    }

    /// The next command; `None` when all senders are gone. Does what can wait meanwhile.
    fn next(&mut self) -> Result<Option<Command>, StorageError> {
        loop {
            while let Some(outcome) = self.lanes.take() {
                self.log.end_write(outcome)?;
                self.publish();
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
        self.publish();
        self.prepare(1 + 2 * bytes / PREPARE_BYTES)
    }

    /// Waits for a group that is on its way.
    fn land(&mut self) -> Result<(), StorageError> {
        if let Some(outcome) = self.lanes.wait() {
            self.log.end_write(outcome)?;
        }
        Ok(())
    }

    fn land_all(&mut self) -> Result<(), StorageError> {
        while self.lanes.busy() > 0 {
            self.land()?;
        }
        Ok(())
    }

    /// Says what is durable now.
    fn publish(&mut self) {
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
    /// Opens the log in `folder` (locked by the caller, see [`super::files::DataLock`]), gives all of its records to `each`, which
    /// says under which block one is found, if by any ([`Log::open_and_read`]), and starts the writer, which reports to
    /// `notify` (see [`LogWriter::spawn`]). The seed of the options is replaced by one of the operating system.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn open(
        folder: &Path,
        network: NetworkId,
        options: LogOptions,
        mut each: impl FnMut(Record) -> Option<BlockRef>,
        notify: impl FnMut(LogEvent) + Send + 'static,
    ) -> Result<(Self, Recovered), StorageError> {
        let seed = getrandom::u64().map_err(|e| {
            StorageError::io("draw a random seed for", folder, std::io::Error::other(e.to_string()))
        })?;
        let disk = FolderDisk::open_or_create(folder)?;
        let index = Arc::new(BlockIndex::new());
        let options = LogOptions { seed, ..options };
        let (log, recovered) = Log::open_and_read(disk, network, options, |record| {
            let (kind, seq) = (record.kind, record.seq);
            if let Some(block) = each(record) {
                index.insert(kind, block, seq);
            }
            Ok(())
        })?;
        let reader = log.reader();
        let writer = LogWriter::spawn(log, Arc::clone(&index), notify)?;
        Ok((Self { writer, reader, index }, recovered))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;
    use crate::log::{Fault, SimDisk, check};
    use crate::types::{AuthorityIndex, BlockDigest, Round};

    const NETWORK: NetworkId = NetworkId(*b"network1");
    const PATIENCE: Duration = Duration::from_secs(30);

    fn block(n: u64) -> BlockRef {
        BlockRef { round: Round(n), author: AuthorityIndex(1), digest: BlockDigest([3; 32]) }
    }

    fn small() -> LogOptions {
        LogOptions { segment_bytes: 64 << 10, seed: 0 }
    }

    fn body(seq: u64) -> Vec<u8> {
        blake3::hash(&seq.to_be_bytes()).as_bytes().repeat(1 + usize::try_from(seq % 40).unwrap())
    }

    /// Appends and waits until it is durable.
    fn durable(event: &Receiver<LogEvent>, seq: u64) {
        loop {
            match event.recv_timeout(PATIENCE).unwrap() {
                LogEvent::Synced(synced) if synced.0 >= seq => return,
                LogEvent::Synced(_) | LogEvent::Room => {}
                LogEvent::Failed(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_queues_up_during_a_sync_becomes_one_group() {
        let disk = SimDisk::new();
        let (log, _) = Log::open(disk.clone(), NETWORK, small()).unwrap();
        let index = Arc::new(BlockIndex::new());
        let (events, event) = crossbeam_channel::unbounded();
        let (open_gate, gate) = crossbeam_channel::bounded::<()>(1);
        let notify = move |e| {
            events.send(e).unwrap();
            // Holds the writer until the test has queued the rest. Not what a node may do.
            let _ = gate.recv_timeout(PATIENCE);
        };
        let writer = LogWriter::spawn(log, Arc::clone(&index), notify).unwrap();
        let append = |n| writer.append(LogSeq(n), 1, vec![body(n).into()], Some(block(n))).unwrap();
        append(1);
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(1))));
        assert_eq!((index.len(), index.get(1, &block(1))), (1, Some(LogSeq(1))));
        for n in 2..=50 {
            append(n);
        }
        writer.sync(LogSeq(50)).unwrap();
        drop(open_gate);
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(50))));
        assert_eq!(index.len(), 50);
        writer.sync(LogSeq(7)).unwrap();
        let answer = event.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(answer, LogEvent::Synced(LogSeq(50))), "answered though durable before: {answer:?}");
        writer.close();
        let report = check(&disk, Some(NETWORK)).unwrap();
        assert_eq!((report.groups, report.last, report.watermark), (2, LogSeq(50), Some(LogSeq(50))));
    }

    #[test]
    fn a_writer_says_when_it_is_full_and_when_it_has_room_again() {
        let disk = SimDisk::new();
        let (log, _) = Log::open(disk, NETWORK, small()).unwrap();
        let (events, event) = crossbeam_channel::unbounded();
        let (open_gate, gate) = crossbeam_channel::bounded::<()>(1);
        let notify = move |e| {
            events.send(e).unwrap();
            let _ = gate.recv_timeout(PATIENCE);
        };
        let writer = LogWriter::spawn(log, Arc::new(BlockIndex::new()), notify).unwrap();
        let append = |n| writer.append(LogSeq(n), 1, vec![body(n).into()], None).unwrap();
        append(1);
        writer.sync(LogSeq(1)).unwrap();
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(1))));
        // The writer stands at the gate.
        let last = QUEUED_COMMANDS_MAX as u64 + 2;
        for n in 2..=last {
            assert!(!writer.is_full());
            append(n);
        }
        assert!(writer.is_full());
        drop(open_gate);
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Room));
        durable(&event, last);
        assert!(!writer.is_full());
    }

    #[test]
    fn after_a_failed_sync_the_writer_reports_once_and_takes_nothing_more() {
        let disk = SimDisk::new();
        let (log, _) = Log::open(disk.clone(), NETWORK, small()).unwrap();
        let (events, event) = crossbeam_channel::unbounded();
        let notify = move |e| events.send(e).unwrap();
        disk.fail_call(1, Fault::Io);
        let writer = LogWriter::spawn(log, Arc::new(BlockIndex::new()), notify).unwrap();
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Failed(StorageError::Io { .. })));
        assert!(event.recv_timeout(PATIENCE).is_err(), "the thread has ended and dropped its sender");
        let error = writer.append(LogSeq(1), 1, vec![Bytes::new()], None).unwrap_err();
        assert!(matches!(error, StorageError::Halted { .. }), "{error}");
        writer.close();
    }

    #[test]
    fn records_are_read_through_the_map_while_others_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data/blocks");
        let (events, event) = crossbeam_channel::unbounded();
        let notify = move |e| events.send(e).unwrap();
        let (store, recovered) = LogStore::open(&folder, NETWORK, small(), |_| None, notify).unwrap();
        assert_eq!(recovered.last, LogSeq(0));
        let reader = store.reader.clone();
        let reading = std::thread::spawn(move || {
            let mut held = Vec::new();
            let mut seen = 0;
            while seen < 2_000 {
                let durable = reader.durable().0;
                for seq in (seen.max(1)..=durable).chain([durable / 2].into_iter().filter(|s| *s > 0)) {
                    let record = reader.read(LogSeq(seq)).unwrap().unwrap();
                    assert_eq!(record.bytes, body(seq));
                    held.push(record);
                }
                seen = durable;
                std::thread::yield_now();
            }
            // Slices of maps stay what they were.
            assert!(held.iter().all(|record| record.bytes == body(record.seq.0)));
        });
        for n in 1..=2_000 {
            store.writer.append(LogSeq(n), 1, vec![body(n).into()], Some(block(n))).unwrap();
            if n % 50 == 0 {
                durable(&event, n);
            }
        }
        reading.join().unwrap();
        store.writer.close();
        let (again, recovered) = LogStore::open(
            &folder,
            NETWORK,
            small(),
            |record| Some(block(record.bytes.len() as u64)),
            |_| {},
        )
        .unwrap();
        assert_eq!((recovered.last, recovered.torn_tail_bytes), (LogSeq(2_000), 0));
        assert!(recovered.segments > 10);
        assert_eq!(again.index.len(), 40);
        assert_eq!(again.reader.read(LogSeq(1_234)).unwrap().unwrap().bytes, body(1_234));
        assert_eq!(again.reader.read(LogSeq(2_001)).unwrap(), None);
        again.writer.close();
        let report = check(&FolderDisk::open_existing(&folder).unwrap(), None).unwrap();
        assert_eq!((report.last, report.network), (LogSeq(2_000), Some(NETWORK)));
    }

    #[test]
    fn a_damaged_file_is_refused_with_path_and_position() {
        let dir = tempfile::tempdir().unwrap();
        let open = || LogStore::open(dir.path(), NETWORK, small(), |_| None, |_| {});
        let (store, _) = open().unwrap();
        for n in 1..=3 {
            store.writer.append(LogSeq(n), 1, vec![body(n).into()], None).unwrap();
        }
        store.writer.close();
        let path = dir.path().join("0000000000.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8_192 + 300] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = open().unwrap_err();
        let StorageError::Damaged { path: named, at: 8_192, .. } = &error else { panic!("{error}") };
        assert_eq!(*named, path.display().to_string());
    }
}
