//! Looks for the smallest options with which a seed still fails.

use salus::sim::FaultKind;

use crate::options::WorldOptions;
use crate::seeds::one;

/// Runs that a search may take.
const RUNS_MAX: u32 = 60;

/// The smallest failing options found, and how the seed fails with them.
pub(crate) fn shrink(seed: u64, options: &WorldOptions, failure: String) -> (WorldOptions, String) {
    let (mut best, mut how) = (options.clone(), failure);
    let mut runs = 0;
    loop {
        let mut smaller = None;
        for candidate in candidates(&best) {
            runs += 1;
            if runs > RUNS_MAX {
                return (best, how);
            }
            if let Err(failure) = one(seed, &candidate, false) {
                smaller = Some((candidate, failure.to_string()));
                break;
            }
        }
        let Some((candidate, failure)) = smaller else { return (best, how) };
        (best, how) = (candidate, failure);
    }
}

/// Options that are one step smaller, the largest steps first.
fn candidates(from: &WorldOptions) -> Vec<WorldOptions> {
    let mut out = Vec::new();
    let mut add = |change: &dyn Fn(&mut WorldOptions)| {
        let mut candidate = from.clone();
        change(&mut candidate);
        if candidate != *from {
            out.push(candidate);
        }
    };
    add(&|o| o.seconds = (o.seconds / 2).max(1));
    add(&|o| o.seconds = (o.seconds * 3 / 4).max(1));
    add(&|o| o.seconds = (o.seconds - 1).max(1));
    if !from.no_faults {
        add(&|o| o.no_faults = true);
        for kind in FaultKind::ALL.into_iter().filter(|kind| from.config().may(*kind)) {
            add(&|o| o.without.push(kind));
        }
    }
    add(&|o| o.skew_ms = 0);
    add(&|o| o.clients = 1);
    add(&|o| o.validators = 4);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_canary_shrinks_to_the_least() {
        let options = WorldOptions { canary: true, seconds: 2, ..WorldOptions::default() };
        let failure = one(37, &options, false).unwrap_err().to_string();
        let (smallest, how) = shrink(37, &options, failure);
        assert_eq!(smallest.seconds, 1);
        assert!(smallest.no_faults && smallest.clients == 1 && smallest.skew_ms == 0, "{smallest:?}");
        assert!(how.contains("canary"), "{how}");
    }
}
