//! Where a validator under load spends its time: a flame graph of one of four, and shares of its threads.
//!
//! The samples are drawn by `salus node --profile`. Each is taken when the process has used up another bit of CPU time, so a thread
//! that waits is not sampled; and none is taken within the C library, as unwinding from there can deadlock, which leaves out system
//! calls and copies. So what the system counts for each thread stands beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::numbers::whole;
use super::results::{Profile, ThreadShare, rounded};
use super::step::Work;
use super::{load, network};

/// Name of the flame graph among the plots.
pub(super) const PICTURE: &str = "profile.svg";

const LOAD_S: u64 = 20;
const LOAD_S_QUICK: u64 = 3;
/// How long the validator may take until it is ready, with its log to read again: more than it takes itself before it gives up.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long it may take to end: it looks up the names of all functions before.
const DRAWN_WITHIN: Duration = Duration::from_secs(180);
/// Threads with less of everything are shown together.
const SHOWN: f64 = 0.005;

/// What threads do, by the names that they have in `src/io`.
const THREADS: [(&str, &str); 12] = [
    ("salus", "start, and waiting for the end"),
    ("salus-verify-*", "signatures of transactions and payloads, in batches"),
    ("salus-exec", "execution: decoding and hashing, the rules, the Merkle log, ids, the store, tiles"),
    ("salus-net", "QUIC between validators; signatures of headers and of the smallest payloads"),
    ("salus-io", "QUIC and admission of clients, HTTP"),
    ("salus-core", "consensus: all of the protocol, headers and commits"),
    ("salus-peers", "ids of payloads, many headers together"),
    ("salus-library", "old blocks and payloads that others ask for"),
    ("log-writer", "hashing and writing groups of the block log"),
    ("log-lane-*", "writing groups of the block log, several at once"),
    ("log-filler", "filling the next segment of the block log with zeros"),
    ("fjall:worker", "flushes and merges of the store"),
];

/// Cargo's folder for a program that can sample itself: the one that other steps measure has to stay as it is.
fn target(work: &Work) -> PathBuf {
    work.target.join("profile")
}

