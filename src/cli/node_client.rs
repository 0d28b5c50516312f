//! Asks one validator over HTTP, as the commands need it: blocking, with time-outs and a bounded number of attempts.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::CliError;
use crate::proof::bundle::BUNDLE_BYTES_MAX;
use crate::types::{LeafIndex, TxId};

/// Most attempts at one request.
const ATTEMPTS_MAX: u32 = 8;
/// Pause after the first failed attempt; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause, whatever the validator asks for.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest time that one request may take. A validator answers `?wait=final` within a minute.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(75);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than any answer that is not a proof bundle.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A validator's HTTP address.
pub(super) struct NodeClient {
    agent: ureq::Agent,
    base: String,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Final, at this leaf.
    Executed {
        leaf: LeafIndex,
        /// An access that no consent permitted.
        violation: bool,
    },
    /// Let in, not final within the time that was given.
    Pending,
    /// Every validator skipped it, for this reason.
    Skipped(String),
    /// The validator did not let it in.
    Refused { code: String, message: String },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed { leaf, violation: false } => write!(f, "final leaf {leaf}"),
            Self::Executed { leaf, violation: true } => write!(f, "final leaf {leaf} (without a permit)"),
            Self::Pending => f.write_str("pending"),
            Self::Skipped(reason) => write!(f, "skipped {reason}"),
            Self::Refused { code, message } => write!(f, "refused {code}: {message}"),
        }
    }
}

struct Response {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// What the API says of a transaction.
#[derive(Deserialize)]
struct Outcome {
    status: String,
    leaf: Option<LeafIndex>,
    violation: Option<bool>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    error: String,
    message: String,
}

impl Response {
    fn fault(&self) -> Option<(String, String)> {
        let fault: Fault = serde_json::from_slice(&self.body).ok()?;
        Some((fault.error, fault.message))
    }

    fn fate(&self) -> Option<Fate> {
        let outcome: Outcome = serde_json::from_slice(&self.body).ok()?;
        match (outcome.status.as_str(), outcome.leaf) {
            ("executed" | "duplicate", Some(leaf)) => {
                Some(Fate::Executed { leaf, violation: outcome.violation == Some(true) })
            }
            ("pending", _) => Some(Fate::Pending),
            ("skipped", _) => Some(Fate::Skipped(outcome.reason.unwrap_or_else(|| "unknown".to_owned()))),
            _ => None,
        }
    }
}

impl NodeClient {
    /// A client of `http://host:port`.
    pub(super) fn new(url: &str) -> Result<Self, CliError> {
        let base = url.trim_end_matches('/').to_owned();
        let host = base.strip_prefix("http://").filter(|host| !host.is_empty() && !host.contains('/'));
        if host.is_none() {
            return Err(CliError::unable_hint(
                format!("--node {url} is not of the form http://HOST:PORT"),
                "give the address that `listen.http` in the validator's node.toml says; for one behind TLS, run this \
                 on its side of the reverse proxy",
            ));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT));
        Ok(Self { agent: config.build().into(), base })
    }

    /// Hands in a transaction and says what becomes of it until `deadline`; without one, does not wait. The same bytes
    /// may be handed in again at any time: they are executed once.
    pub(super) fn submit(&self, id: TxId, tx: &[u8], deadline: Option<Instant>) -> Result<Fate, CliError> {
        let path = if deadline.is_some() { "/v1/transactions?wait=final" } else { "/v1/transactions" };
        let response = self.request(deadline, || self.post(path, tx))?;
        let fate = match response.status {
            200 | 202 => response.fate().ok_or_else(|| self.strange(&response))?,
            _ => match response.fault() {
                // A number that was used: by this very transaction, if an attempt was cut off before its answer.
                Some((code, message)) if code == "Replayed" => {
                    self.fate(id)?.unwrap_or(Fate::Refused { code, message })
                }
                Some((code, message)) => Fate::Refused { code, message },
                None => return Err(self.strange(&response)),
            },
        };
        match deadline {
            Some(deadline) if fate == Fate::Pending => self.wait(id, deadline),
            Some(_) | None => Ok(fate),
        }
    }

