//! What is measured, and how much of it.

mod beside;
mod bulk;
mod idle;
mod listing;
mod many;
mod settle;
mod silent;
mod small;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::client::{ListVerb, Side};
use crate::report::{self, Row};
use crate::rig::{Gateway, Rig};

use beside::Neighbours;
use bulk::Direction;

/// The size of an ordinary part, which is also how much a stuck client can make the gateway hold.
const PART: u64 = 8 * MIB;

const MIB: u64 = 1024 * 1024;

/// What to measure. Each scenario starts processes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One large file to the bucket
    Upload1,
    /// Eight large files to the bucket at once
    Upload8,
    /// One large file from the bucket
    Download1,
    /// Eight large files from the bucket at once
    Download8,
    /// One large file to the bucket, encrypted
    TlsUpload1,
    /// One large file from the bucket, encrypted
    TlsDownload1,
    /// Files of 1 KiB, one after the other, in one session
    Small1,
    /// Files of 1 KiB in 64 sessions
    Small64,
    /// Small files with `upload.settle = "auto"` against `0s`, near and far away
    Settle,
    /// Sessions that have logged in and do nothing
    Idle,
    /// LIST of very many entries
    List,
    /// MLSD of very many entries
    Mlsd,
    /// Very many uploads of 20 MiB at once
    Many,
    /// A fast upload beside 32 that send 1 KiB a second
    BesideSlow,
    /// The same, but the 32 have each filled most of a part before
    BesideFull,
    /// A fast upload beside 32 into another store that never answers
    BesideSilent,
}

/// The arguments of `bench run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to measure; nothing named is everything
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// How often each side takes its turn
    #[arg(long)]
    rounds: Option<usize>,
    /// How large a large file is
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// Less of everything: about two minutes in all
    #[arg(long)]
    quick: bool,
    /// The gateway to measure [default: the one built beside this program]
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
    /// A variable for the gateway's environment; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Write the results here as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much of each thing there is.
#[derive(Debug)]
struct Scale {
    rounds: usize,
    /// Bytes of a large file.
    size: u64,
    /// Bytes of each of eight large files.
    size_of_eight: u64,
    /// How long small files are sent, for each turn.
    small: Duration,
    idle_sessions: usize,
    idle: Duration,
    entries: u64,
    many: usize,
    /// No scenario takes longer than this.
    limit: Duration,
}

/// A gateway to measure and how much to do.
struct Bench {
    gateway: Gateway,
    scale: Scale,
}

/// Measures, prints the table, and fails if a scenario could not be carried out.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    tokio::select! {
        result = run_all(options) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn run_all(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::new(options)?;
    let scenarios = match options.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        named => named,
    };
    let mut rows = Vec::new();
    let mut failed = 0;
    for scenario in scenarios {
        let started = Instant::now();
        eprint!("{:<12}", scenario.name());
        match tokio::time::timeout(bench.scale.limit, bench.run(*scenario)).await {
            Ok(Ok(measured)) => {
                eprintln!(" {:>4.0} s", started.elapsed().as_secs_f64());
                rows.extend(measured);
            }
            Ok(Err(error)) => {
                eprintln!(" FAILED: {error:#}");
                failed += 1;
            }
            Err(_) => {
                eprintln!(" FAILED: not done after {:?}", bench.scale.limit);
                failed += 1;
            }
        }
    }
    println!("\n{}", report::table(&rows));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} scenarios failed", scenarios.len()),
    }
}

impl Scenario {
    /// As on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Upload1 => "upload1",
            Self::Upload8 => "upload8",
            Self::Download1 => "download1",
            Self::Download8 => "download8",
            Self::TlsUpload1 => "tls-upload1",
            Self::TlsDownload1 => "tls-download1",
            Self::Small1 => "small1",
            Self::Small64 => "small64",
            Self::Settle => "settle",
            Self::Idle => "idle",
            Self::List => "list",
            Self::Mlsd => "mlsd",
            Self::Many => "many",
            Self::BesideSlow => "beside-slow",
            Self::BesideFull => "beside-full",
            Self::BesideSilent => "beside-silent",
        }
    }
}

