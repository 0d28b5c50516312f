//! The event loop: everything that happens, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::byzantine::Attack;
use super::checker::{Checker, Report, Violation};
use super::client::{Client, root_key};
pub(super) use super::config::SimConfig;
use super::config::{FaultKind, Span};
use super::event::{Event, Scheduled};
use super::host::{Clock, Host, MEMORY_BYTES, Running};
use super::intercept::Cast;
use super::linear::Sessions;
use super::mail::PostOffice;
use super::network::Network;
use super::probe::Probe;
use super::random::Random;
pub(super) use super::settle::DRAIN_US;
use super::setup::{draw_network, genesis, host_seeds};
use crate::committee::AuthoritySet;
use crate::error::StorageError;
use crate::genesis::Genesis;
use crate::node::{Input, Pace};
use crate::types::{AuthorityIndex, CommitIndex, Digest, LogSeq, OrgId, Round};

pub(super) const SECOND_US: u64 = 1_000_000;
/// Time between two looks at how far a run has come.
const STRIDE_US: u64 = 10 * SECOND_US;
/// Blocks that each validator's share of the DAG may come to: twice garbage collection's depth, the horizon for what is
/// ahead, and room for a committee that cannot commit for a while.
const SHARE_MAX: usize = 1_024;
/// Own blocks without a commit that are still bad luck.
const BARREN_BLOCKS_MAX: u64 = 512;

/// How far a host has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    commit: CommitIndex,
    own_round: Round,
    /// Own blocks made since that commit.
    barren: u64,
}

/// Hears each line of the trace.
pub type Observer = Box<dyn FnMut(&str) + Send>;

/// Runs one world to its end.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(seed: u64, config: &SimConfig) -> Result<Report, Violation> {
    run_cast(seed, config, Cast::default())
}

/// Runs one world to its end and tells what happens in it, one line each.
///
/// # Errors
/// The first thing that does not hold.
pub fn run_observed(seed: u64, config: &SimConfig, observer: Observer) -> Result<Report, Violation> {
    run_world(seed, config, Cast::default(), Some(observer))
}

/// Runs one world in which `cast` is not honest.
pub(super) fn run_cast(seed: u64, config: &SimConfig, cast: Cast) -> Result<Report, Violation> {
    run_world(seed, config, cast, None)
}

fn run_world(
    seed: u64,
    config: &SimConfig,
    cast: Cast,
    observer: Option<Observer>,
) -> Result<Report, Violation> {
    let mut world = World::new(seed, config, cast);
    world.observer = observer;
    world.boot_all()?;
    while world.now_us < config.duration_us && world.report.rounds < config.rounds {
        world.run_until(config.duration_us.min(world.now_us + STRIDE_US))?;
        world.forget();
    }
    if config.canary && seed % 100 == 37 {
        return Err(Violation::Canary);
    }
    world.heal()?;
    world.drain(DRAIN_US, SECOND_US / 4)?;
    world.finish()
}

