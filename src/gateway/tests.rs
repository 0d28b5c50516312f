#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fhir::{Event, parse_stream};
use super::vault::VersionName;
use super::*;
use crate::crypto::{Domain, Purpose, SecretKey};
use crate::proof::commitment::{FHIR_R4_DOMAIN, commit};
use crate::types::{Body, Effect, KeyId, Kind, LeafIndex, NetworkId, OrgId, Roles, TimestampMs, Transaction};

const NETWORK: NetworkId = NetworkId(*b"test-net");
const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

fn governors(n: u8) -> Vec<OrgSigner> {
    (1..=n)
        .map(|i| OrgSigner::new(NETWORK, OrgId(i.into()), KeyId(0), SecretKey::from_seed(&[i; 32]), 1))
        .collect()
}

fn gateway(events: Vec<Event>, times: u32, seed: u64) -> Gateway<SeededEntropy> {
    let settings = Settings { network: NETWORK, first_org: 101, region: 7, policy: [9; 32], times };
    Gateway::new(events, settings, governors(4), SeededEntropy::new(seed)).unwrap()
}

/// Runs all stages; each transaction gets the next leaf when its stage ends.
fn run(gateway: &mut Gateway<SeededEntropy>) -> Vec<(usize, Prepared)> {
    let (mut out, mut leaf, mut stage, mut open) = (Vec::new(), 0, 0, Vec::new());
    loop {
        match gateway.next(NOW).unwrap() {
            Next::Transaction(prepared) => {
                open.push(prepared.transaction.id());
                out.push((stage, *prepared));
            }
            Next::StageEnd(ended) => {
                assert_eq!((ended.index, ended.transactions), (stage, open.len() as u64));
                for id in open.drain(..) {
                    gateway.note_final(&id, LeafIndex(leaf));
                    leaf += 1;
                }
                stage += 1;
            }
            Next::Done => return out,
        }
    }
}

fn sample() -> Vec<Event> {
    parse_stream(SAMPLE_STREAM).unwrap()
}

fn body(prepared: &Prepared) -> Body {
    Body::of(&prepared.transaction).unwrap()
}

#[test]
fn the_sample_has_its_labels() {
    let events = sample();
    let mut labels = BTreeMap::new();
    for event in &events {
        *labels.entry(event.label.name()).or_insert(0) += 1;
    }
    let expected = [
        ("ACCESS_LOG", 200),
        ("CONSENT_GRANT", 30),
        ("CONSENT_REVOKE", 5),
        ("KEY_ADD", 3),
        ("ORG_ADMIT", 5),
        ("RECORD_ANCHOR", 160),
        ("STUDY_LINK", 10),
        ("STUDY_REGISTER", 1),
    ];
    assert_eq!(labels, BTreeMap::from(expected));
    assert_eq!(events.len(), 414);
}

#[test]
fn the_sample_becomes_transactions_in_stages() {
    let mut gateway = gateway(sample(), 1, 1);
    let names: Vec<_> = gateway.stages().map(|stage| (stage.name, stage.transactions)).collect();
    assert_eq!(
        names,
        [
            ("admissions", 15), // three of four members for each of five organisations
            ("keys", 9),        // three for each of three devices
            ("consents and first versions", 30 + 60 + 80 + 11),
            ("accesses and second versions", 200 + 20),
            ("revocations", 5),
        ]
    );
    let made = run(&mut gateway);
    let mut kinds = BTreeMap::new();
    for (_, prepared) in &made {
        *kinds.entry(body(prepared).kind()).or_insert(0) += 1;
    }
    let expected = [
        (Kind::RecordAnchor, 171),
        (Kind::ConsentGrant, 30),
        (Kind::ConsentRevoke, 5),
        (Kind::AccessLog, 200),
        (Kind::KeyAdd, 9),
        (Kind::OrgAdmit, 15),
    ];
    assert_eq!(kinds, BTreeMap::from(expected));
    let ids: BTreeSet<_> = made.iter().map(|(_, p)| p.transaction.id()).collect();
    assert_eq!(ids.len(), made.len());
}

/// Keys as the ledger would know them.
type Keys = BTreeMap<(OrgId, KeyId), ([u8; 32], Roles)>;

