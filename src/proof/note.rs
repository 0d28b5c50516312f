//! Signed notes (C2SP signed-note): a text, an empty line, and lines of signatures.
//!
//! The keys that sign them have two types here: 0x01, Ed25519 over the text, and 0x04, the time-stamped witness
//! cosignature of C2SP tlog-cosignature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::codec::Writer as _;
use crate::crypto::SecretKey;
use crate::types::SIGNATURE_BYTES;

/// Largest note that is read.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most signatures of a note that is read.
pub const NOTE_SIGNATURES_MAX: usize = 160;
/// Latest time that a cosignature may carry (C2SP tlog-cosignature).
const COSIGNATURE_TIME_MAX: u64 = i64::MAX as u64;
const LINE_PREFIX: &str = "\u{2014} ";

/// Why bytes are not a signed note.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Above [`NOTE_BYTES_MAX`].
    #[error("the note has {0} bytes, limit {NOTE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not UTF-8, or with control characters.
    #[error("the note is not UTF-8 text without control characters, at byte {0}")]
    NotText(usize),
    /// No empty line in front of the signatures, or no newline at the end.
    #[error("the note has no text, empty line and signature lines that end in a newline")]
    NoSignatures,
    /// Above [`NOTE_SIGNATURES_MAX`].
    #[error("the note has {0} signatures, limit {NOTE_SIGNATURES_MAX}")]
    TooManySignatures(usize),
    /// A signature line of another form.
    #[error("signature line {line} of the note {why}")]
    SignatureLine {
        /// Which one, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A verifier key of another form.
    #[error("the verifier key {0}")]
    VerifierKey(&'static str),
}

/// One signature line, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Key id.
    pub key_id: [u8; 4],
    /// What follows the key id; its form is up to the type of the key.
    pub blob: Vec<u8>,
}

/// A note with signatures, not verified. Reading and writing are inverse to each other: each note has one encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    /// The text, which ends in a newline.
    pub text: String,
    /// Signatures in the order of their lines.
    pub signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// The note as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("{}\n", self.text);
        for signature in &self.signatures {
            let mut blob = signature.key_id.to_vec();
            blob.extend_from_slice(&signature.blob);
            out.push_str(&format!("{LINE_PREFIX}{} {}\n", signature.name, BASE64.encode(blob)));
        }
        out
    }

    /// Reads a note.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|error| NoteError::NotText(error.valid_up_to()))?;
        if let Some(at) = note.bytes().position(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::NotText(at));
        }
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, rest) = note.split_at(split + 1);
        let lines = rest[1..].strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let count = lines.split('\n').count();
        if count > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures(count));
        }
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(i, line)| parse_line(line).map_err(|why| NoteError::SignatureLine { line: i + 1, why }))
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }
}

fn parse_line(line: &str) -> Result<NoteSignature, &'static str> {
    let rest = line.strip_prefix(LINE_PREFIX).ok_or("does not begin with an em dash and a space")?;
    let (name, blob) = rest.split_once(' ').ok_or("has no signature behind the key name")?;
    if !is_key_name(name) {
        return Err("has an empty key name, or one with a space or a plus");
    }
    let blob = BASE64.decode(blob).map_err(|_base64| "has a signature that is not base64")?;
    let Some((key_id, blob)) = blob.split_first_chunk::<4>().filter(|(_, blob)| !blob.is_empty()) else {
        return Err("has a signature that is too short");
    };
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, blob: blob.to_vec() })
}

/// Whether a text may name a key: not empty, no Unicode space, no plus.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c < ' ')
}

/// What a key signs, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// 0x01: Ed25519 over the text.
    Ed25519,
    /// 0x04: Ed25519 over a header, a time and the text.
    CosignatureV1,
}

impl KeyType {
    /// The byte that stands for it in key ids and verifier keys.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

/// A public key under the name that it signs notes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name.
    pub name: String,
    /// What it signs.
    pub key_type: KeyType,
    /// Ed25519 public key.
    pub public: [u8; 32],
}

