//! One commit being executed: the order of checks, and the rule of each kind.
//!
//! Checks run in this order, and the first that fails names the [`SkipReason`]:
//!
//! 1. it decodes, as a kind that the network's rules know (`Malformed`), and is of this network (`WrongNetwork`), and its body
//!    decodes (`Malformed`);
//! 2. its key is registered and active at block time (`UnknownKey`), and the signature verifies under it (`BadSignature`);
//! 3. (org, key, seq) is unused and within the window (`Replayed`; a transaction that was itself executed before is a
//!    duplicate instead);
//! 4. |time − block time| ≤ 10 min (`BadTime`);
//! 5. the key has the role that the kind asks for (`MissingRole`);
//! 6. the rule of its kind, in the order of the function below that holds it.
//!
//! Only a transaction that passes all of them changes anything, its sequence number included: one that is skipped does
//! not use its number up. Should the obstacle go away (a grantee is admitted, say), the same bytes may still be executed,
//! once, within ten minutes of their time, by whoever puts them into a block again. So a client that mends a skipped
//! transaction reuses its number: then at most one of the two is ever executed. Nobody gains more by repeating a skipped
//! transaction than the work of checking it again, which the proposer's tally shows.
//!
//! Skips are remembered by id where the signature holds, for clients that ask what became of theirs: each entry is smaller
//! than the transaction in the block log that caused it. Below that point anybody could have made the bytes, and nothing is
//! kept but the tally of the proposer.

use std::collections::BTreeMap;

use super::leaves::Leaves;
use super::prepare::{Inner, Prepared, PreparedBlock, possession_of, prepare, seal_of, together};
use super::state::{
    self, ConsentState, KeyState, OrgState, Revocation, Tallies, Votes, consent_map_key, key_map_key,
    map_value, org_map_key, proposal_map_key,
};
use super::store::{Batch, Overlay, Store};
use super::tables::{self, LeafRecord, Record, SkipRecord};
use super::{
    BlockOutcome, CommittedBlock, KeyDirectory, KeyEntry, KeyMap, Outcome, ReplayWindow, SkipReason, SubDag,
    Verdict,
};
use crate::crypto::{Domain, Purpose, Signed, is_acceptable_key, verify_one};
use crate::error::StorageError;
use crate::genesis::Genesis;
use crate::limits::{KEYS_PER_ORG_MAX, TRANSACTION_TIME_SKEW_MS_MAX};
use crate::types::{
    AccessLog, Body, CommitIndex, ConsentGrant, ConsentRevoke, Digest, Envelope, KeyAdd, KeyId, Kind,
    LeafIndex, NetworkId, OrgAdmit, OrgId, RecordAnchor, Roles, Rules, STUB_BYTES, Stub, TimestampMs,
    Transaction, TxId,
};

/// Number of an organisation's root key.
pub(super) const ROOT_KEY: KeyId = KeyId(0);
/// The only kind of grantee there is: an organisation of the network.
const GRANTEE_ORG: u8 = 1;

/// What stays the same from commit to commit.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    network: NetworkId,
    /// Kinds that they do not know are as malformed as bytes that stand for nothing.
    pub(super) rules: Rules,
    tx: Domain,
    pub(super) consent: Domain,
    pub(super) possession: Domain,
    /// Members that vote on admissions.
    governing: usize,
    pub(super) checkpoint_interval_ms: u64,
}

impl Constants {
    pub(super) fn new(genesis: &Genesis) -> Self {
        let network = genesis.network();
        Self {
            network,
            rules: genesis.rules(),
            tx: Domain::new(Purpose::Tx, network),
            consent: Domain::new(Purpose::Consent, network),
            possession: Domain::new(Purpose::Possession, network),
            governing: genesis.members().filter(|(_, member)| member.governs).count(),
            checkpoint_interval_ms: genesis.parameters().checkpoint_interval_ms,
        }
    }

    /// Whether so many votes are more than two thirds of the governing members.
    fn admits(&self, votes: usize) -> bool {
        votes * 3 > self.governing * 2
    }
}

/// The role that a kind asks of the key.
fn role_of(kind: Kind) -> Roles {
    match kind {
        Kind::RecordAnchor | Kind::RecordBatch => Roles::RECORD,
        Kind::ConsentGrant | Kind::ConsentRevoke => Roles::CUSTODIAN,
        Kind::AccessLog => Roles::ACCESS,
        Kind::KeyAdd => Roles::ROOT,
        Kind::OrgAdmit => Roles::GOVERN,
    }
}

