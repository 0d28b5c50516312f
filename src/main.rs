//! The `salus` command.

use std::process::ExitCode;

/// Blocks, headers and replies are made on one thread and freed on another all the time, for which the system's allocator takes
/// locks and walks lists.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    salus::cli::run()
}
