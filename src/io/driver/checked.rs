//! Verdicts on payloads that were checked before the node asked for it.
//!
//! The payload of a block with few transactions is checked on the thread that decodes it: to hand it to the verification
//! threads, wake them, and be woken by them costs more. The node's question is then answered at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::execute::Verdict;
use crate::types::{BlockRef, Payload};

/// Payloads that are kept until the node asks. Those of the highest rounds stay: a node asks soon, or never.
const KEPT_MAX: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct CheckedPayloads {
    kept: BTreeMap<BlockRef, (Arc<Payload>, Arc<[Verdict]>)>,
    asked: VecDeque<(BlockRef, Arc<[Verdict]>)>,
}

impl CheckedPayloads {
    /// Keeps the verdicts on a payload that is about to be given to the node.
    pub(super) fn insert(&mut self, block: BlockRef, payload: Arc<Payload>, verdicts: Arc<[Verdict]>) {
        self.kept.insert(block, (payload, verdicts));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_first();
        }
    }

    /// Answers the node's question, if the very same payload was checked; see [`CheckedPayloads::next_asked`].
    pub(super) fn ask(&mut self, block: &BlockRef, payload: &Arc<Payload>) -> bool {
        let Some((checked, verdicts)) = self.kept.remove(block) else { return false };
        let same = Arc::ptr_eq(&checked, payload);
        if same {
            self.asked.push_back((*block, verdicts));
        }
        same
    }

    /// Whether there is an answer for the node.
    pub(super) fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The next answer for the node.
    pub(super) fn next_asked(&mut self) -> Option<(BlockRef, Arc<[Verdict]>)> {
        self.asked.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Round;

    #[test]
    fn only_the_very_payload_that_was_checked_has_a_verdict() {
        let mut checked = CheckedPayloads::default();
        let block = |round| BlockRef { round: Round(round), ..BlockRef::default() };
        let payload = Arc::new(Payload::empty());
        let verdicts: Arc<[Verdict]> = Vec::new().into();
        checked.insert(block(1), Arc::clone(&payload), Arc::clone(&verdicts));
        assert!(!checked.ask(&block(2), &payload));
        assert!(!checked.ask(&block(1), &Arc::new(Payload::empty())), "another payload");
        checked.insert(block(1), Arc::clone(&payload), Arc::clone(&verdicts));
        assert!(checked.ask(&block(1), &payload));
        assert!(!checked.ask(&block(1), &payload), "asked once");
        assert_eq!(checked.next_asked().map(|(block, _)| block), Some(block(1)));
        assert!(checked.next_asked().is_none());
        for round in 0..=KEPT_MAX as u64 {
            checked.insert(block(round), Arc::clone(&payload), Arc::clone(&verdicts));
        }
        assert!(!checked.ask(&block(0), &payload) && checked.ask(&block(1), &payload));
    }
}
