//! Record anchors without documents behind them, for loads and tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{ClientPool, LocalNetwork, clock};
use crate::cli::CliError;
use crate::crypto::SecretKey;
use crate::gateway::codes::{CLASS_DOCUMENT, COMMIT_HMAC_SHA256_JCS, RETAIN_DAYS};
use crate::gateway::{Entropy as _, EntropyError, KeyTerms, OrgSigner, SystemEntropy, key_add};
use crate::limits::TRANSACTION_TIME_SKEW_MS_MAX;
use crate::types::{Body, KeyId, RecordAnchor, Roles, TimestampMs, Transaction};

/// How long a registration may take.
const REGISTER_WITHIN: Duration = Duration::from_secs(30);
/// How long the keys are valid.
const VALID_FOR_MS: u64 = 24 * 3_600 * 1_000;

/// Signs record anchors with one key. Makes what a gateway makes, with random bytes for commitments.
#[derive(Debug)]
pub struct RecordMaker {
    signer: OrgSigner,
}

impl RecordMaker {
    /// One record anchor, made at `now`.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub fn record(&mut self, now: TimestampMs) -> Result<Transaction, EntropyError> {
        let body = RecordAnchor {
            commit: SystemEntropy.bytes()?,
            prev: None,
            class: CLASS_DOCUMENT,
            alg: COMMIT_HMAC_SHA256_JCS,
            retain_days: RETAIN_DAYS,
        };
        Ok(self.signer.sign(&Body::RecordAnchor(body), now, SystemEntropy.bytes()?))
    }
}

/// Gives every founding member `keys` new keys for records and waits until they are final. Keys' and sequence numbers are
/// taken from the clock, so that it may be done again in the same network.
///
/// # Errors
/// If a registration does not become final.
pub async fn register_record_keys(
    network: &LocalNetwork,
    pool: &Arc<ClientPool>,
    keys: u32,
) -> Result<Vec<RecordMaker>, CliError> {
    let id = network.genesis().network();
    let now = clock()?;
    // Hundredths of a second of about 500 days: numbers that an earlier call has not used.
    let first_key = u32::try_from((now.0 / 10) & 0xFFFF_FFFF).unwrap_or_default().max(1);
    let (mut makers, mut registrations) = (Vec::new(), Vec::new());
    for mut root in network.governors(now.0) {
        for number in 0..keys {
            let secret = SecretKey::generate().map_err(|error| CliError::unable(error.to_string()))?;
            let terms = KeyTerms {
                org: root.org(),
                key: KeyId(first_key.wrapping_add(number)),
                roles: Roles::RECORD,
                // Block time may lag behind the clock.
                from: TimestampMs(now.0.saturating_sub(TRANSACTION_TIME_SKEW_MS_MAX)),
                to: TimestampMs(now.0.saturating_add(VALID_FOR_MS)),
            };
            let body = Body::KeyAdd(key_add(id, terms, &secret));
            let salt = SystemEntropy.bytes().map_err(|error| CliError::unable(error.to_string()))?;
            registrations.push(root.sign(&body, now, salt));
            makers.push(RecordMaker { signer: OrgSigner::new(id, terms.org, terms.key, secret, 1) });
        }
    }
    let mut open = JoinSet::new();
    for (first, registration) in registrations.into_iter().enumerate() {
        let pool = pool.clone();
        open.spawn(async move { pool.submit(&registration, first, REGISTER_WITHIN).await });
    }
    while let Some(done) = open.join_next().await {
        let done = done.map_err(|error| CliError::unable(error.to_string()))?;
        done.map_err(|why| CliError::unable(format!("a key is not registered: {why}")))?;
    }
    Ok(makers)
}
