//! Peers that send one node as much of everything as they can.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use super::host::MEMORY_BYTES;
use super::intercept::Cast;
use super::world::World;
use super::*;
use crate::committee::Committee;
use crate::dag::VerifiedHeader;
use crate::node::{Input, Now};
use crate::types::{
    AuthorityIndex, BlockDigest, BlockRef, FetchRequest, Header, Payload, PayloadBuilder, Round,
    SIGNATURE_BYTES, SignedHeader, TimestampMs, TxId,
};

/// What the pool may hold, and own blocks: not of peers' making.
const OWN_BYTES: usize = 2 << 20;

struct Flood {
    world: World,
    committee: Committee,
    most: usize,
}

fn payload(bytes: usize, salt: u64) -> Arc<Payload> {
    let mut builder = PayloadBuilder::default();
    let mut body = vec![7; 4_000];
    for i in 0..bytes / body.len() {
        body[..8].copy_from_slice(&(salt * 1_000 + i as u64).to_be_bytes());
        let mut id = [1; 32];
        id[..8].copy_from_slice(&body[..8]);
        builder.push(TxId(id), &body);
    }
    Arc::new(builder.finish())
}

fn header(round: u64, author: u16, ancestors: Vec<BlockRef>, payload: &Payload, salt: u64) -> VerifiedHeader {
    let header = Header {
        version: 1,
        epoch: crate::types::Epoch(0),
        round: Round(round),
        author: AuthorityIndex(author),
        time: TimestampMs(1_000_000 * salt + round),
        ancestors,
        n_tx: u32::try_from(payload.len()).unwrap(),
        payload_len: u32::try_from(payload.bytes().len()).unwrap(),
        payload_root: payload.root(),
        system: Vec::new(),
    };
    VerifiedHeader::trusted(SignedHeader::build(header, |_| [0; SIGNATURE_BYTES]))
}

impl Flood {
    fn new(validators: usize) -> Self {
        let config = SimConfig { validators, faults: false, ..SimConfig::default() };
        let mut world = World::new(1, &config, Cast::default());
        world.start(0).unwrap();
        let committee = world.genesis.committee();
        Self { world, committee, most: 0 }
    }

    fn give(&mut self, input: Input) {
        let now = Now { monotonic_us: 1, wall: TimestampMs(1) };
        let mut out = Vec::new();
        let node = &mut self.world.running(0).node;
        node.handle(now, input, &mut out);
        let held = node.stats().memory_bytes;
        self.most = self.most.max(held);
        assert!(held <= MEMORY_BYTES + OWN_BYTES, "{held} bytes are held");
    }

    fn headers(&mut self, from: u16, headers: Vec<VerifiedHeader>) {
        self.give(Input::Headers { from: AuthorityIndex(from), headers });
    }

    fn genesis(&self) -> Vec<BlockRef> {
        self.committee.indices().map(|author| self.committee.genesis_block(author)).collect()
    }

    /// Own block first, then the others of a row.
    fn ancestors(row: &[BlockRef], author: u16) -> Vec<BlockRef> {
        let own = *row.iter().find(|block| block.author.0 == author).unwrap();
        std::iter::once(own).chain(row.iter().copied().filter(|block| *block != own)).collect()
    }

    /// Headers that wait for what does not exist, second blocks, payloads without headers, requests.
    fn nonsense(&mut self, liars: &[u16]) {
        let genesis = self.genesis();
        let big = payload(400_000, 1);
        for salt in 0..3_000 {
            for liar in liars {
                let ghost = |author: u16| BlockRef {
                    round: Round(1 + salt % 200),
                    author: AuthorityIndex(author),
                    digest: BlockDigest([u8::try_from(salt % 251).unwrap(); 32]),
                };
                let row: Vec<BlockRef> =
                    (0..u16::try_from(self.committee.size()).unwrap()).map(ghost).collect();
                let waits =
                    header(2 + salt % 200, *liar, Self::ancestors(&row, *liar), &Payload::empty(), salt);
                let twin = header(1, *liar, Self::ancestors(&genesis, *liar), &Payload::empty(), salt);
                let block = waits.reference();
                self.headers(*liar, vec![waits, twin]);
                let early = Arc::clone(&big);
                self.give(Input::Payload { from: *liar_index(liar), block, payload: early });
                let nonce = salt;
                self.give(Input::Fetch { from: *liar_index(liar), request: FetchRequest::Latest { nonce } });
                let after = crate::types::CommitIndex(nonce);
                self.give(Input::Fetch { from: *liar_index(liar), request: FetchRequest::Commits { after } });
                self.give(Input::Latest { from: *liar_index(liar), nonce, header: None });
            }
        }
    }
}

fn liar_index(liar: &u16) -> Box<AuthorityIndex> {
    Box::new(AuthorityIndex(*liar))
}

#[test]
fn one_hostile_peer_and_f_of_them_cannot_exhaust_memory() {
    for (validators, liars) in [(4, vec![3]), (7, vec![5, 6])] {
        let mut flood = Flood::new(validators);
        flood.nonsense(&liars);
        let stats = flood.world.running(0).node.stats();
        assert!(stats.suspended > 100, "something was taken: {stats:?}");
    }
}

/// Everybody sends large payloads, and execution stands still.
#[test]
fn payloads_that_nobody_executes_are_refused_in_the_end() {
    let mut flood = Flood::new(4);
    let mut row = flood.genesis();
    for round in 1..=120 {
        let mut next = Vec::new();
        for author in 1..4_u16 {
            let payload = payload(400_000, round * 10 + u64::from(author));
            let block = header(round, author, Flood::ancestors(&row, author), &payload, 0);
            next.push(block.reference());
            let reference = block.reference();
            flood.headers(author, vec![block]);
            flood.give(Input::Payload { from: AuthorityIndex(author), block: reference, payload });
        }
        row = next;
    }
    let stats = flood.world.running(0).node.stats();
    assert!(stats.commit.0 > 50, "headers alone are enough to decide: {stats:?}");
    assert!(flood.most > MEMORY_BYTES / 3, "much was taken: {}", flood.most);
}
