#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use super::testing::{committee, header};
use super::*;
use crate::crypto::{Domain, Purpose, SecretKey};
use crate::error::{HeaderFault, PeerError};
use crate::types::{
    AuthorityIndex, BlockRef, Epoch, HEADER_VERSION, Header, LogSeq, Payload, Round, SignedHeader,
    TimestampMs,
};

/// `rounds` full rounds of four authors, in causal order.
fn full(rounds: u64) -> Vec<VerifiedHeader> {
    let committee = committee(4);
    let mut last: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
    let mut all = Vec::new();
    for round in 1..=rounds {
        let row: Vec<VerifiedHeader> = (0..4_u16)
            .map(|author| {
                let own = last[usize::from(author)];
                let others = last.iter().filter(|b| b.author.0 != author).copied();
                header(round, author, std::iter::once(own).chain(others).collect(), 0)
            })
            .collect();
        last = row.iter().map(|h| h.reference()).collect();
        all.extend(row);
    }
    all
}

fn admit(manager: &mut BlockManager, dag: &mut DagState, header: VerifiedHeader) -> Admission {
    let admission = manager.admit(dag, header.header().author, header);
    if let Admission::Accepted(ready) = &admission {
        for header in ready {
            dag.insert(header.clone());
        }
    }
    admission
}

#[test]
fn any_order_of_arrival_gives_the_same_dag() {
    let headers = full(6);
    for step in [1, 5, 7, 11, 13, 17, 19, 23] {
        let mut dag = DagState::new(committee(4), Round(0));
        let mut manager = BlockManager::new(4, ManagerLimits::default());
        // Steps that do not divide 24 visit every header once.
        for i in 0..headers.len() {
            admit(&mut manager, &mut dag, headers[(i * step + 23) % headers.len()].clone());
        }
        assert_eq!(dag.len(), 24);
        assert_eq!(manager.suspended_len(), 0);
        assert_eq!(manager.missing().count(), 0);
        assert!(dag.available_stake(Round(6)).reaches(dag.committee().thresholds().round_quorum));
    }
}

#[test]
fn a_suspended_header_names_what_it_waits_for() {
    let headers = full(2);
    let mut dag = DagState::new(committee(4), Round(0));
    let mut manager = BlockManager::new(4, ManagerLimits::default());
    let missing: Vec<BlockRef> = headers[..4].iter().map(|h| h.reference()).collect();
    let Admission::Suspended(mut news) = admit(&mut manager, &mut dag, headers[4].clone()) else { panic!() };
    news.sort_unstable();
    let mut expected = missing.clone();
    expected.sort_unstable();
    assert_eq!(news, expected);
    assert_eq!(admit(&mut manager, &mut dag, headers[4].clone()), Admission::Known);
    assert_eq!(manager.missing().map(|(block, _)| *block).collect::<Vec<_>>(), expected);
}

#[test]
fn floods_of_equivocations_are_refused_but_named_ones_enter() {
    let mut dag = DagState::new(committee(4), Round(0));
    let mut manager = BlockManager::new(4, ManagerLimits::default());
    let genesis: Vec<BlockRef> =
        dag.committee().indices().map(|a| dag.committee().genesis_block(a)).collect();
    let twin = |salt| header(1, 0, genesis.clone(), salt);
    for salt in 0..2 {
        assert!(matches!(admit(&mut manager, &mut dag, twin(salt)), Admission::Accepted(_)));
    }
    assert_eq!(admit(&mut manager, &mut dag, twin(4)), Admission::Refused);
    let row: Vec<BlockRef> = (1..4)
        .map(|author| {
            let mut ancestors = genesis.clone();
            ancestors.swap(0, usize::from(author));
            let block = header(1, author, ancestors, 0);
            admit(&mut manager, &mut dag, block.clone());
            block.reference()
        })
        .collect();
    let child = header(2, 1, vec![row[0], twin(4).reference(), row[1], row[2]], 0);
    assert_eq!(admit(&mut manager, &mut dag, child), Admission::Suspended(vec![twin(4).reference()]));
    assert!(matches!(admit(&mut manager, &mut dag, twin(4)), Admission::Accepted(ready) if ready.len() == 2));
}

