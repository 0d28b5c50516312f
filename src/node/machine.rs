//! The node itself: takes inputs, moves blocks through DAG, order and execution, and keeps time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::certificates::Certificates;
use super::checkpoints::Checkpoints;
use super::commit_sync::CommitSync;
use super::commits::{CommitQueue, CommitVotes};
use super::effect::{Effect, Input, LogRecord, Reply};
use super::equivocations::Equivocations;
use super::fetcher::{self, Fetcher, Frontier};
use super::knowledge::Knowledge;
use super::memory::Shares;
use super::pace::Pace;
use super::pacemaker::Pacemaker;
use super::payload_cap::PayloadCap;
use super::proposer::Proposer;
use super::recovery::Recovered;
use super::rejoin::Rejoin;
use super::versions::Versions;
use crate::committee::{AuthoritySet, Committee};
use crate::consensus::{Committer, Linearizer, Slot};
use crate::crypto::{Domain, Purpose, SecretKey};
use crate::dag::{Admission, BlockManager, DagState, VerifiedHeader};
use crate::error::PeerError;
use crate::execute::{LedgerHead, Verdict};
use crate::genesis::Genesis;
use crate::mempool::{Mempool, MempoolLimits, PooledTransaction};
use crate::planted::{self, Bug};
use crate::types::{
    AuthorityIndex, BlockRef, CommitIndex, EquivocationProof, FetchRequest, LogSeq, Payload, PeerMessage,
    Round, SignedHeader, TimestampMs,
};

/// Multiple of the backlog of execution at which a node takes no more headers, so that its memory stays bounded.
const OVERLOAD_FACTOR: u64 = 4;

/// What the node is told of time with every input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since some fixed moment; never goes back. Timers run by it.
    pub monotonic_us: u64,
    /// The machine's idea of the time of day. Goes into headers and nowhere else.
    pub wall: TimestampMs,
}

/// What a node is made of.
#[derive(Debug)]
pub struct NodeConfig {
    /// Which validator this is.
    pub authority: AuthorityIndex,
    /// Signs headers.
    pub consensus_key: SecretKey,
    /// Cosigns checkpoints.
    pub cosign_key: SecretKey,
    /// Pace of rounds and of requests.
    pub pace: Pace,
    /// Bounds of the pool and of own blocks.
    pub mempool: MempoolLimits,
    /// Transactions that may be committed and not executed yet before own blocks go out empty.
    pub execution_backlog_max: u64,
    /// Newest version of the protocol that it speaks, [`PROTOCOL_VERSION`] but for tests of upgrades.
    ///
    /// [`PROTOCOL_VERSION`]: crate::types::PROTOCOL_VERSION
    pub protocol: u16,
    /// Memory that peers may make it use, about; see `limits.memory_mb` of the configuration.
    pub memory_bytes: usize,
    /// Whether its consensus key has never signed: it may start at round 1 with an empty log. If it has signed and the log
    /// holds no own block, the log is lost.
    pub first_life: bool,
}

/// Figures for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Round of the last own block.
    pub own_round: Round,
    /// Highest round with a quorum of blocks.
    pub quorum_round: Round,
    /// Last commit.
    pub commit: CommitIndex,
    /// Last commit that was executed.
    pub executed: CommitIndex,
    /// Transactions in the pool.
    pub mempool: usize,
    /// Bytes of them.
    pub mempool_bytes: usize,
    /// Estimate of the memory that headers, payloads and transactions take.
    pub memory_bytes: usize,
    /// Blocks in the DAG.
    pub dag_blocks: usize,
    /// Headers that wait for ancestors.
    pub suspended: usize,
    /// Headers and payloads that are being asked for.
    pub fetching: usize,
    /// Second blocks of one author in one round that were seen.
    pub equivocations: u64,
    /// Who made them.
    pub equivocators: AuthoritySet,
    /// 2Δ as it is now: how long the round's first leader is waited for.
    pub leader_timeout_us: u64,
    /// Smoothed time between own blocks.
    pub round_us: u64,
    /// Bytes that the next own payload may have.
    pub payload_cap: usize,
    /// Leader slots that were skipped.
    pub skipped_leaders: u64,
    /// Commit certificates that were written down.
    pub certificates: u64,
    /// Commits that were taken over from peers, with a certificate.
    pub applied_commits: u64,
    /// Commits that the state held already when they were decided: after a crash it may be ahead of the log.
    pub repeated_commits: u64,
    /// Leader slots that were committed.
    pub committed_leaders: u64,
}

