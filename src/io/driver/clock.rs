//! The one place where a running node reads the time.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::node::Now;
use crate::types::TimestampMs;

/// Time since the node was started, and time of day. Clones share the start.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    start: Arc<Instant>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Arc::new(Instant::now()) }
    }

    pub(super) fn now(&self) -> Now {
        let monotonic = self.start.elapsed().as_micros();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Now {
            monotonic_us: u64::try_from(monotonic).unwrap_or(u64::MAX),
            wall: TimestampMs(u64::try_from(wall).unwrap_or(u64::MAX)),
        }
    }
}
