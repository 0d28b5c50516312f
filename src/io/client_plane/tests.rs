#![allow(clippy::unwrap_used, clippy::expect_used, clippy::significant_drop_tightening, reason = "tests")]

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::*;
use crate::crypto::SecretKey;
use crate::error::ClientError;
use crate::io::{NetError, tls};
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::types::{CLIENT_PROTOCOL_VERSION, ClientReply, Hello, LeafIndex, NetworkId, Submit};

const NETWORK: NetworkId = NetworkId(*b"testnet1");

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("timed out: {what}"))
}

fn server_key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn config() -> ClientPlaneConfig {
    ClientPlaneConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: server_key(),
        network: NETWORK,
        connections: 8,
        outstanding: 100,
    }
}

/// A plane that hands submissions to the test.
fn start(config: ClientPlaneConfig) -> (ClientPlane, SocketAddr, mpsc::UnboundedReceiver<Submission>) {
    let (sender, submissions) = mpsc::unbounded_channel();
    let on_submissions: OnSubmissions = Arc::new(move |_outstanding, all| {
        let take = |submission: Submission| {
            let request = submission.request;
            if submission.tx.is_empty() {
                return Some((request, ClientError::BadSignature));
            }
            sender.send(submission).err().map(|_closed| (request, ClientError::Busy))
        };
        all.into_iter().filter_map(take).collect()
    });
    let plane = ClientPlane::start(config, &Handle::current(), on_submissions).unwrap();
    let address = plane.local_addr().unwrap();
    (plane, address, submissions)
}

async fn connect(address: SocketAddr) -> SalusClient {
    SalusClient::connect(address, server_key().public(), NETWORK).await.unwrap()
}

#[tokio::test]
async fn submissions_are_answered_out_of_order_under_their_own_number() {
    let (plane, address, mut submissions) = start(config());
    let client = connect(address).await;
    let mut replies = Vec::new();
    for i in 0..50_u8 {
        replies.push(client.submit(Bytes::from(vec![i + 1; 200])).await.unwrap());
    }
    let mut taken = Vec::new();
    for _ in 0..50 {
        taken.push(within("submission", submissions.recv()).await.unwrap());
    }
    assert!(taken.iter().zip(1_u8..).all(|(submission, i)| submission.tx == vec![i; 200]));
    for submission in taken.iter().rev() {
        plane.reply(submission.client, submission.request, &ClientReply::Accepted);
        let leaf = LeafIndex(submission.tx[0].into());
        plane.reply(submission.client, submission.request, &ClientReply::Executed { leaf, violation: false });
        // Nothing comes after the last reply.
        plane.reply(submission.client, submission.request, &ClientReply::Skipped { reason: 1 });
    }
    for (mut replies, i) in replies.into_iter().zip(1..) {
        assert_eq!(within("accepted", replies.next()).await, Some(ClientReply::Accepted));
        let executed = ClientReply::Executed { leaf: LeafIndex(i), violation: false };
        assert_eq!(within("executed", replies.next()).await, Some(executed));
        assert_eq!(within("end", replies.next()).await, None);
    }
    client.close().await;
}

#[tokio::test]
async fn refusals_name_their_reason() {
    let (_plane, address, _submissions) = start(config());
    let client = connect(address).await;
    let replies = client.submit(Bytes::new()).await.unwrap();
    assert_eq!(
        within("refusal", replies.last()).await,
        Some(ClientReply::Refused { code: "BadSignature".into(), message: "bad signature".into() })
    );
    let error = client.submit(vec![0; TRANSACTION_BYTES_MAX + 1].into()).await.unwrap_err();
    assert!(matches!(error, ClientNetError::TooLarge(n) if n == TRANSACTION_BYTES_MAX + 1));
}

#[tokio::test]
async fn above_the_limit_of_outstanding_requests_the_plane_is_busy() {
    let (plane, address, mut submissions) = start(ClientPlaneConfig { outstanding: 3, ..config() });
    let client = connect(address).await;
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(client.submit(Bytes::from_static(b"tx")).await.unwrap());
    }
    for late in replies.split_off(3) {
        let reply = within("busy", late.last()).await;
        assert!(matches!(reply, Some(ClientReply::Refused { ref code, .. }) if code == "Busy"), "{reply:?}");
    }
    for (_, replies) in (0..3).zip(replies) {
        let Submission { client, request, .. } = within("submission", submissions.recv()).await.unwrap();
        plane.reply(client, request, &ClientReply::Duplicate { leaf: LeafIndex(9) });
        assert_eq!(
            within("reply", replies.last()).await,
            Some(ClientReply::Duplicate { leaf: LeafIndex(9) })
        );
    }
    // There is room again.
    client.submit(Bytes::from_static(b"tx")).await.unwrap();
    within("submission", submissions.recv()).await.unwrap();
}

