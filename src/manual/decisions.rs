//! Decisions that were weighed and may be weighed again, with what was known at the time.
//!
//! # A two-round fast path: not in this version
//!
//! **Question.** A leader's block commits here three message delays after it was made: proposed, voted for, certified. Uncertified
//! DAGs can commit in two, on votes alone. What would that take here, and what does it cost a committee of four?
//!
//! **What is known.**
//! - Fast Byzantine consensus that survives f Byzantine and is still fast with p faulty processes needs n ≥ 3f + 2p − 1
//!   (Kuznetsov, Tonkikh, Zhang, PODC 2021, arXiv 2102.12825). FinWhale (Ladelsky and Friedman, arXiv 2606.26292) is a DAG
//!   that meets it, for 1 ≤ p ≤ f: with n = 4 that is f = p = 1.
//! - DAG-Hydrangea, in the reference implementation of Mysticeti (repository `asonnino/mysticeti`), has n ≥ 3f + 2c + k + 1 for f
//!   Byzantine, c crashed and a slack k. It is fast as long as p = ⌊(c + k) / 2⌋ validators do not vote. Its design record
//!   with machine-checked proofs is `docs/hydrozoan.md` of the repository `gdanezis/lean-dag`.
//! - Odontoceti (arXiv 2510.01216) takes n = 5f + 1 and has two rounds only.
//!
//! **Thresholds of DAG-Hydrangea**, beside those of today ([`crate::committee::Committee`]):
//!
//! | step | today | with the fast path | n = 4, f = 1 | n = 7, f = 1, c = 1, k = 1 | n = 6, f = 1, k = 2 |
//! |---|---|---|---|---|---|
//! | parents of a block | n − f | n − f − c | 3 | 5 | 5 |
//! | votes in a certificate | n − f | ⌊(n + f) / 2⌋ + 1 | 3 | 5 | 4 |
//! | certificates of a slow commit | n − f | 2f + c + 1 | 3 | 4 | 3 |
//! | votes of a fast commit | | n − p | **4** | 6 | 5 |
//! | direct skip | n − f | n − p | **4** | 6 | 5 |
//! | votes in an anchor's history that commit | | f + p + 1 | 2 | 3 | 3 |
//!
//! At n = 4 the slack is gone, p = 0: all four must vote for a fast commit, and all four must leave a slot out before it is
//! skipped directly. The second is the price. Today a quorum that does not vote rules out every certificate. It does not rule
//! out that an anchor finds f + p + 1 votes in its history, since the Byzantine may have voted on both sides; only n − p that do
//! not vote rule that out, and at n = 4 these are all.
//!
//! **What was measured**, by the reference implementation's simulator, in one-way delays from a block to its commit,
//! with as many leader slots as validators:
//!
//! | | all up | one down |
//! |---|---|---|
//! | Mysticeti's rule, n = 4 (that of this version) | 3.03 | 3.02 |
//! | DAG-Hydrangea, n = 4, f = 1 | 2.02 | 5.2 |
//! | DAG-Hydrangea, n = 7, f = 1, or n = 5f + 1 | 2.02 | 2.02 |
//!
//! One validator of four that is down leads a quarter of the slots. None of these can be skipped directly, each waits for
//! an anchor three rounds on, and everything behind it waits too, since slots are committed in order. The fast path gains one delay
//! while all are up and loses more than two whenever one is not: an upgrade, a reboot, a cut line. Hospitals'
//! machines are rebooted.
//!
//! **What it would take in this code.**
//! 1. *Committee.* Every threshold has a name of its own already; they become functions of (f, c, k) from genesis. Today's are
//!    c = k = 0 without the fast path.
//! 2. *Committer.* A direct rule on votes of r + 1 before the one on certificates, a skip by n − p, and a third way to
//!    decide by an anchor: after "a certificate in its history", "f + p + 1 votes in its history", the smallest digest if
//!    two blocks qualify. The rule then depends on votes that reach the anchor, so [`crate::consensus`] has to keep the voters of
//!    undecided slots until an anchor has decided them, and garbage collection has to stay below.
//! 3. *Model.* `tests/model` gets the second threshold and the third way, and has to show again that a DAG
//!    with one equivocator decides alike in all views. The counterexamples to look for first are a fast commit beside a
//!    certificate of the twin, and a skip beside a fast commit.
//! 4. *Availability.* The claim in [`crate::manual::protocol`] holds with more to spare: a fast commit has n − p voters, of
//!    which n − p − f are honest.
//! 5. *Pacemaker.* C1 waits for a quorum of votes or blames of the leader before; it would have to wait for n − p votes as long as
//!    those can still come, else the fast path is missed whenever the last vote is late. That is a delay on every round
//!    for the slowest validator, and the reason why the path fires seldom in a wide network.
//!
//! **Can it be had without the price?** Three ways:
//! - *A larger committee.* n = 6 with f = 1 (5f + 1) or n = 7 has p = 1. A region that wants two rounds
//!   pays with two more validators and not with latency. For f = 1 this needs nothing but the thresholds.
//! - *Switching.* Run the fast rule while the last committed history shows all validators voting, and today's rule when
//!   it shows one that does not. The rule has to be a function of commits alone, fixed for a stretch of rounds ahead: both
//!   rules on one slot in two views are a fork. So it is switched where a change of the leader schedule is, at a boundary of
//!   committed rounds, and the slots of the stretch before are decided by the rule of that stretch to the last. When
//!   a validator goes down, the rest of the running stretch costs 5.2 δ a block; with stretches of one hundred rounds of 50 ms that is five
//!   seconds. A validator that comes and goes makes each stretch the wrong one.
//! - *FinWhale's evidence.* At n = 4, f = p = 1 the bound allows a fast commit by three votes. Its price is another one: a
//!   block whose history shows two blocks of a leader must not name that leader's next block, a validity rule that
//!   cannot be checked on a header alone, so that a header's validity would depend on what its ancestors hold. Here
//!   a header is valid *whatever else a validator has seen* ([`crate::dag::VerifiedHeader`]), and fetching, storage and
//!   blame stand on that.
//!
//! **Decision.** Three message delays with four validators, down or up. No fast path now. What keeps the way open is kept: a name for
//! each threshold, parameters in genesis, a leader schedule that may only change at boundaries of committed history, and a
//! model that new rules have to pass first. To be weighed again when a region asks for less than three delays and runs six
//! validators or more; then by thresholds, not by switching.
//!
//! What this page says of others is from the sources named. Their figures are of their own simulator and were not measured
//! again here.
