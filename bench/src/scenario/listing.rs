//! A directory of very many entries, against reading the same pages and throwing them away.

use std::time::Duration;

use crate::client::{ListVerb, Listed, Side};
use crate::report::{Aim, Row, Spread};
use crate::rig::Rig;

use super::{Bench, Sides, megabytes, mib};

/// What one turn of one side took.
#[derive(Debug)]
struct Sample {
    listed: Listed,
    cpu: f64,
    growth: f64,
}

pub(super) async fn run(
    bench: &Bench,
    scenario: &'static str,
    verb: ListVerb,
) -> anyhow::Result<Vec<Row>> {
    let mut rig = bench.rig()?;
    for side in [Side::Floor, Side::Gateway] {
        turn(&rig, side, verb, 1000).await?;
    }
    let mut samples = Sides::new();
    for side in bench.turns() {
        let sample = turn(&rig, side, verb, bench.scale.entries).await?;
        samples.push(side, sample);
        rig.check()?;
    }
    let of_gateway = |number: fn(&Sample) -> f64| samples.gateway.iter().map(number).collect();
    let growth = Spread::of(of_gateway(|sample| sample.growth));
    Ok(vec![
        samples
            .row(scenario, "seconds", |sample| seconds(sample.listed.total))
            .aim_ratio(Aim::AtMost(1.3)),
        samples.row(scenario, "CPU s", |sample| sample.cpu),
        Row::plain(
            scenario,
            "first line ms",
            Spread::of(of_gateway(|sample| seconds(sample.listed.first) * 1000.0)),
        ),
        Row::plain(
            scenario,
            "MB listed",
            Spread::of(of_gateway(|sample| megabytes(sample.listed.bytes))),
        ),
        // The most: a later turn finds memory that an earlier one has left behind.
        Row::plain(scenario, "growth MiB", Spread::one(growth.high)).aim(Aim::AtMost(32.0)),
    ])
}

async fn turn(rig: &Rig, side: Side, verb: ListVerb, entries: u64) -> anyhow::Result<Sample> {
    let mut client = rig.client(side).await?;
    let process = rig.process(side);
    process.forget_peak()?;
    let before = process.usage()?;
    let listed = client
        .list(verb, &format!("keys-{entries}"), entries)
        .await?;
    let after = process.usage()?;
    Ok(Sample {
        listed,
        cpu: after.cpu - before.cpu,
        growth: mib(after.peak.saturating_sub(before.peak)),
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
