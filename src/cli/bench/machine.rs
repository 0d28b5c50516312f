//! What machine this is.

use serde::Serialize;

/// The machine, as far as it says.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Name of the processor.
    pub(super) processor: Option<String>,
    /// Threads that it runs at once, as far as this process may use them.
    pub(super) cores: usize,
    /// Processes that ran or wanted to run, averaged over a minute, before the measurement.
    pub(super) load_average: Option<f64>,
}

impl Machine {
    /// This machine.
    pub(super) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
        }
    }
}

/// The name without what only fills its field: blanks, and words of advertising.
fn processor(info: &str) -> Option<String> {
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    let words = line.split_once(':')?.1.split_ascii_whitespace();
    let words: Vec<_> = words.filter(|word| !["Processor", "CPU"].contains(word)).collect();
    Some(words.join(" ")).filter(|name| !name.is_empty())
}

/// Clock ticks of all cores since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    /// As of this moment, where the system says so.
    pub(super) fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: user, nice, system, idle, waiting for a disk, interrupts, soft ones, taken by other guests, and guests'
    /// time, which the first two contain.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().take(8);
        let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { idle: ticks.get(3)? + ticks.get(4)?, all: ticks.iter().sum() })
    }

    /// Share of the time since an earlier moment in which cores were not idle; `None` if no time has passed.
    pub(super) fn busy_share_since(self, before: Self) -> Option<f64> {
        let idle = self.idle.saturating_sub(before.idle) as f64;
        let all = self.all.saturating_sub(before.all) as f64;
        (all > 0.0).then(|| (1.0 - idle / all).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_processor_has_a_name_or_none() {
        let info = "processor\t: 0\nmodel name\t: AMD  EPYC 9B14   Processor\nmodel name\t: other\n";
        assert_eq!(processor(info).as_deref(), Some("AMD EPYC 9B14"));
        assert_eq!(processor("model name\t: \n"), None);
        assert_eq!(processor(""), None);
        assert!(Machine::this().cores > 0);
    }

    #[test]
    fn a_core_is_busy_when_it_is_not_idle() {
        let before = Ticks::parse("cpu  10 0 10 70 5 0 0 5 9 9\ncpu0 1 1\n").unwrap();
        assert_eq!(before, Ticks { idle: 75, all: 100 });
        let share = Ticks { idle: 80, all: 120 }.busy_share_since(before).unwrap();
        assert!((share - 0.75).abs() < 1e-9);
        assert_eq!(before.busy_share_since(before), None);
        assert_eq!(Ticks::parse("intr 5"), None);
        assert!(Ticks::now().is_some());
    }
}
