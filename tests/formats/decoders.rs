//! Whatever bytes come, a decoder returns; and what it accepts, it understood: written again, it is the same.

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;

use salus::gateway::SAMPLE_STREAM;
use salus::gateway::fhir::{parse_line, parse_resource};
use salus::proof::commitment::canonical_json;

use crate::samples::{Format, formats};

fn all() -> &'static [Format] {
    static FORMATS: OnceLock<Vec<Format>> = OnceLock::new();
    FORMATS.get_or_init(formats)
}

/// Panics if a format accepts bytes and writes other ones.
fn check(format: &Format, bytes: &[u8]) {
    let Some(once) = (format.again)(bytes) else { return };
    if format.is_strict {
        assert_eq!(hex::encode(&once), hex::encode(bytes), "{} has a second encoding", format.name);
    } else {
        assert_eq!((format.again)(&once), Some(once.clone()), "{} does not settle", format.name);
    }
}

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    /// A length or count somewhere becomes huge.
    Huge(Index),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (at(), prop_oneof![Just(0), Just(0xff), any::<u8>()]).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => at().prop_map(Change::Huge),
        1 => at().prop_map(Change::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1..60u8).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (at(), 1..60u8).prop_map(|(at, len)| Change::Repeat(at, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    let span = |at: &Index, n: u8| at.index(len)..len.min(at.index(len) + usize::from(n));
    match change {
        Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Change::Set(at, byte) => bytes[at.index(len)] = *byte,
        Change::Huge(at) => bytes[span(at, 4)].fill(0xff),
        Change::Cut(at) => bytes.truncate(at.index(len)),
        Change::Insert(at, more) => {
            bytes.splice(at.index(len)..at.index(len), more.iter().copied());
        }
        Change::Remove(at, n) => {
            bytes.drain(span(at, *n));
        }
        Change::Repeat(at, n) => {
            let again = bytes[span(at, *n)].to_vec();
            bytes.splice(at.index(len)..at.index(len), again);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in all() {
            check(format, &bytes);
        }
    }

    #[test]
    fn altered_encodings_are_refused_or_understood(changes in prop::collection::vec(change(), 1..5)) {
        for format in all() {
            let mut bytes = format.sample.clone();
            changes.iter().for_each(|change| apply(&mut bytes, change));
            check(format, &bytes);
        }
    }

    #[test]
    fn altered_records_are_refused_or_read(at in any::<Index>(), changes in prop::collection::vec(change(), 1..5)) {
        let lines: Vec<_> = SAMPLE_STREAM.split(|byte| *byte == b'\n').collect();
        let mut line = lines[at.index(lines.len())].to_vec();
        changes.iter().for_each(|change| apply(&mut line, change));
        if let Ok(event) = parse_line(1, &line) {
            // Its time is the line's, so the resource alone need not read; what is committed to is canonical all the same.
            let value: serde_json::Value = serde_json::from_slice(&event.canonical).unwrap();
            prop_assert_eq!(canonical_json(&value).unwrap(), event.canonical);
        }
        if let Ok(event) = parse_resource(1, &line) {
            let again = parse_resource(1, &event.canonical).unwrap();
            prop_assert_eq!((again.canonical, again.content), (event.canonical, event.content));
        }
    }
}

/// A prefix of a message is no message, and neither is a message with something behind it: that is what makes the length
/// part of what is signed and hashed.
#[test]
fn prefixes_and_extensions_are_refused() {
    // These have no length of their own: whatever contains them says how long they are.
    let open_ended = ["payload", "client-submit", "frame-payload", "frame-headers", "body-consent-revoke"];
    for format in all().iter().filter(|format| format.is_strict) {
        for len in 0..format.sample.len() {
            let bytes = &format.sample[..len];
            check(format, bytes);
            let is_open_ended = open_ended.contains(&format.name) || is_text(&format.sample);
            assert!(is_open_ended || (format.again)(bytes).is_none(), "{} cut at {len}", format.name);
        }
        for more in [0, b'\n', 0xff] {
            let mut bytes = format.sample.clone();
            bytes.push(more);
            check(format, &bytes);
            // The text proof ends in a note, which is read by whoever verifies it.
            let is_refused = (format.again)(&bytes).is_none();
            assert!(is_refused || format.name == "tlog-proof", "{} with {more} behind it", format.name);
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}

/// Every byte of every strict format counts: changed, it is refused or another value.
#[test]
fn every_single_byte_change_is_refused_or_another_value() {
    for format in all().iter().filter(|format| format.is_strict) {
        for at in 0..format.sample.len() {
            for flip in [1, 0x80] {
                let mut bytes = format.sample.clone();
                bytes[at] ^= flip;
                check(format, &bytes);
            }
        }
    }
}