impl Bench {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let program = match &options.gateway {
            Some(program) => program.clone(),
            None => neighbour("bucketferry")?,
        };
        Ok(Self {
            gateway: Gateway {
                program,
                environment: options.env.clone(),
                users: None,
            },
            scale: Scale::of(options),
        })
    }

    async fn run(&self, scenario: Scenario) -> anyhow::Result<Vec<Row>> {
        let name = scenario.name();
        let one = self.scale.size;
        let eight = self.scale.size_of_eight;
        match scenario {
            Scenario::Upload1 => {
                bulk::run(self.rig()?, self, name, Direction::Upload, 1, one).await
            }
            Scenario::Upload8 => {
                bulk::run(self.rig()?, self, name, Direction::Upload, 8, eight).await
            }
            Scenario::Download1 => {
                bulk::run(self.rig()?, self, name, Direction::Download, 1, one).await
            }
            Scenario::Download8 => {
                bulk::run(self.rig()?, self, name, Direction::Download, 8, eight).await
            }
            Scenario::TlsUpload1 => {
                let rig = Rig::start_encrypted(&self.gateway)?;
                bulk::run(rig, self, name, Direction::Upload, 1, one).await
            }
            Scenario::TlsDownload1 => {
                let rig = Rig::start_encrypted(&self.gateway)?;
                bulk::run(rig, self, name, Direction::Download, 1, one).await
            }
            Scenario::Small1 => small::run(self, name, 1).await,
            Scenario::Small64 => small::run(self, name, 64).await,
            Scenario::Settle => settle::run(self, name).await,
            Scenario::Idle => idle::run(self, name).await,
            Scenario::List => listing::run(self, name, ListVerb::List).await,
            Scenario::Mlsd => listing::run(self, name, ListVerb::Mlsd).await,
            Scenario::Many => many::run(self, name).await,
            Scenario::BesideSlow => beside::run(self, name, Neighbours { head_start: 0 }).await,
            Scenario::BesideFull => {
                let head_start = PART - MIB / 2;
                beside::run(self, name, Neighbours { head_start }).await
            }
            Scenario::BesideSilent => silent::run(self, name).await,
        }
    }

    fn rig(&self) -> anyhow::Result<Rig> {
        Rig::start(&self.gateway)
    }

    /// All turns: each side once a round, and not always the same one first.
    fn turns(&self) -> impl Iterator<Item = Side> + use<> {
        (0..self.scale.rounds).flat_map(|round| match round % 2 {
            0 => [Side::Floor, Side::Gateway],
            _ => [Side::Gateway, Side::Floor],
        })
    }
}

impl Scale {
    fn of(options: &Options) -> Self {
        let quick = options.quick;
        let pick = |whole: u64, less: u64| if quick { less } else { whole };
        let seconds = |whole, less| Duration::from_secs(pick(whole, less));
        let count = |whole: usize, less: usize| if quick { less } else { whole };
        Self {
            rounds: options.rounds.unwrap_or(count(5, 3)).max(1),
            size: options.size.unwrap_or(pick(1024, 256) * MIB),
            size_of_eight: options.size.unwrap_or(pick(1024, 64) * MIB),
            small: seconds(10, 2),
            idle_sessions: count(5000, 1000),
            idle: seconds(10, 3),
            entries: pick(1_000_000, 100_000),
            many: count(1000, 200),
            limit: seconds(900, 60),
        }
    }
}

/// The samples of both sides.
#[derive(Debug)]
struct Sides<T> {
    floor: Vec<T>,
    gateway: Vec<T>,
}

impl<T> Sides<T> {
    fn new() -> Self {
        Self {
            floor: Vec::new(),
            gateway: Vec::new(),
        }
    }

    fn push(&mut self, side: Side, sample: T) {
        match side {
            Side::Floor => self.floor.push(sample),
            Side::Gateway => self.gateway.push(sample),
        }
    }

    /// One number of each sample, side by side.
    fn row(&self, scenario: &'static str, measure: &str, number: impl Fn(&T) -> f64) -> Row {
        let numbers = |samples: &[T]| samples.iter().map(&number).collect::<Vec<_>>();
        Row::compared(
            scenario,
            measure,
            &numbers(&self.floor),
            &numbers(&self.gateway),
        )
    }
}

/// A program in the same folder as this one.
fn neighbour(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("can't find this program")?;
    Ok(this.with_file_name(name))
}

/// `1GiB`, `64MiB`, or a number of bytes.
fn size(text: &str) -> anyhow::Result<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => bail!("known units are B, KiB, MiB and GiB"),
    };
    let number = u64::from_str(number).context("no number")?;
    number.checked_mul(factor).context("too large")
}

fn variable(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| anyhow!("write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// Bytes in the megabytes of throughputs, which are decimal.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1GiB").unwrap(), 1 << 30);
        assert_eq!(size("5 MiB").unwrap(), 5 << 20);
        assert_eq!(size("7").unwrap(), 7);
        assert!(size("1GB").is_err());
        assert!(size("GiB").is_err());
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
