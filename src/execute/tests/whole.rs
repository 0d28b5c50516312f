//! The executor as a machine: the same commits give the same ledger, whatever happens around it.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::world::*;
use crate::error::StorageError;
use crate::execute::*;
use crate::io::state_store::StateStore;
use crate::proof::log::{TileCheck, check_tiles};
use crate::proof::merkle::{leaf_hash, root_of};
use crate::types::*;

/// What a script's commit holds, made from random numbers; much of it breaks a rule.
fn transaction<S: Store>(world: &mut World<S>, choice: u32) -> Transaction {
    let (what, org, number) = (choice % 11, 1 + choice / 16 % 6, choice / 128 % 24);
    let handle = u8::try_from(number).unwrap();
    let size = world.executor.head().tree_size;
    match what {
        0..=3 => world.tx(org, 1, &anchor(handle, None)),
        4 => world.tx(org, 1, &anchor(handle, Some(LeafIndex(u64::from(number) * size / 24)))),
        5 => world.tx(org, 1, &Body::ConsentGrant(grant(handle, 1 + number % 6, vec![permit(2, 3)]))),
        6 => world.tx(org, 1, &Body::ConsentRevoke(revoke(handle, START_MS))),
        7 => world.tx(org, 1, &Body::AccessLog(access(handle, START_MS))),
        8 => world.key_add(org, number, WORK),
        9 => world.tx(org, 0, &admit(50 + number % 2, "Research")),
        _ => {
            let mut envelope = world.envelope(org, 1, Kind::RecordAnchor);
            envelope.seq = u64::from(choice % 200);
            world.sign(envelope, &anchor(handle, None).encode())
        }
    }
}

/// What a commit led to.
type Led = (LedgerHead, Vec<BlockOutcome>);

/// Commits of a random workload, made once and then executed elsewhere.
fn script(choices: &[Vec<u32>]) -> (Vec<SubDag>, Vec<Led>, MemStore) {
    let store = MemStore::new();
    let mut world = World::bare(store.clone());
    let mut dags = Vec::new();
    let mut results = Vec::new();
    let mut execute = |world: &mut World<MemStore>, blocks: &[(Vec<bytes::Bytes>, Verdict)]| {
        let dag = world.dag(blocks);
        let executed = world.executor.execute(&dag).unwrap();
        dags.push(dag);
        results.push((executed.head, executed.blocks));
    };
    let keys = (1..=5).map(|org| world.key_add(org, 1, WORK).bytes().clone()).collect();
    execute(&mut world, &[(keys, Verdict::UnknownKey)]);
    for commit in choices {
        let bytes: Vec<_> =
            commit.iter().map(|choice| transaction(&mut world, *choice).bytes().clone()).collect();
        let half = bytes.len() / 2;
        // The second block repeats one of the first.
        let first = bytes[..half].to_vec();
        let second = bytes[half.saturating_sub(1)..].to_vec();
        execute(&mut world, &[(first, Verdict::UnknownKey), (second, Verdict::UnknownKey)]);
        world.now_ms += 200;
    }
    (dags, results, store)
}

fn all(store: &impl Read) -> Vec<Pair> {
    store.scan(&[], &[], usize::MAX).unwrap()
}

fn open<S: Store>(store: &S) -> Executor<S> {
    Executor::open(&genesis("test.example"), store.clone(), KeyDirectory::default()).unwrap()
}

fn choices(commits: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(any::<u32>(), 0..40), commits)
}

