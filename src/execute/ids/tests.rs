#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::execute::store::{MemStore, Read, Store};

fn id_of(leaf: u64) -> TxId {
    TxId(*blake3::hash(&leaf.to_be_bytes()).as_bytes())
}

fn record_of(leaf: u64) -> LeafRecord {
    LeafRecord {
        stub: [0; crate::types::STUB_BYTES],
        payload_seq: crate::types::LogSeq(leaf),
        index: 0,
        key: KeyId(1),
        seq: leaf,
        id: id_of(leaf),
    }
}

fn note(ids: &mut Ids, leaves: std::ops::Range<u64>) {
    for leaf in leaves {
        ids.note(OrgId(1), LeafIndex(leaf), &record_of(leaf));
    }
}

/// Names the files in the store.
fn name(ids: &mut Ids, store: &MemStore) -> UsedPages {
    let mut batch = Batch::default();
    let used = ids.name_files(&mut batch);
    store.apply(batch).unwrap();
    used
}

fn open(store: &MemStore, size: u64) -> Ids {
    Ids::open(store.get(&[tables::INDEXED]).unwrap(), store, size).unwrap()
}

/// All leaves that may have the id of one.
fn find(ids: &Ids, store: &MemStore, leaf: u64) -> Vec<u64> {
    let mut asked = Vec::new();
    let none = ids.find(store, &id_of(leaf), |leaf| {
        asked.push(leaf.0);
        Ok(false)
    });
    assert_eq!(none.unwrap(), None);
    assert_eq!(
        ids.find(store, &id_of(leaf), |_| Ok(true)).unwrap().map(|leaf| leaf.0),
        asked.first().copied()
    );
    asked
}

#[test]
fn every_id_is_found_while_files_are_made_merged_and_opened_again() {
    let store = MemStore::new();
    let mut ids = open(&store, 0);
    let (mut size, mut most) = (0, 0);
    for round in 0..300_u64 {
        let end = size + INDEXED_TOGETHER + round % 7;
        note(&mut ids, size..end);
        size = end;
        ids.cover(&store, size).unwrap();
        let used = name(&mut ids, &store);
        assert!(used[&(OrgId(1), KeyId(1))].contains(&windows::page_of(size - 1)));
        if round % 5 == 0 {
            ids.persisted(&store).unwrap();
        }
        for leaf in [0, size / 3, size / 2, size - INDEXED_TOGETHER, size - 1] {
            assert_eq!(find(&ids, &store, leaf), [leaf], "of {size}");
        }
        assert!(find(&ids, &store, size).is_empty());
        let runs = ids.shared.runs();
        most = most.max(runs.len());
        assert!(runs.iter().zip(&runs[1..]).all(|(a, b)| a.end == b.first), "{runs:?}");
        if round % 40 == 39 {
            ids = open(&store, size);
            assert_eq!((ids.covered(), ids.windows()), (size, size));
        }
    }
    // Large merges begin anew with each opening.
    assert!((5..=RUNS_MANY + 8).contains(&most), "{most} files at most, for 300 groups");
    for leaf in 0..size {
        assert_eq!(find(&ids, &store, leaf), [leaf]);
    }
    ids.persisted(&store).unwrap();
    let parts = ids.merges.len();
    let files = store.list().unwrap().len();
    assert!(files <= ids.shared.runs().len() + parts, "{files} files are there, {parts} of them begun");
}

#[test]
fn who_is_opened_again_and_again_or_takes_in_much_at_once_keeps_few_files() {
    let store = MemStore::new();
    let (mut ids, mut size, mut most) = (open(&store, 0), 0, 0);
    for round in 0..400_u64 {
        // Now and then so many at once that they are of the next size by themselves.
        let end = size + if round % 4 == 3 { 5 * INDEXED_TOGETHER } else { INDEXED_TOGETHER };
        note(&mut ids, size..end);
        size = end;
        ids.cover(&store, size).unwrap();
        name(&mut ids, &store);
        most = most.max(ids.shared.runs().len());
        if round % 3 == 0 {
            ids.persisted(&store).unwrap();
            ids = open(&store, size);
            assert_eq!((ids.covered(), ids.windows()), (size, size));
            name(&mut ids, &store);
        }
    }
    assert!(most <= RUNS_MANY + 8, "{most} files at most");
    for leaf in (0..size).step_by(61) {
        assert_eq!(find(&ids, &store, leaf), [leaf]);
    }
}

