//! A disk in memory that can lose power and fail calls, the same way again for the same seed.
//!
//! It keeps what was synced apart from what was only written. [`SimDisk::crash`] throws the process's view away and lets
//! a choice of the unsynced 4 KiB sector writes survive: none, all, a prefix, or a subset drawn from a seed in which
//! sectors may be torn, the grown length of a file may be lost, and of the unsynced creations, renames and removals a
//! prefix survives. After a failed sync the bytes read back as written but no later sync makes them durable, as kernels do.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::format::to_usize;
use crate::error::StorageError;

const SECTOR: usize = 4_096;

/// A simulated disk. Clones share it; [`SimDisk::snapshot`] copies it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// What of the unsynced writes a loss of power leaves on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Only what was synced.
    Nothing,
    /// Everything, as after the death of the process alone.
    Everything,
    /// The first so many sector writes of each file, in the order in which they were made, and all names.
    Prefix(usize),
    /// A choice drawn from the seed: prefix or subset, whole or torn sectors.
    Seeded(u64),
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    folder_ops: Vec<FolderOp>,
    /// Handles of an earlier life of the process are dead.
    life: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// Reads until one fails.
    read_fault: Option<u64>,
}

#[derive(Debug, Clone)]
enum FolderOp {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Content,
    durable: Content,
    pending: Vec<Op>,
    /// Written before a sync that failed: may or may not have reached the disk, and no later sync will see to it.
    doomed: Vec<Op>,
}

/// Bytes of a file; sectors of zeros are left out, and copies share the others.
#[derive(Debug, Clone, Default)]
struct Content {
    len: u64,
    sectors: BTreeMap<u64, Arc<[u8; SECTOR]>>,
}

#[derive(Debug, Clone)]
enum Op {
    Sector { index: u64, from: usize, bytes: Vec<u8> },
    Len(u64),
}

impl Content {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Len(len) => self.len = self.len.max(*len),
            Op::Sector { index, from, bytes } => self.put(*index, *from, bytes),
        }
    }

    fn put(&mut self, index: u64, from: usize, bytes: &[u8]) {
        let mut sector = self.sectors.get(&index).map_or([0; SECTOR], |old| **old);
        sector[from..from + bytes.len()].copy_from_slice(bytes);
        if sector == [0; SECTOR] {
            self.sectors.remove(&index);
        } else {
            self.sectors.insert(index, Arc::new(sector));
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        out.fill(0);
        for (index, from, range) in sectors_of(at, out.len()) {
            if let Some(sector) = self.sectors.get(&index) {
                let len = range.len();
                out[range].copy_from_slice(&sector[from..from + len]);
            }
        }
    }

    /// Bytes past the length are not the file's.
    fn trim(&mut self) {
        let whole = self.len / SECTOR as u64;
        let part = to_usize(self.len % SECTOR as u64);
        self.sectors.retain(|index, _| *index < whole || (*index == whole && part > 0));
        if part > 0 && self.sectors.contains_key(&whole) {
            self.put(whole, part, &vec![0; SECTOR - part]);
        }
    }
}

/// Splits a range of a file into (sector, offset in it, range of the caller's bytes).
fn sectors_of(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let here = at + done as u64;
        let from = to_usize(here % SECTOR as u64);
        let take = (SECTOR - from).min(len - done);
        let range = done..done + take;
        done += take;
        Some((here / SECTOR as u64, from, range))
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to draw crash images.
#[derive(Debug, Clone)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        to_usize(self.next() % bound as u64)
    }
}

impl Inode {
    fn crash(&mut self, survives: Survives, draw: &mut Draw) {
        let ops: Vec<Op> = self.doomed.drain(..).chain(self.pending.drain(..)).collect();
        let keep: usize = match survives {
            Survives::Nothing => 0,
            Survives::Everything => ops.len(),
            Survives::Prefix(n) => n,
            Survives::Seeded(_) => {
                self.crash_seeded(&ops, draw);
                0
            }
        };
        for op in ops.iter().take(keep) {
            self.durable.apply(op);
        }
        self.durable.trim();
        self.now = self.durable.clone();
    }

