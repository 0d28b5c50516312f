//! What callers did and were told, and the judgement on it.

use std::collections::BTreeMap;

use super::models::{Chain, ChainOp, Consent, ConsentAnswer, ConsentCall, ConsentNow, ConsentOp};
use super::search::{Model, Timed, check};
use crate::execute::SkipReason;
use crate::types::{LeafIndex, TxId};

/// What a transaction is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    Consent { handle: [u8; 32], call: ConsentCall },
    Chain { prev: Option<LeafIndex> },
}

/// What its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Executed. `violation` is not told where it was found executed by another way.
    Executed { leaf: LeafIndex, violation: Option<bool> },
    /// Skipped.
    Skipped(SkipReason),
}

/// One transaction.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: TxId,
    pub(super) subject: Subject,
    pub(super) invoked_us: u64,
    pub(super) returned_us: Option<u64>,
    pub(super) told: Option<Told>,
}

/// A read of one validator's state.
#[derive(Debug, Clone)]
pub(super) struct Read {
    /// Leaves that the caller knew of.
    pub(super) token: u64,
    /// Leaves of the state that was read.
    pub(super) tree_size: u64,
    pub(super) saw: Saw,
}

/// What a read saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saw {
    Consent([u8; 32], ConsentNow),
    /// The head that follows from a version.
    Head(LeafIndex, Option<LeafIndex>),
}

/// Everything that callers did, by request.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) reads: Vec<Read>,
    pub(super) proofs: u64,
}

/// Where the ledger holds a transaction in the end, and whether it is flagged.
pub(super) type Placed = BTreeMap<TxId, (LeafIndex, bool)>;

/// What the judgement was on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Keys: consents and chains.
    pub keys: u64,
    /// Transactions on them.
    pub transactions: u64,
    /// Reads of one validator's state.
    pub reads: u64,
    /// Proofs that were made and checked.
    pub proofs: u64,
    /// Revocations that were told to have found no consent, and revoked it later all the same.
    pub late: u64,
}

impl Judged {
    /// Everything that callers did.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.transactions + self.reads + self.proofs
    }

    /// Adds another judgement.
    pub fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.transactions += other.transactions;
        self.reads += other.reads;
        self.proofs += other.proofs;
        self.late += other.late;
    }
}

impl History {
    /// Judges it; `placed` is what the ledger holds in the end.
    pub(super) fn judge(&self, placed: &Placed) -> Result<Judged, String> {
        let mut judged = Judged { reads: self.reads.len() as u64, proofs: self.proofs, ..Judged::default() };
        judged.transactions = self.entries.len() as u64;
        self.agrees_with(placed)?;
        self.order_is_real(placed)?;
        let consents = self.consents(placed, &mut judged.late);
        for (handle, ops) in &consents {
            let of = |error| format!("consent {}: {error}", hex::encode(&handle[..4]));
            check::<Consent>(ops).map_err(of)?;
        }
        let chains = self.chains(placed)?;
        for (first, ops) in &chains {
            check::<Chain>(ops).map_err(|error| format!("record {first}: {error}"))?;
        }
        judged.keys = (consents.len() + chains.len()) as u64;
        self.reads_are_prefixes(placed)?;
        Ok(judged)
    }

    /// Whoever was told of a leaf finds its transaction there, flagged as told.
    fn agrees_with(&self, placed: &Placed) -> Result<(), String> {
        for entry in self.entries.values() {
            let Some(Told::Executed { leaf, violation }) = entry.told else { continue };
            let holds = placed
                .get(&entry.id)
                .is_some_and(|(at, flag)| *at == leaf && violation.is_none_or(|told| told == *flag));
            if !holds {
                let found = placed.get(&entry.id);
                return Err(format!(
                    "{} was told {:?}, and the ledger holds {found:?}",
                    entry.id, entry.told
                ));
            }
        }
        Ok(())
    }

