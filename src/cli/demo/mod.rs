//! `salus demo`: the main job, end to end, on this machine.

mod drive;
mod prove;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::network::{LocalNetwork, NetworkOptions, REGION};
use super::signals::Signals;
use super::{CliError, files};
use crate::gateway::{Gateway, SAMPLE_STREAM, Settings, SystemEntropy, fhir};
use crate::types::NetworkId;

/// Largest event stream.
const STREAM_BYTES_MAX: usize = 256 << 20;
/// How long the validators may take until they serve.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Number of the first organisation that the stream admits.
const FIRST_ORG: u32 = 101;

const EXAMPLES: &str = "\
EXAMPLES
  The whole story on the sample that ships with the program:
      salus demo
  The same, with everything left running and in place to look at:
      salus demo --dir salus-demo --keep
  Seven validators, the sample a hundred times over:
      salus demo --validators 7 --times 100
  Your own events:
      salus demo --data events.ndjson --times 1

  Exit code 0: everything held. 1: something did not hold. 2: it could not be done.";

/// Run a network of validators on this machine, make a hospital's day final on it, and prove a record.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Folder to make the network in; it stays [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Number of validators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=22))]
    pub validators: u16,
    /// Event stream, one JSON object {when, tx, resource} a line [default: the sample in the program]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How many times the clinical events are submitted, each time as those of other patients
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub times: u32,
    /// Leave the validators running and the folder in place
    #[arg(long)]
    pub keep: bool,
}

/// The folder of the network, and who removes it.
enum Folder {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Folder {
    fn new(given: Option<&Path>) -> Result<Self, CliError> {
        match given {
            Some(dir) => Ok(Self::Given(dir.to_owned())),
            None => tempfile::Builder::new()
                .prefix("salus-demo-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|error| CliError::unable(format!("cannot make a temporary folder: {error}"))),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }

    /// Whether it is there when the demo has ended.
    fn stays(&self, keep: bool) -> bool {
        keep || matches!(self, Self::Given(_))
    }

    fn keep(self) {
        if let Self::Temporary(dir) = self {
            let _stays = dir.keep();
        }
    }
}

/// Runs the demo. Whatever happens, no process that it started outlives it, unless it was to keep them and all went well.
pub(super) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let stream = match &args.data {
        Some(path) => files::read(path, STREAM_BYTES_MAX)?,
        None => SAMPLE_STREAM.to_vec(),
    };
    let name = args.data.as_deref().map_or("the sample".to_owned(), |path| path.display().to_string());
    let events = fhir::parse_stream(&stream).map_err(|error| CliError::unable(format!("{name}: {error}")))?;
    let program = std::env::current_exe()
        .map_err(|error| CliError::unable(format!("cannot find this program's own file: {error}")))?;
    let folder = Folder::new(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::unable(format!("cannot start threads: {error}")))?;
    let mut network = None;
    let done = runtime.block_on(async {
        // From here on these signals no longer end the process: its children have to be ended first.
        let mut signals = Signals::listen()?;
        let options = NetworkOptions {
            dir: folder.path().to_owned(),
            validators: args.validators,
            program,
            own_group: args.keep,
        };
        let network = network.insert(LocalNetwork::create(&options)?);
        let plan = Plan { events, source: name, times: args.times };
        tokio::select! {
            biased;
            what = signals.next() => Err(CliError::unable(format!("{what}: everything that was started has been ended"))),
            done = perform(network, plan, out) => done,
        }
    });
    runtime.shutdown_background();
    match (done, network) {
        (Ok(()), Some(mut network)) => {
            report::next_steps(&mut network, folder.stays(args.keep), args.keep, out)?;
            if args.keep {
                network.release();
                folder.keep();
            }
            Ok(())
        }
        (Ok(()), None) => Ok(()),
        // The network is dropped before the folder.
        (Err(error), network) => {
            drop(network);
            Err(error)
        }
    }
}

/// What to submit.
struct Plan {
    events: Vec<fhir::Event>,
    /// What the events come from, for people.
    source: String,
    times: u32,
}

impl Plan {
    fn gateway(self, network: &LocalNetwork) -> Result<Gateway<SystemEntropy>, CliError> {
        let settings = Settings {
            network: network.genesis().network(),
            first_org: FIRST_ORG,
            region: REGION,
            policy: policy(network.genesis().network()),
            times: self.times,
        };
        Gateway::new(self.events, settings, network.governors(1), SystemEntropy)
            .map_err(|error| CliError::unable(format!("{}: {error}", self.source)))
    }
}

/// Digest of the policy text that the organisations of a demo sign up to.
fn policy(network: NetworkId) -> [u8; 32] {
    let text = format!("Demonstration network {network}: synthetic records, no obligations.");
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// The demo itself, from the first start to the refused forgery.
async fn perform(network: &mut LocalNetwork, plan: Plan, out: &mut dyn Write) -> Result<(), CliError> {
    let (events, source, times) = (plan.events.len(), plan.source.clone(), plan.times);
    let mut gateway = plan.gateway(network)?;
    let started = Instant::now();
    network.start_all()?;
    network.wait_all_ready(READY_WITHIN).await?;
    report::network(network, started.elapsed(), out)?;
    report::plan(&gateway, events, &source, times, out)?;
    let pool = network.pool();
    let driven = drive::drive(&mut gateway, &pool, out).await?;
    let counts = pool.counts();
    drop(pool);
    report::load(&driven, counts, out)?;
    report::agreement(network, &driven, out).await?;
    prove::prove(network, &gateway, &driven, out).await
}
