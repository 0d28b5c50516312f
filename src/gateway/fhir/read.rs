//! Fields of FHIR resources, read with an error that names them.

use serde_json::Value;

use super::{Access, Content, FhirFault, Holder};
use crate::gateway::codes::{self, UsePurpose};
use crate::gateway::date::DateSpan;
use crate::types::TimestampMs;

/// At most this much of a code is shown in an error.
const SHOWN_BYTES_MAX: usize = 64;

/// The beginning of a text, for an error.
pub(super) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// The value at a dotted path; a number steps into an array. `None` if any step is missing.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            value.get(step)
        }
    })
}

/// The elements of an array; none if it is absent.
pub(super) fn items<'a>(value: &'a Value, path: &'static str) -> Result<&'a [Value], FhirFault> {
    match at(value, path) {
        None => Ok(&[]),
        Some(found) => found.as_array().map(Vec::as_slice).ok_or(FhirFault::Missing(path)),
    }
}

pub(super) fn string<'a>(value: &'a Value, path: &'static str) -> Result<&'a str, FhirFault> {
    at(value, path).and_then(Value::as_str).ok_or(FhirFault::Missing(path))
}

pub(super) fn span(value: &Value, path: &'static str) -> Result<DateSpan, FhirFault> {
    DateSpan::parse(string(value, path)?)
        .ok_or_else(|| FhirFault::Value { field: path, why: "no FHIR date or time from 1970 on".to_owned() })
}

pub(super) fn instant(value: &Value, path: &'static str) -> Result<TimestampMs, FhirFault> {
    span(value, path).map(|span| TimestampMs(span.from_ms))
}

/// The resource's id (FHIR R4, section 2.24.0.1: 1 to 64 of `A–Z a–z 0–9 - .`).
pub(super) fn id(resource: &Value) -> Result<&str, FhirFault> {
    let id = string(resource, "id")?;
    if is_id(id) {
        Ok(id)
    } else {
        Err(FhirFault::Value { field: "id", why: "must be 1 to 64 of A-Z, a-z, 0-9, '-' and '.'".to_owned() })
    }
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// `meta.versionId` as a number from 1; 1 if there is none.
pub(super) fn version(resource: &Value) -> Result<u32, FhirFault> {
    if at(resource, "meta.versionId").is_none() {
        return Ok(1);
    }
    string(resource, "meta.versionId")?.parse().ok().filter(|&v| v > 0).ok_or_else(|| FhirFault::Value {
        field: "meta.versionId",
        why: "must be a whole number from 1, so that versions can be put in order".to_owned(),
    })
}

/// `Type/id` of a literal reference. Base URL and `/_history/…` are cut off.
pub(super) fn reference(value: &Value, path: &'static str) -> Result<String, FhirFault> {
    let text = at(value, path)
        .and_then(|r| r.get("reference"))
        .and_then(Value::as_str)
        .ok_or(FhirFault::Missing(path))?;
    parse_reference(text).ok_or_else(|| FhirFault::Value {
        field: path,
        why: "the reference is not of the form Type/id".to_owned(),
    })
}

fn parse_reference(text: &str) -> Option<String> {
    let text = text.split_once("/_history/").map_or(text, |(head, _)| head);
    let mut segments = text.rsplit('/');
    let id = segments.next().filter(|id| is_id(id))?;
    let resource_type = segments
        .next()
        .filter(|t| (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphabetic()))?;
    Some(format!("{resource_type}/{id}"))
}

/// The type of a `Type/id` reference.
pub(super) fn type_of(reference: &str) -> &str {
    reference.split_once('/').map_or(reference, |(resource_type, _)| resource_type)
}

/// The first code of a system in the codings of a list of CodeableConcepts.
pub(super) fn coded<'a>(
    value: &'a Value,
    path: &'static str,
    system: &str,
) -> Result<Option<&'a str>, FhirFault> {
    for concept in items(value, path)? {
        for coding in items(concept, "coding")? {
            if at(coding, "system").and_then(Value::as_str) == Some(system) {
                return string(coding, "code").map(Some);
            }
        }
    }
    Ok(None)
}