/// The machine. See the module's text.
#[derive(Debug)]
pub struct Node {
    pub(super) config: NodeConfig,
    pub(super) committee: Arc<Committee>,
    pub(super) header_domain: Domain,
    pub(super) dag: DagState,
    pub(super) manager: BlockManager,
    pub(super) committer: Committer,
    pub(super) linearizer: Linearizer,
    pub(super) next_slot: Slot,
    pub(super) mempool: Mempool,
    pub(super) proposer: Proposer,
    pub(super) commits: CommitQueue,
    pub(super) checkpoints: Checkpoints,
    pub(super) fetcher: Fetcher,
    pub(super) pacemaker: Pacemaker,
    pub(super) knowledge: Knowledge,
    pub(super) equivocations: Equivocations,
    pub(super) payload_cap: PayloadCap,
    pub(super) commit_votes: CommitVotes,
    pub(super) certificates: Certificates,
    pub(super) commit_sync: CommitSync,
    pub(super) rejoin: Rejoin,
    pub(super) shares: Shares,
    /// Own blocks that are not executed yet, with the transactions that went into them.
    pub(super) own_blocks: BTreeMap<BlockRef, Vec<PooledTransaction>>,
    /// Payload bytes of them.
    pub(super) own_bytes: usize,
    pub(super) early_payloads: BTreeMap<BlockRef, (AuthorityIndex, Arc<Payload>)>,
    /// Payloads of the log that the pipeline has to look at again.
    pub(super) unverified: Vec<(BlockRef, Arc<Payload>)>,
    /// Number of the last record given to the log.
    pub(super) last_seq: LogSeq,
    /// Records up to this one are to be made durable.
    pub(super) sync_asked: LogSeq,
    /// Records up to this one are durable.
    pub(super) durable: LogSeq,
    /// What the state held at the start.
    pub(super) resumed_at: LedgerHead,
    pub(super) quorum_round: Round,
    pub(super) dag_changed: bool,
    pub(super) versions: Versions,
    pub(super) stats: NodeStats,
    halted: bool,
}

impl Node {
    /// A node that goes on where its log ended; `executed` is what its state holds, `checkpoint` the last head of it that
    /// was due as a checkpoint. The state may be a little ahead of the log: [`Recovered::check_state`].
    #[must_use]
    pub fn new(
        config: NodeConfig,
        genesis: &Genesis,
        recovered: Recovered,
        executed: LedgerHead,
        checkpoint: LedgerHead,
    ) -> Self {
        let committee = Arc::new(genesis.committee());
        let parameters = genesis.parameters();
        let shares = Shares::of(config.memory_bytes, committee.size());
        let mut node = Self {
            shares,
            header_domain: Domain::new(Purpose::Header, genesis.network()),
            dag: DagState::new(Arc::clone(&committee), Round(0)),
            manager: BlockManager::new(committee.size(), shares.manager()),
            committer: Committer::new(recovered.schedule.clone()),
            linearizer: Linearizer::new(genesis.created(), parameters.gc_depth),
            next_slot: Slot { round: Round(1), rank: 0 },
            mempool: Mempool::new(config.mempool),
            proposer: Proposer::new(&committee, config.authority),
            commits: CommitQueue::default(),
            checkpoints: Checkpoints::new(&committee, genesis.origin(), config.authority),
            rejoin: Rejoin::default(),
            fetcher: Fetcher::new(&committee, config.authority, config.pace),
            pacemaker: Pacemaker::new(&committee, &config.pace),
            knowledge: Knowledge::new(&committee, config.authority),
            equivocations: Equivocations::new(parameters.gc_depth),
            payload_cap: PayloadCap::new(config.mempool.block_bytes, config.pace.leader_timeout_min_us / 2),
            commit_votes: CommitVotes::default(),
            certificates: Certificates::new(&committee),
            commit_sync: CommitSync::default(),
            own_blocks: BTreeMap::new(),
            own_bytes: 0,
            early_payloads: BTreeMap::new(),
            unverified: Vec::new(),
            last_seq: LogSeq(0),
            sync_asked: LogSeq(0),
            durable: LogSeq(0),
            resumed_at: executed,
            quorum_round: Round(0),
            dag_changed: true,
            versions: Versions::new(&committee, config.authority, config.protocol),
            stats: NodeStats::default(),
            halted: false,
            committee,
            config,
        };
        node.resume(recovered, checkpoint);
        node
    }

    /// Which validator this is.
    #[must_use]
    pub fn authority(&self) -> AuthorityIndex {
        self.config.authority
    }

    /// Whether it lost its log and waits for others to say up to which round to be silent.
    #[must_use]
    pub fn is_rejoining(&self) -> bool {
        self.rejoin.is_asking()
    }

