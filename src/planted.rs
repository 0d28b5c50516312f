//! Mistakes to be found: real ones, each switched on alone, so that what finds bugs is itself tested.
//!
//! Without the feature `planted` [`is`] is a constant `false` and every site below is compiled away. With it one bug at a
//! time is chosen for the whole process. `simulate planted` goes through the list and says who caught each.

/// One mistake. Each stands as a single `if` at the place where it would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// Every quorum is 2f: somebody forgot the one. Two quorums may then share nobody honest.
    QuorumOf2f = 1,
    /// One certificate commits a leader directly: "it has a quorum of votes behind it". A later anchor need not see it.
    CommitByOneCertificate,
    /// f + 1 blocks without a vote skip a slot: "somebody honest did not see it". Others did.
    SkipByFewer,
    /// f votes are a certificate: somebody took what is tolerated for what is needed. What is certified may be skipped elsewhere.
    CertificateByFewer,
    /// A vote for one block of an equivocation counts for the others of its slot: what is compared is the author.
    VoteForBoth,
    /// The anchor of a slot may be of the round of its certificates, r + 2, which need not be in its history.
    AnchorTooNear,
    /// A slot that is undecided does not hold up those after it.
    CommitUndecided,
    /// A block that follows the others over rounds in which this validator made none (A2 is left out). Leaders then find no
    /// quorum of votes, in the worst case for ever.
    RoundJump,
    /// Own blocks leave before they are durable. After a crash the validator makes another one of the same round.
    SendBeforeSync,
    /// After a restart the node goes on behind its first own block of the log, not its last.
    VoteLostOnRestart,
    /// Headers are taken whose ancestors of the round before are no quorum.
    ParentsUnchecked,
    /// Headers are taken that do not build on an own block of their author.
    OwnAncestorUnchecked,
    /// Headers of another epoch are taken: yesterday's committee still votes.
    StaleEpoch,
    /// Garbage is collected right below the last leader: blocks go that the next commit of others still holds.
    GcTooEarly,
    /// Blocks of a commit are ordered as they came, by their place in the own log.
    ArrivalOrder,
    /// Block time is that of the last leader's parents alone and may go back.
    TimeGoesBack,
    /// A commit is executed, and its clients hear *final*, before its payloads and the own blocks that decided it are durable.
    /// After a crash the state holds what the log does not, or the leader is skipped.
    ExecuteBeforeDurable,
    /// Replay windows are not stored: what was submitted at two validators is executed twice.
    ReplayWindowLost,
    /// Block time is that of the latest parent, which one liar can push ahead.
    TimeOfTheLast,
    /// A validator that lost its log signs again once the first peer has said what it made last. It may have signed more
    /// than that one knows of.
    RejoinAtOnce,
    /// Who is behind takes commits from whoever votes for them, however few that are.
    CertificateOfOne,
    /// No equation is multiplied by the cofactor. What has a part of small order is refused alone, and accepted in a batch
    /// whenever its random coefficient is a multiple of eight: validators disagree.
    BatchWithoutCofactor,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::QuorumOf2f,
        Self::CommitByOneCertificate,
        Self::SkipByFewer,
        Self::CertificateByFewer,
        Self::VoteForBoth,
        Self::AnchorTooNear,
        Self::CommitUndecided,
        Self::RoundJump,
        Self::SendBeforeSync,
        Self::VoteLostOnRestart,
        Self::ParentsUnchecked,
        Self::OwnAncestorUnchecked,
        Self::StaleEpoch,
        Self::GcTooEarly,
        Self::ArrivalOrder,
        Self::TimeGoesBack,
        Self::ExecuteBeforeDurable,
        Self::ReplayWindowLost,
        Self::TimeOfTheLast,
        Self::RejoinAtOnce,
        Self::CertificateOfOne,
        Self::BatchWithoutCofactor,
    ];
}

#[cfg(feature = "planted")]
static SELECTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches one bug on for the whole process, or all off.
#[cfg(feature = "planted")]
pub fn select(bug: Option<Bug>) {
    SELECTED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is switched on.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    SELECTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is switched on: never, without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}
