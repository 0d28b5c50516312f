//! Runs criterion's benches and reads what they left.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::results::{Bench, Spread, natural, rounded};
use super::step::{Step, Work};

/// `benchmark.json`, the part that is wanted.
#[derive(Deserialize)]
struct Named {
    full_id: String,
    throughput: Option<Value>,
}

/// `estimates.json`.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// `sample.json`.
#[derive(Deserialize)]
struct Samples {
    times: Vec<f64>,
}

/// Runs a bench into a folder of its own, so that no row of an earlier run is taken for one of this.
pub(super) fn measure(work: &mut Work, step: Step) -> Result<(), String> {
    let home = work.scratch.join("criterion").join(step.name());
    let times = if work.quick {
        ["--warm-up-time", "0.05", "--measurement-time", "0.1", "--sample-size", "10", "--noplot"]
    } else {
        ["--warm-up-time", "0.5", "--measurement-time", "2", "--sample-size", "20", "--noplot"]
    };
    let mut args = vec!["bench", "--locked", "--package", "salus", "--bench", step.bench(), "--"];
    args.extend(times);
    let mut command = work.cargo(&args);
    command.env("CRITERION_HOME", &home);
    let ran = work.run(&mut command);
    let benches = read(&home, step.name())?;
    let nothing = benches.is_empty();
    // What was measured before it failed is kept; that it failed is said.
    work.results.benches.extend(benches);
    ran?;
    if nothing { Err(format!("bench {} has measured nothing", step.bench())) } else { Ok(()) }
}

/// All rows below a folder of criterion's, in the order of their names.
pub(super) fn read(home: &Path, step: &str) -> Result<Vec<Bench>, String> {
    let mut benches = Vec::new();
    let mut folders = vec![home.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if path.ends_with("new") {
                benches.push(row(&path, step)?);
            } else {
                folders.push(path);
            }
        }
    }
    benches.sort_by_key(|bench| natural(&bench.name));
    Ok(benches)
}

fn row(folder: &Path, step: &str) -> Result<Bench, String> {
    let named: Named = parsed(&folder.join("benchmark.json"))?;
    let Estimates { median } = parsed(&folder.join("estimates.json"))?;
    let samples: Samples = parsed(&folder.join("sample.json"))?;
    let throughput = |names: &[&str]| {
        let found = named.throughput.as_ref()?;
        let inside = found.get("ElementsAndBytes").unwrap_or(found);
        names.iter().find_map(|name| inside.get(*name)?.as_f64())
    };
    Ok(Bench {
        step: step.to_owned(),
        ns: Spread {
            median: median.point_estimate,
            low: median.confidence_interval.lower_bound,
            high: median.confidence_interval.upper_bound,
        }
        .rounded(),
        elements: throughput(&["Elements", "elements"]).map(rounded),
        bytes: throughput(&["Bytes", "BytesDecimal", "bytes"]).map(rounded),
        samples: samples.times.len(),
        name: named.full_id,
    })
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rows_of_criterion_are_read() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/criterion");
        let benches = read(&home, "hash").unwrap();
        let names: Vec<_> = benches.iter().map(|bench| bench.name.as_str()).collect();
        assert_eq!(names, ["hash/tree/leaves=1000000", "hash/tree_sha2/leaves=1000000"]);
        let tree = &benches[0];
        assert_eq!(tree.ns, Spread { median: 39_202_500.0, low: 38_662_300.0, high: 41_611_300.0 });
        assert_eq!((tree.elements, tree.bytes, tree.samples), (Some(1e6), None, 10));
        assert!((tree.each_ns().median - 39.2025).abs() < 1e-9);
        assert_eq!(read(Path::new("nowhere"), "hash"), Ok(Vec::new()));
    }
}
