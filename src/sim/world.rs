//! The event loop: everything that happens, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::byzantine::Attack;
use super::checker::{Checker, Report, Violation};
use super::client::{Client, root_key};
use super::event::{Event, Scheduled};
use super::host::{Host, Running};
use super::intercept::Cast;
use super::linear::Sessions;
use super::mail::PostOffice;
use super::network::{Network, NetworkConfig};
use super::random::Random;
use super::setup::{draw_network, genesis, host_seeds};
use crate::committee::AuthoritySet;
use crate::genesis::Genesis;
use crate::node::{Input, Pace};
use crate::types::{AuthorityIndex, Digest, OrgId, PROTOCOL_VERSION};

pub(super) const SECOND_US: u64 = 1_000_000;
/// Quiet time at the end of the faults' phase in which everything has to become final.
pub(super) const DRAIN_US: u64 = 60 * SECOND_US;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Number of validators, all of the same stake.
    pub validators: usize,
    /// Simulated time with faults and load, microseconds. Then the faults stop, and what was submitted has to become final.
    pub duration_us: u64,
    /// The network; `None` draws it from the seed: up to 30 % loss, up to 20 % replay, delays from 0.2 to 100 ms.
    pub network: Option<NetworkConfig>,
    /// Whether validators are stopped, all at once too, and the network is cut.
    pub faults: bool,
    /// Largest difference of a clock from the true time, milliseconds.
    pub clock_skew_ms: u64,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self { validators: 4, duration_us: 60 * SECOND_US, network: None, faults: true, clock_skew_ms: 5_000 }
    }
}

/// Runs one world to its end.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(seed: u64, config: &SimConfig) -> Result<Report, Violation> {
    run_cast(seed, config, Cast::default())
}

/// Runs one world in which `cast` is not honest.
pub(super) fn run_cast(seed: u64, config: &SimConfig, cast: Cast) -> Result<Report, Violation> {
    let mut world = World::new(seed, config, cast);
    world.boot_all()?;
    world.run_until(config.duration_us)?;
    world.heal()?;
    world.drain(DRAIN_US, SECOND_US / 2)?;
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
    pub(super) checker: Checker,
    trace: blake3::Hasher,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(seed: u64, config: &SimConfig, cast: Cast) -> Self {
        let mut random = Random::new(seed);
        let genesis = Arc::new(genesis(seed, config.validators));
        let network = config.network.unwrap_or_else(|| draw_network(&mut random));
        let pace = Pace::default();
        let skew = i64::try_from(config.clock_skew_ms).unwrap_or(i64::MAX);
        let hosts: Vec<Host> = (0..config.validators)
            .chain(cast.twins.iter().copied())
            .map(|authority| {
                let offset = random.between(0, 2 * config.clock_skew_ms).cast_signed() - skew;
                Host::new(authority, Arc::clone(&genesis), host_seeds(seed, authority), pace, offset)
            })
            .collect();
        let orgs: Vec<OrgId> = genesis.members().map(|(org, _)| org).collect();
        let clients = orgs
            .iter()
            .map(|org| {
                let peers = orgs.iter().filter(|other| *other != org).copied().collect();
                Client::new(genesis.network(), *org, &root_key(seed, *org), peers)
            })
            .collect();
        Self {
            network: Network::new(network, hosts.len()),
            config: config.clone(),
            cast,
            post: PostOffice::new(genesis.committee()),
            genesis,
            random,
            hosts,
            clients,
            sessions: None,
            queue: BinaryHeap::new(),
            order: 0,
            now_us: 0,
            loaded: true,
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

    pub(super) fn boot_all(&mut self) -> Result<(), Violation> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
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

    /// Ends the faults: the network is whole and everybody runs.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.network.heal();
        self.loaded = false;
        for host in 0..self.hosts.len() {
            if self.hosts[host].running.is_none() {
                self.start(host)?;
            }
        }
        Ok(())
    }

    /// Waits until everything submitted is final and all validators are through with it, and looks at it every `step_us`.
    pub(super) fn drain(&mut self, most_us: u64, step_us: u64) -> Result<(), Violation> {
        let start = self.now_us;
        while self.waiting() > 0 || !self.is_settled()? {
            if self.now_us >= start + most_us {
                return Err(Violation::Stuck {
                    waiting: self.waiting(),
                    after_s: (self.now_us - start) / SECOND_US,
                    state: self.describe(),
                });
            }
            self.run_until(self.now_us + step_us)?;
        }
        Ok(())
    }

    pub(super) fn waiting(&self) -> usize {
        let sessions = self.sessions.as_ref().map_or(0, Sessions::waiting);
        self.clients.iter().map(Client::waiting).sum::<usize>() + sessions
    }

    /// Whether every validator holds everything that was acknowledged, where it was said to be.
    fn is_settled(&self) -> Result<bool, Violation> {
        for (index, host) in self.hosts.iter().enumerate().filter(|(index, _)| self.is_honest(*index)) {
            let Some(running) = &host.running else { return Ok(false) };
            for (id, leaf) in self.checker.acknowledged() {
                match running.leaf_of(id).map_err(|error| storage(index, &error))? {
                    None => return Ok(false),
                    Some(found) if found == *leaf => {}
                    Some(_) => return Err(Violation::Lost { id: *id, leaf: *leaf, host: index }),
                }
            }
        }
        Ok(true)
    }

    fn describe(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .enumerate()
            .map(|(host, of)| match &of.running {
                Some(running) => format!("validator {host}: {:?}", running.node.stats()),
                None => format!("validator {host}: down"),
            })
            .collect();
        hosts.join("; ")
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
    pub(super) fn note(&mut self, what: &[u8], host: usize, detail: &[u8]) {
        self.trace.update(&self.now_us.to_be_bytes());
        self.trace.update(&(host as u64).to_be_bytes());
        self.trace.update(what);
        self.trace.update(detail);
    }

    /// Whether a validator still lives the life that something was scheduled in.
    fn lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].running.is_some()
    }

    fn is_due(&self, host: usize) -> bool {
        self.hosts[host].running.as_ref().is_some_and(|running| running.tick_us == Some(self.now_us))
    }

    pub(super) fn running(&mut self, host: usize) -> &mut Running {
        self.hosts[host].running.as_mut().unwrap_or_else(|| unreachable!("checked to be running"))
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, letter } => self.deliver(from, to, &letter),
            Event::PeerUp { host, life, peer }
                if self.lives(host, life) && self.hosts[peer].running.is_some() =>
            {
                let peer = self.authority(peer);
                self.handle(host, Input::PeerUp { peer, version: PROTOCOL_VERSION })
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
                let durable = self.running(host).sync().map_err(|error| storage(host, &error))?;
                self.handle(host, Input::Synced(durable))
            }
            Event::Verified { host, life, block, verdicts } if self.lives(host, life) => {
                self.handle(host, Input::Verified { block, verdicts })
            }
            Event::Execute { host, life, dag } if self.lives(host, life) => self.execute(host, life, &dag),
            Event::Executed { host, life, executed } if self.lives(host, life) => {
                self.handle(host, Input::Executed(executed))
            }
            Event::Persist { host, life } if self.lives(host, life) => {
                self.hosts[host].persist();
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
            Event::Start { host } if self.hosts[host].running.is_none() => self.start(host),
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

pub(super) fn storage(host: usize, error: &crate::error::StorageError) -> Violation {
    Violation::Host { host, what: format!("storage: {error}") }
}