#[test]
fn files_are_merged_when_they_come_to_the_next_size() {
    // Sizes in groups, beside each other; 0 stands for one that is in a merge.
    let runs = |sizes: &[u64]| {
        let mut first = 0;
        let run = |groups: &u64| {
            let run = Run { first, end: first + groups.max(&1) * INDEXED_TOGETHER };
            first = run.end;
            (*groups > 0).then_some(run)
        };
        sizes.iter().map(run).collect::<Vec<_>>().into_iter().flatten().collect::<Vec<_>>()
    };
    let merged = |sizes: &[u64]| {
        due(&runs(sizes)).map(|runs| runs.iter().map(|run| run.len() / INDEXED_TOGETHER).collect::<Vec<_>>())
    };
    assert_eq!(merged(&[]), None);
    assert_eq!(merged(&[64, 16, 4, 1, 1, 1]), None, "a large one is not written again for three small ones");
    assert_eq!(merged(&[64, 16, 4, 1, 1, 1, 1]), Some(vec![1, 1, 1, 1]));
    assert_eq!(merged(&[4, 4, 4, 4, 1]), Some(vec![4, 4, 4, 4, 1]));
    assert_eq!(merged(&[1, 1, 0, 1, 1]), None, "not across what is merged already");
    assert_eq!(merged(&[1, 1, 5, 1, 1]), None);
    assert_eq!(merged(&[1, 1, 5, 1, 1, 5, 1, 1]), Some(vec![1, 1, 5, 1, 1, 5, 1, 1]), "small ones between");
    let many: Vec<u64> = (0..17_u32).flat_map(|at| [4_u64.pow(17 - at), 1]).collect();
    assert!(many.len() > RUNS_MANY);
    assert_eq!(merged(&many), Some(vec![1, 4]), "if there are too many, the smallest neighbours");
}

/// How often an id is written, in a log that grows.
#[test]
fn an_id_is_written_once_for_each_size() {
    let store = MemStore::new();
    let (mut ids, mut written, mut most) = (open(&store, 0), 0, 0);
    const GROUPS: u64 = 1_024;
    for group in 0..GROUPS {
        let before = ids.merged.len();
        note(&mut ids, group * INDEXED_TOGETHER..(group + 1) * INDEXED_TOGETHER);
        ids.cover(&store, (group + 1) * INDEXED_TOGETHER).unwrap();
        written += ids.merged[before..].iter().map(|run| run.len()).sum::<u64>();
        most = most.max(ids.shared.runs().len());
    }
    assert!(most <= 24, "{most} files at most");
    // Of four files of each size one merge makes the next: log₄ of the groups.
    assert!(written <= 5 * GROUPS * INDEXED_TOGETHER, "{written} entries were merged");
}

#[test]
fn files_that_are_missing_cut_or_not_named_are_made_anew() {
    let store = MemStore::new();
    let mut ids = open(&store, 0);
    for part in 0..3 {
        note(&mut ids, part * 100..(part + 1) * 100);
        ids.cover(&store, (part + 1) * 100).unwrap();
    }
    name(&mut ids, &store);
    store.append(&Run { first: 0, end: 300 }.name(), 0, b"a merge that did not end").unwrap();
    store.append("lost+found", 0, b"not ours").unwrap();
    store.remove(&Run { first: 100, end: 200 }.name()).unwrap();
    let again = open(&store, 300);
    assert_eq!((again.covered(), again.windows()), (100, 300));
    assert_eq!(store.list().unwrap().len(), 2);
    store.append(&Run { first: 0, end: 100 }.name(), 0, b"cut").unwrap();
    let mut again = open(&store, 300);
    assert_eq!((again.covered(), again.windows()), (0, 300));
    note(&mut again, 0..300);
    assert!(again.used.is_empty(), "the windows are stored already");
    again.cover(&store, 300).unwrap();
    assert_eq!(find(&again, &store, 250), [250]);
}

