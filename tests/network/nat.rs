//! Network address translation, on either side.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::{Host, Network, join};
use crate::support::network;

/// Whoever comes from inside seems to be the router itself.
const MASQUERADE: &str = r#"table ip nat {
    chain out {
        type nat hook postrouting priority srcnat
        oifname "eth0" masquerade
    }
}"#;

/// What comes to the router's own address is the server's, and the server seems to be the router.
const FORWARD: &str = r#"table ip nat {
    chain in {
        type nat hook prerouting priority dstnat
        ip daddr 192.0.2.1 tcp dport { 21, 30000-30009 } dnat to 10.0.0.10
    }
    chain out {
        type nat hook postrouting priority srcnat
        oifname "eth0" masquerade
    }
}"#;

/// So many clients behind a router, which is 192.0.2.1 to the server at 192.0.2.10.
fn clients_behind_nat(network: &mut Network, count: u8) -> (Vec<Host>, Host) {
    let (router, server) = (network.router("router"), network.host("server"));
    join((&router, "192.0.2.1/24"), (&server, "192.0.2.10/24"));
    router.filter(MASQUERADE);
    let clients = (0..count).map(|nth| {
        let client = network.host(&format!("client{nth}"));
        let inside = format!("10.0.{nth}.1");
        let own = format!("10.0.{nth}.2/24");
        join((&client, &own), (&router, &format!("{inside}/24")));
        client.route_all_to(&inside);
        client
    });
    (clients.collect(), server)
}

/// A client at 192.0.2.2, and a server at 10.0.0.10 behind a router that forwards its ports. The client has
/// no way to the server's own address.
fn server_behind_nat(network: &mut Network) -> (Host, Host) {
    let (client, router) = (network.host("client"), network.router("router"));
    let server = network.host("server");
    join((&client, "192.0.2.2/24"), (&router, "192.0.2.1/24"));
    join((&router, "10.0.0.1/24"), (&server, "10.0.0.10/24"));
    server.route_all_to("10.0.0.1");
    router.filter(FORWARD);
    (client, server)
}

#[test]
#[ignore = "needs root: make test-network"]
fn passive_works_for_a_client_behind_nat() {
    let Some(mut network) = network() else { return };
    let (clients, server) = clients_behind_nat(&mut network, 1);
    let gateway = Gateway::on(&server, &[]);
    for client in Client::PASSIVE {
        client.works(&clients[0], "192.0.2.10", &gateway);
    }
    gateway.says(&["transfer", "peer=192.0.2.1:"]);
}

/// It names an address that is not the one it has come from.
#[test]
#[ignore = "needs root: make test-network"]
fn active_fails_for_a_client_behind_nat() {
    let Some(mut network) = network() else { return };
    let (clients, server) = clients_behind_nat(&mut network, 1);
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    for client in Client::ACTIVE {
        client.fails(&clients[0], "192.0.2.10", &gateway);
    }
    gateway.says(&[
        "active data connection to somebody else refused",
        "10,0,0,2",
    ]);
}

#[test]
#[ignore = "needs root: make test-network"]
fn two_clients_behind_one_address_work_at_the_same_time() {
    let Some(mut network) = network() else { return };
    let (clients, server) = clients_behind_nat(&mut network, 2);
    let gateway = Gateway::on(&server, &[]);
    std::thread::scope(|scope| {
        for host in &clients {
            scope.spawn(|| {
                for client in Client::PASSIVE {
                    client.works(host, "192.0.2.10", &gateway);
                }
            });
        }
    });
}

#[test]
#[ignore = "needs root: make test-network"]
fn a_server_behind_nat_names_the_routers_address() {
    let Some(mut network) = network() else { return };
    let (client, server) = server_behind_nat(&mut network);
    let gateway = Gateway::on(&server, &[("passive.address", "192.0.2.1")]);
    for program in Client::PASSIVE {
        program.works(&client, "192.0.2.1", &gateway);
    }
}

/// Its own address is of no use to clients that believe it. EPSV names none, and works all the same.
#[test]
#[ignore = "needs root: make test-network"]
fn a_server_behind_nat_is_not_reached_by_its_own_address() {
    let Some(mut network) = network() else { return };
    let (client, server) = server_behind_nat(&mut network);
    let gateway = Gateway::on(&server, &[]);
    for program in Client::BELIEVING {
        program.fails(&client, "192.0.2.1", &gateway);
    }
    for program in [Client::Curl, Client::Ftplib] {
        program.works(&client, "192.0.2.1", &gateway);
    }
}

/// The router lets connections from inside out, and makes them its own.
#[test]
#[ignore = "needs root: make test-network"]
fn active_works_for_a_server_behind_nat() {
    let Some(mut network) = network() else { return };
    let (client, server) = server_behind_nat(&mut network);
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    Client::FtplibActive.works(&client, "192.0.2.1", &gateway);
}
