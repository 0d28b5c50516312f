//! What `salus anchor` refuses before it asks anybody, and where it writes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use super::*;
use crate::crypto::SecretKey;
use crate::genesis::{GENESIS_FORMAT, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use crate::types::Rules;

fn genesis_file(rules: Rules) -> Vec<u8> {
    let key = |seed| HexKey(SecretKey::from_seed(&[seed; 32]).public());
    let validator = ValidatorEntry {
        name: "v0".to_owned(),
        stake: 1,
        address: "127.0.0.1:7100".to_owned(),
        network_key: key(1),
        consensus_key: key(2),
        cosign_key: key(3),
        log_key: key(4),
    };
    let (name, root_key) = ("Clinic".to_owned(), key(5));
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: "test".to_owned(),
        created_ms: 0,
        parameters: Parameters { leaders_per_round: 1, rules, ..Parameters::default() },
        validators: vec![validator],
        members: vec![MemberEntry { org: 1, kind: 1, name, region: 0, root_key, governs: true }],
    };
    Genesis::encode(&file).unwrap()
}

/// A folder with an export, and arguments that anchor it by a validator that nobody runs.
fn scene() -> (tempfile::TempDir, AnchorArgs) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("export")).unwrap();
    fs::write(at("export/a.json"), "{}").unwrap();
    fs::write(at("genesis.json"), genesis_file(Rules::NEWEST)).unwrap();
    super::super::org_key::write(&at("record.key"), &SecretKey::from_seed(&[9; 32])).unwrap();
    let args = AnchorArgs {
        paths: vec![at("export")],
        // Port 0 is nobody's: a connection is refused at once.
        node: "http://127.0.0.1:0".to_owned(),
        genesis: at("genesis.json"),
        key: at("record.key"),
        org: 1,
        key_id: 1,
        seq: None,
        state: None,
        vault: at("vault"),
        out: None,
        algorithm: Algorithm::Blake3,
        class: codes::CLASS_FILES,
        retain_days: codes::RETAIN_DAYS,
        wait_s: 1,
    };
    (dir, args)
}

fn refused(dir: &tempfile::TempDir, args: &AnchorArgs) -> String {
    let error = run(args, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, CliError::Unable { .. }), "{error}");
    assert!(!args.vault.exists(), "{error}");
    error.to_string().replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn networks_without_batches_are_refused_with_what_they_have() {
    let (dir, args) = scene();
    fs::write(&args.genesis, genesis_file(Rules::One)).unwrap();
    let error = refused(&dir, &args);
    let expected = "error: the network test is of rules 1, and batches need rules 2\n  rules are fixed when a network is made";
    assert!(error.starts_with(expected) && error.contains("`salus submit`"), "{error}");
}

#[test]
fn what_the_command_keeps_must_not_lie_in_what_it_anchors() {
    let (dir, args) = scene();
    let inside = dir.path().join("export/new/kept");
    for altered in [
        AnchorArgs { out: Some(inside.clone()), ..args.clone() },
        AnchorArgs { vault: inside.clone(), ..args.clone() },
        AnchorArgs { state: Some(inside), ..args.clone() },
        // By a roundabout way.
        AnchorArgs { out: Some(dir.path().join("export/../export/kept")), ..args.clone() },
    ] {
        let error = refused(&dir, &altered);
        assert!(error.contains("lies in DIR/export, which is being anchored"), "{error}");
    }
    // Its key's numbers, kept beside the key by default.
    let error = refused(&dir, &AnchorArgs { paths: vec![dir.path().to_owned()], ..args.clone() });
    assert!(error.contains("which is being anchored"), "{error}");
}

#[test]
fn nothing_but_proofs_is_overwritten_and_nothing_is_not_anchored() {
    let (dir, args) = scene();
    let out = dir.path().join("export.proofs");
    assert_eq!(out_of(&args).unwrap(), out);
    fs::create_dir(&out).unwrap();
    Folder::at(out.clone()).unwrap();
    fs::write(out.join("manifest.json"), "mine").unwrap();
    let error = refused(&dir, &args);
    assert!(
        error.contains("DIR/export.proofs holds files that are no proofs\n  choose another folder"),
        "{error}"
    );
    fs::write(out.join("proofs.json"), "{\"format\":\"mine\"}").unwrap();
    assert!(refused(&dir, &args).contains("holds files that are no proofs"));
    fs::write(out.join("proofs.json"), "{\"format\":\"salus-proofs/1\",\"network\":").unwrap();
    Folder::at(out.clone()).unwrap();
    let error = Folder::at(dir.path().join("genesis.json")).err().unwrap().to_string();
    assert!(error.contains("cannot use"), "{error}");
    let nameless = AnchorArgs { paths: vec![PathBuf::from("..")], ..args.clone() };
    assert!(out_of(&nameless).unwrap_err().to_string().contains("say with --out DIR"));
    fs::remove_file(dir.path().join("export/a.json")).unwrap();
    assert!(refused(&dir, &args).contains("there are no files to anchor"));
}

/// The keys are kept before anybody is asked, and so are number and id of what is sent.
#[test]
fn keys_outlive_a_validator_that_is_not_reached() {
    let (_dir, args) = scene();
    let network = Genesis::decode(&fs::read(&args.genesis).unwrap()).unwrap().network();
    let error = run(&args, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("is the validator running"), "{error}");
    let vault = load_vault(&args.vault).unwrap();
    let path = args.paths[0].join("a.json").display().to_string();
    let facts = FileFacts { bytes: 2, algorithm: Algorithm::Blake3.into(), hash: blake3::hash(b"{}").into() };
    let held = vault.file(&FileName { network, path, facts }).unwrap();
    let entry = vault.batch(&held.batch).unwrap();
    assert_eq!((entry.seq, entry.count, entry.leaf, entry.transactions.len()), (Some(1), 1, None, 1));
    // Another key of the organisation must not take it over: each counts its own numbers.
    let other = AnchorArgs { key_id: 2, state: Some(args.vault.with_extension("state2")), ..args.clone() };
    let error = run(&other, &mut Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("was begun with key 1 of organisation 1") && error.contains("--key-id 1"),
        "{error}"
    );
    assert_eq!(load_vault(&args.vault).unwrap(), vault);
}
