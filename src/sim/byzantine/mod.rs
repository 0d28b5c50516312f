//! Byzantine validators: whole nodes that run as they should, and whose mail passes through somebody who holds their keys.
//! What leaves is signed anew, so that signatures hold unless the attack is the signature, and goes over the wire as bytes.
//!
//! Each has one to three attacks of [`Attack::ALL`], drawn from the seed. An attack has working hours: in bursts of seconds,
//! since a validator that only lies is not worse than one that is down.

mod censor;
mod headers;
mod serve;
#[cfg(test)]
mod tests;
mod votes;
mod wire;
mod withhold;

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;

use super::checker::{Report, Violation};
use super::intercept::{Cast, Intercept, Outgoing, View};
use super::random::Random;
use super::world::{SimConfig, run_cast};
use crate::crypto::{Domain, Purpose};
use crate::types::{
    AuthorityIndex, BlockRef, FetchRequest, Header, Payload, PayloadBuilder, PeerMessage, SignedHeader, tx_id,
};

/// Runs one world in which up to f validators, at least one, are Byzantine: which and how is drawn from the seed. With
/// `attacks` all of them do these, without pauses.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(seed: u64, config: &SimConfig, attacks: Option<&[Attack]>) -> Result<Report, Violation> {
    run_cast(seed, config, cast(seed, config.validators, attacks))
}

/// What a single Byzantine validator does to the slots that it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A third of the others does not get its headers, unless they ask.
    Withhold,
    /// It makes two blocks in each round and gives each to a part of the others.
    Equivocate,
}

/// Runs one world in which the last validator does harm in every round, and the others are honest.
///
/// # Errors
/// The first thing that does not hold.
pub fn run_harmed(seed: u64, config: &SimConfig, harm: Harm) -> Result<Report, Violation> {
    let mut random = Random::new(seed ^ 0x6861_726d);
    let act: Box<dyn Act> = match harm {
        Harm::Withhold => Box::new(withhold::Withhold::headers_from_a_third()),
        Harm::Equivocate => Box::new(headers::Equivocate::draw(&mut random)),
    };
    let hours = Hours { always: true, on: true, until_us: 0, unasked_us: 0 };
    let adversary = Adversary { acts: vec![(act, hours)], ..Adversary::new(&[], true, &mut random) };
    let mut cast = Cast::default();
    cast.intercepts.insert(config.validators.saturating_sub(1), Box::new(adversary));
    run_cast(seed, config, cast)
}

/// Up to f Byzantine validators, at least one.
pub(super) fn cast(seed: u64, validators: usize, attacks: Option<&[Attack]>) -> Cast {
    let mut random = Random::new(seed ^ 0x6c69_6172);
    let most = (validators.saturating_sub(1) / 3) as u64;
    let mut cast = Cast::default();
    let is_drawn = attacks.is_none();
    if most > 0 {
        for _ in 0..random.between(1, most) {
            let host = random.index(validators);
            let drawn = draw(&mut random);
            let attacks = attacks.unwrap_or(&drawn);
            if attacks.contains(&Attack::StolenKey) && !cast.is_liar(host) {
                cast.twins.push(host);
            } else if !cast.is_liar(host) {
                let adversary = Adversary::new(attacks, !is_drawn, &mut random);
                cast.intercepts.insert(host, Box::new(adversary));
            }
        }
    }
    cast
}

/// One to three attacks.
fn draw(random: &mut Random) -> Vec<Attack> {
    let mut attacks: Vec<Attack> = Vec::new();
    for _ in 0..random.between(1, 3) {
        let attack = Attack::ALL[random.index(Attack::ALL.len())];
        if !attacks.contains(&attack) {
            attacks.push(attack);
        }
    }
    attacks
}

/// Headers and payloads that an adversary remembers, of each sort.
const MEMORY_MAX: usize = 256;

