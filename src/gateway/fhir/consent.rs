//! FHIR R4 Consent as rules of the ledger.
//!
//! FHIR nests provisions: a base that permits or denies, and exceptions to it. On the ledger nothing is permitted beside
//! what a rule permits, and a deny wins over every permit. So a base that denies needs no rule, a base that permits is a
//! permit, and each exception is a rule of its own, which lasts no longer than its base. Whatever narrows a rule in a way
//! that the ledger cannot express (security labels, single data items, the date of the data) is refused, since a rule
//! without it would say more than the patient did.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::{at, instant, items, reference, shorten, span, string, type_of};
use super::{Content, FhirFault, Grant, Label};
use crate::gateway::codes::{self, UsePurpose};
use crate::limits::CONSENT_PROVISIONS_MAX;
use crate::types::{Effect, Kind, Provision};

/// Seconds from one time (inclusive) to another (exclusive).
#[derive(Clone, Copy)]
struct Period {
    from_s: u32,
    to_s: u32,
}

pub(super) fn read(resource: &Value) -> Result<(Label, Content), FhirFault> {
    let revoked = |reason| -> Result<_, FhirFault> {
        let effective = instant(resource, "dateTime")?;
        Ok((Label::Kind(Kind::ConsentRevoke), Content::Revoke { effective, reason }))
    };
    match string(resource, "status")? {
        "active" => Ok((Label::Kind(Kind::ConsentGrant), Content::Grant(grant(resource)?))),
        "inactive" => revoked(codes::REVOKED_WITHDRAWN),
        "entered-in-error" => revoked(codes::REVOKED_IN_ERROR),
        other => Err(FhirFault::Value {
            field: "status",
            why: format!(
                "{:?}: only active, inactive and entered-in-error consents go on the ledger",
                shorten(other)
            ),
        }),
    }
}

fn grant(resource: &Value) -> Result<Grant, FhirFault> {
    let custodian = reference(resource, "organization.0")?;
    let base = at(resource, "provision").ok_or(FhirFault::Missing("provision"))?;
    let base_effect = effect(base)?;
    let base_period = period(base, Period { from_s: 0, to_s: u32::MAX })?;
    let base_actors = actors(base)?;
    let mut provisions = Vec::new();
    // Actors of each provision that permits something.
    let mut permitted: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    if base_effect == Effect::Permit && add_rules(base, base_effect, base_period, &mut provisions)? {
        permitted.insert(base_actors.clone());
    }
    for exception in items(base, "provision")? {
        if !items(exception, "provision")?.is_empty() {
            return Err(refuse(
                "provision.provision.provision",
                "exceptions to exceptions are not supported",
            ));
        }
        let effect = effect(exception)?;
        let own = actors(exception)?;
        if effect == Effect::Deny && !own.is_empty() {
            return Err(refuse("provision.provision.actor", "a deny for single actors is not supported"));
        }
        let added = add_rules(exception, effect, period(exception, base_period)?, &mut provisions)?;
        if added && effect == Effect::Permit {
            permitted.insert(if own.is_empty() { base_actors.clone() } else { own });
        }
    }
    if provisions.len() > CONSENT_PROVISIONS_MAX {
        let why = format!("becomes {} rules, limit {CONSENT_PROVISIONS_MAX}", provisions.len());
        return Err(refuse("provision", why));
    }
    let mut permitted = permitted.into_iter();
    let mut grantees = permitted
        .next()
        .ok_or_else(|| refuse("provision", "permits nothing that the ledger's tables know"))?;
    if permitted.next().is_some() {
        return Err(refuse(
            "provision.actor",
            "permits different things to different actors: split the consent",
        ));
    }
    if grantees.is_empty() {
        grantees.insert(custodian.clone());
    }
    let patient = reference(resource, "patient")?;
    Ok(Grant { patient, custodian, grantees: grantees.into_iter().collect(), provisions })
}

/// Organisations that a provision names.
fn actors(provision: &Value) -> Result<BTreeSet<String>, FhirFault> {
    let mut out = BTreeSet::new();
    for actor in items(provision, "actor")? {
        let actor = reference(actor, "reference")?;
        if type_of(&actor) != "Organization" {
            return Err(refuse("provision.actor", "only organisations can be grantees"));
        }
        out.insert(actor);
    }
    Ok(out)
}

fn refuse(field: &'static str, why: impl Into<String>) -> FhirFault {
    FhirFault::Value { field, why: why.into() }
}

