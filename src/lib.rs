//! A tamper-evident health ledger that the members of a region run together.
//!
//! Hospitals, insurers, authorities and research sites submit signed transactions: that a version of a record exists,
//! what a patient agreed to, who looked at what. Validators put them in one order that no minority of them can change,
//! execute them by the same rules, and append a 54-byte stub of each to a Merkle log. Whoever holds a proof checks it
//! offline, years later, without trusting any one of them. Health data itself never gets here: see
//! [`manual::records`].
//!
//! # Where to begin
//! [`manual`] explains the system: [threats](manual::threat_model), [formats](manual::formats),
//! [consensus](manual::protocol), [records](manual::records). [`node::Node`] is the machine in the middle, and its
//! [`node::Input`] and [`node::Effect`] are the whole boundary between it and the world. [`cli`] is what a user starts.
//!
//! # Code map
//! Follow a transaction. Each module is one room on its way:
//!
//! ```text
//!             ┌────────┐   ┌────────┐   ┌─────────┐   ┌─────┐   ┌───────────┐   ┌─────────┐   ┌───────┐
//! client ───► │ingress │ ─►│ verify │ ─►│ mempool │ ─►│ dag │ ─►│ consensus │ ─►│ execute │ ─►│ proof │
//!             └────────┘   └────────┘   └─────────┘   └──┬──┘   └─────┬─────┘   └────┬────┘   └───┬───┘
//!                                                        ▼            ▼              ▼            ▼
//!                                                   log: blocks, payloads, commits          serve: HTTP, tiles
//! ```
//!
//! | room | what it does | what it must not do |
//! |---|---|---|
//! | [`ingress`] | admits a client's bytes: form, network, time, key, replay | check a signature |
//! | [`verify`] | signatures of admitted transactions and of blocks' payloads, in batches | decide anything about order |
//! | [`mempool`] | verified transactions that wait for a block; bounded | |
//! | [`dag`] | headers in causal order; which are suspended, which have their payload | decide, or know of time |
//! | [`consensus`] | which leaders are committed, and the order that follows | look at payloads, arrival or clocks |
//! | [`log`] | the block log: groups, checksums, recovery | open a file itself |
//! | [`execute`] | the rules of each kind, over a key-value store | depend on anything but genesis and commits |
//! | [`proof`] | Merkle tree, tiles, checkpoints, bundles that verify offline | |
//! | [`serve`] | what the HTTP API answers | hold a socket |
//! | [`node`] | ties these rooms together, sans-IO; pacemaker, fetching, checkpoint votes, recovery | touch clock, socket, file, thread |
//! | [`io`] | QUIC, HTTP, disk, threads: carries out effects, brings inputs | decide |
//! | [`sim`] | the world that replaces `io` in a simulation: whole networks from a seed | |
//! | [`planted`] | mistakes that tests switch on, to see that they are found | be there without its feature |
//! | [`gateway`] | beside a hospital's own system: FHIR resources in, signed transactions out | send health data |
//! | [`cli`] | the commands | |
//!
//! Under them lies the ground floor: [`codec`] (bounded, canonical bytes), [`limits`] (every bound in one place),
//! [`hash`] (SHA-256 of many messages at once), [`types`] (formats), [`error`] (who has to act), [`committee`] (validators and thresholds), [`crypto`] (keys, domains,
//! the one signature rule), [`genesis`] (what all agree on beforehand), [`config`] (what one operator chooses).
//!
//! Imports point down. From the ground up: `planted`, `codec`, `limits`, `hash`, `types` with `error`, `committee`, `crypto`, `genesis`,
//! `config`, `proof`, `execute`, `ingress`, `verify`, `mempool`, `dag`, `consensus`, `log`, `node`, `serve`, `gateway`,
//! `sim`, `io`, `cli`. So the order of imports is not the order of the way: `execute` owns the Merkle log that `proof`
//! defines, and the directory of registered keys that `ingress` and `verify` read. `types` and `error` know each other
//! and share a storey. `tests/tidy.rs` keeps the order.
//!
//! # Invariants
//! - **Everything but `io`, `cli` and the tools is deterministic.** The same inputs in the same order give the same
//!   effects, bit for bit. No clock, no thread, no file, no hash map's order; `clippy.toml` and `tests/tidy.rs` refuse them.
//!   [`proof::merkle::root_of_data`], which no validator calls, shares its work out to threads and gives the one root there is.
//! - **What comes from outside is data, never a reason to panic.** It is decoded by [`codec`], within [`limits`], into types
//!   whose existence means that the check was made ([`dag::VerifiedHeader`], [`ingress::PendingTx`]). Assertions are for
//!   our own bugs.
//! - **Each value has one encoding.** Decoders refuse every other, trailing bytes included.
//! - **One rule decides signatures**, [`crypto::Verifier`], alone and in batches, on every code path.
//! - **An own block is durable before it leaves; own blocks and payloads are before a commit that rests on them is executed, and so
//!   before a client hears "final".**
//! - **Order and state depend on blocks alone**, not on when or in which order they came.
//! - **Memory is bounded** by limits and by garbage collection, whatever peers and clients send.
//! - **`unsafe` has three places**, the reader of mapped log segments in `io::disk` and the AVX-512 engines below [`crypto`] and
//!   [`hash`], which are entered, load and store by it, and an argument for each block.

pub mod cli;
pub mod codec;
pub mod committee;
pub mod config;
pub mod consensus;
pub mod crypto;
pub mod dag;
pub mod error;
pub mod execute;
pub mod gateway;
pub mod genesis;
pub mod hash;
pub mod ingress;
pub mod io;
pub mod limits;
pub mod log;
pub mod manual;
pub mod mempool;
pub mod node;
pub mod planted;
pub mod proof;
pub mod serve;
pub mod sim;
pub mod types;
pub mod verify;
