//! How much memory a node may hold for what is under way, and how much of it each part gets.
//!
//! The parts follow from the configuration and the size of the committee; [`Budget::parts`] lists them, their sum is said at the
//! start and shown as a metric. What bounds each queue on the way, and what happens when it is full, is the table of
//! [`crate::manual::back_pressure`]. The state's tables and the places of the block log are not under way: they grow with what
//! the ledger holds.

use super::outgoing::WORD_BYTES_MAX;
use crate::config::NodeConfig;
use crate::io::client_plane::CLIENT_BYTES_MAX;
use crate::io::log_store::{COMMIT_BYTES, IN_FLIGHT_MAX, QUEUED_BYTES_MAX};
use crate::io::peer::PeerLimits;
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::node::OWN_BYTES_MAX;

/// Part of `limits.memory_mb` that frames from all peers may take, and the same for frames to them.
const TRANSIT_PART: usize = 4;
/// Queues of frames to one peer, one for each class.
const SEND_QUEUES: usize = 3;
/// Room for what one peer sends: at least the largest payload with what decoding makes of it.
const RECEIVE_BYTES: (usize, usize) = (6 << 20, 16 << 20);
/// For headers and requests of one peer.
const RECEIVE_SMALL_BYTES: usize = 4 << 20;
/// Each queue to one peer: at least the largest frame.
const QUEUE_BYTES: (usize, usize) = (PEER_FRAME_BYTES_MAX, 16 << 20);
/// QUIC's window in each direction of one peer.
const WINDOW_BYTES: (usize, usize) = (2 << 20, 16 << 20);
/// What a transaction takes beside its bytes: its place in the pool, its ticket, its client's note, its reply.
const TRANSACTION_OVERHEAD_BYTES: usize = 512;
/// The same in an own block, for each byte: its transactions are kept too, and have at least 120 bytes.
const OWN_BLOCK_FACTOR: usize = 4;
/// An HTTP connection's buffers.
const HTTP_CONNECTION_BYTES: usize = 64 << 10;
/// A decoded key in a cache.
const KEY_BYTES: usize = 800;
/// Verifiers beside those of the pool: two that check what comes from peers, and a small one for lone transactions.
const OTHER_VERIFIERS: usize = 2;

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limits: PeerLimits,
    parts: Vec<(&'static str, usize)>,
}

impl Budget {
    /// For one of `validators`, with `threads` that verify and `cache_keys` keys in the cache of each.
    pub(super) fn of(config: &NodeConfig, validators: usize, threads: usize, cache_keys: usize) -> Self {
        let memory = config.limits.memory_mb << 20;
        let peers = validators.saturating_sub(1);
        let share = memory / TRANSIT_PART / peers.max(1);
        let within = |(least, most): (usize, usize), bytes: usize| bytes.clamp(least, most);
        let receive = within(RECEIVE_BYTES, share / 2);
        let receive_window = within((WINDOW_BYTES.0, WINDOW_BYTES.1 / 2), share / 4);
        let queue = within(QUEUE_BYTES, share / 4);
        let send_window = within(WINDOW_BYTES, share / 4);
        let limits = PeerLimits {
            receive_bytes: receive,
            receive_small_bytes: RECEIVE_SMALL_BYTES,
            receive_window: u32::try_from(receive_window).unwrap_or(u32::MAX),
            send_window: u32::try_from(send_window).unwrap_or(u32::MAX),
            queue_bytes: queue,
            ..PeerLimits::default()
        };
        let pool = &config.mempool;
        let parts = vec![
            ("blocks of validators", memory),
            ("frames from peers", peers * (receive + RECEIVE_SMALL_BYTES + receive_window)),
            ("frames to peers", peers * (SEND_QUEUES * queue + send_window) + WORD_BYTES_MAX),
            (
                "client transactions",
                pool.bytes.saturating_add(pool.transactions.saturating_mul(TRANSACTION_OVERHEAD_BYTES)),
            ),
            ("own blocks", OWN_BLOCK_FACTOR * (OWN_BYTES_MAX + config.payload.bytes)),
            ("connections of clients", config.clients.connections.saturating_mul(CLIENT_BYTES_MAX)),
            ("connections by HTTP", config.http.connections.saturating_mul(HTTP_CONNECTION_BYTES)),
            ("records for the log", QUEUED_BYTES_MAX + IN_FLIGHT_MAX * (COMMIT_BYTES + PEER_FRAME_BYTES_MAX)),
            (
                "decoded keys",
                (threads + OTHER_VERIFIERS).saturating_mul(cache_keys.saturating_mul(KEY_BYTES)),
            ),
        ];
        Self { limits, parts }
    }

    /// What one peer may occupy.
    pub(super) fn peer_limits(&self) -> PeerLimits {
        self.limits
    }

    /// What each part may take, in bytes.
    pub(super) fn parts(&self) -> &[(&'static str, usize)] {
        &self.parts
    }

    /// Bytes of all parts together.
    pub(super) fn total(&self) -> usize {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(validators: usize, memory_mb: usize) -> Budget {
        let mut config = NodeConfig::new("a");
        config.limits.memory_mb = memory_mb;
        Budget::of(&config, validators, 4, 65_536)
    }

    #[test]
    fn the_defaults_come_to_less_than_three_gigabytes() {
        let budget = budget(4, 1_024);
        assert!(budget.total() < 3 << 30, "{budget:?}");
        let part = |name| budget.parts().iter().find(|(of, _)| *of == name).map(|(_, bytes)| bytes >> 20);
        assert_eq!(part("frames from peers"), Some(84));
        assert_eq!(part("frames to peers"), Some(3 * 64 + 32));
    }

    #[test]
    fn in_large_committees_each_peer_gets_less_and_enough_for_the_largest_frame() {
        for (validators, memory_mb) in [(1, 64), (4, 64), (22, 256), (50, 1_024), (128, 8_192)] {
            let budget = budget(validators, memory_mb);
            let limits = budget.peer_limits();
            let payload =
                crate::limits::PAYLOAD_BYTES_MAX + 48 * crate::limits::PAYLOAD_TRANSACTIONS_MAX + 64;
            assert!(
                limits.receive_bytes >= payload && limits.queue_bytes >= PEER_FRAME_BYTES_MAX,
                "{limits:?}"
            );
            let peers = validators - 1;
            let least = peers * (RECEIVE_BYTES.0 + RECEIVE_SMALL_BYTES + WINDOW_BYTES.0);
            let from_peers = budget.parts()[1].1;
            assert!(from_peers <= (memory_mb << 20) / TRANSIT_PART + 2 * least, "{validators}: {from_peers}");
        }
    }
}
