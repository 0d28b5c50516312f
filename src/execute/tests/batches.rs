//! Batches of records, and the rules of the network that know them or do not.

use super::world::*;
use crate::crypto::Verifier;
use crate::error::ClientError;
use crate::execute::*;
use crate::ingress::admit as admit_client;
use crate::limits::BATCH_MEMBERS_MAX;
use crate::types::*;
use crate::verify::verify_payload;

fn skipped(reason: SkipReason) -> Outcome {
    Outcome::Skipped(reason)
}

/// As [`World::new`], in a network of some rules.
fn world_of(rules: Rules) -> World<MemStore> {
    let mut world = World::bare_of(genesis_of("test.example", rules), MemStore::new());
    let add = world.key_add(1, 1, WORK);
    world.executes(&[add]);
    world
}

#[test]
fn a_batch_takes_one_leaf_and_is_no_version_of_a_record() {
    let mut world = world_of(Rules::Two);
    for count in [1, 2, BATCH_MEMBERS_MAX] {
        let tx = world.tx(1, 1, &Body::RecordBatch(batch(7, count)));
        let leaf = world.executes(std::slice::from_ref(&tx))[0];
        assert_eq!(world.run(std::slice::from_ref(&tx)), [Outcome::Duplicate { leaf }]);
        let reader = world.executor.reader();
        let TransactionStatus::Executed(found) = reader.transaction(&tx.id()).unwrap() else {
            panic!("it was executed")
        };
        let stub = Stub::decode(&found.stub).unwrap();
        assert_eq!((stub.kind, stub.violation, stub.org), (Kind::RecordBatch, false, OrgId(1)));
        // Neither the head of a chain nor a link of one: nothing replaces it.
        assert_eq!(reader.record(leaf).unwrap(), None);
        assert_eq!(world.one(1, 1, &anchor(1, Some(leaf))), skipped(SkipReason::NotAHead));
    }
    // It needs no new root: two batches of the same records are two statements.
    let again = world.one(1, 1, &Body::RecordBatch(batch(7, 1)));
    assert!(matches!(again, Outcome::Executed { violation: false, .. }), "{again:?}");
}

#[test]
fn empty_and_oversize_batches_are_malformed_and_the_key_needs_the_role_of_records() {
    let mut world = world_of(Rules::Two);
    for count in [0, BATCH_MEMBERS_MAX + 1, u32::MAX] {
        let outcome = world.one(1, 1, &Body::RecordBatch(batch(7, count)));
        assert_eq!(outcome, skipped(SkipReason::Malformed), "{count}");
    }
    let adds: Vec<_> =
        [(2, Roles::RECORD), (3, Roles::CUSTODIAN)].map(|(key, role)| world.key_add(1, key, role)).into();
    world.executes(&adds);
    let body = Body::RecordBatch(batch(7, 9));
    assert_eq!(world.one(1, 3, &body), skipped(SkipReason::MissingRole));
    assert_eq!(world.one(1, 0, &body), skipped(SkipReason::MissingRole));
    assert!(matches!(world.one(1, 2, &body), Outcome::Executed { .. }));
}

/// The bytes of a batch with another kind's byte: what no program has ever known.
fn with_code(tx: &Transaction, code: u8) -> bytes::Bytes {
    let mut bytes = tx.bytes().to_vec();
    bytes[1] = code;
    bytes.into()
}

