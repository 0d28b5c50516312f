#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;
use crate::gateway::codes::{self, CATEGORY_ANY};
use crate::types::Effect;

fn line(tx: &str, resource: Value) -> Vec<u8> {
    json!({"when": "2026-01-05T08:00:00Z", "tx": tx, "resource": resource}).to_string().into_bytes()
}

fn refused(bytes: &[u8]) -> String {
    parse_line(3, bytes).unwrap_err().to_string()
}

fn document() -> Value {
    json!({"resourceType": "DocumentReference", "id": "d", "custodian": {"reference": "Organization/o"}})
}

fn consent(provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "id": "c", "status": "active", "patient": {"reference": "Patient/p"},
        "organization": [{"reference": "Organization/home"}], "dateTime": "2026-01-05", "provision": provision
    })
}

fn purpose(code: &str) -> Value {
    json!([{"system": codes::ACT_REASON, "code": code}])
}

fn granted(provision: Value) -> Result<Grant, String> {
    match parse_line(1, &line("CONSENT_GRANT", consent(provision))) {
        Ok(Event { content: Content::Grant(grant), .. }) => Ok(grant),
        Ok(event) => panic!("{event:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn rules(provision: Value) -> Vec<(Effect, u16, u16)> {
    granted(provision).unwrap().provisions.iter().map(|p| (p.effect, p.purpose, p.category)).collect()
}

#[test]
fn a_line_becomes_an_event_with_canonical_bytes() {
    let mut resource = document();
    resource["custodian"]["reference"] = json!("https://ehr.example.org/fhir/Organization/o/_history/4");
    resource["meta"] = json!({"versionId": "12"});
    let event = parse_line(3, &line("RECORD_ANCHOR", resource)).unwrap();
    assert_eq!((event.line, event.resource.as_str(), event.version), (3, "DocumentReference/d", 12));
    assert_eq!(event.when, TimestampMs(1_767_600_000_000));
    let holder = Holder::Organization("Organization/o".to_owned());
    assert_eq!(event.content, Content::Record { class: codes::CLASS_DOCUMENT, holder });
    assert!(event.canonical.starts_with(br#"{"custodian":{"reference":"https:"#));
}

#[test]
fn malformed_lines_are_refused_by_number_and_field() {
    let with = |path: &str, value: Value| {
        let mut resource = document();
        resource[path] = value;
        line("RECORD_ANCHOR", resource)
    };
    assert!(refused(b"{\"when\":").starts_with("line 3: not JSON: EOF"));
    assert_eq!(refused(b"{}"), "line 3: when is missing or of the wrong type");
    assert_eq!(refused(&vec![b' '; LINE_BYTES_MAX + 1]), "line 3: 1048577 bytes, limit 1048576");
    assert_eq!(refused(&line("RECORD", document())), "line 3: tx: \"RECORD\" is no kind");
    assert_eq!(
        refused(&line("ACCESS_LOG", document())),
        "line 3: labelled ACCESS_LOG, but a resource like this becomes RECORD_ANCHOR"
    );
    assert_eq!(
        refused(&line("RECORD_ANCHOR", json!({"resourceType": "Patient", "id": "p"}))),
        "line 3: resource type \"Patient\" does not become a transaction"
    );
    assert_eq!(
        refused(&line("RECORD_ANCHOR", json!([]))),
        "line 3: resource is missing or of the wrong type"
    );
    assert_eq!(refused(&with("custodian", json!({}))), "line 3: custodian is missing or of the wrong type");
    assert_eq!(
        refused(&with("custodian", json!({"reference": "#contained"}))),
        "line 3: custodian: the reference is not of the form Type/id"
    );
    for version in ["0", "-1", "one", "4294967296"] {
        assert!(refused(&with("meta", json!({"versionId": version}))).starts_with("line 3: meta.versionId:"));
    }
    for id in ["", "a/b", "ü", &"x".repeat(65)] {
        assert!(refused(&with("id", json!(id))).starts_with("line 3: id:"), "{id}");
    }
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    assert!(refused(&deep).starts_with("line 3: not JSON: recursion limit"));
}

#[test]
fn a_stream_stops_at_the_first_bad_line_and_skips_empty_ones() {
    let good = line("RECORD_ANCHOR", document());
    let stream = [good.as_slice(), b"", b"  \r", good.as_slice(), b"oops", b""].join(&b'\n');
    assert_eq!(parse_stream(&stream).unwrap_err().line, 5);
    let events = parse_stream(&[good.as_slice(), b"", good.as_slice(), b""].join(&b'\n')).unwrap();
    assert_eq!(events.iter().map(|event| event.line).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn errors_do_not_show_names_or_ids() {
    let mut resource = consent(json!({"type": "permit", "purpose": purpose("TREAT")}));
    resource["patient"]["reference"] = json!("Jane Doe 1970");
    let error = refused(&line("CONSENT_GRANT", resource));
    assert_eq!(error, "line 3: patient: the reference is not of the form Type/id");
    let organization = json!({"resourceType": "Organization", "id": "o", "name": "N".repeat(65)});
    assert_eq!(refused(&line("ORG_ADMIT", organization)), "line 3: name: must have 1 to 64 bytes and no NUL");
}

#[test]
fn exceptions_under_a_deny_are_permits_within_its_period() {
    let provision = json!({
        "type": "deny", "period": {"start": "2026-01-01", "end": "2026-12-31"},
        "provision": [
            {"type": "permit", "purpose": purpose("TREAT"), "period": {"start": "2026-06-01T12:00:00Z"}},
            {"type": "permit", "purpose": purpose("HPAYMT"), "period": {"end": "2040"}}
        ]
    });
    let grant = granted(provision).unwrap();
    let (year, june, next) = (1_767_225_600, 1_780_315_200, 1_798_761_600);
    let said: Vec<_> =
        grant.provisions.iter().map(|p| (p.effect, p.purpose, p.category, p.from_s, p.to_s)).collect();
    let permit = Effect::Permit;
    assert_eq!(said, [(permit, 1, CATEGORY_ANY, june, next), (permit, 4, CATEGORY_ANY, year, next)]);
    assert_eq!(grant.grantees, ["Organization/home"], "nobody is named: the custodian itself");
}

#[test]
fn exceptions_under_a_permit_are_denies() {
    let provision = json!({"type": "permit", "provision": [{"type": "deny", "purpose": purpose("HRESCH")}]});
    assert_eq!(
        rules(provision),
        [(Effect::Permit, CATEGORY_ANY, CATEGORY_ANY), (Effect::Deny, 8, CATEGORY_ANY)]
    );
}

#[test]
fn unknown_codes_are_left_out_of_permits_and_refused_in_denies() {
    let classes = json!([
        {"system": codes::RESOURCE_TYPES, "code": "Observation"},
        {"system": codes::RESOURCE_TYPES, "code": "Basic"},
        {"system": "http://example.org/other", "code": "DiagnosticReport"}
    ]);
    assert_eq!(
        rules(json!({"type": "permit", "purpose": purpose("TREAT"), "class": classes})),
        [(Effect::Permit, 1, 2)]
    );
    let deny = json!({"type": "permit", "provision": [{"type": "deny", "purpose": purpose("HMARKT")}]});
    assert_eq!(
        granted(deny).unwrap_err(),
        "line 1: provision.purpose: denies \"HMARKT\", which is not in the ledger's table"
    );
    assert_eq!(
        granted(json!({"type": "permit", "purpose": purpose("HMARKT")})).unwrap_err(),
        "line 1: provision: permits nothing that the ledger's tables know"
    );
}

#[test]
fn what_the_ledger_cannot_say_is_not_said_more_loosely() {
    let actor = |id: &str| json!([{"reference": {"reference": id}}]);
    let permit = |mut extra: Value| {
        extra["type"] = json!("permit");
        granted(extra)
    };
    for (field, value) in [
        ("securityLabel", json!([{"code": "R"}])),
        ("dataPeriod", json!({"end": "2020"})),
        ("data", json!([{"meaning": "instance"}])),
    ] {
        let error = permit(json!({ field: value })).unwrap_err();
        assert!(error.contains(&format!("is narrowed by {field}")), "{error}");
    }
    for (provision, expected) in [
        (json!({"actor": actor("Practitioner/x")}), "only organisations can be grantees"),
        (json!({"action": [{"coding": [{"code": "correct"}]}]}), "permits nothing"),
        (json!({"period": {"start": "2026-02-01", "end": "2026-01-01"}}), "ends before it starts"),
        (json!({"purpose": purpose("TREAT"), "code": []}), "purpose and code together"),
        (
            json!({"actor": actor("Organization/a"),
                   "provision": [{"type": "permit", "actor": actor("Organization/b")}]}),
            "different actors",
        ),
        (
            json!({"provision": [{"type": "deny", "actor": actor("Organization/a")}]}),
            "a deny for single actors",
        ),
        (
            json!({"provision": [{"type": "permit", "provision": [{"type": "deny"}]}]}),
            "exceptions to exceptions",
        ),
    ] {
        let error = permit(provision).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let many: Vec<Value> = (0..17).map(|_| json!({"type": "permit", "purpose": purpose("TREAT")})).collect();
    let error = granted(json!({"type": "deny", "provision": many})).unwrap_err();
    assert_eq!(error, "line 1: provision: becomes 17 rules, limit 16");
}

#[test]
fn research_on_specimens_is_a_purpose_of_its_own() {
    let access = |target: &str, outcome: &str| {
        let resource = json!({
            "resourceType": "AuditEvent", "id": "a", "action": "R", "outcome": outcome,
            "recorded": "2026-01-05T08:00:00Z", "source": {"observer": {"reference": "Device/d"}},
            "purposeOfEvent": [{"coding": purpose("HRESCH")}],
            "entity": [{"what": {"reference": "Patient/p"}}, {"what": {"reference": target}}]
        });
        parse_line(1, &line("ACCESS_LOG", resource))
    };
    for (target, expected) in [("Specimen/s", 20), ("Observation/o", 8), ("Basic/b", 8)] {
        let Content::Access(found) = access(target, "0").unwrap().content else { panic!("no access") };
        assert_eq!(found.purpose.code(), expected);
        assert_eq!(found.category, codes::category(target.split_once('/').unwrap().0).unwrap_or(0));
    }
    assert_eq!(
        access("Specimen/s", "1").unwrap_err().to_string(),
        "line 1: outcome: code \"1\" is not in the ledger's table"
    );
}
