//! The thread between the network of validators and the core: verifies headers and splits payloads, so that the core does
//! neither.

use std::sync::Arc;

use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::committee::Committee;
use crate::dag::VerifiedHeader;
use crate::error::PeerError;
use crate::io::peer::{PeerEvent, PeerNet};
use crate::node::Input;
use crate::types::{AuthorityIndex, Payload, PeerMessage};

/// Runs until it is told to stop, or the core is gone.
pub(super) fn run(
    runtime: &Handle,
    mut stopped: watch::Receiver<bool>,
    mut events: mpsc::Receiver<PeerEvent>,
    committee: &Committee,
    peers: &PeerNet,
    core: &Sender<Input>,
) {
    let mut next = || {
        runtime.block_on(async {
            tokio::select! {
                event = events.recv() => event,
                _ = stopped.changed() => None,
            }
        })
    };
    while let Some(event) = next() {
        let input = match event {
            PeerEvent::Up { peer, version } => Ok(Input::PeerUp { peer, version }),
            PeerEvent::Down(peer) => Ok(Input::PeerDown(peer)),
            PeerEvent::Misbehaved { from, error } => {
                warn!(peer = %from, %error, "a peer broke the protocol");
                continue;
            }
            PeerEvent::Message { from, message, credit } => {
                let input = check(committee, from, message).map_err(|error| (from, error));
                drop(credit);
                input
            }
        };
        match input {
            Ok(input) => {
                if core.send(input).is_err() {
                    return;
                }
            }
            Err((from, error)) => peers.blame(from, &error),
        }
    }
}

fn check(committee: &Committee, from: AuthorityIndex, message: PeerMessage) -> Result<Input, PeerError> {
    Ok(match message {
        PeerMessage::Header(header) => {
            Input::Headers { from, headers: vec![VerifiedHeader::verify(committee, header)?] }
        }
        PeerMessage::Headers(headers) => {
            let verified = headers.into_iter().map(|header| VerifiedHeader::verify(committee, header));
            Input::Headers { from, headers: verified.collect::<Result<_, _>>()? }
        }
        PeerMessage::Payload { block, bytes } => {
            let payload =
                Payload::decode(bytes).map_err(|source| PeerError::Malformed { what: "payload", source })?;
            Input::Payload { from, block, payload: Arc::new(payload) }
        }
        PeerMessage::Fetch(request) => Input::Fetch { from, request },
    })
}
