//! The figures asked for, beside those measured.

use super::files::{B3SUM, OWN_BLAKE3};
use super::numbers::{ms_spread, times_spread, whole};
use super::results::{Bench, Files, Load, Memory, Results, Spread};

/// Time to finality asked for at half of the best rate.
const P50_MS_MAX: f64 = 60.0;
const P99_MS_MAX: f64 = 200.0;
/// Memory of a validator.
const RSS_MIB_MAX: f64 = 1_024.0;
/// How much more memory it may have in the last minute than in the second and still count as flat.
const GROWTH_MAX: f64 = 1.1;
/// What a signature costs in four validators, by this row: batches as a network of a few gateways fills them.
const SIGNATURE: &str = "verify/batch/n=1024,keys=32";

/// One figure.
pub(super) struct Goal {
    pub(super) number: &'static str,
    pub(super) what: String,
    pub(super) asked: String,
    /// Or why it was not measured.
    pub(super) measured: Result<Measured, String>,
    pub(super) command: &'static str,
}

/// What was measured, as shown, and whether the median meets what was asked.
pub(super) struct Measured {
    pub(super) shown: String,
    pub(super) met: bool,
}

const VERIFY: &str = "cargo bench --bench verify";
const HASH: &str = "cargo bench --bench hash";
const FILES: &str = "cargo xtask perf --only files";
const APPEND: &str = "cargo bench --bench log -- append";
const STREAM: &str = "cargo bench --bench log -- stream";
const RECOVERY: &str = "cargo bench --bench log -- recovery 4";

/// All of them, in order.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = computing(results);
    goals.extend(logging(results));
    goals.push(at_least(
        "11",
        &format!("four validators, beside cores / (4 t), t of `{SIGNATURE}`"),
        0.35,
        network(results),
        "cargo xtask perf --only verify,load",
    ));
    goals.push(finality(results.load.as_ref()));
    goals.push(memory(results.memory.as_ref()));
    goals
}

/// Signatures and hashes.
fn computing(results: &Results) -> Vec<Goal> {
    let verify = |number, what, asked, [own, peer]: [&str; 2]| {
        at_least(number, what, asked, beside(results, own, peer), VERIFY)
    };
    let tree = beside(results, "hash/tree/leaves=1000000", "hash/tree_sha2/leaves=1000000");
    let files = results.files.as_ref().ok_or_else(|| "not measured".to_owned());
    let b3sum = files.and_then(|files| file_ratio(files, OWN_BLAKE3, B3SUM));
    vec![
        verify(
            "1",
            "batch verification, 1,024 signatures of 1,024 keys, beside dalek's `verify_batch`",
            4.0,
            ["verify/batch/n=1024,keys=1024", "verify/dalek/n=1024,keys=1024"],
        ),
        verify(
            "2",
            "the same, 4,096 signatures of 32 keys",
            6.5,
            ["verify/batch/n=4096,keys=32", "verify/dalek/n=4096,keys=32"],
        ),
        verify(
            "3",
            "a single signature of a known key, beside dalek's `verify`",
            1.0,
            ["verify/batch/n=1,keys=1", "verify/dalek_single"],
        ),
        at_least("4", "the pipeline on two cores, beside bare loops", 0.95, pipeline(results), VERIFY),
        verify(
            "5",
            "the portable engine, 1,024 signatures of 1,024 keys, beside dalek's `verify_batch`",
            0.95,
            ["verify/portable/n=1024,keys=1024", "verify/dalek/n=1024,keys=1024"],
        ),
        at_least("6", "a tree of a million leaves, beside one thread of `sha2`", 4.0, tree, HASH),
        at_least("7", "`salus hash` of a cached file of 2 GiB, beside `b3sum`", 1.0, b3sum, FILES),
    ]
}

