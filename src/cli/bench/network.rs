//! What four validators on this machine make final.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::machine::Ticks;
use crate::cli::CliError;
use crate::cli::load::{OpenLoop, Outcome, Snapshot, Transactions, Usage, percentile};
use crate::cli::network::{LocalNetwork, NetworkOptions, RecordMaker, register_record_keys};

/// Validators, each a process of its own: the smallest network that bears a fault.
pub(super) const VALIDATORS: u16 = 4;
/// Keys that sign, for each founding member.
const KEYS: u32 = 16;
/// Connections to each validator.
const CONNECTIONS: u16 = 2;
/// Time until the validators serve, and until they agree when a load is over.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// How long after a load its last answers are waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Load before the first that counts, so that connections, caches and memory are there.
const WARM_UP: Duration = Duration::from_secs(1);
/// Load of each step of the search.
const STEP: Duration = Duration::from_secs(2);
/// A rate is kept up with if, when its load ends, no more is on the way than came in so long, and in the time in which a
/// transaction usually becomes final. A network that falls behind has more on the way, and later finality, the longer it lasts.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Rates nearer to each other than this, in percent, are not told apart by loads as short.
const APART_PERCENT: u64 = 20;
/// Highest rate that is tried.
const RATE_MAX: u32 = 500_000;

/// What to load the network with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loading {
    /// Transactions each second of the first load.
    pub(super) rate: u32,
    /// Its time.
    pub(super) duration: Duration,
    /// Time for the search of the highest rate; none, if there is to be no search.
    pub(super) search: Option<Duration>,
}

/// One load, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub(super) offered_per_s: u32,
    pub(super) seconds: u64,
    pub(super) offered: u64,
    /// Became final, if later than offered.
    #[serde(rename = "final")]
    pub(super) executed: u64,
    pub(super) busy: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// Why the first was refused that was not refused as busy.
    pub(super) reason: Option<String>,
    /// Load that was not final when it ended.
    pub(super) behind_ms: f64,
    pub(super) finality_ms_p50: f64,
    pub(super) finality_ms_p99: f64,
    /// Cores that all validators used together; missing where the system does not say.
    pub(super) validators_cores: f64,
    pub(super) clients_cores: f64,
    /// Share of its time in which the whole machine was busy, with whatever.
    pub(super) machine_busy_share: Option<f64>,
    pub(super) kept_up: bool,
}

/// What the network made final.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finalised {
    pub(super) validators: u16,
    pub(super) ready_s: f64,
    pub(super) modest: Step,
    pub(super) search: Vec<Step>,
    /// The highest rate that it kept up with.
    pub(super) kept_up_per_s: Option<u32>,
    /// The lowest that it did not keep up with.
    pub(super) not_kept_up_per_s: Option<u32>,
}

impl Finalised {
    /// The load at the highest rate that was kept up with.
    pub(super) fn highest(&self) -> Option<&Step> {
        let steps = self.search.iter().chain([&self.modest]);
        steps.filter(|step| step.kept_up).max_by_key(|step| step.offered_per_s)
    }
}

/// A running network with keys to load it by.
pub(super) struct Loaded {
    network: LocalNetwork,
    makers: Vec<RecordMaker>,
    /// Leaves of the log.
    leaves: u64,
    ready: Duration,
    /// Median time to finality when little is offered, once that is known.
    usual: Option<Duration>,
}

