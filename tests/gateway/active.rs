//! Active mode: the gateway connects to its client, and to nobody else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::ftp::{Client, active_command};
use crate::support::process::bucketferry;
use crate::support::{Gateway, PATIENCE, Store, eventually, noise};

fn active(settings: &[(&str, &str)]) -> Gateway {
    let enabled = [("active.enabled", "true")];
    Gateway::with(Store::folder(), &[&enabled, settings].concat())
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    accepted.expect("a connection in time").unwrap()
}

/// A port of the client's where nobody answers, nor says so.
fn silent() -> (Socket, Vec<std::net::TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Its queue is full then; who comes later is not answered.
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))
    {
        waiting.push(stream);
    }
    (socket, waiting, address)
}

fn eprt(address: SocketAddr) -> String {
    let family = if address.is_ipv4() { 1 } else { 2 };
    format!("EPRT |{family}|{}|{}|", address.ip(), address.port())
}

async fn upload_and_download(client: &mut Client, command: impl Fn(SocketAddr) -> String) {
    let own = client.local_address().ip();
    let listener = TcpListener::bind((own, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = noise(300_000);

    client.expect(&command(address), 200).await;
    client.send("STOR a.bin").await;
    let (mut data, _) = accept(&listener).await;
    client.expect_reply(150).await;
    data.write_all(&bytes).await.unwrap();
    drop(data);
    client.expect_reply(226).await;

    client.expect(&command(address), 200).await;
    client.send("RETR a.bin").await;
    let (mut data, _) = accept(&listener).await;
    client.expect_reply(150).await;
    let mut read = Vec::new();
    data.read_to_end(&mut read).await.unwrap();
    client.expect_reply(226).await;
    assert!(read == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("PORT 127,0,0,1,195,80", 502).await;
    client.expect("EPRT |1|127.0.0.1|50000|", 502).await;
    assert!(!client.expect("FEAT", 211).await.text().contains("EPRT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_connects_to_the_client() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    assert!(
        client
            .expect("FEAT", 211)
            .await
            .text()
            .contains("\n EPRT\n")
    );
    upload_and_download(&mut client, active_command).await;
    upload_and_download(&mut client, eprt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_too() {
    let gateway = active(&[("ftp.listen", "[::1]:0")]);
    let mut client = gateway.client().await;
    upload_and_download(&mut client, eprt).await;
    client.expect("PORT 127,0,0,1,195,80", 504).await;
    client.expect("EPRT |1|127.0.0.1|50000|", 522).await;
}

/// On a dual-stack listener the kernel shows IPv4 clients as IPv6.
#[tokio::test(flavor = "multi_thread")]
async fn mapped_addresses_are_ipv4() {
    let gateway = active(&[("ftp.listen", "[::]:0")]);
    let address = (std::net::Ipv4Addr::LOCALHOST, gateway.address().port()).into();
    let mut client = Client::connect_as(address, "ferry", "secret").await;
    upload_and_download(&mut client, active_command).await;
    client.expect("EPRT |2|::ffff:127.0.0.1|50000|", 522).await;
}

/// It comes from the address to which the client has come.
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_firewall_can_know_it() {
    let port = free_port();
    let settings = [
        ("ftp.listen", "0.0.0.0:0"),
        ("active.source_port", &port.to_string()),
    ];
    let gateway = active(&settings);
    let address: SocketAddr = ([127, 0, 0, 5], gateway.address().port()).into();
    let mut clients = Vec::new();
    // Two at once, from one port.
    for _ in 0..2 {
        let mut client = Client::connect_as(address, "ferry", "secret").await;
        let listener = client.listen_data().await;
        client.send("STOR a.bin").await;
        let (data, from) = accept(&listener).await;
        assert_eq!(from, ([127, 0, 0, 5], port).into());
        client.expect_reply(150).await;
        clients.push((client, data));
    }
    for (mut client, data) in clients {
        drop(data);
        client.expect_reply(226).await;
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Root has the right to port 20; whoever has not is told at the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_port_without_rights_is_told_at_the_start() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = bucketferry();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command.args(["--store", "memory://", "--user", "a:b"]);
    command.env("BUCKETFERRY_ACTIVE__ENABLED", "true");
    command.env("BUCKETFERRY_ACTIVE__SOURCE_PORT", &port);
    let output = crate::support::process::run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("active.source_port"), "{said}");
    assert!(said.contains(&port), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_connected_to() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    let victim = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = victim.local_addr().unwrap();
    client.expect(&active_command(address), 504).await;
    client.expect(&eprt(address), 504).await;
    client.expect("PORT 127,0,0,1,0,25", 504).await;
    client.expect("EPRT |1|127.0.0.1|1023|", 504).await;
    client.expect("LIST", 425).await;
    let series =
        |reason| format!(r#"bucketferry_active_targets_refused_total{{reason="{reason}"}}"#);
    gateway.wait_for(&series("address"), 2.0).await;
    gateway.wait_for(&series("port"), 2.0).await;
    let knocked = tokio::time::timeout(Duration::from_millis(100), victim.accept()).await;
    assert!(knocked.is_err(), "the victim was connected to");
}

/// What was arranged before does not stay behind a refusal's back: it is still what the client knows.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_a_syntax_error_and_changes_nothing() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    let listener = client.listen_data().await;
    for nonsense in ["PORT 1,2,3", "PORT \u{fc}", "EPRT ||||", "EPRT |1|a|b|"] {
        client.expect(nonsense, 501).await;
    }
    client.send_raw(b"PORT \xff\xfe,1,1,1,1,1\r\n").await;
    client.expect_reply(501).await;
    client.send("LIST").await;
    accept(&listener).await;
    client.expect_reply(150).await;
    client.expect_reply(226).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epsv_all_refuses_it() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    client.expect("EPSV ALL", 200).await;
    client.expect("PORT 127,0,0,1,195,80", 501).await;
    client.expect("EPRT |1|127.0.0.1|50000|", 501).await;
}

/// The last one counts.
#[tokio::test(flavor = "multi_thread")]
async fn passive_and_active_replace_each_other() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    let port = client.pasv().await;
    let listener = client.listen_data().await;
    gateway
        .wait_for("bucketferry_passive_ports_in_use", 0.0)
        .await;
    assert!(TcpStream::connect(port).await.is_err());
    client.send("LIST").await;
    accept(&listener).await;
    client.expect_reply(150).await;
    client.expect_reply(226).await;
    client.listen_data().await;
    assert_eq!(client.store("a.txt", b"abc").await.code, 226);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_can_t_be_reached_gets_425_and_goes_on() {
    let gateway = active(&[("active.dial_timeout", "300ms")]);
    let mut client = gateway.client().await;
    let closed = client.listen_data().await;
    drop(closed);
    client.expect("STOR a.txt", 425).await;
    let (_socket, _waiting, address) = silent();
    client.expect(&active_command(address), 200).await;
    let asked = Instant::now();
    client.expect("STOR a.txt", 425).await;
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(gateway.store.keys(), Vec::<String>::new());
    upload_and_download(&mut client, active_command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abor_ends_the_dialling() {
    let gateway = active(&[("active.dial_timeout", "1h")]);
    let mut client = gateway.client().await;
    let (_socket, _waiting, address) = silent();
    client.expect(&active_command(address), 200).await;
    client.send("STOR a.txt").await;
    client.expect_silence(Duration::from_millis(200)).await;
    client.expect("ABOR", 426).await;
    client.expect_reply(226).await;
    upload_and_download(&mut client, active_command).await;
}

/// What the client says while we dial must not make us dial anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_dial_is_made_once() {
    let gateway = active(&[("active.dial_timeout", "1h")]);
    let mut client = gateway.client().await;
    let (_socket, _waiting, address) = silent();
    client.expect(&active_command(address), 200).await;
    client.send("STOR a.txt").await;
    eventually("a dial", || dialling_from(address).is_some()).await;
    let port = dialling_from(address);
    for _ in 0..5 {
        client.send("TYPE I").await;
        client.expect_silence(Duration::from_millis(20)).await;
    }
    assert_eq!(dialling_from(address), port);
    client.expect("ABOR", 426).await;
}

/// The port of the connection that is being made to this address; it shows as `SYN_SENT`.
fn dialling_from(address: SocketAddr) -> Option<String> {
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let there = format!(":{:04X}", address.port());
    connections.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (from, to, state) = (fields.next()?, fields.next()?, fields.next()?);
        (to.ends_with(&there) && state == "02").then(|| from.to_owned())
    })
}

/// The refused file is told of before anybody is connected to.
#[tokio::test(flavor = "multi_thread")]
async fn the_object_is_opened_before_the_client_is_dialled() {
    let gateway = active(&[]);
    let mut client = gateway.client().await;
    let listener = client.listen_data().await;
    client.expect("RETR missing.txt", 550).await;
    let knocked = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(knocked.is_err());
}

/// Behind a balancer it is the client that is connected to, not the balancer.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_the_real_client_is_dialled() {
    let gateway = active(&[("ftp.trusted_proxies", "127.0.0.9")]);
    let balancer = "127.0.0.9".parse().unwrap();
    let mut client = Client::connect_from(balancer, gateway.address())
        .await
        .unwrap();
    client
        .send("PROXY TCP4 127.0.0.3 198.51.100.2 40000 21")
        .await;
    client.expect_reply(220).await;
    client.login("ferry", "secret").await;
    let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
    client.expect("PORT 127,0,0,9,195,80", 504).await;
    client
        .expect(&active_command(listener.local_addr().unwrap()), 200)
        .await;
    client.send("LIST").await;
    let (_, from) = accept(&listener).await;
    assert_eq!(from.ip(), gateway.address().ip());
    client.expect_reply(150).await;
    client.expect_reply(226).await;
}
