//! Between the network of validators and the core: verifies headers and splits payloads, so that the core does neither.
//!
//! Headers that come singly or few together and small payloads, all that there is while nobody is behind, are handled by a task of the network's own
//! thread: it takes microseconds, and to wake another thread costs as much. What takes longer goes to a thread of its own, so
//! that the network is never held up.
//!
//! Peers take turns. Each turn takes a bounded number of headers of a peer, the rest of a large answer waits for the next;
//! what was gathered in a round of turns is verified as one batch. A header that was verified before, byte for byte, is not
//! verified again: several peers pass on the same block, and answers overlap.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use super::inbox::{CoreSender, Gone, Mail};
use crate::committee::Committee;
use crate::crypto::Verifier;
use crate::dag::VerifiedHeader;
use crate::error::PeerError;
use crate::execute::KeyDirectory;
use crate::io::peer::{PeerEvent, PeerEvents, PeerEventsWaker, PeerNet, ReceiveCredit};
use crate::node::{CertifiedCommits, Input};
use crate::types::{
    AuthorityIndex, BlockDigest, BlockRef, Payload, PeerMessage, SIGNATURE_BYTES, SignedHeader,
};
use crate::verify::verify_payload;

/// Headers of one peer that are verified before it is the next one's turn.
const HEADERS_PER_TURN: usize = 32;
/// Things to do that are gathered before they are done.
const GATHERED_MAX: usize = 64;
/// Headers of each author that are known to be verified.
const KNOWN_PER_AUTHOR: usize = 256;
/// Transactions of a payload up to which its signatures are checked here. It comes with its header, and to wake other threads
/// for so few would cost more than they save.
const PAYLOAD_SMALL: usize = 3;
/// Pause before it is looked again whether the core has room.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep; whatever comes ends it.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Ends the thread, and shows what it did.
#[derive(Debug)]
pub(super) struct PumpControl {
    stop: AtomicBool,
    waker: PeerEventsWaker,
    verified: AtomicU64,
    repeated: AtomicU64,
    /// For each peer whether it was asked for commits and has not answered.
    asked: Vec<AtomicBool>,
}

impl PumpControl {
    pub(super) fn new(events: &PeerEvents, peers: usize) -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            waker: events.waker(),
            verified: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            asked: (0..peers).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// A peer is being asked for commits: one answer of it is opened. To open others would make this thread check as many
    /// signatures as a certificate has for whoever sends one over and over.
    pub(super) fn asks_for_commits(&self, peer: AuthorityIndex) {
        self.asked[peer.as_usize()].store(true, Ordering::SeqCst);
    }

