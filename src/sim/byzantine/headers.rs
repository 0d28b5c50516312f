//! Attacks on the DAG: what its author signs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::damage;
use super::{Act, Attack, MEMORY_MAX, Outgoing, Post, Scene, commit_to};
use crate::committee::StakeSum;
use crate::sim::random::Random;
use crate::types::{
    AuthorityIndex, BlockDigest, BlockRef, Epoch, Header, Payload, PeerMessage, Round, SignedHeader,
    TimestampMs,
};

/// The header in a message, if its own author sends it.
pub(super) fn own_header(scene: &Scene<'_, '_>, message: &PeerMessage) -> Option<SignedHeader> {
    let PeerMessage::Header(header) = message else { return None };
    (header.header().author == scene.own()).then(|| header.clone())
}

fn send(to: usize, header: SignedHeader) -> (usize, Outgoing) {
    (to, Outgoing::Message(PeerMessage::Header(header)))
}

/// Other headers that stand for those that the node made, so that its peers see one consistent chain that its node never
/// made.
#[derive(Debug, Default)]
pub(super) struct Masks(BTreeMap<BlockRef, SignedHeader>);

impl Masks {
    /// The header that stands for `original`: always the same.
    pub(super) fn put_on(
        &mut self,
        scene: &mut Scene<'_, '_>,
        original: &SignedHeader,
        alter: impl FnOnce(&mut Scene<'_, '_>, &mut Header) -> Bytes,
    ) -> SignedHeader {
        if let Some(made) = self.0.get(&original.reference()) {
            return made.clone();
        }
        let mut header = original.header().clone();
        for ancestor in &mut header.ancestors {
            if let Some(mask) = self.0.get(ancestor) {
                *ancestor = mask.reference();
            }
        }
        let payload = alter(scene, &mut header);
        let mask = scene.sign(header);
        if self.0.len() == MEMORY_MAX {
            self.0.pop_first();
        }
        self.0.insert(original.reference(), mask.clone());
        scene.forged(&mask, payload);
        mask
    }

    pub(super) fn get(&self, original: &BlockRef) -> Option<&SignedHeader> {
        self.0.get(original)
    }

    /// Puts the masks on all else that names its blocks: payloads and answers.
    pub(super) fn translate(&self, scene: &mut Scene<'_, '_>, message: PeerMessage) -> PeerMessage {
        match message {
            PeerMessage::Payload { block, bytes } => {
                let Some(mask) = self.get(&block) else { return PeerMessage::Payload { block, bytes } };
                scene.forged(mask, bytes.clone());
                PeerMessage::Payload { block: mask.reference(), bytes }
            }
            PeerMessage::Headers(headers) => PeerMessage::Headers(
                headers
                    .into_iter()
                    .map(|header| self.get(&header.reference()).cloned().unwrap_or(header))
                    .collect(),
            ),
            PeerMessage::Header(_)
            | PeerMessage::Latest { .. }
            | PeerMessage::Commits { .. }
            | PeerMessage::Fetch(_) => message,
        }
    }
}

/// See [`Attack::Equivocate`].
#[derive(Debug)]
pub(super) struct Equivocate {
    masks: Masks,
    /// Bits of those that see the other chain.
    group: u64,
    group_until: Round,
    /// Whether some see both.
    both_per_mille: u64,
}

impl Equivocate {
    pub(super) fn draw(random: &mut Random) -> Self {
        let both_per_mille = if random.chance(300) { 500 } else { 50 };
        Self { masks: Masks::default(), group: random.next(), group_until: Round(0), both_per_mille }
    }
}

