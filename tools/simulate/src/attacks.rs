//! `simulate attacks`: Byzantine validators.

use std::process::ExitCode;

use clap::Args;
use salus::sim::byzantine::{self, Attack, Lies};
use salus::sim::{Report, SimConfig};

use crate::sweep::{Swept, sweep, verdict};

/// Byzantine validators, up to a third, each with attacks drawn from the seed, beside all other faults.
#[derive(Debug, Args)]
pub(crate) struct Attacks {
    /// Number of seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Simulated seconds of each run.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Validators, instead of 4 and 7 in turn.
    #[arg(long, value_parser = clap::value_parser!(u16).range(4..=22))]
    validators: Option<u16>,
    /// This attack alone, without pauses.
    #[arg(long, value_parser = attack)]
    attack: Option<Attack>,
    /// No crashes and no partitions.
    #[arg(long)]
    no_faults: bool,
}

fn attack(name: &str) -> Result<Attack, String> {
    let names = || Attack::ALL.map(Attack::name).join(", ");
    Attack::ALL
        .into_iter()
        .find(|attack| attack.name() == name)
        .ok_or_else(|| format!("known attacks: {}", names()))
}

impl Attacks {
    pub(crate) fn run(&self) -> ExitCode {
        let only = self.attack.map(|attack| [attack]);
        let one = |seed: u64| {
            let drawn = if seed.is_multiple_of(2) { 4 } else { 7 };
            let config = SimConfig {
                validators: self.validators.map_or(drawn, usize::from),
                duration_us: self.seconds * 1_000_000,
                faults: !self.no_faults,
                ..SimConfig::default()
            };
            byzantine::run(seed, &config, only.as_ref().map(<[Attack; 1]>::as_slice))
        };
        let cases = self.first..self.first.saturating_add(self.seeds);
        let Swept { held, failed, took_s } = sweep("seeds", cases, one);
        let sum = |field: fn(&Report) -> u64| held.iter().map(field).sum::<u64>();
        println!(
            "attacks: {} seeds held, {} did not; {} simulated seconds in {took_s:.0} s; acknowledged {}  blamed {}  convicted {}",
            held.len(),
            failed.len(),
            sum(|r| r.simulated_us) / 1_000_000,
            sum(|r| r.acknowledged),
            sum(|r| r.blamed),
            sum(|r| r.convicted)
        );
        println!("{}", by_kind(&held));
        verdict(&failed, |seed| {
            format!("simulate attacks --first {seed} --seeds 1 --seconds {}", self.seconds)
        })
    }
}

/// How often each attack was carried out.
pub(crate) fn by_kind(reports: &[Report]) -> String {
    let mut lies = Lies::new();
    for report in reports {
        for (attack, times) in &report.lies {
            *lies.entry(*attack).or_default() += times;
        }
    }
    lies.iter().map(|(attack, times)| format!("{} {times}", attack.name())).collect::<Vec<_>>().join("  ")
}
