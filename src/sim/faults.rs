//! What breaks while faults are on, and how it is mended.

use super::checker::Violation;
use super::event::Event;
use super::world::{SECOND_US, World, storage};
use crate::node::Input;

impl World {
    pub(super) fn start(&mut self, host: usize) -> Result<(), Violation> {
        self.hosts[host].start().map_err(|error| storage(host, &error))?;
        self.note(b"start", host, &[]);
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

    fn crash(&mut self, host: usize) {
        self.hosts[host].crash(&mut self.random);
        self.note(b"crash", host, &[]);
        for peer in self.peers_of(host) {
            let life = self.hosts[peer].life;
            if self.hosts[peer].running.is_some() {
                self.after(1_000, SECOND_US, Event::PeerDown { host: peer, life, peer: host });
            }
        }
    }

    /// Something breaks; later it is whole again.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
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
