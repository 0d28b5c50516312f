//! Answers peers from the block log, so that the core never waits for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::warn;

use crate::error::StorageError;
use crate::io::block_index::BlockIndex;
use crate::io::disk::FolderFile;
use crate::io::peer::PeerNet;
use crate::log::{LogReader, Record};
use crate::node::{LogKey, RecordKind, serve_from_log};
use crate::types::{AuthorityIndex, FetchRequest, Round};

/// Headers that one request for rounds looks up; the answer's size bounds it further.
const HEADERS_MAX: usize = 4_096;

/// Requests of one peer that may wait: it gets no more of the disk than any other.
const QUESTIONS_PER_PEER_MAX: usize = 4;

/// What a peer asks for.
#[derive(Debug)]
pub(super) struct Question {
    to: AuthorityIndex,
    request: FetchRequest,
    _place: Place,
}

/// One of a peer's places at the desk, given back on drop.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A desk for a committee of `peers`, and what a thread has to run that answers what is left there.
pub(super) fn desk(
    peers: usize,
    reader: LogReader<FolderFile>,
    index: Arc<BlockIndex>,
    net: Arc<PeerNet>,
) -> (Desk, impl FnOnce() + Send) {
    let (sender, questions) = bounded(QUESTIONS_PER_PEER_MAX * peers);
    (Desk::new(sender, peers), move || run(&questions, &reader, &index, &net))
}

/// Where the core leaves requests.
#[derive(Debug)]
pub(super) struct Desk {
    questions: Sender<Question>,
    waiting: Vec<Arc<AtomicUsize>>,
}

impl Desk {
    /// `questions` has room for what all peers of a committee of `peers` may ask.
    fn new(questions: Sender<Question>, peers: usize) -> Self {
        Self { questions, waiting: (0..peers).map(|_| Arc::default()).collect() }
    }

    /// Leaves a request; `false` if the peer has too many already. Never waits.
    pub(super) fn ask(&self, to: AuthorityIndex, request: FetchRequest) -> bool {
        let waiting = &self.waiting[to.as_usize()];
        let place = Place(Arc::clone(waiting));
        let before = waiting.fetch_add(1, Ordering::AcqRel);
        before < QUESTIONS_PER_PEER_MAX
            && self.questions.try_send(Question { to, request, _place: place }).is_ok()
    }
}

/// Runs until nobody can ask any more.
fn run(
    questions: &Receiver<Question>,
    reader: &LogReader<FolderFile>,
    index: &Arc<BlockIndex>,
    peers: &PeerNet,
) {
    let in_rounds = |kind: RecordKind, from: Round, to: Round| {
        let found = index.in_rounds(kind as u8, from, to.0 - from.0, HEADERS_MAX)?;
        Ok(found.into_iter().map(|(block, _)| block).collect())
    };
    let read = |key: LogKey| -> Result<Option<Bytes>, StorageError> {
        let Some(seq) = index.get(key.kind as u8, &key.block)? else { return Ok(None) };
        // The table of an index is no part of the log, and nothing vouches for it but what it leads to.
        let is_it = |record: &Record| LogKey::of(record.kind, &record.bytes) == Some(key);
        Ok(reader.read(seq)?.filter(is_it).map(|record| record.bytes))
    };
    for Question { to, request, _place } in questions {
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
