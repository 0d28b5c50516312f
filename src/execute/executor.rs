//! The machine that applies commits.

use super::ids::INDEXED_TOGETHER;
use super::leaves::Leaves;
use super::log_state::{StateTiles, keep_nodes};
use super::rules::{Commit, Constants, state_entry};
use super::state::{KeyState, OrgState, Tally};
use super::store::{Batch, Overlay, Read, Store};
use super::tables::{self, HeadRecord, Record};
use super::{Executed, KeyDirectory, KeyMap, LedgerHead, LedgerReader, ReplayWindow, SubDag, trie, windows};
use crate::codec::{Reader, Writer};
use crate::error::StorageError;
use crate::genesis::Genesis;
use crate::planted::{self, Bug};
use crate::proof::tiles::LogTree;
use crate::types::{
    AuthorityIndex, CommitIndex, Digest, KeyId, LeafIndex, LogSeq, NetworkId, OrgId, TimestampMs,
};

/// First bytes of the format entry.
const MAGIC: &[u8; 12] = b"salus/state\0";
/// Version of the tables' layout.
const FORMAT_VERSION: u32 = 5;
/// Entries read at a time when the keys are loaded.
const SCAN_CHUNK: usize = 1_024;

/// Executes commits, one after another, and applies them, each as a whole or some together.
///
/// The state is a function of the genesis file and of the commits so far. After an error the store and the log in memory may
/// differ: the executor must not be used further, and a new one goes on from what the store holds.
#[derive(Debug)]
pub struct Executor<S> {
    store: S,
    directory: KeyDirectory,
    constants: Constants,
    head: HeadRecord,
    /// Changes of the commits that were executed last and are not applied yet, and the keys that they used or registered.
    staged: Batch,
    staged_keys: KeyMap,
    /// Whether the store's head is behind: commits without transactions change nothing else and are not written one by one.
    unwritten: bool,
    leaves: Leaves,
    log: LogTree,
}

impl<S: Store> Executor<S> {
    /// Opens the state of a network: applies the genesis file to an empty store, or goes on from the last commit that the
    /// store holds. Fills the directory with all registered keys.
    ///
    /// Each member of the genesis file is an active organisation with its root key as key number 0, valid at any time,
    /// with the roles ROOT and, if it governs, GOVERN. Keys for everything else come by KEY_ADD.
    ///
    /// # Errors
    /// [`StorageError::WrongNetwork`] or [`StorageError::NewerVersion`] if the store is of another network or of a later
    /// format; [`StorageError::Damaged`] if it contradicts itself; the store's errors.
    pub fn open(genesis: &Genesis, store: S, directory: KeyDirectory) -> Result<Self, StorageError> {
        let constants = Constants::new(genesis);
        match store.get(&[tables::FORMAT])? {
            Some(found) => check_format(&found, genesis.network(), &store.location())?,
            None if store.scan(&[], &[], 1)?.is_empty() => {
                apply_genesis(genesis, &constants, &store)?;
            }
            None => {
                let why = "the folder holds data, but not the state of a ledger".to_owned();
                return Err(StorageError::Store { path: store.location(), why });
            }
        }
        let key = [tables::HEAD];
        let head = HeadRecord::stored(&key, store.get(&key)?)?
            .ok_or_else(|| tables::damaged("head", &key, &"it is missing"))?;
        let log = LogTree::restore(head.head.tree_size, &StateTiles::new(store.snapshot()))?;
        if log.root() != head.head.root {
            let why = format!("the log of {} leaves has root {}", head.head.tree_size, log.root());
            return Err(tables::damaged("head", &key, &why));
        }
        let mut keys = load_keys(&store)?;
        let leaves = Leaves::open(&store, head.head.tree_size, |org, record| {
            let entry = keys.get_mut(&(org, record.key));
            let is_new = entry.is_some_and(|entry| entry.window.mark(record.seq));
            let why = "the key that signed it is missing, or has used its number";
            if is_new { Ok(()) } else { Err(tables::damaged("transaction", &record.id.0, &why)) }
        })?;
        if planted::is(Bug::ReplayWindowLost) {
            keys.values_mut().for_each(|entry| entry.window = ReplayWindow::new());
        }
        directory.set_rules(genesis.rules());
        directory.write(|held| *held = keys);
        let mut executor = Self {
            store,
            directory,
            constants,
            head,
            staged: Batch::default(),
            staged_keys: KeyMap::new(),
            unwritten: false,
            leaves,
            log,
        };
        if !executor.leaves.ids.is_named() {
            executor.index()?;
            executor.persist()?;
        }
        Ok(executor)
    }

