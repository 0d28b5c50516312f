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

use bytes::Bytes;
use tokio::sync::mpsc;

use super::intake::Replies;
use super::peers::PumpControl;
use crate::error::PeerError;
use crate::io::bell::Bell;
use crate::io::peer::PeerNet;
use crate::mempool::Ticket;
use crate::node::Reply;
use crate::types::{AuthorityIndex, FetchRequest, PeerMessage};

/// Words that may lie here before the core waits, and bytes of them. What one turn of the core says comes on top; payloads in it
/// are those of the DAG, not copies.
const WORDS_MAX: usize = 16_384;
pub(super) const WORD_BYTES_MAX: usize = 32 << 20;
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

impl Word {
    /// About what it holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Send(_, message) | Self::Broadcast(message) => size_of::<Self>() + message_bytes(message),
            Self::Blame(..) => size_of::<Self>(),
        }
    }
}

fn message_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Header(header) => header.bytes().len(),
        PeerMessage::Headers(headers) => headers.iter().map(|header| header.bytes().len()).sum(),
        PeerMessage::Payload { bytes, .. } => bytes.len(),
        PeerMessage::Latest { header, .. } => header.as_ref().map_or(0, |header| header.bytes().len()),
        PeerMessage::Commits { commits, certificate } => {
            commits.iter().map(Bytes::len).sum::<usize>()
                + certificate.iter().map(|header| header.bytes().len()).sum::<usize>()
        }
        PeerMessage::Fetch(request) => match request {
            FetchRequest::Headers(blocks) | FetchRequest::Payloads(blocks) => size_of_val(&blocks[..]),
            FetchRequest::Range { .. } | FetchRequest::Latest { .. } | FetchRequest::Commits { .. } => 0,
        },
    }
}

/// What lies here.
#[derive(Debug, Default)]
struct Lying {
    words: AtomicUsize,
    bytes: AtomicUsize,
}

impl Lying {
    fn is_full(&self) -> bool {
        self.words.load(Ordering::Acquire) > WORDS_MAX || self.bytes.load(Ordering::Acquire) > WORD_BYTES_MAX
    }

    fn add(&self, words: usize, bytes: usize) {
        self.words.fetch_add(words, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether there is room again by it.
    fn remove(&self, words: usize, bytes: usize) -> bool {
        let words_before = self.words.fetch_sub(words, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        (words_before > WORDS_MAX || bytes_before > WORD_BYTES_MAX) && !self.is_full()
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Of the input that is being handled.
    words: Vec<Word>,
    word_bytes: usize,
    replies: Vec<(Ticket, Reply)>,
    /// How many of the replies may wait, and since when the first does. If there is one that may not, none does.
    held: usize,
    held_since_us: u64,
    to_peers: mpsc::UnboundedSender<(Vec<Word>, usize)>,
    to_clients: mpsc::UnboundedSender<Vec<(Ticket, Reply)>>,
    lying: Arc<Lying>,
}

/// Carries words to peers.
#[derive(Debug)]
pub(super) struct PeerCarrier {
    queue: mpsc::UnboundedReceiver<(Vec<Word>, usize)>,
    lying: Arc<Lying>,
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
        let lying = Arc::new(Lying::default());
        let outgoing = Self {
            words: Vec::new(),
            word_bytes: 0,
            replies: Vec::new(),
            held: 0,
            held_since_us: 0,
            to_peers,
            to_clients,
            lying: Arc::clone(&lying),
        };
        let peers = PeerCarrier { queue: words, lying, core: Arc::clone(core) };
        (outgoing, peers, ReplyCarrier { queue: replies })
    }

    pub(super) fn say(&mut self, word: Word) {
        self.word_bytes += word.bytes();
        self.words.push(word);
    }

    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.held += usize::from(reply == Reply::Accepted);
        self.replies.push((ticket, reply));
    }

    /// Hands on what was said in one input. Never waits.
    pub(super) fn flush(&mut self, now_us: u64) {
        if !self.words.is_empty() {
            let (words, bytes) = (std::mem::take(&mut self.words), std::mem::take(&mut self.word_bytes));
            self.lying.add(words.len(), bytes);
            // Nobody listens only when the node stops.
            let _ = self.to_peers.send((words, bytes));
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
        self.lying.is_full()
    }
}

impl PeerCarrier {
    /// Runs until the core is gone.
    pub(super) async fn run(mut self, peers: Arc<PeerNet>, pump: Arc<PumpControl>) {
        while let Some((words, bytes)) = self.queue.recv().await {
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
            if self.lying.remove(n, bytes) {
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
    use crate::types::BlockRef;

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
        assert_eq!(peers.queue.try_recv().unwrap().0.len(), 1);
        assert!(clients.queue.try_recv().is_err(), "a word to a peer is no company");
        outgoing.reply(ticket(2), Reply::Busy);
        outgoing.flush(20_002);
        let replies = clients.queue.try_recv().unwrap();
        assert!(matches!(replies[..], [(_, Reply::Accepted), (_, Reply::Busy)]));
        assert!(!outgoing.is_holding());
    }

    #[test]
    fn few_large_words_make_the_core_wait_as_many_small_ones_do() {
        let bell = Arc::new(Bell::new(1));
        let (mut outgoing, mut peers, _clients) = Outgoing::new(&bell);
        let payload =
            |len: usize| PeerMessage::Payload { block: BlockRef::default(), bytes: vec![0; len].into() };
        for _ in 0..WORD_BYTES_MAX / (4 << 20) {
            assert!(!outgoing.is_full());
            outgoing.say(Word::Broadcast(payload(4 << 20)));
            outgoing.flush(1);
        }
        assert!(outgoing.is_full());
        let (words, bytes) = peers.queue.try_recv().unwrap();
        assert!(peers.lying.remove(words.len(), bytes) && !outgoing.is_full(), "the core is told");
        while let Ok((words, bytes)) = peers.queue.try_recv() {
            assert!(!peers.lying.remove(words.len(), bytes), "once");
        }
        for _ in 0..=WORDS_MAX {
            outgoing
                .say(Word::Send(AuthorityIndex(1), PeerMessage::Fetch(FetchRequest::Latest { nonce: 1 })));
        }
        outgoing.flush(2);
        assert!(outgoing.is_full());
    }
}
