#![allow(clippy::unwrap_used, clippy::expect_used, clippy::significant_drop_tightening, reason = "tests")]

use std::future::Future;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::*;
use crate::error::ClientError;
use crate::serve::{
    ConsentStatus, PeerStatus, ProofOf, RecordStatus, ServeError, Status, Ticket, TileKind, TilePath,
    TransactionStatus,
};
use crate::types::{
    ClientReply, CommitIndex, Digest, Effect, LeafIndex, NetworkId, NodeHash, OrgId, Provision, Round,
    TimestampMs, TxId, tx_id,
};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// A ledger of fixed content. What a transaction starts with decides what becomes of it.
#[derive(Default)]
struct Fake {
    /// Outcomes that never come, kept so that they are waited for.
    pending: Mutex<Vec<oneshot::Sender<ClientReply>>>,
}

const KNOWN: TxId = TxId([0xAB; 32]);

impl Ledger for Fake {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            network: NetworkId(*b"testnet1"),
            origin: "test/salus".into(),
            validator: "hospital-a".into(),
            round: Round(9),
            commit: CommitIndex(3),
            time_ms: TimestampMs(1),
            tree_size: 300,
            root: NodeHash([1; 32]),
            state_root: Digest([2; 32]),
            checkpoint_size: 256,
            mempool_transactions: 0,
            mempool_bytes: 0,
            leader_timeout_us: 250_000,
            peers: vec![PeerStatus { name: "hospital-b".into(), up: true }],
            equivocators: Vec::new(),
        }
    }

    fn submit(&self, tx: Bytes) -> Ticket {
        let id = tx_id(&tx);
        let admitted = match tx.first() {
            Some(b'b') => Err(ClientError::Busy),
            Some(b's') => Err(ClientError::BadSignature),
            _ => Ok(()),
        };
        let (sender, outcome) = oneshot::channel();
        match tx.first() {
            Some(b'x') => sender.send(ClientReply::Skipped { reason: 8 }).unwrap(),
            Some(b'p') => self.pending.lock().unwrap().push(sender),
            _ => sender.send(ClientReply::Executed { leaf: LeafIndex(5), violation: false }).unwrap(),
        }
        Ticket { id, admitted: Box::pin(async { admitted }), outcome: Box::pin(async { outcome.await.ok() }) }
    }

    fn transaction(&self, id: TxId) -> Result<Option<TransactionStatus>, ServeError> {
        Ok((id == KNOWN).then_some(TransactionStatus::Executed {
            leaf: LeafIndex(5),
            commit: CommitIndex(2),
            time: TimestampMs(7),
            violation: true,
        }))
    }

    fn proof(&self, of: ProofOf) -> Result<Option<String>, ServeError> {
        match of {
            ProofOf::Leaf(LeafIndex(5)) | ProofOf::Transaction(KNOWN) => Ok(Some("{\"proof\":1}".into())),
            ProofOf::Leaf(LeafIndex(299)) => {
                Err(ServeError::NotYet("the next checkpoint will cover it".into()))
            }
            ProofOf::Leaf(_) | ProofOf::Transaction(_) => Ok(None),
        }
    }

    fn record(&self, leaf: LeafIndex) -> Result<Option<RecordStatus>, ServeError> {
        match leaf.0 {
            5 => Ok(Some(RecordStatus {
                leaf,
                org: OrgId(1),
                class: 2,
                commitment: [3; 32],
                previous: None,
                superseded_by: Some(LeafIndex(8)),
                retain_days: 10,
            })),
            6 => Err(ServeError::Internal("damaged".into())),
            7 => Err(ServeError::Unavailable("catching up".into())),
            8 => panic!("a bug behind the API"),
            _ => Ok(None),
        }
    }

    fn consent(&self, handle: [u8; 32]) -> Result<Option<ConsentStatus>, ServeError> {
        Ok((handle == [0xCD; 32]).then(|| ConsentStatus {
            handle,
            custodian: OrgId(1),
            grantee: OrgId(2),
            provisions: vec![Provision {
                effect: Effect::Permit,
                purpose: Provision::ANY,
                category: 4,
                from_s: 1,
                to_s: 2,
            }],
            granted_leaf: LeafIndex(1),
            as_of: TimestampMs(1_500),
            revoked: Some((LeafIndex(2), TimestampMs(3))),
        }))
    }

    fn consistency(&self, _from: u64, to: u64) -> Result<Option<Vec<NodeHash>>, ServeError> {
        Ok((to <= 300).then(|| vec![NodeHash([4; 32])]))
    }

    fn checkpoint(&self) -> Option<String> {
        Some("test/salus\n256\n".into())
    }

    fn tile(&self, path: &TilePath) -> Result<Option<Bytes>, ServeError> {
        let known = TilePath { kind: TileKind::Level(0), index: 1, width: Some(44) };
        Ok((*path == known).then(|| Bytes::from_static(b"\0\x01hashes")))
    }

    fn metrics(&self) -> String {
        "salus_round 9\n".into()
    }

    fn ready(&self) -> Result<(), String> {
        Err("catching up".into())
    }
}

