//! Memory of four validators that are loaded for ten minutes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::results::{LoadRun, Memory, MemorySample, rounded};
use super::step::Work;
use super::{load, network};

/// The load runs so many times on the same validators: transactions are signed before the clock starts and are valid for
/// ten minutes, so one load cannot last as long.
const LOADS: usize = 2;
const LOAD_S: &str = "300";
const LOAD_S_QUICK: &str = "5";
const EVERY: Duration = Duration::from_secs(5);
const EVERY_QUICK: Duration = Duration::from_millis(500);

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let rate = network::half_rate(work, "memory")?;
    let measured = network::start(work).and_then(|network| loads(work, &network, rate));
    let ended = network::end(&work.scratch);
    work.results.memory = Some(measured?);
    ended
}

fn loads(work: &mut Work, network: &Path, rate: u64) -> Result<Memory, String> {
    let (seconds, every) = if work.quick { (LOAD_S_QUICK, EVERY_QUICK) } else { (LOAD_S, EVERY) };
    let folders = network::validators(&work.scratch);
    let pids: Vec<String> = folders.iter().filter_map(|folder| network::pid(folder)).collect();
    if pids.is_empty() {
        return Err("`salus demo --keep` has left no process ids".to_owned());
    }
    let mut memory = Memory { offered_per_s: rate, seconds: 0.0, samples: Vec::new() };
    for _ in 0..LOADS {
        let path = work.scratch.join("memory.json");
        let mut command = work.program("load");
        command.arg("--dir").arg(network).args(["--rates", &rate.to_string(), "--seconds", seconds]);
        command.arg("--json").arg(&path);
        work.note(&command);
        let mut child = command.spawn().map_err(|error| work.cannot_run(&command, &error))?;
        let start = Instant::now();
        let mut samples = Vec::new();
        let status = loop {
            samples.push((start.elapsed().as_secs_f64(), sample(&pids)));
            // Asked several times between two samples, so that the end is not noticed late.
            let next = start + every * u32::try_from(samples.len()).unwrap_or(u32::MAX);
            let ended = loop {
                let ended = child.try_wait().map_err(|error| work.cannot_run(&command, &error))?;
                if ended.is_some() || Instant::now() >= next {
                    break ended;
                }
                std::thread::sleep(Duration::from_millis(50));
            };
            if let Some(status) = ended {
                break status;
            }
        };
        let took = start.elapsed().as_secs_f64();
        work.success(&command, status)?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("what load wrote: {error}"))?;
        let runs = load::parsed(&text)?;
        memory.add(&runs, took, samples);
    }
    Ok(memory)
}

impl Memory {
    /// Takes of the samples those under load: before it, the tool signs.
    fn add(&mut self, runs: &[LoadRun], took: f64, samples: Vec<(f64, MemorySample)>) {
        let loaded: f64 = runs.iter().map(|run| run.usage.seconds).sum();
        let from = (took - loaded).max(0.0);
        for (at, sample) in samples.into_iter().filter(|(at, _)| *at >= from) {
            self.samples.push(MemorySample { at_s: rounded(self.seconds + at - from), ..sample });
        }
        self.seconds = rounded(self.seconds + took - from);
    }
}

fn sample(pids: &[String]) -> MemorySample {
    let status = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let statuses: Vec<String> = pids.iter().map(status).collect();
    let all = |field| statuses.iter().map(|status| mib(status, field)).collect();
    MemorySample { at_s: 0.0, rss_mib: all("VmRSS:"), anonymous_mib: all("RssAnon:") }
}

/// A field of `/proc/PID/status` that is in kB; 0 of a process that has ended.
fn mib(status: &str, field: &str) -> f64 {
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| rounded(kib / 1_024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_count_from_the_beginning_of_the_load() {
        assert!((mib("VmRSS:\t  2048 kB\nRssAnon: 1 kB\n", "VmRSS:") - 2.0).abs() < 1e-9);
        assert!(mib("", "VmRSS:").abs() < 1e-9);
        let sample = MemorySample { at_s: 0.0, rss_mib: vec![1.0], anonymous_mib: vec![1.0] };
        let samples = || vec![(0.0, sample.clone()), (5.0, sample.clone()), (10.0, sample.clone())];
        let runs = load::parsed(include_str!("../../tests/load.json")).unwrap_or_default();
        let mut memory = Memory { offered_per_s: 1, seconds: 0.0, samples: Vec::new() };
        memory.add(&runs[..1], 14.0, samples());
        memory.add(&runs[..1], 12.0, samples());
        let at: Vec<_> = memory.samples.iter().map(|sample| sample.at_s).collect();
        assert_eq!(at, [1.0, 6.0, 13.0, 18.0]);
        assert!((memory.seconds - 20.0).abs() < 1e-9);
    }
}