fn unknown_code(field: &'static str, code: &str) -> FhirFault {
    FhirFault::Value { field, why: format!("code {:?} is not in the ledger's table", shorten(code)) }
}

pub(super) fn organization(resource: &Value) -> Result<Content, FhirFault> {
    let name = string(resource, "name")?;
    if name.is_empty() || name.len() > 64 || name.contains('\0') {
        return Err(FhirFault::Value { field: "name", why: "must have 1 to 64 bytes and no NUL".to_owned() });
    }
    let code = coded(resource, "type", "http://terminology.hl7.org/CodeSystem/organization-type")?
        .ok_or(FhirFault::Missing("type"))?;
    let kind = codes::organisation_kind(code).ok_or_else(|| unknown_code("type", code))?;
    Ok(Content::Organization { name: name.to_owned(), kind })
}

pub(super) fn record(resource_type: &str, resource: &Value) -> Result<Content, FhirFault> {
    let (class, holder) = match resource_type {
        "DocumentReference" => {
            (codes::CLASS_DOCUMENT, Holder::Organization(reference(resource, "custodian")?))
        }
        "Provenance" => (codes::CLASS_PROVENANCE, provenance_holder(resource)?),
        "ResearchStudy" => (codes::CLASS_RESEARCH, Holder::Organization(reference(resource, "sponsor")?)),
        _ => (codes::CLASS_RESEARCH, Holder::ConsentCustodian(reference(resource, "consent")?)),
    };
    Ok(Content::Record { class, holder })
}

/// The organisation on whose behalf somebody acted, else the owner of the device that acted.
fn provenance_holder(resource: &Value) -> Result<Holder, FhirFault> {
    let agents = items(resource, "agent")?;
    let named = |path: &'static str, wanted: &str| {
        agents.iter().filter_map(|agent| reference(agent, path).ok()).find(|found| type_of(found) == wanted)
    };
    named("onBehalfOf", "Organization")
        .or_else(|| named("who", "Organization"))
        .map(Holder::Organization)
        .or_else(|| named("who", "Device").map(Holder::DeviceOwner))
        .ok_or(FhirFault::Missing("agent.onBehalfOf"))
}

pub(super) fn access(resource: &Value) -> Result<Access, FhirFault> {
    let device = reference(resource, "source.observer")?;
    if type_of(&device) != "Device" {
        return Err(FhirFault::Value { field: "source.observer", why: "must be a Device".to_owned() });
    }
    let (mut patient, mut target) = (None, None);
    for entity in items(resource, "entity")? {
        if at(entity, "what").is_none() {
            continue;
        }
        let what = reference(entity, "what")?;
        let slot = if type_of(&what) == "Patient" { &mut patient } else { &mut target };
        if slot.is_none() {
            *slot = Some(what);
        }
    }
    let data_type = target.as_deref().map(type_of);
    let purpose = access_purpose(resource, data_type)?;
    let action = string(resource, "action")?;
    let outcome = string(resource, "outcome")?;
    Ok(Access {
        device,
        patient,
        purpose,
        category: data_type.and_then(codes::category).unwrap_or(codes::CATEGORY_UNSTATED),
        target,
        action: codes::audit_action(action).ok_or_else(|| unknown_code("action", action))?,
        outcome: codes::audit_outcome(outcome).ok_or_else(|| unknown_code("outcome", outcome))?,
        occurred: instant(resource, "recorded")?,
        break_glass: purpose == UsePurpose::BreakTheGlass,
    })
}

fn access_purpose(resource: &Value, data_type: Option<&str>) -> Result<UsePurpose, FhirFault> {
    let code =
        coded(resource, "purposeOfEvent", codes::ACT_REASON)?.ok_or(FhirFault::Missing("purposeOfEvent"))?;
    let purpose = UsePurpose::from_act_reason(code).ok_or_else(|| unknown_code("purposeOfEvent", code))?;
    Ok(match (purpose, data_type) {
        (UsePurpose::Research, Some("Specimen")) => UsePurpose::ResearchUseSpecimen,
        (purpose, _) => purpose,
    })
}
