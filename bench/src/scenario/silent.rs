//! One fast upload, alone and beside many that go into another store, which takes all and never answers.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{Client, Side};
use crate::ftp::{Ftp, PASSWORD, USER};
use crate::net::send_blank;
use crate::report::{Aim, Row};
use crate::rig::{Gateway, Rig};

use super::{Bench, MIB, megabytes};

/// How many upload into the silent store, all the time.
const STUCK: usize = 32;

/// What each of them tries to send.
const SIZE: u64 = 64 * MIB;

/// How long they wait when they were refused, as programs do that try again.
const PAUSE: Duration = Duration::from_secs(5);

/// They fill what memory they get before the fast upload begins.
const UNDER_WAY: Duration = Duration::from_secs(3);

pub(super) async fn run(bench: &Bench, scenario: &'static str) -> anyhow::Result<Vec<Row>> {
    let silent = Silent::start().await?;
    let mut rig = Rig::start(&silent.beside(&bench.gateway)?)?;
    upload(&rig, 16 * MIB).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.rounds {
        // Both begin after a pause, which costs something by itself.
        tokio::time::sleep(UNDER_WAY).await;
        alone.push(upload(&rig, bench.scale.size).await?);
        let _stuck = get_stuck(&rig).await?;
        beside.push(upload(&rig, bench.scale.size).await?);
        rig.check()?;
    }
    let row = |measure, number: fn(&Sample) -> f64| {
        let numbers = |samples: &[Sample]| samples.iter().map(number).collect::<Vec<_>>();
        Row::compared(scenario, measure, &numbers(&alone), &numbers(&beside))
    };
    Ok(vec![
        row("MB/s (floor: alone)", |sample| sample.throughput).aim_ratio(Aim::AtLeast(0.95)),
        row("CPU s/GB (floor: alone)", |sample| sample.cpu_per_gb),
    ])
}

/// What the fast upload took.
struct Sample {
    throughput: f64,
    cpu_per_gb: f64,
}

async fn upload(rig: &Rig, size: u64) -> anyhow::Result<Sample> {
    let mut client = rig.client(Side::Gateway).await?;
    let before = rig.process(Side::Gateway).usage()?;
    let started = Instant::now();
    client.upload("fast", size).await?;
    let seconds = started.elapsed().as_secs_f64();
    let after = rig.process(Side::Gateway).usage()?;
    let moved = megabytes(size);
    Ok(Sample {
        throughput: moved / seconds,
        cpu_per_gb: (after.cpu - before.cpu) / (moved / 1000.0),
    })
}

/// Starts those who upload into the silent store. Dropping what is returned ends them.
async fn get_stuck(rig: &Rig) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut stuck = JoinSet::new();
    for number in 0..STUCK {
        let address = rig.address(Side::Gateway);
        let mut ftp = session(address).await?;
        stuck.spawn(async move {
            loop {
                // Whatever comes of it: it is refused, or takes long. One that was cut off begins anew.
                let stored = try_to_store(&mut ftp, &format!("silent/{number}")).await;
                tokio::time::sleep(PAUSE).await;
                if stored.is_err_and(|error| !is_refusal(&error)) {
                    ftp = session(address).await?;
                }
            }
        });
    }
    tokio::time::sleep(UNDER_WAY).await;
    Ok(stuck)
}

async fn session(address: SocketAddr) -> anyhow::Result<Box<Ftp>> {
    match Client::connect(Side::Gateway, address, Duration::ZERO, None).await? {
        Client::Gateway(ftp) => Ok(ftp),
        Client::Floor(..) => bail!("only the gateway has sessions"),
    }
}

/// Whether the gateway has answered, with a 4xx.
fn is_refusal(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("got 451")
}

async fn try_to_store(ftp: &mut Ftp, name: &str) -> anyhow::Result<()> {
    let mut data = ftp.begin(&format!("STOR {name}")).await?;
    send_blank(&mut data, SIZE).await?;
    data.shutdown().await?;
    ftp.end().await
}

/// A server that reads all that it is sent, and says nothing.
struct Silent {
    address: SocketAddr,
    /// The users file.
    folder: TempDir,
    _serving: JoinSet<()>,
}

impl Silent {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut read = vec![0; 256 << 10];
                    while matches!(stream.read(&mut read).await, Ok(1..)) {}
                });
            }
        });
        Ok(Self {
            address,
            folder: tempfile::tempdir()?,
            _serving: serving,
        })
    }

    /// The gateway with this as a second store, in which its user has a mount.
    fn beside(&self, gateway: &Gateway) -> anyhow::Result<Gateway> {
        let users = self.folder.path().join("users.toml");
        let hash = hash(&gateway.program)?;
        let text = format!(
            "[[user]]\nname = {USER:?}\npassword_hash = {hash:?}\n[[user.mount]]\npath = \"/silent\"\nstore = \"silent\"\n"
        );
        fs::write(&users, text)?;
        let mut gateway = gateway.clone();
        let endpoint = format!("http://{}", self.address);
        gateway.environment.extend(
            [
                ("STORES__SILENT__URL", "s3://silent"),
                ("STORES__SILENT__OPTIONS__AWS_ENDPOINT", &endpoint),
                // Else it is taken for down before the end, and nobody is stuck there any more.
                ("STORES__SILENT__RETRY_TIMEOUT", "1h"),
            ]
            .map(|(name, value)| (format!("BUCKETFERRY_{name}"), value.to_owned())),
        );
        gateway.users = Some(users);
        Ok(gateway)
    }
}

/// The hash of the password, as the gateway itself makes it.
fn hash(program: &Path) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't have the password hashed")?;
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(PASSWORD.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "hash-password has failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