    /// The ledger after the last commit that was executed.
    #[must_use]
    pub fn head(&self) -> LedgerHead {
        self.head.head
    }

    /// The last head that was due as a checkpoint; of commit 0 if none was.
    #[must_use]
    pub fn checkpoint(&self) -> LedgerHead {
        self.head.checkpoint
    }

    /// The Merkle log of the head. Its [`LogTree::partials`] are to be written before a checkpoint of it is published.
    #[must_use]
    pub fn log(&self) -> &LogTree {
        &self.log
    }

    /// The registered keys.
    #[must_use]
    pub fn directory(&self) -> &KeyDirectory {
        &self.directory
    }

    /// A handle that answers questions from other threads.
    #[must_use]
    pub fn reader(&self) -> LedgerReader<S> {
        LedgerReader::new(self.store.clone(), self.leaves.ids.shared())
    }

    /// Makes durable what was executed. What is not durable is executed again after a restart, from the block log.
    ///
    /// # Errors
    /// The store's.
    pub fn persist(&mut self) -> Result<(), StorageError> {
        if std::mem::take(&mut self.unwritten) {
            self.staged.put([tables::HEAD], self.head.encode());
        }
        self.apply()?;
        self.store.persist()?;
        self.leaves.ids.persisted(&self.store)
    }

    /// Executes the commit after [`Executor::head`] and applies it, all at once.
    ///
    /// # Errors
    /// Those of [`Executor::stage`] and [`Executor::apply`].
    ///
    /// # Panics
    /// As [`Executor::stage`].
    pub fn execute(&mut self, dag: &SubDag) -> Result<Executed, StorageError> {
        let executed = self.stage(dag)?;
        self.apply()?;
        Ok(executed)
    }

