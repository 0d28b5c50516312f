//! Bare quinn on loopback: how fast one long stream is, and what CPU time a gigabyte costs both sides together.
//!
//! The limit of what Salus's validators could send one another: same quinn, same ciphers, same transport settings as
//! `src/io/quic.rs`, but one stream that is written in large pieces, and nothing done with what comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
/// Of one round.
const BYTES: u64 = 1 << 30;
const PIECE: usize = 1 << 20;
/// As in Salus, whose file says why.
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
const ACK_EVERY: u32 = 8;
const ACK_DELAY_MAX: Duration = Duration::from_millis(10);
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const RECEIVE_WINDOW_BYTES: u32 = 8 << 20;
const SEND_WINDOW_BYTES: u64 = 16 << 20;
const NAME: &str = "localhost";
/// Clock ticks a second in `/proc/self/stat`; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn transport() -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY)).max_ack_delay(Some(ACK_DELAY_MAX));
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .send_fairness(false)
        .initial_rtt(Duration::from_millis(100))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    Arc::new(config)
}

fn endpoint(server: Option<ServerConfig>) -> Result<Endpoint, Failure> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))?)
}

/// A server's and a client's configuration that trust one another by a certificate of their own.
fn configs() -> Result<(ServerConfig, ClientConfig), Failure> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(transport());
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(transport());
    Ok((server, client))
}

/// A runtime of one thread, as each plane of a validator has.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Takes one stream of each connection, and says how many bytes that were.
fn serve(server: ServerConfig, bound: std::sync::mpsc::Sender<SocketAddr>) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let endpoint = endpoint(Some(server))?;
        bound.send(endpoint.local_addr()?)?;
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await?;
            while let Ok((mut answer, mut stream)) = connection.accept_bi().await {
                let mut bytes = 0;
                while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
                    bytes += chunk.bytes.len() as u64;
                }
                answer.write_all(&bytes.to_le_bytes()).await?;
                answer.finish()?;
            }
        }
        Ok(())
    })
}

/// CPU seconds of this process so far: fields 14 and 15, behind the name in parentheses.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1.split_ascii_whitespace().skip(11).take(2);
    let ticks: Result<Vec<f64>, _> = fields.map(str::parse::<f64>).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// First quartile, median and third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [1, 2, 3].map(|quarter| values[last * quarter / 4])
}

async fn send(connection: &quinn::Connection, piece: &Bytes, bytes: u64) -> Result<(), Failure> {
    let (mut stream, mut answer) = connection.open_bi().await?;
    for _ in 0..bytes / piece.len() as u64 {
        stream.write_chunk(piece.clone()).await?;
    }
    stream.finish()?;
    let said = answer.read_to_end(8).await?;
    if said == bytes.to_le_bytes() { Ok(()) } else { Err("not all bytes came".into()) }
}

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|word| word == "--quick");
    let (rounds, bytes) = if quick { (3, BYTES / 8) } else { (ROUNDS, BYTES) };
    let (server, client) = configs()?;
    let (bound, is_bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if let Err(error) = serve(server, bound) {
            eprintln!("error: server: {error}");
        }
    });
    let address = is_bound.recv()?;
    let (speeds, costs) = runtime()?.block_on(async {
        let endpoint = endpoint(None)?;
        let connection = endpoint.connect_with(client, address, NAME)?.await?;
        let piece = Bytes::from(vec![7; PIECE]);
        // The path's largest packets are found, and the window has grown.
        send(&connection, &piece, bytes / 8).await?;
        let (mut speeds, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (start, before) = (Instant::now(), cpu_seconds()?);
            send(&connection, &piece, bytes).await?;
            speeds.push(bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
            costs.push((cpu_seconds()? - before) / (bytes as f64 / 1e9));
        }
        connection.close(VarInt::from_u32(0), b"done");
        Ok::<_, Failure>((speeds, costs))
    })?;
    let [low, median, high] = quartiles(speeds);
    println!("{:<30} {median:>7.0} MB/s ({low:.0} to {high:.0})", "peer/quic/stream");
    let [low, median, high] = quartiles(costs);
    println!("{:<30} {median:>7.2} cpu-s/GB ({low:.2} to {high:.2})", "peer/quic/both-sides");
    Ok(())
}
