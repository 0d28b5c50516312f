//! Submits each transaction when it is due, and takes the time until it is final.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rayon::prelude::*;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::CliError;
use crate::cli::network::{Endpoint, LocalNetwork, RecordMaker, clock};
use crate::gateway::EntropyError;
use crate::io::client_plane::SalusClient;
use crate::types::{ClientReply, NetworkId};

/// How to load.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    /// Transactions each second.
    pub rate: u32,
    /// Time of load.
    pub duration: Duration,
    /// Connections to each validator.
    pub connections: u16,
    /// How long after the load its last answers are waited for.
    pub answers_within: Duration,
}

impl OpenLoop {
    /// Number of transactions.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        u64::from(self.rate) * self.duration.as_secs()
    }

    /// Runs the load against all validators of a network.
    ///
    /// # Errors
    /// If a validator cannot be reached when it begins.
    #[expect(clippy::significant_drop_tightening, reason = "the clients move into their tasks")]
    pub async fn run(self, network: &LocalNetwork, transactions: Transactions) -> Result<Outcome, CliError> {
        let load = self;
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

    /// When a transaction is due, from the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(
            u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX),
        )
    }
}

/// Signed transactions, a share for each key.
#[derive(Debug)]
pub struct Transactions {
    shares: Vec<Vec<Bytes>>,
    count: u64,
}

impl Transactions {
    /// Signs `count` record anchors on all cores, each key its share in the order in which it is submitted. `each_key` is
    /// called when those of one key are signed. The keys go on where they were, so that there may be another load after this one.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub fn sign(
        makers: &mut [RecordMaker],
        count: u64,
        each_key: impl Fn() + Sync,
    ) -> Result<Self, CliError> {
        let now = clock()?;
        let each = count.div_ceil(makers.len().max(1) as u64);
        let signed: Result<Vec<Vec<_>>, EntropyError> = makers
            .par_iter_mut()
            .map(|maker| {
                let share = (0..each).map(|_| Ok(maker.record(now)?.bytes().clone())).collect();
                each_key();
                share
            })
            .collect();
        let shares = signed.map_err(|error| CliError::unable(error.to_string()))?;
        Ok(Self { shares, count })
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
pub struct Outcome {
    /// From the due moment to finality, of those that became final.
    pub latencies: Vec<Duration>,
    /// Of those, final before the load was over.
    pub in_time: u64,
    /// Refused as `Busy`.
    pub busy: u64,
    /// Refused or skipped for another reason.
    pub refused: u64,
    /// The first such reason.
    pub reason: Option<String>,
    /// Without a last answer.
    pub unanswered: u64,
    /// How far the client itself was behind, at most.
    pub lag: Duration,
}

impl Outcome {
    /// Number of final transactions.
    #[must_use]
    pub fn executed(&self) -> u64 {
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
        if tokio::time::timeout(self.load.answers_within, all).await.is_err() {
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
        let load = OpenLoop {
            rate: 3,
            duration: Duration::from_secs(2),
            connections: 1,
            answers_within: Duration::ZERO,
        };
        assert_eq!(load.transactions(), 6);
        assert_eq!(load.due(3), Duration::from_secs(1));
        let byte = |n: u8| Bytes::from(vec![n]);
        let shares = vec![vec![byte(0), byte(2), byte(4)], vec![byte(1), byte(3), byte(5)]];
        let transactions = Transactions { shares, count: 5 };
        let all: Vec<_> = (0..).map_while(|number| transactions.get(number)).collect();
        assert_eq!(all, (0..5).map(byte).collect::<Vec<_>>());
    }
}
