//! Which sequence numbers a key has used: the anti-replay window of RFC 4303 (section 3.4.3), 65,536 numbers wide.

use std::collections::VecDeque;

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::REPLAY_WINDOW;

/// Sequence numbers in one word of the bitmap.
const WORD_BITS: u64 = 64;
/// Words that a window of [`REPLAY_WINDOW`] numbers can touch, whatever its alignment.
const WORDS_MAX: usize = 65_536 / 64 + 1;
/// Number of words in the whole space of sequence numbers.
const WORDS_OF_ALL: u64 = 1 << 58;

const _: () = assert!(REPLAY_WINDOW == 65_536, "WORDS_MAX follows from the width of the window");

/// The sequence numbers that one key has used, as far as they matter.
///
/// The window is the highest number used and the 65,535 below it: a number above the window is free, one in it is free
/// until it is used, one below it counts as used. Order does not matter and gaps stay visible.
///
/// A bitmap in words of 64 numbers that starts at the first word with a gap. A key that counts up without gaps needs
/// one word, the worst case 8 KiB. Two windows in which the same numbers were used are equal, and so are their encodings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayWindow {
    /// Number of the first word held. Whatever lies below is used or too old.
    base: u64,
    /// One bit for each number, the lowest number in the lowest bit. The first word is not full, the last not empty.
    words: VecDeque<u64>,
}

impl ReplayWindow {
    /// The window of a key that was never used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest number used.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        match self.words.back() {
            Some(last) => {
                let word = self.base + (self.words.len() as u64 - 1);
                Some(word * WORD_BITS + (WORD_BITS - 1 - u64::from(last.leading_zeros())))
            }
            None => Some(self.base.checked_sub(1)? * WORD_BITS + (WORD_BITS - 1)),
        }
    }

    /// Whether `seq` may still be used.
    #[must_use]
    pub fn check(&self, seq: u64) -> bool {
        let Some(highest) = self.highest() else { return true };
        if seq > highest {
            return true;
        }
        if highest - seq >= REPLAY_WINDOW {
            return false;
        }
        let Some(word) = (seq / WORD_BITS).checked_sub(self.base) else { return false };
        let Some(bits) = usize::try_from(word).ok().and_then(|at| self.words.get(at)) else { return false };
        bits & bit(seq) == 0
    }

    /// Uses `seq`; `false`, and unchanged, if it may not be used.
    pub fn mark(&mut self, seq: u64) -> bool {
        if !self.check(seq) {
            return false;
        }
        if self.highest().is_none_or(|highest| seq > highest) {
            self.reach(seq);
        }
        // `reach` or `check` made sure that the word is held.
        let at = usize::try_from(seq / WORD_BITS - self.base).unwrap_or(usize::MAX);
        self.words[at] |= bit(seq);
        while self.words.front() == Some(&u64::MAX) {
            self.drop_front();
        }
        true
    }

    /// Moves the window up to `seq`, which is above it.
    fn reach(&mut self, seq: u64) {
        let last = seq / WORD_BITS;
        let first_in_window = seq.saturating_sub(REPLAY_WINDOW - 1) / WORD_BITS;
        while self.base < first_in_window && !self.words.is_empty() {
            self.drop_front();
        }
        self.base = self.base.max(first_in_window);
        let held = usize::try_from(last - self.base + 1).unwrap_or(usize::MAX);
        assert!(held <= WORDS_MAX, "a window holds {held} words");
        self.words.resize(held, 0);
    }

    fn drop_front(&mut self) {
        self.words.pop_front();
        self.base += 1;
    }

    /// Appends `base8 n2 word8×n`: number of the first word held, how many follow, the words.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.base);
        out.put_len_u16(self.words.len());
        for word in &self.words {
            out.put_u64(*word);
        }
    }

    /// Reads what [`ReplayWindow::encode`] wrote. Only the one encoding of a window is accepted.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const BASE: &str = "replay window base";
        const WORD: &str = "replay window word";
        let base = r.u64(BASE)?;
        if base > WORDS_OF_ALL {
            return Err(r.bad_value(BASE, 8, base));
        }
        let n = r.bounded_u16("replay window length", WORDS_MAX)?;
        if n as u64 > WORDS_OF_ALL - base {
            return Err(r.bad_value("replay window length", 2, n as u64));
        }
        let words = (0..n).map(|_| r.u64(WORD)).collect::<Result<VecDeque<_>, _>>()?;
        let window = Self { base, words };
        let edges = (window.words.front(), window.words.back());
        if edges.0 == Some(&u64::MAX) || edges.1 == Some(&0) {
            return Err(DecodeError::NotCanonical { what: WORD, at: r.position() });
        }
        if let Some(highest) = window.highest()
            && base < highest.saturating_sub(REPLAY_WINDOW - 1) / WORD_BITS
        {
            return Err(DecodeError::NotCanonical { what: BASE, at: r.position() });
        }
        Ok(window)
    }
}