    /// What returned before another was invoked lies before it.
    fn order_is_real(&self, placed: &Placed) -> Result<(), String> {
        let mut invoked: Vec<(u64, LeafIndex)> = Vec::new();
        let mut returned: Vec<(u64, LeafIndex)> = Vec::new();
        for entry in self.entries.values() {
            let Some((leaf, _)) = placed.get(&entry.id) else { continue };
            invoked.push((entry.invoked_us, *leaf));
            if let (Some(at), Some(Told::Executed { .. })) = (entry.returned_us, entry.told) {
                returned.push((at, *leaf));
            }
        }
        invoked.sort_unstable();
        returned.sort_unstable();
        let mut before = returned.into_iter().peekable();
        let mut highest = None;
        for (at, leaf) in invoked {
            while let Some((_, done)) = before.next_if(|(end, _)| *end < at) {
                highest = highest.max(Some(done));
            }
            if highest > Some(leaf) {
                let seen = highest.unwrap_or_default();
                return Err(format!("leaf {leaf} was submitted after {seen} was final, and lies before it"));
            }
        }
        Ok(())
    }

    fn consents(&self, placed: &Placed, late: &mut u64) -> BTreeMap<[u8; 32], Vec<Timed<ConsentOp>>> {
        let mut keys: BTreeMap<[u8; 32], Vec<Timed<ConsentOp>>> = BTreeMap::new();
        for entry in self.entries.values() {
            let Subject::Consent { handle, call } = entry.subject else { continue };
            let ops = keys.entry(handle).or_default();
            let in_ledger = placed.get(&entry.id).map(|(_, flag)| answer_of(call, *flag));
            let answer = match entry.told {
                Some(Told::Executed { .. }) => in_ledger,
                Some(Told::Skipped(reason)) => Some(ConsentAnswer::Skipped(reason)),
                None => None,
            };
            if answer.is_some() || in_ledger.is_some() {
                let op = ConsentOp { call, answer: answer.or(in_ledger) };
                ops.push(Timed { invoked_us: entry.invoked_us, returned_us: entry.returned_us, op });
            }
            // A skip uses no number up: another copy of the transaction may still be executed once the obstacle is gone.
            if matches!(entry.told, Some(Told::Skipped(_))) && in_ledger.is_some() {
                *late += 1;
                let op = ConsentOp { call, answer: in_ledger };
                ops.push(Timed { invoked_us: entry.invoked_us, returned_us: None, op });
            }
        }
        keys
    }

    fn chains(&self, placed: &Placed) -> Result<BTreeMap<LeafIndex, Vec<Timed<ChainOp>>>, String> {
        let mut made: Vec<(LeafIndex, &Entry)> = Vec::new();
        let mut refused: Vec<&Entry> = Vec::new();
        for entry in self.entries.values().filter(|entry| matches!(entry.subject, Subject::Chain { .. })) {
            match placed.get(&entry.id) {
                Some(_) if matches!(entry.told, Some(Told::Skipped(_))) => {
                    return Err(format!("{} was refused, and executed all the same", entry.id));
                }
                Some((leaf, _)) => made.push((*leaf, entry)),
                None if entry.told.is_some() => refused.push(entry),
                None => {}
            }
        }
        // A version lies behind the one that it replaces, or it could not have named it.
        made.sort_unstable_by_key(|(leaf, _)| *leaf);
        let mut first_of: BTreeMap<LeafIndex, LeafIndex> = BTreeMap::new();
        let mut chains: BTreeMap<LeafIndex, Vec<Timed<ChainOp>>> = BTreeMap::new();
        let versions = made.iter().map(|(leaf, entry)| (Some(*leaf), *entry));
        for (made, entry) in versions.chain(refused.into_iter().map(|entry| (None, entry))) {
            let Subject::Chain { prev } = entry.subject else { continue };
            let first = match prev {
                None => made,
                Some(prev) => first_of.get(&prev).copied(),
            };
            let Some(first) = first else { return Err(format!("{} replaces what never was", entry.id)) };
            first_of.extend(made.map(|made| (made, first)));
            let op = ChainOp { prev, made };
            let timed = Timed { invoked_us: entry.invoked_us, returned_us: entry.returned_us, op };
            chains.entry(first).or_default().push(timed);
        }
        Ok(chains)
    }

