//! A small network to execute transactions in: organisations 1 to 4 govern, 5 does not, and each has a working key 1.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::{Domain, Purpose, SecretKey};
use crate::execute::*;
use crate::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use crate::types::*;

/// Block time of the first commit.
pub(super) const START_MS: u64 = 1_700_000_000_000;
/// Everything that KEY_ADD may give but GOVERN.
pub(super) const WORK: Roles = Roles::RECORD.with(Roles::CUSTODIAN).with(Roles::ACCESS);
pub(super) const ALWAYS: (TimestampMs, TimestampMs) = (TimestampMs(0), TimestampMs(u64::MAX));

pub(super) fn secret(org: u32, key: u32) -> SecretKey {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&org.to_be_bytes());
    seed[4..8].copy_from_slice(&key.to_be_bytes());
    SecretKey::from_seed(&seed)
}

fn hex_key(org: u32, key: u32) -> HexKey {
    HexKey(secret(org, key).public())
}

/// A network of the oldest rules: what its golden roots pin has to stay.
pub(super) fn genesis(network: &str) -> Genesis {
    genesis_of(network, Rules::One)
}

pub(super) fn genesis_of(network: &str, rules: Rules) -> Genesis {
    let member = |org: u32| MemberEntry {
        org,
        kind: 1,
        name: format!("Hospital {org}"),
        region: 7,
        root_key: hex_key(org, 0),
        governs: org <= 4,
    };
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: network.to_owned(),
        created_ms: START_MS - 1_000,
        parameters: Parameters { leaders_per_round: 1, rules, ..Parameters::default() },
        validators: vec![ValidatorEntry {
            name: "one".to_owned(),
            stake: 1,
            address: "localhost:1".to_owned(),
            network_key: hex_key(90, 0),
            consensus_key: hex_key(90, 1),
            cosign_key: hex_key(90, 2),
            log_key: hex_key(90, 3),
        }],
        members: (1..=5).map(member).collect(),
    };
    Genesis::decode(&Genesis::encode(&file).unwrap()).unwrap()
}

/// An executor, with what is needed to feed it.
pub(super) struct World<S> {
    pub(super) executor: Executor<S>,
    pub(super) genesis: Genesis,
    pub(super) now_ms: u64,
    seqs: BTreeMap<(u32, u32), u64>,
}

impl World<MemStore> {
    pub(super) fn new() -> Self {
        Self::with_store(MemStore::new())
    }
}

impl<S: Store> World<S> {
    /// A network in which every organisation has registered its key 1 with the roles [`WORK`].
    pub(super) fn with_store(store: S) -> Self {
        let mut world = Self::bare(store);
        let keys: Vec<_> = (1..=5).map(|org| world.key_add(org, 1, WORK)).collect();
        world.executes(&keys);
        world
    }

    /// The network as the genesis file leaves it.
    pub(super) fn bare(store: S) -> Self {
        Self::bare_of(genesis("test.example"), store)
    }

    pub(super) fn bare_of(genesis: Genesis, store: S) -> Self {
        let executor = Executor::open(&genesis, store, KeyDirectory::default()).unwrap();
        Self { executor, genesis, now_ms: START_MS, seqs: BTreeMap::new() }
    }

