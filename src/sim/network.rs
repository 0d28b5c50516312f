//! The simulated network: delay, loss, duplication and partitions for each direction of each link.

use super::random::Random;

/// How bad the network is while faults are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Least one-way delay, microseconds.
    pub delay_min_us: u64,
    /// Most one-way delay of an ordinary message, microseconds. Delays differ, so messages overtake each other.
    pub delay_max_us: u64,
    /// Messages lost, of a thousand.
    pub loss_per_mille: u64,
    /// Messages delivered twice, of a thousand.
    pub replay_per_mille: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Network {
    config: NetworkConfig,
    n: usize,
    /// Whether messages from (row) to (column) are cut off.
    blocked: Vec<bool>,
    faults: bool,
    pub(super) lost: u64,
    pub(super) replayed: u64,
}

impl Network {
    pub(super) fn new(config: NetworkConfig, n: usize) -> Self {
        Self { config, n, blocked: vec![false; n * n], faults: true, lost: 0, replayed: 0 }
    }

    /// Ends loss, replay and partitions.
    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.join();
    }

    /// Ends partitions.
    pub(super) fn join(&mut self) {
        self.blocked.fill(false);
    }

    /// Cuts `group` off from the others: both ways, or only what it sends.
    pub(super) fn cut(&mut self, group: &[usize], both_ways: bool) {
        for &inside in group {
            for outside in (0..self.n).filter(|host| !group.contains(host)) {
                self.blocked[inside * self.n + outside] = true;
                self.blocked[outside * self.n + inside] |= both_ways;
            }
        }
    }

    /// When a message sent now arrives: not at all, once or twice.
    pub(super) fn arrivals(&mut self, random: &mut Random, now_us: u64, from: usize, to: usize) -> Vec<u64> {
        // Drawn in any case, so that a fault more or less changes nothing else in the run.
        let lost = random.chance(self.config.loss_per_mille);
        let replayed = random.chance(self.config.replay_per_mille);
        let first = now_us + random.between(self.config.delay_min_us, self.config.delay_max_us);
        let second = first + random.between(0, 20 * self.config.delay_max_us);
        if self.blocked[from * self.n + to] || (self.faults && lost) {
            self.lost += 1;
            return Vec::new();
        }
        if self.faults && replayed {
            self.replayed += 1;
            return vec![first, second];
        }
        vec![first]
    }
}
