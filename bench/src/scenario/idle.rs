//! Sessions that have logged in and wait: what each holds, and what all of them cost.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::client::Side;
use crate::ftp::Ftp;
use crate::report::{Aim, Row, Spread};

use super::Bench;

/// How many log in at once.
const AT_ONCE: usize = 32;

/// The first sessions, which start threads, hash the password and grow pools, are not counted. They
/// stay, lest others move into what they leave behind.
const FIRST: usize = 256;

/// Until what a login has stirred up has settled.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) async fn run(bench: &Bench, scenario: &'static str) -> anyhow::Result<Vec<Row>> {
    let mut rig = bench.rig()?;
    let address = rig.address(Side::Gateway);
    let first = log_in(address, FIRST).await;
    tokio::time::sleep(SETTLE).await;
    let process = rig.process(Side::Gateway);
    let before = process.usage()?;
    let sessions = log_in(address, bench.scale.idle_sessions - FIRST).await;
    ensure!(!sessions.is_empty(), "too few could log in");
    tokio::time::sleep(SETTLE).await;
    let logged_in = process.usage()?;
    tokio::time::sleep(bench.scale.idle).await;
    let idle = process.usage()?;
    let count = sessions.len() as f64;
    let grown = logged_in.anonymous.saturating_sub(before.anonymous) as f64 / 1024.0;
    let in_all = (first.len() + sessions.len()) as f64;
    drop((first, sessions));
    rig.check()?;
    let login_ms = (logged_in.cpu - before.cpu) * 1000.0 / count;
    let idle_ms = (idle.cpu - logged_in.cpu) * 1000.0 / bench.scale.idle.as_secs_f64();
    let row = |measure, value| Row::plain(scenario, measure, Spread::one(value));
    Ok(vec![
        row("sessions", in_all).aim(Aim::AtLeast(bench.scale.idle_sessions as f64)),
        row("KiB/session", grown / count).aim(Aim::AtMost(40.0)),
        row("CPU ms/login", login_ms),
        row("CPU ms/s, all", idle_ms).aim(Aim::AtMost(5.0)),
    ])
}

/// As many sessions as there may be, up to `wanted`.
async fn log_in(address: SocketAddr, wanted: usize) -> Vec<Ftp> {
    let mut sessions = Vec::new();
    let mut logins = JoinSet::new();
    let mut begun = 0;
    let mut refused = false;
    loop {
        while begun < wanted && logins.len() < AT_ONCE && !refused {
            logins.spawn(Ftp::login(address, Duration::ZERO, None));
            begun += 1;
        }
        match logins.join_next().await {
            Some(Ok(Ok(session))) => sessions.push(session),
            Some(_) => refused = true,
            None => return sessions,
        }
    }
}
