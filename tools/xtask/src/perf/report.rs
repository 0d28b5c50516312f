//! `report.md`: all that was measured, in tables and plots.

use std::fmt::Write as _;

use super::files::{B3SUM, OWN_BLAKE3, OWN_SHA256, SHA256SUM};
use super::goals::{Measured, file_ratio, goals};
use super::numbers::{ms_digits, three, three_spread, time, time_spread, times_spread, whole};
use super::plots::{APPENDERS, HASHED, VERIFIERS, batches, sizes, verify_row};
use super::results::{Bench, Load, Results, Spread};
use super::{peers, profile};

/// The whole of it. `plots` are the names of those that there are.
pub(super) fn report(results: &Results, plots: &[&str]) -> String {
    let mut out = head(results);
    out.push_str(&asked(results));
    for (title, text, shown) in [
        ("Signatures", signatures(results), &["verify.svg", "verify-keys.svg"][..]),
        ("Hashing", hashing(results), &["hash.svg"]),
        ("Files", files(results), &[]),
        ("The block log", log(results), &["log.svg"]),
        ("Load", results.load.as_ref().map(load), &["load-throughput.svg", "load-latency.svg"]),
        ("Memory", memory(results), &["memory.svg"]),
        ("Where the time goes", Some(profile::report(results.profile.as_ref())), &[profile::PICTURE]),
        ("Peers", Some(peers::report(results.peers.as_ref())), &[]),
    ] {
        let Some(text) = text else { continue };
        let _ = write!(out, "\n## {title}\n\n{text}");
        for plot in shown.iter().filter(|plot| plots.contains(*plot)) {
            let _ = write!(out, "\n![{title}](plots/{plot})\n");
        }
    }
    out.push_str(&rows(results));
    out.push_str(&steps(results));
    out
}

/// The commit, as people name it.
pub(super) fn commit(results: &Results) -> String {
    let changes = if results.uncommitted_changes { " with uncommitted changes" } else { "" };
    format!("commit {}{changes}", results.commit)
}

fn head(results: &Results) -> String {
    let machine = &results.machine;
    let mut out =
        "# What was measured\n\nMade by `cargo xtask perf --from perf` from `results.json`; `README.md` \
                   says how to measure and how to read it. Do not edit it.\n\n"
            .to_owned();
    if results.quick {
        out.push_str(
            "**A quick run, of times that are too short: it shows that everything works, and no figure is to \
             be quoted.**\n\n",
        );
    }
    let _ = writeln!(out, "| | |\n|---|---|\n| machine | {} |", machine.shown());
    let _ = writeln!(out, "| extensions | {} |", machine.extensions.join(", "));
    let _ = writeln!(out, "| load average before | {} |", machine.load_average_before);
    let _ = writeln!(out, "| compiler | {} |", machine.rustc);
    if let Some(flags) = &machine.rustflags {
        let _ = writeln!(out, "| `RUSTFLAGS` | `{flags}` |");
    }
    let _ = writeln!(out, "| code | {} |", commit(results));
    out
}

fn asked(results: &Results) -> String {
    let mut out = "\n## Figures asked\n\nRatios are of medians of one run. In parentheses is what they are at worst and at \
                   best: within criterion's 95 % intervals, the quartiles of the log's rounds, or all runs.\n\n\
                   | | what | asked | measured | met? | command |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for goal in goals(results) {
        let (shown, met) = match &goal.measured {
            Ok(Measured { shown, met }) => (shown.as_str(), if *met { "yes" } else { "no" }),
            Err(why) => (why.as_str(), "–"),
        };
        let (number, what, asked, command) = (goal.number, &goal.what, &goal.asked, goal.command);
        let _ = writeln!(out, "| {number} | {what} | {asked} | {shown} | {met} | `{command}` |");
    }
    out
}

fn cell(figure: Option<Spread>, shown: impl Fn(Spread) -> String) -> String {
    figure.map_or_else(String::new, shown)
}

