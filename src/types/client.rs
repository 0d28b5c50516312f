//! What a client and a validator say to each other over the client plane: frames `len4 type1 body` on one stream.
//!
//! The client opens the stream with a [`Hello`](super::Hello), then sends any number of [`Submit`]s without waiting;
//! each is answered by [`ClientReply`]s under its request number, in whatever order they come about.

use bytes::Bytes;

use super::LeafIndex;
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::ClientError;
use crate::limits::TRANSACTION_BYTES_MAX;

/// Version of the client plane, as the hello says it.
pub const CLIENT_PROTOCOL_VERSION: u16 = 1;
/// Type byte of [`Submit`]. 1 is the hello.
pub const SUBMIT_FRAME: u8 = 2;
/// Type byte of a reply.
pub const REPLY_FRAME: u8 = 3;
/// Bytes in front of a frame's body: length and type.
pub const FRAME_HEAD_BYTES: usize = 5;

/// Longest code of a refusal.
const CODE_BYTES_MAX: usize = 32;
/// Longest text of a refusal; a longer one is cut when it is encoded.
const MESSAGE_BYTES_MAX: usize = 512;
/// Largest body of a reply: request, tag and a refusal's two texts with their lengths.
const REPLY_BYTES_MAX: usize = 8 + 1 + 1 + CODE_BYTES_MAX + 2 + MESSAGE_BYTES_MAX;

const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;
const EXECUTED: u8 = 3;
const DUPLICATE: u8 = 4;
const SKIPPED: u8 = 5;

/// A transaction that a client hands in.
///
/// Body: `request8` and the transaction's bytes up to the end of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit {
    /// Number that the client gave; replies carry it. In use until the last reply.
    pub request: u64,
    /// The transaction, not looked into yet.
    pub tx: Bytes,
}

/// What a validator says about a transaction that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientReply {
    /// Its signature verifies and it waits to enter a block. One of the other replies follows.
    Accepted,
    /// It is not taken. Last reply.
    Refused {
        /// Stable name, as [`ClientError::code`] gives it.
        code: String,
        /// What is wrong, for people.
        message: String,
    },
    /// Final and in the Merkle log. Last reply.
    Executed {
        /// Position of its stub.
        leaf: LeafIndex,
        /// An access that no consent in force permitted.
        violation: bool,
    },
    /// The very same transaction is final already. Last reply.
    Duplicate {
        /// Position of its stub.
        leaf: LeafIndex,
    },
    /// It entered a block and every validator skipped it. Last reply.
    Skipped {
        /// Code of a [`SkipReason`](crate::execute::SkipReason).
        reason: u8,
    },
}

/// Largest body of a frame of the client plane that is not a hello; `None` for an unknown type.
#[must_use]
pub fn client_frame_limit(kind: u8) -> Option<usize> {
    match kind {
        SUBMIT_FRAME => Some(8 + TRANSACTION_BYTES_MAX),
        REPLY_FRAME => Some(REPLY_BYTES_MAX),
        _ => None,
    }
}

impl Submit {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// If the transaction is longer than 32 bits can say; callers check [`TRANSACTION_BYTES_MAX`] first.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.put_len_u32(8 + self.tx.len());
        out.put_u8(SUBMIT_FRAME);
        out.put_u64(self.request);
        out.put_bytes(&self.tx);
    }

    /// Decodes the body of a frame.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&body);
        let request = r.u64("request number")?;
        let tx = body.slice(r.position()..);
        if tx.len() > TRANSACTION_BYTES_MAX {
            let (value, limit) = (tx.len() as u64, TRANSACTION_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what: "transaction", value, limit });
        }
        Ok(Self { request, tx })
    }
}

impl From<&ClientError> for ClientReply {
    fn from(error: &ClientError) -> Self {
        Self::Refused { code: error.code().to_owned(), message: error.to_string() }
    }
}

impl ClientReply {
    /// Whether no other reply follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Accepted)
    }

    /// Appends the frame of a reply to `request` to `out`.
    ///
    /// Body: `request8 tag1` and, by tag: nothing, `len1 code len2 message`, `leaf8 violation1`, `leaf8`, `reason1`.
    pub fn encode_into(&self, request: u64, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(32);
        body.put_u64(request);
        match self {
            Self::Accepted => body.put_u8(ACCEPTED),
            Self::Refused { code, message } => {
                let (code, message) = (cut(code, CODE_BYTES_MAX), cut(message, MESSAGE_BYTES_MAX));
                body.put_u8(REFUSED);
                // `cut` has bounded the code to 32 bytes.
                body.put_u8(u8::try_from(code.len()).unwrap_or_default());
                body.put_bytes(code.as_bytes());
                body.put_len_u16(message.len());
                body.put_bytes(message.as_bytes());
            }
            Self::Executed { leaf, violation } => {
                body.put_u8(EXECUTED);
                body.put_u64(leaf.0);
                body.put_u8((*violation).into());
            }
            Self::Duplicate { leaf } => {
                body.put_u8(DUPLICATE);
                body.put_u64(leaf.0);
            }
            Self::Skipped { reason } => {
                body.put_u8(SKIPPED);
                body.put_u8(*reason);
            }
        }
        out.put_len_u32(body.len());
        out.put_u8(REPLY_FRAME);
        out.put_bytes(&body);
    }

    /// Decodes the body of a frame: the request number and the reply to it.
    pub fn decode(body: &[u8]) -> Result<(u64, Self), DecodeError> {
        let mut r = Reader::new(body);
        let request = r.u64("request number")?;
        let tag = r.u8("reply tag")?;
        let reply = match tag {
            ACCEPTED => Self::Accepted,
            REFUSED => decode_refusal(&mut r)?,
            EXECUTED => {
                let leaf = LeafIndex(r.u64("leaf")?);
                let violation = match r.u8("violation")? {
                    0 => false,
                    1 => true,
                    other => return Err(r.bad_value("violation", 1, other.into())),
                };
                Self::Executed { leaf, violation }
            }
            DUPLICATE => Self::Duplicate { leaf: LeafIndex(r.u64("leaf")?) },
            SKIPPED => Self::Skipped { reason: r.u8("skip reason")? },
            other => return Err(r.bad_value("reply tag", 1, other.into())),
        };
        r.finish()?;
        Ok((request, reply))
    }
}

