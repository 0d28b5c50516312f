//! How many client transactions a node holds between the socket and a block: decided where they come in, before anything is
//! spent on them.
//!
//! A transaction takes a [`Place`] when it is read and carries it through verification and the core's queue into the pool of the
//! node; what lies in the pool, the core says after each turn. Together they stay within `[mempool]`, so the pool has room for
//! whatever was verified. Without room the answer is `Busy`, at the price of reading the frame: no decoding, no signature, no queue.
//!
//! **Shares.** A client gets a place while it has less without an answer than is free (dynamic thresholds: Choudhury and Hahne,
//! 1998). One alone gets half of the pool, k greedy ones k parts of k + 1, and there is always something left for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::mempool::MempoolLimits;

/// An amount of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub(super) transactions: usize,
    pub(super) bytes: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Gate {
    most: Amount,
    /// With a place: between the socket and the core.
    waiting: Level,
    /// In the pool, as the core said last.
    pooled: Level,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Level {
    transactions: AtomicUsize,
    bytes: AtomicUsize,
}

impl Level {
    fn get(&self) -> Amount {
        Amount {
            transactions: self.transactions.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Acquire),
        }
    }

    /// Returns what it was before.
    fn add(&self, more: Amount) -> Amount {
        Amount {
            transactions: self.transactions.fetch_add(more.transactions, Ordering::AcqRel),
            bytes: self.bytes.fetch_add(more.bytes, Ordering::AcqRel),
        }
    }

    fn remove(&self, less: Amount) {
        self.transactions.fetch_sub(less.transactions, Ordering::AcqRel);
        self.bytes.fetch_sub(less.bytes, Ordering::AcqRel);
    }
}

/// Room for transactions, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    amount: Amount,
}

impl Place {
    /// Makes one of two.
    pub(super) fn join(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.gate, &other.gate), "one node has one gate");
        let more = std::mem::take(&mut other.amount);
        self.amount.transactions += more.transactions;
        self.amount.bytes += more.bytes;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.waiting.remove(self.amount);
    }
}

impl Gate {
    /// With the bounds of the pool.
    pub(super) fn new(pool: &MempoolLimits) -> Arc<Self> {
        Arc::new(Self {
            most: Amount { transactions: pool.transactions, bytes: pool.bytes },
            waiting: Level::default(),
            pooled: Level::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// A place for a transaction of a client that has `held` without an answer; `None` if there is no room for it.
    pub(super) fn enter(self: &Arc<Self>, held: Amount, bytes: usize) -> Option<Place> {
        let amount = Amount { transactions: 1, bytes };
        // In this order: what the core moves meanwhile from the one to the other is then counted twice rather than never.
        let before = self.waiting.add(amount);
        let pooled = self.pooled.get();
        let free = Amount {
            transactions: self.most.transactions.saturating_sub(before.transactions + pooled.transactions),
            bytes: self.most.bytes.saturating_sub(before.bytes + pooled.bytes),
        };
        // Made first, so that it is given back where it was not to be had.
        let place = Place { gate: Arc::clone(self), amount };
        let has_room =
            free.transactions > held.transactions && free.bytes >= bytes && free.bytes > held.bytes;
        if !has_room {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room.then_some(place)
    }

    /// What the pool holds now. To be said before the places of what went into it are given back: so nothing is overlooked.
    pub(super) fn pooled(&self, now: Amount) {
        self.pooled.transactions.store(now.transactions, Ordering::Release);
        self.pooled.bytes.store(now.bytes, Ordering::Release);
    }

    /// What has a place.
    pub(super) fn waiting(&self) -> Amount {
        self.waiting.get()
    }

    /// Transactions that found no room, since start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn gate(transactions: usize, bytes: usize) -> Arc<Gate> {
        Gate::new(&MempoolLimits { transactions, bytes, block_transactions: 1, block_bytes: 1 })
    }

    fn held(transactions: usize) -> Amount {
        Amount { transactions, bytes: 0 }
    }

    #[test]
    fn what_is_in_the_pool_counts_and_a_place_comes_back_once() {
        let gate = gate(4, 1_000);
        gate.pooled(Amount { transactions: 2, bytes: 500 });
        let mut first = gate.enter(held(0), 100).unwrap();
        assert!(gate.enter(held(0), 401).is_none(), "too large for what is left");
        let second = gate.enter(held(0), 400).unwrap();
        assert!(gate.enter(held(0), 1).is_none());
        first.join(second);
        assert_eq!(gate.waiting(), Amount { transactions: 2, bytes: 500 });
        drop(first);
        assert_eq!((gate.waiting(), gate.refused()), (Amount::default(), 2));
        gate.pooled(Amount { transactions: 9, bytes: 9_000 });
        assert!(gate.enter(held(0), 1).is_none(), "blocks that were lost went back into the pool");
    }

    #[test]
    fn greedy_clients_leave_room_for_the_next_one() {
        for greedy in 1..6 {
            let gate = gate(1_000, usize::MAX / 2);
            let mut places: Vec<Vec<Place>> = (0..greedy).map(|_| Vec::new()).collect();
            for _ in 0..1_000 {
                for of in &mut places {
                    of.extend(gate.enter(held(of.len()), 1));
                }
            }
            let share = 1_000 / (greedy + 1);
            assert!(places.iter().all(|of| of.len().abs_diff(share) <= greedy), "{greedy} share evenly");
            assert!(gate.enter(held(0), 1).is_some(), "and somebody who has nothing gets in");
        }
    }

    proptest! {
        /// Whatever is submitted, verified, pooled and taken into blocks, in any order: never more than the bounds, and all comes back.
        #[test]
        fn places_and_pool_stay_within_the_bounds(steps in prop::collection::vec((0_u8..4, 1_usize..300), 1..400)) {
            let gate = gate(20, 2_000);
            let (mut on_their_way, mut pool) = (VecDeque::new(), VecDeque::new());
            let sum = |pool: &VecDeque<usize>| Amount { transactions: pool.len(), bytes: pool.iter().sum() };
            for (step, bytes) in steps {
                match step {
                    0 | 1 => on_their_way.extend(gate.enter(held(on_their_way.len() / 4), bytes).map(|place| (place, bytes))),
                    2 => if let Some((place, bytes)) = on_their_way.pop_front() {
                        pool.push_back(bytes);
                        gate.pooled(sum(&pool));
                        drop(place);
                    },
                    _ => {
                        pool.pop_front();
                        gate.pooled(sum(&pool));
                    }
                }
                let (waiting, pooled) = (gate.waiting(), sum(&pool));
                prop_assert_eq!(waiting.transactions, on_their_way.len());
                prop_assert!(waiting.transactions + pooled.transactions <= 20);
                prop_assert!(waiting.bytes + pooled.bytes <= 2_000);
            }
            on_their_way.clear();
            prop_assert_eq!(gate.waiting(), Amount::default());
        }
    }

    #[test]
    fn threads_never_get_more_than_there_is() {
        let gate = gate(64, usize::MAX / 2);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || {
                    let mut most = 0;
                    for _ in 0..2_000 {
                        let places: Vec<_> = std::iter::from_fn(|| gate.enter(held(0), 1)).take(64).collect();
                        most = most.max(places.len());
                    }
                    most
                })
            })
            .collect();
        let most = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
        assert!(0 < most && most <= 64);
        assert_eq!(gate.waiting(), Amount::default());
    }
}