    /// Each read saw what the leaves before its tree size make, and knew at least what its caller knew.
    fn reads_are_prefixes(&self, placed: &Placed) -> Result<(), String> {
        let mut writes: BTreeMap<LeafIndex, &Entry> = BTreeMap::new();
        for entry in self.entries.values() {
            writes.extend(placed.get(&entry.id).map(|(leaf, _)| (*leaf, entry)));
        }
        let mut reads: Vec<&Read> = self.reads.iter().collect();
        reads.sort_by_key(|read| read.tree_size);
        let mut consents: BTreeMap<[u8; 32], ConsentNow> = BTreeMap::new();
        let mut next: BTreeMap<LeafIndex, LeafIndex> = BTreeMap::new();
        let mut writes = writes.into_iter().peekable();
        for read in reads {
            while let Some((leaf, entry)) = writes.next_if(|(leaf, _)| leaf.0 < read.tree_size) {
                match entry.subject {
                    Subject::Consent { handle, call } => {
                        let now = consents.entry(handle).or_insert_with(Consent::start);
                        let op = ConsentOp { call, answer: None };
                        *now = Consent::step(now, &op).unwrap_or(*now);
                    }
                    Subject::Chain { prev } => next.extend(prev.map(|prev| (prev, leaf))),
                }
            }
            if read.tree_size < read.token {
                return Err(format!("a read went back: {read:?}"));
            }
            let expected = match read.saw {
                Saw::Consent(handle, _) => {
                    Saw::Consent(handle, consents.get(&handle).copied().unwrap_or_else(Consent::start))
                }
                Saw::Head(from, _) => {
                    let mut head = from;
                    while let Some(newer) = next.get(&head) {
                        head = *newer;
                    }
                    Saw::Head(from, (from.0 < read.tree_size).then_some(head))
                }
            };
            if expected != read.saw {
                return Err(format!("a read saw {:?} at {}, not {expected:?}", read.saw, read.tree_size));
            }
        }
        Ok(())
    }
}