/// The block log.
fn logging(results: &Results) -> Vec<Goal> {
    let beside = |number, what, asked, name, others: &[&str], command| {
        at_least(number, what, asked, log_ratio(results, name, others), command)
    };
    let (few, many) = ("log/append/salus/n=128", "log/append/salus/n=2048");
    let stream = "durable appends of 512 bytes in groups of 1 MiB, several on the way, beside the raw device with as many";
    let waited = "the same, each group waited for, beside the raw device that waits too";
    let stores = "durable appends in batches of 128, beside the better of fjall and redb";
    let recovery = "recovery of a log of 4 GiB, beside a cold read of its files";
    vec![
        beside("8a", stream, 0.9, "log/stream/store/n=2048", &["device"], STREAM),
        beside("8b", waited, 0.9, many, &["direct"], APPEND),
        beside("9a", stores, 3.0, few, &["fjall", "redb"], APPEND),
        beside("9b", "the same in batches of 2,048", 4.0, many, &["fjall", "redb"], APPEND),
        beside("10", recovery, 0.9, "log/recovery/open", &["read"], RECOVERY),
    ]
}

/// A goal that is a multiple.
fn at_least(
    number: &'static str,
    what: &str,
    asked: f64,
    ratio: Result<Spread, String>,
    command: &'static str,
) -> Goal {
    let measured = ratio.map(|ratio| Measured { shown: times_spread(ratio), met: ratio.median >= asked });
    Goal { number, what: what.to_owned(), asked: format!("≥ {asked} ×"), measured, command }
}

fn row<'a>(results: &'a Results, name: &'a str) -> Result<&'a Bench, String> {
    results.below(name).next().ok_or_else(|| format!("not measured: no row `{name}`"))
}

/// How many times as fast as a peer one is, for each element.
fn beside(results: &Results, own: &str, peer: &str) -> Result<Spread, String> {
    Ok(row(results, own)?.per_s().over(row(results, peer)?.per_s()))
}

/// The worst of all pairs of the pipeline and a bare loop.
fn pipeline(results: &Results) -> Result<Spread, String> {
    const PIPELINE: &str = "verify/pipeline";
    let pair = |own: &Bench| {
        let peer = results.bench(&format!("verify/bare{}", own.name.strip_prefix(PIPELINE)?))?;
        Some(own.per_s().over(peer.per_s()))
    };
    let ratios = results.below(PIPELINE).filter_map(pair);
    ratios
        .min_by(|a, b| a.median.total_cmp(&b.median))
        .ok_or_else(|| format!("not measured: no row `{PIPELINE}/…` with one of `verify/bare/…`"))
}

/// The smallest multiple of any of the others.
fn log_ratio(results: &Results, name: &str, others: &[&str]) -> Result<Spread, String> {
    let ratios: Option<Vec<Spread>> = others.iter().map(|other| results.log_row(name, Some(other))).collect();
    let ratio = ratios.into_iter().flatten().min_by(|a, b| a.median.total_cmp(&b.median));
    ratio.ok_or_else(|| format!("not measured: no row `{name}` beside {}", others.join(" and ")))
}

/// How many times as fast as another program one is: of the medians, and in the worst and the best round.
pub(super) fn file_ratio(files: &Files, own: &str, other: &str) -> Result<Spread, String> {
    let of =
        |name: &str| files.seconds.get(name).ok_or_else(|| format!("not measured: {name} is not installed"));
    let (own, other) = (of(own)?, of(other)?);
    let rounds = Spread::of(own.iter().zip(other).map(|(own, other)| other / own));
    let medians = (Spread::of(own.iter().copied()), Spread::of(other.iter().copied()));
    let (Some(rounds), (Some(own), Some(other))) = (rounds, medians) else {
        return Err("not measured".to_owned());
    };
    Ok(Spread { median: other.median / own.median, ..rounds })
}

/// What four validators commit at best, as a share of what the cores could verify if they did nothing else.
fn network(results: &Results) -> Result<Spread, String> {
    let best = results.load.as_ref().and_then(Load::best);
    let (_, committed) = best.ok_or_else(|| "not measured: no load".to_owned())?;
    let signatures = row(results, SIGNATURE)?.per_s();
    let cores = results.machine.cores as f64;
    Ok(committed.over(signatures.map(|per_s| per_s * cores / 4.0)))
}

