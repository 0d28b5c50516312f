//! Runs seed after seed for a given time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::options::WorldOptions;
use crate::seeds::{Sum, one};

/// Options of a soak.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoakOptions {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    #[command(flatten)]
    world: WorldOptions,
}

/// Runs it; the sum of what happened.
pub(crate) fn soak(options: &SoakOptions) -> Sum {
    let limit = Duration::from_secs(60 * options.minutes);
    let start = Instant::now();
    let style = "{bar:30} {pos}/{len} s  {msg}";
    let bar = ProgressBar::new(limit.as_secs())
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let sum = Mutex::new(Sum::default());
    let seeds = (options.first..).take_while(|_| start.elapsed() < limit);
    seeds.par_bridge().for_each(|seed| {
        let result = one(seed, &options.world, false);
        if let Err(failure) = &result {
            let typed = options.world.typed();
            bar.suspend(|| println!("seed {seed}: {failure}\n    again: simulate --seed {seed}{typed}"));
        }
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(seed, result);
        bar.set_position(start.elapsed().as_secs());
        bar.set_message(format!(
            "{:.1} cluster-hours, {} violations; {}",
            sum.cluster_hours(),
            sum.failed.len(),
            sum.faults()
        ));
        drop(sum);
    });
    bar.finish_and_clear();
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("soak of {} min: {}", options.minutes, sum.line());
    sum
}
