//! One value of each format, made of fixed keys and numbers, and how bytes of the format are read and written again.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use salus::config::{ConfigFile, NodeConfig};
use salus::consensus::Commit;
use salus::crypto::{Domain, Purpose, SecretKey};
use salus::error::ClientError;
use salus::gateway::{KeyTerms, key_add, seal_grant, seal_revoke};
use salus::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use salus::node::Certificate;
use salus::proof::batch::{BatchTree, COMMITMENT_HMAC_FILE, FileFacts, FileHash};
use salus::proof::bundle::{Member, Opening, ProofBundle, Shown};
use salus::proof::checkpoint::{CertifiedCheckpoint, Checkpoint, CheckpointKeys, Cosignature};
use salus::proof::commitment::{FHIR_R4_DOMAIN, canonical_json, commit};
use salus::proof::merkle::leaf_hash;
use salus::proof::note::{SignedNote, cosign, sign_text};
use salus::proof::tiles::LogTree;
use salus::proof::tlog_proof::TlogProof;
use salus::types::*;

const TIME: TimestampMs = TimestampMs(1_800_000_000_123);

/// A format.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) sample: Vec<u8>,
    /// Reads bytes and writes what was read; `None` if they are refused.
    pub(crate) again: fn(&[u8]) -> Option<Vec<u8>>,
    /// Each value has one encoding. (JSON and TOML may be laid out in more than one way.)
    pub(crate) is_strict: bool,
}

pub(crate) fn secret(purpose: u8, i: u8) -> SecretKey {
    SecretKey::from_seed(&[purpose.wrapping_mul(16) | i; 32])
}

pub(crate) fn genesis_file() -> GenesisFile {
    let public = |purpose, i| HexKey(secret(purpose, i).public());
    let validator = |i: u8| ValidatorEntry {
        name: format!("v{i}"),
        stake: 1 + u32::from(i),
        address: format!("v{i}.example:7700"),
        network_key: public(1, i),
        consensus_key: public(2, i),
        cosign_key: public(3, i),
        log_key: public(4, i),
    };
    let root_key = public(5, 0);
    let member =
        MemberEntry { org: 7, kind: 1, name: "Clinic".to_owned(), region: 9, root_key, governs: true };
    GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: "golden.example".to_owned(),
        created_ms: 1_800_000_000_000,
        parameters: Parameters::default(),
        validators: (0..4).map(validator).collect(),
        members: vec![member],
    }
}

/// A network of newer rules than files had at first.
fn genesis_2_file() -> GenesisFile {
    let parameters = Parameters { rules: Rules::Two, ..Parameters::default() };
    GenesisFile { parameters, ..genesis_file() }
}

pub(crate) fn genesis() -> Genesis {
    Genesis::decode(&Genesis::encode(&genesis_file()).unwrap()).unwrap()
}

pub(crate) fn genesis_2() -> Genesis {
    Genesis::decode(&Genesis::encode(&genesis_2_file()).unwrap()).unwrap()
}

pub(crate) fn resource() -> serde_json::Value {
    serde_json::json!({"resourceType": "DocumentReference", "id": "d1", "status": "current", "size": 12.5})
}

pub(crate) fn anchor() -> Body {
    Body::RecordAnchor(RecordAnchor {
        commit: commit(&[0xc0; 32], FHIR_R4_DOMAIN, &canonical_json(&resource()).unwrap()),
        prev: Some(LeafIndex(258)),
        class: 2,
        alg: 1,
        retain_days: 3_650,
    })
}

pub(crate) fn transaction(seq: u64, body: &Body) -> Transaction {
    transaction_in(&genesis(), seq, body)
}

fn transaction_in(genesis: &Genesis, seq: u64, body: &Body) -> Transaction {
    let network = genesis.network();
    let envelope = Envelope {
        kind: body.kind(),
        network,
        org: OrgId(7),
        key: KeyId(3),
        seq,
        time: TIME,
        salt: [0x5a; 16],
    };
    let domain = Domain::new(Purpose::Tx, network);
    Transaction::build(envelope, &body.encode(), |bytes| secret(5, 0).sign(&domain, bytes))
}