pub(super) fn build(work: &mut Work) -> Result<(), String> {
    let mut command = work.cargo(&["build", "--release", "--locked", "--package", "salus"]);
    command.args(["--features", "salus/profile", "--target-dir"]).arg(target(work));
    work.run(&mut command)
}

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let rate = network::half_rate(work, "profile")?;
    let measured = network::start(work).and_then(|network| sampled(work, &network, rate));
    let ended = network::end(&work.scratch);
    let (profile, svg, fault) = measured?;
    work.results.profile = Some(profile);
    work.flame_graph = Some(svg);
    let faults: Vec<String> = fault.into_iter().chain(ended.err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// The profile with its flame graph, and what did not hold of the load.
fn sampled(work: &mut Work, network: &Path, rate: u64) -> Result<(Profile, String, Option<String>), String> {
    let folders = network::validators(&work.scratch);
    let folder = folders.first().ok_or("`salus demo --keep` has left no process ids")?;
    network::end_these(&folders[..1])?;
    let path = work.scratch.join(PICTURE);
    let mut node = Node::start(work, folder, &path)?;
    let seconds = if work.quick { LOAD_S_QUICK } else { LOAD_S };
    let (network, rate_shown, seconds_shown) =
        (network.to_string_lossy(), rate.to_string(), seconds.to_string());
    let args = ["--dir", &network, "--rates", &rate_shown, "--seconds", &seconds_shown];
    let (_, fault) = load::run(work, &args)?;
    // Threads are gone with the process.
    let ticks = ticks(node.child.id());
    node.interrupt(work)?;
    let svg = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read the flame graph {}: {error}", path.display()))?;
    let (samples, by_thread) = samples(&svg).ok_or_else(|| {
        format!(
            "the flame graph has no row of threads above `all`: is {} still drawn by inferno?",
            path.display()
        )
    })?;
    let (cpu_s, threads) = shares(&ticks, samples, &by_thread);
    Ok((Profile { offered_per_s: rate, seconds, cpu_s, samples, threads }, svg, fault))
}

/// A validator that samples itself; ended if this goes.
struct Node {
    child: Child,
    shown: Command,
    errors: PathBuf,
}

impl Node {
    /// Starts it in the folder of one that has ended, and waits until it is ready.
    fn start(work: &mut Work, folder: &Path, flame_graph: &Path) -> Result<Self, String> {
        let (output, errors) = (work.scratch.join("node.out"), work.scratch.join("node.err"));
        let file = |path: &Path| {
            File::create(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
        };
        let mut command = Command::new(target(work).join("release/salus"));
        command.current_dir(crate::root()).arg("node").arg("--config").arg(folder.join("node.toml"));
        command.arg("--profile").arg(flame_graph).stdout(file(&output)?).stderr(file(&errors)?);
        work.note(&command);
        let child = command.spawn().map_err(|error| work.cannot_run(&command, &error))?;
        let mut node = Self { child, shown: command, errors };
        // By this the load finds it, and a later run ends it if this one is interrupted.
        super::write(&folder.join("node.pid"), &format!("{}\n", node.child.id()))?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            if std::fs::read_to_string(&output).is_ok_and(|text| text.starts_with("ready")) {
                return Ok(node);
            }
            if let Some(status) = node.ended(work)? {
                return Err(node.fault(work, &format!("ended before it was ready, {status}")));
            }
            if Instant::now() >= until {
                return Err(node.fault(work, &format!("is not ready after {} s", READY_WITHIN.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has it draw the flame graph and end.
    fn interrupt(&mut self, work: &Work) -> Result<(), String> {
        let mut kill = Command::new("kill");
        kill.arg("-INT").arg(self.child.id().to_string());
        let sent = kill.status().map_err(|error| work.cannot_run(&kill, &error))?;
        work.success(&kill, sent)?;
        let until = Instant::now() + DRAWN_WITHIN;
        loop {
            if let Some(status) = self.ended(work)? {
                return if status.success() { Ok(()) } else { Err(self.fault(work, &status.to_string())) };
            }
            if Instant::now() >= until {
                return Err(self.fault(work, &format!("does not end within {} s", DRAWN_WITHIN.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ended(&mut self, work: &Work) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| work.cannot_run(&self.shown, &error))
    }

    /// What went wrong, with the last that it said itself.
    fn fault(&self, work: &Work, what: &str) -> String {
        let said = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(3)..].join("\n");
        format!("`{}` {what}\n{last}", work.shown(&self.shown))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both do nothing if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Samples in the flame graph, all and by thread: its lowest row is all of them, and that above has a frame for each thread.
fn samples(svg: &str) -> Option<(u64, BTreeMap<String, u64>)> {
    let frames: Vec<Frame<'_>> = svg.split("<title>").skip(1).filter_map(Frame::read).collect();
    let all = frames.iter().max_by_key(|frame| frame.y).filter(|frame| frame.name == "all")?;
    let row = frames.iter().map(|frame| frame.y).filter(|y| *y < all.y).max()?;
    let mut threads = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.y == row) {
        *threads.entry(kind(frame.name)).or_default() += frame.samples;
    }
    Some((all.samples, threads))
}

/// One frame of a flame graph.
struct Frame<'a> {
    name: &'a str,
    samples: u64,
    y: u64,
}

impl<'a> Frame<'a> {
    /// `NAME (1,234 samples, 12.34%)</title><rect x="…" y="1477" …`
    fn read(text: &'a str) -> Option<Self> {
        let (title, rest) = text.split_once("</title>")?;
        let (name, count) = title.rsplit_once(" (")?;
        let samples = count.split_once(" samples")?.0.replace(',', "").parse().ok()?;
        let y = rest.split_once(" y=\"")?.1.split_once('"')?.0.parse().ok()?;
        Some(Self { name, samples, y })
    }
}

/// Name of a thread without the number that tells it from others which do the same.
fn kind(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((kind, number)) if number.parse::<u32>().is_ok() => format!("{kind}-*"),
        Some(_) | None => name.to_owned(),
    }
}

/// CPU time of a thread in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ticks {
    user: f64,
    kernel: f64,
}

/// Ticks a second in `/proc/PID/stat`, of Linux on x86-64 and ARM.
const TICKS_PER_S: f64 = 100.0;

/// CPU times of the threads that a process has now.
fn ticks(pid: u32) -> BTreeMap<String, Ticks> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let mut threads: BTreeMap<String, Ticks> = BTreeMap::new();
    for (name, ticks) in stats.filter_map(|stat| thread(&stat)) {
        let sum = threads.entry(name).or_default();
        *sum = Ticks { user: sum.user + ticks.user, kernel: sum.kernel + ticks.kernel };
    }
    threads
}

/// Fields 2, 14 and 15 of `/proc/PID/task/TID/stat`. The name, in parentheses, may contain anything.
fn thread(stat: &str) -> Option<(String, Ticks)> {
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    let ticks = Ticks { user: next()?, kernel: next()? };
    Some((kind(before.split_once('(')?.1), ticks))
}

/// CPU seconds of all threads, and what part each has.
fn shares(
    ticks: &BTreeMap<String, Ticks>,
    samples: u64,
    by_thread: &BTreeMap<String, u64>,
) -> (f64, BTreeMap<String, ThreadShare>) {
    let all: f64 = ticks.values().map(|ticks| ticks.user + ticks.kernel).sum();
    let part = |of: f64, whole: f64| if whole > 0.0 { rounded(of / whole) } else { 0.0 };
    let mut threads: BTreeMap<String, ThreadShare> = BTreeMap::new();
    for (name, Ticks { user, kernel }) in ticks {
        let share = threads.entry(name.clone()).or_default();
        (share.cpu, share.kernel) = (part(user + kernel, all), part(*kernel, all));
    }
    for (name, count) in by_thread {
        threads.entry(name.clone()).or_default().samples = part(*count as f64, samples as f64);
    }
    (rounded(all / TICKS_PER_S), threads)
}

/// The section of the report.
pub(super) fn report(profile: Option<&Profile>) -> String {
    let Some(profile) = profile else {
        return "Not measured: `cargo xtask perf --long`, or `--only load,profile`.\n".to_owned();
    };
    let mut out = format!(
        "One of four validators that together bear {} transactions a second for {} s: {:.1} s of CPU time. In `plots/{PICTURE}` \
         are {} samples of it; open it in a browser, click to zoom. They are taken by CPU time, not by that on the clock: a thread \
         that waits has none. None is taken within the C library, so system calls and copies are missing there, and threads \
         that do much of these have too little; the system's own count of CPU time has them.\n\n\
         | thread | CPU time | of it in the kernel | samples | what it does |\n|---|---:|---:|---:|---|\n",
        whole(profile.offered_per_s as f64),
        profile.seconds,
        profile.cpu_s,
        whole(profile.samples as f64),
    );
    let mut threads: Vec<(&String, &ThreadShare)> = profile.threads.iter().collect();
    threads.sort_by(|(_, a), (_, b)| b.cpu.total_cmp(&a.cpu).then(b.samples.total_cmp(&a.samples)));
    let (shown, narrow): (Vec<_>, Vec<_>) =
        threads.into_iter().partition(|(_, share)| share.cpu.max(share.samples) >= SHOWN);
    for (name, share) in &shown {
        let does = THREADS.iter().find(|(thread, _)| thread == name).map_or("", |(_, does)| does);
        let _ = writeln!(out, "| `{name}` | {} | {does} |", cells(share));
    }
    let sum = |of: fn(&ThreadShare) -> f64| narrow.iter().map(|(_, share)| of(share)).sum();
    // Frames that are too narrow to be drawn are in no thread.
    let undrawn = 1.0 - profile.threads.values().map(|share| share.samples).sum::<f64>();
    let narrow = ThreadShare {
        cpu: sum(|share| share.cpu),
        kernel: sum(|share| share.kernel),
        samples: sum(|share| share.samples) + undrawn.max(0.0),
    };
    let _ = writeln!(out, "| others | {} | |", cells(&narrow));
    out
}

fn cells(share: &ThreadShare) -> String {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let kernel = if share.cpu > 0.0 { share.kernel / share.cpu } else { 0.0 };
    format!("{} | {:.0} % | {}", percent(share.cpu), kernel * 100.0, percent(share.samples))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A function may have the root's name, and samples have commas.
    const SVG: &str = r#"<text id="title" x="1" y="24.00">Title</text><svg id="frames" total_samples="1222">
<g><title>all&lt;u8&gt; (8 samples, 0.65%)</title><rect x="0.3273%" y="1461" width="0.6547%" height="15" fg:x="4" fg:w="8"/></g>
<g><title>log-writer (15 samples, 1.23%)</title><rect x="0.0000%" y="1477" width="1.2%"/><text x="0.25%" y="1487.50"></text></g>
<g><title>salus-verify-0 (1,000 samples, 81.83%)</title><rect x="1.2275%" y="1477" width="81.83%" fg:x="15"/></g>
<g><title>salus-verify-1 (200 samples, 16.37%)</title><rect x="83.0%" y="1477" width="16.37%" fg:x="1015"/></g>
<g><title>all (1,222 samples, 100%)</title><rect x="0.0000%" y="1493" width="100.0000%" height="15" fg:x="0" fg:w="1222"/></g></svg>"#;

    #[test]
    fn threads_are_the_row_above_all() {
        let (all, threads) = samples(SVG).unwrap();
        assert_eq!(all, 1_222);
        let threads: Vec<_> = threads.iter().map(|(name, samples)| (name.as_str(), *samples)).collect();
        assert_eq!(threads, [("log-writer", 15), ("salus-verify-*", 1_200)]);
        // No row above, another root, no frames.
        let alone = SVG.lines().last().unwrap();
        for wrong in [alone, &SVG.replace(">all (", ">main ("), "<svg></svg>"] {
            assert_eq!(samples(wrong), None);
        }
    }

    #[test]
    fn times_of_threads_that_differ_by_a_number_are_one() {
        let stat = |name| format!("7 ({name}) S 1 7 7 0 -1 4194560 9 0 0 0 60 20 0 0 20 0 9 0 55 1 2");
        let ticks = Ticks { user: 60.0, kernel: 20.0 };
        assert_eq!(thread(&stat("salus-verify-1")), Some(("salus-verify-*".to_owned(), ticks)));
        assert_eq!(thread(&stat("a ) (b")), Some(("a ) (b".to_owned(), ticks)));
        assert_eq!(thread("7 (a"), None);
        let ticks = [("a".to_owned(), ticks), ("b".to_owned(), Ticks { user: 80.0, kernel: 40.0 })].into();
        let (seconds, threads) = shares(&ticks, 200, &[("a".to_owned(), 150), ("c".to_owned(), 40)].into());
        assert!((seconds - 2.0).abs() < 1e-9);
        assert_eq!(threads["a"], ThreadShare { cpu: 0.4, kernel: 0.1, samples: 0.75 });
        assert_eq!(threads["b"], ThreadShare { cpu: 0.6, kernel: 0.2, samples: 0.0 });
        assert_eq!(threads["c"], ThreadShare { cpu: 0.0, kernel: 0.0, samples: 0.2 });
        // This process has a thread at least.
        assert!(!super::ticks(std::process::id()).is_empty());
    }

    #[test]
    fn the_widest_thread_stands_first_and_the_narrow_together() {
        let profile = super::super::sample::results().profile.unwrap();
        let text = report(Some(&profile));
        let rows: Vec<&str> = text.lines().filter(|line| line.contains(" % |")).collect();
        assert_eq!(rows.len(), 4, "{text}");
        assert!(rows[0].starts_with("| `salus-verify-*` | 50.0 % | 2 % | 60.0 % | signatures"), "{text}");
        assert!(rows[2].starts_with("| `salus-net` | 24.9 % | 80 % | 6.0 % |"), "{text}");
        assert_eq!(rows[3], "| others | 0.1 % | 0 % | 4.0 % | |");
        assert!(
            text.contains("9,800 transactions a second for 20 s: 12.5 s of CPU time")
                && text.contains("1,222")
        );
    }
}
