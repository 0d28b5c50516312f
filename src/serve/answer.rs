//! What the API answers.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ConsentStatus, Ledger, Request, ServeError, TransactionStatus};
use crate::error::ClientError;
use crate::execute::SkipReason;
use crate::types::{ClientReply, Effect, Provision, TxId};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// Content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What changes is asked for anew each time.
const NO_STORE: &str = "no-store";
/// A tile never changes, and neither does a partial one of its width.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Seconds after which a client that met a full queue may try again.
const RETRY_AFTER_S: u32 = 1;

/// An answer, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache: &'static str,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u32>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, cache: NO_STORE, retry_after_s: None, body: body.into() }
    }

    fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self::new(status, JSON, body)
            }
            Err(fault) => error(500, "Internal", &fault.to_string()),
        }
    }

    fn retry(mut self) -> Self {
        self.retry_after_s = Some(RETRY_AFTER_S);
        self
    }
}

/// An error: `{"error": code, "message": text}`.
#[must_use]
pub fn error(status: u16, code: &str, message: &str) -> Answer {
    // Built from strings alone, it cannot fail.
    let body = json!({ "error": code, "message": message }).to_string() + "\n";
    Answer::new(status, JSON, body)
}

/// A parameter that does not parse.
#[must_use]
pub fn bad_request(message: &str) -> Answer {
    error(400, "BadRequest", message)
}

/// A method that the path does not have.
#[must_use]
pub fn method_not_allowed() -> Answer {
    error(
        405,
        "MethodNotAllowed",
        "transactions are posted to /v1/transactions; everything else is read by GET",
    )
}

/// Says what a request asks for.
#[must_use]
pub fn answer(ledger: &dyn Ledger, request: &Request) -> Answer {
    read(ledger, request).unwrap_or_else(|fault| match fault {
        ServeError::NotYet(_) => error(409, "NotYet", &fault.to_string()).retry(),
        ServeError::Unavailable(_) => error(503, "Unavailable", &fault.to_string()).retry(),
        ServeError::Internal(_) => error(500, "Internal", &fault.to_string()),
    })
}

fn read(ledger: &dyn Ledger, request: &Request) -> Result<Answer, ServeError> {
    let found = match *request {
        Request::Index => Some(index_page()),
        Request::Status => Some(Answer::json(200, &ledger.status())),
        Request::Transaction(id) => {
            ledger.transaction(id)?.map(|status| Answer::json(200, &transaction(id, &status)))
        }
        Request::Proof(of) => ledger.proof(of)?.map(|bundle| Answer::new(200, JSON, bundle)),
        Request::Record(leaf) => ledger.record(leaf)?.map(|record| Answer::json(200, &record)),
        Request::Consent(handle) => {
            ledger.consent(handle)?.map(|status| Answer::json(200, &consent(&status)))
        }
        Request::Consistency { from, to } => ledger.consistency(from, to)?.map(|proof| {
            let proof: Vec<_> = proof.iter().map(ToString::to_string).collect();
            Answer::json(200, &json!({ "from": from, "to": to, "proof": proof }))
        }),
        Request::Checkpoint => ledger.checkpoint().map(|note| Answer::new(200, TEXT, note)),
        Request::Tile(path) => {
            ledger.tile(&path)?.map(|tile| Answer { cache: IMMUTABLE, ..Answer::new(200, BYTES, tile) })
        }
        Request::Metrics => Some(Answer::new(200, METRICS, ledger.metrics())),
        Request::Health => Some(Answer::new(200, TEXT, "ok\n")),
        Request::Ready => Some(match ledger.ready() {
            Ok(()) => Answer::new(200, TEXT, "ready\n"),
            Err(why) => error(503, "NotReady", &why).retry(),
        }),
    };
    Ok(found.unwrap_or_else(|| error(404, "NotFound", missing(request))))
}

fn missing(request: &Request) -> &'static str {
    match request {
        Request::Transaction(_) | Request::Proof(_) => "no such transaction is known here",
        Request::Record(_) => "no version of a record is at this leaf",
        Request::Consent(_) => "no consent has this handle",
        Request::Consistency { .. } => "the log is shorter than that",
        Request::Checkpoint => "no checkpoint is certified yet",
        Request::Tile(_) => "this tile is not complete yet, or beyond the log",
        Request::Index | Request::Status | Request::Metrics | Request::Health | Request::Ready => "not found",
    }
}

fn transaction(id: TxId, status: &TransactionStatus) -> Value {
    let id = id.to_string();
    match *status {
        TransactionStatus::Pending => json!({ "id": id, "status": "pending" }),
        TransactionStatus::Executed { leaf, commit, time, violation } => json!({
            "id": id, "status": "executed", "leaf": leaf, "commit": commit, "time_ms": time, "violation": violation,
        }),
        TransactionStatus::Skipped { reason } => skipped(&id, reason),
    }
}

