#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::ingress::admit;
use crate::ingress::fixture::{KEYS, NETWORK, NOW, body, directory, envelope, forged, signed};
use crate::types::{Payload, PayloadBuilder, Round, Transaction, TxId};

/// Longer than any of this takes on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(threads: usize, client_transactions_max: usize, payloads_max: usize) -> VerifyPoolConfig {
    let gather = Duration::ZERO;
    VerifyPoolConfig { threads, client_transactions_max, payloads_max, cache_keys: 64, seed: [4; 32], gather }
}

fn is_bad(seq: u64) -> bool {
    seq % 7 == 3
}

/// Every seventh is forged.
fn transaction(seq: u64) -> Transaction {
    let envelope = envelope(u32::try_from(seq % u64::from(KEYS)).unwrap(), seq);
    if is_bad(seq) { forged(envelope, &body()) } else { signed(envelope, &body()) }
}

fn chunk(seqs: std::ops::Range<u64>) -> Vec<PendingTx> {
    let keys = directory();
    seqs.map(|seq| admit(transaction(seq).bytes().clone(), NETWORK, NOW, &keys).unwrap()).collect()
}

fn block(round: u64, n: u64) -> BlockPayload {
    let mut builder = PayloadBuilder::default();
    for seq in 0..n {
        let tx = transaction(seq);
        assert!(builder.push(tx.id(), tx.bytes()));
    }
    let payload: Arc<Payload> = Arc::new(builder.finish());
    BlockPayload { block: BlockRef { round: Round(round), ..BlockRef::default() }, payload }
}

fn expected_verdicts(n: u64) -> Vec<Verdict> {
    (0..n).map(|seq| if is_bad(seq) { Verdict::Invalid } else { Verdict::Valid }).collect()
}

/// A pool whose answers arrive in a channel.
fn pool(config: &VerifyPoolConfig) -> (VerifyPool, Receiver<Answer>) {
    let (answers, receiver) = crossbeam_channel::unbounded();
    let pool = VerifyPool::start(config, NETWORK, directory(), move |answer| answers.send(answer).unwrap());
    (pool.unwrap(), receiver)
}

/// A pool that stands still inside its first answer until the gate is dropped. The second receiver tells that it does.
fn gated(config: &VerifyPoolConfig) -> (VerifyPool, Receiver<Answer>, Sender<()>, Receiver<()>) {
    let (answers, receiver) = crossbeam_channel::unbounded();
    let (gate, closed) = bounded::<()>(0);
    let (reached, at_gate) = crossbeam_channel::unbounded();
    let pool = VerifyPool::start(config, NETWORK, directory(), move |answer| {
        reached.send(()).unwrap();
        // Ends by the gate's sender being dropped; the timeout only bounds a broken test.
        let _open = closed.recv_timeout(PATIENCE);
        answers.send(answer).unwrap();
    });
    (pool.unwrap(), receiver, gate, at_gate)
}

/// Verdicts by transaction, each answered once.
fn collect(answers: &mut BTreeMap<TxId, bool>, answer: Answer) {
    let Answer::Transactions { verified, refused } = answer else { panic!("not of clients: {answer:?}") };
    for (id, valid) in verified
        .iter()
        .map(|tx| (tx.id(), true))
        .chain(refused.iter().map(|(tx, why)| (tx.id(), *why != ClientError::BadSignature)))
    {
        assert_eq!(answers.insert(id, valid), None, "answered twice");
    }
}

fn assert_complete(answers: &BTreeMap<TxId, bool>, n: u64) {
    assert_eq!(answers.len() as u64, n);
    for seq in 0..n {
        assert_eq!(answers.get(&transaction(seq).id()), Some(&!is_bad(seq)), "transaction {seq}");
    }
}

#[test]
fn chunks_and_payloads_are_answered() {
    let (pool, answers) = pool(&config(2, 256, 8));
    for i in 0..20 {
        pool.try_submit(Job::Transactions(chunk(i * 10..(i + 1) * 10))).unwrap();
    }
    pool.try_submit(Job::Payload(block(1, 30))).unwrap();
    pool.try_submit(Job::Payload(block(2, 0))).unwrap();
    let (mut of_clients, mut of_blocks) = (BTreeMap::new(), BTreeMap::new());
    while of_clients.len() < 200 || of_blocks.len() < 2 {
        match answers.recv_timeout(PATIENCE).unwrap() {
            Answer::Payload { block, verdicts } => {
                assert!(of_blocks.insert(block.round, verdicts).is_none());
            }
            answer @ Answer::Transactions { .. } => collect(&mut of_clients, answer),
        }
    }
    assert_complete(&of_clients, 200);
    assert_eq!(of_blocks[&Round(1)], expected_verdicts(30));
    assert!(of_blocks[&Round(2)].is_empty());
}