/// Why a transaction goes no further.
enum Stop {
    Skip(SkipReason),
    Storage(StorageError),
}

impl From<SkipReason> for Stop {
    fn from(reason: SkipReason) -> Self {
        Self::Skip(reason)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// `Err(reason)` unless the condition holds.
fn ensure(holds: bool, reason: SkipReason) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Skip(reason)) }
}

/// What the checks need to know of a key.
#[derive(Debug, Clone, Copy)]
struct KeyFacts {
    public: [u8; 32],
    roles: Roles,
    active: bool,
}

impl KeyFacts {
    fn of(entry: &KeyEntry, now: TimestampMs) -> Self {
        Self { public: entry.public, roles: entry.roles, active: entry.is_active_at(now) }
    }
}

/// A transaction whose signature holds.
struct Attributed<'a> {
    tx: &'a Transaction,
    inner: Option<Inner>,
    stub_hash: [u8; 32],
    id: TxId,
    roles: Roles,
    block: &'a CommittedBlock,
    /// Position in the payload.
    index: usize,
}

impl Attributed<'_> {
    fn org(&self) -> OrgId {
        self.tx.envelope().org
    }
}

/// Everything that one commit changes, over what those before it changed that are not applied yet.
pub(super) struct Commit<'a, S> {
    constants: &'a Constants,
    directory: &'a KeyDirectory,
    pub(super) overlay: Overlay<'a, S>,
    index: CommitIndex,
    time: TimestampMs,
    pub(super) leaves: Leaves,
    pub(super) stubs: Vec<[u8; STUB_BYTES]>,
    /// Keys that were used or registered, here or by commits before that are not applied yet, to replace those of the directory.
    pub(super) keys: KeyMap,
    /// Entries of the authenticated map.
    pub(super) authenticated: BTreeMap<Digest, Digest>,
    pub(super) tallies: Tallies,
}

impl<'a, S: Store> Commit<'a, S> {
    pub(super) fn new(
        constants: &'a Constants,
        directory: &'a KeyDirectory,
        (store, staged): (&'a S, &'a Batch),
        keys: KeyMap,
        leaves: Leaves,
        (index, time): (CommitIndex, TimestampMs),
    ) -> Self {
        Self {
            constants,
            directory,
            overlay: Overlay::new(store, staged),
            index,
            time,
            leaves,
            stubs: Vec::new(),
            keys,
            authenticated: BTreeMap::new(),
            tallies: Tallies::new(),
        }
    }

    /// Executes the blocks of a commit.
    pub(super) fn blocks(&mut self, dag: &SubDag) -> Result<Vec<BlockOutcome>, StorageError> {
        let mut outcomes = Vec::with_capacity(dag.blocks.len());
        for blocks in together(&dag.blocks) {
            for (block, prepared) in blocks.iter().zip(prepare(blocks, self.constants)) {
                outcomes.push(self.block(block, prepared)?);
            }
        }
        Ok(outcomes)
    }

    fn block(
        &mut self,
        block: &CommittedBlock,
        prepared: PreparedBlock,
    ) -> Result<BlockOutcome, StorageError> {
        let n = block.payload.len();
        assert_eq!(n, block.verdicts.len(), "one verdict for each transaction of {}", block.reference);
        let mut outcomes = Vec::with_capacity(n);
        for (index, prepared) in prepared.into_iter().enumerate() {
            let outcome = match self.transaction(block, index, prepared) {
                Ok(outcome) => outcome,
                Err(Stop::Skip(reason)) => Outcome::Skipped(reason),
                Err(Stop::Storage(error)) => return Err(error),
            };
            outcomes.push(outcome);
        }
        if n > 0 {
            let tally = self.tallies.entry(block.reference.author).or_default();
            for outcome in &outcomes {
                match outcome {
                    Outcome::Executed { .. } => tally.executed += 1,
                    Outcome::Duplicate { .. } => tally.duplicate += 1,
                    Outcome::Skipped(_) => tally.skipped += 1,
                }
            }
        }
        Ok(BlockOutcome { reference: block.reference, outcomes })
    }

