//! Key files: `network.key`, `consensus.key`, `cosign.key` and `log.key`, each of mode 0600.
//!
//! Text of two lines: `salus-key/1 <role>`, then the seed as 64 hexadecimal digits. The role is in the file so that one that was
//! copied to another's place is noticed. A key is made before its network, so the file names none; the check
//! against the genesis does.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::committee::Authority;
use crate::crypto::SecretKey;
use crate::error::StorageError;
use crate::io::files::sync_folder;

/// First word of a key file.
const MAGIC: &str = "salus-key/1";
/// Larger than any key file.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// What a validator's key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Identity in TLS.
    Network,
    /// Signs headers.
    Consensus,
    /// Cosigns checkpoints.
    Cosign,
    /// Signs checkpoints as the log.
    Log,
}

impl KeyRole {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Network, Self::Consensus, Self::Cosign, Self::Log];

    /// Name, in the file and of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Consensus => "consensus",
            Self::Cosign => "cosign",
            Self::Log => "log",
        }
    }

    /// File of the key in a folder.
    #[must_use]
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.key", self.name()))
    }
}

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The operating system refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody else may read or write the file.
    #[error("{path} has mode {mode:04o}: others may use the key. Run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file of this role.
    #[error("{path} is not a key file: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What does not fit.
        why: String,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers for a new key: {0}")]
    Random(getrandom::Error),
    /// The genesis names another key.
    #[error(
        "{path} holds the key {found}, but the genesis names {expected} as the {role} key of validator {validator}: is this the keys folder of another validator?"
    )]
    NotInGenesis {
        /// The file.
        path: String,
        /// The role.
        role: &'static str,
        /// Name of the validator.
        validator: String,
        /// Public key of the file.
        found: String,
        /// Public key in the genesis.
        expected: String,
    },
}

impl KeyError {
    fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.display().to_string(), source }
    }
}

/// The four keys of a validator.
#[derive(Debug)]
pub struct NodeKeys {
    /// Identity in TLS.
    pub network: SecretKey,
    /// Signs headers.
    pub consensus: SecretKey,
    /// Cosigns checkpoints.
    pub cosign: SecretKey,
    /// Signs checkpoints as the log.
    pub log: SecretKey,
}

impl NodeKeys {
    /// Makes four new keys and writes them into a folder, which is made if it is missing. Never overwrites a key.
    pub fn create(folder: &Path) -> Result<Self, KeyError> {
        fs::create_dir_all(folder).map_err(|source| KeyError::io("cannot create", folder, source))?;
        let make = |role| {
            let key = SecretKey::generate().map_err(KeyError::Random)?;
            write_key(&KeyRole::path(role, folder), role, &key)?;
            Ok(key)
        };
        let keys = Self {
            network: make(KeyRole::Network)?,
            consensus: make(KeyRole::Consensus)?,
            cosign: make(KeyRole::Cosign)?,
            log: make(KeyRole::Log)?,
        };
        let unused = folder.join(UNUSED_FILE);
        File::create(&unused)
            .and_then(|file| file.sync_all())
            .map_err(|source| KeyError::io("cannot create", &unused, source))?;
        // The names have to survive a power cut as the contents do.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| KeyError::io("cannot sync", folder, source))?;
        Ok(keys)
    }

    /// Reads the keys of a folder.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        let read = |role| read_key(&KeyRole::path(role, folder), role);
        Ok(Self {
            network: read(KeyRole::Network)?,
            consensus: read(KeyRole::Consensus)?,
            cosign: read(KeyRole::Cosign)?,
            log: read(KeyRole::Log)?,
        })
    }

    /// Refuses keys that are not those of the validator's entry in the genesis. `folder` is named in the error.
    pub fn check(&self, authority: &Authority, folder: &Path) -> Result<(), KeyError> {
        for role in KeyRole::ALL {
            let (key, expected) = match role {
                KeyRole::Network => (&self.network, authority.network_key),
                KeyRole::Consensus => (&self.consensus, authority.consensus_key),
                KeyRole::Cosign => (&self.cosign, authority.cosign_key),
                KeyRole::Log => (&self.log, authority.log_key),
            };
            if key.public() != expected {
                return Err(KeyError::NotInGenesis {
                    path: role.path(folder).display().to_string(),
                    role: role.name(),
                    validator: authority.name.clone(),
                    found: hex::encode(key.public()),
                    expected: hex::encode(expected),
                });
            }
        }
        Ok(())
    }
}

/// File beside the keys that says that they have never signed a header. Whoever has keys, no log and not this file has lost
/// the log.
pub const UNUSED_FILE: &str = "unused";

/// Whether the keys of a folder have never signed a header.
#[must_use]
pub fn are_unused(folder: &Path) -> bool {
    folder.join(UNUSED_FILE).exists()
}

/// Remembers durably that the keys of a folder have signed.
///
/// # Errors
/// Those of the operating system.
pub fn mark_used(folder: &Path) -> Result<(), StorageError> {
    let path = folder.join(UNUSED_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", &path, error))
        }
        Ok(()) | Err(_) => sync_folder(folder),
    }
}

/// Writes a key into a new file of mode 0600 and syncs it.
pub fn write_key(path: &Path, role: KeyRole, key: &SecretKey) -> Result<(), KeyError> {
    let text = encode(role, key);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| KeyError::io("cannot create", path, source))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| KeyError::io("cannot write", path, source))
}

