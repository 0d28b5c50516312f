//! Which plots there are.

use super::numbers::whole;
use super::plot::{Across, Plot, Scale, Series};
use super::results::{LoadRun, Results, Spread};

/// Name of the file and the picture, of each plot for which there are figures.
pub(super) fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let all = [
        ("verify.svg", verify(results)),
        ("verify-keys.svg", verify_keys(results)),
        ("hash.svg", hash(results)),
        ("log.svg", log(results)),
        ("load-throughput.svg", throughput(results)),
        ("load-latency.svg", latency(results)),
        ("memory.svg", memory(results)),
    ];
    all.into_iter().filter_map(|(name, plot)| Some((name, plot.svg()?))).collect()
}

pub(super) const VERIFIERS: [(&str, &str); 4] = [
    ("batch", "Salus"),
    ("portable", "Salus, portable"),
    ("dalek", "dalek verify_batch"),
    ("zebra", "zebra batch"),
];

/// Signatures and keys that are measured, of which the name of a row tells.
pub(super) fn sizes(results: &Results) -> Vec<(u32, u32)> {
    let size = |name: &str| {
        let (n, keys) = name.strip_prefix("verify/batch/n=")?.split_once(",keys=")?;
        Some((n.parse().ok()?, keys.parse().ok()?))
    };
    results.benches.iter().filter_map(|bench| size(&bench.name)).collect()
}

pub(super) fn verify_row(results: &Results, verifier: &str, (n, keys): (u32, u32)) -> Option<Spread> {
    Some(results.bench(&format!("verify/{verifier}/n={n},keys={keys}"))?.per_s())
}

fn verify(results: &Results) -> Plot {
    let few = |size: &(u32, u32)| size.1 <= 32;
    let series = VERIFIERS.iter().map(|(verifier, name)| Series {
        name: (*name).to_owned(),
        points: sizes(results)
            .into_iter()
            .filter(few)
            .filter_map(|size| Some((f64::from(size.0), verify_row(results, verifier, size)?)))
            .collect(),
    });
    Plot {
        title: "Verification by size of the batch, at most 32 keys".to_owned(),
        measure: "signatures a second on one core".to_owned(),
        across: Across::Numbers { label: "signatures in a batch".to_owned(), scale: Scale::Log },
        scale: Scale::Log,
        series: measured(series),
    }
}

fn verify_keys(results: &Results) -> Plot {
    let groups: Vec<(u32, u32)> = sizes(results).into_iter().filter(|(n, _)| *n >= 1_024).collect();
    let name = |(n, keys): &(u32, u32)| {
        format!("{} signatures,\n{} keys", whole(f64::from(*n)), whole(f64::from(*keys)))
    };
    let series = VERIFIERS.iter().map(|(verifier, name)| Series {
        name: (*name).to_owned(),
        points: grouped(groups.iter().map(|size| verify_row(results, verifier, *size))),
    });
    Plot {
        title: "Verification by number of keys".to_owned(),
        measure: "signatures a second on one core".to_owned(),
        across: Across::Groups(groups.iter().map(name).collect()),
        scale: Scale::Linear,
        series: measured(series),
    }
}

/// What is hashed, and the name of its group.
pub(super) const HASHED: [(&str, &str, &str); 5] = [
    ("tx_ids", "bytes=180", "ids of\n180 bytes"),
    ("tx_ids", "bytes=350", "ids of\n350 bytes"),
    ("leaves", "n=1024", "leaves"),
    ("nodes", "n=1024", "nodes"),
    ("tree", "leaves=1000000", "tree, all\ncores"),
];

fn hash(results: &Results) -> Plot {
    let series = [("", "Salus"), ("_sha2", "sha2, one by one")].map(|(suffix, name)| Series {
        name: name.to_owned(),
        points: grouped(
            HASHED
                .iter()
                .map(|(what, size, _)| Some(results.bench(&format!("hash/{what}{suffix}/{size}"))?.per_s())),
        ),
    });
    Plot {
        title: "SHA-256 of many messages".to_owned(),
        measure: "hashes a second; of the tree, leaves".to_owned(),
        across: Across::Groups(HASHED.map(|(_, _, name)| name.to_owned()).to_vec()),
        scale: Scale::Linear,
        series: measured(series),
    }
}

