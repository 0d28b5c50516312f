//! `salus keygen`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::genesis::{PUBLIC_KEYS_FILE, PublicKeys};
use super::{CliError, files, org_key};
use crate::crypto::SecretKey;
use crate::genesis::HexKey;
use crate::io::keys::NodeKeys;

const EXAMPLES: &str = "\
EXAMPLES
  The keys of a validator: four secret files of mode 0600 and public.json, which goes to whoever
  makes the genesis file:
      salus keygen --dir north/keys
  The root key of an organisation: north/root.key is secret, north/root.pub is public:
      salus keygen --organisation north/root";

/// Make keys. Existing keys are never overwritten.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
#[group(required = true, multiple = false)]
pub struct KeygenArgs {
    /// Make a validator's four keys in this folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Make one key of an organisation, PATH.key and PATH.pub
    #[arg(long, value_name = "PATH")]
    pub organisation: Option<PathBuf>,
}

pub(super) fn run(args: &KeygenArgs, out: &mut dyn Write) -> Result<(), CliError> {
    if let Some(dir) = &args.dir {
        validator(dir, out)?;
    }
    if let Some(path) = &args.organisation {
        organisation(path, out)?;
    }
    Ok(())
}

fn validator(dir: &Path, out: &mut dyn Write) -> Result<(), CliError> {
    let keys = NodeKeys::create(dir).map_err(|error| {
        CliError::unable_hint(error.to_string(), "keys are never overwritten: choose a new folder")
    })?;
    let public = PublicKeys {
        network_key: HexKey(keys.network.public()),
        consensus_key: HexKey(keys.consensus.public()),
        cosign_key: HexKey(keys.cosign.public()),
        log_key: HexKey(keys.log.public()),
    };
    let text = public.encode().map_err(|error| CliError::unable(error.to_string()))?;
    let path = dir.join(PUBLIC_KEYS_FILE);
    // Not a secret, and made from the keys beside it: one that is left from before is worth nothing.
    files::write_new(&path, text.as_bytes(), true)?;
    writeln!(out, "four secret keys written to {}", dir.display())?;
    writeln!(out, "send {} to whoever makes the genesis file", path.display())?;
    Ok(())
}

fn organisation(path: &Path, out: &mut dyn Write) -> Result<(), CliError> {
    let key = SecretKey::generate()
        .map_err(|error| CliError::unable(format!("no random numbers for a key: {error}")))?;
    let secret = with_extension(path, "key");
    let public = with_extension(path, "pub");
    org_key::write(&secret, &key)?;
    let text = String::from(HexKey(key.public()));
    files::write_new(&public, format!("{text}\n").as_bytes(), true)?;
    writeln!(out, "secret key written to {}", secret.display())?;
    writeln!(out, "public key written to {}: {text}", public.display())?;
    Ok(())
}

/// Appends an extension; one that is there stays, since a dot may be part of the name.
fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn keygen(args: KeygenArgs) -> Result<String, String> {
        let mut out = Vec::new();
        run(&args, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_validators_public_file_is_that_of_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new/keys");
        let args = KeygenArgs { dir: Some(folder.clone()), organisation: None };
        keygen(args.clone()).unwrap();
        let text = std::fs::read_to_string(folder.join(PUBLIC_KEYS_FILE)).unwrap();
        let public = PublicKeys::decode(&text).unwrap();
        let keys = NodeKeys::load(&folder).unwrap();
        assert_eq!(public.network_key.0, keys.network.public());
        assert_eq!(public.consensus_key.0, keys.consensus.public());
        assert_eq!(public.cosign_key.0, keys.cosign.public());
        assert_eq!(public.log_key.0, keys.log.public());
        let error = keygen(args).unwrap_err();
        assert!(error.ends_with("\n  keys are never overwritten: choose a new folder"), "{error}");
        assert_eq!(NodeKeys::load(&folder).unwrap().log.public(), keys.log.public());
    }

    #[test]
    fn an_organisations_key_is_written_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let args = KeygenArgs { dir: None, organisation: Some(dir.path().join("st.mary")) };
        keygen(args.clone()).unwrap();
        let key = org_key::read(&dir.path().join("st.mary.key")).unwrap();
        let public = std::fs::read_to_string(dir.path().join("st.mary.pub")).unwrap();
        assert_eq!(public.trim(), hex::encode(key.public()));
        let error = keygen(args).unwrap_err();
        assert!(error.contains("st.mary.key exists already"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join("st.mary.pub")).unwrap(), public);
    }
}
