//! Files of 1 KiB: how many a second, and how long each takes to its confirmation.
//!
//! The gateway does not wait for clients that may have died: that would be all there is to see. What the wait costs
//! is measured by [`settle`](super::settle).

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::task::JoinSet;

use crate::client::{Client, Side};
use crate::report::{Aim, Row};
use crate::rig::Rig;

use super::settle::with_settle;
use super::{Bench, Sides};

const SIZE: u64 = 1024;

/// Names are used again after this many, so that the bucket stays small.
const NAMES: usize = 1000;

/// At 64 sessions.
const MANY: usize = 64;

/// What clients do in one turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) size: u64,
    pub(super) sessions: usize,
    /// How far away they are, in each direction.
    pub(super) delay: Duration,
    pub(super) duration: Duration,
}

/// What one turn of one side took.
#[derive(Debug)]
pub(super) struct Sample {
    per_second: f64,
    median_ms: f64,
    p99_ms: f64,
    cpu_ms: f64,
}

pub(super) async fn run(
    bench: &Bench,
    scenario: &'static str,
    sessions: usize,
) -> anyhow::Result<Vec<Row>> {
    let mut rig = Rig::start(&with_settle(&bench.gateway, "0s"))?;
    let load = Load {
        size: SIZE,
        sessions,
        delay: Duration::ZERO,
        duration: bench.scale.small,
    };
    let warm_up = Load {
        duration: Duration::from_millis(200),
        ..load
    };
    for side in [Side::Floor, Side::Gateway] {
        turn(&rig, side, warm_up).await?;
    }
    let mut samples = Sides::new();
    for side in bench.turns() {
        samples.push(side, turn(&rig, side, load).await?);
        rig.check()?;
    }
    let [per_second, p50, p99, cpu] = rows(scenario, "", &samples);
    if sessions < MANY {
        return Ok(vec![per_second, p50, p99, cpu]);
    }
    let per_second = per_second.aim(Aim::AtLeast(3000.0));
    let p99 = p99.aim(Aim::AtMost(50.0));
    Ok(vec![per_second, p50, p99, cpu])
}

/// The numbers of all turns, each under its name behind the prefix.
pub(super) fn rows(scenario: &'static str, prefix: &str, samples: &Sides<Sample>) -> [Row; 4] {
    let row = |measure: &str, number: fn(&Sample) -> f64| {
        samples.row(scenario, &format!("{prefix}{measure}"), number)
    };
    [
        row("files/s", |sample| sample.per_second),
        row("p50 ms", |sample| sample.median_ms),
        row("p99 ms", |sample| sample.p99_ms),
        row("CPU ms/file", |sample| sample.cpu_ms),
    ]
}

pub(super) async fn turn(rig: &Rig, side: Side, load: Load) -> anyhow::Result<Sample> {
    let connecting = (0..load.sessions).map(|_| rig.client_from(side, load.delay));
    let clients = try_join_all(connecting).await?;
    let before = rig.process(side).usage()?;
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        running.spawn(send_until(
            client,
            // What the other side has written, the gateway would have to look at before it replaces it.
            format!("small-{side:?}-{number}"),
            load.size,
            started + load.duration,
        ));
    }
    let mut latencies = Vec::new();
    while let Some(done) = running.join_next().await {
        latencies.extend(done??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = rig.process(side).usage()?.cpu - before.cpu;
    latencies.sort();
    let files = latencies.len() as f64;
    Ok(Sample {
        per_second: files / seconds,
        median_ms: percentile(&latencies, 50),
        p99_ms: percentile(&latencies, 99),
        cpu_ms: cpu * 1000.0 / files,
    })
}

/// Sends files until it is time; how long each took.
async fn send_until(
    mut client: Client,
    prefix: String,
    size: u64,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        let name = format!("{prefix}-{}", latencies.len() % NAMES);
        client.upload(&name, size).await?;
        latencies.push(started.elapsed());
    }
}

/// Of latencies in order, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    let latency = sorted.get(index).copied().unwrap_or_default();
    latency.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_order() {
        let latencies: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert!((percentile(&latencies, 50) - 101.0).abs() < 1e-9);
        assert!((percentile(&latencies, 99) - 199.0).abs() < 1e-9);
        assert!(percentile(&[], 99).abs() < 1e-9);
    }
}
