//! Attacks on whoever reads the wire.

use super::{Act, Attack, Outgoing, Post, Scene};
use crate::limits::{HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::types::{PeerMessage, SIGNATURE_BYTES, SignedHeader};

/// Type byte of a header's frame.
const HEADER_FRAME: u8 = 2;
/// Type bytes from here up to [`FRAMES_END`] are tried, known or not.
const FRAMES_BEGIN: u8 = 0;
const FRAMES_END: u8 = 24;

/// A frame as it goes over the wire: its type and its body.
fn body_of(message: &PeerMessage) -> (u8, Vec<u8>) {
    let frame = message.encode();
    let mut body = frame.head[5..].to_vec();
    body.extend_from_slice(&frame.tail);
    (frame.head[4], body)
}

/// See [`Attack::BadSignatures`].
#[derive(Debug)]
pub(super) struct BadSignatures;

impl Act for BadSignatures {
    fn unasked(&mut self, scene: &mut Scene<'_, '_>) -> Post {
        let mut post = Vec::new();
        for _ in 0..scene.random().between(1, 12) {
            let Some(to) = scene.somebody() else { break };
            let Some(header) = scene.memory.some(scene.view.random).cloned() else { break };
            let mut bytes = header.bytes().to_vec();
            // Either the header or its signature is not what it was.
            let signed = bytes.len() - SIGNATURE_BYTES;
            let at = if scene.random().chance(500) {
                scene.random().index(signed)
            } else {
                signed + scene.random().index(SIGNATURE_BYTES)
            };
            bytes[at] ^= 1 << scene.random().below(8);
            scene.did(Attack::BadSignatures);
            post.push((to, Outgoing::Frame { kind: HEADER_FRAME, body: bytes.into() }));
        }
        // Whole answers of which one signature is wrong.
        if let Some(to) = scene.somebody() {
            let mut headers: Vec<SignedHeader> = scene.memory.headers.values().take(8).cloned().collect();
            if let Some(last) = headers.pop() {
                let header = last.header().clone();
                headers.push(SignedHeader::build(header, |_| [7; SIGNATURE_BYTES]));
                scene.did(Attack::BadSignatures);
                post.push((to, Outgoing::Message(PeerMessage::Headers(headers))));
            }
        }
        post
    }
}

/// See [`Attack::Garbage`].
#[derive(Debug)]
pub(super) struct Garbage;

impl Act for Garbage {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        let mut post = Vec::new();
        if scene.random().chance(150) {
            let (kind, mut body) = body_of(&message);
            damage(scene, &mut body);
            scene.did(Attack::Garbage);
            post.push((to, Outgoing::Frame { kind, body: body.into() }));
        }
        post.push((to, Outgoing::Message(message)));
        post
    }

    fn unasked(&mut self, scene: &mut Scene<'_, '_>) -> Post {
        let Some(to) = scene.somebody() else { return Vec::new() };
        let kind = u8::try_from(scene.random().between(FRAMES_BEGIN.into(), FRAMES_END.into())).unwrap_or(0);
        let len = match scene.random().below(40) {
            0 => HEADER_BYTES_MAX + 1 + scene.random().index(64),
            1 => PAYLOAD_BYTES_MAX + 65 + scene.random().index(64),
            _ => scene.random().index(300),
        };
        let mut body = vec![0; len];
        let noise = scene.random().bytes::<300>();
        for (byte, noise) in body.iter_mut().zip(noise) {
            *byte = noise;
        }
        scene.did(Attack::Garbage);
        vec![(to, Outgoing::Frame { kind, body: body.into() })]
    }
}

/// Makes other bytes out of an encoding: flipped, cut, lengthened or put together anew.
pub(super) fn damage(scene: &mut Scene<'_, '_>, body: &mut Vec<u8>) {
    let at = scene.random().index(body.len().max(1));
    match scene.random().below(5) {
        0 => body.truncate(at),
        1 => body.push(0),
        2 => body.extend_from_within(at.min(body.len())..),
        3 if !body.is_empty() => {
            body.remove(at);
        }
        _ => {
            for _ in 0..scene.random().between(1, 4) {
                let at = scene.random().index(body.len().max(1));
                let bit = 1 << scene.random().below(8);
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}

/// Messages that [`Slow`] holds back at most.
const HELD_MAX: usize = 256;

/// See [`Attack::Slow`].
#[derive(Debug, Default)]
pub(super) struct Slow {
    held: Vec<(u64, usize, PeerMessage)>,
}

impl Act for Slow {
    fn outgoing(&mut self, scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        match scene.random().below(10) {
            0..4 => vec![(to, Outgoing::Message(message))],
            // A gap.
            4 => {
                scene.did(Attack::Slow);
                Vec::new()
            }
            _ => {
                scene.did(Attack::Slow);
                let due = scene.view.now_us + scene.random().between(50_000, 3_000_000);
                if self.held.len() < HELD_MAX {
                    self.held.push((due, to, message));
                }
                Vec::new()
            }
        }
    }

    fn unasked(&mut self, scene: &mut Scene<'_, '_>) -> Post {
        let now_us = scene.view.now_us;
        // The last that came goes first.
        let due = self.held.extract_if(.., |(due, ..)| *due <= now_us);
        let mut post: Post = due.map(|(_, to, message)| (to, Outgoing::Message(message))).collect();
        post.reverse();
        post
    }
}
