//! Signatures of block headers.

use super::{Domain, Purpose, Signed, Verifier, verify_one};
use crate::committee::Committee;
use crate::error::{HeaderFault, PeerError};
use crate::types::{EquivocationProof, SignedHeader};

/// Checks that the header's author is in the committee and signed it.
///
/// # Errors
/// [`HeaderFault::UnknownAuthor`] or [`PeerError::BadHeaderSignature`].
pub fn check_header_signature(committee: &Committee, header: &SignedHeader) -> Result<(), PeerError> {
    let domain = Domain::new(Purpose::Header, committee.network());
    let signed = signed_by_author(committee, &domain, header)?;
    verdict(header, verify_one(&signed))
}

/// Checks many headers at once, such as those of a fetch answer: one result for each, in their order.
pub fn check_header_signatures(
    verifier: &mut Verifier,
    committee: &Committee,
    headers: &[SignedHeader],
) -> Vec<Result<(), PeerError>> {
    let domain = Domain::new(Purpose::Header, committee.network());
    let prepared: Vec<_> =
        headers.iter().map(|header| signed_by_author(committee, &domain, header)).collect();
    let items: Vec<Signed<'_>> = prepared.iter().filter_map(|signed| signed.as_ref().ok().copied()).collect();
    let mut verdicts = verifier.verify(&items).into_iter();
    headers
        .iter()
        .zip(prepared)
        .map(|(header, signed)| signed.and_then(|_| verdict(header, verdicts.next() == Some(true))))
        .collect()
}

fn signed_by_author<'a>(
    committee: &'a Committee,
    domain: &'a Domain,
    header: &'a SignedHeader,
) -> Result<Signed<'a>, PeerError> {
    let author = header.header().author;
    if !committee.contains(author) {
        return Err(PeerError::InvalidHeader {
            block: header.reference(),
            why: HeaderFault::UnknownAuthor(author),
        });
    }
    Ok(Signed {
        key: &committee.authority(author).consensus_key,
        domain: domain.as_bytes(),
        message: header.signed_bytes(),
        signature: header.signature(),
    })
}

/// Whether a validator of the committee signed both blocks of a proof.
#[must_use]
pub fn evidence_holds(committee: &Committee, proof: &EquivocationProof) -> bool {
    let author = proof.block().author;
    let domain = Domain::new(Purpose::Header, committee.network());
    committee.contains(author)
        && proof.epoch() == committee.epoch()
        && proof.references().iter().all(|reference| {
            verify_one(&Signed {
                key: &committee.authority(author).consensus_key,
                domain: domain.as_bytes(),
                message: &reference.signed_bytes(proof.epoch()),
                signature: &reference.signature,
            })
        })
}

fn verdict(header: &SignedHeader, valid: bool) -> Result<(), PeerError> {
    if valid { Ok(()) } else { Err(PeerError::BadHeaderSignature(header.reference())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committee::Authority;
    use crate::crypto::SecretKey;
    use crate::types::{
        AuthorityIndex, Digest, Epoch, HEADER_VERSION, Header, NetworkId, Round, Stake, TimestampMs,
    };

    const NETWORK: NetworkId = NetworkId(*b"headers!");

    fn secret(author: u16) -> SecretKey {
        SecretKey::from_seed(&[u8::try_from(author).unwrap_or(u8::MAX); 32])
    }

    fn committee(n: u16) -> Committee {
        let authorities = (0..n)
            .map(|i| Authority {
                name: format!("v{i}"),
                stake: Stake(1),
                address: "127.0.0.1:1".into(),
                network_key: [0; 32],
                consensus_key: secret(i).public(),
                cosign_key: [0; 32],
                log_key: [0; 32],
            })
            .collect();
        Committee::new(Epoch(0), NETWORK, authorities)
    }

    fn header(author: u16, signer: u16, purpose: Purpose, network: NetworkId) -> SignedHeader {
        let header = Header {
            version: HEADER_VERSION,
            epoch: Epoch(0),
            round: Round(1),
            author: AuthorityIndex(author),
            time: TimestampMs(1),
            ancestors: Vec::new(),
            n_tx: 0,
            payload_len: 0,
            payload_root: Digest::default(),
            system: Vec::new(),
        };
        SignedHeader::build(header, |bytes| secret(signer).sign(&Domain::new(purpose, network), bytes))
    }

    #[test]
    fn one_and_many_agree_and_name_the_culprit() {
        let committee = committee(4);
        let headers = [
            header(0, 0, Purpose::Header, NETWORK),
            header(1, 2, Purpose::Header, NETWORK),
            header(9, 9, Purpose::Header, NETWORK),
            header(3, 3, Purpose::Header, NETWORK),
            header(2, 2, Purpose::Tx, NETWORK),
            header(2, 2, Purpose::Header, NetworkId(*b"another!")),
        ];
        let bad = |i: usize| Err(PeerError::BadHeaderSignature(headers[i].reference()));
        let unknown = PeerError::InvalidHeader {
            block: headers[2].reference(),
            why: HeaderFault::UnknownAuthor(AuthorityIndex(9)),
        };
        let expected = vec![Ok(()), bad(1), Err(unknown), Ok(()), bad(4), bad(5)];
        let mut verifier = Verifier::new([0; 32], 16);
        assert_eq!(check_header_signatures(&mut verifier, &committee, &headers), expected);
        let singly: Vec<_> = headers.iter().map(|h| check_header_signature(&committee, h)).collect();
        assert_eq!(singly, expected);
    }
}
