//! HTTP/1.1 in front of [`crate::serve`]: sockets, limits and time-outs.
//!
//! Plain TCP: TLS, and whatever authentication an operator wants for reads, belong to the reverse proxy in front of it.
//!
//! **Bounds.** Connections are counted, and more wait in the kernel's queue. A head must come within ten seconds,
//! a body within ten more and within the size of a transaction. A connection lives five minutes at most, so that one whose
//! client does not read gives its place back.

#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::io::NetError;
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::serve::{
    Answer, Ledger, Request, answer, bad_request, error, method_not_allowed, outcome, refusal,
};

/// Longest wait for the head of a request, and for its body after it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for admission, and for a read from the disk.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);
/// After that a connection finishes its request and closes.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// Beyond the longest wait for an outcome, what a closing connection may take to finish.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// Pause after an error of accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What the HTTP server is started with.
#[derive(Debug, Clone, Copy)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Most connections.
    pub connections: usize,
    /// Longest wait of `?wait=final`.
    pub wait_final: Duration,
}

/// The running HTTP server. Dropping it closes all connections.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accept: JoinHandle<()>,
}

impl HttpServer {
    /// Binds the port and serves `ledger` on `runtime`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(config: HttpConfig, runtime: &Handle, ledger: Arc<dyn Ledger>) -> Result<Self, NetError> {
        let refuse = |source| NetError::Bind { key: "listen.http", address: config.listen, source };
        let _guard = runtime.enter();
        let listener = TcpListener::bind(config.listen).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let (stop, stopped) = watch::channel(false);
        let app = router(Api { ledger, wait_final: config.wait_final });
        let accept = runtime.spawn(accept_all(listener, app, config, stopped));
        Ok(Self { address, stop, accept })
    }

    /// Where it listens: the port is known here if the configuration said 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and lets requests that are under way finish, for five seconds at most.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = timeout(CLOSING_TIME, &mut self.accept).await;
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept_all(
    listener: tokio::net::TcpListener,
    app: Router,
    config: HttpConfig,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(config.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed.
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        tokio::select! {
            next = next => match next {
                Some((place, Ok((stream, address)))) => {
                    let connection = serve_one(stream, app.clone(), config.wait_final, stopped.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            debug!(%address, %error, "HTTP connection ended");
                        }
                        drop(place);
                    });
                }
                Some((_place, Err(error))) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_one(
    stream: TcpStream,
    app: Router,
    wait_final: Duration,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    // Answers are written in one piece; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = sleep(CONNECTION_LIFE) => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(wait_final + CLOSING_TIME, connection).await.unwrap_or(Ok(()))
}

#[derive(Clone)]
struct Api {
    ledger: Arc<dyn Ledger>,
    wait_final: Duration,
}

/// One route for what is written; everything else is a read, which `serve` takes apart.
fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/transactions", post(submit))
        .method_not_allowed_fallback(async || not_allowed("POST"))
        .fallback(read)
        .with_state(api)
}

async fn read(State(api): State<Api>, request: HttpRequest) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let uri = request.uri();
    let parsed = match Request::parse(uri.path(), uri.query()) {
        None => return respond(error(404, "NotFound", "no such path; GET / lists them")),
        Some(Err(why)) => return respond(bad_request(&why)),
        Some(Ok(parsed)) => parsed,
    };
    let work = spawn_blocking(move || answer(&*api.ledger, &parsed));
    respond(match timeout(WORK_TIMEOUT, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            warn!(%panic, "a read failed");
            error(500, "Internal", "the read failed; the node's log says why")
        }
        Err(_elapsed) => error(503, "Unavailable", "the read took too long"),
    })
}

async fn submit(State(api): State<Api>, request: HttpRequest) -> Response {
    respond(submit_answer(&api, request).await.unwrap_or_else(|refused| refused))
}

async fn submit_answer(api: &Api, request: HttpRequest) -> Result<Answer, Answer> {
    let wait = match request.uri().query() {
        None | Some("") => false,
        Some("wait=final") => true,
        Some(_) => return Err(bad_request("the only query is ?wait=final")),
    };
    let tx = read_body(request).await?;
    let ticket = api.ledger.submit(tx);
    match timeout(WORK_TIMEOUT, ticket.admitted).await {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => return Err(refusal(&refused)),
        Err(_elapsed) => {
            return Err(error(503, "Unavailable", "the node did not come to look at it in time"));
        }
    }
    let reply = if wait { timeout(api.wait_final, ticket.outcome).await.ok().flatten() } else { None };
    Ok(outcome(ticket.id, reply.as_ref()))
}

async fn read_body(request: HttpRequest) -> Result<axum::body::Bytes, Answer> {
    let too_large =
        || error(413, "TooLarge", &format!("a transaction has at most {TRANSACTION_BYTES_MAX} bytes"));
    let headers = request.headers();
    let is_bytes = headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind == "application/octet-stream");
    if !is_bytes {
        return Err(error(
            415,
            "UnsupportedMediaType",
            "the body is one transaction, application/octet-stream",
        ));
    }
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|len| len > TRANSACTION_BYTES_MAX as u64) {
        return Err(too_large());
    }
    match timeout(READ_TIMEOUT, to_bytes(request.into_body(), TRANSACTION_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(fault)) if is_limit(&fault) => Err(too_large()),
        Ok(Err(fault)) => Err(bad_request(&format!("the body did not come whole: {fault}"))),
        Err(_elapsed) => Err(error(408, "Timeout", "the body did not come in time")),
    }
}

/// Whether a body was refused for its length, which axum tells by the cause of its error only.
fn is_limit(fault: &axum::Error) -> bool {
    std::error::Error::source(fault).is_some_and(|cause| cause.to_string().contains("length limit"))
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(answer.cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = respond(method_not_allowed());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
