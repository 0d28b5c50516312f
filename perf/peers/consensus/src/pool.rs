//! A validator's transactions: those that wait, those in blocks of its own that are not final, and what all final ones amount to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use commonware_cryptography::blake3::Digest;

use crate::block::{Block, Frames, PREFIX, number};

/// Where answers to a client go: numbers of transactions, and whether they are final (else refused).
pub type Answers = std::sync::mpsc::Sender<(Vec<u64>, bool)>;

struct Waiting {
    client: usize,
    /// With its length before it.
    frame: Bytes,
}

/// A block that this validator has made. Neither final nor lost yet.
struct Own {
    digest: Digest,
    transactions: Vec<Waiting>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    clients: Vec<Answers>,
    /// By height. A height may have several if a proposal was given up.
    own: BTreeMap<u64, Vec<Own>>,
    tally: Tally,
}

/// What a validator has seen final.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub height: u64,
    pub blocks_with_transactions: u64,
    pub transactions: u64,
    /// Hash over all final transactions in their order: equal on all validators.
    pub chain: [u8; 32],
}

#[derive(Clone)]
pub struct Pool {
    state: Arc<Mutex<State>>,
    most_bytes: usize,
}

impl Pool {
    pub fn new(most_bytes: usize) -> Self {
        Self { state: Arc::default(), most_bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn client(&self, answers: Answers) -> usize {
        let mut state = self.state();
        state.clients.push(answers);
        state.clients.len() - 1
    }

    /// Takes in frames of a client. What there is no room for is refused.
    pub fn push(&self, client: usize, frames: impl Iterator<Item = Bytes>) {
        let mut state = self.state();
        let mut refused = Vec::new();
        for frame in frames {
            if state.bytes + frame.len() > self.most_bytes {
                refused.push(number(&frame[PREFIX..]));
                continue;
            }
            state.bytes += frame.len();
            state.waiting.push_back(Waiting { client, frame });
        }
        if !refused.is_empty() {
            state.answer(client, refused, false);
        }
    }

    /// A block on `parent` with what waits, up to `most` bytes; `digest` hashes it.
    pub fn propose(&self, parent: Digest, height: u64, most: usize, digest: impl Fn(&Block) -> Digest) -> (Block, Digest) {
        let mut state = self.state();
        let mut len = 0;
        let mut transactions = Vec::new();
        while state.waiting.front().is_some_and(|next| len + next.frame.len() <= most) {
            let Some(next) = state.waiting.pop_front() else { break };
            len += next.frame.len();
            transactions.push(next);
        }
        let mut payload = Vec::with_capacity(len);
        transactions.iter().for_each(|next| payload.extend_from_slice(&next.frame));
        let block = Block { parent, height: commonware_consensus::types::Height::new(height), payload: payload.into() };
        drop(state);
        let digest = digest(&block);
        self.state().own.entry(height).or_default().push(Own { digest, transactions });
        (block, digest)
    }

    /// Has seen the final block of a height: answers for its own, and takes back what was in one that lost.
    pub fn is_final(&self, block: &Block, digest: Digest) {
        let height = block.height.get();
        let mut state = self.state();
        if height > 0 && height <= state.tally.height {
            return;
        }
        let count = Frames(&block.payload).count() as u64;
        let tally = &mut state.tally;
        tally.height = height;
        if count > 0 {
            tally.transactions += count;
            tally.blocks_with_transactions += 1;
            tally.chain = *blake3::Hasher::new().update(&tally.chain).update(&block.payload).finalize().as_bytes();
        }
        while let Some(entry) = state.own.first_entry() {
            if *entry.key() > height {
                break;
            }
            for own in entry.remove() {
                if own.digest == digest {
                    state.settle(own.transactions);
                } else {
                    own.transactions.into_iter().rev().for_each(|next| state.waiting.push_front(next));
                }
            }
        }
    }

    pub fn tally(&self) -> Tally {
        self.state().tally
    }
}

impl State {
    fn answer(&self, client: usize, numbers: Vec<u64>, is_final: bool) {
        // A client that is gone wants no answer.
        if let Some(client) = self.clients.get(client) {
            let _ = client.send((numbers, is_final));
        }
    }

    fn settle(&mut self, transactions: Vec<Waiting>) {
        let mut numbers = vec![Vec::new(); self.clients.len()];
        for next in transactions {
            self.bytes -= next.frame.len();
            numbers[next.client].push(number(&next.frame[PREFIX..]));
        }
        for (client, numbers) in numbers.into_iter().enumerate().filter(|(_, numbers)| !numbers.is_empty()) {
            self.answer(client, numbers, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::Digestible;

    fn frame(number: u64) -> Bytes {
        let mut bytes = 12u16.to_le_bytes().to_vec();
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[1; 4]);
        bytes.into()
    }

    #[test]
    fn own_blocks_are_answered_for_and_lost_ones_proposed_again() {
        let pool = Pool::new(4 * 14);
        let (sender, answers) = std::sync::mpsc::channel();
        let client = pool.client(sender);
        pool.push(client, (0..5).map(frame));
        assert_eq!(answers.try_recv().unwrap(), (vec![4], false), "no room for the fifth");
        let genesis = Block::genesis().digest();
        let (lost, _) = pool.propose(genesis, 1, 3 * 14, Block::digest);
        assert_eq!(Frames(&lost.payload).count(), 3);
        let other = Block { payload: frame(77), ..lost.clone() };
        pool.is_final(&other, other.digest());
        assert!(answers.try_recv().is_err());
        let (won, digest) = pool.propose(other.digest(), 2, 1_000, Block::digest);
        assert_eq!(Frames(&won.payload).map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        pool.is_final(&won, digest);
        assert_eq!(answers.try_recv().unwrap(), (vec![0, 1, 2, 3], true));
        assert_eq!((pool.tally().height, pool.tally().transactions), (2, 5));
        // Marshal may deliver again.
        pool.is_final(&won, digest);
        assert_eq!(pool.tally().transactions, 5);
        pool.push(client, (0..4).map(frame));
        assert!(answers.try_recv().is_err(), "there is room again");
    }
}