/// Executes a script on a store that is closed and opened again before some commits, and compares everything.
fn replay<S: Store>(
    dags: &[SubDag],
    results: &[Led],
    mut reopen: impl FnMut(Option<Executor<S>>) -> Executor<S>,
    restarts: u32,
) -> Executor<S> {
    let mut executor = reopen(None);
    for (i, (dag, (head, blocks))) in dags.iter().zip(results).enumerate() {
        if restarts >> (i % 32) & 1 == 1 {
            executor = reopen(Some(executor));
        }
        let executed = executor.execute(dag).unwrap();
        assert_eq!((executed.head, &executed.blocks), (*head, blocks), "commit {}", dag.index);
    }
    executor
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_same_commits_give_the_same_ledger_across_restarts(choices in choices(1..12), restarts: u32) {
        let (dags, results, store) = script(&choices);
        let again = MemStore::new();
        replay(&dags, &results, |_| open(&again), restarts);
        prop_assert_eq!(all(&again), all(&store));
    }

    /// What is indexed when does not matter, and in the end the index holds the same.
    #[test]
    fn the_index_may_be_behind_at_any_restart(choices in choices(1..12), restarts: u32, persisted: u32) {
        let (dags, results, store) = script(&choices);
        open(&store).persist().unwrap();
        let again = MemStore::new();
        let mut opened = 0;
        let reopen = |executor: Option<Executor<MemStore>>| {
            opened += 1;
            if let Some(mut executor) = executor
                && persisted >> (opened % 32) & 1 == 1
            {
                executor.persist().unwrap();
            }
            open(&again)
        };
        let mut executor = replay(&dags, &results, reopen, restarts);
        let reader = executor.reader();
        let ids = dags.iter().flat_map(|dag| &dag.blocks).flat_map(|block| (0..block.payload.len()).map(|i| block.payload.id(i)));
        let ids: Vec<TxId> = ids.collect();
        let known: Vec<_> = ids.iter().map(|id| reader.transaction(id).unwrap()).collect();
        executor.persist().unwrap();
        prop_assert_eq!(&known, &ids.iter().map(|id| reader.transaction(id).unwrap()).collect::<Vec<_>>());
        prop_assert_eq!(all(&again), all(&store));
    }

    #[test]
    fn commits_that_are_applied_together_give_the_same_ledger(choices in choices(1..12), applied: u32) {
        let (dags, results, store) = script(&choices);
        let again = MemStore::new();
        let mut executor = open(&again);
        for (i, (dag, led)) in dags.iter().zip(results).enumerate() {
            let executed = executor.stage(dag).unwrap();
            prop_assert_eq!((executed.head, executed.blocks), led);
            if applied >> (i % 32) & 1 == 1 {
                executor.apply().unwrap();
            }
        }
        executor.apply().unwrap();
        prop_assert_eq!(all(&again), all(&store));
        let keys = |executor: &Executor<MemStore>| executor.directory().read(Clone::clone);
        prop_assert_eq!(keys(&executor), keys(&open(&store)));
    }

    #[test]
    fn the_store_on_disk_holds_what_the_one_in_memory_does(choices in choices(4..8), restarts: u32) {
        let (dags, results, store) = script(&choices);
        let folder = tempfile::tempdir().unwrap();
        let reopen = |old: Option<Executor<StateStore>>| {
            drop(old);
            open(&StateStore::open(folder.path()).unwrap())
        };
        drop(replay(&dags, &results, reopen, restarts));
        prop_assert_eq!(all(&StateStore::open(folder.path()).unwrap()), all(&store));
    }
}

#[test]
fn every_outcome_of_interest_is_in_the_random_workload() {
    let choices: Vec<Vec<u32>> =
        (0_u32..40).map(|c| (0..40).map(|i| blake3_u32(c * 40 + i)).collect()).collect();
    let (_, results, _) = script(&choices);
    let mut seen = std::collections::BTreeSet::new();
    for outcome in results.iter().flat_map(|(_, blocks)| blocks).flat_map(|block| &block.outcomes) {
        seen.insert(match outcome {
            Outcome::Executed { violation, .. } => u8::from(*violation),
            Outcome::Duplicate { .. } => 2,
            Outcome::Skipped(reason) => 10 + reason.code(),
        });
    }
    assert!(seen.len() >= 15 && [0, 1, 2].iter().all(|code| seen.contains(code)), "{seen:?}");
}

fn blake3_u32(i: u32) -> u32 {
    let hash = blake3::hash(&i.to_be_bytes());
    u32::from_be_bytes(*hash.as_bytes().first_chunk().unwrap())
}

