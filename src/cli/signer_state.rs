//! What `salus submit` remembers between its runs: how far a key's sequence numbers are used, and the vault.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CliError;
use crate::gateway::vault::Vault;
use crate::genesis::HexKey;
use crate::io::files::write_atomically;
use crate::types::{NetworkId, TxId};

const FORMAT: &str = "salus-signer/1";
const STATE_BYTES_MAX: u64 = 256 << 20;
const VAULT_BYTES_MAX: u64 = 8 << 30;
/// Files that hold or accompany secrets are their owner's alone.
const MODE: u32 = 0o600;

/// Appends to a file's name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Keeps a second `salus submit` off a file until it is dropped, or the process dies.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    pub(super) fn acquire(path: &Path) -> Result<Self, CliError> {
        let lock = beside(path, ".lock");
        let unable = |error: &dyn std::fmt::Display| {
            CliError::unable(format!("cannot lock {}: {error}", lock.display()))
        };
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&lock);
        let file = open.map_err(|error| unable(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(CliError::unable_hint(
                format!("{} is in use by another `salus submit`", path.display()),
                "wait until it has ended: two at once would use the same sequence numbers or lose commitment keys",
            )),
            Err(std::fs::TryLockError::Error(error)) => Err(unable(&error)),
        }
    }
}

