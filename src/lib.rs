//! Salus.

pub mod codec;
pub mod committee;
pub mod crypto;
pub mod error;
pub mod execute;
pub mod genesis;
pub mod ingress;
pub mod io;
pub mod limits;
pub mod proof;
pub mod types;
pub mod verify;
