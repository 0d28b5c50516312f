//! A world for whole validators: network, disks, clocks, clients and faults, all from one seed, in virtual time.
//!
//! It runs the same machine that `io` drives, over the real log format on simulated disks, the real executor and the real
//! signature rule. The same seed gives the same run, to the hash of its trace. What is checked all along: no two validators
//! commit or execute differently, none makes two blocks of one round, nothing is executed twice, no honest validator is
//! blamed; and at the end: whatever a client was told is final is found on every validator, and everything that was submitted
//! becomes final once the faults stop.

pub mod byzantine;
mod checker;
mod client;
#[cfg(test)]
mod commit_sync_tests;
mod config;
mod effects;
mod event;
mod faults;
#[cfg(test)]
mod flood_tests;
mod host;
mod intercept;
pub mod linear;
mod load;
#[cfg(test)]
mod lost_log_tests;
mod mail;
mod network;
#[cfg(test)]
mod overload_tests;
mod probe;
mod random;
mod regions;
mod settle;
mod setup;
#[cfg(test)]
mod state_ahead_tests;
mod taken;
#[cfg(test)]
mod tests;
pub mod twins;
mod world;

pub use checker::{Report, Violation};
pub use config::{FaultKind, Faults, Services, SimConfig, Span};
pub use network::{NetworkConfig, Shape};
pub use world::{Observer, run, run_observed};
