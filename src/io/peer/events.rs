//! From the tasks that read peers' streams to the one who handles what they say: a bounded queue for each peer, emptied in turn.
//! What takes long to handle can have a lane of its own, with queues and somebody who handles it.
//!
//! A peer that sends more than is handled fills its own queue; then its streams are not read, their credit is not renewed,
//! and it has to stop. The others do not notice.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::PeerEvent;
use super::link::SMALL_PAYLOAD_BYTES;
use crate::io::bell::Bell;
use crate::types::{AuthorityIndex, PeerMessage};

/// Headers of an answer that are handled as single ones are: what is relayed while somebody misses some.
const FEW_HEADERS: usize = 4;

/// Nobody handles events any more.
#[derive(Debug)]
pub(super) struct Closed;

/// The end of the tasks.
#[derive(Debug)]
pub struct PeerEventSender {
    quick: Lane,
    slow: Lane,
}

#[derive(Debug, Clone)]
struct Lane {
    queues: Vec<mpsc::Sender<PeerEvent>>,
    bell: Arc<Bell>,
}

/// The end of who handles them.
#[derive(Debug)]
pub struct PeerEvents {
    queues: Vec<mpsc::Receiver<PeerEvent>>,
    bell: Arc<Bell>,
    /// Whose turn it is.
    turn: usize,
}

/// Wakes who sleeps on [`PeerEvents`].
#[derive(Debug, Clone)]
pub struct PeerEventsWaker(Arc<Bell>);

impl PeerEventsWaker {
    /// Ends a sleep.
    pub fn wake(&self) {
        self.0.ring();
    }
}

/// Queues for the events of a committee of `peers`, each with room for `capacity`.
#[must_use]
pub fn peer_events(peers: usize, capacity: usize) -> (PeerEventSender, PeerEvents) {
    let (lane, events) = lane(peers, capacity);
    (PeerEventSender { quick: lane.clone(), slow: lane }, events)
}

/// The same, with a lane for what takes long: large payloads, and answers with many headers. First the other lane's events, then
/// that one's. Events of one peer keep their order in each lane, not between the two.
#[must_use]
pub fn peer_lanes(peers: usize, capacity: usize) -> (PeerEventSender, PeerEvents, PeerEvents) {
    let ((quick, quick_events), (slow, slow_events)) = (lane(peers, capacity), lane(peers, capacity));
    (PeerEventSender { quick, slow }, quick_events, slow_events)
}

fn lane(peers: usize, capacity: usize) -> (Lane, PeerEvents) {
    let bell = Arc::new(Bell::new(1));
    let (senders, queues) = (0..peers).map(|_| mpsc::channel(capacity)).unzip();
    (Lane { queues: senders, bell: Arc::clone(&bell) }, PeerEvents { queues, bell, turn: 0 })
}

/// Whether an event takes long to handle.
fn is_slow(event: &PeerEvent) -> bool {
    let PeerEvent::Message { message, .. } = event else { return false };
    match message {
        PeerMessage::Headers(headers) => headers.len() > FEW_HEADERS,
        PeerMessage::Commits { .. } => true,
        PeerMessage::Payload { bytes, .. } => bytes.len() > SMALL_PAYLOAD_BYTES,
        PeerMessage::Header(_) | PeerMessage::Fetch(_) | PeerMessage::Latest { .. } => false,
    }
}

impl PeerEventSender {
    /// Queues an event of a peer. Waits while its queue is full.
    pub(super) async fn send(&self, of: AuthorityIndex, event: PeerEvent) -> Result<(), Closed> {
        if is_slow(&event) { self.slow.send(of, event).await } else { self.quick.send(of, event).await }
    }
}

impl Lane {
    async fn send(&self, of: AuthorityIndex, event: PeerEvent) -> Result<(), Closed> {
        self.queues[of.as_usize()].send(event).await.map_err(|_event| Closed)?;
        self.bell.ring();
        Ok(())
    }
}

