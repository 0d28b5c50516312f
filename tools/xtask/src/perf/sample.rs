//! Made-up results, for tests of what is made of results.

use std::collections::BTreeMap;

use super::machine::Machine;
use super::results::{
    Bench, FORMAT, Files, Finality, Load, LoadRun, LogRow, Memory, MemorySample, PeerRow, Peers, Profile,
    Results, Spread, StepRun, ThreadShare, Unit, Usage,
};

fn around(median: f64) -> Spread {
    Spread { median, low: median * 0.9, high: median / 0.9 }.rounded()
}

/// A row whose elements take so many ns each.
fn bench(step: &str, name: &str, elements: f64, each_ns: f64) -> Bench {
    let ns = around(elements * each_ns);
    Bench {
        step: step.to_owned(),
        name: name.to_owned(),
        ns,
        elements: Some(elements),
        bytes: None,
        samples: 20,
    }
}

fn log(name: &str, of: Option<&str>, [low, median, high]: [f64; 3]) -> LogRow {
    LogRow { name: name.to_owned(), of: of.map(str::to_owned), figure: Spread { median, low, high } }
}

fn run(offered_per_s: u64, committed_per_s: f64, p50: f64, p99: f64) -> LoadRun {
    let run = LoadRun {
        validators: 4,
        seconds: 10,
        offered_per_s,
        committed_per_s,
        finality_ms: Finality { p50, p90: p99 * 0.8, p99, p999: p99 * 1.2, max: p99 * 1.5 },
        busy: 0,
        refused: 0,
        unanswered: 0,
        client_lag_ms_max: 5.0,
        usage: Usage { seconds: 10.0, validators_cores: Some(1.5), tool_cores: Some(0.3) },
    };
    run.rounded()
}

/// With something of each kind, and some rows missing.
pub(super) fn results() -> Results {
    let files = [("salus hash", [0.5, 0.5, 0.55]), ("b3sum", [0.55, 0.6, 0.55])];
    let step = |name: &str| {
        let commands = vec![format!("cargo bench --bench {name}")];
        (
            name.to_owned(),
            StepRun { commands, began: "2026-01-02 03:04".to_owned(), seconds: 60.0, fault: None },
        )
    };
    let mut steps: BTreeMap<String, StepRun> =
        ["verify", "hash", "consensus", "log", "files", "load", "memory", "profile"]
            .into_iter()
            .map(step)
            .collect();
    steps.insert("state".to_owned(), StepRun { fault: Some("it broke".to_owned()), ..StepRun::default() });
    Results {
        format: FORMAT.to_owned(),
        quick: false,
        machine: machine(),
        commit: "0123456789ab".to_owned(),
        uncommitted_changes: true,
        steps,
        benches: benches(),
        log: vec![
            log("log/append/salus/n=128", None, [270.0, 280.0, 290.0]),
            log("log/append/fjall/n=128", None, [70.0, 80.0, 90.0]),
            log("log/append/redb/n=128", None, [60.0, 70.0, 80.0]),
            log("log/append/salus/n=2048", None, [890.0, 900.0, 910.0]),
            log("log/append/device/n=2048", None, [940.0, 950.0, 960.0]),
            log("log/append/salus/n=128", Some("fjall"), [3.0, 3.5, 4.0]),
            log("log/append/salus/n=128", Some("redb"), [3.9, 4.0, 4.1]),
            log("log/stream/store/n=2048", None, [895.0, 905.0, 915.0]),
            log("log/stream/store/n=2048", Some("device"), [0.9, 0.95, 1.0]),
        ],
        files: Some(Files {
            bytes: 2 << 30,
            seconds: files.into_iter().map(|(name, s)| (name.to_owned(), s.to_vec())).collect(),
            missing: vec!["sha256sum".to_owned()],
        }),
        load: Some(load()),
        memory: Some(memory()),
        profile: Some(profile()),
        peers: Some(peers()),
    }
}

