//! SHA-256 of many messages at once: transaction ids, and leaves and nodes of the Merkle log. And the checksum of files, CRC-32C.
//!
//! Sixteen at a time by AVX-512 where the processor has it and where that is faster, one by one by `sha2` otherwise, which uses
//! the processor's SHA instructions. All ways give the same hashes: which one is taken shows in nothing but time.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod crc;

use std::cmp::Reverse;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::for_each_word;
pub(crate) use crc::crc32c;

use sha2::{Digest as _, Sha256};

/// Bytes of a hash.
const DIGEST: usize = 32;
/// Bytes that SHA-256 takes in at a time.
const BLOCK: usize = 64;
/// Bytes at the end of the last block that hold the length.
const LENGTH: usize = 8;
/// A block of each of sixteen messages takes as long as so many one after the other (`perf/hash.md`).
#[cfg(target_arch = "x86_64")]
const MESSAGES_EVEN: usize = 9;
/// The same of pairs, whose second block is mostly known.
#[cfg(target_arch = "x86_64")]
const PAIRS_EVEN: usize = 6;

/// A SHA-256 hash.
pub type Hash = [u8; DIGEST];

/// A message in two parts, hashed as one: a prefix or a salt, and what stands behind it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Comes first; may be empty.
    pub head: &'a [u8],
    /// Comes second; may be empty.
    pub body: &'a [u8],
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(body: &'a [u8]) -> Self {
        Self { head: &[], body }
    }
}

impl Message<'_> {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Blocks of the message with its padding: a byte and the length at least.
    fn blocks(&self) -> usize {
        (self.len() + 1 + LENGTH).div_ceil(BLOCK)
    }

    /// The block at a position if all of it lies in the second part.
    fn whole_block(&self, at: usize) -> Option<&[u8; BLOCK]> {
        self.body.get((BLOCK * at).checked_sub(self.head.len())?..)?.first_chunk()
    }

    /// Puts the block at a position together: what it has of both parts, and the padding.
    fn build_block(&self, at: usize, block: &mut [u8; BLOCK]) {
        *block = [0; BLOCK];
        let from = BLOCK * at;
        let mut filled = 0;
        for part in [self.head.get(from..), self.body.get(from.saturating_sub(self.head.len())..)] {
            let part = part.unwrap_or(&[]);
            let taken = part.len().min(BLOCK - filled);
            block[filled..filled + taken].copy_from_slice(&part[..taken]);
            filled += taken;
        }
        if filled < BLOCK && from + filled == self.len() {
            block[filled] = 0x80;
        }
        if at + 1 == self.blocks() {
            let bits = 8 * self.len() as u64;
            block[BLOCK - LENGTH..].copy_from_slice(&bits.to_be_bytes());
        }
    }

    /// The hash of this message alone.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Sha256::new().chain_update(self.head).chain_update(self.body).finalize().into()
    }
}

/// SHA-256 of each message. Lengths may differ; messages of about the same length are hashed together.
#[must_use]
pub fn sha256_many(messages: &[Message<'_>]) -> Vec<Hash> {
    #[cfg(target_arch = "x86_64")]
    if messages.len() > MESSAGES_EVEN
        && let Some(engine) = avx512::Engine::find()
    {
        return many_by(engine, messages);
    }
    messages.iter().map(Message::hash).collect()
}

/// SHA-256(prefix ‖ left ‖ right) of each two neighbours. If their number is odd, the last one is left out.
#[must_use]
pub fn sha256_pairs<H: AsRef<Hash>>(prefix: u8, hashes: &[H]) -> Vec<Hash> {
    let (pairs, _) = hashes.as_chunks::<2>();
    let mut out = Vec::with_capacity(pairs.len());
    let mut rest = pairs;
    #[cfg(target_arch = "x86_64")]
    if pairs.len() > PAIRS_EVEN
        && let Some(engine) = avx512::Engine::find()
    {
        while rest.len() > PAIRS_EVEN {
            let (now, later) = rest.split_at(rest.len().min(avx512::LANES));
            let lanes = std::array::from_fn(|lane| now[lane.min(now.len() - 1)].each_ref().map(H::as_ref));
            out.extend_from_slice(&engine.pairs(prefix, &lanes)[..now.len()]);
            rest = later;
        }
    }
    out.extend(rest.iter().map(|[left, right]| hash_pair(prefix, left.as_ref(), right.as_ref())));
    out
}

/// SHA-256(prefix ‖ left ‖ right).
#[must_use]
pub fn hash_pair(prefix: u8, left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [prefix; 1 + 2 * DIGEST];
    bytes[1..=DIGEST].copy_from_slice(left);
    bytes[1 + DIGEST..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// From the longest to the shortest, so that the sixteen that are hashed together end together. Where one is so much longer that
/// the other lanes would mostly wait for it, it is hashed alone.
#[cfg(target_arch = "x86_64")]
fn many_by(engine: avx512::Engine, messages: &[Message<'_>]) -> Vec<Hash> {
    let mut order: Vec<(Reverse<usize>, usize)> =
        messages.iter().enumerate().map(|(i, message)| (Reverse(message.blocks()), i)).collect();
    order.sort_unstable();
    let mut out = vec![[0; DIGEST]; messages.len()];
    let mut rest = &order[..];
    while let [(Reverse(longest), first), after_first @ ..] = rest {
        let (now, later) = rest.split_at(rest.len().min(avx512::LANES));
        let one_by_one: usize = now.iter().map(|(Reverse(blocks), _)| blocks).sum();
        if one_by_one > MESSAGES_EVEN * longest {
            let lanes = std::array::from_fn(|lane| messages[now[lane.min(now.len() - 1)].1]);
            for ((_, i), hash) in now.iter().zip(engine.messages(&lanes)) {
                out[*i] = hash;
            }
            rest = later;
        } else {
            out[*first] = messages[*first].hash();
            rest = after_first;
        }
    }
    out
}

#[cfg(test)]
mod tests;
