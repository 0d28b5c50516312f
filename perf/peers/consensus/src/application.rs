//! What is ordered, as the engine's marshal asks for it and gives it back.

use std::sync::Arc;
use std::time::Duration;

use commonware_actor::Feedback;
use commonware_consensus::marshal::Update;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::Context;
use commonware_consensus::types::Round;
use commonware_consensus::{Application as ConsensusApplication, Handoff, Reporter};
use commonware_cryptography::blake3::Digest;
use commonware_cryptography::{Digested, Digestible, ed25519};
use commonware_utils::Acknowledgement;
use futures::StreamExt;

use crate::block::Block;
use crate::pool::Pool;
use crate::route::Turns;

#[derive(Clone)]
pub struct Application {
    pool: Pool,
    pace: Pace,
    turns: Arc<Turns>,
}

/// How a leader goes about its blocks.
#[derive(Clone, Copy)]
pub struct Pace {
    /// It waits so long before each.
    pub pause: Duration,
    /// Most bytes of transactions in one.
    pub most: usize,
    /// Whether it proposes and votes before the block that it builds on is certified.
    pub early: bool,
}

impl Application {
    pub fn new(pool: Pool, pace: Pace, turns: Arc<Turns>) -> Self {
        Self { pool, pace, turns }
    }

    async fn build(&self, round: Round, mut ancestry: impl Ancestry<Block>) -> Option<Digested<Block>> {
        self.turns.saw(round.view().get());
        if !self.pace.pause.is_zero() {
            tokio::time::sleep(self.pace.pause).await;
        }
        let parent = ancestry.next().await?;
        let height = parent.inner().height.get() + 1;
        let (block, digest) = self.pool.propose(parent.digest(), height, self.pace.most, Block::digest);
        Some(Digested::precomputed(Arc::new(block), digest))
    }
}

impl<E: Send + 'static> ConsensusApplication<E> for Application {
    type SigningScheme = Scheme;
    type Context = Context<Digest, ed25519::PublicKey>;
    type Block = Block;
    type Input = ();

    async fn prepare(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<Block>,
        _input: (),
    ) -> Handoff<Digested<Block>> {
        if !self.pace.early {
            return Handoff::Wait;
        }
        self.build(context.1.round, ancestry).await.map_or(Handoff::Wait, Handoff::Vote)
    }

    async fn propose(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<Block>,
        _input: (),
    ) -> Option<Digested<Block>> {
        self.build(context.1.round, ancestry).await
    }

    /// Marshal has compared parent and height; transactions are not checked but for their form.
    async fn verify(&mut self, context: (E, Self::Context), mut ancestry: impl Ancestry<Block>) -> bool {
        self.turns.saw(context.1.round.view().get());
        match ancestry.next().await {
            Some(block) => block.inner().is_whole(),
            None => false,
        }
    }
}

impl Reporter for Application {
    type Activity = Update<Block>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match activity {
            // It is in the archive, and that is synced, when this comes.
            Update::Block(block, done) => {
                self.pool.is_final(block.inner(), block.digest());
                done.acknowledge();
            }
            // Known to be final, not stored yet.
            Update::Tip(..) => {}
        }
        Feedback::Ok
    }
}
