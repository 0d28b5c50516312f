//! Durable appends that do not wait for each other: groups of 1 MiB, several on their way, beside the bare device.
//!
//! *Lanes* is the log and four writing threads. *Store* is the node's writer thread, its segments of 64 MiB filled with zeros meanwhile,
//! all of that in its time: so the disk takes every byte twice. *Ahead* is the same with segments that are filled between the rounds.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use salus::io::block_index::MemoryTable;
use salus::io::disk::{FolderDisk, FolderFile};
use salus::io::log_lanes::LogLanes;
use salus::io::log_store::{LogEvent, LogStore};
use salus::log::{Log, LogOptions};
use salus::types::{LogSeq, NetworkId};

use super::append::{device, records};
use super::files::{open, zero_filled};
use super::{RECORD_BYTES, show};

const ROUNDS: usize = 15;
const NETWORK: NetworkId = NetworkId([7; 8]);
/// Records of a group: 1 MiB.
const RECORDS: usize = 2_048;
/// Groups of a round.
const GROUPS: usize = 192;
/// So that a round fits into a segment that is prepared outside of the time, as it is when a node has time for that.
const SEGMENT_BYTES: u64 = 512 << 20;

/// The log and the threads that write for it.
struct Lanes {
    log: Log<FolderDisk>,
    lanes: LogLanes<FolderFile>,
}

impl Lanes {
    fn land(&mut self) {
        if let Some(outcome) = self.lanes.wait() {
            self.log.end_write(outcome).expect("write");
        }
    }

    fn round(&mut self, batch: &[&[u8]]) {
        for _ in 0..GROUPS {
            for record in batch {
                self.log.append(1, self.log.next_seq(), &[record]).expect("append");
            }
            loop {
                if let Some(write) = self.log.begin_write().expect("begin") {
                    self.lanes.give(write);
                    break;
                }
                self.land();
            }
        }
        while self.lanes.busy() > 0 {
            self.land();
        }
        assert_eq!(self.log.durable().0 + 1, self.log.next_seq().0);
    }
}

/// The node's own writer thread.
struct Store {
    store: LogStore,
    events: Receiver<LogEvent>,
    next: u64,
    spare: PathBuf,
    segment_bytes: u64,
}

impl Store {
    fn open(folder: &Path, segment_bytes: u64) -> Self {
        let (sender, events) = channel();
        let notify = move |event| drop(sender.send(event));
        let (options, table) = (LogOptions { segment_bytes, seed: 0 }, MemoryTable::default());
        let (store, _) =
            LogStore::open(folder, NETWORK, options, table, |_| None, |_| {}, notify).expect("open");
        Self { store, events, next: 1, spare: folder.join("spare"), segment_bytes }
    }

    /// Waits until the next segment is filled.
    fn prepare(&self) {
        while self.spare.metadata().map_or(0, |spare| spare.len()) < self.segment_bytes {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn round(&mut self, batch: &[Bytes]) {
        for n in 0..GROUPS * RECORDS {
            while self.store.writer.is_full() {
                self.events.recv().expect("event");
            }
            self.store
                .writer
                .append(LogSeq(self.next), 1, vec![batch[n % RECORDS].clone()], None)
                .expect("append");
            self.next += 1;
        }
        let last = LogSeq(self.next - 1);
        self.store.writer.sync(last).expect("sync");
        while !matches!(self.events.recv().expect("event"), LogEvent::Synced(durable) if durable >= last) {}
    }
}

pub(super) fn run(folder: &Path) {
    let disk = FolderDisk::open_or_create(&folder.join("lanes")).expect("folder");
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, seed: 0 };
    let (log, _) = Log::open(disk, NETWORK, options).expect("open the log");
    let mut lanes = Lanes { log, lanes: LogLanes::default() };
    let mut store = Store::open(&folder.join("store"), LogOptions::default().segment_bytes);
    let mut ahead = Store::open(&folder.join("ahead"), SEGMENT_BYTES);
    store.prepare();
    let bytes = records(RECORDS);
    let batch: Vec<&[u8]> = bytes.chunks(RECORD_BYTES).collect();
    let shared: Vec<Bytes> = batch.iter().map(|record| Bytes::copy_from_slice(record)).collect();
    let round = (bytes.len() * GROUPS) as u64;
    let path = folder.join("device");
    zero_filled(&path, bytes.len() * GROUPS);
    let raw = open(&path, true);
    let mut speeds = [const { Vec::new() }; 4];
    for turn in 0..ROUNDS {
        for step in 0..speeds.len() {
            let one = (turn + step) % speeds.len();
            match one {
                0 => while lanes.log.prepare().expect("prepare") {},
                1 => ahead.prepare(),
                _ => {}
            }
            let start = Instant::now();
            match one {
                0 => lanes.round(black_box(&batch)),
                1 => ahead.round(black_box(&shared)),
                2 => {
                    store.round(black_box(&shared));
                    store.prepare();
                }
                _ => {
                    speeds[one].push(device(&raw, round));
                    continue;
                }
            }
            speeds[one].push(round as f64 / start.elapsed().as_secs_f64());
            ahead.prepare();
        }
    }
    let [lanes, ahead, store, device] = &speeds;
    for (name, speeds) in [("lanes", lanes), ("ahead", ahead), ("store", store), ("device", device)] {
        show(&format!("log/stream/{name}/n={RECORDS}"), speeds, None);
    }
    for (name, speeds) in [("lanes", lanes), ("ahead", ahead), ("store", store)] {
        show(&format!("log/stream/{name}/n={RECORDS}"), speeds, Some(("device", device)));
    }
}
