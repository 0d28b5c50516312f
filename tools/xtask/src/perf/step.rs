//! The steps of the suite, and what they have in common.

use std::fs::{File, TryLockError};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::machine;
use super::results::{Results, StepRun};
use super::{criterion, files, load, log, memory, network, peers, profile};

/// One part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Verify,
    Hash,
    Consensus,
    Execute,
    State,
    Log,
    Files,
    Load,
    Memory,
    Profile,
    /// Only when it is asked for by name.
    Peers,
}

impl Step {
    /// In the order in which they run.
    pub(crate) const ALL: [Self; 11] = [
        Self::Verify,
        Self::Hash,
        Self::Consensus,
        Self::Execute,
        Self::State,
        Self::Log,
        Self::Files,
        Self::Load,
        Self::Memory,
        Self::Profile,
        Self::Peers,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Hash => "hash",
            Self::Consensus => "consensus",
            Self::Execute => "execute",
            Self::State => "state",
            Self::Log => "log",
            Self::Files => "files",
            Self::Load => "load",
            Self::Memory => "memory",
            Self::Profile => "profile",
            Self::Peers => "peers",
        }
    }

    /// Whether it runs without being named.
    pub(crate) fn is_usual(self) -> bool {
        !self.is_long() && self != Self::Peers
    }

    /// Whether it runs with `--long`.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Self::Memory | Self::Profile)
    }

    /// Name of its bench; nothing if it has none.
    pub(crate) fn bench(self) -> &'static str {
        match self {
            Self::State => "state_store",
            Self::Verify | Self::Hash | Self::Consensus | Self::Execute | Self::Log => self.name(),
            Self::Files | Self::Load | Self::Memory | Self::Profile | Self::Peers => "",
        }
    }

    fn measure(self, work: &mut Work) -> Result<(), String> {
        match self {
            Self::Verify | Self::Hash | Self::Consensus | Self::Execute | Self::State => {
                criterion::measure(work, self)
            }
            Self::Log => log::measure(work),
            Self::Files => files::measure(work),
            Self::Load => load::measure(work),
            Self::Memory => memory::measure(work),
            Self::Profile => profile::measure(work),
            Self::Peers => peers::measure(work),
        }
    }
}

/// A run of the suite.
pub(super) struct Work {
    pub(super) results: Results,
    pub(super) quick: bool,
    /// Folder for what is removed at the end.
    pub(super) scratch: PathBuf,
    /// Cargo's folder.
    pub(super) target: PathBuf,
    /// The picture that goes with `results.profile`, for the folder that the results are written to.
    pub(super) flame_graph: Option<String>,
    /// Locked while this runs: two runs would measure each other, and remove each other's files.
    _lock: File,
    /// Benches that this code has.
    benches: Vec<String>,
    /// What the step under way has run.
    commands: Vec<String>,
}

impl Work {
    pub(super) fn new(results: Results, quick: bool) -> Result<Self, String> {
        let metadata = metadata()?;
        let target =
            PathBuf::from(metadata["target_directory"].as_str().ok_or("cargo names no target folder")?);
        let is_bench = |target: &&Value| target["kind"] == serde_json::json!(["bench"]);
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
        let benches =
            targets.filter(is_bench).filter_map(|target| target["name"].as_str().map(str::to_owned));
        let (scratch, lock) = (target.join("perf-scratch"), lock(&target.join("perf.lock"))?);
        let (benches, commands) = (benches.collect(), Vec::new());
        let flame_graph = None;
        let work = Self { results, quick, scratch, target, flame_graph, _lock: lock, benches, commands };
        work.clean()?;
        std::fs::create_dir_all(&work.scratch)
            .map_err(|error| format!("cannot make {}: {error}", work.scratch.display()))?;
        Ok(work)
    }

