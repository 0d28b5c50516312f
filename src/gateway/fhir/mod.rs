//! Reads the event stream of an EHR: lines of `{when, tx, resource}`, `resource` a FHIR R4 resource.
//!
//! Of a resource, an [`Event`] keeps its canonical bytes (to commit to) and what decides a transaction. Anything that the
//! ledger cannot say as the resource says it is refused rather than said more loosely.

mod consent;
mod read;

#[cfg(test)]
mod tests;

use serde_json::Value;
use thiserror::Error;

use crate::proof::commitment::canonical_json;
use crate::types::{Kind, Provision, TimestampMs};

/// Longest line of a stream, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Number of the line, from 1.
    pub line: usize,
    /// Time of the event.
    pub when: TimestampMs,
    /// What the line says it is to become.
    pub label: Label,
    /// `Type/id` of the resource. Never leaves the gateway.
    pub resource: String,
    /// `meta.versionId` of the resource, from 1.
    pub version: u32,
    /// RFC 8785 bytes of the resource, which its commitment is made over. Never leaves the gateway.
    pub canonical: Vec<u8>,
    /// What decides its transaction.
    pub content: Content,
}

/// What the stream says a line is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A transaction of that kind.
    Kind(Kind),
    /// The registration of a study; anchored as a record in this version.
    StudyRegister,
    /// The link of a patient to a study; anchored as a record in this version.
    StudyLink,
}

impl Label {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "STUDY_REGISTER" => Some(Self::StudyRegister),
            "STUDY_LINK" => Some(Self::StudyLink),
            other => Kind::from_name(other).map(Self::Kind),
        }
    }

    /// Kind of the transaction that it becomes.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Kind(kind) => kind,
            Self::StudyRegister | Self::StudyLink => Kind::RecordAnchor,
        }
    }

    /// Name as the stream writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::StudyRegister => "STUDY_REGISTER",
            Self::StudyLink => "STUDY_LINK",
        }
    }
}

/// What decides the transaction of an event. References are `Type/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Organization: to be admitted.
    Organization {
        /// Public name, 1 to 64 bytes.
        name: String,
        /// Kind as [`super::codes::organisation_kind`] numbers it.
        kind: u8,
    },
    /// Device: a system of an organisation, which gets keys.
    Device {
        /// The organisation.
        owner: String,
    },
    /// Consent in force.
    Grant(Grant),
    /// Consent that has ended.
    Revoke {
        /// From when on.
        effective: TimestampMs,
        /// Why, as [`super::codes`] numbers it.
        reason: u8,
    },
    /// DocumentReference, Provenance, ResearchStudy, ResearchSubject.
    Record {
        /// Class as [`super::codes`] numbers it.
        class: u8,
        /// Who answers for it.
        holder: Holder,
    },
    /// AuditEvent.
    Access(Access),
}

/// An active consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose data.
    pub patient: String,
    /// The organisation that keeps the consent and puts it on the ledger.
    pub custodian: String,
    /// Organisations that may access: the actors of the provisions; the custodian itself where there are none.
    pub grantees: Vec<String>,
    /// Rules; nothing is permitted beside them.
    pub provisions: Vec<Provision>,
}

/// How the organisation that answers for a record is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// It is named.
    Organization(String),
    /// It owns the device.
    DeviceOwner(String),
    /// It keeps the consent.
    ConsentCustodian(String),
}

/// One access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The system that recorded it; its owner is the organisation that had access.
    pub device: String,
    /// Whose data, where it is said.
    pub patient: Option<String>,
    /// The resource that was read or made, where there is one.
    pub target: Option<String>,
    /// Purpose of use.
    pub purpose: super::codes::UsePurpose,
    /// Category of the data.
    pub category: u16,
    /// `AuditEvent.action`.
    pub action: u8,
    /// `AuditEvent.outcome`.
    pub outcome: u8,
    /// `AuditEvent.recorded`.
    pub occurred: TimestampMs,
    /// Purpose BTG: an emergency access without consent.
    pub break_glass: bool,
}

