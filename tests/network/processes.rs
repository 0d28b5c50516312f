//! Four validators, each a process; loads and SIGKILL.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use salus::cli::network::{
    ClientPool, LocalNetwork, NetworkOptions, RecordMaker, TransactionView, clock, register_record_keys,
};
use salus::types::{LeafIndex, TxId};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

const SALUS: &str = env!("CARGO_BIN_EXE_salus");
/// Bound of every wait.
const WITHIN: Duration = Duration::from_secs(90);
/// Transactions on the way at once: enough to have some in every block, few enough to check each one afterwards.
const WINDOW: usize = 48;

type Acknowledged = BTreeMap<TxId, LeafIndex>;

/// Waits until `done`, and says what it waited for if that does not come.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + WITHIN;
    while !done() {
        assert!(Instant::now() < end, "waited {} s for {what}", WITHIN.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(dir: &Path) -> LocalNetwork {
    let options =
        NetworkOptions { dir: dir.join("network"), validators: 4, program: SALUS.into(), own_group: false };
    let mut network = LocalNetwork::create(&options).unwrap();
    network.start_all().unwrap();
    network.wait_all_ready(WITHIN).await.unwrap();
    network
}

/// Record anchors without end, spread over all validators.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    task: JoinHandle<()>,
}

impl Load {
    async fn start(network: &LocalNetwork) -> Self {
        let pool = network.pool();
        let makers = register_record_keys(network, &pool, 2).await.unwrap();
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let task = tokio::spawn(submit(pool, makers, Arc::clone(&stop), Arc::clone(&acknowledged)));
        Self { stop, acknowledged, task }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn so_far(&self) -> Acknowledged {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn wait_for_more(&self, more: usize) {
        let count = self.count() + more;
        until("more transactions to become final", || self.count() >= count || self.task.is_finished()).await;
        assert!(!self.task.is_finished(), "the load has failed");
    }

    /// Waits until all that was submitted is final.
    async fn finish(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(WITHIN, self.task).await.expect("the load does not end").unwrap();
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

async fn submit(
    pool: Arc<ClientPool>,
    mut makers: Vec<RecordMaker>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
) {
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut open = JoinSet::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let permit = window.clone().acquire_owned().await.unwrap();
        let index = number % makers.len();
        let transaction = makers[index].record(clock().unwrap()).unwrap();
        let (pool, acknowledged) = (pool.clone(), acknowledged.clone());
        open.spawn(async move {
            let done = pool.submit(&transaction, number, WITHIN).await;
            let id = transaction.id();
            let done = done.unwrap_or_else(|why| panic!("{id} is not final: {why}"));
            acknowledged.lock().unwrap().insert(id, done.leaf);
            drop(permit);
        });
        while let Some(ended) = open.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = open.join_next().await {
        ended.unwrap();
    }
}

/// Every validator has each of these transactions at its leaf, or gets it in bounded time.
async fn assert_nothing_is_missing(network: &LocalNetwork, acknowledged: &Acknowledged) {
    let end = Instant::now() + WITHIN;
    for index in 0..network.size() {
        let endpoint = network.endpoint(index);
        for (id, leaf) in acknowledged {
            loop {
                let view = network.api().transaction(&endpoint.http, *id).await;
                if let Ok(Some(TransactionView::Executed { leaf: found, .. })) = view {
                    assert_eq!(found, *leaf, "{id} moved on {}", endpoint.name);
                    break;
                }
                let waits = matches!(view, Ok(None | Some(TransactionView::Pending)) | Err(_));
                assert!(waits && Instant::now() < end, "{id} is missing on {}: {view:?}", endpoint.name);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// All validators agree on a log that holds at least what was acknowledged, each at a leaf of its own.
async fn assert_agreement(network: &LocalNetwork, acknowledged: &Acknowledged) {
    let leaves: std::collections::BTreeSet<_> = acknowledged.values().collect();
    assert_eq!(leaves.len(), acknowledged.len(), "two transactions have one leaf");
    let last = leaves.last().map_or(0, |leaf| leaf.0 + 1);
    let agreement = network.wait_agreement(last, WITHIN).await.unwrap();
    assert!(agreement.size >= last);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_go_on_without_the_fourth_and_it_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start(dir.path()).await;
    let load = Load::start(&network).await;
    load.wait_for_more(300).await;
    network.kill(3);
    let size = network.api().status(&network.endpoint(0).http).await.unwrap().tree_size;
    load.wait_for_more(10 * WINDOW).await;
    network.start(3).unwrap();
    network.wait_ready(3, WITHIN).await.unwrap();
    load.wait_for_more(5 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    let caught_up = network.api().status(&network.endpoint(3).http).await.unwrap();
    assert!(caught_up.tree_size > size, "the others went on while it was down");
    assert_nothing_is_missing(&network, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_missing_after_all_four_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start(dir.path()).await;
    let load = Load::start(&network).await;
    load.wait_for_more(400).await;
    for index in 0..4 {
        network.kill(index);
    }
    let before = load.so_far();
    assert!(before.len() >= 400);
    network.start_all().unwrap();
    network.wait_all_ready(WITHIN).await.unwrap();
    assert_nothing_is_missing(&network, &before).await;
    // What was on the way is submitted again, and more.
    load.wait_for_more(5 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    assert_nothing_is_missing(&network, &acknowledged).await;
    for index in 0..4 {
        let status = network.stop(index).await.expect("ends when it is asked to");
        assert!(status.success(), "{status}, see {}", network.log_path(index).display());
    }
}

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(SALUS);
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

/// Process ids that the demo printed.
fn processes(output: &str) -> Vec<u32> {
    output.lines().filter_map(|line| line.rsplit_once("  process ")?.1.parse().ok()).collect()
}

fn folder(output: &str) -> PathBuf {
    let line = output.lines().find(|line| line.starts_with("network ")).expect("names its folder");
    line.rsplit_once(", in ").unwrap().1.into()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn the_demo_makes_the_sample_final_and_proves_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("demo");
    let output = demo(&["--times", "1", "--dir", at.to_str().unwrap()]).output().unwrap();
    let (text, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{text}{errors}");
    for expected in [
        "final       430 transactions in ",
        "\nmissing     0: ",
        "\nroots       equal on all 4 validators at 430 leaves: ",
        "\n            holds: RECORD_ANCHOR of organisation ",
        "\naltered     one byte of the transaction: refused: the stub does not belong to the transaction",
        "\naltered     one letter of the resource: refused: the resource is not the one that was anchored",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let processes = processes(&text);
    assert_eq!(processes.len(), 4);
    assert!(!processes.into_iter().any(is_there), "the demo left a validator behind");

    let verify = |bundle: &str| {
        let mut command = Command::new(SALUS);
        command.arg("verify").arg(at.join(bundle)).arg("--genesis").arg(at.join("genesis.json"));
        command.output().unwrap().status.code()
    };
    assert_eq!((verify("proof.json"), verify("proof-altered.json")), (Some(0), Some(1)));
}

#[test]
fn a_demo_that_is_interrupted_ends_what_it_started() {
    let mut child =
        demo(&["--times", "10000"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    // Ends with the demo, should that fail before.
    for line in lines.by_ref() {
        text += &(line.unwrap() + "\n");
        if text.contains("\nstage 2") {
            break;
        }
    }
    let processes = processes(&text);
    assert_eq!(processes.len(), 4, "{text}");
    assert!(processes.iter().all(|pid| is_there(*pid)) && folder(&text).exists());
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{errors}");
    assert!(errors.starts_with("error: interrupted: "), "{errors}");
    assert!(!processes.into_iter().any(is_there) && !folder(&text).exists());
}

#[test]
fn a_demo_that_cannot_be_done_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("events.ndjson");
    std::fs::write(&stream, "{\"when\":\"2026-01-01T00:00:00Z\",\"tx\":\"NOTHING\",\"resource\":{}}\n")
        .unwrap();
    for (arguments, expected) in [
        (vec!["--data", stream.to_str().unwrap()], "events.ndjson: line 1: tx: "),
        (vec!["--dir", dir.path().to_str().unwrap()], "is not empty\n  choose a folder"),
        (vec!["--validators", "23"], "23 is not in 1..=22"),
    ] {
        let output = demo(&arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && errors.contains(expected), "{errors}");
    }
}
