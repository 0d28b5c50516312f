//! The demo, as a user starts it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::SALUS;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(SALUS);
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

/// Process ids that the demo printed.
fn processes(output: &str) -> Vec<u32> {
    output.lines().filter_map(|line| line.rsplit_once("  process ")?.1.parse().ok()).collect()
}

fn folder(output: &str) -> PathBuf {
    let line = output.lines().find(|line| line.starts_with("network ")).expect("names its folder");
    line.rsplit_once(", in ").unwrap().1.into()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn the_demo_makes_the_sample_final_and_proves_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("demo");
    let output = demo(&["--times", "1", "--dir", at.to_str().unwrap()]).output().unwrap();
    let (text, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{text}{errors}");
    for expected in [
        "final       430 transactions in ",
        "\nmissing     0: ",
        "\nroots       equal on all 4 validators at 430 leaves: ",
        "\n            holds: RECORD_ANCHOR of organisation ",
        "\naltered     one byte of the transaction: refused: the stub does not belong to the transaction",
        "\naltered     one letter of the resource: refused: the resource is not the one that was anchored",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let processes = processes(&text);
    assert_eq!(processes.len(), 4);
    assert!(!processes.into_iter().any(is_there), "the demo left a validator behind");

    let verify = |bundle: &str| {
        let mut command = Command::new(SALUS);
        command.arg("verify").arg(at.join(bundle)).arg("--genesis").arg(at.join("genesis.json"));
        command.output().unwrap().status.code()
    };
    assert_eq!((verify("proof.json"), verify("proof-altered.json")), (Some(0), Some(1)));
}

#[test]
fn a_demo_that_is_interrupted_ends_what_it_started() {
    let mut child =
        demo(&["--times", "10000"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    // Ends with the demo, should that fail before.
    for line in lines.by_ref() {
        text += &(line.unwrap() + "\n");
        if text.contains("\nstage 2") {
            break;
        }
    }
    let processes = processes(&text);
    assert_eq!(processes.len(), 4, "{text}");
    assert!(processes.iter().all(|pid| is_there(*pid)) && folder(&text).exists());
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{errors}");
    assert!(errors.starts_with("error: interrupted: "), "{errors}");
    assert!(!processes.into_iter().any(is_there) && !folder(&text).exists());
}

#[test]
fn a_demo_that_cannot_be_done_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("events.ndjson");
    std::fs::write(&stream, "{\"when\":\"2026-01-01T00:00:00Z\",\"tx\":\"NOTHING\",\"resource\":{}}\n")
        .unwrap();
    for (arguments, expected) in [
        (vec!["--data", stream.to_str().unwrap()], "events.ndjson: line 1: tx: "),
        (vec!["--dir", dir.path().to_str().unwrap()], "is not empty\n  choose a folder"),
        (vec!["--validators", "23"], "23 is not in 1..=22"),
    ] {
        let output = demo(&arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && errors.contains(expected), "{errors}");
    }
}
