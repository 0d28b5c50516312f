//! Where a running node spends its time: samples of all threads, drawn as a flame graph.

use std::fs::File;
use std::path::PathBuf;

use pprof::flamegraph::Options;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use crate::error::StorageError;

/// Samples a second, prime so that nothing periodic hides between them.
const SAMPLES_PER_S: i32 = 199;

/// Samples from its start until it is written.
pub struct Profile {
    guard: ProfilerGuard<'static>,
    file: PathBuf,
}

impl Profile {
    /// Starts to sample.
    ///
    /// # Errors
    /// If the system gives no timer, or the process is sampled already.
    pub fn start(file: PathBuf) -> Result<Self, String> {
        let builder = ProfilerGuardBuilder::default()
            .frequency(SAMPLES_PER_S)
            // Unwinding through these from a signal can deadlock.
            .blocklist(&["libc", "libgcc", "pthread", "vdso"]);
        let guard = builder.build().map_err(|error| format!("cannot sample this process: {error}"))?;
        Ok(Self { guard, file })
    }

    /// Writes the flame graph, SVG, of what was sampled so far.
    ///
    /// # Errors
    /// If there are no samples or the file cannot be written.
    pub fn write(&self) -> Result<(), String> {
        let report = self.guard.report().build().map_err(|error| format!("no profile: {error}"))?;
        let file = File::create(&self.file)
            .map_err(|error| StorageError::io("create", &self.file, error).to_string())?;
        let mut options = Options::default();
        options.title = "A validator under load".to_owned();
        // What is narrower cannot be read, and makes the file ten times as large.
        options.min_width = 0.4;
        report
            .flamegraph_with_options(file, &mut options)
            .map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
