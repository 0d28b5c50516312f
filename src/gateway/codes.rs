//! Numbers that stand on the ledger for codes of FHIR and HL7. One table for each field, the same at every gateway.
//!
//! Numbers are given once and never changed: a new code takes a free number.

use crate::types::Provision;

/// HL7 v3 ActReason, the code system of purposes of use.
pub const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
/// Resource types as codes, used in `Consent.provision.class`.
pub const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
/// Policy modules of the broad consent of the German Medical Informatics Initiative (MII).
pub const MII_POLICY: &str = "urn:oid:2.16.840.1.113883.3.1937.777.24.5.3";

/// What data are used for. Codes stay below 256: an access has one byte for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum UsePurpose {
    /// ActReason TREAT: treatment.
    Treatment = 1,
    /// ActReason ETREAT: emergency treatment.
    EmergencyTreatment = 2,
    /// ActReason BTG: break the glass, an access that overrides what is refused, to be reviewed afterwards.
    BreakTheGlass = 3,
    /// ActReason HPAYMT: payment.
    Payment = 4,
    /// ActReason HOPERAT: operation of the organisation.
    Operations = 5,
    /// ActReason PATRQT: the patient asked for it.
    PatientRequest = 6,
    /// ActReason PUBHLTH: public health, as the law demands.
    PublicHealth = 7,
    /// ActReason HRESCH: research; with the MII's modules, scientific use of medical data.
    Research = 8,
    /// MII: collecting medical data for research.
    ResearchCollectData = 16,
    /// MII: storing and processing medical data for research.
    ResearchStoreData = 17,
    /// MII: collecting biomaterial for research.
    ResearchCollectSpecimen = 18,
    /// MII: storing and processing biomaterial for research.
    ResearchStoreSpecimen = 19,
    /// MII: scientific use of biomaterial. An access for research to a `Specimen` has this purpose.
    ResearchUseSpecimen = 20,
}

impl UsePurpose {
    /// The number that stands for it.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The purpose of an ActReason code.
    #[must_use]
    pub fn from_act_reason(code: &str) -> Option<Self> {
        Some(match code {
            "TREAT" => Self::Treatment,
            "ETREAT" => Self::EmergencyTreatment,
            "BTG" => Self::BreakTheGlass,
            "HPAYMT" => Self::Payment,
            "HOPERAT" => Self::Operations,
            "PATRQT" => Self::PatientRequest,
            "PUBHLTH" => Self::PublicHealth,
            "HRESCH" => Self::Research,
            _ => return None,
        })
    }

    /// The purpose of a module of the MII's broad consent, by its whole OID.
    #[must_use]
    pub fn from_mii_policy(code: &str) -> Option<Self> {
        Some(match code.strip_prefix("2.16.840.1.113883.3.1937.777.24.5.3.")? {
            "6" => Self::ResearchCollectData,
            "7" => Self::ResearchStoreData,
            "8" => Self::Research,
            "19" => Self::ResearchCollectSpecimen,
            "20" => Self::ResearchStoreSpecimen,
            "22" => Self::ResearchUseSpecimen,
            _ => return None,
        })
    }

    /// Whether even the organisation that holds the data needs a consent for it. Treatment and what goes with it rests on
    /// the contract of care or on law; research does not.
    #[must_use]
    pub fn needs_consent_at_home(self) -> bool {
        match self {
            Self::Treatment
            | Self::EmergencyTreatment
            | Self::BreakTheGlass
            | Self::Payment
            | Self::Operations
            | Self::PatientRequest
            | Self::PublicHealth => false,
            Self::Research
            | Self::ResearchCollectData
            | Self::ResearchStoreData
            | Self::ResearchCollectSpecimen
            | Self::ResearchStoreSpecimen
            | Self::ResearchUseSpecimen => true,
        }
    }
}

/// Category of an access that names no type of data; only permits for all categories match it.
pub const CATEGORY_UNSTATED: u16 = 0;
/// Category of a provision that speaks of all data.
pub const CATEGORY_ANY: u16 = Provision::ANY;