    /// Checks 1 and 2: who made this.
    fn transaction(
        &mut self,
        block: &CommittedBlock,
        index: usize,
        prepared: Option<Prepared>,
    ) -> Result<Outcome, Stop> {
        let Prepared { tx, body, stub_hash, inner } = prepared.ok_or(SkipReason::Malformed)?;
        let envelope = tx.envelope();
        ensure(envelope.network == self.constants.network, SkipReason::WrongNetwork)?;
        let body = body.ok_or(SkipReason::Malformed)?;
        let facts = self
            .facts((envelope.org, envelope.key))
            .filter(|facts| facts.active)
            .ok_or(SkipReason::UnknownKey)?;
        let signed = match block.verdicts[index] {
            Verdict::Valid => true,
            Verdict::Invalid => false,
            Verdict::UnknownKey => {
                verifies(&self.constants.tx, &facts.public, tx.signed_bytes(), tx.signature())
            }
        };
        ensure(signed, SkipReason::BadSignature)?;
        let id = block.payload.id(index);
        let sent = Attributed { tx: &tx, inner, stub_hash, id, roles: facts.roles, block, index };
        let result = self.attributed(&sent, body);
        if let Err(Stop::Skip(reason)) = result {
            let record = SkipRecord { reason, commit: self.index };
            self.overlay.put(tables::skipped(&sent.id), record.encode());
        }
        result
    }

    /// Checks 3 to 6, and execution.
    fn attributed(&mut self, sent: &Attributed<'_>, body: Body) -> Result<Outcome, Stop> {
        let envelope = sent.tx.envelope();
        let signer = (envelope.org, envelope.key);
        if !self.window(signer).check(envelope.seq) {
            let before = self.leaves.find_id(&self.overlay, &sent.id)?;
            return before.map(|leaf| Outcome::Duplicate { leaf }).ok_or(Stop::Skip(SkipReason::Replayed));
        }
        let distance_ms = envelope.time.0.abs_diff(self.time.0);
        ensure(distance_ms <= TRANSACTION_TIME_SKEW_MS_MAX, SkipReason::BadTime)?;
        ensure(sent.roles.contain(role_of(envelope.kind)), SkipReason::MissingRole)?;
        let leaf = self.leaves.next();
        let mut violation = false;
        match body {
            Body::RecordAnchor(body) => self.record_anchor(sent, &body, leaf)?,
            // The decoder has bounded its count, and it rests on nothing that is in the state.
            Body::RecordBatch(_) => {}
            Body::ConsentGrant(body) => self.consent_grant(sent, body, leaf)?,
            Body::ConsentRevoke(body) => self.consent_revoke(sent, &body, leaf)?,
            Body::AccessLog(body) => violation = self.is_violation(sent, &body)?,
            Body::KeyAdd(body) => self.key_add(sent, &body)?,
            Body::OrgAdmit(body) => self.org_admit(sent, body)?,
        }
        let free = self.window(signer).mark(envelope.seq);
        assert!(free, "sequence number {} was free a moment ago", envelope.seq);
        self.append(sent, violation);
        Ok(Outcome::Executed { leaf, violation })
    }

    fn append(&mut self, sent: &Attributed<'_>, violation: bool) {
        let stub = Stub::of(sent.tx, sent.stub_hash, violation, self.index, self.time).encode();
        let index = u32::try_from(sent.index).unwrap_or_else(|_| unreachable!("a payload's limit"));
        let Envelope { org, key, seq, .. } = *sent.tx.envelope();
        let record = LeafRecord { stub, payload_seq: sent.block.payload_seq, index, key, seq, id: sent.id };
        self.leaves.push(&mut self.overlay, org, &record);
        self.stubs.push(stub);
    }

    /// RECORD_ANCHOR: `prev` is the leaf of a record version of the same organisation that no other version replaced.
    fn record_anchor(
        &mut self,
        sent: &Attributed<'_>,
        body: &RecordAnchor,
        leaf: LeafIndex,
    ) -> Result<(), Stop> {
        let Some(prev) = body.prev else { return Ok(()) };
        let record = self.leaves.find(&self.overlay, prev)?.ok_or(SkipReason::NotAHead)?;
        let stub = record.stub(prev)?;
        ensure(stub.kind == Kind::RecordAnchor && stub.org == sent.org(), SkipReason::NotAHead)?;
        let superseded = tables::superseded(prev);
        ensure(self.overlay.get(&superseded)?.is_none(), SkipReason::NotAHead)?;
        self.overlay.put(superseded, leaf.encode());
        Ok(())
    }

