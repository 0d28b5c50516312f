//! Bad input gets an error that names the thing, and changes nothing for anybody else.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;

use salus::crypto::{Domain, Purpose, SecretKey};
use salus::gateway::OrgSigner;
use salus::io::keys::NodeKeys;
use salus::types::{Body, Envelope, KeyId, Kind, NetworkId, OrgId, RecordAnchor, TimestampMs, Transaction};

use super::validator::{Network, ORG, now, replace, until};

/// Asserts that the validator does not start, with code 2 and words that name these things.
fn assert_refused(network: &Network, named: &[&str]) {
    let (code, said) = network.refused();
    assert_eq!(code, 2, "{said}");
    let last = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{said}"));
    for thing in named {
        assert!(said.contains(thing), "{thing:?} is not in {last:?}");
    }
}

#[test]
fn a_typo_in_the_configuration_is_named_with_its_line() {
    let network = Network::make();
    let file = network.text_path("node.toml");
    replace(&network.path("node.toml"), "data_dir", "data_dri");
    assert_refused(&network, &[&file, ":3: data_dri: unknown field `data_dri`", "`data_dir`"]);
    network.configure(|config| config.validator = "south".to_owned());
    assert_refused(&network, &[&file, "validator: no validator \"south\" in the genesis; it has north"]);
    network.configure(|config| config.log.segment_bytes = (16 << 20) + 1);
    assert_refused(&network, &[&file, "log.segment_bytes"]);
    network.configure(|config| config.genesis = "elsewhere.json".into());
    assert_refused(&network, &["elsewhere.json", "No such file"]);
    fs::remove_file(network.path("node.toml")).unwrap();
    assert_refused(&network, &[&file, "No such file"]);
}

#[test]
fn a_genesis_with_a_key_twice_is_refused_by_the_key() {
    let network = Network::make();
    let mut file = network.genesis.file().clone();
    file.validators[0].log_key = file.validators[0].cosign_key;
    fs::write(network.path("genesis.json"), serde_json::to_vec(&file).unwrap()).unwrap();
    let key = String::from(file.validators[0].log_key);
    let why = format!("validators[0].log_key: key {key} appears twice");
    assert_refused(&network, &[&network.text_path("genesis.json"), &why]);
}

