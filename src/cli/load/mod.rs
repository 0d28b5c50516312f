//! Open-loop load on a network of this machine: what `salus bench` and the load tool have in common.
//!
//! Transactions are signed before the clock starts. Each has a moment at which it is due, whatever became of those
//! before; its time to finality counts from that moment, so that a network that falls behind cannot hide it by slowing
//! its clients down.

mod open_loop;
mod usage;

pub use open_loop::{OpenLoop, Outcome, Transactions};
pub use usage::{Snapshot, Usage};

use std::time::Duration;

/// The value below or at which `per_mille` of a sorted list lie; zero of an empty one.
#[must_use]
pub fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ms: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&ms, 500), Duration::from_millis(100));
        assert_eq!(percentile(&ms, 990), Duration::from_millis(198));
        assert_eq!(percentile(&ms[..1], 990), Duration::from_millis(1));
        assert_eq!(percentile(&[], 500), Duration::ZERO);
    }
}
