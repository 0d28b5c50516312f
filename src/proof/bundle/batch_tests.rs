//! Bundles that open one file of a batch.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::proof::batch::FileHash;
use crate::proof::fixture::{Network, commitment_key, facts, resource};
use crate::proof::merkle::PathError;
use crate::types::RecordBatch;

fn member_of(bundle: &mut ProofBundle) -> &mut Member {
    let Shown::Member(member) = &mut bundle.opening.as_mut().unwrap().shown else { panic!("a member") };
    member
}

#[test]
fn a_file_of_a_batch_is_shown_with_its_place() {
    let network = Network::new(4);
    for (index, count) in [(0, 1), (0, 2), (1, 2), (4, 5), (37, 41), (40, 41)] {
        let bundle = network.batch_bundle(index, count);
        let bytes = bundle.encode().unwrap();
        assert_eq!(ProofBundle::decode(&bytes).unwrap(), bundle);
        let verified = verify_bundle(&bytes, &network.genesis).unwrap();
        assert_eq!(verified.member, Some(ShownMember { file: facts(index), index, count }));
        assert_eq!((verified.kind(), verified.resource), (Kind::RecordBatch, None));
    }
    let shown = network.batch_bundle(3, 41).verify(&network.genesis).unwrap().to_string();
    let hash = hex::encode(facts(3).hash);
    let expected =
        format!("and its member 3 of 41 is the file of 3145728 bytes with sha256 {hash}; signed by");
    assert!(
        shown.starts_with("RECORD_BATCH of organisation 7 is leaf 1 of 3") && shown.contains(&expected),
        "{shown}"
    );
    // Closed, it is a batch and no more.
    let closed = ProofBundle { opening: None, ..network.batch_bundle(3, 41) };
    assert_eq!(closed.verify(&network.genesis).unwrap().member, None);
}

#[test]
fn each_field_of_the_opening_has_its_own_refusal() {
    let network = Network::new(4);
    let good = network.batch_bundle(5, 41);
    let mut other = network.batch_bundle(6, 41);
    let other = member_of(&mut other).clone();
    let refused = |alter: &dyn Fn(&mut ProofBundle)| {
        let mut bundle = good.clone();
        alter(&mut bundle);
        bundle.verify(&network.genesis).unwrap_err()
    };
    let root = ProofError::BatchInclusion(PathError::Root);
    assert_eq!(refused(&|b| b.opening.as_mut().unwrap().key[31] ^= 1), ProofError::FileOpening);
    assert_eq!(refused(&|b| member_of(b).file.bytes += 1), ProofError::FileOpening);
    assert_eq!(refused(&|b| member_of(b).file.hash[0] ^= 1), ProofError::FileOpening);
    assert_eq!(refused(&|b| member_of(b).file.algorithm = FileHash::Blake3), ProofError::FileOpening);
    assert_eq!(refused(&|b| member_of(b).file = other.file), ProofError::FileOpening);
    assert_eq!(refused(&|b| member_of(b).commitment[0] ^= 1), root);
    assert_eq!(refused(&|b| member_of(b).commitment = other.commitment), root);
    assert_eq!(refused(&|b| member_of(b).index = 6), root);
    let outside = ProofError::BatchInclusion(PathError::OutsideTree { index: 41, size: 41 });
    assert_eq!(refused(&|b| member_of(b).index = 41), outside);
    let count = |bundle| ProofError::BatchCount { bundle, transaction: 41 };
    for n in [0, 40, 42, u32::MAX] {
        assert_eq!(refused(&|b| member_of(b).count = n), count(n));
    }
    for at in 0..6 {
        assert_eq!(refused(&|b| member_of(b).path[at].0[9] ^= 1), root, "{at}");
    }
    let length = |n| ProofError::BatchInclusion(PathError::Length(n));
    assert_eq!(refused(&|b| member_of(b).path.truncate(5)), length(5));
    assert_eq!(refused(&|b| member_of(b).path.push(NodeHash([1; 32]))), length(7));
    // The other member as a whole, under this one's key: it is in the batch, and not what the key opens.
    assert_eq!(refused(&|b| *member_of(b) = other.clone()), ProofError::FileOpening);
    // What is around the opening holds for itself, as in every bundle.
    assert_eq!(refused(&|b| b.stub[13] ^= 1), ProofError::Inclusion(PathError::Root));
    assert_eq!(refused(&|b| b.transaction[60] ^= 1), ProofError::StubMismatch("hash"));
}

