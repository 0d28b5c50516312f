//! Submits the plan, stage by stage, and measures.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::cli::CliError;
use crate::cli::network::{ClientPool, Final, NotFinal, clock};
use crate::gateway::vault::VersionName;
use crate::gateway::{Gateway, Next, Prepared, Stage, SystemEntropy};
use crate::types::{Kind, LeafIndex, TxId};

/// Transactions on the way at once.
pub(super) const WINDOW: usize = 1_024;
/// How long one transaction may take, whatever happens to validators meanwhile.
const FINAL_WITHIN: Duration = Duration::from_secs(60);

/// What became of the plan.
#[derive(Debug, Default)]
pub(super) struct Driven {
    /// Transactions with their leaves, in the order in which they became final.
    pub(super) finals: Vec<(TxId, LeafIndex)>,
    /// From submission to finality, for each.
    pub(super) latencies: Vec<Duration>,
    /// Accesses that were flagged.
    pub(super) violations: u64,
    /// Time from the first submission to the last answer.
    pub(super) took: Duration,
    /// A version of a record that is final, to be proved.
    pub(super) specimen: Option<(TxId, VersionName)>,
}

/// One transaction that came to an end.
struct Ended {
    line: usize,
    id: TxId,
    took: Duration,
    result: Result<Final, NotFinal>,
}

/// Submits everything, spread over all validators; each stage is final before the next one begins.
pub(super) async fn drive(
    gateway: &mut Gateway<SystemEntropy>,
    pool: &Arc<ClientPool>,
    out: &mut dyn Write,
) -> Result<Driven, CliError> {
    pool.connect().await;
    let bar = progress_bar(gateway.stages().map(|stage| stage.transactions).sum());
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut driven = Driven::default();
    let (mut open, mut submitted) = (JoinSet::new(), 0);
    let started = Instant::now();
    let mut stage_started = started;
    bar.set_message(gateway.stages().next().map_or("", |stage| stage.name));
    let names: Vec<_> = gateway.stages().map(|stage| stage.name).collect();
    loop {
        let next = gateway.next(clock()?).map_err(|error| CliError::unable(error.to_string()))?;
        match next {
            Next::Transaction(prepared) => {
                note_specimen(&mut driven, &prepared);
                let permit = window.clone().acquire_owned().await;
                let permit = permit.map_err(|closed| CliError::unable(closed.to_string()))?;
                let pool = pool.clone();
                open.spawn(async move {
                    let Prepared { transaction, line, .. } = *prepared;
                    let begun = Instant::now();
                    let result = pool.submit(&transaction, submitted, FINAL_WITHIN).await;
                    drop(permit);
                    Ended { line, id: transaction.id(), took: begun.elapsed(), result }
                });
                submitted += 1;
                // Keeps what has ended from piling up.
                while let Some(ended) = open.try_join_next() {
                    settle(&mut driven, gateway, &bar, ended)?;
                }
            }
            Next::StageEnd(stage) => {
                while let Some(ended) = open.join_next().await {
                    settle(&mut driven, gateway, &bar, ended)?;
                }
                bar.suspend(|| stage_line(stage, stage_started.elapsed(), out))?;
                stage_started = Instant::now();
                bar.set_message(names.get(stage.index + 1).copied().unwrap_or_default());
            }
            Next::Done => break,
        }
    }
    driven.took = started.elapsed();
    bar.finish_and_clear();
    Ok(driven)
}

fn stage_line(stage: Stage, took: Duration, out: &mut dyn Write) -> std::io::Result<()> {
    let Stage { index, name, transactions } = stage;
    let (number, transactions) = (index + 1, HumanCount(transactions));
    writeln!(out, "stage {number}     {name}: {transactions} final in {:.2} s", took.as_secs_f64())
}

/// On a terminal; elsewhere the stages' lines say how far it is.
fn progress_bar(transactions: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {human_pos}/{human_len} final, {per_sec}, {eta} left  {msg}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(transactions).with_style(style)
}

/// The first document is the one to prove; of a stream without documents, whatever commits to a resource.
fn note_specimen(driven: &mut Driven, prepared: &Prepared) {
    let Some(name) = &prepared.document else { return };
    let is_record = prepared.transaction.envelope().kind == Kind::RecordAnchor;
    let is_document = is_record && name.resource.starts_with("DocumentReference/");
    let found =
        driven.specimen.as_ref().is_some_and(|(_, name)| name.resource.starts_with("DocumentReference/"));
    if driven.specimen.is_none() || (is_document && !found) {
        driven.specimen = Some((prepared.transaction.id(), name.clone()));
    }
}

fn settle(
    driven: &mut Driven,
    gateway: &mut Gateway<SystemEntropy>,
    bar: &ProgressBar,
    ended: Result<Ended, JoinError>,
) -> Result<(), CliError> {
    let Ended { line, id, took, result } = ended.map_err(|error| CliError::unable(error.to_string()))?;
    let done = result.map_err(|why| {
        CliError::DoesNotHold(format!("transaction {id}, made of line {line}, is not final: {why}"))
    })?;
    gateway.note_final(&id, done.leaf);
    driven.finals.push((id, done.leaf));
    driven.latencies.push(took);
    driven.violations += u64::from(done.violation);
    bar.inc(1);
    Ok(())
}