impl Loaded {
    /// Starts validators in `dir`, which must not exist, and registers keys. Dropping it ends them.
    pub(super) async fn start(dir: PathBuf) -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::unable(format!("cannot find this program's own file: {error}")))?;
        let begun = Instant::now();
        let options = NetworkOptions { dir, validators: VALIDATORS, program, own_group: false };
        let mut network = LocalNetwork::create(&options)?;
        network.start_all()?;
        network.wait_all_ready(SETTLE_WITHIN).await?;
        let ready = begun.elapsed();
        let pool = network.pool();
        pool.connect().await;
        let makers = register_record_keys(&network, &pool, KEYS).await?;
        // Each load has connections of its own.
        drop(pool);
        let leaves = network.wait_agreement(makers.len() as u64, SETTLE_WITHIN).await?.size;
        Ok(Self { network, makers, leaves, ready, usual: None })
    }

    /// One load. Everything that became final is in the logs of all validators when it returns, which are equal.
    async fn step(&mut self, rate: u32, duration: Duration) -> Result<Step, CliError> {
        let load = OpenLoop { rate, duration, connections: CONNECTIONS, answers_within: ANSWERS_WITHIN };
        let transactions = Transactions::sign(&mut self.makers, load.transactions(), || {})?;
        let (before, ticks) = (Snapshot::take(&self.network).await?, Ticks::now());
        let outcome = load.run(&self.network, transactions).await?;
        let busy = Ticks::now().and_then(|now| now.busy_share_since(ticks?));
        let usage = Usage::between(&before, &Snapshot::take(&self.network).await?);
        let leaves = self.leaves + outcome.executed();
        self.leaves = self.network.wait_agreement(leaves, SETTLE_WITHIN).await?.size;
        let step = judged(&load, outcome, &usage, self.usual);
        Ok(Step { machine_busy_share: busy, ..step })
    }

    /// The modest load, behind one that does not count.
    pub(super) async fn modest(&mut self, loading: Loading) -> Result<Finalised, CliError> {
        self.step(loading.rate, WARM_UP.min(loading.duration)).await?;
        let modest = self.step(loading.rate, loading.duration).await?;
        if modest.executed == 0 {
            let why = modest.reason.as_deref().unwrap_or("the validators were busy");
            return Err(CliError::unable_hint(
                format!("of {} transactions none became final: {why}", modest.offered),
                "try again when less else runs on this machine",
            ));
        }
        self.usual = Some(Duration::from_secs_f64(modest.finality_ms_p50 / 1_000.0));
        let kept_up = modest.kept_up.then_some(loading.rate);
        Ok(Finalised {
            validators: VALIDATORS,
            ready_s: self.ready.as_secs_f64(),
            search: Vec::new(),
            kept_up_per_s: kept_up,
            not_kept_up_per_s: Some(loading.rate).filter(|_| kept_up.is_none()),
            modest,
        })
    }

    /// Narrows down the highest rate that is kept up with, until it is known well enough or the time is over. `trying` is told
    /// each rate.
    pub(super) async fn search(
        &mut self,
        finalised: &mut Finalised,
        within: Duration,
        trying: impl Fn(u32),
    ) -> Result<(), CliError> {
        let end = Instant::now() + within;
        while Instant::now() + STEP < end
            && let Some(rate) = next_rate(finalised.kept_up_per_s, finalised.not_kept_up_per_s)
        {
            trying(rate);
            let step = self.step(rate, STEP).await?;
            let bound =
                if step.kept_up { &mut finalised.kept_up_per_s } else { &mut finalised.not_kept_up_per_s };
            *bound = Some(rate);
            finalised.search.push(step);
        }
        Ok(())
    }
}

/// The next rate to try between the highest that was kept up with and the lowest that was not; `None` if that is enough.
fn next_rate(kept_up: Option<u32>, not_kept_up: Option<u32>) -> Option<u32> {
    let rate = match (kept_up, not_kept_up) {
        (None, None) => return None,
        (Some(low), None) => low.saturating_mul(3).min(RATE_MAX),
        (None, Some(high)) => high / 3,
        (Some(low), Some(high)) => {
            if u64::from(high) * 100 < u64::from(low) * (100 + APART_PERCENT) {
                return None;
            }
            let middle = (u64::from(low) * u64::from(high)).isqrt();
            two_digits(u32::try_from(middle).unwrap_or(low))
        }
    };
    (rate > 0 && Some(rate) != kept_up && Some(rate) != not_kept_up).then_some(rate)
}

