//! Four validators that `salus demo --keep` leaves running, for steps that look into them while they are loaded.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::results::Load;
use super::step::Work;

/// How long a validator may take to end.
const END_WITHIN: Duration = Duration::from_secs(20);

/// The rate under which a step looks into them: half of the best that the load has found.
pub(super) fn half_rate(work: &Work, step: &str) -> Result<u64, String> {
    let half = work.results.load.as_ref().and_then(Load::half_rate);
    half.ok_or_else(|| format!("the rate is half of the best: measure load too (`--only load,{step}`)"))
}

/// Starts them in a folder of this task, in place of what a step before has left there.
pub(super) fn start(work: &mut Work) -> Result<PathBuf, String> {
    let network = work.scratch.join("net");
    end(&work.scratch)?;
    if network.exists() {
        std::fs::remove_dir_all(&network)
            .map_err(|error| format!("cannot remove {}: {error}", network.display()))?;
    }
    let mut demo = work.program("salus");
    demo.args(["demo", "--keep", "--times", "1", "--dir"]).arg(&network).stdout(Stdio::null());
    work.run(&mut demo)?;
    Ok(network)
}

/// Folders of the validators in a folder of this task.
pub(super) fn validators(scratch: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scratch.join("net")).into_iter().flatten().flatten();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.join("node.pid").is_file()).collect();
    folders.sort();
    folders
}

/// Process id of a validator, if it still runs: a process of another program may have got the number since.
pub(super) fn pid(folder: &Path) -> Option<String> {
    let pid = std::fs::read_to_string(folder.join("node.pid")).ok()?.trim().to_owned();
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy()).then_some(pid)
}

/// Ends the validators that `salus demo --keep` has left in a folder of this task, and waits until they are gone.
pub(super) fn end(scratch: &Path) -> Result<(), String> {
    end_these(&validators(scratch))
}

/// Ends those of the folders, and waits until they are gone.
pub(super) fn end_these(folders: &[PathBuf]) -> Result<(), String> {
    for pid in folders.iter().filter_map(|folder| pid(folder)) {
        // It may have ended since: then there is nothing to do.
        let _ = Command::new("kill").arg(&pid).stderr(Stdio::null()).status();
    }
    let until = Instant::now() + END_WITHIN;
    for folder in folders {
        while let Some(pid) = pid(folder) {
            if Instant::now() >= until {
                return Err(format!("validator {pid} does not end: end it with `kill -9 {pid}`"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