#[test]
fn large_jobs_are_cut_and_put_together() {
    let n = 2 * BATCH_SIGNATURES_MAX as u64 + 100;
    let (pool, answers) = pool(&config(2, 1, 1));
    pool.try_submit(Job::Payload(block(1, n))).unwrap();
    let Answer::Payload { verdicts, .. } = answers.recv_timeout(PATIENCE).unwrap() else {
        panic!("of clients")
    };
    assert_eq!(verdicts, expected_verdicts(n));

    pool.try_submit(Job::Transactions(chunk(0..n))).unwrap();
    let mut of_clients = BTreeMap::new();
    for _ in 0..3 {
        collect(&mut of_clients, answers.recv_timeout(PATIENCE).unwrap());
    }
    assert_complete(&of_clients, n);
}

#[test]
fn a_full_queue_gives_the_job_back_and_loses_nothing() {
    let (pool, answers, gate, at_gate) = gated(&config(1, 3, 1));
    pool.try_submit(Job::Transactions(chunk(0..1))).unwrap();
    at_gate.recv_timeout(PATIENCE).unwrap();
    // The only verifier stands at the gate, so what is submitted now stays in the queue of three.
    let mut waiting = Vec::new();
    for seq in 1..20 {
        if let Err(Busy(job)) = pool.try_submit(Job::Transactions(chunk(seq..seq + 1))) {
            waiting.push(job);
        }
    }
    assert_eq!(waiting.len(), 16);
    // Payloads have a queue of their own.
    pool.try_submit(Job::Payload(block(1, 1))).unwrap();
    assert!(matches!(pool.try_submit(Job::Payload(block(2, 1))), Err(Busy(Job::Payload(_)))));

    drop(gate);
    let mut of_clients = BTreeMap::new();
    let mut blocks = 0;
    while of_clients.len() < 20 || blocks == 0 {
        match answers.recv_timeout(PATIENCE).unwrap() {
            Answer::Payload { .. } => blocks += 1,
            answer @ Answer::Transactions { .. } => collect(&mut of_clients, answer),
        }
        while let Some(job) = waiting.pop() {
            if let Err(Busy(job)) = pool.try_submit(job) {
                waiting.push(job);
                break;
            }
        }
    }
    assert_complete(&of_clients, 20);
}

#[test]
fn payloads_go_before_clients() {
    let (pool, answers, gate, at_gate) = gated(&config(1, 4, 4));
    pool.try_submit(Job::Transactions(chunk(0..1))).unwrap();
    at_gate.recv_timeout(PATIENCE).unwrap();
    pool.try_submit(Job::Transactions(chunk(1..2))).unwrap();
    pool.try_submit(Job::Payload(block(1, 1))).unwrap();
    drop(gate);
    let kinds: Vec<bool> =
        (0..3).map(|_| matches!(answers.recv_timeout(PATIENCE).unwrap(), Answer::Payload { .. })).collect();
    assert_eq!(kinds, [false, true, false]);
}

#[test]
fn dropping_the_pool_answers_what_was_accepted() {
    let (pool, answers, gate, at_gate) = gated(&config(2, 16, 4));
    pool.try_submit(Job::Transactions(chunk(0..1))).unwrap();
    at_gate.recv_timeout(PATIENCE).unwrap();
    for seq in 1..10 {
        pool.try_submit(Job::Transactions(chunk(seq..seq + 1))).unwrap();
    }
    drop(gate);
    drop(pool);
    // All answers were given before the pool was gone: none has to be waited for.
    let mut of_clients = BTreeMap::new();
    answers.try_iter().for_each(|answer| collect(&mut of_clients, answer));
    assert_complete(&of_clients, 10);
}

/// Counts where it ends.
#[derive(Debug)]
struct Owner(TxId, Sender<TxId>);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

