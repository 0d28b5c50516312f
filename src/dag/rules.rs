//! What makes a header valid whatever else a validator has seen: its signature and its shape.

use std::ops::Deref;
use std::sync::Arc;

use crate::committee::{Committee, StakeSum};
use crate::crypto::{Verifier, check_header_signature, check_header_signatures, evidence_holds};
use crate::error::{HeaderFault, PeerError};
use crate::limits::EVIDENCE_PER_HEADER_MAX;
use crate::planted::{self, Bug};
use crate::proof::checkpoint::Checkpoint;
use crate::proof::note::check_cosignature;
use crate::types::{
    BlockRef, CheckpointVote, Header, Payload, Round, SignedHeader, SystemKind, SystemMessage,
};

/// A header that passed every rule that needs nothing but the committee. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader(Arc<Checked>);

#[derive(Debug, PartialEq, Eq)]
struct Checked {
    header: SignedHeader,
    /// Whether the cosignature of its checkpoint vote holds; `None` if nobody has looked.
    vote_holds: Option<bool>,
}

impl VerifiedHeader {
    /// Checks rules and signature; the cheap ones first.
    pub fn verify(committee: &Committee, header: SignedHeader) -> Result<Self, PeerError> {
        check_rules(committee, header.header())
            .map_err(|why| PeerError::InvalidHeader { block: header.reference(), why })?;
        check_header_signature(committee, &header)?;
        Self::check_signed_parts(committee, header)
    }

    /// Checks what else is signed in a header.
    fn check_signed_parts(committee: &Committee, header: SignedHeader) -> Result<Self, PeerError> {
        check_evidence(committee, &header)?;
        // A vote that does not hold counts for nothing; the header is valid all the same.
        let vote_holds = checkpoint_vote(header.header()).map(|vote| vote_holds(committee, &header, vote));
        Ok(Self(Arc::new(Checked { header, vote_holds })))
    }

    /// Checks many headers, signatures as one batch: one result for each, in their order.
    pub fn verify_all(
        committee: &Committee,
        verifier: &mut Verifier,
        headers: Vec<SignedHeader>,
    ) -> Vec<Result<Self, PeerError>> {
        let signed = check_header_signatures(verifier, committee, &headers);
        headers
            .into_iter()
            .zip(signed)
            .map(|(header, signed)| {
                check_rules(committee, header.header())
                    .map_err(|why| PeerError::InvalidHeader { block: header.reference(), why })?;
                signed.and_then(|()| Self::check_signed_parts(committee, header))
            })
            .collect()
    }

    /// A header that this node made itself, or that was verified before, byte for byte.
    #[must_use]
    pub fn trusted(header: SignedHeader) -> Self {
        Self(Arc::new(Checked { header, vote_holds: None }))
    }

    /// Its checkpoint vote, if it has one and the cosignature holds. That was checked together with the header, off the
    /// consensus thread; only for headers of the log and own ones it is checked here.
    #[must_use]
    pub fn checkpoint_vote(&self, committee: &Committee) -> Option<&CheckpointVote> {
        let vote = checkpoint_vote(self.header())?;
        let holds = self.0.vote_holds.unwrap_or_else(|| vote_holds(committee, &self.0.header, vote));
        holds.then_some(vote)
    }
}

fn checkpoint_vote(header: &Header) -> Option<&CheckpointVote> {
    header.system.iter().find_map(|message| match message {
        SystemMessage::CheckpointVote(vote) => Some(vote),
        SystemMessage::CommitVote(_) | SystemMessage::Evidence(_) => None,
    })
}

fn vote_holds(committee: &Committee, header: &SignedHeader, vote: &CheckpointVote) -> bool {
    let text =
        Checkpoint { origin: committee.origin().to_owned(), size: vote.tree_size, root: vote.root }.text();
    let key = &committee.authority(header.header().author).cosign_key;
    check_cosignature(key, &text, vote.cosigned_at, &vote.cosignature)
}

