//! Attacks by silence.

use super::{Act, Attack, Outgoing, Post, Scene};
use crate::sim::random::Random;
use crate::types::PeerMessage;

/// See [`Attack::WithholdHeaders`] and [`Attack::WithholdPayloads`].
#[derive(Debug)]
pub(super) struct Withhold {
    attack: Attack,
    /// Bits of those that get nothing; all ones for everybody.
    from: u64,
    /// Whether it answers those that ask.
    answers: bool,
}

impl Withhold {
    fn draw(attack: Attack, random: &mut Random) -> Self {
        let from = if random.chance(300) { u64::MAX } else { random.next() | 1 << random.below(4) };
        Self { attack, from, answers: random.chance(500) }
    }

    pub(super) fn headers(random: &mut Random) -> Self {
        Self::draw(Attack::WithholdHeaders, random)
    }

    /// Headers, from every third validator; who asks for one gets it.
    pub(super) fn headers_from_a_third() -> Self {
        Self { attack: Attack::WithholdHeaders, from: 0x9249_2492_4924_9249, answers: true }
    }

    pub(super) fn payloads(random: &mut Random) -> Self {
        Self::draw(Attack::WithholdPayloads, random)
    }
}

impl Act for Withhold {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let withheld = match (&message, self.attack) {
            (PeerMessage::Header(_), Attack::WithholdHeaders) => true,
            (PeerMessage::Headers(_), Attack::WithholdHeaders) => !self.answers,
            // Pushes and answers look alike; an answer to one that it withholds from comes in half of all cases.
            (PeerMessage::Payload { .. }, Attack::WithholdPayloads) => {
                !self.answers || scene.random().chance(500)
            }
            _ => false,
        };
        if withheld && self.from >> (to % 64) & 1 == 1 {
            scene.did(self.attack);
            return Vec::new();
        }
        vec![(to, Outgoing::Message(message))]
    }
}
