//! Anchors single records, for an organisation that submits its own under one key.

use thiserror::Error;

use super::codes;
use super::entropy::Entropy;
use super::fhir::{Content, Event};
use super::vault::{Vault, VaultError, VersionName};
use crate::proof::commitment::{FHIR_R4_DOMAIN, commit};
use crate::types::RecordAnchor;

/// Why an event is not anchored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnchorError {
    /// It becomes another kind of transaction.
    #[error("line {line} becomes a {label}, not a RECORD_ANCHOR")]
    NotARecord {
        /// Number of the line.
        line: usize,
        /// What it becomes.
        label: &'static str,
    },
    /// It replaces a version whose leaf is not known.
    #[error("version {version}, which it replaces, is not final")]
    NotFinal {
        /// The version before.
        version: u32,
    },
    /// The vault refuses.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// The body that anchors the record of an event, and the name under which the vault keeps its commitment key.
///
/// It replaces the latest earlier version that the vault holds, which must be final. A version that the vault holds
/// already keeps its commitment key: its anchor may be made again as long as none is final.
///
/// # Errors
/// See [`AnchorError`]; the vault is unchanged then.
pub fn anchor(
    event: &Event,
    vault: &mut Vault,
    entropy: &mut impl Entropy,
) -> Result<(RecordAnchor, VersionName), AnchorError> {
    let Content::Record { class, .. } = event.content else {
        return Err(AnchorError::NotARecord { line: event.line, label: event.label.name() });
    };
    let name =
        VersionName { copy: 0, resource: event.resource.clone(), version: event.version, grantee: None };
    let prev = match vault.version_before(&name) {
        None => None,
        Some((before, entry)) => Some(entry.leaf.ok_or(AnchorError::NotFinal { version: before.version })?),
    };
    let held = vault.version(&name).map(|entry| entry.commitment_key);
    let key = zeroize::Zeroizing::new(match held {
        Some(key) => key,
        None => vault.add_version(&name, entropy)?,
    });
    let body = RecordAnchor {
        commit: commit(&key, FHIR_R4_DOMAIN, &event.canonical),
        prev,
        class,
        alg: codes::COMMIT_HMAC_SHA256_JCS,
        retain_days: codes::RETAIN_DAYS,
    };
    Ok((body, name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::gateway::fhir::parse_resource;
    use crate::gateway::{SAMPLE_STREAM, SeededEntropy, fhir};
    use crate::types::{LeafIndex, TxId};

    fn document(version: u32) -> Event {
        let json = serde_json::json!({
            "resourceType": "DocumentReference", "id": "a", "meta": {"versionId": version.to_string()},
            "status": "current", "custodian": {"reference": "Organization/b"},
        });
        parse_resource(1, json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn versions_follow_each_other_once_they_are_final() {
        let (mut vault, mut entropy) = (Vault::new(), SeededEntropy::new(1));
        let (first, name) = anchor(&document(1), &mut vault, &mut entropy).unwrap();
        assert_eq!(first.prev, None);
        let waiting = anchor(&document(2), &mut vault, &mut entropy).unwrap_err();
        assert_eq!(waiting, AnchorError::NotFinal { version: 1 });
        assert_eq!(vault.versions(), 1);
        // Made again before it is final, it is the same commitment.
        assert_eq!(anchor(&document(1), &mut vault, &mut entropy).unwrap().0, first);
        vault.note_transaction(&name, TxId([1; 32]));
        vault.note_final(&TxId([1; 32]), LeafIndex(5));
        let (second, _) = anchor(&document(2), &mut vault, &mut entropy).unwrap();
        assert_eq!(second.prev, Some(LeafIndex(5)));
        assert_ne!(second.commit, first.commit);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let events = fhir::parse_stream(SAMPLE_STREAM).unwrap();
        let consent = events.iter().find(|event| event.resource.starts_with("Consent/")).unwrap();
        let error = anchor(consent, &mut Vault::new(), &mut SeededEntropy::new(1)).unwrap_err();
        assert!(error.to_string().ends_with("becomes a CONSENT_GRANT, not a RECORD_ANCHOR"), "{error}");
    }
}
