//! What the bytes mean.
//!
//! A name with a number is a field and its bytes: `round8` is a round in eight bytes. Integers are big-endian, times are Unix
//! milliseconds in UTC unless the name says otherwise, `‖` is concatenation. `{…}*` repeats. Every format has one
//! encoding for each value; decoders refuse anything else, values above their limits ([`crate::limits`]) and trailing bytes.
//!
//! # Identities
//! | name | is |
//! |---|---|
//! | network8 | first 8 bytes of the BLAKE3 of the genesis file |
//! | transaction id | SHA-256 of all its bytes, signature included |
//! | block digest | BLAKE3 of the header without its signature |
//! | block42 | `round8 author2 digest32` |
//! | genesis block of an author | round 0, digest BLAKE3("salus/genesis-block/v1\0" ‖ network8 ‖ epoch4 ‖ author2) |
//!
//! # Signatures
//! Ed25519. What is signed is `"salus/<purpose>/v1\0" ‖ network8 ‖ bytes`:
//!
//! | purpose | key | bytes |
//! |---|---|---|
//! | `tx` | of an organisation | the transaction without its signature |
//! | `header` | consensus key of a validator | version 2: `epoch4 block42`; version 1: the header without its signature |
//! | `consent` | one-time key of a patient | the grant up to its provisions, or the revocation without signature |
//! | `possession` | a key that is being added | the body of KEY_ADD without this signature |
//!
//! Checkpoints are signed as C2SP has it, without this prefix. A signature (A, R, s) of M is valid if and only if s is canonical,
//! A and R decode (non-canonical y allowed), and \[8\]\[s\]B = \[8\]R + \[8\]\[k\]A with k = SHA-512(R ‖ A ‖ M) over the
//! bytes as received (ZIP-215).
//!
//! # Transaction
//! `ver1 kind1 network8 org4 key4 seq8 time8 salt16 len2 body signature64`, version 1: 116 bytes and a body of up to 4,096. The
//! salt is random; it blinds the stub.
//!
//! | kind | code | body |
//! |---|---|---|
//! | RECORD_ANCHOR | 1 | `commit32 prev8 class1 alg1 retain4`; prev 2^64 − 1 for none; retain in days |
//! | RECORD_BATCH | 2 | `root32 count4 class1 alg1 retain4`; count from 1 to 65,536; by rules 2 and later |
//! | CONSENT_GRANT | 3 | `handle32 commit32 grantee_kind1 grantee4 n1 flags1 {effect1 purpose2 category2 from4 to4}*`, n from 1 to 16, effect 0 deny, 1 permit, times in seconds, purpose and category 0xffff for any; with flag 1 then `key32 signature64` of the patient |
//! | CONSENT_REVOKE | 4 | `handle32 effective8 reason1 commit32`, then the patient's `signature64` or nothing |
//! | ACCESS_LOG | 5 | `commit32 consent32 category2 purpose1 action1 outcome1 occurred8 origin4 flags1`; consent zero for none; action one of `C R U D E`, outcome one of 0 4 8 12, as FHIR AuditEvent; flag 1 is break-glass |
//! | KEY_ADD | 10 | `org4 key4 alg1 public32 roles2 from8 to8 signature64`; alg 1 |
//! | ORG_ADMIT | 13 | `org4 kind1 name64 root32 region2 policy32`; the name is UTF-8, padded with zeros |
//!
//! Roles are bits: 1 root, 2 record, 4 custodian, 8 access, 16 govern.
//!
//! **Root of a batch**: that of the RFC 9162 tree (SHA-256) of `count` leaves in the order of the members. The data of a leaf is a
//! commitment's 32 bytes and nothing else: leaf = SHA-256(0x00 ‖ commitment32), node = SHA-256(0x01 ‖ left32 ‖ right32).
//!
//! # Rules
//! Which kinds a network knows is part of what it decides: were one known to some validators and not to others, these would
//! skip what those execute, and the states would part. So the genesis file says it, in `parameters.rules`:
//!
//! | rules | what they add | in the file |
//! |---|---|---|
//! | 1 | RECORD_ANCHOR, CONSENT_GRANT, CONSENT_REVOKE, ACCESS_LOG, KEY_ADD, ORG_ADMIT | nothing: files made before there were others keep their bytes and their network id |
//! | 2 | RECORD_BATCH | `"rules": 2` |
//!
//! A program that knows more than a network's rules treats the rest as one does that has never heard of it: a kind of later rules
//! is a byte that stands for nothing, its transaction is refused at the door, and in a block it is skipped as malformed, keeps
//! nothing and counts for its proposer as such. One that knows less does not start, and says so (one from before there were rules
//! says that the key is unknown). New networks are made with the newest. A further kind takes a code, rules of the next number ([`crate::types::Rules`],
//! [`crate::types::Kind::since`]) and a line here.
//!
//! *Why not while a network runs.* Versions of the protocol change that way ([`super::protocol`]): they decide how
//! blocks travel, each validator may switch when it sees that the others can, and that they do so at different moments shows in
//! nothing. Rules decide what a block means, so all have to switch at one place in the order. That takes an entry in the order
//! that says from which commit on, a vote on it that the governance of this version does not have, and validators that are not
//! upgraded by then have to stop rather than go on by themselves. Until there is a use for that, a network that wants new
//! rules is a new network.
//!
//! # Block
//! **Header**: `ver1 epoch4 round8 author2 time8 n1 {block42}* n_tx4 payload_len4 payload_root32 n_sys2 {len2 message}*`, then
//! `signature64`; version 1 or 2, at most 64 KiB. Of n ancestors the first is the author's own earlier block; the others ascend
//! by author. Messages ascend by type and have at most 512 bytes:
//!
//! | message | type | versions | after the type byte |
//! |---|---|---|---|
//! | checkpoint vote | 1 | 1, 2 | `tree_size8 root32 state_root32 commit8 cosigned_at8 cosignature64`, cosigned_at in seconds; at most one |
//! | commit vote | 2 | 2 | `index8 digest32`; at most one |
//! | evidence | 3 | 2 | `epoch4`, then `{block42 signature64}` twice: two blocks of one author and round, the lower digest first; at most four, ascending by the first block |
//!
//! **Payload**: `{len4 transaction}*`, at most 16,384 transactions and 4 MiB. `payload_root` = BLAKE3 of the transactions' ids one
//! after another. A payload may hold transactions that do not decode; it is as valid as any other, and they are skipped.
//!
//! # Commit
//! `ver1 index8 leader42 time8 previous32 n4 {block42}*`, version 1; n at least 1, blocks ascending, the leader last. Digest of a
//! commit: BLAKE3("salus/commit/v1\0" ‖ these bytes); `previous` is that of the commit before, zero for the first.
//!
//! # Records of the block log
//! | kind | body |
//! |---|---|
//! | 1 header | a header with its signature |
//! | 2 payload | `block42`, then the payload |
//! | 3 commit | a commit |
//! | 4 certificate | `index8 digest32 n2 {block42}*`: the headers that vote for this commit, one for each author; they are records of the same log |
//! | 5 rejoin | `round8`: the log before this one was lost; no own block up to this round, 0 while that is not known |
//!
//! Segments, groups and checksums around them: [`crate::log`].
//!
//! # Merkle log
//! RFC 9162 with SHA-256: leaf = SHA-256(0x00 ‖ stub), node = SHA-256(0x01 ‖ left ‖ right). Leaves are stubs of executed
//! transactions in the order of execution; skipped ones are not in it.
//!
//! **Stub**, 54 bytes: `ver1 type1 org4 height8 time8 hash32`, version 1. type is the kind's code, with 0x80 set for an access
//! that no consent permitted; height is the number of the commit, time its block time, hash =
//! SHA-256(salt16 ‖ transaction). When a transaction's bytes are gone, so is its salt, and the stub tells nothing of it.
//!
//! **Over HTTP**: C2SP tlog-tiles (`tile/0/x001/234`, entry bundles of 256 stubs with 2-byte lengths, partial
//! tiles). On disk `data/tiles` has a file `hashes-L` for each level, 32 bytes a hash, and `entries`, 56 bytes a stub: a tile lies where its
//! hashes do. **Checkpoint**: C2SP tlog-checkpoint, origin `<network>/salus`, signed by log keys (note type 0x01) and
//! cosigned (`cosignature/v1`, type 0x04) by `<network>/<validator>`. **Proof bundle**: `proof.json`, see
//! [`crate::proof::bundle`].
//!
//! # Proof bundle
//! JSON, at most 1 MiB, unknown and repeated keys are errors. `format` is `salus-proof/1`; `transaction`, `stub`,
//! `inclusionPath` (64 hashes at most), `checkpoint`, in base64 but for the note; `leafIndex`, `treeSize`. With an `opening`,
//! which the holder adds, it shows what was anchored, in one of two forms:
//!
//! ```text
//! {"key":"<32 bytes>","resource":{…}}
//! {"key":"<32 bytes>","file":{"algorithm":"blake3","bytes":7,"hash":"<64 digits>"},
//!  "batch":{"commitment":"<32 bytes>","index":3,"count":40,"inclusionPath":["<32 bytes>",…]}}
//! ```
//!
//! | form | of | holds if |
//! |---|---|---|
//! | resource | a transaction that carries its commitment | HMAC-SHA-256(key, `"salus/commitment/fhir-r4/v1\0"` ‖ RFC 8785 of the resource) is that commitment; of RECORD_ANCHOR with alg 1 |
//! | file | RECORD_BATCH with alg 2 | `count` is the transaction's; the path (16 hashes at most) leads from the leaf of `commitment` at `index` to its root; HMAC-SHA-256(key, `"salus/commitment/file/v1\0"` ‖ `bytes8 algorithm1 hash32`) is `commitment`, algorithm 1 BLAKE3, 2 SHA-256 |
//!
//! A file's name is in none of it. `salus anchor` keeps it in `proofs.json` beside the bundles: `{"format":"salus-proofs/1",
//! "network":"<16 digits>","proofs":[…]}` with an entry `{"hash","index","leaf","path","proof","transaction"}` to a line.
//!
//! # Manifest
//! What `salus hash` writes: UTF-8, RFC 8785 but for line breaks that put each entry on a line of its own.
//!
//! ```text
//! {"algorithm":"blake3","entries":[
//! {"bytes":7,"hash":"<64 digits>","path":"export/a.json"},
//! {"link":"a.json","path":"export/latest"}
//! ],"format":"salus-manifest/1","root":"<64 digits>"}
//! ```
//!
//! `algorithm` is `blake3` or `sha256`. Entries ascend by the bytes of their paths, each path once; a symbolic link is listed by
//! its target. `root` is that of the RFC 9162 tree whose leaves are the entries, each without comma and line break: one hash for
//! everything, from which a path of hashes proves a single file. Hashes without a key do not go on the ledger
//! ([`super::records`]): `salus anchor` puts commitments to the files there.
//!
//! # State
//! A binary Merkle trie over 32-byte keys ([`crate::execute::StateProof`]):
//!
//! - key = BLAKE3(domain ‖ id), domain `salus/state-<consent|key|org|proposal>/v1\0`; value = BLAKE3(encoded entry);
//! - leaf = BLAKE3("salus/state-leaf/v1\0" ‖ key32 ‖ value32);
//! - node = BLAKE3("salus/state-node/v1\0" ‖ left32 ‖ right32); a subtree with one entry has the hash of its leaf, one
//!   with none is zero.
//!
//! # Frames
//! `len4 type1 body` on QUIC streams; len counts the body. The first frame in each direction is a hello.
//!
//! | between validators | type | body, and its limit |
//! |---|---|---|
//! | hello | 1 | `version2 network8`, version 1 or 2, the one that TLS agreed on by ALPN (`salus/1`, `salus/2`) |
//! | header | 2 | a header; 64 KiB |
//! | payload | 3 | `block42`, payload; 4 MiB + 64 |
//! | fetch headers, fetch payloads | 4, 5 | `n2 {block42}*`, n ≤ 256 |
//! | fetch range | 6 | `from8 rounds8`, rounds ≤ 64 |
//! | headers | 7 | `{len4 header}*`; 1 MiB + 64 KiB |
//! | fetch latest | 8 | `nonce8`; version 2 |
//! | latest | 9 | `nonce8`, then the last own header or nothing; version 2 |
//! | fetch commits | 10 | `after8`; version 2 |
//! | commits | 11 | `n2 {len4 commit}* {len4 header}*`, n ≤ 1,024: commits from `after` + 1 on and the headers that certify the last; 1 MiB + 2 MiB; version 2 |
//!
//! | from and to clients | type | body |
//! |---|---|---|
//! | hello | 1 | as above, version 1 |
//! | submit | 2 | `request8`, transaction |
//! | reply | 3 | `request8 tag1` and by tag: 1 accepted; 2 refused `len1 code len2 message`; 3 executed `leaf8 violation1`; 4 duplicate `leaf8`; 5 skipped `reason1` |