/// What a Byzantine validator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Two blocks of one round, each to a part of the others, that differ in time, payload or ancestors.
    Equivocate,
    /// Many blocks of one round to everybody.
    FloodRound,
    /// No headers, to all or to some.
    WithholdHeaders,
    /// No payloads, to all or to some.
    WithholdPayloads,
    /// Invalid, duplicate, missing, future or never-existing ancestors.
    BadAncestors,
    /// Passes over its own last blocks.
    ForgetOwn,
    /// Times that are off by hours or by ages.
    LieAboutTime,
    /// Headers of another epoch, of others, or of nobody in the committee.
    WrongCommittee,
    /// Headers with bad signatures, many.
    BadSignatures,
    /// Truncated, altered and random frames, and such that are too long.
    Garbage,
    /// Messages that are held back for seconds, turned round or left out.
    Slow,
    /// Requests for everything, again and again.
    Amplify,
    /// Old messages of its own and of others, over restarts too.
    Replay,
    /// Wrong, other and partial answers.
    LieToFetchers,
    /// Leaves one organisation's transactions out of its blocks.
    Censor,
    /// Signed checkpoints of what never was.
    FalseCheckpoints,
    /// Votes for commits that nobody made.
    FalseCommits,
    /// Evidence against those that did nothing.
    FalseEvidence,
    /// Headers with bytes altered at random, and then signed.
    Mutate,
    /// Its keys run twice.
    StolenKey,
}

impl Attack {
    /// All attacks.
    pub const ALL: [Self; 20] = [
        Self::Equivocate,
        Self::FloodRound,
        Self::WithholdHeaders,
        Self::WithholdPayloads,
        Self::BadAncestors,
        Self::ForgetOwn,
        Self::LieAboutTime,
        Self::WrongCommittee,
        Self::BadSignatures,
        Self::Garbage,
        Self::Slow,
        Self::Amplify,
        Self::Replay,
        Self::LieToFetchers,
        Self::Censor,
        Self::FalseCheckpoints,
        Self::FalseCommits,
        Self::FalseEvidence,
        Self::Mutate,
        Self::StolenKey,
    ];

    /// Name as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equivocate => "equivocate",
            Self::FloodRound => "flood-round",
            Self::WithholdHeaders => "withhold-headers",
            Self::WithholdPayloads => "withhold-payloads",
            Self::BadAncestors => "bad-ancestors",
            Self::ForgetOwn => "forget-own",
            Self::LieAboutTime => "lie-about-time",
            Self::WrongCommittee => "wrong-committee",
            Self::BadSignatures => "bad-signatures",
            Self::Garbage => "garbage",
            Self::Slow => "slow",
            Self::Amplify => "amplify",
            Self::Replay => "replay",
            Self::LieToFetchers => "lie-to-fetchers",
            Self::Censor => "censor",
            Self::FalseCheckpoints => "false-checkpoints",
            Self::FalseCommits => "false-commits",
            Self::FalseEvidence => "false-evidence",
            Self::Mutate => "mutate",
            Self::StolenKey => "stolen-key",
        }
    }

    /// Who carries it out, unless another life with the same keys does.
    fn act(self, random: &mut Random) -> Option<Box<dyn Act>> {
        Some(match self {
            Self::StolenKey => return None,
            Self::Equivocate => Box::new(headers::Equivocate::draw(random)),
            Self::FloodRound => Box::new(headers::FloodRound),
            Self::WithholdHeaders => Box::new(withhold::Withhold::headers(random)),
            Self::WithholdPayloads => Box::new(withhold::Withhold::payloads(random)),
            Self::BadAncestors => Box::new(headers::BadAncestors),
            Self::ForgetOwn => Box::new(headers::ForgetOwn::default()),
            Self::LieAboutTime => Box::new(headers::LieAboutTime::default()),
            Self::WrongCommittee => Box::new(headers::WrongCommittee),
            Self::BadSignatures => Box::new(wire::BadSignatures),
            Self::Garbage => Box::new(wire::Garbage),
            Self::Slow => Box::new(wire::Slow::default()),
            Self::Amplify => Box::new(serve::Amplify),
            Self::Replay => Box::new(serve::Replay::default()),
            Self::LieToFetchers => Box::new(serve::LieToFetchers),
            Self::Censor => Box::new(censor::Censor::draw(random)),
            Self::FalseCheckpoints | Self::FalseCommits | Self::FalseEvidence => {
                Box::new(votes::FalseWords::new(self))
            }
            Self::Mutate => Box::new(headers::Mutate),
        })
    }
}

/// How often each attack was carried out.
pub type Lies = BTreeMap<Attack, u64>;

/// What an act sees and may use.
struct Scene<'a, 'b> {
    view: &'a mut View<'b>,
    memory: &'a mut Memory,
    lies: &'a mut Lies,
}

impl Scene<'_, '_> {
    fn own(&self) -> AuthorityIndex {
        AuthorityIndex::from_usize(self.view.host)
    }

    fn random(&mut self) -> &mut Random {
        self.view.random
    }

    fn did(&mut self, attack: Attack) {
        *self.lies.entry(attack).or_default() += 1;
    }

