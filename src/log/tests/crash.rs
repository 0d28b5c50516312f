//! Loss of power, failing calls and restarts.

use std::collections::VecDeque;

use super::*;
use crate::log::{GroupDurable, GroupWrite, SimFile, Spare};

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

/// One process: appends, commits, and has several groups on their way to the disk, until the disk fails or it is told to stop.
struct Life<'a> {
    log: Log<SimDisk>,
    model: &'a mut Model,
    /// Groups that were cut off and not written.
    given: VecDeque<GroupWrite<SimFile>>,
    /// Results that the log does not know yet.
    ended: Vec<Result<GroupDurable, StorageError>>,
    /// The segment ahead, while somebody else fills it.
    spare: Option<Spare<SimFile>>,
    /// Last record that was acknowledged.
    acked: u64,
    /// Records after which a group could end.
    ends: Vec<u64>,
    number: u64,
}

impl<'a> Life<'a> {
    fn new(log: Log<SimDisk>, model: &'a mut Model, last: u64, number: u64) -> Self {
        let (given, ended, spare) = Default::default();
        // What opening reports is durable.
        Self { log, model, given, ended, spare, acked: last, ends: vec![last], number }
    }

    fn step(&mut self, draw: &mut Draw) -> Result<(), StorageError> {
        self.tend_spare(draw)?;
        for _ in 0..draw.below(4) {
            let body = body(self.log.next_seq().0, self.number, if draw.one_in(5) { 6_000 } else { 300 });
            if !self.log.fits(body.len()) {
                break;
            }
            self.model.append(&mut self.log, 1, body)?;
        }
        let end = self.log.next_seq().0 - 1;
        if self.log.in_flight() == 0 && draw.one_in(2) {
            if self.log.needs_spare() {
                self.give_back()?;
            }
            self.ends.push(end);
            self.acked = self.log.commit()?.0;
        } else if let Some(mut write) = self.log.begin_write()? {
            self.ends.push(end);
            // Groups are sealed in order, and written in any.
            write.seal()?;
            self.given.push_back(write);
        }
        self.fly(draw, 3)?;
        if draw.one_in(2) {
            self.log.write_watermark()?;
        }
        if draw.one_in(6) {
            self.log.sync_watermark()?;
        }
        Ok(())
    }

    /// The segment ahead is filled here or by somebody else, who gives it back sooner or later.
    fn tend_spare(&mut self, draw: &mut Draw) -> Result<(), StorageError> {
        match &mut self.spare {
            None if draw.one_in(6) => drop(self.log.prepare()?),
            None if draw.one_in(4) => self.spare = self.log.lend_spare()?,
            None => {}
            Some(spare) => {
                let filled = if draw.one_in(2) { spare.fill() } else { Ok(()) };
                if let Err(error) = filled {
                    self.spare = None;
                    self.log.return_spare(Err(error))?;
                } else if draw.one_in(3) {
                    self.give_back()?;
                }
            }
        }
        Ok(())
    }

    fn give_back(&mut self) -> Result<(), StorageError> {
        self.spare.take().map_or(Ok(()), |spare| self.log.return_spare(Ok(spare)))
    }

    /// Some groups on their way are written, some of those reported: about one of `one_in` stays where it is.
    fn fly(&mut self, draw: &mut Draw, one_in: u64) -> Result<(), StorageError> {
        for _ in 0..self.given.len() {
            if let Some(write) =
                self.given.swap_remove_back(usize::try_from(draw.below(8)).unwrap() % self.given.len())
            {
                if draw.one_in(one_in) {
                    self.given.push_back(write);
                } else {
                    self.ended.push(write.run());
                }
            }
        }
        for _ in 0..self.ended.len() {
            let result = self.ended.swap_remove(usize::try_from(draw.below(8)).unwrap() % self.ended.len());
            if draw.one_in(one_in) {
                self.ended.push(result);
            } else {
                self.acked = self.log.end_write(result)?.0;
            }
        }
        Ok(())
    }

    /// All that is on its way arrives.
    fn land(&mut self, draw: &mut Draw) -> Result<(), StorageError> {
        self.give_back()?;
        self.fly(draw, u64::MAX)
    }

    /// The process ends: of the groups on their way, some are written and not synced, some are durable, some neither.
    fn die(&mut self, draw: &mut Draw) {
        for write in self.given.drain(..) {
            match draw.below(3) {
                0 => drop(write.run_half()),
                1 => drop(write.run()),
                _ => drop(write),
            }
        }
    }

