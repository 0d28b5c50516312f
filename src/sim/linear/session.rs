//! Callers that share keys: each runs one operation after another, by several organisations, on few consents and few chains
//! of records.

use std::collections::BTreeMap;

use super::history::{Entry, History, Subject, Told};
use super::models::ConsentCall;
use crate::crypto::SecretKey;
use crate::gateway::{KeyTerms, OrgSigner, key_add};
use crate::proof::merkle::TreeHead;
use crate::sim::client::root_key;
use crate::sim::random::Random;
use crate::types::{
    AccessLog, Body, ConsentGrant, ConsentRevoke, Effect, KeyId, LeafIndex, NetworkId, OrgId, Provision,
    RecordAnchor, Roles, TimestampMs, Transaction, TxId,
};

/// Keys of each sort that are in use at a time.
const ACTIVE: usize = 5;
/// Operations after which a key is retired: histories of one key stay short enough to judge in no time.
const OPERATIONS_PER_KEY: u64 = 60;
/// After this long without an answer a transaction is submitted again, elsewhere.
const PATIENCE_US: u64 = 1_500_000;

/// Name of a consent that callers share.
pub(in crate::sim) type Handle = [u8; 32];

/// A chain of record versions of one organisation.
#[derive(Debug, Clone)]
struct Chain {
    org: OrgId,
    /// Versions that callers were told of.
    versions: Vec<LeafIndex>,
    left: u64,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Ask {
    /// Submits the transaction of this request.
    Submit(u64),
    /// Reads a consent at a validator.
    Consent(Handle),
    /// Reads which version is the head, from one version on.
    Head(LeafIndex),
    /// Wants a proof that a leaf is in the log.
    Proof(LeafIndex),
}

/// One caller.
#[derive(Debug)]
pub(super) struct Session {
    org: OrgId,
    signer: OrgSigner,
    registered: bool,
    /// What runs, and when it is tried again.
    pub(super) open: Option<(Ask, u64)>,
    /// When it was invoked.
    pub(super) since_us: u64,
    /// Leaves that it knows the log to have.
    pub(super) token: u64,
    /// Latest checkpoint that it was shown.
    pub(super) checkpoint: Option<TreeHead>,
    next_us: u64,
}

/// All callers, and what they share.
#[derive(Debug)]
pub(in crate::sim) struct Sessions {
    network: NetworkId,
    roots: BTreeMap<OrgId, SecretKey>,
    orgs: Vec<OrgId>,
    pub(super) all: Vec<Session>,
    consents: Vec<(Handle, u64)>,
    chains: Vec<Chain>,
    leaves: Vec<LeafIndex>,
    next_request: u64,
    /// Transactions without an answer.
    pub(super) in_flight: BTreeMap<u64, (usize, Transaction)>,
    pub(super) history: History,
}

impl Sessions {
    pub(in crate::sim) fn new(seed: u64, network: NetworkId, orgs: Vec<OrgId>, callers: usize) -> Self {
        let all = (0..callers)
            .map(|i| {
                let org = orgs[i % orgs.len()];
                let mut material = seed.to_be_bytes().to_vec();
                material.extend_from_slice(&(i as u64).to_be_bytes());
                let secret =
                    SecretKey::from_seed(&blake3::derive_key("salus simulated session key", &material));
                let key = KeyId(u32::try_from(i + 1).unwrap_or(u32::MAX));
                Session {
                    org,
                    signer: OrgSigner::new(network, org, key, secret, 1),
                    registered: false,
                    open: None,
                    since_us: 0,
                    token: 0,
                    checkpoint: None,
                    next_us: 0,
                }
            })
            .collect();
        Self {
            network,
            roots: orgs.iter().map(|org| (*org, root_key(seed, *org))).collect(),
            orgs,
            all,
            consents: Vec::new(),
            chains: Vec::new(),
            leaves: Vec::new(),
            next_request: 0,
            in_flight: BTreeMap::new(),
            history: History::default(),
        }
    }

    /// Operations that run.
    pub(in crate::sim) fn waiting(&self) -> usize {
        self.all.iter().filter(|session| session.open.is_some()).count()
    }

