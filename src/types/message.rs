//! What validators say to each other: one frame for each message, `len4 type1 body`.

use bytes::Bytes;

use super::{
    BLOCK_REF_BYTES, BlockRef, CommitIndex, NetworkId, Round, SignedHeader, put_block_ref, read_block_ref,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::PeerError;
use crate::limits::{
    ANCESTORS_MAX, CERTIFICATE_BYTES_MAX, FETCH_ANSWER_BYTES_MAX, FETCH_COMMITS_MAX, FETCH_REFS_MAX,
    FETCH_ROUNDS_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, PEER_FRAME_BYTES_MAX,
};

/// Newest version of the protocol between validators. Two of them speak the newest that both know: TLS negotiates it by
/// ALPN, and the hello says it again.
pub const PROTOCOL_VERSION: u16 = 2;
/// Oldest version that is still spoken: no frames and no headers beyond those of version 1.
pub const PROTOCOL_VERSION_OLDEST: u16 = 1;

/// Type byte of [`Hello`].
pub(crate) const HELLO: u8 = 1;
const HEADER: u8 = 2;
const PAYLOAD: u8 = 3;
const FETCH_HEADERS: u8 = 4;
const FETCH_PAYLOADS: u8 = 5;
const FETCH_RANGE: u8 = 6;
const HEADERS: u8 = 7;
const FETCH_LATEST: u8 = 8;
const LATEST: u8 = 9;
const FETCH_COMMITS: u8 = 10;
const COMMITS: u8 = 11;

/// First frame in each direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Version that the sender speaks on this connection.
    pub version: u16,
    /// Its network.
    pub network: NetworkId,
}

/// A message between validators, decoded; headers in it are not verified yet.
#[derive(Debug, Clone)]
pub enum PeerMessage {
    /// A new block's header.
    Header(SignedHeader),
    /// A block's payload: pushed after its header, or as answer to [`FetchRequest::Payloads`].
    Payload {
        /// The block.
        block: BlockRef,
        /// Encoded payload, not looked into yet.
        bytes: Bytes,
    },
    /// Asks for something.
    Fetch(FetchRequest),
    /// Answer to [`FetchRequest::Headers`] and [`FetchRequest::Range`], in ascending order of round.
    Headers(Vec<SignedHeader>),
    /// Answer to [`FetchRequest::Latest`]. Version 2.
    Latest {
        /// That of the request.
        nonce: u64,
        /// The sender's last own header; `None` if its key has never signed one.
        header: Option<SignedHeader>,
    },
    /// Answer to [`FetchRequest::Commits`]. Version 2.
    Commits {
        /// Commit records, not looked into yet; none if the sender has nothing that is certified.
        commits: Vec<Bytes>,
        /// Headers of a quorum that vote for the last of them.
        certificate: Vec<SignedHeader>,
    },
}

/// What one validator asks another for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchRequest {
    /// These headers, at most [`FETCH_REFS_MAX`].
    Headers(Vec<BlockRef>),
    /// These payloads, at most [`FETCH_REFS_MAX`].
    Payloads(Vec<BlockRef>),
    /// All headers of the rounds from `from` on, at most `rounds` ≤ [`FETCH_ROUNDS_MAX`] rounds.
    Range {
        /// First round.
        from: Round,
        /// Number of rounds.
        rounds: u64,
    },
    /// The last header that the other made itself: a validator that lost its log finds out where it may go on. Version 2.
    Latest {
        /// Comes back with the answer, so that one to an earlier request does not pass for it.
        nonce: u64,
    },
    /// The commits behind this one, up to one that is certified. Version 2.
    Commits {
        /// The last commit that the asker has.
        after: CommitIndex,
    },
}

/// An encoded frame. The tail shares the bytes of a payload.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Length, type and the first part of the body.
    pub head: Vec<u8>,
    /// Rest of the body.
    pub tail: Bytes,
}

/// What a frame has to wait behind: each class has a queue of its own for each peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameClass {
    /// Headers and requests: small, and what rounds wait for.
    Small,
    /// Payloads.
    Payload,
    /// Answers to requests for headers and commits.
    Answer,
}

impl FrameClass {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::Small, Self::Payload, Self::Answer];

    /// The class of a frame type.
    #[must_use]
    pub fn of(kind: u8) -> Self {
        match kind {
            PAYLOAD => Self::Payload,
            HEADERS | COMMITS => Self::Answer,
            _ => Self::Small,
        }
    }

    /// Name as metrics and logs write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Payload => "payload",
            Self::Answer => "answer",
        }
    }
}

