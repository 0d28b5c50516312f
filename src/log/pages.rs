//! A buffer that begins at an address which direct writes accept.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// Size of the system's huge pages, to which room is aligned.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Bytes at an address that direct writes accept, up to a limit. The memory is reserved at once, and so never moves; the system
/// gives it when it is first written to, in huge pages where it may. With small ones, wherever these happen to lie, three processes
/// of ten wrote a MiB at half of the speed of the others. (`salus node` has huge pages turned off for all of its memory, this too.)
#[derive(Debug)]
pub(super) struct Pages {
    room: Room,
    from: usize,
    len: usize,
}

/// Memory of the system's own, or where it gives none, of the allocator.
#[derive(Debug)]
enum Room {
    Mapped(MmapMut),
    Allocated(Vec<u8>),
}

impl Room {
    fn new(bytes: usize) -> Self {
        let Ok(map) = MmapMut::map_anon(bytes) else { return Self::Allocated(vec![0; bytes]) };
        // Advice: without huge pages all is as before, but slower.
        let _ = map.advise(Advice::HugePage);
        Self::Mapped(map)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl Pages {
    /// With room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        let room = Room::new(most + HUGE_PAGE_BYTES);
        let from = room.bytes().as_ptr().align_offset(HUGE_PAGE_BYTES);
        Self { room, from, len: 0 }
    }

    /// Without room for anything.
    pub(super) fn empty() -> Self {
        Self { room: Room::Allocated(Vec::new()), from: 0, len: 0 }
    }

    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.from + self.len;
        self.room.bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Cuts it off or fills it up with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        if len > self.len {
            self.room.bytes_mut()[self.from + self.len..self.from + len].fill(0);
        }
        self.len = len;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Pages {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.room.bytes()[self.from..self.from + self.len]
    }
}

impl DerefMut for Pages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room.bytes_mut()[self.from..self.from + self.len]
    }
}