    /// What a caller does now: goes on with what runs, if its patience is at an end, or begins something new.
    pub(super) fn next(
        &mut self,
        caller: usize,
        random: &mut Random,
        now_us: u64,
        wall: TimestampMs,
        begin: bool,
    ) -> Option<Ask> {
        if let Some((ask, due_us)) = &mut self.all[caller].open {
            if *due_us > now_us {
                return None;
            }
            *due_us = now_us + PATIENCE_US;
            return Some(*ask);
        }
        if !begin || self.all[caller].next_us > now_us {
            return None;
        }
        let ask = self.begin(caller, random, now_us, wall)?;
        self.all[caller].open = Some((ask, now_us + PATIENCE_US));
        self.all[caller].since_us = now_us;
        Some(ask)
    }

    fn begin(&mut self, caller: usize, random: &mut Random, now_us: u64, wall: TimestampMs) -> Option<Ask> {
        if !self.all[caller].registered {
            return Some(self.register(caller, random, wall));
        }
        self.renew(random);
        let org = self.all[caller].org;
        let choice = random.below(100);
        let at = random.index(self.consents.len());
        if choice < 60 || self.leaves.is_empty() {
            self.consents[at].1 = self.consents[at].1.saturating_sub(1);
        }
        let handle = self.consents[at].0;
        Some(match choice {
            0..12 => {
                let to = self.orgs[random.index(self.orgs.len())];
                let call = ConsentCall::Grant { by: org, to };
                let body = grant(handle, to, random);
                self.submit(caller, Subject::Consent { handle, call }, &body, random, now_us, wall)
            }
            12..18 => {
                let call = ConsentCall::Revoke { by: org };
                let body = revoke(handle, random);
                self.submit(caller, Subject::Consent { handle, call }, &body, random, now_us, wall)
            }
            18..40 => {
                let call = ConsentCall::Access { by: org };
                let body = access(handle, random, wall);
                self.submit(caller, Subject::Consent { handle, call }, &body, random, now_us, wall)
            }
            40..60 => Ask::Consent(handle),
            60..85 => {
                let prev = self.version(org, random);
                let body = Body::RecordAnchor(RecordAnchor {
                    commit: random.bytes(),
                    prev,
                    class: 1,
                    alg: 1,
                    retain_days: 3_650,
                });
                self.submit(caller, Subject::Chain { prev }, &body, random, now_us, wall)
            }
            85..93 => {
                let chain = &self.chains.get(random.index(self.chains.len().max(1)))?;
                Ask::Head(chain.versions[random.index(chain.versions.len())])
            }
            _ => {
                if self.leaves.is_empty() {
                    return None;
                }
                Ask::Proof(self.leaves[random.index(self.leaves.len())])
            }
        })
    }

    fn register(&mut self, caller: usize, random: &mut Random, wall: TimestampMs) -> Ask {
        let (org, key) = (self.all[caller].org, self.all[caller].signer.key());
        let terms = KeyTerms {
            org,
            key,
            roles: Roles::RECORD.with(Roles::CUSTODIAN).with(Roles::ACCESS),
            from: TimestampMs(0),
            to: TimestampMs(u64::MAX),
        };
        let body = Body::KeyAdd(key_add(self.network, terms, self.all[caller].signer.secret()));
        let secret = SecretKey::from_seed(&self.roots[&org].seed());
        // Callers of one organisation share its root key: each takes the number of its own key.
        let mut root = OrgSigner::new(self.network, org, KeyId(0), secret, u64::from(key.0));
        let tx = root.sign(&body, wall, random.bytes());
        let request = self.next_request;
        self.next_request += 1;
        self.in_flight.insert(request, (caller, tx));
        Ask::Submit(request)
    }

    fn submit(
        &mut self,
        caller: usize,
        subject: Subject,
        body: &Body,
        random: &mut Random,
        now_us: u64,
        wall: TimestampMs,
    ) -> Ask {
        let tx = self.all[caller].signer.sign(body, wall, random.bytes());
        let request = self.next_request;
        self.next_request += 1;
        let entry = Entry { id: tx.id(), subject, invoked_us: now_us, returned_us: None, told: None };
        self.history.entries.insert(request, entry);
        self.in_flight.insert(request, (caller, tx));
        Ask::Submit(request)
    }

    /// Retires keys that have had their share.
    fn renew(&mut self, random: &mut Random) {
        self.consents.retain(|(_, left)| *left > 0);
        while self.consents.len() < ACTIVE {
            self.consents.push((random.bytes(), OPERATIONS_PER_KEY));
        }
        self.chains.retain(|chain| chain.left > 0);
    }