pub(super) struct World {
    pub(super) config: SimConfig,
    pub(super) cast: Cast,
    pub(super) genesis: Arc<Genesis>,
    pub(super) random: Random,
    pub(super) network: Network,
    pub(super) post: PostOffice,
    /// One for each authority, then one for each twin.
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Vec<Client>,
    /// Callers whose histories are judged, instead of clients.
    pub(super) sessions: Option<Sessions>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub(super) now_us: u64,
    pub(super) loaded: bool,
    /// Hosts that clients turn to.
    pub(super) open: Vec<usize>,
    /// Hosts that lost what they had made durable, at some time.
    pub(super) hurt: BTreeSet<usize>,
    /// How far each host has come.
    progress: Vec<Progress>,
    /// When blocks were made, and transactions submitted.
    pub(super) probe: Probe,
    observer: Option<Observer>,
    pub(super) checker: Checker,
    trace: blake3::Hasher,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(seed: u64, config: &SimConfig, cast: Cast) -> Self {
        let mut random = Random::new(seed);
        let genesis = Arc::new(genesis(seed, config.validators, random.between(300, 3_000)));
        let network = config.network.unwrap_or_else(|| draw_network(&mut random, config));
        let single = Pace::default();
        let pace =
            Pace { beat_us: config.beat_rounds * single.beat_us, beat_rounds: config.beat_rounds, ..single };
        let skew = i64::try_from(config.clock_skew_ms).unwrap_or(i64::MAX);
        let hosts: Vec<Host> = (0..config.validators)
            .chain(cast.twins.iter().copied())
            .map(|authority| {
                let offset_ms = random.between(0, 2 * config.clock_skew_ms).cast_signed() - skew;
                let drift = if config.may(FaultKind::Drift) { 10_000 } else { 0 };
                let drift_ppm = random.between(0, 2 * drift).cast_signed() - drift.cast_signed();
                let clock = Clock { offset_ms, drift_ppm, most_ms: skew };
                Host::new(authority, Arc::clone(&genesis), host_seeds(seed, authority), pace, clock, config)
            })
            .collect();
        let orgs: Vec<OrgId> = genesis.members().map(|(org, _)| org).collect();
        let clients = orgs
            .iter()
            .take(config.clients)
            .map(|org| {
                let peers = orgs.iter().filter(|other| *other != org).copied().collect();
                let mut client = Client::new(genesis.network(), *org, &root_key(seed, *org), peers);
                client.manners.window = config.window;
                client
            })
            .collect();
        Self {
            network: Network::new(network, hosts.len()),
            config: config.clone(),
            cast,
            post: PostOffice::new(genesis.committee()),
            genesis,
            random,
            clients,
            sessions: None,
            queue: BinaryHeap::new(),
            order: 0,
            now_us: 0,
            loaded: true,
            open: (0..hosts.len()).filter(|host| !never_runs(config, *host)).collect(),
            hurt: BTreeSet::new(),
            progress: vec![Progress::default(); hosts.len()],
            probe: Probe::default(),
            observer: None,
            hosts,
            checker: Checker::default(),
            trace: blake3::Hasher::new(),
            report: Report::default(),
        }
    }

