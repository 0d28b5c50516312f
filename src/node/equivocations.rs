//! Validators that made two blocks of one round: the proofs, who still has to be told, and whose blocks are not named.

use std::collections::BTreeMap;

use crate::committee::AuthoritySet;
use crate::dag::VerifiedHeader;
use crate::limits::EVIDENCE_PER_HEADER_MAX;
use crate::types::{AuthorityIndex, EquivocationProof, Round, SignedReference, SystemMessage};

/// Own rounds before a proof is told again to somebody who seems not to know it.
const TELL_AGAIN_ROUNDS: u64 = 32;

/// What is known against one validator.
#[derive(Debug)]
struct Case {
    /// The first proof; one is enough. `None` while it has only equivocated in headers of version 1, whose signatures cover too
    /// much to be carried.
    proof: Option<EquivocationProof>,
    /// Highest round in which it equivocated.
    last: Round,
    /// Own round whose header carried the proof last.
    told: Option<Round>,
}

/// See the module's text. At most one case for each validator.
#[derive(Debug, Default)]
pub(super) struct Equivocations {
    cases: BTreeMap<AuthorityIndex, Case>,
}

impl Equivocations {
    /// A header enters the DAG beside another block of its slot. Returns a proof that was not known before.
    pub(super) fn beside(
        &mut self,
        header: &VerifiedHeader,
        other: &VerifiedHeader,
    ) -> Option<EquivocationProof> {
        let block = header.reference();
        let proof = signed(header)
            .zip(signed(other))
            .and_then(|(a, b)| EquivocationProof::new(header.header().epoch, a, b));
        self.add(block.author, block.round, proof)
    }

    /// A header carries proofs (they were checked with it). Returns those that were not known before.
    pub(super) fn read(&mut self, header: &VerifiedHeader) -> Vec<EquivocationProof> {
        let mut news = Vec::new();
        for message in &header.header().system {
            if let SystemMessage::Evidence(proof) = message {
                news.extend(self.add(proof.block().author, proof.block().round, Some(*proof)));
            }
        }
        news
    }

    /// Proofs that the log holds.
    pub(super) fn recall<'a>(&mut self, proofs: impl Iterator<Item = &'a EquivocationProof>) {
        for proof in proofs {
            self.add(proof.block().author, proof.block().round, Some(*proof));
        }
    }

    fn add(
        &mut self,
        author: AuthorityIndex,
        round: Round,
        proof: Option<EquivocationProof>,
    ) -> Option<EquivocationProof> {
        let case = self.cases.entry(author).or_insert(Case { proof: None, last: round, told: None });
        case.last = case.last.max(round);
        if case.proof.is_some() {
            return None;
        }
        case.proof = proof;
        proof
    }

    /// Somebody who did not equivocate names a block of one who did, and that own blocks leave out: it may not know. So it is
    /// told again, with a pause.
    pub(super) fn named(&mut self, author: AuthorityIndex, own_round: Round) {
        if let Some(case) = self.cases.get_mut(&author)
            && case.told.is_some_and(|told| own_round.0 >= told.0 + TELL_AGAIN_ROUNDS)
        {
            case.told = None;
        }
    }

    /// Proofs that the own header of `round` carries.
    pub(super) fn take_untold(&mut self, round: Round) -> Vec<EquivocationProof> {
        let untold = self.cases.values_mut().filter(|case| case.told.is_none() && case.proof.is_some());
        let mut proofs = Vec::new();
        for case in untold.take(EVIDENCE_PER_HEADER_MAX) {
            case.told = Some(round);
            proofs.extend(case.proof);
        }
        // The order that headers ask for: by the slot that a proof is about.
        proofs.sort_unstable_by_key(EquivocationProof::block);
        proofs
    }

    /// Whether own blocks leave out what an author makes in `round`: it equivocated there or within `rounds` rounds before.
    /// So its blocks get no further than those who do not know of it yet carry them, however many it makes.
    pub(super) fn is_shunned(&self, author: AuthorityIndex, round: Round, rounds: u64) -> bool {
        self.cases.get(&author).is_some_and(|case| round.0.saturating_sub(case.last.0) <= rounds)
    }

    /// Everybody who equivocated.
    pub(super) fn authors(&self) -> AuthoritySet {
        let mut authors = AuthoritySet::default();
        for author in self.cases.keys() {
            authors.insert(*author);
        }
        authors
    }

    /// The proofs known.
    pub(super) fn proofs(&self) -> impl Iterator<Item = &EquivocationProof> {
        self.cases.values().filter_map(|case| case.proof.as_ref())
    }
}