#[test]
fn each_transaction_comes_back_with_whose_it_is() {
    let n = BATCH_SIGNATURES_MAX as u64 + 50;
    let (ended, ends) = crossbeam_channel::unbounded();
    let owned = |seqs: std::ops::Range<u64>| -> Vec<PendingTx<Owner>> {
        let of = |tx: PendingTx| {
            let id = tx.id();
            tx.of(Owner(id, ended.clone()))
        };
        chunk(seqs).into_iter().map(of).collect()
    };
    let (answers, answered) = crossbeam_channel::unbounded();
    let on_answer = move |answer: Answer<Owner>| {
        let Answer::Transactions { verified, refused } = answer else { unreachable!("no payloads") };
        for (id, owner) in verified.iter().map(|tx| (tx.id(), tx.owner())) {
            answers.send((id, owner.0, true)).unwrap();
        }
        for (tx, _) in &refused {
            answers.send((tx.id(), tx.owner().0, false)).unwrap();
        }
    };
    let pool = VerifyPool::start(&config(2, 1, 1), NETWORK, directory(), on_answer).unwrap();
    // Taken, though it is more than the queue has room for, and cut; then there is no room until it has been taken up.
    pool.try_submit(Job::Transactions(owned(0..n))).unwrap();
    let mut again = Some(Job::Transactions(owned(n..n + 9)));
    let mut all: BTreeMap<TxId, bool> = BTreeMap::new();
    while all.len() < usize::try_from(n + 9).unwrap() {
        if let Some(job) = again.take() {
            again = pool.try_submit(job).err().map(|Busy(job)| job);
        }
        let (id, owner, valid) = answered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(id, owner);
        assert_eq!(all.insert(id, valid), None, "answered twice");
    }
    assert_complete(&all, n + 9);
    drop(pool);
    let mut ended: Vec<TxId> = ends.try_iter().collect();
    ended.sort_unstable();
    assert_eq!(ended, all.into_keys().collect::<Vec<_>>(), "each ended once");
}

#[test]
fn what_comes_soon_after_a_batch_is_gathered_until_there_is_enough() {
    // Nothing here waits for so long: the test ends when there is enough.
    let gather = Duration::from_secs(3_600);
    let (pool, answers) = pool(&VerifyPoolConfig { gather, ..config(2, 2 * ENOUGH, 8) });
    pool.try_submit(Job::Transactions(chunk(0..1))).unwrap();
    let mut of_clients = BTreeMap::new();
    collect(&mut of_clients, answers.recv_timeout(PATIENCE).unwrap());
    let enough = ENOUGH as u64;
    for seq in 1..enough - 9 {
        pool.try_submit(Job::Transactions(chunk(seq..seq + 1))).unwrap();
    }
    assert!(answers.is_empty(), "they wait");
    pool.try_submit(Job::Payload(block(1, 10))).unwrap();
    assert!(matches!(answers.recv_timeout(PATIENCE).unwrap(), Answer::Payload { .. }));
    while of_clients.len() < ENOUGH - 9 {
        collect(&mut of_clients, answers.recv_timeout(PATIENCE).unwrap());
    }
    assert_complete(&of_clients, enough - 9);
    // What is gathered at the end is answered too, at once.
    pool.try_submit(Job::Payload(block(2, 3))).unwrap();
    drop(pool);
    assert!(matches!(answers.try_recv().unwrap(), Answer::Payload { .. }));
}

#[test]
fn what_is_gathered_is_verified_when_its_time_has_come() {
    let gather = Duration::from_millis(1);
    let (pool, answers) = pool(&VerifyPoolConfig { gather, ..config(2, 64, 8) });
    for round in 1..20 {
        pool.try_submit(Job::Payload(block(round, 2))).unwrap();
        pool.try_submit(Job::Payload(block(round, 3))).unwrap();
        for _ in 0..2 {
            assert!(matches!(answers.recv_timeout(PATIENCE).unwrap(), Answer::Payload { .. }));
        }
    }
}

/// Several submit at the same moments, and a worker may look at the queues at any of them: none waits for one that nobody woke.
#[test]
fn no_job_is_left_lying() {
    const SUBMITTERS: u64 = 8;
    const JOBS: u64 = 20_000;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..SUBMITTERS).map(|_| bounded(1)).unzip();
    let on_answer = move |answer: Answer| match answer {
        Answer::Payload { block, .. } => senders[usize::try_from(block.round.0).unwrap()].send(()).unwrap(),
        Answer::Transactions { .. } => unreachable!("there are payloads alone"),
    };
    let pool = VerifyPool::start(&config(2, 8, 8), NETWORK, directory(), on_answer).unwrap();
    std::thread::scope(|scope| {
        for (round, answered) in (0..).zip(receivers) {
            let pool = &pool;
            scope.spawn(move || {
                let payload = block(round, 0).payload;
                for _ in 0..JOBS {
                    let block = BlockRef { round: Round(round), ..BlockRef::default() };
                    pool.try_submit(Job::Payload(BlockPayload { block, payload: Arc::clone(&payload) }))
                        .unwrap();
                    answered.recv_timeout(PATIENCE).unwrap();
                }
            });
        }
    });
}

#[test]
fn an_idle_pool_ends() {
    let (pool, answers) = pool(&config(3, 1, 1));
    drop(pool);
    assert!(answers.recv_timeout(PATIENCE).is_err(), "the callback and its sender are gone");
}