#[test]
fn keys_that_are_exposed_missing_or_of_another_validator_are_refused_by_their_file() {
    let network = Network::make();
    let key = network.path("keys/consensus.key");
    let name = key.display().to_string();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(&network, &[&name, "has mode 0644", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let kept = fs::read(&key).unwrap();
    fs::write(&key, "rubbish").unwrap();
    assert_refused(&network, &[&name, "is not a key file"]);
    fs::remove_file(&key).unwrap();
    assert_refused(&network, &[&name, "No such file"]);
    let other = network.path("other");
    NodeKeys::create(&other).unwrap();
    fs::copy(other.join("consensus.key"), &key).unwrap();
    assert_refused(&network, &[&name, "the consensus key of validator north"]);
    fs::write(&key, kept).unwrap();
    network.start().stop();
}

#[test]
fn data_of_another_network_are_refused_and_left_alone() {
    let (network, other) = (Network::make(), Network::make_earlier(5_000));
    let first = network.start();
    let tx = network.new_key(1, 1, now());
    assert_eq!(first.submit(tx.bytes()).field("status"), "executed");
    first.stop();
    other.configure(|config| config.data_dir = network.path("data"));
    let (mine, theirs) = (network.genesis.network().to_string(), other.genesis.network().to_string());
    assert_refused(&other, &[&network.text_path("data"), &mine, &theirs]);
    let again = network.start();
    assert_eq!(again.get(&format!("/v1/transactions/{}", tx.id())).field("status"), "executed");
    again.stop();
}

#[test]
fn a_port_or_data_folder_in_use_is_named() {
    let network = Network::make();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    network.configure(|config| config.listen.http = address);
    assert_refused(&network, &["listen.http", &address.to_string(), "in use"]);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    network.configure(|config| config.listen.peers = address);
    assert_refused(&network, &["listen.peers", &address.to_string(), "in use"]);
    network.configure(|config| config.listen.clients = address);
    assert_refused(&network, &["listen.clients", &address.to_string(), "in use"]);
    network.configure(|_| {});
    let running = network.start();
    assert_refused(&network, &[&network.text_path("data/LOCK"), "locked by another process"]);
    running.stop();
}

fn anchor() -> Body {
    Body::RecordAnchor(RecordAnchor { commit: [1; 32], prev: None, class: 1, alg: 1, retain_days: 1 })
}

/// A transaction whose body is not what its kind says, well signed.
fn malformed_body(network: &Network) -> Transaction {
    let envelope = Envelope {
        kind: Kind::KeyAdd,
        network: network.genesis.network(),
        org: ORG,
        key: KeyId(0),
        seq: 90,
        time: now(),
        salt: [0; 16],
    };
    let domain = Domain::new(Purpose::Tx, network.genesis.network());
    let root = salus::cli::org_key::read(&network.path("root.key")).unwrap();
    Transaction::build(envelope, b"no key", |bytes| root.sign(&domain, bytes))
}

#[test]
fn bad_transactions_are_refused_by_name_and_good_ones_go_on() {
    const FAR_MS: u64 = 11 * 60 * 1_000;
    /// Name, what is handed in, status and code of the answer, and words that are in its message.
    type Case<'a> = (&'a str, Vec<u8>, u16, &'a str, Vec<&'a str>);

    let network = Network::make();
    let validator = network.start();
    let first = network.new_key(1, 1, now());
    let reply = validator.submit(first.bytes());
    assert_eq!((reply.status, reply.field("status")), (200, "executed"), "{reply:?}");

    let mut forged = network.new_key(91, 91, now()).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = NetworkId(*b"another!");
    let root = SecretKey::from_seed(&[42; 32]);
    let foreign = OrgSigner::new(elsewhere, ORG, KeyId(0), root, 92).sign(&anchor(), now(), [0; 16]);
    let stranger = network.signer(OrgId(99), 1).sign(&anchor(), now(), [0; 16]);
    let past = network.new_key(93, 93, TimestampMs(now().0 - FAR_MS));
    let future = network.new_key(94, 94, TimestampMs(now().0 + FAR_MS));
    let replayed = network.new_key(1, 95, now());
    let (here, there) = (network.genesis.network().to_string(), elsewhere.to_string());
    let cases: [Case<'_>; 11] = [
        ("nothing", vec![], 400, "Malformed", vec!["transaction version"]),
        ("rubbish", b"\x01rubbish".to_vec(), 400, "Malformed", vec!["transaction kind"]),
        ("cut", first.bytes()[..99].to_vec(), 400, "Malformed", vec!["bytes missing"]),
        ("body", malformed_body(&network).bytes().to_vec(), 400, "Malformed", vec!["missing at offset"]),
        ("oversize", vec![1; 4_213], 413, "TooLarge", vec!["4212 bytes"]),
        ("network", foreign.bytes().to_vec(), 400, "WrongNetwork", vec![&here, &there]),
        ("organisation", stranger.bytes().to_vec(), 403, "UnknownKey", vec!["key 0 of organisation 99"]),
        ("signature", forged, 403, "BadSignature", vec!["signature"]),
        ("past", past.bytes().to_vec(), 400, "BadTime", vec!["limit 600000"]),
        ("future", future.bytes().to_vec(), 400, "BadTime", vec!["limit 600000"]),
        ("number", replayed.bytes().to_vec(), 409, "Replayed", vec!["sequence number 1 "]),
    ];
    for (name, bytes, status, code, words) in cases {
        let reply = validator.submit(&bytes);
        assert_eq!((reply.status, reply.field("error")), (status, code), "{name}: {reply:?}");
        for word in words {
            assert!(reply.field("message").contains(word), "{name}: {reply:?}");
        }
    }
    // Well made, but not for this key to send: every validator skips it, and says why.
    let reply = validator.submit(network.sign(2, now(), &anchor()).bytes());
    assert_eq!((reply.field("status"), reply.field("reason")), ("skipped", "MissingRole"), "{reply:?}");

    for (path, status) in [("/v1/transactions/xyz", 400), ("/v1/nothing", 404), ("/v1/records/77", 404)] {
        assert_eq!(validator.get(path).status, status, "{path}");
    }
    let reply = validator.try_request("POST", "/v1/transactions?wait=now", b"x").unwrap();
    assert_eq!((reply.status, reply.field("error")), (400, "BadRequest"));

    // What is no QUIC at all is not even an error.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [&validator.peers, &validator.clients] {
        for len in [0, 1, 20, 1_200, 1_452] {
            socket.send_to(&vec![0xc5; len], port.as_str()).unwrap();
        }
    }

    let reply = validator.submit(network.new_key(2, 2, now()).bytes());
    assert_eq!((reply.status, reply.field("status")), (200, "executed"), "{reply:?}");
    let status = validator.get("/v1/status");
    assert_eq!(status.json["tree_size"], 2, "{status:?}");
    validator.stop();
}

#[test]
fn the_first_transaction_of_a_network_that_was_made_long_ago_is_executed() {
    let network = Network::make_earlier(24 * 3_600 * 1_000);
    let validator = network.start();
    let reply = validator.submit(network.new_key(1, 1, now()).bytes());
    assert_eq!(reply.field("status"), "executed", "{reply:?}");
    validator.stop();
}

#[test]
fn what_was_answered_as_final_is_there_after_the_process_was_killed() {
    let network = Network::make();
    let mut ids = Vec::new();
    for start in 0..2 {
        let validator = network.start();
        for id in &ids {
            // What the log holds beyond the state is executed again first.
            until("it is there", || {
                validator.get(&format!("/v1/transactions/{id}")).field("status") == "executed"
            });
        }
        for i in 1..=5 {
            let number = start * 5 + i;
            let tx = network.new_key(number.into(), number, now());
            let reply = validator.submit(tx.bytes());
            assert_eq!(reply.field("status"), "executed", "{reply:?}");
            ids.push(tx.id());
        }
        validator.kill();
    }
}