/// A number of which all digits but the first two are zero.
fn two_digits(number: u32) -> u32 {
    let unit = 10_u32.pow(number.checked_ilog10().unwrap_or_default().saturating_sub(1));
    number / unit * unit
}

/// What became of a load. Without `usual`, its own median time to finality is the usual one.
fn judged(load: &OpenLoop, outcome: Outcome, usage: &Usage, usual: Option<Duration>) -> Step {
    let Outcome { mut latencies, in_time, busy, refused, reason, unanswered, .. } = outcome;
    latencies.sort_unstable();
    let ms = |duration: Duration| 1_000.0 * duration.as_secs_f64();
    let late = load.transactions().saturating_sub(in_time);
    let behind = Duration::from_secs_f64(late as f64 / f64::from(load.rate));
    let p50 = percentile(&latencies, 500);
    Step {
        offered_per_s: load.rate,
        seconds: load.duration.as_secs(),
        offered: load.transactions(),
        executed: latencies.len() as u64,
        busy,
        refused,
        unanswered,
        reason,
        behind_ms: ms(behind),
        finality_ms_p50: ms(p50),
        finality_ms_p99: ms(percentile(&latencies, 990)),
        validators_cores: usage.cores(),
        clients_cores: usage.own_cores(),
        machine_busy_share: None,
        kept_up: busy + refused + unanswered == 0
            && p50 < load.duration / 2
            && behind <= BEHIND_MAX + usual.unwrap_or(p50),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_goes_up_then_down_then_in_between_and_ends() {
        assert_eq!(next_rate(Some(1_000), None), Some(3_000));
        assert_eq!(next_rate(None, Some(1_000)), Some(333));
        assert_eq!(next_rate(Some(9_000), Some(27_000)), Some(15_000));
        assert_eq!(next_rate(Some(12_000), Some(15_000)), Some(13_000));
        assert_eq!(next_rate(Some(13_000), Some(15_000)), None);
        assert_eq!(next_rate(None, Some(1)), None);
        assert_eq!(next_rate(Some(RATE_MAX), None), None);
        for bears in [1_u32, 7, 900, 15_000, 490_000] {
            let (mut low, mut high, mut steps) = (None, None, 0);
            let mut rate = Some(1_000);
            while let Some(tried) = rate {
                if tried <= bears {
                    low = Some(tried)
                } else {
                    high = Some(tried)
                }
                steps += 1;
                assert!(steps < 20, "{bears}");
                rate = next_rate(low, high);
            }
            assert!(low.is_some_and(|low| low <= bears && low >= bears / 2), "{bears}: {low:?}");
        }
    }

    #[test]
    fn a_rate_is_kept_up_with_if_little_is_on_the_way_at_its_end() {
        let load = OpenLoop {
            rate: 100,
            duration: Duration::from_secs(2),
            connections: 1,
            answers_within: Duration::ZERO,
        };
        let judge = |in_time, busy: usize, ms, usual| {
            let latencies = vec![Duration::from_millis(ms); 200 - busy];
            judged(
                &load,
                Outcome { latencies, in_time, busy: busy as u64, ..Outcome::default() },
                &Usage::default(),
                usual,
            )
        };
        let step = judge(199, 0, 10, None);
        assert!(step.kept_up && step.executed == 200 && (step.behind_ms - 10.0).abs() < 1e-6);
        assert!(judge(181, 0, 10, None).kept_up);
        assert!(!judge(178, 0, 10, None).kept_up);
        assert!(judge(150, 0, 400, None).kept_up);
        assert!(!judge(150, 0, 400, Some(Duration::from_millis(10))).kept_up);
        assert!(!judge(10, 0, 1_800, None).kept_up);
        assert!(!judge(198, 1, 10, None).kept_up);
    }
}
