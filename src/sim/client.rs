//! Clients of the simulated network: one organisation each, with a window of transactions in flight. What gets no answer is
//! submitted again, elsewhere.

use std::collections::{BTreeMap, VecDeque};

use super::random::Random;
use crate::crypto::SecretKey;
use crate::gateway::{KeyTerms, OrgSigner, key_add};
use crate::types::{
    AccessLog, Body, ConsentGrant, ConsentRevoke, Effect, KeyId, LeafIndex, NetworkId, OrgId, Provision,
    RecordAnchor, RecordBatch, Roles, TimestampMs, Transaction, TxId,
};

/// How a client behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Transactions that it has in flight.
    pub(super) window: usize,
    /// After this long without an answer a transaction is submitted again.
    pub(super) patience_us: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self { window: 16, patience_us: 4_000_000 }
    }
}

/// A transaction without an answer.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) tx: Transaction,
    pub(super) id: TxId,
    due_us: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Client {
    org: OrgId,
    network: NetworkId,
    root: OrgSigner,
    /// The key that everything but its own registration is signed with, once that is final.
    operational: OrgSigner,
    registered: bool,
    pub(super) manners: Manners,
    peers: Vec<OrgId>,
    next_request: u64,
    in_flight: BTreeMap<u64, InFlight>,
    /// Live heads of records.
    heads: VecDeque<LeafIndex>,
    consents: VecDeque<[u8; 32]>,
    /// Requests whose success makes a head or a consent.
    makes: BTreeMap<u64, Makes>,
}

#[derive(Debug, Clone, Copy)]
enum Makes {
    Registration,
    Head,
    Consent([u8; 32]),
}

impl Client {
    pub(super) fn new(network: NetworkId, org: OrgId, root: &SecretKey, peers: Vec<OrgId>) -> Self {
        let seed = blake3::derive_key("salus simulated operational key", &*root.seed());
        let signer = |key, secret| OrgSigner::new(network, org, KeyId(key), secret, 1);
        Self {
            org,
            network,
            root: signer(0, SecretKey::from_seed(&root.seed())),
            operational: signer(1, SecretKey::from_seed(&seed)),
            registered: false,
            manners: Manners::default(),
            peers,
            next_request: 0,
            in_flight: BTreeMap::new(),
            heads: VecDeque::new(),
            consents: VecDeque::new(),
            makes: BTreeMap::new(),
        }
    }

    /// Transactions without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.in_flight.len()
    }

    /// A new transaction, if the window has room: its request number.
    pub(super) fn make(&mut self, random: &mut Random, now_us: u64, wall: TimestampMs) -> Option<u64> {
        if self.in_flight.len() >= self.manners.window || (!self.registered && self.next_request > 0) {
            return None;
        }
        let request = self.next_request;
        self.next_request += 1;
        let salt = random.bytes();
        let tx = if request == 0 {
            self.makes.insert(request, Makes::Registration);
            let terms = KeyTerms {
                org: self.org,
                key: KeyId(1),
                roles: Roles::RECORD.with(Roles::CUSTODIAN).with(Roles::ACCESS),
                from: TimestampMs(0),
                to: TimestampMs(u64::MAX),
            };
            let body = Body::KeyAdd(key_add(self.network, terms, self.operational.secret()));
            self.root.sign(&body, wall, salt)
        } else {
            let body = self.body(request, random, wall);
            self.operational.sign(&body, wall, salt)
        };
        let id = tx.id();
        self.in_flight.insert(request, InFlight { tx, id, due_us: now_us + self.manners.patience_us });
        Some(request)
    }

    fn body(&mut self, request: u64, random: &mut Random, wall: TimestampMs) -> Body {
        let commit: [u8; 32] = random.bytes();
        match random.below(10) {
            0 => {
                let handle = random.bytes();
                self.makes.insert(request, Makes::Consent(handle));
                let grantee = self.peers[random.index(self.peers.len())];
                let any = Provision::ANY;
                let provision = Provision {
                    effect: Effect::Permit,
                    purpose: any,
                    category: any,
                    from_s: 0,
                    to_s: u32::MAX,
                };
                let provisions = vec![provision];
                Body::ConsentGrant(ConsentGrant {
                    handle,
                    commit,
                    grantee_kind: 1,
                    grantee,
                    provisions,
                    patient: None,
                })
            }
            1 if self.consents.len() > 4 => {
                let handle = self.consents.pop_front().unwrap_or_default();
                Body::ConsentRevoke(ConsentRevoke {
                    handle,
                    effective: wall,
                    reason: 1,
                    commit,
                    patient_signature: None,
                })
            }
            2..5 => Body::AccessLog(AccessLog {
                commit,
                consent: self.consents.front().copied(),
                category: 1,
                purpose: 1,
                action: b'R',
                outcome: 0,
                occurred: wall,
                origin: OrgId(0),
                break_glass: false,
            }),
            // By what was drawn already, so that a seed goes on drawing what it drew before there were batches.
            8 if commit[0].is_multiple_of(2) => {
                let count = 1 + u32::from(commit[1]);
                Body::RecordBatch(RecordBatch { root: commit, count, class: 4, alg: 2, retain_days: 3_650 })
            }
            kind => {
                self.makes.insert(request, Makes::Head);
                let prev = if kind == 9 { self.heads.pop_front() } else { None };
                Body::RecordAnchor(RecordAnchor { commit, prev, class: 1, alg: 1, retain_days: 3_650 })
            }
        }
    }

    /// A transaction without an answer.
    pub(super) fn get(&self, request: u64) -> Option<&InFlight> {
        self.in_flight.get(&request)
    }

    /// Requests that have waited too long; their patience starts anew.
    pub(super) fn overdue(&mut self, now_us: u64) -> Vec<u64> {
        let mut requests = Vec::new();
        for (request, waiting) in &mut self.in_flight {
            if waiting.due_us <= now_us {
                waiting.due_us = now_us + self.manners.patience_us;
                requests.push(*request);
            }
        }
        requests
    }

    /// A refusal that will pass: soon again.
    pub(super) fn refused(&mut self, request: u64, now_us: u64) {
        if let Some(waiting) = self.in_flight.get_mut(&request) {
            waiting.due_us = waiting.due_us.min(now_us + self.manners.patience_us / 8);
        }
    }

    /// A transaction is final.
    pub(super) fn done(&mut self, request: u64, leaf: LeafIndex) -> Option<TxId> {
        let waiting = self.in_flight.remove(&request)?;
        match self.makes.remove(&request) {
            Some(Makes::Registration) => self.registered = true,
            Some(Makes::Head) => self.heads.push_back(leaf),
            Some(Makes::Consent(handle)) => self.consents.push_back(handle),
            None => {}
        }
        Some(waiting.id)
    }
}

/// Root key of a simulated member.
pub(super) fn root_key(seed: u64, org: OrgId) -> SecretKey {
    let mut material = seed.to_be_bytes().to_vec();
    material.extend_from_slice(&org.0.to_be_bytes());
    SecretKey::from_seed(&blake3::derive_key("salus simulated root key", &material))
}
