//! The figures as a table of 80 columns, and as JSON.

use std::fmt::Display;
use std::io::{self, Write};

use indicatif::{BinaryBytes, HumanCount, HumanFloatCount};
use serde::Serialize;

use super::compute::{FEW_KEYS, FEW_KEYS_BATCH, Hashed, MANY_KEYS, MESSAGE_BYTES, Verified};
use super::disk::Logged;
use super::machine::Machine;
use super::network::{Finalised, Step};
use super::sample::{Cores, Figure};
use super::summary::{Bottleneck, Summary};

/// Name and version of the format for programs.
const FORMAT: &str = "salus-bench/1";
/// Width of what stands before the figures.
const LABEL: usize = 36;
/// Width of a figure with how far it varies.
const CELL: usize = 21;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) format: &'static str,
    pub(super) version: &'static str,
    pub(super) quick: bool,
    pub(super) machine: Machine,
    pub(super) verify: Verified,
    pub(super) hash: Hashed,
    pub(super) log: Logged,
    pub(super) network: Finalised,
    pub(super) summary: Summary,
}

impl Report {
    /// Without what this program and the way it was called say.
    pub(super) fn new(
        quick: bool,
        machine: Machine,
        (verify, hash): (Verified, Hashed),
        (log, network): (Logged, Finalised),
    ) -> Self {
        let summary = Summary::of(machine.cores, &verify, &log, &network);
        let version = env!("CARGO_PKG_VERSION");
        Self { format: FORMAT, version, quick, machine, verify, hash, log, network, summary }
    }