#[test]
fn openings_of_the_other_form_are_refused() {
    let network = Network::new(1);
    let mut batch = network.batch_bundle(0, 3);
    let member =
        batch.opening.replace(Opening { key: commitment_key(0), shown: Shown::Resource(resource(0)) });
    let refused = ProofError::OpeningForm { kind: "RECORD_BATCH", shown: "resource" };
    assert_eq!(batch.verify(&network.genesis), Err(refused));
    let mut anchor = network.log(2).bundle(0);
    anchor.opening.clone_from(&member);
    let refused = ProofError::OpeningForm { kind: "RECORD_ANCHOR", shown: "member of a batch" };
    assert_eq!(anchor.verify(&network.genesis), Err(refused));
    // Of another algorithm, the same bytes may mean anything.
    let body = RecordBatch { root: [0; 32], count: 3, class: 4, alg: 1, retain_days: 1 };
    let refused = open(&Body::RecordBatch(body), &member.unwrap());
    assert!(matches!(refused, Err(ProofError::CommitmentAlgorithm { found: 1, .. })), "{refused:?}");
}

#[test]
fn openings_of_another_shape_are_refused() {
    let network = Network::new(1);
    let good = String::from_utf8(network.batch_bundle(2, 3).encode().unwrap()).unwrap();
    let altered = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        verify_bundle(good.replacen(from, to, 1).as_bytes(), &network.genesis).unwrap_err()
    };
    assert_eq!(
        altered("\"algorithm\": \"blake3\"", "\"algorithm\": \"md5\""),
        ProofError::FileHash("md5".into())
    );
    assert_eq!(altered("\"file\": {", "\"resource\": {}, \"file\": {"), ProofError::OpeningShape);
    let unknown = altered("\"batch\": {", "\"batch\": null, \"other\": {").to_string();
    assert!(unknown.contains("unknown field `other`"), "{unknown}");
    let twice = altered("\"file\": {", "\"file\": null, \"file\": {").to_string();
    assert!(twice.contains("duplicate field"), "{twice}");
    let part = |part| move |error: ProofError| matches!(error, ProofError::Part { part: found, .. } if found == part);
    let is_commitment = part("opening.batch.commitment");
    assert!(is_commitment(altered("\"commitment\": \"", "\"commitment\": \"AAAA")));
    let is_path = part("opening.batch.inclusionPath");
    let path = good.rfind("\"inclusionPath\": [").unwrap();
    let with_path = |hashes: &str| {
        let text = format!("{}\"inclusionPath\": [{hashes}{}", &good[..path], &good[path + 18..]);
        verify_bundle(text.as_bytes(), &network.genesis).unwrap_err()
    };
    assert!(is_path(with_path("\"AA==\",")));
    // Refused by its length, before a hash is decoded.
    let seventeen = with_path(&"\"AA==\",".repeat(16));
    assert_eq!(
        seventeen,
        ProofError::Part { part: "opening.batch.inclusionPath", expected: "at most 16 hashes" }
    );
    for (from, to) in [
        ("\"index\": 2", "\"index\": -1"),
        ("\"index\": 2", "\"index\": 4294967296"),
        ("\"index\": 2", "\"index\": 2, \"index\": 2"),
        ("\"count\": 3", "\"count\": \"3\""),
        ("\"bytes\": ", "\"bytes\": 1e3, \"size\": "),
        ("\"hash\": \"", "\"hash\": \"zz"),
        ("\"hash\": \"", "\"hash\": \"00"),
        ("\"algorithm\"", "\"path\": \"a\", \"algorithm\""),
    ] {
        assert!(matches!(altered(from, to), ProofError::Json(_)), "{from} -> {to}");
    }
}

/// No byte of the file can change and leave a proof that says something else.
#[test]
fn every_altered_byte_is_refused_or_changes_nothing() {
    let network = Network::new(2);
    let bytes = network.batch_bundle(5, 20).encode().unwrap();
    let shown = verify_bundle(&bytes, &network.genesis).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x04, 0x20, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            let Ok(mut verified) = verify_bundle(&altered, &network.genesis) else { continue };
            // The log's own line may have become a stranger's; the quorum does not need it.
            if verified.checkpoint.log_signature.is_none() {
                verified.checkpoint.log_signature = shown.checkpoint.log_signature;
            }
            assert_eq!(verified, shown, "byte {at} flipped by {flip:#x}");
        }
    }
    for len in 0..bytes.len() - 1 {
        assert!(verify_bundle(&bytes[..len], &network.genesis).is_err());
    }
}
