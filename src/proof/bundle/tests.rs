#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::proof::commitment::canonical_json;
use crate::proof::fixture::{Network, TIME_S, commitment_key, resource};
use crate::proof::merkle::PathError;
use crate::types::{KeyAdd, KeyId, Roles};

fn resource_of(bundle: &mut ProofBundle) -> &mut serde_json::Value {
    let Shown::Resource(resource) = &mut bundle.opening.as_mut().unwrap().shown else { panic!("a resource") };
    resource
}

#[test]
fn a_bundle_verifies_and_says_what_it_shows() {
    let network = Network::new(4);
    let log = network.log(300);
    let bundle = log.bundle(257);
    let bytes = bundle.encode().unwrap();
    assert_eq!(ProofBundle::decode(&bytes).unwrap(), bundle);
    let verified = verify_bundle(&bytes, &network.genesis).unwrap();
    assert_eq!(verified.tx_id, log.transactions[257].id());
    assert_eq!((verified.kind(), verified.org()), (Kind::RecordAnchor, OrgId(7)));
    assert_eq!(verified.resource, Some(canonical_json(&resource(257)).unwrap()));
    assert_eq!(
        verified.to_string(),
        "RECORD_ANCHOR of organisation 7 is leaf 257 of 300 in the log north/salus, executed by commit 9 at \
         2027-01-15T08:00:00.005Z, and is of the resource shown; signed by v0, v1, v2 with stake 3 of 4"
    );
    let closed = ProofBundle { opening: None, ..bundle };
    let verified = verify_bundle(&closed.encode().unwrap(), &network.genesis).unwrap();
    assert_eq!(verified.resource, None);
    assert!(!verified.to_string().contains("resource"));
}

#[test]
fn every_part_must_fit_the_others() {
    let network = Network::new(4);
    let log = network.log(20);
    let good = log.bundle(5);
    let other = log.bundle(6);
    let refused = |alter: &dyn Fn(&mut ProofBundle)| {
        let mut bundle = good.clone();
        alter(&mut bundle);
        bundle.verify(&network.genesis).unwrap_err()
    };
    assert_eq!(refused(&|b| b.stub = other.stub), ProofError::StubMismatch("hash"));
    assert_eq!(refused(&|b| b.stub[1] = 3), ProofError::StubMismatch("kind"));
    assert_eq!(refused(&|b| b.stub[5] ^= 1), ProofError::StubMismatch("organisation"));
    // Height and time are bound by the leaf alone.
    assert_eq!(refused(&|b| b.stub[13] ^= 1), ProofError::Inclusion(PathError::Root));
    assert_eq!(refused(&|b| b.transaction.clone_from(&other.transaction)), ProofError::StubMismatch("hash"));
    assert!(matches!(refused(&|b| b.transaction.truncate(50)), ProofError::Transaction(_)));
    assert!(matches!(refused(&|b| b.transaction[9] ^= 1), ProofError::WrongNetwork { .. }));
    assert_eq!(refused(&|b| b.leaf_index.0 = 6), ProofError::Inclusion(PathError::Root));
    assert!(matches!(
        refused(&|b| b.leaf_index.0 = 20),
        ProofError::Inclusion(PathError::OutsideTree { .. })
    ));
    assert_eq!(refused(&|b| b.tree_size = 21), ProofError::TreeSize { bundle: 21, checkpoint: 20 });
    assert_eq!(
        refused(&|b| {
            b.inclusion_path.pop();
        }),
        ProofError::Inclusion(PathError::Length(4))
    );
    assert_eq!(refused(&|b| b.inclusion_path[2].0[0] ^= 1), ProofError::Inclusion(PathError::Root));
    let smaller = network.log(19);
    assert_eq!(
        refused(&|b| b.checkpoint.clone_from(&smaller.note)),
        ProofError::TreeSize { bundle: 20, checkpoint: 19 }
    );
    let key = |b: &mut ProofBundle| b.opening.as_mut().unwrap().key = commitment_key(6);
    assert_eq!(refused(&key), ProofError::Opening);
    let value = |b: &mut ProofBundle| resource_of(b)["id"] = "o6".into();
    assert_eq!(refused(&value), ProofError::Opening);

    let elsewhere = Network::new(3);
    assert!(matches!(good.verify(&elsewhere.genesis), Err(ProofError::WrongNetwork { .. })));
}

