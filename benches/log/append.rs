//! Durable appends of batches of records.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};
use salus::io::disk::FolderDisk;
use salus::log::{Log, LogOptions};
use salus::types::NetworkId;

use super::files::{Aligned, open, write_all, zero_filled};
use super::{RECORD_BYTES, show};

const ROUNDS: usize = 11;
/// Records in a batch, and batches in a round: less than half a segment each time.
const SIZES: [(usize, usize); 4] = [(1, 256), (16, 256), (128, 128), (2_048, 24)];
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("log");

/// Something that appends.
trait Candidate {
    /// Appends a batch; durable when it returns.
    fn append(&mut self, records: &[&[u8]]);

    /// What has to be done ahead of the next `bytes`, outside of the time.
    fn prepare(&mut self, _bytes: u64) {}
}

struct Own(Log<FolderDisk>);

impl Candidate for Own {
    fn append(&mut self, records: &[&[u8]]) {
        for record in records {
            self.0.append(1, self.0.next_seq(), &[record]).expect("append");
        }
        self.0.commit().expect("commit");
    }

    fn prepare(&mut self, _bytes: u64) {
        while self.0.prepare().expect("prepare") {}
        self.0.sync_watermark().expect("watermark");
    }
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    next: u64,
}

impl Candidate for Fjall {
    fn append(&mut self, records: &[&[u8]]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for record in records {
            batch.insert(&self.keyspace, self.next.to_be_bytes(), *record);
            self.next += 1;
        }
        batch.commit().expect("commit");
    }
}

struct Redb {
    database: redb::Database,
    next: u64,
}

impl Candidate for Redb {
    fn append(&mut self, records: &[&[u8]]) {
        let mut transaction = self.database.begin_write().expect("begin");
        transaction.set_durability(Durability::Immediate).expect("durability");
        {
            let mut table = transaction.open_table(TABLE).expect("table");
            for record in records {
                table.insert(self.next.to_be_bytes().as_slice(), *record).expect("insert");
                self.next += 1;
            }
        }
        transaction.commit().expect("commit");
    }
}

/// Writes of the batch's size into a file of zeros, with a sync after each: through the page cache, or past it.
struct Raw {
    file: File,
    bytes: Aligned,
    at: u64,
    len: u64,
}

impl Raw {
    fn new(path: &Path, batch: usize, len: usize, direct: bool) -> Self {
        zero_filled(path, len);
        Self { file: open(path, direct), bytes: Aligned::new(batch), at: 0, len: len as u64 }
    }
}

impl Candidate for Raw {
    fn append(&mut self, _records: &[&[u8]]) {
        let bytes = self.bytes.get();
        self.file.write_all_at(bytes, self.at).expect("write");
        self.file.sync_data().expect("sync");
        self.at += bytes.len() as u64;
    }

    fn prepare(&mut self, bytes: u64) {
        if self.at + bytes > self.len {
            self.at = 0;
        }
    }
}

/// The same bytes as a round writes, at the pace of the device.
pub(super) fn device(file: &File, bytes: u64) -> f64 {
    let start = Instant::now();
    write_all(file, 0, bytes);
    bytes as f64 / start.elapsed().as_secs_f64()
}

/// What fills the records: as hard to compress as hashes and signatures.
pub(super) fn records(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n * RECORD_BYTES];
    blake3::Hasher::new().update(b"records").finalize_xof().fill(&mut bytes);
    bytes
}

fn candidates(folder: &Path, batch: usize, round: usize) -> Vec<(&'static str, Box<dyn Candidate>)> {
    let disk = FolderDisk::open_or_create(&folder.join("log")).expect("folder");
    let (log, _) = Log::open(disk, NetworkId([7; 8]), LogOptions::default()).expect("open the log");
    let database = Database::builder(folder.join("fjall")).open().expect("open fjall");
    let keyspace = database.keyspace("log", KeyspaceCreateOptions::default).expect("keyspace");
    let tree = redb::Database::create(folder.join("redb")).expect("open redb");
    vec![
        ("salus", Box::new(Own(log))),
        ("fjall", Box::new(Fjall { database, keyspace, next: 0 })),
        ("redb", Box::new(Redb { database: tree, next: 0 })),
        ("pwrite", Box::new(Raw::new(&folder.join("buffered"), batch, round, false))),
        ("direct", Box::new(Raw::new(&folder.join("direct"), batch, round, true))),
    ]
}

/// All sizes of batches, or one.
pub(super) fn run(folder: &Path, only: Option<usize>) {
    for (n, batches) in SIZES.into_iter().filter(|(n, _)| only.is_none_or(|only| only == *n)) {
        let folder = folder.join(format!("{n}"));
        std::fs::create_dir(&folder).expect("folder");
        let bytes = records(n);
        let batch: Vec<&[u8]> = bytes.chunks(RECORD_BYTES).collect();
        let round = bytes.len() * batches;
        let mut candidates = candidates(&folder, bytes.len(), round);
        let raw = open(&folder.join("direct"), true);
        let mut speeds = vec![Vec::new(); candidates.len() + 1];
        for turn in 0..ROUNDS {
            for step in 0..speeds.len() {
                let one = (turn + step) % speeds.len();
                let Some((_, candidate)) = candidates.get_mut(one) else {
                    speeds[one].push(device(&raw, round as u64));
                    continue;
                };
                candidate.prepare(round as u64);
                let start = Instant::now();
                for _ in 0..batches {
                    candidate.append(black_box(&batch));
                }
                speeds[one].push(round as f64 / start.elapsed().as_secs_f64());
            }
        }
        let own = speeds[0].clone();
        let names: Vec<&str> = candidates.iter().map(|(name, _)| *name).chain(["device"]).collect();
        for (name, speeds) in names.iter().zip(&speeds) {
            show(&format!("log/append/{name}/n={n}"), speeds, None);
        }
        for (name, speeds) in names.iter().zip(&speeds).skip(1) {
            show(&format!("log/append/salus/n={n}"), &own, Some((name, speeds)));
        }
        drop(candidates);
        std::fs::remove_dir_all(&folder).expect("remove");
    }
}
