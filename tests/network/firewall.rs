//! A firewall that opens port 21 and the passive ports, and nothing else.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::{Host, Network, join};
use crate::support::network;

const OPEN: &str = "table inet filter {
    chain between {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ip daddr 192.0.2.10 tcp dport { 21, 30000-30009 } accept
    }
}";

fn behind_firewall(network: &mut Network) -> (Host, Host) {
    let (client, firewall) = (network.host("client"), network.router("firewall"));
    let server = network.host("server");
    join((&client, "198.51.100.2/24"), (&firewall, "198.51.100.1/24"));
    join((&firewall, "192.0.2.1/24"), (&server, "192.0.2.10/24"));
    client.route_all_to("198.51.100.1");
    server.route_all_to("192.0.2.1");
    firewall.filter(OPEN);
    (client, server)
}

#[test]
#[ignore = "needs root: make test-network"]
fn passive_needs_21_and_its_ports_and_nothing_else() {
    let Some(mut network) = network() else { return };
    let (client, server) = behind_firewall(&mut network);
    let gateway = Gateway::on(&server, &[]);
    for program in Client::PASSIVE {
        program.works(&client, "192.0.2.10", &gateway);
    }
    drop(gateway);
    let gateway = Gateway::on(&server, &[("passive.ports", "40000-40009")]);
    Client::FtplibTrusting.fails(&client, "192.0.2.10", &gateway);
}

#[test]
#[ignore = "needs root: make test-network"]
fn active_does_not_get_out() {
    let Some(mut network) = network() else { return };
    let (client, server) = behind_firewall(&mut network);
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    Client::FtplibActive.fails(&client, "192.0.2.10", &gateway);
    gateway.says(&["can't connect to a client in active mode", "198.51.100.2:"]);
}
