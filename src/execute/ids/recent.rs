//! Ids of the newest transactions, in memory.

use super::run::Entry;

/// Entries that are searched one by one, before they are sorted.
const TAIL_MAX: usize = 64;

/// Entries in sorted pieces, each at least twice as long as the next: adding one costs a few nanoseconds for each doubling, and
/// looking one up a binary search for each piece, whatever ids somebody chooses to make.
#[derive(Debug, Default)]
pub(super) struct Recent {
    sorted: Vec<Vec<Entry>>,
    tail: Vec<Entry>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty() && self.tail.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.tail.push(entry);
        if self.tail.len() == TAIL_MAX {
            let tail = std::mem::take(&mut self.tail);
            self.add(tail);
        }
    }

    /// Adds all of another.
    pub(super) fn absorb(&mut self, other: Self) {
        for piece in other.sorted.into_iter().chain([other.tail]) {
            self.add(piece);
        }
    }

    fn add(&mut self, mut piece: Vec<Entry>) {
        if piece.is_empty() {
            return;
        }
        piece.sort_unstable();
        while let Some(mut before) = self.sorted.pop_if(|last| last.len() < 2 * piece.len()) {
            before.append(&mut piece);
            // Stable, since it finds that there are two sorted parts, and merges them.
            before.sort();
            piece = before;
        }
        self.sorted.push(piece);
    }

    /// Adds the leaves of entries that begin like an id.
    pub(super) fn find(&self, prefix: u64, found: &mut Vec<u64>) {
        for piece in &self.sorted {
            let from = piece.partition_point(|entry| entry.prefix < prefix);
            found.extend(
                piece[from..].iter().take_while(|entry| entry.prefix == prefix).map(|entry| entry.leaf),
            );
        }
        found.extend(self.tail.iter().filter(|entry| entry.prefix == prefix).map(|entry| entry.leaf));
    }

    /// All entries in ascending order.
    pub(super) fn all(&self) -> Vec<Entry> {
        let mut all = self.sorted.concat();
        all.extend(&self.tail);
        all.sort();
        all
    }
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
                    all.push(Entry { prefix, leaf });
                    part.push(Entry { prefix, leaf });
                    leaf += 1;
                }
                recent.absorb(part);
                prop_assert!(recent.sorted.windows(2).all(|two| two[0].len() >= 2 * two[1].len()));
            }
            prop_assert_eq!(recent.is_empty(), all.is_empty());
            for prefix in 0..200 {
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
