//! The commands. Each has its own file, with its arguments, its help and what it does.
//!
//! Exit codes: 0 done, and what was checked holds; 1 what was checked does not hold; 2 the command could not do its work:
//! arguments, configuration, files, network; 3 a validator halted. Errors go to standard error as `error: …`, a second
//! line says what to do.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "commands read and write the files that they are given, and look at the clock"
)]

pub mod anchor;
pub mod bench;
pub mod demo;
mod desk;
mod error;
mod files;
pub mod genesis;
pub mod hash;
pub mod keygen;
pub mod load;
pub mod log;
pub mod network;
pub mod node;
mod node_client;
pub mod org_key;
mod progress;
pub mod proof;
mod signals;
mod signer_state;
pub mod submit;
pub mod verify;
mod version;

pub use error::CliError;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A tamper-evident health ledger that a region's members run together.
#[derive(Debug, Parser)]
#[command(
    name = "salus",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Exit codes: 0 done; 1 what was checked does not hold; 2 the command could not do its work.\n\
                  `salus COMMAND --help` shows arguments and examples."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Anchor files as they are: hash them, put them on the ledger in batches, and keep a proof of each
    Anchor(Box<anchor::AnchorArgs>),
    /// Measure what this machine verifies, hashes, logs and makes final
    Bench(bench::BenchArgs),
    /// Run a network of validators here, make a hospital's day final on it, and prove a record
    Demo(demo::DemoArgs),
    /// Make or show a genesis file: what all validators of a network agree on before the first block
    Genesis(genesis::GenesisArgs),
    /// Hash files and folders on all cores, into a manifest
    Hash(hash::HashArgs),
    /// Make the keys of a validator or of an organisation
    Keygen(keygen::KeygenArgs),
    /// Look at a validator's data folder: check every record and every checksum
    Log(log::LogArgs),
    /// Run a validator
    Node(node::NodeArgs),
    /// Fetch the proof that a transaction is final, and check it
    Proof(proof::ProofArgs),
    /// Anchor records or hand in signed transactions, and wait until they are final
    Submit(Box<submit::SubmitArgs>),
    /// Check a proof bundle, offline; exit code 1 if it does not hold
    Verify(verify::VerifyArgs),
    /// Print the version and the formats that this program reads and writes
    #[command(after_help = "EXAMPLES\n  salus version")]
    Version,
}

/// Runs the command that the arguments of the process name.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}

fn execute(command: Command, out: &mut dyn std::io::Write) -> Result<(), CliError> {
    match command {
        Command::Anchor(args) => anchor::run(&args, out),
        Command::Bench(args) => bench::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Genesis(args) => genesis::run(args, out),
        Command::Hash(args) => hash::run(&args, out),
        Command::Keygen(args) => keygen::run(&args, out),
        Command::Log(args) => log::run(&args, out),
        Command::Node(args) => node::run(&args, out),
        Command::Proof(args) => proof::run(&args, out),
        Command::Submit(args) => submit::run(&args, out),
        Command::Verify(args) => verify::run(&args, out),
        Command::Version => version::run(out),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for mut command in Cli::command().get_subcommands().cloned().collect::<Vec<_>>() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("EXAMPLES"), "{}", command.get_name());
        }
    }

    #[test]
    fn version_names_program_and_formats() {
        let mut out = Vec::new();
        execute(Command::Version, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(concat!("salus ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
        assert!(text.contains("genesis      salus-genesis/1"), "{text}");
    }
}
