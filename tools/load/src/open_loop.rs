//! Submits each transaction when it is due, and takes the time until it is final.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use salus::cli::CliError;
use salus::cli::network::{Endpoint, LocalNetwork};
use salus::io::client_plane::SalusClient;
use salus::types::{ClientReply, NetworkId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long after the load its last answers are waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How to load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenLoop {
    /// Transactions each second.
    pub(crate) rate: u32,
    /// Time of load.
    pub(crate) duration: Duration,
    /// Connections to each validator.
    pub(crate) connections: u16,
}

impl OpenLoop {
    /// Number of transactions.
    pub(crate) fn transactions(&self) -> u64 {
        u64::from(self.rate) * self.duration.as_secs()
    }

    /// When a transaction is due, from the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(
            u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX),
        )
    }
}

/// Signed transactions, a share for each key.
#[derive(Debug)]
pub(crate) struct Transactions {
    shares: Vec<Vec<Bytes>>,
    count: u64,
}

impl Transactions {
    pub(crate) fn new(shares: Vec<Vec<Bytes>>, count: u64) -> Self {
        Self { shares, count }
    }

    /// Round robin over the keys.
    fn get(&self, number: u64) -> Option<Bytes> {
        let keys = self.shares.len() as u64;
        let share = self.shares.get(usize::try_from(number % keys).ok()?)?;
        share.get(usize::try_from(number / keys).ok()?).filter(|_| number < self.count).cloned()
    }
}

/// What became of the load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the due moment to finality, of those that became final.
    pub(crate) latencies: Vec<Duration>,
    /// Of those, final before the load was over.
    pub(crate) in_time: u64,
    /// Refused as `Busy`.
    pub(crate) busy: u64,
    /// Refused or skipped for another reason.
    pub(crate) refused: u64,
    /// The first such reason.
    pub(crate) reason: Option<String>,
    /// Without a last answer.
    pub(crate) unanswered: u64,
    /// How far the client itself was behind, at most.
    pub(crate) lag: Duration,
}

impl Outcome {
    /// Number of final transactions.
    pub(crate) fn executed(&self) -> u64 {
        self.latencies.len() as u64
    }
}

/// End of one transaction.
enum Ended {
    Final { after: Duration, in_time: bool },
    Busy,
    Refused(String),
    Unanswered,
}

enum Event {
    Ended(Ended),
    Lag(Duration),
}

/// Runs the load against all validators of a network.
#[expect(clippy::significant_drop_tightening, reason = "the clients move into their tasks")]
pub(crate) async fn run(
    network: &LocalNetwork,
    load: OpenLoop,
    transactions: Transactions,
) -> Result<Outcome, CliError> {
    let mut clients = Vec::new();
    // One connection to each validator, then the second ones: neighbours in time go to different validators.
    for _ in 0..load.connections {
        for index in 0..network.size() {
            clients.push(connect(network.endpoint(index), network.genesis().network()).await?);
        }
    }
    let (transactions, senders) = (Arc::new(transactions), clients.len() as u64);
    let (events, mut ended) = mpsc::unbounded_channel();
    let start = Instant::now() + Duration::from_millis(100);
    let mut tasks = JoinSet::new();
    for (first, client) in (0..).zip(clients) {
        let sender = Sender { load, start, transactions: transactions.clone(), events: events.clone() };
        tasks.spawn(sender.run(client, first, senders));
    }
    drop(events);
    let mut outcome =
        Outcome { latencies: Vec::with_capacity(memory_for(load.transactions())), ..Outcome::default() };
    while let Some(event) = ended.recv().await {
        outcome.note(event);
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| CliError::unable(format!("a client has failed: {error}")))?;
    }
    Ok(outcome)
}

fn memory_for(transactions: u64) -> usize {
    usize::try_from(transactions).unwrap_or_default()
}

async fn connect(endpoint: &Endpoint, network: NetworkId) -> Result<Arc<SalusClient>, CliError> {
    let client = SalusClient::connect(endpoint.clients, endpoint.network_key, network).await;
    client.map(Arc::new).map_err(|error| CliError::unable(error.to_string()))
}

impl Outcome {
    fn note(&mut self, event: Event) {
        match event {
            Event::Ended(Ended::Final { after, in_time }) => {
                self.latencies.push(after);
                self.in_time += u64::from(in_time);
            }
            Event::Ended(Ended::Busy) => self.busy += 1,
            Event::Ended(Ended::Refused(reason)) => {
                self.refused += 1;
                self.reason.get_or_insert(reason);
            }
            Event::Ended(Ended::Unanswered) => self.unanswered += 1,
            Event::Lag(lag) => self.lag = self.lag.max(lag),
        }
    }
}

/// One connection's part of the load: every n-th transaction.
struct Sender {
    load: OpenLoop,
    start: Instant,
    transactions: Arc<Transactions>,
    events: mpsc::UnboundedSender<Event>,
}

impl Sender {
    async fn run(self, client: Arc<SalusClient>, first: u64, senders: u64) {
        let end = self.start + self.load.duration;
        let mut answers = JoinSet::new();
        let mut number = first;
        while let Some(transaction) = self.transactions.get(number) {
            let due = self.start + self.load.due(number);
            number += senders;
            tokio::time::sleep_until(due.into()).await;
            let _ = self.events.send(Event::Lag(due.elapsed()));
            let Ok(replies) = client.submit(transaction).await else {
                let _ = self.events.send(Event::Ended(Ended::Unanswered));
                continue;
            };
            let events = self.events.clone();
            answers.spawn(async move {
                let ended = match replies.last().await {
                    Some(reply) => judge(reply, due, end),
                    None => Ended::Unanswered,
                };
                let _ = events.send(Event::Ended(ended));
            });
            while answers.try_join_next().is_some() {}
        }
        let all = async { while answers.join_next().await.is_some() {} };
        if tokio::time::timeout(ANSWERS_WITHIN, all).await.is_err() {
            for _ in 0..answers.len() {
                let _ = self.events.send(Event::Ended(Ended::Unanswered));
            }
        }
        // The connection ends only now: replies come over it.
        drop(client);
    }
}

fn judge(reply: ClientReply, due: Instant, end: Instant) -> Ended {
    match reply {
        ClientReply::Executed { .. } | ClientReply::Duplicate { .. } => {
            Ended::Final { after: due.elapsed(), in_time: Instant::now() <= end }
        }
        ClientReply::Refused { code, .. } if code == "Busy" => Ended::Busy,
        ClientReply::Refused { code, message } => Ended::Refused(format!("{code}: {message}")),
        ClientReply::Skipped { reason } => Ended::Refused(format!("skipped for reason {reason}")),
        ClientReply::Accepted => Ended::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_is_due_once_and_in_order() {
        let load = OpenLoop { rate: 3, duration: Duration::from_secs(2), connections: 1 };
        assert_eq!(load.transactions(), 6);
        assert_eq!(load.due(3), Duration::from_secs(1));
        let byte = |n: u8| Bytes::from(vec![n]);
        let shares = vec![vec![byte(0), byte(2), byte(4)], vec![byte(1), byte(3), byte(5)]];
        let transactions = Transactions::new(shares, 5);
        let all: Vec<_> = (0..).map_while(|number| transactions.get(number)).collect();
        assert_eq!(all, (0..5).map(byte).collect::<Vec<_>>());
    }
}
