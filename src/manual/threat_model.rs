//! What the system withstands, what it does not, and who has to be trusted for what.
//!
//! # What is protected
//! 1. **Order and content.** What was final stays: no transaction is altered, removed, moved, or inserted before.
//! 2. **Attribution.** Each transaction was signed by a registered key of its organisation, for this network, once.
//! 3. **Agreement.** All honest validators have the same log and the same state.
//! 4. **Privacy.** The ledger and everything that goes over a wire between validators tells nothing of a patient beyond what
//!    [`crate::manual::records`] lists.
//! 5. **Service**, while a quorum of the stake is honest and connected.
//!
//! # Who attacks, and what stops it
//! | attacker | can | cannot |
//! |---|---|---|
//! | up to f of the stake | stay silent, lie about time, sign two blocks, withhold payloads, delay its own clients | change or split the order; forge a transaction; stop the others |
//! | more than f | stop the network; more than S − f: rewrite what is not yet held elsewhere | forge a client's signature; deceive the holder of an earlier checkpoint without leaving two signed checkpoints that contradict each other |
//! | the network | delay, drop, reorder, replay, listen | read or alter (TLS 1.3 with keys of the genesis file); replay into another network (it is inside every signature) |
//! | a stranger | reach the ports | connect as validator: a key that is not in the genesis file is refused in the handshake |
//! | a client | sign nonsense under its own keys | replay; use another's key or a role it does not have; fill memory: queues are bounded, and it hears `Busy` |
//! | a reader | read the log's stubs and public transactions | tell whose record a commitment is of, without the key in its gateway's vault |
//! | a thief of one validator's disk | read what the ledger holds, sign as that validator | sign as an organisation |
//! | a thief of an organisation's key | sign as that organisation, until it is replaced; what it signs stays attributable to the key | alter what was signed before |
//!
//! # Assumptions
//! Ed25519, BLAKE3, SHA-256 and HMAC-SHA-256 hold. The genesis file reached each validator, and each verifier of proofs,
//! unaltered. A disk that reports a sync as done has done it. Clocks of honest validators are within minutes of each other: block
//! time is their median, and a transaction ten minutes off is skipped.
//!
//! # Bytes from outside
//! Each is read by a decoder that knows a limit before it allocates, accepts one encoding for each value and returns
//! a typed error ([`crate::codec`], [`crate::limits`]). [`crate::error::PeerError`] names what a peer did that no honest one does;
//! its connection is closed. [`crate::error::ClientError`] is what a client hears. Neither ever stops the node.
//!
//! | input | checks, in this order |
//! |---|---|
//! | client transaction | length, form, network, time, key registered and active, number unused, then the signature, in a batch |
//! | peer frame | known type, length of that type, form |
//! | header | rules that need the committee alone, signature, then place in the DAG |
//! | payload | form, then that it is what its header commits to; signatures later, in the pipeline |
//! | log on disk | checksums, chain and position; a torn tail is cut, damage elsewhere is refused with its place |
//!
//! **Signatures** are judged by one rule (ZIP-215: s canonical, any decodable A and R, the cofactored equation), alone and
//! in batches, so that no two validators can be made to disagree by a crafted key. Keys of small order are refused when they are
//! registered.
//!
//! **A bad transaction in a block** does not make the block bad: every validator skips it alike, and counts the
//! skips of each proposer.
//!
//! # What it does not withstand, or not yet
//! - **A validator that lost its data folder** finds out from the others which rounds it may have signed, and counts among the f
//!   until it has (see [`crate::manual::protocol`]). It needs the answers of a quorum of others, so more than f lost folders at
//!   once end a network. **A backup of the data folder that is not the latest** is worse than a loss, since nothing shows
//!   that it is old: never start from one; start from an empty folder.
//! - **Two processes with the same keys**: the folder is locked against a second one, copies of the folder are not.
//! - **Censorship by one validator** of its own clients: a client that waits in vain goes to another one.
//! - **Traffic analysis**: who sends when, and how much, can be seen; so can the numbers of organisations and the time and
//!   kind of each transaction, by everybody who can read the ledger.
//! - **Erasure** of transactions is prepared by the format (the log holds salted stubs) and not built yet.
//! - **Key revocation** is not built yet: a key ends at the end of its validity.
//! - **A gateway that lies.** The ledger proves what was committed and when, not that it was true.
