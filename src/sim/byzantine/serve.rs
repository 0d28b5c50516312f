//! Attacks through requests and answers.

use bytes::Bytes;

use super::{Act, Attack, MEMORY_MAX, Outgoing, Post, Scene};
use crate::consensus::Commit;
use crate::limits::{FETCH_REFS_MAX, FETCH_ROUNDS_MAX};
use crate::types::{
    BlockDigest, BlockRef, CommitVote, FetchRequest, HEADER_VERSION, PeerMessage, Round, SignedHeader,
    SystemMessage,
};

/// See [`Attack::Amplify`].
#[derive(Debug)]
pub(super) struct Amplify;

impl Act for Amplify {
    fn unasked(&mut self, scene: &mut Scene<'_, '_>) -> Post {
        let blocks: Vec<BlockRef> = scene.memory.headers.keys().copied().collect();
        let payloads: Vec<BlockRef> = scene.memory.payloads.keys().copied().collect();
        let mut post = Vec::new();
        for to in scene.others() {
            let request = match scene.random().below(6) {
                // One block, as often as a request can name it.
                0 => FetchRequest::Payloads(many(&payloads, 1)),
                1 => FetchRequest::Payloads(many(&payloads, FETCH_REFS_MAX)),
                2 => FetchRequest::Headers(many(&blocks, FETCH_REFS_MAX)),
                3 => FetchRequest::Range { from: Round(scene.random().below(3)), rounds: FETCH_ROUNDS_MAX },
                4 => FetchRequest::Range { from: Round(u64::MAX), rounds: FETCH_ROUNDS_MAX },
                // What nobody has.
                _ => {
                    let digest = BlockDigest(scene.random().bytes());
                    let nothing =
                        BlockRef { round: Round(scene.random().next()), digest, ..Default::default() };
                    FetchRequest::Headers(vec![nothing; FETCH_REFS_MAX])
                }
            };
            scene.did(Attack::Amplify);
            post.push((to, Outgoing::Message(PeerMessage::Fetch(request))));
        }
        post
    }
}

/// A full request of the first of these blocks, over and over.
fn many(blocks: &[BlockRef], different: usize) -> Vec<BlockRef> {
    blocks.iter().take(different).cycle().take(FETCH_REFS_MAX).copied().collect()
}

/// See [`Attack::Replay`].
#[derive(Debug, Default)]
pub(super) struct Replay {
    heard: Vec<PeerMessage>,
    said: Vec<PeerMessage>,
}

impl Replay {
    fn keep(kept: &mut Vec<PeerMessage>, scene: &mut Scene<'_, '_>, message: &PeerMessage) {
        // A sample over the whole run: what is kept is replaced at random.
        if kept.len() < MEMORY_MAX {
            kept.push(message.clone());
        } else if scene.random().chance(50) {
            kept[scene.random().index(MEMORY_MAX)] = message.clone();
        }
    }
}

impl Act for Replay {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        Self::keep(&mut self.said, scene, &message);
        vec![(to, Outgoing::Message(message))]
    }

    fn incoming(&mut self, scene: &mut Scene<'_, '_>, _from: usize, message: &PeerMessage) {
        Self::keep(&mut self.heard, scene, message);
    }

    fn unasked(&mut self, scene: &mut Scene<'_, '_>) -> Post {
        let mut post = Vec::new();
        for kept in [&self.said, &self.heard] {
            for _ in 0..scene.random().between(0, 6) {
                let Some(to) = scene.somebody() else { break };
                let at = scene.random().index(kept.len().max(1));
                let Some(message) = kept.get(at) else { break };
                scene.did(Attack::Replay);
                post.push((to, Outgoing::Message(message.clone())));
            }
        }
        post
    }
}

/// See [`Attack::LieToFetchers`].
#[derive(Debug)]
pub(super) struct LieToFetchers;

