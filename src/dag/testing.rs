//! Draws DAGs for tests: rounds of blocks by the names of their authors, A, B, C, …

use std::sync::Arc;

use super::{DagState, VerifiedHeader};
use crate::committee::{Authority, Committee};
use crate::types::{
    AuthorityIndex, BlockRef, Epoch, HEADER_VERSION, Header, NetworkId, Payload, Round, SIGNATURE_BYTES,
    SignedHeader, Stake, TimestampMs,
};

/// A committee of `n` with stake 1 each.
pub(crate) fn committee(n: usize) -> Arc<Committee> {
    let authority = |i: usize| {
        let key = |use_: u8| [use_; 32].map(|b| b.wrapping_add(u8::try_from(i).unwrap_or(0)));
        Authority {
            name: format!("v{i}"),
            stake: Stake(1),
            address: format!("127.0.0.1:{}", 1_000 + i),
            network_key: key(1),
            consensus_key: key(2),
            cosign_key: key(3),
            log_key: key(4),
        }
    };
    Arc::new(Committee::new(Epoch(0), NetworkId(*b"drawn-04"), (0..n).map(authority).collect()))
}

/// A header with the given ancestors and no transactions. `salt` makes another block of the same slot.
pub(crate) fn header(round: u64, author: u16, ancestors: Vec<BlockRef>, salt: u64) -> VerifiedHeader {
    let header = Header {
        version: HEADER_VERSION,
        epoch: Epoch(0),
        round: Round(round),
        author: AuthorityIndex(author),
        time: TimestampMs(1_000 * round + 10 * u64::from(author) + salt),
        ancestors,
        n_tx: 0,
        payload_len: 0,
        payload_root: Payload::empty().root(),
        system: Vec::new(),
    };
    VerifiedHeader::trusted(SignedHeader::build(header, |_| [0; SIGNATURE_BYTES]))
}

/// A DAG that is drawn round by round.
pub(crate) struct Drawing {
    pub(crate) dag: DagState,
    committee: Arc<Committee>,
    /// Of each round the blocks by author; round 0 is genesis.
    rounds: Vec<Vec<Option<BlockRef>>>,
}

impl Drawing {
    pub(crate) fn new(n: usize) -> Self {
        let committee = committee(n);
        let genesis = committee.indices().map(|author| Some(committee.genesis_block(author))).collect();
        Self { dag: DagState::new(Arc::clone(&committee), Round(0)), committee, rounds: vec![genesis] }
    }

    /// The block of an author in a round.
    pub(crate) fn block(&self, author: char, round: usize) -> BlockRef {
        self.rounds[round][index(author)].unwrap_or_else(|| panic!("{author}{round} was not drawn"))
    }

    /// Draws one round. Each word is a block: `A` names all blocks of the round before, `A:BC` its own and those of B and
    /// C, `A-D` all but D's. Authors that are not mentioned make no block.
    pub(crate) fn round(&mut self, drawn: &str) -> &mut Self {
        let number = self.rounds.len();
        let mut row = vec![None; self.committee.size()];
        for word in drawn.split_whitespace() {
            let mut letters = word.chars();
            let author = letters.next().map_or(0, index);
            let rest: String = letters.collect();
            let named = |other: usize| match rest.split_at_checked(1) {
                Some((":", only)) => other == author || only.contains(letter(other)),
                Some(("-", but)) => !but.contains(letter(other)),
                _ => true,
            };
            let header =
                header(number as u64, AuthorityIndex::from_usize(author).0, self.ancestors(author, named), 0);
            row[author] = Some(header.reference());
            self.dag.insert(header);
        }
        self.rounds.push(row);
        self
    }

    /// Own latest block first, then the named ones of the round before.
    fn ancestors(&self, author: usize, named: impl Fn(usize) -> bool) -> Vec<BlockRef> {
        let own =
            self.rounds.iter().rev().find_map(|row| row[author]).unwrap_or_else(|| unreachable!("genesis"));
        let last = &self.rounds[self.rounds.len() - 1];
        let others =
            (0..last.len()).filter(|other| *other != author && named(*other)).filter_map(|other| last[other]);
        std::iter::once(own).chain(others).collect()
    }

    /// `count` rounds in which everybody of `authors` names everybody.
    pub(crate) fn full(&mut self, authors: &str, count: usize) -> &mut Self {
        let drawn: Vec<String> = authors.chars().map(String::from).collect();
        for _ in 0..count {
            self.round(&drawn.join(" "));
        }
        self
    }
}

fn index(author: char) -> usize {
    (author as usize) - ('A' as usize)
}

fn letter(author: usize) -> char {
    char::from(b'A' + u8::try_from(author).unwrap_or(0))
}
