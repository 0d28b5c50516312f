//! `simulate planted`: switches on one planted mistake after another and looks for somebody who sees it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rayon::prelude::*;
use salus::crypto::{SecretKey, Signed, Verifier};
use salus::node::COMMIT_ROUNDS;
use salus::planted::{Bug, select};
use salus::sim::byzantine::{self, Attack};
use salus::sim::{FaultKind, NetworkConfig, Services, SimConfig, run, twins};

use crate::drive::Judge;
use crate::sample::{Random, arrival, random};

/// Case 4 of "Taming the many EdDSAs" (eprint 2020/1244; tests/data/vectors): key and R have parts of small order, so that
/// it holds with the cofactor and does not without.
const MIXED_ORDER: [&str; 3] = [
    "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
    "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
    "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
];
/// Seeds that have to hold while nothing is planted, for each way of looking.
const SOUND_SEEDS: u64 = 2;

/// Switches on planted mistakes, one at a time, and looks for somebody who sees each.
#[derive(Debug, Args)]
pub(crate) struct Planted {
    /// Only mistakes whose name contains this.
    #[arg(long, default_value = "")]
    bug: String,
    /// Seeds that one way of looking may take.
    #[arg(long, default_value_t = 400)]
    seeds: u64,
    /// Seconds that one way of looking may take.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// A way of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hunt {
    /// Whole networks with losses, partitions, crashes and restarts.
    Simulator,
    /// The same with disks that hang every third time, so that a crash cuts off much.
    SlowDisks,
    /// A validator by itself, whose rounds follow each other before anything is durable.
    Alone,
    /// The same beside a Byzantine validator.
    Attack(Attack),
    /// The same with disks that are replaced by empty ones.
    LostLogs,
    /// Networks so quick that whoever restarts is far behind, beside a validator that lies to it.
    FarBehind,
    /// Validators that run twice.
    Twins,
    /// Random DAGs in random orders, with the decisions of the executable specification beside the committer's.
    Model,
    /// A signature of mixed order that two validators see in different company.
    Signatures,
}

impl Hunt {
    fn name(self) -> String {
        match self {
            Self::Simulator => "simulator".to_owned(),
            Self::SlowDisks => "simulator, slow disks".to_owned(),
            Self::Alone => "simulator, one alone".to_owned(),
            Self::Attack(attack) => format!("attack {}", attack.name()),
            Self::LostLogs => "simulator, lost logs".to_owned(),
            Self::FarBehind => "far behind, lied to".to_owned(),
            Self::Twins => "twins".to_owned(),
            Self::Model => "model".to_owned(),
            Self::Signatures => "signatures".to_owned(),
        }
    }

    /// What it saw with this seed, if anything.
    fn sees(self, seed: u64) -> Option<String> {
        let config = SimConfig { duration_us: 20_000_000, ..SimConfig::default() };
        let look = || match self {
            Self::Simulator => run(seed, &config).err().map(|violation| violation.to_string()),
            Self::SlowDisks => {
                let services = Services { hang_per_mille: 300, ..Services::default() };
                let config = SimConfig { services, ..config.clone() };
                run(seed, &config).err().map(|violation| violation.to_string())
            }
            Self::Alone => {
                let services = Services { hang_per_mille: 300, ..Services::default() };
                let config =
                    SimConfig { validators: 1, beat_rounds: COMMIT_ROUNDS, services, ..config.clone() };
                run(seed, &config).err().map(|violation| violation.to_string())
            }
            Self::LostLogs => {
                let kinds = config.kinds.without(FaultKind::Restart);
                let config = SimConfig { kinds, ..config.clone() };
                run(seed, &config).err().map(|violation| violation.to_string())
            }
            Self::FarBehind => {
                let network =
                    NetworkConfig { delay_min_us: 200, delay_max_us: 2_000, ..NetworkConfig::default() };
                let config = SimConfig { network: Some(network), ..config.clone() };
                let attacks = [Attack::LieToFetchers];
                byzantine::run(seed, &config, Some(&attacks)).err().map(|violation| violation.to_string())
            }
            Self::Attack(attack) => {
                byzantine::run(seed, &config, Some(&[attack])).err().map(|violation| violation.to_string())
            }
            Self::Twins => twins::run(seed, 4).err().map(|violation| violation.to_string()),
            Self::Model => {
                compare_with_the_specification(seed);
                None
            }
            Self::Signatures => disagreement(seed),
        };
        // A violated assertion is as good.
        catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| Some(format!("panic: {}", said(&*panic))))
    }
}