/// Categories of data: FHIR R4 resource types.
const CATEGORIES: [(&str, u16); 20] = [
    ("Patient", 1),
    ("Observation", 2),
    ("DiagnosticReport", 3),
    ("MedicationRequest", 4),
    ("DocumentReference", 5),
    ("Consent", 6),
    ("Condition", 7),
    ("Procedure", 8),
    ("Encounter", 9),
    ("AllergyIntolerance", 10),
    ("Immunization", 11),
    ("ImagingStudy", 12),
    ("Specimen", 13),
    ("CarePlan", 14),
    ("ServiceRequest", 15),
    ("MedicationStatement", 16),
    ("MedicationAdministration", 17),
    ("Questionnaire", 18),
    ("QuestionnaireResponse", 19),
    ("FamilyMemberHistory", 20),
];

/// The category of a resource type.
#[must_use]
pub fn category(resource_type: &str) -> Option<u16> {
    CATEGORIES.iter().find(|(name, _)| *name == resource_type).map(|&(_, code)| code)
}

/// Class of a clinical document.
pub const CLASS_DOCUMENT: u8 = 1;
/// Class of a statement of provenance.
pub const CLASS_PROVENANCE: u8 = 2;
/// Class of a study, and of the link of a subject to a study.
pub const CLASS_RESEARCH: u8 = 3;

/// Class of files that are anchored as they are, without a look into them.
pub const CLASS_FILES: u8 = 4;

/// Algorithm of a commitment: HMAC-SHA-256 over RFC 8785 JSON.
pub const COMMIT_HMAC_SHA256_JCS: u8 = 1;
/// Days that a record is kept where the network's policy says nothing else: ten years.
pub const RETAIN_DAYS: u32 = 3_653;

/// Reason of a revocation: the patient withdrew (`Consent.status` inactive).
pub const REVOKED_WITHDRAWN: u8 = 1;
/// Reason of a revocation: the consent was recorded in error (`Consent.status` entered-in-error).
pub const REVOKED_IN_ERROR: u8 = 2;

/// Grantee kind of an organisation of the network.
pub const GRANTEE_ORGANISATION: u8 = 1;

/// Kind of an organisation from HL7's `organization-type`: 1 provider, 2 payer, 3 authority, 4 research.
#[must_use]
pub fn organisation_kind(code: &str) -> Option<u8> {
    Some(match code {
        "prov" | "dept" | "team" | "cg" => 1,
        "pay" | "ins" => 2,
        "govt" => 3,
        "edu" | "crs" => 4,
        _ => return None,
    })
}

/// The byte of a FHIR `AuditEvent.action`.
#[must_use]
pub fn audit_action(code: &str) -> Option<u8> {
    match code.as_bytes() {
        [action] if b"CRUDE".contains(action) => Some(*action),
        _ => None,
    }
}

/// The byte of a FHIR `AuditEvent.outcome`: 0 success, 4 minor, 8 serious, 12 major failure.
#[must_use]
pub fn audit_outcome(code: &str) -> Option<u8> {
    Some(match code {
        "0" => 0,
        "4" => 4,
        "8" => 8,
        "12" => 12,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_has_its_own_number() {
        for (i, (name, code)) in CATEGORIES.iter().enumerate() {
            assert_ne!(*code, CATEGORY_UNSTATED);
            assert_ne!(*code, CATEGORY_ANY);
            assert!(CATEGORIES[..i].iter().all(|(n, c)| n != name && c != code), "{name}");
        }
    }

    #[test]
    fn codes_that_are_not_in_a_table_have_no_number() {
        assert_eq!(UsePurpose::from_act_reason("HTEST"), None);
        assert_eq!(UsePurpose::from_mii_policy("2.16.840.1.113883.3.1937.777.24.5.3.1"), None);
        assert_eq!(audit_action("CR"), None);
        assert_eq!(audit_outcome("1"), None);
        assert_eq!(category("observation"), None);
        assert_eq!(organisation_kind("bus"), None);
    }
}
