//! Processes that append to a block log and are killed: what they said is durable is there afterwards, whole and in order.
//!
//! SIGKILL leaves what the operating system holds, so this says nothing of power loss (the simulated disk's crash images do): it tries
//! a thousand moments, whichever the system makes of them, at which the real writer, its lanes and its watermark may end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "starts processes, and reads what they say")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use salus::io::block_index::MemoryTable;
use salus::io::log_store::{LogEvent, LogStore};
use salus::log::{LogOptions, Record};
use salus::types::{LogSeq, NetworkId};

const NETWORK: NetworkId = NetworkId(*b"network1");
/// Tells the child where its log is.
const FOLDER: &str = "SALUS_KILLS_FOLDER";
/// Asks it for long groups, several at once, in large segments.
const LARGE: &str = "SALUS_KILLS_LARGE";
/// Folders of one test, and times that a process is killed in each, or in each with long groups, which soon are many megabytes. Four
/// tests, so that each is short: a thousand kills.
const FOLDERS: u64 = 5;
const KILLS_EACH: u64 = 90;
const KILLS_LARGE: u64 = 10;
/// Records after which a child ends by itself: more than it is let live for.
const RECORDS_MAX: u64 = 1_000_000;

/// Numbers that look random, the same each time.
fn draw(of: u64, below: u64) -> u64 {
    let (first, _) =
        blake3::hash(&of.to_be_bytes()).as_bytes().split_first_chunk::<8>().map(|(a, b)| (*a, b)).unwrap();
    u64::from_be_bytes(first) % below
}

fn body(seq: u64) -> Vec<u8> {
    blake3::hash(&seq.to_be_bytes()).as_bytes().repeat(1 + usize::try_from(draw(seq, 60)).unwrap())
}

/// The process that is killed; a test that passes at once where it is not asked for.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut next = 1;
    let each = |record: Record| {
        assert_eq!(
            (record.seq, &record.bytes[..]),
            (LogSeq(next), &body(next)[..]),
            "what is there is whole and in order"
        );
        next += 1;
    };
    let say = |what: &str, seq: LogSeq| {
        // The parent may be gone.
        let _ = writeln!(std::io::stdout().lock(), "{what} {}", seq.0);
    };
    let notify = move |event: LogEvent| match event {
        LogEvent::Synced(seq) => say("durable", seq),
        LogEvent::Room => {}
        LogEvent::Failed(error) => panic!("{error}"),
    };
    let is_large = std::env::var(LARGE).is_ok();
    let options = LogOptions { segment_bytes: if is_large { 4 << 20 } else { 64 << 10 }, seed: 0 };
    let table = MemoryTable::default();
    let (store, recovered) =
        LogStore::open(Path::new(&folder), NETWORK, options, table, |_| None, each, notify).unwrap();
    say("found", recovered.last);
    let mut seq = recovered.last.0;
    while seq < RECORDS_MAX {
        // Of large ones each sixteenth is a megabyte and more: those go to the lanes.
        let most = if is_large && draw(!seq, 16) == 0 { 2_500 } else { 30 };
        for _ in 0..=draw(seq, most) {
            seq += 1;
            store.writer.append(LogSeq(seq), 1, vec![body(seq).into()], None).unwrap();
        }
        store.writer.sync(LogSeq(seq)).unwrap();
        while store.writer.is_full() {
            std::thread::yield_now();
        }
    }
    panic!("nobody killed it");
}

fn start(folder: &Path, is_large: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if is_large {
        command.env(LARGE, "");
    }
    command.args(["--exact", "child", "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a child said, if it is one of its lines and not the test harness's.
fn said(line: &str) -> Option<(&str, u64)> {
    let (what, seq) = line.split_once(' ')?;
    Some((what, seq.parse().ok()?)).filter(|(what, _)| ["found", "durable"].contains(what))
}

/// What was said to be durable outlives each kill.
fn kills(part: u64) {
    let mut most = 0;
    for round in part * FOLDERS..(part + 1) * FOLDERS {
        let folder = tempfile::tempdir().unwrap();
        let mut durable = 0;
        let is_large = round % 2 == 1;
        let (kills, lines_max) = if is_large { (KILLS_LARGE, 3) } else { (KILLS_EACH, 12) };
        for kill in 0..kills {
            let mut child = start(folder.path(), is_large);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut left = 1 + draw(round * KILLS_EACH + kill, lines_max);
            while left > 0 {
                let Some(line) = lines.next() else {
                    let output = child.wait_with_output().unwrap();
                    panic!("it ended: {}", String::from_utf8_lossy(&output.stderr));
                };
                match said(&line.unwrap()) {
                    Some(("found", seq)) => {
                        assert!(
                            seq >= durable,
                            "{seq} found, {durable} was durable, in round {round}, kill {kill}"
                        );
                    }
                    Some((_, seq)) => {
                        durable = seq;
                        left -= 1;
                    }
                    None => {}
                }
            }
            child.kill().unwrap();
            // What it said until the kill counts too.
            for (_, seq) in lines
                .map_while(Result::ok)
                .filter_map(|line| said(&line).map(|(what, seq)| (what.len(), seq)))
            {
                durable = durable.max(seq);
            }
            child.wait().unwrap();
        }
        most = most.max(durable);
    }
    assert!(most > 100, "records of the longest log");
}

#[test]
fn what_was_said_to_be_durable_outlives_kills_1() {
    kills(0);
}

#[test]
fn what_was_said_to_be_durable_outlives_kills_2() {
    kills(1);
}

#[test]
fn what_was_said_to_be_durable_outlives_kills_3() {
    kills(2);
}

#[test]
fn what_was_said_to_be_durable_outlives_kills_4() {
    kills(3);
}