    /// Applies the staged commits, all at once: until then no reader sees anything of them.
    ///
    /// # Errors
    /// The store's.
    pub fn apply(&mut self) -> Result<(), StorageError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        self.store.apply(std::mem::take(&mut self.staged))?;
        self.leaves.ids.applied();
        // Behind the store: who is told that a number is used up finds what used it.
        let keys = std::mem::take(&mut self.staged_keys);
        if !keys.is_empty() {
            self.directory.write(|held| held.extend(keys));
        }
        Ok(())
    }

    /// Record of the block log that holds the last transaction executed; `None` before the first.
    ///
    /// # Errors
    /// The store's.
    pub fn last_payload(&self) -> Result<Option<LogSeq>, StorageError> {
        let Some(last) = self.head.head.tree_size.checked_sub(1) else { return Ok(None) };
        Ok(self.reader().leaf(LeafIndex(last))?.map(|leaf| leaf.payload_seq))
    }

    /// Executes the commit after [`Executor::head`], to be applied later. Commits that come together write what they all
    /// change (the head, counters) once.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Panics
    /// If the commit is not the next one or its time goes back: whoever feeds commits starts behind the head.
    pub fn stage(&mut self, dag: &SubDag) -> Result<Executed, StorageError> {
        let before = self.head.head;
        assert_eq!(dag.index.0, before.commit.0 + 1, "commits are executed once, in order");
        assert!(
            before.commit.0 == 0 || dag.time >= before.time,
            "block time went back at commit {}",
            dag.index
        );
        assert_eq!(self.leaves.next().0, before.tree_size, "not used further after an error");
        if dag.blocks.is_empty() {
            let head = LedgerHead { commit: dag.index, digest: dag.digest, time: dag.time, ..before };
            let (head, checkpoint_due) = self.head.advance(head, self.constants.checkpoint_interval_ms);
            if !checkpoint_due {
                self.head = head;
                self.unwritten = true;
                let (blocks, stubs, tiles) = Default::default();
                return Ok(Executed { head: head.head, checkpoint_due, blocks, stubs, tiles });
            }
        }
        let mut commit = Commit::new(
            &self.constants,
            &self.directory,
            (&self.store, &self.staged),
            std::mem::take(&mut self.staged_keys),
            std::mem::take(&mut self.leaves),
            (dag.index, dag.time),
        );
        let blocks = commit.blocks(dag)?;
        let Commit { mut overlay, leaves, stubs, keys, authenticated, tallies, .. } = commit;
        if !stubs.is_empty() {
            leaves.put_tail(&mut overlay);
        }
        for (author, new) in tallies {
            add_tally(&mut overlay, author, new)?;
        }
        let state_root = if authenticated.is_empty() {
            before.state_root
        } else {
            trie::update(&mut overlay, &authenticated)?
        };
        let tiles = self.log.append(&stubs);
        keep_nodes(&mut overlay, &tiles);
        let head = LedgerHead {
            commit: dag.index,
            digest: dag.digest,
            time: dag.time,
            tree_size: self.log.size(),
            root: if stubs.is_empty() { before.root } else { self.log.root() },
            state_root,
        };
        let (head, checkpoint_due) = self.head.advance(head, self.constants.checkpoint_interval_ms);
        overlay.put([tables::HEAD], head.encode());
        let changes = overlay.into_batch();
        self.staged.then(changes);
        self.staged_keys = keys;
        self.leaves = leaves;
        self.head = head;
        self.unwritten = false;
        if self.leaves.next().0 - self.leaves.ids.covered() >= INDEXED_TOGETHER {
            self.index()?;
        }
        Ok(Executed { head: head.head, checkpoint_due, blocks, stubs, tiles })
    }

    /// Brings what only the leaves hold into an index: ids of transactions, and replay windows. Both up to the last leaf: a window
    /// is stored as it is now.
    fn index(&mut self) -> Result<(), StorageError> {
        let next = self.leaves.next().0;
        if self.leaves.ids.covered() < next {
            self.leaves.ids.cover(&self.store, next)?;
        }
        let mut names = Batch::default();
        let used = self.leaves.ids.name_files(&mut names);
        let mut overlay = Overlay::new(&self.store, &self.staged);
        self.directory.read(|keys| {
            used.iter().try_for_each(|(id, pages)| {
                let entry = self.staged_keys.get(id).or_else(|| keys.get(id));
                let Some(entry) = entry else { unreachable!("key {} of organisation {} signed", id.1, id.0) };
                windows::save(&mut overlay, *id, &entry.window, pages)
            })
        })?;
        let windows = overlay.into_batch();
        self.staged.then(names);
        self.staged.then(windows);
        Ok(())
    }
}

impl HeadRecord {
    /// The record of the next head, and whether that head is due for a checkpoint: the log has grown since the last one,
    /// and the interval has passed in block time. The first leaf is due at once.
    fn advance(&self, head: LedgerHead, interval_ms: u64) -> (Self, bool) {
        let grown = head.tree_size > self.checkpoint.tree_size;
        let due = grown && head.time.0 >= self.checkpoint.time.0.saturating_add(interval_ms);
        let record = if due { Self { head, checkpoint: head } } else { Self { head, ..*self } };
        (record, due)
    }
}

fn encode_format(network: NetworkId) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.put_u32(FORMAT_VERSION);
    out.put_bytes(&network.0);
    out
}

