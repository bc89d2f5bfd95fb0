//! A load balancer (haproxy) that says by PROXY headers for whom it speaks.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::{Host, Network, Running, join};
use crate::support::network;

/// haproxy at 192.0.2.1, the server behind it at 10.0.0.10.
struct Balanced {
    clients: [Host; 2],
    server: Host,
    balancer: Host,
    haproxy: Option<(Running, NamedTempFile)>,
}

impl Balanced {
    fn new(network: &mut Network) -> Self {
        let clients = [network.host("client0"), network.host("client1")];
        let balancer = network.router("balancer");
        let server = network.host("server");
        join((&balancer, "10.0.0.1/24"), (&server, "10.0.0.10/24"));
        join((&clients[0], "192.0.2.2/24"), (&balancer, "192.0.2.1/24"));
        join(
            (&clients[1], "198.51.100.2/24"),
            (&balancer, "198.51.100.1/24"),
        );
        clients[1].route_all_to("198.51.100.1");
        Self {
            clients,
            server,
            balancer,
            haproxy: None,
        }
    }

    /// Starts haproxy. `header` is how it names its clients: `send-proxy`, `send-proxy-v2`.
    fn balance(&mut self, header: &str) {
        let configuration = format!(
            "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n\
             frontend ftp\n  bind 192.0.2.1:21\n  default_backend control\n\
             frontend data\n  bind 192.0.2.1:30000-30009\n  default_backend data\n\
             backend control\n  server ferry 10.0.0.10:21 check inter 100ms {header}\n\
             backend data\n  server ferry 10.0.0.10 {header}\n"
        );
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(configuration.as_bytes()).expect("a file");
        let path = file.path().to_str().expect("a path in UTF-8");
        let mut command = self.balancer.command("haproxy", &["-db", "-q", "-f", path]);
        let running = Running(command.spawn().expect("haproxy"));
        let last_port = "</dev/tcp/192.0.2.1/30009";
        let listens = || {
            self.balancer
                .run("bash", &["-c", last_port])
                .status
                .success()
        };
        self.haproxy = Some((running, file));
        for _ in 0..100 {
            if listens() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("haproxy does not listen: {configuration}");
    }
}

fn names_its_clients(header: &str) {
    let Some(mut network) = network() else { return };
    let mut setup = Balanced::new(&mut network);
    let gateway = Gateway::on(&setup.server, &[("ftp.trusted_proxies", "10.0.0.1")]);
    setup.balance(header);
    // No `passive.address`: the header names the address that the client knows.
    for program in Client::PASSIVE {
        program.works(&setup.clients[0], "192.0.2.1", &gateway);
    }
    Client::FtplibTrusting.works(&setup.clients[1], "192.0.2.1", &gateway);
    gateway.says(&["login", "peer=192.0.2.2:"]);
    gateway.says(&["transfer", "peer=192.0.2.2:"]);
    gateway.says(&["transfer", "peer=198.51.100.2:"]);
    // Nor is it bothered by the balancer's asking whether it lives.
    assert!(!gateway.log().contains("refused"), "{}", gateway.log());
}

#[test]
#[ignore = "needs root: make test-network"]
fn proxy_version_1_names_the_clients() {
    names_its_clients("send-proxy");
}

#[test]
#[ignore = "needs root: make test-network"]
fn proxy_version_2_names_the_clients() {
    names_its_clients("send-proxy-v2");
}

#[test]
#[ignore = "needs root: make test-network"]
fn a_balancer_that_is_trusted_has_to_send_the_header() {
    let Some(mut network) = network() else { return };
    let mut setup = Balanced::new(&mut network);
    let settings = [
        ("ftp.trusted_proxies", "10.0.0.1"),
        ("ftp.proxy_header_timeout", "300ms"),
    ];
    let gateway = Gateway::on(&setup.server, &settings);
    setup.balance("");
    Client::Ftplib.fails(&setup.clients[0], "192.0.2.1", &gateway);
    gateway.says(&["connection from a trusted proxy refused", "10.0.0.1"]);
}

#[test]
#[ignore = "needs root: make test-network"]
fn a_balancer_that_is_not_trusted_must_not() {
    let Some(mut network) = network() else { return };
    let mut setup = Balanced::new(&mut network);
    let gateway = Gateway::on(&setup.server, &[]);
    setup.balance("send-proxy-v2");
    Client::Ftplib.fails(&setup.clients[0], "192.0.2.1", &gateway);
    gateway.says(&["begins with a PROXY header", "10.0.0.1"]);
}

/// Without headers every client has the balancer's address: it works, and nobody can be told apart.
#[test]
#[ignore = "needs root: make test-network"]
fn without_headers_all_clients_are_the_balancer() {
    let Some(mut network) = network() else { return };
    let mut setup = Balanced::new(&mut network);
    let gateway = Gateway::on(&setup.server, &[("passive.address", "192.0.2.1")]);
    setup.balance("");
    for client in &setup.clients {
        Client::FtplibTrusting.works(client, "192.0.2.1", &gateway);
    }
    gateway.says(&["transfer", "peer=10.0.0.1:"]);
    assert!(
        !gateway.log().contains("peer=192.0.2.2:"),
        "{}",
        gateway.log()
    );
}

/// The gateway connects to the client itself, past the balancer: that takes a way from one to the other,
/// and back.
#[test]
#[ignore = "needs root: make test-network"]
fn active_mode_goes_past_the_balancer() {
    let Some(mut network) = network() else { return };
    let mut setup = Balanced::new(&mut network);
    setup.server.route_all_to("10.0.0.1");
    let settings = [
        ("ftp.trusted_proxies", "10.0.0.1"),
        ("active.enabled", "true"),
    ];
    let gateway = Gateway::on(&setup.server, &settings);
    setup.balance("send-proxy");
    Client::FtplibActive.works(&setup.clients[1], "192.0.2.1", &gateway);
    Client::FtplibActive.fails(&setup.clients[0], "192.0.2.1", &gateway);
    gateway.says(&["can't connect to a client in active mode", "192.0.2.2:"]);
}
