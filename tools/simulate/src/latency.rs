//! How many message delays a commit takes.

use clap::Args;
use rayon::prelude::*;
use salus::sim::byzantine::{self, Harm};
use salus::sim::{NetworkConfig, Report, Services, SimConfig, Violation, run};
use serde::Serialize;

/// Constant one-way delay, microseconds.
const DELTA_US: u64 = 50_000;
/// Networks from here on are measured for a third of the time: they make as many more blocks.
const LARGE: usize = 30;
/// First transactions take so many times longer than the rest: between two the network comes to rest.
const REST_FACTOR: u64 = 12;

/// Options of the measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct LatencyOptions {
    /// Numbers of validators.
    #[arg(long, value_delimiter = ',', default_value = "4,10,22,50")]
    validators: Vec<u16>,
    /// Simulated seconds of each measurement; a third from 30 validators on, which take minutes all the same.
    #[arg(long, default_value_t = 9)]
    seconds: u64,
    /// Simulated seconds before: until reputation has seen who is down, and waits have settled.
    #[arg(long, default_value_t = 15)]
    warm_up: u64,
    /// This network alone: constant or regions.
    #[arg(long)]
    network: Option<String>,
    /// This case alone: "none", "one down", "f down", "withholds", "equivocates", "at rest".
    #[arg(long)]
    case: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Good,
    OneDown,
    ManyDown,
    Harmed(Harm),
    /// A transaction now and then, in a network that has nothing to do.
    AtRest,
}

impl Case {
    const ALL: [Self; 6] = [
        Self::Good,
        Self::OneDown,
        Self::ManyDown,
        Self::Harmed(Harm::Withhold),
        Self::Harmed(Harm::Equivocate),
        Self::AtRest,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Good => "none",
            Self::OneDown => "one down",
            Self::ManyDown => "f down",
            Self::Harmed(Harm::Withhold) => "withholds",
            Self::Harmed(Harm::Equivocate) => "equivocates",
            Self::AtRest => "at rest",
        }
    }

    fn down(self, validators: usize) -> usize {
        match self {
            Self::OneDown => 1,
            Self::ManyDown => (validators - 1) / 3,
            Self::Good | Self::Harmed(_) | Self::AtRest => 0,
        }
    }
}

/// One measurement, in units of the mean one-way delay.
#[derive(Debug, Serialize)]
struct Row {
    network: &'static str,
    validators: usize,
    case: &'static str,
    delta_ms: f64,
    blocks: Figures,
    clients: Figures,
}

/// Of some samples, in units.
#[derive(Debug, Serialize)]
struct Figures {
    count: usize,
    mean: f64,
    p50: f64,
    p99: f64,
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
    let is_wanted = |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|wanted| wanted == name);
    if !options.json {
        println!("{}", head());
    }
    let mut rows = Vec::new();
    for (network, of) in [("constant", constant), ("regions", NetworkConfig::regions())] {
        for validators in options.validators.iter().copied().map(usize::from) {
            let cases: Vec<Case> = Case::ALL
                .into_iter()
                .filter(|case| is_wanted(&options.network, network) && is_wanted(&options.case, case.name()))
                // With n = 4 one is f.
                .filter(|case| *case != Case::ManyDown || case.down(validators) > 1)
                .collect();
            let measured: Vec<Result<Row, Violation>> =
                cases.into_par_iter().map(|case| measure(network, of, validators, case, options)).collect();
            for row in measured {
                let row = row?;
                if !options.json {
                    println!("{}", line(&row));
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

fn head() -> String {
    let columns = |what| format!("{what:>8} {:>6} {:>6} {:>6}", "mean", "p50", "p99");
    format!(
        "{:<9} {:>3} {:<11} {:>6} {} {}",
        "network",
        "n",
        "fault",
        "d, ms",
        columns("blocks"),
        columns("clients")
    )
}

fn line(row: &Row) -> String {
    let columns = |of: &Figures| {
        if of.count == 0 {
            return format!("{:>8} {:>6} {:>6} {:>6}", "-", "-", "-", "-");
        }
        format!("{:>8} {:>6.2} {:>6.2} {:>6.2}", of.count, of.mean, of.p50, of.p99)
    };
    format!(
        "{:<9} {:>3} {:<11} {:>6.1} {} {}",
        row.network,
        row.validators,
        row.case,
        row.delta_ms,
        columns(&row.blocks),
        columns(&row.clients)
    )
}

fn measure(
    name: &'static str,
    network: NetworkConfig,
    validators: usize,
    case: Case,
    options: &LatencyOptions,
) -> Result<Row, Violation> {
    let down = case.down(validators);
    let measured = if validators < LARGE { options.seconds } else { options.seconds.div_ceil(3) };
    // One client with pauses, or enough load that no round waits for something to order.
    let (clients, think_us, measured) = match case {
        Case::AtRest => (1, (3_000_000, 5_000_000), REST_FACTOR * measured),
        Case::Good | Case::OneDown | Case::ManyDown | Case::Harmed(_) => (4, (1_000, 20_000), measured),
    };
    let config = SimConfig {
        validators,
        down,
        clients,
        duration_us: (options.warm_up + measured) * 1_000_000,
        network: Some(network),
        faults: false,
        clock_skew_ms: 0,
        services: Services { think_us, ..Services::instant() },
        measure_from_us: Some(options.warm_up * 1_000_000),
        ..SimConfig::default()
    };
    let mut report = match case {
        Case::Harmed(harm) => byzantine::run_harmed(1, &config, harm)?,
        Case::Good | Case::OneDown | Case::ManyDown | Case::AtRest => run(1, &config)?,
    };
    if case == Case::AtRest {
        // Most of them are empty, and made at the pace of rest.
        report.block_latency_us.clear();
    }
    let delta = network.mean_us(validators - down);
    let Report { block_latency_us, client_latency_us, .. } = &mut report;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds with one digit")]
    let delta_ms = delta as f64 / 1e3;
    Ok(Row {
        network: name,
        validators,
        case: case.name(),
        delta_ms,
        blocks: figures(block_latency_us, delta),
        clients: figures(client_latency_us, delta),
    })
}

/// Count, mean, median and 99th percentile, in units.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn figures(samples: &mut [u64], unit: u64) -> Figures {
    samples.sort_unstable();
    let count = samples.len();
    if count == 0 {
        return Figures { count, mean: 0.0, p50: 0.0, p99: 0.0 };
    }
    let unit = unit as f64;
    let at = |part: usize| samples[(count - 1) * part / 100] as f64 / unit;
    let mean = samples.iter().sum::<u64>() as f64 / count as f64 / unit;
    Figures { count, mean, p50: at(50), p99: at(99) }
}
