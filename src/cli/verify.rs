//! `salus verify`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::hash::hash_file;
use super::{CliError, files, genesis};
use crate::proof::batch::FileFacts;
use crate::proof::bundle::{BUNDLE_BYTES_MAX, ShownMember, Verified, verify_bundle};

const EXAMPLES: &str = "\
EXAMPLES
  Check a proof, on any machine, without any network:
      salus verify record.proof --genesis genesis.json
  Check a file against the proof that `salus anchor` wrote of it:
      salus verify export.proofs/17-00003.proof --genesis genesis.json --file export/a.json

  Exit code 0: it holds. 1: it does not hold, or the file is another one. 2: a file cannot be read,
  or the proof shows none to compare it with.";

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
    /// File that has to be the one that the proof shows; its name does not matter
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
}

/// Prints in one line what holds and who signed, or fails with what does not hold.
pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let genesis = genesis::load(&args.genesis)?;
    let bytes = files::read(&args.bundle, BUNDLE_BYTES_MAX)?;
    let verified = verify_bundle(&bytes, &genesis).map_err(|error| {
        CliError::DoesNotHold(format!("{} does not hold: {error}", args.bundle.display()))
    })?;
    if let Some(file) = &args.file {
        compare(&verified, &args.bundle, file)?;
    }
    writeln!(out, "holds: {verified}")?;
    if let Some(file) = &args.file {
        writeln!(out, "holds: {} is that file", file.display())?;
    }
    Ok(())
}

/// Whether a file is the one that a bundle shows.
fn compare(verified: &Verified, bundle: &Path, path: &Path) -> Result<(), CliError> {
    let Some(ShownMember { file: shown, .. }) = verified.member else {
        return Err(CliError::unable_hint(
            format!("{} holds, but shows no file to compare {} with", bundle.display(), path.display()),
            "proofs of files are those that `salus anchor` writes",
        ));
    };
    let FileFacts { bytes, algorithm, hash } = shown;
    let found = hash_file(path, algorithm.into())?;
    let refuse = |why: String| {
        Err(CliError::DoesNotHold(format!("{} is not the file that was anchored: {why}", path.display())))
    };
    if found.bytes != bytes {
        return refuse(format!("it has {} bytes, the anchored one {bytes}", found.bytes));
    }
    if found.hash != hash {
        let (name, found, hash) = (algorithm.name(), hex::encode(found.hash), hex::encode(hash));
        return refuse(format!("its {name} is {found}, that of the anchored one {hash}"));
    }
    Ok(())
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
        let args = VerifyArgs {
            bundle: dir.path().join("record.proof"),
            genesis: dir.path().join("genesis.json"),
            file: None,
        };
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
