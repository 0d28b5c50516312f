#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A program in the place of `salus`: a script.
fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn options(dir: &Path, validators: u16, program: PathBuf) -> NetworkOptions {
    NetworkOptions { dir: dir.join("network"), validators, program, own_group: false }
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn what_was_made_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let program = PathBuf::from("salus");
    let made = LocalNetwork::create(&options(dir.path(), 5, program.clone())).unwrap();
    assert_eq!(made.genesis().committee().size(), 5);
    assert_eq!(made.genesis().parameters().leaders_per_round, 4);
    let read = LocalNetwork::open(made.dir(), &program).unwrap();
    assert_eq!(read.genesis(), made.genesis());
    for index in 0..5 {
        assert_eq!(read.endpoint(index), made.endpoint(index));
        let keys_dir = made.dir().join(&made.endpoint(index).name).join("keys");
        let keys = NodeKeys::load(&keys_dir).unwrap();
        let index = crate::types::AuthorityIndex::from_usize(index);
        keys.check(made.genesis().committee().authority(index), &keys_dir).unwrap();
    }
    let public = |network: &LocalNetwork| -> Vec<_> {
        network.governors(1).iter().map(|root| (root.org(), root.secret().public())).collect()
    };
    assert_eq!(public(&read), public(&made));
    let entries: Vec<_> = made.genesis().members().map(|(org, member)| (org, member.root_key.0)).collect();
    assert_eq!(public(&made), entries);

    let error = LocalNetwork::create(&options(dir.path(), 1, program)).unwrap_err().to_string();
    assert!(error.contains("network is not empty") && error.contains("\n  choose a folder"), "{error}");
}

#[test]
fn dropping_ends_every_process_even_one_that_does_not_listen() {
    let dir = tempfile::tempdir().unwrap();
    let script = "case $3 in *validator-2*) trap '' TERM;; esac; while :; do sleep 0.05; done";
    let mut network = LocalNetwork::create(&options(dir.path(), 2, program(dir.path(), script))).unwrap();
    network.start_all().unwrap();
    let pids: Vec<_> = (0..2).map(|index| network.pid(index).unwrap()).collect();
    assert!(pids.iter().all(|pid| is_there(*pid)));
    network.kill(1);
    assert!(!is_there(pids[1]) && network.pid(1).is_none());
    network.start(1).unwrap();
    let again = network.pid(1).unwrap();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _network = network;
        panic!("the demo fails");
    }));
    assert!(unwound.is_err());
    assert!(!is_there(pids[0]) && !is_there(again));
}

#[tokio::test]
async fn a_validator_that_ends_at_once_is_reported_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo 'error: no such luck' >&2; exit 2";
    let mut network = LocalNetwork::create(&options(dir.path(), 1, program(dir.path(), script))).unwrap();
    network.start(0).unwrap();
    let error = network.wait_ready(0, Duration::from_secs(10)).await.unwrap_err().to_string();
    assert!(error.contains("validator-1 has ended, exit status: 2\n    error: no such luck"), "{error}");
}

#[tokio::test]
async fn stopping_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'exit 7' TERM; : > \"$(dirname \"$3\")/trapped\"; while :; do sleep 0.05; done";
    let mut network = LocalNetwork::create(&options(dir.path(), 1, program(dir.path(), script))).unwrap();
    network.start(0).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !network.dir().join("validator-1/trapped").exists() {
        assert!(Instant::now() < until, "the script does not run");
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(network.stop(0).await.unwrap().code(), Some(7));
    assert_eq!(network.stop(0).await, None);
}

/// State of a process: R and S run, T stands still (proc(5)).
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn one_that_is_frozen_stands_still_until_it_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let script = "while :; do sleep 0.05; done";
    let mut network = LocalNetwork::create(&options(dir.path(), 2, program(dir.path(), script))).unwrap();
    assert!(network.freeze(0).is_none(), "it does not run");
    network.start_all().unwrap();
    let pids = [0, 1].map(|index| network.pid(index).unwrap());
    let until_still = |still: bool| {
        let until = Instant::now() + Duration::from_secs(10);
        while (state(pids[0]) == 'T') != still {
            assert!(Instant::now() < until, "still: {still}");
            std::thread::sleep(POLL);
        }
    };
    let frozen = network.freeze(0).unwrap();
    until_still(true);
    assert_ne!(state(pids[1]), 'T');
    drop(frozen);
    until_still(false);
}

#[test]
fn logs_of_one_size_must_have_one_root() {
    let status = |name: &str, tree_size, root: &str| NodeStatus {
        validator: name.to_owned(),
        commit: 1,
        tree_size,
        root: root.to_owned(),
        state_root: String::new(),
        checkpoint_size: 0,
    };
    let equal = [status("a", 5, "x"), status("b", 5, "x")];
    assert_eq!(agreement(&equal, 5).unwrap().root, "x");
    assert!(matches!(agreement(&equal, 6), Err(Disagreement::NotYet(_))));
    let behind = [status("a", 5, "x"), status("b", 4, "w")];
    assert!(matches!(agreement(&behind, 4), Err(Disagreement::NotYet(_))));
    let fork = [status("a", 5, "x"), status("b", 4, "w"), status("c", 5, "y")];
    let expected = "at 5 leaves a has root x and c has root y";
    assert_eq!(agreement(&fork, 4), Err(Disagreement::Fork(expected.to_owned())));
    assert!(matches!(agreement(&[], 0), Err(Disagreement::NotYet(_))));
}
