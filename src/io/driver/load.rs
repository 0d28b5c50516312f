//! How busy the core is, for operators: written by the core alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Length of one slice of the window.
const SLICE_US: u64 = 1_000_000;
/// Slices of the window over which the busy share and the longest input are shown.
const SLICES: usize = 10;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct CoreLoad {
    busy_us: AtomicU64,
    inputs: AtomicU64,
    recent_busy_us: AtomicU64,
    recent_longest_us: AtomicU64,
}

impl CoreLoad {
    /// Microseconds that the core was not idle, since start.
    pub(super) fn busy_us(&self) -> u64 {
        self.busy_us.load(Ordering::Relaxed)
    }

    /// Inputs that it handled, since start.
    pub(super) fn inputs(&self) -> u64 {
        self.inputs.load(Ordering::Relaxed)
    }

    /// Share of the last ten seconds in which it was not idle, in thousandths.
    pub(super) fn recent_permille(&self) -> u64 {
        self.recent_busy_us.load(Ordering::Relaxed) * 1_000 / (SLICE_US * SLICES as u64)
    }

    /// Microseconds that the longest input of the last ten seconds took.
    pub(super) fn recent_longest_us(&self) -> u64 {
        self.recent_longest_us.load(Ordering::Relaxed)
    }
}

/// The core's own sums.
#[derive(Debug, Default)]
pub(super) struct LoadMeter {
    /// Number of the slice, from the clock's start, and what it holds: busy time and the longest input.
    slices: [(u64, u64, u64); SLICES],
}

impl LoadMeter {
    /// Notes that `inputs`, handled together, took from `start` to `end`.
    pub(super) fn note(&mut self, shown: &CoreLoad, inputs: u64, start: u64, end: u64) {
        let took = end.saturating_sub(start);
        shown.busy_us.fetch_add(took, Ordering::Relaxed);
        shown.inputs.fetch_add(inputs, Ordering::Relaxed);
        let slice = self.enter(shown, end);
        slice.1 += took;
        slice.2 = slice.2.max(took);
        shown.recent_busy_us.fetch_add(took, Ordering::Relaxed);
        shown.recent_longest_us.fetch_max(took, Ordering::Relaxed);
    }

    /// Lets go of what is older than the window. To be called now and then when there are no inputs.
    pub(super) fn enter(&mut self, shown: &CoreLoad, now: u64) -> &mut (u64, u64, u64) {
        let number = now / SLICE_US;
        let at = usize::try_from(number % SLICES as u64).unwrap_or_default();
        if self.slices[at].0 != number {
            self.slices[at] = (number, 0, 0);
            let oldest = number.saturating_sub(SLICES as u64 - 1);
            let recent = || self.slices.iter().filter(|slice| slice.0 >= oldest);
            shown.recent_busy_us.store(recent().map(|slice| slice.1).sum(), Ordering::Relaxed);
            shown
                .recent_longest_us
                .store(recent().map(|slice| slice.2).max().unwrap_or(0), Ordering::Relaxed);
        }
        &mut self.slices[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let (shown, mut meter) = (CoreLoad::default(), LoadMeter::default());
        for second in 0..20 {
            let start = second * SLICE_US;
            meter.note(&shown, 1, start, start + 100_000);
            meter.note(&shown, 1, start + 500_000, start + 500_000 + 1_000 * second);
        }
        // The last ten seconds: 100 ms each, and 10 to 19 ms.
        assert_eq!(shown.recent_permille(), (1_000 + 145) / 10);
        assert_eq!((shown.inputs(), shown.busy_us()), (40, 2_000_000 + 190_000));
        assert_eq!(shown.recent_longest_us(), 100_000);
        meter.enter(&shown, 40 * SLICE_US);
        assert_eq!((shown.recent_permille(), shown.recent_longest_us()), (0, 0));
    }
}
