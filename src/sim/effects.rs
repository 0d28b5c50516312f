//! Carries out what the nodes ask for, and brings them what comes of it.

use std::sync::Arc;

use super::checker::Violation;
use super::event::{Answer, Event};
use super::intercept::{Outgoing, View};
use super::mail::Letter;
use super::world::{World, storage};
use crate::execute::SubDag;
use crate::node::{Effect, Input, LogRecord};
use crate::types::{AuthorityIndex, EquivocationProof, HEADER_VERSION, LogSeq, PeerMessage};

impl World {
    pub(super) fn handle(&mut self, host: usize, input: Input) -> Result<(), Violation> {
        let now = self.hosts[host].now(self.now_us);
        let life = self.hosts[host].life;
        let mut effects = Vec::new();
        self.running(host).node.handle(now, input, &mut effects);
        for effect in effects {
            self.carry_out(host, effect)?;
            if !self.lives(host, life) {
                // Its disk failed meanwhile.
                return Ok(());
            }
        }
        self.watch(host)?;
        let Some(at) = self.running(host).node.next_timeout(now) else { return Ok(()) };
        if self.running(host).tick_us.is_none_or(|scheduled| at < scheduled) {
            let (at, life) = (at.max(self.now_us + 1), self.hosts[host].life);
            self.running(host).tick_us = Some(at);
            self.schedule(at, Event::Tick { host, life });
        }
        Ok(())
    }

    fn carry_out(&mut self, host: usize, effect: Effect) -> Result<(), Violation> {
        let life = self.hosts[host].life;
        match effect {
            Effect::Send { to, message } => self.send_to(host, to, &message)?,
            Effect::Broadcast(message) => {
                let own = self.authority(host);
                let others = (0..self.hosts.len()).filter(|to| self.authority(*to) != own);
                self.send(host, &others.collect::<Vec<_>>(), &message)?;
            }
            Effect::Append { seq, record } => {
                self.note("append", host, &seq.0.to_be_bytes());
                self.measure_record(host, &record);
                if let LogRecord::Header(header) = &record
                    && self.is_honest(host)
                {
                    let is_own = header.header().author == self.authority(host);
                    let gc_depth = self.genesis.parameters().gc_depth;
                    self.checker.taken.judge(host, is_own, self.config.validators, gc_depth, header)?;
                }
                if let Err(error) = self.running(host).append(seq, &record) {
                    return self.disk_failed(host, &error);
                }
            }
            Effect::Sync(LogSeq(_)) => {
                // A disk that hangs now and then leaves much in flight for a crash to cut off.
                let services = self.config.services;
                let hangs = self.config.faults && self.random.chance(services.hang_per_mille);
                let most = if hangs { services.hang_us } else { services.sync_us.1 };
                self.after(services.sync_us.0, most, Event::Sync { host, life });
            }
            Effect::Verify { block, payload } => {
                let genesis = Arc::clone(&self.genesis);
                let verdicts = self.running(host).verify(&genesis, &payload);
                self.after_span(
                    self.config.services.verify_us,
                    Event::Verified { host, life, block, verdicts },
                );
            }
            Effect::Execute(dag) => {
                let start = self.running(host).executor_free_us.max(self.now_us);
                let (least, most) = self.config.services.execute_us;
                let done = start + self.random.between(least, most);
                self.running(host).executor_free_us = done;
                self.schedule(done, Event::Execute { host, life, dag: Box::new(dag) });
            }
            Effect::ServeFromLog { to, request } => {
                let answers = match self.running(host).serve(&request) {
                    Ok(answers) => answers,
                    Err(error) => return self.disk_failed(host, &error),
                };
                for answer in answers {
                    self.send_to(host, to, &answer)?;
                }
            }
            Effect::Reply { ticket, reply } => {
                let client = usize::try_from(ticket.client).unwrap_or(usize::MAX);
                self.answer(host, client, ticket.request, Answer::Node(reply));
            }
            Effect::Publish(head) => {
                self.report.checkpoints += 1;
                self.note("publish", host, &head.certified.checkpoint.root.0);
                self.running(host).published = Some(head.certified);
            }
            Effect::Blame { peer, error } => self.blame(host, peer, &error.to_string())?,
            Effect::Accuse(proof) => self.accuse(host, &proof)?,
            Effect::KeysUsed => self.hosts[host].keys_used = true,
            Effect::Halt(what) if self.is_honest(host) => {
                return Err(Violation::Host { host, what: format!("halts: {what}") });
            }
            // A liar may well be confused by its own lies.
            Effect::Halt(_) => {}
        }
        Ok(())
    }

    /// Sends an honest host's message, or what its interceptor makes of it, to all hosts with an authority's keys.
    fn send_to(&mut self, from: usize, to: AuthorityIndex, message: &PeerMessage) -> Result<(), Violation> {
        let hosts = self.hosts_of(to.as_usize());
        self.send(from, &hosts, message)
    }

