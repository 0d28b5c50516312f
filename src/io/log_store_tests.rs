//! The thread that owns the block log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
use crossbeam_channel::Receiver;

use super::*;
use crate::io::block_index::MemoryTable;
use crate::log::{Fault, SimDisk, check};
use crate::types::{AuthorityIndex, BlockDigest, Round};

const NETWORK: NetworkId = NetworkId(*b"network1");
const PATIENCE: Duration = Duration::from_secs(30);

fn block(n: u64) -> BlockRef {
    BlockRef { round: Round(n), author: AuthorityIndex(1), digest: BlockDigest([3; 32]) }
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, seed: 0 }
}

fn empty() -> Arc<BlockIndex> {
    Arc::new(BlockIndex::open(MemoryTable::default()).unwrap())
}

/// Records of a kind that the index finds.
fn found(index: &BlockIndex, kind: u8) -> Vec<u64> {
    let found = index.in_rounds(kind, Round(0), u64::MAX, usize::MAX).unwrap();
    found.into_iter().map(|(_, seq)| seq.0).collect()
}

fn body(seq: u64) -> Vec<u8> {
    blake3::hash(&seq.to_be_bytes()).as_bytes().repeat(1 + usize::try_from(seq % 40).unwrap())
}

/// Appends and waits until it is durable.
fn durable(event: &Receiver<LogEvent>, seq: u64) {
    loop {
        match event.recv_timeout(PATIENCE).unwrap() {
            LogEvent::Synced(synced) if synced.0 >= seq => return,
            LogEvent::Synced(_) | LogEvent::Room => {}
            LogEvent::Failed(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_queues_up_during_a_sync_becomes_one_group() {
    let disk = SimDisk::new();
    let (log, _) = Log::open(disk.clone(), NETWORK, small()).unwrap();
    let index = empty();
    let (events, event) = crossbeam_channel::unbounded();
    let (open_gate, gate) = crossbeam_channel::bounded::<()>(1);
    let notify = move |e| {
        events.send(e).unwrap();
        // Holds the writer until the test has queued the rest. Not what a node may do.
        let _ = gate.recv_timeout(PATIENCE);
    };
    let writer = LogWriter::spawn(log, Arc::clone(&index), notify).unwrap();
    let append = |n| writer.append(LogSeq(n), 1, vec![body(n).into()], Some(block(n))).unwrap();
    append(1);
    assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(1))));
    assert_eq!((found(&index, 1), index.get(1, &block(1)).unwrap()), (vec![1], Some(LogSeq(1))));
    for n in 2..=50 {
        append(n);
    }
    writer.sync(LogSeq(50)).unwrap();
    drop(open_gate);
    assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(50))));
    assert_eq!(found(&index, 1), (1..=50).collect::<Vec<_>>());
    writer.sync(LogSeq(7)).unwrap();
    let answer = event.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(answer, LogEvent::Synced(LogSeq(50))), "answered though durable before: {answer:?}");
    writer.close();
    let report = check(&disk, Some(NETWORK)).unwrap();
    assert_eq!((report.groups, report.last, report.watermark), (2, LogSeq(50), Some(LogSeq(50))));
}

#[test]
fn a_writer_says_when_it_is_full_and_when_it_has_room_again() {
    let disk = SimDisk::new();
    let (log, _) = Log::open(disk, NETWORK, small()).unwrap();
    let (events, event) = crossbeam_channel::unbounded();
    let (open_gate, gate) = crossbeam_channel::bounded::<()>(1);
    let notify = move |e| {
        events.send(e).unwrap();
        let _ = gate.recv_timeout(PATIENCE);
    };
    let writer = LogWriter::spawn(log, empty(), notify).unwrap();
    let append = |n| writer.append(LogSeq(n), 1, vec![body(n).into()], None).unwrap();
    append(1);
    writer.sync(LogSeq(1)).unwrap();
    assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Synced(LogSeq(1))));
    // The writer stands at the gate.
    let last = QUEUED_COMMANDS_MAX as u64 + 2;
    for n in 2..=last {
        assert!(!writer.is_full());
        append(n);
    }
    assert!(writer.is_full());
    drop(open_gate);
    assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Room));
    durable(&event, last);
    assert!(!writer.is_full());
}

