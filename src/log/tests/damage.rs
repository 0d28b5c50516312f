//! Bytes that change after they were written.

use super::*;

const SEGMENT: u64 = 16_384;

/// What a changed log may do.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Refused, with the file and the offset.
    Refused(String, u64),
    /// Opened, with all records up to this one as they were written.
    Opened(u64),
}

/// Opens a changed log. Whatever it reports must be as it was written, and any refusal must be one for damage.
fn outcome(disk: &SimDisk, model: &Model) -> Outcome {
    // `check` refuses what `open` refuses, and is quicker.
    match check(disk, Some(NETWORK)).and_then(|_| open(disk, SEGMENT)) {
        Ok((log, recovered)) => {
            model.assert_holds(&log, recovered.last);
            Outcome::Opened(recovered.last.0)
        }
        Err(StorageError::Damaged { path, at, why }) => {
            assert!(why.contains("restore the data folder from a backup"), "{why}");
            Outcome::Refused(path, at)
        }
        Err(error) => panic!("{error}"),
    }
}

fn with_bytes(disk: &SimDisk, name: &str, bytes: &[u8]) -> SimDisk {
    let copy = disk.snapshot();
    copy.poke(name, bytes).unwrap();
    copy
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

/// Segment file, offset, span and first record of a group.
type Group = (String, usize, usize, u64);

fn groups(disk: &SimDisk) -> Vec<Group> {
    let mut found = Vec::new();
    for name in segments(disk) {
        let bytes = disk.peek(&name).unwrap();
        let mut at = usize::try_from(SEGMENT_DATA_AT).unwrap();
        while let Some(header) = bytes.get(at..).and_then(GroupHeader::decode) {
            found.push((name.clone(), at, header.span(), header.first_record.0));
            at += header.span();
        }
    }
    found
}

/// Flips every byte of every file; hands file, offset and outcome to `judge`.
fn flip_all(disk: &SimDisk, model: &Model, mut judge: impl FnMut(&str, usize, Outcome)) {
    for name in disk.list().unwrap() {
        let bytes = disk.peek(&name).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= if at % 2 == 0 { 1 << (at / 2 % 8) } else { 0xff };
            judge(&name, at, outcome(&with_bytes(disk, &name, &flipped), model));
        }
    }
}

/// With the watermark up to date, as after an orderly stop or a pause: any flip inside a group is refused and the place
/// named; any flip elsewhere is either refused or harmless. Nothing is ever lost silently.
#[test]
fn every_flipped_byte_is_refused_or_harmless_when_the_watermark_is_current() {
    let (disk, model) = small_log(SEGMENT, 5, 3_200);
    let all = model.records.len() as u64;
    let groups = groups(&disk);
    assert!(segments(&disk).len() > 2);
    let (mut refused, mut harmless) = (0, 0);
    flip_all(&disk, &model, |name, at, outcome| {
        let group = groups.iter().find(|g| g.0 == name && (g.1..g.1 + g.2).contains(&at));
        match (group, outcome) {
            (Some((file, start, ..)), Outcome::Refused(path, place)) => {
                assert_eq!((path, place), (format!("sim/{file}"), *start as u64), "byte {at}");
                refused += 1;
            }
            (None, Outcome::Refused(..)) => refused += 1,
            (None, Outcome::Opened(last)) => {
                assert_eq!(last, all, "{name}, byte {at}");
                harmless += 1;
            }
            (Some(_), Outcome::Opened(last)) => panic!("{name}, byte {at}: opened with {last} records"),
        }
    });
    assert!(groups.iter().any(|group| group.2 > PAGE_BYTES));
    let covered: usize = groups.iter().map(|group| group.2).sum();
    assert!(
        refused >= covered && harmless > 0,
        "{refused} refused, {covered} in groups, {harmless} harmless"
    );
}

