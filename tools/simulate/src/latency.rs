//! How many message delays a commit takes.

use clap::Args;
use salus::sim::{NetworkConfig, Services, SimConfig, Violation, run};
use serde::Serialize;

/// Constant one-way delay, microseconds.
const DELTA_US: u64 = 50_000;

/// Options of the measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct LatencyOptions {
    /// Numbers of validators.
    #[arg(long, value_delimiter = ',', default_value = "4,10,22,50")]
    validators: Vec<u16>,
    /// Simulated seconds of each measurement, of which three warm up.
    #[arg(long, default_value_t = 13)]
    seconds: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One measurement, in units of the mean one-way delay.
#[derive(Debug, Serialize)]
struct Row {
    network: &'static str,
    validators: usize,
    down: usize,
    delta_ms: f64,
    blocks: usize,
    mean: f64,
    p50: f64,
    p99: f64,
    clients: usize,
    client_mean: f64,
    client_p50: f64,
}

/// Measures and prints.
///
/// # Errors
/// What did not hold.
pub(crate) fn latency(options: &LatencyOptions) -> Result<(), Violation> {
    let constant = NetworkConfig {
        delay_min_us: DELTA_US - DELTA_US / 100,
        delay_max_us: DELTA_US + DELTA_US / 100,
        ..NetworkConfig::default()
    };
    let mut rows = Vec::new();
    if !options.json {
        println!(
            "{:<10} {:>3} {:>5}  {:>6}  {:>7} {:>6} {:>6} {:>6}  {:>7} {:>6} {:>6}",
            "network", "n", "down", "d, ms", "blocks", "mean", "p50", "p99", "clients", "mean", "p50"
        );
    }
    for (network, of) in [("constant", constant), ("regions", NetworkConfig::regions())] {
        for &validators in &options.validators {
            let validators = usize::from(validators);
            let f = (validators - 1) / 3;
            let mut downs = vec![0, 1, f];
            downs.dedup();
            for down in downs {
                let row = measure(network, of, validators, down, options.seconds)?;
                if !options.json {
                    println!(
                        "{:<10} {:>3} {:>5}  {:>6.1}  {:>7} {:>6.2} {:>6.2} {:>6.2}  {:>7} {:>6.2} {:>6.2}",
                        row.network,
                        row.validators,
                        row.down,
                        row.delta_ms,
                        row.blocks,
                        row.mean,
                        row.p50,
                        row.p99,
                        row.clients,
                        row.client_mean,
                        row.client_p50
                    );
                }
                rows.push(row);
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows).unwrap_or_default());
    } else {
        println!(
            "in mean one-way delays d; from making a block until each validator commits it (bound of the papers: 3), and from a \
             client's submission until it hears (bound: 4.5)"
        );
    }
    Ok(())
}

fn measure(
    name: &'static str,
    network: NetworkConfig,
    validators: usize,
    down: usize,
    seconds: u64,
) -> Result<Row, Violation> {
    let config = SimConfig {
        validators,
        down,
        duration_us: seconds * 1_000_000,
        network: Some(network),
        faults: false,
        clock_skew_ms: 0,
        // Enough load that no round waits for something to order.
        services: Services { think_us: (1_000, 20_000), ..Services::instant() },
        measure: true,
        ..SimConfig::default()
    };
    let mut report = run(1, &config)?;
    let delta = network.mean_us(validators - down);
    let (blocks, mean, p50, p99) = figures(&mut report.block_latency_us, delta);
    let (clients, client_mean, client_p50, _) = figures(&mut report.client_latency_us, delta);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds with one digit")]
    let delta_ms = delta as f64 / 1e3;
    Ok(Row {
        network: name,
        validators,
        down,
        delta_ms,
        blocks,
        mean,
        p50,
        p99,
        clients,
        client_mean,
        client_p50,
    })
}

/// Count, mean, median and 99th percentile, in units.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn figures(samples: &mut [u64], unit: u64) -> (usize, f64, f64, f64) {
    samples.sort_unstable();
    let count = samples.len();
    if count == 0 {
        return (0, f64::NAN, f64::NAN, f64::NAN);
    }
    let unit = unit as f64;
    let at = |part: usize| samples[(count - 1) * part / 100] as f64 / unit;
    let mean = samples.iter().sum::<u64>() as f64 / count as f64 / unit;
    (count, mean, at(50), at(99))
}
