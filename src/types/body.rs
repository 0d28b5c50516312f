//! Transaction bodies, one struct for each kind.

use super::{KeyId, Kind, LeafIndex, OrgId, Roles, SIGNATURE_BYTES, TimestampMs, Transaction};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{BATCH_MEMBERS_MAX, CONSENT_PROVISIONS_MAX};

/// RECORD_ANCHOR: a commitment to one version of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAnchor {
    /// HMAC-SHA-256 of the canonical record under a key that the gateway keeps.
    pub commit: [u8; 32],
    /// Leaf of the version that this one replaces, which must be a live head of the same organisation.
    pub prev: Option<LeafIndex>,
    /// Class of the record, as the network's policy numbers them.
    pub class: u8,
    /// How `commit` was made; 1 is HMAC-SHA-256 over RFC 8785 JSON.
    pub alg: u8,
    /// Days that the record has to be kept.
    pub retain_days: u32,
}

/// RECORD_BATCH: many commitments under one root. It replaces nothing and nothing replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    /// Root of the RFC 9162 tree (SHA-256) whose leaves' data are the commitments, 32 bytes each.
    pub root: [u8; 32],
    /// Leaves of that tree, 1 to [`BATCH_MEMBERS_MAX`].
    pub count: u32,
    /// Class of the records, as the network's policy numbers them.
    pub class: u8,
    /// How the commitments were made; 2 is HMAC-SHA-256 over length and hash of a file.
    pub alg: u8,
    /// Days that the records have to be kept.
    pub retain_days: u32,
}

/// One rule of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provision {
    /// Permit or deny.
    pub effect: Effect,
    /// Purpose of use; [`Provision::ANY`] stands for all.
    pub purpose: u16,
    /// Category of data; [`Provision::ANY`] stands for all.
    pub category: u16,
    /// Start, seconds since the Unix epoch, inclusive.
    pub from_s: u32,
    /// End, seconds since the Unix epoch, exclusive.
    pub to_s: u32,
}

impl Provision {
    /// Matches every purpose or category.
    pub const ANY: u16 = u16::MAX;
}

/// What a provision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Access is refused; wins over permits.
    Deny,
    /// Access is allowed.
    Permit,
}

/// The patient's own signature of a consent, by a key made for it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientSeal {
    /// One-time Ed25519 key.
    pub key: [u8; 32],
    /// Signature of the grant without this field, purpose `consent`.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// CONSENT_GRANT: what one grantee may do with the data of one patient, under a random handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentGrant {
    /// Random name, made for this patient and this grantee.
    pub handle: [u8; 32],
    /// Commitment to the full consent document.
    pub commit: [u8; 32],
    /// What the grantee is; 1 is an organisation of the network.
    pub grantee_kind: u8,
    /// Who may access.
    pub grantee: OrgId,
    /// Rules, at least one.
    pub provisions: Vec<Provision>,
    /// The patient's signature, where there is one.
    pub patient: Option<PatientSeal>,
}

/// CONSENT_REVOKE: the end of a consent, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRevoke {
    /// The consent.
    pub handle: [u8; 32],
    /// From when on.
    pub effective: TimestampMs,
    /// Why, as the network's policy numbers it.
    pub reason: u8,
    /// Commitment to the document of the revocation.
    pub commit: [u8; 32],
    /// Signature of the fields above by the patient's one-time key, purpose `consent`.
    pub patient_signature: Option<[u8; SIGNATURE_BYTES]>,
}

/// ACCESS_LOG: one access to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Commitment to the full audit event.
    pub commit: [u8; 32],
    /// Consent it relies on; `None` keeps even that off the ledger, for audit at the site.
    pub consent: Option<[u8; 32]>,
    /// Category of the data.
    pub category: u16,
    /// Purpose of use. (One byte here, two in a provision: codes stay below 256.)
    pub purpose: u8,
    /// What was done, as FHIR AuditEvent.action: C, R, U, D or E.
    pub action: u8,
    /// How it ended, as FHIR AuditEvent.outcome: 0, 4, 8 or 12.
    pub outcome: u8,
    /// When it happened.
    pub occurred: TimestampMs,
    /// Organisation where the record lies; 0 for the sender.
    pub origin: OrgId,
    /// An emergency access without consent, to be reviewed afterwards.
    pub break_glass: bool,
}