/// A writer whose disk fails once, at the `nth` call.
fn failing(nth: u64, fault: Fault) -> (SimDisk, LogWriter, Receiver<LogEvent>) {
    let disk = SimDisk::new();
    let (log, _) = Log::open(disk.clone(), NETWORK, small()).unwrap();
    let (events, event) = crossbeam_channel::unbounded();
    disk.fail_call(nth, fault);
    let writer = LogWriter::spawn(log, empty(), move |e| events.send(e).unwrap()).unwrap();
    (disk, writer, event)
}

fn assert_ended(writer: &LogWriter, event: &Receiver<LogEvent>) {
    assert!(event.recv_timeout(PATIENCE).is_err(), "the thread has ended and dropped its sender");
    let error = writer.append(LogSeq(1), 1, vec![Bytes::new()], None).unwrap_err();
    assert!(matches!(error, StorageError::Halted { .. }), "{error}");
}

/// Each of the first calls fails in turn: of this thread, writes and syncs of records, or of the one that fills the next segment.
#[test]
fn after_a_failed_call_the_writer_reports_once_and_takes_nothing_more() {
    for nth in 1..=12 {
        let (_, writer, event) = failing(nth, Fault::Io);
        let told = (1..1_000).find_map(|n| {
            // It may have ended.
            let _ =
                writer.append(LogSeq(n), 1, vec![body(n).into()], None).and_then(|()| writer.sync(LogSeq(n)));
            match event.recv_timeout(PATIENCE).unwrap() {
                LogEvent::Failed(error) => Some(error),
                LogEvent::Synced(_) | LogEvent::Room => None,
            }
        });
        assert!(matches!(told, Some(StorageError::Io { .. })), "{nth}: {told:?}");
        assert_ended(&writer, &event);
    }
}

/// Each call that makes the next segment: the first creates the file, and those after it, the other thread's, fill it.
#[test]
fn a_disk_that_is_full_while_the_next_segment_is_filled_ends_the_writer() {
    for nth in 1..=3 {
        let (disk, writer, event) = failing(nth, Fault::Full);
        assert!(matches!(event.recv_timeout(PATIENCE).unwrap(), LogEvent::Failed(StorageError::Full { .. })));
        assert_ended(&writer, &event);
        drop(writer);
        assert_eq!(Log::open(disk, NETWORK, small()).unwrap().1.last, LogSeq(0));
    }
}

#[test]
fn records_go_on_into_segments_that_are_filled_meanwhile() {
    let disk = SimDisk::new();
    let (log, _) = Log::open(disk.clone(), NETWORK, LogOptions { segment_bytes: 4 << 20, seed: 0 }).unwrap();
    let (events, event) = crossbeam_channel::unbounded();
    let writer = LogWriter::spawn(log, empty(), move |e| events.send(e).unwrap()).unwrap();
    let last = 20_000;
    for n in 1..=last {
        while writer.is_full() {
            event.recv_timeout(PATIENCE).unwrap();
        }
        writer.append(LogSeq(n), 1, vec![body(n).into(), Bytes::from_static(&[1; 100])], None).unwrap();
    }
    writer.sync(LogSeq(last)).unwrap();
    durable(&event, last);
    writer.close();
    let report = check(&disk, Some(NETWORK)).unwrap();
    assert_eq!((report.last, report.watermark), (LogSeq(last), Some(LogSeq(last))));
    assert!(report.segments > 2, "{report:?}");
}