fn start(connections: usize, wait_final: Duration) -> HttpServer {
    let config = HttpConfig { listen: "127.0.0.1:0".parse().unwrap(), connections, wait_final };
    HttpServer::start(config, &Handle::current(), Arc::new(Fake::default())).unwrap()
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

/// Writes bytes as they are and reads until the server closes.
async fn raw(server: &HttpServer, request: &[u8]) -> Reply {
    within("answer", async {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        // The server may refuse before all is written.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..split].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: answer[split + 4..].to_vec() }
    })
    .await
}

async fn get(server: &HttpServer, path: &str) -> Reply {
    raw(server, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
}

async fn post(server: &HttpServer, path: &str, body: &[u8]) -> Reply {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw(server, &[head.as_bytes(), body].concat()).await
}

#[tokio::test]
async fn reads_are_answered() {
    let server = start(16, Duration::from_secs(10));
    let status = get(&server, "/v1/status").await;
    assert_eq!(status.status, 200);
    assert!(status.head.contains("cache-control: no-store"), "{}", status.head);
    assert_eq!(status.json()["network"], hex::encode(b"testnet1"));
    assert_eq!(status.json()["peers"], json!([{ "name": "hospital-b", "up": true }]));

    let known = KNOWN.to_string();
    assert_eq!(
        get(&server, &format!("/v1/transactions/{known}")).await.json(),
        json!({ "id": known, "status": "executed", "leaf": 5, "commit": 2, "time_ms": 7, "violation": true })
    );
    assert_eq!(get(&server, &format!("/v1/transactions/{known}/proof")).await.json(), json!({ "proof": 1 }));
    assert_eq!(get(&server, "/v1/transactions/5/proof").await.json(), json!({ "proof": 1 }));
    let record = get(&server, "/v1/records/5").await.json();
    assert_eq!((&record["superseded_by"], &record["commitment"]), (&json!(8), &json!(hex::encode([3; 32]))));
    let consent = get(&server, &format!("/v1/consents/{}", "cd".repeat(32))).await.json();
    assert_eq!(consent["state"], "revoked");
    assert_eq!(
        consent["provisions"][0],
        json!({ "effect": "permit", "purpose": "any", "category": 4, "from_s": 1, "to_s": 2 })
    );
    assert_eq!(
        get(&server, "/v1/consistency?from=1&to=300").await.json(),
        json!({ "from": 1, "to": 300, "proof": [hex::encode([4; 32])] })
    );
    let index = get(&server, "/").await;
    assert!(index.status == 200 && String::from_utf8_lossy(&index.body).contains("/v1/consents/{handle}"));
    assert!(index.body.iter().filter(|byte| **byte == b'\n').count() <= 25, "one screen");
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert_eq!(metrics.body, b"salus_round 9\n");
    assert_eq!(get(&server, "/healthz").await.status, 200);
    assert_eq!(get(&server, "/readyz").await.error(), (503, "NotReady".into()));
}

#[tokio::test]
async fn tiles_and_checkpoint_are_served_as_c2sp_has_them() {
    let server = start(16, Duration::from_secs(10));
    let checkpoint = get(&server, "/checkpoint").await;
    assert!(checkpoint.head.contains("content-type: text/plain; charset=utf-8"), "{}", checkpoint.head);
    assert!(checkpoint.head.contains("cache-control: no-store"), "{}", checkpoint.head);
    assert_eq!(checkpoint.body, b"test/salus\n256\n");
    let tile = get(&server, "/tile/0/001.p/44").await;
    assert!(tile.head.contains("content-type: application/octet-stream"), "{}", tile.head);
    assert!(tile.head.contains("immutable"), "{}", tile.head);
    assert_eq!(tile.body, b"\0\x01hashes");
    let head = raw(&server, b"HEAD /tile/0/001.p/44 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.status == 200 && head.head.contains("content-length: 8") && head.body.is_empty());
}

#[tokio::test]
async fn no_path_leaves_the_tiles() {
    let server = start(16, Duration::from_secs(10));
    for path in [
        "/tile/../../etc/passwd",
        "/tile/0/../../keys/log.key",
        "/tile/%2e%2e/%2e%2e/etc/passwd",
        "/tile/0/..%2f..%2fkeys",
        "/tile//etc/passwd",
        "/tile/entries/..",
        "/tile/0/001.p/44/",
        "/tile/0/001.p/044",
        "/tile/0/%30%30%31",
        "/tile/0\\001",
    ] {
        assert_eq!(get(&server, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn faults_of_reads_have_their_status() {
    let server = start(16, Duration::from_secs(10));
    let zeros = "0".repeat(64);
    for (path, status, code) in [
        (format!("/v1/transactions/{zeros}"), 404, "NotFound"),
        ("/v1/transactions/xyz".into(), 400, "BadRequest"),
        ("/v1/records/-1".into(), 400, "BadRequest"),
        ("/v1/consistency?from=2&to=1".into(), 400, "BadRequest"),
        ("/v1/consistency?from=1&to=999".into(), 404, "NotFound"),
        ("/v1/transactions/299/proof".into(), 409, "NotYet"),
        ("/v1/records/6".into(), 500, "Internal"),
        ("/v1/records/7".into(), 503, "Unavailable"),
        ("/v1/records/8".into(), 500, "Internal"),
        ("/tile/0/000".into(), 404, "NotFound"),
        ("/nothing".into(), 404, "NotFound"),
        ("/v1/transactions".into(), 405, "MethodNotAllowed"),
    ] {
        assert_eq!(get(&server, &path).await.error(), (status, code.into()), "{path}");
    }
    assert!(get(&server, "/v1/records/7").await.head.contains("retry-after: 1"));
    assert!(get(&server, "/v1/transactions").await.head.contains("allow: post"));
    let delete = raw(&server, b"DELETE /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(delete.status == 405 && delete.head.contains("allow: get, head"), "{}", delete.head);
}

#[tokio::test]
async fn submissions_are_accepted_refused_or_waited_for() {
    let server = start(16, Duration::from_millis(50));
    let id = tx_id(b"tx").to_string();
    let accepted = post(&server, "/v1/transactions", b"tx").await;
    assert_eq!((accepted.status, accepted.json()), (202, json!({ "id": id, "status": "pending" })));
    let done = post(&server, "/v1/transactions?wait=final", b"tx").await;
    assert_eq!(
        (done.status, done.json()),
        (200, json!({ "id": id, "status": "executed", "leaf": 5, "violation": false }))
    );
    let skipped = post(&server, "/v1/transactions?wait=final", b"x").await;
    assert_eq!(skipped.json()["reason"], "NotAHead");
    // The outcome does not come: the wait is bounded.
    let pending = post(&server, "/v1/transactions?wait=final", b"p").await;
    assert_eq!((pending.status, &pending.json()["status"]), (202, &json!("pending")));

    let busy = post(&server, "/v1/transactions", b"b").await;
    assert_eq!(busy.error(), (503, "Busy".into()));
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    assert_eq!(post(&server, "/v1/transactions", b"s").await.error(), (403, "BadSignature".into()));
    assert_eq!(post(&server, "/v1/transactions?wait=ever", b"tx").await.error(), (400, "BadRequest".into()));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = start(16, Duration::from_secs(10));
    assert_eq!(post(&server, "/v1/transactions", &vec![1; TRANSACTION_BYTES_MAX]).await.status, 202);
    let long = vec![1; TRANSACTION_BYTES_MAX + 1];
    assert_eq!(post(&server, "/v1/transactions", &long).await.error(), (413, "TooLarge".into()));
    // A length that is announced and never sent.
    let announced = b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(raw(&server, announced).await.error(), (413, "TooLarge".into()));
    // A length that is not announced.
    let mut chunked =
        b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..5 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'a'; 0x400]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(raw(&server, &chunked).await.error(), (413, "TooLarge".into()));
    let kind = b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\ntx";
    assert_eq!(raw(&server, kind).await.error(), (415, "UnsupportedMediaType".into()));
    // A head beyond its bound, and something that is not HTTP.
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(raw(&server, head.as_bytes()).await.status, 431);
    assert_eq!(raw(&server, b"\x16\x03\x01 hello\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_a_place() {
    let server = start(1, Duration::from_secs(10));
    let mut first = TcpStream::connect(server.local_addr()).await.unwrap();
    // An answered request shows that the first connection has the place; it keeps it.
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    within("answer", first.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let second = get(&server, "/healthz");
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(200), second.as_mut()).await.is_err(), "there is no place");
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_frees_the_port() {
    let server = start(16, Duration::from_millis(300));
    let address = server.local_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"POST /v1/transactions?wait=final HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        .await
        .unwrap();
    // The server asks for the body: the request is under way.
    let mut going = [0; 25];
    within("100 Continue", stream.read_exact(&mut going)).await.unwrap();
    let (answer, ()) = tokio::join!(
        async {
            stream.write_all(b"p").await.unwrap();
            let mut answer = Vec::new();
            within("answer", stream.read_to_end(&mut answer)).await.unwrap();
            answer
        },
        server.shutdown()
    );
    assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
    TcpListener::bind(address).unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let config = HttpConfig { listen, connections: 1, wait_final: Duration::ZERO };
    let error = HttpServer::start(config, &Handle::current(), Arc::new(Fake::default())).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("listen.http") && text.contains(&listen.to_string()), "{text}");
}