fn batch() -> Body {
    Body::RecordBatch(RecordBatch { root: [0xbb; 32], count: 258, class: 4, alg: 2, retain_days: 3_653 })
}

fn grant() -> Body {
    let provision = |effect, purpose| Provision {
        effect,
        purpose,
        category: Provision::ANY,
        from_s: 1_700_000_000,
        to_s: 1_900_000_000,
    };
    let mut body = ConsentGrant {
        handle: [0x11; 32],
        commit: [0x22; 32],
        grantee_kind: 1,
        grantee: OrgId(8),
        provisions: vec![provision(Effect::Permit, 1), provision(Effect::Deny, 8)],
        patient: None,
    };
    seal_grant(genesis().network(), &mut body, &secret(6, 0));
    Body::ConsentGrant(body)
}

fn revoke() -> Body {
    let mut body = ConsentRevoke {
        handle: [0x11; 32],
        effective: TIME,
        reason: 2,
        commit: [0x33; 32],
        patient_signature: None,
    };
    seal_revoke(genesis().network(), &mut body, &secret(6, 0));
    Body::ConsentRevoke(body)
}

fn access() -> Body {
    Body::AccessLog(AccessLog {
        commit: [0x44; 32],
        consent: Some([0x11; 32]),
        category: 3,
        purpose: 1,
        action: b'R',
        outcome: 0,
        occurred: TIME,
        origin: OrgId(9),
        break_glass: true,
    })
}

fn new_key() -> Body {
    let roles = Roles::RECORD.with(Roles::ACCESS);
    let terms = KeyTerms { org: OrgId(7), key: KeyId(4), roles, from: TIME, to: TimestampMs(TIME.0 + 1) };
    Body::KeyAdd(key_add(genesis().network(), terms, &secret(6, 1)))
}

fn admit() -> Body {
    Body::OrgAdmit(OrgAdmit {
        org: OrgId(101),
        kind: 2,
        name: "Kasse Süd".to_owned(),
        root: secret(6, 2).public(),
        region: 5,
        policy: [0x55; 32],
    })
}

pub(crate) fn payload() -> Payload {
    let mut payload = PayloadBuilder::default();
    for (seq, body) in [(1, anchor()), (2, access())] {
        let tx = transaction(seq, &body);
        assert!(payload.push(tx.id(), tx.bytes()));
    }
    payload.finish()
}

fn block(round: u64, author: u16) -> BlockRef {
    let digest = BlockDigest([u8::try_from(round).unwrap() ^ 0x80; 32]);
    BlockRef { round: Round(round), author: AuthorityIndex(author), digest }
}

pub(crate) fn header() -> SignedHeader {
    let payload = payload();
    let vote = CheckpointVote {
        tree_size: 7,
        root: NodeHash([0x66; 32]),
        state_root: Digest([0x77; 32]),
        commit: CommitIndex(5),
        cosigned_at: 1_800_000_001,
        cosignature: [0x88; 64],
    };
    let header = Header {
        version: 1,
        epoch: Epoch(0),
        round: Round(9),
        author: AuthorityIndex(2),
        time: TIME,
        ancestors: vec![block(8, 2), block(8, 0), block(7, 1), block(8, 3)],
        n_tx: 2,
        payload_len: u32::try_from(payload.bytes().len()).unwrap(),
        payload_root: payload.root(),
        system: vec![SystemMessage::CheckpointVote(vote)],
    };
    let domain = Domain::new(Purpose::Header, genesis().network());
    SignedHeader::build(header, |bytes| secret(2, 2).sign(&domain, bytes))
}

/// A header of version 2 with every kind of system message.
fn header_2() -> SignedHeader {
    let domain = Domain::new(Purpose::Header, genesis().network());
    let signed = |digest| {
        let block = BlockRef { digest: BlockDigest([digest; 32]), ..block(4, 1) };
        let bytes = signed_reference(Epoch(0), &block);
        SignedReference { block, signature: secret(1, 2).sign(&domain, &bytes) }
    };
    let evidence = EquivocationProof::new(Epoch(0), signed(0xb2), signed(0xb1)).unwrap();
    let commit = CommitVote { index: CommitIndex(4), digest: Digest([0xaa; 32]) };
    let mut header = Header { version: 2, ..header().header().clone() };
    header.system.push(SystemMessage::CommitVote(commit));
    header.system.push(SystemMessage::Evidence(evidence));
    SignedHeader::build(header, |bytes| secret(2, 2).sign(&domain, bytes))
}

