//! Every rule, kept and broken.

use super::world::*;
use crate::execute::*;
use crate::limits::{KEYS_PER_ORG_MAX, REPLAY_WINDOW};
use crate::types::*;

const TEN_MINUTES_MS: u64 = 600_000;

fn skipped(reason: SkipReason) -> Outcome {
    Outcome::Skipped(reason)
}

fn is_executed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Executed { violation: false, .. })
}

#[test]
fn malformed_and_foreign_bytes_are_skipped() {
    let mut world = World::new();
    let good = world.tx(1, 1, &anchor(1, None));
    let cut = good.bytes().slice(..good.bytes().len() - 1);
    let mut envelope = world.envelope(1, 1, Kind::RecordAnchor);
    envelope.network = NetworkId([1; 8]);
    let foreign = world.sign(envelope, &anchor(1, None).encode());
    let envelope = world.envelope(1, 1, Kind::RecordAnchor);
    let bad_body = world.sign(envelope, b"too short");
    let transactions = vec![
        cut,
        foreign.bytes().clone(),
        bad_body.bytes().clone(),
        bytes::Bytes::new(),
        good.bytes().clone(),
    ];
    for verdict in [Verdict::UnknownKey, Verdict::Invalid] {
        let outcomes = world.run_bytes(transactions.clone(), verdict);
        let expected =
            [SkipReason::Malformed, SkipReason::WrongNetwork, SkipReason::Malformed, SkipReason::Malformed];
        assert_eq!(outcomes[..4], expected.map(skipped));
        if verdict == Verdict::UnknownKey {
            assert!(is_executed(outcomes[4]));
        } else {
            assert_eq!(outcomes[4], skipped(SkipReason::BadSignature));
        }
    }
}

#[test]
fn keys_count_from_their_registration_and_within_their_validity() {
    let mut world = World::new();
    assert_eq!(world.one(1, 2, &anchor(1, None)), skipped(SkipReason::UnknownKey));
    assert_eq!(world.one(77, 0, &anchor(1, None)), skipped(SkipReason::UnknownKey));
    let mut body = world.key_body(1, 2, Roles::RECORD);
    (body.from, body.to) = (TimestampMs(world.now_ms + 10), TimestampMs(world.now_ms + 20));
    world.prove_possession(&mut body, &secret(1, 2));
    assert!(is_executed(world.one(1, 0, &Body::KeyAdd(body))));
    for (ms, expected) in [(9, false), (10, true), (19, true), (20, false)] {
        world.now_ms = START_MS + ms;
        let outcome = world.one(1, 2, &anchor(1, None));
        assert_eq!(is_executed(outcome), expected, "{ms}: {outcome:?}");
        assert!(expected || outcome == skipped(SkipReason::UnknownKey), "{ms}: {outcome:?}");
    }
}

#[test]
fn a_key_may_be_used_right_behind_its_registration() {
    let mut world = World::new();
    let early = world.tx(1, 2, &anchor(1, None));
    let add = world.key_add(1, 2, Roles::RECORD);
    let late = world.tx(1, 2, &anchor(2, None));
    let outcomes = world.run(&[early, add, late]);
    assert_eq!(outcomes[0], skipped(SkipReason::UnknownKey));
    assert!(is_executed(outcomes[1]) && is_executed(outcomes[2]));
}

#[test]
fn verdicts_of_the_pipeline_are_final() {
    let mut world = World::new();
    let good = world.tx(1, 1, &anchor(1, None));
    let mut forged = good.bytes().to_vec();
    let last = forged.len() - 1;
    forged[last - 40] ^= 1;
    let bad = skipped(SkipReason::BadSignature);
    assert_eq!(world.run_bytes(vec![forged.into()], Verdict::UnknownKey), [bad]);
    assert_eq!(world.run_bytes(vec![good.bytes().clone()], Verdict::Invalid), [bad]);
    assert!(is_executed(world.run_bytes(vec![good.bytes().clone()], Verdict::Valid)[0]));
}

