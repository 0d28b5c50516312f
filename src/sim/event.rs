//! What can happen in a simulated world.

use std::sync::Arc;

use super::linear::Ask;
use super::mail::Letter;
use crate::error::ClientError;
use crate::execute::{Executed, SubDag, Verdict};
use crate::node::Reply;
use crate::types::{BlockRef, LeafIndex};

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    Deliver { from: usize, to: usize, letter: Arc<Letter> },
    PeerUp { host: usize, life: u64, peer: usize },
    PeerDown { host: usize, life: u64, peer: usize },
    Tick { host: usize, life: u64 },
    Sync { host: usize, life: u64 },
    Verified { host: usize, life: u64, block: BlockRef, verdicts: Arc<[Verdict]> },
    Execute { host: usize, life: u64, dag: Box<SubDag> },
    Executed { host: usize, life: u64, executed: Box<Executed> },
    Submit { client: usize, request: u64, host: usize },
    Reply { client: usize, request: u64, reply: Answer },
    Load { client: usize },
    Session { caller: usize },
    Read { caller: usize, ask: Ask, host: usize },
    Fault,
    Start { host: usize },
    Upgrade { host: usize },
    Persist { host: usize, life: u64 },
}

impl Event {
    /// What a trace says of it; nothing of what says little.
    pub(super) fn describe(&self) -> Option<String> {
        Some(match self {
            Self::Deliver { from, to, letter } => format!("{from} -> {to}  {}", letter.describe()),
            Self::PeerUp { host, peer, .. } => format!("{host} connected to {peer}"),
            Self::PeerDown { host, peer, .. } => format!("{host} lost {peer}"),
            Self::Verified { host, block, .. } => format!("{host} verified {block}"),
            Self::Execute { host, dag, .. } => format!("{host} executes commit {}", dag.index),
            Self::Submit { client, request, host } => format!("client {client} submits {request} to {host}"),
            Self::Reply { client, request, reply } => {
                format!("client {client} hears of {request}: {reply:?}")
            }
            Self::Read { caller, ask, host } => format!("caller {caller} asks {host}: {ask:?}"),
            Self::Upgrade { host } => format!("{host} is upgraded"),
            Self::Tick { .. }
            | Self::Sync { .. }
            | Self::Executed { .. }
            | Self::Load { .. }
            | Self::Session { .. }
            | Self::Fault
            | Self::Start { .. }
            | Self::Persist { .. } => return None,
        })
    }
}

/// What a client hears.
#[derive(Debug)]
pub(super) enum Answer {
    Node(Reply),
    Refused(ClientError),
    /// Refused as replayed, and found executed.
    Known(LeafIndex),
}

pub(super) struct Scheduled {
    pub(super) at_us: u64,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}