    /// Asks for a transaction until it is not pending any more.
    pub(super) fn wait(&self, id: TxId, deadline: Instant) -> Result<Fate, CliError> {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.fate(id)? {
                Some(Fate::Pending) | None if now() < deadline => {
                    sleep(pause.min(deadline.saturating_duration_since(now())));
                    pause = (2 * pause).min(PAUSE_MAX);
                }
                found => return Ok(found.unwrap_or(Fate::Pending)),
            }
        }
    }

    /// What is known of a transaction.
    pub(super) fn fate(&self, id: TxId) -> Result<Option<Fate>, CliError> {
        let response =
            self.request(None, || self.get(&format!("/v1/transactions/{id}"), ANSWER_BYTES_MAX))?;
        match response.status {
            200 => response.fate().map(Some).ok_or_else(|| self.strange(&response)),
            404 if response.fault().is_some() => Ok(None),
            _ => Err(self.strange(&response)),
        }
    }

    /// The proof bundle of a transaction (its id) or leaf (its number). Waits for the checkpoint that covers it.
    pub(super) fn proof(&self, of: &str, deadline: Instant) -> Result<Vec<u8>, CliError> {
        let path = format!("/v1/transactions/{of}/proof");
        let response = self.request(Some(deadline), || self.get(&path, BUNDLE_BYTES_MAX as u64))?;
        if response.status == 200 {
            return Ok(response.body);
        }
        Err(match response.fault() {
            Some((code, message)) => CliError::unable(format!("{}: {of}: {code}: {message}", self.base)),
            None => self.strange(&response),
        })
    }

    /// Makes attempts until one is answered other than "later" (503, or 409 NotYet): until `deadline`, and without one, or if
    /// nobody answers, [`ATTEMPTS_MAX`] times at most.
    fn request(
        &self,
        deadline: Option<Instant>,
        attempt: impl Fn() -> Result<Response, ureq::Error>,
    ) -> Result<Response, CliError> {
        let mut pause = PAUSE_FIRST;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = attempt();
            let asked = match &result {
                Ok(response) if !is_later(response) => None,
                Ok(response) => Some(response.retry_after.unwrap_or(pause)),
                Err(_transport) => Some(pause),
            };
            let is_counted = result.is_err() || deadline.is_none();
            let is_over = (is_counted && attempts >= ATTEMPTS_MAX)
                || deadline.is_some_and(|deadline| now() >= deadline);
            let Some(asked) = asked.filter(|_| !is_over) else {
                return result.map_err(|error| {
                    let what = format!("{}: {error} ({attempts} attempts)", self.base);
                    CliError::unable_hint(what, "is the validator running, and is this its `listen.http`?")
                });
            };
            sleep(asked.max(pause).min(PAUSE_MAX));
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Response, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        read(request.content_type("application/octet-stream").send(body)?, ANSWER_BYTES_MAX)
    }

    fn get(&self, path: &str, limit: u64) -> Result<Response, ureq::Error> {
        read(self.agent.get(format!("{}{path}", self.base)).call()?, limit)
    }

    fn strange(&self, response: &Response) -> CliError {
        let what = match response.fault() {
            Some((code, message)) => format!("{} answers {code}: {message}", self.base),
            None => format!("{} answers with status {} as no validator does", self.base, response.status),
        };
        CliError::unable(what)
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>, limit: u64) -> Result<Response, ureq::Error> {
    let header = response.headers().get("retry-after");
    let retry_after = header.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = response.body_mut().with_config().limit(limit).read_to_vec()?;
    Ok(Response { status: response.status().as_u16(), retry_after, body })
}

fn is_later(response: &Response) -> bool {
    let not_yet = || response.fault().is_some_and(|(code, _)| code == "NotYet");
    response.status == 503 || (response.status == 409 && not_yet())
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    use super::*;

    /// Answers one request on a connection each, in order, and returns their first lines.
    fn serve(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = spawn(move || {
            let mut lines = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut first = String::new();
                reader.read_line(&mut first).unwrap();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                lines.push(first.trim().to_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            lines
        });
        (url, served)
    }

    fn http(status: u16, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn soon() -> Option<Instant> {
        Some(now() + Duration::from_secs(20))
    }

    #[test]
    fn busy_is_tried_again_and_pending_is_asked_for() {
        let (url, served) = serve(vec![
            http(503, "retry-after: 0\r\n", r#"{"error":"Busy","message":"full"}"#),
            String::new(),
            http(202, "", r#"{"id":"x","status":"pending"}"#),
            http(200, "", r#"{"id":"x","status":"pending"}"#),
            http(200, "", r#"{"id":"x","status":"executed","leaf":7,"violation":false}"#),
        ]);
        let id = TxId([0xab; 32]);
        let fate = NodeClient::new(&url).unwrap().submit(id, b"tx", soon()).unwrap();
        assert_eq!(fate, Fate::Executed { leaf: LeafIndex(7), violation: false });
        let lines = served.join().unwrap();
        assert_eq!(lines[0], "POST /v1/transactions?wait=final HTTP/1.1");
        assert_eq!(lines[4], format!("GET /v1/transactions/{id} HTTP/1.1"));
    }

    #[test]
    fn a_replay_of_itself_is_no_refusal() {
        let replayed = r#"{"error":"Replayed","message":"number 3 was used"}"#;
        let (url, served) = serve(vec![
            http(409, "", replayed),
            http(200, "", r#"{"id":"x","status":"executed","leaf":9,"violation":true}"#),
            http(409, "", replayed),
            http(404, "", r#"{"error":"NotFound","message":"no such transaction"}"#),
        ]);
        let client = NodeClient::new(&url).unwrap();
        let fate = client.submit(TxId([1; 32]), b"tx", soon()).unwrap();
        assert_eq!(fate, Fate::Executed { leaf: LeafIndex(9), violation: true });
        let fate = client.submit(TxId([1; 32]), b"tx", soon()).unwrap();
        assert_eq!(fate.to_string(), "refused Replayed: number 3 was used");
        served.join().unwrap();
    }

    #[test]
    fn attempts_are_bounded_and_errors_name_the_node() {
        let (url, served) = serve(vec![http(503, "", "{}"); 1]);
        let error = NodeClient::new(&url).unwrap().submit(TxId([1; 32]), b"tx", Some(now())).unwrap_err();
        assert!(error.to_string().contains(&format!("{url} answers with status 503")), "{error}");
        served.join().unwrap();
        // Nobody listens there any more.
        let error = NodeClient::new(&url).unwrap().proof("7", now()).unwrap_err().to_string();
        assert!(
            error.contains(&url) && error.contains("1 attempts") && error.contains("listen.http"),
            "{error}"
        );
        for bad in ["127.0.0.1:80", "https://a", "http://", "http://a/b"] {
            let error = NodeClient::new(bad).err().unwrap().to_string();
            assert!(error.contains(&format!("--node {bad} is not")), "{error}");
        }
    }
}