#[test]
fn a_flooded_slot_still_takes_what_another_names_through_the_flooder() {
    let mut dag = DagState::new(committee(4), Round(0));
    let mut manager = BlockManager::new(4, ManagerLimits::default());
    let genesis: Vec<BlockRef> =
        dag.committee().indices().map(|a| dag.committee().genesis_block(a)).collect();
    let twin = |salt| header(1, 0, genesis.clone(), salt);
    for salt in 0..2 {
        admit(&mut manager, &mut dag, twin(salt));
    }
    let row: Vec<BlockRef> = (1..4)
        .map(|author| {
            let mut ancestors = genesis.clone();
            ancestors.swap(0, usize::from(author));
            let block = header(1, author, ancestors, 0);
            admit(&mut manager, &mut dag, block.clone());
            block.reference()
        })
        .collect();
    // The flooder builds on a fifth twin, and only its next block is named by somebody else.
    let next = header(2, 0, vec![twin(4).reference(), row[0], row[1], row[2]], 0);
    assert_eq!(admit(&mut manager, &mut dag, next.clone()), Admission::Suspended(vec![twin(4).reference()]));
    assert_eq!(admit(&mut manager, &mut dag, twin(4)), Admission::Refused);
    let others: Vec<VerifiedHeader> = (1..4_u16)
        .map(|author| {
            let own = row[usize::from(author) - 1];
            let rest = row.iter().filter(|block| **block != own).copied();
            header(2, author, std::iter::once(own).chain(rest).collect(), 0)
        })
        .collect();
    for other in &others {
        assert!(matches!(admit(&mut manager, &mut dag, other.clone()), Admission::Accepted(_)));
    }
    let second: Vec<BlockRef> = others.iter().map(|other| other.reference()).collect();
    let naming = header(3, 1, vec![second[0], next.reference(), second[1], second[2]], 0);
    assert_eq!(admit(&mut manager, &mut dag, naming), Admission::Suspended(vec![]));
    assert!(matches!(admit(&mut manager, &mut dag, twin(4)), Admission::Accepted(ready) if ready.len() == 3));
}

#[test]
fn what_is_far_ahead_is_refused() {
    let headers = full(9);
    let dag = DagState::new(committee(4), Round(0));
    let mut manager = BlockManager::new(4, ManagerLimits { horizon: 8, ..ManagerLimits::default() });
    assert!(matches!(
        manager.admit(&dag, AuthorityIndex(0), headers[4 * 7].clone()),
        Admission::Suspended(_)
    ));
    assert_eq!(manager.admit(&dag, AuthorityIndex(0), headers[4 * 8].clone()), Admission::Refused);
}

#[test]
fn garbage_collection_releases_what_waited_for_it_alone() {
    let headers = full(8);
    let mut dag = DagState::new(committee(4), Round(0));
    let mut manager = BlockManager::new(4, ManagerLimits::default());
    for header in &headers[8..] {
        admit(&mut manager, &mut dag, header.clone());
    }
    assert_eq!((dag.len(), manager.suspended_len()), (0, 24));
    dag.collect_garbage(Round(2));
    let ready = manager.collect_garbage(Round(2));
    assert_eq!(ready.len(), 24);
    for header in ready {
        dag.insert(header);
    }
    assert_eq!((manager.suspended_len(), manager.missing().count()), (0, 0));
    assert_eq!(dag.highest_round(), Round(8));
}

#[test]
fn a_block_is_available_with_its_payload_and_that_of_its_history() {
    let committee = committee(4);
    let mut dag = DagState::new(Arc::clone(&committee), Round(0));
    let genesis: Vec<BlockRef> = committee.indices().map(|a| committee.genesis_block(a)).collect();
    let with_payload = Header {
        version: HEADER_VERSION,
        epoch: Epoch(0),
        round: Round(1),
        author: AuthorityIndex(0),
        time: TimestampMs(1),
        ancestors: genesis.clone(),
        n_tx: 1,
        payload_len: 5,
        payload_root: Payload::empty().root(),
        system: Vec::new(),
    };
    let full = VerifiedHeader::trusted(SignedHeader::build(with_payload, |_| [0; 64]));
    let mut row = vec![full.reference()];
    assert_eq!(dag.insert(full.clone()), []);
    for author in 1..4 {
        let mut ancestors = genesis.clone();
        ancestors.swap(0, usize::from(author));
        let block = header(1, author, ancestors, 0);
        row.push(block.reference());
        assert_eq!(dag.insert(block.clone()), [block.reference()]);
    }
    let child = header(2, 0, row.clone(), 0);
    assert_eq!(dag.insert(child.clone()), []);
    let other = header(2, 1, vec![row[1], row[2], row[3]], 0);
    assert_eq!(dag.insert(other.clone()), [other.reference()]);
    let freed = dag.set_payload(&full.reference(), Arc::new(Payload::empty()), LogSeq(9));
    assert_eq!(freed, [full.reference(), child.reference()]);
    assert_eq!(dag.latest_available(AuthorityIndex(0), Round(3)), Some(child.reference()));
    assert_eq!(dag.latest_available(AuthorityIndex(0), Round(2)), Some(full.reference()));
}