impl PeerEvents {
    /// The next event of the peer whose turn it is, or of the next that has one.
    pub fn try_next(&mut self) -> Option<PeerEvent> {
        self.try_next_of(|_peer| true)
    }

    /// The same, of those peers alone that `is_open` says.
    pub fn try_next_of(&mut self, is_open: impl Fn(usize) -> bool) -> Option<PeerEvent> {
        for _ in 0..self.queues.len() {
            let at = self.advance();
            if is_open(at)
                && let Ok(event) = self.queues[at].try_recv()
            {
                return Some(event);
            }
        }
        None
    }

    /// The next event; `None` once no more can come.
    pub async fn recv(&mut self) -> Option<PeerEvent> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        let mut closed = 0;
        for _ in 0..self.queues.len() {
            let at = self.advance();
            match self.queues[at].poll_recv(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                Poll::Ready(None) => closed += 1,
                Poll::Pending => {}
            }
        }
        if closed == self.queues.len() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn advance(&mut self) -> usize {
        let at = self.turn;
        self.turn = (at + 1) % self.queues.len();
        at
    }

    /// Sleeps until an event may have come or [`PeerEventsWaker::wake`] was called, at most `most`. `is_work` is looked at
    /// once more before.
    pub fn sleep(&self, most: Duration, is_work: impl FnOnce() -> bool) {
        let has_event = || self.queues.iter().any(|queue| !queue.is_empty());
        self.bell.sleep(0, Some(most), || is_work() || has_event());
    }

    /// For whoever has to end a sleep.
    #[must_use]
    pub fn waker(&self) -> PeerEventsWaker {
        PeerEventsWaker(Arc::clone(&self.bell))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::io::peer::ReceiveCredit;
    use crate::types::BlockRef;

    #[tokio::test]
    async fn a_peer_that_floods_delays_nobody_else() {
        let (sender, mut events) = peer_events(3, 4);
        let up = |peer| PeerEvent::Up { peer: AuthorityIndex(peer), version: 1 };
        for _ in 0..4 {
            sender.send(AuthorityIndex(0), up(0)).await.unwrap();
        }
        let full = sender.send(AuthorityIndex(0), PeerEvent::Down(AuthorityIndex(0)));
        assert!(tokio::time::timeout(Duration::ZERO, full).await.is_err(), "its own queue is full");
        sender.send(AuthorityIndex(2), up(2)).await.unwrap();
        let order: Vec<u16> = std::iter::from_fn(|| events.try_next())
            .map(|event| {
                let PeerEvent::Up { peer, .. } = event else { panic!("{event:?}") };
                peer.0
            })
            .collect();
        assert_eq!(order, [0, 2, 0, 0, 0]);
        drop(sender);
        assert!(events.recv().await.is_none());
    }

    #[tokio::test]
    async fn what_takes_long_waits_in_its_own_lane() {
        let (sender, mut quick, mut slow) = peer_lanes(2, 1);
        let payload = |len| PeerEvent::Message {
            from: AuthorityIndex(1),
            message: PeerMessage::Payload { block: BlockRef::default(), bytes: vec![0; len].into() },
            credit: ReceiveCredit::default(),
        };
        sender.send(AuthorityIndex(1), payload(SMALL_PAYLOAD_BYTES + 1)).await.unwrap();
        let full = sender.send(AuthorityIndex(1), payload(SMALL_PAYLOAD_BYTES + 1));
        assert!(
            tokio::time::timeout(Duration::ZERO, full).await.is_err(),
            "the lane of what takes long is full"
        );
        sender.send(AuthorityIndex(1), payload(SMALL_PAYLOAD_BYTES)).await.unwrap();
        let len = |event: Option<PeerEvent>| match event {
            Some(PeerEvent::Message { message: PeerMessage::Payload { bytes, .. }, .. }) => bytes.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(len(quick.recv().await), SMALL_PAYLOAD_BYTES);
        assert_eq!(len(slow.try_next()), SMALL_PAYLOAD_BYTES + 1);
        drop(sender);
        assert!(quick.recv().await.is_none() && slow.recv().await.is_none());
    }
}
