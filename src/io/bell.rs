//! Waking a thread that sleeps, and nothing else: no lock, and a system call only if the thread does sleep.
//!
//! A channel's blocking receive spins and yields before it sleeps, and wakes one receiver for each message. Threads here
//! take what there is from queues that never block, and sleep on a bell when there is nothing: a busy thread is fed
//! without a system call, an idle one costs nothing, and the core can ring without ever waiting.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// What a number of threads sleep on, each in a seat of its own.
#[derive(Debug)]
pub(super) struct Bell {
    seats: Vec<Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Bell {
    /// For `seats` threads.
    pub(super) fn new(seats: usize) -> Self {
        Self { seats: (0..seats).map(|_| Seat::default()).collect() }
    }

    /// Wakes one thread that sleeps, if any does. To be called after work was made visible: whoever is awake looks for work
    /// again before it sleeps.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        for seat in &self.seats {
            if seat.wake() {
                return;
            }
        }
    }

    /// Wakes all threads that sleep.
    pub(super) fn ring_all(&self) {
        fence(Ordering::SeqCst);
        for seat in &self.seats {
            seat.wake();
        }
    }

    /// Sleeps in a seat until the bell rings or the time is over, unless `is_work` finds something to do. May wake without a
    /// reason. A seat belongs to the thread that first sleeps in it.
    pub(super) fn sleep(&self, seat: usize, most: Option<Duration>, is_work: impl FnOnce() -> bool) {
        let seat = &self.seats[seat];
        let owner = seat.thread.get_or_init(std::thread::current);
        debug_assert_eq!(owner.id(), std::thread::current().id(), "a seat has one sleeper");
        seat.asleep.store(true, Ordering::SeqCst);
        // Pairs with the fence of whoever rings: either it sees this thread asleep, or this thread sees its work.
        fence(Ordering::SeqCst);
        if !is_work() {
            match most {
                Some(most) => std::thread::park_timeout(most),
                None => std::thread::park(),
            }
        }
        seat.asleep.store(false, Ordering::Relaxed);
    }
}

impl Seat {
    fn wake(&self) -> bool {
        let sleeps = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel);
        if sleeps && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        sleeps
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn no_ring_is_lost() {
        const ROUNDS: u64 = 20_000;
        let (bell, count) = (Arc::new(Bell::new(2)), Arc::new(AtomicU64::new(0)));
        let taken = Arc::new(AtomicU64::new(0));
        let sleepers: Vec<_> = (0..2)
            .map(|seat| {
                let (bell, count, taken) = (Arc::clone(&bell), Arc::clone(&count), Arc::clone(&taken));
                std::thread::spawn(move || {
                    // Without a bound on its sleep: a lost ring would hang the test.
                    while taken.load(Ordering::SeqCst) < ROUNDS {
                        let work =
                            || count.load(Ordering::SeqCst) > 0 || taken.load(Ordering::SeqCst) >= ROUNDS;
                        bell.sleep(seat, None, work);
                        let got =
                            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                        if got.is_ok() && taken.fetch_add(1, Ordering::SeqCst) + 1 == ROUNDS {
                            bell.ring_all();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            count.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert_eq!((count.load(Ordering::SeqCst), taken.load(Ordering::SeqCst)), (0, ROUNDS));
    }

    #[test]
    fn a_sleep_ends_by_itself() {
        Bell::new(1).sleep(0, Some(Duration::from_millis(1)), || false);
    }
}
