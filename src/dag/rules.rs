//! What makes a header valid whatever else a validator has seen: its signature and its shape.

use std::ops::Deref;
use std::sync::Arc;

use crate::committee::{Committee, StakeSum};
use crate::crypto::check_header_signature;
use crate::error::{HeaderFault, PeerError};
use crate::types::{BlockRef, Header, Payload, Round, SignedHeader};

/// A header that passed every rule that needs nothing but the committee. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader(Arc<SignedHeader>);

impl VerifiedHeader {
    /// Checks rules and signature; the cheap ones first.
    pub fn verify(committee: &Committee, header: SignedHeader) -> Result<Self, PeerError> {
        check_rules(committee, header.header())
            .map_err(|why| PeerError::InvalidHeader { block: header.reference(), why })?;
        check_header_signature(committee, &header)?;
        Ok(Self(Arc::new(header)))
    }

    /// A header that this node made itself, or verified before it wrote it to its log.
    #[must_use]
    pub fn trusted(header: SignedHeader) -> Self {
        Self(Arc::new(header))
    }
}

impl Deref for VerifiedHeader {
    type Target = SignedHeader;

    fn deref(&self) -> &SignedHeader {
        &self.0
    }
}

fn check_rules(committee: &Committee, header: &Header) -> Result<(), HeaderFault> {
    if header.epoch != committee.epoch() {
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
    if header.system.len() > 1 {
        return Err(HeaderFault::TooManyVotes);
    }
    check_ancestors(committee, header)
}

fn check_ancestors(committee: &Committee, header: &Header) -> Result<(), HeaderFault> {
    let Some((own, others)) = header.ancestors.split_first() else {
        return Err(HeaderFault::NoOwnAncestor);
    };
    if own.author != header.author || own.round >= header.round {
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
    if !parents.reaches(committee.thresholds().round_quorum) {
        return Err(HeaderFault::NoQuorum(header.round.previous()));
    }
    Ok(())
}

/// Ancestors of a header, own first.
pub(crate) fn ancestors(header: &VerifiedHeader) -> &[BlockRef] {
    &header.header().ancestors
}
