//! The thread that fills the next segment of the block log with zeros, so that the one that owns the log does not wait for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::bell::Bell;
use crate::error::StorageError;
use crate::log::{DiskFile, Spare};

type Outcome<F> = Result<Spare<F>, StorageError>;

/// Fills one segment at a time.
#[derive(Debug)]
pub(super) struct LogFiller<F> {
    work: Option<Sender<Spare<F>>>,
    done: Receiver<Outcome<F>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<F: DiskFile> LogFiller<F> {
    /// Starts the thread, for the log of this path; it rings the bell when a segment is filled.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(super) fn spawn(path: &str, bell: Arc<Bell>) -> Result<Self, StorageError> {
        let (work, queue) = bounded(1);
        let (outcomes, done) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = Builder::new()
            .name("log-filler".into())
            .spawn(move || {
                while let Ok(spare) = queue.recv() {
                    // The owner takes one outcome before it gives the next segment.
                    let _ = outcomes.send(fill(spare, &is_over));
                    bell.ring();
                }
            })
            .map_err(|e| StorageError::io("start the filling thread of", path, e))?;
        Ok(Self { work: Some(work), done, stop, thread: Some(thread) })
    }

    /// Has a segment filled. The outcome of the one before was taken.
    pub(super) fn give(&self, spare: Spare<F>) -> Result<(), StorageError> {
        let path = spare.path();
        let sent = self.work.as_ref().is_some_and(|work| work.try_send(spare).is_ok());
        if sent { Ok(()) } else { Err(StorageError::Halted { path }) }
    }

    /// Whether the segment that was given waits to be taken.
    pub(super) fn is_ready(&self) -> bool {
        !self.done.is_empty()
    }

    /// The segment that was given, if it is filled by now.
    pub(super) fn take(&self) -> Option<Outcome<F>> {
        self.done.try_recv().ok()
    }

    /// Waits for the segment that was given.
    pub(super) fn wait(&self, path: &str) -> Outcome<F> {
        self.done.recv().unwrap_or_else(|_ended| Err(StorageError::Halted { path: path.into() }))
    }
}

/// Until it is full, or nobody needs it any more. A panic is an outcome too: whoever waits for it must not wait for ever.
fn fill<F: DiskFile>(mut spare: Spare<F>, is_over: &AtomicBool) -> Outcome<F> {
    let path = spare.path();
    let run = move || {
        while !spare.is_ready() && !is_over.load(Ordering::Relaxed) {
            spare.fill()?;
        }
        Ok(spare)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(StorageError::Halted { path }))
}

impl<F> Drop for LogFiller<F> {
    /// What was filled is of no use to anybody: the next opening removes it.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
