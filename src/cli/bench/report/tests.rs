#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::cli::bench::disk::FileSystem;

fn figure(median: f64) -> Figure {
    Figure { median, low: 0.9 * median, high: 1.05 * median }
}

fn cores(one: f64) -> Cores {
    Cores { one_core: figure(one), all_cores: figure(16.0 * one) }
}

fn step(rate: u32, kept_up: bool) -> Step {
    Step {
        offered_per_s: rate,
        seconds: 4,
        offered: 4 * u64::from(rate),
        executed: 4 * u64::from(rate),
        busy: 0,
        refused: 0,
        unanswered: 0,
        reason: None,
        behind_ms: 20.0,
        finality_ms_p50: 9.25,
        finality_ms_p99: 1_234.0,
        validators_cores: 14.0,
        clients_cores: 1.5,
        machine_busy_share: Some(0.98),
        kept_up,
    }
}

/// A large machine, whose figures are wide.
fn large() -> Report {
    let machine = Machine { processor: Some("AMD EPYC 9B14".to_owned()), cores: 16, load_average: Some(9.0) };
    let verified = Verified {
        backend: "AVX-512 IFMA",
        message_bytes: MESSAGE_BYTES,
        single_per_s: figure(52_345.0),
        many_keys_per_s: cores(401_234.0),
        few_keys_per_s: cores(600_000.0),
    };
    let hashed = Hashed {
        sha256_leaves_per_s: cores(12_345_678.0),
        blake3_buffer_bytes: 32 << 20,
        blake3_bytes_per_s: cores(2.5e9),
    };
    let system = FileSystem {
        kind: "ext4".to_owned(),
        device: "/dev/mapper/volumes-data".to_owned(),
        mounted_at: "/srv".to_owned(),
    };
    let logged = Logged {
        dir: "/srv/salus".to_owned(),
        file_system: Some(system),
        syncs: 500,
        sync_bytes: 4_096,
        sync_ms_p50: 0.213,
        sync_ms_p99: 12.3,
        sync_ms_max: 20.0,
        group_bytes: 1 << 20,
        bytes_per_s: figure(8.5e8),
    };
    let finalised = Finalised {
        validators: 4,
        ready_s: 0.5,
        modest: step(1_000, true),
        search: vec![step(102_400, true), step(307_200, false)],
        kept_up_per_s: Some(102_400),
        not_kept_up_per_s: Some(307_200),
    };
    Report::new(false, machine, (verified, hashed), (logged, finalised))
}

fn table(report: &Report) -> String {
    let mut out = Vec::new();
    machine(&report.machine, report.quick, &mut out).unwrap();
    verified(&report.verify, report.machine.cores, &mut out).unwrap();
    hashed(&report.hash, &mut out).unwrap();
    logged(&report.log, &mut out).unwrap();
    finalised(&report.network, &mut out).unwrap();
    summary(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_fits_a_screen() {
    let text = table(&large());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.lines().count() <= 33, "{text}");
    for part in [
        "all 16 cores",
        "batches by AVX-512 IFMA",
        "  4,096 of 32 keys                  600,000/s ±10 %      9,600,000/s ±10 %",
        "  BLAKE3, a buffer of 32.00 MiB     2.5 GB/s ±10 %",
        "  which is ext4 on /dev/mapper/volumes-data at /srv",
        "p50 0.21 ms, p99 12 ms, of 500",
        "102,400/s, not with 307,200/s",
        "bottleneck  the processor: at 102,400/s 97 % of 16 cores used, 1 % by others",
        "limit       2,400,000/s if four validators",
        "t = 1.7 µs for one of 4,096 signatures",
        "a validator used 34 µs of CPU a transaction, 5 % to",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_said_and_is_null() {
    let mut report = large();
    report.machine.processor = None;
    report.machine.load_average = None;
    report.log.file_system = None;
    report.network.modest = Step { validators_cores: f64::NAN, kept_up: false, ..step(1_000, false) };
    report.network.search.clear();
    report.network.kept_up_per_s = None;
    let report =
        Report::new(true, report.machine, (report.verify, report.hash), (report.log, report.network));
    let text = table(&report);
    assert!(text.contains("unknown processor") && text.contains("bottleneck  not looked for"), "{text}");
    assert!(text.contains("cores used: unknown") && text.contains("--quick: samples"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert!(json["network"]["modest"]["validators_cores"].is_null());
    assert!(json["summary"]["cores_used_share"].is_null());
    assert_eq!(json["summary"]["bottleneck"], "unknown");
    assert_eq!(json["format"], "salus-bench/1");
}

#[test]
fn idle_cores_point_to_the_disk_or_to_nothing() {
    let bottleneck = |sync_ms, busy| {
        let Report { machine, verify, hash, mut log, mut network, .. } = large();
        log.sync_ms_p50 = sync_ms;
        network.search[0].validators_cores = 3.0;
        network.search[0].machine_busy_share = Some(busy);
        let report = Report::new(false, machine, (verify, hash), (log, network));
        assert!(table(&report).lines().all(|line| line.chars().count() <= 80), "{}", table(&report));
        report.summary.bottleneck
    };
    assert_eq!(bottleneck(2.0, 0.4), Bottleneck::Disk);
    assert_eq!(bottleneck(0.1, 0.4), Bottleneck::Neither);
    // Others leave it no more.
    assert_eq!(bottleneck(2.0, 0.95), Bottleneck::Processor);
}

#[test]
fn figures_are_short() {
    assert_eq!(rate(1_234_567.0), "1,230,000/s");
    assert_eq!(rate(99.6), "100/s");
    assert_eq!(rate(999.6), "1,000/s");
    assert_eq!((ms(0.004), ms(0.213)), ("4 µs".into(), "0.21 ms".into()));
    assert_eq!((ms(9.25), ms(12.3)), ("9.2 ms".into(), "12 ms".into()));
    assert_eq!((byte_rate(8.5e8), byte_rate(2.46e9)), ("850 MB/s".into(), "2.5 GB/s".into()));
}
