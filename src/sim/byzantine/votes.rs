//! Attacks through what headers carry: signed words on what never was.

use bytes::Bytes;

use super::headers::{Masks, own_header};
use super::{Act, Attack, Outgoing, Post, Scene};
use crate::proof::checkpoint::Checkpoint;
use crate::proof::note::cosign;
use crate::types::{
    BlockDigest, CheckpointVote, CommitIndex, CommitVote, Digest, EquivocationProof, Header, NodeHash,
    PeerMessage, SignedReference, SystemMessage,
};

/// See [`Attack::FalseCheckpoints`], [`Attack::FalseCommits`] and [`Attack::FalseEvidence`].
#[derive(Debug)]
pub(super) struct FalseWords {
    attack: Attack,
    masks: Masks,
}

impl FalseWords {
    pub(super) fn new(attack: Attack) -> Self {
        Self { attack, masks: Masks::default() }
    }
}

impl Act for FalseWords {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let Some(header) = own_header(scene, &message) else {
            return vec![(to, Outgoing::Message(self.masks.translate(scene, message)))];
        };
        if self.attack == Attack::FalseEvidence {
            // A header with it is worth nothing, so it comes beside the true one.
            let accused = accuse(scene, header.header().clone());
            let post = vec![accused, Some(header)].into_iter().flatten();
            return post.map(|header| (to, Outgoing::Message(PeerMessage::Header(header)))).collect();
        }
        let attack = self.attack;
        let mask = self.masks.put_on(scene, &header, |scene, header| {
            // Headers of version 1 hold no votes on commits.
            if attack == Attack::FalseCheckpoints {
                lie_about_checkpoints(scene, header);
            } else if header.version > 1 {
                lie_about_commits(scene, header);
            }
            Bytes::new()
        });
        vec![(to, Outgoing::Message(PeerMessage::Header(mask)))]
    }
}

fn lie_about_checkpoints(scene: &mut Scene<'_, '_>, header: &mut Header) {
    let mut lied = false;
    for message in &mut header.system {
        if let SystemMessage::CheckpointVote(vote) = message {
            *vote = false_vote(scene, vote);
            lied = true;
        }
    }
    if !lied && scene.random().chance(200) {
        let vote = CheckpointVote {
            tree_size: scene.random().next(),
            root: NodeHash::default(),
            state_root: Digest::default(),
            commit: CommitIndex(scene.random().next()),
            cosigned_at: scene.view.wall.0 / 1_000,
            cosignature: [0; 64],
        };
        // Kinds are in ascending order, and this is the lowest.
        header.system.insert(0, SystemMessage::CheckpointVote(false_vote(scene, &vote)));
        lied = true;
    }
    if lied {
        scene.did(Attack::FalseCheckpoints);
    }
}

/// Another vote than the true one, with a cosignature that holds.
fn false_vote(scene: &mut Scene<'_, '_>, vote: &CheckpointVote) -> CheckpointVote {
    let mut vote = vote.clone();
    match scene.random().below(4) {
        0 => vote.tree_size = vote.tree_size.wrapping_add(scene.random().between(1, 9)),
        1 => vote.state_root = Digest(scene.random().bytes()),
        2 => vote.commit = CommitIndex(vote.commit.0.wrapping_add(scene.random().between(1, 9))),
        _ => vote.root = NodeHash(scene.random().bytes()),
    }
    let text =
        Checkpoint { origin: scene.view.origin.to_owned(), size: vote.tree_size, root: vote.root }.text();
    vote.cosignature = cosign(scene.view.cosign_key, &text, vote.cosigned_at);
    vote
}

fn lie_about_commits(scene: &mut Scene<'_, '_>, header: &mut Header) {
    let digest = Digest(scene.random().bytes());
    let far = CommitIndex(scene.random().next());
    let mut lied = false;
    for message in &mut header.system {
        if let SystemMessage::CommitVote(vote) = message {
            if scene.random().chance(500) {
                vote.digest = digest;
            } else {
                vote.index = far;
            }
            lied = true;
        }
    }
    if !lied && scene.random().chance(200) {
        let index = CommitIndex(scene.random().between(1, 500));
        let vote = SystemMessage::CommitVote(CommitVote { index, digest });
        let behind = |message: &SystemMessage| message.kind() > vote.kind();
        let at = header.system.iter().position(behind).unwrap_or(header.system.len());
        header.system.insert(at, vote);
        lied = true;
    }
    if lied {
        scene.did(Attack::FalseCommits);
    }
}

/// The header with evidence against somebody who did nothing: true signatures for other blocks, or none at all.
fn accuse(scene: &mut Scene<'_, '_>, mut header: Header) -> Option<crate::types::SignedHeader> {
    if header.version < 2 || !scene.random().chance(300) {
        return None;
    }
    let victim = scene.memory.some(scene.view.random)?.clone();
    let genuine = SignedReference { block: victim.reference(), signature: *victim.signature() };
    let mut forged = genuine;
    forged.block.digest = BlockDigest(scene.random().bytes());
    if scene.random().chance(500) {
        forged.signature = scene.random().bytes();
    }
    let proof = EquivocationProof::new(header.epoch, genuine, forged)?;
    header.system.retain(|message| !matches!(message, SystemMessage::Evidence(_)));
    header.system.push(SystemMessage::Evidence(proof));
    scene.did(Attack::FalseEvidence);
    Some(scene.sign(header))
}
