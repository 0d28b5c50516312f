//! What a run is made of.

use super::network::NetworkConfig;
use crate::mempool::MempoolLimits;

/// A kind of fault. Each can be switched off alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A validator loses power, and some of what it had not synced.
    Restart,
    /// All lose power at once.
    Blackout,
    /// Some hosts are cut off, in one or both directions.
    Partition,
    /// Messages are lost.
    Loss,
    /// Messages arrive twice, the second copy late.
    Replay,
    /// All links of a host are many times slower.
    SlowHost,
    /// A host loses a part of what it sends.
    LossyHost,
    /// Clocks run too fast or too slow, apart from being wrong.
    Drift,
    /// A write, a sync or a read fails.
    DiskError,
    /// Sectors of a stopped validator's log change: a flipped bit, a misdirected write, a lost write.
    DiskDamage,
    /// A validator comes back without its log and its state.
    LostLog,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Restart,
        Self::Blackout,
        Self::Partition,
        Self::Loss,
        Self::Replay,
        Self::SlowHost,
        Self::LossyHost,
        Self::Drift,
        Self::DiskError,
        Self::DiskDamage,
        Self::LostLog,
    ];

    /// Name as options and reports write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Blackout => "blackout",
            Self::Partition => "partition",
            Self::Loss => "loss",
            Self::Replay => "replay",
            Self::SlowHost => "slow-host",
            Self::LossyHost => "lossy-host",
            Self::Drift => "drift",
            Self::DiskError => "disk-error",
            Self::DiskDamage => "disk-damage",
            Self::LostLog => "lost-log",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults(u16);

impl Faults {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self((1 << FaultKind::ALL.len()) - 1);

    /// Whether a kind is in it.
    #[must_use]
    pub fn has(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// It and one more.
    #[must_use]
    pub fn with(self, kind: FaultKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// It but for one.
    #[must_use]
    pub fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !(1 << kind as u16))
    }
}

/// From how long to how long something takes, microseconds, both included.
pub type Span = (u64, u64);

/// How long what a validator waits for takes: its disk, its cores, its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services {
    /// A sync of the log.
    pub sync_us: Span,
    /// Syncs, of a thousand, that hang.
    pub hang_per_mille: u64,
    /// Longest hang.
    pub hang_us: u64,
    /// Checking the signatures of a payload.
    pub verify_us: Span,
    /// Executing a commit.
    pub execute_us: Span,
    /// From a client to a validator, and back.
    pub client_us: Span,
    /// Between two transactions of a client.
    pub think_us: Span,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            sync_us: (100, 5_000),
            hang_per_mille: 30,
            hang_us: 400_000,
            verify_us: (100, 10_000),
            execute_us: (50, 2_000),
            client_us: (100, 20_000),
            think_us: (5_000, 150_000),
        }
    }
}

impl Services {
    /// Everything but the network takes no time: what is left are message delays.
    #[must_use]
    pub fn instant() -> Self {
        let at_once = (1, 1);
        Self {
            sync_us: at_once,
            hang_per_mille: 0,
            hang_us: 1,
            verify_us: at_once,
            execute_us: at_once,
            client_us: at_once,
            ..Self::default()
        }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Number of validators, all of the same stake.
    pub validators: usize,
    /// How many of them, the last ones, never run.
    pub down: usize,
    /// Clients, 1 to 4.
    pub clients: usize,
    /// Simulated time with faults and load, microseconds. Then the faults stop, and what was submitted has to become final.
    pub duration_us: u64,
    /// The load ends before that once some validator has made so many rounds.
    pub rounds: u64,
    /// The network; `None` draws it from the seed: up to 30 % loss, up to 50 % replay, delays of all shapes.
    pub network: Option<NetworkConfig>,
    /// Whether anything breaks at all.
    pub faults: bool,
    /// What may break.
    pub kinds: Faults,
    /// How many validators, the first ones, lose a part of what they send for the whole run.
    pub lossy: usize,
    /// Which part, of a thousand.
    pub lossy_per_mille: u64,
    /// Largest difference of a clock from the true time, milliseconds.
    pub clock_skew_ms: u64,
    /// How long things take.
    pub services: Services,
    /// Transactions that each client has in flight.
    pub window: usize,
    /// Bounds of each validator's pool and own blocks.
    pub mempool: MempoolLimits,
    /// Rounds of a beat; see [`Pace`](crate::node::Pace).
    pub beat_rounds: u64,
    /// From which moment on the latency of every block and transaction is noted, microseconds; clients turn to honest validators
    /// alone then. Block time first has to come near the clock, and clients have to register keys.
    pub measure_from_us: Option<u64>,
    /// Whether logs keep what is written: without it a run takes memory that does not grow, and nobody may restart.
    pub keep_log: bool,
    /// Whether all start with version 1 of the protocol and are restarted, one after another, with the newest.
    pub upgrade: bool,
    /// Whether one seed in a hundred fails on purpose: to prove that failures are seen.
    pub canary: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            validators: 4,
            down: 0,
            clients: 4,
            duration_us: 60_000_000,
            rounds: u64::MAX,
            network: None,
            faults: true,
            kinds: Faults::ALL,
            lossy: 0,
            lossy_per_mille: 0,
            clock_skew_ms: 5_000,
            services: Services::default(),
            window: 16,
            mempool: MempoolLimits {
                transactions: 1_000,
                bytes: 1 << 20,
                block_transactions: 40,
                block_bytes: 1 << 16,
            },
            beat_rounds: 1,
            measure_from_us: None,
            keep_log: true,
            upgrade: false,
            canary: false,
        }
    }
}

impl SimConfig {
    /// Whether a kind of fault may happen.
    #[must_use]
    pub fn may(&self, kind: FaultKind) -> bool {
        self.faults && self.kinds.has(kind)
    }

    /// Validators of which at most this many may lie, or lose what they had made durable.
    #[must_use]
    pub fn fault_tolerance(&self) -> usize {
        self.validators.saturating_sub(1) / 3
    }
}