impl Frame {
    /// What the frame has to wait behind.
    #[must_use]
    pub fn class(&self) -> FrameClass {
        FrameClass::of(self.head[4])
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// Largest body of a frame type; `None` for a type that is not known. Checked before the body is read or allocated.
#[must_use]
pub fn frame_limit(kind: u8) -> Option<usize> {
    match kind {
        HELLO => Some(10),
        HEADER => Some(HEADER_BYTES_MAX),
        PAYLOAD => Some(PEER_FRAME_BYTES_MAX),
        FETCH_HEADERS | FETCH_PAYLOADS => Some(2 + FETCH_REFS_MAX * BLOCK_REF_BYTES),
        FETCH_RANGE => Some(16),
        FETCH_LATEST | FETCH_COMMITS => Some(8),
        LATEST => Some(8 + HEADER_BYTES_MAX),
        HEADERS => Some(FETCH_ANSWER_BYTES_MAX + HEADER_BYTES_MAX),
        COMMITS => Some(FETCH_ANSWER_BYTES_MAX + CERTIFICATE_BYTES_MAX),
        _ => None,
    }
}

/// Reads the 5 bytes in front of a frame's body: (type, length of the body). Refuses unknown types and lengths over
/// the type's limit.
pub fn frame_head(head: [u8; 5]) -> Result<(u8, usize), PeerError> {
    let [a, b, c, d, kind] = head;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let limit = frame_limit(kind).ok_or(PeerError::UnknownFrame(kind))?;
    if len > limit {
        return Err(PeerError::FrameTooLarge { kind, len, limit });
    }
    Ok((kind, len))
}

fn frame(kind: u8, body: &[u8], tail: Bytes) -> Frame {
    let mut head = Vec::with_capacity(5 + body.len());
    head.put_len_u32(body.len() + tail.len());
    head.put_u8(kind);
    head.put_bytes(body);
    Frame { head, tail }
}

impl Hello {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Frame {
        let mut body = Vec::with_capacity(10);
        body.put_u16(self.version);
        body.put_bytes(&self.network.0);
        frame(HELLO, &body, Bytes::new())
    }

    /// Decodes a frame's body that has to be a hello, and checks that it is of the version and network expected.
    pub fn check(kind: u8, body: &[u8], network: NetworkId, version: u16) -> Result<Self, PeerError> {
        if kind != HELLO {
            return Err(PeerError::Unsolicited("a frame before the hello"));
        }
        let hello = Self::decode(body).map_err(|source| PeerError::Malformed { what: "hello", source })?;
        if hello.version != version {
            return Err(PeerError::WrongVersion { found: hello.version, expected: version });
        }
        if hello.network != network {
            return Err(PeerError::WrongNetwork { found: hello.network, expected: network });
        }
        Ok(hello)
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let hello = Self { version: r.u16("hello version")?, network: NetworkId(r.array("hello network")?) };
        r.finish()?;
        Ok(hello)
    }
}

impl PeerMessage {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Frame {
        match self {
            Self::Header(header) => frame(HEADER, &[], header.bytes().clone()),
            Self::Payload { block, bytes } => {
                let mut body = Vec::with_capacity(BLOCK_REF_BYTES);
                put_block_ref(&mut body, block);
                frame(PAYLOAD, &body, bytes.clone())
            }
            Self::Fetch(FetchRequest::Headers(refs)) => {
                frame(FETCH_HEADERS, &encode_refs(refs), Bytes::new())
            }
            Self::Fetch(FetchRequest::Payloads(refs)) => {
                frame(FETCH_PAYLOADS, &encode_refs(refs), Bytes::new())
            }
            Self::Fetch(FetchRequest::Range { from, rounds }) => {
                let mut body = Vec::with_capacity(16);
                body.put_u64(from.0);
                body.put_u64(*rounds);
                frame(FETCH_RANGE, &body, Bytes::new())
            }
            Self::Fetch(FetchRequest::Latest { nonce }) => {
                frame(FETCH_LATEST, &nonce.to_be_bytes(), Bytes::new())
            }
            Self::Fetch(FetchRequest::Commits { after }) => {
                frame(FETCH_COMMITS, &after.0.to_be_bytes(), Bytes::new())
            }
            Self::Commits { commits, certificate } => {
                let mut body = Vec::new();
                body.put_len_u16(commits.len());
                let headers = certificate.iter().map(|header| header.bytes());
                for part in commits.iter().chain(headers) {
                    body.put_len_u32(part.len());
                    body.put_bytes(part);
                }
                frame(COMMITS, &body, Bytes::new())
            }
            Self::Latest { nonce, header } => {
                let tail = header.as_ref().map_or_else(Bytes::new, |header| header.bytes().clone());
                frame(LATEST, &nonce.to_be_bytes(), tail)
            }
            Self::Headers(headers) => {
                let mut body = Vec::new();
                for header in headers {
                    body.put_len_u32(header.bytes().len());
                    body.put_bytes(header.bytes());
                }
                frame(HEADERS, &body, Bytes::new())
            }
        }
    }

    /// Decodes the body of a frame that passed [`frame_head`].
    pub fn decode(kind: u8, body: Bytes) -> Result<Self, PeerError> {
        let malformed = |what| move |source| PeerError::Malformed { what, source };
        match kind {
            HELLO => Err(PeerError::Unsolicited("a second hello")),
            HEADER => Ok(Self::Header(SignedHeader::decode(body).map_err(malformed("header"))?)),
            PAYLOAD => {
                let mut r = Reader::new(&body);
                let block = read_block_ref(&mut r).map_err(malformed("payload"))?;
                let bytes = body.slice(r.position()..);
                if bytes.len() > PAYLOAD_BYTES_MAX {
                    let (value, limit) = (bytes.len() as u64, PAYLOAD_BYTES_MAX as u64);
                    return Err(malformed("payload")(DecodeError::TooLarge {
                        what: "payload",
                        value,
                        limit,
                    }));
                }
                Ok(Self::Payload { block, bytes })
            }
            FETCH_HEADERS => Ok(Self::Fetch(FetchRequest::Headers(
                decode_refs(&body).map_err(malformed("header request"))?,
            ))),
            FETCH_PAYLOADS => Ok(Self::Fetch(FetchRequest::Payloads(
                decode_refs(&body).map_err(malformed("payload request"))?,
            ))),
            FETCH_RANGE => Ok(Self::Fetch(decode_range(&body).map_err(malformed("range request"))?)),
            FETCH_LATEST => {
                let mut r = Reader::new(&body);
                let nonce = r.u64("nonce").and_then(|nonce| r.finish().map(|()| nonce));
                let nonce = nonce.map_err(malformed("request for the latest header"))?;
                Ok(Self::Fetch(FetchRequest::Latest { nonce }))
            }
            LATEST => {
                let nonce = Reader::new(&body).u64("nonce").map_err(malformed("latest header"))?;
                let rest = body.slice(8..);
                let header = (!rest.is_empty()).then(|| SignedHeader::decode(rest)).transpose();
                Ok(Self::Latest { nonce, header: header.map_err(malformed("latest header"))? })
            }
            FETCH_COMMITS => {
                let mut r = Reader::new(&body);
                let after = r.u64("commit index").and_then(|after| r.finish().map(|()| after));
                let after = CommitIndex(after.map_err(malformed("request for commits"))?);
                Ok(Self::Fetch(FetchRequest::Commits { after }))
            }
            COMMITS => decode_commits(&body).map_err(malformed("commits")),
            HEADERS => Ok(Self::Headers(decode_headers(&body, usize::MAX).map_err(malformed("headers"))?)),
            other => Err(PeerError::UnknownFrame(other)),
        }
    }
}

fn encode_refs(refs: &[BlockRef]) -> Vec<u8> {
    assert!(refs.len() <= FETCH_REFS_MAX, "a request for {} blocks was built", refs.len());
    let mut body = Vec::with_capacity(2 + refs.len() * BLOCK_REF_BYTES);
    body.put_len_u16(refs.len());
    for block in refs {
        put_block_ref(&mut body, block);
    }
    body
}

fn decode_refs(body: &[u8]) -> Result<Vec<BlockRef>, DecodeError> {
    let mut r = Reader::new(body);
    let n = r.bounded_u16("reference count", FETCH_REFS_MAX)?;
    let refs = (0..n).map(|_| read_block_ref(&mut r)).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(refs)
}

fn decode_range(body: &[u8]) -> Result<FetchRequest, DecodeError> {
    let mut r = Reader::new(body);
    let from = Round(r.u64("first round")?);
    let rounds = r.u64("round count")?;
    if rounds > FETCH_ROUNDS_MAX {
        return Err(DecodeError::TooLarge { what: "round count", value: rounds, limit: FETCH_ROUNDS_MAX });
    }
    r.finish()?;
    Ok(FetchRequest::Range { from, rounds })
}

fn decode_commits(body: &Bytes) -> Result<PeerMessage, DecodeError> {
    let mut r = Reader::new(body);
    let n = r.bounded_u16("commit count", FETCH_COMMITS_MAX)?;
    let mut commits = Vec::with_capacity(n);
    for _ in 0..n {
        let len = r.bounded("commit length", FETCH_ANSWER_BYTES_MAX)?;
        let start = r.position();
        r.take("commit", len)?;
        commits.push(body.slice(start..start + len));
    }
    let certificate = decode_headers(&body.slice(r.position()..), ANCESTORS_MAX)?;
    Ok(PeerMessage::Commits { commits, certificate })
}

/// Headers up to the end of the body, `most` of them: as many as an answer has room for, or one for each validator.
fn decode_headers(body: &Bytes, most: usize) -> Result<Vec<SignedHeader>, DecodeError> {
    let mut r = Reader::new(body);
    let mut headers = Vec::new();
    while r.remaining() > 0 {
        if headers.len() == most {
            let (value, limit) = (most as u64 + 1, most as u64);
            return Err(DecodeError::TooLarge { what: "headers of an answer", value, limit });
        }
        let len = r.bounded("header length", HEADER_BYTES_MAX)?;
        let start = r.position();
        r.take("header", len)?;
        headers.push(SignedHeader::decode(body.slice(start..start + len))?);
    }
    Ok(headers)
}
