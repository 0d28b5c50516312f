//! Applies committed transactions, in order, to the state of the ledger.

mod outcome;

pub use outcome::*;
