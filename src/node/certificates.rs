//! Commit certificates: how a validator collects and keeps them, and what others send it is worth.
//!
//! Signed headers of a quorum that hold the same [`CommitVote`] certify a commit, and by the chain of digests every one before
//! it. A validator writes down whose headers these are for commits that it has decided itself with that digest. So whoever is
//! far behind can be given its commits, with proof.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{LogKey, LogRecord, RecordKind};
use super::machine::Node;
use crate::codec::{DecodeError, Reader, Writer};
use crate::committee::{AuthoritySet, Committee, StakeSum};
use crate::consensus::Commit;
use crate::dag::VerifiedHeader;
use crate::error::PeerError;
use crate::limits::{ANCESTORS_MAX, CERTIFICATE_BYTES_MAX, FETCH_ANSWER_BYTES_MAX, FETCH_COMMITS_MAX};
use crate::node::Effect;
use crate::planted::{self, Bug};
use crate::types::{
    BLOCK_REF_BYTES, BlockRef, CommitIndex, CommitVote, Digest, Header, PeerMessage, Round, SignedHeader,
    SystemMessage, put_block_ref, read_block_ref,
};

/// Votes of each author, and own boundaries, that are remembered: the latest. A vote comes a few rounds after its commit.
const REMEMBERED: usize = 8;

/// Whose headers certify a commit. The headers themselves are records of the same log.
///
/// Layout as a log record: `index8 digest32 n2 {block42}*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What the headers say.
    pub vote: CommitVote,
    /// The headers, one for each author.
    pub headers: Vec<BlockRef>,
}

impl Certificate {
    /// The log record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(42 + BLOCK_REF_BYTES * self.headers.len());
        out.put_u64(self.vote.index.0);
        out.put_bytes(&self.vote.digest.0);
        out.put_len_u16(self.headers.len());
        for header in &self.headers {
            put_block_ref(&mut out, header);
        }
        out
    }

    /// Decodes a log record.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let index = CommitIndex(r.u64("certificate index")?);
        let digest = Digest(r.array("certificate digest")?);
        let n = r.bounded_u16("certificate headers", ANCESTORS_MAX)?;
        let headers = (0..n).map(|_| read_block_ref(&mut r)).collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { vote: CommitVote { index, digest }, headers })
    }
}

/// The latest votes, by author, and the latest boundaries that this validator decided.
#[derive(Debug)]
pub(super) struct Certificates {
    committee: Arc<Committee>,
    votes: Vec<VecDeque<(CommitVote, BlockRef)>>,
    /// Boundaries that have no certificate yet.
    open: VecDeque<CommitVote>,
}

impl Certificates {
    pub(super) fn new(committee: &Arc<Committee>) -> Self {
        Self {
            votes: vec![VecDeque::new(); committee.size()],
            open: VecDeque::new(),
            committee: Arc::clone(committee),
        }
    }

    /// This validator decided a boundary.
    pub(super) fn decided(&mut self, own: CommitVote) -> Option<Certificate> {
        push_bounded(&mut self.open, own);
        self.certify(own)
    }

    /// A header entered the DAG.
    pub(super) fn collect(&mut self, header: &VerifiedHeader) -> Option<Certificate> {
        let vote = vote_of(header.header())?;
        push_bounded(&mut self.votes[header.header().author.as_usize()], (vote, header.reference()));
        self.certify(vote)
    }

