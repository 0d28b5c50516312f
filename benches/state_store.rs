//! The choice of the state store: fjall (log-structured merge tree) against redb (copy-on-write B-tree), on what execution
//! asks of a store for each commit.
//!
//! One iteration is one commit: 300 point reads of keys that exist, 300 of keys that do not, then one atomic batch of
//! 1,000 puts of about 100 bytes (half under hashes, half under ascending numbers), not synced: the block log is the truth
//! and is replayed. Every 64 commits the store is made durable, and that time counts. The store holds 200,000 entries at
//! the start and grows.
//!
//! Run with `cargo bench --bench state_store`.
#![allow(missing_docs, clippy::expect_used, reason = "a bench stops at the first error")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, ReadableDatabase as _, TableDefinition};

const PUTS: u64 = 1_000;
const READS: u64 = 300;
const PRELOADED_COMMITS: u64 = 200;
const PERSIST_EVERY: u64 = 64;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");

type Puts = Vec<(Vec<u8>, Vec<u8>)>;

/// What the two stores are asked to do.
trait Candidate {
    /// Whether each key is there.
    fn get(&self, keys: &[Vec<u8>]) -> Vec<bool>;
    fn commit(&mut self, puts: &Puts);
    fn persist(&mut self);
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Candidate for Fjall {
    fn get(&self, keys: &[Vec<u8>]) -> Vec<bool> {
        keys.iter().map(|key| self.keyspace.get(key).expect("read").is_some()).collect()
    }

    fn commit(&mut self, puts: &Puts) {
        let mut batch = self.database.batch();
        for (key, value) in puts {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        batch.commit().expect("commit");
    }

    fn persist(&mut self) {
        self.database.persist(PersistMode::SyncData).expect("sync");
    }
}

struct Redb {
    database: redb::Database,
}

impl Redb {
    fn write(&self, puts: &Puts, durability: Durability) {
        let mut transaction = self.database.begin_write().expect("begin");
        transaction.set_durability(durability).expect("durability");
        {
            let mut table = transaction.open_table(TABLE).expect("table");
            for (key, value) in puts {
                table.insert(key.as_slice(), value.as_slice()).expect("insert");
            }
        }
        transaction.commit().expect("commit");
    }
}

impl Candidate for Redb {
    fn get(&self, keys: &[Vec<u8>]) -> Vec<bool> {
        let transaction = self.database.begin_read().expect("begin");
        let table = transaction.open_table(TABLE).expect("table");
        keys.iter().map(|key| table.get(key.as_slice()).expect("read").is_some()).collect()
    }

    fn commit(&mut self, puts: &Puts) {
        self.write(puts, Durability::None);
    }

    fn persist(&mut self) {
        self.write(&Vec::new(), Durability::Immediate);
    }
}

fn hashed(number: u64) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(blake3::hash(&number.to_be_bytes()).as_bytes());
    key
}

fn numbered(number: u64) -> Vec<u8> {
    let mut key = vec![b'l'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn puts(commit: u64) -> Puts {
    let numbers = commit * PUTS / 2..(commit + 1) * PUTS / 2;
    numbers
        .flat_map(|n| {
            let value = blake3::hash(&n.to_le_bytes()).as_bytes().repeat(3);
            [(hashed(n), value.clone()), (numbered(n), value)]
        })
        .collect()
}

/// Keys of the reads of a commit, spread over everything that was put before, and as many that were never put.
fn reads(commit: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let below = commit * PUTS / 2;
    let live = (0..READS).map(|i| hashed((commit * 7_919 + i * 104_729) % below)).collect();
    let absent = (0..READS).map(|i| hashed(u64::MAX - commit * READS - i)).collect();
    (live, absent)
}

fn run(c: &mut Criterion, name: &str, mut store: impl Candidate) {
    for commit in 0..PRELOADED_COMMITS {
        store.commit(&puts(commit));
    }
    store.persist();
    let mut commit = PRELOADED_COMMITS;
    let mut group = c.benchmark_group("state_store");
    group.sample_size(20).throughput(Throughput::Elements(PUTS));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || {
                let input = (commit, puts(commit), reads(commit));
                commit += 1;
                input
            },
            |(commit, puts, (live, absent))| {
                assert!(!store.get(&live).contains(&false), "a key was lost");
                assert!(!store.get(&absent).contains(&true), "a key came from nowhere");
                store.commit(&puts);
                if commit % PERSIST_EVERY == 0 {
                    store.persist();
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn state_store(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let database = Database::builder(folder.path().join("fjall")).open().expect("open fjall");
    let keyspace = database.keyspace("state", KeyspaceCreateOptions::default).expect("keyspace");
    run(c, "fjall", Fjall { database, keyspace });
    let database = redb::Database::create(folder.path().join("redb")).expect("open redb");
    run(c, "redb", Redb { database });
}

criterion_group!(benches, state_store);
criterion_main!(benches);
