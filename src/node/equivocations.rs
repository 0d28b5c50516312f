//! Validators that made two blocks of one round: the proofs, who still has to be told, and whose blocks are not named.

use std::collections::BTreeMap;

use crate::committee::AuthoritySet;
use crate::dag::VerifiedHeader;
use crate::limits::EVIDENCE_PER_HEADER_MAX;
use crate::types::{AuthorityIndex, EquivocationProof, Round, SignedReference, SystemMessage};

/// Own rounds before a proof is told again to somebody who seems not to know it.
const TELL_AGAIN_ROUNDS: u64 = 32;

/// Terms, each twice as long as the one before, for which an author is left out.
const TERMS_MAX: u32 = 7;

/// What is known against one validator.
#[derive(Debug)]
struct Case {
    /// The first proof; one is enough. `None` while it has only equivocated in headers of version 1, whose signatures cover too
    /// much to be carried.
    proof: Option<EquivocationProof>,
    /// Own blocks leave out what it makes up to this round.
    until: Round,
    /// How many times it equivocated after it had been let back in, and once more.
    terms: u32,
    /// Own round whose header carried the proof last.
    told: Option<Round>,
}

/// See the module's text. At most one case for each validator.
#[derive(Debug)]
pub(super) struct Equivocations {
    /// Rounds of the first term.
    term: u64,
    cases: BTreeMap<AuthorityIndex, Case>,
}

impl Equivocations {
    /// Nothing against anybody; who equivocates is left out for `term` rounds, at first.
    pub(super) fn new(term: u64) -> Self {
        Self { term, cases: BTreeMap::new() }
    }

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
        let new = Case { proof: None, until: Round(0), terms: 0, told: None };
        let case = self.cases.entry(author).or_insert(new);
        // Also a proof about round 0, in which nobody makes blocks, but whoever wants to can sign.
        if case.terms == 0 || round > case.until {
            case.terms = (case.terms + 1).min(TERMS_MAX);
        }
        let term = self.term.saturating_mul(1 << (case.terms - 1));
        case.until = case.until.max(Round(round.0.saturating_add(term)));
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

    /// Whether own blocks leave out what an author makes in `round`: it equivocated there or within a term before. So its blocks
    /// get no further than those who do not know of it yet carry them, however many it makes. Who goes on when it is let back
    /// in is left out for twice as long: each time costs the others many requests, for chains that few of them have.
    pub(super) fn is_shunned(&self, author: AuthorityIndex, round: Round) -> bool {
        self.cases.get(&author).is_some_and(|case| round <= case.until)
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
        let mut equivocations = Equivocations::new(10);
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
        assert!(equivocations.is_shunned(AuthorityIndex(2), Round(19)));
        assert!(!equivocations.is_shunned(AuthorityIndex(2), Round(20)));
        assert!(!equivocations.is_shunned(AuthorityIndex(1), Round(7)));
    }

    #[test]
    fn who_goes_on_when_it_is_let_back_in_is_left_out_for_twice_as_long() {
        let mut equivocations = Equivocations::new(10);
        let mut offend = |round: u64| {
            let (a, b) = twins(2, round);
            equivocations.beside(&a, &b);
            let mut rounds = (round..).skip_while(|r| equivocations.is_shunned(AuthorityIndex(2), Round(*r)));
            rounds.next().unwrap_or_default() - round - 1
        };
        assert_eq!([7, 9, 12].map(&mut offend), [10, 10, 10], "still the first term");
        assert_eq!([100, 130, 300, 1_000].map(&mut offend), [20, 40, 80, 160]);
        assert_eq!([10_000, 20_000, 30_000].map(&mut offend), [320, 640, 640]);
    }

    #[test]
    fn a_proof_in_a_header_is_as_good_as_one_seen() {
        let (a, b) = twins(3, 5);
        let proof = Equivocations::new(10).beside(&a, &b).unwrap();
        let message = SystemMessage::Evidence(proof);
        let plain = header(6, 1, Vec::new(), 0);
        let carrier = Header { system: vec![message], ..plain.header().clone() };
        let carrier = VerifiedHeader::trusted(SignedHeader::build(carrier, |_| [0; 64]));
        let mut other = Equivocations::new(10);
        assert_eq!(other.read(&carrier), [proof]);
        assert_eq!(other.read(&carrier), []);
        assert_eq!(other.proofs().collect::<Vec<_>>(), [&proof]);
    }

    #[test]
    fn an_offence_in_a_round_that_never_was_does_no_harm() {
        let mut equivocations = Equivocations::new(10);
        let (a, b) = twins(2, u64::MAX / 2_000);
        assert!(equivocations.beside(&b, &a).is_some());
        assert!(equivocations.is_shunned(AuthorityIndex(2), Round(5)));
        assert!(!equivocations.is_shunned(AuthorityIndex(2), Round(u64::MAX)));
        // Nor one in the round of the genesis blocks: signatures say nothing about rounds.
        let mut equivocations = Equivocations::new(10);
        let (a, b) = twins(2, 0);
        let proof = equivocations.beside(&b, &a).unwrap();
        assert!(equivocations.is_shunned(AuthorityIndex(2), Round(10)));
        equivocations.recall([proof].iter());
        assert!(!equivocations.is_shunned(AuthorityIndex(2), Round(11)));
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
        let proof = Equivocations::new(10).beside(&sign(&a), &sign(&b)).unwrap();
        assert!(evidence_holds(&committee, &proof));
        let forged = Equivocations::new(10).beside(&sign(&a), &b).unwrap();
        assert!(!evidence_holds(&committee, &forged));
    }
}
