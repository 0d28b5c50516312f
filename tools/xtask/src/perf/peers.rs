//! What is not part of the build, and is measured only when it is asked for: other people's programs, each in a folder of `perf/peers` with a
//! script `run` that builds and measures it beside Salus.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::load;
use super::numbers::{ms_digits, three, three_spread, times_spread, whole};
use super::results::{LoadRun, PeerRow, Peers, Spread, Unit};
use super::step::Work;

/// Those whose lines are figures.
const LINES: [&str; 3] = ["signatures", "rocksdb", "quic"];
/// The one that is loaded as Salus is.
const ENGINE: &str = "consensus";
/// Those of `consensus/run`.
const RATES: &str = "1000,10000,20000,50000,100000";
const RATES_QUICK: &str = "200,500";

fn folder(name: &str) -> PathBuf {
    crate::root().join("perf/peers").join(name)
}

/// The script, to be run by its name from the project's folder, so that it can be shown.
fn script(name: &str) -> Command {
    let mut command = Command::new(format!("perf/peers/{name}/run"));
    command.current_dir(crate::root());
    command
}

/// Builds all of them. One that cannot be built, as its tools are not there, is left out and named.
pub(super) fn build(work: &mut Work) {
    let mut peers = Peers::default();
    for name in LINES.into_iter().chain([ENGINE]) {
        let built = if folder(name).join("run").exists() {
            work.run(script(name).arg("--build"))
        } else {
            Err(format!("there is no perf/peers/{name}/run"))
        };
        if let Err(why) = built {
            println!("   left out: {why}");
            peers.missing.push(name.to_owned());
        }
    }
    work.results.peers = Some(peers);
}

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let mut peers = work.results.peers.take().unwrap_or_default();
    let mut faults = Vec::new();
    for name in LINES.into_iter().filter(|name| !peers.missing.iter().any(|missing| missing == name)) {
        let mut command = script(name);
        if work.quick {
            command.arg("--quick");
        }
        match work.output(&mut command) {
            Ok(text) => {
                let rows: Vec<PeerRow> = text.lines().filter_map(row).collect();
                if rows.is_empty() {
                    faults.push(format!("{name}: none of its lines is a figure"));
                }
                peers.rows.extend(rows);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if !peers.missing.iter().any(|missing| missing == ENGINE) {
        engine(work, &mut peers, &mut faults);
    }
    work.results.peers = Some(peers);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Salus before and after it, so that both have the machine as the other has it.
fn engine(work: &mut Work, peers: &mut Peers, faults: &mut Vec<String>) {
    let own = |work: &mut Work, peers: &mut Peers, faults: &mut Vec<String>| {
        let (rates, seconds) = if work.quick { (RATES_QUICK, "2") } else { (RATES, "10") };
        match load::run(work, &["--rates", rates, "--seconds", seconds]) {
            Ok((runs, fault)) => {
                peers.own.extend(runs);
                faults.extend(fault);
            }
            Err(fault) => faults.push(fault),
        }
    };
    own(work, peers, faults);
    let path = work.scratch.join("engine.json");
    let mut command = script(ENGINE);
    command.env("JSON", &path);
    if work.quick {
        command.arg("--quick");
    }
    // As of Salus's load: what it has measured stands even if it says that something was not answered.
    let ran = work.run(&mut command);
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read what {ENGINE} wrote: {error}"));
    match text.and_then(|text| load::parsed(&text)) {
        Ok(runs) => peers.engine = runs,
        Err(fault) => faults.push(fault),
    }
    faults.extend(ran.err());
    own(work, peers, faults);
    if !work.quick {
        own(work, peers, faults);
    }
}

/// `NAME 123 MB/s (120 to 125)`, or `NAME 0.95 of OTHER (0.93 to 0.97)`.
fn row(line: &str) -> Option<PeerRow> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, median, unit @ .., low, "to", high] = &words[..] else { return None };
    let unit = match unit {
        ["of", other] => Unit::Of((*other).to_owned()),
        [unit] => Unit::In((*unit).to_owned()),
        [] | [_, ..] => return None,
    };
    let figure = Spread {
        median: median.parse().ok()?,
        low: low.strip_prefix('(')?.parse().ok()?,
        high: high.strip_suffix(')')?.parse().ok()?,
    };
    name.starts_with("peer/").then(|| PeerRow { name: (*name).to_owned(), unit, figure })
}

/// The section of the report.
pub(super) fn report(peers: Option<&Peers>) -> String {
    let Some(peers) = peers else {
        return "Not measured: `cargo xtask perf --only peers`.\n".to_owned();
    };
    let mut out = "Other people's programs, each beside Salus in this run; what is compared, and why that is fair or is not, \
                   is in the README of each folder of `peers`.\n"
        .to_owned();
    if !peers.missing.is_empty() {
        let _ = writeln!(out, "\nNot measured, as not built here: {}.", peers.missing.join(", "));
    }
    if !peers.rows.is_empty() {
        out.push_str("\nMedians, with the quartiles of the rounds; ratios are taken within a round.\n\n| | |\n|---|---:|\n");
        for PeerRow { name, unit, figure } in &peers.rows {
            let name = name.strip_prefix("peer/").unwrap_or(name);
            let _ = match unit {
                Unit::In(unit) => writeln!(out, "| {name} | {} {unit} |", three_spread(*figure)),
                Unit::Of(other) => writeln!(out, "| {name} beside `{other}` | {} |", times_spread(*figure)),
            };
        }
    }
    if !peers.engine.is_empty() {
        out.push_str(
            "\nFour validators of commonware's simplex under the same open load, with the settings that serve it best at each rate. \
             **Its transactions have no signatures, and nothing executes them**: it is what ordering alone costs.\n\n\
             | offered /s | | runs | committed /s | p50, ms | p99, ms | validators' cores |\n|---:|---|---:|---:|---:|---:|---:|\n",
        );
        for rate in rates(&peers.engine) {
            for (who, runs) in [("commonware", &peers.engine), ("Salus", &peers.own)] {
                engine_row(&mut out, rate, who, runs);
            }
        }
    }
    out
}

fn rates(runs: &[LoadRun]) -> Vec<u64> {
    let mut rates: Vec<u64> = runs.iter().map(|run| run.offered_per_s).collect();
    rates.sort_unstable();
    rates.dedup();
    rates
}

fn engine_row(out: &mut String, rate: u64, who: &str, runs: &[LoadRun]) {
    let runs: Vec<&LoadRun> = runs.iter().filter(|run| run.offered_per_s == rate).collect();
    let of = |figure: fn(&LoadRun) -> Option<f64>| Spread::of(runs.iter().filter_map(|run| figure(run)));
    let ms =
        |ms: Spread| format!("{} ({} to {})", ms_digits(ms.median), ms_digits(ms.low), ms_digits(ms.high));
    let shown =
        |figure: Option<Spread>, shown: &dyn Fn(Spread) -> String| figure.map(shown).unwrap_or_default();
    let _ = writeln!(
        out,
        "| {} | {who} | {} | {} | {} | {} | {} |",
        whole(rate as f64),
        runs.len(),
        shown(of(|run| Some(run.committed_per_s)), &three_spread),
        shown(of(|run| Some(run.finality_ms.p50)), &ms),
        shown(of(|run| Some(run.finality_ms.p99)), &ms),
        shown(of(|run| run.usage.validators_cores), &|cores| three(cores.median)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_figures_are_read_and_others_are_not() {
        let figure = Spread { median: 0.89, low: 0.82, high: 0.95 };
        let unit = Unit::In("cpu-s/GB".to_owned());
        let cost = PeerRow { name: "peer/quic/both-sides".to_owned(), unit, figure };
        assert_eq!(row("peer/quic/both-sides              0.89 cpu-s/GB (0.82 to 0.95)"), Some(cost));
        let figure = Spread { median: 2.51, low: 1.48, high: 2.6 };
        let unit = Unit::Of("rocksdb".to_owned());
        let ratio = PeerRow { name: "peer/rocksdb/salus/n=128".to_owned(), unit, figure };
        assert_eq!(row("peer/rocksdb/salus/n=128  2.51 of rocksdb (1.48 to 2.60)"), Some(ratio));
        for other in [
            "",
            "# one thread",
            "log/append/salus 1 MB/s (1 to 2)",
            "peer/commonware/rate=20000  committed 1/s",
        ] {
            assert_eq!(row(other), None);
        }
    }

    #[test]
    fn what_is_missing_is_named_and_salus_stands_beside_the_engine() {
        let peers = super::super::sample::results().peers.unwrap_or_default();
        let text = report(Some(&peers));
        for part in [
            "Not measured, as not built here: quic.",
            "| rocksdb/salus/n=128 beside `rocksdb` |",
            "| 1,000 | commonware | 1 |",
            "| 1,000 | Salus | 2 |",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
