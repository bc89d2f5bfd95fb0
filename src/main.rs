//! The `bucketferry` command. See `cli` for what it understands.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
