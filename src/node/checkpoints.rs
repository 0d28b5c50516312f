//! Checkpoints: every validator signs the heads that committed history marks, and a quorum of signatures certifies one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::effect::Effect;
use super::machine::Now;
use crate::committee::{Committee, StakeSum};
use crate::crypto::SecretKey;
use crate::dag::VerifiedHeader;
use crate::execute::{Executed, LedgerHead};
use crate::proof::checkpoint::{CertifiedCheckpoint, Checkpoint, Cosignature};
use crate::proof::note::cosign;
use crate::types::{AuthorityIndex, CheckpointVote, CommitIndex, Digest, NodeHash};

/// Votes that are kept of each validator. A validator that claims nonsense crowds out nothing but its own.
const VOTES_PER_AUTHORITY_MAX: usize = 16;
/// Own heads that wait for votes.
const OWN_HEADS_MAX: usize = 64;
/// Own votes that wait for a header. Older ones give way: a later checkpoint covers all that an earlier one does.
const OWN_VOTES_MAX: usize = 4;

/// A head that a quorum signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedHead {
    /// The checkpoint with its cosignatures; the log's own signature is for the publisher to add.
    pub certified: CertifiedCheckpoint,
    /// Last commit in it.
    pub commit: CommitIndex,
    /// Root of the authenticated state.
    pub state_root: Digest,
}

/// What a vote is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    tree_size: u64,
    root: NodeHash,
    state_root: Digest,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Checkpoints {
    committee: Arc<Committee>,
    origin: String,
    own: AuthorityIndex,
    /// Own heads that are not certified.
    heads: BTreeMap<CommitIndex, Claim>,
    /// For each validator its latest votes, oldest first, with verified cosignatures.
    votes: Vec<VecDeque<CheckpointVote>>,
    /// Own heads that are not voted for in a header yet.
    unvoted: VecDeque<LedgerHead>,
    certified: CommitIndex,
    divergence: Option<String>,
    /// Whether votes of the log have not been counted yet.
    unsettled: bool,
}

impl Checkpoints {
    pub(super) fn new(committee: &Arc<Committee>, origin: String, own: AuthorityIndex) -> Self {
        Self {
            committee: Arc::clone(committee),
            origin,
            own,
            heads: BTreeMap::new(),
            votes: vec![VecDeque::new(); committee.size()],
            unvoted: VecDeque::new(),
            certified: CommitIndex(0),
            divergence: None,
            unsettled: false,
        }
    }

    /// Goes on after a restart: the last checkpoint is signed again, since it may not have been certified before.
    pub(super) fn resume(&mut self, checkpoint: &LedgerHead) {
        if checkpoint.commit > CommitIndex(0) {
            self.certified = CommitIndex(checkpoint.commit.0 - 1);
            self.add_head(checkpoint);
        }
        self.unsettled = true;
    }

    /// Counts the votes that the log held, once after a restart.
    pub(super) fn settle(&mut self, out: &mut Vec<Effect>) {
        if std::mem::take(&mut self.unsettled) {
            for commit in self.heads.keys().copied().collect::<Vec<_>>() {
                self.certify(commit, out);
            }
        }
    }

    fn add_head(&mut self, head: &LedgerHead) {
        let claim = Claim { tree_size: head.tree_size, root: head.root, state_root: head.state_root };
        self.heads.insert(head.commit, claim);
        if self.heads.len() > OWN_HEADS_MAX {
            self.heads.pop_first();
        }
        if self.unvoted.len() == OWN_VOTES_MAX {
            self.unvoted.pop_front();
        }
        self.unvoted.push_back(*head);
    }

    /// Whether an own vote waits for a header.
    pub(super) fn has_own_vote(&self) -> bool {
        !self.unvoted.is_empty()
    }

    /// The vote for the next own header, signed now.
    pub(super) fn take_own_vote(&mut self, now: Now, key: &SecretKey) -> Option<CheckpointVote> {
        let head = self.unvoted.pop_front()?;
        let cosigned_at = now.wall.0 / 1_000;
        let claim = Claim { tree_size: head.tree_size, root: head.root, state_root: head.state_root };
        Some(CheckpointVote {
            tree_size: head.tree_size,
            root: head.root,
            state_root: head.state_root,
            commit: head.commit,
            cosigned_at,
            cosignature: cosign(key, &self.text(&claim).text(), cosigned_at),
        })
    }

