//! Replay windows on disk: only the 512-bit pages that were touched since it was stored last are written, not
//! the 8 KiB of a whole window.
//!
//! A page is named by the sequence numbers that it covers, `seq / 512`. Pages that the window has left are deleted, and a
//! page that is not there has no bit set. A key that counts up without gaps keeps one page.

use std::collections::BTreeSet;

use super::ReplayWindow;
use super::store::{Overlay, Read};
use super::tables::{self, Record};
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::StorageError;
use crate::types::{KeyId, OrgId};

const PAGE_WORDS: u64 = 8;
/// Sequence numbers in one page.
const PAGE_BITS: u64 = 64 * PAGE_WORDS;
/// Pages that a window can have, whatever its alignment, and one more to notice that there are too many.
const PAGES_MAX: usize = 65_536 / 512 + 3;

/// The page that covers a sequence number.
pub(super) fn page_of(seq: u64) -> u64 {
    seq / PAGE_BITS
}

/// Which words a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// Number of the first word.
    base: u64,
    words: u16,
}

impl Span {
    fn pages(self) -> std::ops::Range<u64> {
        let end = (self.base + u64::from(self.words)).div_ceil(PAGE_WORDS);
        self.base / PAGE_WORDS..end
    }
}

impl Record for Span {
    const NAME: &'static str = "replay window";

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(10);
        out.put_u64(self.base);
        out.put_u16(self.words);
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { base: r.u64("first word")?, words: r.u16("word count")? })
    }
}

/// Splits the encoding of a window (`base8 n2 word8×n`) into its span and its words.
fn parts(encoded: &[u8]) -> (Span, &[[u8; 8]]) {
    let mut r = Reader::new(encoded);
    let Ok(span) = Span::read(&mut r) else { unreachable!("a window's encoding starts with its span") };
    (span, encoded[r.position()..].as_chunks().0)
}

/// Stores a window in which numbers of the given pages were used since it was stored last.
pub(super) fn save<R: Read>(
    overlay: &mut Overlay<'_, R>,
    id: (OrgId, KeyId),
    window: &ReplayWindow,
    touched: &BTreeSet<u64>,
) -> Result<(), StorageError> {
    let mut encoded = Vec::new();
    window.encode(&mut encoded);
    let (span, words) = parts(&encoded);
    let header = tables::window(id);
    if let Some(old) = Span::stored(&header, overlay.get(&header)?)? {
        for page in old.pages().take(PAGES_MAX).filter(|page| !span.pages().contains(page)) {
            // Of a window that jumped few are there, and what deletes one that is not costs as much.
            let page = tables::window_page(id, page);
            if overlay.get(&page)?.is_some() {
                overlay.delete(page);
            }
        }
    }
    overlay.put(header, span.encode());
    for page in touched.iter().filter(|page| span.pages().contains(page)) {
        let mut bits = Vec::with_capacity(64);
        for word in page * PAGE_WORDS..(page + 1) * PAGE_WORDS {
            let held = word.checked_sub(span.base).and_then(|at| words.get(usize::try_from(at).ok()?));
            bits.put_bytes(held.unwrap_or(&[0; 8]));
        }
        overlay.put(tables::window_page(id, *page), bits);
    }
    Ok(())
}

/// Reads the window of a key.
pub(super) fn load(store: &impl Read, id: (OrgId, KeyId)) -> Result<ReplayWindow, StorageError> {
    let header = tables::window(id);
    let Some(span) = Span::stored(&header, store.get(&header)?)? else { return Ok(ReplayWindow::new()) };
    let mut words = vec![[0_u8; 8]; usize::from(span.words)];
    let prefix = tables::window_pages(id);
    for (key, bits) in store.scan(&prefix, &[], PAGES_MAX)? {
        let (Some(page), Ok(bits)) = (key.last_chunk::<8>(), <[u8; 64]>::try_from(bits.as_slice())) else {
            return Err(tables::damaged(Span::NAME, &key, &"a page of the wrong length"));
        };
        let first = u64::from_be_bytes(*page).saturating_mul(PAGE_WORDS);
        for (word, bits) in (first..).zip(bits.as_chunks::<8>().0) {
            let at = word.checked_sub(span.base).and_then(|at| usize::try_from(at).ok());
            if let Some(held) = at.and_then(|at| words.get_mut(at)) {
                *held = *bits;
            }
        }
    }
    let mut encoded = span.encode();
    encoded.put_bytes(words.as_flattened());
    ReplayWindow::decode(&mut Reader::new(&encoded))
        .map_err(|error| tables::damaged(Span::NAME, &header, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::execute::store::{Batch, MemStore, Store};

    const ID: (OrgId, KeyId) = (OrgId(3), KeyId(4));

    /// Uses numbers commit by commit, stores each time, and returns how many keys each commit changed.
    fn run(commits: &[Vec<u64>]) -> Vec<usize> {
        let store = MemStore::new();
        let mut window = ReplayWindow::new();
        let mut changes = Vec::new();
        for seqs in commits {
            let touched = seqs.iter().filter(|seq| window.mark(**seq)).map(|seq| page_of(*seq)).collect();
            let nothing = Batch::default();
            let mut overlay = Overlay::new(&store, &nothing);
            save(&mut overlay, ID, &window, &touched).unwrap();
            let batch = overlay.into_batch();
            changes.push(batch.len());
            store.apply(batch).unwrap();
            assert_eq!(load(&store, ID).unwrap(), window);
            // Neighbours are not mixed up.
            assert_eq!(load(&store, (OrgId(3), KeyId(5))).unwrap(), ReplayWindow::new());
            assert!(store.scan(&tables::window_pages(ID), &[], 1_000).unwrap().len() <= 129);
        }
        changes
    }

    #[test]
    fn counting_up_writes_one_or_two_entries_for_each_commit() {
        let commits: Vec<Vec<u64>> = (0..200).map(|i| (i * 100..(i + 1) * 100).collect()).collect();
        assert!(run(&commits).into_iter().all(|changes| changes <= 3));
    }

    #[test]
    fn a_window_with_a_gap_writes_what_was_touched() {
        let mut commits = vec![vec![0, 60_000]];
        commits.extend((1..50).map(|i| vec![60_000 - i * 1_000]));
        assert!(run(&commits).into_iter().all(|changes| changes <= 3));
    }

    #[test]
    fn a_jump_deletes_the_pages_that_are_left_behind() {
        let scattered = (0..120).map(|i| i * 512 + 1).collect();
        let changes = run(&[scattered, vec![u64::MAX - 5], vec![u64::MAX]]);
        assert!(changes[1] > 120 && changes[2] <= 3, "{changes:?}");
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_stored(
            commits in prop::collection::vec(prop::collection::vec(
                prop_oneof![0_u64..2_000, 60_000_u64..70_000, 0_u64..300_000, Just(u64::MAX)], 0..40), 1..8),
        ) {
            run(&commits);
        }
    }
}
