//! What the figures say together: what a network on this machine runs into first.

use serde::Serialize;

use super::compute::Verified;
use super::disk::Logged;
use super::network::{Finalised, Step, VALIDATORS};

/// Share of the cores from which on they count as full. A load has a beginning and an end, in which they are not.
const CORES_FULL: f64 = 0.8;
/// Syncs that follow one another until a transaction is final: of its block, of one that votes for it, of one that certifies.
const SYNCS_UNTIL_FINAL: f64 = 3.0;
/// Share of the time to finality from which on syncs are what it mostly is.
const SYNCS_MOST: f64 = 0.5;

/// What is used up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bottleneck {
    /// The cores were full.
    Processor,
    /// Cores were idle, and most of the time to finality is waiting for syncs.
    Disk,
    /// Cores were idle, and the disk is quick.
    Neither,
    /// No higher rate was looked for or kept up with, or the system does not say how many cores were used.
    Unknown,
}

/// What the figures say together.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) bottleneck: Bottleneck,
    /// Transactions a second at which four validators would fill all cores by the verification of large batches alone.
    pub(super) verification_limit_per_s: f64,
    /// CPU time that one validator took for one transaction at the highest rate.
    pub(super) validator_cpu_us_per_transaction: Option<f64>,
    /// Share of the cores that validators and clients used then.
    pub(super) cores_used_share: Option<f64>,
    /// Share that whatever else runs here used.
    pub(super) others_share: Option<f64>,
    /// Share of the validators' CPU time that is verification, as large batches take it. Smaller ones take more.
    pub(super) verification_share: Option<f64>,
}

impl Summary {
    pub(super) fn of(cores: usize, verified: &Verified, logged: &Logged, finalised: &Finalised) -> Self {
        let each = 1.0 / verified.few_keys_per_s.one_core.median;
        let validators = f64::from(VALIDATORS);
        // At a low rate most of the work is that of rounds, so it says nothing of a transaction.
        let searched = finalised.highest().filter(|_| !finalised.search.is_empty());
        let highest = searched.filter(|step| step.validators_cores.is_finite());
        let share = highest.map(|step| (step.validators_cores + step.clients_cores) / cores as f64);
        let busy = highest.and_then(|step| step.machine_busy_share);
        Self {
            bottleneck: bottleneck(share.map(|share| share.max(busy.unwrap_or_default())), highest, logged),
            verification_limit_per_s: verified.few_keys_per_s.all_cores.median / validators,
            validator_cpu_us_per_transaction: highest
                .map(|step| 1e6 * step.validators_cores / (validators * f64::from(step.offered_per_s))),
            cores_used_share: share,
            others_share: busy.zip(share).map(|(busy, share)| (busy - share).max(0.0)),
            verification_share: highest.map(|step| {
                (validators * f64::from(step.offered_per_s) * each / step.validators_cores).min(1.0)
            }),
        }
    }
}

/// `share` is that of the cores which were busy with anything at the highest rate.
fn bottleneck(share: Option<f64>, highest: Option<&Step>, logged: &Logged) -> Bottleneck {
    let (Some(share), Some(highest)) = (share, highest) else { return Bottleneck::Unknown };
    let waiting = SYNCS_UNTIL_FINAL * logged.sync_ms_p50;
    if share >= CORES_FULL {
        Bottleneck::Processor
    } else if waiting >= SYNCS_MOST * highest.finality_ms_p50 {
        Bottleneck::Disk
    } else {
        Bottleneck::Neither
    }
}