pub(crate) fn stub() -> Stub {
    let tx = transaction(2, &access());
    Stub::of(&tx, stub_hash(&tx), true, CommitIndex(5), TIME)
}

fn certificate() -> Certificate {
    let vote = CommitVote { index: CommitIndex(258), digest: commit_record().digest() };
    Certificate { vote, headers: vec![block(9, 0), block(9, 1), block(10, 3)] }
}

pub(crate) fn commit_record() -> Commit {
    Commit {
        index: CommitIndex(5),
        leader: block(9, 2),
        time: TIME,
        previous: Digest([0x99; 32]),
        blocks: vec![block(8, 0), block(8, 2), block(9, 2)],
    }
}

fn checkpoint_note(genesis: &Genesis, size: u64, root: NodeHash) -> String {
    let keys = CheckpointKeys::new(genesis);
    let checkpoint = Checkpoint { origin: genesis.origin(), size, root };
    let text = checkpoint.text();
    let cosignatures: BTreeMap<_, _> = (1..4)
        .map(|i: u8| {
            let time_s = 1_800_000_000 + u64::from(i);
            let signature = cosign(&secret(3, i), &text, time_s);
            (AuthorityIndex(i.into()), Cosignature { time_s, signature })
        })
        .collect();
    let log_signature = Some((AuthorityIndex(2), sign_text(&secret(4, 2), &text)));
    CertifiedCheckpoint { checkpoint, cosignatures, log_signature }.to_note(&keys)
}

pub(crate) fn bundle() -> ProofBundle {
    let opening = Opening { key: [0xc0; 32], shown: Shown::Resource(resource()) };
    bundle_of(&genesis(), &transaction(1, &anchor()), opening)
}

/// The proof of one file of a batch of three, in a network that has batches.
pub(crate) fn batch_bundle() -> ProofBundle {
    let file = |i: u8| FileFacts { bytes: 1_000 + u64::from(i), algorithm: FileHash::Blake3, hash: [i; 32] };
    let key = |i: u8| [0xc0 | i; 32];
    let commitments: Vec<_> = (0..3).map(|i| file(i).commit(&key(i))).collect();
    let tree = BatchTree::new(&commitments);
    let alg = COMMITMENT_HMAC_FILE;
    let batch = RecordBatch { root: tree.root().0, count: 3, class: 4, alg, retain_days: 3_653 };
    let member = Member { file: file(1), commitment: commitments[1], index: 1, count: 3, path: tree.path(1) };
    let genesis = genesis_2();
    let tx = transaction_in(&genesis, 1, &Body::RecordBatch(batch));
    bundle_of(&genesis, &tx, Opening { key: key(1), shown: Shown::Member(member) })
}