impl VerifierKey {
    /// First four bytes of SHA-256(name ‖ newline ‖ type ‖ public key).
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', self.key_type.code()]);
        hasher.update(self.public);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.finalize());
        [a, b, c, d]
    }

    /// The key as text, `name+id+base64(type ‖ public key)`, as other programs take it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut key = vec![self.key_type.code()];
        key.extend_from_slice(&self.public);
        format!("{}+{}+{}", self.name, hex::encode(self.key_id()), BASE64.encode(key))
    }

    /// Reads what [`VerifierKey::encode`] writes.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let refuse = |why| move || NoteError::VerifierKey(why);
        let (name, rest) = text.split_once('+').ok_or_else(refuse("is not name+id+key"))?;
        let (id, key) = rest.split_once('+').ok_or_else(refuse("is not name+id+key"))?;
        let key = BASE64.decode(key).map_err(|_base64| NoteError::VerifierKey("is not base64"))?;
        let Some((&code, public)) = key.split_first() else {
            return Err(NoteError::VerifierKey("is empty"));
        };
        let key_type = [KeyType::Ed25519, KeyType::CosignatureV1]
            .into_iter()
            .find(|key_type| key_type.code() == code)
            .ok_or_else(refuse("has a type other than 0x01 and 0x04"))?;
        let public = public.try_into().map_err(|_len| NoteError::VerifierKey("is not of 32 bytes"))?;
        let key = Self { name: name.to_owned(), key_type, public };
        if !is_key_name(name) || hex::encode(key.key_id()) != id {
            return Err(NoteError::VerifierKey("does not have the id that it states"));
        }
        Ok(key)
    }

    /// The signature line of `blob` by this key.
    #[must_use]
    pub fn line(&self, blob: Vec<u8>) -> NoteSignature {
        NoteSignature { name: self.name.clone(), key_id: self.key_id(), blob }
    }
}

