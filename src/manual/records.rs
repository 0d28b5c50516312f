//! What is recorded, who may record it, and what that tells about whom.
//!
//! # What never gets here
//! Health data; ids of patients, practitioners or resources, hashed ones too; names, addresses, free text; hashes without a key;
//! a pseudonym that follows a patient. What depends on a person is on the ledger as a **commitment**:
//! HMAC-SHA-256(key, domain ‖ canonical bytes), under 32 random bytes made for one version of one document and kept
//! in the vault of the gateway that made it ([`crate::gateway`], [`crate::proof::commitment`]). With key and document anybody can
//! recompute it; without the key it is noise. Destroy the key, and the link between the person and the entry is gone.
//!
//! # What can be read off the ledger
//! That organisation o, with its key k, recorded something of a kind at a time; class and retention of a record; of a
//! consent its grantee, purposes, categories and times; of an access its purpose, category, action, outcome and when it
//! happened. Not: whose. A **handle** of a consent is random, made for one patient and one grantee, so it links the accesses
//! under this consent to each other and to nothing else; a site that finds even that too much logs accesses without it, and is
//! checked at audit instead.
//!
//! # Kinds
//! Each transaction first passes the checks of [`crate::ingress`] and, in the order of the ledger, those of the executor: form,
//! network, key active at block time, signature, number unused within a window of 65,536, time within ten minutes of
//! block time, role. What fails is skipped by all validators alike, with a [reason](crate::execute::SkipReason), and leaves no
//! leaf. Block time is a median of validators' clocks that never goes back.
//!
//! | kind | role | rule of its own |
//! |---|---|---|
//! | RECORD_ANCHOR | record | `prev`, if given, is the latest version of a record of the same organisation, and is replaced once |
//! | RECORD_BATCH | record | none: 1 to 65,536 commitments under one root, by networks of rules 2 ([`super::formats`]) |
//! | CONSENT_GRANT | custodian | a new handle that is not zero; the grantee is an active organisation; the patient's signature, where there is one, verifies |
//! | CONSENT_REVOKE | custodian | the consent is there and not revoked; by the organisation that granted it, or by any but the grantee with the patient's signature. Final |
//! | ACCESS_LOG | access | none: it is always recorded, and flagged as a **violation** if it names a consent that does not permit it, unless it is flagged as break-glass |
//! | KEY_ADD | root | own organisation, a number never used, an acceptable key that signed for its own possession; at most 4,096 keys |
//! | ORG_ADMIT | govern | a member's vote; equal bodies from more than two thirds of the governing members admit |
//!
//! A **consent permits** an access if the sender is its grantee, it is not revoked at the moment of the access, and a
//! provision that permits matches purpose, category and time while none that denies does.
//! An access is recorded whatever it is: to refuse it would hide it.
//!
//! **A batch** takes one leaf, whatever it holds. It is neither a version of a record nor the head of a chain: it replaces
//! nothing, nothing replaces it, and two batches may hold the same. Its files are committed to by length and hash under
//! keys of their own ([`crate::proof::batch`]), so whoever is given the proof of one file learns nothing of the others but that
//! there are `count`. What it tells everybody is organisation, time, class, retention and that number; a site that finds the
//! number too much splits its files otherwise. The program does not look into the files: what they hold is for who anchors them to answer.
//!
//! *Erasure and holds* (not built yet) concern a batch as they concern every leaf: ERASE names the leaf and takes the transaction
//! away with its root, so none of its members can be proved any more, and HOLD keeps it. They cannot pick a member. To let go
//! of one file alone its commitment key is destroyed, in the vault and with its proof: the commitment is noise then. The proofs of
//! the others still hold; but a vault without that key cannot make them again, so they have to be kept. What has to be
//! erased at different times is better not put into one batch.
//!
//! # States
//! record: latest → replaced · consent: in force → revoked, or over by its provisions' times · key: active between `from` and
//! `to` · organisation: voted for → active. Keys, consents, organisations and votes are in the authenticated state, whose root is
//! in every checkpoint vote.
//!
//! # What can be proved offline
//! From one file and the genesis file: that a transaction is in the log, at which place, and which validators signed for it;
//! with the opening from the holder's vault, that it is a commitment to *this* resource, or that *this* file is one of a batch.
//! From two checkpoints: that the log of then is a beginning of the log of now. From a key's numbers: that nothing in between
//! was withheld.
//!
//! # What is not built yet
//! Batches of accesses, erasure and its acknowledgements, holds, key rotation and revocation, studies and datasets,
//! governance beyond admissions. The format keeps their places: their kinds have codes, and leaves are stubs that
//! say nothing once a transaction's bytes are gone.
