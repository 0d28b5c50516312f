//! A file of ids, sorted: written once, never changed.
//!
//! Pages of [`PAGE_BYTES`]: entries `prefix8 leaf8`, ascending, zeros where the last page has fewer, then zeros and the CRC-32C of
//! `first8 end8 page8` and all before it, so that a page of another place or file shows. Ids are SHA-256, so where a
//! prefix stands follows from its value, within a page or two; who makes ids to thwart that costs a reader a binary search.

use crate::codec::Writer;
use crate::error::StorageError;
use crate::execute::store::Files;
use crate::hash::crc32c;
use crate::types::TxId;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 4_096;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 16;
/// Entries of a full page.
pub(super) const PAGE_ENTRIES: usize = PAGE_BYTES / ENTRY_BYTES - 1;
/// Probes by the value of a prefix before the search halves.
const GUESSES: usize = 3;

/// The beginning of a transaction's id, and its leaf. Two ids may begin alike; the leaf tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) prefix: u64,
    pub(super) leaf: u64,
}

/// First eight bytes of an id.
pub(super) fn prefix_of(id: &TxId) -> u64 {
    let (prefix, _) = id.0.split_first_chunk().unwrap_or_else(|| unreachable!("an id has 32 bytes"));
    u64::from_be_bytes(*prefix)
}

/// The ids of the leaves `first..end`, in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) end: u64,
}

impl Run {
    /// Name of its file.
    pub(super) fn name(self) -> String {
        format!("{:016x}-{:016x}", self.first, self.end)
    }

    /// Whether a file could be one of these.
    pub(super) fn is_name(name: &str) -> bool {
        let is_number = |part: &str| part.len() == 16 && u64::from_str_radix(part, 16).is_ok();
        name.split_once('-').is_some_and(|(first, end)| is_number(first) && is_number(end))
    }

    /// Leaves that it covers.
    pub(super) fn len(self) -> u64 {
        self.end - self.first
    }

    fn pages(self) -> u64 {
        self.len().div_ceil(PAGE_ENTRIES as u64)
    }

    /// Length of its file.
    pub(super) fn bytes(self) -> u64 {
        self.pages() * PAGE_BYTES as u64
    }

    fn damaged(self, page: u64, why: &str) -> StorageError {
        let path = format!("ids of leaves {} to {}", self.first, self.end);
        let why = format!("{why}; remove the file ids/{} of the state folder, it is made anew", self.name());
        StorageError::Damaged { path, at: page * PAGE_BYTES as u64, why }
    }

    fn checksum(self, number: u64, body: &[u8]) -> u32 {
        let mut place = Vec::with_capacity(24);
        place.put_u64(self.first);
        place.put_u64(self.end);
        place.put_u64(number);
        crc32c(&place, body)
    }

    /// Adds a page to a buffer.
    pub(super) fn put_page(self, number: u64, entries: &[Entry], out: &mut Vec<u8>) {
        let start = out.len();
        for entry in entries {
            out.put_u64(entry.prefix);
            out.put_u64(entry.leaf);
        }
        out.resize(start + PAGE_BYTES - 4, 0);
        let checksum = self.checksum(number, &out[start..]);
        out.put_u32(checksum);
    }

    /// Reads a page, `number < pages()`.
    fn page(self, files: &impl Files, number: u64) -> Result<Page, StorageError> {
        let bytes = files.read_at(&self.name(), number * PAGE_BYTES as u64, PAGE_BYTES)?;
        let Some((body, checksum)) = bytes.split_last_chunk::<4>().filter(|_| bytes.len() == PAGE_BYTES)
        else {
            return Err(self.damaged(number, "the file ends"));
        };
        if self.checksum(number, body) != u32::from_be_bytes(*checksum) {
            return Err(self.damaged(number, "the checksum is wrong"));
        }
        let before = number * PAGE_ENTRIES as u64;
        let held = usize::try_from(self.len() - before).map_or(PAGE_ENTRIES, |left| left.min(PAGE_ENTRIES));
        Ok(Page { bytes, held })
    }

