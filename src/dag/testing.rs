//! Draws DAGs for tests: rounds of blocks by the names of their authors, A, B, C, …

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DagState, VerifiedHeader};
use crate::committee::{Authority, Committee};
use crate::types::{
    AuthorityIndex, BlockRef, Epoch, HEADER_VERSION, Header, NetworkId, Payload, Round, SIGNATURE_BYTES,
    SignedHeader, Stake, SystemMessage, TimestampMs,
};

/// A committee of `n` with stake 1 each.
pub(crate) fn committee(n: usize) -> Arc<Committee> {
    weighted(&vec![1; n])
}

/// A committee with these stakes.
pub(crate) fn weighted(stakes: &[u64]) -> Arc<Committee> {
    let authority = |(i, stake): (usize, &u64)| {
        let key = |use_: u8| [use_; 32].map(|b| b.wrapping_add(u8::try_from(i).unwrap_or(0)));
        Authority {
            name: format!("v{i}"),
            stake: Stake(*stake),
            address: format!("127.0.0.1:{}", 1_000 + i),
            network_key: key(1),
            consensus_key: key(2),
            cosign_key: key(3),
            log_key: key(4),
        }
    };
    Arc::new(Committee::new(
        Epoch(0),
        NetworkId(*b"drawn-04"),
        stakes.iter().enumerate().map(authority).collect(),
    ))
}

/// A header with the given ancestors and no transactions. `salt` makes another block of the same slot.
pub(crate) fn header(round: u64, author: u16, ancestors: Vec<BlockRef>, salt: u64) -> VerifiedHeader {
    header_saying(round, author, ancestors, salt, Vec::new())
}

/// The same, with system messages.
pub(crate) fn header_saying(
    round: u64,
    author: u16,
    ancestors: Vec<BlockRef>,
    salt: u64,
    system: Vec<SystemMessage>,
) -> VerifiedHeader {
    let header = Header {
        version: HEADER_VERSION,
        epoch: Epoch(0),
        round: Round(round),
        author: AuthorityIndex(author),
        time: TimestampMs(round.saturating_mul(1_000).saturating_add(10 * u64::from(author) + salt)),
        ancestors,
        n_tx: 0,
        payload_len: 0,
        payload_root: Payload::empty().root(),
        system,
    };
    VerifiedHeader::trusted(SignedHeader::build(header, |_| [0; SIGNATURE_BYTES]))
}

/// A DAG that is drawn: `A1` is the block of author A in round 1, `A1'` a second one of the same slot.
///
/// Each line is a round, `r3: A B-C C:ABD D' …`; lines without a number follow each other. Each word is a block:
/// - `A` names all first blocks of the round before;
/// - `A:BC` names its own and those of B and C; `A:BC'` the second block of C;
/// - `A-CD` names all but those of C and D;
/// - `A'`, `A''` are more blocks of A; what follows is as above;
/// - `+B1` behind any of these adds a block of an older round, in the place of one of that author.
///
/// Authors that are not mentioned make no block. `#` begins a comment. A block always names an own block first: the latest,
/// or the one that is written (`A:A'BC`).
pub(crate) struct Drawing {
    pub(crate) dag: DagState,
    committee: Arc<Committee>,
    /// Of each round the blocks of each author; round 0 is genesis.
    rounds: Vec<Vec<Vec<BlockRef>>>,
    headers: Vec<VerifiedHeader>,
    text: String,
}

impl Drawing {
    pub(crate) fn new(n: usize) -> Self {
        Self::with_stakes(&vec![1; n])
    }

    pub(crate) fn with_stakes(stakes: &[u64]) -> Self {
        let committee = weighted(stakes);
        let genesis = committee.indices().map(|author| vec![committee.genesis_block(author)]).collect();
        Self {
            dag: DagState::new(Arc::clone(&committee), Round(0)),
            committee,
            rounds: vec![genesis],
            headers: Vec::new(),
            text: String::new(),
        }
    }

    pub(crate) fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// What was drawn.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// All blocks, in an order in which they can enter a DAG.
    pub(crate) fn headers(&self) -> &[VerifiedHeader] {
        &self.headers
    }

