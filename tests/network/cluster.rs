//! Control and data from two addresses, as in a Kubernetes cluster with `externalTrafficPolicy: Cluster`:
//! each connection comes through some node, which makes it its own.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::{Host, Network, join};
use crate::support::network;

/// Connections to port 21 come through the node 10.0.0.1, those to passive ports through 10.0.0.2.
const TWO_NODES: &str = "table ip nat {
    chain in {
        type nat hook prerouting priority dstnat
        ip daddr 192.0.2.1 tcp dport { 21, 30000-30009 } dnat to 10.0.0.10
    }
    chain out {
        type nat hook postrouting priority srcnat
        ip daddr 10.0.0.10 tcp dport 21 snat to 10.0.0.1
        ip daddr 10.0.0.10 tcp dport 30000-30009 snat to 10.0.0.2
    }
}";

fn cluster(network: &mut Network) -> (Host, Host) {
    let (client, nodes) = (network.host("client"), network.router("nodes"));
    let server = network.host("server");
    join((&nodes, "10.0.0.1/24"), (&server, "10.0.0.10/24"));
    nodes.add_address("10.0.0.2/24");
    join((&client, "192.0.2.2/24"), (&nodes, "192.0.2.1/24"));
    nodes.filter(TWO_NODES);
    (client, server)
}

#[test]
#[ignore = "needs root: make test-network"]
fn data_from_another_node_is_refused() {
    let Some(mut network) = network() else { return };
    let (client, server) = cluster(&mut network);
    let gateway = Gateway::on(&server, &[("passive.address", "192.0.2.1")]);
    for program in [Client::Curl, Client::Ftplib] {
        program.fails(&client, "192.0.2.1", &gateway);
    }
    gateway.says(&[
        "data connection from a stranger refused",
        "10.0.0.2",
        "client=10.0.0.1",
    ]);
}

#[test]
#[ignore = "needs root: make test-network"]
fn data_from_trusted_nodes_is_taken() {
    let Some(mut network) = network() else { return };
    let (client, server) = cluster(&mut network);
    let settings = [
        ("passive.address", "192.0.2.1"),
        ("passive.trusted_networks", "10.0.0.0/24"),
    ];
    let gateway = Gateway::on(&server, &settings);
    for program in Client::PASSIVE {
        program.works(&client, "192.0.2.1", &gateway);
    }
}