impl Act for Equivocate {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let Some(header) = own_header(scene, &message) else {
            return vec![(to, Outgoing::Message(message))];
        };
        let round = header.header().round;
        if round >= self.group_until {
            self.group = scene.random().next();
            self.group_until = Round(round.0.saturating_add(scene.random().between(1, 12)));
        }
        if self.group >> (to % 64) & 1 == 0 {
            return vec![(to, Outgoing::Message(message))];
        }
        let both = scene.random().chance(self.both_per_mille);
        let original = header.header().ancestors.first().copied();
        let mask = self.masks.put_on(scene, &header, |scene, header| {
            // Sometimes the chain goes on behind the other one: a vote against its own history.
            if scene.random().chance(200)
                && let (Some(own), Some(original)) = (header.ancestors.first_mut(), original)
            {
                *own = original;
            }
            vary(scene, header)
        });
        scene.did(Attack::Equivocate);
        let payload = scene.memory.forged.get(&mask.reference()).map(|(_, bytes)| bytes.clone());
        let mut post = vec![send(to, mask.clone())];
        if let Some(bytes) = payload.filter(|bytes| !bytes.is_empty()) {
            post.push((to, Outgoing::Message(PeerMessage::Payload { block: mask.reference(), bytes })));
        }
        if both {
            post.push((to, Outgoing::Message(message)));
        }
        post
    }
}

/// Makes a header differ from the one that it was; returns its payload.
fn vary(scene: &mut Scene<'_, '_>, header: &mut Header) -> Bytes {
    header.time = TimestampMs(header.time.0.saturating_add(scene.random().between(1, 900)));
    match scene.random().below(3) {
        0 => {
            // One ancestor less, if a quorum is left.
            let parent = header.round.previous();
            let mut left = StakeSum::new();
            let last = header.ancestors.pop();
            for ancestor in header.ancestors.iter().filter(|ancestor| ancestor.round == parent) {
                left.add(scene.view.committee, ancestor.author);
            }
            if !left.reaches(scene.view.committee.quorum_threshold()) || header.ancestors.is_empty() {
                header.ancestors.extend(last);
            }
        }
        1 => {
            let payload = scene.stale_payload();
            commit_to(header, &payload);
            return payload.bytes().clone();
        }
        _ => {}
    }
    commit_to(header, &Payload::empty());
    Bytes::new()
}

/// See [`Attack::FloodRound`].
#[derive(Debug)]
pub(super) struct FloodRound;

impl Act for FloodRound {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let header = own_header(scene, &message);
        let mut post = vec![(to, Outgoing::Message(message))];
        if let Some(header) = header.filter(|_| scene.random().chance(300)) {
            for i in 1..=scene.random().between(1, 8) {
                let mut other = header.header().clone();
                other.time = TimestampMs(other.time.0.saturating_add(i));
                let other = scene.sign(other);
                scene.did(Attack::FloodRound);
                post.push(send(to, other));
            }
            // The true one may come last.
            if scene.random().chance(500) {
                post.rotate_left(1);
            }
        }
        post
    }
}

/// See [`Attack::BadAncestors`].
#[derive(Debug)]
pub(super) struct BadAncestors;

impl Act for BadAncestors {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let header = own_header(scene, &message);
        let mut post = vec![(to, Outgoing::Message(message))];
        if let Some(header) = header.filter(|_| scene.random().chance(400)) {
            let mut bad = header.header().clone();
            spoil(scene, &mut bad.ancestors, header.reference());
            let bad = scene.sign(bad);
            scene.did(Attack::BadAncestors);
            post.insert(0, send(to, bad));
        }
        post
    }
}

fn spoil(scene: &mut Scene<'_, '_>, ancestors: &mut Vec<BlockRef>, own: BlockRef) {
    let at = scene.random().index(ancestors.len());
    let digest = BlockDigest(scene.random().bytes());
    match scene.random().below(9) {
        // Never existed.
        0 | 1 => ancestors[at].digest = digest,
        2 => ancestors[at].round = Round(ancestors[at].round.0.saturating_sub(1)),
        // Of the future, or its own.
        3 => ancestors[at].round = Round(own.round.0.saturating_add(scene.random().below(3))),
        4 => ancestors[at].round = Round(u64::MAX),
        5 => ancestors.push(ancestors[at]),
        6 => ancestors.push(own),
        7 => {
            ancestors.remove(at);
        }
        _ => ancestors[at].author = AuthorityIndex(u16::MAX),
    }
}

