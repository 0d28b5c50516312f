//! Answers what peers ask for, from memory or from the log.
//!
//! Every request is answered, if only with no headers: a peer that hears nothing has to take this validator for dead, and one
//! that hears that there is nothing asks the next.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::certificates::serve_commits;
use super::super::effect::{Effect, LogKey, RecordKind};
use crate::dag::DagState;
use crate::limits::FETCH_ANSWER_BYTES_MAX;
use crate::types::{
    AuthorityIndex, BLOCK_REF_BYTES, BlockRef, FetchRequest, PeerMessage, Round, SignedHeader,
};

/// Headers of equivocators' chains that go along with those of one request.
const CHAIN_MAX: usize = 256;

/// Bytes of payloads that one request is answered with.
pub(super) const PAYLOAD_ANSWER_BYTES_MAX: usize = 8 << 20;

/// Answers a request from memory, or leaves it to the log. Own blocks that are held back, since they are not durable
/// yet, are not given away here either; the log gives nothing that is not durable.
///
/// Of an equivocator each validator may hold another chain. Who lacks one header is likely to lack what lies below it, as far as
/// own blocks left the chain out (`is_shunned`): so it gets up to [`CHAIN_MAX`] of these at once instead of one for each round trip.
pub(in super::super) fn serve(
    dag: &DagState,
    is_shunned: impl Fn(&BlockRef) -> bool,
    held_back: impl Fn(&BlockRef) -> bool,
    to: AuthorityIndex,
    request: FetchRequest,
    out: &mut Vec<Effect>,
) {
    let get = |block: &BlockRef| dag.get(block).filter(|_| !held_back(block));
    match request {
        FetchRequest::Headers(blocks) => {
            let (here, elsewhere): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|b| dag.get(b).is_some());
            let chains = with_chains(dag, is_shunned, &here);
            let headers = chains.iter().filter_map(get).map(|entry| SignedHeader::clone(&entry.header));
            if !here.is_empty() || elsewhere.is_empty() {
                answer_headers(to, headers, out);
            }
            if !elsewhere.is_empty() {
                out.push(Effect::ServeFromLog { to, request: FetchRequest::Headers(elsewhere) });
            }
        }
        FetchRequest::Payloads(blocks) => serve_payloads(dag, held_back, to, blocks, out),
        FetchRequest::Range { from, rounds } if from > dag.gc_round() => {
            let last = from.0.saturating_add(rounds).min(dag.highest_round().0 + 1);
            let blocks = (from.0..last).flat_map(|round| dag.round(Round(round)));
            let headers = blocks
                .filter(|(block, _)| !held_back(block))
                .map(|(_, entry)| SignedHeader::clone(&entry.header));
            answer_headers(to, headers, out);
        }
        FetchRequest::Range { .. } => out.push(Effect::ServeFromLog { to, request }),
        // The node answers that itself.
        FetchRequest::Latest { .. } => {}
        FetchRequest::Commits { .. } => out.push(Effect::ServeFromLog { to, request }),
    }
}

/// The blocks, and behind them the parts of their authors' chains that are shunned: later blocks first, since only what is known to be
/// missing may come beside another block of its slot.
fn with_chains(dag: &DagState, is_shunned: impl Fn(&BlockRef) -> bool, blocks: &[BlockRef]) -> Vec<BlockRef> {
    let mut all = blocks.to_vec();
    let mut seen: BTreeSet<BlockRef> = BTreeSet::new();
    let most = blocks.len() + CHAIN_MAX;
    for block in blocks {
        let mut tip = *block;
        while all.len() < most
            && let Some(entry) = dag.get(&tip)
            && let Some(own) = entry.header.header().ancestors.iter().find(|a| a.author == tip.author)
            && is_shunned(own)
            && seen.insert(*own)
        {
            tip = *own;
            if !blocks.contains(&tip) {
                all.push(tip);
            }
        }
    }
    all
}

