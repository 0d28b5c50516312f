#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::dag::testing::{committee, header_saying};
use crate::types::{AuthorityIndex, BlockDigest, TimestampMs};

fn block(round: u64, author: u16) -> BlockRef {
    BlockRef { round: Round(round), author: AuthorityIndex(author), digest: BlockDigest([7; 32]) }
}

fn voting(author: u16, round: u64, vote: CommitVote) -> SignedHeader {
    let system = vec![SystemMessage::CommitVote(vote)];
    SignedHeader::clone(&header_saying(round, author, vec![block(round - 1, author)], 0, system))
}

fn trusted(author: u16, round: u64, vote: CommitVote) -> VerifiedHeader {
    VerifiedHeader::trusted(voting(author, round, vote))
}

fn vote(index: u64, digest: u8) -> CommitVote {
    CommitVote { index: CommitIndex(index), digest: Digest([digest; 32]) }
}

/// Commits 1 to `last` of one block each.
fn commits(last: u64) -> Vec<Commit> {
    let mut previous = Digest::default();
    let commit = |i: u64| {
        let leader = block(i, 0);
        let commit =
            Commit { index: CommitIndex(i), leader, time: TimestampMs(i), previous, blocks: vec![leader] };
        previous = commit.digest();
        commit
    };
    (1..=last).map(commit).collect()
}

fn records(commits: &[Commit]) -> Vec<Bytes> {
    commits.iter().map(|commit| commit.encode().into()).collect()
}

fn vote_for(commit: &Commit) -> CommitVote {
    CommitVote { index: commit.index, digest: commit.digest() }
}

#[test]
fn only_a_quorum_of_equal_votes_for_what_was_decided_here_is_a_certificate() {
    let mut certificates = Certificates::new(&committee(4));
    assert!(certificates.collect(&trusted(0, 20, vote(9, 1))).is_none());
    assert!(certificates.collect(&trusted(1, 20, vote(9, 2))).is_none(), "another digest");
    assert!(certificates.collect(&trusted(2, 20, vote(9, 1))).is_none());
    assert!(certificates.collect(&trusted(2, 21, vote(9, 1))).is_none(), "one author counts once");
    assert!(certificates.decided(vote(9, 1)).is_none(), "two votes of four");
    assert!(certificates.collect(&trusted(3, 22, vote(8, 1))).is_none(), "another commit");
    let certificate = certificates.collect(&trusted(3, 23, vote(9, 1))).unwrap();
    assert_eq!(certificate.vote, vote(9, 1));
    let authors: Vec<u16> = certificate.headers.iter().map(|block| block.author.0).collect();
    assert_eq!(authors, [0, 2, 3]);
    assert!(certificates.collect(&trusted(1, 24, vote(9, 1))).is_none(), "it has one already");
    assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
    // Votes may come first, and are worth nothing until this validator has decided the same.
    for author in 0..4 {
        assert!(certificates.collect(&trusted(author, 30, vote(12, 5))).is_none());
    }
    assert!(certificates.decided(vote(12, 4)).is_none(), "others decided something else");
    assert!(certificates.decided(vote(12, 5)).is_some());
}

#[test]
fn votes_that_are_kept_are_few() {
    let mut certificates = Certificates::new(&committee(4));
    for i in 1..1_000 {
        certificates.decided(vote(i, 0));
        certificates.collect(&trusted(1, i + 1, vote(i, 1)));
    }
    assert!(certificates.open.len() <= REMEMBERED);
    assert!(certificates.votes.iter().all(|votes| votes.len() <= REMEMBERED));
}

