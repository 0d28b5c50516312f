//! What was measured, for people and for programs.

use std::fmt;
use std::time::Duration;

use salus::cli::load::{OpenLoop, Outcome, Usage, percentile};
use serde_json::{Value, json};

/// What became of the validators' logs.
#[derive(Debug)]
pub(crate) struct Logs {
    /// Leaves that they gained.
    pub(crate) leaves: u64,
    /// The root that all of them have.
    pub(crate) root: String,
}

/// One rate.
#[derive(Debug)]
pub(crate) struct Measured {
    load: OpenLoop,
    /// How long a validator stood still every now and then.
    freeze_ms: Option<u32>,
    outcome: Outcome,
    usage: Usage,
    logs: Logs,
    /// Ascending.
    latencies: Vec<Duration>,
}

impl Measured {
    pub(crate) fn new(
        load: OpenLoop,
        freeze_ms: Option<u32>,
        mut outcome: Outcome,
        usage: Usage,
        logs: Logs,
    ) -> Self {
        let mut latencies = std::mem::take(&mut outcome.latencies);
        latencies.sort_unstable();
        Self { load, freeze_ms, outcome, usage, logs, latencies }
    }

    /// Final while the load went on, each second.
    fn committed(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let in_time = self.outcome.in_time as f64;
        in_time / self.load.duration.as_secs_f64()
    }

    fn percentile(&self, per_mille: usize) -> Duration {
        percentile(&self.latencies, per_mille)
    }

    /// What does not hold of the run, if anything. That transactions are refused as `Busy` is how an overload has to end.
    pub(crate) fn fault(&self) -> Option<String> {
        let Outcome { refused, unanswered, reason, .. } = &self.outcome;
        let reason = reason.as_deref().unwrap_or("none given");
        (refused + unanswered > 0).then(|| {
            format!(
                "at {} tx/s {refused} transactions were refused ({reason}) and {unanswered} not answered",
                self.load.rate
            )
        })
    }

    fn json(&self) -> Value {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let Outcome { in_time, busy, refused, unanswered, lag, .. } = &self.outcome;
        json!({
            "validators": self.usage.size(),
            "seconds": self.load.duration.as_secs(),
            "freeze_ms": self.freeze_ms,
            "offered_per_s": self.load.rate,
            "committed_per_s": self.committed(),
            "offered": self.load.transactions(),
            "final": self.latencies.len(),
            "final_in_time": in_time,
            "busy": busy,
            "refused": refused,
            "unanswered": unanswered,
            "finality_ms": {
                "p50": ms(self.percentile(500)), "p90": ms(self.percentile(900)), "p99": ms(self.percentile(990)),
                "p999": ms(self.percentile(999)), "max": ms(self.percentile(1_000)),
            },
            "client_lag_ms_max": ms(*lag),
            "usage": self.usage.json(),
            "leaves": self.logs.leaves,
            "root": self.logs.root,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { busy, refused, unanswered, lag, .. } = &self.outcome;
        let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1_000.0);
        write!(
            f,
            "offered {:>6}/s  {}committed {:>6.0}/s  p50 {:>6} ms  p99 {:>6} ms  max {:>6} ms  final {}  busy {busy}  \
             refused {refused}  unanswered {unanswered}  client behind {} ms at most\n    {}",
            self.load.rate,
            self.freeze_ms.map(|ms| format!("one stood still for {ms} ms at a time  ")).unwrap_or_default(),
            self.committed(),
            ms(self.percentile(500)),
            ms(self.percentile(990)),
            ms(self.percentile(1_000)),
            self.latencies.len(),
            ms(*lag),
            self.usage,
        )
    }
}

/// All results, with what [`machine`] said before them.
pub(crate) fn json(machine: &str, results: &[Measured]) -> String {
    let runs: Vec<_> = results.iter().map(Measured::json).collect();
    format!("{:#}\n", json!({ "machine": machine, "runs": runs }))
}

/// What idle validators use.
pub(crate) fn idle_json(machine: &str, usage: &Usage) -> String {
    format!("{:#}\n", json!({ "machine": machine, "idle": usage.json() }))
}

/// Cores, and how busy they are with something else.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!("{cores} cores for validators and clients together, load average before {}", load.join(" "))
}
