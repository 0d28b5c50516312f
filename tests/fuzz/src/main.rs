//! Signatures, fuzzed under AddressSanitizer: what the fuzzer makes up describes a batch, and all back ends and `ed25519-zebra` have
//! to agree on each of its members. The target is the function that `tests/signatures` calls with bytes from a seed.
//!
//!     cd tests/fuzz && cargo run --release -- -max_total_time=300 -max_len=600 -len_control=0
//!
//! Arguments are libFuzzer's; what fails is written to a file, and judged again when that is given as the argument.
#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../signatures/mutated.rs"]
mod mutated;
#[path = "../../signatures/points.rs"]
mod points;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use mutated::Judges;

thread_local! {
    static JUDGES: RefCell<Judges> = RefCell::new(Judges::new());
}

fuzz_target!(|bytes: &[u8]| {
    JUDGES.with_borrow_mut(|judges| judges.judge(bytes));
});