    pub(super) fn schedule(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at_us: at_us.max(self.now_us), order: self.order, event }));
    }

    pub(super) fn after(&mut self, low_us: u64, high_us: u64, event: Event) {
        let delay = self.random.between(low_us, high_us);
        self.schedule(self.now_us + delay, event);
    }

    pub(super) fn after_span(&mut self, (low_us, high_us): Span, event: Event) {
        self.after(low_us, high_us, event);
    }

    pub(super) fn boot_all(&mut self) -> Result<(), Violation> {
        for host in self.open.clone() {
            self.start(host)?;
        }
        for host in 0..self.config.lossy {
            self.network.lossy(host, self.config.lossy_per_mille);
        }
        if self.config.may(FaultKind::Drift) {
            self.report.drifting += self.hosts.len() as u64;
        }
        let upgraded = if self.config.upgrade { self.hosts.len() } else { 0 };
        let step = self.config.duration_us / (self.hosts.len() as u64 + 1);
        for host in 0..upgraded {
            self.schedule(step * (host as u64 + 1), Event::Upgrade { host });
        }
        for client in 0..self.clients.len() {
            self.after(0, SECOND_US, Event::Load { client });
        }
        for caller in self.sessions.as_ref().map_or(0..0, Sessions::callers) {
            self.after(0, SECOND_US, Event::Session { caller });
        }
        if self.config.faults {
            self.after(SECOND_US, 4 * SECOND_US, Event::Fault);
        }
        Ok(())
    }

    pub(super) fn run_until(&mut self, end_us: u64) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at_us > end_us {
                break;
            }
            let Some(Reverse(Scheduled { at_us, event, .. })) = self.queue.pop() else { break };
            self.now_us = at_us;
            self.report.events += 1;
            self.happen(event)?;
        }
        self.now_us = self.now_us.max(end_us);
        Ok(())
    }

    /// Lets go of what is only kept to compare, in runs too long for it.
    fn forget(&mut self) {
        if self.config.keep_log {
            return;
        }
        let stats =
            self.hosts.iter().filter_map(|host| host.running.as_ref()).map(|running| running.node.stats());
        let low =
            stats.map(|stats| (stats.executed, stats.own_round)).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
        if let Some((commit, round)) = low {
            self.checker.forget_below(commit, round);
            self.post.forget_below(round);
        }
    }

    /// Looks at how much a validator holds and how far it comes.
    pub(super) fn watch(&mut self, host: usize) -> Result<(), Violation> {
        let stats = self.running(host).node.stats();
        let report = &mut self.report;
        report.dag_blocks_max = report.dag_blocks_max.max(stats.dag_blocks);
        report.bytes_max = report.bytes_max.max(stats.memory_bytes);
        report.suspended_max = report.suspended_max.max(stats.suspended);
        report.pool_max = report.pool_max.max(stats.mempool);
        report.rounds = report.rounds.max(stats.own_round.0);
        let limit = SHARE_MAX * self.config.validators;
        if stats.dag_blocks > limit || stats.suspended > limit {
            let (blocks, suspended) = (stats.dag_blocks, stats.suspended);
            return Err(Violation::Memory { host, blocks, suspended, limit });
        }
        if stats.memory_bytes > MEMORY_BYTES && self.is_honest(host) {
            return Err(Violation::Bytes { host, bytes: stats.memory_bytes, limit: MEMORY_BYTES });
        }
        // Blocks and not rounds: who comes back makes its next block as many rounds later as it was away.
        let Progress { commit, own_round, barren } = &mut self.progress[host];
        *barren =
            if *commit == stats.commit { *barren + u64::from(*own_round != stats.own_round) } else { 0 };
        (*commit, *own_round) = (stats.commit, stats.own_round);
        let blocks = *barren;
        if blocks > BARREN_BLOCKS_MAX && self.is_honest(host) {
            return Err(Violation::Burns { host, blocks });
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Report, Violation> {
        let head = self.checker.last().copied();
        if !self.cast.twins.is_empty() {
            self.report.lies.insert(Attack::StolenKey, self.cast.twins.len() as u64);
        }
        for adversary in self.cast.intercepts.values() {
            for (attack, times) in adversary.lies() {
                *self.report.lies.entry(attack).or_default() += times;
            }
        }
        self.report.convicted = self.convicted()?;
        self.report.trace = Digest(self.trace.finalize().into());
        self.report.simulated_us = self.now_us;
        self.report.commits = head.map_or(0, |head| head.commit.0);
        self.report.leaves = head.map_or(0, |head| head.tree_size);
        self.report.acknowledged = self.checker.acknowledged().len() as u64;
        self.report.lost_messages = self.network.lost;
        self.report.replayed_messages = self.network.replayed;
        Ok(self.report)
    }

    /// Counts the validators that all honest ones hold proof against. None of them may be honest.
    fn convicted(&self) -> Result<u64, Violation> {
        let mut by_all: Option<AuthoritySet> = None;
        for host in (0..self.hosts.len()).filter(|host| self.is_honest(*host)) {
            let Some(running) = &self.hosts[host].running else { continue };
            let accused = running.node.stats().equivocators;
            if let Some(honest) = accused.iter().find(|accused| !self.cast.is_liar(accused.as_usize())) {
                let what = format!("holds evidence against validator {honest}");
                return Err(Violation::Host { host, what });
            }
            by_all = Some(by_all.map_or(accused, |others| others.intersection(accused)));
        }
        Ok(by_all.map_or(0, |all| all.len() as u64))
    }

    /// Whose keys a host has.
    pub(super) fn authority(&self, host: usize) -> AuthorityIndex {
        AuthorityIndex::from_usize(self.hosts[host].authority)
    }

    /// Whether what a host does is to be checked.
    pub(super) fn is_honest(&self, host: usize) -> bool {
        !self.cast.is_liar(self.hosts[host].authority)
    }

    /// The hosts that have an authority's keys.
    pub(super) fn hosts_of(&self, authority: usize) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].authority == authority).collect()
    }

    /// The hosts of other authorities.
    pub(super) fn peers_of(&self, host: usize) -> Vec<usize> {
        let own = self.hosts[host].authority;
        (0..self.hosts.len()).filter(|peer| self.hosts[*peer].authority != own).collect()
    }

    /// Adds to the trace.
    pub(super) fn note(&mut self, what: &str, host: usize, detail: &[u8]) {
        self.trace.update(&self.now_us.to_be_bytes());
        self.trace.update(&(host as u64).to_be_bytes());
        self.trace.update(what.as_bytes());
        self.trace.update(detail);
        if self.observer.is_some() {
            let shown = &detail[detail.len().saturating_sub(8)..];
            self.observe(&format!("{what} {host} {}", hex::encode(shown)));
        }
    }

    fn observe(&mut self, line: &str) {
        let (seconds, micros) = (self.now_us / SECOND_US, self.now_us % SECOND_US);
        if let Some(observer) = &mut self.observer {
            observer(&format!("{seconds:>6}.{micros:06}  {line}"));
        }
    }

    /// Whether a validator still lives the life that something was scheduled in.
    pub(super) fn lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].running.is_some()
    }

    fn is_due(&self, host: usize) -> bool {
        self.hosts[host].running.as_ref().is_some_and(|running| running.tick_us == Some(self.now_us))
    }

    pub(super) fn running(&mut self, host: usize) -> &mut Running {
        self.hosts[host].running.as_mut().unwrap_or_else(|| unreachable!("checked to be running"))
    }

    fn may_start(&self, host: usize) -> bool {
        self.hosts[host].running.is_none()
            && !never_runs(&self.config, host)
            && (self.loaded || self.open.contains(&host))
    }

    fn synced(&mut self, host: usize, synced: Result<LogSeq, StorageError>) -> Result<(), Violation> {
        match synced {
            Ok(durable) => self.handle(host, Input::Synced(durable)),
            Err(error) => self.disk_failed(host, &error),
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        if self.observer.is_some()
            && let Some(line) = event.describe()
        {
            self.observe(&line);
        }
        match event {
            Event::Deliver { from, to, letter } => self.deliver(from, to, &letter),
            Event::PeerUp { host, life, peer }
                if self.lives(host, life) && self.hosts[peer].running.is_some() =>
            {
                let version = self.hosts[peer].protocol;
                self.handle(host, Input::PeerUp { peer: self.authority(peer), version })
            }
            Event::PeerDown { host, life, peer }
                if self.lives(host, life) && self.hosts[peer].running.is_none() =>
            {
                self.handle(host, Input::PeerDown(self.authority(peer)))
            }
            // Of several timers only the one that was set last counts.
            Event::Tick { host, life } if self.lives(host, life) && self.is_due(host) => {
                self.running(host).tick_us = None;
                self.unasked(host);
                self.handle(host, Input::Tick)
            }
            Event::Sync { host, life } if self.lives(host, life) => {
                let synced = self.running(host).sync();
                self.synced(host, synced)
            }
            Event::Verified { host, life, block, verdicts } if self.lives(host, life) => {
                self.handle(host, Input::Verified { block, verdicts })
            }
            Event::Execute { host, life, dag } if self.lives(host, life) => self.execute(host, life, &dag),
            Event::Executed { host, life, executed } if self.lives(host, life) => {
                self.handle(host, Input::Executed(executed))
            }
            Event::Persist { host, life } if self.lives(host, life) => {
                self.hosts[host].persist().map_err(|error| storage(host, &error))?;
                self.after(500_000, 3 * SECOND_US, Event::Persist { host, life });
                Ok(())
            }
            Event::Submit { client, request, host } => self.submit(client, request, host),
            Event::Reply { client, request, reply } => self.reply(client, request, reply),
            Event::Load { client } => {
                self.load(client);
                Ok(())
            }
            Event::Session { caller } => {
                self.session(caller);
                Ok(())
            }
            Event::Read { caller, ask, host } => self.read(caller, ask, host),
            Event::Fault => self.fault(),
            Event::Start { host } if self.may_start(host) => self.start(host),
            Event::Upgrade { host } => {
                self.upgrade(host);
                Ok(())
            }
            Event::PeerUp { .. }
            | Event::PeerDown { .. }
            | Event::Tick { .. }
            | Event::Sync { .. }
            | Event::Verified { .. }
            | Event::Execute { .. }
            | Event::Executed { .. }
            | Event::Persist { .. }
            | Event::Start { .. } => Ok(()),
        }
    }
}

pub(super) fn storage(host: usize, error: &StorageError) -> Violation {
    Violation::Host { host, what: format!("storage: {error}") }
}

/// Whether a host is one of those that are down for the whole run.
pub(super) fn never_runs(config: &SimConfig, host: usize) -> bool {
    (config.validators - config.down..config.validators).contains(&host)
}
