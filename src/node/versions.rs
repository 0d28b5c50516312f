//! Which versions of the protocol the others speak, and so which headers this validator may make.
//!
//! Headers go to everybody, directly or through others, so a new version may be used only once every validator reads it: when
//! each has said so since this one started, or when the DAG holds a header of that version (whose author knew). So validators
//! are upgraded one after another, in any order, and the last one switches the network over. A data folder that a newer program
//! has written is refused by an older one, so nobody goes back.

use crate::committee::Committee;
use crate::dag::VerifiedHeader;
use crate::types::{AuthorityIndex, HEADER_VERSION, HEADER_VERSION_OLDEST, PROTOCOL_VERSION_OLDEST};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Versions {
    /// The newest version that each validator is known to speak.
    spoken: Vec<u16>,
    own: u16,
    /// Newest version of a header seen.
    seen: u8,
}

impl Versions {
    pub(super) fn new(committee: &Committee, own: AuthorityIndex, protocol: u16) -> Self {
        let mut spoken = vec![PROTOCOL_VERSION_OLDEST; committee.size()];
        spoken[own.as_usize()] = protocol;
        Self { spoken, own: protocol, seen: HEADER_VERSION_OLDEST }
    }

    /// A connection says what its peer speaks.
    pub(super) fn heard(&mut self, peer: AuthorityIndex, version: u16) {
        let spoken = &mut self.spoken[peer.as_usize()];
        *spoken = (*spoken).max(version);
    }

    /// A header entered the DAG.
    pub(super) fn saw(&mut self, header: &VerifiedHeader) {
        self.seen = self.seen.max(header.header().version);
    }

    /// Whether a peer reads the frames of version 2.
    pub(super) fn speaks_2(&self, peer: AuthorityIndex) -> bool {
        self.own.min(self.spoken[peer.as_usize()]) >= 2
    }

    /// Version of the headers to make.
    pub(super) fn header_version(&self) -> u8 {
        let all = self.spoken.iter().all(|spoken| *spoken >= 2);
        if self.own >= 2 && (all || self.seen >= 2) { HEADER_VERSION } else { HEADER_VERSION_OLDEST }
    }
}