fn check_evidence(committee: &Committee, header: &SignedHeader) -> Result<(), PeerError> {
    let fails = |message: &SystemMessage| match message {
        SystemMessage::Evidence(proof) => !evidence_holds(committee, proof),
        SystemMessage::CheckpointVote(_) | SystemMessage::CommitVote(_) => false,
    };
    if header.header().system.iter().any(fails) {
        return Err(PeerError::InvalidHeader { block: header.reference(), why: HeaderFault::BadEvidence });
    }
    Ok(())
}

/// At most one vote of each kind and a few proofs, in ascending order of kind, proofs by the slot that they are about.
fn check_system(header: &Header) -> Result<(), HeaderFault> {
    let key = |message: &SystemMessage| match message {
        SystemMessage::Evidence(proof) => (SystemKind::Evidence, proof.block()),
        SystemMessage::CheckpointVote(_) | SystemMessage::CommitVote(_) => {
            (message.kind(), BlockRef::default())
        }
    };
    let proofs = header.system.iter().filter(|message| message.kind() == SystemKind::Evidence).count();
    if proofs > EVIDENCE_PER_HEADER_MAX || !header.system.is_sorted_by(|a, b| key(a) < key(b)) {
        return Err(HeaderFault::SystemMessages);
    }
    Ok(())
}

impl Deref for VerifiedHeader {
    type Target = SignedHeader;

    fn deref(&self) -> &SignedHeader {
        &self.0.header
    }
}

fn check_rules(committee: &Committee, header: &Header) -> Result<(), HeaderFault> {
    if header.epoch != committee.epoch() && !planted::is(Bug::StaleEpoch) {
        return Err(HeaderFault::WrongEpoch);
    }
    if !committee.contains(header.author) {
        return Err(HeaderFault::UnknownAuthor(header.author));
    }
    if header.round == Round(0) {
        return Err(HeaderFault::GenesisRound);
    }
    if header.n_tx == 0 && (header.payload_len != 0 || header.payload_root != Payload::empty().root())
        || (header.payload_len as usize) < 4 * header.n_tx as usize
    {
        return Err(HeaderFault::PayloadFields);
    }
    check_system(header)?;
    check_ancestors(committee, header)
}

fn check_ancestors(committee: &Committee, header: &Header) -> Result<(), HeaderFault> {
    let Some((own, others)) = header.ancestors.split_first() else {
        return Err(HeaderFault::NoOwnAncestor);
    };
    let own_fits = own.author == header.author || planted::is(Bug::OwnAncestorUnchecked);
    if !own_fits || own.round >= header.round {
        return Err(HeaderFault::NoOwnAncestor);
    }
    let mut parents = StakeSum::new();
    let mut last_author = None;
    for ancestor in std::iter::once(own).chain(others) {
        if !committee.contains(ancestor.author) {
            return Err(HeaderFault::AncestorUnknownAuthor(*ancestor));
        }
        if ancestor.round >= header.round {
            return Err(HeaderFault::AncestorNotEarlier(*ancestor));
        }
        if ancestor.round == Round(0) && *ancestor != committee.genesis_block(ancestor.author) {
            return Err(HeaderFault::NotGenesis(*ancestor));
        }
        if ancestor.round.next() == header.round {
            parents.add(committee, ancestor.author);
        }
    }
    for ancestor in others {
        if ancestor.author == header.author || last_author.is_some_and(|last| ancestor.author <= last) {
            return Err(HeaderFault::AncestorOrder(*ancestor));
        }
        last_author = Some(ancestor.author);
    }
    if !parents.reaches(committee.thresholds().round_quorum) && !planted::is(Bug::ParentsUnchecked) {
        return Err(HeaderFault::NoQuorum(header.round.previous()));
    }
    Ok(())
}

/// Ancestors of a header, own first.
pub(crate) fn ancestors(header: &VerifiedHeader) -> &[BlockRef] {
    &header.header().ancestors
}
