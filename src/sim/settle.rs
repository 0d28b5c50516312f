//! After the faults: a core of the least size that can decide has to make everything final, then all have to follow.

use super::checker::Violation;
use super::client::Client;
use super::linear::Sessions;
use super::world::{SECOND_US, World, never_runs, storage};

/// Quiet time in which everything has to become final.
pub(super) const DRAIN_US: u64 = 60 * SECOND_US;

impl World {
    /// Ends the faults and the load. A core of n - f validators runs and is connected; the others are dead or cut off.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.network.heal();
        self.loaded = false;
        let core = self.draw_core();
        for host in 0..self.hosts.len() {
            // What is set up to fail must not fail after the end of the faults.
            if self.hosts[host].armed {
                self.stop(host);
            }
        }
        let others: Vec<usize> = (0..self.hosts.len()).filter(|host| !core.contains(host)).collect();
        let dead = self.random.chance(500);
        for host in others.iter().copied().filter(|_| dead) {
            self.crash(host);
        }
        if !others.is_empty() {
            self.network.cut(&others, true);
        }
        for &host in &core {
            if self.hosts[host].running.is_none() {
                self.start(host)?;
            }
        }
        self.note("core", core.len(), &[]);
        self.open = core;
        Ok(())
    }

    /// Who goes on: all, in a run without faults; else as few as can decide, none of them a liar or one that lost its log.
    fn draw_core(&mut self) -> Vec<usize> {
        let mut core = self.runnable();
        if !self.config.faults {
            return core;
        }
        core.retain(|host| {
            *host < self.config.validators && self.is_honest(*host) && !self.hurt.contains(host)
        });
        let least = self.config.validators - self.config.fault_tolerance();
        while core.len() > least {
            let out = self.random.index(core.len());
            core.remove(out);
        }
        core
    }

    /// All hosts but those that are down for the whole run.
    fn runnable(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| !never_runs(&self.config, *host)).collect()
    }

    /// Waits until everything submitted is final on the core, then until all have it: at most so long each. Looks at it every
    /// `step_us`.
    pub(super) fn drain(&mut self, most_us: u64, step_us: u64) -> Result<(), Violation> {
        let core = self.open.clone();
        self.report.core_drain_us = self.drain_on(&core, most_us, step_us)?;
        self.network.join();
        self.open = self.runnable();
        let all = self.open.clone();
        for &host in &all {
            if self.hosts[host].running.is_none() {
                self.start(host)?;
            }
        }
        self.note("all join", all.len(), &[]);
        self.drain_on(&all, most_us, step_us)?;
        Ok(())
    }

    fn drain_on(&mut self, hosts: &[usize], most_us: u64, step_us: u64) -> Result<u64, Violation> {
        let start = self.now_us;
        while self.waiting() > 0 || !self.is_settled(hosts)? {
            if self.now_us >= start + most_us {
                return Err(Violation::Stuck {
                    waiting: self.waiting(),
                    after_s: (self.now_us - start) / SECOND_US,
                    state: self.describe(),
                });
            }
            self.run_until(self.now_us + step_us)?;
        }
        Ok(self.now_us - start)
    }

    pub(super) fn waiting(&self) -> usize {
        let sessions = self.sessions.as_ref().map_or(0, Sessions::waiting);
        self.clients.iter().map(Client::waiting).sum::<usize>() + sessions
    }

    /// Whether every one of these validators holds everything that was acknowledged, where it was said to be.
    fn is_settled(&self, hosts: &[usize]) -> Result<bool, Violation> {
        for &host in hosts.iter().filter(|host| self.is_honest(**host)) {
            let Some(running) = &self.hosts[host].running else { return Ok(false) };
            // The newest first: what is missing is most likely among them.
            for (id, leaf) in self.checker.acknowledged().iter().rev() {
                match running.leaf_of(id).map_err(|error| storage(host, &error))? {
                    None => return Ok(false),
                    Some(found) if found == *leaf => {}
                    Some(_) => return Err(Violation::Lost { id: *id, leaf: *leaf, host }),
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
}
