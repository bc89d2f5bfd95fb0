//! A user who asks for passive ports and never uses them, in as many sessions as it takes to have them all.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::ftp::Client;
use crate::support::tls::{Authority, Hello};
use crate::support::{Gateway, Store, noise, user};

/// Ports that a gateway of these tests has.
const PORTS: u16 = 8;

/// Neighbouring ports that are free, and that the kernel does not hand out by itself.
fn free_ports() -> String {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let start = rand::random_range(10_000..20_000);
    let first = (start..31_000)
        .step_by(usize::from(PORTS))
        .find(|first| (*first..first + PORTS).all(|port| is_free(&port)))
        .expect("free ports");
    format!("{first}-{}", first + PORTS - 1)
}

/// Two users, of whom `hoarder` may do nothing.
fn users() -> String {
    user("ferry", "") + &user("hoarder", "permissions = []")
}

fn gateway() -> Gateway {
    let settings = [("passive.ports", &*free_ports())];
    Gateway::for_users(Store::folder(), &users(), &settings)
}

async fn log_in_from(gateway: &Gateway, address: &str, name: &str) -> Client {
    let local: IpAddr = address.parse().unwrap();
    let client = Client::try_connect_as(local, gateway.address(), name, "secret").await;
    client.expect("a login")
}

/// All ports, each held by a session of this user. The order is that in which they were opened.
async fn hoard(gateway: &Gateway, name: &str) -> Vec<Client> {
    let mut sessions = Vec::new();
    for number in 0..PORTS {
        let address = format!("127.0.4.{}", number + 1);
        let mut session = log_in_from(gateway, &address, name).await;
        session.expect("EPSV", 229).await;
        sessions.push(session);
    }
    gateway
        .wait_for("bucketferry_passive_ports_in_use", f64::from(PORTS))
        .await;
    sessions
}

/// Whoever holds fewer gets a port at once, as often as it asks, although the hoarder asks again and again.
#[tokio::test(flavor = "multi_thread")]
async fn passive_port_hoarding() {
    let gateway = gateway();
    let mut sessions = hoard(&gateway, "hoarder").await;
    let mut honest = log_in_from(&gateway, "127.0.0.1", "ferry").await;
    for round in 0..3 * usize::from(PORTS) {
        let name = format!("file{round}");
        honest.store(&name, b"whole").await;
        assert_eq!(gateway.store.object(&name).as_deref(), Some(&b"whole"[..]));
        for session in &mut sessions {
            session.command("EPSV").await;
        }
    }
    let refused = gateway.metric("bucketferry_passive_ports_taken_back_total");
    assert!(refused >= 3.0 * f64::from(PORTS), "{refused} taken back");
}

/// The session that loses its port is that with the oldest one, and it hears why at its transfer.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_a_passive_port_hears_why() {
    let gateway = gateway();
    let mut sessions = hoard(&gateway, "ferry").await;
    let mut other = log_in_from(&gateway, "127.0.0.1", "hoarder").await;
    other.expect("EPSV", 229).await;
    let reply = sessions[0].command("STOR lost").await;
    assert_eq!(reply.code, 425, "{reply:?}");
    assert!(reply.text().contains("given to another user"), "{reply:?}");
    assert_eq!(gateway.store.object("lost"), None);
    // The next one is in the midst of its transfer's beginning when it loses its own.
    sessions[1].send("STOR lost").await;
    sessions[1].expect_silence(Duration::from_millis(100)).await;
    let mut third = log_in_from(&gateway, "127.0.0.2", "hoarder").await;
    third.expect("EPSV", 229).await;
    let reply = sessions[1].reply().await;
    assert_eq!(reply.code, 425, "{reply:?}");
    assert!(reply.text().contains("given to another user"), "{reply:?}");
    // All others keep theirs.
    for session in &mut sessions[2..] {
        session.expect("NOOP", 200).await;
    }
    drop((other, third));
    let left = f64::from(PORTS) - 2.0;
    gateway
        .wait_for("bucketferry_passive_ports_in_use", left)
        .await;
    sessions[0].store("again", b"whole").await;
    assert_eq!(
        gateway.store.object("again").as_deref(),
        Some(&b"whole"[..])
    );
}

/// A connection that was there before the port was taken back is the transfer's, ahead of its command and under TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_outlives_its_passive_port() {
    let gateway = gateway();
    let mut sessions = Vec::new();
    for number in 0..PORTS {
        let address = format!("127.0.4.{}", number + 1);
        let mut session = log_in_from(&gateway, &address, "ferry").await;
        let data = session.epsv().await;
        let local = Some(address.parse().unwrap());
        let data = crate::support::ftp::dial(local, data).await.unwrap();
        // The gateway has seen it once it has answered the next command.
        session.expect("NOOP", 200).await;
        sessions.push((session, data));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut other = log_in_from(&gateway, "127.0.0.1", "hoarder").await;
    other.expect("EPSV", 229).await;
    assert!(gateway.metric("bucketferry_passive_ports_taken_back_total") > 0.5);
    for (number, (mut session, mut data)) in sessions.into_iter().enumerate() {
        session.send(&format!("STOR file{number}")).await;
        session.expect_reply(150).await;
        data.write_all(b"whole").await.unwrap();
        drop(data);
        session.expect_reply(226).await;
        let stored = gateway.store.object(&format!("file{number}"));
        assert_eq!(stored.as_deref(), Some(&b"whole"[..]));
    }
}