fn effect(provision: &Value) -> Result<Effect, FhirFault> {
    match string(provision, "type")? {
        "permit" => Ok(Effect::Permit),
        "deny" => Ok(Effect::Deny),
        other => Err(refuse("provision.type", format!("{:?} is neither permit nor deny", shorten(other)))),
    }
}

/// The time of a provision, within that of its base.
fn period(provision: &Value, base: Period) -> Result<Period, FhirFault> {
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let mut period = base;
    if at(provision, "period.start").is_some() {
        period.from_s = period.from_s.max(seconds(span(provision, "period.start")?.from_ms));
    }
    if at(provision, "period.end").is_some() {
        // FHIR's end is inclusive: a consent until a day holds all of that day.
        period.to_s = period.to_s.min(seconds(span(provision, "period.end")?.to_ms));
    }
    if period.from_s >= period.to_s {
        return Err(refuse("provision.period", "ends before it starts"));
    }
    Ok(period)
}

/// Adds one rule for each pair of purpose and category of a provision; returns whether there was any.
fn add_rules(
    provision: &Value,
    effect: Effect,
    period: Period,
    rules: &mut Vec<Provision>,
) -> Result<bool, FhirFault> {
    for field in ["securityLabel", "dataPeriod", "data"] {
        if at(provision, field).is_some() {
            return Err(refuse(
                "provision",
                format!("is narrowed by {field}, which the ledger cannot express"),
            ));
        }
    }
    let purposes = purposes(provision, effect)?;
    let categories = categories(provision, effect)?;
    if effect == Effect::Permit && !permits_access(provision)? {
        return Ok(false);
    }
    let before = rules.len();
    for &purpose in &purposes {
        for &category in &categories {
            let Period { from_s, to_s } = period;
            rules.push(Provision { effect, purpose, category, from_s, to_s });
        }
    }
    Ok(rules.len() > before)
}

/// Whether a permit's actions, if it names any, are about seeing data.
fn permits_access(provision: &Value) -> Result<bool, FhirFault> {
    let actions = items(provision, "action")?;
    for action in actions {
        for coding in items(action, "coding")? {
            if matches!(string(coding, "code")?, "access" | "use" | "disclose") {
                return Ok(true);
            }
        }
    }
    Ok(actions.is_empty())
}

/// Purposes of a provision: its `purpose`, and policy modules in its `code`; all purposes if it names none. A permit for
/// what the tables do not know is left out; a deny for it cannot be.
fn purposes(provision: &Value, effect: Effect) -> Result<Vec<u16>, FhirFault> {
    if at(provision, "purpose").is_some() && at(provision, "code").is_some() {
        return Err(refuse("provision.code", "purpose and code together are not supported"));
    }
    let mut named = Vec::new();
    for coding in items(provision, "purpose")? {
        let (system, code) = (string(coding, "system")?, string(coding, "code")?);
        let known = if system == codes::ACT_REASON { UsePurpose::from_act_reason(code) } else { None };
        named.push(("provision.purpose", code, known));
    }
    for concept in items(provision, "code")? {
        for coding in items(concept, "coding")? {
            let (system, code) = (string(coding, "system")?, string(coding, "code")?);
            let known = if system == codes::MII_POLICY { UsePurpose::from_mii_policy(code) } else { None };
            named.push(("provision.code", code, known));
        }
    }
    let known = named.iter().map(|&(field, code, purpose)| (field, code, purpose.map(|p| p.code().into())));
    keep_known(known, effect)
}

/// Categories of a provision: its `class`; all if it names none.
fn categories(provision: &Value, effect: Effect) -> Result<Vec<u16>, FhirFault> {
    let mut named = Vec::new();
    for coding in items(provision, "class")? {
        let (system, code) = (string(coding, "system")?, string(coding, "code")?);
        let known = if system == codes::RESOURCE_TYPES { codes::category(code) } else { None };
        named.push(("provision.class", code, known));
    }
    keep_known(named.into_iter(), effect)
}

fn keep_known<'a>(
    named: impl ExactSizeIterator<Item = (&'static str, &'a str, Option<u16>)>,
    effect: Effect,
) -> Result<Vec<u16>, FhirFault> {
    if named.len() == 0 {
        return Ok(vec![Provision::ANY]);
    }
    let mut out = Vec::new();
    for (field, code, known) in named {
        match known {
            Some(known) => out.push(known),
            None if effect == Effect::Deny => {
                return Err(refuse(
                    field,
                    format!("denies {:?}, which is not in the ledger's table", shorten(code)),
                ));
            }
            None => {}
        }
    }
    Ok(out)
}