/// Panics if the committer and the specification decide a DAG of this seed differently.
fn compare_with_the_specification(seed: u64) {
    let mut chance = Random(seed);
    for _ in 0..20 {
        let rounds = 5 + chance.below(8);
        let dag = random(&mut chance, rounds);
        let judge = Judge::new([1, 2, 4][chance.below(3)], 8);
        let built = judge.build(&dag, &mut chance);
        let order = arrival(&dag, &mut chance);
        judge.drive(&built, &order);
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Two validators judge the same signature in batches of their own.
fn disagreement(seed: u64) -> Option<String> {
    let [key, message, signature] = MIXED_ORDER.map(|text| hex::decode(text).unwrap_or_default());
    let mixed = Signed {
        key: key.as_slice().try_into().ok()?,
        domain: &[],
        message: &message,
        signature: signature.as_slice().try_into().ok()?,
    };
    let honest: Vec<([u8; 32], [u8; 64])> = (0..8)
        .map(|i| SecretKey::from_seed(&[i; 32]))
        .map(|key| (key.public(), key.sign_raw(b"a transaction")))
        .collect();
    let verdicts: BTreeSet<bool> = (0..2_u8)
        .map(|host| {
            let mut secret = [host; 32];
            secret[1..9].copy_from_slice(&seed.to_be_bytes());
            let company = honest.iter().take(4 + 4 * usize::from(host));
            let company = company.map(|(key, signature)| Signed {
                key,
                domain: &[],
                message: b"a transaction",
                signature,
            });
            let batch: Vec<Signed<'_>> = company.chain([mixed]).collect();
            Verifier::new(secret, 64).verify(&batch).last().copied().unwrap_or(false)
        })
        .collect();
    (verdicts.len() > 1).then(|| "two validators disagree about a signature".to_owned())
}

/// Where to look for a mistake, the best place first.
fn hunts(bug: Bug) -> Vec<Hunt> {
    let attack = |attack| vec![Hunt::Attack(attack), Hunt::Simulator];
    match bug {
        Bug::CommitByOneCertificate | Bug::CertificateByFewer | Bug::SkipByFewer => {
            vec![Hunt::Twins, Hunt::Model, Hunt::Simulator]
        }
        // What it takes is rare in networks: an anchor that is the one block of its round without a certificate.
        Bug::AnchorTooNear => vec![Hunt::Model, Hunt::Twins, Hunt::Simulator],
        Bug::VoteForBoth => vec![Hunt::Attack(Attack::Equivocate), Hunt::Twins, Hunt::Simulator],
        Bug::ParentsUnchecked => attack(Attack::BadAncestors),
        Bug::OwnAncestorUnchecked => attack(Attack::BadAncestors),
        Bug::StaleEpoch => attack(Attack::WrongCommittee),
        Bug::CertificateOfOne => vec![Hunt::FarBehind],
        Bug::RejoinAtOnce => vec![Hunt::LostLogs, Hunt::Simulator],
        Bug::TimeOfTheLast => attack(Attack::LieAboutTime),
        Bug::BatchWithoutCofactor => vec![Hunt::Signatures],
        Bug::SendBeforeSync => vec![Hunt::SlowDisks, Hunt::Simulator],
        Bug::ExecuteBeforeDurable => vec![Hunt::Alone, Hunt::SlowDisks],
        Bug::QuorumOf2f
        | Bug::CommitUndecided
        | Bug::RoundJump
        | Bug::VoteLostOnRestart
        | Bug::GcTooEarly
        | Bug::ArrivalOrder
        | Bug::TimeGoesBack
        | Bug::ReplayWindowLost => vec![Hunt::Simulator, Hunt::Twins, Hunt::Attack(Attack::Equivocate)],
    }
}

impl Planted {
    pub(crate) fn run(&self) -> ExitCode {
        // Panics are what is looked for; they need not be printed.
        std::panic::set_hook(Box::new(|_| {}));
        let bugs: Vec<Bug> =
            Bug::ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&self.bug)).collect();
        if let Some(alarm) = false_alarm(&bugs) {
            println!("nothing is planted, and yet: {alarm}");
            return ExitCode::FAILURE;
        }
        println!("{:<24} | {:<22} | {:>5} | {:>7} | what was seen", "bug", "caught by", "seeds", "seconds");
        let start = Instant::now();
        let missed = bugs.iter().filter(|bug| !self.hunt(**bug)).count();
        select(None);
        println!(
            "planted: {} of {} mistakes caught in {:.0} s",
            bugs.len() - missed,
            bugs.len(),
            start.elapsed().as_secs_f64()
        );
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Prints a line on a mistake; returns whether it was caught.
    fn hunt(&self, bug: Bug) -> bool {
        select(Some(bug));
        let start = Instant::now();
        let tried = AtomicU64::new(0);
        let limit = Duration::from_secs(self.seconds);
        let found = hunts(bug).into_iter().find_map(|hunt| {
            let since = Instant::now();
            let seen = (1..=self.seeds).into_par_iter().find_map_any(|seed| {
                if since.elapsed() > limit {
                    return None;
                }
                tried.fetch_add(1, Ordering::Relaxed);
                hunt.sees(seed)
            });
            seen.map(|what| (hunt.name(), what))
        });
        let (by, what) = found.clone().unwrap_or_else(|| ("NOBODY".to_owned(), String::new()));
        let mut line = format!("{:<24} | {by:<22} | {:>5}", format!("{bug:?}"), tried.into_inner());
        let short: String = what.lines().next().unwrap_or("").chars().take(100).collect();
        let _ = write!(line, " | {:>7.1} | {short}", start.elapsed().as_secs_f64());
        println!("{line}");
        found.is_some()
    }
}

/// What somebody sees though nothing is planted: who always cries catches everything.
fn false_alarm(bugs: &[Bug]) -> Option<String> {
    select(None);
    let mut all: Vec<Hunt> = Vec::new();
    for hunt in bugs.iter().flat_map(|bug| hunts(*bug)) {
        if !all.contains(&hunt) {
            all.push(hunt);
        }
    }
    let cases: Vec<(Hunt, u64)> =
        all.iter().flat_map(|hunt| (1..=SOUND_SEEDS).map(|seed| (*hunt, seed))).collect();
    cases.into_par_iter().find_map_any(|(hunt, seed)| {
        hunt.sees(seed).map(|what| format!("{} sees with seed {seed}: {what}", hunt.name()))
    })
}