#[test]
fn records_are_read_through_the_map_while_others_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/blocks");
    let (events, event) = crossbeam_channel::unbounded();
    let notify = move |e| events.send(e).unwrap();
    let (store, recovered) =
        LogStore::open(&folder, NETWORK, small(), MemoryTable::default(), |_| None, |_| {}, notify).unwrap();
    assert_eq!(recovered.last, LogSeq(0));
    let reader = store.reader.clone();
    let reading = std::thread::spawn(move || {
        let mut held = Vec::new();
        let mut seen = 0;
        while seen < 2_000 {
            let durable = reader.durable().0;
            for seq in (seen.max(1)..=durable).chain([durable / 2].into_iter().filter(|s| *s > 0)) {
                let record = reader.read(LogSeq(seq)).unwrap().unwrap();
                assert_eq!(record.bytes, body(seq));
                held.push(record);
            }
            seen = durable;
            std::thread::yield_now();
        }
        // Slices of maps stay what they were.
        assert!(held.iter().all(|record| record.bytes == body(record.seq.0)));
    });
    for n in 1..=2_000 {
        store.writer.append(LogSeq(n), 1, vec![body(n).into()], Some(block(n))).unwrap();
        if n % 50 == 0 {
            durable(&event, n);
        }
    }
    reading.join().unwrap();
    store.writer.close();
    let name = |record: &Record| Some(block(record.bytes.len() as u64));
    let (again, recovered) =
        LogStore::open(&folder, NETWORK, small(), MemoryTable::default(), name, |_| {}, |_| {}).unwrap();
    assert_eq!((recovered.last, recovered.torn_tail_bytes), (LogSeq(2_000), 0));
    assert!(recovered.segments > 10);
    assert_eq!(found(&again.index, 1).len(), 40);
    assert_eq!(again.reader.read(LogSeq(1_234)).unwrap().unwrap().bytes, body(1_234));
    assert_eq!(again.reader.read(LogSeq(2_001)).unwrap(), None);
    again.writer.close();
    let report = check(&FolderDisk::open_existing(&folder).unwrap(), None).unwrap();
    assert_eq!((report.last, report.network), (LogSeq(2_000), Some(NETWORK)));
}

#[test]
fn the_index_goes_on_where_its_table_ends_and_is_made_anew_if_that_is_of_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let table = MemoryTable::default();
    let open = |folder: &str, named: &AtomicUsize| {
        let name = |record: &Record| {
            named.fetch_add(1, Ordering::Relaxed);
            Some(block(1_000 * u64::from(folder.as_bytes()[0]) + record.seq.0))
        };
        let folder = dir.path().join(folder);
        let (store, _) =
            LogStore::open(&folder, NETWORK, small(), table.clone(), name, |_| {}, |_| {}).unwrap();
        store
    };
    let fill = |folder: &str, records: u64| {
        let store = open(folder, &AtomicUsize::new(0));
        for n in 1..=records {
            let block = block(1_000 * u64::from(folder.as_bytes()[0]) + n);
            store.writer.append(LogSeq(n), 1, vec![body(n).into()], Some(block)).unwrap();
        }
        store.writer.close();
    };
    let all = |records: u64| (1..=records).collect::<Vec<_>>();
    fill("a", 100);
    let (named, store) = (AtomicUsize::new(0), open("a", &AtomicUsize::new(0)));
    let kept = store.index.kept().unwrap();
    assert!(kept > LogSeq(50) && kept < LogSeq(100), "{kept}");
    assert_eq!(found(&store.index, 1), all(100));
    store.writer.close();
    open("a", &named).writer.close();
    assert_eq!(named.load(Ordering::Relaxed) as u64, 101 - kept.0, "the last that is kept, and what follows");

    // Shorter than what the table holds; then as long, and yet another.
    fill("b", 10);
    let store = open("b", &AtomicUsize::new(0));
    assert_eq!((found(&store.index, 1), store.index.kept()), (all(10), None));
    store.writer.close();
    fill("c", 100);
    for folder in ["a", "c", "a"] {
        let store = open(folder, &AtomicUsize::new(0));
        assert_eq!(found(&store.index, 1), all(100), "{folder}");
        let first = block(1_000 * u64::from(folder.as_bytes()[0]) + 1);
        assert_eq!(store.index.get(1, &first).unwrap(), Some(LogSeq(1)));
        store.writer.close();
    }
}

#[test]
fn a_damaged_file_is_refused_with_path_and_position() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || LogStore::open(dir.path(), NETWORK, small(), MemoryTable::default(), |_| None, |_| {}, |_| {});
    let (store, _) = open().unwrap();
    for n in 1..=3 {
        store.writer.append(LogSeq(n), 1, vec![body(n).into()], None).unwrap();
    }
    store.writer.close();
    let path = dir.path().join("0000000000.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8_192 + 300] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open().unwrap_err();
    let StorageError::Damaged { path: named, at: 8_192, .. } = &error else { panic!("{error}") };
    assert_eq!(*named, path.display().to_string());
}