/// Who appends, by the name of a row.
pub(super) const APPENDERS: [(&str, &str); 6] = [
    ("salus", "Salus"),
    ("fjall", "fjall"),
    ("redb", "redb"),
    ("pwrite", "pwrite, fdatasync"),
    ("direct", "O_DIRECT"),
    ("device", "device, 8 in flight"),
];

/// Records in a batch, ascending.
pub(super) fn batches(results: &Results) -> Vec<u32> {
    let batch = |name: &str| name.strip_prefix("log/append/salus/n=")?.parse().ok();
    let speeds = results.log.iter().filter(|row| row.of.is_none());
    let mut batches: Vec<u32> = speeds.filter_map(|row| batch(&row.name)).collect();
    batches.sort_unstable();
    batches
}

fn log(results: &Results) -> Plot {
    let series = APPENDERS.iter().map(|(who, name)| Series {
        name: (*name).to_owned(),
        points: batches(results)
            .into_iter()
            .filter_map(|n| Some((f64::from(n), results.log_row(&format!("log/append/{who}/n={n}"), None)?)))
            .collect(),
    });
    Plot {
        title: "Durable appends of records of 512 bytes".to_owned(),
        measure: "MB a second, with quartiles".to_owned(),
        across: Across::Numbers { label: "records in a batch".to_owned(), scale: Scale::Log },
        scale: Scale::Log,
        series: measured(series),
    }
}

/// A figure of the load by the rate offered.
fn by_rate(results: &Results, name: &str, figure: impl Fn(&LoadRun) -> f64) -> Series {
    let load = results.load.as_ref();
    let rates = load.map(super::results::Load::rates).unwrap_or_default();
    let point = |rate: u64| Some((rate as f64, load?.at(rate, &figure)?));
    Series { name: name.to_owned(), points: rates.into_iter().filter_map(point).collect() }
}

fn throughput(results: &Results) -> Plot {
    let offered = by_rate(results, "offered", |run| run.offered_per_s as f64);
    let committed = by_rate(results, "committed", |run| run.committed_per_s);
    Plot {
        title: "Four validators and their clients on one machine".to_owned(),
        measure: "transactions a second".to_owned(),
        across: Across::Numbers { label: "offered a second".to_owned(), scale: Scale::Log },
        scale: Scale::Log,
        series: measured([committed, offered]),
    }
}

fn latency(results: &Results) -> Plot {
    let p50 = by_rate(results, "p50", |run| run.finality_ms.p50);
    let p99 = by_rate(results, "p99", |run| run.finality_ms.p99);
    Plot {
        title: "Time to finality".to_owned(),
        measure: "ms from the moment a transaction was due".to_owned(),
        across: Across::Numbers { label: "offered a second".to_owned(), scale: Scale::Log },
        scale: Scale::Log,
        series: measured([p50, p99]),
    }
}

fn memory(results: &Results) -> Plot {
    let memory = results.memory.as_ref();
    let validators = memory.map_or(0, super::results::Memory::validators);
    let series = (0..validators).map(|index| Series {
        name: format!("validator {}", index + 1),
        points: memory
            .into_iter()
            .flat_map(|memory| &memory.samples)
            .filter_map(|sample| {
                let mib = *sample.rss_mib.get(index)?;
                Some((sample.at_s, Spread { median: mib, low: mib, high: mib }))
            })
            .collect(),
    });
    Plot {
        title: "Memory at half of the best rate".to_owned(),
        measure: "MiB resident".to_owned(),
        across: Across::Numbers { label: "seconds of load".to_owned(), scale: Scale::Linear },
        scale: Scale::Linear,
        series: measured(series),
    }
}

/// A point for each group that was measured.
fn grouped(figures: impl Iterator<Item = Option<Spread>>) -> Vec<(f64, Spread)> {
    let points = figures.enumerate().filter_map(|(group, figure)| Some((group as f64, figure?)));
    points.collect()
}

/// Those of which something was measured.
fn measured(series: impl IntoIterator<Item = Series>) -> Vec<Series> {
    series.into_iter().filter(|series| !series.points.is_empty()).collect()
}
