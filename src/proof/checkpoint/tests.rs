#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::crypto::SecretKey;
use crate::proof::fixture::{Network, TIME_S};
use crate::proof::note::{cosign, sign_text};

const ROOT: NodeHash = NodeHash([0xab; 32]);

fn note(network: &Network, cosigners: impl IntoIterator<Item = usize>) -> String {
    network.certify(77, ROOT, cosigners).to_note(&network.keys)
}

fn verify(note: &str, network: &Network) -> Result<VerifiedCheckpoint, ProofError> {
    verify_checkpoint(note.as_bytes(), &network.keys)
}

#[test]
fn text_is_that_of_the_specification() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = Checkpoint::parse(text).unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.text(), text);
}

#[test]
fn malformed_texts_are_refused() {
    let good = "o\n20\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    Checkpoint::parse(good).unwrap();
    let cases = [
        String::new(),
        "\n".to_owned(),
        good.trim_end().to_owned(),
        good.replace("o\n", "\n"),
        good.replace("20\n", "020\n"),
        good.replace("20\n", "+20\n"),
        good.replace("20\n", "-20\n"),
        good.replace("20\n", "\n"),
        good.replace("20\n", "18446744073709551616\n"),
        good.replace("q2I=", "q2I"),
        good.replace("q2I=", "q2J="),
        good.replace("CsUY", ""),
        format!("{good}extension\n"),
        format!("{good}\n"),
    ];
    for case in cases {
        assert!(Checkpoint::parse(&case).is_err(), "{case:?}");
    }
}

#[test]
fn a_quorum_of_the_stake_is_needed() {
    for (validators, quorum) in [(1, 1), (2, 2), (3, 3), (4, 3), (7, 5), (128, 86)] {
        let network = Network::new(validators);
        let certified = network.certify(77, ROOT, 0..quorum);
        let verified = verify(&certified.to_note(&network.keys), &network).unwrap();
        assert_eq!(verified.certified, certified);
        assert_eq!(verified.stake, Stake(quorum as u64));
        assert_eq!(certified.stake(network.keys.committee()), Stake(quorum as u64));
        assert_eq!(
            verify(&note(&network, 1..quorum), &network),
            Err(ProofError::NoQuorum { found: Stake(quorum as u64 - 1), needed: Stake(quorum as u64) })
        );
    }
}

#[test]
fn every_validator_of_the_largest_committee_may_sign() {
    let network = Network::new(128);
    let verified = verify(&note(&network, 0..128), &network).unwrap();
    assert_eq!(verified.stake, Stake(128));
}

#[test]
fn lines_of_others_are_ignored_and_lines_of_validators_must_hold() {
    let network = Network::new(4);
    let good = note(&network, 0..3);
    let text = Checkpoint { origin: network.genesis.origin(), size: 77, root: ROOT }.text();
    let stranger = SecretKey::from_seed(&[77; 32]);
    let witness = VerifierKey {
        name: "north/v3".to_owned(),
        key_type: KeyType::CosignatureV1,
        public: stranger.public(),
    };
    let add = |line: NoteSignature| {
        let mut note = SignedNote::parse(good.as_bytes()).unwrap();
        note.signatures.push(line);
        note.encode()
    };
    // A key of another's under a validator's name is another key.
    let foreign = witness.line(cosignature_blob(TIME_S, &cosign(&stranger, &text, TIME_S)));
    assert_eq!(verify(&add(foreign), &network).unwrap().stake, Stake(3));
    assert_eq!(verify(&add(witness.line(vec![1])), &network).unwrap().stake, Stake(3));

    let v3 = network.keys.cosigner(AuthorityIndex(3));
    let forged = v3.line(cosignature_blob(TIME_S, &cosign(&stranger, &text, TIME_S)));
    assert!(
        matches!(verify(&add(forged), &network), Err(ProofError::BadSignature { name, .. }) if name == "north/v3")
    );
    assert!(matches!(verify(&add(v3.line(vec![0; 3])), &network), Err(ProofError::BadSignature { .. })));
    let as_log = network.keys.log_key(AuthorityIndex(2)).line(sign_text(&stranger, &text).to_vec());
    assert!(
        matches!(verify(&add(as_log), &network), Err(ProofError::BadSignature { name, .. }) if name == "north/salus")
    );

    for repeated in SignedNote::parse(good.as_bytes()).unwrap().signatures {
        let name = repeated.name.clone();
        assert_eq!(verify(&add(repeated), &network), Err(ProofError::SignedTwice(name)));
    }
}

#[test]
fn checkpoints_of_other_logs_are_refused() {
    let network = Network::new(1);
    let mut certified = network.certify(77, ROOT, [0]);
    certified.checkpoint.origin = "south/salus".to_owned();
    assert!(matches!(
        verify(&certified.to_note(&network.keys), &network),
        Err(ProofError::WrongOrigin { found, .. }) if found == "south/salus"
    ));
}

#[test]
fn every_altered_byte_is_refused_or_concerns_only_strangers() {
    let network = Network::new(4);
    let good = note(&network, 0..3);
    for at in 0..good.len() {
        for flip in [1, 2, 0x20, 0x80] {
            let mut altered = good.clone().into_bytes();
            altered[at] ^= flip;
            // A line whose name or key id changed is a stranger's; it was one of three, so the quorum is gone, unless it
            // is the log's own line, which the quorum does not need.
            if let Ok(verified) = verify_checkpoint(&altered, &network.keys) {
                assert_eq!(verified.certified.checkpoint.head(), TreeHead { size: 77, root: ROOT });
                assert_eq!((verified.stake, verified.certified.log_signature), (Stake(3), None));
            }
        }
    }
}
