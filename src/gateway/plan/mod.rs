//! Turns a whole stream into signed transactions, stage by stage.
//!
//! A transaction may rest on others: a key on its organisation, a second version on the leaf of the first, a revocation on
//! its consent. Transactions that rest on nothing but earlier *stages* form a stage. Within a stage order does not matter,
//! so it can be spread over all validators; before the next one, all of it has to be final:
//!
//! | stage | transactions |
//! |---|---|
//! | admissions | ORG_ADMIT, as many members' votes as admit an organisation |
//! | keys | KEY_ADD, three for each device: records, consents, accesses |
//! | consents and first versions | CONSENT_GRANT, RECORD_ANCHOR |
//! | accesses and second versions | ACCESS_LOG, RECORD_ANCHOR with `prev` |
//! | revocations | CONSENT_REVOKE, and third versions |
//! | later ones | further versions, and accesses under a consent that was revoked before |
//!
//! # Who signs, and under which consent
//! A record is signed for by its custodian (of a provenance: the organisation on whose behalf it was made; of a study: its
//! sponsor; of a study's subject: the organisation that keeps the consent). An access is signed for by the owner of the
//! device that recorded it. Where that organisation keeps the data itself, an access for care needs no consent and names
//! none. Every other access names the patient's consent that makes this organisation a grantee for this purpose, and
//! none if the stream brings no such consent: then it is for the site to answer at audit. Break-glass accesses name
//! none and carry the flag.

mod resolve;

use thiserror::Error;

use super::codes;
use super::entropy::{Entropy, EntropyError};
use super::fhir::{Content, Event};
use super::signer::{KeyTerms, OrgSigner, key_add, seal_grant, seal_revoke};
use super::vault::{ConsentName, Vault, VaultError, VersionName};
use crate::crypto::SecretKey;
use crate::limits::TRANSACTION_TIME_SKEW_MS_MAX;
use crate::proof::commitment::{FHIR_R4_DOMAIN, commit};
use crate::types::{
    AccessLog, Body, ConsentGrant, ConsentRevoke, KeyId, LeafIndex, NetworkId, OrgAdmit, OrgId, RecordAnchor,
    Roles, TimestampMs, Transaction, TxId,
};

/// How long a key that the plan makes is valid: two years, in milliseconds.
const KEY_LIFETIME_MS: u64 = 2 * 365 * 24 * 3_600 * 1_000;

/// Choices for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Network to sign for.
    pub network: NetworkId,
    /// Number of the first organisation that is admitted; the others follow.
    pub first_org: u32,
    /// Region of the organisations.
    pub region: u16,
    /// Digest of the policy that they sign up to.
    pub policy: [u8; 32],
    /// How many times the clinical part is made, with fresh keys, salts and handles each time; 0 is 1.
    pub times: u32,
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Position, from 0.
    pub index: usize,
    /// What it holds.
    pub name: &'static str,
    /// Number of transactions.
    pub transactions: u64,
}

/// A transaction to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The signed transaction.
    pub transaction: Transaction,
    /// Line of the stream that it comes from.
    pub line: usize,
    /// The resource version that it commits to; `None` for organisations and keys.
    pub document: Option<VersionName>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A transaction of the current stage.
    Transaction(Box<Prepared>),
    /// The stage has no more: wait until all of it is final and [`Gateway::note_final`] was told, then go on.
    StageEnd(Stage),
    /// Nothing is left.
    Done,
}

/// An organisation that the plan admits, with the keys that the plan made for it.
#[derive(Debug)]
pub struct OrgKeys {
    /// Its number.
    pub org: OrgId,
    /// Its name.
    pub name: String,
    /// Its root key, number 0.
    pub root: OrgSigner,
    /// Its operational keys, three for each device: for records, consents and accesses.
    pub operational: Vec<OrgSigner>,
}