    /// The others.
    fn others(&self) -> Vec<usize> {
        (0..self.view.hosts).filter(|host| *host != self.view.host).collect()
    }

    /// One of the others, if there are any.
    fn somebody(&mut self) -> Option<usize> {
        let others = self.others();
        if others.is_empty() { None } else { Some(others[self.random().index(others.len())]) }
    }

    /// Signs a header with the validator's own key, whatever it says.
    fn sign(&self, header: Header) -> SignedHeader {
        let domain = Domain::new(Purpose::Header, self.view.committee.network());
        SignedHeader::build(header, |bytes| self.view.key.sign(&domain, bytes))
    }

    /// Remembers a block of its own making, to give it to those that ask for it.
    fn forged(&mut self, header: &SignedHeader, payload: Bytes) {
        let forged = &mut self.memory.forged;
        if forged.len() == MEMORY_MAX {
            forged.pop_first();
        }
        forged.insert(header.reference(), (header.clone(), payload));
    }

    /// A payload of transactions that went over the wire before, and of some that are none.
    fn stale_payload(&mut self) -> Payload {
        let mut builder = PayloadBuilder::default();
        for _ in 0..self.random().between(1, 6) {
            let old = self.memory.transactions.len();
            let tx = if old == 0 || self.random().chance(300) {
                Bytes::copy_from_slice(&self.random().bytes::<150>())
            } else {
                let at = self.random().index(old);
                self.memory.transactions[at].clone()
            };
            builder.push(tx_id(&tx), &tx);
        }
        builder.finish()
    }
}

/// Makes a header commit to a payload.
fn commit_to(header: &mut Header, payload: &Payload) {
    let count = |n| u32::try_from(n).unwrap_or_else(|_| unreachable!("payloads are bounded by 4 MiB"));
    header.n_tx = count(payload.len());
    header.payload_len = count(payload.bytes().len());
    header.payload_root = payload.root();
}

/// What went over the wire.
#[derive(Debug, Default)]
struct Memory {
    /// Headers of others, and genuine own ones.
    headers: BTreeMap<BlockRef, SignedHeader>,
    /// Own blocks that its node knows nothing of, with their payloads.
    forged: BTreeMap<BlockRef, (SignedHeader, Bytes)>,
    /// Payloads.
    payloads: BTreeMap<BlockRef, Bytes>,
    /// Some transactions.
    transactions: Vec<Bytes>,
}

impl Memory {
    fn keep(&mut self, message: &PeerMessage) {
        match message {
            PeerMessage::Header(header) => self.keep_header(header),
            PeerMessage::Headers(headers) => headers.iter().for_each(|header| self.keep_header(header)),
            PeerMessage::Payload { block, bytes } => {
                if self.payloads.len() == MEMORY_MAX {
                    self.payloads.pop_first();
                }
                if let Ok(Some(tx)) = Payload::pick(bytes, 0)
                    && self.payloads.insert(*block, bytes.clone()).is_none()
                {
                    if self.transactions.len() == MEMORY_MAX {
                        self.transactions.remove(0);
                    }
                    self.transactions.push(tx);
                }
            }
            PeerMessage::Latest { .. } | PeerMessage::Commits { .. } | PeerMessage::Fetch(_) => {}
        }
    }

    fn keep_header(&mut self, header: &SignedHeader) {
        if self.headers.len() == MEMORY_MAX {
            self.headers.pop_first();
        }
        self.headers.insert(header.reference(), header.clone());
    }

    /// Some header.
    fn some(&self, random: &mut Random) -> Option<&SignedHeader> {
        let at = random.index(self.headers.len().max(1));
        self.headers.values().nth(at)
    }
}

/// One attack.
trait Act: Debug {
    /// What leaves instead of `message`.
    fn outgoing(&mut self, _scene: &mut Scene<'_, '_>, to: usize, message: PeerMessage) -> Post {
        vec![(to, Outgoing::Message(message))]
    }

    /// Something arrived.
    fn incoming(&mut self, _scene: &mut Scene<'_, '_>, _from: usize, _message: &PeerMessage) {}

    /// What leaves of its own accord.
    fn unasked(&mut self, _scene: &mut Scene<'_, '_>) -> Post {
        Vec::new()
    }
}

/// Messages with their receivers.
type Post = Vec<(usize, Outgoing)>;

/// Somebody who holds a validator's keys.
#[derive(Debug)]
pub(super) struct Adversary {
    acts: Vec<(Box<dyn Act>, Hours)>,
    memory: Memory,
    lies: Lies,
    outbox: Post,
}