/// What an executed call is answered with.
fn answer_of(call: ConsentCall, violation: bool) -> ConsentAnswer {
    match call {
        ConsentCall::Access { .. } if violation => ConsentAnswer::Violation,
        ConsentCall::Access { .. } => ConsentAnswer::Permitted,
        ConsentCall::Grant { .. } | ConsentCall::Revoke { .. } => ConsentAnswer::Done,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::types::OrgId;

    const HANDLE: [u8; 32] = [7; 32];
    const A: OrgId = OrgId(1);
    const B: OrgId = OrgId(2);

    fn executed(leaf: u64, violation: bool) -> Told {
        Told::Executed { leaf: LeafIndex(leaf), violation: Some(violation) }
    }

    /// A grant, an access by the grantee, a revocation, an access after it, and a record of two versions.
    fn true_history() -> (History, Placed) {
        let grant = Subject::Consent { handle: HANDLE, call: ConsentCall::Grant { by: A, to: B } };
        let access = Subject::Consent { handle: HANDLE, call: ConsentCall::Access { by: B } };
        let revoke = Subject::Consent { handle: HANDLE, call: ConsentCall::Revoke { by: A } };
        let chain = |prev: Option<u64>| Subject::Chain { prev: prev.map(LeafIndex) };
        let refused = Told::Skipped(SkipReason::NotAHead);
        let all = [
            (grant, executed(0, false)),
            (access, executed(1, false)),
            (revoke, executed(2, false)),
            (access, executed(3, true)),
            (chain(None), executed(4, false)),
            (chain(Some(4)), executed(5, false)),
            (chain(Some(4)), refused),
        ];
        let (mut history, mut placed) = (History::default(), Placed::new());
        for (i, (subject, told)) in (0_u8..).zip(all) {
            let at = 10 * u64::from(i);
            let id = TxId([i; 32]);
            let entry = Entry { id, subject, invoked_us: at, returned_us: Some(at + 5), told: Some(told) };
            history.entries.insert(i.into(), entry);
            if let Told::Executed { leaf, violation } = told {
                placed.insert(id, (leaf, violation.unwrap()));
            }
        }
        let read = |token, tree_size, saw| Read { token, tree_size, saw };
        history.reads = vec![
            read(0, 0, Saw::Consent(HANDLE, ConsentNow::Absent)),
            read(1, 2, Saw::Consent(HANDLE, ConsentNow::Granted { by: A, to: B })),
            read(3, 6, Saw::Consent(HANDLE, ConsentNow::Revoked { by: A, to: B })),
            read(5, 5, Saw::Head(LeafIndex(4), Some(LeafIndex(4)))),
            read(5, 6, Saw::Head(LeafIndex(4), Some(LeafIndex(5)))),
        ];
        (history, placed)
    }

    fn why(alter: impl FnOnce(&mut History, &mut Placed)) -> String {
        let (mut history, mut placed) = true_history();
        alter(&mut history, &mut placed);
        history.judge(&placed).unwrap_err()
    }

    #[test]
    fn a_true_history_is_accepted() {
        let (history, placed) = true_history();
        let judged = history.judge(&placed).unwrap();
        assert_eq!((judged.keys, judged.transactions, judged.reads, judged.late), (2, 7, 5, 0));
    }

    #[test]
    fn whatever_is_wrong_in_a_history_is_found() {
        // The ledger has it elsewhere, flagged otherwise, or not at all.
        let first = TxId([0; 32]);
        assert!(why(|_, placed| placed.get_mut(&first).unwrap().0 = LeafIndex(9)).contains("was told"));
        assert!(why(|_, placed| placed.get_mut(&TxId([1; 32])).unwrap().1 = true).contains("was told"));
        assert!(why(|_, placed| placed.retain(|id, _| *id != first)).contains("was told"));
        // Order of leaves against the order of time.
        let swapped = |history: &mut History, placed: &mut Placed| {
            for (i, leaf) in [(4_u8, 5), (5, 4)] {
                placed.get_mut(&TxId([i; 32])).unwrap().0 = LeafIndex(leaf);
                history.entries.get_mut(&i.into()).unwrap().told = Some(executed(leaf, false));
            }
        };
        assert!(why(swapped).contains("lies before it"));
        // An access after the revocation was permitted.
        let permitted = |history: &mut History, placed: &mut Placed| {
            placed.get_mut(&TxId([3; 32])).unwrap().1 = false;
            history.entries.get_mut(&3).unwrap().told = Some(executed(3, false));
        };
        assert!(why(permitted).contains("no order explains"));
        // Two replaced one version; one was refused and executed.
        let both = |history: &mut History, placed: &mut Placed| {
            placed.insert(TxId([6; 32]), (LeafIndex(6), false));
            history.entries.get_mut(&6).unwrap().told = Some(executed(6, false));
        };
        assert!(why(both).contains("no order explains"));
        let hidden = |_: &mut History, placed: &mut Placed| {
            placed.insert(TxId([6; 32]), (LeafIndex(6), false));
        };
        assert!(why(hidden).contains("refused, and executed"));
        // Reads that are behind what their callers knew, or show what never was.
        assert!(why(|history, _| history.reads[1].token = 3).contains("went back"));
        assert!(why(|history, _| history.reads[1].tree_size = 3).contains("a read saw"));
        assert!(why(|history, _| history.reads[4].tree_size = 5).contains("a read saw"));
    }

    /// A revocation that found no consent, and was executed all the same when there was one.
    #[test]
    fn what_was_skipped_for_something_that_came_is_counted() {
        let (mut history, placed) = true_history();
        history.entries.get_mut(&2).unwrap().told = Some(Told::Skipped(SkipReason::UnknownConsent));
        let entry = history.entries.get_mut(&2).unwrap();
        // It was asked before there was a consent.
        (entry.invoked_us, entry.returned_us) = (0, Some(1));
        assert_eq!(history.judge(&placed).unwrap().late, 1);
    }
}
