//! Medians of several short samples, on one thread or on several at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::CliError;

/// What several samples say: their median, and how far they vary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Figure {
    /// Of samples in any order; all zero if there are none.
    pub(super) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or_default();
        let last = samples.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), low: at(0), high: at(last) }
    }

    /// How far the sample that is farthest from the median is from it, in percent.
    pub(super) fn spread_percent(&self) -> f64 {
        let farthest = (self.high - self.median).max(self.median - self.low);
        if self.median > 0.0 { 100.0 * farthest / self.median } else { 0.0 }
    }
}

/// The same work on one core, and on all at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cores {
    pub(super) one_core: Figure,
    pub(super) all_cores: Figure,
}

/// How many samples are taken, and how long each takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    pub(super) samples: usize,
    pub(super) each: Duration,
}

impl Sampling {
    /// Units a second that `threads` threads do together. Each of them makes its own work, which says how many units one
    /// call has done. A call before the first sample fills caches. Ends early, with an error, once `stop` is set.
    pub(super) fn rate<W: FnMut() -> u64 + Send>(
        self,
        threads: usize,
        stop: &AtomicBool,
        make: impl Fn() -> W + Sync,
    ) -> Result<Figure, CliError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
            CliError::unable_hint(
                format!("cannot start {threads} threads: {error}"),
                "raise the limit on processes of this user (ulimit -u) or of this container",
            )
        })?;
        let works: Vec<Mutex<W>> = pool.broadcast(|_| {
            let mut work = make();
            work();
            Mutex::new(work)
        });
        let mut samples = Vec::with_capacity(self.samples);
        for _ in 0..self.samples {
            go_on(stop)?;
            let rates = pool.broadcast(|context| {
                let mut work = works[context.index()].lock().unwrap_or_else(PoisonError::into_inner);
                rate_of(self.each, &mut *work)
            });
            samples.push(rates.into_iter().sum());
        }
        Ok(Figure::of(samples))
    }

    /// [`Sampling::rate`] on one thread, and on `cores`.
    pub(super) fn on_cores<W: FnMut() -> u64 + Send>(
        self,
        cores: usize,
        stop: &AtomicBool,
        make: impl Fn() -> W + Sync,
    ) -> Result<Cores, CliError> {
        Ok(Cores { one_core: self.rate(1, stop, &make)?, all_cores: self.rate(cores, stop, &make)? })
    }
}

/// Units a second, over as many calls as fill the time.
fn rate_of(time: Duration, work: &mut impl FnMut() -> u64) -> f64 {
    let begun = Instant::now();
    let mut units = 0;
    loop {
        units += work();
        let took = begun.elapsed();
        if took >= time {
            return units as f64 / took.as_secs_f64();
        }
    }
}

/// An error once the measurement is to end.
pub(super) fn go_on(stop: &AtomicBool) -> Result<(), CliError> {
    if stop.load(Ordering::Relaxed) { Err(CliError::unable("interrupted")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_figure_is_the_middle_of_what_was_measured() {
        let figure = Figure::of(vec![12.0, 9.0, 10.0]);
        assert_eq!(figure, Figure { median: 10.0, low: 9.0, high: 12.0 });
        assert!((figure.spread_percent() - 20.0).abs() < 1e-9);
        assert!((Figure::of(vec![1.0, 4.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
        assert_eq!(Figure::of(Vec::new()), Figure { median: 0.0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn every_thread_works_until_it_is_told_to_stop() {
        let sampling = Sampling { samples: 3, each: Duration::from_millis(1) };
        let made = Mutex::new(0);
        let make = || {
            *made.lock().unwrap() += 1;
            || 5
        };
        let figure = sampling.rate(2, &AtomicBool::new(false), make).unwrap();
        assert!(figure.low > 0.0 && figure.low <= figure.median && figure.median <= figure.high);
        assert_eq!(*made.lock().unwrap(), 2);
        assert!(sampling.rate(1, &AtomicBool::new(true), || || 1).is_err());
    }
}
