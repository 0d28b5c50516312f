#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::significant_drop_tightening,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

use std::future::Future;
use std::net::UdpSocket;

use bytes::Bytes;
use quinn::{ConnectionError, EndpointConfig};

use super::*;
use crate::codec::DecodeError;
use crate::committee::Authority;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::types::{BlockRef, Epoch, FetchRequest, Hello, NetworkId, PROTOCOL_VERSION, Round, Stake};

const NETWORK: NetworkId = NetworkId(*b"testnet1");
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

fn secret(i: usize) -> SecretKey {
    SecretKey::from_seed(&[u8::try_from(i).unwrap() + 1; 32])
}

/// An address that is free now.
fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn committee(n: usize, network: NetworkId) -> Arc<Committee> {
    let authority = |i| Authority {
        name: format!("v{i}"),
        stake: Stake(1),
        address: free_address().to_string(),
        network_key: secret(i).public(),
        consensus_key: [0; 32],
        cosign_key: [0; 32],
        log_key: [0; 32],
    };
    Arc::new(Committee::new(Epoch(0), network, (0..n).map(authority).collect()))
}

fn config(committee: &Arc<Committee>, own: usize) -> PeerNetConfig {
    let index = AuthorityIndex::from_usize(own);
    let listen = committee.authority(index).address.parse().unwrap();
    PeerNetConfig::new(index, committee.clone(), secret(own), listen)
}

struct Node {
    net: PeerNet,
    events: PeerEvents,
}

impl Node {
    fn start(config: PeerNetConfig, capacity: usize) -> Self {
        let (sender, events) = peer_events(config.committee.size(), capacity);
        Self { net: PeerNet::start(config, &Handle::current(), sender).unwrap(), events }
    }

    async fn next(&mut self, what: &str) -> PeerEvent {
        within(what, self.events.recv()).await.expect("the network runs")
    }

    async fn wait_up(&mut self, n: usize) {
        for _ in 0..n {
            let event = self.next("peer up").await;
            assert!(matches!(event, PeerEvent::Up { version: PROTOCOL_VERSION, .. }), "{event:?}");
        }
    }

    async fn wait_message(&mut self) -> (AuthorityIndex, PeerMessage) {
        let event = self.next("message").await;
        let PeerEvent::Message { from, message, .. } = event else { panic!("{event:?}") };
        (from, message)
    }

    async fn wait_misbehaved(&mut self) -> PeerError {
        let event = self.next("misbehaviour").await;
        let PeerEvent::Misbehaved { error, .. } = event else { panic!("{event:?}") };
        error
    }
}

fn ask(from: u64) -> Frame {
    PeerMessage::Fetch(FetchRequest::Range { from: Round(from), rounds: 1 }).encode()
}

fn payload(len: usize) -> Frame {
    PeerMessage::Payload { block: BlockRef::default(), bytes: Bytes::from(vec![7; len]) }.encode()
}

/// A validator's key in the hands of somebody who does as he likes.
struct Rogue {
    endpoint: Endpoint,
}

impl Rogue {
    fn new(key: &SecretKey, accepts: [u8; 32], address: SocketAddr) -> Self {
        let identity = Identity::new(key).unwrap();
        let server = QuicServerConfig::try_from(identity.peer_server([accepts]).unwrap()).unwrap();
        let client = QuicClientConfig::try_from(identity.peer_client(accepts).unwrap()).unwrap();
        let mut endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(ServerConfig::with_crypto(Arc::new(server))),
            UdpSocket::bind(address).unwrap(),
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(client)));
        Self { endpoint }
    }

    async fn dial(&self, address: SocketAddr) -> Connection {
        within("handshake", self.endpoint.connect(address, "x").unwrap()).await.unwrap()
    }
}

async fn send_bytes(connection: &Connection, bytes: &[u8]) {
    let mut stream = within("stream", connection.open_uni()).await.unwrap();
    // The other side may close before all is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.finish();
}