/// The ledger after a fixed script. A change here is a change of what validators agree on: another network version.
#[test]
fn golden_roots() {
    let choices: Vec<Vec<u32>> =
        (0_u32..20).map(|c| (0..30).map(|i| blake3_u32(c * 30 + i)).collect()).collect();
    let (_, results, _) = script(&choices);
    let (head, _) = results.last().unwrap();
    assert_eq!(head.tree_size, 337);
    assert_eq!(head.root.to_string(), "50963914c1f44461d0b8c6a35529f3e09455045ea2ed0556c5a3f543ddb78463");
    let state_root = head.state_root.to_string();
    assert_eq!(state_root, "055a188b12f6e928d23f0d475b2f5932991810ae8162eb16c778f3dc4ed90d9c");
}

#[test]
fn the_root_is_that_of_the_stubs_and_the_tiles_can_be_made_from_the_state() {
    let mut world = World::new();
    let mut stubs: Vec<[u8; STUB_BYTES]> = world.executor.reader().tiles().stubs(LeafIndex(0), 9).unwrap();
    assert_eq!(stubs.len(), 5);
    let mut full = Vec::new();
    for commit in 0..6 {
        let transactions: Vec<_> =
            (0..150 + commit).map(|_| world.tx(1, 1, &anchor(1, None)).bytes().clone()).collect();
        let dag = world.dag(&[(transactions, Verdict::Valid)]);
        let executed = world.executor.execute(&dag).unwrap();
        stubs.extend(executed.stubs);
        full.extend(executed.tiles);
        let leaves: Vec<_> = stubs.iter().map(|stub| leaf_hash(stub)).collect();
        assert_eq!(executed.head.tree_size, leaves.len() as u64);
        assert_eq!(executed.head.root, root_of(&leaves));
    }
    let reader = world.executor.reader();
    let head = reader.head().unwrap();
    assert_eq!(check_tiles(head.tree_size, &head.root, &reader.tiles()).unwrap(), TileCheck::Whole);
    assert!(full.len() >= 6, "{} full tiles", full.len());
    use crate::proof::tiles::TileReader as _;
    for tile in full.iter().chain(&world.executor.log().partials()) {
        assert_eq!(reader.tiles().tile(&tile.path).unwrap().as_ref(), Some(&tile.bytes), "{}", tile.path);
    }
    assert_eq!(reader.tiles().tile("tile/0/009").unwrap(), None);
    assert_eq!(reader.tiles().tile("../head").unwrap(), None);
}

/// A store that fails to write from some batch on.
#[derive(Clone)]
struct Failing {
    inner: MemStore,
    left: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Read for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.inner.get(key)
    }
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        self.inner.scan(prefix, from, limit)
    }
}

impl Files for Failing {
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.append(name, at, bytes)
    }
    fn read_at(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        self.inner.read_at(name, at, len)
    }
    fn sync(&self, name: &str) -> Result<(), StorageError> {
        self.inner.sync(name)
    }
    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.inner.remove(name)
    }
    fn list(&self) -> Result<Vec<(String, u64)>, StorageError> {
        self.inner.list()
    }
}

impl Store for Failing {
    type Snapshot = MemSnapshot;

    fn apply(&self, batch: Batch) -> Result<(), StorageError> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(StorageError::Full { path: "memory".to_owned() });
        }
        self.inner.apply(batch)
    }
    fn persist(&self) -> Result<(), StorageError> {
        Ok(())
    }
    fn snapshot(&self) -> MemSnapshot {
        self.inner.snapshot()
    }
    fn location(&self) -> String {
        "memory".to_owned()
    }
}

