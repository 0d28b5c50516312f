//! Messages between hosts: each is encoded, decoded and verified once, and then shared by all that receive it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::committee::Committee;
use crate::dag::VerifiedHeader;
use crate::error::PeerError;
use crate::node::{CertifiedCommits, Input};
use crate::types::{
    AuthorityIndex, BlockDigest, BlockRef, FetchRequest, Payload, PeerMessage, Round, SIGNATURE_BYTES,
    SignedHeader, frame_head,
};

/// Verified headers that are remembered. Those of the lowest rounds go first.
const HEADERS_MAX: usize = 16_384;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Letter {
    /// What it says, unless nobody can read it.
    pub(super) message: Option<PeerMessage>,
    opened: Result<Opened, PeerError>,
}

/// What a receiver makes of a message before its node gets to see it.
#[derive(Debug)]
enum Opened {
    Headers(Vec<VerifiedHeader>),
    Payload { block: BlockRef, payload: Arc<Payload> },
    Latest { nonce: u64, header: Option<VerifiedHeader> },
    Commits(Arc<CertifiedCommits>),
    Fetch(FetchRequest),
}

impl Letter {
    /// What the node of the receiver is told.
    pub(super) fn input(&self, from: AuthorityIndex) -> Result<Input, &PeerError> {
        Ok(match self.opened.as_ref()? {
            Opened::Headers(headers) => Input::Headers { from, headers: headers.clone() },
            Opened::Payload { block, payload } => {
                Input::Payload { from, block: *block, payload: Arc::clone(payload) }
            }
            Opened::Latest { nonce, header } => Input::Latest { from, nonce: *nonce, header: header.clone() },
            Opened::Commits(commits) => Input::Commits { from, commits: Arc::clone(commits) },
            Opened::Fetch(request) => Input::Fetch { from, request: request.clone() },
        })
    }

    /// What a trace says of it.
    pub(super) fn describe(&self) -> String {
        match &self.opened {
            Ok(Opened::Headers(headers)) => {
                let shown: Vec<String> =
                    headers.iter().take(4).map(|header| header.reference().to_string()).collect();
                format!("{} headers: {}", headers.len(), shown.join(" "))
            }
            Ok(Opened::Payload { block, payload }) => {
                format!("payload of {block}: {} transactions", payload.len())
            }
            Ok(Opened::Latest { header, .. }) => {
                format!("latest own header: {:?}", header.as_ref().map(|header| header.reference()))
            }
            Ok(Opened::Commits(commits)) => format!("{} certified commits", commits.commits().len()),
            Ok(Opened::Fetch(request)) => format!("{request:?}"),
            Err(error) => format!("nonsense: {error}"),
        }
    }

    /// Headers in it.
    pub(super) fn headers(&self) -> &[VerifiedHeader] {
        match &self.opened {
            Ok(Opened::Headers(headers)) => headers,
            Ok(Opened::Latest { header, .. }) => header.as_slice(),
            Ok(Opened::Payload { .. } | Opened::Commits(_) | Opened::Fetch(_)) | Err(_) => &[],
        }
    }
}

/// Encodes, decodes and verifies. What was verified once is not verified again: the verdict depends on the bytes alone.
#[derive(Debug)]
pub(super) struct PostOffice {
    committee: Arc<Committee>,
    verified: BTreeMap<(Round, BlockDigest, [u8; SIGNATURE_BYTES]), VerifiedHeader>,
}

impl PostOffice {
    pub(super) fn new(committee: Committee) -> Self {
        Self { committee: Arc::new(committee), verified: BTreeMap::new() }
    }

    pub(super) fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// A message, through its encoding.
    pub(super) fn letter(&mut self, message: &PeerMessage) -> Arc<Letter> {
        let frame = message.encode();
        let head: [u8; 5] = std::array::from_fn(|i| frame.head[i]);
        let (kind, _) =
            frame_head(head).unwrap_or_else(|error| panic!("a frame that was built is refused: {error}"));
        let body = if frame.head.len() == head.len() {
            frame.tail
        } else {
            let mut body = frame.head[head.len()..].to_vec();
            body.extend_from_slice(&frame.tail);
            body.into()
        };
        self.frame(kind, body)
    }

    /// A frame, whoever built it.
    pub(super) fn frame(&mut self, kind: u8, body: Bytes) -> Arc<Letter> {
        // As a reader does: the head is judged before there is a body.
        let [a, b, c, d] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let read = frame_head([a, b, c, d, kind]).and_then(|_| PeerMessage::decode(kind, body));
        Arc::new(match read {
            Ok(message) => {
                let opened = self.open(&message);
                Letter { message: Some(message), opened }
            }
            Err(error) => Letter { message: None, opened: Err(error) },
        })
    }

    fn open(&mut self, message: &PeerMessage) -> Result<Opened, PeerError> {
        Ok(match message {
            PeerMessage::Header(header) => Opened::Headers(vec![self.verify(header)?]),
            PeerMessage::Headers(headers) => {
                Opened::Headers(headers.iter().map(|header| self.verify(header)).collect::<Result<_, _>>()?)
            }
            PeerMessage::Payload { block, bytes } => {
                let malformed = |source| PeerError::Malformed { what: "payload", source };
                let payload = Arc::new(Payload::decode(bytes.clone()).map_err(malformed)?);
                Opened::Payload { block: *block, payload }
            }
            PeerMessage::Latest { nonce, header } => {
                let header = header.as_ref().map(|header| self.verify(header));
                Opened::Latest { nonce: *nonce, header: header.transpose()? }
            }
            PeerMessage::Commits { commits, certificate } => {
                let committee = Arc::clone(&self.committee);
                let verify = |header: &SignedHeader| self.verify(header);
                Opened::Commits(Arc::new(CertifiedCommits::open(&committee, commits, certificate, verify)?))
            }
            PeerMessage::Fetch(request) => Opened::Fetch(request.clone()),
        })
    }

    /// Forgets headers that nobody sends any more.
    pub(super) fn forget_below(&mut self, round: Round) {
        let first = (round, BlockDigest::default(), [0; SIGNATURE_BYTES]);
        self.verified = self.verified.split_off(&first);
    }

    fn verify(&mut self, header: &SignedHeader) -> Result<VerifiedHeader, PeerError> {
        let block = header.reference();
        let key = (block.round, block.digest, *header.signature());
        if let Some(known) = self.verified.get(&key) {
            return Ok(known.clone());
        }
        let verified = VerifiedHeader::verify(&self.committee, header.clone())?;
        if self.verified.len() == HEADERS_MAX {
            self.verified.pop_first();
        }
        self.verified.insert(key, verified.clone());
        Ok(verified)
    }
}