#[test]
fn only_commitments_can_be_opened() {
    let network = Network::new(1);
    let mut bundle = network.log(1).bundle(0);
    let body = Body::KeyAdd(KeyAdd {
        org: OrgId(7),
        key: KeyId(1),
        public: [1; 32],
        roles: Roles::RECORD,
        from: TimestampMs(0),
        to: TimestampMs(1),
        possession: [0; 64],
    });
    let opening = bundle.opening.take().unwrap();
    assert_eq!(open(&body, &opening), Err(ProofError::NothingToOpen("KEY_ADD")));
    let Body::RecordAnchor(mut anchor) = bundle.verify(&network.genesis).unwrap().body else {
        panic!("an anchor")
    };
    anchor.alg = 2;
    let refused = open(&Body::RecordAnchor(anchor), &opening);
    assert!(matches!(refused, Err(ProofError::CommitmentAlgorithm { found: 2, .. })), "{refused:?}");
}

/// No byte of the file can change and leave a proof that says something else.
#[test]
fn every_altered_byte_is_refused_or_changes_nothing() {
    let network = Network::new(4);
    let bundle = network.log(20).bundle(5);
    let bytes = bundle.encode().unwrap();
    let shown = verify_bundle(&bytes, &network.genesis).unwrap();
    let mut accepted = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x02, 0x04, 0x20, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            let Ok(mut verified) = verify_bundle(&altered, &network.genesis) else { continue };
            accepted += 1;
            // The log's own line may have become a stranger's; the quorum does not need it.
            if verified.checkpoint.log_signature.is_none() {
                verified.checkpoint.log_signature = shown.checkpoint.log_signature;
            }
            assert_eq!(verified, shown, "byte {at} flipped by {flip:#x}");
        }
    }
    // White space, and the line that is not needed.
    assert!(accepted < bytes.len() / 2, "{accepted} of {} alterations changed nothing", 5 * bytes.len());
    for len in 0..bytes.len() - 1 {
        assert!(verify_bundle(&bytes[..len], &network.genesis).is_err());
    }
}

#[test]
fn files_of_another_shape_are_refused() {
    let network = Network::new(1);
    let good = String::from_utf8(network.log(2).bundle(1).encode().unwrap()).unwrap();
    let altered = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        verify_bundle(good.replacen(from, to, 1).as_bytes(), &network.genesis).unwrap_err()
    };
    assert_eq!(altered("salus-proof/1", "salus-proof/2"), ProofError::Format("salus-proof/2".to_owned()));
    assert!(matches!(altered("\"format\"", "\"extra\": 1, \"format\""), ProofError::Json(_)));
    assert!(matches!(altered("\"leafIndex\": 1", "\"leafIndex\": 1, \"leafIndex\": 1"), ProofError::Json(_)));
    assert!(matches!(altered("\"leafIndex\": 1", "\"leafIndex\": -1"), ProofError::Json(_)));
    assert!(matches!(altered("\"stub\": \"", "\"stub\": \"AA"), ProofError::Part { part: "stub", .. }));
    assert!(matches!(
        altered("\"key\": \"", "\"key\": \"AAAA"),
        ProofError::Part { part: "opening.key", .. }
    ));
    let twice = altered("\"unit\": ", "\"unit\": \"mg/dL\", \"unit\": ").to_string();
    assert!(twice.contains("\"unit\" appears twice"), "{twice}");
    let hashes = format!("\"inclusionPath\": [{}", "\"AA==\",".repeat(64));
    assert!(matches!(
        altered("\"inclusionPath\": [", &hashes),
        ProofError::Part { part: "inclusionPath", .. }
    ));
    let large = vec![b' '; BUNDLE_BYTES_MAX + 1];
    assert!(matches!(verify_bundle(&large, &network.genesis), Err(ProofError::TooLarge { .. })));
    let mut larger = network.log(2).bundle(1);
    *resource_of(&mut larger) = "x".repeat(BUNDLE_BYTES_MAX).into();
    assert!(matches!(larger.encode(), Err(ProofError::TooLarge { .. })));
    let deep = format!(
        "{}{}",
        good.split("\"resource\": ").next().unwrap(),
        "\"resource\": ".to_owned() + &"[".repeat(100_000)
    );
    assert!(matches!(verify_bundle(deep.as_bytes(), &network.genesis), Err(ProofError::Json(_))));
}

#[test]
fn keys_and_resources_do_not_reach_logs() {
    let text = format!("{:?}", Network::new(1).log(1).bundle(0).opening);
    assert_eq!(text, "Some(Opening(…))");
}

#[test]
fn times_are_written_in_utc() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_000 * TIME_S, "2027-01-15T08:00:00.000Z"),
    ];
    for (ms, expected) in cases {
        assert_eq!(Utc(TimestampMs(ms)).to_string(), expected);
    }
    // Whatever a stub holds is written without overflow.
    assert!(!Utc(TimestampMs(u64::MAX)).to_string().is_empty());
}