#[test]
fn a_commit_is_one_batch_and_a_failed_one_leaves_nothing() {
    let choices: Vec<Vec<u32>> =
        (0_u32..6).map(|c| (0..30).map(|i| blake3_u32(c * 30 + i)).collect()).collect();
    let (dags, results, store) = script(&choices);
    for failing in 1..=dags.len() {
        let inner = MemStore::new();
        // Opening writes one batch, each commit one.
        let left = std::sync::Arc::new(failing.into());
        let mut executor = open(&Failing { inner: inner.clone(), left });
        for dag in &dags[..failing - 1] {
            executor.execute(dag).unwrap();
        }
        let before = all(&inner);
        assert!(matches!(executor.execute(&dags[failing - 1]), Err(StorageError::Full { .. })));
        assert_eq!(all(&inner), before);
        // Once there is room, a new executor goes on as if nothing had happened.
        let mut executor = open(&inner);
        for (dag, (head, _)) in dags.iter().zip(&results).skip(failing - 1) {
            assert_eq!(executor.execute(dag).unwrap().head, *head);
        }
        assert_eq!(all(&inner), all(&store));
    }
}

/// Copies a store's folder as a crash leaves it: `lost` bytes of the journal's end never reached the disk.
fn copy_crashed(from: &Path, to: &Path, lost: usize) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_crashed(&path, &target, lost);
        } else if path.extension().is_some_and(|extension| extension == "jnl") {
            // The journal's file is made long beforehand; what follows its last record is zeros.
            let bytes = fs::read(&path).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            fs::write(target, &bytes[..written.saturating_sub(lost)]).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn after_a_crash_the_store_holds_whole_commits_and_goes_on() {
    let choices: Vec<Vec<u32>> =
        (0_u32..10).map(|c| (0..30).map(|i| blake3_u32(c * 30 + i)).collect()).collect();
    let (dags, results, expected) = script(&choices);
    open(&expected).persist().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut executor = open(&StateStore::open(&live).unwrap());
    for dag in &dags {
        executor.execute(dag).unwrap();
    }
    executor.persist().unwrap();
    let mut heads = std::collections::BTreeSet::new();
    for lost in [0, 1, 5_000, 20_000, 25_000, 30_000] {
        let crashed = folder.path().join(format!("lost-{lost}"));
        copy_crashed(&live, &crashed, lost);
        let store = StateStore::open(&crashed).unwrap();
        let mut executor = open(&store);
        let done = usize::try_from(executor.head().commit.0).unwrap();
        heads.insert(done);
        for (dag, (head, _)) in dags.iter().zip(&results).skip(done) {
            assert_eq!(executor.execute(dag).unwrap().head, *head);
        }
        executor.persist().unwrap();
        assert_eq!(all(&store), all(&expected), "{lost} bytes lost after commit {done}");
    }
    assert!(heads.len() >= 3 && heads.contains(&dags.len()), "{heads:?}");
}

#[test]
fn an_executed_transaction_costs_110_bytes_and_16_in_a_file_of_ids() {
    let mut world = World::new();
    let bytes = |world: &World<MemStore>| {
        let entries = all(world.executor.reader().store());
        entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    };
    let first: Vec<_> = (0..100).map(|_| world.tx(1, 1, &anchor(1, None))).collect();
    world.executes(&first);
    let before = bytes(&world);
    let second: Vec<_> = (0..100).map(|_| world.tx(1, 1, &anchor(1, None))).collect();
    world.executes(&second);
    // And three more chunks of leaves have a name, and one more file is named.
    assert_eq!(bytes(&world) - before, 100 * 110 + 3 * 9 + 8);
    // The five keys' registrations too; a page holds 255.
    let files = world.executor.reader().store().list().unwrap();
    assert_eq!(files.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [4_096, 4_096]);
}

#[test]
#[should_panic(expected = "commits are executed once, in order")]
fn a_commit_is_not_executed_twice() {
    let mut world = World::new();
    let dag = world.dag(&[]);
    world.executor.execute(&dag).unwrap();
    let _refused = world.executor.execute(&dag);
}

#[test]
fn data_of_another_network_or_version_is_refused() {
    let store = MemStore::new();
    drop(open(&store));
    let other = genesis("other.example");
    let error = Executor::open(&other, store.clone(), KeyDirectory::default()).unwrap_err();
    let StorageError::WrongNetwork { found, expected, .. } = &error else { panic!("{error}") };
    assert_eq!((*found, *expected), (genesis("test.example").network(), other.network()));

    let format = store.get(b"f").unwrap().unwrap();
    let open_as = |version: u8| {
        let mut format = format.clone();
        format[15] = version;
        let mut batch = Batch::default();
        batch.put(*b"f", format);
        store.apply(batch).unwrap();
        Executor::open(&genesis("test.example"), store.clone(), KeyDirectory::default()).unwrap_err()
    };
    let error = open_as(6);
    assert!(matches!(error, StorageError::NewerVersion { found: 6, known: 5, .. }), "{error}");
    let error = open_as(4);
    assert!(error.to_string().contains("made anew from the block log"), "{error}");

    let foreign = MemStore::new();
    let mut batch = Batch::default();
    batch.put(*b"something", *b"else");
    foreign.apply(batch).unwrap();
    let error = Executor::open(&other, foreign, KeyDirectory::default()).unwrap_err();
    assert!(matches!(error, StorageError::Store { .. }), "{error}");
}

#[test]
fn files_of_ids_that_are_lost_are_made_anew_and_named() {
    let mut world = World::new();
    let mut ids = Vec::new();
    // The last ones are in no file.
    for round in 0..9 {
        let anchors: Vec<_> = (0..50).map(|i| world.tx(1, 1, &anchor(round * 20 + i % 20, None))).collect();
        ids.extend(anchors.iter().map(|tx| tx_id(tx.bytes())));
        world.executes(&anchors);
    }
    world.executor.persist().unwrap();
    let (store, head) = (world.executor.reader().store().clone(), world.executor.head());
    let names: Vec<String> = store.list().unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(names.len() >= 3, "{names:?}");
    for lost in [&names[..1], &names[1..2], &names[..]] {
        let store = store.fork();
        lost.iter().for_each(|name| store.remove(name).unwrap());
        let check = |executor: &Executor<MemStore>| {
            assert_eq!(executor.head(), head);
            for id in &ids {
                let status = executor.reader().transaction(id).unwrap();
                assert!(matches!(status, TransactionStatus::Executed(_)), "{status:?}");
            }
        };
        check(&open(&store));
        // What was made anew is named: nothing is removed or made once more, and windows cover what files do.
        let made = store.list().unwrap();
        for _ in 0..2 {
            let mut again = open(&store);
            check(&again);
            again.persist().unwrap();
        }
        assert_eq!(store.list().unwrap(), made);
    }
}

#[test]
fn damage_is_an_error_that_says_where() {
    let mut world = World::new();
    let anchors: Vec<_> = (0..100).map(|i| world.tx(1, 1, &anchor(i, None))).collect();
    world.executes(&anchors);
    let whole = all(world.executor.reader().store());
    let of = |tables: &[u8]| whole.iter().filter(|(key, _)| tables.contains(&key[0])).count();
    assert_eq!([b"h", b"d", b"l", b"m", b"k"].map(|table| of(table)), [1, 1, 3, 1, 10]);
    for (key, value) in whole.iter().filter(|(key, _)| b"dhlmkw".contains(&key[0])) {
        let store = MemStore::new();
        let mut batch = Batch::default();
        for (key, value) in &whole {
            batch.put(key.clone(), value.clone());
        }
        batch.put(key.clone(), &value[..value.len() - 1]);
        store.apply(batch).unwrap();
        let opened = Executor::open(&world.genesis, store, KeyDirectory::default());
        let error = opened.err().unwrap_or_else(|| panic!("{} was let through", hex::encode(key)));
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
}

#[test]
fn genesis_members_are_active_with_their_root_keys() {
    let world = World::bare(MemStore::new());
    let reader = world.executor.reader();
    let head = reader.head().unwrap();
    assert_eq!((head, head.commit, head.tree_size), (world.executor.head(), CommitIndex(0), 0));
    for (org, governs) in [(1, true), (5, false)] {
        let OrgStatus::Admitted(state) = reader.org(OrgId(org)).unwrap() else { panic!() };
        assert_eq!((state.governs, state.active, state.region), (governs, true, 7));
        let key = reader.key(OrgId(org), KeyId(0)).unwrap().unwrap();
        assert_eq!(key.public, secret(org, 0).public());
        assert_eq!(key.roles, if governs { Roles::ROOT.with(Roles::GOVERN) } else { Roles::ROOT });
    }
    assert_eq!(reader.org(OrgId(6)).unwrap(), OrgStatus::Unknown);
}

#[test]
fn a_checkpoint_is_due_when_the_log_grew_and_the_interval_passed() {
    let mut world = World::bare(MemStore::new());
    let mut seen = Vec::new();
    // The interval is 500 ms. Commits without a leaf are marked by `false`.
    let steps =
        [(0, false), (0, true), (499, true), (1, false), (0, true), (600, false), (0, true), (10_000, false)];
    for (advance_ms, leaf) in steps {
        world.now_ms += advance_ms;
        let number = u32::try_from(seen.len()).unwrap() + 1;
        let transactions = leaf.then(|| world.key_add(1, number, WORK).bytes().clone());
        let dag = world.dag(&[(transactions.into_iter().collect(), Verdict::UnknownKey)]);
        // What decides is in the state: a restart in between changes nothing.
        world.executor = open(world.executor.reader().store());
        seen.push(world.executor.execute(&dag).unwrap().checkpoint_due);
    }
    assert_eq!(seen, [false, true, false, true, false, true, false, true]);
}

#[test]
fn the_state_root_proves_consents_keys_and_organisations() {
    let mut world = World::new();
    let given = world.tx(1, 1, &Body::ConsentGrant(grant(1, 2, vec![permit(2, 3)])));
    world.executes(&[given]);
    let reader = world.executor.reader();
    let shown = |key: &Digest| {
        let (head, proof) = reader.prove_state(key).unwrap();
        StateProof::decode(&proof.encode()).unwrap().verify(&head.state_root, key)
    };
    let consent = consent_map_key(&[1; 32]);
    let Some(Shown::Present(granted)) = shown(&consent) else { panic!("no consent") };
    assert_eq!(shown(&consent_map_key(&[2; 32])), Some(Shown::Absent));
    assert!(matches!(shown(&key_map_key(OrgId(1), KeyId(1))), Some(Shown::Present(_))));
    assert_eq!(shown(&key_map_key(OrgId(1), KeyId(2))), Some(Shown::Absent));
    assert!(matches!(shown(&org_map_key(OrgId(5))), Some(Shown::Present(_))));
    assert_eq!(shown(&org_map_key(OrgId(50))), Some(Shown::Absent));
    let end = world.tx(1, 1, &Body::ConsentRevoke(revoke(1, START_MS)));
    world.executes(&[end]);
    let state = reader.consent(&[1; 32]).unwrap().unwrap();
    assert_eq!(state.revocation.unwrap().by, OrgId(1));
    let revoked = map_value(&state.encoded());
    assert_eq!(shown(&consent), Some(Shown::Present(revoked)));
    assert_ne!(granted, revoked);
}

#[test]
fn readers_see_whole_commits_while_they_are_applied() {
    const COMMITS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with_store(StateStore::open(folder.path()).unwrap());
    let reader = world.executor.reader();
    let answers = std::thread::spawn(move || {
        let mut answers = 0_u64;
        loop {
            let key = consent_map_key(&[u8::try_from(answers % 64).unwrap(); 32]);
            let (head, proof) = reader.prove_state(&key).unwrap();
            assert!(proof.verify(&head.state_root, &key).is_some(), "state of commit {}", head.commit);
            if let Some(last) = head.tree_size.checked_sub(1) {
                assert!(reader.leaf(LeafIndex(last)).unwrap().is_some());
            }
            answers += 1;
            if head.commit.0 == COMMITS {
                return answers;
            }
        }
    });
    while world.executor.head().commit.0 < COMMITS {
        let handle = u8::try_from(world.executor.head().commit.0).unwrap();
        let given = world.tx(1, 1, &Body::ConsentGrant(grant(handle, 2, vec![permit(2, 3)])));
        world.executes(&[given]);
    }
    assert!(answers.join().unwrap() > 0);
}
