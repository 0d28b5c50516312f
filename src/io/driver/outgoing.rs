//! What the core says to peers and clients, on its way to their queues.
//!
//! Encoding a frame, looking up a connection and waking its task take locks that other threads hold too. The core leaves its
//! words here instead, all of one input at once, and a task of the runtime carries them on. That task never waits, so little
//! lies here; should it be kept from running, the core sees it and takes no more inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::intake::Replies;
use crate::error::PeerError;
use crate::io::bell::Bell;
use crate::io::peer::PeerNet;
use crate::mempool::Ticket;
use crate::node::Reply;
use crate::types::{AuthorityIndex, PeerMessage};

/// Words that may lie here before the core waits.
const WORDS_MAX: usize = 16_384;

/// Something to say.
#[derive(Debug)]
pub(super) enum Word {
    Send(AuthorityIndex, PeerMessage),
    Broadcast(PeerMessage),
    Reply(Ticket, Reply),
    Blame(AuthorityIndex, PeerError),
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Of the input that is being handled.
    words: Vec<Word>,
    queue: mpsc::UnboundedSender<Vec<Word>>,
    lying: Arc<AtomicUsize>,
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Carrier {
    queue: mpsc::UnboundedReceiver<Vec<Word>>,
    lying: Arc<AtomicUsize>,
    core: Arc<Bell>,
}

impl Outgoing {
    /// `core` is rung when there is room again.
    pub(super) fn new(core: Arc<Bell>) -> (Self, Carrier) {
        let (sender, queue) = mpsc::unbounded_channel();
        let lying = Arc::new(AtomicUsize::new(0));
        let outgoing = Self { words: Vec::new(), queue: sender, lying: Arc::clone(&lying) };
        (outgoing, Carrier { queue, lying, core })
    }

    pub(super) fn say(&mut self, word: Word) {
        self.words.push(word);
    }

    /// Hands on what was said. Never waits.
    pub(super) fn flush(&mut self) {
        if self.words.is_empty() {
            return;
        }
        self.lying.fetch_add(self.words.len(), Ordering::AcqRel);
        // Nobody listens only when the node stops.
        let _ = self.queue.send(std::mem::take(&mut self.words));
    }

    /// Whether so much lies here that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.lying.load(Ordering::Acquire) > WORDS_MAX
    }
}

impl Carrier {
    /// Runs until the core is gone.
    pub(super) async fn run(mut self, peers: Arc<PeerNet>, replies: Arc<Replies>) {
        while let Some(words) = self.queue.recv().await {
            let n = words.len();
            for word in words {
                match word {
                    // What a full queue drops, the peer asks for again.
                    Word::Send(to, message) => {
                        peers.send(to, message.encode());
                    }
                    Word::Broadcast(message) => {
                        peers.broadcast(message.encode());
                    }
                    Word::Reply(ticket, reply) => replies.reply(ticket, reply),
                    Word::Blame(peer, error) => peers.blame(peer, &error),
                }
            }
            let before = self.lying.fetch_sub(n, Ordering::AcqRel);
            if before > WORDS_MAX && before - n <= WORDS_MAX {
                self.core.ring();
            }
        }
    }
}