fn skipped(id: &str, reason: u8) -> Value {
    json!({ "id": id, "status": "skipped", "reason": reason_name(reason), "reason_code": reason })
}

/// Name of a [`SkipReason`] by its code.
fn reason_name(code: u8) -> String {
    let reason = SkipReason::from_code(code);
    reason.map_or_else(|| format!("Reason{code}"), |reason| format!("{reason:?}"))
}

fn consent(status: &ConsentStatus) -> Value {
    let any = |code: u16| if code == Provision::ANY { Value::from("any") } else { Value::from(code) };
    let provision = |p: &Provision| {
        let effect = match p.effect {
            Effect::Permit => "permit",
            Effect::Deny => "deny",
        };
        json!({
            "effect": effect, "purpose": any(p.purpose), "category": any(p.category), "from_s": p.from_s, "to_s": p.to_s,
        })
    };
    json!({
        "handle": hex::encode(status.handle),
        "custodian": status.custodian,
        "grantee": status.grantee,
        "provisions": status.provisions.iter().map(provision).collect::<Vec<_>>(),
        "granted_leaf": status.granted_leaf,
        "state": consent_state(status),
        "as_of_ms": status.as_of,
        "revoked_leaf": status.revoked.map(|(leaf, _)| leaf),
        "effective_ms": status.revoked.map(|(_, effective)| effective),
    })
}

/// `revoked` from the revocation's effective time on, `expired` when every provision has ended, else `active`.
fn consent_state(status: &ConsentStatus) -> &'static str {
    let ended = |provision: &Provision| u64::from(provision.to_s) * 1_000 <= status.as_of.0;
    match status.revoked {
        Some((_, effective)) if effective <= status.as_of => "revoked",
        _ if status.provisions.iter().all(ended) => "expired",
        _ => "active",
    }
}

/// A transaction that is not let in.
#[must_use]
pub fn refusal(refused: &ClientError) -> Answer {
    let status = match refused {
        ClientError::Busy => 503,
        ClientError::Malformed(_) | ClientError::WrongNetwork { .. } | ClientError::BadTime(_) => 400,
        ClientError::UnknownKey { .. } | ClientError::BadSignature => 403,
        ClientError::Replayed(_) => 409,
    };
    let answer = error(status, refused.code(), &refused.to_string());
    if matches!(refused, ClientError::Busy) { answer.retry() } else { answer }
}

/// A transaction that was let in: its outcome, or that it is not known yet.
#[must_use]
pub fn outcome(id: TxId, reply: Option<&ClientReply>) -> Answer {
    let id = id.to_string();
    match reply {
        None | Some(ClientReply::Accepted) => Answer::json(202, &json!({ "id": id, "status": "pending" })),
        Some(ClientReply::Executed { leaf, violation }) => Answer::json(
            200,
            &json!({ "id": id, "status": "executed", "leaf": leaf, "violation": violation }),
        ),
        Some(ClientReply::Duplicate { leaf }) => {
            Answer::json(200, &json!({ "id": id, "status": "duplicate", "leaf": leaf }))
        }
        Some(ClientReply::Skipped { reason }) => Answer::json(200, &skipped(&id, *reason)),
        // It was let in and given up later: the queue was full, or the node stops.
        Some(ClientReply::Refused { code, message }) => error(503, code, message).retry(),
    }
}

/// One screen about the API.
#[must_use]
pub fn index_page() -> Answer {
    Answer::new(200, TEXT, include_str!("index.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name() {
        for (reason, code) in SkipReason::ALL.into_iter().zip(1..) {
            assert_eq!(reason as u8, code);
        }
        assert_eq!(reason_name(8), "NotAHead");
        assert_eq!(reason_name(200), "Reason200");
    }

    #[test]
    fn refusals_have_their_status() {
        assert_eq!(refusal(&ClientError::Busy).status, 503);
        assert_eq!(refusal(&ClientError::Busy).retry_after_s, Some(1));
        assert_eq!(refusal(&ClientError::BadSignature).status, 403);
        assert_eq!(refusal(&ClientError::Replayed(3)).status, 409);
        assert_eq!(refusal(&ClientError::BadTime(1)).status, 400);
        assert_eq!(refusal(&ClientError::BadTime(1)).retry_after_s, None);
    }

    #[test]
    fn errors_are_json_whatever_they_say() {
        let answer = error(400, "X", "a \"quoted\"\nline");
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert_eq!(value, json!({ "error": "X", "message": "a \"quoted\"\nline" }));
    }
}
