//! What the wait for a sign that a client has died costs: `upload.settle = "auto"` against `0s`.
//!
//! The floor of this scenario is the gateway itself, with the other setting.

use std::time::Duration;

use crate::client::Side;
use crate::report::Row;
use crate::rig::{Gateway, Rig};

use super::small::{self, Load};
use super::{Bench, Sides};

/// What is between client and gateway, in each direction.
const WAYS: [(&str, Duration); 2] = [
    ("loopback", Duration::ZERO),
    ("20 ms away", Duration::from_millis(20)),
];

/// One that ends within a block, and one that may have been cut off.
const SIZES: [u64; 2] = [1000, 1024];

const SESSIONS: [usize; 2] = [1, 64];

pub(super) async fn run(bench: &Bench, scenario: &'static str) -> anyhow::Result<Vec<Row>> {
    let mut rigs = Rigs {
        at_once: Rig::start(&with_settle(&bench.gateway, "0s"))?,
        settling: Rig::start(&with_settle(&bench.gateway, "auto"))?,
    };
    let mut rows = Vec::new();
    for (way, delay) in WAYS {
        for size in SIZES {
            for sessions in SESSIONS {
                let load = Load {
                    size,
                    sessions,
                    delay,
                    duration: bench.scale.small / 2,
                };
                let samples = alternate(bench, &mut rigs, load).await?;
                let what = format!("{size} B × {sessions}, {way}");
                rows.extend(small::rows(scenario, &format!("{what}: "), &samples));
            }
        }
    }
    Ok(rows)
}

/// The same gateway, with the wait and without.
struct Rigs {
    at_once: Rig,
    settling: Rig,
}

impl Rigs {
    fn of(&mut self, side: Side) -> &mut Rig {
        match side {
            Side::Floor => &mut self.at_once,
            Side::Gateway => &mut self.settling,
        }
    }
}

async fn alternate(
    bench: &Bench,
    rigs: &mut Rigs,
    load: Load,
) -> anyhow::Result<Sides<small::Sample>> {
    let mut samples = Sides::new();
    for side in bench.turns() {
        let rig = rigs.of(side);
        samples.push(side, small::turn(rig, Side::Gateway, load).await?);
        rig.check()?;
    }
    Ok(samples)
}

/// What is set for the measurement as a whole comes first, so that this wins.
pub(super) fn with_settle(gateway: &Gateway, settle: &str) -> Gateway {
    let mut gateway = gateway.clone();
    let setting = ("BUCKETFERRY_UPLOAD__SETTLE".to_owned(), settle.to_owned());
    gateway.environment.push(setting);
    gateway
}