    /// CONSENT_GRANT: a handle that is not zero (`Malformed`: zero stands for none) and new; a grantee that is an active
    /// organisation; the patient's signature, if there is one, verifies under an acceptable key.
    fn consent_grant(
        &mut self,
        sent: &Attributed<'_>,
        body: ConsentGrant,
        leaf: LeafIndex,
    ) -> Result<(), Stop> {
        ensure(body.handle != [0; 32], SkipReason::Malformed)?;
        let key = tables::consent(&body.handle);
        ensure(self.overlay.get(&key)?.is_none(), SkipReason::HandleTaken)?;
        ensure(body.grantee_kind == GRANTEE_ORG, SkipReason::UnknownGrantee)?;
        let grantee = self.org(body.grantee)?;
        ensure(grantee.is_some_and(|org| org.active), SkipReason::UnknownGrantee)?;
        if let Some(seal) = &body.patient {
            let inner = sent.inner.unwrap_or_else(|| seal_of(&body, seal, self.constants));
            ensure(inner.holds, SkipReason::BadPatientSignature)?;
        }
        let consent = ConsentState {
            custodian: sent.org(),
            grantee: body.grantee,
            commit: body.commit,
            leaf,
            patient: body.patient.map(|seal| seal.key),
            provisions: body.provisions,
            revocation: None,
        };
        self.put_consent(&body.handle, &consent);
        Ok(())
    }

    /// CONSENT_REVOKE: a consent that exists and is not revoked, by the custodian that granted it or with the patient's
    /// signature, which has to verify wherever there is one. The grantee never revokes, not even with the patient's
    /// signature, unless it is itself the custodian: a consent that an organisation granted to itself has to have an end.
    fn consent_revoke(
        &mut self,
        sent: &Attributed<'_>,
        body: &ConsentRevoke,
        leaf: LeafIndex,
    ) -> Result<(), Stop> {
        let key = tables::consent(&body.handle);
        let mut consent =
            ConsentState::stored(&key, self.overlay.get(&key)?)?.ok_or(SkipReason::UnknownConsent)?;
        ensure(consent.revocation.is_none(), SkipReason::AlreadyRevoked)?;
        let is_custodian = sent.org() == consent.custodian;
        ensure(is_custodian || sent.org() != consent.grantee, SkipReason::NotTheCustodian)?;
        match (&body.patient_signature, &consent.patient) {
            (Some(signature), Some(patient)) => {
                let holds = verifies(&self.constants.consent, patient, &body.sealed_bytes(), signature);
                ensure(holds, SkipReason::BadPatientSignature)?;
            }
            (Some(_), None) => return Err(Stop::Skip(SkipReason::BadPatientSignature)),
            (None, _) => ensure(is_custodian, SkipReason::NotTheCustodian)?,
        }
        consent.revocation = Some(Revocation { effective: body.effective, leaf, by: sent.org() });
        self.put_consent(&body.handle, &consent);
        Ok(())
    }

    /// ACCESS_LOG is never skipped for what it says. It is a violation unless it names no consent, is flagged as break-glass,
    /// or names a consent that permits it; see [`ConsentState::permits`].
    fn is_violation(&self, sent: &Attributed<'_>, body: &AccessLog) -> Result<bool, Stop> {
        let Some(handle) = body.consent.filter(|_| !body.break_glass) else { return Ok(false) };
        let key = tables::consent(&handle);
        let consent = ConsentState::stored(&key, self.overlay.get(&key)?)?;
        Ok(!consent.is_some_and(|consent| consent.permits(sent.org(), body, self.time)))
    }

    /// KEY_ADD: of the sender's own organisation, under a number never used, within the limit of keys, an acceptable key
    /// (`BadKey`), with a proof of possession that verifies.
    fn key_add(&mut self, sent: &Attributed<'_>, body: &KeyAdd) -> Result<(), Stop> {
        let id = (body.org, body.key);
        ensure(body.org == sent.org() && self.facts(id).is_none(), SkipReason::BadKey)?;
        ensure(self.count_keys(body.org) < KEYS_PER_ORG_MAX, SkipReason::BadKey)?;
        let inner = sent.inner.unwrap_or_else(|| possession_of(body, self.constants));
        ensure(inner.is_acceptable, SkipReason::BadKey)?;
        ensure(inner.holds, SkipReason::BadPossession)?;
        self.register(
            id,
            KeyState { public: body.public, roles: body.roles, from: body.from, to: body.to, active: true },
        );
        Ok(())
    }

