//! Open-loop load: each transaction has its moment, whatever became of those before.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::block::PREFIX;
use crate::clients::answer;

/// Between the start of the threads and the first transaction.
const LEAD: Duration = Duration::from_millis(100);
/// How long after a load its last answers are waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// A client looks so often what is due.
const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
pub struct Load {
    pub rate: u64,
    pub seconds: u64,
    /// Bytes of each transaction.
    pub bytes: u16,
    /// Connections to each validator.
    pub connections: usize,
}

#[derive(Default)]
pub struct Outcome {
    /// From the moment a transaction was due until its validator said that it is final; ascending.
    pub latencies: Vec<Duration>,
    /// Of those, final before the load was over.
    pub in_time: u64,
    pub busy: u64,
    pub unanswered: u64,
    /// How far a client was behind, at most.
    pub lag: Duration,
    /// From the first transaction to the last answer.
    pub took: Duration,
}

impl Load {
    pub fn transactions(self) -> u64 {
        self.rate * self.seconds
    }

    fn due(self, number: u64) -> Duration {
        Duration::from_nanos(
            u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX),
        )
    }

    /// Runs it against validators that take clients on these ports.
    pub fn run(self, ports: &[u16]) -> io::Result<Outcome> {
        let mut streams = Vec::new();
        // One connection to each, then the second ones: neighbours in time go to different validators.
        for _ in 0..self.connections {
            for port in ports {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_nodelay(true)?;
                streams.push(stream);
            }
        }
        let senders = streams.len() as u64;
        // Made before the clock starts, as Salus's are signed before.
        let frames: Vec<Arc<Vec<u8>>> =
            (0..senders).map(|first| Arc::new(self.frames(first, senders))).collect();
        let start = Instant::now() + LEAD;
        let mut sending: Vec<JoinHandle<io::Result<Duration>>> = Vec::new();
        let mut reading: Vec<JoinHandle<Outcome>> = Vec::new();
        for ((first, stream), frames) in (0..).zip(streams).zip(frames) {
            let input = stream.try_clone()?;
            let count = self.transactions().saturating_sub(first).div_ceil(senders);
            reading.push(thread::spawn(move || self.read(input, count, start)));
            sending.push(thread::spawn(move || self.send(stream, &frames, first, senders, start)));
        }
        let mut outcome = Outcome::default();
        for sender in sending {
            outcome.lag = outcome.lag.max(sender.join().map_err(|_| io::Error::other("a client failed"))??);
        }
        for reader in reading {
            let part = reader.join().map_err(|_| io::Error::other("a client failed"))?;
            outcome.latencies.extend(part.latencies);
            outcome.in_time += part.in_time;
            outcome.busy += part.busy;
            outcome.unanswered += part.unanswered;
        }
        outcome.latencies.sort_unstable();
        outcome.took = start.elapsed();
        Ok(outcome)
    }

    /// All frames of one client, one after the other: filled so that they cannot be compressed.
    fn frames(self, first: u64, senders: u64) -> Vec<u8> {
        let count = self.transactions().saturating_sub(first).div_ceil(senders);
        let len = usize::from(self.bytes);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default() * (PREFIX + len)];
        blake3::Hasher::new().update(&first.to_le_bytes()).finalize_xof().fill(&mut bytes);
        for (frame, number) in
            bytes.chunks_exact_mut(PREFIX + len).zip((first..).step_by(usize::try_from(senders).unwrap_or(1)))
        {
            frame[..PREFIX].copy_from_slice(&self.bytes.to_le_bytes());
            frame[PREFIX..PREFIX + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Sends what is due; says how far it was behind, at most.
    fn send(
        self,
        mut stream: TcpStream,
        frames: &[u8],
        first: u64,
        senders: u64,
        start: Instant,
    ) -> io::Result<Duration> {
        let frame = PREFIX + usize::from(self.bytes);
        let mut lag = Duration::ZERO;
        let mut at = 0;
        let mut number = first;
        while at < frames.len() {
            let due = start + self.due(number);
            thread::sleep(due.saturating_duration_since(Instant::now()).max(TICK));
            let from = at;
            // What has come due in the meantime goes with it.
            while at < frames.len() && start + self.due(number) <= Instant::now() {
                at += frame;
                number += senders;
            }
            if at > from {
                lag = lag.max(due.elapsed());
                stream.write_all(&frames[from..at])?;
            }
        }
        Ok(lag)
    }

    fn read(self, mut stream: TcpStream, count: u64, start: Instant) -> Outcome {
        let end = start + Duration::from_secs(self.seconds);
        let mut outcome = Outcome::default();
        let mut left = count;
        while left > 0 {
            let patience = (end + ANSWERS_WITHIN).saturating_duration_since(Instant::now()).max(TICK);
            if stream.set_read_timeout(Some(patience)).is_err() {
                break;
            }
            let Ok(Some((numbers, is_final))) = answer(&mut stream) else { break };
            let now = Instant::now();
            left = left.saturating_sub(numbers.len() as u64);
            if is_final {
                outcome.in_time += if now <= end { numbers.len() as u64 } else { 0 };
                let after = |number| now.saturating_duration_since(start + self.due(number));
                outcome.latencies.extend(numbers.into_iter().map(after));
            } else {
                outcome.busy += numbers.len() as u64;
            }
        }
        outcome.unanswered = left;
        outcome
    }
}

impl Outcome {
    /// The value below or at which `per_mille` lie; zero of none.
    pub fn percentile(&self, per_mille: usize) -> Duration {
        let rank = (self.latencies.len() * per_mille).div_ceil(1_000).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Frames, number};

    #[test]
    fn each_transaction_is_due_once_and_made_once() {
        let load = Load { rate: 10, seconds: 1, bytes: 20, connections: 1 };
        let mut all: Vec<u64> =
            (0..4).flat_map(|first| Frames(&load.frames(first, 4)).map(number).collect::<Vec<_>>()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(load.due(5), Duration::from_millis(500));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let outcome =
            Outcome { latencies: (1..=200).map(Duration::from_millis).collect(), ..Outcome::default() };
        assert_eq!(outcome.percentile(500), Duration::from_millis(100));
        assert_eq!(outcome.percentile(990), Duration::from_millis(198));
        assert_eq!(Outcome::default().percentile(990), Duration::ZERO);
    }
}
