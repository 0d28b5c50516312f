//! Points of small order in all their encodings, and the judge of others.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest as _, Sha512};

/// What `ed25519-zebra`, written by others for ZIP-215, says.
pub fn zebra_says(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519_zebra::VerificationKey::try_from(*key)
        .is_ok_and(|key| key.verify(&ed25519_zebra::Signature::from(*signature), message).is_ok())
}

/// The points whose order divides 8, multiples of one of order 8.
pub fn torsion() -> Vec<EdwardsPoint> {
    let order_8 = hex32("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    let point = CompressedEdwardsY(order_8).decompress().unwrap();
    let points: Vec<_> = (0_u64..8).map(|i| point * Scalar::from(i)).collect();
    let mut distinct: Vec<_> = points.iter().map(|p| p.compress().0).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 8);
    points
}

/// All 14 encodings of those points: a y of 0 or 1 may also be written as p or p + 1, and an x of 0 with either sign.
pub fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let (mut p, mut p_plus_one) = (minus_one, minus_one);
    (p[0], p_plus_one[0]) = (0xed, 0xee);
    let mut one = [0; 32];
    one[0] = 1;
    let mut all: Vec<[u8; 32]> = [[0; 32], one, minus_one, p, p_plus_one]
        .into_iter()
        .flat_map(|y| {
            let mut negative = y;
            negative[31] |= 0x80;
            [y, negative]
        })
        .chain(torsion().iter().map(|point| point.compress().0))
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 14);
    all
}

pub fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let k = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&k.into())
}

/// s + ℓ, little-endian.
pub fn plus_order(s: [u8; 32]) -> [u8; 32] {
    let order = hex32("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    let mut sum = [0; 32];
    for (i, byte) in sum.iter_mut().enumerate() {
        carry += u16::from(s[i]) + u16::from(order[i]);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    sum
}

fn hex32(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}
