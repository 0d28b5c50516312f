//! Random signatures, a third of them altered in some way, against `ed25519-zebra`.

use salus::crypto::{Domain, Purpose, SecretKey, Signed, Verifier, verify_one};
use salus::types::NetworkId;

use crate::mutated::Judges;
use crate::points::{small_order_encodings, zebra_says};

/// Numbers that are the same in every run.
struct Numbers(blake3::OutputReader);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}

struct Case {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn case(numbers: &mut Numbers, keys: &[SecretKey], domain: &Domain) -> Case {
    let key = &keys[numbers.below(keys.len())];
    let len = numbers.below(400);
    let mut message = numbers.bytes(len);
    let mut signature = key.sign(domain, &message);
    let mut public = key.public();
    let small = small_order_encodings();
    match numbers.below(24) {
        0 => signature[numbers.below(64)] ^= 1 << numbers.below(8),
        1 => public[numbers.below(32)] ^= 1 << numbers.below(8),
        2 => message.push(0),
        3 => signature[..32].copy_from_slice(&small[numbers.below(14)]),
        4 => public = small[numbers.below(14)],
        5 => signature.copy_from_slice(&numbers.bytes(64)),
        6 => public = keys[numbers.below(keys.len())].public(),
        7 => signature[32..].fill(0),
        _ => {}
    }
    Case { key: public, message, signature }
}

/// Batches of random sizes until there were `count` signatures, by every back end and by zebra.
fn compare(name: &[u8], count: usize) {
    let mut numbers = Numbers(blake3::Hasher::new().update(name).finalize_xof());
    let keys: Vec<SecretKey> = (0..50).map(|i| SecretKey::from_seed(&[i; 32])).collect();
    let domain = Domain::new(Purpose::Tx, NetworkId(*b"network!"));
    // Room for fewer keys than there are, so that the tables of keys are emptied again and again.
    let mut verifiers = [Verifier::new([5; 32], 20), Verifier::portable([5; 32], 20)];
    let (mut seen, mut valid) = (0, 0);
    while seen < count {
        let n = 1 + numbers.below(200);
        let cases: Vec<Case> = (0..n).map(|_| case(&mut numbers, &keys, &domain)).collect();
        let items: Vec<Signed<'_>> = cases
            .iter()
            .map(|case| Signed {
                key: &case.key,
                domain: domain.as_bytes(),
                message: &case.message,
                signature: &case.signature,
            })
            .collect();
        let expected: Vec<bool> = cases
            .iter()
            .map(|case| zebra_says(&case.key, &[domain.as_bytes(), &case.message].concat(), &case.signature))
            .collect();
        for verifier in &mut verifiers {
            assert_eq!(verifier.verify(&items), expected, "{} behind {seen}", verifier.backend());
        }
        assert!(items.iter().map(verify_one).eq(expected.iter().copied()), "one by one behind {seen}");
        valid += expected.iter().filter(|valid| **valid).count();
        seen += n;
    }
    assert!(valid > seen / 2 && valid < seen * 3 / 4, "{valid} of {seen}");
}

/// Batches described by random bytes until there were `count` signatures.
fn compare_mutated(name: &[u8], count: usize) {
    let mut numbers = Numbers(blake3::Hasher::new().update(name).finalize_xof());
    let mut judges = Judges::new();
    let (mut seen, mut valid) = (0, 0);
    while seen < count {
        let described = numbers.bytes(512);
        let (n, good) = judges.judge(&described);
        (seen, valid) = (seen + n, valid + good);
    }
    assert!(valid > seen / 2 && valid < seen, "{valid} of {seen}");
}

/// Twenty thousand of a fixed stream; or as many as `SIGNATURES` says, from the `SEED` or a new one, which is told.
#[test]
fn batches_of_altered_ones_agree_with_zebra() {
    let (name, count) = soak().unwrap_or((b"altered signatures".to_vec(), 20_000));
    compare_mutated(&name, count);
}

/// What the environment asks for: a seed, and how many signatures.
fn soak() -> Option<(Vec<u8>, usize)> {
    let count = std::env::var("SIGNATURES").ok()?.parse().expect("SIGNATURES is a number");
    let name = std::env::var("SEED").map_or_else(
        |_| {
            let mut name = vec![0; 32];
            getrandom::fill(&mut name).expect("random numbers");
            name
        },
        |seed| hex::decode(seed).expect("SEED is hexadecimal"),
    );
    println!("SEED={}", hex::encode(&name));
    Some((name, count))
}

/// Six thousand of a fixed stream; or as `SIGNATURES` and `SEED` say.
#[test]
fn random_ones_agree_with_zebra() {
    let (name, count) = soak().unwrap_or((b"random signatures".to_vec(), 6_000));
    compare(&name, count);
}
