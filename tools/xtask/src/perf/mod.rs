//! `cargo xtask perf`: measures everything in one go and makes the report of it.
//!
//! A run writes `results.json`; report, plots and the README's table are made from that file alone, so that anybody can make them again
//! and a test can tell whether somebody has edited them.

mod criterion;
mod files;
mod goals;
mod load;
mod log;
mod machine;
mod memory;
mod network;
mod numbers;
mod peers;
mod plot;
mod plots;
mod profile;
mod readme;
mod report;
mod results;
#[cfg(test)]
mod sample;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use machine::Machine;
use results::{FORMAT, Results};
use step::{Step, Work};

pub(crate) const USAGE: &str = "\
Measure everything, and make the report and the README's table of it.

USAGE
  cargo xtask perf [--only STEP,…] [--quick] [--long] [--out DIR]
  cargo xtask perf --from DIR

OPTIONS
  --only STEP,…  of verify, hash, consensus, execute, state, log, files, load, memory, profile, peers; what
                 results.json of the same commit and machine has of other steps stays. peers, what is in perf/peers,
                 runs only so: it builds other people's programs, half an hour, and takes as long again
  --quick        times that are too short for figures, to see that everything works
  --long         memory and profile too: ten minutes of load, and a flame graph of a validator under load
  --out DIR      folder for results.json, report.md and plots [default: perf; with --quick: target/perf]
  --from DIR     measure nothing: make report and plots again from DIR/results.json

EXAMPLES
  Everything, on a machine that does nothing else, in about an hour, half of it to build:
      cargo xtask perf --long
  Does the suite work?
      cargo xtask perf --quick
  Signatures and the block log, in a folder of their own:
      cargo xtask perf --only verify,log --out target/perf
  Where a validator under load spends its time, in a folder of its own:
      cargo xtask perf --only load,profile --out target/perf
  Other people's engine, store, verifiers and QUIC beside this one:
      cargo xtask perf --only peers
  Report, plots and the README's table again, from the results that are kept:
      cargo xtask perf --from perf

The README is written when the folder is the project's own, perf. Files are measured in cargo's target folder and
removed at the end; what an interrupted run has left, validators too, the next one ends and removes.

Exit code 0: done, whether or not figures meet what was asked. 1: a step failed; what others measured is
written. 2: wrong arguments, or it could not be built or written.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Measure { steps: Vec<Step>, only: bool, quick: bool, out: Option<PathBuf> },
    From(PathBuf),
}

/// Runs the task.
pub(crate) fn run(args: &[&str]) -> ExitCode {
    let done = match parse(args) {
        Err(error) => Err(format!("{error}\n\n{USAGE}")),
        Ok(Task::Help) => {
            print!("{USAGE}");
            Ok(true)
        }
        Ok(Task::From(folder)) => make(&folder).map(|()| true),
        Ok(Task::Measure { steps, only, quick, out }) => measure(&steps, only, quick, out),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: &[&str]) -> Result<Task, String> {
    let (mut only, mut out, mut from) = (None, None, None);
    let (mut quick, mut long) = (false, false);
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg, None),
        };
        let mut value = || value.or_else(|| args.next()).ok_or_else(|| format!("{name} needs a value"));
        match name {
            "--help" | "-h" | "help" => return Ok(Task::Help),
            "--quick" => quick = true,
            "--long" => long = true,
            "--only" => only = Some(named(value()?)?),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--from" => from = Some(PathBuf::from(value()?)),
            _ => return Err(format!("perf has no option {arg:?}")),
        }
    }
    if let Some(folder) = from {
        let alone = only.is_none() && out.is_none() && !quick && !long;
        return if alone { Ok(Task::From(folder)) } else { Err("--from stands alone".to_owned()) };
    }
    let is_only = only.is_some();
    let mut steps = only.unwrap_or_else(|| Step::ALL.into_iter().filter(|step| step.is_usual()).collect());
    if long {
        steps = Step::ALL.into_iter().filter(|step| step.is_long() || steps.contains(step)).collect();
    }
    Ok(Task::Measure { steps, only: is_only, quick, out })
}

/// Steps by their names, in the order in which they run.
fn named(names: &str) -> Result<Vec<Step>, String> {
    let all = Step::ALL.map(Step::name);
    let names: Vec<&str> = names.split(',').collect();
    match names.iter().find(|name| !all.contains(name)) {
        Some(name) => Err(format!("there is no step {name:?}: choose of {}", all.join(", "))),
        None => Ok(Step::ALL.into_iter().filter(|step| names.contains(&step.name())).collect()),
    }
}

