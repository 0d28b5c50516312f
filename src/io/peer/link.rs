//! Sending to one connected peer: a bounded queue and a writer for each class of frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, VarInt, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{PathStats, PeerLimits};
use crate::types::{Frame, FrameClass};

/// Payloads up to this length do not wait behind larger ones.
pub(super) const SMALL_PAYLOAD_BYTES: usize = 4 << 10;

/// What was counted about one peer.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) misbehaved: AtomicU64,
    pub(super) sent_frames: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_frames: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) dropped: [AtomicU64; FrameClass::ALL.len()],
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// A frame that was encoded once and is shared by all peers that it goes to.
#[derive(Debug, Clone)]
pub(super) struct WireFrame {
    pub(super) class: FrameClass,
    len: usize,
    head: Bytes,
    tail: Bytes,
}

impl From<Frame> for WireFrame {
    fn from(frame: Frame) -> Self {
        Self { class: frame.class(), len: frame.wire_len(), head: frame.head.into(), tail: frame.tail }
    }
}

/// A frame in a queue, with its share of the queue's bytes.
struct Queued {
    frame: WireFrame,
    _bytes: OwnedSemaphorePermit,
}

struct Queue {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

/// The queues to one connection. They go with it: what was not sent is stale on the next one.
pub(super) struct Link {
    connection: Connection,
    queues: [Queue; FrameClass::ALL.len()],
}

impl Link {
    /// Makes the queues and starts their writers on `tasks`.
    pub(super) fn start(
        connection: &Connection,
        limits: &PeerLimits,
        counters: &Arc<Counters>,
        tasks: &mut JoinSet<Result<(), ConnectionError>>,
    ) -> Self {
        let queues = FrameClass::ALL.map(|class| {
            let (frames, waiting) = mpsc::channel(limits.queue_frames);
            let bytes = Arc::new(Semaphore::new(limits.queue_bytes));
            tasks.spawn(write_frames(connection.clone(), waiting, priority(class), counters.clone()));
            Queue { frames, bytes }
        });
        Self { connection: connection.clone(), queues }
    }

    /// Closes the connection for a rule that the peer broke.
    pub(super) fn close(&self, reason: &str) {
        self.connection.close(VarInt::from_u32(super::close::MISBEHAVED), reason.as_bytes());
    }

    /// What QUIC knows of the line.
    pub(super) fn path(&self) -> PathStats {
        let path = self.connection.stats().path;
        PathStats {
            rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            window: path.cwnd,
            mtu: path.current_mtu.into(),
            lost_packets: path.lost_packets,
        }
    }

    /// Queues a frame, or says that it does not fit.
    pub(super) fn send(&self, frame: WireFrame) -> bool {
        // A small payload follows its header on the same way, and they leave in one packet.
        let small = frame.class == FrameClass::Payload && frame.len <= SMALL_PAYLOAD_BYTES;
        let class = if small { FrameClass::Small } else { frame.class };
        let queue = &self.queues[class as usize];
        let Ok(len) = u32::try_from(frame.len) else { return false };
        let Ok(bytes) = queue.bytes.clone().try_acquire_many_owned(len) else { return false };
        queue.frames.try_send(Queued { frame, _bytes: bytes }).is_ok()
    }
}

/// Rounds wait for headers, so they overtake what else is being sent.
fn priority(class: FrameClass) -> i32 {
    match class {
        FrameClass::Small => 2,
        FrameClass::Payload => 1,
        FrameClass::Answer => 0,
    }
}

/// Sends each frame on a stream of its own, so that a lost packet delays its own frame only.
async fn write_frames(
    connection: Connection,
    mut waiting: mpsc::Receiver<Queued>,
    priority: i32,
    counters: Arc<Counters>,
) -> Result<(), ConnectionError> {
    while let Some(Queued { frame, _bytes }) = waiting.recv().await {
        let mut stream = connection.open_uni().await?;
        // Fails only if the stream is closed, which the write then says.
        let _ = stream.set_priority(priority);
        match stream.write_all_chunks(&mut [frame.head, frame.tail]).await {
            Ok(()) => {
                let _ = stream.finish();
                Counters::add(&counters.sent_frames, 1);
                Counters::add(&counters.sent_bytes, frame.len as u64);
            }
            Err(WriteError::ConnectionLost(error)) => return Err(error),
            // The peer does not want this frame.
            Err(WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected) => {}
        }
    }
    Ok(())
}