    fn crash_seeded(&mut self, ops: &[Op], draw: &mut Draw) {
        let prefix = draw.below(3) == 0;
        let cut = draw.below(ops.len() + 1);
        let odds = 1 + draw.below(7);
        for (i, op) in ops.iter().enumerate() {
            let kept = if prefix { i <= cut } else { draw.below(8) < odds };
            if !kept {
                continue;
            }
            let torn = if prefix { i == cut } else { draw.below(8) == 0 };
            match op {
                Op::Sector { index, from, bytes } if torn => {
                    // Power fails inside the sector: either a prefix, or some of the 512-byte parts, are new.
                    if draw.below(2) == 0 {
                        self.durable.put(*index, *from, &bytes[..draw.below(bytes.len())]);
                    } else {
                        for (n, part) in bytes.chunks(512).enumerate().filter(|_| draw.below(2) == 0) {
                            self.durable.put(*index, from + 512 * n, part);
                        }
                    }
                }
                Op::Len(_) if torn => {}
                Op::Sector { .. } | Op::Len(_) => self.durable.apply(op),
            }
        }
    }
}

impl Inode {
    /// A write gets to the disk. The disk keeps the order of writes to one sector: none from before comes after it.
    fn make_durable(&mut self, op: &Op) {
        let Op::Sector { index, .. } = op else { return self.durable.apply(op) };
        let is_same = |other: &mut Op| matches!(other, Op::Sector { index: other, .. } if other == index);
        let before = self.doomed.extract_if(.., is_same).chain(self.pending.extract_if(.., is_same));
        for op in before.collect::<Vec<_>>() {
            self.durable.apply(&op);
        }
        self.durable.apply(op);
    }

    /// What a write does.
    fn ops_of(&self, at: u64, bytes: &[u8]) -> Vec<Op> {
        let end = at + bytes.len() as u64;
        let grown = (end > self.now.len).then_some(Op::Len(end));
        let sectors = sectors_of(at, bytes.len()).map(|(index, from, range)| Op::Sector {
            index,
            from,
            bytes: bytes[range].to_vec(),
        });
        grown.into_iter().chain(sectors).collect()
    }
}

impl State {
    /// Counts a call that changes the disk and says whether it is to fail.
    fn count(&mut self) -> Option<Fault> {
        self.calls += 1;
        let (call, fault) = self.fault?;
        (call == self.calls).then_some(fault)
    }

