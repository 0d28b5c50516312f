//! How validators agree: an uncertified DAG, committed in three message delays.
//!
//! The commit rule is that of Mysticeti (arXiv 2310.14821); the conditions for making a block are those of Starfish's Push
//! pacemaker (eprint 2025/567). Headers and payloads travel apart. This page follows the code: [`crate::dag`],
//! [`crate::consensus`], [`crate::node`].
//!
//! # Model
//! n validators with stakes that add up to S. At most f of the stake, the largest f with 3f + 1 ≤ S, is Byzantine: it may
//! lie, stay silent, or sign two blocks for one round. A **quorum** is S − f of the stake (2f + 1 if S = 3f + 1); any two
//! quorums share an honest validator. f + 1 of the stake contains an honest validator. Messages between honest validators
//! arrive eventually; after some moment that nobody knows they arrive within Δ. Safety needs none of that, liveness does.
//!
//! # Blocks
//! A block has a [header](crate::types::Header) and a [payload](crate::types::Payload). The header names its author, its
//! round, its **ancestors**, and commits to the payload by the ids of its transactions. A header is valid, whatever else a
//! validator has seen, if
//! - its epoch and author are the committee's, its round is at least 1, its signature verifies;
//! - its first ancestor is an earlier block of its author (genesis blocks have round 0, are made by nobody, and differ for
//!   each network, epoch and author);
//! - the other ancestors have ascending authors, none of them its own, and all ancestors have lower rounds;
//! - ancestors of exactly the round before hold a quorum;
//! - the fields of the payload do not contradict each other;
//! - its system messages are in ascending order of kind: at most one checkpoint vote, at most one commit vote, at most four
//!   proofs of equivocation, each of which holds.
//!
//! From version 2 on the signature covers epoch, round, author and digest, and so everything by its digest.
//!
//! An honest author makes one block for each round. Two blocks of one author in one round are an **equivocation**. Both may
//! enter the DAG; an honest validator names at most one of them, ever. The two references with their signatures are a **proof**
//! of 216 bytes that nobody but the author can make. Who has one puts it into its next header, and again after a pause
//! while others still name such blocks; so all have it within
//! two rounds, and operators see it in the log, the status and the metrics. What a proven equivocator makes up to `gc_depth`
//! rounds after its last known offence (and twice as many each time that it goes on once it is let back in, up to 64 times) is left out of own blocks, and its silence is not waited for: such blocks get no farther than
//! those who do not know yet carry them. It costs nothing but the offender's own say: the honest are a quorum without it.
//!
//! # Accepting
//! A header **enters the DAG** when all its ancestors are in it or lie at or below the garbage-collection round. Before that
//! it is **suspended** in the [`crate::dag::BlockManager`], and what it misses is fetched. Of each (author, round) at most
//! four headers are taken that nobody asked for, and none that is more than 256 rounds above the DAG; a header that
//! another one names, directly or through later blocks of the same author, is taken in any case, since the other could not enter without it.
//!
//! # Availability
//! A block is **available** to a validator when it has the payload, and every ancestor above garbage collection is available
//! too. So: its own payload, and the payloads of its whole history.
//!
//! **Everything in the DAG counts in the commit rule; only what is available is named in own blocks.** A vote therefore need
//! not wait for bulk bytes of the block that casts it, and still speaks for the bytes of the block that it is for. This cut
//! is not in the papers, so here is the argument that it is safe.
//!
//! *Claim: once a leader is committed, honest validators of at least f + 1 of the stake hold its payload and those of its
//! whole history above garbage collection.* Suppose the leader L of round r is committed. Directly or indirectly, that takes
//! a block that certifies it: one among whose ancestors blocks of round r + 1 from a quorum vote for L. At least
//! f + 1 of that quorum's stake is honest. Each of these authors named L as ancestor, and an honest author
//! names only what is available to it: it holds the payload of L and of L's history. The log keeps what it holds. ∎
//!
//! The claim is about the block that is *voted for*. The voters' and certifiers' own payloads may be missing everywhere: they
//! are not in L's history, and nothing of them is executed by committing L. They come up for execution only in the history of
//! a later leader, and then the claim holds for that one. A validator that decides a commit before it has a payload fetches
//! it from those f + 1 and executes later; the *decision* does not depend on it. So availability delays
//! execution on a slow validator and can never make two validators order differently, for the order is a function of headers.
//!
//! What remains of a withheld payload: an author that gives it to nobody is named by nobody, and its block is never
//! committed. One that gives it to few slows those that want to name the blocks of these few, until they have fetched it.
//!
//! # Rounds
//! A validator whose last own block is of round r − 1 may make its block of round r when
//!
//! - **A1**: blocks of a quorum at round r − 1 are available to it (those that own blocks leave out do not count), and
//! - **A2**: it made its own block of round r − 1: it never skips one, with the exception below;
//!
//! and one of
//!
//! - **C1**: the first leader's block of round r − 1 is available, and the first leader of round r − 2 has a quorum of votes,
//!   or of blocks that do not vote for it, among the available blocks of round r − 1, which will be ancestors;
//! - **C2**: 2Δ has passed since A1 and A2 held;
//! - **C3**: headers of a quorum at round r are in the DAG: the others went on.
//!
//! **Waits.** 2Δ is twice what a quorum of the authors stays below in lateness, measured from the moment of the quorum
//! (smoothed mean and deviation as in RFC 6298), within configured bounds. A few slow ones so cannot stretch it. After four
//! waits in vain without a commit it doubles, and again after four more, until something commits: so it outgrows whatever
//! delay the network settles at, and the proof of liveness needs no more. When C1 holds, a validator still gives the
//! others that were there in the round before, and have slots, a grace: twice as long as they are usually late, and never more than a round takes:
//! with a slot for every validator, a block that some name in time and some do not is neither committed nor skipped directly, and
//! everything behind it waits. Nobody waits for who is later, on the mean, than a round would take without waiting. See `node::pacemaker`.
//!
//! Why A2 matters: validators that jump over rounds leave rounds without a quorum of blocks that vote, and there are infinite
//! runs of such jumps in which no leader ever commits. The exception: if the quorum's round is more than `gc_depth` rounds
//! above the last own block, the blocks in between could enter no commit, and the validator goes on behind the quorum's round.
//!
//! **Pace.** While there is something to order (transactions in the pool or in uncommitted blocks, a checkpoint vote), rounds come
//! in beats of three, one whose number is a multiple of three and the two after it: a validator makes its block of the first at
//! least `beat_us` after its block of the first of the beat before, and the others as soon as it may.
//! Three rounds are what it takes to commit a block. Evenly spread, as many rounds would cost as much, and a transaction would wait for
//! five sixths of a beat; so it waits for half of one, and for what the rounds themselves take. While there is nothing,
//! `idle_round_interval_us` pass between two own blocks, so that an idle network costs little and a first transaction wakes it.
//! C3 waits for neither. On lines on which three rounds take longer than a beat there is no pause.
//!
//! *A first transaction takes four delays, not three.* At rest everybody has made a block of round r and has those of all. Who
//! gets a transaction makes its block of round r + 1 at once; the others, woken by it one delay later, make theirs of r + 1;
//! votes (r + 2) leave after two delays, certificates (r + 3) after three, and those arrive after four. Three delays would
//! take votes after one: a quorum of blocks of the same round that were there before anybody knew of the transaction, without
//! its author's. So at rest 2f others would have to be a round ahead of the author; whoever gets the transaction, that is
//! possible for at most f + 1 of 3f + 1 validators at a time, and all others would need four. The way to three delays
//! for all is to go on at the pace of the network, which is what an idle one is meant to spare; there a transaction waits half a round
//! for the next block, so that the difference is half a delay. `simulate latency` measures both.
//!
//! **Ancestors** of the new block: the last own block, then of each other author the available block of the highest round
//! below r, unless an own block has named one of that round or a later one before.
//!
//! **Payload**: what the pool holds, up to the limits of a block, in the order of arrival. The cap in bytes follows round times:
//! it grows by addition while they keep their best pace and shrinks by a quarter with each round four times slower, so that
//! blocks do not grow because rounds slow, and slow them further. A validator of which f + 1 of the stake
//! have named no further block for twelve rounds and eight least leader timeouts proposes none. If too many committed transactions wait
//! for execution (`execution_backlog_max`), or too many bytes of own blocks do, blocks go out empty until execution has caught
//! up. They also do while block time is more than five minutes behind the clock, as at the first commit of a network or after
//! an outage of all: transactions of now would be skipped for their time. At four times that backlog a validator takes no more
//! headers, and fetches what it missed once it has caught up.
//!
//! **Push.** The own block goes to all peers, header first, as soon as it is durable; the latest own header goes out again if
//! nothing was sent for two leader timeouts, and to every peer that connects. Along with it goes what a peer is not known to
//! have. Known is what it sent, what its blocks name, and what was pushed to it: one round for each pair of a peer and an
//! author, since a block's history holds its author's chain. Nobody has named a block of round r − 1 when that of round r is
//! made, so taken to the letter each header would travel n times. Instead, what a peer evidently lacks (it made a block two rounds later that
//! does not know of it) is pushed by everybody, and again after a pause; this is what the proof needs. And for 64 rounds after anybody was seen to lack
//! something, or a peer asked for a new header, each header is also relayed at once by two validators that its author and round determine, so that a message
//! lost on one line costs no round trip. While nothing is missed the push is the own block alone.
//!
//! # Deciding leaders
//! Each round has leader **slots**, filled by a sample of the validators without replacement, weighted by stake, drawn from
//! the network, the epoch and the round ([`crate::consensus::LeaderSchedule`]). For the slot of author a in round r:
//!
//! - a block of round r + 1 **votes** for the block of the slot that is among its ancestors, if any (a depth-first walk from it
//!   meets that one first: whatever else lies below has a lower round);
//! - a block of round r + 2 **certifies** a block if its ancestors of round r + 1 that vote for it hold a quorum;
//! - **direct skip**: a quorum at round r + 1 votes for no block of the slot;
//! - **direct commit**: a quorum at round r + 2 certifies a block of the slot;
//! - else **indirectly**, by the first later slot of round r + 3 or above that is not skipped, its anchor: if the anchor is
//!   undecided, so is the slot; if it is committed, the slot's block is committed if a block of round r + 2 in the anchor's
//!   history certifies it, and the slot is skipped otherwise.
//!
//! Slots are decided from the newest to the oldest, and committed from the oldest on, up to the first that is undecided.
//! This runs whenever a header enters the DAG.
//!
//! **Reputation.** With `reputation_window_rounds` in the genesis parameters, validators that do badly lose their slots (after
//! HammerHead, arXiv 2309.12713). A block is *timely* if it was committed in its own slot, or, where its author has none, by a
//! leader of the next round; commit records tell. The first commit whose leader is a window above the one before ends a window: who
//! has fewer timely blocks in it than three quarters of the best, worst first and within f of the stake, is left out of the sample
//! from nine rounds above that leader on, until a later window says otherwise. So nobody waits for a validator that is
//! down, and no slot of a slow one holds up the others' commits; its blocks are ordered by the leaders that name them. *Safety*: the
//! schedule by which a slot is decided, for all rounds, is a function of the commits before it, and the argument below holds for
//! each fixed schedule. So a validator decides up to the commit that ends a window, and looks at later slots anew.
//!
//! *Why two validators never decide differently.* Two blocks of one slot cannot both be certified: their voters would be two
//! quorums, sharing an honest validator that voted twice in one round. A slot with a quorum that does not vote has at most 2f
//! of the stake left to vote (the Byzantine counted on both sides), so no certificate exists anywhere. If a block is committed
//! directly, a quorum at r + 2 certifies it; every block of round r + 3 or above has ancestors from a quorum of the round
//! before, and so, going down, a history that contains a block of an honest member of that quorum: every anchor finds a
//! certificate. By induction over slots, from those that any validator decided last to the oldest, decisions agree. If the
//! code meets two certified blocks in a slot it stops with a sentence: more than f is Byzantine, and going on would hide it.
//!
//! *Delay.* Propose, vote, certify: three message delays for blocks in leader slots. With as many slots as validators, that is
//! every block of a validator that keeps up.
//!
//! # Order
//! A committed leader brings with it the part of its history that no earlier commit holds and that lies above the
//! **garbage-collection round**, `gc_depth` below the leader committed before it. These blocks, in ascending (round, author, digest),
//! are the commit. Commits are numbered from 1 and chained by BLAKE3. **Block time** is the median, weighted by stake, of the
//! times in the leader's ancestors of the round before, and never goes back: with a quorum of them, neither end can
//! be moved by f. All of this is a function of the DAG below the leader and of the commits before it.
//!
//! # Durability
//! 1. Every header that enters the DAG, every payload that matches its header and every commit is a record of the block log, in
//!    the order in which the node took it in. A prefix of the log is therefore closed: it holds the ancestors of
//!    what it holds.
//! 2. An own block leaves when its records are **synced**, and not before.
//! 3. A commit is executed when its payloads are here, checked and synced, and with them every own block made before it was decided.
//!    Its own record is not waited for.
//! 4. A client hears *final* when its transaction's commit was executed.
//!
//! From 2: after a crash the log holds every own block that anybody may have seen, the node goes on behind the last one, and no
//! round is signed twice. A failed write or sync ends the
//! process; nothing is tried again on a disk that has failed.
//!
//! *Why 3 is enough.* A decision rests on blocks of a quorum. By 2 each of its honest authors holds its own block on disk, and what that
//! names, before anybody else sees it; rule 3 says the same of the own one. So when all lose their power at once, what is left of
//! the DAG still leads everybody to the same commit, and a transaction whose client heard *final* is in it. What may be lost is
//! the record: then the state is ahead of the log, by [`crate::node::STATE_AHEAD_MAX`] commits at most. To wait for the record
//! would cost a sync for two of three rounds, and its time.
//!
//! # Recovery
//! The block log is read once, from the front, and verified while it is read; what an interrupted write left at its end is cut off,
//! and what may not be on the disk is put there before it counts ([`crate::log`] says how groups are committed and why
//! nothing acknowledged is lost). [`crate::node::Recovered`] reads the log from the front and keeps the headers and payloads above garbage collection, the
//! commits that the state has not executed, and the last own block. The node then enters the headers into an empty DAG,
//! marks what is committed, gives payloads that wait for execution to the pipeline again (verdicts are kept in memory alone),
//! asks for payloads that it never had, and runs the commit rule from the slot behind the last commit. Slots that
//! were skipped there before are skipped again: the same DAG gives the same decisions. A commit that the state holds already and
//! the log does not is decided again and passed over; until then a client may not find what it was told is final. Should the
//! last of them have another digest than the state was made by, the validator halts, and does not start with a log that holds another.
//! A state that is further ahead, or whose last transaction is of a payload that the log does not hold, shows that the log was
//! lost or is an old copy: the program refuses to start. (A copy of the log alone, a few commits old, is not always seen. Never put one in
//! its place: it may lead to rounds that are signed twice.)
//!
//! **A lost log.** A file `unused` beside the keys says that they have never signed; it is removed, durably, before the first
//! header leaves. Keys without that file and a log without an own block mean that the log was lost, and that rounds may be
//! signed that this validator does not know of. It then **rejoins**: it takes part in everything but making blocks, fetches
//! the whole ledger, and asks every other validator for the last header that this one made itself. A claim counts when its header
//! is in the DAG (or below garbage collection). Once claims of a quorum count, all of others, it is silent up to the round
//! after the highest of them and makes its first block above it. A block that it signed before, of round R, names
//! blocks of round R − 1 from a quorum; an honest author of one of them is among those whose claims count, so R lies
//! in the silence. The log says from its first record on that it began like this, so a crash in between changes nothing. Until it is
//! back it counts among the f. Where the others hold no quorum (up to three validators of equal stake) the program refuses to start.
//!
//! # Fetching
//! - *By name*: headers that suspended ones miss, up to 32 rounds above the quorum's round, lowest first; and payloads of
//!   headers in the DAG, after a grace for the push. Who sent or named the block is asked first, after about one measured answer
//!   time a second peer, two at a time at most, then others in turn. Each peer has a window of blocks that it may be asked
//!   for at once: it grows with useful answers, halves with timeouts, and a peer that is silent is only probed. So dead and hostile
//!   peers hold no room that others need. A quarter of each window is for what may decide the next leader. Timeouts follow measured
//!   answer times, between an eighth of the configured one and the whole. What a lost peer was asked for is asked elsewhere at once.
//! - *In ranges*: if f + 1 of the stake has shown headers more than 32 rounds above the quorum's round here, the rounds from there on are
//!   asked for, 64 at a time. One honest validator is among them, so the rounds exist.
//! - *Commits by certificate*: if f + 1 of the stake has shown headers more than 128 rounds (or half of `gc_depth`) above the quorum's round,
//!   one peer after another is asked for the commits behind the last own one, up to a certified boundary, 1,024 or 1 MiB of
//!   them at a time. Off the core thread the answer's chain of digests, votes and signatures are checked: what is no chain, or has
//!   no quorum behind its last commit, is blamed; what nobody asked for is not opened. Silence, nothing and lies cost one timeout, and
//!   each question goes to the next peer, so that who gives little, or late, does so once in n; what comes late is taken if it goes on from the last
//!   commit. The chain names the blocks that are needed; up to 512 of them are asked for by name at one time, of all peers. A commit
//!   is applied as soon as its headers are in the DAG and it is the next of the own chain, without what decides it: an honest
//!   validator in the quorum decided it by the rule. The rule runs beside it, and whichever comes first commits. While this goes on, or while
//!   execution is more than 128 rounds behind the last commit, no ranges
//!   are asked for; they are, for ten timeouts, after f + 1 peers gave nothing or if no commit follows. If what a quorum certified
//!   contradicts the own commits, the validator halts: it, or more than a third of the others, cannot be trusted.
//! - *Chains*: of a validator known to equivocate each of the others may hold another chain. Who is asked for one of its headers gives
//!   the chain below it too, as far as own blocks left it out, up to 256 headers for a request: one round trip instead of one for each
//!   header, during which no block that names it could enter.
//! - *Answers*, if only that there is nothing, come from memory, or from the log for what memory has let go of, and are bounded in bytes.
//!
//! Whatever arrives is checked as if it had been pushed: a lying answer wastes a timeout and no more.
//!
//! # Garbage collection
//! After a commit, blocks at or below the garbage-collection round are forgotten, except those of commits that wait for
//! execution. Headers that waited for forgotten ancestors alone enter the DAG. Own blocks that no commit took in time
//! give their transactions back to the pool.
//!
//! # Memory
//! Whatever peers send, a node holds what this table says. M is `limits.memory_mb`, n the number of validators. Above a bound the
//! node refuses, and asks again later if it needs to; nothing is queued without one.
//!
//! | what | who can make it grow | bound |
//! |---|---|---|
//! | headers in the DAG | authors, one block a round; equivocators by accounts | M / 4, then no header is taken until garbage collection has made room |
//! | second blocks of a slot | equivocators | one that proves it, then only what others need: an account of 4 to 64 blocks for each author that needs them |
//! | payloads in the DAG, and where each transaction lies in them | authors | M / 2, then only those of the first commit that waits for execution; own blocks are empty from M / 4 on |
//! | suspended headers | who brings them | M / 8 / n for each peer, and 4,096 headers; the highest of the same peer go first |
//! | payloads before their headers | their authors | 4 for each author, and M / 16 / n bytes |
//! | missing blocks that are asked for | who names them | 256 headers for each namer; payloads of headers in the DAG |
//! | certified commits that are not applied | a quorum | 128 commits of 2,048 blocks, and one answer of 1 MiB |
//! | requests under way | | two for each block, 512 blocks for each peer |
//! | own transactions | clients | `mempool.bytes`, and 32 MiB in blocks that are not executed |
//! | committed and not executed | | no header is taken above four times the backlog that keeps own blocks empty |
//! | frames from and to peers | peers | queues and receive credit for each peer, see [`super::back_pressure`] |
//! | requests for old blocks | peers | 4 for each peer |
//!
//! M is at least what the headers of `gc_depth` and 64 more rounds take, or the node does not start: a DAG that is full before
//! garbage collection begins would take no header ever again.
//!
//! *Do honest needs get through?* A header whose ancestors are here is never suspended; what is missing is fetched from the lowest round
//! up, and what is far ahead in causal order. A block that an honest validator could take, the others can take as
//! well: see [`crate::dag::BlockManager`]'s module for the accounts. The estimate is `memory_bytes` of
//! [`crate::node::NodeStats`].
//!
//! # Doors
//! Every header names its epoch, and a rule refuses others. A change of the committee would enter as a commit that ends an epoch: the
//! genesis blocks of the next one are already those of (network, epoch, author), and leader schedule, thresholds and
//! signature domains take the committee as a value. A snapshot would enter where [`crate::node::Recovered`] reads the log: it is
//! a state, the commit that it belongs to, and the headers above that commit's garbage-collection round.
//!
//! # Commit votes
//! The first commit whose leader lies in a later group of eight rounds than the one before it is a **boundary**. Having decided
//! one, a validator puts its number and digest into its next header. Signed headers of a quorum with the same vote are a **commit
//! certificate**: an honest validator decided that commit, and the chain of digests fixes all before it. A validator that has
//! decided the same writes down whose headers these are (a record of the log), and serves its commits with them to whoever is
//! far behind. A header of a commit names nothing above the garbage-collection round of its time that is not in this or an earlier
//! commit, so the blocks of commits alone, in order, fill a DAG; what they name below it is let go as garbage collection
//! follows the commits.
//!
//! # Versions
//! TLS negotiates the newest version of the protocol that both ends speak. Frames of version 2 go to peers that speak it. Headers go to
//! everybody, so a validator makes headers of version 2 once each other one has said since its start that it reads them, or once
//! f + 1 of the stake have made one (an honest one of them knew). Before that it takes none either, unless a quorum speaks the new
//! version and nobody was heard that does not, five seconds after the first header. Validators are upgraded one after another, and
//! the last one switches the network over. Known gap: one that says the new version to some and the old one to others can hold up
//! an upgrade that has begun, until it is cut off.
//!
//! # Checkpoints
//! Execution marks a commit as **due** when the log has grown since the last checkpoint and `checkpoint_interval_ms` of block time
//! have passed; a function of commits alone, so all validators mark the same. Each signs (tree size, root) as a
//! C2SP cosignature and puts it, with the state root and the commit's number, into its next header. A quorum of equal
//! votes **certifies** the checkpoint, and it is published. If a quorum has signed something else than this
//! validator computed, this one halts with a report: its memory, its disk or its program is at fault.
//!
//! # What this version leaves out
//! A change of the committee · snapshots: a new validator replays the whole log of its peers · a two-round fast path (see
//! [`crate::manual::decisions`]).
