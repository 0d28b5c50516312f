//! Key files of organisations: text of two lines, `salus-key/1 organisation` and the seed as 64 hexadecimal digits, of
//! mode 0600. The first line keeps them apart from validators' keys.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::CliError;
use crate::crypto::SecretKey;

const FIRST_LINE: &str = "salus-key/1 organisation";
/// Larger than any key file.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// Writes a key into a new file of mode 0600 and syncs it.
///
/// # Errors
/// If the file exists or cannot be written.
pub fn write(path: &Path, key: &SecretKey) -> Result<(), CliError> {
    let seed = key.seed();
    let mut digits = Zeroizing::new([0; 64]);
    hex::encode_to_slice(seed.as_slice(), &mut *digits)
        .unwrap_or_else(|_| unreachable!("64 digits are what 32 bytes need"));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            if error.kind() == ErrorKind::AlreadyExists {
                let what = format!("{} exists already", path.display());
                CliError::unable_hint(what, "keys are never overwritten: choose another name")
            } else {
                CliError::unable(format!("cannot create {}: {error}", path.display()))
            }
        })?;
    let written = writeln!(file, "{FIRST_LINE}")
        .and_then(|()| file.write_all(&*digits))
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all());
    written.map_err(|error| CliError::unable(format!("cannot write {}: {error}", path.display())))
}

/// Reads a key from its file, if nobody but the owner may use it.
///
/// # Errors
/// If it cannot be read, others may use it, or it is no key file. The error never quotes the file.
pub fn read(path: &Path) -> Result<SecretKey, CliError> {
    let unable =
        |error: &std::io::Error| CliError::unable(format!("cannot read {}: {error}", path.display()));
    let file = fs::File::open(path).map_err(|error| unable(&error))?;
    // Asked of the open file, not of its name, so that no other file can be put in between.
    let mode = file.metadata().map_err(|error| unable(&error))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let what = format!("{} has mode {mode:04o}: others may use the key", path.display());
        return Err(CliError::unable_hint(what, format!("run: chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| unable(&error))?;
    let mut seed = Zeroizing::new([0; 32]);
    let digits = text.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix('\n')).map(str::trim_end);
    match digits.map(|digits| hex::decode_to_slice(digits, &mut *seed)) {
        Some(Ok(())) => Ok(SecretKey::from_seed(&seed)),
        Some(Err(_)) | None => Err(CliError::unable_hint(
            format!("{} is not a key file of an organisation", path.display()),
            "`salus keygen --organisation PATH` makes one",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_that_others_may_read_or_that_are_no_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write(&path, &SecretKey::from_seed(&[7; 32])).unwrap();
        assert_eq!(read(&path).unwrap().public(), SecretKey::from_seed(&[7; 32]).public());
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            String::new(),
            good.replace("organisation", "network"),
            good[..good.len() - 3].to_owned(),
            good.replace("07", "0g"),
            format!("{good}07"),
        ] {
            fs::write(&path, &bad).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("is not a key file of an organisation"), "{error}");
            assert!(!error.contains("0707"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("has mode 0640") && error.contains("\n  run: chmod 600"), "{error}");
    }
}