#[tokio::test]
async fn another_server_key_is_refused_by_the_client() {
    let (_plane, address, _submissions) = start(config());
    let other = SecretKey::from_seed(&[2; 32]).public();
    let error = SalusClient::connect(address, other, NETWORK).await.unwrap_err();
    assert!(matches!(error, ClientNetError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_client_of_another_network_is_told() {
    let (_plane, address, _submissions) = start(config());
    let client = SalusClient::connect(address, server_key().public(), NetworkId(*b"testnet2")).await.unwrap();
    let error = within("the end", async {
        loop {
            match client.submit(Bytes::from_static(b"tx")).await {
                Ok(replies) => assert_eq!(replies.last().await, None),
                Err(error) => break error.to_string(),
            }
        }
    })
    .await;
    assert!(error.contains(&NETWORK.to_string()) && error.contains("peer is of network"), "{error}");
}

#[tokio::test]
async fn connections_above_the_limit_are_refused_and_places_are_given_back() {
    let (plane, address, mut submissions) = start(ClientPlaneConfig { connections: 1, ..config() });
    let first = connect(address).await;
    let error = SalusClient::connect(address, server_key().public(), NETWORK).await.unwrap_err();
    assert!(matches!(error, ClientNetError::Connect { .. }), "{error}");
    first.close().await;
    let second = within("a place", async {
        loop {
            if let Ok(client) = SalusClient::connect(address, server_key().public(), NETWORK).await {
                return client;
            }
        }
    })
    .await;
    second.submit(Bytes::from_static(b"tx")).await.unwrap();
    within("submission", submissions.recv()).await.unwrap();
    assert_eq!(plane.clients(), 1);
}

#[tokio::test]
async fn the_end_of_the_node_ends_waiting() {
    let (plane, address, mut submissions) = start(config());
    let client = connect(address).await;
    let replies = client.submit(Bytes::from_static(b"tx")).await.unwrap();
    within("submission", submissions.recv()).await.unwrap();
    plane.shutdown().await;
    assert_eq!(within("the end", replies.last()).await, None);
    let error = client.submit(Bytes::from_static(b"tx")).await.unwrap_err();
    assert!(matches!(error, ClientNetError::Lost(_)), "{error}");
}

/// Sends bytes on a fresh stream; returns the reason of the close and what the plane let through.
async fn misbehave(bytes: &[u8]) -> String {
    let (plane, address, mut submissions) = start(config());
    let tls = QuicClientConfig::try_from(tls::client_plane_client(server_key().public()).unwrap()).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = ClientConfig::new(Arc::new(tls));
    let connection = within("handshake", endpoint.connect_with(config, address, "x").unwrap()).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let closed = within("close", connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.error_code.into_inner(), u64::from(close::MISBEHAVED));
    assert!(submissions.try_recv().is_err());
    within("its place", async {
        while plane.clients() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    String::from_utf8(closed.reason.to_vec()).unwrap()
}

#[tokio::test]
async fn rubbish_ends_the_connection() {
    let hello = Hello { version: CLIENT_PROTOCOL_VERSION, network: NETWORK }.encode().head;
    let with = |bytes: &[u8]| [hello.as_slice(), bytes].concat();
    let mut submit = Vec::new();
    Submit { request: 0, tx: Bytes::from_static(b"tx") }.encode_into(&mut submit);

    assert!(misbehave(&submit).await.contains("before the hello"));
    assert!(misbehave(&[0xFF, 0xFF, 0xFF, 0xFF, 1]).await.contains("4294967295 bytes, limit 10"));
    assert!(misbehave(&with(&[0, 0, 0, 1, 0xEE, 0])).await.contains("unknown type 238"));
    let long = misbehave(&with(&[0xFF, 0xFF, 0xFF, 0xFF, 2])).await;
    assert!(long.contains(&format!("4294967295 bytes, limit {}", TRANSACTION_BYTES_MAX + 8)), "{long}");
    assert!(misbehave(&with(&[0, 0, 0, 1, 3, 0])).await.contains("a reply"));
    assert!(misbehave(&with(&[0, 0, 0, 7, 2, 0, 0, 0, 0, 0, 0, 0])).await.contains("request number"));
    assert!(misbehave(&with(&[0, 0, 0, 9, 2, 0])).await.contains("8 bytes missing"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = ClientPlaneConfig { listen: taken.local_addr().unwrap(), ..config() };
    let error = ClientPlane::start(config, &Handle::current(), Arc::new(|_, _| Vec::new())).unwrap_err();
    assert!(matches!(error, NetError::Bind { key: "listen.clients", .. }), "{error}");
}
