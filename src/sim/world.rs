//! The event loop: everything that happens, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use super::checker::{Checker, Report, Violation};
use super::client::{Client, root_key};
use super::event::{Answer, Event, Scheduled};
use super::host::{Host, Running};
use super::network::{Network, NetworkConfig};
use super::random::Random;
use super::setup::{draw_network, genesis, host_seeds};
use crate::dag::VerifiedHeader;
use crate::error::ClientError;
use crate::execute::{Outcome, SubDag};
use crate::genesis::Genesis;
use crate::mempool::Ticket;
use crate::node::{Effect, Input, Pace, Reply};
use crate::types::{AuthorityIndex, Digest, LogSeq, OrgId, Payload, PeerMessage, frame_head};

const SECOND_US: u64 = 1_000_000;
/// Quiet time at the end of the faults' phase in which everything has to become final.
const DRAIN_US: u64 = 60 * SECOND_US;

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
    let mut world = World::new(seed, config);
    world.boot_all()?;
    world.run_until(config.duration_us)?;
    world.heal()?;
    world.drain()?;
    world.finish()
}

struct World {
    config: SimConfig,
    genesis: Arc<Genesis>,
    random: Random,
    network: Network,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    now_us: u64,
    loaded: bool,
    checker: Checker,
    trace: blake3::Hasher,
    report: Report,
}

