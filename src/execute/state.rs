//! What the ledger knows: organisations, keys and consents, each with the one encoding that the state root covers.
//!
//! Key in the authenticated map = BLAKE3(domain ‖ id), value = BLAKE3(encoded state).

use super::tables::Record;
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{CONSENT_PROVISIONS_MAX, TRANSACTION_TIME_SKEW_MS_MAX};
use crate::types::{
    AccessLog, AuthorityIndex, Digest, Effect, KeyId, LeafIndex, OrgId, Provision, Roles, TimestampMs,
};

const CONSENT_DOMAIN: &[u8] = b"salus/state-consent/v1\0";
const KEY_DOMAIN: &[u8] = b"salus/state-key/v1\0";
const ORG_DOMAIN: &[u8] = b"salus/state-org/v1\0";
const PROPOSAL_DOMAIN: &[u8] = b"salus/state-proposal/v1\0";

fn map_key(domain: &[u8], id: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain);
    for part in id {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

/// Key of a consent in the authenticated map.
#[must_use]
pub fn consent_map_key(handle: &[u8; 32]) -> Digest {
    map_key(CONSENT_DOMAIN, &[handle])
}

/// Key of an organisation's key in the authenticated map.
#[must_use]
pub fn key_map_key(org: OrgId, key: KeyId) -> Digest {
    map_key(KEY_DOMAIN, &[&org.0.to_be_bytes(), &key.0.to_be_bytes()])
}

/// Key of an organisation in the authenticated map.
#[must_use]
pub fn org_map_key(org: OrgId) -> Digest {
    map_key(ORG_DOMAIN, &[&org.0.to_be_bytes()])
}

/// Key, in the authenticated map, of the votes for one body of ORG_ADMIT; `body` is its BLAKE3.
#[must_use]
pub fn proposal_map_key(org: OrgId, body: &Digest) -> Digest {
    map_key(PROPOSAL_DOMAIN, &[&org.0.to_be_bytes(), &body.0])
}

/// Value of an encoded state in the authenticated map.
#[must_use]
pub fn map_value(encoded: &[u8]) -> Digest {
    Digest(blake3::hash(encoded).into())
}

/// Writes a flag and, where there is something, the thing.
fn put_optional<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    match value {
        None => out.put_u8(0),
        Some(value) => {
            out.put_u8(1);
            put(out, value);
        }
    }
}

fn read_optional<'a, T>(
    r: &mut Reader<'a>,
    what: &'static str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if read_bool(r, what)? { read(r).map(Some) } else { Ok(None) }
}

fn read_bool(r: &mut Reader<'_>, what: &'static str) -> Result<bool, DecodeError> {
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(r.bad_value(what, 1, other.into())),
    }
}

/// The end of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// From when on.
    pub effective: TimestampMs,
    /// Leaf of the CONSENT_REVOKE.
    pub leaf: LeafIndex,
    /// Organisation that sent it.
    pub by: OrgId,
}

/// A consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentState {
    /// Organisation that granted it.
    pub custodian: OrgId,
    /// Organisation that may access.
    pub grantee: OrgId,
    /// Commitment to the full document.
    pub commit: [u8; 32],
    /// Leaf of the CONSENT_GRANT.
    pub leaf: LeafIndex,
    /// One-time key of the patient, where one sealed the consent.
    pub patient: Option<[u8; 32]>,
    /// Its rules.
    pub provisions: Vec<Provision>,
    /// Its end, for good. Expiry is not kept: it follows from the provisions and the time.
    pub revocation: Option<Revocation>,
}

/// Gives a state's encoding to those outside who compute or check its value in the authenticated map.
macro_rules! encoded {
    ($($state:ident),*) => {
        $(impl $state {
            /// The encoding that the state root covers.
            #[must_use]
            pub fn encoded(&self) -> Vec<u8> {
                self.encode()
            }
        })*
    };
}

encoded!(ConsentState, KeyState, OrgState, Votes);

