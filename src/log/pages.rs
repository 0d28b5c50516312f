//! A buffer that begins at an address which direct writes accept.

use std::ops::{Deref, DerefMut};

use super::format::PAGE_BYTES;

/// Bytes at an address that is a multiple of [`PAGE_BYTES`], up to a limit. The memory is reserved at once, and
/// so never moves; the system gives it when it is first written to.
#[derive(Debug)]
pub(super) struct Pages {
    room: Vec<u8>,
    from: usize,
    len: usize,
}

impl Pages {
    /// With room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        let room = vec![0; most + PAGE_BYTES];
        let from = room.as_ptr().align_offset(PAGE_BYTES);
        Self { room, from, len: 0 }
    }

    /// Without room for anything.
    pub(super) fn empty() -> Self {
        Self { room: Vec::new(), from: 0, len: 0 }
    }

    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.from + self.len;
        self.room[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Cuts it off or fills it up with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        if len > self.len {
            self.room[self.from + self.len..self.from + len].fill(0);
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
        &self.room[self.from..self.from + self.len]
    }
}

impl DerefMut for Pages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.from..self.from + self.len]
    }
}
