//! What validators and this process use of the machine, from `/proc` and the validators' own figures.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::CliError;
use crate::cli::network::LocalNetwork;

/// Clock ticks a second in `/proc/PID/stat`; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures at one moment, since each process was started.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    validators: Vec<Validator>,
    /// CPU seconds of this process.
    own_cpu_s: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Validator {
    cpu_s: f64,
    core_busy_us: f64,
    core_inputs: f64,
    core_longest_us: f64,
    round: f64,
}

impl Snapshot {
    /// Asks the system and all validators.
    ///
    /// # Errors
    /// If a validator does not answer.
    pub async fn take(network: &LocalNetwork) -> Result<Self, CliError> {
        let mut validators = Vec::new();
        for index in 0..network.size() {
            // Whoever started the validators by other means left no process id; then this figure is missing.
            let pid = std::fs::read_to_string(network.data_dir(index).with_file_name("node.pid"));
            let cpu_s = pid.ok().and_then(|pid| cpu_seconds(pid.trim())).unwrap_or(f64::NAN);
            let metrics = network.api().get(&network.endpoint(index).http, "/metrics").await;
            let metrics = metrics.map_err(CliError::unable)?;
            let text = String::from_utf8_lossy(&metrics.body).into_owned();
            validators.push(Validator {
                cpu_s,
                core_busy_us: gauge(&text, "salus_core_busy_us"),
                core_inputs: gauge(&text, "salus_core_inputs"),
                core_longest_us: gauge(&text, "salus_core_longest_us"),
                round: gauge(&text, "salus_round"),
            });
        }
        Ok(Self { at: Instant::now(), validators, own_cpu_s: cpu_seconds("self").unwrap_or(f64::NAN) })
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    Some(ticks(&stat)? / TICKS_PER_SECOND)
}

/// Fields 14 and 15. The second field, a name in parentheses, may contain anything.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

/// A gauge without labels in Prometheus' text format; 0 if it is not there.
fn gauge(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// What was used between two moments.
#[derive(Debug, Default)]
pub struct Usage {
    seconds: f64,
    validators: Vec<Validator>,
    own_cpu_s: f64,
}

impl Usage {
    /// The difference of two snapshots of one network.
    #[must_use]
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let used = |(after, before): (&Validator, &Validator)| Validator {
            cpu_s: after.cpu_s - before.cpu_s,
            core_busy_us: after.core_busy_us - before.core_busy_us,
            core_inputs: after.core_inputs - before.core_inputs,
            core_longest_us: after.core_longest_us,
            round: after.round - before.round,
        };
        Self {
            seconds: after.at.duration_since(before.at).as_secs_f64(),
            validators: after.validators.iter().zip(&before.validators).map(used).collect(),
            own_cpu_s: after.own_cpu_s - before.own_cpu_s,
        }
    }

    /// Number of validators.
    #[must_use]
    pub fn size(&self) -> usize {
        self.validators.len()
    }

    /// Cores that all validators kept busy together; not a number if that is not known.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.validators.iter().map(|validator| validator.cpu_s).sum::<f64>() / self.seconds
    }

    /// Cores that this process kept busy, which is the clients' part.
    #[must_use]
    pub fn own_cores(&self) -> f64 {
        self.own_cpu_s / self.seconds
    }

    fn each(&self, of: impl Fn(&Validator) -> f64) -> Vec<f64> {
        self.validators.iter().map(|validator| of(validator) / self.seconds).collect()
    }

    /// All figures.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "validators_cores": self.cores(),
            "tool_cores": self.own_cores(),
            "cores": self.each(|validator| validator.cpu_s),
            "core_thread_busy": self.each(|validator| validator.core_busy_us / 1e6),
            "core_thread_inputs_per_s": self.each(|validator| validator.core_inputs),
            "core_thread_longest_us": self.validators.iter().map(|v| v.core_longest_us).collect::<Vec<_>>(),
            "rounds_per_s": self.each(|validator| validator.round),
        })
    }
}

fn list(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = self.each(|validator| validator.core_busy_us / 1e6 * 100.0);
        let longest = self.validators.iter().map(|validator| validator.core_longest_us).fold(0.0, f64::max);
        write!(
            f,
            "over {:.1} s: cores used by validators {:.2} ({}), by this tool {:.2}; consensus threads busy {} %, \
             longest input {:.1} ms; rounds/s {}",
            self.seconds,
            self.cores(),
            list(&self.each(|validator| validator.cpu_s), 3),
            self.own_cores(),
            list(&busy, 1),
            longest / 1_000.0,
            list(&self.each(|validator| validator.round), 0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_and_gauges_are_found() {
        let stat = "7 (a ) name) S 1 7 7 0 -1 4194560 9 0 0 0 123 45 0 0 20 0 9 0 55 1 2";
        assert_eq!(ticks(stat), Some(168.0));
        assert_eq!(ticks("7 (name"), None);
        let text = "# HELP salus_round Round\nsalus_round 12\nsalus_rounds 9\n";
        assert!((gauge(text, "salus_round") - 12.0).abs() < f64::EPSILON);
        assert!(gauge(text, "salus_other").abs() < f64::EPSILON);
    }
}
