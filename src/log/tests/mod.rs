//! The log against a disk that loses power, fails calls and rots.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod crash;
mod damage;

use std::collections::BTreeMap;

use super::format::{GROUP_HEADER_BYTES, GroupHeader, RECORD_HEADER_BYTES, SEGMENT_DATA_AT};
use super::*;
use crate::error::StorageError;
use crate::types::{LogSeq, NetworkId};

const NETWORK: NetworkId = NetworkId(*b"network1");

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, seed: 42 }
}

/// Opens a log, and asserts that opening it gives the same records as reading it.
fn open(disk: &SimDisk, segment_bytes: u64) -> Result<(Log<SimDisk>, Recovered), StorageError> {
    let (mut given, mut read) = (Vec::new(), Vec::new());
    let keep = |records: &mut Vec<Record>, record| {
        records.push(record);
        Ok(())
    };
    let opened =
        Log::open_and_read(disk.clone(), NETWORK, options(segment_bytes), |record| keep(&mut given, record))?;
    opened.0.scan(LogSeq(1), |record| keep(&mut read, record))?;
    assert!(given == read, "{} records given, {} read", given.len(), read.len());
    Ok(opened)
}

/// A body that differs for each record and each life, of up to `most` bytes.
fn body(seq: u64, life: u64, most: usize) -> Vec<u8> {
    let mut reader =
        blake3::Hasher::new().update(&seq.to_be_bytes()).update(&life.to_be_bytes()).finalize_xof();
    let mut len = [0; 4];
    reader.fill(&mut len);
    let mut out = vec![0; u32::from_be_bytes(len) as usize % (most + 1)];
    reader.fill(&mut out);
    out
}

/// What a log should hold.
#[derive(Debug, Clone, Default)]
struct Model {
    records: BTreeMap<u64, (u8, Vec<u8>)>,
}

impl Model {
    fn append(&mut self, log: &mut Log<SimDisk>, kind: u8, body: Vec<u8>) -> Result<(), StorageError> {
        let seq = log.next_seq();
        let (one, two) = body.split_at(body.len() / 3);
        let result = log.append(kind, seq, &[one, two]);
        self.records.insert(seq.0, (kind, body));
        result
    }

    /// Asserts that the log holds exactly the records up to `last`, read one by one and in a scan.
    fn assert_holds(&self, log: &Log<SimDisk>, last: LogSeq) {
        assert_eq!(log.durable(), last);
        let mut next = 1;
        log.scan(LogSeq(1), |record| {
            assert_eq!(record.seq.0, next);
            assert_eq!((record.kind, &record.bytes[..]), self.record(next));
            next += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(next, last.0 + 1);
        for seq in (1..=last.0).step_by(7) {
            let record = log.read(LogSeq(seq)).unwrap().unwrap();
            assert_eq!((record.kind, &record.bytes[..]), self.record(seq));
        }
        assert_eq!(log.read(LogSeq(last.0 + 1)).unwrap(), None);
        assert_eq!(log.read(LogSeq(0)).unwrap(), None);
    }

    fn record(&self, seq: u64) -> (u8, &[u8]) {
        let (kind, body) = &self.records[&seq];
        (*kind, body)
    }
}

/// A log of `groups` groups of one to three records of up to `most` bytes; closed.
fn small_log(segment_bytes: u64, groups: u64, most: usize) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, segment_bytes).unwrap();
    for group in 0..groups {
        for _ in 0..=group % 3 {
            let body = body(log.next_seq().0, 0, most);
            model.append(&mut log, 1 + (group % 4) as u8, body).unwrap();
        }
        log.commit().unwrap();
    }
    log.close().unwrap();
    (disk, model)
}

#[test]
fn records_read_back_after_commit_and_after_reopening() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, recovered) = open(&disk, 65_536).unwrap();
    assert_eq!(recovered, Recovered { segments: 1, ..Recovered::default() });
    for len in [0, 1, 7, 8, 9, 4_095, 40_000] {
        model.append(&mut log, 3, vec![7; len]).unwrap();
    }
    assert_eq!(log.durable(), LogSeq(0));
    assert_eq!(log.read(LogSeq(1)).unwrap(), None, "not durable yet");
    assert_eq!(log.commit().unwrap(), LogSeq(7));
    assert_eq!(log.commit().unwrap(), LogSeq(7), "nothing to do");
    model.assert_holds(&log, LogSeq(7));
    // Many small records in one group: the sparse index has entries inside it.
    for n in 0..500 {
        model.append(&mut log, 4, body(n, 1, 80)).unwrap();
    }
    log.commit().unwrap();
    model.assert_holds(&log, LogSeq(507));
    log.close().unwrap();
    let (log, recovered) = open(&disk, 65_536).unwrap();
    assert_eq!((recovered.last, recovered.torn_tail_bytes), (LogSeq(507), 0));
    assert!(recovered.segments > 1, "{recovered:?}");
    model.assert_holds(&log, LogSeq(507));
}