    fn assert_halted(&mut self, disk: &SimDisk) {
        let calls = disk.calls();
        let halted =
            |r: Result<(), StorageError>| assert!(matches!(r, Err(StorageError::Halted { .. })), "{r:?}");
        halted(self.log.commit().map(drop));
        halted(self.log.append(1, self.log.next_seq(), &[b"x"]));
        halted(self.log.write_watermark());
        halted(self.log.sync_watermark());
        halted(self.log.prepare().map(drop));
        halted(self.log.read(LogSeq(1)).map(drop));
        assert_eq!(disk.calls(), calls, "nothing is tried again");
    }
}

/// Lives of one disk, each ended by a fault and then a restart or a loss of power. Returns how many groups were in flight, at most, when
/// one ended.
fn lives(seed: u64, images: u64) -> usize {
    let mut most = 0;
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
        let mut life = Life::new(log, &mut model, last, number);
        let steps = draw.below(12);
        disk.fail_call(1 + draw.below(2 + 3 * steps), if draw.one_in(2) { Fault::Io } else { Fault::Full });
        if (0..steps).try_for_each(|_| life.step(&mut draw)).is_err() {
            life.assert_halted(&disk);
        }
        most = most.max(life.log.in_flight());
        life.die(&mut draw);
        acked = life.acked;
        ends = life.ends.split_off(0);
        end(&disk, &mut draw);
    }
    most
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
fn nothing_acknowledged_is_lost_in_100000_crashes() {
    let most = (0..10_000).map(|seed| lives(seed, 10)).max();
    assert!(most >= Some(4), "{most:?} groups in flight");
}

