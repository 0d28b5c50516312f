//! What the demo says, and what it compares for it.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use indicatif::HumanCount;

use super::drive::{Driven, WINDOW};
use crate::cli::CliError;
use crate::cli::load::percentile;
use crate::cli::network::{LocalNetwork, PoolCounts, TransactionView};
use crate::gateway::{Gateway, SystemEntropy};
use crate::types::LeafIndex;

/// How long the validators may take until all have the last transaction.
const AGREE_WITHIN: Duration = Duration::from_secs(30);
/// Transactions that every validator is asked about.
const ASKED: usize = 32;

pub(super) fn network(
    network: &mut LocalNetwork,
    took: Duration,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let (n, id) = (network.size(), network.genesis().network());
    writeln!(
        out,
        "network     {} serving after {:.2} s, network id {id}, in {}",
        counted(n as u64, "validator"),
        took.as_secs_f64(),
        network.dir().display()
    )?;
    for index in 0..n {
        let pid = network.pid(index).map_or("ended".to_owned(), |pid| format!("process {pid}"));
        let endpoint = network.endpoint(index);
        writeln!(out, "            {:<12} {}  {pid}", endpoint.name, endpoint.http)?;
    }
    Ok(())
}

pub(super) fn plan(
    gateway: &Gateway<SystemEntropy>,
    events: usize,
    source: &str,
    times: u32,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let transactions = gateway.stages().map(|stage| stage.transactions).sum();
    let times = if times == 1 { String::new() } else { format!(", its clinical part {times} times") };
    writeln!(
        out,
        "plan        {} FHIR events of {source}{times}: {} in {}",
        HumanCount(events as u64),
        counted(transactions, "transaction"),
        counted(gateway.stages().len() as u64, "stage")
    )?;
    Ok(())
}

pub(super) fn load(driven: &Driven, counts: PoolCounts, out: &mut dyn Write) -> Result<(), CliError> {
    let (count, took) = (driven.finals.len(), driven.took.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / took.max(0.001);
    writeln!(out, "final       {} in {took:.2} s: {rate:.0} tx/s", counted(count as u64, "transaction"))?;
    let mut sorted = driven.latencies.clone();
    sorted.sort_unstable();
    writeln!(
        out,
        "finality    p50 {} ms, p99 {} ms from submission, up to {} on the way at once",
        percentile(&sorted, 500).as_millis(),
        percentile(&sorted, 990).as_millis(),
        HumanCount(WINDOW as u64)
    )?;
    let PoolCounts { busy, retries, lost } = counts;
    if retries > 0 {
        writeln!(
            out,
            "retries     {retries}, {busy} of them because a validator was busy; {lost} connections lost"
        )?;
    }
    match driven.violations {
        0 => writeln!(out, "violations  0: every access that names a consent has a permit in force")?,
        n => writeln!(
            out,
            "violations  {} without a permit in force: on the ledger, and flagged there",
            counted(n, "access")
        )?,
    }
    Ok(())
}

/// Compares the validators with each other and with what was acknowledged.
pub(super) async fn agreement(
    network: &LocalNetwork,
    driven: &Driven,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let count = driven.finals.len() as u64;
    let agreement = network.wait_agreement(count, AGREE_WITHIN).await?;
    let leaves: BTreeSet<LeafIndex> = driven.finals.iter().map(|(_, leaf)| *leaf).collect();
    let inside = leaves.iter().filter(|leaf| leaf.0 < agreement.size).count() as u64;
    let step = (driven.finals.len() / ASKED).max(1);
    let mut missing = count - inside;
    let mut asked = 0;
    for (id, leaf) in driven.finals.iter().step_by(step) {
        for index in 0..network.size() {
            let view = network.api().transaction(&network.endpoint(index).http, *id).await;
            let view = view.map_err(CliError::unable)?;
            let there = matches!(view, Some(TransactionView::Executed { leaf: found, .. }) if found == *leaf);
            missing += u64::from(!there);
        }
        asked += 1;
    }
    let n = network.size();
    writeln!(
        out,
        "missing     {missing}: each has a leaf of its own in the log of {} leaves, and of {asked} asked for \
         every validator says the same",
        HumanCount(agreement.size)
    )?;
    if missing > 0 || agreement.size != count {
        return Err(CliError::DoesNotHold(format!(
            "{count} transactions were acknowledged as final, the log has {} leaves and {missing} are missing",
            agreement.size
        )));
    }
    writeln!(
        out,
        "roots       equal on {} at {} leaves: {}",
        all(n),
        HumanCount(agreement.size),
        agreement.root
    )?;
    writeln!(out, "state       equal roots there too: {}", agreement.state_root)?;
    Ok(())
}

/// The last lines: what to try next.
pub(super) fn next_steps(
    network: &mut LocalNetwork,
    stays: bool,
    running: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    writeln!(out, "\nEverything held. To go on:")?;
    if !stays {
        writeln!(out, "  salus demo --dir salus-demo --keep      the same, left running and in place; then")?;
    }
    let dir = if stays { network.dir().display().to_string() } else { "salus-demo".to_owned() };
    writeln!(out, "  salus verify {dir}/proof.json --genesis {dir}/genesis.json")?;
    writeln!(out, "  salus verify {dir}/proof-altered.json --genesis {dir}/genesis.json")?;
    if running {
        writeln!(out, "  curl {}/v1/status", network.endpoint(0).http)?;
        let pids: Vec<_> = (0..network.size()).filter_map(|index| network.pid(index)).collect();
        let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
        writeln!(out, "  kill {}      stops the validators; after that", pids.join(" "))?;
    }
    writeln!(out, "  salus log check {dir}/validator-1/data")?;
    if stays {
        writeln!(out, "  salus node --config {dir}/validator-1/node.toml      starts one of them again")?;
    }
    Ok(())
}

fn all(n: usize) -> String {
    if n == 1 { "the one validator".to_owned() } else { format!("all {n} validators") }
}

fn counted(n: u64, what: &str) -> String {
    let ending = match (n, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {what}{ending}", HumanCount(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!(counted(1, "access"), "1 access");
        assert_eq!(counted(0, "access"), "0 accesses");
        assert_eq!(counted(4_084, "transaction"), "4,084 transactions");
    }
}
