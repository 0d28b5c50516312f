//! Very many rounds: memory has to stay where it is.
#![expect(clippy::disallowed_methods, reason = "asks the system how much memory the process takes")]

use clap::Args;
use salus::sim::{NetworkConfig, Report, Services, SimConfig, Violation, run};

/// Options of the run.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemoryOptions {
    /// Rounds.
    #[arg(long, default_value_t = 1_000_000)]
    rounds: u64,
    /// Validators.
    #[arg(long, default_value_t = 4)]
    validators: u16,
}

/// Runs a tenth of the rounds, then all, and prints how much each took.
///
/// # Errors
/// What did not hold.
pub(crate) fn memory(options: &MemoryOptions) -> Result<(), Violation> {
    for rounds in [options.rounds / 10, options.rounds] {
        let report = rounds_of(rounds, options.validators)?;
        println!(
            "memory: {} rounds of {} validators, {:.0} simulated s, {} transactions: a validator holds at most {} KiB, {} blocks in its DAG, {} suspended; peak of the process, ledgers included, {} MiB",
            report.rounds,
            options.validators,
            std::time::Duration::from_micros(report.simulated_us).as_secs_f64(),
            report.leaves,
            report.bytes_max / 1_024,
            report.dag_blocks_max,
            report.suspended_max,
            peak_mib()
        );
    }
    Ok(())
}

fn rounds_of(rounds: u64, validators: u16) -> Result<Report, Violation> {
    let network = NetworkConfig { delay_min_us: 100, delay_max_us: 300, ..NetworkConfig::default() };
    let config = SimConfig {
        validators: validators.into(),
        duration_us: u64::MAX / 4,
        rounds,
        network: Some(network),
        faults: false,
        clock_skew_ms: 0,
        services: Services { think_us: (20_000_000, 60_000_000), ..Services::instant() },
        keep_log: false,
        ..SimConfig::default()
    };
    run(1, &config)
}

/// Most memory that the process had resident, MiB; 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}