impl ConsentState {
    /// Whether the consent permits an access that `sender` logs in a commit of block time `now`.
    ///
    /// It does if and only if all of these hold:
    /// 1. the sender is the grantee;
    /// 2. the access did not happen more than ten minutes after `now`: what is still to come cannot have been permitted,
    ///    or a revocation could be outrun by logging ahead;
    /// 3. the consent was not revoked, or the access happened before the revocation took effect;
    /// 4. a provision that permits matches, and none that denies does. A provision matches if its purpose and its category
    ///    are the access's or [`Provision::ANY`], and `from ≤ occurred < to`.
    ///
    /// The consent has to precede the access in the ledger's order, but not in time: provisions may reach back.
    #[must_use]
    pub fn permits(&self, sender: OrgId, access: &AccessLog, now: TimestampMs) -> bool {
        let occurred = access.occurred.0;
        if sender != self.grantee || occurred > now.0.saturating_add(TRANSACTION_TIME_SKEW_MS_MAX) {
            return false;
        }
        if self.revocation.is_some_and(|end| end.effective.0 <= occurred) {
            return false;
        }
        let matches = |rule: &&Provision| {
            (rule.purpose == Provision::ANY || rule.purpose == u16::from(access.purpose))
                && (rule.category == Provision::ANY || rule.category == access.category)
                && u64::from(rule.from_s) * 1_000 <= occurred
                && occurred < u64::from(rule.to_s) * 1_000
        };
        let mut permitted = false;
        for rule in self.provisions.iter().filter(matches) {
            match rule.effect {
                Effect::Deny => return false,
                Effect::Permit => permitted = true,
            }
        }
        permitted
    }
}

impl Record for ConsentState {
    const NAME: &'static str = "consent";

    /// `custodian4 grantee4 commit32 leaf8 sealed1 [patient32] n1 {effect1 purpose2 category2 from4 to4}×n revoked1
    /// [effective8 leaf8 by4]`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(103 + 13 * self.provisions.len());
        out.put_u32(self.custodian.0);
        out.put_u32(self.grantee.0);
        out.put_bytes(&self.commit);
        out.put_u64(self.leaf.0);
        put_optional(&mut out, self.patient.as_ref(), |out, key| out.put_bytes(key));
        out.put_u8(
            u8::try_from(self.provisions.len())
                .unwrap_or_else(|_| panic!("more provisions than a consent may have")),
        );
        for rule in &self.provisions {
            out.put_u8(match rule.effect {
                Effect::Deny => 0,
                Effect::Permit => 1,
            });
            out.put_u16(rule.purpose);
            out.put_u16(rule.category);
            out.put_u32(rule.from_s);
            out.put_u32(rule.to_s);
        }
        put_optional(&mut out, self.revocation.as_ref(), |out, end| {
            out.put_u64(end.effective.0);
            out.put_u64(end.leaf.0);
            out.put_u32(end.by.0);
        });
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let custodian = OrgId(r.u32("custodian")?);
        let grantee = OrgId(r.u32("grantee")?);
        let commit = r.array("commitment")?;
        let leaf = LeafIndex(r.u64("leaf")?);
        let patient = read_optional(r, "sealed", |r| r.array("patient key"))?;
        let n = r.u8("provision count")?;
        if usize::from(n) > CONSENT_PROVISIONS_MAX {
            return Err(r.bad_value("provision count", 1, n.into()));
        }
        let provisions = (0..n).map(|_| read_provision(r)).collect::<Result<_, _>>()?;
        let revocation = read_optional(r, "revoked", |r| {
            Ok(Revocation {
                effective: TimestampMs(r.u64("effective time")?),
                leaf: LeafIndex(r.u64("leaf")?),
                by: OrgId(r.u32("revoking organisation")?),
            })
        })?;
        Ok(Self { custodian, grantee, commit, leaf, patient, provisions, revocation })
    }
}

fn read_provision(r: &mut Reader<'_>) -> Result<Provision, DecodeError> {
    Ok(Provision {
        effect: if read_bool(r, "provision effect")? { Effect::Permit } else { Effect::Deny },
        purpose: r.u16("provision purpose")?,
        category: r.u16("provision category")?,
        from_s: r.u32("provision start")?,
        to_s: r.u32("provision end")?,
    })
}