/// Refuses the state of another network or of another format.
fn check_format(bytes: &[u8], network: NetworkId, path: &str) -> Result<(), StorageError> {
    let damaged = |why: &dyn std::fmt::Display| tables::damaged("format", &[tables::FORMAT], why);
    let mut r = Reader::new(bytes);
    let magic = r.array("magic").map_err(|error| damaged(&error))?;
    if magic != *MAGIC {
        return Err(damaged(&"not the state of a ledger"));
    }
    let found = r.u32("version").map_err(|error| damaged(&error))?;
    if found > FORMAT_VERSION {
        return Err(StorageError::NewerVersion { path: path.to_owned(), found, known: FORMAT_VERSION });
    }
    if found < FORMAT_VERSION {
        let why = format!(
            "layout {found}, of an older program; this one reads {FORMAT_VERSION}: move this folder away and start again, it is \
             made anew from the block log"
        );
        return Err(StorageError::Store { path: path.to_owned(), why });
    }
    let found = NetworkId(r.array("network").map_err(|error| damaged(&error))?);
    if found != network {
        return Err(StorageError::WrongNetwork { path: path.to_owned(), found, expected: network });
    }
    r.finish().map_err(|error| damaged(&error))
}

/// Fills an empty store with what the genesis file says, and head 0.
fn apply_genesis<S: Store>(genesis: &Genesis, constants: &Constants, store: &S) -> Result<(), StorageError> {
    let (nobody, nothing) = (KeyDirectory::default(), Batch::default());
    let mut commit = Commit::new(
        constants,
        &nobody,
        (store, &nothing),
        KeyMap::new(),
        Leaves::default(),
        (CommitIndex(0), genesis.created()),
    );
    for (id, member) in genesis.members() {
        let org = OrgState {
            kind: member.kind,
            governs: member.governs,
            active: true,
            region: member.region,
            policy: [0; 32],
            root: member.root_key.0,
            name: member.name.clone(),
        };
        commit.admit(id, &org, TimestampMs(0));
    }
    let Commit { mut overlay, authenticated, .. } = commit;
    let head = LedgerHead {
        commit: CommitIndex(0),
        digest: Digest([0; 32]),
        time: genesis.created(),
        tree_size: 0,
        root: LogTree::new().root(),
        state_root: trie::update(&mut overlay, &authenticated)?,
    };
    let head = HeadRecord { head, checkpoint: LedgerHead { time: TimestampMs(0), ..head } };
    overlay.put([tables::HEAD], head.encode());
    overlay.put([tables::FORMAT], encode_format(genesis.network()));
    store.apply(overlay.into_batch())?;
    store.persist()
}

fn load_keys(store: &impl Read) -> Result<KeyMap, StorageError> {
    let mut keys = KeyMap::new();
    let mut from = vec![tables::KEY];
    loop {
        let chunk = store.scan(&[tables::KEY], &from, SCAN_CHUNK)?;
        let Some((last, _)) = chunk.last() else { return Ok(keys) };
        from.clone_from(last);
        from.push(0);
        for (name, bytes) in chunk {
            let id = key_id(&name)?;
            let Some(key) = KeyState::stored(&name, Some(bytes))? else { continue };
            keys.insert(id, state_entry(&key, windows::load(store, id)?));
        }
    }
}

fn key_id(name: &[u8]) -> Result<(OrgId, KeyId), StorageError> {
    let mut r = Reader::new(name);
    let id = r.u8("table").and_then(|_| Ok((OrgId(r.u32("org")?), KeyId(r.u32("key")?))));
    id.map_err(|error| tables::damaged(KeyState::NAME, name, &error))
}

/// Adds what a commit counted of a proposer's blocks to what was counted before.
fn add_tally(
    overlay: &mut Overlay<'_, impl Read>,
    author: AuthorityIndex,
    new: Tally,
) -> Result<(), StorageError> {
    let key = tables::tally(author);
    let old = Tally::stored(&key, overlay.get(&key)?)?.unwrap_or_default();
    let sum = Tally {
        executed: old.executed + new.executed,
        duplicate: old.duplicate + new.duplicate,
        skipped: old.skipped + new.skipped,
    };
    overlay.put(key, sum.encode());
    Ok(())
}