/// Reference and signature, if the header is of a version that signs the reference.
fn signed(header: &VerifiedHeader) -> Option<SignedReference> {
    (header.header().version >= 2)
        .then(|| SignedReference { block: header.reference(), signature: *header.signature() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::crypto::{Domain, Purpose, SecretKey, evidence_holds};
    use crate::dag::testing::{committee, header};
    use crate::types::{Header, SignedHeader};

    fn twins(author: u16, round: u64) -> (VerifiedHeader, VerifiedHeader) {
        (header(round, author, Vec::new(), 0), header(round, author, Vec::new(), 1))
    }

    #[test]
    fn one_proof_for_each_author_is_kept_and_told_once() {
        let mut equivocations = Equivocations::default();
        let (a, b) = twins(2, 7);
        let proof = equivocations.beside(&b, &a).unwrap();
        assert_eq!(proof.block().author, AuthorityIndex(2));
        let (c, d) = twins(2, 9);
        assert_eq!(equivocations.beside(&c, &d), None, "known already");
        assert_eq!(equivocations.take_untold(Round(10)), [proof]);
        assert_eq!(equivocations.take_untold(Round(11)), []);
        equivocations.named(AuthorityIndex(2), Round(12));
        assert_eq!(equivocations.take_untold(Round(12)), [], "it was told just now");
        equivocations.named(AuthorityIndex(2), Round(42));
        assert_eq!(equivocations.take_untold(Round(42)), [proof]);
        assert_eq!(equivocations.authors().iter().collect::<Vec<_>>(), [AuthorityIndex(2)]);
        // It is left out for a while after the last time, in whatever round the proof was.
        assert!(equivocations.is_shunned(AuthorityIndex(2), Round(19), 10));
        assert!(!equivocations.is_shunned(AuthorityIndex(2), Round(20), 10));
        assert!(!equivocations.is_shunned(AuthorityIndex(1), Round(7), 10));
    }

    #[test]
    fn a_proof_in_a_header_is_as_good_as_one_seen() {
        let (a, b) = twins(3, 5);
        let proof = Equivocations::default().beside(&a, &b).unwrap();
        let message = SystemMessage::Evidence(proof);
        let plain = header(6, 1, Vec::new(), 0);
        let carrier = Header { system: vec![message], ..plain.header().clone() };
        let carrier = VerifiedHeader::trusted(SignedHeader::build(carrier, |_| [0; 64]));
        let mut other = Equivocations::default();
        assert_eq!(other.read(&carrier), [proof]);
        assert_eq!(other.read(&carrier), []);
        assert_eq!(other.proofs().collect::<Vec<_>>(), [&proof]);
    }

    #[test]
    fn an_offence_in_a_round_that_never_was_does_no_harm() {
        let mut equivocations = Equivocations::default();
        let (a, b) = twins(2, u64::MAX / 2_000);
        assert!(equivocations.beside(&b, &a).is_some());
        assert!(equivocations.is_shunned(AuthorityIndex(2), Round(5), u64::MAX));
        assert!(!equivocations.is_shunned(AuthorityIndex(2), Round(u64::MAX), 500));
    }

    #[test]
    fn only_the_author_can_make_a_proof() {
        let plain = committee(4);
        let key = SecretKey::from_seed(&[9; 32]);
        let authorities = plain
            .iter()
            .map(|(_, a)| crate::committee::Authority { consensus_key: key.public(), ..a.clone() })
            .collect();
        let committee = crate::committee::Committee::new(plain.epoch(), plain.network(), authorities);
        let domain = Domain::new(Purpose::Header, committee.network());
        let sign = |header: &VerifiedHeader| {
            let header = header.header().clone();
            VerifiedHeader::trusted(SignedHeader::build(header, |bytes| key.sign(&domain, bytes)))
        };
        let (a, b) = twins(0, 4);
        let proof = Equivocations::default().beside(&sign(&a), &sign(&b)).unwrap();
        assert!(evidence_holds(&committee, &proof));
        let forged = Equivocations::default().beside(&sign(&a), &b).unwrap();
        assert!(!evidence_holds(&committee, &forged));
    }
}
