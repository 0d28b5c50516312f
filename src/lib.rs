//! Salus.

pub mod cli;
pub mod codec;
pub mod committee;
pub mod config;
pub mod crypto;
pub mod error;
pub mod execute;
pub mod gateway;
pub mod genesis;
pub mod io;
pub mod limits;
pub mod proof;
pub mod serve;
pub mod types;