/// Without the watermark, the last group alone cannot be told from one that was being written: a flip in it may cut it
/// off, whole. A flip in any other group is refused as before.
#[test]
fn without_the_watermark_only_the_last_group_can_pass_for_a_torn_tail() {
    let (mut disk, model) = small_log(SEGMENT, 5, 3_200);
    disk.remove("watermark").unwrap();
    let all = model.records.len() as u64;
    let groups = groups(&disk);
    let (last_name, last_at, last_span, last_first) = groups.last().unwrap();
    let mut cut = 0;
    flip_all(&disk, &model, |name, at, outcome| {
        let in_last = name == last_name && (*last_at..last_at + last_span).contains(&at);
        let in_group = groups.iter().any(|g| g.0 == name && (g.1..g.1 + g.2).contains(&at));
        match outcome {
            Outcome::Refused(..) => {}
            Outcome::Opened(last) if in_last => {
                assert_eq!(last, last_first - 1, "byte {at}");
                cut += 1;
            }
            Outcome::Opened(last) => assert!(!in_group && last == all, "{name}, byte {at}: {last} records"),
        }
    });
    assert!(cut > 0);
}

#[test]
fn every_cut_of_a_segment_is_refused_and_of_the_watermark_harmless() {
    let (disk, model) = small_log(SEGMENT, 5, 1_500);
    let all = model.records.len() as u64;
    for name in disk.list().unwrap() {
        let bytes = disk.peek(&name).unwrap();
        for len in 0..bytes.len() {
            match outcome(&with_bytes(&disk, &name, &bytes[..len]), &model) {
                Outcome::Refused(path, _) => assert_eq!(path, format!("sim/{name}"), "cut at {len}"),
                Outcome::Opened(last) => assert!(name == "watermark" && last == all, "{name} cut at {len}"),
            }
        }
        let mut longer = bytes;
        longer.extend_from_slice(&[0; PAGE_BYTES]);
        let opened = outcome(&with_bytes(&disk, &name, &longer), &model) == Outcome::Opened(all);
        assert_eq!(opened, name == "watermark", "{name}, longer");
    }
}

#[test]
fn any_two_sectors_swapped_or_one_written_over_another_are_refused_or_harmless() {
    let (disk, model) = small_log(SEGMENT, 5, 3_200);
    let all = model.records.len() as u64;
    let sectors: Vec<(String, usize)> = disk
        .list()
        .unwrap()
        .into_iter()
        .flat_map(|name| {
            let len = disk.peek(&name).unwrap().len();
            (0..len).step_by(PAGE_BYTES).map(move |at| (name.clone(), at))
        })
        .collect();
    let page = |name: &str, at: usize| disk.peek(name).unwrap()[at..at + PAGE_BYTES].to_vec();
    let put = |disk: &SimDisk, name: &str, at: usize, new: &[u8]| {
        let mut bytes = disk.peek(name).unwrap();
        bytes[at..at + PAGE_BYTES].copy_from_slice(new);
        disk.poke(name, &bytes).unwrap();
    };
    let mut refused = 0;
    for (i, (name, at)) in sectors.iter().enumerate() {
        for (other, to) in &sectors[..i] {
            let (one, two) = (page(name, *at), page(other, *to));
            for both in [false, true] {
                let copy = disk.snapshot();
                put(&copy, other, *to, &one);
                if both {
                    put(&copy, name, *at, &two);
                }
                match outcome(&copy, &model) {
                    Outcome::Refused(..) => refused += 1,
                    Outcome::Opened(last) => assert_eq!(last, all, "{name} {at} and {other} {to}"),
                }
            }
        }
    }
    assert!(refused > sectors.len(), "{refused}");
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, model) = small_log(SEGMENT, 9, 1_500);
    let names = segments(&disk);
    assert!(names.len() >= 4);
    for name in &names {
        let mut copy = disk.snapshot();
        copy.remove(name).unwrap();
        assert!(matches!(outcome(&copy, &model), Outcome::Refused(..)), "{name}");
    }
    let mut none = disk.snapshot();
    for name in &names {
        none.remove(name).unwrap();
    }
    assert_eq!(outcome(&none, &model), Outcome::Refused("sim/0000000000.seg".into(), 0));
}

