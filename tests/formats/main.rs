//! Bytes of every format: pinned by golden files, decoded strictly, and decoded without harm whatever the bytes are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "reads the golden files")]

mod decoders;
mod golden;
mod samples;