/// When an attack is carried out.
#[derive(Debug, Clone, Copy)]
struct Hours {
    always: bool,
    on: bool,
    until_us: u64,
    /// When it may next send of its own accord.
    unasked_us: u64,
}

impl Hours {
    /// Whether it is at work; draws the next shift when one ends.
    fn at_work(&mut self, now_us: u64, random: &mut Random) -> bool {
        if now_us >= self.until_us {
            self.on = !self.on;
            self.until_us = now_us + random.between(500_000, 6_000_000);
        }
        self.on || self.always
    }
}

impl Adversary {
    /// One with these attacks. `always`: without pauses.
    pub(super) fn new(attacks: &[Attack], always: bool, random: &mut Random) -> Self {
        let mut acts = Vec::new();
        for attack in attacks {
            let hours = Hours { always, on: random.chance(500), until_us: 0, unasked_us: 0 };
            acts.extend(attack.act(random).map(|act| (act, hours)));
        }
        Self { acts, memory: Memory::default(), lies: Lies::new(), outbox: Vec::new() }
    }

    /// Asks the acts that are at work, one after another: each gets what the one before left of the message.
    fn pass(&mut self, view: &mut View<'_>, to: usize, message: PeerMessage) -> Post {
        let mut post = vec![(to, Outgoing::Message(message))];
        for (act, hours) in &mut self.acts {
            if !hours.at_work(view.now_us, view.random) {
                continue;
            }
            let mut next = Vec::with_capacity(post.len());
            for (to, outgoing) in post {
                match outgoing {
                    Outgoing::Message(message) => {
                        let mut scene =
                            Scene { view: &mut *view, memory: &mut self.memory, lies: &mut self.lies };
                        next.extend(act.outgoing(&mut scene, to, message));
                    }
                    Outgoing::Frame { .. } => next.push((to, outgoing)),
                }
            }
            post = next;
        }
        post
    }

    /// Gives forged blocks to those that ask for them.
    fn answer(&mut self, from: usize, request: &FetchRequest) {
        match request {
            FetchRequest::Headers(blocks) => {
                let found: Vec<SignedHeader> = blocks
                    .iter()
                    .filter_map(|block| self.memory.forged.get(block).map(|(header, _)| header.clone()))
                    .collect();
                if !found.is_empty() {
                    self.outbox.push((from, Outgoing::Message(PeerMessage::Headers(found))));
                }
            }
            FetchRequest::Payloads(blocks) => {
                for block in blocks {
                    if let Some((_, bytes)) = self.memory.forged.get(block).filter(|(_, b)| !b.is_empty()) {
                        let message = PeerMessage::Payload { block: *block, bytes: bytes.clone() };
                        self.outbox.push((from, Outgoing::Message(message)));
                    }
                }
            }
            FetchRequest::Range { .. } | FetchRequest::Latest { .. } | FetchRequest::Commits { .. } => {}
        }
    }
}

impl Intercept for Adversary {
    fn outgoing(&mut self, view: &mut View<'_>, to: usize, message: PeerMessage) -> Post {
        self.memory.keep(&message);
        let mut post = std::mem::take(&mut self.outbox);
        post.extend(self.pass(view, to, message));
        post
    }

    fn incoming(&mut self, view: &mut View<'_>, from: usize, message: &PeerMessage) -> bool {
        self.memory.keep(message);
        if let PeerMessage::Fetch(request) = message {
            self.answer(from, request);
        }
        for (act, hours) in &mut self.acts {
            if hours.at_work(view.now_us, view.random) {
                let mut scene = Scene { view: &mut *view, memory: &mut self.memory, lies: &mut self.lies };
                act.incoming(&mut scene, from, message);
            }
        }
        true
    }

    fn unasked(&mut self, view: &mut View<'_>) -> Post {
        let mut post = std::mem::take(&mut self.outbox);
        for (act, hours) in &mut self.acts {
            // The node's timer may fire every few milliseconds; floods come in bursts, so that a run stays short.
            if view.now_us < hours.unasked_us || !hours.at_work(view.now_us, view.random) {
                continue;
            }
            hours.unasked_us = view.now_us + view.random.between(20_000, 200_000);
            let mut scene = Scene { view: &mut *view, memory: &mut self.memory, lies: &mut self.lies };
            post.extend(act.unasked(&mut scene));
        }
        post
    }

    fn lies(&self) -> Lies {
        self.lies.clone()
    }
}
