//! Four validators, each a process, and what they are put through.

mod bench;
mod demo;
mod faults;
mod kill;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    start_with(dir, |_toml| {}).await
}

/// Four validators, with a change to the configuration of each.
async fn start_with(dir: &Path, change: impl Fn(&mut String)) -> LocalNetwork {
    let options =
        NetworkOptions { dir: dir.join("network"), validators: 4, program: SALUS.into(), own_group: false };
    let mut network = LocalNetwork::create(&options).unwrap();
    for index in 0..network.size() {
        let path = network.data_dir(index).with_file_name("node.toml");
        let mut toml = std::fs::read_to_string(&path).unwrap();
        change(&mut toml);
        std::fs::write(&path, toml).unwrap();
    }
    network.start_all().unwrap();
    network.wait_all_ready(WITHIN).await.unwrap();
    network
}

/// A figure of a validator, or 0 while it does not answer.
async fn metric(network: &LocalNetwork, index: usize, name: &str) -> u64 {
    let Ok(answer) = network.api().get(&network.endpoint(index).http, "/metrics").await else { return 0 };
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

/// Waits until a figure of a validator is at least `least`.
async fn until_metric(network: &LocalNetwork, index: usize, name: &str, least: u64) {
    let end = Instant::now() + WITHIN;
    loop {
        let value = metric(network, index, name).await;
        if value >= least {
            return;
        }
        let who = &network.endpoint(index).name;
        assert!(Instant::now() < end, "{name} of {who} is {value} after {} s, not {least}", WITHIN.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

/// What all validators say of themselves, for whoever has to find out why one is behind.
async fn figures(network: &LocalNetwork) -> String {
    let mut said = String::new();
    for index in 0..network.size() {
        let endpoint = network.endpoint(index);
        let answer = network.api().get(&endpoint.http, "/metrics").await;
        let text =
            answer.map_or_else(|why| why.to_string(), |answer| String::from_utf8_lossy(&answer.body).into());
        let figures: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let log = std::fs::read_to_string(network.log_path(index)).unwrap_or_default();
        let mut last: Vec<&str> = log.lines().rev().take(20).collect();
        last.reverse();
        said += &format!("{}:\n{}\n{}\n", endpoint.name, figures.join("\n"), last.join("\n"));
    }
    said
}

/// All validators agree on a log that holds at least what was acknowledged, each at a leaf of its own.
async fn assert_agreement(network: &LocalNetwork, acknowledged: &Acknowledged) {
    let leaves: std::collections::BTreeSet<_> = acknowledged.values().collect();
    assert_eq!(leaves.len(), acknowledged.len(), "two transactions have one leaf");
    let last = leaves.last().map_or(0, |leaf| leaf.0 + 1);
    let agreement = match network.wait_agreement(last, WITHIN).await {
        Ok(agreement) => agreement,
        Err(why) => panic!("{why}\n{}", figures(network).await),
    };
    assert!(agreement.size >= last);
}
