//! The `bucketferry` command. See `cli` for what it understands.

mod cli;

use std::process::ExitCode;

/// glibc keeps most of what a crowd has had; this one gives it back (`docs/performance.md`).
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