/// Reads a file if it is there. Others must not be able to read it if it holds secrets.
fn read_if_there(path: &Path, limit: u64, is_secret: bool) -> Result<Option<String>, CliError> {
    let unable =
        |error: &std::io::Error| CliError::unable(format!("cannot read {}: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unable(&error)),
    };
    let mode = file.metadata().map_err(|error| unable(&error))?.permissions().mode() & 0o7777;
    if is_secret && mode & 0o077 != 0 {
        let what = format!("{} has mode {mode:04o}: others may open the commitments", path.display());
        return Err(CliError::unable_hint(what, format!("run: chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(|error| unable(&error))?;
    if text.len() as u64 > limit {
        return Err(CliError::unable(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(text))
}

/// Whose numbers a state file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) network: NetworkId,
    pub(super) org: u32,
    pub(super) key: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format: String,
    network: String,
    org: u32,
    key: u32,
    next_seq: u64,
    /// Numbers of transactions that were made and are not known to be final, by id.
    open: BTreeMap<String, u64>,
}

/// Sequence numbers of a key.
///
/// The number of a transaction that did not become final is used again when it is made anew: so at most one of the two can
/// ever be executed.
#[derive(Debug)]
pub(super) struct SignerState {
    path: PathBuf,
    signer: Signer,
    pub(super) next_seq: u64,
    open: BTreeMap<TxId, u64>,
}

impl SignerState {
    /// Reads the state; a key that has none starts at 1. `seq` overrides what the file says.
    pub(super) fn load(path: &Path, signer: Signer, seq: Option<u64>) -> Result<Self, CliError> {
        let mut state = Self { path: path.to_owned(), signer, next_seq: 1, open: BTreeMap::new() };
        if let Some(text) = read_if_there(path, STATE_BYTES_MAX, false)? {
            state.fill(&text).map_err(|why| {
                CliError::unable_hint(
                    format!("{}: {why}", path.display()),
                    "give another --state FILE, or the --seq to go on at and remove this one",
                )
            })?;
        }
        state.next_seq = seq.unwrap_or(state.next_seq);
        Ok(state)
    }

    fn fill(&mut self, text: &str) -> Result<(), String> {
        let file: StateFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("format {:?}, expected {FORMAT:?}", file.format));
        }
        let Signer { network, org, key } = self.signer;
        if (file.network.as_str(), file.org, file.key) != (&network.to_string(), org, key) {
            return Err(format!(
                "it counts for key {} of organisation {} in network {}, not for key {key} of organisation {org} in {network}",
                file.key, file.org, file.network
            ));
        }
        self.next_seq = file.next_seq;
        for (id, seq) in file.open {
            let id = HexKey::try_from(id)?;
            self.open.insert(TxId(id.0), seq);
        }
        Ok(())
    }

    /// The number to sign with: that of `earlier`, which it replaces, or a new one.
    pub(super) fn take(&mut self, earlier: Option<TxId>) -> Result<u64, CliError> {
        if let Some(seq) = earlier.and_then(|id| self.open.remove(&id)) {
            return Ok(seq);
        }
        let seq = self.next_seq;
        let what = || format!("{}: the sequence numbers of this key are used up", self.path.display());
        self.next_seq =
            seq.checked_add(1).ok_or_else(|| CliError::unable_hint(what(), "register another key"))?;
        Ok(seq)
    }

    /// Notes that `id` was signed under `seq` and may be on its way.
    pub(super) fn note_signed(&mut self, id: TxId, seq: u64) {
        self.open.insert(id, seq);
    }

    /// Notes that `id` is final.
    pub(super) fn note_final(&mut self, id: &TxId) {
        self.open.remove(id);
    }

    pub(super) fn save(&self) -> Result<(), CliError> {
        let file = StateFile {
            format: FORMAT.to_owned(),
            network: self.signer.network.to_string(),
            org: self.signer.org,
            key: self.signer.key,
            next_seq: self.next_seq,
            open: self.open.iter().map(|(id, seq)| (id.to_string(), *seq)).collect(),
        };
        let text =
            serde_json::to_string_pretty(&file).map_err(|error| CliError::unable(error.to_string()))?;
        write_atomically(&self.path, format!("{text}\n").as_bytes(), MODE)
            .map_err(|error| CliError::unable(error.to_string()))
    }
}

/// Reads a vault, empty if the file is not there.
pub(super) fn load_vault(path: &Path) -> Result<Vault, CliError> {
    let mut vault = Vault::new();
    let text = read_if_there(path, VAULT_BYTES_MAX, true)?.map(zeroize::Zeroizing::new);
    for (i, line) in text.iter().flat_map(|text| text.lines()).enumerate() {
        vault
            .decode_line(i + 1, line)
            .map_err(|error| CliError::unable(format!("{}: {error}", path.display())))?;
    }
    Ok(vault)
}

/// Replaces a vault's file, durably.
pub(super) fn save_vault(path: &Path, vault: &Vault) -> Result<(), CliError> {
    let mut text = zeroize::Zeroizing::new(String::new());
    for line in vault.encode() {
        text.push_str(&line.map_err(|error| CliError::unable(error.to_string()))?);
    }
    write_atomically(path, text.as_bytes(), MODE).map_err(|error| CliError::unable(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::gateway::SeededEntropy;
    use crate::gateway::vault::VersionName;

    const SIGNER: Signer = Signer { network: NetworkId(*b"network1"), org: 7, key: 1 };

    #[test]
    fn numbers_go_on_and_those_of_transactions_that_are_not_final_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key.state");
        let mut state = SignerState::load(&path, SIGNER, None).unwrap();
        assert_eq!([state.take(None).unwrap(), state.take(None).unwrap()], [1, 2]);
        state.note_signed(TxId([1; 32]), 1);
        state.note_signed(TxId([2; 32]), 2);
        state.note_final(&TxId([1; 32]));
        state.save().unwrap();
        let mut state = SignerState::load(&path, SIGNER, None).unwrap();
        assert_eq!(state.take(Some(TxId([2; 32]))).unwrap(), 2);
        assert_eq!(state.take(Some(TxId([1; 32]))).unwrap(), 3, "a number of a final one is used");
        assert_eq!(SignerState::load(&path, SIGNER, Some(90)).unwrap().take(None).unwrap(), 90);
        let other = Signer { key: 2, ..SIGNER };
        let error = SignerState::load(&path, other, None).unwrap_err().to_string();
        assert!(error.contains("it counts for key 1 of organisation 7"), "{error}");
        std::fs::write(&path, "{}").unwrap();
        let error = SignerState::load(&path, SIGNER, None).unwrap_err().to_string();
        assert!(error.contains("a.key.state: missing field `format`"), "{error}");
        let error = SignerState::load(dir.path(), SIGNER, None).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn vaults_are_their_owners_alone_and_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault");
        assert_eq!(load_vault(&path).unwrap(), Vault::new());
        let mut vault = Vault::new();
        let name = VersionName { copy: 0, resource: "Provenance/a".to_owned(), version: 1, grantee: None };
        vault.add_version(&name, &mut SeededEntropy::new(1)).unwrap();
        save_vault(&path, &vault).unwrap();
        assert_eq!(load_vault(&path).unwrap(), vault);
        let lock = FileLock::acquire(&path).unwrap();
        let error = FileLock::acquire(&path).err().unwrap().to_string();
        assert!(error.contains("vault is in use by another"), "{error}");
        drop(lock);
        FileLock::acquire(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_vault(&path).unwrap_err().to_string();
        assert!(error.contains("has mode 0644") && error.contains("chmod 600"), "{error}");
    }
}