fn peers() -> Peers {
    let row = |name: &str, unit, median| PeerRow { name: name.to_owned(), unit, figure: around(median) };
    let speed = || Unit::In("MB/s".to_owned());
    Peers {
        rows: vec![
            row("peer/rocksdb/salus/n=128", speed(), 250.0),
            row("peer/rocksdb/rocksdb/n=128", speed(), 100.0),
            row("peer/rocksdb/salus/n=128", Unit::Of("rocksdb".to_owned()), 2.5),
        ],
        engine: vec![run(1_000, 999.0, 20.0, 50.0)],
        own: vec![run(1_000, 999.0, 10.0, 40.0), run(1_000, 998.0, 11.0, 50.0)],
        missing: vec!["quic".to_owned()],
    }
}

fn memory() -> Memory {
    let samples = (0..60).map(|n| {
        let at_s = f64::from(n) * 10.0;
        let rss = 200.0 + at_s.min(60.0) * 1.5 + if n >= 54 { 10.0 } else { 0.0 };
        MemorySample {
            at_s,
            rss_mib: vec![rss, rss - 20.0, rss - 30.0, rss - 40.0],
            anonymous_mib: vec![rss / 2.0; 4],
        }
    });
    Memory { offered_per_s: 9_800, seconds: 600.0, samples: samples.collect() }
}

fn profile() -> Profile {
    let share = |name: &str, cpu, kernel, samples| (name.to_owned(), ThreadShare { cpu, kernel, samples });
    let threads = [
        share("salus", 0.001, 0.0, 0.0),
        share("salus-exec", 0.25, 0.05, 0.3),
        share("salus-verify-*", 0.5, 0.01, 0.6),
        share("salus-net", 0.249, 0.2, 0.06),
    ];
    Profile { offered_per_s: 9_800, seconds: 20, cpu_s: 12.5, samples: 1_222, threads: threads.into() }
}

fn machine() -> Machine {
    Machine {
        processor: "Sample 9000".to_owned(),
        cores: 2,
        extensions: vec!["avx2".to_owned(), "avx512ifma".to_owned()],
        memory_gib: 15.5,
        kernel: "Linux 6.1".to_owned(),
        rustc: "rustc 1.95.0 (0123456 2026-04-14)".to_owned(),
        rustflags: None,
        load_average_before: 0.1,
    }
}

fn benches() -> Vec<Bench> {
    let mut benches = vec![
        bench("verify", "verify/single", 1.0, 19_000.0),
        bench("verify", "verify/pipeline/n=1024", 1_024.0, 1_000.0),
        bench("verify", "verify/bare/n=1024", 1_024.0, 900.0),
        bench("hash", "hash/tree/leaves=1000000", 1e6, 40.0),
        bench("hash", "hash/tree_sha2/leaves=1000000", 1e6, 168.0),
        bench("hash", "hash/leaves/n=1024", 1_024.0, 38.0),
        bench("hash", "hash/leaves_sha2/n=1024", 1_024.0, 70.0),
        bench("consensus", "consensus/decode/n=4", 60.0, 1_200.0),
    ];
    for (n, keys, batch, dalek) in [
        (64.0, 32, 3_600.0, 10_500.0),
        (1_024.0, 1_024, 2_500.0, 10_000.0),
        (1_024.0, 32, 2_000.0, 11_000.0),
        (4_096.0, 32, 1_500.0, 9_000.0),
    ] {
        let name = |verifier: &str| format!("verify/{verifier}/n={n},keys={keys}");
        benches.push(bench("verify", &name("batch"), n, batch));
        benches.push(bench("verify", &name("portable"), n, 10_000.0));
        benches.push(bench("verify", &name("dalek"), n, dalek));
    }
    benches
}

fn load() -> Load {
    Load {
        runs: [1.0, 1.02, 0.98]
            .into_iter()
            .flat_map(|x| {
                [
                    run(1_000, 999.0, 9.5 * x, 60.0 * x),
                    run(10_000, 9_970.0, 19.0 * x, 45.0),
                    run(20_000, 19_600.0 * x, 241.0, 646.0 * x),
                ]
            })
            .collect(),
        half: [(20.0, 45.0), (19.0, 46.0), (21.0, 44.0)]
            .map(|(p50, p99)| run(9_800, 9_790.0, p50, p99))
            .to_vec(),
    }
}