/// A committee whose consensus keys are known.
fn keyed() -> (Arc<crate::committee::Committee>, Vec<SecretKey>) {
    let plain = committee(4);
    let keys: Vec<SecretKey> = (0..4).map(|i| SecretKey::from_seed(&[i + 1; 32])).collect();
    let authorities = plain
        .iter()
        .zip(&keys)
        .map(|((_, a), key)| crate::committee::Authority { consensus_key: key.public(), ..a.clone() })
        .collect();
    (Arc::new(crate::committee::Committee::new(Epoch(0), plain.network(), authorities)), keys)
}

fn valid_header(committee: &crate::committee::Committee) -> Header {
    Header {
        version: HEADER_VERSION,
        epoch: Epoch(0),
        round: Round(1),
        author: AuthorityIndex(1),
        time: TimestampMs(7),
        ancestors: [1, 0, 2, 3].map(|a| committee.genesis_block(AuthorityIndex(a))).to_vec(),
        n_tx: 0,
        payload_len: 0,
        payload_root: Payload::empty().root(),
        system: Vec::new(),
    }
}

fn verdict(change: impl FnOnce(&mut Header)) -> Result<(), PeerError> {
    let (committee, keys) = keyed();
    let mut header = valid_header(&committee);
    change(&mut header);
    let domain = Domain::new(Purpose::Header, committee.network());
    let signed = SignedHeader::build(header, |bytes| keys[1].sign(&domain, bytes));
    VerifiedHeader::verify(&committee, signed).map(|_| ())
}

fn fault(change: impl FnOnce(&mut Header)) -> HeaderFault {
    match verdict(change) {
        Err(PeerError::InvalidHeader { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_rules_name_what_is_broken() {
    assert_eq!(verdict(|_| {}), Ok(()));
    assert_eq!(fault(|h| h.epoch = Epoch(1)), HeaderFault::WrongEpoch);
    assert_eq!(fault(|h| h.author = AuthorityIndex(4)), HeaderFault::UnknownAuthor(AuthorityIndex(4)));
    assert_eq!(fault(|h| h.round = Round(0)), HeaderFault::GenesisRound);
    assert_eq!(fault(|h| h.ancestors.clear()), HeaderFault::NoOwnAncestor);
    assert_eq!(fault(|h| h.ancestors.swap(0, 1)), HeaderFault::NoOwnAncestor);
    assert!(matches!(fault(|h| h.ancestors.swap(1, 2)), HeaderFault::AncestorOrder(_)));
    assert!(matches!(fault(|h| h.ancestors[2] = h.ancestors[1]), HeaderFault::AncestorOrder(_)));
    assert!(matches!(fault(|h| h.ancestors[2].round = Round(1)), HeaderFault::AncestorNotEarlier(_)));
    assert!(matches!(
        fault(|h| h.ancestors[3].author = AuthorityIndex(9)),
        HeaderFault::AncestorUnknownAuthor(_)
    ));
    assert!(matches!(fault(|h| h.ancestors[3].digest.0[0] ^= 1), HeaderFault::NotGenesis(_)));
    assert_eq!(fault(|h| h.ancestors.truncate(2)), HeaderFault::NoQuorum(Round(0)));
    assert_eq!(fault(|h| h.payload_len = 1), HeaderFault::PayloadFields);
    assert_eq!(fault(|h| h.n_tx = 1), HeaderFault::PayloadFields);
}

#[test]
fn a_header_of_another_key_or_network_is_refused() {
    let (committee, keys) = keyed();
    let block = valid_header(&committee);
    let domain = Domain::new(Purpose::Header, committee.network());
    let foreign = Domain::new(Purpose::Header, crate::types::NetworkId(*b"elsewhre"));
    for (key, domain) in [(&keys[2], &domain), (&keys[1], &foreign)] {
        let signed = SignedHeader::build(block.clone(), |bytes| key.sign(domain, bytes));
        let verdict = VerifiedHeader::verify(&committee, signed.clone());
        assert_eq!(verdict, Err(PeerError::BadHeaderSignature(signed.reference())));
    }
}
