//! What the verification pipeline makes of two cores: from a client's chunk in its queue to the verdicts, beside two threads that
//! only verify.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use salus::crypto::{Domain, Purpose, SecretKey, Signed, Verifier};
use salus::execute::{KeyDirectory, KeyEntry, KeyMap, ReplayWindow};
use salus::ingress::{PendingTx, admit};
use salus::io::verify_pool::{Answer, Busy, Job, VerifyPool, VerifyPoolConfig};
use salus::types::{AccessLog, Body, Envelope, KeyId, NetworkId, OrgId, Roles, TimestampMs, Transaction};
use salus::verify::BATCH_SIGNATURES_MAX;

/// Signatures of one iteration.
const SIGNATURES: usize = 131_072;
/// Signatures before those that count, and behind them: the pipeline is full from the first to the last that counts.
const AROUND: usize = 32_768;
/// Transactions that a client hands over at a time.
const CHUNK: usize = 64;
const THREADS: usize = 2;
/// Longer than any machine takes for all iterations of a sample.
const PATIENCE: Duration = Duration::from_secs(60);
const NETWORK: NetworkId = NetworkId([7; 8]);
const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

/// Keys and transactions that they signed, in turn.
struct Clients {
    directory: KeyDirectory,
    transactions: Vec<Transaction>,
    publics: Vec<[u8; 32]>,
}

impl Clients {
    fn new(keys: u32) -> Self {
        let secrets: Vec<SecretKey> =
            (0..keys).map(|i| SecretKey::from_seed(blake3::hash(&i.to_le_bytes()).as_bytes())).collect();
        let entry = |secret: &SecretKey| KeyEntry {
            public: secret.public(),
            roles: Roles::ACCESS,
            from: TimestampMs(0),
            to: TimestampMs(u64::MAX),
            active: true,
            window: ReplayWindow::new(),
        };
        let map: KeyMap =
            (0..keys).zip(&secrets).map(|(i, secret)| ((OrgId(1), KeyId(i)), entry(secret))).collect();
        let domain = Domain::new(Purpose::Tx, NETWORK);
        let transactions = (0..SIGNATURES as u64).map(|seq| {
            let key = u32::try_from(seq % u64::from(keys)).expect("below the number of keys");
            transaction(&secrets[key as usize], &domain, key, seq)
        });
        Self {
            transactions: transactions.collect(),
            publics: secrets.iter().map(SecretKey::public).collect(),
            directory: KeyDirectory::new(map),
        }
    }

    fn chunks(&self) -> Vec<Vec<PendingTx>> {
        let admit =
            |tx: &Transaction| admit(tx.bytes().clone(), NETWORK, NOW, &self.directory).expect("admitted");
        self.transactions.chunks(CHUNK).map(|chunk| chunk.iter().map(admit).collect()).collect()
    }
}

fn transaction(secret: &SecretKey, domain: &Domain, key: u32, seq: u64) -> Transaction {
    let body = Body::AccessLog(AccessLog {
        commit: [7; 32],
        consent: Some([8; 32]),
        category: 3,
        purpose: 2,
        action: b'R',
        outcome: 0,
        occurred: NOW,
        origin: OrgId(0),
        break_glass: false,
    });
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&seq.to_le_bytes());
    let (kind, org) = (body.kind(), OrgId(1));
    let envelope = Envelope { kind, network: NETWORK, org, key: KeyId(key), seq, time: NOW, salt };
    Transaction::build(envelope, &body.encode(), |bytes| secret.sign(domain, bytes))
}

/// `verify/pipeline/keys=…` beside `verify/bare/keys=…`.
pub(crate) fn bench(group: &mut BenchmarkGroup<'_, WallTime>) {
    for keys in [32, 1_024] {
        let clients = Clients::new(keys);
        group.throughput(Throughput::Elements(SIGNATURES as u64));
        group.bench_function(format!("bare/keys={keys}"), |b| {
            let mut verifiers: Vec<Verifier> =
                (0..THREADS).map(|_| Verifier::new(super::seed(), 4_096)).collect();
            b.iter(|| bare(&clients, &mut verifiers));
        });
        group.bench_function(format!("pipeline/keys={keys}"), |b| {
            let answered = Arc::new(AtomicUsize::new(0));
            let (pool, chunks) = (start(&clients, Arc::clone(&answered)), clients.chunks());
            b.iter_custom(|rounds| {
                let signatures = SIGNATURES * usize::try_from(rounds).expect("few");
                let jobs = chunks.iter().cycle().take((signatures + 2 * AROUND) / CHUNK).cloned();
                pipeline(jobs.collect(), &pool, &answered, signatures)
            });
        });
    }
}

