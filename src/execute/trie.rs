//! The authenticated map of the state: a binary Merkle trie over 32-byte keys, with compact proofs.
//!
//! A subtree with no entry hashes to [`EMPTY_ROOT`], one with a single entry to that entry's leaf hash wherever it stands,
//! any other to the hash of its two halves, the left one holding the keys whose next bit is 0. So the root is a function
//! of the entries alone, not of their order of arrival, and a path is about log₂(entries) long:
//!
//! - leaf = BLAKE3("salus/state-leaf/v1\0" ‖ key32 ‖ value32)
//! - node = BLAKE3("salus/state-node/v1\0" ‖ left32 ‖ right32)
//!
//! On disk, four levels make a page of 16 slots, stored under its path of hexadecimal digits, so that an update reads
//! and writes log₁₆(entries) pages. The changes of a commit go down together and touch each page once. Entries are changed
//! but never removed: nothing of the state disappears.

use std::collections::BTreeMap;

use super::store::{Overlay, Read};
use super::tables;
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::StorageError;
use crate::types::Digest;

/// Root of the map without entries.
pub const EMPTY_ROOT: Digest = Digest([0; 32]);
/// Longest path: one step for each bit of a key.
const DEPTH_MAX: usize = 256;
/// Slots of a page.
const SLOTS: usize = 16;

const LEAF_DOMAIN: &[u8] = b"salus/state-leaf/v1\0";
const NODE_DOMAIN: &[u8] = b"salus/state-node/v1\0";

fn leaf_hash(key: &Digest, value: &Digest) -> Digest {
    hash_two(LEAF_DOMAIN, key, value)
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    hash_two(NODE_DOMAIN, left, right)
}

fn hash_two(domain: &[u8], first: &Digest, second: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain);
    hasher.update(&first.0);
    hasher.update(&second.0);
    Digest(hasher.finalize().into())
}

/// The bit of a key that decides at `depth`; `true` goes right.
fn bit(key: &Digest, depth: usize) -> bool {
    key.0[depth / 8] & (0x80 >> (depth % 8)) != 0
}

/// The hexadecimal digit of a key that decides at page level `level`.
fn digit(key: &Digest, level: usize) -> usize {
    let byte = key.0[level / 2];
    usize::from(if level.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })
}

/// What stands in one slot of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// No entry.
    Empty,
    /// One entry: its key and its value.
    Leaf(Digest, Digest),
    /// Two entries or more: the hash of the page below.
    Page(Digest),
}

/// Four levels of the trie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page([Slot; SLOTS]);

impl Page {
    const EMPTY: Self = Self([Slot::Empty; SLOTS]);

    /// Hash of the subtree over some of the slots, a power of two of them.
    fn hash(slots: &[Slot]) -> Digest {
        let mut filled = slots.iter().filter(|slot| **slot != Slot::Empty);
        match (filled.next(), filled.next()) {
            (None, _) => EMPTY_ROOT,
            (Some(Slot::Leaf(key, value)), None) => leaf_hash(key, value),
            (Some(Slot::Page(hash)), None) if slots.len() == 1 => *hash,
            _ => {
                let (left, right) = slots.split_at(slots.len() / 2);
                node_hash(&Self::hash(left), &Self::hash(right))
            }
        }
    }

    fn root(&self) -> Digest {
        Self::hash(&self.0)
    }

    /// `kinds4`, two bits for each slot, the first slot highest; then `key32 value32` of a leaf and `hash32` of a page.
    fn encode(&self) -> Vec<u8> {
        let mut kinds = 0_u32;
        let mut out = vec![0; 4];
        for slot in &self.0 {
            kinds <<= 2;
            match slot {
                Slot::Empty => {}
                Slot::Leaf(key, value) => {
                    kinds |= 1;
                    out.put_bytes(&key.0);
                    out.put_bytes(&value.0);
                }
                Slot::Page(hash) => {
                    kinds |= 2;
                    out.put_bytes(&hash.0);
                }
            }
        }
        out[..4].copy_from_slice(&kinds.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let kinds = r.u32("page slots")?;
        let mut page = Self::EMPTY;
        for (i, slot) in page.0.iter_mut().enumerate() {
            *slot = match (kinds >> (2 * (SLOTS - 1 - i))) & 3 {
                0 => Slot::Empty,
                1 => Slot::Leaf(Digest(r.array("leaf key")?), Digest(r.array("leaf value")?)),
                2 => Slot::Page(Digest(r.array("page hash")?)),
                other => return Err(r.bad_value("page slot", 0, other.into())),
            };
        }
        r.finish()?;
        Ok(page)
    }
}

/// Key of the page that `key` meets at page level `level`: the level and the digits that lead there, two in a byte.
fn page_key(key: &Digest, level: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + level.div_ceil(2));
    out.put_u8(tables::TRIE);
    out.put_u8(u8::try_from(level).unwrap_or_else(|_| unreachable!("a key has 64 digits")));
    out.put_bytes(&key.0[..level / 2]);
    if !level.is_multiple_of(2) {
        out.put_u8(key.0[level / 2] & 0xf0);
    }
    out
}

