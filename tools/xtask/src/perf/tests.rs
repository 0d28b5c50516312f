#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::*;

#[test]
fn options_are_read() {
    let usual: Vec<Step> = Step::ALL.into_iter().filter(|step| step.is_usual()).collect();
    assert_eq!(usual.len(), Step::ALL.len() - 3);
    let all = Task::Measure { steps: usual, only: false, quick: false, out: None };
    assert_eq!(parse(&[]), Ok(all));
    let some = Task::Measure {
        steps: vec![Step::Verify, Step::Log, Step::Memory, Step::Profile],
        only: true,
        quick: true,
        out: Some(PathBuf::from("x")),
    };
    assert_eq!(parse(&["--only", "log,verify", "--quick", "--long", "--out=x"]), Ok(some));
    assert_eq!(parse(&["--from", "perf"]), Ok(Task::From(PathBuf::from("perf"))));
    for wrong in [&["--only", "lgo"][..], &["--only"], &["--fast"], &["--from", "perf", "--quick"]] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn steps_that_were_left_out_stay_if_the_code_is_the_same() {
    let mut earlier = sample::results();
    earlier.uncommitted_changes = false;
    let mut results = Results { uncommitted_changes: false, ..sample::results() };
    assert!(results.comparable(&earlier));
    assert!(!results.comparable(&sample::results()));
    results.steps.retain(|step, _| step == "verify");
    results.benches.retain(|bench| bench.step == "verify");
    results.log.clear();
    results.load = None;
    results.profile = None;
    results.peers = None;
    results.take_over(earlier.clone());
    assert_eq!(results.steps, earlier.steps);
    assert_eq!(results.benches.len(), earlier.benches.len());
    assert_eq!((results.log, results.load), (earlier.log, earlier.load));
    assert_eq!((results.profile, results.peers), (earlier.profile, earlier.peers));
}

#[test]
fn results_are_read_as_they_were_written() {
    let results = sample::results();
    let text = serde_json::to_string_pretty(&results).unwrap();
    assert!(serde_json::from_str::<Results>(&text).unwrap() == results);
}

#[test]
fn a_report_has_all_its_parts() {
    let results = sample::results();
    let plots = plots::plots(&results);
    let names = pictures(&results, &plots);
    assert_eq!(names.len(), 8);
    let report = report::report(&results, &names);
    for part in [
        "Figures asked",
        "Signatures",
        "Hashing",
        "Files",
        "The block log",
        "Load",
        "Memory",
        "Where the time goes",
        "Peers",
        "Steps",
    ] {
        assert!(report.contains(&format!("\n## {part}\n")), "{part}");
    }
    for name in names {
        assert!(report.contains(&format!("(plots/{name})")), "{name}");
    }
    for wrong in ["NaN", "inf"] {
        assert!(!report.contains(wrong), "{wrong}");
        assert!(plots.iter().all(|(_, svg)| !svg.contains(wrong)));
    }
}

#[test]
fn a_report_of_nothing_says_so() {
    let results = before(true);
    assert_eq!(plots::plots(&results), []);
    let report = report::report(&results, &[]);
    assert_eq!(report.matches("not measured").count(), goals::goals(&results).len());
    assert_eq!(readme::table(&results), readme::NOT_MEASURED);
}

/// Nobody edits by hand what is made from `perf/results.json`: if this fails, `cargo xtask perf --from perf` mends it.
#[test]
fn report_plots_and_readme_are_those_of_the_results() {
    let perf = crate::root().join("perf");
    let readme = std::fs::read_to_string(crate::root().join("README.md")).unwrap();
    let files = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    if !perf.join("results.json").exists() {
        // As long as nothing was measured, there must be nothing that looks as if it had been.
        assert_eq!(readme, readme::replaced(&readme, readme::NOT_MEASURED).unwrap());
        assert!(!files(&perf).contains("report.md"));
        assert_eq!(files(&perf.join("plots")), BTreeSet::new());
        return;
    }
    let results = Results::read(&perf).unwrap();
    let plots = plots::plots(&results);
    let names = pictures(&results, &plots);
    let same = |found: &str, made: &str, name: &str| {
        assert!(found == made, "{name} is not that of the results: `cargo xtask perf --from perf`");
    };
    let report = std::fs::read_to_string(perf.join("report.md")).unwrap();
    same(&report, &report::report(&results, &names), "report.md");
    same(&readme, &readme::replaced(&readme, &readme::table(&results)).unwrap(), "README.md");
    for (name, svg) in &plots {
        same(&std::fs::read_to_string(perf.join("plots").join(name)).unwrap(), svg, name);
    }
    assert_eq!(files(&perf.join("plots")), names.iter().map(|name| (*name).to_owned()).collect());
}
