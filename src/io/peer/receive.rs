//! Receiving: one frame from one stream, its length checked before anything is allocated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream};
use tokio::sync::Semaphore;

use super::link::SMALL_PAYLOAD_BYTES;
use super::{PeerLimits, ReceiveCredit};
use crate::codec::DecodeError;
use crate::error::PeerError;
use crate::limits::PAYLOAD_TRANSACTIONS_MAX;
use crate::types::{FrameClass, HELLO, Hello, NetworkId, PeerMessage, frame_head};

/// What decoding makes of a transaction, beside its bytes: where it lies, its id, its verdict.
const SLOT_BYTES: usize = 48;
/// Least bytes of a transaction in a payload: its length.
const TRANSACTION_BYTES_MIN: usize = 4;
/// What decoding makes of the bytes of headers and commits, at most: their parts, ancestors, lists.
const DECODED_FACTOR: usize = 5;
/// What stands before a payload in its frame, at most.
const BLOCK_NAME_BYTES: usize = 64;
/// What a frame takes however short it is.
const FRAME_BYTES: usize = 256;

/// Room for what one peer sends. Small frames have their own, so that headers do not wait behind payloads.
pub(super) struct Budget {
    small: Room,
    large: Room,
}

struct Room {
    most: usize,
    free: Arc<Semaphore>,
}

impl Room {
    fn new(most: usize) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)) }
    }

    /// Waits until there are so many bytes; a frame that takes more than there ever are waits for all.
    async fn reserve(&self, bytes: usize) -> Result<ReceiveCredit, StreamEnd> {
        // A frame's limit is far below 32 bits.
        let bytes = u32::try_from(bytes.min(self.most)).unwrap_or(u32::MAX);
        let permit = self.free.clone().acquire_many_owned(bytes).await.map_err(|_closed| StreamEnd::Lost)?;
        Ok(ReceiveCredit { permit: Some(Arc::new(permit)) })
    }

    fn held(&self) -> usize {
        self.most.saturating_sub(self.free.available_permits())
    }
}

impl Budget {
    pub(super) fn new(limits: &PeerLimits) -> Self {
        Self { small: Room::new(limits.receive_small_bytes), large: Room::new(limits.receive_bytes) }
    }

    /// Bytes that are taken.
    pub(super) fn held(&self) -> usize {
        self.small.held() + self.large.held()
    }

    /// Waits until there is room for a frame and for what is made of it.
    async fn reserve(&self, kind: u8, len: usize) -> Result<ReceiveCredit, StreamEnd> {
        let class = FrameClass::of(kind);
        let room = match class {
            FrameClass::Small => &self.small,
            // As their sender has it: they do not wait behind large ones.
            FrameClass::Payload if len <= SMALL_PAYLOAD_BYTES + BLOCK_NAME_BYTES => &self.small,
            FrameClass::Payload | FrameClass::Answer => &self.large,
        };
        room.reserve(cost(class, len)).await
    }
}

/// Memory that a frame and what is made of it take, at most, with its place in queues.
pub(super) fn cost(class: FrameClass, len: usize) -> usize {
    let decoded = match class {
        FrameClass::Payload => len + SLOT_BYTES * (len / TRANSACTION_BYTES_MIN).min(PAYLOAD_TRANSACTIONS_MAX),
        FrameClass::Small | FrameClass::Answer => DECODED_FACTOR * len,
    };
    FRAME_BYTES + decoded
}

/// A body is allocated as its bytes come in: this much at first, then doubling up to its length.
const CHUNK_BYTES: usize = 64 << 10;

/// Time without a byte of a body after which its stream is given up, and with it the room that it holds: frames of one peer that wait
/// for each other's room and window would stand still for good. Who sent it is asked again. Longer than a handshake may take, whose end
/// is told otherwise.
pub(super) const STALLED: Duration = Duration::from_secs(8);

/// Why a stream did not give a frame.
#[derive(Debug)]
pub(super) enum StreamEnd {
    /// The sender reset the stream or the connection is gone. Nobody is to blame.
    Lost,
    /// The sender broke a rule.
    Misbehaved(PeerError),
}

impl From<PeerError> for StreamEnd {
    fn from(error: PeerError) -> Self {
        Self::Misbehaved(error)
    }
}

/// Reads the hello that has to be the first frame of a connection.
pub(super) async fn read_hello(
    stream: &mut RecvStream,
    network: NetworkId,
    version: u16,
) -> Result<Hello, StreamEnd> {
    let (kind, len) = read_head(stream).await?;
    let body = if kind == HELLO { read_body(stream, len).await? } else { Bytes::new() };
    Ok(Hello::check(kind, &body, network, version)?)
}

/// Reads and decodes the one frame of a stream. Waits until `budget` has room for its body.
pub(super) async fn read_message(
    stream: &mut RecvStream,
    budget: &Budget,
) -> Result<(PeerMessage, usize, ReceiveCredit), StreamEnd> {
    let (kind, len) = read_head(stream).await?;
    let credit = budget.reserve(kind, len).await?;
    let body = read_body(stream, len).await?;
    Ok((PeerMessage::decode(kind, body)?, len, credit))
}