fn decode_page(key: &[u8], bytes: Option<Vec<u8>>) -> Result<Page, StorageError> {
    match bytes {
        Some(bytes) => Page::decode(&bytes).map_err(|error| tables::damaged("state trie", key, &error)),
        None => Ok(Page::EMPTY),
    }
}

/// Sets entries and returns the new root.
///
/// # Errors
/// If the store cannot be read, or holds what this module did not write.
pub(super) fn update<R: Read>(
    overlay: &mut Overlay<'_, R>,
    changes: &BTreeMap<Digest, Digest>,
) -> Result<Digest, StorageError> {
    let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, *value)).collect();
    let Some((first, _)) = changes.first() else {
        let key = page_key(&Digest::default(), 0);
        return Ok(decode_page(&key, overlay.get(&key)?)?.root());
    };
    let key = page_key(first, 0);
    let page = decode_page(&key, overlay.get(&key)?)?;
    update_page(overlay, 0, page, &changes)
}

/// Sets entries, in ascending order of their keys and at least one, below one page, and returns its hash.
fn update_page<R: Read>(
    overlay: &mut Overlay<'_, R>,
    level: usize,
    mut page: Page,
    changes: &[(Digest, Digest)],
) -> Result<Digest, StorageError> {
    for group in changes.chunk_by(|a, b| digit(&a.0, level) == digit(&b.0, level)) {
        let slot = &mut page.0[digit(&group[0].0, level)];
        *slot = match (*slot, group) {
            (Slot::Empty, [(key, value)]) => Slot::Leaf(*key, *value),
            (Slot::Leaf(old, _), [(key, value)]) if old == *key => Slot::Leaf(*key, *value),
            (Slot::Empty, _) => Slot::Page(update_page(overlay, level + 1, Page::EMPTY, group)?),
            (Slot::Leaf(key, value), _) => {
                let mut below = Page::EMPTY;
                below.0[digit(&key, level + 1)] = Slot::Leaf(key, value);
                Slot::Page(update_page(overlay, level + 1, below, group)?)
            }
            (Slot::Page(_), _) => {
                let at = page_key(&group[0].0, level + 1);
                let below = decode_page(&at, overlay.get(&at)?)?;
                Slot::Page(update_page(overlay, level + 1, below, group)?)
            }
        };
    }
    overlay.put(page_key(&changes[0].0, level), page.encode());
    Ok(page.root())
}

/// What a path through the trie ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// A subtree without entries.
    Empty,
    /// The only entry of its subtree.
    Leaf {
        /// Key of the entry.
        key: Digest,
        /// Value of the entry.
        value: Digest,
    },
}

/// Proof of what the map holds under a key, or that it holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// Hashes beside the path, from the root downwards; at most 256.
    siblings: Vec<Digest>,
    terminal: Terminal,
}

/// What a proof shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The map holds this value under the key.
    Present(Digest),
    /// The map holds nothing under the key.
    Absent,
}

