//! The way into the core: a bounded queue that the core empties without waiting, and its bell.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::io::bell::Bell;
use crate::node::Input;

/// The core has ended.
#[derive(Debug)]
pub(super) struct Gone;

/// Hands inputs to the core. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct CoreSender {
    queue: Sender<Input>,
    bell: Arc<Bell>,
}

impl CoreSender {
    /// Queues an input. Waits while the queue is full: whoever feeds the core is held up when it is behind.
    pub(super) fn send(&self, input: Input) -> Result<(), Gone> {
        self.queue.send(input).map_err(|_input| Gone)?;
        self.bell.ring();
        Ok(())
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Receiver<Input>,
}

impl Inbox {
    /// A queue with room for `inputs`, which rings `bell`.
    pub(super) fn new(inputs: usize, bell: Arc<Bell>) -> (CoreSender, Self) {
        let (sender, queue) = bounded(inputs);
        (CoreSender { queue: sender, bell }, Self { queue })
    }

    /// The next input, if there is one; `Err` once nobody can send any more.
    pub(super) fn take(&self) -> Result<Option<Input>, Gone> {
        match self.queue.try_recv() {
            Ok(input) => Ok(Some(input)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
