//! How far a command is, shown on a terminal if it takes longer than a moment.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes longer shows how far it is.
const QUIET: Duration = Duration::from_secs(1);

/// How often a bar is drawn that shows time passing.
const TICK: Duration = Duration::from_millis(250);

/// A bar on standard error that appears after [`QUIET`], and on a terminal alone.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    start: Instant,
    on_terminal: bool,
}

impl Progress {
    /// `template` is indicatif's; `total` is what the sum of all [`Progress::add`] will be, where that is known.
    pub(super) fn new(template: &str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, start: Instant::now(), on_terminal: std::io::stderr().is_terminal() }
    }

    /// So much more is done.
    pub(super) fn add(&self, done: u64) {
        self.bar.inc(done);
        if self.on_terminal && self.bar.is_hidden() && self.start.elapsed() > QUIET {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// What is being done. Shows time passing from here on.
    pub(super) fn message(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.on_terminal {
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Takes the bar away while something is printed.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// All is done, or will not be: takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
