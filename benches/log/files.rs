//! Bare files: zero-filled, written through the page cache or past it, read cold.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, OFlags, fadvise};

/// What `O_DIRECT` asks of buffers, offsets and lengths.
const ALIGN: usize = 4_096;
const MIB: usize = 1 << 20;
/// Requests that keep the device busy.
const IN_FLIGHT: usize = 8;

/// Bytes at an address that `O_DIRECT` takes.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let mut bytes = vec![0; len + ALIGN];
        let from = bytes.as_ptr().align_offset(ALIGN);
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        Self { bytes, from, len }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }
}

/// A file of zeros on the disk.
pub(crate) fn zero_filled(path: &Path, len: usize) {
    let file = File::create(path).expect("create");
    for at in (0..len).step_by(MIB) {
        file.write_all_at(&vec![0; MIB.min(len - at)], at as u64).expect("fill");
    }
    file.sync_all().expect("sync");
}

pub(crate) fn open(path: &Path, direct: bool) -> File {
    let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
    let flags = i32::try_from(flags.bits()).expect("flags are few");
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).expect("open")
}

/// Runs `each` on all offsets of `len` bytes, a MiB apart, by as many threads as requests are to be in flight.
fn in_flight(len: u64, each: impl Fn(u64, &mut Aligned) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                let mut buffer = Aligned::new(MIB);
                loop {
                    let at = next.fetch_add(MIB as u64, Ordering::Relaxed);
                    if at + MIB as u64 > len {
                        return;
                    }
                    each(at, &mut buffer);
                }
            });
        }
    });
}

/// Overwrites `len` bytes from `from` on at the pace of the device, and syncs.
pub(crate) fn write_all(file: &File, from: u64, len: u64) {
    in_flight(len, |at, buffer| file.write_all_at(buffer.get(), from + at).expect("write"));
    file.sync_data().expect("sync");
}

/// Reads a file at the pace of the device.
pub(crate) fn read_all(file: &File) {
    let len = file.metadata().expect("length").len();
    in_flight(len, |at, buffer| file.read_exact_at(buffer.get_mut(), at).expect("read"));
}

/// Reads a file as `cat` does.
pub(crate) fn read_in_order(path: &Path) {
    let file = File::open(path).expect("open");
    fadvise(&file, 0, None, Advice::Sequential).expect("advice");
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while let read @ 1.. = file.read_at(&mut buffer, at).expect("read") {
        at += read as u64;
    }
}

/// Drops a file from the page cache. It must be on the disk and in no map.
pub(crate) fn make_cold(path: &Path) {
    let file = File::open(path).expect("open");
    file.sync_all().expect("sync");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
}
