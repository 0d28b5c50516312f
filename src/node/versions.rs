//! Which versions of the protocol the others speak, and so which headers this validator may make.
//!
//! Headers go to everybody, directly or through others, so a new version may be used only once every validator reads it: when
//! each has said so since this one started, or when f + 1 of the stake have made headers of that version: an honest one of them
//! knew. (One alone may lie, to split those that read it from those that do not; before that, such a header is not
//! taken into the DAG.) So validators are upgraded one after another, in any order, and the last one switches the network over. A data folder that a newer program
//! has written is refused by an older one, so nobody goes back.

use std::sync::Arc;

use crate::committee::{Committee, StakeSum};
use crate::dag::VerifiedHeader;
use crate::types::{AuthorityIndex, HEADER_VERSION, HEADER_VERSION_OLDEST, PROTOCOL_VERSION_OLDEST};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Versions {
    /// The newest version that each validator is known to speak.
    spoken: Vec<u16>,
    own: u16,
    /// Authors of headers of version 2 that were seen.
    ahead: StakeSum,
    committee: Arc<Committee>,
}

impl Versions {
    pub(super) fn new(committee: &Arc<Committee>, own: AuthorityIndex, protocol: u16) -> Self {
        let mut spoken = vec![PROTOCOL_VERSION_OLDEST; committee.size()];
        spoken[own.as_usize()] = protocol;
        Self { spoken, own: protocol, ahead: StakeSum::new(), committee: Arc::clone(committee) }
    }

    /// A connection says what its peer speaks.
    pub(super) fn heard(&mut self, peer: AuthorityIndex, version: u16) {
        let spoken = &mut self.spoken[peer.as_usize()];
        *spoken = (*spoken).max(version);
    }

    /// A header came: whether it may enter the DAG.
    pub(super) fn admits(&mut self, header: &VerifiedHeader) -> bool {
        if header.header().version >= 2 {
            self.ahead.add(&self.committee, header.header().author);
        }
        header.header().version <= self.header_version()
    }

    /// Whether a peer reads the frames of version 2.
    pub(super) fn speaks_2(&self, peer: AuthorityIndex) -> bool {
        self.own.min(self.spoken[peer.as_usize()]) >= 2
    }

    /// Version of the headers to make.
    pub(super) fn header_version(&self) -> u8 {
        let all = self.spoken.iter().all(|spoken| *spoken >= 2);
        if self.own >= 2 && (all || self.ahead.reaches(self.committee.validity_threshold())) {
            HEADER_VERSION
        } else {
            HEADER_VERSION_OLDEST
        }
    }
}
