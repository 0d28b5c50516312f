//! Receiving: one frame from one stream, its length checked before anything is allocated.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ReceiveCredit;
use crate::codec::DecodeError;
use crate::error::PeerError;
use crate::types::{FrameClass, HELLO, Hello, NetworkId, PeerMessage, frame_head};

/// A body is allocated as its bytes come in: this much at first, then doubling up to its length.
const CHUNK_BYTES: usize = 64 << 10;

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

/// Reads and decodes the one frame of a stream. Waits until `budget` has room for a large body.
pub(super) async fn read_message(
    stream: &mut RecvStream,
    budget: &Arc<Semaphore>,
) -> Result<(PeerMessage, usize, ReceiveCredit), StreamEnd> {
    let (kind, len) = read_head(stream).await?;
    let permit = match FrameClass::of(kind) {
        // Bounded by their own limit times the number of streams.
        FrameClass::Small => None,
        FrameClass::Payload | FrameClass::Answer => Some(reserve(budget, len).await?),
    };
    let body = read_body(stream, len).await?;
    Ok((PeerMessage::decode(kind, body)?, len, ReceiveCredit { _permit: permit }))
}

async fn reserve(budget: &Arc<Semaphore>, len: usize) -> Result<OwnedSemaphorePermit, StreamEnd> {
    // A frame's limit is far below 32 bits.
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    budget.clone().acquire_many_owned(len).await.map_err(|_closed| StreamEnd::Lost)
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
    while let Some(chunk) = stream.read_chunk(CHUNK_BYTES, true).await.map_err(|error| lost(&error))? {
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
    use super::*;

    #[test]
    fn a_body_is_not_allocated_ahead_of_its_bytes() {
        assert_eq!(room(4 << 20, 0), CHUNK_BYTES);
        assert_eq!(room(4 << 20, CHUNK_BYTES), CHUNK_BYTES);
        assert_eq!(room(4 << 20, 1 << 20), 1 << 20);
        assert_eq!(room(100, 0), 100);
        assert_eq!(room(100, 60), 40);
    }
}