/// The index in memory must not grow with the number of groups, which is there for ever even where nothing happens.
#[test]
fn small_groups_share_entries_of_the_index() {
    const SEGMENT: u32 = 1 << 20;
    let (disk, model) = small_log(SEGMENT.into(), 600, 5_000);
    let (log, recovered) = open(&disk, SEGMENT.into()).unwrap();
    let of_each = (SEGMENT / read::BYTES_PER_PLACE) as usize;
    let places = log.reader().publish().places.len();
    assert!(recovered.segments > 2 && places <= of_each * recovered.segments, "{places}, {recovered:?}");
    for seq in 1..=recovered.last.0 {
        let record = log.read(LogSeq(seq)).unwrap().unwrap();
        assert_eq!((record.kind, &record.bytes[..]), model.record(seq));
    }
    for from in (1..=recovered.last.0).step_by(13) {
        let mut next = from;
        log.scan(LogSeq(from), |record| {
            assert_eq!((record.seq.0, record.kind, &record.bytes[..]), {
                let (kind, body) = model.record(next);
                (next, kind, body)
            });
            next += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(next, recovered.last.0 + 1);
    }
    // Also while it is written, and with a group that ends with a page.
    drop(log);
    let mut model = model;
    let (mut log, _) = open(&disk, SEGMENT.into()).unwrap();
    let heads = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
    for len in [PAGE_BYTES - heads, 10, 2 * PAGE_BYTES - heads, 0] {
        model.append(&mut log, 5, vec![9; len]).unwrap();
        log.commit().unwrap();
    }
    model.assert_holds(&log, LogSeq(recovered.last.0 + 4));
    for seq in recovered.last.0..=recovered.last.0 + 4 {
        assert_eq!(&log.read(LogSeq(seq)).unwrap().unwrap().bytes[..], model.record(seq).1);
    }
}

#[test]
fn a_group_that_is_full_is_committed_and_segments_follow_each_other() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, 16_384).unwrap();
    let most = options(16_384).record_bytes_max();
    for n in 0..9 {
        model.append(&mut log, 1, vec![n; most]).unwrap();
    }
    assert_eq!(log.durable(), LogSeq(8));
    while log.prepare().unwrap() {}
    assert!(log.is_prepared());
    log.commit().unwrap();
    model.assert_holds(&log, LogSeq(9));
    drop(log);
    let (log, recovered) = open(&disk, 32_768).unwrap();
    assert_eq!(recovered.segments, 9);
    model.assert_holds(&log, LogSeq(9));
}

#[test]
fn a_segment_whose_file_is_lent_is_waited_for() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    let spare = log.lend_spare().unwrap().unwrap();
    assert!(log.lend_spare().unwrap().is_none(), "it is lent already");
    let mut groups = 0;
    while !log.needs_spare() {
        model.append(&mut log, 1, vec![3; 20_000]).unwrap();
        groups += u64::from(!log.needs_spare() && log.commit().is_ok());
    }
    assert_eq!((groups, log.durable()), (2, LogSeq(2)));
    assert!(log.begin_write().unwrap().is_none(), "the next segment is lent");
    // Returned as it was: the log fills it.
    log.return_spare(Ok(spare)).unwrap();
    assert!(!log.needs_spare() && !log.is_prepared());
    log.commit().unwrap();
    let mut spare = log.lend_spare().unwrap().unwrap();
    while !spare.is_ready() {
        spare.fill().unwrap();
    }
    log.return_spare(Ok(spare)).unwrap();
    assert!(log.is_prepared() && log.lend_spare().unwrap().is_none());
    for _ in 0..6 {
        model.append(&mut log, 1, vec![4; 20_000]).unwrap();
        log.commit().unwrap();
    }
    // Nobody waits for one that is lent when the process ends.
    let spare = log.lend_spare().unwrap();
    drop(log);
    drop(spare);
    let (log, recovered) = open(&disk, 65_536).unwrap();
    assert_eq!((recovered.last, recovered.torn_tail_bytes), (LogSeq(9), 0));
    model.assert_holds(&log, LogSeq(9));
}

