//! Byzantine validators: whole honest nodes whose mail passes through somebody who holds their keys.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;

use super::byzantine::Lies;
use super::random::Random;
use crate::committee::Committee;
use crate::crypto::SecretKey;
use crate::types::{PeerMessage, TimestampMs};

/// What an interceptor sees of the world, and what it may use.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// Simulated time.
    pub(super) now_us: u64,
    /// What its validator's clock shows.
    pub(super) wall: TimestampMs,
    /// Which host it sits on.
    pub(super) host: usize,
    /// Number of hosts.
    pub(super) hosts: usize,
    pub(super) committee: &'a Committee,
    /// The key that its validator signs headers with.
    pub(super) key: &'a SecretKey,
    /// The key that it cosigns checkpoints with.
    pub(super) cosign_key: &'a SecretKey,
    /// Origin line of the network's checkpoints.
    pub(super) origin: &'a str,
    pub(super) random: &'a mut Random,
}

/// Something that a Byzantine validator puts on the wire.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "they live for as long as it takes to send them")]
pub(super) enum Outgoing {
    /// A well-formed message, whatever it says.
    Message(PeerMessage),
    /// A frame's type and body, well-formed or not.
    Frame { kind: u8, body: Bytes },
}

/// Rewrites the mail of one host. The host is Byzantine then: no checker looks at it, and it may be blamed.
pub(super) trait Intercept: Debug {
    /// What leaves instead of `message` to `to`, and to whom.
    fn outgoing(&mut self, view: &mut View<'_>, to: usize, message: PeerMessage) -> Vec<(usize, Outgoing)>;

    /// Whether what arrived from `from` reaches the node.
    fn incoming(&mut self, _view: &mut View<'_>, _from: usize, _message: &PeerMessage) -> bool {
        true
    }

    /// How often it did what.
    fn lies(&self) -> Lies {
        Lies::new()
    }

    /// What it sends of its own accord; asked whenever its node's timer fires.
    fn unasked(&mut self, _view: &mut View<'_>) -> Vec<(usize, Outgoing)> {
        Vec::new()
    }
}

/// Who is not honest in a run.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// Interceptors by host.
    pub(super) intercepts: BTreeMap<usize, Box<dyn Intercept>>,
    /// Validators that run twice, with the same keys: host n + i is the second life of the i-th of them.
    pub(super) twins: Vec<usize>,
}

impl Cast {
    /// Whether nothing that the keys of this validator sign is to be trusted.
    pub(super) fn is_liar(&self, authority: usize) -> bool {
        self.intercepts.contains_key(&authority) || self.twins.contains(&authority)
    }
}