/// Whether an Ed25519 signature holds: the one place in which notes decide that.
fn signature_holds(public: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

/// Signs a note's text as the log (type 0x01).
#[must_use]
pub fn sign_text(key: &SecretKey, text: &str) -> [u8; SIGNATURE_BYTES] {
    key.sign_raw(text.as_bytes())
}

/// Whether a signature of type 0x01 of a note's text holds.
#[must_use]
pub fn check_text(public: &[u8; 32], text: &str, signature: &[u8; SIGNATURE_BYTES]) -> bool {
    signature_holds(public, text.as_bytes(), signature)
}

fn cosigned_message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// Cosigns a checkpoint's text (type 0x04) at a Unix time in seconds.
#[must_use]
pub fn cosign(key: &SecretKey, text: &str, time_s: u64) -> [u8; SIGNATURE_BYTES] {
    key.sign_raw(&cosigned_message(text, time_s))
}

/// Whether a cosignature of a checkpoint's text at a Unix time in seconds holds.
#[must_use]
pub fn check_cosignature(
    public: &[u8; 32],
    text: &str,
    time_s: u64,
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    time_s <= COSIGNATURE_TIME_MAX && signature_holds(public, &cosigned_message(text, time_s), signature)
}

/// What follows the key id in the line of a cosignature: time and signature.
#[must_use]
pub fn cosignature_blob(time_s: u64, signature: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(8 + SIGNATURE_BYTES);
    blob.put_u64(time_s);
    blob.put_bytes(signature);
    blob
}

/// Time and signature in the line of a cosignature.
#[must_use]
pub fn split_cosignature(blob: &[u8]) -> Option<(u64, [u8; SIGNATURE_BYTES])> {
    let (time, signature) = blob.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), signature.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// The public example of the checksum database of Go, whose key and note any client of it carries.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_foreign_note_verifies() {
        let key = VerifierKey::parse(GO_KEY).unwrap();
        assert_eq!(key.encode(), GO_KEY);
        let note = SignedNote::parse(GO_NOTE.as_bytes()).unwrap();
        assert_eq!(note.encode(), GO_NOTE);
        let [signature] = &note.signatures[..] else { panic!("one signature") };
        assert_eq!((signature.name.as_str(), signature.key_id), ("PeterNeumann", key.key_id()));
        let blob: [u8; 64] = signature.blob.as_slice().try_into().unwrap();
        assert!(check_text(&key.public, &note.text, &blob));
        assert!(!check_text(&key.public, &note.text.replace("your", "my"), &blob));
    }

    #[test]
    fn a_cosignature_binds_text_time_and_key() {
        let key = SecretKey::from_seed(&[1; 32]);
        let signature = cosign(&key, "a\n1\nb\n", 7);
        assert_eq!(signature, key.sign_raw(b"cosignature/v1\ntime 7\na\n1\nb\n"));
        assert!(check_cosignature(&key.public(), "a\n1\nb\n", 7, &signature));
        assert!(!check_cosignature(&key.public(), "a\n1\nb\n", 8, &signature));
        assert!(!check_cosignature(&key.public(), "a\n2\nb\n", 7, &signature));
        let other = SecretKey::from_seed(&[2; 32]).public();
        assert!(!check_cosignature(&other, "a\n1\nb\n", 7, &signature));
        let late = cosign(&key, "a\n", u64::MAX);
        assert!(!check_cosignature(&key.public(), "a\n", u64::MAX, &late));
        let blob = cosignature_blob(7, &signature);
        assert_eq!(split_cosignature(&blob), Some((7, signature)));
        assert_eq!(split_cosignature(&blob[..71]), None);
    }

    #[test]
    fn malformed_notes_are_refused() {
        let line = |line: &str| format!("text\n\n{line}\n");
        let good = line("\u{2014} a AAAAAAA=");
        SignedNote::parse(good.as_bytes()).unwrap();
        let cases = [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            "text\n\u{2014} a AAAAAAA=\n".to_owned(),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            good.replace("text", "te\txt"),
            good.replace('\n', "\r\n"),
            line("- a AAAAAAA="),
            line("\u{2014}  AAAAAAA="),
            line("\u{2014} a+b AAAAAAA="),
            line("\u{2014} a\u{a0}b AAAAAAA="),
            line("\u{2014} a"),
            line("\u{2014} a AAAAAA=="),
            line("\u{2014} a AAAAAAA"),
            line("\u{2014} a AAAAAAB="),
            line("\u{2014} a AAAAAAA= "),
            line("\u{2014} a AAA AAAA="),
            line(&vec!["\u{2014} a AAAAAAA="; NOTE_SIGNATURES_MAX + 1].join("\n")),
            format!("{}{good}", "x".repeat(NOTE_BYTES_MAX)),
        ];
        for case in cases {
            assert!(SignedNote::parse(case.as_bytes()).is_err(), "{case:?}");
        }
        assert!(SignedNote::parse(b"text\n\n\xff").is_err());
        let most = line(&vec!["\u{2014} a AAAAAAA="; NOTE_SIGNATURES_MAX].join("\n"));
        assert_eq!(SignedNote::parse(most.as_bytes()).unwrap().signatures.len(), NOTE_SIGNATURES_MAX);
    }

    #[test]
    fn malformed_verifier_keys_are_refused() {
        for key in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc",
            "PeterNeumann+c74f20a3+",
        ] {
            assert!(VerifierKey::parse(key).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_again_byte_for_byte(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "[a\n]{0,6}\n\n(\u{2014} [ab]{1,2} [A-P+/]{6,8}={0,2}\n){0,3}".prop_map(String::into_bytes),
            ]
        ) {
            if let Ok(note) = SignedNote::parse(&bytes) {
                prop_assert_eq!(note.encode().into_bytes(), bytes);
            }
        }
    }
}