/// A gateway on a store that is slow, all ports of which `ferry` holds, and `hoarder` takes half of them after each
/// session of `ferry` has said what it says.
async fn taken_while_the_store_is_slow(
    says: impl Fn(u16) -> Option<String>,
) -> (Gateway, Vec<(Client, Option<TcpStream>)>) {
    let ports = free_ports();
    let settings = [("passive.ports", &*ports)];
    let gateway = Gateway::for_users(Store::s3(), &users(), &settings);
    let server = gateway.store.server();
    gateway.store.put("file", b"whole");
    let mut sessions = Vec::new();
    for number in 0..PORTS {
        let address = format!("127.0.4.{}", number + 1);
        let mut session = log_in_from(&gateway, &address, "ferry").await;
        let there = session.epsv().await;
        sessions.push((session, address, there));
    }
    server.stall("*", Duration::from_secs(2));
    let mut connected = Vec::new();
    for (number, (mut session, address, there)) in (0..).zip(sessions) {
        let mut data = None;
        if let Some(command) = says(number) {
            session.send(&command).await;
            session.expect_silence(Duration::from_millis(20)).await;
            let local = Some(address.parse().unwrap());
            data = Some(crate::support::ftp::dial(local, there).await.unwrap());
        }
        connected.push((session, data));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for host in 1..=PORTS / 2 {
        let mut other = log_in_from(&gateway, &format!("127.0.0.{host}"), "hoarder").await;
        other.expect("EPSV", 229).await;
        connected.push((other, None));
    }
    server.heal();
    let taken = gateway.metric("bucketferry_passive_ports_taken_back_total");
    assert!((taken - f64::from(PORTS / 2)).abs() < 0.5, "{taken}");
    (gateway, connected)
}

/// A port whose client has connected counts as used, although the store has not opened the object yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_passive_port_of_a_transfer_that_waits_for_the_store_goes_last() {
    let half = usize::from(PORTS / 2);
    let says = |number| (usize::from(number) < half).then(|| "RETR file".to_owned());
    let (_gateway, mut sessions) = taken_while_the_store_is_slow(says).await;
    for (number, (session, data)) in sessions[..2 * half].iter_mut().enumerate() {
        if number < half {
            session.expect_reply(150).await;
            let mut received = Vec::new();
            let mut data = data.take().unwrap();
            data.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"whole");
            session.expect_reply(226).await;
        } else {
            session.expect("STOR idle", 425).await;
        }
    }
}

/// The session is busy with another verb, and has accepted nothing yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_outlives_its_passive_port_while_the_session_is_busy() {
    let (_gateway, mut sessions) =
        taken_while_the_store_is_slow(|_| Some("SIZE none".to_owned())).await;
    for (session, data) in &mut sessions[..usize::from(PORTS)] {
        session.expect_reply(550).await;
        session.send("STOU").await;
        session.expect_reply(150).await;
        let mut data = data.take().unwrap();
        data.write_all(b"whole").await.unwrap();
        drop(data);
        session.expect_reply(226).await;
    }
}

/// Sessions that connect to their own ports under TLS and stop in the handshake hold no more than others do, and a
/// handshake that goes on is not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_hold_no_passive_port() {
    let authority = Authority::new();
    let ports = free_ports();
    let settings = [("passive.ports", &*ports)];
    let gateway = Gateway::encrypted_for_users(Store::folder(), &users(), &authority, &settings);
    let connector = authority.connector(Hello::default());
    let mut sessions = Vec::new();
    for _ in 0..PORTS {
        let (client, _) = Client::connect(gateway.address()).await;
        let mut session = client.secure(&connector).await;
        session.login("ferry", "secret").await;
        session.protect_data().await;
        let data = TcpStream::connect(session.epsv().await).await.unwrap();
        session.send("STOR half").await;
        session.expect_reply(150).await;
        sessions.push((session, data));
    }
    let mut other = log_in_from(&gateway, "127.0.0.1", "hoarder").await;
    other.expect("EPSV", 229).await;
    let (mut session, data) = sessions.remove(0);
    let mut data = crate::support::tls::handshake(&connector, data)
        .await
        .unwrap();
    let bytes = noise(100_000);
    data.write_all(&bytes).await.unwrap();
    data.shutdown().await.unwrap();
    session.expect_reply(226).await;
    assert_eq!(gateway.store.object("half"), Some(bytes));
}

/// Before the login there is no port to hoard.
#[tokio::test]
async fn no_passive_port_before_the_login() {
    let gateway = gateway();
    let (mut client, _) = Client::connect(gateway.address()).await;
    for command in ["PASV", "EPSV", "EPSV 1"] {
        client.expect(command, 530).await;
    }
    client.login("ferry", "secret").await;
    client.expect("EPSV", 229).await;
    client.expect("USER ferry", 331).await;
    client.expect("EPSV", 530).await;
    gateway
        .wait_for("bucketferry_passive_ports_in_use", 0.0)
        .await;
}
