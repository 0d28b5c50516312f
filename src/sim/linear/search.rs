//! Is there an order of operations that explains what their callers saw? The search of Wing and Gong (JPDC 1993) with
//! Lowe's memory of configurations that led nowhere (CCPE 2017): for one key at a time, which is enough, since
//! linearizability is local (Herlihy and Wing, TOPLAS 1990).
//!
//! It knows nothing of the system: neither positions in the log nor commits, only times and answers.

use std::collections::BTreeSet;

use thiserror::Error;

/// What one object does, one operation after another.
pub(super) trait Model {
    /// An operation with the answer that its caller got, if any.
    type Op;
    /// State of the object.
    type State: Clone + Ord;

    /// The state before the first operation.
    fn start() -> Self::State;

    /// The state after an operation; `None` if it could not have been answered so in this state.
    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// An operation and when it ran.
#[derive(Debug, Clone)]
pub(super) struct Timed<Op> {
    /// Its caller sent it at this time.
    pub(super) invoked_us: u64,
    /// Its caller had the answer at this time; `None` if never: it may have happened at any time since, or not at all.
    pub(super) returned_us: Option<u64>,
    /// What it was.
    pub(super) op: Op,
}

/// Why a history is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// No order explains it.
    #[error("no order explains more than {longest} of {all} operations")]
    NoOrder {
        /// Most operations that some order explains.
        longest: usize,
        /// Operations of the history.
        all: usize,
    },
    /// The search was given up.
    #[error("no verdict after {0} steps")]
    TooLong(usize),
}

/// Steps after which a search is given up. Histories with a dozen callers need a few for each operation.
const STEPS_MAX: usize = 20_000_000;

/// Searches for an order. Operations that overlap may have happened in any; one that returned before another was invoked
/// happened before it.
pub(super) fn check<M: Model>(ops: &[Timed<M::Op>]) -> Result<(), Refused> {
    Search::<M>::new(ops).run()
}

/// End of the list of entries.
const NONE: usize = usize::MAX;