#[test]
fn sequence_numbers_are_used_once() {
    let mut world = World::new();
    let mut send = |seq: u64, commit: u8| {
        let mut envelope = world.envelope(1, 1, Kind::RecordAnchor);
        envelope.seq = seq;
        let tx = world.sign(envelope, &anchor(commit, None).encode());
        (world.run(&[tx.clone(), tx.clone()]), world.run(&[tx]))
    };
    // The very same transaction again, in the same commit and in the next one, is a duplicate with the same leaf.
    let (both, again) = send(100_000, 1);
    let Outcome::Executed { leaf, violation: false } = both[0] else { panic!("{both:?}") };
    assert_eq!([both[1], again[0]], [Outcome::Duplicate { leaf }; 2]);
    // Another one with the same number is not.
    assert_eq!(send(100_000, 2).0, [skipped(SkipReason::Replayed); 2]);
    // Order and gaps do not matter, the window does.
    assert!(is_executed(send(100_000 - REPLAY_WINDOW + 1, 3).0[0]));
    assert_eq!(send(100_000 - REPLAY_WINDOW, 4).0, [skipped(SkipReason::Replayed); 2]);
    assert!(is_executed(send(u64::MAX, 5).0[0]));
}

#[test]
fn the_senders_clock_may_be_ten_minutes_off() {
    let mut world = World::new();
    for (offset, expected) in [
        (-600_000_i64, true),
        (600_000, true),
        (-600_001, false),
        (600_001, false),
        (-1_000_000_000_000, false),
    ] {
        let mut envelope = world.envelope(1, 1, Kind::RecordAnchor);
        envelope.time = TimestampMs(world.now_ms.saturating_add_signed(offset));
        let tx = world.sign(envelope, &anchor(1, None).encode());
        let outcome = world.run(&[tx])[0];
        assert_eq!(is_executed(outcome), expected, "{offset}");
        assert!(expected || outcome == skipped(SkipReason::BadTime), "{offset}: {outcome:?}");
    }
}

#[test]
fn each_kind_asks_for_its_role() {
    let mut world = World::new();
    let roles = [Roles::RECORD, Roles::CUSTODIAN, Roles::ACCESS, Roles::GOVERN];
    for (i, role) in (2_u32..).zip(roles) {
        let add = world.key_add(1, i, role);
        world.executes(&[add]);
    }
    let given = world.tx(1, 1, &Body::ConsentGrant(grant(1, 2, vec![permit(2, 3)])));
    world.executes(&[given]);
    // Key 0 is the root key; keys 2 to 5 have one of `roles` each.
    let cases = [
        (anchor(1, None), 2),
        (Body::ConsentGrant(grant(2, 2, vec![permit(2, 3)])), 3),
        (Body::ConsentRevoke(revoke(1, START_MS)), 3),
        (Body::AccessLog(AccessLog { consent: None, ..access(0, START_MS) }), 4),
        (Body::KeyAdd(world.key_body(1, 9, WORK)), 0),
        (admit(50, "Research"), 5),
    ];
    for (body, allowed) in &cases {
        for key in [0, 2, 3, 4, 5] {
            // The root key of a governing member votes too.
            if key == *allowed || (key == 0 && body.kind() == Kind::OrgAdmit) {
                continue;
            }
            let outcome = world.one(1, key, body);
            assert_eq!(outcome, skipped(SkipReason::MissingRole), "{:?} by key {key}", body.kind());
        }
        let outcome = world.one(1, *allowed, body);
        assert!(is_executed(outcome), "{:?} by key {allowed}: {outcome:?}", body.kind());
    }
}