/// The proof of a transaction that is the first of two leaves.
fn bundle_of(genesis: &Genesis, tx: &Transaction, opening: Opening) -> ProofBundle {
    let stubs = [Stub::of(tx, stub_hash(tx), false, CommitIndex(5), TIME).encode(), stub().encode()];
    let mut tree = LogTree::new();
    let _tiles = tree.append(&stubs);
    ProofBundle {
        transaction: tx.bytes().to_vec(),
        stub: stubs[0],
        leaf_index: LeafIndex(0),
        tree_size: 2,
        inclusion_path: vec![leaf_hash(&stubs[1])],
        checkpoint: checkpoint_note(genesis, 2, tree.root()),
        opening: Some(opening),
    }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    [&frame.head[..], &frame.tail[..]].concat()
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let refs = vec![block(3, 1), block(4, 2)];
    let named = [
        ("frame-header", PeerMessage::Header(header())),
        (
            "frame-payload",
            PeerMessage::Payload { block: header().reference(), bytes: payload().bytes().clone() },
        ),
        ("frame-fetch-headers", PeerMessage::Fetch(FetchRequest::Headers(refs.clone()))),
        ("frame-fetch-payloads", PeerMessage::Fetch(FetchRequest::Payloads(refs))),
        ("frame-fetch-range", PeerMessage::Fetch(FetchRequest::Range { from: Round(300), rounds: 64 })),
        ("frame-fetch-latest", PeerMessage::Fetch(FetchRequest::Latest { nonce: 0x0102_0304_0506_0708 })),
        ("frame-latest", PeerMessage::Latest { nonce: 9, header: Some(header()) }),
        ("frame-latest-none", PeerMessage::Latest { nonce: 9, header: None }),
        ("frame-fetch-commits", PeerMessage::Fetch(FetchRequest::Commits { after: CommitIndex(258) })),
        (
            "frame-commits",
            PeerMessage::Commits {
                commits: vec![commit_record().encode().into()],
                certificate: vec![header(), header_2()],
            },
        ),
        ("frame-commits-none", PeerMessage::Commits { commits: Vec::new(), certificate: Vec::new() }),
        ("frame-headers", PeerMessage::Headers(vec![header(), header()])),
    ];
    named.into_iter().map(|(name, message)| (name, bytes_of(&message.encode()))).collect()
}

fn reply(request: u64, reply: &ClientReply) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode_into(request, &mut out);
    out
}

fn submission() -> Vec<u8> {
    let mut out = Vec::new();
    let tx = transaction(1, &anchor()).bytes().clone();
    Submit { request: 77, tx }.encode_into(&mut out);
    out
}

fn config() -> NodeConfig {
    let mut config = NodeConfig::new("v0");
    config.peers.insert("v1".to_owned(), "10.0.0.2:7700".to_owned());
    config
}

pub(crate) fn formats() -> Vec<Format> {
    let hello = |version| Hello { version, network: genesis().network() };
    let refused = ClientReply::from(&ClientError::Replayed(12));
    let tlog_proof = bundle().to_tlog_proof().encode();
    let strict = |name, sample: Vec<u8>, again| Format { name, sample, again, is_strict: true };
    let loose = |name, sample: Vec<u8>, again| Format { name, sample, again, is_strict: false };
    let mut formats = vec![
        strict("transaction", transaction(1, &anchor()).bytes().to_vec(), transaction_again),
        strict("body-record-anchor", anchor().encode(), |b| body_again(Kind::RecordAnchor, b)),
        strict("body-record-batch", batch().encode(), |b| body_again(Kind::RecordBatch, b)),
        strict("body-consent-grant", grant().encode(), |b| body_again(Kind::ConsentGrant, b)),
        strict("body-consent-revoke", revoke().encode(), |b| body_again(Kind::ConsentRevoke, b)),
        strict("body-access-log", access().encode(), |b| body_again(Kind::AccessLog, b)),
        strict("body-key-add", new_key().encode(), |b| body_again(Kind::KeyAdd, b)),
        strict("body-org-admit", admit().encode(), |b| body_again(Kind::OrgAdmit, b)),
        strict("header", header().bytes().to_vec(), header_again),
        strict("header-2", header_2().bytes().to_vec(), header_again),
        strict("payload", payload().bytes().to_vec(), payload_again),
        strict("stub", stub().encode().to_vec(), |b| Some(Stub::decode(b).ok()?.encode().to_vec())),
        strict("commit", commit_record().encode(), |b| Some(Commit::decode(b).ok()?.encode())),
        strict("certificate", certificate().encode(), |b| Some(Certificate::decode(b).ok()?.encode())),
        strict("frame-hello", bytes_of(&hello(1).encode()), frame_again),
        strict("frame-hello-2", bytes_of(&hello(2).encode()), frame_again),
        strict("client-submit", submission(), client_frame_again),
        strict("client-refused", reply(1, &refused), client_frame_again),
        strict(
            "client-executed",
            reply(2, &ClientReply::Executed { leaf: LeafIndex(258), violation: true }),
            client_frame_again,
        ),
        strict(
            "client-duplicate",
            reply(3, &ClientReply::Duplicate { leaf: LeafIndex(9) }),
            client_frame_again,
        ),
        strict("client-skipped", reply(4, &ClientReply::Skipped { reason: 19 }), client_frame_again),
        strict("note", bundle().checkpoint.into_bytes(), |b| {
            Some(SignedNote::parse(b).ok()?.encode().into_bytes())
        }),
        strict("checkpoint", checkpoint_text().into_bytes(), |b| {
            Some(Checkpoint::parse(std::str::from_utf8(b).ok()?).ok()?.text().into_bytes())
        }),
        strict("tlog-proof", tlog_proof.into_bytes(), |b| {
            Some(TlogProof::parse(b).ok()?.encode().into_bytes())
        }),
        loose("bundle", bundle().encode().unwrap(), |b| Some(ProofBundle::decode(b).ok()?.encode().unwrap())),
        loose("bundle-batch", batch_bundle().encode().unwrap(), |b| {
            Some(ProofBundle::decode(b).ok()?.encode().unwrap())
        }),
        loose("genesis", Genesis::encode(&genesis_file()).unwrap(), |b| {
            Some(Genesis::encode(Genesis::decode(b).ok()?.file()).unwrap())
        }),
        loose("genesis-2", Genesis::encode(&genesis_2_file()).unwrap(), |b| {
            Some(Genesis::encode(Genesis::decode(b).ok()?.file()).unwrap())
        }),
        loose("node-config", config().to_toml().unwrap().into_bytes(), config_again),
    ];
    formats.extend(messages().into_iter().map(|(name, sample)| strict(name, sample, frame_again)));
    formats
}