/// Why a line of the stream is refused. Values are shown only where they are codes, never names, text or ids.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct FhirError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: FhirFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FhirFault {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("{0} bytes, limit {LINE_BYTES_MAX}")]
    TooLong(usize),
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A field is missing or not of the type that FHIR gives it.
    #[error("{0} is missing or of the wrong type")]
    Missing(&'static str),
    /// A field has a value that is not allowed or not known.
    #[error("{field}: {why}")]
    Value {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A resource type that does not become a transaction.
    #[error("resource type {0:?} does not become a transaction")]
    UnknownType(String),
    /// Label and resource contradict each other.
    #[error("labelled {label}, but a resource like this becomes {found}")]
    WrongLabel {
        /// What the line says.
        label: &'static str,
        /// What the resource is.
        found: &'static str,
    },
}

/// Reads a whole stream: newline-separated JSON; empty lines are skipped.
///
/// # Errors
/// On the first line that is refused.
pub fn parse_stream(bytes: &[u8]) -> Result<Vec<Event>, FhirError> {
    bytes
        .split(|&b| b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(i, line)| parse_line(i + 1, line))
        .collect()
}

/// Reads line number `line` (from 1) of a stream.
///
/// # Errors
/// If it is refused.
pub fn parse_line(line: usize, bytes: &[u8]) -> Result<Event, FhirError> {
    parse(line, bytes).map_err(|fault| FhirError { line, fault })
}

/// Reads a resource that stands alone, without `when` and `tx` around it: it becomes what a resource like this does, at
/// its `meta.lastUpdated` (at 0 if it has none).
///
/// # Errors
/// If it is refused; `line` is the number that the error names.
pub fn parse_resource(line: usize, bytes: &[u8]) -> Result<Event, FhirError> {
    let parse = || {
        let resource = parse_json(bytes)?;
        let when = match read::at(&resource, "meta.lastUpdated") {
            None => TimestampMs(0),
            Some(_) => read::instant(&resource, "meta.lastUpdated")?,
        };
        event(line, when, None, &resource)
    };
    parse().map_err(|fault| FhirError { line, fault })
}

fn parse_json(bytes: &[u8]) -> Result<Value, FhirFault> {
    if bytes.len() > LINE_BYTES_MAX {
        return Err(FhirFault::TooLong(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| FhirFault::Json(error.to_string()))
}

fn parse(line: usize, bytes: &[u8]) -> Result<Event, FhirFault> {
    let root = parse_json(bytes)?;
    let when = read::instant(&root, "when")?;
    let tx = read::string(&root, "tx")?;
    let label = Label::from_name(tx).ok_or_else(|| FhirFault::Value {
        field: "tx",
        why: format!("{:?} is no kind", read::shorten(tx)),
    })?;
    let resource = root.get("resource").filter(|r| r.is_object()).ok_or(FhirFault::Missing("resource"))?;
    event(line, when, Some(label), resource)
}

fn event(line: usize, when: TimestampMs, label: Option<Label>, resource: &Value) -> Result<Event, FhirFault> {
    let resource_type = read::string(resource, "resourceType")?;
    let (found, content) = read_content(resource_type, resource)?;
    if let Some(label) = label.filter(|label| *label != found) {
        return Err(FhirFault::WrongLabel { label: label.name(), found: found.name() });
    }
    let canonical = canonical_json(resource).map_err(|error| FhirFault::Json(error.to_string()))?;
    let version = read::version(resource)?;
    let resource = format!("{resource_type}/{}", read::id(resource)?);
    Ok(Event { line, when, label: found, resource, version, canonical, content })
}

fn read_content(resource_type: &str, resource: &Value) -> Result<(Label, Content), FhirFault> {
    let kind = Label::Kind;
    Ok(match resource_type {
        "Organization" => (kind(Kind::OrgAdmit), read::organization(resource)?),
        "Device" => (kind(Kind::KeyAdd), Content::Device { owner: read::reference(resource, "owner")? }),
        "Consent" => consent::read(resource)?,
        "DocumentReference" | "Provenance" => {
            (kind(Kind::RecordAnchor), read::record(resource_type, resource)?)
        }
        "ResearchStudy" => (Label::StudyRegister, read::record(resource_type, resource)?),
        "ResearchSubject" => (Label::StudyLink, read::record(resource_type, resource)?),
        "AuditEvent" => (kind(Kind::AccessLog), Content::Access(read::access(resource)?)),
        other => return Err(FhirFault::UnknownType(read::shorten(other).to_owned())),
    })
}