    fn certify(&mut self, vote: CommitVote) -> Option<Certificate> {
        let at = self.open.iter().position(|own| *own == vote)?;
        let mut sum = StakeSum::new();
        let mut headers = Vec::new();
        for author in self.committee.indices() {
            let of_author = self.votes[author.as_usize()].iter().find(|(said, _)| *said == vote);
            let Some((_, block)) = of_author else { continue };
            sum.add(&self.committee, author);
            headers.push(*block);
            if sum.reaches(self.committee.thresholds().certificate) {
                self.open.remove(at);
                return Some(Certificate { vote, headers });
            }
        }
        None
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The commit that a header votes for.
fn vote_of(header: &Header) -> Option<CommitVote> {
    header.system.iter().find_map(|message| match message {
        SystemMessage::CommitVote(vote) => Some(*vote),
        SystemMessage::CheckpointVote(_) | SystemMessage::Evidence(_) => None,
    })
}

impl Node {
    /// A certificate is complete: it is kept for validators that are behind.
    pub(super) fn keep_certificate(&mut self, certificate: Option<Certificate>, out: &mut Vec<Effect>) {
        let Some(certificate) = certificate else { return };
        self.stats.certificates += 1;
        self.append(LogRecord::Certificate(certificate), out);
    }
}

/// A chain of commits, the last of which a quorum voted for: there is no way to make one but by checking it.
#[derive(Debug, Default)]
pub struct CertifiedCommits {
    /// With their digests, ascending without gaps.
    commits: Vec<(Commit, Digest)>,
}

impl CertifiedCommits {
    /// Checks what a peer sent: that each commit follows from the one before, and that headers of a quorum of the
    /// stake hold a vote for the last one. `verify` checks a header's rules and signature.
    ///
    /// # Errors
    /// What is wrong with it: the peer lies, since an honest one has checked it itself.
    pub fn open(
        committee: &Committee,
        commits: &[Bytes],
        certificate: &[SignedHeader],
        mut verify: impl FnMut(&SignedHeader) -> Result<VerifiedHeader, PeerError>,
    ) -> Result<Self, PeerError> {
        let chain = chain(commits)?;
        let Some((last, digest)) = chain.last() else { return Ok(Self::default()) };
        let vote = CommitVote { index: last.index, digest: *digest };
        // The cheap part first: signatures are checked of what would be a certificate, and of no more.
        let mut authors = AuthoritySet::EMPTY;
        for header in certificate.iter().map(SignedHeader::header) {
            if vote_of(header) != Some(vote) {
                return Err(PeerError::FalseCommits("with a vote for another commit"));
            }
            if !committee.contains(header.author) || !authors.insert(header.author) {
                return Err(PeerError::FalseCommits("with two votes of one validator, or one of none"));
            }
        }
        if committee.stake_of(authors) < committee.thresholds().certificate
            && !planted::is(Bug::CertificateOfOne)
        {
            return Err(PeerError::FalseCommits("without votes of a quorum"));
        }
        for header in certificate {
            verify(header)?;
        }
        Ok(Self { commits: chain })
    }

    /// The commits with their digests, ascending without gaps.
    #[must_use]
    pub fn commits(&self) -> &[(Commit, Digest)] {
        &self.commits
    }
}

fn chain(records: &[Bytes]) -> Result<Vec<(Commit, Digest)>, PeerError> {
    let mut chain: Vec<(Commit, Digest)> = Vec::with_capacity(records.len());
    for record in records {
        let Ok(commit) = Commit::decode(record) else {
            return Err(PeerError::FalseCommits("that are none"));
        };
        let follows = chain.last().is_none_or(|(before, digest)| {
            before.index.0.checked_add(1) == Some(commit.index.0) && commit.previous == *digest
        });
        let is_whole =
            commit.blocks.last() == Some(&commit.leader) && commit.blocks.is_sorted_by(|a, b| a < b);
        if !follows || !is_whole {
            return Err(PeerError::FalseCommits("that are no chain"));
        }
        let digest = commit.digest();
        chain.push((commit, digest));
    }
    Ok(chain)
}

/// Answers a request for commits from the log: those behind `after`, up to the latest certified one that one answer has room
/// for. `in_rounds` and `read` are those of [`super::serve_from_log`].
pub(super) fn serve_commits<E>(
    after: CommitIndex,
    in_rounds: impl Fn(RecordKind, Round, Round) -> Result<Vec<BlockRef>, E>,
    read: impl Fn(LogKey) -> Result<Option<Bytes>, E>,
) -> Result<PeerMessage, E> {
    let first = after.0.saturating_add(1);
    let end = first.saturating_add(FETCH_COMMITS_MAX as u64);
    let certified = in_rounds(RecordKind::Certificate, Round(first), Round(end))?;
    let last = certified.last().map_or(after.0, |block| block.round.0);
    let mut commits = Vec::new();
    let mut bytes = 2;
    for index in first..=last {
        let Some(record) = read(LogKey::commit(RecordKind::Commit, CommitIndex(index)))? else { break };
        bytes += 4 + record.len();
        if bytes > FETCH_ANSWER_BYTES_MAX {
            break;
        }
        commits.push(record);
    }
    let reached = after.0 + commits.len() as u64;
    for index in certified.iter().rev().map(|block| block.round.0).skip_while(|index| *index > reached) {
        let Some(record) = read(LogKey::commit(RecordKind::Certificate, CommitIndex(index)))? else {
            continue;
        };
        let Ok(named) = Certificate::decode(&record) else { continue };
        let mut certificate = Vec::new();
        let mut bytes = 0;
        for block in &named.headers {
            let Some(record) = read(LogKey { kind: RecordKind::Header, block: *block })? else { break };
            bytes += 4 + record.len();
            certificate.extend(SignedHeader::decode(record));
        }
        if certificate.len() == named.headers.len() && bytes <= CERTIFICATE_BYTES_MAX {
            commits.truncate(usize::try_from(index - after.0).unwrap_or(0));
            return Ok(PeerMessage::Commits { commits, certificate });
        }
    }
    Ok(PeerMessage::Commits { commits: Vec::new(), certificate: Vec::new() })
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