async fn close_code(connection: &Connection) -> u64 {
    match within("close", connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => closed.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

fn hello(network: NetworkId) -> Vec<u8> {
    Hello { version: PROTOCOL_VERSION, network }.encode().head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_exchange_messages() {
    let committee = committee(4, NETWORK);
    // The choice of congestion control is each validator's own.
    let start = |i| {
        let congestion = if i % 2 == 0 { Congestion::Bbr } else { Congestion::Cubic };
        Node::start(PeerNetConfig { congestion, ..config(&committee, i) }, 64)
    };
    let mut nodes: Vec<_> = (0..4).map(start).collect();
    for node in &mut nodes {
        node.wait_up(3).await;
    }
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(node.net.broadcast(ask(i as u64)), 3);
    }
    for (i, node) in nodes.iter_mut().enumerate() {
        let mut froms = Vec::new();
        for _ in 0..3 {
            let (from, message) = node.wait_message().await;
            let PeerMessage::Fetch(FetchRequest::Range { from: round, .. }) = message else { panic!() };
            assert_eq!(round.0, u64::from(from.0), "the sender is the one whose key was proven");
            froms.push(from.as_usize());
        }
        froms.sort_unstable();
        assert_eq!(froms, (0..4).filter(|other| *other != i).collect::<Vec<_>>());
    }
    // The largest payload, in both directions of a connection.
    assert!(nodes[0].net.send(AuthorityIndex(3), payload(PAYLOAD_BYTES_MAX)));
    assert!(nodes[3].net.send(AuthorityIndex(0), payload(PAYLOAD_BYTES_MAX)));
    for i in [0, 3] {
        let (_, message) = nodes[i].wait_message().await;
        let PeerMessage::Payload { bytes, .. } = message else { panic!("{message:?}") };
        assert!(bytes.len() == PAYLOAD_BYTES_MAX && bytes.iter().all(|byte| *byte == 7));
    }
    let stats = nodes[0].net.stats();
    assert_eq!(stats.len(), 3);
    assert!(stats.iter().all(|peer| peer.up && peer.connections == 1 && peer.dropped == [0; 3]), "{stats:?}");
    // RFC 9000, section 14: no path carries less than 1,200 bytes. QUIC's least window is two packets.
    assert!(stats.iter().all(|peer| peer.path.mtu >= 1_200 && peer.path.window >= 2 * 1_200), "{stats:?}");
    assert!(!nodes[0].net.send(AuthorityIndex(0), ask(0)), "nobody sends to himself");
    assert!(!nodes[0].net.send(AuthorityIndex(9), ask(0)), "nor to nobody");
}

#[tokio::test]
async fn a_stranger_who_dials_is_refused_in_the_handshake() {
    let committee = committee(2, NETWORK);
    let mut node = Node::start(config(&committee, 1), 64);
    let address = node.net.local_addr().unwrap();
    let stranger = Rogue::new(&secret(77), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    // The dialler's half of a TLS 1.3 handshake ends before the other side has seen its key, so he may believe that he
    // is connected and send; nothing of it is taken.
    let error = match within("handshake", stranger.endpoint.connect(address, "x").unwrap()).await {
        Ok(connection) => {
            let _ = connection.open_uni().await.unwrap().write_all(&hello(NETWORK)).await;
            within("refusal", connection.closed()).await
        }
        Err(error) => error,
    };
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "a TLS alert, not {error:?}");
    assert!(node.events.try_next().is_none());
    assert_eq!(node.net.stats()[0].connections, 0);
}

#[tokio::test]
async fn a_stranger_who_listens_is_refused_in_the_handshake() {
    let committee = committee(2, NETWORK);
    let address = committee.authority(AuthorityIndex(1)).address.parse().unwrap();
    let stranger = Rogue::new(&secret(77), secret(0).public(), address);
    let mut node = Node::start(config(&committee, 0), 64);
    let incoming = within("a dial", stranger.endpoint.accept()).await.unwrap();
    let error = within("refusal", incoming.into_future()).await.expect_err("the dialler has refused the key");
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "a TLS alert, not {error:?}");
    assert!(node.events.try_next().is_none());
    assert_eq!(node.net.stats()[0].connections, 0);
}

#[tokio::test]
async fn another_networks_hello_is_refused_by_both_sides() {
    let other = NetworkId(*b"testnet2");
    let wrong = PeerError::WrongNetwork { found: other, expected: NETWORK };
    let committee = committee(2, NETWORK);

    let mut accepting = Node::start(config(&committee, 1), 64);
    let rogue = Rogue::new(&secret(0), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    let connection = rogue.dial(accepting.net.local_addr().unwrap()).await;
    send_bytes(&connection, &hello(other)).await;
    assert_eq!(accepting.wait_misbehaved().await, wrong);
    match within("close", connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => {
            let reason = String::from_utf8(closed.reason.to_vec()).unwrap();
            assert!(reason.contains(&other.to_string()) && reason.contains(&NETWORK.to_string()), "{reason}");
        }
        error => panic!("{error:?}"),
    }
    accepting.net.shutdown().await;

    let committee = self::committee(2, NETWORK);
    let address = committee.authority(AuthorityIndex(1)).address.parse().unwrap();
    let rogue = Rogue::new(&secret(1), secret(0).public(), address);
    let mut dialling = Node::start(config(&committee, 0), 64);
    let incoming = within("a dial", rogue.endpoint.accept()).await.unwrap();
    let connection = within("handshake", incoming.into_future()).await.unwrap();
    send_bytes(&connection, &hello(other)).await;
    assert_eq!(dialling.wait_misbehaved().await, wrong);
    assert_eq!(dialling.net.stats()[0].connections, 0);
}

/// Validator 0 dials validator 1, says hello and then `bytes`; returns what validator 1 says of it.
async fn misbehave(bytes: &[u8]) -> PeerError {
    let committee = committee(2, NETWORK);
    let mut node = Node::start(config(&committee, 1), 64);
    let rogue = Rogue::new(&secret(0), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    let connection = rogue.dial(node.net.local_addr().unwrap()).await;
    send_bytes(&connection, &hello(NETWORK)).await;
    node.wait_up(1).await;
    send_bytes(&connection, bytes).await;
    assert_eq!(close_code(&connection).await, u64::from(close::MISBEHAVED));
    let error = node.wait_misbehaved().await;
    assert!(matches!(node.next("down").await, PeerEvent::Down(AuthorityIndex(0))));
    // It may come back, after the wait for its offence.
    let connection = rogue.dial(node.net.local_addr().unwrap()).await;
    send_bytes(&connection, &hello(NETWORK)).await;
    node.wait_up(1).await;
    error
}

#[tokio::test]
async fn rubbish_ends_the_connection() {
    assert_eq!(misbehave(&[0xAA; 100]).await, PeerError::UnknownFrame(0xAA));
    assert_eq!(misbehave(&[0, 0, 0, 0, 99]).await, PeerError::UnknownFrame(99));
    let long = [0xFF, 0xFF, 0xFF, 0xFF, 3];
    assert!(matches!(
        misbehave(&long).await,
        PeerError::FrameTooLarge { kind: 3, len: 0xFFFF_FFFF, limit } if limit == crate::limits::PEER_FRAME_BYTES_MAX
    ));
    let truncated = DecodeError::Truncated { what: "frame", at: 7, missing: 98 };
    assert_eq!(
        misbehave(&[0, 0, 0, 100, 2, 1, 1]).await,
        PeerError::Malformed { what: "frame", source: truncated }
    );
    let mut twice = ask(1).head;
    twice.push(0);
    let trailing = DecodeError::Trailing { at: 21, extra: 1 };
    assert_eq!(misbehave(&twice).await, PeerError::Malformed { what: "frame", source: trailing });
    assert_eq!(misbehave(&hello(NETWORK)).await, PeerError::Unsolicited("a second hello"));
    assert!(matches!(misbehave(&[0, 0, 0, 1, 2, 0]).await, PeerError::Malformed { what: "header", .. }));
}

#[tokio::test]
async fn nothing_is_taken_before_the_hello() {
    let committee = committee(2, NETWORK);
    let mut node = Node::start(config(&committee, 1), 64);
    let rogue = Rogue::new(&secret(0), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    let connection = rogue.dial(node.net.local_addr().unwrap()).await;
    send_bytes(&connection, &ask(1).head).await;
    assert_eq!(node.wait_misbehaved().await, PeerError::Unsolicited("a frame before the hello"));
    assert_eq!(close_code(&connection).await, u64::from(close::MISBEHAVED));
    assert_eq!(node.net.stats()[0].misbehaved, 1);
}

#[tokio::test]
async fn only_the_lower_index_dials() {
    let committee = committee(2, NETWORK);
    let node = Node::start(config(&committee, 0), 64);
    let rogue = Rogue::new(&secret(1), secret(0).public(), "127.0.0.1:0".parse().unwrap());
    let connection = rogue.dial(node.net.local_addr().unwrap()).await;
    assert_eq!(close_code(&connection).await, u64::from(close::WRONG_DIRECTION));
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_takes_the_place_of_the_older() {
    let committee = committee(2, NETWORK);
    let mut node = Node::start(config(&committee, 1), 64);
    let rogue = Rogue::new(&secret(0), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    let first = rogue.dial(node.net.local_addr().unwrap()).await;
    send_bytes(&first, &hello(NETWORK)).await;
    node.wait_up(1).await;
    let second = rogue.dial(node.net.local_addr().unwrap()).await;
    assert_eq!(close_code(&first).await, u64::from(close::REPLACED));
    send_bytes(&second, &hello(NETWORK)).await;
    assert!(matches!(node.next("down").await, PeerEvent::Down(_)));
    node.wait_up(1).await;
    send_bytes(&second, &ask(5).head).await;
    node.wait_message().await;
}

/// Starts a node at its old address, which the operating system frees a moment after the old endpoint has ended.
async fn restart(committee: &Arc<Committee>, own: usize) -> Node {
    within("the old port", async {
        loop {
            let (sender, events) = peer_events(committee.size(), 64);
            match PeerNet::start(config(committee, own), &Handle::current(), sender) {
                Ok(net) => return Node { net, events },
                Err(NetError::Bind { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn peers_reconnect_after_either_of_them_is_restarted() {
    let committee = committee(2, NETWORK);
    let mut nodes = [Node::start(config(&committee, 0), 64), Node::start(config(&committee, 1), 64)];
    for node in &mut nodes {
        node.wait_up(1).await;
    }
    for victim in [1, 0] {
        let other = 1 - victim;
        let replacement = Node::start(config(&self::committee(2, NETWORK), 0), 1);
        let old = std::mem::replace(&mut nodes[victim], replacement);
        old.net.shutdown().await;
        assert!(matches!(nodes[other].next("down").await, PeerEvent::Down(_)));
        assert!(
            !nodes[other].net.send(AuthorityIndex::from_usize(victim), ask(1)),
            "nothing is queued for the dead"
        );
        nodes[victim] = restart(&committee, victim).await;
        nodes[other].wait_up(1).await;
        nodes[victim].wait_up(1).await;
        assert!(nodes[other].net.send(AuthorityIndex::from_usize(victim), ask(2)));
        nodes[victim].wait_message().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_stops_the_sender_and_bounds_both() {
    const BYTES: usize = 1 << 20;
    let committee = committee(2, NETWORK);
    let mut fast = Node::start(config(&committee, 0), 64);
    let mut slow_config = config(&committee, 1);
    slow_config.limits.receive_bytes = 4 * (BYTES + 64);
    let mut slow = Node::start(slow_config, 2);
    fast.wait_up(1).await;
    slow.wait_up(1).await;

    // Nobody takes events from `slow` now. The queue of 16 MiB fills and stays full.
    let mut sent = 0;
    within("the queue to fill", async {
        let mut refused = 0;
        while refused < 1_000 {
            if fast.net.send(AuthorityIndex(1), payload(BYTES)) {
                sent += 1;
                refused = 0;
            } else {
                refused += 1;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let held = slow.net.stats()[0].received_bytes;
    assert!(held <= 4 * (BYTES as u64 + 64), "{held} bytes were received while nobody took them");
    // What is in flight: the queue, QUIC's send window, the receive window, and the reader's budget.
    assert!(sent * BYTES <= (16 + 16 + 8 + 4 + 2) << 20, "{sent} MiB were taken");
    assert!(fast.net.stats()[0].dropped[FrameClass::Payload as usize] >= 1_000);

    // A small frame has a queue of its own.
    assert!(fast.net.send(AuthorityIndex(1), ask(1)));
    // Once somebody takes them, all that were queued arrive.
    let (mut payloads, mut asks) = (0, 0);
    while payloads < sent || asks < 1 {
        match slow.wait_message().await.1 {
            PeerMessage::Payload { .. } => payloads += 1,
            PeerMessage::Fetch(_) => asks += 1,
            other @ (PeerMessage::Header(_)
            | PeerMessage::Headers(_)
            | PeerMessage::Latest { .. }
            | PeerMessage::Commits { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!((payloads, asks), (sent, 1));
}

/// Frames of one peer can wait for each other: one that has begun holds the room that the others behind it need, and they what the
/// line may carry. So one whose bytes do not come is given up.
#[tokio::test]
async fn a_frame_that_stands_still_gives_its_room_to_those_behind_it() {
    const BYTES: usize = 1 << 20;
    let committee = committee(2, NETWORK);
    let mut config = config(&committee, 1);
    config.limits.receive_bytes = 2 * BYTES;
    let mut node = Node::start(config, 64);
    let rogue = Rogue::new(&secret(0), secret(1).public(), "127.0.0.1:0".parse().unwrap());
    let connection = rogue.dial(node.net.local_addr().unwrap()).await;
    send_bytes(&connection, &hello(NETWORK)).await;
    node.wait_up(1).await;
    let Frame { head, tail, .. } = payload(BYTES);
    let frame = [&head[..], &tail[..]].concat();
    let mut stalled = within("stream", connection.open_uni()).await.unwrap();
    stalled.write_all(&frame[..BYTES / 2]).await.unwrap();
    let held = || node.net.stats()[0].held_bytes;
    within("its room is taken", async {
        while held() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let behind = tokio::spawn(async move {
        send_bytes(&connection, &frame).await;
        connection
    });
    let (_, message) = node.wait_message().await;
    assert!(matches!(message, PeerMessage::Payload { bytes, .. } if bytes.len() == BYTES));
    // Nobody is to blame, and the connection goes on.
    let connection = within("the frame", behind).await.unwrap();
    send_bytes(&connection, &ask(5).head).await;
    node.wait_message().await;
    assert_eq!(node.net.stats()[0].misbehaved, 0);
    drop(stalled);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let committee = committee(2, NETWORK);
    let config = config(&committee, 0);
    let taken = UdpSocket::bind(config.listen).unwrap();
    let error = PeerNet::start(config, &Handle::current(), peer_events(2, 1).0).unwrap_err().to_string();
    assert!(
        error.contains("listen.peers") && error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_that_is_not_the_validators_is_refused() {
    let committee = committee(2, NETWORK);
    let mut config = config(&committee, 0);
    config.key = secret(9);
    let error = PeerNet::start(config, &Handle::current(), peer_events(2, 1).0).unwrap_err();
    assert!(matches!(error, NetError::ForeignKey { ref validator, .. } if validator == "v0"), "{error}");
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum() {
    let identity = Identity::new(&secret(0)).unwrap();
    let config = identity.peer_client(secret(1).public()).unwrap();
    let first = config.crypto_provider().kx_groups[0].name();
    assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(config.alpn_protocols, [b"salus/2", b"salus/1"]);
}
