//! Seeds that failed once, with the options that they failed with: they have to hold.

use clap::Parser;

use crate::options::WorldOptions;
use crate::seeds::one;

/// The list: one line of options each, behind lines that tell its story.
const LIST: &str = include_str!("../../../tests/data/simulator/regressions.txt");

#[derive(Debug, Parser)]
struct Line {
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    world: WorldOptions,
}

fn lines() -> impl Iterator<Item = (&'static str, Line)> {
    LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let words = std::iter::once("simulate").chain(line.split_whitespace());
        match Line::try_parse_from(words) {
            Ok(parsed) => (line, parsed),
            Err(error) => panic!("{line:?} in the list of regressions: {error}"),
        }
    })
}

/// Runs all; whether they held.
pub(crate) fn all() -> bool {
    let mut failed = 0;
    let mut count = 0;
    for (text, line) in lines() {
        count += 1;
        if let Err(failure) = one(line.seed, &line.world, false) {
            failed += 1;
            println!("{text}: {failure}");
        }
    }
    println!("regressions: {count} seeds that failed once, {failed} fail");
    failed == 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_failed_once_holds() {
        assert!(super::all());
    }
}