fn signatures(results: &Results) -> Option<String> {
    let sizes = sizes(results);
    sizes.first()?;
    let mut out = "Time for one signature on one core, messages of 300 bytes, known keys, with criterion's 95 % interval. \
                   *Salus* is the verifier as a node has it, *portable* what it has on processors without AVX-512 IFMA.\n\n\
                   | signatures, keys |"
        .to_owned();
    for (_, name) in VERIFIERS {
        let _ = write!(out, " {name} |");
    }
    out.push_str(" dalek / Salus |\n|---|---:|---:|---:|---:|---:|\n");
    for size in sizes {
        let _ = write!(out, "| {}, {} |", whole(f64::from(size.0)), whole(f64::from(size.1)));
        for (verifier, _) in VERIFIERS {
            let each = verify_row(results, verifier, size).map(|per_s| per_s.map(|per_s| 1e9 / per_s));
            let _ = write!(out, " {} |", cell(each, time_spread));
        }
        let (own, dalek) = (verify_row(results, "batch", size), verify_row(results, "dalek", size));
        let ratio = own.zip(dalek).map(|(own, dalek)| own.over(dalek));
        let _ = writeln!(out, " {} |", cell(ratio, times_spread));
    }
    Some(out)
}

fn hashing(results: &Results) -> Option<String> {
    results.benches.iter().find(|bench| bench.step == "hash")?;
    let mut out = "SHA-256, for each hash (of the tree: each leaf), beside `sha2` one by one on one thread; ids, leaves and nodes \
                   1,024 together on one core, the tree on all cores.\n\n| | Salus | sha2 | ratio |\n|---|---:|---:|---:|\n"
        .to_owned();
    for (what, size, name) in HASHED {
        let of = |suffix| results.bench(&format!("hash/{what}{suffix}/{size}"));
        let (own, peer) = (of(""), of("_sha2"));
        let ratio = own.zip(peer).map(|(own, peer)| own.per_s().over(peer.per_s()));
        let shown = |bench: Option<&Bench>| cell(bench.map(Bench::each_ns), time_spread);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            name.replace('\n', " "),
            shown(own),
            shown(peer),
            cell(ratio, times_spread)
        );
    }
    Some(out)
}

fn files(results: &Results) -> Option<String> {
    let files = results.files.as_ref()?;
    let mib = files.bytes as f64 / 1_048_576.0;
    let mut out = format!(
        "One file of {} MiB in the page cache, programs in turn; medians with the fastest and the slowest round.\n\n\
         | program | time | GB/s | beside it |\n|---|---:|---:|---|\n",
        whole(mib)
    );
    for (own, other) in [(OWN_BLAKE3, B3SUM), (OWN_SHA256, SHA256SUM)] {
        for name in [own, other] {
            let Some(seconds) = files.seconds.get(name).and_then(|s| Spread::of(s.iter().copied())) else {
                continue;
            };
            let ratio = if name == own { file_ratio(files, own, other) } else { Err(String::new()) };
            let beside =
                ratio.map_or_else(|why| why, |ratio| format!("{} as fast as `{other}`", times_spread(ratio)));
            let _ = writeln!(
                out,
                "| `{name}` | {} | {:.2} | {beside} |",
                time_spread(seconds.map(|s| s * 1e9)),
                files.bytes as f64 / 1e9 / seconds.median
            );
        }
    }
    Some(out)
}

fn log(results: &Results) -> Option<String> {
    results.log.first()?;
    let batches = batches(results);
    let mut out = "Durable appends of records of 512 bytes; one round of all after the other, in an order that turns. MB/s, \
                   median and quartiles; below, how many times as fast Salus is, taken within a round.\n\n| records in a batch |"
        .to_owned();
    for n in &batches {
        let _ = write!(out, " {} |", whole(f64::from(*n)));
    }
    let _ = write!(out, "\n|---|{}\n", "---:|".repeat(batches.len()));
    for (who, name) in APPENDERS {
        let _ = write!(out, "| {name} |");
        for n in &batches {
            let speed = results.log_row(&format!("log/append/{who}/n={n}"), None);
            let ratio = results.log_row(&format!("log/append/salus/n={n}"), Some(who));
            let ratio = ratio.map(|ratio| format!("<br>{}", times_spread(ratio))).unwrap_or_default();
            let _ = write!(out, " {}{ratio} |", cell(speed, three_spread));
        }
        out.push('\n');
    }
    let others: Vec<_> = results.log.iter().filter(|row| !row.name.starts_with("log/append/")).collect();
    if !others.is_empty() {
        out.push_str(
            "\n`stream`: groups of 1 MiB, several on the way, by the node's writer that fills segments meanwhile (`store`) \
             and before (`ahead`), its threads alone (`lanes`) and the bare device. `recovery`: opening a log that is not in the page cache (`open`), beside reading its files in \
             order (`read`) and past the page cache with eight requests in flight (`device`).\n\n| | |\n|---|---:|\n",
        );
        for row in others {
            let (name, shown) = match &row.of {
                None => (row.name.clone(), format!("{} MB/s", three_spread(row.figure))),
                Some(of) => (format!("{} beside `{of}`", row.name), times_spread(row.figure)),
            };
            let _ = writeln!(out, "| {name} | {shown} |");
        }
    }
    Some(out)
}