#[test]
fn a_record_version_replaces_a_live_head_of_its_own_organisation_once() {
    let mut world = World::new();
    let first = world.tx(1, 1, &anchor(1, None));
    let log = world.tx(1, 1, &Body::AccessLog(AccessLog { consent: None, ..access(0, START_MS) }));
    let leaves = world.executes(&[first, log]);
    let (v1, not_a_record) = (leaves[0], leaves[1]);
    let bad = skipped(SkipReason::NotAHead);
    assert_eq!(world.one(2, 1, &anchor(2, Some(v1))), bad, "another organisation's");
    assert_eq!(world.one(1, 1, &anchor(2, Some(not_a_record))), bad, "no record");
    assert_eq!(world.one(1, 1, &anchor(2, Some(LeafIndex(1_000)))), bad, "no leaf");
    // Two versions of one record in one commit, then a fork.
    let v2 = world.tx(1, 1, &anchor(2, Some(v1)));
    let next = LeafIndex(world.executor.head().tree_size);
    let v3 = world.tx(1, 1, &anchor(3, Some(next)));
    let fork = world.tx(1, 1, &anchor(4, Some(v1)));
    let outcomes = world.run(&[v2, v3, fork]);
    assert_eq!(outcomes[0], Outcome::Executed { leaf: next, violation: false });
    assert!(is_executed(outcomes[1]));
    assert_eq!(outcomes[2], bad);
    assert_eq!(world.one(1, 1, &anchor(4, Some(v1))), bad, "superseded");
    let reader = world.executor.reader();
    let status = reader.record(v1).unwrap().unwrap();
    assert_eq!((status.superseded_by, status.head), (Some(next), Some(LeafIndex(next.0 + 1))));
    assert_eq!(reader.record(not_a_record).unwrap(), None);
}

#[test]
fn consents_are_granted_under_new_handles_to_active_organisations() {
    let mut world = World::new();
    let mut given = |body: ConsentGrant| world.one(1, 1, &Body::ConsentGrant(body));
    let rules = || vec![permit(2, 3)];
    assert!(is_executed(given(grant(1, 2, rules()))));
    assert_eq!(given(grant(1, 3, rules())), skipped(SkipReason::HandleTaken));
    assert_eq!(given(grant(0, 2, rules())), skipped(SkipReason::Malformed));
    assert_eq!(given(grant(2, 99, rules())), skipped(SkipReason::UnknownGrantee));
    let other_kind = ConsentGrant { grantee_kind: 2, ..grant(2, 2, rules()) };
    assert_eq!(given(other_kind), skipped(SkipReason::UnknownGrantee));
}

/// A consent that the patient sealed with key (`org` 60, `key`).
fn sealed<S: Store>(world: &World<S>, handle: u8, grantee: u32, key: u32) -> ConsentGrant {
    let patient = secret(60, key);
    let mut body = grant(handle, grantee, vec![permit(2, 3)]);
    body.patient = Some(PatientSeal { key: patient.public(), signature: [0; 64] });
    let signature = patient.sign(&world.consent_domain(), &body.sealed_bytes());
    body.patient = Some(PatientSeal { key: patient.public(), signature });
    body
}

#[test]
fn a_patients_seal_has_to_verify() {
    let mut world = World::new();
    let good = sealed(&world, 1, 2, 0);
    let mut another = good.clone();
    another.handle = [2; 32];
    let bad = skipped(SkipReason::BadPatientSignature);
    assert_eq!(world.one(1, 1, &Body::ConsentGrant(another)), bad);
    // Under a key of small order anybody could have signed.
    let mut small = good.clone();
    small.patient = Some(PatientSeal { key: [0; 32], signature: [0; 64] });
    assert_eq!(world.one(1, 1, &Body::ConsentGrant(small)), bad);
    assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(good))));
}

