//! What a run is made of, as options.

use clap::Args;
use salus::sim::{FaultKind, NetworkConfig, SimConfig};

/// Options of a simulated world.
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct WorldOptions {
    /// Simulated seconds with load and faults; then everything has to become final.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Validators.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) validators: u16,
    /// Validators that never run.
    #[arg(long, default_value_t = 0)]
    pub(crate) down: u16,
    /// Clients.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4))]
    pub(crate) clients: u16,
    /// Part of the messages that are lost, 0 to 0.5, over a plain network instead of one drawn from the seed.
    #[arg(long)]
    pub(crate) loss: Option<f64>,
    /// Nothing breaks.
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// A kind of fault that does not happen; may be given again.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) without: Vec<FaultKind>,
    /// Largest difference of a clock from the true time, milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) skew_ms: u64,
    /// All start with version 1 of the protocol and are restarted, one after another, with the newest.
    #[arg(long)]
    pub(crate) upgrade: bool,
    /// One seed in a hundred fails on purpose.
    #[arg(long)]
    pub(crate) canary: bool,
}

fn kind(name: &str) -> Result<FaultKind, String> {
    FaultKind::named(name).ok_or_else(|| {
        let known: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("known kinds: {}", known.join(", "))
    })
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seconds: 60,
            validators: 4,
            down: 0,
            clients: 4,
            loss: None,
            no_faults: false,
            without: Vec::new(),
            skew_ms: 5_000,
            upgrade: false,
            canary: false,
        }
    }
}

impl WorldOptions {
    /// The world that they describe.
    pub(crate) fn config(&self) -> SimConfig {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a thousand, clamped before the cast"
        )]
        let network = self.loss.map(|loss| NetworkConfig {
            loss_per_mille: (loss.clamp(0.0, 0.5) * 1_000.0) as u64,
            replay_per_mille: 50,
            ..NetworkConfig::default()
        });
        let mut kinds = SimConfig::default().kinds;
        for kind in &self.without {
            kinds = kinds.without(*kind);
        }
        SimConfig {
            validators: usize::from(self.validators),
            down: usize::from(self.down.min(self.validators - 1)),
            clients: usize::from(self.clients),
            duration_us: self.seconds * 1_000_000,
            network,
            faults: !self.no_faults,
            kinds,
            clock_skew_ms: self.skew_ms,
            upgrade: self.upgrade,
            canary: self.canary,
            ..SimConfig::default()
        }
    }

    /// The options that differ from the defaults, as one types them.
    pub(crate) fn typed(&self) -> String {
        let plain = Self::default();
        let mut out = String::new();
        let mut number = |name: &str, value: u64, default: u64| {
            if value != default {
                out.push_str(&format!(" --{name} {value}"));
            }
        };
        number("seconds", self.seconds, plain.seconds);
        number("validators", self.validators.into(), plain.validators.into());
        number("down", self.down.into(), plain.down.into());
        number("clients", self.clients.into(), plain.clients.into());
        number("skew-ms", self.skew_ms, plain.skew_ms);
        if let Some(loss) = self.loss {
            out.push_str(&format!(" --loss {loss}"));
        }
        for kind in &self.without {
            out.push_str(&format!(" --without {}", kind.name()));
        }
        for (on, name) in [(self.no_faults, "no-faults"), (self.upgrade, "upgrade"), (self.canary, "canary")]
        {
            if on {
                out.push_str(&format!(" --{name}"));
            }
        }
        out
    }
}
