//! Judges the headers that honest validators take in, by the protocol's rules written once more and without the code that
//! they run.

use std::collections::{BTreeMap, BTreeSet};

use super::checker::Violation;
use crate::types::{Epoch, Header, Round, SignedHeader};

/// Rounds in which a validator may make no block of its own without one of the reasons that this judge knows: a lost log.
const SKIPS_MAX: usize = 8;

/// What honest validators took in.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// For each host, the rounds of its own blocks that left out rounds before them.
    skips: BTreeMap<usize, BTreeSet<Round>>,
}

impl Taken {
    /// A host of `validators` equal ones writes a header to its log.
    pub(super) fn judge(
        &mut self,
        host: usize,
        is_own: bool,
        validators: usize,
        gc_depth: u64,
        header: &SignedHeader,
    ) -> Result<(), Violation> {
        let fail = |what| Err(Violation::Host { host, what });
        if let Some(fault) = fault(header.header(), validators) {
            return fail(format!("takes {}, which {fault}", header.reference()));
        }
        let round = header.header().round;
        let last = header.header().ancestors.first().map_or(Round(0), |own| own.round);
        // Whoever was away for longer than garbage collection reaches enters at the round of the others.
        if is_own && last.next() < round && round.0 <= last.0 + gc_depth {
            let skips = self.skips.entry(host).or_default();
            // One block may come more than once: back from others, after a lost log.
            skips.insert(round);
            if skips.len() > SKIPS_MAX {
                return fail(format!("makes no block between rounds {last} and {round}, and did so before"));
            }
        }
        Ok(())
    }
}

/// What is wrong with a header, if anything.
fn fault(header: &Header, validators: usize) -> Option<&'static str> {
    let parents: BTreeSet<u16> =
        header.ancestors.iter().filter(|a| a.round.next() == header.round).map(|a| a.author.0).collect();
    let authors: BTreeSet<u16> = header.ancestors.iter().map(|a| a.author.0).collect();
    let tolerated = validators.saturating_sub(1) / 3;
    if header.epoch != Epoch(0) {
        Some("is of another epoch")
    } else if header.ancestors.first().is_none_or(|own| own.author != header.author) {
        Some("does not build on a block of its author")
    } else if parents.len() + tolerated < validators {
        Some("has no quorum of parents")
    } else if authors.len() < header.ancestors.len() {
        Some("names two blocks of one author")
    } else if header.ancestors.iter().any(|a| a.round >= header.round) {
        Some("names what is not earlier")
    } else {
        None
    }
}
