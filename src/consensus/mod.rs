//! The order: which leaders are committed, and which blocks each of them carries.
//!
//! Mysticeti's commit rule (arXiv 2310.14821) over an uncertified DAG: a block of round r+1 votes for the leader block
//! of round r that it has as ancestor, a block of r+2 whose ancestors hold a quorum of such votes is a certificate.

mod committer;
mod linearizer;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod reference;
mod schedule;
#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod tests;

pub use committer::{Committer, Decision, Slot};
pub use linearizer::{Commit, CommitDecodeError, Linearizer};
pub use schedule::LeaderSchedule;
