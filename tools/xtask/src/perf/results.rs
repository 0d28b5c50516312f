//! What was measured: `results.json`, from which everything else is made.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// Name and version of the file's format.
pub(crate) const FORMAT: &str = "salus-perf/1";

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) format: String,
    /// Whether times were so short that the figures only show that everything works.
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    /// Of the code that was measured.
    pub(crate) commit: String,
    /// Whether something was changed since that commit.
    pub(crate) uncommitted_changes: bool,
    /// By name.
    pub(crate) steps: BTreeMap<String, StepRun>,
    /// What criterion measured, in the order of names.
    pub(crate) benches: Vec<Bench>,
    /// What the bench of the block log measured.
    pub(crate) log: Vec<LogRow>,
    pub(crate) files: Option<Files>,
    pub(crate) load: Option<Load>,
    pub(crate) memory: Option<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<Profile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peers: Option<Peers>,
}

/// How a step went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRun {
    pub(crate) commands: Vec<String>,
    /// When it began, in UTC.
    pub(crate) began: String,
    pub(crate) seconds: f64,
    /// What went wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
}

/// A median, and what lies around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// One row of criterion's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bench {
    /// The step that ran it.
    pub(crate) step: String,
    pub(crate) name: String,
    /// Time of an iteration, with criterion's 95 % interval of the median.
    pub(crate) ns: Spread,
    /// What an iteration does that many times, if the bench says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elements: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<f64>,
    pub(crate) samples: usize,
}

/// One line of the log's bench: a speed, or its ratio to that of another taken round by round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogRow {
    pub(crate) name: String,
    /// Whose speed the figures are a multiple of; without it they are MB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    /// Median and quartiles over the rounds.
    pub(crate) figure: Spread,
}

/// Programs that hash one file, in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Files {
    pub(crate) bytes: u64,
    /// Wall times of each program, in the order of the rounds.
    pub(crate) seconds: BTreeMap<String, Vec<f64>>,
    /// Programs that are not installed.
    pub(crate) missing: Vec<String>,
}

/// The network of four validators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// All rates, several times over.
    pub(crate) runs: Vec<LoadRun>,
    /// At half of the best rate.
    pub(crate) half: Vec<LoadRun>,
}

/// A part of what the load tool writes of each rate, under its names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadRun {
    pub(crate) validators: u64,
    pub(crate) seconds: u64,
    pub(crate) offered_per_s: u64,
    pub(crate) committed_per_s: f64,
    pub(crate) finality_ms: Finality,
    pub(crate) busy: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) client_lag_ms_max: f64,
    pub(crate) usage: Usage,
}

/// Time to finality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finality {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What a run used of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From the first transaction to the last answer.
    pub(crate) seconds: f64,
    /// Cores that all validators kept busy together.
    pub(crate) validators_cores: Option<f64>,
    /// Cores that the clients kept busy.
    pub(crate) tool_cores: Option<f64>,
}

/// Memory of each validator under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) offered_per_s: u64,
    /// Under load, all together.
    pub(crate) seconds: f64,
    pub(crate) samples: Vec<MemorySample>,
}

/// Memory at one moment. One figure for each validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemorySample {
    /// Seconds of load before.
    pub(crate) at_s: f64,
    /// All that is resident, mapped files too.
    pub(crate) rss_mib: Vec<f64>,
    /// Without mapped files.
    pub(crate) anonymous_mib: Vec<f64>,
}

/// Where one of the validators spent its CPU time under load; the flame graph of it lies beside, as `plots/profile.svg`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) offered_per_s: u64,
    /// Under load; the time before it, when almost nothing happens, is sampled too.
    pub(crate) seconds: u64,
    /// CPU time of the threads that there are in the end, as the system counts it.
    pub(crate) cpu_s: f64,
    /// Those in the flame graph.
    pub(crate) samples: u64,
    /// By name; those whose names differ by a number at the end are one.
    pub(crate) threads: BTreeMap<String, ThreadShare>,
}

/// What part of the process a thread is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadShare {
    /// Of all CPU time, as the system counts it.
    pub(crate) cpu: f64,
    /// Of all CPU time, that of this thread within the kernel.
    pub(crate) kernel: f64,
    /// Of the samples in the flame graph, which leave out what is narrow, and the C library.
    pub(crate) samples: f64,
}

/// What `perf/peers` compares, each with Salus in the same run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// Lines that programs wrote, in their order.
    pub(crate) rows: Vec<PeerRow>,
    /// Another consensus engine under load.
    pub(crate) engine: Vec<LoadRun>,
    /// Salus under the same load, before and after it.
    pub(crate) own: Vec<LoadRun>,
    /// Those that could not be built, as their tools are not there.
    pub(crate) missing: Vec<String>,
}

/// A figure of a peer, or of Salus in its program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerRow {
    pub(crate) name: String,
    /// What the figure is in; of a ratio, whose it is a multiple of.
    pub(crate) unit: Unit,
    /// Median and quartiles over the rounds.
    pub(crate) figure: Spread,
}

/// What a peer's figure is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// As the program names it: MB/s, for one.
    In(String),
    /// How many times as large as that of another, taken round by round.
    Of(String),
}

