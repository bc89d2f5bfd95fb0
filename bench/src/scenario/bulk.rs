//! Large files: throughput, processor time for each GB, peak memory.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::{Client, Side};
use crate::report::{Aim, Row};
use crate::rig::Rig;

use super::{Bench, MIB, Sides, megabytes, mib};

/// From where the bytes go, as seen from the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Upload,
    Download,
}

/// What one turn of one side took.
#[derive(Debug)]
struct Sample {
    throughput: f64,
    cpu_per_gb: f64,
    peak: f64,
    /// What the S3 server took meanwhile: it should be less.
    store_cpu_per_gb: f64,
}

pub(super) async fn run(
    mut rig: Rig,
    bench: &Bench,
    scenario: &'static str,
    direction: Direction,
    streams: usize,
    size: u64,
) -> anyhow::Result<Vec<Row>> {
    for side in [Side::Floor, Side::Gateway] {
        // The first transfer opens connections and grows pools; it is not counted.
        turn(&rig, side, direction, streams, 16 * MIB).await?;
    }
    let mut samples = Sides::new();
    for side in bench.turns() {
        samples.push(side, turn(&rig, side, direction, streams, size).await?);
        rig.check()?;
    }
    Ok(vec![
        samples
            .row(scenario, "MB/s", |sample| sample.throughput)
            .aim_ratio(Aim::AtLeast(0.8)),
        samples
            .row(scenario, "CPU s/GB", |sample| sample.cpu_per_gb)
            .aim_ratio(Aim::AtMost(1.3)),
        samples.row(scenario, "peak MiB", |sample| sample.peak),
        samples.row(scenario, "S3's CPU s/GB", |sample| sample.store_cpu_per_gb),
    ])
}

async fn turn(
    rig: &Rig,
    side: Side,
    direction: Direction,
    streams: usize,
    size: u64,
) -> anyhow::Result<Sample> {
    let mut clients = Vec::new();
    for _ in 0..streams {
        clients.push(rig.client(side).await?);
    }
    let process = rig.process(side);
    process.forget_peak()?;
    let (before, store_before) = (process.usage()?, rig.s3().usage()?);
    let started = Instant::now();
    let clients = transfer_all(clients, direction, size).await?;
    let seconds = started.elapsed().as_secs_f64();
    let (after, store_after) = (process.usage()?, rig.s3().usage()?);
    if matches!(direction, Direction::Upload) {
        for (mut client, name) in clients {
            client.verify(&name, size).await?;
        }
    }
    let moved = megabytes(size * streams as u64);
    let per_gb = |cpu: f64| cpu / (moved / 1000.0);
    Ok(Sample {
        throughput: moved / seconds,
        cpu_per_gb: per_gb(after.cpu - before.cpu),
        peak: mib(after.peak),
        store_cpu_per_gb: per_gb(store_after.cpu - store_before.cpu),
    })
}

/// Returns each client, and the name of what it transferred.
async fn transfer_all(
    clients: Vec<Client>,
    direction: Direction,
    size: u64,
) -> anyhow::Result<Vec<(Client, String)>> {
    let mut running = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        running.spawn(async move {
            let name = match direction {
                Direction::Upload => format!("large-{number}"),
                Direction::Download => format!("blank-{size}"),
            };
            match direction {
                Direction::Upload => client.upload(&name, size).await?,
                Direction::Download => client.download(&name, size).await?,
            }
            anyhow::Ok((client, name))
        });
    }
    running.join_all().await.into_iter().collect()
}
