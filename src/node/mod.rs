//! The deterministic machine that a validator is: `handle(now, Input, &mut Vec<Effect>)`.
//!
//! It owns no clock, no socket, no file and no thread. What it wants done leaves as [`Effect`]s; the answers come back
//! as [`Input`]s. The same inputs in the same order give the same effects, whoever drives it: `io` or `sim`.

mod certificates;
mod checkpoints;
mod commit_sync;
mod commits;
mod effect;
mod equivocations;
mod fetcher;
mod knowledge;
mod machine;
mod memory;
mod pace;
mod pacemaker;
mod payload_cap;
mod proposer;
mod recovery;
mod rejoin;
mod versions;

pub use certificates::{Certificate, CertifiedCommits};
pub use checkpoints::CertifiedHead;
pub use commits::STATE_AHEAD_MAX;
pub use effect::{Effect, Input, LogKey, LogRecord, RecordKind, Reply};
pub use fetcher::serve_from_log;
pub use machine::{Node, NodeConfig, NodeStats, Now};
pub use memory::memory_bytes_min;
pub use pace::{COMMIT_ROUNDS, Pace};
pub use proposer::OWN_BYTES_MAX;
pub use recovery::{ForeignState, RecoverError, Recovered};