    /// Figures for operators.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            own_round: self.proposer.last().round,
            quorum_round: self.quorum_round,
            commit: self.linearizer.index(),
            mempool: self.mempool.len(),
            mempool_bytes: self.mempool.bytes(),
            memory_bytes: self.memory_bytes(),
            dag_blocks: self.dag.len(),
            suspended: self.manager.suspended_len(),
            fetching: self.fetcher.len(),
            equivocators: self.equivocations.authors(),
            leader_timeout_us: self.pacemaker.leader_timeout_us(&self.committee),
            round_us: self.pacemaker.round_us(),
            payload_cap: self.payload_cap.bytes(),
            ..self.stats
        }
    }

    /// Transactions in the pool, and their bytes.
    #[must_use]
    pub fn pooled(&self) -> (usize, usize) {
        (self.mempool.len(), self.mempool.bytes())
    }

    /// Proofs that validators made two blocks of one round: at most one for each validator.
    pub fn evidence(&self) -> impl Iterator<Item = &EquivocationProof> {
        self.equivocations.proofs()
    }

    /// Takes one input. Effects are appended to `out`, to be carried out in their order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.handle_all(now, [input], out);
    }

    /// Takes inputs that are there together: what they make possible is looked for once, behind the last of them.
    pub fn handle_all(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Effect>) {
        if self.halted {
            return;
        }
        let first = out.len();
        // A block that the log holds from before a crash may leave with any input.
        if self.config.first_life && self.proposer.latest_sent().is_some() {
            self.config.first_life = false;
            out.push(Effect::KeysUsed);
        }
        for input in inputs {
            self.take(now, input, out);
        }
        self.progress(now, out);
        if self.halted {
            let halt = out[first..].iter().position(|effect| matches!(effect, Effect::Halt(_)));
            out.truncate(halt.map_or(out.len(), |at| first + at + 1));
        }
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::PeerUp { peer, version } => self.on_peer_up(peer, version, out),
            Input::PeerDown(peer) => {
                self.knowledge.peer_down(peer);
                self.fetcher.peer_down(peer);
                self.commit_sync.peer_down(peer);
            }
            Input::Headers { from, headers } => self.on_headers(now, from, headers, out),
            Input::Payload { from, block, payload } => self.on_payload(now, from, block, payload, out),
            Input::Fetch { from, request } => self.on_fetch(from, request, out),
            Input::Latest { from, nonce, header } => self.on_latest(now, from, nonce, header, out),
            Input::Commits { from, commits } => self.on_commits(now, from, &commits, out),
            Input::Transactions(txs) => self.on_transactions(txs, out),
            Input::Verified { block, verdicts } => self.on_verified(&block, verdicts),
            Input::Synced(seq) => self.durable = self.durable.max(seq),
            Input::Executed(executed) => self.on_executed(*executed, out),
            Input::Tick => {}
        }
    }

    /// When to give [`Input::Tick`], on the monotonic clock; `None` if nothing waits for time.
    #[must_use]
    pub fn next_timeout(&self, now: Now) -> Option<u64> {
        let fetch = self.fetcher.next_timeout();
        let sync = self.commit_sync.next_timeout(self.commit_sync_pause_us());
        [self.propose_timeout(now), fetch, sync, self.rejoin.next_timeout()].into_iter().flatten().min()
    }

    /// Everything that may have become possible by the last input.
    fn progress(&mut self, now: Now, out: &mut Vec<Effect>) {
        for (block, payload) in self.take_unverified() {
            out.push(Effect::Verify { block, payload });
        }
        self.poll_rejoin(now, out);
        self.flush_outbox(now, out);
        self.try_commit(out);
        while self.try_propose(now, out) || self.dag_changed {
            self.try_commit(out);
        }
        self.resend_latest(now, out);
        self.try_execute(out);
        self.poll_commit_sync(now, out);
        let frontier = Frontier { quorum: self.quorum_round, undecided: self.next_slot.round };
        self.fetcher.poll(now, frontier, &self.manager, &self.dag, out);
        self.checkpoints.settle(out);
        if let Some(reason) = self.checkpoints.divergence() {
            self.halt(reason, out);
        }
    }

    /// Asks for everything up to a record to be made durable, unless that was asked for.
    pub(super) fn sync(&mut self, seq: LogSeq, out: &mut Vec<Effect>) {
        if seq > self.sync_asked {
            self.sync_asked = seq;
            out.push(Effect::Sync(seq));
        }
    }

    /// What this validator holds cannot be what the network agreed on: it does and says nothing any more, nor what this input
    /// would have brought about further.
    pub(super) fn halt(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.halted = true;
        out.push(Effect::Halt(reason));
    }

    fn on_peer_up(&mut self, peer: AuthorityIndex, version: u16, out: &mut Vec<Effect>) {
        self.versions.heard(peer, version);
        self.knowledge.peer_up(peer);
        self.fetcher.peer_up(peer);
        self.rejoin_peer_up();
        if let Some(header) = self.proposer.latest_sent() {
            out.push(Effect::Send { to: peer, message: PeerMessage::Header(SignedHeader::clone(header)) });
        }
    }

    pub(super) fn on_headers(
        &mut self,
        now: Now,
        from: AuthorityIndex,
        headers: Vec<VerifiedHeader>,
        out: &mut Vec<Effect>,
    ) {
        if headers.is_empty() {
            self.fetcher.got_nothing(now, from);
        }
        for header in headers {
            let block = header.reference();
            self.fetcher.saw_round(&block);
            if !self.versions.admits(now.monotonic_us, &header) {
                // It is fetched when everybody reads it.
                continue;
            }
            if self.commits.backlog() > OVERLOAD_FACTOR * self.config.execution_backlog_max
                || !self.has_header_room()
            {
                // Execution is far behind: what is refused here is fetched in ranges once it has caught up.
                continue;
            }
            match self.manager.admit(&self.dag, from, header) {
                Admission::Accepted(ready) => {
                    self.knowledge.sent_by(from, &block);
                    self.fetcher.got_header(now, from, &block);
                    if ready.len() > 1 {
                        // Others had to wait for it: lines lose messages.
                        self.knowledge.missed(self.proposer.last().round);
                    }
                    for header in ready {
                        self.accept(now, header, out);
                    }
                }
                Admission::Suspended(_) => self.fetcher.got_header(now, from, &block),
                Admission::Known => {
                    self.knowledge.sent_by(from, &block);
                    self.fetcher.got_header(now, from, &block);
                }
                // If it was asked for it still is, after a pause.
                Admission::Refused => {}
            }
        }
    }

    /// Enters a header into the DAG, with what came before it of its payload.
    pub(super) fn accept(&mut self, now: Now, header: VerifiedHeader, out: &mut Vec<Effect>) {
        let block = header.reference();
        self.knowledge.entered(&header);
        self.note_equivocation(&header, out);
        self.append(LogRecord::Header(header.clone()), out);
        self.checkpoints.collect_votes(&header, out);
        let certificate = self.certificates.collect(&header);
        self.keep_certificate(certificate, out);
        self.enter(now, header);
        if block.author == self.config.authority {
            self.proposer.adopt(block);
        }
        if self.dag.get(&block).is_some_and(|entry| entry.payload_seq.is_none()) {
            if let Some((from, payload)) = self.early_payloads.remove(&block) {
                self.on_payload(now, from, block, payload, out);
            }
            if self.dag.get(&block).is_some_and(|entry| entry.payload_seq.is_none()) {
                self.fetcher.want_payload(now, block);
            }
        }
    }

    /// Enters a header into the DAG and follows the quorum round.
    pub(super) fn enter(&mut self, now: Now, header: VerifiedHeader) {
        let available = self.dag.insert(header);
        self.note_available(now, &available);
        self.follow_quorum();
    }

    /// Blocks became available: how late they are is what the waits for the next ones follow.
    fn note_available(&mut self, now: Now, blocks: &[BlockRef]) {
        for block in blocks.iter().filter(|block| block.author != self.config.authority) {
            self.pacemaker.came(block.author, block.round, now.monotonic_us);
        }
    }

    /// Looks for a second block in the slot of one that is about to enter the DAG, and for proofs that it carries.
    pub(super) fn note_equivocation(&mut self, header: &VerifiedHeader, out: &mut Vec<Effect>) {
        let block = header.reference();
        let beside: Vec<VerifiedHeader> =
            self.dag.slot(block.round, block.author).map(|(_, entry)| entry.header.clone()).collect();
        let mut proofs = self.equivocations.read(header);
        self.stats.equivocations += u64::from(!beside.is_empty());
        proofs.extend(beside.iter().filter_map(|other| self.equivocations.beside(header, other)));
        let own = self.proposer.last().round;
        if !self.equivocations.authors().is_empty()
            && !self.equivocations.is_shunned(block.author, block.round)
        {
            for ancestor in &header.header().ancestors {
                if self.equivocations.is_shunned(ancestor.author, ancestor.round) {
                    self.equivocations.named(ancestor.author, own);
                }
            }
        }
        out.extend(proofs.into_iter().map(|proof| Effect::Accuse(Box::new(proof))));
    }

    /// Follows the quorum round after a block has entered the DAG.
    pub(super) fn follow_quorum(&mut self) {
        let quorum = self.committee.thresholds().round_quorum;
        while self.dag.accepted_stake(self.quorum_round.next()).reaches(quorum) {
            self.quorum_round = self.quorum_round.next();
        }
        self.dag_changed = true;
    }

    fn on_payload(
        &mut self,
        now: Now,
        from: AuthorityIndex,
        block: BlockRef,
        payload: Arc<Payload>,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.dag.get(&block) else {
            // Only the author pushes a payload unasked; from anybody else it is an answer that came too late.
            if from == block.author {
                self.keep_early(from, block, payload);
            }
            return;
        };
        if entry.payload_seq.is_some() {
            return;
        }
        if !payload.matches(entry.header.header()) {
            out.push(Effect::Blame { peer: from, error: PeerError::PayloadMismatch(block) });
            return;
        }
        if !self.has_payload_room(&block, &payload) {
            // It is asked for again.
            return;
        }
        let committed = entry.committed;
        let seq = self.append(LogRecord::Payload { block, bytes: payload.bytes().clone() }, out);
        if committed {
            // Its commit waits for it, and is executed only from what is durable.
            self.sync(seq, out);
        }
        self.fetcher.got_payload(now, from, &block);
        let available = self.dag.set_payload(&block, Arc::clone(&payload), seq);
        self.note_available(now, &available);
        out.push(Effect::Verify { block, payload });
    }

    fn on_verified(&mut self, block: &BlockRef, verdicts: Arc<[Verdict]>) {
        self.dag.set_verdicts(block, verdicts);
    }

    fn on_transactions(&mut self, txs: Vec<PooledTransaction>, out: &mut Vec<Effect>) {
        for tx in txs {
            let ticket = tx.ticket;
            let reply = match self.mempool.push(tx) {
                Ok(()) => Reply::Accepted,
                Err(_full) => Reply::Busy,
            };
            if let Some(ticket) = ticket {
                out.push(Effect::Reply { ticket, reply });
            }
        }
    }

    fn on_fetch(&mut self, from: AuthorityIndex, request: FetchRequest, out: &mut Vec<Effect>) {
        if let FetchRequest::Latest { nonce } = request {
            return self.serve_latest(from, nonce, out);
        }
        if let FetchRequest::Headers(blocks) = &request
            && let Some(newest) = blocks.iter().filter(|b| self.dag.get(b).is_some()).map(|b| b.round).max()
        {
            self.knowledge.asked_by(from, newest, self.proposer.last().round);
        }
        let held_back = |block: &BlockRef| self.proposer.is_held_back(block);
        let is_shunned = |block: &BlockRef| self.equivocations.is_shunned(block.author, block.round);
        fetcher::serve(&self.dag, is_shunned, held_back, from, request, out);
    }

    /// The transactions of an own block that is done with.
    pub(super) fn take_own(&mut self, block: &BlockRef) -> Option<Vec<PooledTransaction>> {
        let txs = self.own_blocks.remove(block)?;
        self.own_bytes -= txs.iter().map(|tx| 4 + tx.tx.bytes().len()).sum::<usize>();
        Some(txs)
    }

    /// Gives a record to the log and returns its number.
    pub(super) fn append(&mut self, record: LogRecord, out: &mut Vec<Effect>) -> LogSeq {
        self.last_seq.0 += 1;
        out.push(Effect::Append { seq: self.last_seq, record });
        self.last_seq
    }

    /// Forgets blocks that no commit can hold any more and that nothing waits for.
    pub(super) fn collect_garbage(&mut self, out: &mut Vec<Effect>) {
        // Blocks of commits that wait for execution stay, though a later commit could not hold them.
        let round = match self.commits.oldest_round() {
            Some(oldest) => self.linearizer.gc_round().min(oldest.previous()),
            None if planted::is(Bug::GcTooEarly) => {
                Round(self.linearizer.gc_round().0 + self.linearizer.gc_depth())
            }
            None => self.linearizer.gc_round(),
        };
        if round <= self.dag.gc_round() {
            return;
        }
        for orphan in self.dag.collect_garbage(round) {
            if let Some(txs) = self.take_own(&orphan) {
                self.mempool.put_back(txs);
            }
        }
        self.early_payloads.retain(|block, _| block.round > round);
        self.fetcher.collect_garbage(round);
        for header in self.manager.collect_garbage(round) {
            // Their payloads are asked for as if they had just come; the moment does not matter.
            let now = Now { monotonic_us: 0, wall: TimestampMs(0) };
            self.accept(now, header, out);
        }
    }
}
