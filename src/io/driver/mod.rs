//! The running validator: opens the data folder, starts the threads, and joins them to the sans-IO machine.
//!
//! | thread | does | waits for |
//! |---|---|---|
//! | `salus-core` | owns the node and all consensus state | inputs, timers |
//! | `log-writer` | appends and syncs the block log | records |
//! | `log-lane-*` | write groups of the block log, several at once | groups |
//! | `log-filler` | fills the next segment of the block log with zeros | the last one being used |
//! | `salus-exec` | executes commits, writes tiles, publishes checkpoints | commits |
//! | `salus-peers` | verifies headers of answers, splits large payloads | what takes long of validators' messages |
//! | `salus-library` | answers peers from the log | requests for old blocks |
//! | `salus-verify-*` | check signatures in batches | transactions and payloads |
//! | `salus-net` | QUIC between validators, verifies headers that come singly or few together and small payloads, carries the core's words to peers | sockets |
//! | `salus-io` | QUIC from clients, HTTP, verifies transactions that come alone, carries the core's replies | sockets |
//!
//! The core waits for nobody and takes no lock that another thread holds for long. What it gives away is bounded by what it
//! takes: it takes no inputs while the log or the way out hold more than they should. Then those wait who feed it: peers, whose
//! streams are read only as far as they have credit, and clients, who are told that the node is busy. The table of all queues is
//! in [`crate::manual::back_pressure`].

mod budget;
mod checked;
mod clock;
mod core;
mod data;
mod execution;
mod gate;
mod inbox;
mod intake;
mod ledger;
mod librarian;
mod load;
mod metrics;
mod open;
mod outgoing;
mod peers;
#[cfg(test)]
mod pressure_tests;
mod sockets;

pub use open::StartError;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use self::core::Signals;
use self::execution::Shown;
use self::peers::PumpControl;
use self::sockets::SocketThread;
use crate::config::ConfigFile;
use crate::genesis::Genesis;
use crate::io::client_plane::ClientPlane;
use crate::io::files::DataLock;
use crate::io::http::HttpServer;
use crate::io::peer::PeerNet;
use crate::types::CommitIndex;

/// Pause between two looks at how far a replay has come.
const REPLAY_POLL: Duration = Duration::from_millis(50);
/// Time between two lines about it.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Threads that wait for sockets. Validators and clients have their own: a flood of clients holds up no round.
struct Runtimes {
    io: SocketThread,
    net: SocketThread,
}

/// A validator that runs.
pub struct Validator {
    signals: Arc<Signals>,
    pump: Arc<PumpControl>,
    threads: Vec<JoinHandle<()>>,
    peers: Arc<PeerNet>,
    clients: ClientPlane,
    http: HttpServer,
    addresses: Addresses,
    /// Last commit that the log held at the start.
    replay_until: CommitIndex,
    shown: Arc<Shown>,
    runtimes: Runtimes,
    _lock: DataLock,
}

/// Where a validator listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// QUIC between validators.
    pub peers: SocketAddr,
    /// QUIC from clients.
    pub clients: SocketAddr,
    /// HTTP API.
    pub http: SocketAddr,
}

impl Validator {
    /// Opens the data folder that the configuration names and starts to take part.
    ///
    /// # Errors
    /// If a file, a key, an address or the data folder cannot be used; each error names the thing.
    pub fn start(config: &ConfigFile, genesis: Genesis) -> Result<Self, StartError> {
        open::start(config, genesis)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until what the log held at the start is executed, so that what was acknowledged before does not seem to be
    /// missing; but for the last commits before a loss of power, which have to be decided again. Returns whether it is; what is
    /// not by the end of `most` needs a payload of a peer.
    #[must_use]
    pub fn wait_for_replay(&self, most: Duration) -> bool {
        let deadline = std::time::Instant::now() + most;
        let mut said = None;
        loop {
            let executed = self.shown.head().commit;
            if executed >= self.replay_until {
                return true;
            }
            if self.signals.is_stopping() || std::time::Instant::now() >= deadline {
                return false;
            }
            if said.is_none_or(|at: std::time::Instant| at.elapsed() >= PROGRESS_EVERY) {
                info!(executed = executed.0, until = self.replay_until.0, "executing what the log holds");
                said = Some(std::time::Instant::now());
            }
            std::thread::sleep(REPLAY_POLL.min(most));
        }
    }

    /// From here on signals of the operating system that ask to stop are heard; before, they end the process at once.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn listen_for_stop(&self) -> std::io::Result<StopRequests> {
        let _runtime = self.runtimes.io.handle().enter();
        Ok(StopRequests {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until somebody asks to stop, or the node halts by itself.
    pub fn wait(&self, mut requests: StopRequests) {
        self.runtimes.io.block_on(async {
            let mut ended = tokio::time::interval(std::time::Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = requests.interrupt.recv() => return,
                    _ = requests.terminate.recv() => return,
                    _ = ended.tick() => if self.signals.is_stopping() { return },
                }
            }
        });
    }

    /// Ends all threads, in the order of the data's way, and makes everything durable.
    ///
    /// # Errors
    /// The reason if the node halted by itself: what went wrong and what to do.
    pub fn stop(self) -> Result<(), String> {
        self.signals.stop();
        let Self { signals, pump, threads, peers, clients, http, runtimes, .. } = self;
        runtimes.io.block_on(async {
            http.shutdown().await;
            clients.shutdown().await;
        });
        peers.close();
        pump.stop();
        for thread in threads {
            if thread.join().is_err() {
                signals.halt(
                    "a thread ended by a panic: this is a bug; the messages above say where".to_owned(),
                );
            }
        }
        for sockets in [runtimes.net, runtimes.io] {
            if sockets.join().is_err() {
                signals.halt(
                    "a thread of sockets ended by a panic: this is a bug; the messages above say where"
                        .to_owned(),
                );
            }
        }
        signals.failure().map_or(Ok(()), Err)
    }
}

/// SIGINT and SIGTERM, as far as they have come since somebody listens.
#[derive(Debug)]
pub struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
}