    fn apply_folder(names: &mut BTreeMap<String, u64>, op: &FolderOp) {
        match op {
            FolderOp::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            FolderOp::Unlink(name) => {
                names.remove(name);
            }
            FolderOp::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    fn crash(&mut self, survives: Survives, draw: &mut Draw) {
        let ops = std::mem::take(&mut self.folder_ops);
        let keep = match survives {
            Survives::Nothing => 0,
            Survives::Everything | Survives::Prefix(_) => ops.len(),
            Survives::Seeded(_) => draw.below(ops.len() + 1),
        };
        for op in ops.iter().take(keep) {
            Self::apply_folder(&mut self.durable_names, op);
        }
        self.names = self.durable_names.clone();
        let names = &self.names;
        self.files.retain(|inode, _| names.values().any(|named| named == inode));
        for file in self.files.values_mut() {
            file.crash(survives, draw);
        }
        self.life += 1;
        self.fault = None;
        self.read_fault = None;
    }

    fn folder(&mut self, what: &'static str, name: &str, op: FolderOp) -> Result<(), StorageError> {
        if let Some(fault) = self.count() {
            return Err(failure(what, name, fault));
        }
        Self::apply_folder(&mut self.names, &op);
        self.folder_ops.push(op);
        Ok(())
    }
}

fn failure(what: &'static str, name: &str, fault: Fault) -> StorageError {
    let kind = match fault {
        Fault::Io => ErrorKind::Other,
        Fault::Full => ErrorKind::StorageFull,
    };
    StorageError::io(what, name, Error::new(kind, "injected fault"))
}

fn missing(what: &'static str, name: &str) -> StorageError {
    StorageError::io(what, name, Error::from(ErrorKind::NotFound))
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent copy of this moment, unsynced writes and armed faults included. Sectors are shared until written.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let state = self.lock().clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Power fails: open files die, and what was not synced survives only as `survives` says. Disarms faults.
    pub fn crash(&self, survives: Survives) {
        let seed = if let Survives::Seeded(seed) = survives { seed } else { 0 };
        let mut draw = Draw(seed);
        self.lock().crash(survives, &mut draw);
    }

    /// Calls so far that changed the disk: creations, writes, syncs, renames, removals.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets the `nth` such call from now fail (1 is the next); those after it succeed. A failing write leaves the first
    /// half of its bytes behind.
    pub fn fail_call(&self, nth: u64, fault: Fault) {
        let mut state = self.lock();
        let call = state.calls + nth;
        state.fault = Some((call, fault));
    }

    /// Lets the `nth` read from now fail (1 is the next).
    pub fn fail_read(&self, nth: u64) {
        self.lock().read_fault = Some(nth);
    }

    /// Damages one written sector of a file, durably: a bit flips, another sector's bytes land on it, or what was written there
    /// last never was. Says what was done; `None` if the file has no sector to damage.
    pub fn damage(&self, name: &str, seed: u64) -> Option<String> {
        let mut draw = Draw(seed);
        let mut state = self.lock();
        let inode = state.names.get(name).copied()?;
        let file = state.files.get_mut(&inode)?;
        let indices: Vec<u64> = file.durable.sectors.keys().copied().collect();
        let (at, other) =
            (*indices.get(draw.below(indices.len().max(1)))?, indices[draw.below(indices.len())]);
        let mut sector = **file.durable.sectors.get(&at)?;
        let what = match draw.below(3) {
            0 => {
                sector[draw.below(SECTOR)] ^= 1 << draw.below(8);
                format!("a flipped bit in sector {at} of {name}")
            }
            1 if other != at => {
                sector = **file.durable.sectors.get(&other)?;
                format!("sector {other} written over sector {at} of {name}")
            }
            _ => {
                sector = [0; SECTOR];
                format!("sector {at} of {name} never written")
            }
        };
        file.durable.put(at, 0, &sector);
        file.now = file.durable.clone();
        drop(state);
        Some(what)
    }

    /// All bytes of a file as a reader sees them, for tests.
    pub fn peek(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        let state = self.lock();
        let file = state.names.get(name).and_then(|inode| state.files.get(inode));
        let content = &file.ok_or_else(|| missing("read", name))?.now;
        let mut out = vec![0; to_usize(content.len)];
        content.read(0, &mut out);
        drop(state);
        Ok(out)
    }

    /// Replaces all bytes of a file, durably, behind the back of who has it open: bit rot, misdirected writes, cuts.
    pub fn poke(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let mut state = self.lock();
        let inode = state.names.get(name).copied();
        let file =
            inode.and_then(|inode| state.files.get_mut(&inode)).ok_or_else(|| missing("write", name))?;
        let mut content = Content { len: bytes.len() as u64, sectors: BTreeMap::new() };
        for (index, from, range) in sectors_of(0, bytes.len()) {
            content.put(index, from, &bytes[range]);
        }
        *file = Inode { now: content.clone(), durable: content, ..Inode::default() };
        drop(state);
        Ok(())
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn path(&self, name: &str) -> String {
        format!("sim/{name}")
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<SimFile, StorageError> {
        let state = self.lock();
        let inode = *state.names.get(name).ok_or_else(|| missing("open", name))?;
        let life = state.life;
        drop(state);
        Ok(SimFile { disk: self.clone(), name: name.into(), inode, life })
    }

    fn create(&mut self, name: &str) -> Result<SimFile, StorageError> {
        let mut state = self.lock();
        if state.names.contains_key(name) {
            return Err(StorageError::io("create", name, Error::from(ErrorKind::AlreadyExists)));
        }
        let inode = state.next_inode;
        state.folder("create", name, FolderOp::Link(name.into(), inode))?;
        state.next_inode += 1;
        state.files.insert(inode, Inode::default());
        drop(state);
        self.open(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        self.lock().folder("rename", from, FolderOp::Rename(from.into(), to.into()))
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        self.lock().folder("remove", name, FolderOp::Unlink(name.into()))
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        let mut state = self.lock();
        if let Some(fault) = state.count() {
            return Err(failure("sync folder", "sim", fault));
        }
        state.folder_ops.clear();
        state.durable_names = state.names.clone();
        drop(state);
        Ok(())
    }
}

/// An open file of a [`SimDisk`]; dies when the disk crashes.
#[derive(Debug, Clone)]
pub struct SimFile {
    disk: SimDisk,
    name: Arc<str>,
    inode: u64,
    life: u64,
}

impl SimFile {
    /// Runs `with` on the state and this file, if the process that opened it still lives.
    fn with<T>(
        &self,
        what: &'static str,
        with: impl FnOnce(&mut State, u64) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut state = self.disk.lock();
        if state.life != self.life || !state.files.contains_key(&self.inode) {
            return Err(StorageError::io(what, &*self.name, Error::other("opened before the crash")));
        }
        let answer = with(&mut state, self.inode);
        drop(state);
        answer
    }
}

/// The file of an inode that [`SimFile::with`] has checked to be there.
fn file_of(state: &mut State, inode: u64) -> &mut Inode {
    state.files.entry(inode).or_default()
}

impl DiskFile for SimFile {
    fn path(&self) -> String {
        self.disk.path(&self.name)
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.with("length of", |state, inode| Ok(file_of(state, inode).now.len))
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<(), StorageError> {
        self.with("read", |state, inode| {
            if let Some(left) = state.read_fault {
                state.read_fault = left.checked_sub(1).filter(|left| *left > 0);
                if left <= 1 {
                    return Err(failure("read", &self.name, Fault::Io));
                }
            }
            let content = &file_of(state, inode).now;
            if at + out.len() as u64 > content.len {
                return Err(StorageError::io("read", &*self.name, Error::from(ErrorKind::UnexpectedEof)));
            }
            content.read(at, out);
            Ok(())
        })
    }

    fn view(&self, at: u64, len: usize) -> Result<Bytes, StorageError> {
        let mut out = vec![0; len];
        self.read_at(at, &mut out)?;
        Ok(out.into())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with("write", |state, inode| {
            let fault = state.count();
            let bytes = if fault.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
            let file = file_of(state, inode);
            for op in file.ops_of(at, bytes) {
                file.now.apply(&op);
                file.pending.push(op);
            }
            fault.map_or(Ok(()), |fault| Err(failure("write", &self.name, fault)))
        })
    }

    /// Two calls: the write, and a sync of what it wrote alone, which other writes do not profit from.
    fn write_through(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with("write", |state, inode| {
            let write = state.count();
            let bytes = if write.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
            let sync = if write.is_some() { None } else { state.count() };
            let file = file_of(state, inode);
            for op in file.ops_of(at, bytes) {
                file.now.apply(&op);
                match (write, sync) {
                    (None, None) => file.make_durable(&op),
                    (Some(_), _) => file.pending.push(op),
                    (None, Some(_)) => file.doomed.push(op),
                }
            }
            match (write, sync) {
                (Some(fault), _) => Err(failure("write", &self.name, fault)),
                (None, Some(fault)) => Err(failure("sync", &self.name, fault)),
                (None, None) => Ok(()),
            }
        })
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.with("sync", |state, inode| {
            let fault = state.count();
            let file = file_of(state, inode);
            if let Some(fault) = fault {
                file.doomed.append(&mut file.pending);
                return Err(failure("sync", &self.name, fault));
            }
            for op in std::mem::take(&mut file.pending) {
                file.make_durable(&op);
            }
            Ok(())
        })
    }

    fn seal(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