fn serve_payloads(
    dag: &DagState,
    held_back: impl Fn(&BlockRef) -> bool,
    to: AuthorityIndex,
    blocks: Vec<BlockRef>,
    out: &mut Vec<Effect>,
) {
    let mut elsewhere = Vec::new();
    let mut bytes_sent = 0;
    for block in blocks.into_iter().filter(|block| !held_back(block)) {
        match dag.get(&block).and_then(|entry| entry.payload.as_ref()) {
            Some(payload) => {
                bytes_sent += payload.bytes().len();
                if bytes_sent > PAYLOAD_ANSWER_BYTES_MAX {
                    // The peer asks again for the rest.
                    break;
                }
                let message = PeerMessage::Payload { block, bytes: payload.bytes().clone() };
                out.push(Effect::Send { to, message });
            }
            None => elsewhere.push(block),
        }
    }
    if !elsewhere.is_empty() {
        out.push(Effect::ServeFromLog { to, request: FetchRequest::Payloads(elsewhere) });
    } else if bytes_sent == 0 {
        out.push(Effect::Send { to, message: PeerMessage::Headers(Vec::new()) });
    }
}

/// Sends headers up to the size of one answer.
fn answer_headers(to: AuthorityIndex, headers: impl Iterator<Item = SignedHeader>, out: &mut Vec<Effect>) {
    let mut bytes = 0;
    let answer: Vec<SignedHeader> = headers
        .take_while(|header| {
            bytes += 4 + header.bytes().len();
            bytes <= FETCH_ANSWER_BYTES_MAX
        })
        .collect();
    out.push(Effect::Send { to, message: PeerMessage::Headers(answer) });
}

/// Answers a request from the log: `in_rounds` lists the records of a kind of the rounds from the first up to and without the
/// second (see [`LogKey::commit`]), `read` gets a record's bytes. What is not there is left out. The answer is bounded as those from memory are.
///
/// # Errors
/// Those of `in_rounds` and `read`.
pub fn serve_from_log<E>(
    request: &FetchRequest,
    in_rounds: impl Fn(RecordKind, Round, Round) -> Result<Vec<BlockRef>, E>,
    read: impl Fn(LogKey) -> Result<Option<Bytes>, E>,
) -> Result<Vec<PeerMessage>, E> {
    let blocks = match request {
        FetchRequest::Headers(blocks) => blocks.clone(),
        FetchRequest::Range { from, rounds } => {
            in_rounds(RecordKind::Header, *from, Round(from.0.saturating_add(*rounds)))?
        }
        FetchRequest::Latest { .. } => return Ok(Vec::new()),
        FetchRequest::Commits { after } => return Ok(vec![serve_commits(*after, in_rounds, read)?]),
        FetchRequest::Payloads(blocks) => {
            let mut answers = Vec::new();
            let mut bytes_sent = 0;
            for block in blocks {
                let Some(record) = read(LogKey { kind: RecordKind::Payload, block: *block })? else {
                    continue;
                };
                bytes_sent += record.len();
                if bytes_sent > PAYLOAD_ANSWER_BYTES_MAX {
                    break;
                }
                answers.push(PeerMessage::Payload { block: *block, bytes: record.slice(BLOCK_REF_BYTES..) });
            }
            if answers.is_empty() {
                answers.push(PeerMessage::Headers(Vec::new()));
            }
            return Ok(answers);
        }
    };
    let mut headers = Vec::new();
    let mut bytes_sent = 0;
    for block in blocks {
        let Some(record) = read(LogKey { kind: RecordKind::Header, block })? else { continue };
        bytes_sent += 4 + record.len();
        if bytes_sent > FETCH_ANSWER_BYTES_MAX {
            break;
        }
        // The log's checksums hold, so it decodes; if it did not, the peer would ask another.
        headers.extend(SignedHeader::decode(record));
    }
    Ok(vec![PeerMessage::Headers(headers)])
}