/// Measures, writes and makes the report. `false` if a step failed.
fn measure(steps: &[Step], only: bool, quick: bool, out: Option<PathBuf>) -> Result<bool, String> {
    let start = Instant::now();
    let default = if quick { "target/perf" } else { "perf" };
    let out = out.unwrap_or_else(|| crate::root().join(default));
    let results = before(quick);
    // Found out before the measurement, rather than after it.
    let earlier = if only { joinable(&results, &out)? } else { None };
    std::fs::create_dir_all(&out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    println!("{}\nload average {}", results.machine.shown(), results.machine.load_average_before);
    if results.machine.load_average_before > 0.5 && !quick {
        println!("warning: something else runs on this machine: figures will be too low, and spread wide");
    }
    let mut work = Work::new(results, quick)?;
    println!("\n== build");
    work.build(steps)?;
    // A step may need what an earlier run has: the rate of the load.
    if let Some(earlier) = &earlier {
        work.results.load.clone_from(&earlier.load);
    }
    for (number, step) in steps.iter().enumerate() {
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        println!("\n== {} of {}: {}, after {minutes:.1} min", number + 1, steps.len(), step.name());
        work.step(*step);
        let run = work.results.steps.get(step.name());
        if let Some(fault) = run.and_then(|run| run.fault.as_ref()) {
            eprintln!("error: {}: {fault}", step.name());
        }
    }
    let (mut results, flame_graph) = (work.results.clone(), work.flame_graph.take());
    drop(work);
    let failed: Vec<String> =
        results.steps.iter().filter(|(_, run)| run.fault.is_some()).map(|(name, _)| name.clone()).collect();
    if let Some(earlier) = earlier {
        results.take_over(earlier);
    }
    results.benches.sort_by_key(|bench| results::natural(&bench.name));
    results.write(&out)?;
    if let Some(svg) = flame_graph {
        let plots = folder_of_plots(&out)?;
        write(&plots.join(profile::PICTURE), &svg)?;
    }
    make(&out)?;
    println!("after {:.1} min", start.elapsed().as_secs_f64() / 60.0);
    if !failed.is_empty() {
        eprintln!("error: failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// Results without figures.
fn before(quick: bool) -> Results {
    let (commit, uncommitted_changes) = machine::commit();
    Results {
        format: FORMAT.to_owned(),
        quick,
        machine: Machine::this(),
        commit,
        uncommitted_changes,
        steps: BTreeMap::new(),
        benches: Vec::new(),
        log: Vec::new(),
        files: None,
        load: None,
        memory: None,
        profile: None,
        peers: None,
    }
}

/// What the folder has of other steps, if that may stand beside the results of some.
fn joinable(results: &Results, out: &Path) -> Result<Option<Results>, String> {
    if !out.join("results.json").exists() {
        return Ok(None);
    }
    let earlier = Results::read(out)?;
    if results.comparable(&earlier) {
        return Ok(Some(earlier));
    }
    Err(format!(
        "{} holds results of another commit or machine, or with uncommitted changes, beside which others must not \
         stand\nmeasure everything, or write to another folder with --out",
        out.display()
    ))
}

/// Makes the report, its plots and, in the project's own folder, the README's table.
fn make(folder: &Path) -> Result<(), String> {
    let results = Results::read(folder)?;
    let plots = plots::plots(&results);
    let shown = folder_of_plots(folder)?;
    for (name, svg) in &plots {
        write(&shown.join(name), svg)?;
    }
    let names = pictures(&results, &plots);
    remove_others(&shown, &names)?;
    if let Some(missing) = names.iter().map(|name| shown.join(name)).find(|path| !path.exists()) {
        return Err(format!(
            "results.json has a profile, but its flame graph is not there: {}\nmeasure it again with `cargo xtask perf \
             --only load,profile`",
            missing.display()
        ));
    }
    let report = folder.join("report.md");
    write(&report, &report::report(&results, &names))?;
    println!("\n{}", report.display());
    if is_own(folder) {
        let path = crate::root().join("README.md");
        let readme = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        write(&path, &readme::replaced(&readme, &readme::table(&results))?)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn folder_of_plots(folder: &Path) -> Result<PathBuf, String> {
    let plots = folder.join("plots");
    std::fs::create_dir_all(&plots).map_err(|error| format!("cannot make {}: {error}", plots.display()))?;
    Ok(plots)
}

/// Names of all pictures that go with the results: plots, which are made from them, and the flame graph, which is not.
fn pictures<'a>(results: &Results, plots: &[(&'a str, String)]) -> Vec<&'a str> {
    let flame_graph = results.profile.as_ref().map(|_| profile::PICTURE);
    plots.iter().map(|(name, _)| *name).chain(flame_graph).collect()
}

/// Removes pictures of earlier results that do not go with these.
fn remove_others(folder: &Path, names: &[&str]) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let wanted = names.iter().any(|name| path.ends_with(name));
        if !wanted && path.extension().is_some_and(|extension| extension == "svg") {
            std::fs::remove_file(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn is_own(folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(folder).is_some_and(|folder| Some(folder) == real(&crate::root().join("perf")))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