fn decode_refusal(r: &mut Reader<'_>) -> Result<ClientReply, DecodeError> {
    let len = usize::from(r.u8("refusal code length")?);
    if len > CODE_BYTES_MAX {
        let (value, limit) = (len as u64, CODE_BYTES_MAX as u64);
        return Err(DecodeError::TooLarge { what: "refusal code length", value, limit });
    }
    let code = text(r, "refusal code", len)?;
    let len = r.bounded_u16("refusal message length", MESSAGE_BYTES_MAX)?;
    let message = text(r, "refusal message", len)?;
    Ok(ClientReply::Refused { code, message })
}

fn text(r: &mut Reader<'_>, what: &'static str, len: usize) -> Result<String, DecodeError> {
    let bytes = r.take(what, len)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            Err(r.bad_value(what, len - at, bytes[at].into()))
        }
    }
}

/// The longest prefix of at most `max` bytes that ends at a character's boundary.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn body(frame: &[u8]) -> &[u8] {
        assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 5);
        assert!(frame.len() - 5 <= client_frame_limit(frame[4]).unwrap());
        &frame[5..]
    }

    #[test]
    fn replies_read_back_as_written_and_no_other_length_is_accepted() {
        let replies = [
            ClientReply::Accepted,
            ClientReply::from(&ClientError::Busy),
            ClientReply::Executed { leaf: LeafIndex(7), violation: true },
            ClientReply::Executed { leaf: LeafIndex(u64::MAX), violation: false },
            ClientReply::Duplicate { leaf: LeafIndex(3) },
            ClientReply::Skipped { reason: 19 },
        ];
        for reply in replies {
            let mut frame = Vec::new();
            reply.encode_into(42, &mut frame);
            assert_eq!(ClientReply::decode(body(&frame)), Ok((42, reply.clone())));
            for cut in 0..frame.len() - 5 {
                assert!(ClientReply::decode(&body(&frame)[..cut]).is_err(), "{reply:?} cut at {cut}");
            }
            frame.push(0);
            assert!(ClientReply::decode(&frame[5..]).is_err(), "{reply:?} with a byte too many");
        }
    }

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        Submit { request: 1, tx: Bytes::from_static(b"tx") }.encode_into(&mut out);
        ClientReply::Executed { leaf: LeafIndex(258), violation: true }.encode_into(2, &mut out);
        ClientReply::Refused { code: "Busy".into(), message: "b".into() }.encode_into(3, &mut out);
        assert_eq!(
            hex::encode(out),
            "0000000a0200000000000000017478\
             0000001203000000000000000203000000000000010201\
             0000001103000000000000000302044275737900 0162"
                .replace(' ', "")
        );
    }

    #[test]
    fn refusal_texts_are_bounded_and_utf8() {
        let long = "ä".repeat(600);
        let mut frame = Vec::new();
        ClientReply::Refused { code: long.clone(), message: long }.encode_into(9, &mut frame);
        let (_, reply) = ClientReply::decode(body(&frame)).unwrap();
        assert_eq!(reply, ClientReply::Refused { code: "ä".repeat(16), message: "ä".repeat(256) });

        let mut frame = Vec::new();
        ClientReply::Refused { code: "X".into(), message: "ab".into() }.encode_into(9, &mut frame);
        *frame.last_mut().unwrap() = 0xff;
        assert!(matches!(ClientReply::decode(&frame[5..]), Err(DecodeError::BadValue { value: 0xff, .. })));
    }

    #[test]
    fn unknown_tags_and_oversize_submissions_are_refused() {
        let mut bytes = vec![0; 8];
        bytes.push(77);
        assert!(matches!(ClientReply::decode(&bytes), Err(DecodeError::BadValue { value: 77, .. })));
        assert!(Submit::decode(vec![0; 8 + TRANSACTION_BYTES_MAX].into()).is_ok());
        assert!(matches!(
            Submit::decode(vec![0; 9 + TRANSACTION_BYTES_MAX].into()),
            Err(DecodeError::TooLarge { .. })
        ));
    }
}
