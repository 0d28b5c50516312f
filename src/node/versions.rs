//! Which versions of the protocol the others speak, and so which headers this validator may make.
//!
//! Headers go to everybody, directly or through others, so a new version may be used only once every validator reads it: when
//! each has said so since this one started, or when f + 1 of the stake have made headers of that version: an honest one of them
//! knew. One alone may lie, to split those that read it from those that do not. So before that such a header is not taken into the
//! DAG, unless a quorum speaks the new version, nobody who was heard speaks the old one, and the others had some seconds to be heard: then
//! who made it may have heard those that are away now. (Would they have to be heard again, one that is away could hold up all
//! who were started after it went.) So validators are upgraded one after another, in any order, and the last one switches the
//! network over. A data folder that a newer program has written is refused by an older one, so nobody goes back.
//!
//! *What remains.* One that lies, and says that it speaks the new version to some and the old one to others, can still hold up a
//! network in the middle of an upgrade: the former make headers that the latter do not take.

use std::sync::Arc;

use crate::committee::{Committee, StakeSum};
use crate::dag::VerifiedHeader;
use crate::types::{AuthorityIndex, HEADER_VERSION, HEADER_VERSION_OLDEST, PROTOCOL_VERSION_OLDEST};

/// Time from the start after which a validator that was not heard counts as away.
const AWAY_US: u64 = 5_000_000;
/// What a validator speaks that was not heard since the start.
const UNHEARD: u16 = 0;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Versions {
    /// The newest version that each validator is known to speak.
    spoken: Vec<u16>,
    /// When the first header came.
    since_us: Option<u64>,
    own: u16,
    /// Authors of headers of version 2 that were seen.
    ahead: StakeSum,
    committee: Arc<Committee>,
}

impl Versions {
    pub(super) fn new(committee: &Arc<Committee>, own: AuthorityIndex, protocol: u16) -> Self {
        let mut spoken = vec![UNHEARD; committee.size()];
        spoken[own.as_usize()] = protocol;
        let (since_us, ahead) = (None, StakeSum::new());
        Self { spoken, since_us, own: protocol, ahead, committee: Arc::clone(committee) }
    }

    /// A connection says what its peer speaks.
    pub(super) fn heard(&mut self, peer: AuthorityIndex, version: u16) {
        let spoken = &mut self.spoken[peer.as_usize()];
        *spoken = (*spoken).max(version);
    }

    /// A header came: whether it may enter the DAG.
    pub(super) fn admits(&mut self, now_us: u64, header: &VerifiedHeader) -> bool {
        self.saw(header.header().author, header.header().version);
        self.takes(now_us, header.header().version)
    }

    /// There is a header of a version.
    pub(super) fn saw(&mut self, author: AuthorityIndex, version: u8) {
        if version >= 2 {
            self.ahead.add(&self.committee, author);
        }
    }

    fn takes(&mut self, now_us: u64, version: u8) -> bool {
        let since_us = *self.since_us.get_or_insert(now_us);
        version <= self.header_version()
            || now_us.saturating_sub(since_us) >= AWAY_US && self.all_heard_speak_2()
    }

    /// Whether a quorum speaks version 2, and nobody who was heard does not.
    fn all_heard_speak_2(&self) -> bool {
        let mut stake = StakeSum::new();
        for (authority, spoken) in self.committee.indices().zip(&self.spoken) {
            if *spoken == PROTOCOL_VERSION_OLDEST {
                return false;
            }
            if *spoken != UNHEARD {
                stake.add(&self.committee, authority);
            }
        }
        stake.reaches(self.committee.quorum_threshold())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::testing::committee;

    fn versions(heard: &[(u16, u16)]) -> Versions {
        let mut versions = Versions::new(&committee(4), AuthorityIndex(0), 2);
        for (peer, version) in heard {
            versions.heard(AuthorityIndex(*peer), *version);
        }
        versions
    }

    #[test]
    fn the_last_one_switches_the_network_over() {
        let mut versions = versions(&[(1, 2), (2, 2), (3, 1)]);
        assert_eq!((versions.header_version(), versions.takes(0, 2)), (HEADER_VERSION_OLDEST, false));
        versions.heard(AuthorityIndex(3), 2);
        assert_eq!((versions.header_version(), versions.takes(0, 2)), (HEADER_VERSION, true));
    }

    #[test]
    fn one_may_lie_and_two_may_not() {
        let mut versions = versions(&[(1, 2), (3, 1)]);
        versions.saw(AuthorityIndex(1), 2);
        assert!(!versions.takes(10 * AWAY_US, 2));
        versions.saw(AuthorityIndex(2), 2);
        assert!(versions.takes(10 * AWAY_US, 2));
    }

    #[test]
    fn one_that_is_away_holds_up_nobody() {
        let mut away = versions(&[(1, 2), (2, 2)]);
        assert!(!away.takes(1_000, 2), "it may be heard still");
        assert!(away.takes(1_000 + AWAY_US, 2));
        assert_eq!(
            away.header_version(),
            HEADER_VERSION_OLDEST,
            "nor is it locked out by headers of this one"
        );
        away.heard(AuthorityIndex(3), 1);
        assert!(!away.takes(2 * AWAY_US, 2), "it is back, and does not read them");
        let mut few = versions(&[(1, 2)]);
        assert!(!few.takes(0, 2) && !few.takes(AWAY_US, 2), "no quorum");
    }
}