#[test]
fn consents_are_revoked_by_custodian_or_patient_and_never_by_the_grantee() {
    let mut world = World::new();
    for (handle, key) in [(1, 0), (2, 1), (3, 2)] {
        let body = sealed(&world, handle, 2, key);
        assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(body))));
    }
    assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(grant(4, 1, vec![permit(2, 3)])))));
    assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(grant(5, 2, vec![permit(2, 3)])))));
    let signed = |world: &World<MemStore>, handle: u8, key: u32| {
        let mut body = revoke(handle, START_MS);
        let signature = secret(60, key).sign(&world.consent_domain(), &body.sealed_bytes());
        body.patient_signature = Some(signature);
        body
    };
    let cases = [
        ("no such consent", 1, revoke(9, START_MS), Err(SkipReason::UnknownConsent)),
        ("a third party alone", 3, revoke(1, START_MS), Err(SkipReason::NotTheCustodian)),
        ("the grantee", 2, revoke(1, START_MS), Err(SkipReason::NotTheCustodian)),
        ("the grantee, for the patient", 2, signed(&world, 1, 0), Err(SkipReason::NotTheCustodian)),
        ("another patient", 3, signed(&world, 1, 1), Err(SkipReason::BadPatientSignature)),
        ("the custodian, with a bad seal", 1, signed(&world, 1, 1), Err(SkipReason::BadPatientSignature)),
        ("a seal on an unsealed consent", 1, signed(&world, 5, 0), Err(SkipReason::BadPatientSignature)),
        ("the custodian", 1, revoke(1, START_MS), Ok(())),
        ("again", 1, revoke(1, START_MS), Err(SkipReason::AlreadyRevoked)),
        ("a third party, for the patient", 3, signed(&world, 2, 1), Ok(())),
        ("the custodian, for the patient", 1, signed(&world, 3, 2), Ok(())),
        ("its own grantee", 1, revoke(4, START_MS), Ok(())),
    ];
    for (name, org, body, expected) in cases {
        let outcome = world.one(org, 1, &Body::ConsentRevoke(body));
        match expected {
            Ok(()) => assert!(is_executed(outcome), "{name}: {outcome:?}"),
            Err(reason) => assert_eq!(outcome, skipped(reason), "{name}"),
        }
    }
}

#[test]
fn accesses_without_a_permit_in_force_are_flagged() {
    let mut world = World::new();
    let any = Provision::ANY;
    let deny = |purpose, category| Provision { effect: Effect::Deny, ..permit(purpose, category) };
    let (from, to) = (1_690_000_000_u64, 1_700_000_001_u64);
    let short = Provision { from_s: 1_690_000_000, to_s: 1_700_000_001, ..permit(any, any) };
    let consents = [
        (1, vec![permit(2, 3)]),
        (2, vec![permit(any, 3)]),
        (3, vec![permit(2, any)]),
        (4, vec![permit(any, any), deny(any, 3)]),
        (5, vec![deny(1, any), permit(2, 4), permit(1, 3)]),
        (6, vec![short]),
        (7, vec![permit(any, any), deny(2, 5)]),
        (8, vec![permit(any, any)]),
    ];
    for (handle, rules) in consents {
        assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(grant(handle, 2, rules)))));
    }
    let now = START_MS;
    let revoked = world.one(1, 1, &Body::ConsentRevoke(revoke(8, now - 50)));
    assert!(is_executed(revoked));
    let at = |handle, ms| access(handle, ms);
    let cases = [
        ("equal", 2, at(1, now), false),
        ("any purpose", 2, at(2, now), false),
        ("any category", 2, at(3, now), false),
        ("denied", 2, at(4, now), true),
        ("no rule matches", 2, at(5, now), true),
        ("a denial of something else", 2, at(7, now), false),
        ("another purpose", 2, AccessLog { purpose: 9, ..at(1, now) }, true),
        ("another category", 2, AccessLog { category: 9, ..at(1, now) }, true),
        ("not the grantee", 3, at(1, now), true),
        ("the custodian is not the grantee", 1, at(1, now), true),
        ("no such consent", 2, at(99, now), true),
        ("no consent named", 3, AccessLog { consent: None, ..at(1, now) }, false),
        ("break-glass", 3, AccessLog { break_glass: true, ..at(1, now) }, false),
        ("before the start", 2, at(6, from * 1_000 - 1), true),
        ("at the start", 2, at(6, from * 1_000), false),
        ("just before the end", 2, at(6, to * 1_000 - 1), false),
        ("at the end", 2, at(6, to * 1_000), true),
        ("before the revocation took effect", 2, at(8, now - 51), false),
        ("as the revocation took effect", 2, at(8, now - 50), true),
        ("within the clocks' tolerance", 2, at(1, now + TEN_MINUTES_MS), false),
        ("in the future", 2, at(1, now + TEN_MINUTES_MS + 1), true),
    ];
    for (name, org, body, flagged) in cases {
        let outcome = world.one(org, 1, &Body::AccessLog(body));
        let Outcome::Executed { leaf, violation } = outcome else { panic!("{name}: {outcome:?}") };
        assert_eq!(violation, flagged, "{name}");
        let stub = world.executor.reader().leaf(leaf).unwrap().unwrap().stub;
        assert_eq!(Stub::decode(&stub).unwrap().violation, flagged, "{name}");
    }
}

