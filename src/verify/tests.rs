#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::ingress::admit;
use crate::ingress::fixture::{KEYS, NETWORK, NOW, directory, envelope, forged, signed as sign};
use crate::types::{Envelope, NetworkId, OrgId, PayloadBuilder};

fn verifier() -> Verifier {
    Verifier::new([1; 32], 64)
}

/// What the `i`th transaction of a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Good,
    Forged,
    Unknown,
    Elsewhere,
    Rubbish,
}

const PATTERN: [Made; 9] = [
    Made::Good,
    Made::Good,
    Made::Forged,
    Made::Good,
    Made::Unknown,
    Made::Good,
    Made::Elsewhere,
    Made::Rubbish,
    Made::Good,
];

fn bytes_of(made: Made, i: usize) -> Vec<u8> {
    let body = crate::ingress::fixture::body();
    let mut at = envelope(u32::try_from(i).unwrap() % KEYS, i as u64);
    let tx = match made {
        Made::Good => sign(at, &body),
        Made::Forged => forged(at, &body),
        Made::Unknown => sign(Envelope { org: OrgId(5_000), ..at }, &body),
        Made::Elsewhere => {
            at.network = NetworkId(*b"another!");
            sign(at, &body)
        }
        Made::Rubbish => return vec![1; i % 120],
    };
    tx.bytes().to_vec()
}

fn expected(made: Made) -> Verdict {
    match made {
        Made::Good => Verdict::Valid,
        Made::Forged | Made::Elsewhere | Made::Rubbish => Verdict::Invalid,
        Made::Unknown => Verdict::UnknownKey,
    }
}

fn payload(n: usize) -> (Payload, Vec<Verdict>) {
    let mut builder = PayloadBuilder::default();
    let mut verdicts = Vec::new();
    for i in 0..n {
        let made = PATTERN[i % PATTERN.len()];
        let bytes = bytes_of(made, i);
        assert!(builder.push(crate::types::tx_id(&bytes), &bytes));
        verdicts.push(expected(made));
    }
    (builder.finish(), verdicts)
}

fn pending(made: Made, i: usize) -> PendingTx {
    admit(bytes_of(made, i).into(), NETWORK, NOW, &directory()).unwrap()
}

#[test]
fn verdicts_of_a_payload_do_not_depend_on_batches() {
    let keys = directory();
    let (payload, expected) = payload(1_200);
    assert_eq!(verify_payload(&mut verifier(), NETWORK, &keys, &payload), expected);
    let payload = Arc::new(payload);
    for step in [1, 2, 7, 64, 500] {
        let parts: Vec<Range<usize>> =
            (0..200).step_by(step).map(|start| start..200.min(start + step)).collect();
        let units = |parts: &[Range<usize>]| -> Vec<Unit> {
            parts
                .iter()
                .map(|part| Unit::Payload { payload: Arc::clone(&payload), part: part.clone() })
                .collect()
        };
        let together = verify_units(&mut verifier(), NETWORK, &keys, units(&parts));
        let apart: Vec<UnitVerdict> = parts
            .iter()
            .flat_map(|part| {
                let part = std::slice::from_ref(part);
                verify_units(&mut verifier(), NETWORK, &keys, units(part))
            })
            .collect();
        assert_eq!(together, apart);
        let flat: Vec<Verdict> = together
            .into_iter()
            .flat_map(|unit| match unit {
                UnitVerdict::Payload(verdicts) => verdicts,
                UnitVerdict::Transactions(_) => unreachable!("only parts of a payload went in"),
            })
            .collect();
        assert_eq!(flat, expected[..200]);
    }
}

#[test]
fn a_payload_without_transactions_has_no_verdicts() {
    assert!(verify_payload(&mut verifier(), NETWORK, &directory(), &Payload::empty()).is_empty());
}

#[test]
fn a_key_that_is_registered_later_is_found_later() {
    let keys = directory();
    let (payload, _) = payload(9);
    let known = keys.read(|keys| keys.values().next().unwrap().clone());
    let before = verify_payload(&mut verifier(), NETWORK, &keys, &payload);
    assert_eq!(before[4], Verdict::UnknownKey);
    // The fixture signs with the key of the number that the envelope names, which is 0 here too.
    keys.write(|keys| keys.insert((OrgId(5_000), crate::types::KeyId(0)), known));
    assert_eq!(verify_payload(&mut verifier(), NETWORK, &keys, &payload)[4], Verdict::Valid);
}

#[test]
fn client_transactions_are_sorted_and_keep_their_order() {
    let batch: Vec<PendingTx> =
        (0..150).map(|i| pending(if i % 10 == 3 { Made::Forged } else { Made::Good }, i)).collect();
    let is_bad = |i: &usize| i % 10 == 3;
    let (verified, refused) = verify_transactions(&mut verifier(), NETWORK, batch.clone());
    let good: Vec<TxId> = (0..150).filter(|i| !is_bad(i)).map(|i| batch[i].id()).collect();
    let bad: Vec<TxId> = (0..150).filter(is_bad).map(|i| batch[i].id()).collect();
    assert_eq!(verified.iter().map(VerifiedTx::id).collect::<Vec<_>>(), good);
    assert_eq!(verified[0].transaction().id(), verified[0].id());
    assert_eq!(refused.iter().map(|(tx, _)| tx.id()).collect::<Vec<_>>(), bad);
    assert!(refused.iter().all(|(_, error)| *error == ClientError::BadSignature));

    let other = NetworkId(*b"another!");
    let (verified, refused) = verify_transactions(&mut verifier(), other, batch);
    assert_eq!((verified.len(), refused.len()), (0, 150), "the network is part of what is signed");
}

#[test]
fn units_of_both_kinds_share_a_batch() {
    let (payload, expected) = payload(20);
    let units = vec![
        Unit::Transactions(vec![pending(Made::Good, 1), pending(Made::Forged, 2)]),
        Unit::Payload { payload: Arc::new(payload), part: 3..11 },
        Unit::Transactions(vec![pending(Made::Good, 3)]),
    ];
    assert_eq!(units.iter().map(Unit::signatures).collect::<Vec<_>>(), [2, 8, 1]);
    let done = verify_units(&mut verifier(), NETWORK, &directory(), units);
    assert_eq!(done[1], UnitVerdict::Payload(expected[3..11].to_vec()));
    let counts = |unit: &UnitVerdict| match unit {
        UnitVerdict::Transactions((verified, refused)) => (verified.len(), refused.len()),
        UnitVerdict::Payload(_) => unreachable!("asked of transactions"),
    };
    assert_eq!((counts(&done[0]), counts(&done[2])), ((1, 1), (1, 0)));
}