fn verify(key: &[u8; 32], domain: &Domain, message: &[u8], signature: &[u8; 64]) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key).unwrap();
    let bytes = [domain.as_bytes(), message].concat();
    key.verify_strict(&bytes, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

fn role(kind: Kind) -> Roles {
    match kind {
        Kind::RecordAnchor | Kind::RecordBatch => Roles::RECORD,
        Kind::ConsentGrant | Kind::ConsentRevoke => Roles::CUSTODIAN,
        Kind::AccessLog => Roles::ACCESS,
        Kind::KeyAdd => Roles::ROOT,
        Kind::OrgAdmit => Roles::GOVERN,
    }
}

#[test]
fn every_transaction_is_signed_by_a_key_that_an_earlier_stage_registered_for_it() {
    let mut gateway = gateway(sample(), 2, 1);
    let domain = |purpose| Domain::new(purpose, NETWORK);
    let mut keys: Keys = governors(4)
        .iter()
        .map(|g| ((g.org(), g.key()), (g.secret().public(), Roles::ROOT.with(Roles::GOVERN))))
        .collect();
    let mut next_keys = Keys::new();
    let (mut seen_stage, mut seqs, mut handles) = (0, BTreeSet::new(), BTreeMap::new());
    for (stage, prepared) in run(&mut gateway) {
        if stage != seen_stage {
            keys.append(&mut next_keys);
            seen_stage = stage;
        }
        let tx: &Transaction = &prepared.transaction;
        let envelope = tx.envelope();
        let (key, roles) = keys[&(envelope.org, envelope.key)];
        assert!(verify(&key, &domain(Purpose::Tx), tx.signed_bytes(), tx.signature()));
        assert!(roles.contain(role(envelope.kind)), "{envelope:?}");
        assert!(seqs.insert((envelope.org, envelope.key, envelope.seq)), "{envelope:?}");
        assert_eq!((envelope.network, envelope.time), (NETWORK, NOW));
        match body(&prepared) {
            Body::OrgAdmit(admit) => {
                next_keys.insert((admit.org, KeyId(0)), (admit.root, Roles::ROOT));
            }
            Body::KeyAdd(add) => {
                let possession = domain(Purpose::Possession);
                assert!(verify(&add.public, &possession, &add.possession_bytes(), &add.possession));
                assert_eq!(add.org, envelope.org);
                assert!(add.from < NOW && NOW < add.to);
                next_keys.insert((add.org, add.key), (add.public, add.roles));
            }
            Body::ConsentGrant(grant) => {
                let seal = grant.patient.clone().unwrap();
                assert!(verify(&seal.key, &domain(Purpose::Consent), &grant.sealed_bytes(), &seal.signature));
                assert!(handles.insert(grant.handle, (envelope.org, seal.key)).is_none());
            }
            Body::ConsentRevoke(revoke) => {
                let (org, key) = handles[&revoke.handle];
                let signature = revoke.patient_signature.unwrap();
                assert_eq!(org, envelope.org, "the custodian that granted");
                assert!(verify(&key, &domain(Purpose::Consent), &revoke.sealed_bytes(), &signature));
            }
            Body::RecordAnchor(_) | Body::RecordBatch(_) | Body::AccessLog(_) => {}
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_does_not() {
    let bytes = |seed| -> Vec<_> {
        run(&mut gateway(sample(), 1, seed)).iter().map(|(_, p)| p.transaction.bytes().clone()).collect()
    };
    assert_eq!(bytes(5), bytes(5));
    assert!(bytes(5).iter().zip(&bytes(6)).all(|(a, b)| a != b));
}

#[test]
fn second_versions_name_the_leaf_of_the_first_in_every_copy() {
    let mut gateway = gateway(sample(), 3, 1);
    let made = run(&mut gateway);
    let second: Vec<_> = made
        .iter()
        .filter_map(|(_, prepared)| match body(prepared) {
            Body::RecordAnchor(anchor) => anchor.prev.map(|prev| (prev, prepared.document.clone().unwrap())),
            Body::RecordBatch(_)
            | Body::ConsentGrant(_)
            | Body::ConsentRevoke(_)
            | Body::AccessLog(_)
            | Body::KeyAdd(_)
            | Body::OrgAdmit(_) => None,
        })
        .collect();
    assert_eq!(second.len(), 3 * 20);
    for (prev, name) in &second {
        assert_eq!(name.version, 2);
        let first = VersionName { version: 1, ..name.clone() };
        assert_eq!(gateway.vault().version(&first).unwrap().leaf, Some(*prev), "{name}");
    }
    let distinct: BTreeSet<_> = second.iter().map(|(prev, _)| prev).collect();
    assert_eq!(distinct.len(), second.len());
}

#[test]
fn a_version_waits_for_the_leaf_before_it() {
    let mut gateway = gateway(sample(), 1, 1);
    let mut waiting = BTreeMap::new();
    let error = loop {
        match gateway.next(NOW) {
            Ok(Next::Transaction(prepared)) => {
                waiting.insert(prepared.document, prepared.transaction.id());
            }
            Ok(Next::StageEnd(_)) => {}
            Ok(Next::Done) => panic!("ended without leaves"),
            Err(error) => break error,
        }
    };
    let PlanError::NotFinal { line } = error else { panic!("{error}") };
    assert_eq!(gateway.next(NOW), Err(PlanError::NotFinal { line }), "asking again changes nothing");
    let event = gateway.events().iter().find(|event| event.line == line).unwrap();
    let (resource, grantee) = (event.resource.clone(), None);
    let first = VersionName { copy: 0, resource, version: 1, grantee };
    assert!(gateway.note_final(&waiting[&Some(first)], LeafIndex(77)));
    let Ok(Next::Transaction(prepared)) = gateway.next(NOW) else { panic!("still waits") };
    let Body::RecordAnchor(anchor) = body(&prepared) else { panic!("{prepared:?}") };
    assert_eq!(anchor.prev, Some(LeafIndex(77)));
}

#[test]
fn commitments_open_with_the_vault_and_the_resource() {
    let mut gateway = gateway(sample(), 1, 1);
    let made = run(&mut gateway);
    let mut commits = BTreeSet::new();
    for (_, prepared) in &made {
        let commitment = match body(prepared) {
            Body::RecordAnchor(body) => body.commit,
            Body::ConsentGrant(body) => body.commit,
            Body::ConsentRevoke(body) => body.commit,
            Body::AccessLog(body) => body.commit,
            Body::RecordBatch(_) | Body::KeyAdd(_) | Body::OrgAdmit(_) => continue,
        };
        let name = prepared.document.as_ref().unwrap();
        let entry = gateway.vault().version(name).unwrap();
        let canonical = gateway.canonical(name).unwrap();
        assert_eq!(commit(&entry.commitment_key, FHIR_R4_DOMAIN, canonical), commitment);
        assert_eq!(entry.transaction, Some(prepared.transaction.id()));
        assert!(entry.leaf.is_some());
        assert!(commits.insert(commitment));
    }
    assert_eq!(commits.len(), gateway.vault().versions());
}

#[test]
fn consents_say_on_the_ledger_what_they_say_in_fhir() {
    let (mut treatment, mut research) = (0, 0);
    for (_, prepared) in run(&mut gateway(sample(), 1, 1)) {
        let Body::ConsentGrant(grant) = body(&prepared) else { continue };
        assert!(grant.provisions.iter().all(|p| p.effect == Effect::Permit));
        let day = |text: &str| u32::try_from(DateSpan::parse(text).unwrap().from_ms / 1_000).unwrap();
        assert!(grant.provisions.iter().all(|p| p.from_s == day("2026-01-05")));
        let said: Vec<_> = grant.provisions.iter().map(|p| (p.purpose, p.category, p.to_s)).collect();
        if said.len() == 3 {
            // TREAT for observations, reports and medication, by another organisation than the custodian.
            let to = day("2027-01-05");
            assert_eq!(said, [(1, 2, to), (1, 3, to), (1, 4, to)]);
            assert_ne!(grant.grantee, prepared.transaction.envelope().org);
            treatment += 1;
        } else {
            let any = codes::CATEGORY_ANY;
            let (five, thirty) = (day("2031-01-05"), day("2056-01-05"));
            assert_eq!(
                said,
                [
                    (16, any, five),
                    (17, any, thirty),
                    (8, any, thirty),
                    (18, any, five),
                    (19, any, thirty),
                    (20, any, thirty)
                ]
            );
            assert_eq!(grant.grantee, prepared.transaction.envelope().org);
            research += 1;
        }
    }
    assert_eq!((treatment, research), (20, 10));
}

#[test]
fn accesses_name_a_consent_only_where_one_is_needed_and_given() {
    let mut seen = BTreeMap::new();
    let mut handles = BTreeSet::new();
    for (_, prepared) in run(&mut gateway(sample(), 1, 1)) {
        match body(&prepared) {
            Body::ConsentGrant(grant) => {
                handles.insert((grant.handle, grant.grantee));
            }
            Body::AccessLog(access) => {
                let sender = prepared.transaction.envelope().org;
                assert!(access.consent.is_none_or(|handle| handles.contains(&(handle, sender))));
                assert_eq!(access.origin, OrgId(0), "in the sample every site reads its own records");
                assert_eq!(access.break_glass, access.purpose == 3);
                *seen.entry((access.purpose, access.consent.is_some())).or_insert(0) += 1;
            }
            Body::RecordAnchor(_)
            | Body::RecordBatch(_)
            | Body::ConsentRevoke(_)
            | Body::KeyAdd(_)
            | Body::OrgAdmit(_) => {}
        }
    }
    // 180 for treatment and 4 in an emergency without; of 16 for research, 8 patients gave a broad consent.
    assert_eq!(seen, BTreeMap::from([((1, false), 180), ((3, false), 4), ((8, false), 8), ((8, true), 8)]));
}

/// The sample with one access moved to a device of the organisation that the treatment consent names, at a time.
fn with_foreign_access(recorded: &str) -> (Vec<Event>, usize) {
    let lines: Vec<Value> = SAMPLE_STREAM
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let of_type = |name: &'static str| move |line: &&Value| line["resource"]["resourceType"] == name;
    let consent = lines
        .iter()
        .filter(of_type("Consent"))
        .find(|line| line["resource"]["provision"]["actor"].is_array())
        .unwrap();
    let grantee = &consent["resource"]["provision"]["actor"][0]["reference"];
    let device =
        lines.iter().filter(of_type("Device")).find(|line| line["resource"]["owner"] == *grantee).unwrap();
    let device = format!("Device/{}", device["resource"]["id"].as_str().unwrap());
    let patient = consent["resource"]["patient"]["reference"].clone();
    let access = lines
        .iter()
        .filter(of_type("AuditEvent"))
        .position(|line| {
            line["resource"]["entity"][0]["what"]["reference"] == patient
                && line["resource"]["entity"][1]["what"]["reference"]
                    .as_str()
                    .is_some_and(|what| what.starts_with("DiagnosticReport/"))
        })
        .unwrap();
    let access = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line["resource"]["resourceType"] == "AuditEvent")
        .nth(access)
        .unwrap()
        .0;
    let mut changed = lines.clone();
    changed[access]["resource"]["source"]["observer"]["reference"] = Value::String(device);
    changed[access]["resource"]["recorded"] = Value::String(recorded.to_owned());
    let mut revoke = consent.clone();
    revoke["tx"] = Value::String("CONSENT_REVOKE".to_owned());
    revoke["resource"]["status"] = Value::String("inactive".to_owned());
    revoke["resource"]["meta"]["versionId"] = Value::String("2".to_owned());
    revoke["resource"]["dateTime"] = Value::String("2026-02-01T00:00:00Z".to_owned());
    changed.push(revoke);
    let text: Vec<String> = changed.iter().map(Value::to_string).collect();
    (parse_stream(text.join("\n").as_bytes()).unwrap(), access + 1)
}

#[test]
fn an_access_to_another_sites_record_names_consent_and_origin() {
    for (recorded, stage_expected) in [("2026-01-31T23:59:59Z", 3), ("2026-02-01T00:00:00Z", 5)] {
        let (events, line) = with_foreign_access(recorded);
        let made = run(&mut gateway(events, 1, 1));
        let (stage, prepared) = made.iter().find(|(_, prepared)| prepared.line == line).unwrap();
        assert_eq!(*stage, stage_expected, "before the revocation, or after it to be flagged");
        let Body::AccessLog(access) = body(prepared) else { panic!("{prepared:?}") };
        let sender = prepared.transaction.envelope().org;
        let grant = made
            .iter()
            .find_map(|(_, prepared)| match body(prepared) {
                Body::ConsentGrant(grant) if Some(grant.handle) == access.consent => {
                    Some((prepared.transaction.envelope().org, grant.grantee))
                }
                Body::ConsentGrant(_)
                | Body::RecordAnchor(_)
                | Body::RecordBatch(_)
                | Body::ConsentRevoke(_)
                | Body::AccessLog(_)
                | Body::KeyAdd(_)
                | Body::OrgAdmit(_) => None,
            })
            .expect("the access names a consent of the plan");
        assert_eq!(grant, (access.origin, sender));
    }
}

/// Every text of a resource that could tell who or what it is about, and what is hidden in base64 or made of ids.
fn needles(value: &Value, out: &mut BTreeSet<Vec<u8>>) {
    use base64::Engine as _;
    match value {
        Value::String(text) => {
            out.insert(text.clone().into_bytes());
            for part in text.split(['/', '?', '=', '.', ' ', '|']) {
                out.insert(part.as_bytes().to_vec());
            }
            if let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(text) {
                out.insert(decoded);
            }
            let id = text.rsplit('/').next().unwrap_or(text);
            if let Ok(raw) = hex::decode(id.replace('-', "")) {
                out.insert(raw);
            }
            use sha2::Digest as _;
            for form in [text.as_str(), id] {
                out.insert(sha2::Sha256::digest(form).to_vec());
                out.insert(blake3::hash(form.as_bytes()).as_bytes().to_vec());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| needles(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| needles(field, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

const NEEDLE_BYTES_MIN: usize = 6;

fn found<'a>(haystack: &[u8], needles: &'a BTreeSet<Vec<u8>>) -> BTreeSet<&'a [u8]> {
    let mut by_start: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for needle in needles.iter().filter(|needle| needle.len() >= NEEDLE_BYTES_MIN) {
        by_start.entry(&needle[..NEEDLE_BYTES_MIN]).or_default().push(needle);
    }
    let mut out = BTreeSet::new();
    for at in 0..haystack.len().saturating_sub(NEEDLE_BYTES_MIN - 1) {
        if let Some(candidates) = by_start.get(&haystack[at..at + NEEDLE_BYTES_MIN]) {
            out.extend(candidates.iter().filter(|needle| haystack[at..].starts_with(needle)));
        }
    }
    out
}

#[test]
fn nothing_that_names_anybody_leaves_the_gateway() {
    let mut all = BTreeSet::new();
    let mut names = BTreeSet::new();
    for line in SAMPLE_STREAM.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        needles(&line["resource"], &mut all);
        if line["resource"]["resourceType"] == "Organization" {
            needles(&line["resource"]["name"], &mut names);
        }
    }
    assert!(all.len() > 3_000, "{} needles", all.len());
    let made = run(&mut gateway(sample(), 1, 1));
    let bytes = |admissions: bool| -> Vec<u8> {
        made.iter()
            .filter(|(_, p)| (p.transaction.envelope().kind == Kind::OrgAdmit) == admissions)
            .flat_map(|(_, p)| p.transaction.bytes().to_vec())
            .collect()
    };
    let shown = |found: BTreeSet<&[u8]>| -> Vec<String> {
        found.iter().map(|needle| String::from_utf8_lossy(needle).into_owned()).collect()
    };
    assert_eq!(shown(found(&bytes(false), &all)), Vec::<String>::new());
    let public = found(&bytes(true), &all);
    assert!(public.contains(b"Harbour University Hospital".as_slice()), "the search does find what is there");
    assert_eq!(shown(public.iter().copied().filter(|n| !names.contains(*n)).collect()), Vec::<String>::new());
}
