//! Ids of the newest transactions, in memory.

use std::hash::{BuildHasher as _, RandomState};

use super::run::Entry;

/// Chains that entries are spread over; a power of two.
const CHAINS: u64 = 1 << 12;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Entries in the order in which they came, each with the one before it in its chain. To add one costs some nanoseconds.
///
/// Which chain it is depends on a secret of this process, so nobody can make ids that come into one chain, which each question would
/// walk along. It shows in nothing but time: all entries of a prefix are found, and whoever asks compares whole ids.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: Vec<(Entry, u32)>,
    /// The last entry of each chain; none at all before the first entry.
    last: Vec<u32>,
    secret: RandomState,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if self.last.is_empty() {
            self.last.resize(chains(), NONE);
        }
        let chain = self.chain_of(entry.prefix);
        let last = &mut self.last[chain];
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
        let mut next = self.last.get(self.chain_of(prefix)).copied().unwrap_or(NONE);
        while let Some((entry, before)) = self.entries.get(next as usize) {
            if entry.prefix == prefix {
                found.push(entry.leaf);
            }
            next = *before;
        }
    }

    /// All entries, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Entry> {
        self.entries.iter().map(|(entry, _)| *entry).collect()
    }

    fn chain_of(&self, prefix: u64) -> usize {
        usize::try_from(self.secret.hash_one(prefix) % CHAINS)
            .unwrap_or_else(|_| unreachable!("below the chains"))
    }
}

fn chains() -> usize {
    usize::try_from(CHAINS).unwrap_or_else(|_| unreachable!("some thousands"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_is_found_and_comes_out_again(
            groups in prop::collection::vec(prop::collection::vec(0_u64..200, 0..150), 0..20),
        ) {
            let (mut all, mut recent, mut leaf) = (Vec::new(), Recent::default(), 0);
            for group in groups {
                let mut part = Recent::default();
                for prefix in group {
                    all.push(Entry { prefix, leaf });
                    part.push(Entry { prefix, leaf });
                    leaf += 1;
                }
                recent.absorb(&part);
                part.clear();
                prop_assert!(part.is_empty() && part.all().is_empty());
            }
            prop_assert_eq!(recent.is_empty(), all.is_empty());
            for prefix in 0..200 {
                let mut found = Vec::new();
                recent.find(prefix, &mut found);
                found.sort_unstable();
                let expected: Vec<u64> = all.iter().filter(|e| e.prefix == prefix).map(|e| e.leaf).collect();
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(recent.all(), all);
        }
    }
}