fn checkpoint_text() -> String {
    Checkpoint { origin: genesis().origin(), size: 2, root: NodeHash([0xaa; 32]) }.text()
}

fn transaction_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let tx = Transaction::decode(Bytes::copy_from_slice(bytes), Rules::NEWEST).ok()?;
    // A body that does not decode is for the executor to skip.
    let _ = Body::of(&tx);
    Some(Transaction::build(*tx.envelope(), tx.body(), |_| *tx.signature()).bytes().to_vec())
}

fn body_again(kind: Kind, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Body::decode(kind, bytes).ok()?.encode())
}

fn header_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = SignedHeader::decode(Bytes::copy_from_slice(bytes)).ok()?;
    let built = SignedHeader::build(header.header().clone(), |_| *header.signature());
    assert_eq!(built.reference(), header.reference());
    Some(built.bytes().to_vec())
}

fn payload_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let payload = Payload::decode(Bytes::copy_from_slice(bytes)).ok()?;
    let mut builder = PayloadBuilder::default();
    for i in 0..payload.len() {
        assert!(builder.push(payload.id(i), &payload.transaction_bytes(i)));
    }
    let built = builder.finish();
    assert_eq!(built.root(), payload.root());
    Some(built.bytes().to_vec())
}

/// The body of a frame whose length is the announced one, taken apart as a connection does.
fn frame_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = bytes.split_first_chunk::<5>()?;
    let (kind, len) = frame_head(*head).ok()?;
    if body.len() != len {
        return None;
    }
    for version in PROTOCOL_VERSION_OLDEST..=PROTOCOL_VERSION {
        if let Ok(hello) = Hello::check(kind, body, genesis().network(), version) {
            return Some(bytes_of(&hello.encode()));
        }
    }
    Some(bytes_of(&PeerMessage::decode(kind, Bytes::copy_from_slice(body)).ok()?.encode()))
}

fn client_frame_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = bytes.split_first_chunk::<5>()?;
    let (len, kind) = head.split_first_chunk::<4>()?;
    let limit = client_frame_limit(kind[0])?;
    if u32::from_be_bytes(*len) as usize != body.len() || body.len() > limit {
        return None;
    }
    let mut out = Vec::new();
    if kind[0] == SUBMIT_FRAME {
        Submit::decode(Bytes::copy_from_slice(body)).ok()?.encode_into(&mut out);
    } else {
        let (request, reply) = ClientReply::decode(body).ok()?;
        reply.encode_into(request, &mut out);
    }
    Some(out)
}

fn config_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let file = ConfigFile::parse(Path::new("node.toml"), text).ok()?;
    Some(file.config().to_toml().unwrap().into_bytes())
}