/// The bit of `seq` in its word.
fn bit(seq: u64) -> u64 {
    1 << (seq % WORD_BITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn round_trip(window: &ReplayWindow) -> ReplayWindow {
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let mut r = Reader::new(&bytes);
        let back = ReplayWindow::decode(&mut r).unwrap();
        r.finish().unwrap();
        back
    }

    #[test]
    fn counting_up_needs_one_word() {
        let mut window = ReplayWindow::new();
        for seq in 0..200_000 {
            assert!(window.mark(seq));
            assert!(!window.mark(seq));
            assert!(window.words.len() <= 1);
        }
        assert_eq!(window.highest(), Some(199_999));
        assert!(!window.check(0));
        assert!(window.check(200_000));
    }

    #[test]
    fn the_window_is_the_highest_and_65535_below() {
        let mut window = ReplayWindow::new();
        assert!(window.mark(1_000_000));
        assert!(!window.check(1_000_000 - 65_536));
        assert!(window.mark(1_000_000 - 65_535));
        assert!(!window.mark(1_000_000 - 65_535));
        assert!(window.words.len() <= WORDS_MAX);
        assert!(window.mark(1_000_001));
        assert!(window.check(1_000_001 - 65_534));
        assert!(!window.check(1_000_001 - 65_536));
    }

    #[test]
    fn the_last_number_of_all_can_be_used() {
        let mut window = ReplayWindow::new();
        for seq in (u64::MAX - 70_000..=u64::MAX).rev() {
            assert_eq!(window.mark(seq), u64::MAX - seq < 65_536, "{seq}");
        }
        for seq in [0, u64::MAX - 65_536, u64::MAX] {
            assert!(!window.check(seq), "{seq}");
        }
        assert_eq!(window.highest(), Some(u64::MAX));
        assert_eq!(round_trip(&window), window);
    }

    #[test]
    fn decoding_refuses_what_is_not_canonical() {
        let decode = |base: u64, words: &[u64]| {
            let mut bytes = Vec::new();
            ReplayWindow { base, words: words.to_vec().into() }.encode(&mut bytes);
            ReplayWindow::decode(&mut Reader::new(&bytes))
        };
        assert!(decode(0, &[]).is_ok());
        assert!(decode(WORDS_OF_ALL, &[]).is_ok());
        assert!(decode(WORDS_OF_ALL + 1, &[]).is_err());
        assert!(decode(WORDS_OF_ALL, &[1]).is_err());
        assert!(decode(0, &[0]).is_err());
        assert!(decode(0, &[u64::MAX, 1]).is_err());
        assert!(decode(0, &[1, 0]).is_err());
        assert!(decode(7, &[1, 1]).is_ok());
        let mut widest = vec![0; WORDS_MAX];
        widest[WORDS_MAX - 1] = 1;
        assert!(decode(3, &widest).is_ok());
        widest.push(1);
        assert!(matches!(decode(3, &widest), Err(DecodeError::TooLarge { .. })));
        // The last word reaches so far up that the first lies below the window.
        widest.pop();
        widest[WORDS_MAX - 1] = 1 << 63;
        assert!(matches!(decode(3, &widest), Err(DecodeError::NotCanonical { .. })));
    }

    /// The rule said with a set: what the bitmap has to agree with.
    fn model_accepts(used: &BTreeSet<u64>, seq: u64) -> bool {
        !used.contains(&seq) && used.last().is_none_or(|top| seq > *top || top - seq < REPLAY_WINDOW)
    }

    fn sequence() -> impl Strategy<Value = Vec<u64>> {
        let near = prop_oneof![0_u64..300, 65_400_u64..65_800, 130_900_u64..131_400, 0_u64..200_000];
        let offset = prop_oneof![Just(0_u64), Just(u64::MAX - 200_000), Just(1 << 40)];
        (offset, prop::collection::vec(near, 1..400))
            .prop_map(|(offset, seqs)| seqs.into_iter().map(|seq| offset + seq).collect())
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(seqs in sequence()) {
            let mut window = ReplayWindow::new();
            let mut used = BTreeSet::new();
            for seq in seqs {
                prop_assert_eq!(window.check(seq), model_accepts(&used, seq));
                if window.mark(seq) {
                    used.insert(seq);
                }
                prop_assert_eq!(window.highest(), used.last().copied());
                prop_assert!(window.words.len() <= WORDS_MAX);
            }
            prop_assert_eq!(round_trip(&window), window);
        }

        #[test]
        fn arbitrary_bytes_decode_to_what_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut r = Reader::new(&bytes);
            if let Ok(window) = ReplayWindow::decode(&mut r) {
                let mut again = Vec::new();
                window.encode(&mut again);
                prop_assert_eq!(&again[..], &bytes[..r.position()]);
            }
        }
    }
}