#[test]
fn keys_are_added_by_their_own_root_under_new_numbers() {
    let mut world = World::new();
    let cases: [(&str, KeyAdd, SkipReason); 5] = [
        ("another organisation's", world.key_body(2, 7, WORK), SkipReason::BadKey),
        ("a number in use", world.key_body(1, 1, WORK), SkipReason::BadKey),
        ("the root's number", world.key_body(1, 0, WORK), SkipReason::BadKey),
        ("small order", KeyAdd { public: [0; 32], ..world.key_body(1, 7, WORK) }, SkipReason::BadKey),
        ("no possession", KeyAdd { key: KeyId(8), ..world.key_body(1, 7, WORK) }, SkipReason::BadPossession),
    ];
    for (name, body, reason) in cases {
        assert_eq!(world.one(1, 0, &Body::KeyAdd(body)), skipped(reason), "{name}");
    }
    let body = Body::KeyAdd(world.key_body(1, 7, Roles::RECORD));
    assert!(is_executed(world.one(1, 0, &body)));
    assert_eq!(world.one(1, 0, &body), skipped(SkipReason::BadKey), "registered just now");
    let key = world.executor.reader().key(OrgId(1), KeyId(7)).unwrap().unwrap();
    assert_eq!((key.public, key.roles), (secret(1, 7).public(), Roles::RECORD));
    assert_eq!(world.executor.directory().public(OrgId(1), KeyId(7)), Some(secret(1, 7).public()));
}

#[test]
fn an_organisation_has_a_limit_of_keys() {
    let mut world = World::new();
    // Two of the limit are there already: the root key and key 1. The last two are asked for in one commit.
    world.executor.directory().write(|keys| {
        let entry = keys[&(OrgId(1), KeyId(1))].clone();
        let more = u32::try_from(KEYS_PER_ORG_MAX - 3).unwrap();
        keys.extend((0..more).map(|i| ((OrgId(1), KeyId(1_000 + i)), entry.clone())));
    });
    let last = [world.key_add(1, 2, WORK), world.key_add(1, 3, WORK), world.key_add(2, 3, WORK)];
    let outcomes = world.run(&last);
    assert!(is_executed(outcomes[0]) && is_executed(outcomes[2]));
    assert_eq!(outcomes[1], skipped(SkipReason::BadKey));
}