/// A registered key. Its replay window is no part of it, nor of the state root: it follows from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyState {
    /// The Ed25519 key.
    pub public: [u8; 32],
    /// What it may do.
    pub roles: Roles,
    /// Start of validity, inclusive.
    pub from: TimestampMs,
    /// End of validity, exclusive.
    pub to: TimestampMs,
    /// Whether it was not revoked.
    pub active: bool,
}

impl Record for KeyState {
    const NAME: &'static str = "key";

    /// `public32 roles2 from8 to8 active1`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(51);
        out.put_bytes(&self.public);
        out.put_u16(self.roles.0);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
        out.put_u8(self.active.into());
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            public: r.array("public key")?,
            roles: Roles(r.u16("roles")?),
            from: TimestampMs(r.u64("valid from")?),
            to: TimestampMs(r.u64("valid to")?),
            active: read_bool(r, "active")?,
        })
    }
}

/// An organisation that is admitted. Its root key is its key number 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgState {
    /// 1 provider, 2 payer, 3 authority, 4 research.
    pub kind: u8,
    /// Whether it votes on admissions; only members of the genesis file do.
    pub governs: bool,
    /// Whether it is neither suspended nor removed.
    pub active: bool,
    /// Region that it belongs to.
    pub region: u16,
    /// Digest of the policy that it signed; zero for a member of the genesis file.
    pub policy: [u8; 32],
    /// Its root key.
    pub root: [u8; 32],
    /// Name of 1 to 64 bytes.
    pub name: String,
}

impl Record for OrgState {
    const NAME: &'static str = "organisation";

    /// `kind1 governs1 active1 region2 policy32 root32 len2 name`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(71 + self.name.len());
        out.put_u8(self.kind);
        out.put_u8(self.governs.into());
        out.put_u8(self.active.into());
        out.put_u16(self.region);
        out.put_bytes(&self.policy);
        out.put_bytes(&self.root);
        out.put_len_u16(self.name.len());
        out.put_bytes(self.name.as_bytes());
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const NAME: &str = "organisation name";
        let kind = r.u8("organisation kind")?;
        let governs = read_bool(r, "governs")?;
        let active = read_bool(r, "active")?;
        let region = r.u16("region")?;
        let policy = r.array("policy")?;
        let root = r.array("root key")?;
        let len = r.bounded_u16(NAME, 64)?;
        let at = r.position();
        let name = std::str::from_utf8(r.take(NAME, len)?)
            .map_err(|_utf8| DecodeError::NotCanonical { what: NAME, at })?
            .to_owned();
        Ok(Self { kind, governs, active, region, policy, root, name })
    }
}

/// The members that voted for one body of ORG_ADMIT, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Votes(pub Vec<OrgId>);

impl Record for Votes {
    const NAME: &'static str = "proposal";

    /// `n2 org4×n`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + 4 * self.0.len());
        out.put_len_u16(self.0.len());
        for org in &self.0 {
            out.put_u32(org.0);
        }
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.u16("vote count")?;
        (0..n).map(|_| r.u32("voter").map(OrgId)).collect::<Result<_, _>>().map(Self)
    }
}

/// What became of the transactions that one validator put into blocks. One that proposes what is skipped is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Executed.
    pub executed: u64,
    /// Executed before, by way of another block.
    pub duplicate: u64,
    /// Skipped.
    pub skipped: u64,
}

impl Record for Tally {
    const NAME: &'static str = "tally";

    /// `executed8 duplicate8 skipped8`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.put_u64(self.executed);
        out.put_u64(self.duplicate);
        out.put_u64(self.skipped);
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { executed: r.u64("executed")?, duplicate: r.u64("duplicate")?, skipped: r.u64("skipped")? })
    }
}

/// The tally of a validator is kept under its index in the committee.
pub(super) type Tallies = std::collections::BTreeMap<AuthorityIndex, Tally>;
