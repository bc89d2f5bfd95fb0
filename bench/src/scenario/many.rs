//! Very many uploads at once: all arrive, and memory stays bounded.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::task::JoinSet;

use crate::client::{Client, Side};
use crate::process::Process;
use crate::report::{Aim, Row, Spread};

use super::{Bench, MIB, megabytes, mib};

const SIZE: u64 = 20 * MIB;

/// The default of `upload.memory`, and what everything else may take besides.
const ALLOWED: u64 = (256 + 150) * MIB;

/// A gateway that takes this much is ended, before the machine suffers from it.
const TOO_MUCH: u64 = 3 * 1024 * MIB;

/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(bench: &Bench, scenario: &'static str) -> anyhow::Result<Vec<Row>> {
    let mut rig = bench.rig()?;
    let wanted = bench.scale.many;
    let mut clients = Vec::new();
    for _ in 0..wanted {
        clients.push(rig.client(Side::Gateway).await?);
    }
    let process = rig.process(Side::Gateway);
    let started = Instant::now();
    let done = tokio::select! {
        done = upload_all(clients) => done,
        error = watch(process) => error?,
    };
    let elapsed = started.elapsed().as_secs_f64();
    let peak = mib(process.usage()?.peak);
    rig.check()?;
    let throughput = megabytes(SIZE * done as u64) / elapsed;
    let row = |measure, value| Row::plain(scenario, measure, Spread::one(value));
    Ok(vec![
        row("completed", done as f64).aim(Aim::AtLeast(wanted as f64)),
        row("MB/s", throughput),
        row("peak MiB", peak).aim(Aim::AtMost(mib(ALLOWED))),
    ])
}

/// How many uploads were confirmed.
async fn upload_all(clients: Vec<Client>) -> usize {
    let mut running = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        running.spawn(async move { client.upload(&format!("many-{number}"), SIZE).await });
    }
    let mut done = 0;
    while let Some(result) = running.join_next().await {
        match result {
            Ok(Ok(())) => done += 1,
            Ok(Err(error)) => eprintln!("an upload failed: {error:#}"),
            Err(error) => eprintln!("an upload failed: {error}"),
        }
    }
    done
}

/// Ends only in an error: when the process takes too much.
async fn watch(process: &Process) -> anyhow::Result<usize> {
    loop {
        let held = process.usage()?.anonymous;
        if held > TOO_MUCH {
            bail!(
                "given up: the gateway holds {:.0} MiB, allowed are {:.0}",
                mib(held),
                mib(ALLOWED)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}
