//! Blocks without the transactions of one organisation.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::headers::Masks;
use super::{Act, Attack, Outgoing, Post, Scene, commit_to};
use crate::sim::random::Random;
use crate::types::{BlockRef, OrgId, Payload, PayloadBuilder, PeerMessage, Rules, SignedHeader, Transaction};

/// See [`Attack::Censor`].
#[derive(Debug)]
pub(super) struct Censor {
    victim: OrgId,
    masks: Masks,
    /// Own headers whose payload has not come by yet.
    held: BTreeMap<BlockRef, SignedHeader>,
}

impl Censor {
    pub(super) fn draw(random: &mut Random) -> Self {
        let victim = OrgId(u32::try_from(random.between(1, 4)).unwrap_or(1));
        Self { victim, masks: Masks::default(), held: BTreeMap::new() }
    }

    /// The payload without the victim's transactions.
    fn censored(&self, bytes: &Bytes) -> Option<Payload> {
        let payload = Payload::decode(bytes.clone()).ok()?;
        let mut builder = PayloadBuilder::default();
        for i in 0..payload.len() {
            let tx = payload.transaction_bytes(i);
            let org = Transaction::decode(tx.clone(), Rules::NEWEST).map(|tx| tx.envelope().org);
            if org != Ok(self.victim) {
                builder.push(payload.id(i), &tx);
            }
        }
        Some(builder.finish())
    }
}

impl Act for Censor {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        match message {
            PeerMessage::Header(header) if header.header().author == scene.own() => {
                if let Some(mask) = self.masks.get(&header.reference()) {
                    return vec![(to, Outgoing::Message(PeerMessage::Header(mask.clone())))];
                }
                if header.header().n_tx > 0 {
                    // Its payload comes right behind it; until then nobody knows what it is going to say.
                    self.held.insert(header.reference(), header);
                    return Vec::new();
                }
                let mask = self.masks.put_on(scene, &header, |_, _| Bytes::new());
                vec![(to, Outgoing::Message(PeerMessage::Header(mask)))]
            }
            PeerMessage::Payload { block, bytes } if self.held.contains_key(&block) => {
                let Some(payload) = self.censored(&bytes) else { return Vec::new() };
                let header = self.held[&block].clone();
                let kept = payload.bytes().clone();
                let mask = self.masks.put_on(scene, &header, |scene, header| {
                    if payload.bytes() != &bytes {
                        scene.did(Attack::Censor);
                    }
                    commit_to(header, &payload);
                    kept.clone()
                });
                let block = mask.reference();
                let mut post = vec![(to, Outgoing::Message(PeerMessage::Header(mask)))];
                if !kept.is_empty() {
                    post.push((to, Outgoing::Message(PeerMessage::Payload { block, bytes: kept })));
                }
                while self.held.len() > 16 {
                    self.held.pop_first();
                }
                post
            }
            PeerMessage::Payload { .. }
            | PeerMessage::Header(_)
            | PeerMessage::Latest { .. }
            | PeerMessage::Commits { .. }
            | PeerMessage::Fetch(_) => {
                vec![(to, Outgoing::Message(message))]
            }
            PeerMessage::Headers(_) => vec![(to, Outgoing::Message(self.masks.translate(scene, message)))],
        }
    }
}