/// Calls and returns in the order of time, as a list that operations are taken out of and put back into.
struct Search<'a, M: Model> {
    ops: &'a [Timed<M::Op>],
    /// The operation of an entry, and whether the entry is its call.
    entries: Vec<(usize, bool)>,
    /// Neighbours of each entry; the last element is the list's head.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Entries of each operation's call and return.
    places: Vec<(usize, Option<usize>)>,
    /// Operations that have to be explained and are not yet.
    open: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(ops: &'a [Timed<M::Op>]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * ops.len());
        for (i, op) in ops.iter().enumerate() {
            order.push((op.invoked_us, false, i));
            // Calls sort before returns of the same moment: what touches counts as overlapping.
            order.extend(op.returned_us.map(|at| (at, true, i)));
        }
        order.sort_unstable();
        let entries: Vec<(usize, bool)> = order.iter().map(|(_, is_return, i)| (*i, !is_return)).collect();
        let mut places = vec![(0, None); ops.len()];
        for (at, (i, is_call)) in entries.iter().enumerate() {
            if *is_call {
                places[*i].0 = at;
            } else {
                places[*i].1 = Some(at);
            }
        }
        let head = entries.len();
        let mut next: Vec<usize> = (1..=head).map(|at| if at == head { NONE } else { at }).collect();
        next.push(if head == 0 { NONE } else { 0 });
        let mut previous: Vec<usize> = (0..head).map(|at| if at == 0 { head } else { at - 1 }).collect();
        previous.push(NONE);
        let open = ops.iter().filter(|op| op.returned_us.is_some()).count();
        Self { ops, entries, next, previous, places, open }
    }

    fn first(&self) -> usize {
        self.next[self.entries.len()]
    }

    fn cut(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        if after != NONE {
            self.previous[after] = before;
        }
    }

    fn mend(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        if after != NONE {
            self.previous[after] = at;
        }
    }

    /// Takes an operation out of the list: it has its place in the order.
    fn lift(&mut self, op: usize) {
        let (call, end) = self.places[op];
        self.cut(call);
        if let Some(end) = end {
            self.cut(end);
            self.open -= 1;
        }
    }

    fn put_back(&mut self, op: usize) {
        let (call, end) = self.places[op];
        if let Some(end) = end {
            self.mend(end);
            self.open += 1;
        }
        self.mend(call);
    }

    fn run(mut self) -> Result<(), Refused> {
        let mut placed = vec![0_u64; self.ops.len().div_ceil(64)];
        let mut state = M::start();
        let mut seen: BTreeSet<(Vec<u64>, M::State)> = BTreeSet::new();
        let mut stack: Vec<(usize, M::State)> = Vec::new();
        let (mut longest, mut steps) = (0, 0);
        let mut at = self.first();
        while self.open > 0 {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(Refused::TooLong(STEPS_MAX));
            }
            // A return whose operation has no place yet ends this branch, as does the end of the list.
            if at != NONE && self.entries[at].1 {
                let op = self.entries[at].0;
                if let Some(after) = M::step(&state, &self.ops[op].op) {
                    placed[op / 64] |= 1 << (op % 64);
                    if seen.insert((placed.clone(), after.clone())) {
                        stack.push((op, std::mem::replace(&mut state, after)));
                        longest = longest.max(stack.len());
                        self.lift(op);
                        at = self.first();
                        continue;
                    }
                    placed[op / 64] &= !(1 << (op % 64));
                }
                at = self.next[at];
                continue;
            }
            let Some((op, before)) = stack.pop() else {
                return Err(Refused::NoOrder { longest, all: self.ops.len() });
            };
            state = before;
            placed[op / 64] &= !(1 << (op % 64));
            self.put_back(op);
            at = self.next[self.places[op].0];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::Random;

    /// A register.
    struct Register;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Write(u64),
        Read(u64),
    }

    impl Model for Register {
        type Op = Op;
        type State = u64;

        fn start() -> u64 {
            0
        }

        fn step(state: &u64, op: &Op) -> Option<u64> {
            match *op {
                Op::Write(value) => Some(value),
                Op::Read(value) => (value == *state).then_some(value),
            }
        }
    }

    fn op(from: u64, to: u64, op: Op) -> Timed<Op> {
        Timed { invoked_us: from, returned_us: Some(to), op }
    }

    fn lost(from: u64, op: Op) -> Timed<Op> {
        Timed { invoked_us: from, returned_us: None, op }
    }

    fn holds(ops: &[Timed<Op>]) -> bool {
        check::<Register>(ops).is_ok()
    }

    #[test]
    fn histories_of_a_register_are_judged_as_in_the_papers() {
        let (w, r) = (Op::Write, Op::Read);
        assert!(holds(&[]));
        assert!(holds(&[op(0, 1, w(1)), op(2, 3, r(1))]));
        assert!(!holds(&[op(0, 1, w(1)), op(2, 3, r(0))]), "a stale read");
        assert!(holds(&[op(0, 9, w(1)), op(1, 2, r(0)), op(3, 4, r(1))]), "the write happened between");
        assert!(!holds(&[op(0, 9, w(1)), op(1, 2, r(1)), op(3, 4, r(0))]), "a read went back");
        assert!(holds(&[op(0, 9, w(1)), op(0, 9, w(2)), op(1, 2, r(2)), op(3, 4, r(1))]));
        assert!(!holds(&[op(0, 1, w(1)), op(2, 3, w(2)), op(4, 5, r(1))]), "a lost update");
        assert!(!holds(&[op(0, 1, r(7))]), "out of thin air");
        assert!(holds(&[op(0, 2, w(1)), op(2, 3, r(0))]), "what touches overlaps");
    }

    #[test]
    fn what_never_returned_may_have_happened_late_or_not_at_all() {
        let (w, r) = (Op::Write, Op::Read);
        assert!(holds(&[lost(0, w(1)), op(5, 6, r(0))]));
        assert!(holds(&[lost(0, w(1)), op(5, 6, r(0)), op(7, 8, r(1))]));
        assert!(!holds(&[lost(9, w(1)), op(5, 6, r(1))]), "before it was sent");
    }

    /// A history made from an order holds, and does not any more once an answer is replaced by one that nobody wrote.
    #[test]
    fn histories_of_a_real_register_hold_and_altered_ones_do_not() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut value = 0;
            let mut ops = Vec::new();
            for i in 0..120_u64 {
                // Each happens at 10 i, and is seen to run for up to 40 on both sides.
                let (from, to) = ((10 * i).saturating_sub(random.below(40)), 10 * i + random.below(40));
                if random.chance(500) {
                    value = i + 1;
                    ops.push(op(from, to, Op::Write(value)));
                } else {
                    ops.push(op(from, to, Op::Read(value)));
                }
            }
            assert_eq!(check::<Register>(&ops), Ok(()), "seed {seed}");
            let read = ops.iter().position(|o| matches!(o.op, Op::Read(_)));
            let Some(read) = read else { continue };
            ops[read].op = Op::Read(1_000_000);
            assert!(matches!(check::<Register>(&ops), Err(Refused::NoOrder { all: 120, .. })), "seed {seed}");
        }
    }
}