    /// A version to replace, not always the newest; `None` begins a chain.
    fn version(&mut self, org: OrgId, random: &mut Random) -> Option<LeafIndex> {
        let mut own: Vec<&mut Chain> = self.chains.iter_mut().filter(|chain| chain.org == org).collect();
        if own.len() < 2 {
            return None;
        }
        let at = random.index(own.len());
        let chain = &mut own[at];
        chain.left = chain.left.saturating_sub(1);
        let back = if random.chance(700) { 0 } else { random.index(chain.versions.len()) };
        Some(chain.versions[chain.versions.len() - 1 - back])
    }

    /// A transaction that has no answer yet.
    pub(in crate::sim) fn get(&self, request: u64) -> Option<(Transaction, TxId)> {
        self.in_flight.get(&request).map(|(_, tx)| (tx.clone(), tx.id()))
    }

    /// To be tried again soon.
    pub(super) fn refused(&mut self, request: u64, now_us: u64) {
        if let Some((caller, _)) = self.in_flight.get(&request)
            && let Some((_, due_us)) = &mut self.all[*caller].open
        {
            *due_us = (*due_us).min(now_us + PATIENCE_US / 8);
        }
    }

    /// A read has to be tried elsewhere.
    pub(super) fn not_yet(&mut self, caller: usize, now_us: u64) {
        if let Some((_, due_us)) = &mut self.all[caller].open {
            *due_us = (*due_us).min(now_us + PATIENCE_US / 16);
        }
    }

    /// A transaction has its answer.
    pub(super) fn done(
        &mut self,
        request: u64,
        told: Told,
        random: &mut Random,
        now_us: u64,
    ) -> Option<TxId> {
        let (caller, tx) = self.in_flight.remove(&request)?;
        self.free(caller, random, now_us);
        if let Told::Executed { leaf, .. } = told {
            let session = &mut self.all[caller];
            session.token = session.token.max(leaf.0 + 1);
            session.registered = true;
            self.leaves.push(leaf);
            if self.leaves.len() > 64 {
                self.leaves.remove(0);
            }
        }
        let entry = self.history.entries.get_mut(&request)?;
        entry.returned_us = Some(now_us);
        entry.told = Some(told);
        if let (Subject::Chain { prev }, Told::Executed { leaf, .. }) = (entry.subject, told) {
            self.grow(self.all[caller].org, prev, leaf);
        }
        Some(tx.id())
    }

    fn grow(&mut self, org: OrgId, prev: Option<LeafIndex>, leaf: LeafIndex) {
        match prev {
            None => self.chains.push(Chain { org, versions: vec![leaf], left: OPERATIONS_PER_KEY }),
            Some(prev) => {
                if let Some(chain) = self.chains.iter_mut().find(|chain| chain.versions.contains(&prev)) {
                    chain.versions.push(leaf);
                }
            }
        }
    }

    /// A caller has its answer, and thinks.
    pub(super) fn free(&mut self, caller: usize, random: &mut Random, now_us: u64) {
        self.all[caller].open = None;
        self.all[caller].next_us = now_us + random.between(0, 20_000);
    }
}

fn grant(handle: Handle, grantee: OrgId, random: &mut Random) -> Body {
    let provision = Provision {
        effect: Effect::Permit,
        purpose: Provision::ANY,
        category: Provision::ANY,
        from_s: 0,
        to_s: u32::MAX,
    };
    Body::ConsentGrant(ConsentGrant {
        handle,
        commit: random.bytes(),
        grantee_kind: 1,
        grantee,
        provisions: vec![provision],
        patient: None,
    })
}

/// Takes effect from the beginning of time on: then the order decides, and not the clocks of the callers.
fn revoke(handle: Handle, random: &mut Random) -> Body {
    Body::ConsentRevoke(ConsentRevoke {
        handle,
        effective: TimestampMs(0),
        reason: 1,
        commit: random.bytes(),
        patient_signature: None,
    })
}

fn access(handle: Handle, random: &mut Random, wall: TimestampMs) -> Body {
    Body::AccessLog(AccessLog {
        commit: random.bytes(),
        consent: Some(handle),
        category: 1,
        purpose: 1,
        action: b'R',
        outcome: 0,
        occurred: wall,
        origin: OrgId(0),
        break_glass: false,
    })
}