    /// For programs. What is not known is `null`.
    pub(super) fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Prints a line whose label has a fixed width.
fn line(out: &mut dyn Write, label: &str, what: impl Display) -> io::Result<()> {
    writeln!(out, "  {label:<width$}{what}", width = LABEL - 2)
}

pub(super) fn machine(machine: &Machine, quick: bool, out: &mut dyn Write) -> io::Result<()> {
    let Machine { processor, cores, load_average } = machine;
    let unknown = || "unknown processor".to_owned();
    let load = load_average.map_or_else(String::new, |load| format!(", load average {load:.1}"));
    let processor = processor.clone().unwrap_or_else(unknown);
    writeln!(out, "salus {} on {processor}, {}{load}", env!("CARGO_PKG_VERSION"), cores_text(*cores))?;
    if quick {
        writeln!(out, "--quick: samples too short to compare machines by")?;
    }
    if load_average.is_some_and(|load| 2.0 * load >= *cores as f64) {
        writeln!(out, "Others keep this machine busy: expect it to do better when it is idle.")?;
    }
    Ok(())
}

fn cores_text(cores: usize) -> String {
    if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") }
}

pub(super) fn verified(verified: &Verified, cores: usize, out: &mut dyn Write) -> io::Result<()> {
    let Verified { backend, single_per_s, many_keys_per_s, few_keys_per_s, .. } = verified;
    writeln!(out, "\n{:LABEL$}{:<CELL$}all {}", "", "one core", cores_text(cores))?;
    writeln!(out, "verifies signatures of {MESSAGE_BYTES}-byte messages, batches by {backend}")?;
    let few = format!("{} of {FEW_KEYS} keys", HumanCount(FEW_KEYS_BATCH as u64));
    let many = format!("{many} of {many} keys", many = HumanCount(MANY_KEYS as u64));
    line(out, &few, per_second(few_keys_per_s, rate))?;
    line(out, &many, per_second(many_keys_per_s, rate))?;
    line(out, "one alone", varying(single_per_s, rate))
}

pub(super) fn hashed(hashed: &Hashed, out: &mut dyn Write) -> io::Result<()> {
    let Hashed { sha256_leaves_per_s, blake3_buffer_bytes, blake3_bytes_per_s } = hashed;
    writeln!(out, "hashes")?;
    line(out, "SHA-256, leaves together", per_second(sha256_leaves_per_s, rate))?;
    let label = format!("BLAKE3, a buffer of {}", BinaryBytes(*blake3_buffer_bytes as u64));
    line(out, &label, per_second(blake3_bytes_per_s, byte_rate))
}

pub(super) fn logged(logged: &Logged, out: &mut dyn Write) -> io::Result<()> {
    let Logged { dir, file_system, syncs, sync_ms_p50, sync_ms_p99, bytes_per_s, .. } = logged;
    writeln!(out, "logs durably, in {dir}")?;
    if let Some(system) = file_system {
        let mounted = if system.mounted_at == "/" { "" } else { &format!(" at {}", system.mounted_at) };
        writeln!(out, "  which is {} on {}{mounted}", system.kind, system.device)?;
        if system.is_memory() {
            writeln!(out, "  That is memory, not a disk: name a folder of the disk with --dir.")?;
        }
    }
    let times = format!("p50 {}, p99 {}, of {syncs}", ms(*sync_ms_p50), ms(*sync_ms_p99));
    line(out, "a sync of 4 KiB", times)?;
    line(out, "groups of 1 MiB", varying(bytes_per_s, byte_rate))
}

pub(super) fn finalised(finalised: &Finalised, out: &mut dyn Write) -> io::Result<()> {
    let Finalised { validators, modest, search, kept_up_per_s, not_kept_up_per_s, .. } = finalised;
    writeln!(out, "makes final, {validators} validators and their clients on this machine")?;
    let label = format!("{} for {} s", offered(modest.offered_per_s), modest.seconds);
    line(out, &label, times(modest))?;
    line(out, "", used(modest))?;
    let lost = modest.busy + modest.refused + modest.unanswered;
    if lost > 0 {
        let why = modest.reason.as_deref().unwrap_or("busy");
        line(out, "", format!("{} not taken: {why}", HumanCount(lost)))?;
    }
    if search.is_empty() {
        return Ok(());
    }
    let label = "the highest rate kept up with";
    let (Some(kept_up), Some(highest)) = (kept_up_per_s, finalised.highest()) else {
        return line(out, label, "none of those tried");
    };
    let but = not_kept_up_per_s
        .map_or_else(|| "and more was not tried".to_owned(), |rate| format!("not with {}", offered(rate)));
    line(out, label, format!("{}, {but}", offered(*kept_up)))?;
    line(out, "", times(highest))?;
    line(out, "", used(highest))
}

fn times(step: &Step) -> String {
    format!("final after p50 {}, p99 {}", ms(step.finality_ms_p50), ms(step.finality_ms_p99))
}

fn used(step: &Step) -> String {
    let (validators, clients) = (step.validators_cores, step.clients_cores);
    if validators.is_finite() {
        format!("cores used: {validators:.2}, clients {clients:.2}")
    } else {
        "cores used: unknown".to_owned()
    }
}

pub(super) fn summary(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Report { summary, verify, network, log, machine, .. } = report;
    let cores = machine.cores as f64;
    let share = 100.0 * summary.cores_used_share.unwrap_or_default();
    let others = 100.0 * summary.others_share.unwrap_or_default();
    let used = format!("{share:.0} % of {} used, {others:.0} % by others", cores_text(machine.cores));
    let at = offered(network.highest().map_or(0, |step| step.offered_per_s));
    let what = match summary.bottleneck {
        Bottleneck::Processor => format!("the processor: at {at} {used}"),
        Bottleneck::Disk => format!(
            "the disk: at {at} {used},\n{:12}and about three syncs of {} until final",
            "",
            ms(log.sync_ms_p50)
        ),
        Bottleneck::Neither => format!("not found: at {at} {used}"),
        Bottleneck::Unknown if network.search.is_empty() => "not looked for by --quick".to_owned(),
        Bottleneck::Unknown => "unknown".to_owned(),
    };
    writeln!(out, "\nbottleneck  {what}")?;
    let t = 1e6 * cores / verify.few_keys_per_s.all_cores.median;
    let limit = rate(summary.verification_limit_per_s);
    writeln!(out, "limit       {limit} if four validators here did nothing but verify:")?;
    writeln!(out, "            cores / (4 t), t = {t:.1} µs for one of {} signatures", {
        HumanCount(FEW_KEYS_BATCH as u64)
    })?;
    let (Some(us), Some(part)) = (summary.validator_cpu_us_per_transaction, summary.verification_share)
    else {
        return Ok(());
    };
    let part = 100.0 * part;
    writeln!(
        out,
        "alone       a validator used {us:.0} µs of CPU a transaction, {part:.0} % to verify as above;"
    )?;
    writeln!(out, "            with this machine for itself it has CPU for about {}", rate(1e6 * cores / us))
}

fn offered(per_s: u32) -> String {
    format!("{}/s", HumanCount(per_s.into()))
}

fn per_second(cores: &Cores, text: impl Fn(f64) -> String) -> String {
    format!("{:<CELL$}{}", varying(&cores.one_core, &text), varying(&cores.all_cores, &text))
}

/// The median, and how far the samples are from it.
fn varying(figure: &Figure, text: impl Fn(f64) -> String) -> String {
    format!("{} ±{:.0} %", text(figure.median), figure.spread_percent())
}

/// Three digits: more than the samples agree on.
fn rate(per_s: f64) -> String {
    format!("{}/s", HumanFloatCount(three_digits(per_s)))
}

fn byte_rate(per_s: f64) -> String {
    if per_s < 1e9 { format!("{:.0} MB/s", per_s / 1e6) } else { format!("{:.1} GB/s", per_s / 1e9) }
}

fn ms(ms: f64) -> String {
    if ms < 0.1 {
        return format!("{:.0} µs", 1_000.0 * ms);
    }
    let digits = if ms < 1.0 { 2 } else { usize::from(ms < 10.0) };
    format!("{ms:.digits$} ms")
}

fn three_digits(number: f64) -> f64 {
    let unit = 10_f64.powf((number.max(100.0).log10() - 2.0).floor());
    (number / unit).round() * unit
}

#[cfg(test)]
mod tests;
