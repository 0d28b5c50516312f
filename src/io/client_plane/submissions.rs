//! The submissions of one client as they come in: all that are here are read together, and handed on together.

use bytes::{Buf as _, Bytes, BytesMut};
use quinn::RecvStream;

use super::server::End;
use crate::codec::DecodeError;
use crate::error::PeerError;
use crate::types::{FRAME_HEAD_BYTES, SUBMIT_FRAME, Submit, client_frame_limit};

/// Parts that are taken off the stream at a time: what came in one packet each, or several of them that waited together. The
/// stream's window bounds their bytes.
const READ_CHUNKS: usize = 32;

/// What a client has sent and nobody has taken.
#[derive(Default)]
struct Unread(BytesMut);

impl Unread {
    /// The next frame, if it is here as a whole. An error stays where it is: it is met again.
    fn take(&mut self) -> Result<Option<Submit>, PeerError> {
        let Some([a, b, c, d, kind]) = self.0.first_chunk::<FRAME_HEAD_BYTES>().copied() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        check_head(kind, len)?;
        let Some(body) = self.0.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + len) else { return Ok(None) };
        // Copied: a slice would keep alive all that came with it, for as long as the transaction waits.
        let submit = Submit::decode(Bytes::copy_from_slice(body))
            .map_err(|source| PeerError::Malformed { what: "submission", source })?;
        self.0.advance(FRAME_HEAD_BYTES + len);
        Ok(Some(submit))
    }

    /// The stream has ended: in the middle of a frame, or as it should.
    fn end(&self) -> End {
        let got = self.0.len();
        let missing = match self.0.first_chunk::<FRAME_HEAD_BYTES>() {
            None if got == 0 => return End::Done,
            None => FRAME_HEAD_BYTES - got,
            Some([a, b, c, d, _]) => FRAME_HEAD_BYTES + u32::from_be_bytes([*a, *b, *c, *d]) as usize - got,
        };
        let source = DecodeError::Truncated { what: "frame", at: got, missing };
        End::Misbehaved(PeerError::Malformed { what: "frame", source })
    }
}

/// Refuses a frame by its first bytes, before any of its body is kept.
fn check_head(kind: u8, len: usize) -> Result<(), PeerError> {
    match client_frame_limit(kind) {
        None => Err(PeerError::UnknownFrame(kind)),
        Some(_) if kind != SUBMIT_FRAME => Err(PeerError::Unsolicited("a reply")),
        Some(limit) if len > limit => Err(PeerError::FrameTooLarge { kind, len, limit }),
        Some(_) => Ok(()),
    }
}

/// Reads a client's stream behind its hello.
pub(super) struct Submissions {
    stream: RecvStream,
    unread: Unread,
}

impl Submissions {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, unread: Unread::default() }
    }

    /// Waits until at least one is here; takes those that are, at most `most`.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<Submit>, End> {
        let mut taken = Vec::new();
        loop {
            while taken.len() < most {
                match self.unread.take() {
                    Ok(Some(submit)) => taken.push(submit),
                    Ok(None) => break,
                    Err(_met_again) if !taken.is_empty() => break,
                    Err(error) => return Err(End::Misbehaved(error)),
                }
            }
            if !taken.is_empty() {
                return Ok(taken);
            }
            let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
            match self.stream.read_chunks(&mut chunks).await {
                Ok(Some(n)) => chunks[..n].iter().for_each(|chunk| self.unread.0.extend_from_slice(chunk)),
                Ok(None) => return Err(self.unread.end()),
                // Reset, or the connection is gone: nobody is to blame.
                Err(_lost) => return Err(End::Done),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn unread(bytes: &[u8]) -> Unread {
        Unread(BytesMut::from(bytes))
    }

    #[test]
    fn frames_are_taken_whole_however_they_are_cut() {
        let sent: Vec<Submit> = (0_u8..9)
            .map(|n| Submit { request: n.into(), tx: vec![n; 50 * usize::from(n)].into() })
            .collect();
        let mut bytes = Vec::new();
        sent.iter().for_each(|submit| submit.encode_into(&mut bytes));
        for step in [1, 3, 64, 10_000] {
            let (mut unread, mut taken) = (Unread::default(), Vec::new());
            for part in bytes.chunks(step) {
                unread.0.extend_from_slice(part);
                taken.extend(std::iter::from_fn(|| unread.take().unwrap()));
            }
            assert!(taken == sent && matches!(unread.end(), End::Done), "{step}");
        }
    }

    #[test]
    fn an_end_within_a_frame_tells_what_is_missing() {
        let mut bytes = Vec::new();
        Submit { request: 1, tx: vec![7; 20].into() }.encode_into(&mut bytes);
        for got in 1..bytes.len() {
            let mut unread = unread(&bytes[..got]);
            assert!(unread.take().unwrap().is_none());
            let missing = if got < FRAME_HEAD_BYTES { FRAME_HEAD_BYTES - got } else { bytes.len() - got };
            let End::Misbehaved(PeerError::Malformed { source, .. }) = unread.end() else { panic!("{got}") };
            assert_eq!(source, DecodeError::Truncated { what: "frame", at: got, missing });
        }
    }

    #[test]
    fn a_head_is_refused_before_its_body_is_here() {
        let too_long = u32::MAX.to_be_bytes();
        for (kind, len) in [(SUBMIT_FRAME, too_long), (SUBMIT_FRAME + 1, [0; 4]), (99, [0; 4])] {
            let head = [&len[..], &[kind]].concat();
            let mut unread = unread(&head);
            assert!(unread.take().is_err() && unread.take().is_err(), "kind {kind}: met again");
        }
    }
}
