//! Applies committed transactions, in order, to the state of the ledger.

mod directory;
mod outcome;
mod replay;

pub use directory::*;
pub use outcome::*;
pub use replay::*;
