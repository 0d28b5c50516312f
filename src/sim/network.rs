//! The simulated network: delay, loss, duplication and partitions for each direction of each link.

use super::random::Random;
use super::regions;

/// How delays are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Evenly between least and most.
    Uniform,
    /// Around the middle between least and most, like a bell.
    Bell,
    /// Most near the least; each doubling of the excess half as likely, up to ten times the most.
    LongTail,
    /// As measured between ten regions of the world, and up to a twentieth more. Least and most do not count.
    Regions,
}

/// How bad the network is while faults are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkConfig {
    /// How delays are spread.
    pub shape: Shape,
    /// Least one-way delay, microseconds.
    pub delay_min_us: u64,
    /// Most one-way delay of an ordinary message, microseconds. Delays differ, so messages overtake each other.
    pub delay_max_us: u64,
    /// Messages lost, of a thousand.
    pub loss_per_mille: u64,
    /// Messages delivered twice, of a thousand.
    pub replay_per_mille: u64,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            shape: Shape::Uniform,
            delay_min_us: 1_000,
            delay_max_us: 40_000,
            loss_per_mille: 0,
            replay_per_mille: 0,
        }
    }
}

impl NetworkConfig {
    /// Ten regions of the world, without loss.
    #[must_use]
    pub fn regions() -> Self {
        let most = regions::LONGEST_US + regions::LONGEST_US / 20;
        Self { shape: Shape::Regions, delay_min_us: 500, delay_max_us: most, ..Self::default() }
    }

    /// Mean one-way delay between `hosts`, microseconds: the unit in which latencies are told.
    #[must_use]
    pub fn mean_us(&self, hosts: usize) -> u64 {
        match self.shape {
            Shape::Uniform | Shape::Bell | Shape::LongTail => {
                u64::midpoint(self.delay_min_us, self.delay_max_us)
            }
            Shape::Regions => regions::mean_us(hosts) * 41 / 40,
        }
    }

    fn delay(&self, random: &mut Random, from: usize, to: usize) -> u64 {
        let (least, most) = (self.delay_min_us, self.delay_max_us);
        let width = most - least;
        match self.shape {
            Shape::Uniform => random.between(least, most),
            Shape::Bell => least + (0..6).map(|_| random.between(0, width)).sum::<u64>() / 6,
            Shape::LongTail => {
                let doublings = u64::from(random.next().trailing_ones().min(7));
                let excess = random.between(0, width / 8 + 1) << doublings;
                least + excess.min(10 * most)
            }
            Shape::Regions => {
                let way = regions::one_way_us(from, to);
                way + random.between(0, way / 20)
            }
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Network {
    config: NetworkConfig,
    n: usize,
    /// Whether messages from (row) to (column) are cut off.
    blocked: Vec<bool>,
    /// How many times slower a host's links are.
    slow: Vec<u64>,
    /// What a host loses of what it sends, of a thousand.
    lossy: Vec<u64>,
    faults: bool,
    pub(super) lost: u64,
    pub(super) replayed: u64,
}

impl Network {
    pub(super) fn new(config: NetworkConfig, n: usize) -> Self {
        Self {
            config,
            n,
            blocked: vec![false; n * n],
            slow: vec![1; n],
            lossy: vec![0; n],
            faults: true,
            lost: 0,
            replayed: 0,
        }
    }

    /// Ends loss, replay and partitions.
    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.join();
    }

    /// Ends partitions, slowness, and what single hosts lose.
    pub(super) fn join(&mut self) {
        self.blocked.fill(false);
        self.slow.fill(1);
        self.lossy.fill(0);
    }

    /// Makes a host's links slower.
    pub(super) fn slow(&mut self, host: usize, times: u64) {
        self.slow[host] = times;
    }

    /// Lets a host lose a part of what it sends.
    pub(super) fn lossy(&mut self, host: usize, per_mille: u64) {
        self.lossy[host] = per_mille;
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
    pub(super) fn arrivals(
        &mut self,
        random: &mut Random,
        now_us: u64,
        from: usize,
        to: usize,
    ) -> (Option<u64>, Option<u64>) {
        // Drawn in any case, so that a fault more or less changes nothing else in the run.
        let lost = random.chance(self.config.loss_per_mille);
        let replayed = random.chance(self.config.replay_per_mille);
        let lost_by_host = random.chance(self.lossy[from]);
        let slow = self.slow[from].max(self.slow[to]);
        let first = now_us + slow * self.config.delay(random, from, to);
        let second = first + random.between(0, 20 * self.config.delay_max_us);
        if self.blocked[from * self.n + to] || lost_by_host || (self.faults && lost) {
            self.lost += 1;
            return (None, None);
        }
        if self.faults && replayed {
            self.replayed += 1;
            return (Some(first), Some(second));
        }
        (Some(first), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_keeps_its_bounds_and_its_middle() {
        let mut random = Random::new(1);
        for (shape, most) in [
            (Shape::Uniform, 10_000),
            (Shape::Bell, 10_000),
            (Shape::LongTail, 101_000),
            (Shape::Regions, 172_253),
        ] {
            let config = NetworkConfig {
                shape,
                delay_min_us: 1_000,
                delay_max_us: 10_000,
                ..NetworkConfig::default()
            };
            let delays: Vec<u64> =
                (0..4_000).map(|i| config.delay(&mut random, i % 10, (i + 1) % 10)).collect();
            assert!(delays.iter().all(|delay| (500..=most).contains(delay)), "{shape:?}");
            let near = delays.iter().filter(|delay| (4_000..7_000).contains(*delay)).count();
            match shape {
                Shape::Uniform => assert!((1_200..1_500).contains(&near), "{near}"),
                Shape::Bell => assert!(near > 2_800, "{near}"),
                Shape::LongTail | Shape::Regions => assert!(near < 1_200, "{near}"),
            }
        }
    }

    #[test]
    fn cuts_and_lossy_hosts_lose_and_healing_ends_both() {
        let mut random = Random::new(2);
        let mut network = Network::new(NetworkConfig::default(), 3);
        network.cut(&[0], false);
        assert_eq!(network.arrivals(&mut random, 0, 0, 1), (None, None));
        assert!(network.arrivals(&mut random, 0, 1, 0).0.is_some());
        network.lossy(1, 1_000);
        assert_eq!(network.arrivals(&mut random, 0, 1, 2), (None, None));
        network.heal();
        assert!(network.arrivals(&mut random, 0, 0, 1).0.is_some());
        assert!(network.arrivals(&mut random, 0, 1, 2).0.is_some());
        assert_eq!(network.lost, 2);
    }
}
