#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn hash(text: &str) -> Hash {
    let mut bytes = [0; DIGEST];
    hex::decode_to_slice(text, &mut bytes).unwrap();
    bytes
}

/// Bytes in which no two places look alike.
fn bytes(n: usize) -> Vec<u8> {
    let mut out = vec![0; n];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn alone(head: &[u8], body: &[u8]) -> Hash {
    Sha256::new().chain_update(head).chain_update(body).finalize().into()
}

/// Messages of FIPS 180-2, appendix B, and RFC 6234, section 8.5, and the empty one.
#[test]
fn published_vectors() {
    let million = vec![b'a'; 1_000_000];
    let repeated = b"0123456701234567012345670123456701234567012345670123456701234567".repeat(10);
    let cases: [(&[u8], &str); 6] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (b"\x19", "68aa2e2ee5dff96e3355e6c7ee373e3d6a4e17f75f9518d843709c0c9bc3e3d4"),
        (&repeated, "594847328451bdfa85056225462cc1d867d877fb388df0ce35f25ab5562bfbb5"),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ];
    for (message, expected) in cases {
        assert_eq!(Message::from(message).hash(), hash(expected));
        // Beside its like, so that all lanes are used.
        assert_eq!(sha256_many(&[Message::from(message); 19]), [hash(expected); 19]);
    }
    let all = cases.map(|(message, _)| Message::from(message));
    assert_eq!(sha256_many(&all), cases.map(|(_, expected)| hash(expected)));
}

#[test]
fn every_length_in_every_number() {
    let bytes = bytes(400);
    for n in 0..40 {
        for length in 0..300 {
            let messages: Vec<Message<'_>> = (0..n).map(|i| Message::from(&bytes[i..i + length])).collect();
            for (message, found) in messages.iter().zip(sha256_many(&messages)) {
                assert_eq!(found, alone(&[], message.body), "{n} of {length} bytes");
            }
        }
    }
}

/// Lanes that are done long before others, which the choice by length would not put together.
#[cfg(target_arch = "x86_64")]
#[test]
fn lanes_end_where_their_messages_do() {
    let Some(engine) = avx512::Engine::find() else { return };
    let bytes = bytes(400);
    for first in 0..300 {
        let messages: [Message<'_>; avx512::LANES] = std::array::from_fn(|lane| {
            let length = (first + 37 * lane) % 400;
            let (head, body) = bytes[..length].split_at((7 * lane).min(length));
            Message { head, body }
        });
        for (message, found) in messages.iter().zip(engine.messages(&messages)) {
            assert_eq!(found, alone(message.head, message.body), "{message:?}");
        }
    }
}

#[test]
fn pairs_are_hashed_by_neighbours() {
    let bytes = bytes(101 * DIGEST);
    let hashes: Vec<Wrapped> = bytes.as_chunks().0.iter().map(|hash| Wrapped(*hash)).collect();
    for n in 0..=hashes.len() {
        let found = sha256_pairs(0x01, &hashes[..n]);
        assert_eq!(found.len(), n / 2);
        for (pair, found) in hashes.chunks(2).zip(found) {
            assert_eq!(found, alone(&[0x01], &[pair[0].0, pair[1].0].concat()));
        }
    }
    assert_ne!(sha256_pairs(0x00, &hashes), sha256_pairs(0x01, &hashes));
}

struct Wrapped(Hash);

impl AsRef<Hash> for Wrapped {
    fn as_ref(&self) -> &Hash {
        &self.0
    }
}

proptest! {
    /// Short ones, long ones and a few very long ones, with heads of all lengths that a block can begin with.
    #[test]
    fn mixed_lengths(lengths in prop::collection::vec(
        (0..=130usize, prop_oneof![4 => 0..200usize, 2 => 0..2_000usize, 1 => 0..9_000usize]), 0..70,
    )) {
        let bytes = bytes(9_200);
        let messages: Vec<Message<'_>> = lengths
            .iter()
            .map(|(head, body)| Message { head: &bytes[..*head], body: &bytes[*head..head + body] })
            .collect();
        for (message, found) in messages.iter().zip(sha256_many(&messages)) {
            prop_assert_eq!(found, alone(message.head, message.body));
        }
    }
}
