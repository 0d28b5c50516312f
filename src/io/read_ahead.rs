//! Fetches what will be read soon, so that the disk does not stand still while what was read is verified.
//!
//! One thread, so that the system sees files read in order and reads ahead of it by itself, in large pages: asked for several
//! parts at once it reads as fast but in small ones, and finding those costs as much time as verifying what is in them. The
//! thread ends when nothing was asked of it for a while.

use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::disk::FolderFile;

/// Below this, waking a thread costs more than it saves.
const BYTES_MIN: u64 = 256 << 10;
/// How long the thread waits for more.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// A range of a file.
struct Range {
    file: FolderFile,
    at: u64,
    len: u64,
}

/// Hands ranges to a thread that fetches them. What it cannot do is done, slower, by whoever reads.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    queue: Mutex<Option<Sender<Range>>>,
}

impl ReadAhead {
    /// Has `len` bytes of `file` from `at` on fetched, after what was asked for before.
    pub(super) fn ask(&self, file: FolderFile, at: u64, len: u64) {
        if len < BYTES_MIN {
            return;
        }
        let range = Range { file, at, len };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Sending fails when the thread has gone, for want of something to do.
        if let Err(unsent) = queue.get_or_insert_with(start).send(range) {
            let _ = queue.insert(start()).send(unsent.into_inner());
        }
        drop(queue);
    }
}

fn start() -> Sender<Range> {
    let (sender, ranges) = unbounded();
    let _ = Builder::new().name("log-ahead".into()).spawn(move || fetch(&ranges));
    sender
}

fn fetch(ranges: &Receiver<Range>) {
    while let Ok(Range { file, at, len }) = ranges.recv_timeout(IDLE_MAX) {
        file.populate(at, len);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use crate::io::disk::FolderDisk;
    use crate::log::{Disk as _, DiskFile as _};

    #[test]
    fn what_is_fetched_or_cannot_be_reads_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = FolderDisk::open_or_create(dir.path()).unwrap();
        let file = disk.create("file").unwrap();
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_be_bytes()[3]).collect();
        file.write_at(0, &bytes).unwrap();
        for (at, len) in [(0, 1 << 20), (4_096, 512 << 10), (1, 1 << 20), (1 << 30, 1 << 20), (0, 1)] {
            file.read_ahead(at, len);
        }
        assert!(file.view(0, bytes.len()).unwrap() == bytes);
        file.seal().unwrap();
        file.read_ahead(0, 1 << 20);
        assert!(file.view(0, bytes.len()).unwrap() == bytes);
    }
}