/// The same operations with each call failing in turn.
#[test]
fn each_call_fails_once_and_nothing_acknowledged_is_lost() {
    let script = |disk: &SimDisk, model: &mut Model| -> (u64, Result<(), StorageError>) {
        let (log, recovered) = match open(disk, SEGMENT) {
            Ok(opened) => opened,
            Err(error) => return (0, Err(error)),
        };
        let mut life = Life::new(log, model, recovered.last.0, 0);
        let mut draw = Draw(7);
        let result = (0..30).try_for_each(|_| life.step(&mut draw)).and_then(|()| life.land(&mut draw));
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

/// A group so long that its first page is written last, when its digest is known: each call fails in turn, and the power with it.
#[test]
fn a_long_group_is_there_whole_or_not_at_all() {
    let seeded = (0..40).map(Survives::Seeded);
    let prefixes = [1, 40, 73, 74, 75].map(Survives::Prefix);
    let survivals: Vec<_> =
        [Survives::Nothing, Survives::Everything].into_iter().chain(prefixes).chain(seeded).collect();
    for nth in 1..=4 {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let (mut log, _) = open(&disk, 1 << 20).unwrap();
        model.append(&mut log, 1, vec![7; 100]).unwrap();
        log.commit().unwrap();
        for n in 0..3 {
            model.append(&mut log, 1, vec![n; 100_000]).unwrap();
        }
        disk.fail_call(nth, Fault::Io);
        let acked = log.commit().map(|last| last.0).unwrap_or(1);
        // What is behind the first page, that page, the sync.
        let expected = if nth <= 3 { 1 } else { 4 };
        assert_eq!((acked, log.durable().0), (expected, expected));
        drop(log);
        for survives in &survivals {
            let copy = disk.snapshot();
            copy.crash(*survives);
            let (log, recovered) = open(&copy, 1 << 20).unwrap();
            assert!(recovered.last.0 >= acked && [1, 4].contains(&recovered.last.0), "{nth}, {survives:?}");
            model.assert_holds(&log, recovered.last);
        }
    }
}

/// Five groups in flight: each may have got to the disk whole, in part, or not at all, without those before it.
#[test]
fn what_is_left_of_several_groups_in_flight_is_the_prefix_that_holds() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    model.append(&mut log, 1, vec![9; 100]).unwrap();
    log.commit().unwrap();
    let before = disk.snapshot();
    let mut writes = Vec::new();
    for n in 0..5 {
        model.append(&mut log, 1, vec![n + 1; 5_000]).unwrap();
        let mut write = log.begin_write().unwrap().unwrap();
        write.seal().unwrap();
        writes.push(write);
    }
    assert_eq!((log.in_flight(), log.durable()), (5, LogSeq(1)));
    assert_eq!(log.read(LogSeq(2)).unwrap(), None, "not durable yet");
    // From the last to the first: nothing is durable before all before it are.
    while let Some(write) = writes.pop() {
        assert_eq!(log.durable(), LogSeq(1));
        let ended = write.run();
        log.end_write(ended).unwrap();
    }
    model.assert_holds(&log, LogSeq(6));
    let whole = disk.peek("0000000000.seg").unwrap();
    let first = usize::try_from(SEGMENT_DATA_AT).unwrap() + PAGE_BYTES;
    // Each group has two pages: bits of which are on the disk.
    for pages in 0..1_u32 << 10 {
        let mut bytes = whole.clone();
        for lost in (0..10).filter(|page| pages & 1 << page == 0) {
            bytes[first + lost * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        }
        let copy = before.snapshot();
        copy.crash(Survives::Nothing);
        copy.poke("0000000000.seg", &bytes).unwrap();
        let whole_groups = (0..5).take_while(|group| pages >> (2 * group) & 3 == 3).count() as u64;
        let (log, recovered) = open(&copy, 65_536).unwrap();
        assert_eq!(recovered.last, LogSeq(1 + whole_groups), "pages {pages:b}");
        model.assert_holds(&log, recovered.last);
        drop(log);
        // What opening reports is durable, and nothing is left of the rest.
        copy.crash(Survives::Nothing);
        let (_, again) = open(&copy, 65_536).unwrap();
        assert_eq!((again.last, again.torn_tail_bytes), (recovered.last, 0), "pages {pages:b}");
    }
}

/// A group's sync fails while others are in flight: those before it count, it and those after it do not, whatever their own
/// syncs say; and what recovery finds of them is durable when it says so.
#[test]
fn a_failed_sync_among_several_in_flight_ends_the_log_there() {
    for failing in 0..4 {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let (mut log, _) = open(&disk, 65_536).unwrap();
        let mut writes = Vec::new();
        for n in 0..4 {
            model.append(&mut log, 1, vec![n; 5_000]).unwrap();
            writes.push(log.begin_write().unwrap().unwrap());
        }
        let ended: Vec<_> = (0..4)
            .zip(writes)
            .map(|(n, write)| {
                if n == failing {
                    disk.fail_call(2, Fault::Io);
                }
                write.run()
            })
            .collect();
        for (n, result) in (0..4).zip(ended) {
            let result = log.end_write(result);
            assert_eq!(result.is_ok(), n < failing, "{n} of {failing}");
            assert_eq!(log.durable(), LogSeq(failing.min(n + 1)));
        }
        drop(log);
        // The process alone is restarted: all four read back, the failed one from the page cache.
        let lost = disk.snapshot();
        lost.crash(Survives::Nothing);
        assert_eq!(open(&lost, 65_536).unwrap().1.last, LogSeq(failing));
        let (log, recovered) = open(&disk, 65_536).unwrap();
        assert_eq!(recovered.last, LogSeq(4));
        drop(log);
        disk.crash(Survives::Nothing);
        let (log, recovered) = open(&disk, 65_536).unwrap();
        assert_eq!(recovered.last, LogSeq(4));
        model.assert_holds(&log, LogSeq(4));
    }
}

#[test]
fn groups_in_flight_have_a_bound_and_stay_in_their_segment() {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(disk, NETWORK, options(64 << 20)).unwrap();
    let mut writes = Vec::new();
    let mut bytes = 0;
    loop {
        log.append(1, log.next_seq(), &[vec![1; 1 << 20]]).unwrap();
        let Some(write) = log.begin_write().unwrap() else { break };
        bytes += (1 << 20) + PAGE_BYTES;
        writes.push(write);
    }
    assert!(bytes <= GROUP_BYTES_MAX && bytes + (2 << 20) > GROUP_BYTES_MAX, "{bytes}");
    for write in writes {
        log.end_write(write.run()).unwrap();
    }
    log.close().unwrap();
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 16_384).unwrap();
    log.append(1, LogSeq(1), &[[1; 6_000]]).unwrap();
    let write = log.begin_write().unwrap().unwrap();
    log.append(1, LogSeq(2), &[[2; 6_000]]).unwrap();
    assert!(log.begin_write().unwrap().is_none(), "the next segment waits until all of this one is durable");
    log.end_write(write.run()).unwrap();
    let next = log_write(&mut log).run();
    log.end_write(next).unwrap();
    assert_eq!(log.durable(), LogSeq(2));
}

fn log_write(log: &mut Log<SimDisk>) -> GroupWrite<SimFile> {
    log.begin_write().unwrap().unwrap()
}

#[test]
fn a_group_that_is_never_written_stops_those_after_it() {
    let (mut log, _) = open(&SimDisk::new(), 65_536).unwrap();
    log.append(1, LogSeq(1), &[b"one"]).unwrap();
    let one = log_write(&mut log);
    log.append(1, LogSeq(2), &[b"two"]).unwrap();
    let two = log_write(&mut log);
    drop(one);
    let error = log.end_write(two.run()).unwrap_err();
    assert!(matches!(error, StorageError::Halted { .. }), "{error}");
    assert_eq!(log.durable(), LogSeq(0));
}