async fn read_head(stream: &mut RecvStream) -> Result<(u8, usize), StreamEnd> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(got) => truncated(got, head.len() - got),
        ReadExactError::ReadError(error) => lost(&error),
    })?;
    Ok(frame_head(head)?)
}

/// Reads exactly `len` bytes and the end of the stream. They are copied together: a slice of the datagram would keep
/// the whole batch of datagrams alive that it was received with.
async fn read_body(stream: &mut RecvStream, len: usize) -> Result<Bytes, StreamEnd> {
    let mut body = Vec::new();
    loop {
        // It holds room that what stands still behind it may need, and the line's window with it.
        let read = tokio::time::timeout(STALLED, stream.read_chunk(CHUNK_BYTES, true)).await;
        let Some(chunk) = read.map_err(|_elapsed| StreamEnd::Lost)?.map_err(|error| lost(&error))? else {
            break;
        };
        let missing = len - body.len();
        if chunk.bytes.len() > missing {
            let extra = chunk.bytes.len() - missing;
            return Err(malformed(DecodeError::Trailing { at: 5 + len, extra }));
        }
        if body.capacity() - body.len() < chunk.bytes.len() {
            body.reserve_exact(room(len, body.len()));
        }
        body.extend_from_slice(&chunk.bytes);
    }
    if body.len() < len {
        return Err(truncated(5 + body.len(), len - body.len()));
    }
    Ok(body.into())
}

/// How much to allocate for a body of which `got` bytes have come: never more ahead than what came already, beyond the
/// first chunk, so that an announced length alone costs nothing.
fn room(len: usize, got: usize) -> usize {
    (len - got).min(got.max(CHUNK_BYTES))
}

fn truncated(at: usize, missing: usize) -> StreamEnd {
    malformed(DecodeError::Truncated { what: "frame", at, missing })
}

fn malformed(source: DecodeError) -> StreamEnd {
    StreamEnd::Misbehaved(PeerError::Malformed { what: "frame", source })
}

fn lost(error: &ReadError) -> StreamEnd {
    match error {
        ReadError::Reset(_)
        | ReadError::ConnectionLost(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => StreamEnd::Lost,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::dag::payload_held_bytes;
    use crate::limits::PAYLOAD_BYTES_MAX;
    use crate::types::Payload;

    #[test]
    fn a_frame_costs_at_least_what_decoding_it_makes() {
        // Transactions without bytes: the most that a payload of this length can hold.
        let bytes = Bytes::from(vec![0; 4 * PAYLOAD_TRANSACTIONS_MAX]);
        let payload = Payload::decode(bytes.clone()).unwrap();
        assert_eq!(payload.len(), PAYLOAD_TRANSACTIONS_MAX);
        assert!(cost(FrameClass::Payload, bytes.len()) >= payload_held_bytes(&payload));
        assert!(
            cost(FrameClass::Payload, PAYLOAD_BYTES_MAX + 64) < 6 << 20,
            "the least room of a peer takes any"
        );
        assert!(cost(FrameClass::Small, 0) > 0);
    }

    #[tokio::test]
    async fn credit_is_counted_until_its_last_share_is_gone() {
        let limits =
            PeerLimits { receive_bytes: 10_000, receive_small_bytes: 1_000, ..PeerLimits::default() };
        let budget = Budget::new(&limits);
        // A frame that costs more than there is takes all.
        let (payload, answer) = (kind(FrameClass::Payload), kind(FrameClass::Answer));
        let credit = budget.reserve(payload, 1 << 20).await.unwrap();
        assert_eq!((credit.bytes(), budget.held()), (10_000, 10_000));
        let share = credit.clone();
        drop(credit);
        let second = budget.reserve(answer, 10);
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, second).await.is_err(),
            "a share is still held"
        );
        let header = budget.reserve(kind(FrameClass::Small), 100).await.unwrap();
        assert_eq!(budget.held(), 10_000 + header.bytes(), "small frames have room of their own");
        drop(share);
        let answer = budget.reserve(answer, 10).await.unwrap();
        assert_eq!(budget.held(), header.bytes() + answer.bytes());
        // Small payloads do not wait behind large ones either, as their sender has it.
        drop((header, answer));
        let all = budget.reserve(payload, 1 << 20).await.unwrap();
        let small = budget.reserve(payload, BLOCK_NAME_BYTES + 4).await.unwrap();
        assert_eq!((all.bytes(), budget.held()), (10_000, 10_000 + small.bytes()));
        drop((all, small));
        assert_eq!(budget.held(), 0);
    }

    /// A frame type of a class.
    fn kind(class: FrameClass) -> u8 {
        (0..=u8::MAX).find(|kind| FrameClass::of(*kind) == class).unwrap()
    }

    #[test]
    fn a_body_is_not_allocated_ahead_of_its_bytes() {
        assert_eq!(room(4 << 20, 0), CHUNK_BYTES);
        assert_eq!(room(4 << 20, CHUNK_BYTES), CHUNK_BYTES);
        assert_eq!(room(4 << 20, 1 << 20), 1 << 20);
        assert_eq!(room(100, 0), 100);
        assert_eq!(room(100, 60), 40);
    }
}
