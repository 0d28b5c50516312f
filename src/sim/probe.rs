//! Takes the time of blocks and of transactions.

use std::collections::BTreeMap;

use super::world::World;
use crate::consensus::Commit;
use crate::node::LogRecord;
use crate::types::BlockRef;

/// When what is under way began.
#[derive(Debug, Default)]
pub(super) struct Probe {
    blocks: BTreeMap<BlockRef, u64>,
    submissions: BTreeMap<(usize, u64), u64>,
}

impl World {
    fn is_measured(&self) -> bool {
        self.config.measure_from_us.is_some_and(|from| self.now_us >= from)
    }

    /// A validator writes a record.
    pub(super) fn measure_record(&mut self, host: usize, record: &LogRecord) {
        if !self.is_measured() || !self.is_honest(host) {
            return;
        }
        match record {
            LogRecord::Header(header) if header.header().author == self.authority(host) => {
                if self.loaded {
                    self.probe.blocks.insert(header.reference(), self.now_us);
                }
            }
            LogRecord::Commit(_, bytes) => {
                let Ok(commit) = Commit::decode(bytes) else { return };
                for block in &commit.blocks {
                    if let Some(made) = self.probe.blocks.get(block) {
                        self.report.block_latency_us.push(self.now_us - made);
                    }
                }
            }
            LogRecord::Header(_)
            | LogRecord::Payload { .. }
            | LogRecord::Certificate(_)
            | LogRecord::Rejoin(_) => {}
        }
    }

    /// A client submits a transaction for the first time.
    pub(super) fn measure_submission(&mut self, client: usize, request: u64) {
        if self.is_measured() {
            self.probe.submissions.insert((client, request), self.now_us);
        }
    }

    /// A client hears that it is final.
    pub(super) fn measure_final(&mut self, client: usize, request: u64) {
        if let Some(began) = self.probe.submissions.remove(&(client, request)) {
            self.report.client_latency_us.push(self.now_us - began);
        }
    }
}
