//! What has to hold of every version, in one go: one line for each goal.

use std::time::Instant;

use salus::sim::{SimConfig, byzantine, linear, twins};

use crate::options::WorldOptions;
use crate::seeds::{Sum, guarded, many, one};
use crate::sweep::sweep;

/// Simulated seconds of a run of the safety row.
const SECONDS: u64 = 60;

/// Cases of twins.
const TWINS: u64 = 5_000;
/// Operations of the clients whose histories are judged.
const OPERATIONS: u64 = 100_000;

/// Runs the rows; whether all held.
pub(crate) fn ci() -> bool {
    let start = Instant::now();
    let mut all = true;
    let mut row = |goal: &str, figure: String, held: bool| {
        all &= held;
        let verdict = if held { "held" } else { "VIOLATED" };
        println!("{verdict:<8} {:>4} s  {goal}: {figure}", start.elapsed().as_secs());
    };
    let world = WorldOptions::default();

    let canary = WorldOptions { canary: true, seconds: 1, ..world.clone() };
    let sum = many(1..101, |seed| one(seed, &canary, false), " --canary --seconds 1");
    row(
        "failures are seen, 1 of 100 seeds on purpose",
        format!("{} seen", sum.failed.len()),
        sum.failed.len() == 1,
    );

    let twice = WorldOptions { seconds: 10, ..world.clone() };
    let sum = many(1..51, |seed| one(seed, &twice, true), &twice.typed());
    row("same seed, same trace, 50 seeds twice", counts(&sum), sum.failed.is_empty());

    let safety = WorldOptions { seconds: SECONDS, ..world.clone() };
    let seeds = 36_000 / SECONDS + 1;
    let sum = many(1_000..1_000 + seeds, |seed| one(seed, &safety, false), &safety.typed());
    let enough = sum.cluster_hours() >= 10.0 && sum.failed.is_empty();
    row("safety, 10 cluster-hours, and a random core drains within 60 s", sum.line(), enough);

    let upgrade = WorldOptions { seconds: 20, upgrade: true, ..world };
    let sum = many(2_000..2_020, |seed| one(seed, &upgrade, false), &upgrade.typed());
    let upgraded = sum.report.upgrades >= 80 && sum.report.newest_headers > 0 && sum.failed.is_empty();
    row("version 1 and 2 mixed, 20 seeds", counts(&sum), upgraded);

    let attacked = |seed: u64| {
        let validators = if seed.is_multiple_of(2) { 4 } else { 7 };
        let config = SimConfig { validators, duration_us: 20_000_000, ..SimConfig::default() };
        guarded(|| byzantine::run(seed, &config, None))
    };
    let sum = many(0..100, attacked, " (simulate attacks --seeds 1 --first that)");
    row("up to f Byzantine validators, 100 seeds", counts(&sum), sum.failed.is_empty());

    let swept = sweep("cases of twins", 0..TWINS, |case| {
        guarded(|| twins::run(case, if case.is_multiple_of(3) { 7 } else { 4 }))
    });
    let figure = format!("{} cases held, {} did not", swept.held.len(), swept.failed.len());
    row("keys that run twice, 5,000 cases", figure, swept.failed.is_empty());

    let (mut operations, mut failed, mut next) = (0, 0, 0);
    while operations < OPERATIONS && failed == 0 {
        let config = SimConfig::default();
        let swept = sweep("histories", next..next + 8, |seed| linear::run(seed, &config, 12, seed % 2 == 1));
        operations += swept.held.iter().map(|(_, judged)| judged.operations()).sum::<u64>();
        failed += swept.failed.len();
        next += 8;
    }
    let figure = format!("{operations} operations, {failed} histories are not");
    row("client histories are linearizable, 100,000 operations", figure, failed == 0);
    all
}

fn counts(sum: &Sum) -> String {
    format!("{} held, {} did not; faults: {}", sum.held, sum.failed.len(), sum.faults())
}