/// A validator whose program does not know the kind skips it as malformed, keeps nothing of it and counts it for the proposer.
/// In a network of the rules before, one that does know it has to do exactly that, whatever the pipeline found.
#[test]
fn rules_before_it_treat_a_batch_as_a_kind_that_nobody_knows() {
    const NO_KIND: u8 = 0x3f;
    for verdict in [Verdict::Valid, Verdict::Invalid, Verdict::UnknownKey] {
        let run = |code: Option<u8>| {
            let mut world = world_of(Rules::One);
            let good = world.tx(1, 1, &anchor(1, None));
            let tx = world.tx(1, 1, &Body::RecordBatch(batch(7, 3)));
            let bytes = code.map_or_else(|| tx.bytes().clone(), |code| with_code(&tx, code));
            let id = tx_id(&bytes);
            let outcomes = world.run_bytes(vec![bytes.clone(), good.bytes().clone()], verdict);
            assert_eq!(outcomes[0], skipped(SkipReason::Malformed));
            assert_eq!(world.run_bytes(vec![bytes], verdict), [skipped(SkipReason::Malformed)]);
            // The number that it names is not used.
            let mut envelope = *tx.envelope();
            envelope.kind = Kind::RecordAnchor;
            let next = world.sign(envelope, &anchor(2, None).encode());
            world.executes(&[next]);
            world.executor.persist().unwrap();
            let reader = world.executor.reader();
            assert_eq!(reader.transaction(&id).unwrap(), TransactionStatus::Unknown);
            let everything = reader.store().scan(&[], &[], usize::MAX).unwrap();
            (world.executor.head(), reader.tally(AuthorityIndex(0)).unwrap(), everything)
        };
        // Roots, tallies, and every key and value of the state.
        assert!(run(None) == run(Some(NO_KIND)), "{verdict:?}");
        assert_eq!(run(None).1.skipped, if verdict == Verdict::Invalid { 3 } else { 2 });
    }
}

#[test]
fn door_and_pipeline_go_by_the_rules_of_the_network() {
    assert_eq!(
        KeyDirectory::default().rules(),
        Rules::NEWEST,
        "nothing is called invalid before they are known"
    );
    for (rules, is_known) in [(Rules::One, false), (Rules::Two, true)] {
        let mut world = world_of(rules);
        let tx = world.tx(1, 1, &Body::RecordBatch(batch(7, 3)));
        let (network, now) = (world.genesis.network(), TimestampMs(world.now_ms));
        let found = admit_client(tx.bytes().clone(), network, now, world.executor.directory());
        let decoded = Transaction::decode(tx.bytes().clone(), rules);
        let mut payload = PayloadBuilder::default();
        assert!(payload.push(tx.id(), tx.bytes()));
        let (mut verifier, keys) = (Verifier::new([1; 32], 4), world.executor.directory());
        let verdicts = verify_payload(&mut verifier, network, keys, &payload.finish());
        assert_eq!(verdicts, [if is_known { Verdict::Valid } else { Verdict::Invalid }]);
        if is_known {
            assert_eq!(found.unwrap().into_parts().0, decoded.unwrap());
            continue;
        }
        let error = decoded.unwrap_err();
        assert_eq!(found, Err(ClientError::Malformed(error)));
        // As of a kind that nobody knows, but for the number itself.
        let unknown = Transaction::decode(with_code(&tx, 0x3f), Rules::NEWEST).unwrap_err().to_string();
        assert_eq!(error.to_string(), unknown.replace("63", "2"));
    }
}

/// What a network of rules 2 comes to, with a batch among what there was before.
#[test]
fn golden_roots_of_rules_2() {
    let mut world = world_of(Rules::Two);
    let transactions = [
        world.tx(1, 1, &anchor(1, None)),
        world.tx(1, 1, &Body::RecordBatch(batch(7, BATCH_MEMBERS_MAX))),
        world.tx(1, 1, &Body::ConsentGrant(grant(1, 2, vec![permit(2, 3)]))),
    ];
    world.executes(&transactions);
    let head = world.executor.head();
    assert_eq!(head.root.to_string(), "9288007598ca87e477deef985d6b18e4fc96f1fd8425a36ced5b810b315c733e");
    assert_eq!(
        head.state_root.to_string(),
        "044664bed42274322935adb6f8ea200a5b6b0f22f8b40f8ea501fb78ff2d8973"
    );
}

#[test]
fn a_directory_of_keys_belongs_to_one_network() {
    let world = world_of(Rules::Two);
    let directory = world.executor.directory().clone();
    assert_eq!(directory.rules(), Rules::Two);
    let other = genesis_of("test.example", Rules::One);
    assert_ne!(other.network(), world.genesis.network());
    let opened = std::panic::catch_unwind(|| Executor::open(&other, MemStore::new(), directory).is_ok());
    assert!(opened.is_err());
}
