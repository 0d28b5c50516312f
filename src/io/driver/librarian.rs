//! Answers peers from the block log, so that the core never waits for the disk.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use tracing::warn;

use crate::io::disk::FolderFile;
use crate::io::peer::PeerNet;
use crate::log::{BlockIndex, LogReader};
use crate::node::{LogKey, RecordKind, serve_from_log};
use crate::types::{AuthorityIndex, FetchRequest, Round};

/// Headers that one request for rounds looks up; the answer's size bounds it further.
const HEADERS_MAX: usize = 4_096;

/// What a peer asks for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) to: AuthorityIndex,
    pub(super) request: FetchRequest,
}

/// Runs until nobody can ask any more.
pub(super) fn run(
    questions: &Receiver<Question>,
    reader: &LogReader<FolderFile>,
    index: &Arc<BlockIndex>,
    peers: &PeerNet,
) {
    let in_rounds = |from: Round, to: Round| {
        let found = index.in_rounds(RecordKind::Header as u8, from, to.0 - from.0, HEADERS_MAX);
        found.into_iter().map(|(block, _)| block).collect()
    };
    let read = |key: LogKey| match index.get(key.kind as u8, &key.block) {
        Some(seq) => reader.read(seq).map(|record| record.map(|record| record.bytes)),
        None => Ok(None),
    };
    for Question { to, request } in questions {
        match serve_from_log(&request, in_rounds, read) {
            Ok(answers) => {
                for answer in answers {
                    peers.send(to, answer.encode());
                }
            }
            Err(error) => warn!(peer = %to, %error, "cannot answer a peer from the block log"),
        }
    }
}
