//! Where the commands sign transactions: an organisation's key, its sequence numbers, and the lock on them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::signer_state::{FileLock, Signer, SignerState, beside};
use super::{CliError, org_key};
use crate::crypto::SecretKey;
use crate::gateway::{Entropy as _, OrgSigner, SystemEntropy};
use crate::types::{Body, KeyId, NetworkId, OrgId, TimestampMs, Transaction};

/// Which key, and where it and its numbers are kept.
pub(super) struct SigningKey<'a> {
    pub(super) network: NetworkId,
    pub(super) org: u32,
    pub(super) key: u32,
    pub(super) file: &'a Path,
    /// Without one, the key file's name with `.state` behind it.
    pub(super) state: Option<&'a Path>,
    /// Overrides what the state file says.
    pub(super) seq: Option<u64>,
}

/// See the module's text.
pub(super) struct Desk {
    pub(super) network: NetworkId,
    pub(super) org: OrgId,
    pub(super) key: KeyId,
    secret: SecretKey,
    pub(super) state: SignerState,
    _lock: FileLock,
}

impl Desk {
    pub(super) fn open(signing: &SigningKey<'_>) -> Result<Self, CliError> {
        let &SigningKey { network, org, key, file, seq, .. } = signing;
        let secret = org_key::read(file)?;
        let state = signing.state.map_or_else(|| beside(file, ".state"), Path::to_owned);
        let lock = FileLock::acquire(&state)?;
        let state = SignerState::load(&state, Signer { network, org, key }, seq)?;
        Ok(Self { network, org: OrgId(org), key: KeyId(key), secret, state, _lock: lock })
    }

    /// Signs a body under the next number.
    pub(super) fn sign(&mut self, body: &Body) -> Result<Transaction, CliError> {
        let seq = self.state.take(None)?;
        self.sign_with(body, seq)
    }

    /// Signs a body under a number.
    pub(super) fn sign_with(&self, body: &Body, seq: u64) -> Result<Transaction, CliError> {
        let secret = SecretKey::from_seed(&self.secret.seed());
        let salt = SystemEntropy.bytes().map_err(|error| CliError::unable(error.to_string()))?;
        Ok(OrgSigner::new(self.network, self.org, self.key, secret, seq).sign(body, now()?, salt))
    }
}

/// This machine's clock.
pub(super) fn now() -> Result<TimestampMs, CliError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    ms.map(TimestampMs).ok_or_else(|| CliError::unable("this machine's clock stands before 1970"))
}