impl Act for LieToFetchers {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let lie = match &message {
            PeerMessage::Headers(headers) => {
                let mut headers = headers.clone();
                scene.did(Attack::LieToFetchers);
                match scene.random().below(5) {
                    0 => return Vec::new(),
                    1 => headers.truncate(headers.len() / 2),
                    2 => headers.reverse(),
                    // Others than were asked for.
                    3 => headers = scene.memory.headers.values().take(headers.len()).cloned().collect(),
                    _ => headers.extend(headers.first().cloned()),
                }
                PeerMessage::Headers(headers)
            }
            PeerMessage::Payload { block, bytes } if scene.random().chance(500) => {
                scene.did(Attack::LieToFetchers);
                let other = scene.memory.payloads.values().next().cloned().unwrap_or_default();
                let bytes = match scene.random().below(3) {
                    0 => other,
                    1 => Bytes::new(),
                    _ => bytes.slice(..bytes.len() / 2),
                };
                PeerMessage::Payload { block: *block, bytes }
            }
            PeerMessage::Latest { nonce, header } if scene.random().chance(700) => {
                scene.did(Attack::LieToFetchers);
                latest(scene, *nonce, header.as_ref())
            }
            PeerMessage::Commits { commits, certificate } if !commits.is_empty() => {
                scene.did(Attack::LieToFetchers);
                let (mut commits, mut certificate) = (commits.clone(), certificate.clone());
                match scene.random().below(7) {
                    0 => return Vec::new(),
                    1 => commits.truncate(commits.len() / 2),
                    2 => certificate.truncate(certificate.len() / 2),
                    3 => certificate.extend(certificate.first().cloned()),
                    4..=5 => (commits, certificate) = other_commits(scene, &commits),
                    _ => commits.reverse(),
                }
                PeerMessage::Commits { commits, certificate }
            }
            PeerMessage::Payload { .. }
            | PeerMessage::Commits { .. }
            | PeerMessage::Header(_)
            | PeerMessage::Latest { .. }
            | PeerMessage::Fetch(_) => message,
        };
        vec![(to, Outgoing::Message(lie))]
    }
}

/// A chain that goes its own way: half of the commits are a millisecond later. The liar alone votes for the last.
fn other_commits(scene: &mut Scene<'_, '_>, commits: &[Bytes]) -> (Vec<Bytes>, Vec<SignedHeader>) {
    let own = scene.own();
    let (true_ones, others) = commits.split_at(commits.len() / 2);
    let mut chain = true_ones.to_vec();
    let mut previous = None;
    let mut vote = None;
    for record in others {
        let Ok(mut commit) = Commit::decode(record) else { break };
        commit.time.0 += 1;
        commit.previous = previous.unwrap_or(commit.previous);
        let digest = commit.digest();
        previous = Some(digest);
        vote = Some(CommitVote { index: commit.index, digest });
        chain.push(commit.encode().into());
    }
    let last_own = scene.memory.headers.values().rev().find(|header| header.header().author == own);
    let (Some(vote), Some(header)) = (vote, last_own) else { return (chain, Vec::new()) };
    let mut voting = header.header().clone();
    voting.version = HEADER_VERSION;
    voting.system = vec![SystemMessage::CommitVote(vote)];
    (chain, vec![scene.sign(voting)])
}

/// A claim of another last own header than the true one: none, an old one, one of a round that never will be; or the answer to
/// another question.
fn latest(scene: &mut Scene<'_, '_>, nonce: u64, header: Option<&SignedHeader>) -> PeerMessage {
    let own = scene.own();
    let header = match scene.random().below(4) {
        0 => None,
        1 => scene.memory.headers.values().find(|old| old.header().author == own).cloned(),
        2 => return PeerMessage::Latest { nonce: !nonce, header: header.cloned() },
        _ => header.map(|header| {
            let mut absurd = header.header().clone();
            absurd.round = Round(u64::MAX);
            for ancestor in &mut absurd.ancestors {
                ancestor.round = absurd.round.previous();
            }
            scene.sign(absurd)
        }),
    };
    PeerMessage::Latest { nonce, header }
}