/// KEY_ADD: a further key of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAdd {
    /// Organisation; must be the sender.
    pub org: OrgId,
    /// Number of the key; never used before.
    pub key: KeyId,
    /// The public key (algorithm 1, Ed25519).
    pub public: [u8; 32],
    /// What it may do.
    pub roles: Roles,
    /// Start of validity, inclusive.
    pub from: TimestampMs,
    /// End of validity, exclusive.
    pub to: TimestampMs,
    /// Signature of the fields above by the new key, purpose `possession`.
    pub possession: [u8; SIGNATURE_BYTES],
}

/// ORG_ADMIT: a governing member's vote to admit an organisation. Equal bodies from more than two thirds of the
/// governing members admit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgAdmit {
    /// Its number; never used before.
    pub org: OrgId,
    /// 1 provider, 2 payer, 3 authority, 4 research.
    pub kind: u8,
    /// UTF-8 name of 1 to 64 bytes without NUL.
    pub name: String,
    /// Its root key, which becomes its key number 0.
    pub root: [u8; 32],
    /// Region that it belongs to.
    pub region: u16,
    /// Digest of the policy that it signed.
    pub policy: [u8; 32],
}

/// A decoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// See [`RecordAnchor`].
    RecordAnchor(RecordAnchor),
    /// See [`RecordBatch`].
    RecordBatch(RecordBatch),
    /// See [`ConsentGrant`].
    ConsentGrant(ConsentGrant),
    /// See [`ConsentRevoke`].
    ConsentRevoke(ConsentRevoke),
    /// See [`AccessLog`].
    AccessLog(AccessLog),
    /// See [`KeyAdd`].
    KeyAdd(KeyAdd),
    /// See [`OrgAdmit`].
    OrgAdmit(OrgAdmit),
}

const ALG_ED25519: u8 = 1;
const NO_PREV: u64 = u64::MAX;
const FLAG_PATIENT: u8 = 1;
const FLAG_BREAK_GLASS: u8 = 1;
const NAME_BYTES: usize = 64;

impl Body {
    /// Decodes the body of a transaction by its kind.
    pub fn of(tx: &Transaction) -> Result<Self, DecodeError> {
        Self::decode(tx.envelope().kind, tx.body())
    }

    /// Decodes a body of a kind that fills `bytes`.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let body = match kind {
            Kind::RecordAnchor => Self::RecordAnchor(RecordAnchor::decode(&mut r)?),
            Kind::RecordBatch => Self::RecordBatch(RecordBatch::decode(&mut r)?),
            Kind::ConsentGrant => Self::ConsentGrant(ConsentGrant::decode(&mut r)?),
            Kind::ConsentRevoke => Self::ConsentRevoke(ConsentRevoke::decode(&mut r)?),
            Kind::AccessLog => Self::AccessLog(AccessLog::decode(&mut r)?),
            Kind::KeyAdd => Self::KeyAdd(KeyAdd::decode(&mut r)?),
            Kind::OrgAdmit => Self::OrgAdmit(OrgAdmit::decode(&mut r)?),
        };
        r.finish()?;
        Ok(body)
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::RecordAnchor(_) => Kind::RecordAnchor,
            Self::RecordBatch(_) => Kind::RecordBatch,
            Self::ConsentGrant(_) => Kind::ConsentGrant,
            Self::ConsentRevoke(_) => Kind::ConsentRevoke,
            Self::AccessLog(_) => Kind::AccessLog,
            Self::KeyAdd(_) => Kind::KeyAdd,
            Self::OrgAdmit(_) => Kind::OrgAdmit,
        }
    }

    /// The encoded body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::RecordAnchor(body) => body.encode(&mut out),
            Self::RecordBatch(body) => body.encode(&mut out),
            Self::ConsentGrant(body) => body.encode(&mut out),
            Self::ConsentRevoke(body) => body.encode(&mut out),
            Self::AccessLog(body) => body.encode(&mut out),
            Self::KeyAdd(body) => body.encode(&mut out),
            Self::OrgAdmit(body) => body.encode(&mut out),
        }
        out
    }
}

