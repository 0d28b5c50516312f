//! What machine was measured, and what code.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Facts that figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Threads that it runs at once, as far as this process may use them.
    pub(crate) cores: usize,
    /// Of the processor's extensions, those that the engines choose by.
    pub(crate) extensions: Vec<String>,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// Set from outside instead of `.cargo/config.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rustflags: Option<String>,
    /// Processes that ran or wanted to run, averaged over a minute, before anything was built.
    pub(crate) load_average_before: f64,
}

/// Extensions by which signatures and hashes choose what they compute with.
const EXTENSIONS: [&str; 5] = ["avx2", "avx512f", "avx512ifma", "sha_ni", "gfni"];

impl Machine {
    pub(crate) fn this() -> Self {
        let info = read("/proc/cpuinfo");
        Self {
            processor: processor(&info),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            extensions: extensions(&info),
            memory_gib: memory_gib(&read("/proc/meminfo")),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            rustc: said(Command::new("rustc").arg("--version")),
            rustflags: std::env::var("RUSTFLAGS").ok(),
            load_average_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }

    /// Whether it is this one, whatever else ran on it.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Self { load_average_before: 0.0, ..self.clone() }
            == Self { load_average_before: 0.0, ..other.clone() }
    }

    /// One line for people.
    pub(crate) fn shown(&self) -> String {
        let Self { processor, cores, memory_gib, kernel, rustc, extensions, .. } = self;
        // A compiler's name is followed by its commit and day.
        let rustc = rustc.split(" (").next().unwrap_or(rustc);
        let ifma = if extensions.iter().any(|e| e == "avx512ifma") { "with" } else { "without" };
        format!("{processor} {ifma} AVX-512 IFMA, {cores} cores, {memory_gib:.0} GiB, {kernel}, {rustc}")
    }
}

/// What a command prints on its standard output; nothing if it does not run.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The commit that is checked out, and whether something but results was changed since.
pub(crate) fn commit() -> (String, bool) {
    let git = |args: &[&str]| said(Command::new("git").args(args).current_dir(crate::root()));
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    let changed = git(&["status", "--porcelain", "--", ".", ":!perf", ":!README.md"]);
    let commit = if commit.is_empty() { "unknown".to_owned() } else { commit };
    (commit, !changed.is_empty())
}

/// This moment in UTC, to the minute.
pub(crate) fn now() -> String {
    said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"]))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The name without what only fills its field.
fn processor(info: &str) -> String {
    let line = info.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    let words = line.split_once(':').unwrap_or_default().1.split_ascii_whitespace();
    let words: Vec<_> = words.filter(|word| !["Processor", "CPU"].contains(word)).collect();
    if words.is_empty() { "unknown processor".to_owned() } else { words.join(" ") }
}

fn extensions(info: &str) -> Vec<String> {
    let line = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |extension: &&&str| line.split_ascii_whitespace().any(|flag| flag == **extension);
    EXTENSIONS.iter().filter(has).map(|extension| (*extension).to_owned()).collect()
}

fn memory_gib(info: &str) -> f64 {
    let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kib: f64 = kib.and_then(|kib| kib.trim().parse().ok()).unwrap_or_default();
    (kib / 1_048_576.0 * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found() {
        let info = "model name\t: AMD EPYC  Processor\nflags\t\t: fpu avx2 avx512ifma sha_ni\n";
        assert_eq!(processor(info), "AMD EPYC");
        assert_eq!(extensions(info), ["avx2", "avx512ifma", "sha_ni"]);
        assert_eq!(processor(""), "unknown processor");
        assert!((memory_gib("MemTotal:       16262924 kB\n") - 15.5).abs() < 1e-9);
        let this = Machine::this();
        assert!(this.cores > 0 && this.same_as(&this));
    }
}
