//! Back pressure: every queue between the sockets and the disk, what bounds it, and what happens when it is full.
//!
//! Two rules. **Whoever can wait is made to wait, all the way back to its socket**: peers, whose streams are read only as far as they
//! have credit. **Whoever cannot be made to wait hears no at once**: clients, of whom there are many, and who are told `Busy`
//! (503 with `retry-after` over HTTP) before their transaction is decoded or its signature checked. So a node at ten times
//! its load does for the nine refused tenths no more than read them.
//!
//! # Credit
//! Bytes are counted where they come in, and the count travels with them. A frame of a peer takes its length, and what decoding
//! makes of it, from the peer's room before its body is read ([`crate::io::peer::ReceiveCredit`]); a client's transaction takes a place of
//! the pool's bounds. Both go along through checking threads and the core's queue, and are given back when the core has handled the
//! input: then its bytes are dropped, or count in the node's own tables ([memory](super::protocol#memory)). While the core is held up, by a
//! slow disk, say, nothing is given back, so peers' streams stop and clients hear `Busy`.
//!
//! A place is given to a client that has less without an answer than is free: one greedy connection gets half of the pool, k of
//! them k parts of k + 1, and the next one finds room. All requests by HTTP count as one client: in front of it stands a proxy.
//!
//! # From clients
//!
//! | queue | unit | bound | when full |
//! |---|---|---|---|
//! | connections, handshakes included | connections | `clients.connections` | refused; from three quarters on addresses have to be proven |
//! | on the line | bytes | 128 KiB for each client | its stream stops |
//! | read, not handed on | bytes | the same, and one frame | not read on |
//! | without a last reply | transactions | `clients.outstanding` for each client | `Busy` |
//! | between socket and block: verification, core's queue, pool | transactions, bytes | `mempool.transactions`, `mempool.bytes`, and a share | `Busy` |
//! | of these, for verification | transactions | 16,384 | `Busy` |
//! | own blocks that are not executed | bytes | 32 MiB | own blocks go out empty, the pool fills, `Busy` |
//! | replies on their way to the clients' thread | replies | two for each transaction in the rows above | the same thread reads what clients submit |
//! | replies to one client | bytes | 64 KiB, and the last replies of what it has outstanding; 128 KiB at QUIC | it is not read |
//! | connections by HTTP | connections | `http.connections`; 16 KiB of head, one transaction of body | not accepted |
//!
//! # From validators
//!
//! | queue | unit | bound | when full |
//! |---|---|---|---|
//! | handshakes | connections | 512; one connection for each validator | turned away; from 64 on addresses have to be proven |
//! | on the line | bytes | QUIC's window for each peer, 256 streams | its streams stop |
//! | payloads of more than 4 KiB, and answers, from socket to node | bytes, as decoded | room of each peer, 6 to 16 MiB | its streams are not read |
//! | headers, requests and smaller payloads from socket to node | bytes, as decoded, and 256 for each | room of each peer, 4 MiB | the same; large payloads do not hold up headers |
//! | a frame of which a part has come | seconds without a byte | 8 | given up, with its room: frames of one peer may wait for each other; it is asked for again |
//! | of these, not looked into | events | 256 for each peer and lane | its streams are not read |
//! | of these, checked: the core's queue | mails | 4,096 | checking waits, so the row above fills |
//! | payloads whose signatures are to be checked | payloads | those of the DAG, 256 of them queued | offered again; they wait in the DAG |
//! | headers, payloads, certified commits, what is missing and asked for | bytes, blocks | `limits.memory_mb`, see [memory](super::protocol#memory) | refused, and asked for again |
//!
//! # Inside, and back out
//!
//! | queue | unit | bound | when full |
//! |---|---|---|---|
//! | records for the log | bytes, commands | 32 MiB, 4,096, and one turn of the core | the core takes no inputs |
//! | groups on their way to the disk | groups of 1 MiB | 8 | the log's thread waits |
//! | commits for the executor | commits | 8; 128 orders with checkpoints | kept in the node, which holds their blocks |
//! | committed and not executed | transactions | 65,536, then own blocks are empty; four times that | no header is taken |
//! | words of the core to peers | words, bytes | 16,384, 32 MiB, and one turn | the core takes no inputs |
//! | frames to one peer, of each class | frames, bytes | 1,024, 4 to 16 MiB | dropped: the peer asks for what it misses |
//! | sent to one peer and not acknowledged | bytes | QUIC's window, 2 to 16 MiB | the queue above fills |
//! | questions of one peer to the log | questions | 4; one answer of 8 MiB at a time | dropped: it asks again |
//!
//! The executor and the checking threads wait for the core's queue too. That cannot end in a circle: the core waits for nobody but the log
//! and the carrier of its words, and these wait for nothing that the core does.
//!
//! # The sum
//! With M = `limits.memory_mb`: what validators send and the node keeps takes M; what is on its way from and to peers about M / 2 (or, in large
//! committees, what the largest frames need); client transactions `mempool.bytes` and 512 bytes for each of `mempool.transactions`;
//! each connection of a client half a MiB, each by HTTP 64 KiB; own blocks, records and caches of keys are constants. A validator says each part and the
//! sum when it starts, and shows the sum as `salus_memory_bound_bytes`: 2.5 GiB for four validators with the defaults
//! and two threads that verify, of which in practice little is used at a time.
//! Come on top: the state's store, with a cache of 32 MiB and, for each of its two large trees, 16 MiB that are filled and at most
//! four times as much that is being written (a quarter of it for each of four small ones); the ids of transactions that are in no
//! file yet, 16,384 and those of one commit, in some MiB; and 256 KiB for each GiB of the block log ([`crate::log`]), which grow with the ledger and not with the load.
//! Outside of the process, the system keeps packets that were not read yet: up to 8 MiB, its own overhead included, for each of the two UDP sockets.