    /// Removes what this run, or an interrupted one before it, has left: validators first, then files.
    fn clean(&self) -> Result<(), String> {
        network::end(&self.scratch)?;
        match std::fs::remove_dir_all(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", self.scratch.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn has_bench(&self, step: Step) -> bool {
        self.benches.iter().any(|bench| bench == step.bench())
    }

    /// Builds all that the steps run, so that no step is measured beside a compiler.
    pub(super) fn build(&mut self, steps: &[Step]) -> Result<(), String> {
        let benches: Vec<&str> =
            steps.iter().filter(|step| self.has_bench(**step)).map(|step| step.bench()).collect();
        if !benches.is_empty() {
            let mut args = vec!["bench", "--no-run", "--locked", "--package", "salus"];
            args.extend(benches.iter().flat_map(|bench| ["--bench", bench]));
            let mut command = self.cargo(&args);
            self.run(&mut command)?;
        }
        if steps.iter().any(|step| step.bench().is_empty()) {
            let mut command =
                self.cargo(&["build", "--release", "--locked", "--package", "salus", "--package", "load"]);
            self.run(&mut command)?;
        }
        if steps.contains(&Step::Profile) {
            profile::build(self)?;
        }
        if steps.contains(&Step::Peers) {
            peers::build(self);
        }
        Ok(())
    }

    /// Runs a step; what went wrong is noted, and the next step can follow.
    pub(super) fn step(&mut self, step: Step) {
        self.commands.clear();
        let (began, start) = (machine::now(), Instant::now());
        let measured = if step.bench().is_empty() || self.has_bench(step) {
            step.measure(self)
        } else {
            Err(format!("there is no bench {} in this version", step.bench()))
        };
        let run = StepRun {
            commands: std::mem::take(&mut self.commands),
            began,
            seconds: start.elapsed().as_secs_f64().round(),
            fault: measured.err(),
        };
        self.results.steps.insert(step.name().to_owned(), run);
    }

    pub(super) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = crate::cargo_command();
        command.args(args);
        command
    }

    /// A program of this workspace, in release build.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.target.join("release").join(name));
        command.current_dir(crate::root());
        command
    }

    /// The command as somebody could give it, without names of this machine's folders.
    pub(super) fn shown(&self, command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned()).map(|word| {
            let is_cargo = Path::new(&word).file_name().is_some_and(|name| name == "cargo");
            if is_cargo { "cargo".to_owned() } else { word }
        });
        let text = words.collect::<Vec<_>>().join(" ");
        let text = text.replace(&*self.scratch.to_string_lossy(), "TMP");
        text.replace(&*self.target.to_string_lossy(), "target")
    }

    /// Shows a command, and keeps it for the report.
    pub(super) fn note(&mut self, command: &Command) {
        let shown = self.shown(command);
        println!("   {shown}");
        if !self.commands.contains(&shown) {
            self.commands.push(shown);
        }
    }

    /// Runs a command to its end, with its output to be seen.
    pub(super) fn run(&mut self, command: &mut Command) -> Result<(), String> {
        self.note(command);
        let status = command.status().map_err(|error| self.cannot_run(command, &error))?;
        self.success(command, status)
    }

    /// The same, and returns what it wrote to its standard output.
    pub(super) fn output(&mut self, command: &mut Command) -> Result<String, String> {
        self.note(command);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| self.cannot_run(command, &error))?;
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{line}");
                text.push_str(&line);
                text.push('\n');
            }
        }
        let status = child.wait().map_err(|error| self.cannot_run(command, &error))?;
        self.success(command, status).map(|()| text)
    }

    pub(super) fn cannot_run(&self, command: &Command, error: &std::io::Error) -> String {
        format!("cannot run `{}`: {error}", self.shown(command))
    }

    pub(super) fn success(&self, command: &Command, status: ExitStatus) -> Result<(), String> {
        if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", self.shown(command))) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            eprintln!("error: {error}");
        }
    }
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err("another `cargo xtask perf` runs: wait for its end".to_owned()),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {}: {error}", path.display())),
    }
}

fn metadata() -> Result<Value, String> {
    let mut command = crate::cargo_command();
    command.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}
