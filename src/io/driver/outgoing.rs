//! What the core says to peers and clients, on its way to their queues.
//!
//! Encoding a frame, looking up a connection and waking its task take locks that other threads hold too. The core leaves its
//! words here instead, all of one input at once, and a task of the runtime carries them on. That task never waits, so little
//! lies here; should it be kept from running, the core sees it and takes no more inputs.
//!
//! That a transaction was accepted is held back for a moment, to leave together with what is said next: under load that is the
//! next block, and often the word that the transaction is final.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::intake::Replies;
use super::peers::PumpControl;
use crate::error::PeerError;
use crate::io::bell::Bell;
use crate::io::peer::PeerNet;
use crate::mempool::Ticket;
use crate::node::Reply;
use crate::types::{AuthorityIndex, FetchRequest, PeerMessage};

/// Words that may lie here before the core waits.
const WORDS_MAX: usize = 16_384;
/// Words that are held back at most, and for how long.
const HELD_MAX: usize = 256;
pub(super) const HOLD_US: u64 = 10_000;

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
    /// Words that may wait, and since when the first of them does.
    held: Vec<Word>,
    held_since_us: u64,
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
        let outgoing = Self {
            words: Vec::new(),
            held: Vec::new(),
            held_since_us: 0,
            queue: sender,
            lying: Arc::clone(&lying),
        };
        (outgoing, Carrier { queue, lying, core })
    }

    pub(super) fn say(&mut self, word: Word) {
        if let Word::Reply(_, Reply::Accepted) = word {
            self.held.push(word);
        } else {
            self.words.push(word);
        }
    }

    /// Hands on what was said in one input. Never waits.
    pub(super) fn flush(&mut self, now_us: u64) {
        if !self.words.is_empty() || self.held.len() > HELD_MAX {
            self.hand_on();
        } else if self.held_since_us == 0 && !self.held.is_empty() {
            self.held_since_us = now_us;
        }
    }

    /// Whether something is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands on what was held back for long enough.
    pub(super) fn release_held(&mut self, now_us: u64) {
        if self.is_holding() && now_us >= self.held_since_us + HOLD_US {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        // First: what follows may be the last word on the same transaction.
        let mut words = std::mem::take(&mut self.held);
        words.append(&mut self.words);
        self.held_since_us = 0;
        self.lying.fetch_add(words.len(), Ordering::AcqRel);
        // Nobody listens only when the node stops.
        let _ = self.queue.send(words);
    }

    /// Whether so much lies here that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.lying.load(Ordering::Acquire) > WORDS_MAX
    }
}

impl Carrier {
    /// Runs until the core is gone.
    pub(super) async fn run(mut self, peers: Arc<PeerNet>, replies: Arc<Replies>, pump: Arc<PumpControl>) {
        while let Some(words) = self.queue.recv().await {
            let n = words.len();
            for word in words {
                match word {
                    // What a full queue drops, the peer asks for again.
                    Word::Send(to, message) => {
                        if let PeerMessage::Fetch(FetchRequest::Commits { .. }) = message {
                            pump.asks_for_commits(to);
                        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn acceptance_waits_for_company_but_not_for_long() {
        let (mut outgoing, mut carrier) = Outgoing::new(Arc::new(Bell::new(1)));
        let accepted = || Word::Reply(Ticket { client: 1, request: 1 }, Reply::Accepted);
        outgoing.say(accepted());
        outgoing.flush(10);
        outgoing.release_held(10 + HOLD_US - 1);
        assert!(carrier.queue.try_recv().is_err() && outgoing.is_holding());
        outgoing.release_held(10 + HOLD_US);
        assert_eq!(carrier.queue.try_recv().unwrap().len(), 1);
        outgoing.say(accepted());
        outgoing.flush(20_000);
        outgoing.say(Word::Reply(Ticket { client: 1, request: 2 }, Reply::Busy));
        outgoing.flush(20_001);
        let words = carrier.queue.try_recv().unwrap();
        assert!(matches!(words[..], [Word::Reply(_, Reply::Accepted), Word::Reply(_, Reply::Busy)]));
        assert!(!outgoing.is_holding());
    }
}
