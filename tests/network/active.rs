//! Active mode where nothing stands between client and server, but a client's firewall.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::{Host, Network, join};
use crate::support::network;

/// A client that lets connections in from port 20 only, as is done for FTP servers.
const FROM_PORT_20: &str = "table inet filter {
    chain in {
        type filter hook input priority filter; policy drop
        ct state established,related accept
        tcp sport 20 tcp dport >= 1024 accept
    }
}";

fn neighbours(network: &mut Network) -> (Host, Host) {
    let (client, server) = (network.host("client"), network.host("server"));
    join((&client, "192.0.2.2/24"), (&server, "192.0.2.10/24"));
    (client, server)
}

#[test]
#[ignore = "needs root: make test-network"]
fn both_modes_work_where_nothing_is_between() {
    let Some(mut network) = network() else { return };
    let (client, server) = neighbours(&mut network);
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    for program in Client::PASSIVE.iter().chain(&Client::ACTIVE) {
        program.works(&client, "192.0.2.10", &gateway);
    }
}

#[test]
#[ignore = "needs root: make test-network"]
fn a_firewall_may_know_active_mode_by_port_20() {
    let Some(mut network) = network() else { return };
    let (client, server) = neighbours(&mut network);
    client.filter(FROM_PORT_20);
    let from_20 = [("active.enabled", "true"), ("active.source_port", "20")];
    let gateway = Gateway::on(&server, &from_20);
    for program in Client::ACTIVE {
        program.works(&client, "192.0.2.10", &gateway);
    }
    drop(gateway);
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    Client::FtplibActive.fails(&client, "192.0.2.10", &gateway);
    gateway.says(&["can't connect to a client in active mode"]);
}