impl World {
    fn new(seed: u64, config: &SimConfig) -> Self {
        let mut random = Random::new(seed);
        let genesis = Arc::new(genesis(seed, config.validators));
        let network = config.network.unwrap_or_else(|| draw_network(&mut random));
        let pace = Pace { leader_timeout_us: 4 * network.delay_max_us + 100_000, ..Pace::default() };
        let skew = i64::try_from(config.clock_skew_ms).unwrap_or(i64::MAX);
        let hosts = (0..config.validators)
            .map(|i| {
                let offset = random.between(0, 2 * config.clock_skew_ms).cast_signed() - skew;
                Host::new(i, Arc::clone(&genesis), host_seeds(seed, i), pace, offset)
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
            network: Network::new(network, config.validators),
            config: config.clone(),
            genesis,
            random,
            hosts,
            clients,
            queue: BinaryHeap::new(),
            order: 0,
            now_us: 0,
            loaded: true,
            checker: Checker::default(),
            trace: blake3::Hasher::new(),
            report: Report::default(),
        }
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at_us: at_us.max(self.now_us), order: self.order, event }));
    }

    fn after(&mut self, low_us: u64, high_us: u64, event: Event) {
        let delay = self.random.between(low_us, high_us);
        self.schedule(self.now_us + delay, event);
    }

    fn boot_all(&mut self) -> Result<(), Violation> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        for client in 0..self.clients.len() {
            self.after(0, SECOND_US, Event::Load { client });
        }
        if self.config.faults {
            self.after(SECOND_US, 4 * SECOND_US, Event::Fault);
        }
        Ok(())
    }

    fn run_until(&mut self, end_us: u64) -> Result<(), Violation> {
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
    fn heal(&mut self) -> Result<(), Violation> {
        self.network.heal();
        self.loaded = false;
        for host in 0..self.hosts.len() {
            if self.hosts[host].running.is_none() {
                self.start(host)?;
            }
        }
        Ok(())
    }

    /// Waits until everything submitted is final and all validators are through with it.
    fn drain(&mut self) -> Result<(), Violation> {
        let start = self.now_us;
        while self.waiting() > 0 || !self.is_settled()? {
            if self.now_us >= start + DRAIN_US {
                return Err(Violation::Stuck {
                    waiting: self.waiting(),
                    after_s: (self.now_us - start) / SECOND_US,
                    state: self.describe(),
                });
            }
            self.run_until(self.now_us + SECOND_US / 2)?;
        }
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.clients.iter().map(Client::waiting).sum()
    }

    /// Whether every validator holds everything that was acknowledged, where it was said to be.
    fn is_settled(&self) -> Result<bool, Violation> {
        for host in &self.hosts {
            let Some(running) = &host.running else { return Ok(false) };
            for (id, leaf) in self.checker.acknowledged() {
                match running.leaf_of(id).map_err(|error| storage(host.index, &error))? {
                    None => return Ok(false),
                    Some(found) if found == *leaf => {}
                    Some(_) => return Err(Violation::Lost { id: *id, leaf: *leaf, host: host.index }),
                }
            }
        }
        Ok(true)
    }

    fn describe(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| match &host.running {
                Some(running) => format!("validator {}: {:?}", host.index, running.node.stats()),
                None => format!("validator {}: down", host.index),
            })
            .collect();
        hosts.join("; ")
    }

    fn finish(mut self) -> Result<Report, Violation> {
        let head = self.checker.last().copied();
        self.report.trace = Digest(self.trace.finalize().into());
        self.report.simulated_us = self.now_us;
        self.report.commits = head.map_or(0, |head| head.commit.0);
        self.report.leaves = head.map_or(0, |head| head.tree_size);
        self.report.acknowledged = self.checker.acknowledged().len() as u64;
        self.report.lost_messages = self.network.lost;
        self.report.replayed_messages = self.network.replayed;
        Ok(self.report)
    }

    fn start(&mut self, host: usize) -> Result<(), Violation> {
        self.hosts[host].start().map_err(|error| storage(host, &error))?;
        self.note(b"start", host, &[]);
        let life = self.hosts[host].life;
        self.after(500_000, 3 * SECOND_US, Event::Persist { host, life });
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            if self.hosts[peer].running.is_some() {
                let peer_life = self.hosts[peer].life;
                self.after(1_000, 50_000, Event::PeerUp { host, life, peer });
                self.after(1_000, 50_000, Event::PeerUp { host: peer, life: peer_life, peer: host });
            }
        }
        self.handle(host, Input::Tick)
    }

    fn crash(&mut self, host: usize) {
        self.hosts[host].crash(&mut self.random);
        self.note(b"crash", host, &[]);
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            let life = self.hosts[peer].life;
            if self.hosts[peer].running.is_some() {
                self.after(1_000, SECOND_US, Event::PeerDown { host: peer, life, peer: host });
            }
        }
    }

    /// Adds to the trace.
    fn note(&mut self, what: &[u8], host: usize, detail: &[u8]) {
        self.trace.update(&self.now_us.to_be_bytes());
        self.trace.update(&(host as u64).to_be_bytes());
        self.trace.update(what);
        self.trace.update(detail);
    }

    /// Whether a validator still lives the life that something was scheduled in.
    fn lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].running.is_some()
    }

    fn running(&mut self, host: usize) -> &mut Running {
        self.hosts[host].running.as_mut().unwrap_or_else(|| unreachable!("checked to be running"))
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, kind, body } => self.deliver(from, to, kind, body),
            Event::PeerUp { host, life, peer }
                if self.lives(host, life) && self.hosts[peer].running.is_some() =>
            {
                self.handle(host, Input::PeerUp(AuthorityIndex::from_usize(peer)))
            }
            Event::PeerDown { host, life, peer }
                if self.lives(host, life) && self.hosts[peer].running.is_none() =>
            {
                self.handle(host, Input::PeerDown(AuthorityIndex::from_usize(peer)))
            }
            Event::Tick { host, life } if self.lives(host, life) => {
                self.running(host).tick_us = None;
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

    fn deliver(&mut self, from: usize, to: usize, kind: u8, body: Bytes) -> Result<(), Violation> {
        if self.hosts[to].running.is_none() {
            return Ok(());
        }
        let blame =
            |what: String| Violation::Host { host: to, what: format!("blames validator {from}: {what}") };
        let message = PeerMessage::decode(kind, body).map_err(|error| blame(error.to_string()))?;
        let peer = AuthorityIndex::from_usize(from);
        let committee = self.genesis.committee();
        let verify =
            |header| VerifiedHeader::verify(&committee, header).map_err(|error| blame(error.to_string()));
        let input = match message {
            PeerMessage::Header(header) => Input::Headers(vec![verify(header)?]),
            PeerMessage::Headers(headers) => {
                Input::Headers(headers.into_iter().map(verify).collect::<Result<_, _>>()?)
            }
            PeerMessage::Payload { block, bytes } => {
                let payload = Payload::decode(bytes).map_err(|error| blame(error.to_string()))?;
                Input::Payload { from: peer, block, payload: Arc::new(payload) }
            }
            PeerMessage::Fetch(request) => Input::Fetch { from: peer, request },
        };
        self.handle(to, input)
    }

    fn handle(&mut self, host: usize, input: Input) -> Result<(), Violation> {
        let now = self.hosts[host].now(self.now_us);
        let mut effects = Vec::new();
        self.running(host).node.handle(now, input, &mut effects);
        for effect in effects {
            self.carry_out(host, effect)?;
        }
        let Some(at) = self.running(host).node.next_timeout(now) else { return Ok(()) };
        if self.running(host).tick_us.is_none_or(|scheduled| at < scheduled) {
            let (at, life) = (at.max(self.now_us + 1), self.hosts[host].life);
            self.running(host).tick_us = Some(at);
            self.schedule(at, Event::Tick { host, life });
        }
        let blocks = self.running(host).node.stats().dag_blocks;
        self.report.dag_blocks_max = self.report.dag_blocks_max.max(blocks);
        Ok(())
    }

    fn carry_out(&mut self, host: usize, effect: Effect) -> Result<(), Violation> {
        let life = self.hosts[host].life;
        match effect {
            Effect::Send { to, message } => self.send(host, to.as_usize(), &message),
            Effect::Broadcast(message) => {
                if let PeerMessage::Header(header) = &message {
                    self.checker.sent(host, &header.reference())?;
                }
                for to in (0..self.hosts.len()).filter(|to| *to != host) {
                    self.send(host, to, &message);
                }
            }
            Effect::Append { seq, record } => {
                self.note(b"append", host, &seq.0.to_be_bytes());
                self.running(host).append(seq, &record).map_err(|error| storage(host, &error))?;
            }
            Effect::Sync(LogSeq(_)) => {
                // A disk that hangs now and then leaves much in flight for a crash to cut off.
                let most = if self.random.chance(30) { 400_000 } else { 5_000 };
                self.after(100, most, Event::Sync { host, life });
            }
            Effect::Verify { block, payload } => {
                let genesis = Arc::clone(&self.genesis);
                let verdicts = self.running(host).verify(&genesis, &payload);
                self.after(100, 10_000, Event::Verified { host, life, block, verdicts });
            }
            Effect::Execute(dag) => {
                let start = self.running(host).executor_free_us.max(self.now_us);
                let done = start + self.random.between(50, 2_000);
                self.running(host).executor_free_us = done;
                self.schedule(done, Event::Execute { host, life, dag: Box::new(dag) });
            }
            Effect::ServeFromLog { to, request } => {
                let answers = self.running(host).serve(&request).map_err(|error| storage(host, &error))?;
                for answer in answers {
                    self.send(host, to.as_usize(), &answer);
                }
            }
            Effect::Reply { ticket, reply } => {
                let client = usize::try_from(ticket.client).unwrap_or(usize::MAX);
                self.after(
                    100,
                    20_000,
                    Event::Reply { client, request: ticket.request, reply: Answer::Node(reply) },
                );
            }
            Effect::Publish(head) => {
                self.report.checkpoints += 1;
                self.note(b"publish", host, &head.certified.checkpoint.root.0);
            }
            Effect::Blame { peer, error } => {
                return Err(Violation::Host { host, what: format!("blames validator {peer}: {error}") });
            }
            Effect::Halt(what) => return Err(Violation::Host { host, what: format!("halts: {what}") }),
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize, message: &PeerMessage) {
        let frame = message.encode();
        let head: [u8; 5] = std::array::from_fn(|i| frame.head[i]);
        let (kind, _) =
            frame_head(head).unwrap_or_else(|error| panic!("an honest frame is refused: {error}"));
        let body = if frame.head.len() == head.len() {
            frame.tail
        } else {
            let mut body = frame.head[head.len()..].to_vec();
            body.extend_from_slice(&frame.tail);
            body.into()
        };
        for at in self.network.arrivals(&mut self.random, self.now_us, from, to) {
            self.schedule(at, Event::Deliver { from, to, kind, body: body.clone() });
        }
    }

    fn execute(&mut self, host: usize, life: u64, dag: &SubDag) -> Result<(), Violation> {
        self.checker.ordered(host, dag)?;
        let executed = self.running(host).execute(dag).map_err(|error| storage(host, &error))?;
        self.checker.executed(dag, &executed)?;
        self.note(b"execute", host, &executed.head.root.0);
        self.schedule(self.now_us, Event::Executed { host, life, executed: Box::new(executed) });
        Ok(())
    }

    fn load(&mut self, client: usize) {
        if !self.loaded && self.clients[client].waiting() == 0 {
            return;
        }
        let wall = self.hosts[0].now(self.now_us).wall;
        let mut requests = self.clients[client].overdue(self.now_us);
        if self.loaded {
            requests.extend(self.clients[client].make(&mut self.random, self.now_us, wall));
        }
        for request in requests {
            let host = self.random.index(self.hosts.len());
            self.after(100, 20_000, Event::Submit { client, request, host });
            // Sometimes to a second validator too: executed once all the same.
            if self.random.chance(50) {
                let host = self.random.index(self.hosts.len());
                self.after(100, 20_000, Event::Submit { client, request, host });
            }
        }
        self.after(5_000, 150_000, Event::Load { client });
    }

    fn submit(&mut self, client: usize, request: u64, host: usize) -> Result<(), Violation> {
        let Some((tx, id)) =
            self.clients[client].get(request).map(|waiting| (waiting.tx.clone(), waiting.id))
        else {
            return Ok(());
        };
        if self.hosts[host].running.is_none() {
            return Ok(());
        }
        let wall = self.hosts[host].now(self.now_us).wall;
        let genesis = Arc::clone(&self.genesis);
        let ticket = Ticket { client: client as u64, request };
        let reply = match self.running(host).admit(&genesis, wall, tx.bytes().clone(), ticket) {
            Ok(pooled) => return self.handle(host, Input::Transactions(vec![pooled])),
            Err(ClientError::Replayed(seq)) => {
                match self.running(host).leaf_of(&id).map_err(|error| storage(host, &error))? {
                    Some(leaf) => Answer::Known(leaf),
                    None => Answer::Refused(ClientError::Replayed(seq)),
                }
            }
            Err(error) => Answer::Refused(error),
        };
        self.after(100, 20_000, Event::Reply { client, request, reply });
        Ok(())
    }

    fn reply(&mut self, client: usize, request: u64, reply: Answer) -> Result<(), Violation> {
        let leaf = match reply {
            Answer::Known(leaf)
            | Answer::Node(Reply::Final(Outcome::Executed { leaf, .. } | Outcome::Duplicate { leaf })) => {
                leaf
            }
            Answer::Node(Reply::Accepted) => return Ok(()),
            Answer::Node(Reply::Busy) => {
                self.clients[client].refused(request, self.now_us);
                return Ok(());
            }
            Answer::Node(Reply::Final(Outcome::Skipped(reason))) => {
                return match self.clients[client].get(request) {
                    Some(waiting) => Err(Violation::Outcome(waiting.id, format!("skipped: {reason:?}"))),
                    None => Ok(()),
                };
            }
            // A validator that has not caught up does not know the key yet.
            Answer::Refused(ClientError::UnknownKey { .. } | ClientError::Busy) => {
                self.clients[client].refused(request, self.now_us);
                return Ok(());
            }
            Answer::Refused(error) => {
                return match self.clients[client].get(request) {
                    Some(waiting) => Err(Violation::Outcome(waiting.id, format!("refused: {error}"))),
                    None => Ok(()),
                };
            }
        };
        if let Some(id) = self.clients[client].done(request, leaf) {
            self.note(b"final", client, &id.0);
            self.checker.acknowledge(id, leaf)?;
        }
        Ok(())
    }

    /// Something breaks; later it is whole again.
    fn fault(&mut self) -> Result<(), Violation> {
        if !self.loaded {
            return Ok(());
        }
        let n = self.hosts.len();
        match self.random.below(10) {
            0 => {
                self.report.blackouts += 1;
                for host in 0..n {
                    self.crash(host);
                    self.after(100_000, 2 * SECOND_US, Event::Start { host });
                }
            }
            1..=4 => {
                let host = self.random.index(n);
                if self.hosts[host].running.is_some() {
                    self.report.restarts += 1;
                    self.crash(host);
                    self.after(50_000, 8 * SECOND_US, Event::Start { host });
                }
            }
            5..=7 => {
                self.report.partitions += 1;
                let mut group: Vec<usize> = (0..n).filter(|_| self.random.chance(400)).collect();
                if group.is_empty() {
                    group.push(self.random.index(n));
                }
                let both_ways = self.random.chance(600);
                self.network.cut(&group, both_ways);
            }
            _ => self.network.join(),
        }
        self.after(SECOND_US / 2, 5 * SECOND_US, Event::Fault);
        Ok(())
    }
}

fn storage(host: usize, error: &crate::error::StorageError) -> Violation {
    Violation::Host { host, what: format!("storage: {error}") }
}