    fn send(&mut self, from: usize, to: &[usize], message: &PeerMessage) -> Result<(), Violation> {
        if self.cast.intercepts.contains_key(&from) {
            for &to in to {
                let message = message.clone();
                let leaves = self.intercepted(from, |hook, view| hook.outgoing(view, to, message));
                self.send_outgoing(from, leaves);
            }
            return Ok(());
        }
        let letter = self.post.letter(message);
        if self.is_honest(from) {
            for header in letter.headers() {
                if header.header().author == self.authority(from) {
                    self.checker.sent(from, &header.reference())?;
                    self.report.newest_headers += u64::from(header.header().version == HEADER_VERSION);
                }
            }
        }
        for &to in to {
            self.mail(from, to, &letter);
        }
        Ok(())
    }

    fn send_outgoing(&mut self, from: usize, leaves: Vec<(usize, Outgoing)>) {
        for (to, outgoing) in leaves {
            let letter = match outgoing {
                Outgoing::Message(message) => self.post.letter(&message),
                Outgoing::Frame { kind, body } => self.post.frame(kind, body),
            };
            self.mail(from, to, &letter);
        }
    }

    fn mail(&mut self, from: usize, to: usize, letter: &Arc<Letter>) {
        let (first, again) = self.network.arrivals(&mut self.random, self.now_us, from, to);
        for at in first.into_iter().chain(again) {
            self.schedule(at, Event::Deliver { from, to, letter: Arc::clone(letter) });
        }
    }

    /// Asks the interceptor of a host that has one.
    fn intercepted<T: Default>(
        &mut self,
        host: usize,
        ask: impl FnOnce(&mut dyn super::intercept::Intercept, &mut View<'_>) -> T,
    ) -> T {
        let Some(hook) = self.cast.intercepts.get_mut(&host) else { return T::default() };
        let mut view = View {
            now_us: self.now_us,
            wall: self.hosts[host].now(self.now_us).wall,
            host,
            hosts: self.hosts.len(),
            committee: self.post.committee(),
            key: self.hosts[host].key(),
            cosign_key: &self.hosts[host].cosign_key(),
            origin: &self.genesis.origin(),
            random: &mut self.random,
        };
        ask(hook.as_mut(), &mut view)
    }

    /// A host's timer fired: its interceptor may have something to say too.
    pub(super) fn unasked(&mut self, host: usize) {
        let leaves = self.intercepted(host, |hook, view| hook.unasked(view));
        self.send_outgoing(host, leaves);
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, letter: &Letter) -> Result<(), Violation> {
        if self.hosts[to].running.is_none() {
            return Ok(());
        }
        let version = self.hosts[to].protocol;
        let newest = letter.headers().iter().map(|header| header.header().version).max().unwrap_or(0);
        if u16::from(newest) > version && self.is_honest(from) {
            return Err(Violation::Version { host: to, version, header: newest });
        }
        if let Some(message) = &letter.message
            && self.cast.intercepts.contains_key(&to)
            && !self.intercepted(to, |hook, view| hook.incoming(view, from, message))
        {
            return Ok(());
        }
        match letter.input(self.authority(from)) {
            Ok(input) => self.handle(to, input),
            Err(error) => self.blame(to, self.authority(from), &error.to_string()),
        }
    }

    /// A host shows its operator that an author signed two blocks of a round: no honest one does.
    fn accuse(&mut self, host: usize, proof: &EquivocationProof) -> Result<(), Violation> {
        self.note("accuse", host, &proof.block().digest.0);
        let accused = proof.block().author.as_usize();
        if self.hosts_of(accused).iter().all(|host| self.is_honest(*host))
            && self.hosts_of(accused).len() == 1
        {
            let what = format!("accuses validator {accused}, which made one block a round");
            return Err(Violation::Host { host, what });
        }
        Ok(())
    }

    /// A host blames another: as it should if that one is Byzantine.
    fn blame(&mut self, host: usize, peer: AuthorityIndex, what: &str) -> Result<(), Violation> {
        if self.is_honest(host) && !self.cast.is_liar(peer.as_usize()) {
            return Err(Violation::Host { host, what: format!("blames validator {peer}: {what}") });
        }
        self.report.blamed += 1;
        Ok(())
    }

    pub(super) fn execute(&mut self, host: usize, life: u64, dag: &SubDag) -> Result<(), Violation> {
        if self.is_honest(host) {
            self.checker.ordered(host, dag)?;
        }
        let executed = self.running(host).execute(dag).map_err(|error| storage(host, &error))?;
        if self.is_honest(host) {
            self.checker.executed(dag, &executed)?;
        }
        self.note("execute", host, &executed.head.root.0);
        self.schedule(self.now_us, Event::Executed { host, life, executed: Box::new(executed) });
        Ok(())
    }
}
