//! How many payload bytes an own block may hold: more while rounds keep their time, much less when they slow down.
//!
//! Blocks that grow while rounds slow make rounds slower still, until everything stands. So the cap goes up by addition and
//! down by multiplication, the rule that lets many share a line (Chiu and Jain, 1989). And a validator whose blocks nobody
//! names proposes no payload at all: it would only pile up.

/// Least cap: enough to go on, too little to hurt.
const FLOOR_BYTES: usize = 128 << 10;
/// A step up: this part of the configured cap.
const STEP_PART: usize = 64;
/// A round that takes this many times the best is slow.
const SLOW_FACTOR: u64 = 4;
/// Part of itself by which the memory of the best round grows with each round, so that it can be a slower one in time.
const FORGET_PART: u64 = 1 << 14;
/// Own rounds that may pass without a further one being named,
pub(super) const UNNAMED_ROUNDS_MAX: u64 = 12;
/// and least leader timeouts: where rounds are short and a line is long, many rounds pass before an answer comes.
pub(super) const UNNAMED_TIMEOUTS: u64 = 8;

/// See the module's text.
#[derive(Debug)]
pub(super) struct PayloadCap {
    most: usize,
    now: usize,
    best_us: Option<u64>,
    /// What every round may take, however fast the best was.
    slack_us: u64,
}

impl PayloadCap {
    /// Up to `most` bytes; rounds of `slack_us` are never slow.
    pub(super) fn new(most: usize, slack_us: u64) -> Self {
        Self { most, now: most, best_us: None, slack_us }
    }

    /// Bytes that the next own block may hold.
    pub(super) fn bytes(&self) -> usize {
        self.now
    }

    /// A round took `us`; `loaded` if it carried a payload.
    pub(super) fn round_took(&mut self, us: u64, loaded: bool) {
        let best = self.best_us.map_or(us, |best| best.min(us));
        self.best_us = Some(best + best / FORGET_PART + 1);
        if !loaded {
            return;
        }
        if us > SLOW_FACTOR * best + self.slack_us {
            self.now = (self.now * 3 / 4).max(FLOOR_BYTES.min(self.most));
        } else {
            self.now = (self.now + self.most / STEP_PART).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rounds_shrink_blocks_and_blocks_stop_slowing_rounds() {
        let mut cap = PayloadCap::new(2 << 20, 10_000);
        assert_eq!(cap.bytes(), 2 << 20);
        // A line that takes 20 ms, and one more for each 20 KiB of each block.
        cap.round_took(20_000, false);
        let mut largest = 0;
        for round in 0..2_000 {
            let us = 20_000 + cap.bytes() as u64 / 20;
            cap.round_took(us, true);
            if round > 1_000 {
                largest = largest.max(us);
            }
        }
        assert!(cap.bytes() < 2 << 20);
        assert!(largest < 20_000 * 2 * SLOW_FACTOR, "rounds settle: {largest} us");
    }

    #[test]
    fn it_never_falls_to_nothing_and_comes_back() {
        let mut cap = PayloadCap::new(1 << 20, 1_000);
        cap.round_took(1_000, true);
        for _ in 0..100 {
            cap.round_took(10_000_000, true);
        }
        assert_eq!(cap.bytes(), FLOOR_BYTES);
        for _ in 0..100 {
            cap.round_took(1_000, true);
        }
        assert_eq!(cap.bytes(), 1 << 20);
        let mut small = PayloadCap::new(5_000, 1_000);
        small.round_took(1, true);
        small.round_took(1_000_000, true);
        assert_eq!(small.bytes(), 5_000, "a smaller configured cap stays as it is");
    }
}
