//! How long to wait before a peer is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(5);

/// Doubles from 50 ms to 5 s with each failure, and takes a random part of the upper half, so that validators that
/// lost a peer together do not return together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and says how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let random = getrandom::u64().unwrap_or_default();
        self.next_with(random)
    }

    /// After success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn next_with(&mut self, random: u64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(7)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        let share = (random >> 32) as f64 / f64::from(u32::MAX);
        (full / 2 + (full / 2).mul_f64(share.min(1.0))).max(FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_50_ms_to_5_s_and_stays_between() {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let mut backoff = Backoff::default();
            let waits: Vec<_> = (0..40).map(|_| backoff.next_with(random)).collect();
            assert!(waits.iter().all(|wait| (FIRST..=LAST).contains(wait)), "{waits:?}");
            assert!(waits.is_sorted(), "{waits:?}");
            assert!(waits[39] >= LAST / 2);
            backoff.reset();
            assert_eq!(backoff.next_with(random), FIRST);
        }
    }
}
