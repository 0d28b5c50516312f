//! `salus bench`: what this machine verifies, hashes, logs and makes final.

mod compute;
mod disk;
mod machine;
mod network;
mod report;
mod sample;
mod summary;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, files};
use disk::Writing;
use machine::Machine;
use network::{Finalised, Loaded, Loading};
use report::Report;
use sample::Sampling;

const EXAMPLES: &str = "\
EXAMPLES
  What this machine can do, with the disk that a validator's data would be on:
      salus bench --dir /var/lib/salus
  Whether Salus runs here at all, in a few seconds:
      salus bench --quick
  Figures for a program, beside the table or in its place:
      salus bench --json bench.json
      salus bench --json - | jq .network.kept_up_per_s

  It takes under a minute. A figure is the median of several short samples; ± says how far the
  farthest of them is from it. Validators listen on loopback alone, and what is written is in a
  folder of its own, below 1 GiB, that is removed at the end. Where four validators share a machine, each has a
  quarter of it: the last line says what one could do that has it for itself.

  Exit code 0: measured. 1: the four validators did not agree. 2: it could not be measured.";

/// Measure what this machine verifies, hashes, logs and makes final.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Folder whose disk is measured; something is written below it and removed again [default: the temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the figures as JSON to a file, or with `-` to standard output in place of the table
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Replace that file if it exists
    #[arg(long, requires = "json")]
    pub force: bool,
    /// Measure for a few seconds only: shows that everything works, and figures of the right size at best
    #[arg(long)]
    pub quick: bool,
}

/// How long and how much to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    sampling: Sampling,
    buffer_bytes: usize,
    writing: Writing,
    loading: Loading,
}

impl Plan {
    const FULL: Self = Self {
        sampling: Sampling { samples: 7, each: Duration::from_millis(120) },
        buffer_bytes: 32 << 20,
        writing: Writing { syncs: 500, samples: 7, within: Duration::from_secs(3) },
        loading: Loading {
            rate: 1_000,
            duration: Duration::from_secs(4),
            search: Some(Duration::from_secs(22)),
        },
    };
    const QUICK: Self = Self {
        sampling: Sampling { samples: 3, each: Duration::from_millis(20) },
        buffer_bytes: 4 << 20,
        writing: Writing { syncs: 20, samples: 2, within: Duration::from_millis(500) },
        loading: Loading { rate: 100, duration: Duration::from_secs(1), search: None },
    };

    fn of(args: &BenchArgs) -> Self {
        if args.quick { Self::QUICK } else { Self::FULL }
    }
}

/// Measures. Whatever happens, neither a process nor a file stays behind.
pub(super) fn run(args: &BenchArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let json_file = args.json.as_deref().filter(|_| !to_stdout);
    if let Some(path) = json_file {
        check_target(path, args.force)?;
    }
    let folder = folder(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::unable(format!("cannot start threads: {error}")))?;
    let table: &mut dyn Write = if to_stdout { &mut std::io::sink() } else { &mut *out };
    let report = runtime.block_on(measure(args, folder.path(), table));
    // Nothing is waited for that a signal has interrupted; the folder goes last.
    runtime.shutdown_background();
    let json = report?.json().map_err(|error| CliError::unable(error.to_string()))?;
    match json_file {
        Some(path) => files::write_new(path, json.as_bytes(), args.force),
        None if to_stdout => Ok(out.write_all(json.as_bytes())?),
        None => Ok(()),
    }
}

/// Finds out before the measurement, rather than after it, that its results cannot be written.
fn check_target(path: &Path, replace: bool) -> Result<(), CliError> {
    if path.exists() && !replace {
        return Err(CliError::unable_hint(
            format!("{} exists already", path.display()),
            "choose another name, or replace it with --force",
        ));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => Err(CliError::unable_hint(
            format!("there is no folder {} for {}", parent.display(), path.display()),
            "make it, or choose another one",
        )),
        Some(_) | None => Ok(()),
    }
}

fn folder(within: Option<&Path>) -> Result<tempfile::TempDir, CliError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("salus-bench-");
    let within = within.map_or_else(std::env::temp_dir, Path::to_owned);
    builder.tempdir_in(&within).map_err(|error| {
        CliError::unable_hint(
            format!("cannot make a folder: {error}"),
            "name one with --dir that exists and can be written to",
        )
    })
}