    /// Adds the leaves of entries that begin like an id.
    pub(super) fn find(
        self,
        files: &impl Files,
        prefix: u64,
        found: &mut Vec<u64>,
    ) -> Result<(), StorageError> {
        let (mut number, mut page) = self.lower_bound(files, prefix)?;
        while let Some(held) = page {
            let entries = (0..held.held).map(|at| held.entry(at)).skip_while(|entry| entry.prefix < prefix);
            found.extend(entries.take_while(|entry| entry.prefix == prefix).map(|entry| entry.leaf));
            number += 1;
            let goes_on = held.last().prefix == prefix && number < self.pages();
            page = if goes_on { Some(self.page(files, number)?) } else { None };
        }
        Ok(())
    }

    /// The first page whose last entry is not below a prefix, if there is one.
    fn lower_bound(self, files: &impl Files, prefix: u64) -> Result<(u64, Option<Page>), StorageError> {
        let (mut low, mut high, mut found) = (0, self.pages(), None);
        let scaled = (u128::from(prefix) * u128::from(high)) >> 64;
        let mut guess = u64::try_from(scaled).unwrap_or_else(|_| unreachable!("below the pages"));
        for step in 0.. {
            if low >= high {
                break;
            }
            let at = if step < GUESSES { guess.clamp(low, high - 1) } else { low + (high - low) / 2 };
            let page = self.page(files, at)?;
            if page.last().prefix < prefix {
                low = at + 1;
                guess = low;
                continue;
            }
            let is_first = page.entry(0).prefix < prefix;
            high = at;
            found = Some(page);
            if is_first {
                break;
            }
            guess = at.saturating_sub(1);
        }
        Ok((high, found))
    }
}

/// One page of a run.
struct Page {
    bytes: Vec<u8>,
    /// At least 1.
    held: usize,
}

impl Page {
    fn entry(&self, at: usize) -> Entry {
        let (entries, _) = self.bytes.as_chunks::<ENTRY_BYTES>();
        let number = |half: usize| {
            let bytes = entries[at].as_chunks::<8>().0[half];
            u64::from_be_bytes(bytes)
        };
        Entry { prefix: number(0), leaf: number(1) }
    }

    fn last(&self) -> Entry {
        self.entry(self.held - 1)
    }
}

/// Reads the entries of a run in order.
#[derive(Debug)]
pub(super) struct Reading {
    run: Run,
    next_page: u64,
    page: std::vec::IntoIter<Entry>,
}

impl Reading {
    pub(super) fn new(run: Run) -> Self {
        Self { run, next_page: 0, page: Vec::new().into_iter() }
    }

    /// The entry that comes next.
    pub(super) fn peek(&mut self, files: &impl Files) -> Result<Option<Entry>, StorageError> {
        if self.page.as_slice().is_empty() && self.next_page < self.run.pages() {
            let page = self.run.page(files, self.next_page)?;
            self.page = (0..page.held).map(|at| page.entry(at)).collect::<Vec<_>>().into_iter();
            self.next_page += 1;
        }
        Ok(self.page.as_slice().first().copied())
    }

    /// Passes over it.
    pub(super) fn pass(&mut self) {
        let _ = self.page.next();
    }
}

/// Writes a run from its first entry to its last.
#[derive(Debug)]
pub(super) struct Writing {
    run: Run,
    pages: u64,
    entries: Vec<Entry>,
    out: Vec<u8>,
}

impl Writing {
    pub(super) fn new(run: Run) -> Self {
        Self { run, pages: 0, entries: Vec::with_capacity(PAGE_ENTRIES), out: Vec::new() }
    }

    pub(super) fn run(&self) -> Run {
        self.run
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.entries.len() == PAGE_ENTRIES {
            self.end_page();
        }
    }

    fn end_page(&mut self) {
        let number = self.pages + (self.out.len() / PAGE_BYTES) as u64;
        self.run.put_page(number, &self.entries, &mut self.out);
        self.entries.clear();
    }

    /// Makes durable what was pushed, but for the page that is not full.
    pub(super) fn save(&mut self, files: &impl Files) -> Result<(), StorageError> {
        let name = self.run.name();
        files.append(&name, self.pages * PAGE_BYTES as u64, &self.out)?;
        self.pages += (self.out.len() / PAGE_BYTES) as u64;
        self.out.clear();
        files.sync(&name)
    }

    /// Makes all of it durable.
    pub(super) fn finish(mut self, files: &impl Files) -> Result<Run, StorageError> {
        if !self.entries.is_empty() {
            self.end_page();
        }
        self.save(files)?;
        debug_assert_eq!(self.pages, self.run.pages(), "an entry for each leaf");
        Ok(self.run)
    }
}