/// Why there is no plan, or no next transaction.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Something that the line refers to is not in the stream.
    #[error("line {line}: {what} is not in the stream")]
    Unresolved {
        /// Number of the line.
        line: usize,
        /// What is missing.
        what: &'static str,
    },
    /// The same resource version, or the same consent in force, a second time.
    #[error("line {line}: {what} came on line {first} already")]
    Repeated {
        /// Number of the line.
        line: usize,
        /// Line that it repeats.
        first: usize,
        /// What is repeated.
        what: &'static str,
    },
    /// No member to vote with.
    #[error("no governing member's root key was given, so no organisation can be admitted")]
    NoGovernor,
    /// The organisations' numbers run out.
    #[error("organisation numbers from {0} on are not enough")]
    OrgNumbers(u32),
    /// The version before is not final, or its leaf was not told.
    #[error("line {line}: the version before is not final yet: submit again when its stage is")]
    NotFinal {
        /// Number of the line.
        line: usize,
    },
    /// The vault refuses.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Record,
    Consent,
    Access,
}

impl Duty {
    const ALL: [Self; 3] = [Self::Record, Self::Consent, Self::Access];

    fn roles(self) -> Roles {
        match self {
            Self::Record => Roles::RECORD,
            Self::Consent => Roles::CUSTODIAN,
            Self::Access => Roles::ACCESS,
        }
    }
}

/// Who signs: positions of an organisation and of its operational key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sender {
    org: usize,
    key: usize,
}

/// One transaction to make; of the clinical ones, one for each copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// Position of the event.
    event: usize,
    task: Task,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Task {
    Admit { org: usize, governor: usize },
    AddKey { org: usize, key: usize },
    Grant { sender: Sender, grantee: OrgId },
    Revoke { sender: Sender, grantee: OrgId },
    Record { sender: Sender, prev: Option<u32> },
    Access { sender: Sender, origin: OrgId, consent: Option<(String, OrgId)> },
}

/// The gateway: a stream on its way to the ledger. See the module for the stages.
///
/// Makes transactions one at a time and keeps none of them, so that a load can be larger than memory; the vault grows by one
/// entry for each resource version.
pub struct Gateway<E> {
    settings: Settings,
    events: Vec<Event>,
    stages: Vec<(Stage, Vec<Step>)>,
    orgs: Vec<OrgKeys>,
    governors: Vec<OrgSigner>,
    vault: Vault,
    entropy: E,
    /// Current stage, and transactions that were made of it.
    position: (usize, u64),
}

impl<E: Entropy> Gateway<E> {
    /// Plans a stream. `governors` sign with the root keys of the genesis members that govern, all of them.
    ///
    /// # Errors
    /// If the stream refers to what it does not bring, or the source of randomness fails.
    pub fn new(
        events: Vec<Event>,
        settings: Settings,
        governors: Vec<OrgSigner>,
        mut entropy: E,
    ) -> Result<Self, PlanError> {
        let plan = resolve::resolve(&events, settings, governors.len())?;
        let mut orgs = Vec::with_capacity(plan.orgs.len());
        for org in plan.orgs {
            let mut signer = |key: u32| -> Result<OrgSigner, EntropyError> {
                let seed = zeroize::Zeroizing::new(entropy.bytes()?);
                Ok(OrgSigner::new(settings.network, org.number, KeyId(key), SecretKey::from_seed(&seed), 1))
            };
            let root = signer(0)?;
            let operational = (1..=org.operational_keys).map(signer).collect::<Result<_, _>>()?;
            orgs.push(OrgKeys { org: org.number, name: org.name, root, operational });
        }
        let stages = plan.stages;
        Ok(Self { settings, events, stages, orgs, governors, vault: Vault::new(), entropy, position: (0, 0) })
    }