/// One step after the other, each printed when it is done.
async fn measure(args: &BenchArgs, folder: &Path, out: &mut dyn Write) -> Result<Report, CliError> {
    let plan = Plan::of(args);
    let mut steps = Steps::new(plan.loading.search.is_some())?;
    let machine = Machine::this();
    let cores = machine.cores;
    report::machine(&machine, args.quick, out)?;
    let Plan { sampling, buffer_bytes, writing, loading } = plan;
    let verified = steps.blocking("verifying", move |stop| compute::verify(sampling, cores, stop)).await?;
    steps.progress.suspend(|| report::verified(&verified, cores, out))?;
    let hashed =
        steps.blocking("hashing", move |stop| compute::hash(sampling, cores, stop, buffer_bytes)).await?;
    steps.progress.suspend(|| report::hashed(&hashed, out))?;
    let blocks = folder.join("blocks");
    let logged = steps.blocking("logging", move |stop| disk::log(&blocks, writing, stop)).await?;
    steps.progress.suspend(|| report::logged(&logged, out))?;
    let finalised = steps.finalise(folder.join("network"), loading).await?;
    steps.progress.suspend(|| report::finalised(&finalised, out))?;
    steps.progress.finish();
    let report = Report::new(args.quick, machine, (verified, hashed), (logged, finalised));
    report::summary(&report, out)?;
    Ok(report)
}

/// How far the measurement is, and what ends it early.
struct Steps {
    signals: Signals,
    stop: Arc<AtomicBool>,
    progress: Progress,
}

impl Steps {
    fn new(with_search: bool) -> Result<Self, CliError> {
        let total = if with_search { 6 } else { 5 };
        let progress = Progress::new("{bar:20} {pos} of {len} done, {elapsed}  {msg}", Some(total));
        Ok(Self { signals: Signals::listen()?, stop: Arc::default(), progress })
    }

    /// A step on a thread of its own. It ends soon after a signal, and is waited for.
    async fn blocking<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl FnOnce(&AtomicBool) -> Result<T, CliError> + Send + 'static,
    ) -> Result<T, CliError> {
        self.progress.message(what);
        let stop = Arc::clone(&self.stop);
        let mut work = tokio::task::spawn_blocking(move || work(&stop));
        let done = tokio::select! {
            done = &mut work => done,
            what = self.signals.next() => {
                self.stop.store(true, Ordering::Relaxed);
                let _ended = work.await;
                return Err(ended_by(what));
            }
        };
        self.progress.add(1);
        done.map_err(|error| CliError::unable(format!("{what} has failed: {error}")))?
    }

    /// The network: started, loaded, and ended again.
    async fn finalise(&mut self, dir: PathBuf, loading: Loading) -> Result<Finalised, CliError> {
        let progress = self.progress.clone();
        let work = async {
            progress.message("starting four validators");
            let mut loaded = Loaded::start(dir).await?;
            progress.add(1);
            progress.message(&format!("offering {}/s", loading.rate));
            let mut finalised = loaded.modest(loading).await?;
            progress.add(1);
            if let Some(within) = loading.search {
                let trying = |rate| progress.message(&format!("trying {rate}/s"));
                loaded.search(&mut finalised, within, trying).await?;
                progress.add(1);
            }
            Ok(finalised)
        };
        tokio::select! {
            biased;
            what = self.signals.next() => {
                Err(ended_by(what))
            }
            done = work => done,
        }
    }
}

fn ended_by(signal: &str) -> CliError {
    CliError::unable(format!("{signal}: everything that was started has been ended"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn results_that_cannot_be_written_are_refused_before_anything_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there.json");
        std::fs::write(&there, "").unwrap();
        let refused = |path: &Path, force| check_target(path, force).unwrap_err().to_string();
        assert!(refused(&there, false).contains("there.json exists already\n  choose another name"));
        check_target(&there, true).unwrap();
        check_target(Path::new("new.json"), false).unwrap();
        let nowhere = dir.path().join("nowhere/new.json");
        assert!(refused(&nowhere, true).contains("nowhere for "), "{}", refused(&nowhere, true));
        let error = folder(Some(&dir.path().join("nowhere"))).unwrap_err().to_string();
        assert!(
            error.contains("nowhere/salus-bench-") && error.contains("\n  name one with --dir"),
            "{error}"
        );
    }
}