#[test]
fn a_bad_copy_of_a_header_is_repaired_from_the_other() {
    let (disk, model) = small_log(SEGMENT, 5, 1_500);
    let name = &segments(&disk)[1];
    let bytes = disk.peek(name).unwrap();
    for copy in [0, PAGE_BYTES] {
        let mut bad = bytes.clone();
        bad[copy..copy + PAGE_BYTES].fill(0x55);
        let disk = with_bytes(&disk, name, &bad);
        assert_eq!(check(&disk, None).unwrap().bad_header_copies, 1);
        let (log, recovered) = open(&disk, SEGMENT).unwrap();
        assert_eq!(recovered.repaired_headers, 1);
        model.assert_holds(&log, recovered.last);
        assert_eq!(disk.peek(name).unwrap(), bytes);
    }
    let mut bad = bytes;
    bad[0] ^= 1;
    bad[PAGE_BYTES] ^= 1;
    assert_eq!(outcome(&with_bytes(&disk, name, &bad), &model), Outcome::Refused(format!("sim/{name}"), 0));
}

/// A record whose body looks like a later group must not turn a torn tail into "damage": clients choose bodies.
#[test]
fn a_body_that_imitates_a_group_does_not_stop_recovery() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    log.append(1, LogSeq(1), &[b"acknowledged"]).unwrap();
    log.commit().unwrap();
    // The imitation is right in all but the generation, which is secret.
    let at = SEGMENT_DATA_AT + 3 * PAGE_BYTES as u64;
    let forged = GroupHeader {
        generation: 1,
        segment: 0,
        at,
        group: 3,
        first_record: LogSeq(3),
        durable: LogSeq(2),
        count: 1,
        length: 16,
        previous: [0; 32],
        records: [0; 32],
    };
    let lead = PAGE_BYTES * 2 - super::super::format::GROUP_HEADER_BYTES - 16;
    log.append(1, LogSeq(2), &[vec![1; lead], forged.encode().to_vec()]).unwrap();
    disk.fail_call(2, Fault::Io);
    log.commit().unwrap_err();
    let mut bytes = disk.peek("0000000000.seg").unwrap();
    let place = usize::try_from(at).unwrap();
    assert_eq!(GroupHeader::decode(&bytes[place..]), Some(forged), "it stands where a group could");
    let torn = place - 2 * PAGE_BYTES;
    bytes[torn..torn + PAGE_BYTES].fill(0);
    let copy = with_bytes(&disk, "0000000000.seg", &bytes);
    let (_, recovered) = open(&copy, 65_536).unwrap();
    assert_eq!(recovered.last, LogSeq(1));
    assert!(recovered.torn_tail_bytes > 0);
}

#[test]
fn a_record_that_rots_while_the_log_is_open_is_refused_when_read() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    log.append(1, LogSeq(1), &[[7; 100]]).unwrap();
    log.append(1, LogSeq(2), &[[8; 100]]).unwrap();
    log.commit().unwrap();
    let mut bytes = disk.peek("0000000000.seg").unwrap();
    let at = bytes.iter().position(|b| *b == 8 && bytes[0] != 8).unwrap();
    let at = bytes[at..].windows(100).position(|w| w == [8; 100]).unwrap() + at;
    bytes[at + 50] ^= 4;
    disk.poke("0000000000.seg", &bytes).unwrap();
    assert!(log.read(LogSeq(1)).unwrap().is_some());
    let error = log.read(LogSeq(2)).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { path, .. } if path == "sim/0000000000.seg"), "{error}");
}

/// Five groups in one segment and no watermark: what is left to tell damage from a tail is what follows.
fn one_segment() -> (SimDisk, Model, Vec<Group>) {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let (mut log, _) = open(&disk, 65_536).unwrap();
    for n in 0..5 {
        model.append(&mut log, 1, vec![n; 6_000]).unwrap();
        log.commit().unwrap();
    }
    log.close().unwrap();
    let mut disk = disk;
    disk.remove("watermark").unwrap();
    let groups = groups(&disk);
    assert_eq!(groups.len(), 5);
    (disk, model, groups)
}

#[test]
fn a_group_whose_header_is_lost_is_damage_if_a_later_group_stands() {
    let (disk, model, groups) = one_segment();
    for (n, (name, at, span, first)) in groups.iter().enumerate() {
        let mut bytes = disk.peek(name).unwrap();
        bytes[*at..at + PAGE_BYTES].fill(0);
        let header_lost = outcome(&with_bytes(&disk, name, &bytes), &model);
        bytes[*at..at + span].fill(0);
        let group_lost = outcome(&with_bytes(&disk, name, &bytes), &model);
        let expected = if n < 4 {
            Outcome::Refused(format!("sim/{name}"), *at as u64)
        } else {
            Outcome::Opened(first - 1)
        };
        assert_eq!(header_lost, expected, "group {n}");
        assert_eq!(group_lost, expected, "group {n}");
    }
}

