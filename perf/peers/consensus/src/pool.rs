//! A validator's transactions: those that wait for a block of its own, those in such blocks that are not final, those that its
//! clients wait for, and what all final ones amount to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use commonware_consensus::types::Height;
use commonware_cryptography::blake3::Digest;

use crate::block::{Block, Frames, PREFIX, number};

/// Where answers to a client go: numbers of transactions, and whether they are final (else refused).
pub type Answers = std::sync::mpsc::Sender<(Vec<u64>, bool)>;

/// A block that this validator has made. Neither final nor lost yet.
struct Own {
    digest: Digest,
    frames: Vec<Bytes>,
}

#[derive(Default)]
struct State {
    /// Each with its length before it.
    waiting: VecDeque<Bytes>,
    /// Who waits for it.
    asked: HashMap<u64, usize>,
    /// Bytes of those that clients wait for.
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

    /// Those of a client's frames for which there is room, and that it will be answered for; others are refused.
    pub fn admit(&self, client: usize, frames: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
        let mut state = self.state();
        let (mut admitted, mut refused) = (Vec::new(), Vec::new());
        for frame in frames {
            let number = number(&frame[PREFIX..]);
            if state.bytes + frame.len() > self.most_bytes {
                refused.push(number);
                continue;
            }
            state.bytes += frame.len();
            state.asked.insert(number, client);
            admitted.push(frame);
        }
        if !refused.is_empty() {
            state.answer(client, refused, false);
        }
        admitted
    }

    /// Takes in what this validator is to propose.
    pub fn push(&self, frames: impl IntoIterator<Item = Bytes>) {
        self.state().waiting.extend(frames);
    }

    /// A block on `parent` with what waits, up to `most` bytes.
    pub fn propose(
        &self,
        parent: Digest,
        height: u64,
        most: usize,
        digest: impl Fn(&Block) -> Digest,
    ) -> (Block, Digest) {
        let mut state = self.state();
        let mut len = 0;
        let mut frames = Vec::new();
        while let Some(next) = state.waiting.pop_front_if(|next| len + next.len() <= most) {
            len += next.len();
            frames.push(next);
        }
        drop(state);
        let mut payload = Vec::with_capacity(len);
        frames.iter().for_each(|frame| payload.extend_from_slice(frame));
        let block = Block { parent, height: Height::new(height), payload: payload.into() };
        let digest = digest(&block);
        self.state().own.entry(height).or_default().push(Own { digest, frames });
        (block, digest)
    }

    /// Has seen the final block of a height: answers for it, and takes back what was in an own one that lost.
    pub fn is_final(&self, block: &Block, digest: Digest) {
        let height = block.height.get();
        let mut state = self.state();
        if height > 0 && height <= state.tally.height {
            return;
        }
        state.tally.height = height;
        if !block.payload.is_empty() {
            let count = state.settle(&block.payload);
            let tally = &mut state.tally;
            tally.transactions += count;
            tally.blocks_with_transactions += 1;
            tally.chain =
                *blake3::Hasher::new().update(&tally.chain).update(&block.payload).finalize().as_bytes();
        }
        while let Some(entry) = state.own.first_entry() {
            if *entry.key() > height {
                break;
            }
            for own in entry.remove().into_iter().filter(|own| own.digest != digest) {
                own.frames.into_iter().rev().for_each(|frame| state.waiting.push_front(frame));
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

    /// Answers for all that own clients wait for, and counts all.
    fn settle(&mut self, payload: &[u8]) -> u64 {
        let mut count = 0;
        let mut numbers = vec![Vec::new(); self.clients.len()];
        for transaction in Frames(payload) {
            count += 1;
            let number = number(transaction);
            if let Some(client) = self.asked.remove(&number) {
                self.bytes -= PREFIX + transaction.len();
                numbers[client].push(number);
            }
        }
        for (client, numbers) in numbers.into_iter().enumerate().filter(|(_, numbers)| !numbers.is_empty()) {
            self.answer(client, numbers, true);
        }
        count
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
    fn clients_are_answered_and_what_is_in_lost_blocks_is_proposed_again() {
        let pool = Pool::new(4 * 14);
        let (sender, answers) = std::sync::mpsc::channel();
        let client = pool.client(sender);
        pool.push(pool.admit(client, (0..5).map(frame)));
        assert_eq!(answers.try_recv().unwrap(), (vec![4], false), "no room for the fifth");
        let genesis = Block::genesis().digest();
        let (lost, _) = pool.propose(genesis, 1, 3 * 14, Block::digest);
        assert_eq!(Frames(&lost.payload).count(), 3);
        let other = Block { payload: frame(77), ..lost.clone() };
        pool.is_final(&other, other.digest());
        assert!(answers.try_recv().is_err(), "not its own client's");
        let (won, digest) = pool.propose(other.digest(), 2, 1_000, Block::digest);
        assert_eq!(Frames(&won.payload).map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        pool.is_final(&won, digest);
        assert_eq!(answers.try_recv().unwrap(), (vec![0, 1, 2, 3], true));
        assert_eq!((pool.tally().height, pool.tally().transactions), (2, 5));
        // Marshal may deliver again.
        pool.is_final(&won, digest);
        assert_eq!(pool.tally().transactions, 5);
        assert_eq!(pool.admit(client, (0..4).map(frame)).len(), 4, "there is room again");
    }

    #[test]
    fn what_another_validator_proposes_is_answered_for() {
        let (here, there) = (Pool::new(1_000), Pool::new(1_000));
        let (sender, answers) = std::sync::mpsc::channel();
        there.push(here.admit(here.client(sender), [frame(9)].into_iter()));
        let (block, digest) = there.propose(Block::genesis().digest(), 1, 1_000, Block::digest);
        here.is_final(&block, digest);
        assert_eq!(answers.try_recv().unwrap(), (vec![9], true));
    }
}