/// See [`Attack::ForgetOwn`].
#[derive(Debug, Default)]
pub(super) struct ForgetOwn {
    masks: Masks,
    /// Its last blocks, as its peers know them.
    chain: Vec<BlockRef>,
}

impl Act for ForgetOwn {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let Some(header) = own_header(scene, &message) else {
            return vec![(to, Outgoing::Message(self.masks.translate(scene, message)))];
        };
        let older: Vec<BlockRef> =
            self.chain.iter().filter(|block| block.round.0 + 1 < header.header().round.0).copied().collect();
        let fresh = self.masks.get(&header.reference()).is_none();
        let mask = self.masks.put_on(scene, &header, |scene, header| {
            // Its own block of the round before counts for the quorum of parents: another has to be there instead.
            let parents =
                header.ancestors.iter().skip(1).filter(|a| a.round == header.round.previous()).count();
            let quorum = scene.view.committee.quorum_threshold().0;
            if !older.is_empty() && parents as u64 >= quorum {
                header.ancestors[0] = older[scene.random().index(older.len())];
                scene.did(Attack::ForgetOwn);
            }
            Bytes::new()
        });
        if fresh {
            self.chain.push(mask.reference());
            if self.chain.len() > 8 {
                self.chain.remove(0);
            }
        }
        vec![send(to, mask)]
    }
}

const HOUR_MS: u64 = 3_600_000;

/// See [`Attack::LieAboutTime`].
#[derive(Debug, Default)]
pub(super) struct LieAboutTime {
    masks: Masks,
}

impl Act for LieAboutTime {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let Some(header) = own_header(scene, &message) else {
            return vec![(to, Outgoing::Message(self.masks.translate(scene, message)))];
        };
        let mask = self.masks.put_on(scene, &header, |scene, header| {
            let time = header.time.0;
            let hours = HOUR_MS * scene.random().between(1, 48);
            header.time = TimestampMs(match scene.random().below(6) {
                0 => 0,
                1 => u64::MAX,
                2 => time ^ (1 << 63),
                3 => time.saturating_sub(hours),
                4 => time.saturating_add(hours),
                _ => scene.random().next(),
            });
            scene.did(Attack::LieAboutTime);
            Bytes::new()
        });
        vec![send(to, mask)]
    }
}

/// See [`Attack::WrongCommittee`].
#[derive(Debug)]
pub(super) struct WrongCommittee;

impl Act for WrongCommittee {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let header = own_header(scene, &message);
        let mut post = vec![(to, Outgoing::Message(message))];
        if let Some(header) = header.filter(|_| scene.random().chance(300)) {
            let mut other = header.header().clone();
            let somebody = scene.somebody().unwrap_or(0);
            match scene.random().below(4) {
                0 => other.epoch = Epoch(other.epoch.0.wrapping_add(1)),
                1 => other.author = AuthorityIndex::from_usize(somebody),
                2 => other.author = AuthorityIndex::from_usize(scene.view.committee.size()),
                _ => other.round = Round(0),
            }
            let other = scene.sign(other);
            scene.did(Attack::WrongCommittee);
            post.insert(0, send(to, other));
        }
        post
    }
}

/// See [`Attack::Mutate`].
#[derive(Debug)]
pub(super) struct Mutate;

impl Act for Mutate {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let header = own_header(scene, &message);
        let mut post = vec![(to, Outgoing::Message(message))];
        if let Some(header) = header {
            for _ in 0..scene.random().between(0, 6) {
                let mut bytes = header.bytes().to_vec();
                damage(scene, &mut bytes);
                // What still decodes is signed as it is, so that it gets as far as the rules of the DAG.
                let Ok(mutant) = SignedHeader::decode(bytes.into()) else { continue };
                let mut mutant = mutant.header().clone();
                mutant.author = scene.own();
                let mutant = scene.sign(mutant);
                scene.did(Attack::Mutate);
                post.push(send(to, mutant));
            }
        }
        post
    }
}
