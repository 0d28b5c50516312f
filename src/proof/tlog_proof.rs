//! The plain text proof of C2SP tlog-proof: a leaf's index, its inclusion path and the signed checkpoint, for clients
//! that know nothing of this ledger.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::{CheckpointKeys, VerifiedCheckpoint, verify_checkpoint};
use super::error::ProofError;
use super::merkle::{PATH_HASHES_MAX, leaf_hash, verify_inclusion};
use super::note::NOTE_BYTES_MAX;
use crate::types::{LeafIndex, NodeHash};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Largest text that is read: the path, the checkpoint and a little more.
const TEXT_BYTES_MAX: usize = NOTE_BYTES_MAX + 8_192;

/// A text proof, not verified. The optional extra data of the format is not written, and refused when read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Position of the leaf.
    pub index: LeafIndex,
    /// From the leaf's sibling upwards.
    pub path: Vec<NodeHash>,
    /// The signed note.
    pub checkpoint: String,
}

impl TlogProof {
    /// The proof as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("{FIRST_LINE}\nindex {}\n", self.index);
        for hash in &self.path {
            out.push_str(&BASE64.encode(hash.0));
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// Reads a text as [`TlogProof::encode`] writes it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(ProofError::TooLarge { found: bytes.len(), limit: TEXT_BYTES_MAX });
        }
        let wrong = |line, expected| ProofError::TextProof { line, expected };
        let text = std::str::from_utf8(bytes).map_err(|_utf8| wrong(1, "UTF-8 text"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(wrong(3, "an empty line behind the path"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(wrong(1, FIRST_LINE));
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(|digits| digits.parse::<u64>().ok().filter(|index| index.to_string() == digits))
            .ok_or(wrong(2, "\"index\" and the leaf's number"))?;
        let mut path = Vec::new();
        for (i, line) in lines.enumerate() {
            let hash = BASE64.decode(line).ok().and_then(|hash| hash.try_into().ok());
            let hash =
                hash.filter(|_| i < PATH_HASHES_MAX).ok_or(wrong(i + 3, "a hash, at most 64 of them"))?;
            path.push(NodeHash(hash));
        }
        Ok(Self { index: LeafIndex(index), path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that a quorum of the network's validators vouches for a log that holds `entry` at this index.
    pub fn verify(&self, entry: &[u8], keys: &CheckpointKeys) -> Result<VerifiedCheckpoint, ProofError> {
        let verified = verify_checkpoint(self.checkpoint.as_bytes(), keys)?;
        let head = verified.certified.checkpoint.head();
        verify_inclusion(&leaf_hash(entry), self.index.0, head.size, &self.path, &head.root)
            .map_err(ProofError::Inclusion)?;
        Ok(verified)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::proof::fixture::Network;

    #[test]
    fn text_is_as_specified_and_verifies() {
        let network = Network::new(4);
        let log = network.log(5);
        let proof = log.tlog_proof(3);
        let text = proof.encode();
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(lines[..2], ["c2sp.org/tlog-proof@v1", "index 3"]);
        assert_eq!(lines[2..6].iter().map(|line| line.len()).collect::<Vec<_>>(), [44, 44, 44, 0]);
        assert_eq!(lines[6..8], ["north/salus", "5"]);
        let read = TlogProof::parse(text.as_bytes()).unwrap();
        assert_eq!(read, proof);
        let verified = read.verify(&log.stubs[3], &network.keys).unwrap();
        assert_eq!(verified.certified.checkpoint.size, 5);
        assert!(matches!(read.verify(&log.stubs[2], &network.keys), Err(ProofError::Inclusion(_))));
    }

    #[test]
    fn malformed_texts_are_refused() {
        let network = Network::new(1);
        let text = network.log(5).tlog_proof(3).encode();
        let cases = [
            String::new(),
            text.replace("@v1", "@v2"),
            text.replace("index 3", "index 03"),
            text.replace("index 3", "index +3"),
            text.replace("index 3", "extra AAAA\nindex 3"),
            text.replacen('\n', "\r\n", 1),
            text.replacen("=\n", "\n", 1),
            text.replacen("\n\n", "\n", 1),
            text.replacen("index 3\n", &format!("index 3\n{}", "A".repeat(43) + "=\n").repeat(65), 1),
            format!("{text}{}", "x".repeat(TEXT_BYTES_MAX)),
        ];
        for case in cases {
            let refused = TlogProof::parse(case.as_bytes())
                .and_then(|proof| proof.verify(&network.log(5).stubs[3], &network.keys));
            assert!(refused.is_err(), "{case}");
        }
    }
}
