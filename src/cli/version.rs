//! `salus version`.

use std::io::Write;

use super::CliError;
use super::hash::MANIFEST_FORMAT;
use crate::genesis::GENESIS_FORMAT;
use crate::types::{Rules, STUB_VERSION, TRANSACTION_VERSION};

/// Prints version and formats.
pub(super) fn run(out: &mut dyn Write) -> Result<(), CliError> {
    writeln!(out, "salus {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  genesis      {GENESIS_FORMAT}")?;
    writeln!(out, "  transaction  {TRANSACTION_VERSION}")?;
    writeln!(out, "  log leaf     {STUB_VERSION}")?;
    writeln!(out, "  rules        {} to {}", Rules::default(), Rules::NEWEST)?;
    writeln!(out, "  manifest     {MANIFEST_FORMAT}")?;
    Ok(())
}
