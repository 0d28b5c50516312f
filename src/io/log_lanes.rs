//! Threads that write groups of the block log, several at a time, so that the disk works on one while the next is hashed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::bell::Bell;
use crate::error::StorageError;
use crate::log::{DiskFile, GroupDurable, GroupWrite};

/// Groups that are written at a time: as many as it takes for the disk not to wait for the next one.
pub const LANES: usize = 4;

type Outcome = Result<GroupDurable, StorageError>;

/// Writes groups on [`LANES`] threads, which are started when there is the first one to write.
#[derive(Debug)]
pub struct LogLanes<F> {
    bell: Arc<Bell>,
    work: Option<Sender<GroupWrite<F>>>,
    done: (Sender<Outcome>, Receiver<Outcome>),
    threads: Vec<JoinHandle<()>>,
    busy: usize,
}

impl<F: DiskFile> Default for LogLanes<F> {
    fn default() -> Self {
        Self::new(Arc::new(Bell::new(1)))
    }
}

impl<F: DiskFile> LogLanes<F> {
    /// Rings the bell when a group is done.
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, work: None, done: unbounded(), threads: Vec::new(), busy: 0 }
    }

    /// Groups whose outcome was not taken.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Whether an outcome waits to be taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.done.1.is_empty()
    }

    /// Has a group written, after those that were given before have been taken up. Never waits, unless the system has no threads to
    /// give: then it is written here.
    pub fn give(&mut self, write: GroupWrite<F>) {
        self.busy += 1;
        if self.threads.is_empty() {
            self.start();
        }
        let unsent = match &self.work {
            Some(work) if !self.threads.is_empty() => work.send(write).err(),
            Some(_) | None => Some(crossbeam_channel::SendError(write)),
        };
        if let Some(unsent) = unsent {
            let _ = self.done.0.send(run(unsent.into_inner()));
        }
    }

    /// The outcome of a group that is done, in the order in which they end.
    pub fn take(&mut self) -> Option<Outcome> {
        let outcome = self.done.1.try_recv().ok()?;
        self.busy -= 1;
        Some(outcome)
    }

    /// Waits for the outcome of a group; `None` if none was given.
    pub fn wait(&mut self) -> Option<Outcome> {
        self.busy = self.busy.checked_sub(1)?;
        self.done.1.recv().ok()
    }

    fn start(&mut self) {
        let (work, queue) = unbounded();
        self.work = Some(work);
        let spawn = |n| {
            let (queue, done, bell) = (Receiver::clone(&queue), self.done.0.clone(), Arc::clone(&self.bell));
            let lane = move || {
                while let Ok(write) = queue.recv() {
                    let _ = done.send(run(write));
                    bell.ring();
                }
            };
            Builder::new().name(format!("log-lane-{n}")).spawn(lane).ok()
        };
        self.threads = (0..LANES).filter_map(spawn).collect();
    }
}

/// A panic is an outcome too: whoever waits for this group must not wait for ever.
fn run<F: DiskFile>(write: GroupWrite<F>) -> Outcome {
    let path = write.path();
    catch_unwind(AssertUnwindSafe(|| write.run())).unwrap_or(Err(StorageError::Halted { path }))
}

impl<F> Drop for LogLanes<F> {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::io::disk::FolderDisk;
    use crate::log::{Disk, Fault, Log, LogOptions, SimDisk};
    use crate::types::{LogSeq, NetworkId};

    const NETWORK: NetworkId = NetworkId(*b"network1");

    fn open<D: Disk>(disk: D, segment_bytes: u64) -> Log<D> {
        Log::open(disk, NETWORK, LogOptions { segment_bytes, seed: 3 }).unwrap().0
    }

    fn body(seq: u64) -> Vec<u8> {
        blake3::hash(&seq.to_be_bytes()).as_bytes().repeat(1 + usize::try_from(seq % 9).unwrap() * 1_000)
    }

    /// Appends records, a group of each three, until the log ends or fails.
    fn fill<D: Disk>(log: &mut Log<D>, last: u64) -> Result<(), StorageError> {
        let mut lanes = LogLanes::default();
        let mut most = 0;
        while log.next_seq().0 <= last {
            let seq = log.next_seq();
            log.append(1, seq, &[body(seq.0)])?;
            if seq.0.is_multiple_of(3) {
                loop {
                    if let Some(write) = log.begin_write()? {
                        lanes.give(write);
                        break;
                    }
                    let outcome = lanes.wait().unwrap();
                    log.end_write(outcome)?;
                }
            }
            most = most.max(log.in_flight());
        }
        while let Some(outcome) = lanes.wait() {
            log.end_write(outcome)?;
        }
        assert!(most > 2, "{most} in flight");
        Ok(())
    }

    #[test]
    fn groups_of_several_threads_are_one_log() {
        let dir = tempfile::tempdir().unwrap();
        let disk = || FolderDisk::open_or_create(dir.path()).unwrap();
        let mut log = open(disk(), 2 << 20);
        fill(&mut log, 300).unwrap();
        assert_eq!(log.durable(), LogSeq(300));
        let all = |log: &Log<FolderDisk>| {
            let mut next = 1;
            log.scan(LogSeq(1), |record| {
                assert_eq!((record.seq.0, &record.bytes[..]), (next, &body(next)[..]));
                next += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(next, 301);
        };
        all(&log);
        log.close().unwrap();
        all(&open(disk(), 2 << 20));
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_durable() {
        for nth in [1, 2, 7, 20] {
            let disk = SimDisk::new();
            let mut log = open(disk.clone(), 16 << 20);
            disk.fail_call(nth, Fault::Io);
            let error = fill(&mut log, 300).unwrap_err();
            assert!(matches!(error, StorageError::Io { .. }), "{error}");
            let durable = log.durable();
            assert!(durable < LogSeq(300));
            assert!(matches!(log.begin_write(), Err(StorageError::Halted { .. })));
            drop(log);
            assert!(open(disk, 16 << 20).durable() >= durable);
        }
    }
}