/// Both threads verify full batches of what is theirs.
fn bare(clients: &Clients, verifiers: &mut [Verifier]) {
    let domain = Domain::new(Purpose::Tx, NETWORK);
    std::thread::scope(|scope| {
        for (share, verifier) in clients.transactions.chunks(SIGNATURES / THREADS).zip(verifiers) {
            let domain = &domain;
            scope.spawn(move || {
                for batch in share.chunks(BATCH_SIGNATURES_MAX) {
                    let items: Vec<Signed<'_>> = batch
                        .iter()
                        .map(|tx| Signed {
                            key: &clients.publics[tx.envelope().key.0 as usize],
                            domain: domain.as_bytes(),
                            message: tx.signed_bytes(),
                            signature: tx.signature(),
                        })
                        .collect();
                    assert!(verifier.verify(&items).into_iter().all(|valid| valid));
                }
            });
        }
    });
}

fn start(clients: &Clients, answered: Arc<AtomicUsize>) -> VerifyPool {
    let config = VerifyPoolConfig {
        threads: THREADS,
        client_transactions_max: 16_384,
        payloads_max: 64,
        cache_keys: 4_096,
        seed: super::seed(),
        gather: Duration::from_millis(4),
    };
    let on_answer = move |answer| match answer {
        Answer::Transactions { verified, refused } => {
            assert!(refused.is_empty(), "all are valid");
            answered.fetch_add(verified.len(), Ordering::Relaxed);
        }
        Answer::Payload { .. } => unreachable!("there are no payloads"),
    };
    VerifyPool::start(&config, NETWORK, clients.directory.clone(), on_answer).expect("threads")
}

/// Submits everything, whenever there is room, until all is answered: the time that so many signatures take among the others.
fn pipeline(
    jobs: Vec<Vec<PendingTx>>,
    pool: &VerifyPool,
    answered: &AtomicUsize,
    signatures: usize,
) -> Duration {
    answered.store(0, Ordering::Relaxed);
    let (begun, mut span) = (Instant::now(), Span::default());
    for chunk in jobs {
        let mut job = Job::Transactions(chunk);
        while let Err(Busy(refused)) = pool.try_submit(job) {
            assert!(begun.elapsed() < PATIENCE, "the queue stays full");
            job = refused;
            // As long as a few batches take; the queue holds sixteen.
            std::thread::sleep(Duration::from_millis(1));
            span.saw(answered.load(Ordering::Relaxed), signatures);
        }
    }
    while answered.load(Ordering::Relaxed) < signatures + 2 * AROUND {
        // A thread that found a bad signature has ended, and answers no more.
        assert!(begun.elapsed() < PATIENCE, "not answered");
        std::thread::sleep(Duration::from_micros(100));
        span.saw(answered.load(Ordering::Relaxed), signatures);
    }
    span.took(signatures)
}

/// Two moments and what was answered until then: when the first ones were, and when as many as count were besides.
#[derive(Default)]
struct Span {
    from: Option<(Instant, usize)>,
    to: Option<(Instant, usize)>,
}

impl Span {
    fn saw(&mut self, answered: usize, signatures: usize) {
        if self.from.is_none() && answered >= AROUND / 2 {
            self.from = Some((Instant::now(), answered));
        }
        if self.to.is_none() && self.from.is_some_and(|(_, before)| answered >= before + signatures) {
            self.to = Some((Instant::now(), answered));
        }
    }

    /// Batches are answered whole, so these are some more than were asked for.
    fn took(&self, signatures: usize) -> Duration {
        let ((from, before), (to, after)) = self.from.zip(self.to).expect("more than these were answered");
        (to - from).mul_f64(signatures as f64 / (after - before) as f64)
    }
}
