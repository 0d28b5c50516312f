//! RocksDB beside Salus's block log: durable appends of 512-byte records in batches, in turns.
//!
//! As `benches/log` does it with other candidates: the same records, the same sizes of batches, one sync for each batch. Each round
//! runs all, beginning with another, and ratios are taken within a round. Medians over the rounds are shown, with the quartiles.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use salus::io::disk::FolderDisk;
use salus::log::{Log, LogOptions};
use salus::types::NetworkId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORD_BYTES: usize = 512;
const ROUNDS: usize = 11;
/// Records in a batch, and batches in a round.
const SIZES: [(usize, usize); 4] = [(1, 256), (16, 256), (128, 128), (2_048, 24)];
/// Room for all that is written between two flushes of a memory table.
const MEMTABLE_BYTES: usize = 256 << 20;

/// Something that appends.
trait Candidate {
    /// Appends a batch; durable when it returns.
    fn append(&mut self, records: &[&[u8]]);

    /// What has to be done ahead of a round, outside of the time.
    fn prepare(&mut self) {}
}

struct Own(Log<FolderDisk>);

impl Candidate for Own {
    fn append(&mut self, records: &[&[u8]]) {
        for record in records {
            self.0.append(1, self.0.next_seq(), &[record]).expect("append");
        }
        self.0.commit().expect("commit");
    }

    fn prepare(&mut self) {
        while self.0.prepare().expect("prepare") {}
        self.0.sync_watermark().expect("watermark");
    }
}

struct Rocks {
    database: DB,
    options: WriteOptions,
    next: u64,
}

impl Rocks {
    fn open(path: &Path, options: &Options) -> Self {
        let database = DB::open(options, path).expect("open RocksDB");
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Self { database, options, next: 0 }
    }
}

impl Candidate for Rocks {
    fn append(&mut self, records: &[&[u8]]) {
        let mut batch = WriteBatch::default();
        for record in records {
            batch.put(self.next.to_be_bytes(), record);
            self.next += 1;
        }
        self.database.write_opt(batch, &self.options).expect("write");
    }
}

fn defaults() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options
}

/// What helps appends in order: log files that are used again, so that a sync has no length to write down; a memory table that
/// is a vector; few flushes; one thread that writes.
fn tuned() -> Options {
    let mut options = defaults();
    options.set_recycle_log_file_num(4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    options.set_allow_concurrent_memtable_write(false);
    options.set_memtable_factory(rocksdb::MemtableFactory::Vector);
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

fn candidates(folder: &Path) -> Vec<(&'static str, Box<dyn Candidate>)> {
    let disk = FolderDisk::open_or_create(&folder.join("log")).expect("folder");
    let (log, _) = Log::open(disk, NetworkId([7; 8]), LogOptions::default()).expect("open the log");
    vec![
        ("salus", Box::new(Own(log))),
        ("rocksdb", Box::new(Rocks::open(&folder.join("rocksdb"), &defaults()))),
        ("rocksdb-tuned", Box::new(Rocks::open(&folder.join("tuned"), &tuned()))),
    ]
}

/// What fills the records: as hard to compress as hashes and signatures.
fn records(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n * RECORD_BYTES];
    blake3::Hasher::new().update(b"records").finalize_xof().fill(&mut bytes);
    bytes
}

/// First quartile, median and third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [1, 2, 3].map(|quarter| values[last * quarter / 4])
}

fn run(folder: &Path, n: usize, batches: usize, rounds: usize) {
    let bytes = records(n);
    let batch: Vec<&[u8]> = bytes.chunks(RECORD_BYTES).collect();
    let round = (bytes.len() * batches) as f64;
    let mut candidates = candidates(folder);
    let mut speeds = vec![Vec::new(); candidates.len()];
    for turn in 0..rounds {
        for step in 0..speeds.len() {
            let one = (turn + step) % speeds.len();
            let (_, candidate) = &mut candidates[one];
            candidate.prepare();
            let start = Instant::now();
            for _ in 0..batches {
                candidate.append(black_box(&batch));
            }
            speeds[one].push(round / start.elapsed().as_secs_f64());
        }
    }
    for ((name, _), speeds) in candidates.iter().zip(&speeds) {
        let [low, median, high] = quartiles(speeds.clone()).map(|speed| speed / 1e6);
        println!("{:<38} {median:>6.1} MB/s ({low:.1} to {high:.1})", format!("peer/rocksdb/{name}/n={n}"));
    }
    for ((name, _), theirs) in candidates.iter().zip(&speeds).skip(1) {
        let ratios = speeds[0].iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        let [low, median, high] = quartiles(ratios);
        println!(
            "{:<38} {median:>6.2} of {name} ({low:.2} to {high:.2})",
            format!("peer/rocksdb/salus/n={n}")
        );
    }
}

fn main() {
    let rounds = if std::env::args().any(|word| word == "--quick") { 3 } else { ROUNDS };
    let parent = std::env::var_os("SALUS_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&parent).expect("create the folder");
    for (n, batches) in SIZES {
        let folder = tempfile::tempdir_in(&parent).expect("temporary folder");
        run(folder.path(), n, batches, rounds);
    }
}
