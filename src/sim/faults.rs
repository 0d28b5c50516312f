//! What breaks while faults are on, and how it is mended.

use super::checker::Violation;
use super::config::FaultKind;
use super::event::Event;
use super::host::Started;
use super::world::{SECOND_US, World, storage};
use crate::error::StorageError;
use crate::node::Input;
use crate::types::PROTOCOL_VERSION;

impl World {
    pub(super) fn start(&mut self, host: usize) -> Result<(), Violation> {
        match self.hosts[host].start().map_err(|error| storage(host, &error))? {
            Started::Runs => {}
            Started::Failed => {
                self.report.disk_errors += 1;
                self.hosts[host].stop();
                self.note("start fails", host, &[]);
                self.after(50_000, SECOND_US, Event::Start { host });
                return Ok(());
            }
            Started::Refused => {
                self.report.damages_detected += 1;
                self.note("log refused, disk replaced", host, &[]);
                self.hosts[host].lose_everything();
                self.after(50_000, SECOND_US, Event::Start { host });
                return Ok(());
            }
            Started::Silent(damage) => return Err(Violation::Silent { host, damage }),
        }
        self.note("start", host, &[]);
        let life = self.hosts[host].life;
        self.after(500_000, 3 * SECOND_US, Event::Persist { host, life });
        for peer in self.peers_of(host) {
            if self.hosts[peer].running.is_some() {
                let peer_life = self.hosts[peer].life;
                self.after(1_000, 50_000, Event::PeerUp { host, life, peer });
                self.after(1_000, 50_000, Event::PeerUp { host: peer, life: peer_life, peer: host });
            }
        }
        self.handle(host, Input::Tick)
    }

    pub(super) fn crash(&mut self, host: usize) {
        self.hosts[host].crash(&mut self.random);
        self.note("crash", host, &[]);
        self.went_down(host);
    }

    /// A process ends, and its machine runs on.
    pub(super) fn stop(&mut self, host: usize) {
        self.hosts[host].stop();
        self.note("stop", host, &[]);
        self.went_down(host);
    }

    fn went_down(&mut self, host: usize) {
        for peer in self.peers_of(host) {
            let life = self.hosts[peer].life;
            if self.hosts[peer].running.is_some() {
                self.after(1_000, SECOND_US, Event::PeerDown { host: peer, life, peer: host });
            }
        }
    }

    /// A call of a disk failed. If it was made to, the validator halts, as it has to, and is started again.
    pub(super) fn disk_failed(&mut self, host: usize, error: &StorageError) -> Result<(), Violation> {
        if !self.hosts[host].armed {
            return Err(storage(host, error));
        }
        self.report.disk_errors += 1;
        // Half of the time the machine goes down with it, and what the failed sync left behind is lost.
        if self.random.chance(500) {
            self.crash(host);
        } else {
            self.stop(host);
        }
        self.after(50_000, 4 * SECOND_US, Event::Start { host });
        Ok(())
    }

    /// A validator's disk is gone, and another takes its place.
    #[cfg(test)]
    pub(super) fn lose(&mut self, host: usize) {
        self.crash(host);
        self.hosts[host].lose_everything();
        self.note("lose", host, &[]);
    }

    /// Something breaks; later it is whole again.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        if !self.loaded {
            return Ok(());
        }
        let kind = match self.random.below(20) {
            0 => Some(FaultKind::Blackout),
            1..=5 => Some(FaultKind::Restart),
            6..=9 => Some(FaultKind::Partition),
            10..=11 => Some(FaultKind::SlowHost),
            12..=13 => Some(FaultKind::LossyHost),
            14..=15 => Some(FaultKind::DiskError),
            16 => Some(FaultKind::DiskDamage),
            17 => Some(FaultKind::LostLog),
            _ => None,
        };
        match kind.filter(|kind| self.config.may(*kind)) {
            Some(kind) => self.inflict(kind)?,
            None => {
                self.note("links whole", 0, &[]);
                self.network.join();
            }
        }
        self.after(SECOND_US / 2, 5 * SECOND_US, Event::Fault);
        Ok(())
    }

    fn inflict(&mut self, kind: FaultKind) -> Result<(), Violation> {
        let host = self.random.index(self.hosts.len());
        let runs = self.hosts[host].running.is_some();
        match kind {
            FaultKind::Blackout => {
                self.report.blackouts += 1;
                for host in 0..self.hosts.len() {
                    self.crash(host);
                    self.after(100_000, 2 * SECOND_US, Event::Start { host });
                }
            }
            FaultKind::Restart if runs => {
                self.report.restarts += 1;
                self.crash(host);
                self.after(50_000, 8 * SECOND_US, Event::Start { host });
            }
            FaultKind::Partition => self.partition(host),
            FaultKind::SlowHost => {
                self.report.slow_hosts += 1;
                self.note("slow links", host, &[]);
                let times = self.random.between(2, 10);
                self.network.slow(host, times);
            }
            FaultKind::LossyHost => {
                self.report.lossy_hosts += 1;
                self.note("lossy links", host, &[]);
                let per_mille = self.random.between(5, 400);
                self.network.lossy(host, per_mille);
            }
            FaultKind::DiskError if runs => self.hosts[host].arm(&mut self.random),
            FaultKind::DiskDamage if runs && self.may_hurt(host) => {
                self.stop(host);
                let damaged =
                    self.hosts[host].damage(&mut self.random).map_err(|error| storage(host, &error))?;
                self.report.damages += u64::from(damaged);
                self.after(50_000, 4 * SECOND_US, Event::Start { host });
            }
            FaultKind::LostLog if runs && self.may_hurt(host) => {
                self.report.lost_logs += 1;
                self.crash(host);
                self.note("log lost", host, &[]);
                self.hosts[host].lose_everything();
                self.after(50_000, 4 * SECOND_US, Event::Start { host });
            }
            FaultKind::Restart
            | FaultKind::DiskError
            | FaultKind::DiskDamage
            | FaultKind::LostLog
            | FaultKind::Loss
            | FaultKind::Replay
            | FaultKind::Drift => {}
        }
        Ok(())
    }

    fn partition(&mut self, one: usize) {
        self.report.partitions += 1;
        let mut group: Vec<usize> = (0..self.hosts.len()).filter(|_| self.random.chance(400)).collect();
        if group.is_empty() {
            group.push(one);
        }
        let both_ways = self.random.chance(600);
        self.note(if both_ways { "partition" } else { "one-way partition" }, group[0], &[]);
        self.network.cut(&group, both_ways);
    }

    /// Whether a host may lose what it made durable: with those that did before, and with liars, no more than f in a run.
    fn may_hurt(&mut self, host: usize) -> bool {
        let liars = (0..self.config.validators).filter(|authority| self.cast.is_liar(*authority)).count();
        if !self.is_honest(host) {
            return false;
        }
        if !self.hurt.contains(&host)
            && self.hurt.len() + liars + self.config.down < self.config.fault_tolerance()
        {
            self.hurt.insert(host);
        }
        self.hurt.contains(&host)
    }

    /// A validator gets the newest program.
    pub(super) fn upgrade(&mut self, host: usize) {
        self.report.upgrades += 1;
        self.hosts[host].protocol = PROTOCOL_VERSION;
        if self.hosts[host].running.is_some() {
            self.stop(host);
            self.after(50_000, 2 * SECOND_US, Event::Start { host });
        }
    }
}
