//! Loss of power, failing calls and restarts.

use super::*;

const SEGMENT: u64 = 32_768;

/// SplitMix64, as the simulated disk has it.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One process: appends and commits until the disk fails or it is told to stop.
struct Life<'a> {
    log: Log<SimDisk>,
    model: &'a mut Model,
    /// Last record that was acknowledged.
    acked: u64,
    /// Records after which a group could end.
    ends: Vec<u64>,
    number: u64,
}

impl Life<'_> {
    fn step(&mut self, draw: &mut Draw) -> Result<(), StorageError> {
        if draw.one_in(4) {
            self.log.prepare()?;
        }
        for _ in 0..draw.below(4) {
            let body = body(self.log.next_seq().0, self.number, if draw.one_in(5) { 6_000 } else { 300 });
            self.model.append(&mut self.log, 1, body)?;
        }
        self.ends.push(self.log.next_seq().0 - 1);
        self.acked = self.log.commit()?.0;
        if draw.one_in(6) {
            self.log.sync_watermark()?;
        }
        Ok(())
    }

    fn assert_halted(&mut self, disk: &SimDisk) {
        let calls = disk.calls();
        let halted =
            |r: Result<(), StorageError>| assert!(matches!(r, Err(StorageError::Halted { .. })), "{r:?}");
        halted(self.log.commit().map(drop));
        halted(self.log.append(1, self.log.next_seq(), &[b"x"]));
        halted(self.log.sync_watermark());
        halted(self.log.prepare().map(drop));
        halted(self.log.read(LogSeq(1)).map(drop));
        assert_eq!(disk.calls(), calls, "nothing is tried again");
    }
}

/// Lives of one disk, each ended by a fault and then a restart or a loss of power.
fn lives(seed: u64, images: u64) {
    let mut draw = Draw(seed);
    let disk = SimDisk::new();
    let mut model = Model::default();
    let mut acked = 0;
    let mut ends = vec![0];
    for number in 0..images {
        if number > 0 && draw.one_in(4) {
            // Recovery is interrupted too.
            disk.fail_call(1 + draw.below(5), if draw.one_in(2) { Fault::Io } else { Fault::Full });
        }
        let opened = open(&disk, SEGMENT);
        let Ok((log, recovered)) = opened else {
            let error = opened.unwrap_err();
            assert!(
                matches!(error, StorageError::Io { .. } | StorageError::Full { .. }),
                "seed {seed}, life {number}: {error}"
            );
            end(&disk, &mut draw);
            continue;
        };
        let last = recovered.last.0;
        assert!(last >= acked, "seed {seed}, life {number}: {last} of {acked} acknowledged records are left");
        assert!(ends.contains(&last), "seed {seed}, life {number}: {last} is inside a group");
        model.assert_holds(&log, recovered.last);
        // What opening reports is durable.
        let mut life = Life { log, model: &mut model, acked: last, ends: vec![last], number };
        let steps = draw.below(12);
        disk.fail_call(1 + draw.below(2 + 3 * steps), if draw.one_in(2) { Fault::Io } else { Fault::Full });
        if (0..steps).try_for_each(|_| life.step(&mut draw)).is_err() {
            life.assert_halted(&disk);
        }
        acked = life.acked;
        ends = life.ends.split_off(0);
        end(&disk, &mut draw);
    }
}