    /// ORG_ADMIT: number 0 is nobody's (`Malformed`); the sender governs; the organisation does not exist yet; its root key is
    /// acceptable (`BadKey`); this member has not voted for this body before. The vote that brings a body over two
    /// thirds of the governing members creates the organisation.
    fn org_admit(&mut self, sent: &Attributed<'_>, body: OrgAdmit) -> Result<(), Stop> {
        ensure(body.org != OrgId(0), SkipReason::Malformed)?;
        let governs = self.org(sent.org())?.is_some_and(|org| org.governs && org.active);
        ensure(governs, SkipReason::NotGoverning)?;
        ensure(self.org(body.org)?.is_none(), SkipReason::OrgExists)?;
        ensure(is_acceptable_key(&body.root), SkipReason::BadKey)?;
        let digest = map_value(sent.tx.body());
        let key = tables::proposal(body.org, &digest);
        let mut votes = Votes::stored(&key, self.overlay.get(&key)?)?.unwrap_or_default();
        let Err(at) = votes.0.binary_search(&sent.org()) else {
            return Err(Stop::Skip(SkipReason::AlreadyVoted));
        };
        votes.0.insert(at, sent.org());
        let encoded = votes.encode();
        self.authenticate(proposal_map_key(body.org, &digest), &encoded);
        self.overlay.put(key, encoded);
        if self.constants.admits(votes.0.len()) {
            let org = OrgState {
                kind: body.kind,
                governs: false,
                active: true,
                region: body.region,
                policy: body.policy,
                root: body.root,
                name: body.name,
            };
            self.admit(body.org, &org, self.time);
        }
        Ok(())
    }

    /// Creates an organisation with its root key, valid from `from` on.
    pub(super) fn admit(&mut self, id: OrgId, org: &OrgState, from: TimestampMs) {
        let encoded = org.encode();
        self.authenticate(org_map_key(id), &encoded);
        self.overlay.put(tables::org(id), encoded);
        let roles = if org.governs { Roles::ROOT.with(Roles::GOVERN) } else { Roles::ROOT };
        let root = KeyState { public: org.root, roles, from, to: TimestampMs(u64::MAX), active: true };
        self.register((id, ROOT_KEY), root);
    }

    fn register(&mut self, id: (OrgId, KeyId), key: KeyState) {
        let encoded = key.encode();
        self.authenticate(key_map_key(id.0, id.1), &encoded);
        self.overlay.put(tables::key(id), encoded);
        self.keys.insert(id, state_entry(&key, ReplayWindow::new()));
    }

    fn put_consent(&mut self, handle: &[u8; 32], consent: &ConsentState) {
        let encoded = consent.encode();
        self.authenticate(consent_map_key(handle), &encoded);
        self.overlay.put(tables::consent(handle), encoded);
    }

    fn authenticate(&mut self, key: Digest, encoded: &[u8]) {
        self.authenticated.insert(key, state::map_value(encoded));
    }

    fn org(&self, id: OrgId) -> Result<Option<OrgState>, StorageError> {
        let key = tables::org(id);
        OrgState::stored(&key, self.overlay.get(&key)?)
    }

    fn facts(&self, id: (OrgId, KeyId)) -> Option<KeyFacts> {
        match self.keys.get(&id) {
            Some(entry) => Some(KeyFacts::of(entry, self.time)),
            None => self.directory.read(|keys| keys.get(&id).map(|entry| KeyFacts::of(entry, self.time))),
        }
    }

    /// Keys of an organisation, those registered in this commit included.
    fn count_keys(&self, org: OrgId) -> usize {
        let range = (org, KeyId(0))..=(org, KeyId(u32::MAX));
        self.directory.read(|keys| {
            let new = self.keys.range(range.clone()).filter(|(id, _)| !keys.contains_key(id)).count();
            keys.range(range).count() + new
        })
    }

    /// The replay window of a key that is known to be registered.
    fn window(&mut self, id: (OrgId, KeyId)) -> &mut ReplayWindow {
        let directory = self.directory;
        let entry = self.keys.entry(id).or_insert_with(|| {
            let entry = directory.read(|keys| keys.get(&id).cloned());
            entry.unwrap_or_else(|| panic!("key {} of organisation {} was found a moment ago", id.1, id.0))
        });
        &mut entry.window
    }
}

/// The directory's form of a key.
pub(super) fn state_entry(key: &KeyState, window: ReplayWindow) -> KeyEntry {
    KeyEntry { public: key.public, roles: key.roles, from: key.from, to: key.to, active: key.active, window }
}

pub(super) fn verifies(domain: &Domain, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    verify_one(&Signed { key, domain: domain.as_bytes(), message, signature })
}