    fn was_asked(&self, peer: AuthorityIndex) -> bool {
        self.asked[peer.as_usize()].swap(false, Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Headers whose signature was checked, since start.
    pub(super) fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Headers that had been verified before, since start.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// The last headers of each author that were verified, by all of their bytes. An author crowds out nothing but its own.
#[derive(Debug)]
struct Known {
    by_author: Vec<KnownOfAuthor>,
}

#[derive(Debug, Default)]
struct KnownOfAuthor {
    signatures: HashMap<BlockDigest, [u8; SIGNATURE_BYTES]>,
    /// In the order in which they came.
    order: VecDeque<BlockDigest>,
}

impl Known {
    fn new(authors: usize) -> Self {
        Self { by_author: (0..authors).map(|_| KnownOfAuthor::default()).collect() }
    }

    fn contains(&self, header: &SignedHeader) -> bool {
        let of_author = self.by_author.get(header.header().author.as_usize());
        let signature = of_author.and_then(|known| known.signatures.get(&header.reference().digest));
        signature.is_some_and(|signature| signature == header.signature())
    }

    /// Headers that carry something else that is signed are not kept: they are few.
    fn insert(&mut self, header: &SignedHeader) {
        if !header.header().system.is_empty() {
            return;
        }
        let known = &mut self.by_author[header.header().author.as_usize()];
        let digest = header.reference().digest;
        if known.signatures.insert(digest, *header.signature()).is_some() {
            return;
        }
        known.order.push_back(digest);
        if known.order.len() > KNOWN_PER_AUTHOR
            && let Some(oldest) = known.order.pop_front()
        {
            known.signatures.remove(&oldest);
        }
    }
}

/// An answer with many headers that is being worked off.
struct Answer {
    headers: std::vec::IntoIter<SignedHeader>,
    /// Goes along with each part.
    credit: ReceiveCredit,
}

/// Something to hand to the core.
enum Work {
    Ready(Mail),
    Headers { from: AuthorityIndex, headers: Vec<SignedHeader>, credit: ReceiveCredit },
}

fn ready(input: Input, credit: ReceiveCredit) -> Work {
    Work::Ready(Mail::Peer { input, credit })
}

/// The same, with headers that need no look, and gaps for those that are being verified.
enum Sorted {
    Ready(Mail),
    Headers { from: AuthorityIndex, headers: Vec<Option<VerifiedHeader>>, credit: ReceiveCredit },
}

/// What the thread owns.
pub(super) struct Pump {
    committee: Arc<Committee>,
    keys: KeyDirectory,
    verifier: Verifier,
    known: Known,
    events: PeerEvents,
    answers: Vec<Option<Answer>>,
    peers: Arc<PeerNet>,
    core: CoreSender,
    control: Arc<PumpControl>,
}

impl Pump {
    /// The seed of `verifier` is secret and from the operating system.
    pub(super) fn new(
        committee: Arc<Committee>,
        (keys, verifier): (KeyDirectory, Verifier),
        events: PeerEvents,
        peers: Arc<PeerNet>,
        core: CoreSender,
        control: Arc<PumpControl>,
    ) -> Self {
        let n = committee.size();
        Self {
            keys,
            verifier,
            known: Known::new(n),
            answers: (0..n).map(|_| None).collect(),
            committee,
            events,
            peers,
            core,
            control,
        }
    }

    /// Runs until it is told to stop, or the core is gone.
    #[expect(clippy::significant_drop_tightening, reason = "work gives its room back where it ends")]
    pub(super) fn run(mut self) {
        while !self.control.is_stopped() {
            let work = self.gather();
            if work.is_empty() {
                self.events.sleep(SLEEP_MAX, || self.control.is_stopped());
            } else {
                let mail = self.check(work);
                if self.core.send_all(mail).is_err() {
                    return;
                }
            }
        }
    }

    /// The same as a task, until nothing can come any more.
    pub(super) async fn run_as_task(mut self) {
        while let Some(event) = self.events.recv().await {
            // What else has come in is read first: it is verified as one batch then, and the core is woken once.
            tokio::task::yield_now().await;
            let mut work = Vec::new();
            self.begin(event, &mut work);
            self.gather_more(&mut work);
            let mut mail = VecDeque::from(self.check(work));
            // It may not wait for the core as a thread does: on its thread runs too what carries the core's words away, and the
            // core waits for that. Its peers' queues fill meanwhile.
            loop {
                match self.core.offer(&mut mail) {
                    Err(Gone) => return,
                    Ok(()) if mail.is_empty() => break,
                    Ok(()) => tokio::time::sleep(ROOM_PAUSE).await,
                }
            }
        }
    }

    /// Takes a bounded amount of what is there, peers in turn.
    fn gather(&mut self) -> Vec<Work> {
        let mut work = Vec::new();
        for peer in 0..self.answers.len() {
            self.go_on(peer, &mut work);
        }
        self.gather_more(&mut work);
        work
    }

    fn gather_more(&mut self, work: &mut Vec<Work>) {
        while work.len() < GATHERED_MAX
            && let Some(event) = self.events.try_next_of(|peer| self.answers[peer].is_none())
        {
            self.begin(event, work);
        }
    }

    fn begin(&mut self, event: PeerEvent, work: &mut Vec<Work>) {
        match event {
            PeerEvent::Up { peer, version } => {
                work.push(Work::Ready(Mail::Input(Input::PeerUp { peer, version })))
            }
            PeerEvent::Down(peer) => work.push(Work::Ready(Mail::Input(Input::PeerDown(peer)))),
            PeerEvent::Misbehaved { from, error } => {
                warn!(peer = %from, %error, "a peer broke the protocol");
            }
            PeerEvent::Message { from, message, credit } => match message {
                PeerMessage::Header(header) => {
                    work.push(Work::Headers { from, headers: vec![header], credit });
                }
                PeerMessage::Headers(headers) => {
                    let answer = Answer { headers: headers.into_iter(), credit };
                    self.answers[from.as_usize()] = Some(answer);
                    self.go_on(from.as_usize(), work);
                }
                PeerMessage::Payload { block, bytes } => match Payload::decode(bytes) {
                    Ok(payload) => work.push(Work::Ready(self.check_payload(from, block, payload, credit))),
                    Err(source) => {
                        self.peers.blame(from, &PeerError::Malformed { what: "payload", source });
                    }
                },
                PeerMessage::Latest { nonce, header } => {
                    let verify = |header| VerifiedHeader::verify(&self.committee, header);
                    match header.map(verify).transpose() {
                        Ok(header) => work.push(ready(Input::Latest { from, nonce, header }, credit)),
                        Err(error) => self.peers.blame(from, &error),
                    }
                }
                PeerMessage::Commits { .. } if !self.control.was_asked(from) => {}
                PeerMessage::Commits { commits, certificate } => {
                    let verify =
                        |header: &SignedHeader| VerifiedHeader::verify(&self.committee, header.clone());
                    match CertifiedCommits::open(&self.committee, &commits, &certificate, verify) {
                        Ok(commits) => {
                            work.push(ready(Input::Commits { from, commits: Arc::new(commits) }, credit));
                        }
                        Err(error) => self.peers.blame(from, &error),
                    }
                }
                PeerMessage::Fetch(request) => work.push(ready(Input::Fetch { from, request }, credit)),
            },
        }
    }

    fn check_payload(
        &mut self,
        from: AuthorityIndex,
        block: BlockRef,
        payload: Payload,
        credit: ReceiveCredit,
    ) -> Mail {
        let payload = Arc::new(payload);
        if payload.len() > PAYLOAD_SMALL {
            return Mail::Peer { input: Input::Payload { from, block, payload }, credit };
        }
        let network = self.committee.network();
        let verdicts = verify_payload(&mut self.verifier, network, &self.keys, &payload).into();
        Mail::Checked { from, block, payload, verdicts, credit }
    }

    /// The next part of a peer's answer.
    fn go_on(&mut self, peer: usize, work: &mut Vec<Work>) {
        let Some(answer) = &mut self.answers[peer] else { return };
        let headers: Vec<_> = answer.headers.by_ref().take(HEADERS_PER_TURN).collect();
        let credit = answer.credit.clone();
        if answer.headers.len() == 0 {
            self.answers[peer] = None;
        }
        work.push(Work::Headers { from: AuthorityIndex::from_usize(peer), headers, credit });
    }

    /// Verifies what has to be: what is for the core.
    fn check(&mut self, work: Vec<Work>) -> Vec<Mail> {
        let mut unknown = Vec::new();
        let work: Vec<Sorted> = work.into_iter().map(|work| self.sort(work, &mut unknown)).collect();
        self.control.verified.fetch_add(unknown.len() as u64, Ordering::Relaxed);
        let verified = VerifiedHeader::verify_all(&self.committee, &mut self.verifier, unknown);
        for header in verified.iter().filter_map(|verified| verified.as_ref().ok()) {
            self.known.insert(header);
        }
        let mut verified = verified.into_iter();
        let mut mail = Vec::with_capacity(work.len());
        for work in work {
            let (from, headers, credit) = match work {
                Sorted::Ready(ready) => {
                    mail.push(ready);
                    continue;
                }
                Sorted::Headers { from, headers, credit } => (from, headers, credit),
            };
            // All of them, so that what follows is of the next item, also if one of these does not hold.
            let headers: Vec<Result<VerifiedHeader, PeerError>> = headers
                .into_iter()
                .filter_map(|known| known.map_or_else(|| verified.next(), |header| Some(Ok(header))))
                .collect();
            match headers.into_iter().collect() {
                Ok(headers) => mail.push(Mail::Peer { input: Input::Headers { from, headers }, credit }),
                Err(error) => {
                    self.peers.blame(from, &error);
                    self.answers[from.as_usize()] = None;
                }
            }
        }
        mail
    }

    /// Sorts out the headers whose signature is to be checked.
    fn sort(&self, work: Work, unknown: &mut Vec<SignedHeader>) -> Sorted {
        let (from, headers, credit) = match work {
            Work::Ready(mail) => return Sorted::Ready(mail),
            Work::Headers { from, headers, credit } => (from, headers, credit),
        };
        let mut sort = |header: SignedHeader| {
            if self.known.contains(&header) {
                self.control.repeated.fetch_add(1, Ordering::Relaxed);
                return Some(VerifiedHeader::trusted(header));
            }
            unknown.push(header);
            None
        };
        Sorted::Headers { from, headers: headers.into_iter().map(&mut sort).collect(), credit }
    }
}
