//! One validator as a process of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::CliError;

/// How long a validator may take to end after SIGTERM before it is killed.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);
/// Bytes at the end of a log that an error quotes lines of.
const TAIL_BYTES: u64 = 4_096;
/// Lines that it quotes.
const TAIL_LINES: usize = 6;

/// A running process. Dropping it ends it: SIGTERM, a bounded wait, SIGKILL; its exit is always waited for.
#[derive(Debug)]
pub(super) struct ValidatorProcess {
    /// `None` once it was released or its exit was seen: then its number may be another's.
    child: Option<Child>,
    /// How it ended, once that was seen.
    exit: Option<ExitStatus>,
}

impl ValidatorProcess {
    /// Runs `program node --config CONFIG`, its log appended to `log`. With `own_group`, signals that the terminal sends to
    /// this process' group (Ctrl-C) do not reach it.
    pub(super) fn spawn(
        program: &Path,
        config: &Path,
        log: &Path,
        own_group: bool,
    ) -> Result<Self, CliError> {
        let stderr =
            OpenOptions::new().create(true).append(true).open(log).map_err(|error| {
                CliError::unable(format!("cannot open {} for a log: {error}", log.display()))
            })?;
        let mut command = Command::new(program);
        command.arg("node").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        if own_group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|error| CliError::unable(format!("cannot run {}: {error}", program.display())))?;
        Ok(Self { child: Some(child), exit: None })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // A process that cannot be asked is waited for in `drop`.
        if let Some(exit) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            (self.child, self.exit) = (None, Some(exit));
        }
        self.exit
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        let pid = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Its exit was not waited for yet, so the number is still its own; that it has ended already is no error.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Stops all its threads where they are, as a machine that hangs would, until what is returned is dropped.
    pub(super) fn freeze(&self) -> Option<Frozen<'_>> {
        let pid = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)?;
        kill_process(pid, Signal::STOP).ok()?;
        Some(Frozen { pid, _process: self })
    }

    /// Ends it at once, as a power cut would, and waits until it is gone.
    pub(super) fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Leaves it running.
    pub(super) fn release(mut self) {
        self.child = None;
    }
}

/// A validator that stands still. It goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen<'a> {
    pid: Pid,
    /// Keeps the number its own.
    _process: &'a ValidatorProcess,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::CONT);
    }
}

impl Drop for ValidatorProcess {
    fn drop(&mut self) {
        self.terminate();
        let until = Instant::now() + STOP_WITHIN;
        while self.child.is_some() && self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a log, indented, for an error message.
pub(super) fn log_tail(path: &PathBuf) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    last.map(|line| format!("\n    {line}")).collect()
}
