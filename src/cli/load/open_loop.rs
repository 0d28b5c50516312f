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
use crate::io::client_plane::{LastReply, SalusClient};
use crate::types::{ClientReply, NetworkId};

/// Answers that are noted at a time.
const ANSWERS_TOGETHER: usize = 1_024;

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
        let start = Instant::now() + Duration::from_millis(100);
        let mut tasks = JoinSet::new();
        for (first, client) in (0..).zip(clients) {
            let part = Part { load, start, transactions: transactions.clone(), first, senders };
            tasks.spawn(part.run(client));
        }
        let mut outcome =
            Outcome { latencies: Vec::with_capacity(memory_for(load.transactions())), ..Outcome::default() };
        while let Some(task) = tasks.join_next().await {
            outcome.add(task.map_err(|error| CliError::unable(format!("a client has failed: {error}")))?);
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

fn memory_for(transactions: u64) -> usize {
    usize::try_from(transactions).unwrap_or_default()
}

async fn connect(endpoint: &Endpoint, network: NetworkId) -> Result<Arc<SalusClient>, CliError> {
    let client = SalusClient::connect(endpoint.clients, endpoint.network_key, network).await;
    client.map(Arc::new).map_err(|error| CliError::unable(error.to_string()))
}

impl Outcome {
    /// Of a reply that came by `now`.
    fn note(&mut self, reply: ClientReply, due: Instant, now: Instant, end: Instant) {
        match reply {
            ClientReply::Executed { .. } | ClientReply::Duplicate { .. } => {
                self.latencies.push(now.saturating_duration_since(due));
                self.in_time += u64::from(now <= end);
            }
            ClientReply::Refused { code, .. } if code == "Busy" => self.busy += 1,
            ClientReply::Refused { code, message } => self.refuse(|| format!("{code}: {message}")),
            ClientReply::Skipped { reason } => self.refuse(|| format!("skipped for reason {reason}")),
            ClientReply::Accepted => self.unanswered += 1,
        }
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.refused += 1;
        self.reason.get_or_insert_with(reason);
    }

    /// Transactions that came to an end.
    fn ended(&self) -> u64 {
        self.executed() + self.busy + self.refused + self.unanswered
    }

    /// Adds what became of another part of the load.
    fn add(&mut self, mut other: Self) {
        self.latencies.append(&mut other.latencies);
        self.in_time += other.in_time;
        self.busy += other.busy;
        self.refused += other.refused;
        self.reason = self.reason.take().or(other.reason);
        self.unanswered += other.unanswered;
        self.lag = self.lag.max(other.lag);
    }
}

/// One connection's part of the load: every n-th transaction.
struct Part {
    load: OpenLoop,
    start: Instant,
    transactions: Arc<Transactions>,
    first: u64,
    senders: u64,
}

impl Part {
    fn due(&self, number: u64) -> Instant {
        self.start + self.load.due(number)
    }

    async fn run(self, client: Arc<SalusClient>) -> Outcome {
        let part = Arc::new(self);
        let (answers, mut answered) = mpsc::unbounded_channel();
        let mut sending = tokio::spawn(Arc::clone(&part).send(Arc::clone(&client), answers));
        let (end, mut outcome) = (part.start + part.load.duration, Outcome::default());
        let mut sent = None;
        let mut until = Instant::now();
        let mut together: Vec<LastReply> = Vec::new();
        loop {
            tokio::select! {
                biased;
                given = answered.recv_many(&mut together, ANSWERS_TOGETHER) => {
                    if given == 0 {
                        break;
                    }
                    let now = Instant::now();
                    together.drain(..).for_each(|last| outcome.note(last.reply, part.due(last.token), now, end));
                }
                done = &mut sending, if sent.is_none() => {
                    sent = Some(done.unwrap_or_default());
                    until = Instant::now() + part.load.answers_within;
                }
                () = tokio::time::sleep_until(until.into()), if sent.is_some() => break,
            }
        }
        drop(together);
        let (submitted, lag) = match sent {
            Some(sent) => sent,
            // All answers have come, so all was sent.
            None => sending.await.unwrap_or_default(),
        };
        outcome.unanswered += submitted.saturating_sub(outcome.ended());
        outcome.lag = lag;
        // The connection ends only now: replies come over it.
        drop(client);
        outcome
    }

    /// Sends each transaction when it is due: how many, and how far behind that was at most.
    async fn send(
        self: Arc<Self>,
        client: Arc<SalusClient>,
        answers: mpsc::UnboundedSender<LastReply>,
    ) -> (u64, Duration) {
        let (mut number, mut sent, mut lag) = (self.first, 0, Duration::ZERO);
        while let Some(transaction) = self.transactions.get(number) {
            let (due, mut now) = (self.due(number), Instant::now());
            if now < due {
                tokio::time::sleep_until(due.into()).await;
                now = Instant::now();
            }
            lag = lag.max(now.saturating_duration_since(due));
            // One that cannot be sent counts as not answered.
            let _ = client.submit_for(transaction, number, &answers).await;
            (number, sent) = (number + self.senders, sent + 1);
        }
        (sent, lag)
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