    /// The envelope of the next transaction of a key.
    pub(super) fn envelope(&mut self, org: u32, key: u32, kind: Kind) -> Envelope {
        let seq = self.seqs.entry((org, key)).or_default();
        *seq += 1;
        let seq = *seq;
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&seq.to_be_bytes());
        Envelope {
            kind,
            network: self.genesis.network(),
            org: OrgId(org),
            key: KeyId(key),
            seq,
            time: TimestampMs(self.now_ms),
            salt,
        }
    }

    pub(super) fn sign(&self, envelope: Envelope, body: &[u8]) -> Transaction {
        let domain = Domain::new(Purpose::Tx, self.genesis.network());
        let key = secret(envelope.org.0, envelope.key.0);
        Transaction::build(envelope, body, |bytes| key.sign(&domain, bytes))
    }

    /// A transaction of a key, with its next sequence number.
    pub(super) fn tx(&mut self, org: u32, key: u32, body: &Body) -> Transaction {
        let envelope = self.envelope(org, key, body.kind());
        self.sign(envelope, &body.encode())
    }

    pub(super) fn key_add(&mut self, org: u32, key: u32, roles: Roles) -> Transaction {
        let body = self.key_body(org, key, roles);
        self.tx(org, 0, &Body::KeyAdd(body))
    }

    pub(super) fn key_body(&self, org: u32, key: u32, roles: Roles) -> KeyAdd {
        let secret = secret(org, key);
        let mut body = KeyAdd {
            org: OrgId(org),
            key: KeyId(key),
            public: secret.public(),
            roles,
            from: ALWAYS.0,
            to: ALWAYS.1,
            possession: [0; 64],
        };
        self.prove_possession(&mut body, &secret);
        body
    }

    pub(super) fn prove_possession(&self, body: &mut KeyAdd, secret: &SecretKey) {
        let domain = Domain::new(Purpose::Possession, self.genesis.network());
        body.possession = secret.sign(&domain, &body.possession_bytes());
    }

    pub(super) fn consent_domain(&self) -> Domain {
        Domain::new(Purpose::Consent, self.genesis.network())
    }

    /// The next commit: the blocks with their verdicts, of alternating authors.
    pub(super) fn dag(&self, blocks: &[(Vec<bytes::Bytes>, Verdict)]) -> SubDag {
        let index = CommitIndex(self.executor.head().commit.0 + 1);
        let block = |(i, (transactions, verdict)): (usize, &(Vec<bytes::Bytes>, Verdict))| {
            let mut payload = PayloadBuilder::default();
            for bytes in transactions {
                assert!(payload.push(tx_id(bytes), bytes));
            }
            let payload = payload.finish();
            CommittedBlock {
                reference: BlockRef {
                    round: Round(index.0),
                    author: AuthorityIndex::from_usize(i % 4),
                    digest: BlockDigest(payload.root().0),
                },
                verdicts: vec![*verdict; payload.len()].into(),
                payload: Arc::new(payload),
                payload_seq: LogSeq(index.0 * 100 + i as u64),
            }
        };
        SubDag {
            index,
            leader: BlockRef::default(),
            time: TimestampMs(self.now_ms),
            digest: Digest::default(),
            blocks: blocks.iter().enumerate().map(block).collect(),
        }
    }

    /// Executes transactions as one block of one commit. The executor itself verifies the signatures.
    pub(super) fn run(&mut self, transactions: &[Transaction]) -> Vec<Outcome> {
        let bytes = transactions.iter().map(|tx| tx.bytes().clone()).collect();
        self.run_bytes(bytes, Verdict::UnknownKey)
    }

    pub(super) fn run_bytes(&mut self, transactions: Vec<bytes::Bytes>, verdict: Verdict) -> Vec<Outcome> {
        let dag = self.dag(&[(transactions, verdict)]);
        self.executor.execute(&dag).unwrap().blocks.remove(0).outcomes
    }

    /// Executes transactions, all of which have to go through, and returns their leaves.
    pub(super) fn executes(&mut self, transactions: &[Transaction]) -> Vec<LeafIndex> {
        let outcomes = self.run(transactions);
        let leaf = |outcome: &Outcome| {
            let Outcome::Executed { leaf, violation: false } = outcome else { panic!("{outcome:?}") };
            *leaf
        };
        outcomes.iter().map(leaf).collect()
    }

    /// Executes one body of a key, alone in its commit.
    pub(super) fn one(&mut self, org: u32, key: u32, body: &Body) -> Outcome {
        let tx = self.tx(org, key, body);
        self.run(&[tx])[0]
    }
}

pub(super) fn anchor(commit: u8, prev: Option<LeafIndex>) -> Body {
    Body::RecordAnchor(RecordAnchor { commit: [commit; 32], prev, class: 1, alg: 1, retain_days: 3_650 })
}

pub(super) fn batch(root: u8, count: u32) -> RecordBatch {
    RecordBatch { root: [root; 32], count, class: 4, alg: 2, retain_days: 3_650 }
}

pub(super) fn permit(purpose: u16, category: u16) -> Provision {
    Provision { effect: Effect::Permit, purpose, category, from_s: 1_600_000_000, to_s: 1_800_000_000 }
}

pub(super) fn grant(handle: u8, grantee: u32, provisions: Vec<Provision>) -> ConsentGrant {
    ConsentGrant {
        handle: [handle; 32],
        commit: [9; 32],
        grantee_kind: 1,
        grantee: OrgId(grantee),
        provisions,
        patient: None,
    }
}

pub(super) fn revoke(handle: u8, effective_ms: u64) -> ConsentRevoke {
    ConsentRevoke {
        handle: [handle; 32],
        effective: TimestampMs(effective_ms),
        reason: 1,
        commit: [8; 32],
        patient_signature: None,
    }
}

/// An access at `occurred_ms` under consent `handle`, for purpose 2 and category 3.
pub(super) fn access(handle: u8, occurred_ms: u64) -> AccessLog {
    AccessLog {
        commit: [7; 32],
        consent: Some([handle; 32]),
        category: 3,
        purpose: 2,
        action: b'R',
        outcome: 0,
        occurred: TimestampMs(occurred_ms),
        origin: OrgId(0),
        break_glass: false,
    }
}

pub(super) fn admit(org: u32, name: &str) -> Body {
    Body::OrgAdmit(OrgAdmit {
        org: OrgId(org),
        kind: 4,
        name: name.to_owned(),
        root: secret(org, 0).public(),
        region: 1,
        policy: [3; 32],
    })
}