#[test]
fn more_than_two_thirds_of_the_governing_members_admit() {
    let mut world = World::new();
    let body = admit(50, "Research");
    let other = admit(50, "Another body");
    assert_eq!(world.one(5, 0, &body), skipped(SkipReason::MissingRole), "its root key has no GOVERN");
    let add = world.key_add(5, 2, Roles::GOVERN);
    world.executes(&[add]);
    assert_eq!(world.one(5, 2, &body), skipped(SkipReason::NotGoverning));
    assert_eq!(world.one(1, 0, &admit(0, "Nobody")), skipped(SkipReason::Malformed));
    assert_eq!(world.one(1, 0, &admit(2, "Taken")), skipped(SkipReason::OrgExists));
    let small = OrgAdmit { root: [0; 32], ..body_of(&body) };
    assert_eq!(world.one(1, 0, &Body::OrgAdmit(small)), skipped(SkipReason::BadKey));

    let reader = world.executor.reader();
    let votes = |reader: &LedgerReader<MemStore>| match reader.org(OrgId(50)).unwrap() {
        OrgStatus::Proposed(mut all) => {
            all.sort_by_key(|proposal| proposal.votes.0.len());
            all.into_iter().map(|proposal| proposal.votes.0).collect()
        }
        OrgStatus::Unknown => Vec::new(),
        OrgStatus::Admitted(org) => panic!("{org:?}"),
    };
    assert_eq!(votes(&reader), Vec::<Vec<OrgId>>::new());
    assert!(is_executed(world.one(2, 0, &body)));
    assert_eq!(world.one(2, 0, &body), skipped(SkipReason::AlreadyVoted));
    // A vote for another body counts for that one alone.
    assert!(is_executed(world.one(3, 0, &other)));
    assert!(is_executed(world.one(1, 0, &body)));
    assert_eq!(votes(&reader), [vec![OrgId(3)], vec![OrgId(1), OrgId(2)]]);
    assert_eq!(world.one(50, 0, &body), skipped(SkipReason::UnknownKey));
    // Two of four are not more than two thirds, three are.
    assert!(is_executed(world.one(3, 0, &body)));
    let OrgStatus::Admitted(org) = reader.org(OrgId(50)).unwrap() else { panic!("not admitted") };
    assert_eq!((org.name.as_str(), org.governs, org.active), ("Research", false, true));
    assert_eq!(world.one(4, 0, &body), skipped(SkipReason::OrgExists));
    // Its root key works from now on, and does not vote.
    let key = reader.key(OrgId(50), KeyId(0)).unwrap().unwrap();
    assert_eq!((key.roles, key.from), (Roles::ROOT, TimestampMs(START_MS)));
    assert_eq!(world.one(50, 0, &admit(51, "Friend")), skipped(SkipReason::MissingRole));
    let add = world.key_add(50, 1, WORK);
    world.executes(&[add]);
    assert!(is_executed(world.one(1, 1, &Body::ConsentGrant(grant(1, 50, vec![permit(2, 3)])))));
}

fn body_of(body: &Body) -> OrgAdmit {
    let Body::OrgAdmit(body) = body else { panic!("{body:?}") };
    body.clone()
}

#[test]
fn a_skipped_transaction_keeps_its_number_and_may_be_executed_later() {
    let mut world = World::new();
    let early = world.tx(1, 1, &Body::ConsentGrant(grant(1, 50, vec![permit(2, 3)])));
    let reader = world.executor.reader();
    assert_eq!(reader.transaction(&early.id()).unwrap(), TransactionStatus::Unknown);
    assert_eq!(world.run(std::slice::from_ref(&early)), [skipped(SkipReason::UnknownGrantee)]);
    let commit = world.executor.head().commit;
    let status = TransactionStatus::Skipped { reason: SkipReason::UnknownGrantee, commit };
    assert_eq!(reader.transaction(&early.id()).unwrap(), status);
    for org in 1..=3 {
        assert!(is_executed(world.one(org, 0, &admit(50, "Research"))));
    }
    let outcomes = world.run(&[early.clone(), early.clone()]);
    let Outcome::Executed { leaf, .. } = outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[1], Outcome::Duplicate { leaf });
    let TransactionStatus::Executed(found) = reader.transaction(&early.id()).unwrap() else { panic!() };
    assert_eq!((found.index, found.payload_index), (leaf, 0));
    assert_eq!(found.payload_seq, LogSeq(world.executor.head().commit.0 * 100));
    assert_eq!(Stub::decode(&found.stub).unwrap().hash, stub_hash(&early));
}

#[test]
fn skips_are_remembered_for_those_alone_who_signed() {
    let mut world = World::new();
    let unknown = world.tx(1, 40, &anchor(1, None));
    let good = world.tx(1, 1, &anchor(1, None));
    let mut forged = good.bytes().to_vec();
    forged[60] ^= 1;
    let transactions = vec![unknown.bytes().clone(), forged.into(), bytes::Bytes::from_static(b"junk")];
    let ids: Vec<_> = transactions.iter().map(|bytes| tx_id(bytes)).collect();
    world.run_bytes(transactions, Verdict::UnknownKey);
    let reader = world.executor.reader();
    for id in ids {
        assert_eq!(reader.transaction(&id).unwrap(), TransactionStatus::Unknown);
    }
    let tally = reader.tally(AuthorityIndex(0)).unwrap();
    assert_eq!((tally.executed, tally.duplicate, tally.skipped), (5, 0, 3));
}
