//! What the tests stand on: hosts and cables, the gateway on one of them, clients on others.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod host;

use std::io::Write;

use host::Network;

/// The network of a test; `None` where there is no right to make one.
pub(crate) fn network() -> Option<Network> {
    if rustix::process::geteuid().is_root() {
        return Some(Network::new());
    }
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{name}: network namespaces need root"
    );
    // Past the test harness, which would keep it to itself.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {name}: network namespaces need root"
    );
    None
}
