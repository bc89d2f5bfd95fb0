//! One fast upload, alone and beside slow ones.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::client::{Client, Side};
use crate::ftp::Ftp;
use crate::net::send_blank;
use crate::report::{Aim, Row};
use crate::rig::Rig;
use crate::wire::Wire;

use super::{Bench, MIB, megabytes};

const SLOW: usize = 32;

/// What a slow client sends each second.
const TRICKLE: [u8; 1024] = [0; 1024];

/// How long the slow clients have to get under way; a gateway out of memory lets some of them wait.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// Who uploads beside the fast client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours {
    /// Bytes that each sends as fast as it can, before it turns slow.
    pub(super) head_start: u64,
}

pub(super) async fn run(
    bench: &Bench,
    scenario: &'static str,
    neighbours: Neighbours,
) -> anyhow::Result<Vec<Row>> {
    let mut rig = bench.rig()?;
    upload(&rig, 16 * MIB).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.rounds {
        alone.push(upload(&rig, bench.scale.size).await?);
        let _slow = neighbours.begin(&rig).await?;
        beside.push(upload(&rig, bench.scale.size).await?);
        rig.check()?;
    }
    let row = Row::compared(scenario, "MB/s (floor: alone)", &alone, &beside);
    Ok(vec![row.aim_ratio(Aim::AtLeast(0.8))])
}

/// The fast upload's throughput.
async fn upload(rig: &Rig, size: u64) -> anyhow::Result<f64> {
    let mut client = rig.client(Side::Gateway).await?;
    let started = Instant::now();
    client.upload("fast", size).await?;
    Ok(megabytes(size) / started.elapsed().as_secs_f64())
}

impl Neighbours {
    /// Starts them all. Dropping what is returned ends them.
    async fn begin(self, rig: &Rig) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        let mut slow = JoinSet::new();
        for number in 0..SLOW {
            let Client::Gateway(mut ftp) = rig.client(Side::Gateway).await? else {
                bail!("only the gateway has sessions");
            };
            let data = ftp.begin(&format!("STOR slow-{number}")).await?;
            slow.spawn(self.trickle(ftp, data));
        }
        tokio::time::sleep(UNDER_WAY).await;
        Ok(slow)
    }

    /// Sends for ever. The session goes along, for the upload ends with it.
    async fn trickle(self, _session: Box<Ftp>, mut data: Wire) -> anyhow::Result<()> {
        send_blank(&mut data, self.head_start).await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            data.write_all(&TRICKLE).await?;
        }
    }
}
