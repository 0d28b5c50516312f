//! The table of the README, between its two marks.

use std::fmt::Write as _;

use super::files::OWN_BLAKE3;
use super::numbers::{ms_spread, three, three_spread, whole};
use super::report::commit;
use super::results::{Load, Results, Spread};

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// What stands there as long as nothing was measured.
pub(super) const NOT_MEASURED: &str = concat!(
    "Not measured yet: `cargo xtask perf` does, and writes its figures here.\n",
    "`salus bench` says in under a minute what your machine does.\n"
);

/// The README with another text between its marks.
pub(super) fn replaced(readme: &str, text: &str) -> Result<String, String> {
    let marks = "README.md has to have one line `<!-- measured: begin -->`, and one `<!-- measured: end -->` after it";
    let (before, rest) = readme.split_once(BEGIN).ok_or(marks)?;
    let (_, after) = rest.split_once(END).ok_or(marks)?;
    if after.contains(BEGIN) || after.contains(END) {
        return Err(marks.to_owned());
    }
    Ok(format!("{before}{BEGIN}{text}{END}{after}"))
}

/// The table.
pub(super) fn table(results: &Results) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |what: &str, figure: Option<String>| {
        rows.extend(figure.map(|figure| (what.to_owned(), figure)));
    };
    let per_s = |name: &str| results.bench(name).map(|bench| three_spread(bench.per_s()));
    row("signatures a second, one core, 1,024 of 1,024 keys", per_s("verify/batch/n=1024,keys=1024"));
    row("signatures a second, one core, 4,096 of 32 keys", per_s("verify/batch/n=4096,keys=32"));
    row("leaves a second, Merkle tree of a million", per_s("hash/tree/leaves=1000000"));
    row("`salus hash` by BLAKE3, GB/s, file in the page cache", hash(results));
    for (name, what) in [
        ("log/append/salus/n=128", "block log, MB/s, durable groups of 64 KiB, each waited for"),
        ("log/stream/store/n=2048", "block log, MB/s, a stream of durable groups of 1 MiB"),
    ] {
        row(what, results.log_row(name, None).map(three_spread));
    }
    rows.extend(results.load.as_ref().map(load).unwrap_or_default());
    if rows.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let quick = if results.quick { " in a quick run that is not to be quoted" } else { "" };
    let mut out = format!(
        "Measured by `cargo xtask perf`{quick} on\n{}; {}.\n\
         Medians, with what they vary between. Everything else, beside peers and what was asked: `perf/report.md`.\n\n| | |\n|---|---:|\n",
        results.machine.shown(),
        commit(results)
    );
    for (what, figure) in rows {
        let _ = writeln!(out, "| {what} | {figure} |");
    }
    out
}

fn hash(results: &Results) -> Option<String> {
    let files = results.files.as_ref()?;
    let seconds = Spread::of(files.seconds.get(OWN_BLAKE3)?.iter().copied())?;
    let speed = seconds.map(|seconds| files.bytes as f64 / 1e9 / seconds);
    Some(format!("{:.2} ({:.2} to {:.2})", speed.median, speed.low, speed.high))
}

/// At 1,000 and 10,000 a second, and at the best rate.
fn load(load: &Load) -> Vec<(String, String)> {
    let best = load.best().map(|(rate, _)| rate);
    let mut rates: Vec<u64> = load
        .rates()
        .into_iter()
        .filter(|rate| [1_000, 10_000, 50_000].contains(rate) || Some(*rate) == best)
        .collect();
    rates.sort_unstable();
    let row = |rate: u64| {
        let committed = load.at(rate, |run| run.committed_per_s)?;
        let (p50, p99) =
            (load.at(rate, |run| run.finality_ms.p50)?, load.at(rate, |run| run.finality_ms.p99)?);
        let most = if Some(rate) == best { ", the most" } else { "" };
        Some((
            format!("four validators here, {} tx/s offered: final a second{most}", whole(rate as f64)),
            format!("{}, p50 {}, p99 {}", three(committed.median), ms_spread(p50), ms_spread(p99)),
        ))
    };
    rates.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::perf::sample;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(replaced(&readme, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}b\n"));
        for wrong in ["a\n", "a\n<!-- measured: begin -->\n"] {
            assert!(replaced(wrong, "new\n").is_err());
        }
        assert!(replaced(&format!("{readme}{readme}"), "new\n").is_err());
    }

    #[test]
    fn the_table_has_a_row_for_what_was_measured() {
        let table = table(&sample::results());
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ") && line.len() > 6).collect();
        assert_eq!(rows.len(), 9, "{table}");
        assert!(rows[0].contains("400,000 (360,000 to 444,000)"), "{}", rows[0]);
        assert!(
            table.contains("20,000 tx/s offered: final a second, the most | 19,600, p50 241 ms"),
            "{table}"
        );
        assert!(table.contains("commit 0123456789ab with uncommitted changes"));
    }
}