    /// A block by its name, such as `A1` or `C3'`.
    pub(crate) fn named(&self, name: &str) -> BlockRef {
        let primes = name.chars().rev().take_while(|c| *c == '\'').count();
        let author = name.chars().next().unwrap_or_else(|| panic!("a block has a name"));
        let round: usize =
            name[1..name.len() - primes].parse().unwrap_or_else(|_| panic!("{name:?} is no block"));
        let found = self.rounds.get(round).and_then(|row| row[index(author)].get(primes));
        found.copied().unwrap_or_else(|| self.missing(author, round, primes))
    }

    /// The name of a block of the drawing.
    pub(crate) fn name(&self, block: &BlockRef) -> String {
        let round = usize::try_from(block.round.0).unwrap_or(0);
        let slot = &self.rounds[round][block.author.as_usize()];
        let primes = slot.iter().position(|other| other == block).unwrap_or(0);
        format!("{}{round}{}", letter(block.author.as_usize()), "'".repeat(primes))
    }

    fn missing(&self, author: char, round: usize, primes: usize) -> BlockRef {
        panic!("{author}{round}{} was not drawn in\n{}", "'".repeat(primes), self.text)
    }

    /// Draws rounds, one on each line.
    pub(crate) fn draw(&mut self, lines: &str) -> &mut Self {
        for line in lines.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            let (number, words): (Option<usize>, &str) = match line.split_once(": ") {
                Some((round, words)) if round.starts_with('r') => (round[1..].parse().ok(), words),
                _ => (None, line),
            };
            if line.is_empty() {
                continue;
            }
            assert!(
                number.is_none_or(|number| number == self.rounds.len()),
                "{line:?} is not round {}",
                self.rounds.len()
            );
            self.round(words);
        }
        self
    }

    /// Draws one round.
    pub(crate) fn round(&mut self, drawn: &str) -> &mut Self {
        let number = self.rounds.len();
        self.text.push_str(&format!("r{number}: {drawn}\n"));
        let mut row = vec![Vec::new(); self.committee.size()];
        for word in drawn.split_whitespace() {
            let author = word.chars().next().map_or(0, index);
            let rest = word[1..].trim_start_matches('\'');
            let primes = word.len() - 1 - rest.len();
            let salt = u64::try_from(primes).unwrap_or(0);
            let ancestors = self.ancestors(author, rest);
            let by = AuthorityIndex::from_usize(author).0;
            let header = header(u64::try_from(number).unwrap_or(0), by, ancestors, salt);
            assert_eq!(row[author].len(), primes, "{word:?} is out of turn in {drawn:?}");
            row[author].push(header.reference());
            self.headers.push(header.clone());
            self.dag.insert(header);
        }
        self.rounds.push(row);
        self
    }

    /// Own block first, then the named ones of the round before and of older rounds, by author.
    fn ancestors(&self, author: usize, rest: &str) -> Vec<BlockRef> {
        let last = &self.rounds[self.rounds.len() - 1];
        let mut older = rest.split('+');
        let rest = older.next().unwrap_or("");
        let latest = self.rounds.iter().rev().find_map(|row| row[author].first());
        let mut named: BTreeMap<usize, BlockRef> = BTreeMap::new();
        let (mode, list) = rest.split_at_checked(1).unwrap_or(("", ""));
        if mode == ":" {
            for (other, primes) in letters(list) {
                let block = last[other].get(primes);
                named.insert(
                    other,
                    *block.unwrap_or_else(|| panic!("{rest:?} was not drawn in\n{}", self.text)),
                );
            }
        } else {
            let left_out: Vec<usize> = letters(list).into_iter().map(|(other, _)| other).collect();
            for (other, blocks) in last.iter().enumerate().filter(|(other, _)| !left_out.contains(other)) {
                named.extend(blocks.first().map(|block| (other, *block)));
            }
        }
        for name in older {
            let block = self.named(name);
            named.insert(block.author.as_usize(), block);
        }
        let own = named.remove(&author).or(latest.copied());
        own.into_iter().chain(named.into_values()).collect()
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

/// Authors of a list such as `AB'C`, each with the number of its primes.
fn letters(list: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for c in list.chars() {
        match (c, found.last_mut()) {
            ('\'', Some((_, primes))) => *primes += 1,
            _ => found.push((index(c), 0)),
        }
    }
    found
}

fn index(author: char) -> usize {
    (author as usize) - ('A' as usize)
}

pub(crate) fn letter(author: usize) -> char {
    char::from(b'A' + u8::try_from(author).unwrap_or(0))
}