/// Reads a key from its file, if nobody but the owner may read it.
pub fn read_key(path: &Path, role: KeyRole) -> Result<SecretKey, KeyError> {
    let mut file = File::open(path).map_err(|source| KeyError::io("cannot open", path, source))?;
    // Asked of the open file, not of its name, so that no other file can be put in between.
    let metadata = file.metadata().map_err(|source| KeyError::io("cannot inspect", path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.display().to_string(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(256));
    (&mut file)
        .take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|source| KeyError::io("cannot read", path, source))?;
    decode(&text, role).map_err(|why| KeyError::Malformed { path: path.display().to_string(), why })
}

fn encode(role: KeyRole, key: &SecretKey) -> Zeroizing<String> {
    let seed = key.seed();
    let mut digits = Zeroizing::new([0; 64]);
    // 64 digits are exactly what 32 bytes need.
    let _ = hex::encode_to_slice(*seed, &mut *digits);
    let mut text = Zeroizing::new(String::with_capacity(128));
    text.push_str(MAGIC);
    text.push(' ');
    text.push_str(role.name());
    text.push('\n');
    text.extend(digits.iter().map(|digit| char::from(*digit)));
    text.push('\n');
    text
}

/// Errors never quote the file: it may hold a secret in a shape that was not expected.
fn decode(text: &str, role: KeyRole) -> Result<SecretKey, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Some(found) = first.strip_prefix(MAGIC) else {
        return Err(match first.strip_prefix("salus-key/") {
            Some(_) => format!("its version is not known to this program, which reads {MAGIC}"),
            None => format!("it does not start with {MAGIC:?}"),
        });
    };
    let found = found.trim();
    if found != role.name() {
        let known = KeyRole::ALL.iter().any(|role| role.name() == found);
        let found = if known { found } else { "unknown" };
        return Err(format!("its role is {found}, expected {}", role.name()));
    }
    let mut seed = Zeroizing::new([0; 32]);
    let digits = lines.next().unwrap_or_default().trim_end();
    hex::decode_to_slice(digits, &mut *seed)
        .map_err(|_error| "its second line is not a seed of 64 hexadecimal digits".to_owned())?;
    if lines.any(|line| !line.trim().is_empty()) {
        return Err("something follows its second line".to_owned());
    }
    Ok(SecretKey::from_seed(&seed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::types::Stake;

    fn authority(keys: &NodeKeys) -> Authority {
        Authority {
            name: "hospital-a".into(),
            stake: Stake(1),
            address: "a:1".into(),
            network_key: keys.network.public(),
            consensus_key: keys.consensus.public(),
            cosign_key: keys.cosign.public(),
            log_key: keys.log.public(),
        }
    }

    #[test]
    fn keys_read_back_and_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys_dir = folder.path().join("a/keys");
        let made = NodeKeys::create(&keys_dir).unwrap();
        let read = NodeKeys::load(&keys_dir).unwrap();
        read.check(&authority(&made), &keys_dir).unwrap();
        for role in KeyRole::ALL {
            let mode = fs::metadata(role.path(&keys_dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", role.name());
        }
        let error = NodeKeys::create(&keys_dir).unwrap_err().to_string();
        assert!(error.contains("network.key") && error.contains("exists"), "{error}");
        assert_eq!(
            NodeKeys::load(&keys_dir).unwrap().log.public(),
            made.log.public(),
            "nothing was overwritten"
        );
    }

    #[test]
    fn golden_file() {
        let text = encode(KeyRole::Cosign, &SecretKey::from_seed(&[0xAB; 32]));
        assert_eq!(*text, format!("salus-key/1 cosign\n{}\n", "ab".repeat(32)));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        NodeKeys::create(folder.path()).unwrap();
        let path = KeyRole::Log.path(folder.path());
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = NodeKeys::load(folder.path()).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("log.key") && text.contains("chmod 600"), "{text}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        NodeKeys::load(folder.path()).unwrap();
    }

    #[test]
    fn damaged_and_swapped_files_are_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        NodeKeys::create(folder.path()).unwrap();
        let path = KeyRole::Network.path(folder.path());
        let good = fs::read_to_string(&path).unwrap();
        let secret = good.lines().nth(1).unwrap();
        let cases = [
            (
                fs::read_to_string(KeyRole::Log.path(folder.path())).unwrap(),
                "its role is log, expected network",
            ),
            (good.replace("/1", "/2"), "version"),
            (format!("{secret}\n"), "does not start with"),
            (good[..good.len() - 3].to_owned(), "64 hexadecimal digits"),
            (format!("{good}{secret}\n"), "follows"),
            (String::new(), "does not start with"),
            (good.replace("network", secret), "its role is unknown"),
        ];
        for (text, expected) in cases {
            fs::write(&path, text).unwrap();
            let error = NodeKeys::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains("network.key") && error.contains(expected), "{error}");
            assert!(!error.contains(&secret[..16]), "the error tells the secret");
        }
        fs::remove_file(&path).unwrap();
        assert!(NodeKeys::load(folder.path()).unwrap_err().to_string().contains("cannot open"));
    }

    #[test]
    fn keys_of_another_validator_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = NodeKeys::create(folder.path()).unwrap();
        let mut entry = authority(&keys);
        entry.cosign_key = [1; 32];
        let error = keys.check(&entry, folder.path()).unwrap_err().to_string();
        assert!(error.contains("cosign.key") && error.contains("hospital-a"), "{error}");
    }
}
