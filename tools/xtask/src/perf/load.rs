//! Four validators under open-loop load, by the load tool.

use serde::Deserialize;

use super::results::{Load, LoadRun, Spread};
use super::step::Work;

const RATES: &str = "1000,10000,20000,50000,100000,110000";
const RATES_QUICK: &str = "200,500";
/// Each rate is tried so many times, and all rates in turn.
const ROUNDS: usize = 3;

/// What the load tool writes, the part that is wanted.
#[derive(Deserialize)]
struct Written {
    runs: Vec<LoadRun>,
}

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let (rates, seconds, rounds) = if work.quick { (RATES_QUICK, "2", 1) } else { (RATES, "10", ROUNDS) };
    let mut faults = Vec::new();
    let mut load = Load { runs: Vec::new(), half: Vec::new() };
    for _ in 0..rounds {
        match run(work, &["--rates", rates, "--seconds", seconds]) {
            Ok((runs, fault)) => {
                load.runs.extend(runs);
                faults.extend(fault);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if let Some(half) = load.half_rate() {
        for _ in 0..rounds {
            match run(work, &["--rates", &half.to_string(), "--seconds", seconds]) {
                Ok((runs, fault)) => {
                    load.half.extend(runs);
                    faults.extend(fault);
                }
                Err(fault) => faults.push(fault),
            }
        }
    }
    work.results.load = Some(load).filter(|load| !load.runs.is_empty());
    faults.dedup();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// What the tool measured, and what did not hold of it.
pub(super) fn run(work: &mut Work, args: &[&str]) -> Result<(Vec<LoadRun>, Option<String>), String> {
    let path = work.scratch.join("load.json");
    let _ = std::fs::remove_file(&path);
    let mut command = work.program("load");
    command.args(args).arg("--json").arg(&path);
    // With exit code 1 it has measured, but transactions were refused or not answered: its figures stand, with that said.
    let ran = work.run(&mut command);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let runs = parsed(&text)?;
            let fault = ran.err().map(|error| lost(&runs).unwrap_or(error));
            Ok((runs, fault))
        }
        Err(error) => Err(ran.err().unwrap_or_else(|| format!("cannot read what load wrote: {error}"))),
    }
}

/// Runs that did not answer for all transactions.
fn lost(runs: &[LoadRun]) -> Option<String> {
    let faulty = runs.iter().filter(|run| run.lost() > 0);
    let told: Vec<String> = faulty
        .map(|run| format!("at {} tx/s {} refused or not answered", run.offered_per_s, run.lost()))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

pub(super) fn parsed(text: &str) -> Result<Vec<LoadRun>, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| format!("what load wrote: {error}"))?;
    Ok(written.runs.into_iter().map(LoadRun::rounded).collect())
}

impl LoadRun {
    /// Transactions that were refused for another reason than overload, or not answered.
    pub(crate) fn lost(&self) -> u64 {
        self.refused + self.unanswered
    }
}

impl Load {
    /// Rates that were offered, ascending.
    pub(crate) fn rates(&self) -> Vec<u64> {
        let mut rates: Vec<u64> = self.runs.iter().map(|run| run.offered_per_s).collect();
        rates.sort_unstable();
        rates.dedup();
        rates
    }

    /// A figure of all runs at a rate.
    pub(crate) fn at(&self, rate: u64, figure: impl Fn(&LoadRun) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().filter(|run| run.offered_per_s == rate).map(figure))
    }

    /// The rate offered at which most was committed, and how much that was.
    pub(crate) fn best(&self) -> Option<(u64, Spread)> {
        let committed = |rate| Some((rate, self.at(rate, |run| run.committed_per_s)?));
        let rates = self.rates().into_iter().filter_map(committed);
        rates.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    }

    /// Half of what was committed at best, in whole hundreds.
    pub(crate) fn half_rate(&self) -> Option<u64> {
        let (_, best) = self.best()?;
        let hundreds: u64 = format!("{:.0}", (best.median / 200.0).floor()).parse().ok()?;
        Some((hundreds * 100).max(100))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_load_writes_is_read() {
        let runs = parsed(include_str!("../../tests/load.json")).unwrap();
        let load = Load { runs, half: Vec::new() };
        assert_eq!(load.rates(), [1_000, 20_000]);
        let (rate, best) = load.best().unwrap();
        assert_eq!(rate, 20_000);
        assert!((best.median - 19_608.0).abs() < 1e-9);
        assert_eq!(load.half_rate(), Some(9_800));
        assert_eq!(lost(&load.runs), None);
        let one = LoadRun { unanswered: 3, ..load.runs[0].clone() };
        assert_eq!(lost(&[one]).unwrap(), "at 1000 tx/s 3 refused or not answered");
        // Not known where validators were started by other means.
        assert_eq!(load.runs[1].usage.validators_cores, None);
    }
}