/// The process ends; with it, mostly, the power.
fn end(disk: &SimDisk, draw: &mut Draw) {
    match draw.below(8) {
        0 => disk.fail_call(u64::MAX / 2, Fault::Io), // The process alone: the page cache stays as it is.
        1 => disk.crash(Survives::Nothing),
        2 => disk.crash(Survives::Everything),
        3 => disk.crash(Survives::Prefix(usize::try_from(draw.below(6)).unwrap())),
        _ => disk.crash(Survives::Seeded(draw.below(u64::MAX))),
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_4000_crashes() {
    for seed in 0..400 {
        lives(seed, 10);
    }
}

/// The same operations with each call failing in turn.
#[test]
fn each_call_fails_once_and_nothing_acknowledged_is_lost() {
    let script = |disk: &SimDisk, model: &mut Model| -> (u64, Result<(), StorageError>) {
        let (log, recovered) = match open(disk, SEGMENT) {
            Ok(opened) => opened,
            Err(error) => return (0, Err(error)),
        };
        let mut life = Life { log, model, acked: recovered.last.0, ends: Vec::new(), number: 0 };
        let mut draw = Draw(7);
        let result = (0..30).try_for_each(|_| life.step(&mut draw));
        if result.is_err() {
            life.assert_halted(disk);
            return (life.acked, result);
        }
        let acked = life.log.next_seq().0 - 1;
        (acked, life.log.close())
    };
    let clean = SimDisk::new();
    let (all, result) = script(&clean, &mut Model::default());
    result.unwrap();
    let calls = clean.calls();
    assert!(calls > 100 && check(&clean, None).unwrap().segments > 2, "{calls} calls");
    for nth in 1..=calls {
        for fault in [Fault::Io, Fault::Full] {
            let disk = SimDisk::new();
            let mut model = Model::default();
            disk.fail_call(nth, fault);
            let (acked, result) = script(&disk, &mut model);
            let error = result.expect_err("every call matters");
            match fault {
                Fault::Io => assert!(matches!(error, StorageError::Io { .. }), "call {nth}: {error}"),
                Fault::Full => assert!(matches!(error, StorageError::Full { .. }), "call {nth}: {error}"),
            }
            for survives in [Survives::Nothing, Survives::Everything, Survives::Seeded(nth)] {
                let copy = disk.snapshot();
                copy.crash(survives);
                let (log, recovered) = open(&copy, SEGMENT).unwrap();
                assert!(recovered.last.0 >= acked && recovered.last.0 <= all, "call {nth}: {recovered:?}");
                model.assert_holds(&log, recovered.last);
            }
        }
    }
}

/// A sync fails and the process is restarted without loss of power: the group is in the page cache, clean, but not on
/// the disk. If recovery took it for durable as it is, a later loss of power would take it back.
#[test]
fn what_recovery_reports_is_durable_even_after_a_failed_sync() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, SEGMENT).unwrap();
    log.append(1, LogSeq(1), &[b"acknowledged"]).unwrap();
    log.commit().unwrap();
    log.append(1, LogSeq(2), &[b"not acknowledged"]).unwrap();
    disk.fail_call(2, Fault::Io);
    log.commit().unwrap_err();
    drop(log);
    let (log, recovered) = open(&disk, SEGMENT).unwrap();
    assert_eq!(recovered.last, LogSeq(2));
    drop(log);
    disk.crash(Survives::Nothing);
    let (log, recovered) = open(&disk, SEGMENT).unwrap();
    assert_eq!(recovered.last, LogSeq(2));
    assert_eq!(log.read(LogSeq(2)).unwrap().unwrap().bytes, &b"not acknowledged"[..]);
}

/// Every prefix of the sectors of a group, and each of them alone missing.
#[test]
fn a_group_is_there_whole_or_not_at_all() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, SEGMENT).unwrap();
    model.append(&mut log, 1, vec![1; 100]).unwrap();
    log.commit().unwrap();
    for n in 0..3 {
        model.append(&mut log, 1, vec![n; 5_000]).unwrap();
    }
    disk.fail_call(2, Fault::Io);
    log.commit().unwrap_err();
    let full = disk.peek("0000000000.seg").unwrap();
    let group = usize::try_from(SEGMENT_DATA_AT).unwrap() + PAGE_BYTES;
    let span = GroupHeader::decode(&full[group..]).unwrap().span();
    assert_eq!(span, 4 * PAGE_BYTES);
    for lost in 1..16_u32 {
        let mut bytes = full.clone();
        for page in (0..4).filter(|page| lost & 1 << page != 0) {
            bytes[group + page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        }
        let copy = disk.snapshot();
        copy.crash(Survives::Nothing);
        copy.poke("0000000000.seg", &bytes).unwrap();
        let (log, recovered) = open(&copy, SEGMENT).unwrap();
        assert_eq!(recovered.last, LogSeq(1), "pages {lost:b}");
        assert_eq!(recovered.torn_tail_bytes > 0, lost != 15, "pages {lost:b}");
        model.assert_holds(&log, LogSeq(1));
        drop(log);
        let bytes = copy.peek("0000000000.seg").unwrap();
        assert!(bytes[group..].iter().all(|b| *b == 0), "the tail is cut off");
    }
}
