//! Validators that were away for long, hang, or exist twice.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Rounds that a validator is away for: far more than memory holds.
const ROUNDS_AWAY: u64 = 2_000;

/// Rounds follow each other as fast as they can.
fn quick(toml: &mut String) {
    let slow = toml.lines().find(|line| line.starts_with("beat_ms")).unwrap().to_owned();
    *toml = toml.replace(&slow, "beat_ms = 3");
}

fn signal(network: &mut LocalNetwork, index: usize, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(network.pid(index).unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Some of many: asking four validators for each of thousands would take longer than the load did.
fn some_of(acknowledged: &Acknowledged) -> Acknowledged {
    let step = acknowledged.len().div_ceil(200).max(1);
    acknowledged.iter().step_by(step).map(|(id, leaf)| (*id, *leaf)).collect()
}

/// Kills a validator and lets the others go on without it.
async fn leave_behind(network: &mut LocalNetwork, index: usize, rounds: u64) {
    network.kill(index);
    let round = metric(network, 0, "salus_round").await;
    // In steps, each with a bound of its own.
    for step in 1..=4 {
        until_metric(network, 0, "salus_round", round + rounds * step / 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_for_thousands_of_rounds_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start_with(dir.path(), quick).await;
    let load = Load::start(&network).await;
    load.wait_for_more(100).await;
    leave_behind(&mut network, 3, ROUNDS_AWAY).await;
    let commit = metric(&network, 0, "salus_executed_commit").await;
    network.start(3).unwrap();
    until_metric(&network, 3, "salus_executed_commit", commit).await;
    // By the certificates of its peers, and not by deciding again what they had decided.
    assert!(metric(&network, 3, "salus_commits_applied").await > ROUNDS_AWAY / 2);
    load.wait_for_more(2 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    assert_nothing_is_missing(&network, &some_of(&acknowledged)).await;
    for index in 0..4 {
        assert_eq!(metric(&network, index, "salus_equivocations").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catching_up_ends_though_a_peer_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start_with(dir.path(), quick).await;
    let load = Load::start(&network).await;
    load.wait_for_more(100).await;
    leave_behind(&mut network, 3, ROUNDS_AWAY / 4).await;
    // It hangs with open connections: whoever asks it waits in vain. The network needs the one that comes back.
    signal(&mut network, 2, Signal::STOP);
    network.start(3).unwrap();
    let commit = metric(&network, 0, "salus_commit").await;
    until_metric(&network, 3, "salus_executed_commit", commit).await;
    load.wait_for_more(2 * WINDOW).await;
    signal(&mut network, 2, Signal::CONT);
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    assert_nothing_is_missing(&network, &some_of(&acknowledged)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lost_its_data_folder_rejoins_and_signs_no_round_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start_with(dir.path(), quick).await;
    let load = Load::start(&network).await;
    load.wait_for_more(100).await;
    network.kill(3);
    let signed = metric(&network, 0, "salus_quorum_round").await;
    std::fs::remove_dir_all(network.data_dir(3)).unwrap();
    network.start(3).unwrap();
    // It signs again, above all that it may have signed before.
    until_metric(&network, 3, "salus_round", signed + 20).await;
    let commit = metric(&network, 0, "salus_executed_commit").await;
    until_metric(&network, 3, "salus_executed_commit", commit).await;
    load.wait_for_more(2 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    assert_nothing_is_missing(&network, &some_of(&acknowledged)).await;
    for index in 0..4 {
        assert_eq!(metric(&network, index, "salus_equivocations").await, 0);
    }
    assert!(network.stop(3).await.is_some_and(|status| status.success()));
    let check = Command::new(SALUS).args(["log", "check"]).arg(network.data_dir(3)).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

/// A second process with the keys of a validator, and a data folder of its own.
struct Twin(Child);

impl Twin {
    fn start(network: &LocalNetwork, index: usize) -> Self {
        let original = network.data_dir(index).parent().unwrap().to_owned();
        let folder: PathBuf = network.dir().join("twin");
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        for entry in std::fs::read_dir(original.join("keys")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.join("keys").join(entry.file_name())).unwrap();
        }
        let toml = std::fs::read_to_string(original.join("node.toml")).unwrap();
        let anywhere = |line: &str| match line.split_once(" = \"127.0.0.1:") {
            Some((key @ ("peers" | "clients" | "http"), _)) => format!("{key} = \"127.0.0.1:0\"\n"),
            _ => format!("{line}\n"),
        };
        let config = folder.join("node.toml");
        std::fs::write(&config, toml.lines().map(anywhere).collect::<String>()).unwrap();
        let mut command = Command::new(SALUS);
        command.args(["node", "--config"]).arg(&config).stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_runs_twice_is_seen_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let options = NetworkOptions {
        dir: dir.path().join("network"),
        validators: 4,
        program: SALUS.into(),
        own_group: false,
    };
    let mut network = LocalNetwork::create(&options).unwrap();
    // Of the first one, which dials all others: both dial them, and turn by turn each of the two is heard.
    let _twin = Twin::start(&network, 0);
    network.start_all().unwrap();
    for index in 1..4 {
        network.wait_ready(index, WITHIN).await.unwrap();
    }
    for index in 1..4 {
        until_metric(&network, index, "salus_equivocator{validator=\"validator-1\"}", 1).await;
        let status = network.api().get(&network.endpoint(index).http, "/v1/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
        let equivocator = &status["equivocators"][0];
        assert_eq!(equivocator["name"], "validator-1", "{status}");
    }
    let commit = metric(&network, 1, "salus_executed_commit").await;
    for index in 1..4 {
        until_metric(&network, index, "salus_executed_commit", commit + 20).await;
    }
    let statuses = [1, 2, 3].map(|index| network.endpoint(index).http.clone());
    let mut roots = Vec::new();
    for http in &statuses {
        let status = network.api().status(http).await.unwrap();
        roots.push((status.tree_size, status.root, status.state_root));
    }
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
}