#[test]
fn data_beyond_the_reach_of_the_groups_in_flight_is_damage() {
    let disk = SimDisk::new();
    let mut log = open(&disk, 16 << 20).unwrap().0;
    for n in 0..3 {
        log.append(1, log.next_seq(), &[vec![n; 6_000]]).unwrap();
        log.commit().unwrap();
    }
    log.close().unwrap();
    let mut disk = disk;
    disk.remove("watermark").unwrap();
    let groups = groups(&disk);
    let (name, at, ..) = groups.last().unwrap();
    let mut bytes = disk.peek(name).unwrap();
    bytes[at + 1_000] ^= 1;
    let open_with = |byte: usize| {
        let mut bytes = bytes.clone();
        bytes[byte] = 1;
        open(&with_bytes(&disk, name, &bytes), 16 << 20).map(|(_, recovered)| recovered.last)
    };
    assert_eq!(open_with(at + GROUP_BYTES_MAX - 1).unwrap(), LogSeq(2));
    let error = open_with(at + GROUP_BYTES_MAX).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { at: place, .. } if *place == *at as u64), "{error}");
}

#[test]
fn an_intact_group_that_does_not_continue_the_log_is_damage_even_at_the_end() {
    let (disk, model, groups) = one_segment();
    let (name, at, ..) = groups.last().unwrap();
    let bytes = disk.peek(name).unwrap();
    let header = GroupHeader::decode(&bytes[*at..]).unwrap();
    let others = [
        GroupHeader { previous: [1; 32], ..header },
        GroupHeader { group: header.group + 1, ..header },
        GroupHeader { first_record: LogSeq(header.first_record.0 - 1), ..header },
        GroupHeader { count: header.count + 1, ..header },
        GroupHeader { length: u32::MAX - 8_192, ..header },
    ];
    for other in others {
        let mut bytes = bytes.clone();
        bytes[*at..at + super::super::format::GROUP_HEADER_BYTES].copy_from_slice(&other.encode());
        let refused = Outcome::Refused(format!("sim/{name}"), *at as u64);
        assert_eq!(outcome(&with_bytes(&disk, name, &bytes), &model), refused, "{other:?}");
    }
    // A group of another place, or of an earlier use of the file, is no group at all.
    for other in [GroupHeader { at: header.at + 4_096, ..header }, GroupHeader { generation: 5, ..header }] {
        let mut bytes = bytes.clone();
        bytes[*at..at + super::super::format::GROUP_HEADER_BYTES].copy_from_slice(&other.encode());
        assert_eq!(outcome(&with_bytes(&disk, name, &bytes), &model), Outcome::Opened(4), "{other:?}");
    }
}

/// Long groups are verified side by side, on several threads, those behind a bad one too.
#[test]
fn the_first_of_several_bad_groups_is_the_one_that_is_named() {
    let disk = SimDisk::new();
    let mut log = open(&disk, 4 << 20).unwrap().0;
    for n in 0..12 {
        log.append(1, log.next_seq(), &[vec![n; 300_000]]).unwrap();
        log.commit().unwrap();
    }
    log.close().unwrap();
    let whole = disk.peek("0000000000.seg").unwrap();
    let groups = groups(&disk);
    assert_eq!(groups.len(), 12);
    for first in 0..11 {
        let mut bytes = whole.clone();
        for (_, at, ..) in groups[first..].iter().step_by(2) {
            bytes[at + 1_000] ^= 1;
        }
        let copy = with_bytes(&disk, "0000000000.seg", &bytes);
        let error = open(&copy, 4 << 20).unwrap_err();
        let StorageError::Damaged { at, .. } = &error else { panic!("{error}") };
        assert_eq!(*at, groups[first].1 as u64);
    }
    let (log, _) = open(&disk, 4 << 20).unwrap();
    assert_eq!(log.durable(), LogSeq(12));
}
