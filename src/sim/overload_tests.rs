//! Ten times what fits: validators refuse the rest, and go on as before.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::host::MEMORY_BYTES;
use super::intercept::Cast;
use super::settle::DRAIN_US;
use super::world::{SECOND_US, World};
use super::*;
use crate::mempool::MempoolLimits;

/// Time until keys are registered, block time is near the clock and pools are as full as they get.
const WARM_US: u64 = 4 * SECOND_US;
/// Time in which is counted.
const SECONDS: u64 = 6;
/// Transactions that a pool may hold.
const POOL: usize = 60;

/// What a network of four did under a load.
struct Measured {
    /// Transactions that clients heard are final, each second.
    finals: u64,
    /// Submissions, each second.
    offered: u64,
    /// Of the whole run.
    report: Report,
}

/// Blocks of two transactions on lines of 20 milliseconds: what fits is the same on every machine.
fn measure(seed: u64, window: usize) -> Measured {
    let network = NetworkConfig { delay_min_us: 15_000, delay_max_us: 20_000, ..NetworkConfig::default() };
    let services = Services {
        think_us: (500, 1_500),
        hang_per_mille: 0,
        client_us: (100, 1_000),
        ..Services::default()
    };
    let mempool =
        MempoolLimits { transactions: POOL, bytes: 1 << 20, block_transactions: 2, block_bytes: 1 << 16 };
    let config = SimConfig {
        network: Some(network),
        faults: false,
        clock_skew_ms: 0,
        services,
        window,
        mempool,
        ..SimConfig::default()
    };
    let mut world = World::new(seed, &config, Cast::default());
    world.boot_all().unwrap();
    world.run_until(WARM_US).unwrap();
    let count = |world: &World| (world.checker.acknowledged().len() as u64, world.report.submissions);
    let before = count(&world);
    world.run_until(WARM_US + SECONDS * SECOND_US).unwrap();
    let after = count(&world);
    // Whatever a client was told is final is so on every validator, at one place, and what waits still becomes final.
    world.heal().unwrap();
    world.drain(DRAIN_US, SECOND_US / 4).unwrap();
    let report = world.finish().unwrap();
    Measured { finals: (after.0 - before.0) / SECONDS, offered: (after.1 - before.1) / SECONDS, report }
}

#[test]
fn ten_times_the_load_is_refused_and_commits_go_on() {
    // As many in flight as pools and blocks hold.
    let (best, over) = (measure(41, 40), measure(41, 500));
    let is_best = best.finals > 50 && best.report.busy * 20 < best.report.acknowledged;
    assert!(is_best, "{} a second, {:?}", best.finals, best.report);
    assert!(over.offered >= 10 * best.finals, "{} offered, {} fit", over.offered, best.finals);
    assert!(
        over.finals * 10 >= best.finals * 8,
        "{} a second became final, and {} at best",
        over.finals,
        best.finals
    );
    let report = over.report;
    assert!(report.busy > 5 * report.acknowledged, "{report:?}");
    assert!(report.pool_max >= POOL, "pools were full: {report:?}");
    // Blocks that no commit took give their transactions back.
    assert!(report.pool_max <= 2 * POOL && report.bytes_max <= MEMORY_BYTES / 8, "{report:?}");
}