#[test]
fn an_index_that_covers_more_than_the_log_is_damaged() {
    let store = MemStore::new();
    let mut ids = open(&store, 0);
    note(&mut ids, 0..100);
    ids.cover(&store, 100).unwrap();
    name(&mut ids, &store);
    let indexed = store.get(&[tables::INDEXED]).unwrap();
    assert!(matches!(Ids::open(indexed, &store, 99), Err(StorageError::Damaged { .. })));
    for bad in [
        &b"\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x05"[..],
        b"\0\x01\0\0\0\0\0\0\0\0",
        b"\xff\xff",
        b"\0\0\0",
    ] {
        let opened = Ids::open(Some(bad.to_vec()), &store, 1_000);
        assert!(matches!(opened, Err(StorageError::Damaged { .. })), "{bad:?}");
    }
}

#[test]
fn every_altered_byte_of_a_page_shows() {
    let store = MemStore::new();
    let run = Run { first: 0, end: 300 };
    let mut writing = Writing::new(run);
    let mut entries: Vec<Entry> =
        (0..300).map(|leaf| Entry { prefix: prefix_of(&id_of(leaf)), leaf }).collect();
    entries.sort_unstable();
    entries.iter().for_each(|entry| writing.push(*entry));
    writing.finish(&store).unwrap();
    let name = run.name();
    let whole = store.read_at(&name, 0, 1 << 20).unwrap();
    assert_eq!(whole.len() as u64, run.bytes());
    for at in (0..whole.len()).step_by(97).chain([4_095, 4_096, whole.len() - 1]) {
        let mut altered = whole.clone();
        altered[at] ^= 4;
        store.append(&name, 0, &altered).unwrap();
        let all = (0..300).try_for_each(|leaf| run.find(&store, prefix_of(&id_of(leaf)), &mut Vec::new()));
        assert!(matches!(all, Err(StorageError::Damaged { .. })), "byte {at}");
    }
    // A page of another file, and pages that changed places.
    let moved = Run { first: 1, end: 301 };
    store.append(&moved.name(), 0, &whole).unwrap();
    assert!(moved.find(&store, 5, &mut Vec::new()).is_err());
    let turned = [&whole[run::PAGE_BYTES..], &whole[..run::PAGE_BYTES]].concat();
    store.append(&name, 0, &turned).unwrap();
    assert!(run.find(&store, 5, &mut Vec::new()).is_err());
}

proptest! {
    /// Prefixes as no hash makes them: all alike, crowded at an end, the same over several pages.
    #[test]
    fn prefixes_are_found_however_they_are_spread(
        crowd in prop::collection::vec((0_u64..40, 1_usize..400), 1..20),
        shift in 0_u32..60,
    ) {
        let store = MemStore::new();
        let mut leaf = 0;
        let mut entries: Vec<Entry> = Vec::new();
        for (prefix, times) in &crowd {
            for _ in 0..*times {
                entries.push(Entry { prefix: prefix << shift, leaf });
                leaf += 1;
            }
        }
        entries.sort_unstable();
        let run = Run { first: 0, end: leaf };
        let mut writing = Writing::new(run);
        entries.iter().for_each(|entry| writing.push(*entry));
        writing.finish(&store).unwrap();
        for prefix in (0..41).map(|prefix| prefix << shift).chain([1, u64::MAX]) {
            let mut found = Vec::new();
            run.find(&store, prefix, &mut found).unwrap();
            let expected: Vec<u64> = entries.iter().filter(|e| e.prefix == prefix).map(|e| e.leaf).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