impl StateProof {
    /// Checks the proof against a state root and tells what it shows about `key`; `None` if it does not hold.
    #[must_use]
    pub fn verify(&self, root: &Digest, key: &Digest) -> Option<Shown> {
        let depth = self.siblings.len();
        let (mut hash, shown) = match &self.terminal {
            Terminal::Empty => (EMPTY_ROOT, Shown::Absent),
            Terminal::Leaf { key: found, value } if found == key => {
                (leaf_hash(found, value), Shown::Present(*value))
            }
            Terminal::Leaf { key: other, value } => {
                if (0..depth).any(|at| bit(other, at) != bit(key, at)) {
                    return None;
                }
                (leaf_hash(other, value), Shown::Absent)
            }
        };
        for (at, sibling) in self.siblings.iter().enumerate().rev() {
            hash = if bit(key, at) { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
        }
        (hash == *root).then_some(shown)
    }

    /// Encodes as `depth2 bitmap⌈depth/8⌉ hash32* end1 [key32 value32]`: a bit of the bitmap, highest first, is set where
    /// the hash beside the path is not [`EMPTY_ROOT`], and only those follow; `end` is 0 for an empty subtree and 1 for a
    /// leaf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_len_u16(self.siblings.len());
        let mut bitmap = vec![0_u8; self.siblings.len().div_ceil(8)];
        for (at, sibling) in self.siblings.iter().enumerate() {
            if *sibling != EMPTY_ROOT {
                bitmap[at / 8] |= 0x80 >> (at % 8);
            }
        }
        out.put_bytes(&bitmap);
        for sibling in self.siblings.iter().filter(|sibling| **sibling != EMPTY_ROOT) {
            out.put_bytes(&sibling.0);
        }
        match &self.terminal {
            Terminal::Empty => out.put_u8(0),
            Terminal::Leaf { key, value } => {
                out.put_u8(1);
                out.put_bytes(&key.0);
                out.put_bytes(&value.0);
            }
        }
        out
    }

    /// Decodes exactly one proof.
    ///
    /// # Errors
    /// If the bytes are not the one encoding of a proof.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const SIBLING: &str = "state proof sibling";
        let mut r = Reader::new(bytes);
        let depth = r.bounded_u16("state proof depth", DEPTH_MAX)?;
        let bitmap = r.take("state proof bitmap", depth.div_ceil(8))?;
        if let Some(last) = bitmap.last()
            && !depth.is_multiple_of(8)
            && last & (0xff >> (depth % 8)) != 0
        {
            return Err(r.bad_value("state proof bitmap", 1, (*last).into()));
        }
        let mut siblings = Vec::with_capacity(depth);
        for at in 0..depth {
            if bitmap[at / 8] & (0x80 >> (at % 8)) == 0 {
                siblings.push(EMPTY_ROOT);
                continue;
            }
            let sibling = Digest(r.array(SIBLING)?);
            if sibling == EMPTY_ROOT {
                return Err(DecodeError::NotCanonical { what: SIBLING, at: r.position() });
            }
            siblings.push(sibling);
        }
        let terminal = match r.u8("state proof end")? {
            0 => Terminal::Empty,
            1 => Terminal::Leaf {
                key: Digest(r.array("state proof key")?),
                value: Digest(r.array("state proof value")?),
            },
            other => return Err(r.bad_value("state proof end", 1, other.into())),
        };
        r.finish()?;
        Ok(Self { siblings, terminal })
    }
}

