//! `salus verify`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, files, genesis};
use crate::proof::bundle::{BUNDLE_BYTES_MAX, verify_bundle};

const EXAMPLES: &str = "\
EXAMPLES
  Check a proof, on any machine, without any network:
      salus verify record.proof --genesis genesis.json

  Exit code 0: it holds. 1: it does not hold. 2: a file cannot be read.";

/// Check a proof bundle against the genesis file alone.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Proof bundle, as `salus proof` writes it
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Genesis file of the network, from a source that you trust: it names the validators whose signatures count
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
}

/// Prints in one line what holds and who signed, or fails with what does not hold.
pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let genesis = genesis::load(&args.genesis)?;
    let bytes = files::read(&args.bundle, BUNDLE_BYTES_MAX)?;
    match verify_bundle(&bytes, &genesis) {
        Ok(verified) => Ok(writeln!(out, "holds: {verified}")?),
        Err(error) => Err(CliError::DoesNotHold(format!("{} does not hold: {error}", args.bundle.display()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::ExitCode;

    use super::*;
    use crate::crypto::SecretKey;
    use crate::genesis::{
        GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry,
    };

    fn genesis_file() -> Vec<u8> {
        let key = |seed| HexKey(SecretKey::from_seed(&[seed; 32]).public());
        let validator = ValidatorEntry {
            name: "v0".to_owned(),
            stake: 1,
            address: "127.0.0.1:7100".to_owned(),
            network_key: key(1),
            consensus_key: key(2),
            cosign_key: key(3),
            log_key: key(4),
        };
        let (name, root_key) = ("Clinic".to_owned(), key(5));
        let member = MemberEntry { org: 1, kind: 1, name, region: 0, root_key, governs: true };
        let file = GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "test".to_owned(),
            created_ms: 0,
            parameters: Parameters { leaders_per_round: 1, ..Parameters::default() },
            validators: vec![validator],
            members: vec![member],
        };
        Genesis::encode(&file).unwrap()
    }

    #[test]
    fn what_does_not_hold_and_what_cannot_be_read_have_different_exit_codes() {
        let dir = tempfile::tempdir().unwrap();
        let args =
            VerifyArgs { bundle: dir.path().join("record.proof"), genesis: dir.path().join("genesis.json") };
        let mut out = Vec::new();
        let mut refused = || {
            let error = run(&args, &mut out).unwrap_err();
            let code = if error.exit_code() == ExitCode::from(1) { 1 } else { 2 };
            (code, error.to_string().replace(&dir.path().display().to_string(), "DIR"))
        };
        let (code, text) = refused();
        assert!(code == 2 && text.starts_with("error: cannot read DIR/genesis.json: "), "{text}");
        std::fs::write(&args.genesis, b"{}").unwrap();
        let (code, text) = refused();
        assert!(code == 2 && text.starts_with("error: DIR/genesis.json: genesis: missing field"), "{text}");
        std::fs::write(&args.genesis, genesis_file()).unwrap();
        let (code, text) = refused();
        assert!(code == 2 && text.starts_with("error: cannot read DIR/record.proof: "), "{text}");
        std::fs::write(&args.bundle, b"{\"format\":\"other\"}").unwrap();
        let (code, text) = refused();
        assert!(code == 1 && text.starts_with("error: DIR/record.proof does not hold: "), "{text}");
        assert!(out.is_empty());
    }
}