    /// All stages in order.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = Stage> + '_ {
        self.stages.iter().map(|(stage, _)| *stage)
    }

    /// Events of the stream.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Organisations with their keys.
    #[must_use]
    pub fn orgs(&self) -> &[OrgKeys] {
        &self.orgs
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// RFC 8785 bytes of a resource version, which its commitment is made over.
    #[must_use]
    pub fn canonical(&self, name: &VersionName) -> Option<&[u8]> {
        self.events
            .iter()
            .find(|event| event.resource == name.resource && event.version == name.version)
            .map(|event| event.canonical.as_slice())
    }

    /// Tells that a transaction is final; returns whether it was one that the vault waits for.
    pub fn note_final(&mut self, id: &TxId, leaf: LeafIndex) -> bool {
        self.vault.note_final(id, leaf)
    }

    /// Makes the next transaction, at time `now`: submit it within ten minutes.
    ///
    /// # Errors
    /// [`PlanError::NotFinal`] if it rests on one whose leaf was not told; call again when it was. Other errors are final.
    pub fn next(&mut self, now: TimestampMs) -> Result<Next, PlanError> {
        let (at, made) = self.position;
        let Some((stage, steps)) = self.stages.get(at) else { return Ok(Next::Done) };
        if made == stage.transactions {
            self.position = (at + 1, 0);
            return Ok(Next::StageEnd(*stage));
        }
        let copy = made / steps.len() as u64;
        let step = steps[usize::try_from(made % steps.len() as u64).unwrap_or_default()].clone();
        let copy = u32::try_from(copy).unwrap_or_else(|_| unreachable!("copies are counted in 32 bits"));
        let prepared = self.make(copy, &step, now)?;
        self.position.1 += 1;
        Ok(Next::Transaction(Box::new(prepared)))
    }

    fn make(&mut self, copy: u32, step: &Step, now: TimestampMs) -> Result<Prepared, PlanError> {
        let line = self.events[step.event].line;
        let (body, document) = match &step.task {
            Task::Admit { org, .. } => (self.admit(step.event, *org), None),
            Task::AddKey { org, key } => (self.add_key(*org, *key, now), None),
            Task::Grant { grantee, .. } => self.grant(copy, step.event, *grantee)?,
            Task::Revoke { grantee, .. } => self.revoke(copy, step.event, *grantee)?,
            Task::Record { prev, .. } => self.record(copy, step.event, *prev)?,
            Task::Access { origin, consent, .. } => {
                self.access(copy, step.event, *origin, consent.as_ref())?
            }
        };
        let salt = self.entropy.bytes()?;
        let signer = match &step.task {
            Task::Admit { governor, .. } => &mut self.governors[*governor],
            Task::AddKey { org, .. } => &mut self.orgs[*org].root,
            Task::Grant { sender, .. }
            | Task::Revoke { sender, .. }
            | Task::Record { sender, .. }
            | Task::Access { sender, .. } => &mut self.orgs[sender.org].operational[sender.key],
        };
        let transaction = signer.sign(&body, now, salt);
        if let Some(name) = &document {
            self.vault.note_transaction(name, transaction.id());
        }
        Ok(Prepared { transaction, line, document })
    }

    fn admit(&self, event: usize, org: usize) -> Body {
        let Content::Organization { name, kind } = &self.events[event].content else {
            unreachable!("admissions are planned for organisations")
        };
        Body::OrgAdmit(OrgAdmit {
            org: self.orgs[org].org,
            kind: *kind,
            name: name.clone(),
            root: self.orgs[org].root.secret().public(),
            region: self.settings.region,
            policy: self.settings.policy,
        })
    }

    fn add_key(&self, org: usize, key: usize, now: TimestampMs) -> Body {
        let signer = &self.orgs[org].operational[key];
        let terms = KeyTerms {
            org: signer.org(),
            key: signer.key(),
            roles: Duty::ALL[key % Duty::ALL.len()].roles(),
            // Block time may lag behind our clock by as much as a transaction's time may differ from it.
            from: TimestampMs(now.0.saturating_sub(TRANSACTION_TIME_SKEW_MS_MAX)),
            to: TimestampMs(now.0.saturating_add(KEY_LIFETIME_MS)),
        };
        Body::KeyAdd(key_add(self.settings.network, terms, signer.secret()))
    }

    /// Makes the commitment of an event's resource under a fresh key.
    fn commit(
        &mut self,
        copy: u32,
        event: usize,
        grantee: Option<OrgId>,
    ) -> Result<([u8; 32], VersionName), PlanError> {
        let event = &self.events[event];
        let name = VersionName { copy, resource: event.resource.clone(), version: event.version, grantee };
        let key = zeroize::Zeroizing::new(self.vault.add_version(&name, &mut self.entropy)?);
        Ok((commit(&key, FHIR_R4_DOMAIN, &event.canonical), name))
    }

    fn grant(
        &mut self,
        copy: u32,
        event: usize,
        grantee: OrgId,
    ) -> Result<(Body, Option<VersionName>), PlanError> {
        let (commit, document) = self.commit(copy, event, Some(grantee))?;
        let Content::Grant(facts) = &self.events[event].content else {
            unreachable!("grants are planned for active consents")
        };
        let name = ConsentName { copy, resource: self.events[event].resource.clone(), grantee };
        let entry = self.vault.add_consent(name, &mut self.entropy)?;
        let mut body = ConsentGrant {
            handle: entry.handle,
            commit,
            grantee_kind: codes::GRANTEE_ORGANISATION,
            grantee,
            provisions: facts.provisions.clone(),
            patient: None,
        };
        seal_grant(self.settings.network, &mut body, &SecretKey::from_seed(&entry.patient_seed));
        Ok((Body::ConsentGrant(body), Some(document)))
    }

    fn revoke(
        &mut self,
        copy: u32,
        event: usize,
        grantee: OrgId,
    ) -> Result<(Body, Option<VersionName>), PlanError> {
        let (commit, document) = self.commit(copy, event, Some(grantee))?;
        let event = &self.events[event];
        let Content::Revoke { effective, reason } = event.content else {
            unreachable!("revocations are planned for consents that ended")
        };
        let name = ConsentName { copy, resource: event.resource.clone(), grantee };
        let entry = self
            .vault
            .consent(&name)
            .ok_or(PlanError::Unresolved { line: event.line, what: "the consent that it revokes" })?;
        let mut body =
            ConsentRevoke { handle: entry.handle, effective, reason, commit, patient_signature: None };
        seal_revoke(self.settings.network, &mut body, &SecretKey::from_seed(&entry.patient_seed));
        Ok((Body::ConsentRevoke(body), Some(document)))
    }

    fn record(
        &mut self,
        copy: u32,
        event: usize,
        prev: Option<u32>,
    ) -> Result<(Body, Option<VersionName>), PlanError> {
        let Event { line, content, resource, .. } = &self.events[event];
        let Content::Record { class, .. } = *content else { unreachable!("anchors are planned for records") };
        let prev = match prev {
            None => None,
            Some(version) => {
                let name = VersionName { copy, resource: resource.clone(), version, grantee: None };
                let leaf = self.vault.version(&name).and_then(|entry| entry.leaf);
                Some(leaf.ok_or(PlanError::NotFinal { line: *line })?)
            }
        };
        let (commit, document) = self.commit(copy, event, None)?;
        let body = RecordAnchor {
            commit,
            prev,
            class,
            alg: codes::COMMIT_HMAC_SHA256_JCS,
            retain_days: codes::RETAIN_DAYS,
        };
        Ok((Body::RecordAnchor(body), Some(document)))
    }

    fn access(
        &mut self,
        copy: u32,
        event: usize,
        origin: OrgId,
        consent: Option<&(String, OrgId)>,
    ) -> Result<(Body, Option<VersionName>), PlanError> {
        let line = self.events[event].line;
        let handle = match consent {
            None => None,
            Some((resource, grantee)) => {
                let name = ConsentName { copy, resource: resource.clone(), grantee: *grantee };
                let entry = self.vault.consent(&name);
                Some(entry.ok_or(PlanError::Unresolved { line, what: "the consent of the access" })?.handle)
            }
        };
        let (commit, document) = self.commit(copy, event, None)?;
        let Content::Access(facts) = &self.events[event].content else {
            unreachable!("access entries are planned for audit events")
        };
        let body = AccessLog {
            commit,
            consent: handle,
            category: facts.category,
            purpose: facts.purpose.code(),
            action: facts.action,
            outcome: facts.outcome,
            occurred: facts.occurred,
            origin,
            break_glass: facts.break_glass,
        };
        Ok((Body::AccessLog(body), Some(document)))
    }
}
