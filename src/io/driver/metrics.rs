//! What `/metrics` shows, in Prometheus' text format.

use prometheus::{Encoder as _, IntGaugeVec, Opts, Registry, TextEncoder};

use super::ledger::Service;
use crate::io::peer::PeerStats;

/// Gauges without labels: name, help, value.
type Plain = (&'static str, &'static str, u64);

/// Gauges with a label for each peer: name, help, and where the value comes from.
type PerPeer = (&'static str, &'static str, fn(&PeerStats) -> u64);

/// Everything known now. Made anew for each request: there are few, and nothing is kept twice.
pub(super) fn text(service: &Service) -> String {
    let registry = Registry::new();
    for (name, help, value) in ledger_gauges(service).into_iter().chain(thread_gauges(service)) {
        add(&registry, name, help, &[], &[(&[], value)]);
    }
    add_peers(&registry, service);
    let mut out = Vec::new();
    // Writing to memory does not fail, and the names are valid.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Where the node and the ledger stand.
fn ledger_gauges(service: &Service) -> [Plain; 23] {
    let stats = service.signals.stats();
    let head = service.shown.head();
    [
        ("salus_round", "Round of the last own block", stats.own_round.0),
        ("salus_quorum_round", "Highest round with blocks of a quorum", stats.quorum_round.0),
        ("salus_commit", "Last commit that was decided", stats.commit.0),
        ("salus_executed_commit", "Last commit that was executed", head.commit.0),
        ("salus_block_time_ms", "Block time of the last executed commit, Unix milliseconds", head.time.0),
        ("salus_tree_size", "Leaves of the Merkle log", head.tree_size),
        (
            "salus_checkpoint_size",
            "Leaves under the last certified checkpoint",
            service.shown.published().map_or(0, |p| p.size),
        ),
        ("salus_mempool_transactions", "Transactions that wait for a block", stats.mempool as u64),
        ("salus_mempool_bytes", "Bytes of them", stats.mempool_bytes as u64),
        (
            "salus_memory_bytes",
            "Estimate of the memory that headers, payloads and transactions take",
            stats.memory_bytes as u64,
        ),
        ("salus_memory_limit_bytes", "Bound of it, limits.memory_mb", service.memory_limit),
        ("salus_dag_blocks", "Blocks in memory", stats.dag_blocks as u64),
        ("salus_suspended_headers", "Headers that wait for ancestors", stats.suspended as u64),
        ("salus_fetching", "Headers and payloads that are asked for", stats.fetching as u64),
        (
            "salus_equivocations",
            "Second blocks of one validator in one round, since start",
            stats.equivocations,
        ),
        (
            "salus_equivocators",
            "Validators proven to have signed two blocks of one round",
            service.signals.evidence().len() as u64,
        ),
        (
            "salus_leader_timeout_us",
            "How long the first leader of a round is waited for at the moment, microseconds",
            stats.leader_timeout_us,
        ),
        ("salus_round_us", "Time between own blocks, smoothed, microseconds", stats.round_us),
        ("salus_payload_cap_bytes", "Bytes that the next own payload may have", stats.payload_cap as u64),
        ("salus_leaders_committed", "Leader slots committed, since start", stats.committed_leaders),
        ("salus_leaders_skipped", "Leader slots skipped, since start", stats.skipped_leaders),
        (
            "salus_commits_applied",
            "Commits taken over from peers by certificate, since start",
            stats.applied_commits,
        ),
        (
            "salus_commit_certificates",
            "Commit certificates written to the log, since start",
            stats.certificates,
        ),
    ]
}

/// What the node's threads have done.
fn thread_gauges(service: &Service) -> [Plain; 12] {
    let load = service.signals.load();
    let gate = &service.intake.gate;
    let waiting = gate.waiting();
    [
        (
            "salus_memory_bound_bytes",
            "Bound of all that may be under way: blocks, frames, transactions, connections, records",
            service.memory_bound,
        ),
        (
            "salus_peer_held_bytes_total",
            "Bytes that peers occupy with what is not handled yet",
            service.peers.stats().iter().map(|peer| peer.held_bytes).sum(),
        ),
        (
            "salus_intake_transactions",
            "Client transactions between the socket and the pool",
            waiting.transactions as u64,
        ),
        ("salus_intake_bytes", "Bytes of them", waiting.bytes as u64),
        (
            "salus_intake_refused",
            "Client transactions that were refused as Busy before they were looked into, since start",
            gate.refused(),
        ),
        ("salus_log_records", "Records in the block log", service.log.durable().0),
        (
            "salus_core_busy_us",
            "Microseconds that the consensus thread was not idle, since start",
            load.busy_us(),
        ),
        (
            "salus_core_busy_permille",
            "Thousandths of the last ten seconds in which the consensus thread was not idle",
            load.recent_permille(),
        ),
        (
            "salus_core_longest_us",
            "Microseconds that the longest input of the last ten seconds took on the consensus thread",
            load.recent_longest_us(),
        ),
        ("salus_core_inputs", "Inputs of the consensus thread, since start", load.inputs()),
        (
            "salus_headers_verified",
            "Headers whose signature was checked, since start",
            service.pump.verified(),
        ),
        (
            "salus_headers_repeated",
            "Headers that had been verified before and came again, since start",
            service.pump.repeated(),
        ),
    ]
}

fn add_peers(registry: &Registry, service: &Service) {
    let peers = service.peers.stats();
    let named: Vec<(String, _)> =
        peers.iter().map(|peer| (service.committee.authority(peer.peer).name.clone(), peer)).collect();
    let columns: [PerPeer; 11] = [
        ("salus_peer_up", "Whether a peer is connected", |peer| u64::from(peer.up)),
        ("salus_peer_misbehaved", "Rules that a peer broke, since start", |peer| peer.misbehaved),
        ("salus_peer_sent_bytes", "Bytes sent to a peer, since start", |peer| peer.sent_bytes),
        ("salus_peer_received_bytes", "Bytes received from a peer, since start", |peer| peer.received_bytes),
        ("salus_peer_held_bytes", "Bytes that a peer occupies with what is not handled yet", |peer| {
            peer.held_bytes
        }),
        ("salus_peer_received_frames", "Frames received from a peer, since start", |peer| {
            peer.received_frames
        }),
        ("salus_peer_dropped_frames", "Frames that a full queue dropped, since start", |peer| {
            peer.dropped.iter().sum()
        }),
        ("salus_peer_rtt_us", "Smoothed round-trip time to a peer, microseconds", |peer| peer.path.rtt_us),
        (
            "salus_peer_window_bytes",
            "Bytes that may be under way to a peer without acknowledgement",
            |peer| peer.path.window,
        ),
        ("salus_peer_mtu_bytes", "Bytes of one UDP payload to a peer", |peer| peer.path.mtu),
        ("salus_peer_lost_packets", "Packets to a peer that were lost, since it was connected", |peer| {
            peer.path.lost_packets
        }),
    ];
    for (name, help, value) in columns {
        let rows: Vec<([&str; 1], u64)> =
            named.iter().map(|(peer, stats)| ([peer.as_str()], value(stats))).collect();
        let rows: Vec<(&[&str], u64)> =
            rows.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
        add(registry, name, help, &["peer"], &rows);
    }
    let equivocators = service.signals.stats().equivocators;
    let committee = service.committee.iter();
    let rows: Vec<([&str; 1], u64)> = committee
        .map(|(index, authority)| ([authority.name.as_str()], u64::from(equivocators.contains(index))))
        .collect();
    let rows: Vec<(&[&str], u64)> = rows.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
    let help = "Whether a validator is known to have signed two blocks of one round";
    add(registry, "salus_equivocator", help, &["validator"], &rows);
}

fn add(registry: &Registry, name: &str, help: &str, labels: &[&str], rows: &[(&[&str], u64)]) {
    let Ok(gauges) = IntGaugeVec::new(Opts::new(name, help), labels) else { return };
    for (values, value) in rows {
        gauges.with_label_values(values).set(i64::try_from(*value).unwrap_or(i64::MAX));
    }
    let _ = registry.register(Box::new(gauges));
}
