//! Clients submit, wait, and submit again.

use std::sync::Arc;

use super::checker::Violation;
use super::event::{Answer, Event};
use super::linear::SESSIONS;
use super::world::{World, storage};
use crate::error::ClientError;
use crate::execute::Outcome;
use crate::mempool::Ticket;
use crate::node::{Input, Reply};

impl World {
    pub(super) fn load(&mut self, client: usize) {
        if !self.loaded && self.clients[client].waiting() == 0 {
            return;
        }
        let wall = self.hosts[0].now(self.now_us).wall;
        let mut requests = self.clients[client].overdue(self.now_us);
        if self.loaded {
            let made = self.clients[client].make(&mut self.random, self.now_us, wall);
            if let Some(request) = made {
                self.measure_submission(client, request);
            }
            requests.extend(made);
        }
        let way = self.config.services.client_us;
        for request in requests {
            let host = self.draw_open();
            self.after_span(way, Event::Submit { client, request, host });
            // Sometimes to a second validator too: executed once all the same.
            if self.random.chance(50) {
                let host = self.draw_open();
                self.after_span(way, Event::Submit { client, request, host });
            }
        }
        self.after_span(self.config.services.think_us, Event::Load { client });
    }

    /// Whom a client turns to. Where latency is measured it is not a liar: that would measure how patient clients are.
    fn draw_open(&mut self) -> usize {
        let measures = self.config.measure_from_us.is_some();
        let open: Vec<usize> =
            self.open.iter().copied().filter(|host| !measures || self.is_honest(*host)).collect();
        open[self.random.index(open.len())]
    }

    pub(super) fn submit(&mut self, client: usize, request: u64, host: usize) -> Result<(), Violation> {
        let found = match &self.sessions {
            Some(sessions) if client >= SESSIONS => sessions.get(request),
            _ => self.clients[client].get(request).map(|waiting| (waiting.tx.clone(), waiting.id)),
        };
        let Some((tx, id)) = found else { return Ok(()) };
        if self.hosts[host].running.is_none() {
            return Ok(());
        }
        self.report.submissions += 1;
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
        self.answer(host, client, request, reply);
        Ok(())
    }

    pub(super) fn reply(&mut self, client: usize, request: u64, reply: Answer) -> Result<(), Violation> {
        if client >= SESSIONS {
            return self.session_reply(request, reply);
        }
        let leaf = match reply {
            Answer::Known(leaf)
            | Answer::Node(Reply::Final(Outcome::Executed { leaf, .. } | Outcome::Duplicate { leaf })) => {
                leaf
            }
            Answer::Node(Reply::Accepted) => return Ok(()),
            Answer::Node(Reply::Busy) => {
                self.report.busy += 1;
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
            self.measure_final(client, request);
            self.note("final", client, &id.0);
            self.checker.acknowledge(id, leaf)?;
        }
        Ok(())
    }

    /// A host answers a client. What a Byzantine one says, the client does not count on.
    pub(super) fn answer(&mut self, host: usize, client: usize, request: u64, reply: Answer) {
        if self.is_honest(host) {
            self.after_span(self.config.services.client_us, Event::Reply { client, request, reply });
        }
    }
}