impl Spread {
    /// The median with the smallest and the largest value; `None` of an empty list.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        };
        Some(Self { median, low: *values.first()?, high: *values.last()? })
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { median: f(self.median), low: a.min(b), high: a.max(b) }
    }

    /// How many times as large as another it is: of the medians, and at worst and at best.
    pub(crate) fn over(self, other: Self) -> Self {
        Self { median: self.median / other.median, low: self.low / other.high, high: self.high / other.low }
    }

    /// Six digits of each.
    pub(crate) fn rounded(self) -> Self {
        self.map(rounded)
    }
}

/// Six digits of a number: the rest is noise, and so few are read again as they were written.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

impl LoadRun {
    /// Six digits of each figure.
    pub(crate) fn rounded(self) -> Self {
        let Finality { p50, p90, p99, p999, max } = self.finality_ms;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(rounded);
        let Usage { seconds, validators_cores, tool_cores } = self.usage;
        Self {
            committed_per_s: rounded(self.committed_per_s),
            client_lag_ms_max: rounded(self.client_lag_ms_max),
            finality_ms: Finality { p50, p90, p99, p999, max },
            usage: Usage {
                seconds: rounded(seconds),
                validators_cores: validators_cores.map(rounded),
                tool_cores: tool_cores.map(rounded),
            },
            ..self
        }
    }
}

impl Bench {
    /// Time for one element, or of an iteration if it does not say how many it has.
    pub(crate) fn each_ns(&self) -> Spread {
        let elements = self.elements.unwrap_or(1.0);
        self.ns.map(|ns| ns / elements)
    }

    /// Elements a second.
    pub(crate) fn per_s(&self) -> Spread {
        self.each_ns().map(|ns| 1e9 / ns)
    }
}

impl Results {
    /// The row of this name.
    pub(crate) fn bench(&self, name: &str) -> Option<&Bench> {
        self.benches.iter().find(|bench| bench.name == name)
    }

    /// Rows of this name, and those of a parameter below it.
    pub(crate) fn below<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bench> {
        let is_below = move |bench: &&Bench| {
            bench.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.benches.iter().filter(is_below)
    }

    /// Speed of a row of the log's bench in MB/s, or as a multiple of another's.
    pub(crate) fn log_row(&self, name: &str, of: Option<&str>) -> Option<Spread> {
        self.log.iter().find(|row| row.name == name && row.of.as_deref() == of).map(|row| row.figure)
    }

    /// Takes over what another run of the same code on the same machine measured in steps that this one left out.
    pub(crate) fn take_over(&mut self, earlier: Self) {
        let ran: Vec<String> = self.steps.keys().cloned().collect();
        let left_out = |step: &str| !ran.iter().any(|ran| ran == step);
        self.benches.extend(earlier.benches.into_iter().filter(|bench| left_out(&bench.step)));
        if left_out("log") {
            self.log = earlier.log;
        }
        if left_out("files") {
            self.files = earlier.files;
        }
        if left_out("load") {
            self.load = earlier.load;
        }
        if left_out("memory") {
            self.memory = earlier.memory;
        }
        if left_out("profile") {
            self.profile = earlier.profile;
        }
        if left_out("peers") {
            self.peers = earlier.peers;
        }
        self.steps.extend(earlier.steps.into_iter().filter(|(step, _)| left_out(step)));
    }

    /// Whether another run may be joined with this one: the same code, machine and care.
    pub(crate) fn comparable(&self, other: &Self) -> bool {
        self.quick == other.quick
            && self.commit == other.commit
            && !self.uncommitted_changes
            && !other.uncommitted_changes
            && self.machine.same_as(&other.machine)
    }

    /// Reads `results.json` in a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("results.json");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            format!("cannot read {}: {error}\nmake it with `cargo xtask perf`", path.display())
        })?;
        let results: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}\nmeasure again with `cargo xtask perf`", path.display()))?;
        if results.format != FORMAT {
            return Err(format!(
                "{}: format {:?} and not {FORMAT:?}\nmeasure again with `cargo xtask perf`",
                path.display(),
                results.format
            ));
        }
        Ok(results)
    }

    /// Writes `results.json` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        super::write(&folder.join("results.json"), &(text + "\n"))
    }
}

/// A name such that `n=64` comes before `n=1024`.
pub(crate) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| text + end);
        parts.push((rest[..text].to_owned(), rest[text..digits].parse().unwrap_or_default()));
        rest = &rest[digits..];
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
        assert_eq!(Spread::of([]), None);
        let two = Spread { median: 2.0, low: 1.0, high: 4.0 };
        assert_eq!(two.over(two), Spread { median: 1.0, low: 0.25, high: 4.0 });
        assert_eq!(two.map(|x| 4.0 / x), Spread { median: 2.0, low: 1.0, high: 4.0 });
    }

    #[test]
    fn numbers_in_names_are_in_order() {
        let mut names = ["verify/batch/n=1024", "verify/batch/n=64", "verify/batch/n=64,keys=2"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["verify/batch/n=64", "verify/batch/n=64,keys=2", "verify/batch/n=1024"]);
        assert_eq!(rounded(1.234_567_8e9).to_string(), "1234570000");
    }
}