#[test]
fn what_is_no_chain_or_has_no_quorum_is_refused() {
    let committee = committee(4);
    let chain = commits(6);
    let good = records(&chain);
    let last = vote_for(&chain[5]);
    let votes = |authors: &[u16], vote| -> Vec<SignedHeader> {
        authors.iter().map(|author| voting(*author, 20, vote)).collect()
    };
    let holds = |header: &SignedHeader| Ok(VerifiedHeader::trusted(header.clone()));
    let open = |commits: &[Bytes], certificate: &[SignedHeader]| {
        CertifiedCommits::open(&committee, commits, certificate, holds).map(|opened| opened.commits.len())
    };
    let quorum = votes(&[0, 1, 3], last);
    assert_eq!(open(&good, &quorum), Ok(6));
    assert_eq!(open(&good[3..], &quorum), Ok(3), "a chain may begin anywhere");
    assert_eq!(open(&[], &[]), Ok(0));
    let refused = |commits: &[Bytes], certificate: &[SignedHeader], why| {
        assert_eq!(open(commits, certificate), Err(PeerError::FalseCommits(why)));
    };
    refused(&good, &votes(&[0, 1], last), "without votes of a quorum");
    refused(&good, &[], "without votes of a quorum");
    for authors in [[0, 1, 1], [0, 1, 4], [0, 1, u16::MAX]] {
        let why = "with two votes of one validator, or one of none";
        refused(&good, &votes(&authors, last), why);
    }
    refused(&good, &votes(&[0, 1, 3], vote_for(&chain[4])), "with a vote for another commit");
    refused(&good[..5], &quorum, "with a vote for another commit");
    refused(
        &[good[0].clone(), good[2].clone()],
        &votes(&[0, 1, 3], vote_for(&chain[2])),
        "that are no chain",
    );
    refused(&[Bytes::from_static(b"nonsense")], &quorum, "that are none");
    // One in the middle is exchanged: the next one does not name it.
    let mut forged = chain.clone();
    forged[2].blocks.insert(0, block(1, 2));
    refused(&records(&forged), &quorum, "that are no chain");
    // The last one is: nobody voted for it.
    let mut forged = chain.clone();
    forged[5].time = TimestampMs(99);
    refused(&records(&forged), &quorum, "with a vote for another commit");
    let mut unsorted = chain.clone();
    unsorted[5].blocks.push(block(1, 0));
    refused(&records(&unsorted), &votes(&[0, 1, 3], vote_for(&unsorted[5])), "that are no chain");
    // Nothing is verified of what could be no certificate.
    let never = |_: &SignedHeader| panic!("a signature was looked at");
    assert!(CertifiedCommits::open(&committee, &good, &votes(&[0, 1], last), never).is_err());
    // A signature that does not hold is the verifier's to find, and its word is final.
    let fails = |header: &SignedHeader| Err(PeerError::BadHeaderSignature(header.reference()));
    let forged = CertifiedCommits::open(&committee, &good, &quorum, fails);
    assert!(matches!(forged, Err(PeerError::BadHeaderSignature(_))));
}

/// A log in memory.
#[derive(Default)]
struct Records(BTreeMap<LogKey, Bytes>);

impl Records {
    fn add(&mut self, record: &LogRecord) {
        self.0.insert(record.key().unwrap(), record.parts().concat().into());
    }

    fn serve(&self, after: u64) -> (Vec<Bytes>, Vec<SignedHeader>) {
        let in_rounds = |kind, from, to| {
            let key = |round: Round| LogKey::commit(kind, CommitIndex(round.0));
            Ok(self.0.range(key(from)..key(to)).map(|(key, _)| key.block).collect())
        };
        let answer =
            serve_commits(CommitIndex(after), in_rounds, |key| Ok::<_, ()>(self.0.get(&key).cloned()));
        let PeerMessage::Commits { commits, certificate } = answer.unwrap() else { panic!("no commits") };
        (commits, certificate)
    }
}

#[test]
fn the_log_gives_commits_up_to_a_certified_one_that_fits() {
    let chain = commits(2_000);
    let mut log = Records::default();
    for commit in &chain {
        log.add(&LogRecord::Commit(commit.index, commit.encode().into()));
    }
    assert!(log.serve(0).0.is_empty(), "nothing is certified");
    for index in [8, 16, 1_500] {
        let vote = vote_for(&chain[index - 1]);
        let headers: Vec<VerifiedHeader> = (0..3).map(|author| trusted(author, 30, vote)).collect();
        for header in &headers {
            log.add(&LogRecord::Header(header.clone()));
        }
        let headers = headers.iter().map(|header| header.reference()).collect();
        log.add(&LogRecord::Certificate(Certificate { vote, headers }));
    }
    for (after, last) in [(0, 16), (10, 16), (15, 16), (16, 16), (476, 1_500), (475, 475), (2_000, 2_000)] {
        let (commits, certificate) = log.serve(after);
        assert_eq!(after + commits.len() as u64, last, "after {after}");
        let holds = |header: &SignedHeader| Ok(VerifiedHeader::trusted(header.clone()));
        let opened = CertifiedCommits::open(&committee(4), &commits, &certificate, holds).unwrap();
        assert!(opened.commits().iter().all(|(commit, _)| chain.contains(commit)));
    }
    assert!(log.serve(u64::MAX).0.is_empty());
}

#[test]
fn large_commits_are_cut_at_an_earlier_certificate() {
    let mut log = Records::default();
    let mut previous = Digest::default();
    for index in 1..=10_u64 {
        // 5,000 references: five of these fit into an answer.
        let blocks: Vec<BlockRef> = (1..=5_000).map(|i| block(10_000 * index + i, 0)).collect();
        let leader = *blocks.last().unwrap();
        let commit = Commit { index: CommitIndex(index), leader, time: TimestampMs(1), previous, blocks };
        previous = commit.digest();
        log.add(&LogRecord::Commit(commit.index, commit.encode().into()));
        if index % 3 == 0 {
            let vote = vote_for(&commit);
            let header = trusted(0, 30, vote);
            log.add(&LogRecord::Header(header.clone()));
            log.add(&LogRecord::Certificate(Certificate { vote, headers: vec![header.reference()] }));
        }
    }
    assert_eq!(log.serve(0).0.len(), 3);
    assert_eq!(log.serve(3).0.len(), 3);
    assert!(log.serve(9).0.is_empty());
}
