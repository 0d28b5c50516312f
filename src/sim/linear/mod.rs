//! Whether what clients see could have been seen at one place, in one order.
//!
//! Callers of several organisations share few keys: consents, which are granted, revoked and relied on by accesses that the
//! ledger judges, and chains of record versions, which grow by compare-and-swap. Every call and every answer is kept with
//! its time. What has to hold:
//!
//! - **Transactions are linearizable, key by key**: some order of them explains all answers and keeps apart what did not
//!   overlap. The search for it knows nothing of leaves and commits.
//! - **Leaves are in real time**: what was final before something else was submitted lies before it.
//! - **Reads of one validator's state** are not linearizable, and are not said to be: a validator may be behind. Each shows
//!   the state after the first `tree_size` leaves, all of it and nothing else. A caller that passes the largest size it
//!   has seen, and asks elsewhere where that is not reached, never sees the state go back, and sees what it wrote.
//! - **Proofs verify**, and each checkpoint that a caller is shown extends, or is extended by, the one before.
//!
//! One answer is weaker than it looks: a transaction that is *skipped* for something that may yet come (a revocation before
//! its grant) may still be executed, once, if another validator has a copy. The histories say so, and count it.

mod drive;
mod history;
mod models;
mod search;
mod session;

use super::byzantine;
use super::checker::{Report, Violation};
use super::intercept::Cast;
use super::network::NetworkConfig;
use super::random::Random;
use super::world::{DRAIN_US, SECOND_US, SimConfig, World};
pub(super) use drive::SESSIONS;
pub use history::Judged;
pub(super) use session::{Ask, Sessions};

/// Runs one world with so many callers, and judges what they saw. Without a network in `config` a mild one is drawn. If `attacked`, up to f validators are Byzantine.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(
    seed: u64,
    config: &SimConfig,
    callers: usize,
    attacked: bool,
) -> Result<(Report, Judged), Violation> {
    let cast = if attacked { byzantine::cast(seed, config.validators, None) } else { Cast::default() };
    let mut config = config.clone();
    config.network.get_or_insert_with(|| network(seed));
    let mut world = World::new(seed, &config, cast);
    let orgs = world.genesis.members().map(|(org, _)| org).collect();
    world.clients.clear();
    world.sessions = Some(Sessions::new(seed, world.genesis.network(), orgs, callers));
    world.boot_all()?;
    world.run_until(config.duration_us)?;
    world.heal()?;
    world.drain(DRAIN_US, SECOND_US / 2)?;
    let judged = world.judge()?;
    Ok((world.finish()?, judged))
}

/// A network that is not so bad that callers do little but wait.
fn network(seed: u64) -> NetworkConfig {
    let mut random = Random::new(seed ^ 0x006c_696e_6561);
    let delay_min_us = random.between(200, 2_000);
    NetworkConfig {
        delay_min_us,
        delay_max_us: delay_min_us + random.between(100, 8_000),
        loss_per_mille: random.between(0, 60),
        replay_per_mille: random.between(0, 60),
        ..NetworkConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_whole_networks_are_linearizable() {
        let mut sum = Judged::default();
        for seed in 0..6 {
            let config = SimConfig { duration_us: 12_000_000, ..SimConfig::default() };
            let (_, judged) = run(seed, &config, 12, seed % 2 == 1)
                .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            sum.keys += judged.keys;
            sum.transactions += judged.transactions;
            sum.reads += judged.reads;
            sum.proofs += judged.proofs;
        }
        assert!(sum.keys > 20 && sum.transactions > 500 && sum.reads > 200 && sum.proofs > 20, "{sum:?}");
    }

    /// A validator was away while one that equivocates made up the others' quorums, and then went: it has to name blocks of that
    /// one to come back, without which the rest is no quorum. (It stands still with this seed if it may not.)
    #[test]
    fn who_was_away_comes_back_over_blocks_of_an_equivocator() {
        let (_, judged) =
            run(343, &SimConfig::default(), 12, true).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(judged.transactions > 100);
    }
}
