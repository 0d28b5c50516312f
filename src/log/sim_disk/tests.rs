#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
use super::*;

fn synced(disk: &mut SimDisk, name: &str, bytes: &[u8]) -> SimFile {
    let file = disk.create(name).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_folder().unwrap();
    file
}

#[test]
fn a_crash_keeps_what_was_synced_and_what_it_is_told_to() {
    let mut disk = SimDisk::new();
    let file = synced(&mut disk, "a", &[1; 10_000]);
    file.write_at(4_000, &[2; 200]).unwrap();
    disk.create("b").unwrap();
    let copy = disk.snapshot();
    disk.crash(Survives::Nothing);
    assert_eq!(disk.peek("a").unwrap(), vec![1; 10_000]);
    assert_eq!(disk.list().unwrap(), ["a"]);
    assert!(file.sync().is_err(), "a handle of the dead process");
    copy.crash(Survives::Prefix(1));
    let mut expected = vec![1; 10_000];
    expected[4_000..4_096].fill(2);
    assert_eq!(copy.peek("a").unwrap(), expected);
    assert_eq!(copy.list().unwrap(), ["a", "b"]);
}

#[test]
fn seeds_draw_many_images_and_each_the_same_again() {
    let mut disk = SimDisk::new();
    let file = synced(&mut disk, "a", &[0; 40_960]);
    file.write_at(0, &[7; 40_960]).unwrap();
    let image = |seed| {
        let copy = disk.snapshot();
        copy.crash(Survives::Seeded(seed));
        copy.peek("a").unwrap()
    };
    let images: std::collections::BTreeSet<_> = (0..100).map(image).collect();
    assert!(images.len() > 60, "{} images", images.len());
    assert!(images.iter().any(|i| i.chunks(SECTOR).any(|s| s.contains(&7) && s.contains(&0))), "torn");
    assert_eq!(image(5), image(5));
}

#[test]
fn an_unsynced_length_can_be_lost_with_the_bytes_past_it() {
    let mut disk = SimDisk::new();
    let file = synced(&mut disk, "a", b"abc");
    file.write_at(3, b"def").unwrap();
    let lens: std::collections::BTreeSet<_> = (0..64)
        .map(|seed| {
            let copy = disk.snapshot();
            copy.crash(Survives::Seeded(seed));
            copy.peek("a").unwrap().len()
        })
        .collect();
    assert_eq!(lens.into_iter().collect::<Vec<_>>(), [3, 6]);
}

#[test]
fn after_a_failed_sync_a_later_one_saves_nothing() {
    let mut disk = SimDisk::new();
    let file = synced(&mut disk, "a", b"old");
    file.write_at(0, b"new").unwrap();
    disk.fail_call(1, Fault::Io);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(disk.peek("a").unwrap(), b"new");
    disk.crash(Survives::Nothing);
    assert_eq!(disk.peek("a").unwrap(), b"old");
}

#[test]
fn damage_changes_what_was_durable_and_a_read_can_fail() {
    let mut disk = SimDisk::new();
    let bytes: Vec<u8> = (0..5 * SECTOR).map(|i| u8::try_from(i / SECTOR + 1).unwrap()).collect();
    let file = synced(&mut disk, "a", &bytes);
    let kinds: std::collections::BTreeSet<String> = (0..40)
        .map(|seed| {
            let copy = disk.snapshot();
            let what = copy.damage("a", seed).unwrap();
            assert_ne!(copy.peek("a").unwrap(), bytes, "{what}");
            what.split(' ').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["a", "sector"]);
    assert_eq!(disk.damage("b", 1), None);
    disk.fail_read(2);
    let mut out = [0; 4];
    assert!(file.read_at(0, &mut out).is_ok());
    assert!(file.read_at(0, &mut out).is_err());
    assert!(file.read_at(0, &mut out).is_ok());
}
