//! CRC-32C (Castagnoli), the checksum of the block log and of the files of the state.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of a message in two parts; the second may be empty.
pub(crate) fn crc32c(head: &[u8], body: &[u8]) -> u32 {
    if body.is_empty() {
        return crc_fast::crc32_iscsi(head);
    }
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(body);
    // One type for all widths: the upper half is zero.
    let [_, _, _, _, crc @ ..] = digest.finalize().to_be_bytes();
    u32::from_be_bytes(crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit after the other, as the definition says.
    fn step(crc: u32, byte: u8) -> u32 {
        let crc = crc ^ u32::from(byte);
        (0..8).fold(crc, |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    }

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn all_lengths_and_all_alignments_are_as_the_definition_says() {
        assert_eq!(crc32c(b"123456789", b""), 0xe306_9283);
        let bytes = bytes(4_096 + 64);
        for from in (0..64).step_by(7).chain([1, 8, 16, 63]) {
            let mut slow = !0;
            for (len, byte) in bytes[from..].iter().take(4_096).enumerate() {
                let message = &bytes[from..from + len];
                assert_eq!(crc32c(message, b""), !slow, "{len} bytes from {from} on");
                // As a record's: a short first part.
                let (head, body) = message.split_at(36.min(len));
                assert_eq!(crc32c(head, body), !slow, "{len} bytes from {from} on, in two parts");
                slow = step(slow, *byte);
            }
        }
    }

    #[test]
    fn where_a_message_is_split_does_not_show() {
        let bytes = bytes(3_000);
        let whole = crc32c(&bytes, b"");
        for at in 0..=bytes.len() {
            let (head, body) = bytes.split_at(at);
            assert_eq!(crc32c(head, body), whole, "split at {at}");
        }
    }

    #[test]
    fn a_long_message_is_as_the_definition_says() {
        let bytes = bytes((5 << 20) + 3);
        assert_eq!(crc32c(&bytes[..3], &bytes[3..]), !bytes.iter().fold(!0, |crc, byte| step(crc, *byte)));
    }
}