    /// Why this node has to stop, if it has: a quorum signed another state than its own.
    pub(super) fn divergence(&mut self) -> Option<String> {
        self.divergence.take()
    }

    /// A commit was executed: its head is voted for if it is a checkpoint.
    pub(super) fn executed(&mut self, executed: &Executed, out: &mut Vec<Effect>) {
        let head = &executed.head;
        if executed.checkpoint_due && head.commit > self.certified {
            self.add_head(head);
            self.certify(head.commit, out);
        }
    }

    /// Takes the votes that a header carries.
    pub(super) fn collect_votes(&mut self, header: &VerifiedHeader, out: &mut Vec<Effect>) {
        if let Some(commit) = self.keep_votes(header) {
            self.certify(commit, out);
        }
    }

    /// Keeps the vote of a header, if its cosignature holds; returns what it is for.
    pub(super) fn keep_votes(&mut self, header: &VerifiedHeader) -> Option<CommitIndex> {
        let author = header.header().author;
        if let Some(vote) = header.checkpoint_vote(&self.committee)
            && vote.commit > self.certified
        {
            let votes = &mut self.votes[author.as_usize()];
            if votes.len() == VOTES_PER_AUTHORITY_MAX {
                votes.pop_front();
            }
            votes.push_back(vote.clone());
            return Some(vote.commit);
        }
        None
    }

    fn certify(&mut self, commit: CommitIndex, out: &mut Vec<Effect>) {
        let Some(own) = self.heads.get(&commit).copied() else { return };
        let mut agree = StakeSum::new();
        let mut differ: BTreeMap<Claim, StakeSum> = BTreeMap::new();
        let mut cosignatures = BTreeMap::new();
        for (author, vote) in self.votes_on(commit) {
            let claim = claim_of(vote);
            if claim == own {
                agree.add(&self.committee, author);
                let cosignature = Cosignature { time_s: vote.cosigned_at, signature: vote.cosignature };
                cosignatures.insert(author, cosignature);
            } else {
                let sum = differ.entry(claim).or_default();
                sum.add(&self.committee, author);
            }
        }
        let threshold = self.committee.thresholds().checkpoint;
        if let Some((other, _)) = differ.iter().find(|(_, sum)| sum.reaches(threshold)) {
            self.divergence = Some(self.explain(commit, &own, other));
        } else if agree.reaches(threshold) {
            self.certified = commit;
            self.heads = self.heads.split_off(&CommitIndex(commit.0 + 1));
            out.push(Effect::Publish(Box::new(CertifiedHead {
                certified: CertifiedCheckpoint {
                    checkpoint: self.text(&own),
                    cosignatures,
                    log_signature: None,
                },
                commit,
                state_root: own.state_root,
            })));
        }
    }

    /// The first vote of each validator on a commit.
    fn votes_on(&self, commit: CommitIndex) -> impl Iterator<Item = (AuthorityIndex, &CheckpointVote)> {
        self.committee.indices().filter_map(move |author| {
            let vote = self.votes[author.as_usize()].iter().find(|vote| vote.commit == commit)?;
            Some((author, vote))
        })
    }

    fn explain(&self, commit: CommitIndex, own: &Claim, other: &Claim) -> String {
        format!(
            "commit {commit}: a quorum signed tree size {} root {} state {}, this validator {} has {} {} {}: its \
             memory, its disk or this program is at fault; keep the data folder for analysis; this \
             validator must not sign again before that is known",
            other.tree_size, other.root, other.state_root, self.own, own.tree_size, own.root, own.state_root
        )
    }

    fn text(&self, claim: &Claim) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: claim.tree_size, root: claim.root }
    }
}

fn claim_of(vote: &CheckpointVote) -> Claim {
    Claim { tree_size: vote.tree_size, root: vote.root, state_root: vote.state_root }
}