impl RecordAnchor {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.commit);
        out.put_u64(self.prev.map_or(NO_PREV, |leaf| leaf.0));
        out.put_u8(self.class);
        out.put_u8(self.alg);
        out.put_u32(self.retain_days);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let commit = r.array("commitment")?;
        let prev = r.u64("previous leaf")?;
        Ok(Self {
            commit,
            prev: (prev != NO_PREV).then_some(LeafIndex(prev)),
            class: r.u8("record class")?,
            alg: r.u8("commitment algorithm")?,
            retain_days: r.u32("retention")?,
        })
    }
}

impl RecordBatch {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.root);
        out.put_u32(self.count);
        out.put_u8(self.class);
        out.put_u8(self.alg);
        out.put_u32(self.retain_days);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let root = r.array("batch root")?;
        let count = r.u32("batch count")?;
        if count == 0 || count > BATCH_MEMBERS_MAX {
            return Err(r.bad_value("batch count", 4, count.into()));
        }
        Ok(Self {
            root,
            count,
            class: r.u8("record class")?,
            alg: r.u8("commitment algorithm")?,
            retain_days: r.u32("retention")?,
        })
    }
}

impl ConsentGrant {
    /// What the patient's key signs: the body up to and without key and signature.
    #[must_use]
    pub fn sealed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(72 + 13 * self.provisions.len());
        out.put_bytes(&self.handle);
        out.put_bytes(&self.commit);
        out.put_u8(self.grantee_kind);
        out.put_u32(self.grantee.0);
        out.put_u8(
            u8::try_from(self.provisions.len())
                .unwrap_or_else(|_| panic!("more provisions than a consent may have")),
        );
        out.put_u8(if self.patient.is_some() { FLAG_PATIENT } else { 0 });
        for provision in &self.provisions {
            out.put_u8(match provision.effect {
                Effect::Deny => 0,
                Effect::Permit => 1,
            });
            out.put_u16(provision.purpose);
            out.put_u16(provision.category);
            out.put_u32(provision.from_s);
            out.put_u32(provision.to_s);
        }
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.sealed_bytes());
        if let Some(seal) = &self.patient {
            out.put_bytes(&seal.key);
            out.put_bytes(&seal.signature);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let handle = r.array("consent handle")?;
        let commit = r.array("commitment")?;
        let grantee_kind = r.u8("grantee kind")?;
        let grantee = OrgId(r.u32("grantee")?);
        let n = usize::from(r.u8("provision count")?);
        if n == 0 || n > CONSENT_PROVISIONS_MAX {
            return Err(r.bad_value("provision count", 1, n as u64));
        }
        let flags = r.u8("consent flags")?;
        if flags & !FLAG_PATIENT != 0 {
            return Err(r.bad_value("consent flags", 1, flags.into()));
        }
        let provisions = (0..n).map(|_| Provision::decode(r)).collect::<Result<_, _>>()?;
        let patient = if flags & FLAG_PATIENT != 0 {
            Some(PatientSeal { key: r.array("patient key")?, signature: r.array("patient signature")? })
        } else {
            None
        };
        Ok(Self { handle, commit, grantee_kind, grantee, provisions, patient })
    }
}

impl Provision {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let effect = match r.u8("provision effect")? {
            0 => Effect::Deny,
            1 => Effect::Permit,
            other => return Err(r.bad_value("provision effect", 1, other.into())),
        };
        let provision = Self {
            effect,
            purpose: r.u16("provision purpose")?,
            category: r.u16("provision category")?,
            from_s: r.u32("provision start")?,
            to_s: r.u32("provision end")?,
        };
        if provision.from_s >= provision.to_s {
            return Err(r.bad_value("provision end", 4, provision.to_s.into()));
        }
        Ok(provision)
    }
}

impl ConsentRevoke {
    /// What the patient's key signs.
    #[must_use]
    pub fn sealed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(73);
        out.put_bytes(&self.handle);
        out.put_u64(self.effective.0);
        out.put_u8(self.reason);
        out.put_bytes(&self.commit);
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.sealed_bytes());
        if let Some(signature) = &self.patient_signature {
            out.put_bytes(signature);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: r.array("consent handle")?,
            effective: TimestampMs(r.u64("effective time")?),
            reason: r.u8("reason")?,
            commit: r.array("commitment")?,
            patient_signature: if r.remaining() == 0 { None } else { Some(r.array("patient signature")?) },
        })
    }
}

