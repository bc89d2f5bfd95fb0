//! Measures bucketferry against the floor: the least that the same work can cost.
//!
//! `bench run` starts three processes (an S3 server that costs little, the floor, the gateway), lets
//! floor and gateway do the same work in turns, and prints ratios. `bench s3` and `bench floor` are
//! two of those processes, also of use by themselves. `docs/performance.md` says how to read the
//! results.
//!
//! Promises: everything stays on loopback and on free ports; only processes that it has started are
//! ended; each scenario is bounded in time.

mod client;
mod far;
mod floor;
mod ftp;
mod net;
mod process;
mod report;
mod rig;
mod s3;
mod scenario;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Measures bucketferry against the least that the same work can cost.
#[derive(Debug, Parser)]
#[command(about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and print a table
    Run(scenario::Options),
    /// Serve S3 from memory, as cheaply as can be
    S3 {
        #[command(flatten)]
        service: Service,
        /// Keep what is uploaded; without it, only sizes are kept and downloads are blank
        #[arg(long)]
        keep: bool,
    },
    /// Serve the floor: plain sockets in front of `object_store`, configured by AWS_* variables
    Floor {
        #[command(flatten)]
        service: Service,
        /// The S3 server
        #[arg(long, value_name = "URL")]
        s3: String,
        /// Speak TLS with the `cert.pem` and `key.pem` in this folder
        #[arg(long, value_name = "FOLDER")]
        tls: Option<PathBuf>,
    },
}

/// What `s3` and `floor` have in common.
#[derive(Debug, Args)]
struct Service {
    /// Listen here; port 0 is any free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = any_port())]
    listen: SocketAddr,
    /// End when standard input does, so as not to outlive the program that started this one
    #[arg(long, hide = true)]
    with_stdin: bool,
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    net::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        Command::Run(options) => runtime.block_on(scenario::run(&options)),
        Command::S3 { service, keep } => {
            process::end_with_stdin(service.with_stdin);
            runtime.block_on(s3::serve(service.listen, keep))
        }
        Command::Floor { service, s3, tls } => {
            process::end_with_stdin(service.with_stdin);
            runtime.block_on(floor::serve(service.listen, &s3, tls.as_deref()))
        }
    }
}
