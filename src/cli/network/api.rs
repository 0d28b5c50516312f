//! Reads of a validator's HTTP API.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::proof::bundle::BUNDLE_BYTES_MAX;
use crate::types::{LeafIndex, TxId};

/// Longest time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most requests at once; each takes a thread while it waits.
const REQUESTS_MAX: usize = 16;

/// Reads validators' HTTP APIs. Clones share connections.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
    requests: Arc<Semaphore>,
}

/// An answer of any status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAnswer {
    /// HTTP status code.
    pub status: u16,
    /// The body, at most a proof bundle long.
    pub body: Vec<u8>,
}

/// Where a validator stands: the fields of `/v1/status` that commands use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub validator: String,
    /// Last commit executed.
    pub commit: u64,
    /// Leaves in its Merkle log.
    pub tree_size: u64,
    /// Root of its Merkle log, hexadecimal.
    pub root: String,
    /// Root of its state, hexadecimal.
    pub state_root: String,
    /// Leaves that its latest certified checkpoint covers.
    pub checkpoint_size: u64,
}

/// What a validator knows of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum TransactionView {
    /// Not final yet.
    Pending,
    /// Final.
    Executed {
        /// Position of its stub in the log.
        leaf: LeafIndex,
        /// An access without a permit.
        violation: bool,
    },
    /// In a block, and skipped.
    Skipped {
        /// Name of the reason.
        reason: String,
    },
}

impl Default for Api {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), requests: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }
}

impl Api {
    /// Asks for `path` at the validator whose API is at `base`.
    ///
    /// # Errors
    /// If there is no answer, in a sentence with the address.
    pub async fn get(&self, base: &str, path: &str) -> Result<ApiAnswer, String> {
        let url = format!("{base}{path}");
        let agent = self.agent.clone();
        let permit = self.requests.clone().acquire_owned().await.map_err(|closed| closed.to_string())?;
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let fail = |error: ureq::Error| format!("{url}: {error}");
            let mut answer = agent.get(&url).call().map_err(fail)?;
            let status = answer.status().as_u16();
            let body = answer.body_mut().with_config().limit(BUNDLE_BYTES_MAX as u64).read_to_vec();
            Ok(ApiAnswer { status, body: body.map_err(fail)? })
        });
        read.await.map_err(|error| error.to_string())?
    }

    /// Whether a validator's process answers at all.
    pub async fn is_alive(&self, base: &str) -> bool {
        self.get(base, "/healthz").await.is_ok_and(|answer| answer.status == 200)
    }

    /// Whether a validator takes part and serves; `Err` says what it said instead.
    pub async fn ready(&self, base: &str) -> Result<(), String> {
        let answer = self.get(base, "/readyz").await?;
        if answer.status == 200 { Ok(()) } else { Err(describe(&answer)) }
    }

    /// Where a validator stands.
    ///
    /// # Errors
    /// If there is no answer, or one that is no status.
    pub async fn status(&self, base: &str) -> Result<NodeStatus, String> {
        let answer = self.get(base, "/v1/status").await?;
        if answer.status != 200 {
            return Err(format!("{base}/v1/status: {}", describe(&answer)));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{base}/v1/status: {error}"))
    }

    /// What a validator knows of a transaction; `None` if nothing.
    ///
    /// # Errors
    /// If there is no answer, or another one than expected.
    pub async fn transaction(&self, base: &str, id: TxId) -> Result<Option<TransactionView>, String> {
        let answer = self.get(base, &format!("/v1/transactions/{id}")).await?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map(Some).map_err(|error| format!("{base}: {error}")),
            404 => Ok(None),
            _ => Err(format!("{base}: {}", describe(&answer))),
        }
    }
}

/// An unexpected answer, shortened.
pub(crate) fn describe(answer: &ApiAnswer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    format!("status {}: {}", answer.status, text.trim().chars().take(200).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn answers_about_transactions_are_read() {
        let read = |text: &str| serde_json::from_str::<TransactionView>(text).unwrap();
        assert_eq!(read(r#"{"id":"00","status":"pending"}"#), TransactionView::Pending);
        let executed = r#"{"id":"00","status":"executed","leaf":7,"commit":3,"time_ms":9,"violation":true}"#;
        assert_eq!(read(executed), TransactionView::Executed { leaf: LeafIndex(7), violation: true });
        let skipped = r#"{"id":"00","status":"skipped","reason":"NotAHead","reason_code":8}"#;
        assert_eq!(read(skipped), TransactionView::Skipped { reason: "NotAHead".to_owned() });
    }
}
