//! The DAG of block headers: which blocks are here, which wait for an ancestor, which have their payload.

mod block_manager;
#[cfg(test)]
pub(crate) mod random_testing;
mod row;
mod rules;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use block_manager::{Admission, BlockManager, ManagerLimits};
pub use rules::VerifiedHeader;
pub use state::{DagBlock, DagState, payload_held_bytes};
