//! Random signatures, a third of them altered in some way, against `ed25519-zebra`.

use salus::crypto::{Domain, Purpose, SecretKey, Signed, Verifier, verify_one};
use salus::types::NetworkId;

use crate::vectors::{small_order_encodings, zebra_says};

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

/// Six thousand of a fixed stream; or as many as `SIGNATURES` says, of a new stream each time, which is told.
#[test]
fn random_ones_agree_with_zebra() {
    let Ok(count) = std::env::var("SIGNATURES") else { return compare(b"random signatures", 6_000) };
    let mut name = [0; 32];
    getrandom::fill(&mut name).expect("random numbers");
    println!("numbers from {}", hex::encode(name));
    compare(&name, count.parse().expect("SIGNATURES is a number"));
}
