//! Ids of the newest transactions, in memory.

use super::run::Entry;

/// Chains that entries are spread over, by the first bits of their ids; a power of two.
const CHAINS: usize = 1 << CHAIN_BITS;
const CHAIN_BITS: u32 = 12;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Entries in the order in which they came, each with the one before it in its chain. To add one costs a few nanoseconds. Who makes
/// ids that begin alike makes a chain long, but never longer than the entries that become a file together.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: Vec<(Entry, u32)>,
    /// The last entry of each chain; none at all before the first entry.
    last: Vec<u32>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if self.last.is_empty() {
            self.last = vec![NONE; CHAINS];
        }
        let last = &mut self.last[chain_of(entry.prefix)];
        let at = u32::try_from(self.entries.len()).ok().filter(|at| *at != NONE);
        let at = at.unwrap_or_else(|| unreachable!("a file is made of far fewer"));
        self.entries.push((entry, std::mem::replace(last, at)));
    }

    /// Adds all of another.
    pub(super) fn absorb(&mut self, other: &Self) {
        other.entries.iter().for_each(|(entry, _)| self.push(*entry));
    }

    /// Forgets all entries, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.last.fill(NONE);
    }

    /// Adds the leaves of entries that begin like an id.
    pub(super) fn find(&self, prefix: u64, found: &mut Vec<u64>) {
        let mut next = self.last.get(chain_of(prefix)).copied().unwrap_or(NONE);
        while let Some((entry, before)) = self.entries.get(next as usize) {
            if entry.prefix == prefix {
                found.push(entry.leaf);
            }
            next = *before;
        }
    }

    /// All entries in ascending order.
    pub(super) fn all(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.entries.iter().map(|(entry, _)| *entry).collect();
        all.sort_unstable();
        all
    }
}

fn chain_of(prefix: u64) -> usize {
    usize::try_from(prefix >> (u64::BITS - CHAIN_BITS)).unwrap_or_else(|_| unreachable!("below the chains"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_is_found_and_comes_out_sorted(
            groups in prop::collection::vec(prop::collection::vec(0_u64..200, 0..150), 0..20),
        ) {
            let (mut all, mut recent, mut leaf) = (Vec::new(), Recent::default(), 0);
            for group in groups {
                let mut part = Recent::default();
                for prefix in group {
                    // Some begin with the same bits, some do not.
                    let prefix = prefix % 100 + ((prefix / 100) << 60);
                    all.push(Entry { prefix, leaf });
                    part.push(Entry { prefix, leaf });
                    leaf += 1;
                }
                recent.absorb(&part);
                part.clear();
                prop_assert!(part.is_empty() && part.all().is_empty());
            }
            prop_assert_eq!(recent.is_empty(), all.is_empty());
            for prefix in (0..100).chain((0..100).map(|prefix| prefix + (1 << 60))) {
                let mut found = Vec::new();
                recent.find(prefix, &mut found);
                found.sort_unstable();
                let expected: Vec<u64> = all.iter().filter(|e| e.prefix == prefix).map(|e| e.leaf).collect();
                prop_assert_eq!(found, expected);
            }
            all.sort_unstable();
            prop_assert_eq!(recent.all(), all);
        }
    }
}
