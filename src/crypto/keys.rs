//! Decoded keys, found by their bytes. Decoding one costs a third of a verification, and few keys sign most of what arrives.

/// A table of decoded keys of type `T`, filled up to its capacity and then emptied. It is looked into by hash and never gone through, so its
/// order reaches nothing.
pub(super) struct KeyTable<T> {
    /// Positions plus one, 0 where there is none; twice as many as keys at least, a power of two.
    slots: Vec<u32>,
    keys: Vec<[u8; 32]>,
    values: Vec<T>,
    capacity: usize,
    /// Whoever chooses keys does not know which of them meet.
    secret: [u64; 4],
}

/// Without the secret.
impl<T> std::fmt::Debug for KeyTable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTable").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Slots of an empty table.
const SLOTS_MIN: usize = 64;

impl<T> KeyTable<T> {
    pub(super) fn new(seed: &[u8; 32], capacity: usize) -> Self {
        let derived = blake3::derive_key("salus/key-table/v1", seed);
        let (chunks, _) = derived.as_chunks::<8>();
        let mut secret = [0; 4];
        for (word, chunk) in secret.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        Self { slots: vec![0; SLOTS_MIN], keys: Vec::new(), values: Vec::new(), capacity, secret }
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets all keys if the table is full; called between batches, since it voids positions. So the table holds at
    /// most its capacity and the keys of one batch.
    pub(super) fn make_room(&mut self) {
        if self.keys.len() >= self.capacity {
            self.keys.clear();
            self.values.clear();
            self.keys.shrink_to(self.capacity);
            self.values.shrink_to(self.capacity);
            self.slots.clear();
            self.slots.shrink_to((2 * self.capacity).next_power_of_two());
            self.slots.resize(SLOTS_MIN, 0);
        }
    }

    /// Position of a key. Bytes decide: two encodings of a point have two positions.
    pub(super) fn position(&self, key: &[u8; 32]) -> Option<usize> {
        let found = self.slots[self.slot(key)];
        (found > 0).then(|| found as usize - 1)
    }

    /// The decoded key at a position.
    pub(super) fn get(&self, position: usize) -> &T {
        &self.values[position]
    }

    /// The same, to be changed.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn get_mut(&mut self, position: usize) -> &mut T {
        &mut self.values[position]
    }

    /// Adds a key that is not in the table; returns its position.
    pub(super) fn insert(&mut self, key: &[u8; 32], value: T) -> usize {
        if 2 * (self.keys.len() + 1) > self.slots.len() {
            self.grow();
        }
        self.keys.push(*key);
        self.values.push(value);
        let slot = self.slot_from(key, |_| false);
        self.slots[slot] =
            u32::try_from(self.keys.len()).unwrap_or_else(|_| unreachable!("memory is smaller"));
        self.keys.len() - 1
    }

    fn grow(&mut self) {
        let size = 2 * self.slots.len();
        self.slots.clear();
        self.slots.resize(size, 0);
        for at in 0..self.keys.len() {
            let slot = self.slot_from(&self.keys[at], |_| false);
            self.slots[slot] = u32::try_from(at + 1).unwrap_or_else(|_| unreachable!("memory is smaller"));
        }
    }

    /// The slot of a key, or the empty one that it would get.
    fn slot(&self, key: &[u8; 32]) -> usize {
        self.slot_from(key, |position| self.keys[position] == *key)
    }

    fn slot_from(&self, key: &[u8; 32], is_it: impl Fn(usize) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(key) & mask;
        loop {
            match self.slots[slot] {
                0 => return slot,
                found if is_it(found as usize - 1) => return slot,
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn hash(&self, key: &[u8; 32]) -> usize {
        let (chunks, _) = key.as_chunks::<8>();
        let word = |at: usize| u128::from(u64::from_le_bytes(chunks[at]) ^ self.secret[at]);
        let product = (word(0) * word(1)) ^ (word(2) * word(3)).rotate_left(32);
        (product ^ product >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_were_put() {
        let mut table = KeyTable::new(&[1; 32], 10_000);
        let key = |i: u32| *blake3::hash(&i.to_be_bytes()).as_bytes();
        for i in 0..5_000 {
            assert_eq!(table.position(&key(i)), None);
            assert_eq!(table.insert(&key(i), i), i as usize);
        }
        for i in 0..5_000 {
            let position = table.position(&key(i));
            assert_eq!(position.map(|position| *table.get(position)), Some(i));
        }
        assert_eq!(table.position(&key(5_000)), None);
    }

    #[test]
    fn the_table_stays_within_capacity_and_a_batch() {
        let mut table = KeyTable::new(&[1; 32], 3);
        for batch in 0..5_u8 {
            table.make_room();
            for i in 0..2 {
                table.insert(&[2 * batch + i; 32], ());
            }
            assert!(table.len() <= 4, "{}", table.len());
            assert!(table.position(&[2 * batch; 32]).is_some());
        }
    }
}