impl AccessLog {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.commit);
        out.put_bytes(&self.consent.unwrap_or_default());
        out.put_u16(self.category);
        out.put_u8(self.purpose);
        out.put_u8(self.action);
        out.put_u8(self.outcome);
        out.put_u64(self.occurred.0);
        out.put_u32(self.origin.0);
        out.put_u8(if self.break_glass { FLAG_BREAK_GLASS } else { 0 });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let commit = r.array("commitment")?;
        let consent: [u8; 32] = r.array("consent handle")?;
        let category = r.u16("category")?;
        let purpose = r.u8("purpose")?;
        let action = r.u8("action")?;
        if !b"CRUDE".contains(&action) {
            return Err(r.bad_value("action", 1, action.into()));
        }
        let outcome = r.u8("outcome")?;
        if ![0, 4, 8, 12].contains(&outcome) {
            return Err(r.bad_value("outcome", 1, outcome.into()));
        }
        let occurred = TimestampMs(r.u64("occurred")?);
        let origin = OrgId(r.u32("origin")?);
        let flags = r.u8("access flags")?;
        if flags & !FLAG_BREAK_GLASS != 0 {
            return Err(r.bad_value("access flags", 1, flags.into()));
        }
        Ok(Self {
            commit,
            consent: (consent != [0; 32]).then_some(consent),
            category,
            purpose,
            action,
            outcome,
            occurred,
            origin,
            break_glass: flags & FLAG_BREAK_GLASS != 0,
        })
    }
}

impl KeyAdd {
    /// What the new key signs to prove that its owner holds it.
    #[must_use]
    pub fn possession_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(59);
        out.put_u32(self.org.0);
        out.put_u32(self.key.0);
        out.put_u8(ALG_ED25519);
        out.put_bytes(&self.public);
        out.put_u16(self.roles.0);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.possession_bytes());
        out.put_bytes(&self.possession);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let org = OrgId(r.u32("org")?);
        let key = KeyId(r.u32("key")?);
        let alg = r.u8("key algorithm")?;
        if alg != ALG_ED25519 {
            return Err(r.bad_value("key algorithm", 1, alg.into()));
        }
        let public = r.array("public key")?;
        let roles = Roles(r.u16("roles")?);
        if roles.0 == 0 || !Roles::GRANTABLE.contain(roles) {
            return Err(r.bad_value("roles", 2, roles.0.into()));
        }
        let from = TimestampMs(r.u64("valid from")?);
        let to = TimestampMs(r.u64("valid to")?);
        if from >= to {
            return Err(r.bad_value("valid to", 8, to.0));
        }
        Ok(Self { org, key, public, roles, from, to, possession: r.array("proof of possession")? })
    }
}

impl OrgAdmit {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(
            self.name.len() <= NAME_BYTES,
            "an organisation's name of {} bytes was built",
            self.name.len()
        );
        out.put_u32(self.org.0);
        out.put_u8(self.kind);
        let mut name = [0; NAME_BYTES];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        out.put_bytes(&name);
        out.put_bytes(&self.root);
        out.put_u16(self.region);
        out.put_bytes(&self.policy);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let org = OrgId(r.u32("org")?);
        let kind = r.u8("organisation kind")?;
        if !(1..=4).contains(&kind) {
            return Err(r.bad_value("organisation kind", 1, kind.into()));
        }
        let at = r.position();
        let padded: [u8; NAME_BYTES] = r.array("organisation name")?;
        let not_canonical = DecodeError::NotCanonical { what: "organisation name", at };
        let len = padded.iter().position(|&b| b == 0).unwrap_or(NAME_BYTES);
        if len == 0 || padded[len..].iter().any(|&b| b != 0) {
            return Err(not_canonical);
        }
        let name = std::str::from_utf8(&padded[..len]).map_err(|_utf8| not_canonical)?.to_owned();
        Ok(Self {
            org,
            kind,
            name,
            root: r.array("root key")?,
            region: r.u16("region")?,
            policy: r.array("policy")?,
        })
    }
}
