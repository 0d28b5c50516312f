//! Opening a log that is not in the page cache, beside reading its files.

use std::path::{Path, PathBuf};
use std::time::Instant;

use salus::io::disk::FolderDisk;
use salus::log::{Log, LogOptions};
use salus::types::{LogSeq, NetworkId};

use super::files::{make_cold, open, read_all, read_in_order};
use super::{RECORD_BYTES, show};

const ROUNDS: usize = 9;
const NETWORK: NetworkId = NetworkId([7; 8]);
/// Records in a group: 1 MiB.
const RECORDS: usize = 2_048;

fn open_log(folder: &Path) -> Log<FolderDisk> {
    let disk = FolderDisk::open_or_create(folder).expect("folder");
    Log::open(disk, NETWORK, LogOptions::default()).expect("open the log").0
}

/// Writes a log of so many bytes of records; returns its segments and the number of records.
fn fill(folder: &Path, bytes: u64) -> (Vec<PathBuf>, LogSeq) {
    let mut body = vec![0; RECORDS * RECORD_BYTES];
    blake3::Hasher::new().update(b"records").finalize_xof().fill(&mut body);
    let mut log = open_log(folder);
    for _ in 0..bytes / body.len() as u64 {
        for record in body.chunks(RECORD_BYTES) {
            log.append(1, log.next_seq(), &[record]).expect("append");
        }
        log.commit().expect("commit");
    }
    let last = log.durable();
    log.close().expect("close");
    let names = std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path());
    let mut segments: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    segments.sort();
    (segments, last)
}

/// Bytes a second of `run` over files that are not in the page cache.
fn cold(segments: &[PathBuf], run: impl FnOnce()) -> f64 {
    segments.iter().for_each(|path| make_cold(path));
    let bytes: u64 = segments.iter().map(|path| path.metadata().expect("length").len()).sum();
    let start = Instant::now();
    run();
    bytes as f64 / start.elapsed().as_secs_f64()
}

pub(super) fn run(folder: &Path, gib: u64) {
    let log = folder.join("log");
    let (segments, last) = fill(&log, gib << 30);
    let runs: [&dyn Fn(); 3] = [
        &|| assert_eq!(open_log(&log).durable(), last),
        &|| segments.iter().for_each(|path| read_in_order(path)),
        &|| segments.iter().for_each(|path| read_all(&open(path, true))),
    ];
    let mut speeds = [const { Vec::new() }; 3];
    for turn in 0..ROUNDS {
        for step in 0..runs.len() {
            let one = (turn + step) % runs.len();
            speeds[one].push(cold(&segments, runs[one]));
        }
    }
    let [open, read, device] = &speeds;
    for (name, speeds) in [("open", open), ("read", read), ("device", device)] {
        show(&format!("log/recovery/{name}"), speeds, None);
    }
    for (name, speeds) in [("read", read), ("device", device)] {
        show("log/recovery/open", open, Some((name, speeds)));
    }
}
