//! The block log beside two key-value stores and the bare device: durable appends, and recovery beside a plain read.
//!
//!     cargo bench --bench log -- append [RECORDS]
//!     cargo bench --bench log -- stream
//!     cargo bench --bench log -- recovery [GIB]
//!
//! Not criterion's: each round runs all candidates, one after the other, in an order that turns, so that what others do to a
//! shared disk hits all alike, and ratios are taken within a round. Medians over the rounds are shown, with the quartiles.
//! Names are stable: `log/append/<candidate>/n=<records>`, `log/stream/<candidate>/n=<records>`, `log/recovery/<what>`.
//!
//! Files lie in a temporary folder under `SALUS_BENCH_DIR`, or under the build folder, and are removed at the end. It
//! must be on a real disk.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures time and files")]

mod append;
mod files;
mod recovery;
mod stream;

use std::path::PathBuf;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of each record.
const RECORD_BYTES: usize = 512;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let parent = std::env::var_os("SALUS_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&parent).expect("create the folder");
    let folder = tempfile::tempdir_in(parent).expect("temporary folder");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["append"] => append::run(folder.path(), None),
        ["append", records] => {
            append::run(folder.path(), Some(records.parse().expect("a number of records")))
        }
        ["stream"] => stream::run(folder.path()),
        ["recovery"] => recovery::run(folder.path(), 4),
        ["recovery", gib] => recovery::run(folder.path(), gib.parse().expect("a number of GiB")),
        _ => panic!("append [RECORDS], stream, or recovery [GIB], and not {words:?}"),
    }
}

/// First quartile, median and third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [1, 2, 3].map(|quarter| values[last * quarter / 4])
}

/// Shows the speeds of one candidate in each round, in bytes a second, or their ratios to those of another.
fn show(name: &str, speeds: &[f64], beside: Option<(&str, &[f64])>) {
    if let Some((other, theirs)) = beside {
        let ratios = speeds.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        let [low, median, high] = quartiles(ratios);
        println!("{name:<32} {median:>6.2} of {other} ({low:.2} to {high:.2})");
    } else {
        let [low, median, high] = quartiles(speeds.to_vec()).map(|speed| speed / 1e6);
        println!("{name:<32} {median:>6.0} MB/s ({low:.0} to {high:.0})");
    }
}
