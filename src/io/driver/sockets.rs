//! Threads that wait for sockets, each with a runtime of its own.
//!
//! A runtime of one thread that runs its tasks in place has no queues between threads: to wake one of its own tasks costs no
//! system call, and a packet is read, decrypted and handled where it came in.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Time that is left to tasks which do not end by themselves.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// A thread that runs the tasks of one kind of sockets. Dropped, it ends soon after, and its sockets with it;
/// [`SocketThread::join`] waits for that.
#[derive(Debug)]
pub(super) struct SocketThread {
    handle: Handle,
    /// Its end tells the thread to stop.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SocketThread {
    pub(super) fn start(name: &str) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(SHUTDOWN_MAX);
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { handle, stop, thread })
    }

    /// Where tasks are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` on the calling thread, with this one's sockets and timers.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    /// Ends the tasks, and waits for that.
    pub(super) fn join(self) -> std::thread::Result<()> {
        drop(self.stop);
        self.thread.join()
    }
}
