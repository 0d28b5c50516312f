//! What the core says to peers and clients, on its way to their queues.
//!
//! Encoding a frame, looking up a connection and waking its task take locks that other threads hold too. The core leaves its
//! words here instead, all of one input at once, and tasks carry them on: one on the thread of the network of validators, one
//! among the clients' connections, so that neither thread is woken for the other's words. The tasks never wait, so little lies
//! here; should the peers' be kept from running, the core sees it and takes no more inputs.
//!
//! That a transaction was accepted is held back for a moment, to leave together with what is said next to clients: often the
//! word that it is final.

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

/// Something to say to peers.
#[derive(Debug)]
pub(super) enum Word {
    Send(AuthorityIndex, PeerMessage),
    Broadcast(PeerMessage),
    Blame(AuthorityIndex, PeerError),
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Of the input that is being handled.
    words: Vec<Word>,
    replies: Vec<(Ticket, Reply)>,
    /// How many of the replies may wait, and since when the first does. If there is one that may not, none does.
    held: usize,
    held_since_us: u64,
    to_peers: mpsc::UnboundedSender<Vec<Word>>,
    to_clients: mpsc::UnboundedSender<Vec<(Ticket, Reply)>>,
    words_lying: Arc<AtomicUsize>,
}

/// Carries words to peers.
#[derive(Debug)]
pub(super) struct PeerCarrier {
    queue: mpsc::UnboundedReceiver<Vec<Word>>,
    lying: Arc<AtomicUsize>,
    core: Arc<Bell>,
}

/// Carries replies to clients: at most two for each transaction that the core holds or has just refused. It runs on the thread that reads
/// what clients submit, so that no more come in while it is kept from running.
#[derive(Debug)]
pub(super) struct ReplyCarrier {
    queue: mpsc::UnboundedReceiver<Vec<(Ticket, Reply)>>,
}

impl Outgoing {
    /// `core` is rung when there is room again.
    pub(super) fn new(core: &Arc<Bell>) -> (Self, PeerCarrier, ReplyCarrier) {
        let (to_peers, words) = mpsc::unbounded_channel();
        let (to_clients, replies) = mpsc::unbounded_channel();
        let words_lying = Arc::new(AtomicUsize::new(0));
        let outgoing = Self {
            words: Vec::new(),
            replies: Vec::new(),
            held: 0,
            held_since_us: 0,
            to_peers,
            to_clients,
            words_lying: Arc::clone(&words_lying),
        };
        let peers = PeerCarrier { queue: words, lying: words_lying, core: Arc::clone(core) };
        (outgoing, peers, ReplyCarrier { queue: replies })
    }

    pub(super) fn say(&mut self, word: Word) {
        self.words.push(word);
    }

    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.held += usize::from(reply == Reply::Accepted);
        self.replies.push((ticket, reply));
    }

    /// Hands on what was said in one input. Never waits.
    pub(super) fn flush(&mut self, now_us: u64) {
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.words_lying.fetch_add(words.len(), Ordering::AcqRel);
            // Nobody listens only when the node stops.
            let _ = self.to_peers.send(words);
        }
        if self.held_since_us == 0 && self.is_holding() {
            self.held_since_us = now_us;
        }
        if self.replies.len() > self.held || self.held > HELD_MAX {
            self.hand_on_replies();
        } else {
            self.release_held(now_us);
        }
    }

    /// Whether something is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Hands on what was held back for long enough.
    pub(super) fn release_held(&mut self, now_us: u64) {
        if self.is_holding() && now_us >= self.held_since_us + HOLD_US {
            self.hand_on_replies();
        }
    }

    fn hand_on_replies(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        (self.held, self.held_since_us) = (0, 0);
        let _ = self.to_clients.send(replies);
    }

    /// Whether so many words to peers lie here that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.words_lying.load(Ordering::Acquire) > WORDS_MAX
    }
}

impl PeerCarrier {
    /// Runs until the core is gone.
    pub(super) async fn run(mut self, peers: Arc<PeerNet>, pump: Arc<PumpControl>) {
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

impl ReplyCarrier {
    /// Runs until the core is gone.
    pub(super) async fn run(mut self, to: Arc<Replies>) {
        while let Some(replies) = self.queue.recv().await {
            replies.into_iter().for_each(|(ticket, reply)| to.reply(ticket, reply));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn acceptance_waits_for_company_but_not_for_long() {
        let (mut outgoing, mut peers, mut clients) = Outgoing::new(&Arc::new(Bell::new(1)));
        let ticket = |request| Ticket { client: 1, request };
        outgoing.reply(ticket(1), Reply::Accepted);
        outgoing.flush(10);
        outgoing.release_held(10 + HOLD_US - 1);
        assert!(clients.queue.try_recv().is_err() && outgoing.is_holding());
        outgoing.release_held(10 + HOLD_US);
        assert_eq!(clients.queue.try_recv().unwrap().len(), 1);
        outgoing.reply(ticket(1), Reply::Accepted);
        outgoing.flush(15_000);
        outgoing.flush(15_000 + HOLD_US);
        assert_eq!(
            clients.queue.try_recv().unwrap().len(),
            1,
            "a core that never sleeps holds nothing for longer"
        );
        outgoing.reply(ticket(1), Reply::Accepted);
        outgoing.flush(20_000);
        outgoing.say(Word::Blame(AuthorityIndex(1), PeerError::Unsolicited("a word")));
        outgoing.flush(20_001);
        assert_eq!(peers.queue.try_recv().unwrap().len(), 1);
        assert!(clients.queue.try_recv().is_err(), "a word to a peer is no company");
        outgoing.reply(ticket(2), Reply::Busy);
        outgoing.flush(20_002);
        let replies = clients.queue.try_recv().unwrap();
        assert!(matches!(replies[..], [(_, Reply::Accepted), (_, Reply::Busy)]));
        assert!(!outgoing.is_holding());
    }
}
