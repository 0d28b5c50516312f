//! Bounded, canonical byte codec that every consensus object is laid out with.
//!
//! Integers are big-endian. A [`Reader`] never reads past its input, never allocates by a length it has not checked
//! against what is left, and [`Reader::finish`] refuses trailing bytes, so that each value has exactly one encoding.

use thiserror::Error;

/// Why bytes are not a valid encoding. `what` names the field, `at` the byte offset at which decoding stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The input ends before the field does.
    #[error("{what}: {missing} bytes missing at offset {at}")]
    Truncated {
        /// Field that was being read.
        what: &'static str,
        /// Offset at which it starts.
        at: usize,
        /// Bytes that are missing.
        missing: usize,
    },
    /// Bytes follow the last field.
    #[error("{extra} bytes after the end at offset {at}")]
    Trailing {
        /// Offset of the first byte too many.
        at: usize,
        /// Number of bytes too many.
        extra: usize,
    },
    /// A field has a value that the format does not allow.
    #[error("{what}: value {value} is not allowed at offset {at}")]
    BadValue {
        /// Field that was being read.
        what: &'static str,
        /// Offset at which it starts.
        at: usize,
        /// The value found.
        value: u64,
    },
    /// A count or a length is above its limit.
    #[error("{what}: {value} is above the limit of {limit}")]
    TooLarge {
        /// Field that was being read.
        what: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// Elements that must be in strictly ascending order are not.
    #[error("{what}: not in canonical order at offset {at}")]
    NotCanonical {
        /// Field that was being read.
        what: &'static str,
        /// Offset at which the violation was seen.
        at: usize,
    },
}

/// Reads fields off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes, borrowed.
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.remaining();
        if left < len {
            return Err(DecodeError::Truncated { what, at: self.at, missing: len - left });
        }
        let field = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(field)
    }

    /// The next `N` bytes, copied.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(what, N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A big-endian 16-bit integer.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// A big-endian 32-bit integer.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// A 32-bit count or length that may not exceed `limit`.
    pub fn bounded(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = self.u32(what)? as usize;
        check_limit(what, value, limit)
    }

    /// A 16-bit count or length that may not exceed `limit`.
    pub fn bounded_u16(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = usize::from(self.u16(what)?);
        check_limit(what, value, limit)
    }

    /// An error that names the field just read (`width` bytes back).
    #[must_use]
    pub fn bad_value(&self, what: &'static str, width: usize, value: u64) -> DecodeError {
        DecodeError::BadValue { what, at: self.at.saturating_sub(width), value }
    }

    /// Refuses trailing bytes.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { at: self.at, extra }),
        }
    }
}

fn check_limit(what: &'static str, value: usize, limit: usize) -> Result<usize, DecodeError> {
    if value > limit {
        return Err(DecodeError::TooLarge { what, value: value as u64, limit: limit as u64 });
    }
    Ok(value)
}

/// Appends fields to a byte vector; the mirror of [`Reader`].
pub trait Writer {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// A big-endian 16-bit integer.
    fn put_u16(&mut self, value: u16);
    /// A big-endian 32-bit integer.
    fn put_u32(&mut self, value: u32);
    /// A big-endian 64-bit integer.
    fn put_u64(&mut self, value: u64);
    /// Bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// A length or count as 16 bits. The caller built it, so exceeding 16 bits is a bug of ours.
    fn put_len_u16(&mut self, len: usize) {
        self.put_u16(u16::try_from(len).unwrap_or_else(|_| panic!("length {len} does not fit 16 bits")));
    }
    /// A length or count as 32 bits. The caller built it, so exceeding 32 bits is a bug of ours.
    fn put_len_u32(&mut self, len: usize) {
        self.put_u32(u32::try_from(len).unwrap_or_else(|_| panic!("length {len} does not fit 32 bits")));
    }
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_as_written() {
        let mut out = Vec::new();
        out.put_u8(7);
        out.put_u16(0x0102);
        out.put_u32(9);
        out.put_u64(u64::MAX);
        out.put_bytes(b"abc");
        let mut r = Reader::new(&out);
        assert_eq!(r.u8("a"), Ok(7));
        assert_eq!(r.u16("b"), Ok(0x0102));
        assert_eq!(r.u32("c"), Ok(9));
        assert_eq!(r.u64("d"), Ok(u64::MAX));
        assert_eq!(r.take("e", 3), Ok(&b"abc"[..]));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn errors_name_field_and_offset() {
        let mut r = Reader::new(&[0, 0, 0, 9, 1]);
        assert_eq!(
            r.clone().bounded("count", 8),
            Err(DecodeError::TooLarge { what: "count", value: 9, limit: 8 })
        );
        assert_eq!(r.u32("count"), Ok(9));
        assert_eq!(r.u16("len"), Err(DecodeError::Truncated { what: "len", at: 4, missing: 1 }));
        assert_eq!(r.finish(), Err(DecodeError::Trailing { at: 4, extra: 1 }));
    }
}