fn load(load: &Load) -> String {
    let mut out = "Four validators and their clients share this machine. Medians of the runs, in parentheses the lowest and the \
                   highest; a time counts from the moment at which a transaction was due.\n\n\
                   | offered /s | runs | committed /s | p50, ms | p99, ms | worst, ms | refused as busy | otherwise refused, or not answered | validators' cores |\n\
                   |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let rates = load.rates().into_iter().map(|rate| (rate, &load.runs));
    let half = load.half.first().map(|run| (run.offered_per_s, &load.half));
    for (rate, runs) in rates.chain(half) {
        let runs: Vec<_> = runs.iter().filter(|run| run.offered_per_s == rate).collect();
        let of =
            |figure: &dyn Fn(&super::results::LoadRun) -> f64| Spread::of(runs.iter().map(|run| figure(run)));
        let ms = |ms: Spread| {
            format!("{} ({} to {})", ms_digits(ms.median), ms_digits(ms.low), ms_digits(ms.high))
        };
        let cores = Spread::of(runs.iter().filter_map(|run| run.usage.validators_cores));
        let busy: u64 = runs.iter().map(|run| run.busy).sum();
        let lost: u64 = runs.iter().map(|run| run.lost()).sum();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            whole(rate as f64),
            runs.len(),
            cell(of(&|run| run.committed_per_s), three_spread),
            cell(of(&|run| run.finality_ms.p50), ms),
            cell(of(&|run| run.finality_ms.p99), ms),
            cell(of(&|run| run.finality_ms.max), |max| ms_digits(max.high)),
            whole(busy as f64),
            whole(lost as f64),
            cell(cores, |cores| format!("{:.2}", cores.median)),
        );
    }
    out
}

fn memory(results: &Results) -> Option<String> {
    let memory = results.memory.as_ref()?;
    let last = memory.samples.last()?;
    let peak = |index: usize| {
        let values = memory.samples.iter().filter_map(|sample| sample.rss_mib.get(index));
        values.copied().fold(0.0, f64::max)
    };
    let mut out = format!(
        "Resident memory of each validator in {} seconds at {} transactions a second, mapped files of the log included; \
         without them in the last column.\n\n| validator | most, MiB | at the end, MiB | without files, MiB |\n\
         |---|---:|---:|---:|\n",
        whole(memory.seconds),
        whole(memory.offered_per_s as f64)
    );
    for (index, (rss, anonymous)) in last.rss_mib.iter().zip(&last.anonymous_mib).enumerate() {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            index + 1,
            whole(peak(index)),
            whole(*rss),
            whole(*anonymous)
        );
    }
    Some(out)
}

/// Every row of criterion's.
fn rows(results: &Results) -> String {
    if results.benches.is_empty() {
        return String::new();
    }
    let mut out = "\n## Every row\n\nMedian of an iteration with criterion's 95 % interval, and what that is for each element.\n\n\
                   | row | iteration | each | a second |\n|---|---:|---:|---:|\n"
        .to_owned();
    for bench in &results.benches {
        let (each, rate) = match bench.elements {
            Some(_) => (time(bench.each_ns().median), three(bench.per_s().median)),
            None => (String::new(), three(1e9 / bench.ns.median)),
        };
        let _ = writeln!(out, "| `{}` | {} | {each} | {rate} |", bench.name, time_spread(bench.ns));
    }
    out
}

fn steps(results: &Results) -> String {
    let mut out = "\n## Steps\n\n| step | began, UTC | seconds | commands |\n|---|---|---:|---|\n".to_owned();
    for (name, step) in &results.steps {
        let commands: Vec<_> = step.commands.iter().map(|command| format!("`{command}`")).collect();
        let fault = step.fault.as_ref().map(|fault| format!("**failed: {}**", fault.replace('\n', " ")));
        let told = commands.into_iter().chain(fault).collect::<Vec<_>>().join("<br>");
        let _ = writeln!(out, "| {name} | {} | {} | {told} |", step.began, whole(step.seconds));
    }
    out
}
