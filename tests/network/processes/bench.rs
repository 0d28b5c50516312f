//! `salus bench`, as an operator runs it: what it says, not how fast the machine under the tests is.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{SALUS, WITHIN};

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(SALUS);
    command.arg("bench").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn figures_for_programs_are_all_there_and_nothing_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(&["--quick", "--json", "-", "--dir", dir.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["format"], &json["quick"]), (&"salus-bench/1".into(), &true.into()));
    let positive = [
        "/machine/cores",
        "/verify/single_per_s/median",
        "/verify/many_keys_per_s/one_core/median",
        "/verify/few_keys_per_s/all_cores/low",
        "/hash/sha256_leaves_per_s/one_core/high",
        "/hash/blake3_bytes_per_s/all_cores/median",
        "/log/sync_ms_p50",
        "/log/sync_ms_p99",
        "/log/bytes_per_s/median",
        "/network/modest/final",
        "/network/modest/finality_ms_p50",
        "/network/modest/finality_ms_p99",
        "/network/modest/validators_cores",
        "/summary/verification_limit_per_s",
    ];
    for field in positive {
        let value = json.pointer(field).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{field} in {json:#}");
    }
    assert!(["AVX-512 IFMA", "portable"].contains(&json["verify"]["backend"].as_str().unwrap()));
    assert_eq!(json["log"]["dir"], dir.path().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(json["network"]["validators"], 4);
    assert!(is_empty(dir.path()));
}

#[test]
fn the_table_is_for_a_screen_and_the_file_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let args = ["--quick", "--json", file.to_str().unwrap()];
    let output = bench(&args).output().unwrap();
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}{}", text(&output.stderr));
    for part in ["verifies ", "hashes\n", "logs durably, in ", "makes final, 4 validators", "\nbottleneck "] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));

    let refused = |args: &[&str]| {
        let Output { status, stderr, .. } = bench(args).output().unwrap();
        assert_eq!(status.code(), Some(2));
        text(&stderr)
    };
    assert!(refused(&args).contains("bench.json exists already\n  choose another name"));
    let nowhere = dir.path().join("nowhere");
    assert!(refused(&["--dir", nowhere.to_str().unwrap()]).contains("\n  name one with --dir that exists"));
}

#[test]
fn an_interrupted_measurement_tidies_up() {
    let dir = tempfile::tempdir().unwrap();
    let child = bench(&["--dir", dir.path().to_str().unwrap()]).spawn().unwrap();
    // The network has its own folder, made before the validators start.
    let ended = interrupt_once(child, || {
        let folders = std::fs::read_dir(dir.path()).unwrap();
        folders.flatten().any(|folder| folder.path().join("network/validator-4/node.pid").exists())
    });
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.contains("error: interrupted: everything that was started has been ended"), "{said}");
    assert!(is_empty(dir.path()));
}

/// Sends SIGINT when `begun`, and waits for the end.
fn interrupt_once(mut child: Child, begun: impl Fn() -> bool) -> Output {
    let end = Instant::now() + WITHIN;
    while !begun() {
        if Instant::now() > end || child.try_wait().unwrap().is_some() {
            child.kill().unwrap();
            panic!("it did not begin: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    child.wait_with_output().unwrap()
}