#[test]
fn an_error_of_the_filling_ends_the_log() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    let mut spare = log.lend_spare().unwrap().unwrap();
    disk.fail_call(1, Fault::Full);
    let result = spare.fill().map(|()| spare);
    assert!(matches!(log.return_spare(result), Err(StorageError::Full { .. })));
    assert!(matches!(log.append(1, LogSeq(1), &[b"x"]), Err(StorageError::Halted { .. })));
}

#[test]
#[should_panic(expected = "numbered without a gap")]
fn a_gap_in_numbers_is_a_bug() {
    let (mut log, _) = open(&SimDisk::new(), 65_536).unwrap();
    let _ = log.append(1, LogSeq(2), &[b"x"]);
}

#[test]
#[should_panic(expected = "record 1 has 5242881 bytes")]
fn a_record_too_large_is_a_bug() {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(disk, NETWORK, LogOptions { seed: 1, segment_bytes: 16 << 20 }).unwrap();
    let _ = log.append(1, LogSeq(1), &[vec![0; RECORD_BYTES_MAX + 1]]);
}

#[test]
fn the_largest_record_goes_through() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 16 << 20).unwrap();
    let large = vec![5; RECORD_BYTES_MAX];
    log.append(9, LogSeq(1), &[&large]).unwrap();
    log.close().unwrap();
    let (log, _) = open(&disk, 16 << 20).unwrap();
    assert_eq!(log.read(LogSeq(1)).unwrap().unwrap().bytes, large);
}

#[test]
fn another_networks_log_is_refused_by_name() {
    let (disk, _) = small_log(65_536, 2, 100);
    let other = NetworkId(*b"network2");
    let error = Log::open(disk.clone(), other, options(65_536)).unwrap_err();
    let StorageError::WrongNetwork { path, found, expected } = &error else { panic!("{error}") };
    assert_eq!((path.as_str(), *found, *expected), ("sim/watermark", NETWORK, other));
    let mut disk = disk;
    disk.remove("watermark").unwrap();
    let error = Log::open(disk, other, options(65_536)).unwrap_err();
    assert!(
        matches!(&error, StorageError::WrongNetwork { path, .. } if path == "sim/0000000000.seg"),
        "{error}"
    );
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let (disk, _) = small_log(65_536, 2, 100);
    let mut bytes = disk.peek("0000000000.seg").unwrap();
    for copy in bytes[..2 * PAGE_BYTES].chunks_mut(PAGE_BYTES) {
        copy[11] = 9;
        let crc = crate::hash::crc32c(&copy[..PAGE_BYTES - 4], &[]);
        copy[PAGE_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    }
    disk.poke("0000000000.seg", &bytes).unwrap();
    let error = open(&disk, 65_536).unwrap_err();
    assert!(matches!(error, StorageError::NewerVersion { found: 9, known: 1, .. }), "{error}");
}

#[test]
fn check_reports_and_changes_nothing() {
    let (disk, model) = small_log(16_384, 12, 900);
    let calls = disk.calls();
    let report = check(&disk, None).unwrap();
    assert_eq!(disk.calls(), calls);
    assert_eq!(report.network, Some(NETWORK));
    assert_eq!((report.groups, report.last, report.watermark), (12, LogSeq(24), Some(LogSeq(24))));
    assert_eq!((report.torn_tail_bytes, report.bad_header_copies), (0, 0));
    assert!(report.segments > 2);
    let mut kinds: BTreeMap<u8, KindTotal> = BTreeMap::new();
    for (kind, body) in model.records.values() {
        let total = kinds.entry(*kind).or_default();
        total.records += 1;
        total.bytes += body.len() as u64;
    }
    assert_eq!(report.kinds, kinds);
    let empty = check(&SimDisk::new(), None).unwrap();
    assert_eq!((empty.network, empty.segments, empty.last), (None, 0, LogSeq(0)));
}

#[test]
fn the_format_is_pinned() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 16_384).unwrap();
    log.append(1, LogSeq(1), &[b"first".as_slice(), b" record"]).unwrap();
    log.append(2, LogSeq(2), &[b""]).unwrap();
    log.commit().unwrap();
    log.append(255, LogSeq(3), &[[3; 100]]).unwrap();
    log.close().unwrap();
    let digest = |name| blake3::hash(&disk.peek(name).unwrap()).to_hex().to_string();
    // If one of these changes, so did the format: raise `LOG_VERSION` and keep reading the old one.
    assert_eq!(digest("0000000000.seg"), "894bfc7ed81ca08ce6c60cfa6c46c29fe83ad77dcc6e64e92663caa1f703313c");
    assert_eq!(digest("watermark"), "bc6913932163310ce1e9d890164975dadc0ce96b8769be8d27bbd4ff5dd958fc");
}
