//! The three processes of a measurement, each on a port of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::client::{Client, Side};
use crate::ftp::{PASSWORD, USER};
use crate::process::Process;
use crate::wire::{Tls, certificate_in, key_in};

/// Which gateway is measured, and how it is set.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) program: PathBuf,
    /// Variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Its users file, in place of the one user.
    pub(crate) users: Option<PathBuf>,
}

/// Has glibc keep what the floor frees. It would otherwise give the memory of each part back to the
/// kernel and take it again for the next, at the price of a third of the processor time: no floor.
const KEEPS_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// S3 server, floor and gateway, fresh ones. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Rig {
    gateway: Seat,
    floor: Seat,
    s3: Process,
    tls: Option<Tls>,
}

/// A process and where it is found.
#[derive(Debug)]
struct Seat {
    process: Process,
    address: SocketAddr,
}

impl Rig {
    pub(crate) fn start(gateway: &Gateway) -> anyhow::Result<Self> {
        Self::start_with(gateway, None)
    }

    /// The same with TLS between clients and either side.
    pub(crate) fn start_encrypted(gateway: &Gateway) -> anyhow::Result<Self> {
        Self::start_with(gateway, Some(Tls::new()?))
    }

    fn start_with(gateway: &Gateway, tls: Option<Tls>) -> anyhow::Result<Self> {
        let (s3, address) =
            Process::start("bench s3", own()?.args(["s3", "--with-stdin"]), listening)?;
        let url = format!("http://{address}");
        Ok(Self {
            floor: start_floor(&url, tls.as_ref())?,
            gateway: start_gateway(gateway, &url, tls.as_ref())?,
            s3,
            tls,
        })
    }

    pub(crate) async fn client(&self, side: Side) -> anyhow::Result<Client> {
        self.client_from(side, Duration::ZERO).await
    }

    /// A client that is so far away, in each direction. The floor's clients are all near.
    pub(crate) async fn client_from(&self, side: Side, delay: Duration) -> anyhow::Result<Client> {
        Client::connect(side, self.seat(side).address, delay, self.tls.clone()).await
    }

    pub(crate) fn address(&self, side: Side) -> SocketAddr {
        self.seat(side).address
    }

    pub(crate) fn process(&self, side: Side) -> &Process {
        &self.seat(side).process
    }

    pub(crate) fn s3(&self) -> &Process {
        &self.s3
    }

    /// Fails if one of them has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.s3.check()?;
        self.floor.process.check()?;
        self.gateway.process.check()
    }

    fn seat(&self, side: Side) -> &Seat {
        match side {
            Side::Floor => &self.floor,
            Side::Gateway => &self.gateway,
        }
    }
}

fn start_floor(s3: &str, tls: Option<&Tls>) -> anyhow::Result<Seat> {
    let mut command = own()?;
    store_variables(&mut command, s3);
    command.args(["floor", "--with-stdin", "--s3", s3]);
    if let Some(tls) = tls {
        command.arg("--tls").arg(tls.folder());
    }
    for (name, value) in KEEPS_MEMORY {
        command.env(name, value);
    }
    seat(Process::start("bench floor", &mut command, listening)?)
}

/// As an operator would start it for a trial, but with room for all clients.
fn start_gateway(gateway: &Gateway, s3: &str, tls: Option<&Tls>) -> anyhow::Result<Seat> {
    let program = &gateway.program;
    ensure!(
        program.is_file(),
        "there is no gateway at {}; build it (cargo build --release), or name it with --gateway",
        program.display()
    );
    let mut command = if gateway.users.is_none() {
        Command::new(program)
    } else {
        // Who has a users file is told nothing on standard output; the log says where it listens.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(program);
        shell
    };
    store_variables(&mut command, s3);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--passive-ports", "0"])
        .args(["--store", "s3://bench"])
        .env("BUCKETFERRY_LIMITS__MAX_SESSIONS", "20000")
        .env("BUCKETFERRY_LIMITS__MAX_SESSIONS_PER_IP", "20000")
        .envs(gateway.environment.iter().cloned());
    match &gateway.users {
        None => command.args(["--user", &format!("{USER}:{PASSWORD}")]),
        Some(users) => command
            .env("BUCKETFERRY_USERS__FILE", users)
            .env("BUCKETFERRY_LOG__FORMAT", "json"),
    };
    if let Some(folder) = tls.map(Tls::folder) {
        command
            .env("BUCKETFERRY_TLS__CERTIFICATE", certificate_in(folder))
            .env("BUCKETFERRY_TLS__PRIVATE_KEY", key_in(folder));
    }
    let found = |line: &str| greeting(line).or_else(|| serving(line));
    seat(Process::start("the gateway", &mut command, found)?)
}

fn seat((process, address): (Process, String)) -> anyhow::Result<Seat> {
    let address = address
        .parse()
        .with_context(|| format!("no address: {address}"))?;
    Ok(Seat { process, address })
}

/// This program once more.
fn own() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("can't find this program")?;
    Ok(Command::new(program))
}

/// Both sides speak to the store in the same way: requests are signed, their bodies are not, as over
/// HTTPS.
fn store_variables(command: &mut Command, s3: &str) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AWS_") || name.starts_with("BUCKETFERRY_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ENDPOINT", s3)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_UNSIGNED_PAYLOAD", "true");
}

/// The address in `listening on ADDRESS`.
fn listening(line: &str) -> Option<String> {
    line.strip_prefix("listening on ").map(str::to_owned)
}

/// The address in the gateway's `curl -T FILE ftp://USER:PASSWORD@ADDRESS/`.
fn greeting(line: &str) -> Option<String> {
    let (_, url) = line.split_once("ftp://")?;
    let (_, rest) = url.split_once('@')?;
    rest.split('/').next().map(str::to_owned)
}

/// The address in the log's line that says so.
fn serving(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let listen = line.get("listen")?.as_str()?;
    Some(listen.trim_matches(['[', ']']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_says_where_it_is() {
        let line = "  curl -T FILE ftp://bench:PASSWORD@127.0.0.1:2121/";
        assert_eq!(greeting(line).as_deref(), Some("127.0.0.1:2121"));
        assert_eq!(greeting("Health: http://127.0.0.1:8080/readyz"), None);
        let line = r#"{"level":"INFO","message":"serving","listen":"[127.0.0.1:2121]"}"#;
        assert_eq!(serving(line).as_deref(), Some("127.0.0.1:2121"));
    }
}
