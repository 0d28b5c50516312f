//! What a validator finds on its disk: the block log, the state made of it, the tiles.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::execution::{Shown, last_published};
use super::open::StartError;
use crate::committee::Committee;
use crate::config::ConfigFile;
use crate::execute::{Executor, KeyDirectory};
use crate::genesis::Genesis;
use crate::io::files::DataLock;
use crate::io::log_store::{LogEvent, LogStore};
use crate::io::state_store::StateStore;
use crate::io::tile_store::TileStore;
use crate::log::{LogOptions, Record};
use crate::node::{LogKey, Recovered};
use crate::proof::checkpoint::CheckpointKeys;
use crate::types::{AuthorityIndex, CommitIndex};

/// The data on disk, opened.
pub(super) struct Data {
    pub(super) lock: DataLock,
    pub(super) store: LogStore,
    pub(super) executor: Executor<StateStore>,
    pub(super) tiles: TileStore,
    pub(super) recovered: Recovered,
    pub(super) checkpoint_file: PathBuf,
}

impl Data {
    /// The last commit that the log holds.
    pub(super) fn last_commit(&self) -> CommitIndex {
        self.recovered.last_commit().map_or(CommitIndex(0), |commit| commit.index)
    }

    /// What the executor shows to others, as it was before the start.
    pub(super) fn shown(&self, keys: &CheckpointKeys) -> Arc<Shown> {
        let head = self.executor.head();
        Shown::new(head, last_published(&self.checkpoint_file, keys, &head))
    }
}

/// Opens all of it. The log tells `notify` what becomes of it.
pub(super) fn open_data(
    config: &ConfigFile,
    genesis: &Genesis,
    own: AuthorityIndex,
    keys: &KeyDirectory,
    notify: impl FnMut(LogEvent) + Send + 'static,
) -> Result<Data, StartError> {
    let folder = config.path(&config.config().data_dir);
    let lock = DataLock::acquire(&folder)?;
    let options = LogOptions { segment_bytes: config.config().log.segment_bytes, seed: 0 };
    let state = StateStore::open(folder.join("state"))?;
    let table = state.blocks();
    let executor = Executor::open(genesis, state, keys.clone())?;
    let head = executor.head();
    let mut recovered = Recovered::new(own, head, genesis);
    let mut fault = None;
    let name = |record: &Record| LogKey::of(record.kind, &record.bytes).map(|key| key.block);
    let each = |record: Record| {
        if fault.is_none() {
            fault = recovered.record(record.seq, record.kind, record.bytes).err();
        }
    };
    let blocks = folder.join("blocks");
    let (store, found) = LogStore::open(&blocks, genesis.network(), options, table, name, each, notify)?;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    let mut tiles = TileStore::open(folder.join("tiles"))?;
    tiles.mend(&executor)?;
    info!(
        records = found.last.0,
        torn_tail_bytes = found.torn_tail_bytes,
        commit = recovered.last_commit().map_or(0, |commit| commit.index.0),
        executed = head.commit.0,
        leaves = head.tree_size,
        "data folder opened"
    );
    Ok(Data { lock, store, executor, tiles, recovered, checkpoint_file: folder.join("checkpoint") })
}

/// Says that the validator rejoins, or why it cannot.
pub(super) fn check_lost_log(
    data: &Data,
    committee: &Committee,
    own: AuthorityIndex,
    first_life: bool,
) -> Result<(), StartError> {
    data.recovered.check_state(data.executor.last_payload()?)?;
    if !data.recovered.has_lost_log(first_life) {
        return Ok(());
    }
    let others = committee.total_stake().0 - committee.stake(own).0;
    if others < committee.thresholds().round_quorum.0 {
        return Err(StartError::LostLog);
    }
    warn!(
        "these keys have signed before and the block log does not hold what: rejoining, without signing, until a quorum \
         of the others has said how far they are"
    );
    Ok(())
}