fn finality(load: Option<&Load>) -> Goal {
    let figure = |of: fn(&super::results::LoadRun) -> f64| {
        Spread::of(load.into_iter().flat_map(|load| &load.half).map(of))
    };
    let (p50, p99) = (figure(|run| run.finality_ms.p50), figure(|run| run.finality_ms.p99));
    let rate = load.and_then(|load| load.half.first()).map(|run| run.offered_per_s as f64);
    let measured = match (p50, p99, rate) {
        (Some(p50), Some(p99), Some(rate)) => Ok(Measured {
            shown: format!("p50 {}, p99 {}, at {} tx/s", ms_spread(p50), ms_spread(p99), whole(rate)),
            met: p50.median <= P50_MS_MAX && p99.median <= P99_MS_MAX,
        }),
        (_, _, None) | (None, _, _) | (_, None, _) => Err("not measured".to_owned()),
    };
    Goal {
        number: "12",
        what: "time to finality at half of the best rate".to_owned(),
        asked: format!("p50 ≤ {P50_MS_MAX} ms, p99 ≤ {P99_MS_MAX} ms"),
        measured,
        command: "cargo xtask perf --only load",
    }
}

fn memory(memory: Option<&Memory>) -> Goal {
    let measured = match memory.and_then(Memory::judged) {
        Some((peak, growth)) => Ok(Measured {
            shown: format!("{peak:.0} MiB at most, {growth:.2} × of the second minute in the last"),
            met: peak <= RSS_MIB_MAX && growth <= GROWTH_MAX,
        }),
        None if memory.is_some() => Err("not measured: the load was too short".to_owned()),
        None => Err("not measured: only with `--long`".to_owned()),
    };
    Goal {
        number: "13",
        what: "memory of a validator in ten minutes at half of the best rate".to_owned(),
        asked: format!("≤ 1 GiB; in the last minute ≤ {GROWTH_MAX} × of the second"),
        measured,
        command: "cargo xtask perf --only load,memory",
    }
}

impl Memory {
    /// Number of validators.
    pub(crate) fn validators(&self) -> usize {
        self.samples.first().map_or(0, |sample| sample.rss_mib.len())
    }

    /// The most that any validator had, and how many times as much as in the second minute it had in the last, of the validator
    /// where that grew most. `None` of less than three minutes.
    pub(super) fn judged(&self) -> Option<(f64, f64)> {
        if self.seconds < 180.0 {
            return None;
        }
        let peak = self.samples.iter().flat_map(|sample| &sample.rss_mib).copied().reduce(f64::max)?;
        let between = |index: usize, from: f64, to: f64| {
            let inside = self.samples.iter().filter(move |sample| sample.at_s >= from && sample.at_s < to);
            Spread::of(inside.filter_map(move |sample| sample.rss_mib.get(index).copied()))
        };
        let growth = |index| {
            let last = between(index, self.seconds - 60.0, f64::INFINITY)?;
            Some(last.median / between(index, 60.0, 120.0)?.median)
        };
        let grown: Option<Vec<f64>> = (0..self.validators()).map(growth).collect();
        Some((peak, grown?.into_iter().reduce(f64::max)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::perf::sample;

    #[test]
    fn figures_are_compared_with_what_was_asked() {
        let results = sample::results();
        let goals = goals(&results);
        let shown: Vec<_> = goals
            .iter()
            .map(|goal| match &goal.measured {
                Ok(Measured { shown, met }) => format!("{} {met} {shown}", goal.number),
                Err(why) => format!("{} {why}", goal.number),
            })
            .collect();
        let expected = [
            "1 true 4.00 × (3.24 to 4.94)",
            "2 false 6.00 × (4.86 to 7.41)",
            "3 not measured: no row `verify/batch/n=1,keys=1`",
            "4 false 0.90 × (0.73 to 1.11)",
            "5 true 1.00 × (0.81 to 1.23)",
            "6 true 4.20 × (3.40 to 5.19)",
            "7 true 1.10 × (1.00 to 1.20)",
            "8a true 0.95 × (0.90 to 1.00)",
            "8b not measured: no row `log/append/salus/n=2048` beside direct",
            "9a true 3.50 × (3.00 to 4.00)",
            "9b not measured: no row `log/append/salus/n=2048` beside fjall and redb",
            "10 not measured: no row `log/recovery/open` beside read",
            "11 false 0.08 × (0.07 to 0.09)",
            "12 true p50 20.0 ms (19.0 to 21.0), p99 45.0 ms (44.0 to 46.0), at 9,800 tx/s",
            "13 true 300 MiB at most, 1.04 × of the second minute in the last",
        ];
        assert_eq!(shown, expected);
    }
}
