//! Gives a DAG block by block to the committer that runs, and demands the specification's decisions after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use salus::committee::{Authority, Committee};
use salus::consensus::{Commit, Committer, Decision, LeaderSchedule, Linearizer, Slot};
use salus::dag::{DagState, VerifiedHeader};
use salus::types::{
    AuthorityIndex, BlockRef, Epoch, HEADER_VERSION, Header, NetworkId, Payload, Round, SIGNATURE_BYTES,
    SignedHeader, Stake, TimestampMs,
};

use crate::explore::{AUTHORITIES, shown};
use crate::sample::Random;
use crate::spec::{self, Blocks, Dag, Id, Rules, View};

/// When the network of these tests was made: later than some blocks say they were.
const CREATED: TimestampMs = TimestampMs(300);

fn committee() -> Arc<Committee> {
    let authority = |i: u8| Authority {
        name: format!("v{i}"),
        stake: Stake(1),
        address: format!("v{i}:1"),
        network_key: [1 + 4 * i; 32],
        consensus_key: [2 + 4 * i; 32],
        cosign_key: [3 + 4 * i; 32],
        log_key: [4 + 4 * i; 32],
    };
    Arc::new(Committee::new(Epoch(0), NetworkId(*b"model-04"), (0..4).map(authority).collect()))
}

/// The rules of one run of the committer.
pub struct Judge {
    committee: Arc<Committee>,
    schedule: LeaderSchedule,
    gc_depth: u64,
}

/// A DAG with the headers that its blocks become.
pub struct Built<'a> {
    dag: &'a Dag,
    headers: Vec<VerifiedHeader>,
}

impl Judge {
    pub fn new(leaders: u16, gc_depth: u64) -> Self {
        let committee = committee();
        let schedule = LeaderSchedule::new(Arc::clone(&committee), leaders);
        Self { committee, schedule, gc_depth }
    }

    fn leaders(&self) -> impl Fn(spec::Round) -> Vec<spec::Author> {
        let round = |round: spec::Round| Round(u64::try_from(round).unwrap());
        move |number| self.schedule.leaders(round(number)).into_iter().map(AuthorityIndex::as_usize).collect()
    }

    /// Headers for a DAG. Times are random, and so are the digests that break ties; no two headers are the same.
    pub fn build<'a>(&self, dag: &'a Dag, random: &mut Random) -> Built<'a> {
        let mut headers: Vec<VerifiedHeader> = Vec::new();
        for id in 0..dag.len() {
            let block = dag.get(id);
            let named: BTreeMap<usize, BlockRef> =
                block.ancestors.iter().map(|a| (dag.get(a).author, headers[a].reference())).collect();
            let genesis = |author| self.committee.genesis_block(AuthorityIndex::from_usize(author));
            let own = named.get(&block.author).copied().unwrap_or_else(|| genesis(block.author));
            let others = (0..AUTHORITIES).filter(|author| *author != block.author);
            let others = others.filter_map(|author| match block.round {
                1 => Some(genesis(author)),
                _ => named.get(&author).copied(),
            });
            let header = Header {
                version: HEADER_VERSION,
                epoch: Epoch(0),
                round: Round(u64::try_from(block.round).unwrap()),
                author: AuthorityIndex::from_usize(block.author),
                time: TimestampMs(u64::try_from(64 * random.below(8 * block.round) + id).unwrap()),
                ancestors: std::iter::once(own).chain(others).collect(),
                n_tx: 0,
                payload_len: 0,
                payload_root: Payload::empty().root(),
                system: Vec::new(),
            };
            let header = SignedHeader::build(header, |_| [0; SIGNATURE_BYTES]);
            headers.push(VerifiedHeader::trusted(header));
        }
        Built { dag, headers }
    }

    /// Lets the blocks come in this order. After each, the committer goes on from where it stood, as the node lets it,
    /// and must have decided what the specification decides of the whole view.
    pub fn drive(&self, built: &Built<'_>, order: &[Id]) -> usize {
        let mut state = DagState::new(Arc::clone(&self.committee), Round(0));
        let mut committer = Committer::new(self.schedule.clone());
        let mut linearizer = Linearizer::new(CREATED, self.gc_depth);
        let first = Slot { round: Round(1), rank: 0 };
        let (mut next, mut decided, mut commits) = (first, Vec::new(), Vec::new());
        let mut view = View { dag: built.dag, blocks: Blocks::default() };
        let mut expected = Vec::new();
        for id in order {
            state.insert(built.headers[*id].clone());
            view.blocks = view.blocks.or(Blocks::of(*id));
            for (slot, decision) in committer.try_decide(&state, next) {
                next = committer.next_slot(slot);
                decided.push((slot, decision));
                if let Decision::Commit(leader) = decision {
                    commits.push(linearizer.commit(&mut state, leader));
                }
            }
            expected = view.decisions(&self.leaders(), Rules::SOUND);
            let wanted: Vec<(Slot, Decision)> = expected.iter().map(|one| built.real(one)).collect();
            assert_eq!(decided, wanted, "after block {id} of {order:?}\n{}", shown(built.dag));
        }
        // One that has seen nothing of how the DAG grew comes to the same.
        assert_eq!(Committer::new(self.schedule.clone()).try_decide(&state, first), decided);
        self.check_order(built, &view, &expected, &commits);
        decided.len()
    }

    fn check_order(
        &self,
        built: &Built<'_>,
        view: &View<'_>,
        expected: &[(spec::Slot, spec::Decision)],
        commits: &[Commit],
    ) {
        let order = view.order(expected, usize::try_from(self.gc_depth).unwrap());
        assert_eq!(commits.len(), order.len());
        let mut time = CREATED;
        for (commit, (leader, blocks)) in commits.iter().zip(order) {
            let mut blocks: Vec<BlockRef> = blocks.iter().map(|id| built.headers[*id].reference()).collect();
            blocks.sort_unstable();
            assert_eq!((commit.leader, &commit.blocks), (built.headers[leader].reference(), &blocks));
            let block = built.dag.get(leader);
            let parents = block.ancestors.filter(|id| built.dag.get(id).round + 1 == block.round);
            let mut times: Vec<TimestampMs> =
                parents.iter().map(|id| built.headers[id].header().time).collect();
            times.sort_unstable();
            // The median of equal stakes; time never goes back.
            time = times.get(times.len() / 2).map_or(time, |median| time.max(*median));
            assert_eq!(commit.time, time);
        }
    }
}

impl Built<'_> {
    /// A decision of the specification in the committer's words.
    fn real(&self, (slot, decision): &(spec::Slot, spec::Decision)) -> (Slot, Decision) {
        let round = Round(u64::try_from(slot.round).unwrap());
        let decision = match decision {
            spec::Decision::Commit(id) => Decision::Commit(self.headers[*id].reference()),
            spec::Decision::Skip => Decision::Skip,
            spec::Decision::Undecided => Decision::Undecided,
        };
        (Slot { round, rank: slot.rank }, decision)
    }
}
