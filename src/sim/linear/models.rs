//! What a consent and a chain of record versions do, told again from the manual and not from the executor's code.

use super::search::Model;
use crate::execute::SkipReason;
use crate::types::{LeafIndex, OrgId};

/// A consent under one handle.
pub(super) struct Consent;

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsentCall {
    /// Granted by one organisation to another.
    Grant {
        /// The custodian.
        by: OrgId,
        /// Who may access.
        to: OrgId,
    },
    /// Revoked, from the beginning of time on, so that order alone decides.
    Revoke {
        /// Who revokes.
        by: OrgId,
    },
    /// An access that relies on it: the read that goes through the log.
    Access {
        /// Who accessed.
        by: OrgId,
    },
}

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsentAnswer {
    /// The grant or the revocation is in force.
    Done,
    /// Nothing happened.
    Skipped(SkipReason),
    /// The access was permitted.
    Permitted,
    /// It was not.
    Violation,
}

/// A call with its answer, if there was one.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConsentOp {
    pub(super) call: ConsentCall,
    pub(super) answer: Option<ConsentAnswer>,
}

/// State of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConsentNow {
    /// Never granted.
    Absent,
    /// In force.
    Granted {
        /// The custodian.
        by: OrgId,
        /// Who may access.
        to: OrgId,
    },
    /// Over.
    Revoked {
        /// The custodian that it had.
        by: OrgId,
        /// Who might have accessed.
        to: OrgId,
    },
}

impl Model for Consent {
    type Op = ConsentOp;
    type State = ConsentNow;

    fn start() -> ConsentNow {
        ConsentNow::Absent
    }

    fn step(state: &ConsentNow, op: &ConsentOp) -> Option<ConsentNow> {
        use ConsentAnswer::{Done, Permitted, Skipped, Violation};
        use ConsentNow::{Absent, Granted, Revoked};

        let (answer, after) = match (op.call, *state) {
            (ConsentCall::Grant { by, to }, Absent) => (Done, Granted { by, to }),
            (ConsentCall::Grant { .. }, _) => (Skipped(SkipReason::HandleTaken), *state),
            (ConsentCall::Revoke { .. }, Absent) => (Skipped(SkipReason::UnknownConsent), *state),
            (ConsentCall::Revoke { .. }, Revoked { .. }) => (Skipped(SkipReason::AlreadyRevoked), *state),
            (ConsentCall::Revoke { by: sender }, Granted { by, to }) => {
                if sender == by {
                    (Done, Revoked { by, to })
                } else {
                    (Skipped(SkipReason::NotTheCustodian), *state)
                }
            }
            (ConsentCall::Access { by }, Granted { to, .. }) if by == to => (Permitted, *state),
            (ConsentCall::Access { .. }, _) => (Violation, *state),
        };
        op.answer.is_none_or(|told| told == answer).then_some(after)
    }
}

/// The versions of one record: a register that is set by compare-and-swap. Leaves are names here, and their order is not
/// looked at.
pub(super) struct Chain;

/// A new version.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainOp {
    /// The version that it replaces; `None` begins the chain.
    pub(super) prev: Option<LeafIndex>,
    /// The version that came to be, or `None`: `prev` was no head.
    pub(super) made: Option<LeafIndex>,
}

impl Model for Chain {
    type Op = ChainOp;
    /// The head.
    type State = Option<LeafIndex>;

    fn start() -> Option<LeafIndex> {
        None
    }

    fn step(state: &Option<LeafIndex>, op: &ChainOp) -> Option<Option<LeafIndex>> {
        match op.made {
            Some(made) => (op.prev == *state).then_some(Some(made)),
            None => (op.prev != *state).then_some(*state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::{Timed, check};
    use super::*;

    const A: OrgId = OrgId(1);
    const B: OrgId = OrgId(2);
    const C: OrgId = OrgId(3);

    fn op(from: u64, to: u64, call: ConsentCall, answer: ConsentAnswer) -> Timed<ConsentOp> {
        Timed { invoked_us: from, returned_us: Some(to), op: ConsentOp { call, answer: Some(answer) } }
    }

    fn holds(ops: &[Timed<ConsentOp>]) -> bool {
        check::<Consent>(ops).is_ok()
    }

    #[test]
    fn a_consent_permits_from_its_grant_to_its_revocation() {
        use ConsentAnswer::{Done, Permitted, Skipped, Violation};
        let grant = ConsentCall::Grant { by: A, to: B };
        let (revoke, access) = (ConsentCall::Revoke { by: A }, ConsentCall::Access { by: B });
        let life = [
            op(0, 1, access, Violation),
            op(2, 3, grant, Done),
            op(4, 5, access, Permitted),
            op(4, 5, ConsentCall::Access { by: C }, Violation),
            op(6, 7, ConsentCall::Revoke { by: C }, Skipped(SkipReason::NotTheCustodian)),
            op(8, 9, revoke, Done),
            op(10, 11, access, Violation),
            op(10, 11, revoke, Skipped(SkipReason::AlreadyRevoked)),
            op(12, 13, grant, Skipped(SkipReason::HandleTaken)),
        ];
        assert!(holds(&life));
        for wrong in [
            op(10, 11, access, Permitted),
            op(4, 5, access, Violation),
            op(0, 1, access, Permitted),
            op(12, 13, grant, Done),
            op(5, 7, revoke, Skipped(SkipReason::UnknownConsent)),
        ] {
            let mut broken = life.to_vec();
            broken.push(wrong);
            assert!(!holds(&broken));
        }
        // While the revocation runs, both answers may be; but not the old one after the new one.
        let ends = [op(0, 1, grant, Done), op(2, 9, revoke, Done)];
        let with = |a, b| holds(&[&ends[..], &[op(3, 4, access, a), op(5, 6, access, b)]].concat());
        assert!(with(Permitted, Violation) && with(Violation, Violation) && with(Permitted, Permitted));
        assert!(!with(Violation, Permitted));
    }

    #[test]
    fn of_two_that_replace_one_version_one_wins() {
        let leaf = |n| Some(LeafIndex(n));
        let at = |from, to, prev, made| Timed {
            invoked_us: from,
            returned_us: Some(to),
            op: ChainOp { prev, made },
        };
        let holds = |ops: &[Timed<ChainOp>]| check::<Chain>(ops).is_ok();
        let begun = at(0, 1, None, leaf(9));
        assert!(holds(&[begun.clone(), at(2, 5, leaf(9), leaf(4)), at(2, 5, leaf(9), None)]));
        assert!(!holds(&[begun.clone(), at(2, 5, leaf(9), leaf(4)), at(2, 5, leaf(9), leaf(5))]), "both won");
        assert!(!holds(&[begun.clone(), at(2, 5, leaf(9), None)]), "refused though it was the head");
        assert!(!holds(&[begun, at(2, 3, leaf(9), None), at(4, 5, leaf(9), leaf(4))]), "refused too early");
    }
}