/// Proves what the map in a store holds under a key.
///
/// # Errors
/// If the store cannot be read, or holds what this module did not write.
pub(super) fn prove(store: &impl Read, key: &Digest) -> Result<StateProof, StorageError> {
    let mut siblings = Vec::new();
    for level in 0..DEPTH_MAX / 4 {
        let at = page_key(key, level);
        let page = decode_page(&at, store.get(&at)?)?;
        let mut slots = &page.0[..];
        // Halve until one slot, or a subtree with at most one entry, is left.
        loop {
            let mut filled = slots.iter().filter(|slot| **slot != Slot::Empty);
            let terminal = match (filled.next(), filled.next()) {
                (None, _) => Some(Terminal::Empty),
                (Some(Slot::Leaf(key, value)), None) => Some(Terminal::Leaf { key: *key, value: *value }),
                _ => None,
            };
            if let Some(terminal) = terminal {
                return Ok(StateProof { siblings, terminal });
            }
            if slots.len() == 1 {
                break;
            }
            let (left, right) = slots.split_at(slots.len() / 2);
            let (down, beside) = if bit(key, siblings.len()) { (right, left) } else { (left, right) };
            siblings.push(Page::hash(beside));
            slots = down;
        }
    }
    Err(tables::damaged("state trie", &key.0, &"the path does not end"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::execute::store::{Batch, MemStore, Store};

    /// The definition at the top of this file, taken literally.
    fn naive(entries: &[(Digest, Digest)], depth: usize) -> Digest {
        match entries {
            [] => EMPTY_ROOT,
            [(key, value)] => leaf_hash(key, value),
            _ => {
                let (right, left): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| bit(key, depth));
                node_hash(&naive(&left, depth + 1), &naive(&right, depth + 1))
            }
        }
    }

    fn digest(seed: impl AsRef<[u8]>) -> Digest {
        Digest(blake3::hash(seed.as_ref()).into())
    }

    fn set(store: &MemStore, changes: &BTreeMap<Digest, Digest>) -> Digest {
        let nothing = Batch::default();
        let mut overlay = Overlay::new(store, &nothing);
        let root = update(&mut overlay, changes).unwrap();
        store.apply(overlay.into_batch()).unwrap();
        root
    }

    /// Keys with long common beginnings beside spread ones.
    fn a_key() -> impl Strategy<Value = Digest> {
        prop_oneof![
            (0_u8..40).prop_map(|i| digest([i])),
            (0_u8..8).prop_map(|i| {
                let mut key = [0; 32];
                key[31] = i;
                Digest(key)
            }),
            (0_u8..8).prop_map(|i| {
                let mut key = [0xff; 32];
                key[9] = i * 32;
                Digest(key)
            }),
        ]
    }

    proptest! {
        #[test]
        fn batches_in_any_order_give_the_naive_root_and_proofs_hold(
            batches in prop::collection::vec(
                prop::collection::btree_map(a_key(), any::<[u8; 32]>().prop_map(Digest), 0..12), 1..6),
            asked in prop::collection::vec(a_key(), 8),
        ) {
            let store = MemStore::new();
            let mut all = BTreeMap::new();
            for changes in &batches {
                all.extend(changes.clone());
                let root = set(&store, changes);
                let entries: Vec<_> = all.clone().into_iter().collect();
                prop_assert_eq!(root, naive(&entries, 0));
                for key in &asked {
                    let proof = prove(&store, key).unwrap();
                    let expected = all.get(key).map_or(Shown::Absent, |value| Shown::Present(*value));
                    prop_assert_eq!(proof.verify(&root, key), Some(expected));
                    prop_assert_eq!(&StateProof::decode(&proof.encode()).unwrap(), &proof);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_decode_to_what_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(proof) = StateProof::decode(&bytes) {
                prop_assert_eq!(proof.encode(), bytes);
            }
        }
    }

    #[test]
    fn an_altered_proof_does_not_hold() {
        let store = MemStore::new();
        let entries: BTreeMap<_, _> =
            (0_u32..300).map(|i| (digest(i.to_be_bytes()), digest([7, 7]))).collect();
        let root = set(&store, &entries);
        let present = digest(5_u32.to_be_bytes());
        let absent = digest(1_000_u32.to_be_bytes());
        for (key, shown) in [(present, Shown::Present(digest([7, 7]))), (absent, Shown::Absent)] {
            let proof = prove(&store, &key).unwrap();
            assert_eq!(proof.verify(&root, &key), Some(shown));
            assert_eq!(proof.verify(&digest("another root"), &key), None);
            let bytes = proof.encode();
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1;
                if let Ok(proof) = StateProof::decode(&altered) {
                    assert_eq!(proof.verify(&root, &key), None, "byte {at}");
                }
            }
        }
        // A proof of presence says nothing of another key, unless it shows that key's absence.
        let proof = prove(&store, &present).unwrap();
        for other in entries.keys().filter(|key| **key != present) {
            assert_eq!(proof.verify(&root, other), None);
        }
    }

    #[test]
    fn one_commit_touches_a_page_once_and_a_path_is_short() {
        let store = MemStore::new();
        let entries: BTreeMap<_, _> =
            (0_u32..20_000).map(|i| (digest(i.to_be_bytes()), digest([1]))).collect();
        set(&store, &entries);
        let one = BTreeMap::from([(digest(77_u32.to_be_bytes()), digest([2]))]);
        let nothing = Batch::default();
        let mut overlay = Overlay::new(&store, &nothing);
        update(&mut overlay, &one).unwrap();
        let pages = overlay.into_batch().len();
        assert!(pages <= 6, "{pages} pages for one change among 20,000");
    }

    #[test]
    fn no_entries_have_the_empty_root() {
        assert_eq!(set(&MemStore::new(), &BTreeMap::new()), EMPTY_ROOT);
        let proof = prove(&MemStore::new(), &digest("x")).unwrap();
        assert_eq!(proof.verify(&EMPTY_ROOT, &digest("x")), Some(Shown::Absent));
        assert_eq!(proof.encode().len(), 3);
    }
}
