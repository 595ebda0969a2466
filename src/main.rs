//! The `aqueduct` program: see [`aqueduct::cli`].

use std::process::ExitCode;

/// Returns memory to the system sooner than the default allocator does under many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    aqueduct::cli::run(std::env::args_os())
}
