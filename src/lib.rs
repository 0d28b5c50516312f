//! Salus.

pub mod cli;
pub mod codec;
pub mod committee;
pub mod config;
pub mod consensus;
pub mod crypto;
pub mod dag;
pub mod error;
pub mod execute;
pub mod gateway;
pub mod genesis;
pub mod ingress;
pub mod io;
pub mod limits;
pub mod log;
pub mod mempool;
pub mod node;
pub mod proof;
pub mod serve;
pub mod sim;
pub mod types;
pub mod verify;
