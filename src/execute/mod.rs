//! Applies committed transactions, in order, to the state of the ledger.
//!
//! [`Executor`] takes one commit after another and changes the [`Store`] once for each, or once for some that come together,
//! atomically: the new head, leaves, the authenticated state and what the Merkle log needs to go on, and now and then the indexes
//! and replay windows of thousands of leaves. What comes out is a
//! function of the genesis file and the commits alone. [`LedgerReader`] answers questions from other threads meanwhile.

mod directory;
mod executor;
mod ids;
mod leaves;
mod log_state;
mod outcome;
mod prepare;
mod query;
mod replay;
mod rules;
mod state;
mod store;
mod tables;
mod trie;
mod windows;

#[cfg(test)]
mod tests;

pub use directory::*;
pub use executor::Executor;
pub use log_state::StateTiles;
pub use outcome::*;
pub use query::*;
pub use replay::*;
pub use state::*;
pub use store::{Batch, Files, MemSnapshot, MemStore, Pair, Read, Store};
pub use tables::LEAF as LEAVES_TABLE;
pub use trie::{EMPTY_ROOT, Shown, StateProof, Terminal};
