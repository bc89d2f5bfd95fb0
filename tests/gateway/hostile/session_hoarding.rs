//! Connections that never log in, as many as there are places.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::ftp::Client;
use crate::support::tls::Authority;
use crate::support::{Gateway, Memory, Store};

use super::login_floods::{BALANCER, connect_from};

/// Sessions that a gateway of these tests has.
const SESSIONS: &str = "20";

async fn connect(gateway: &Gateway, address: &str) -> Client {
    connect_from(gateway.address(), address.parse().unwrap()).await
}

/// All places are taken by few origins: others come in all the same, and whoever has logged in stays.
#[tokio::test(flavor = "multi_thread")]
async fn session_hoarding() {
    let settings = [
        ("limits.max_sessions", SESSIONS),
        ("ftp.trusted_proxies", BALANCER),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut honest = Vec::new();
    for host in 1..=4 {
        let mut client = connect(&gateway, &format!("192.0.2.{host}")).await;
        client.login("ferry", "secret").await;
        honest.push(client);
    }
    let mut hoarders = Vec::new();
    for number in 0..16_u16 {
        // A whole /48, and one address.
        let address = match number % 2 {
            0 => IpAddr::from([0x2001, 0xdb8, 7, number << 8, 0, 0, 0, 1]).to_string(),
            _ => "198.51.100.1".to_owned(),
        };
        hoarders.push(connect(&gateway, &address).await);
    }
    for host in 5..=9 {
        let mut client = connect(&gateway, &format!("192.0.2.{host}")).await;
        client.login("ferry", "secret").await;
        honest.push(client);
    }
    // The oldest ones of the address, of which one counts as much as four of the /48.
    for (number, hoarder) in hoarders.iter_mut().enumerate() {
        if number % 2 == 1 && number < 10 {
            let reply = hoarder.expect_reply(421).await;
            assert!(reply.text().contains("not logged in"), "{reply:?}");
            hoarder.expect_close().await;
        } else {
            hoarder.expect("NOOP", 200).await;
        }
    }
    // One of an origin that has as many takes no place from another's.
    let balancer = BALANCER.parse().unwrap();
    let mut more = Client::connect_from(balancer, gateway.address())
        .await
        .unwrap();
    let header = b"PROXY TCP4 198.51.100.1 198.51.100.2 40000 21\r\n";
    more.send_raw(header).await;
    more.expect_reply(421).await;
    for client in &mut honest {
        client.expect("NOOP", 200).await;
    }
    let refused = r#"bucketferry_sessions_refused_total{reason="gave_way"}"#;
    gateway.wait_for(refused, 5.0).await;
    gateway.wait_for("bucketferry_sessions", 20.0).await;
}

/// Logs in as devices do after an outage: again and again until there is a place.
async fn log_in_at_last(gateway: SocketAddr, address: IpAddr) {
    let header = format!("PROXY TCP4 {address} 198.51.100.2 40000 21\r\n");
    loop {
        let balancer = BALANCER.parse().unwrap();
        let mut client = Client::connect_from(balancer, gateway).await.unwrap();
        client.set_deadline(Duration::from_mins(1));
        client.send_raw(header.as_bytes()).await;
        if client.reply().await.code == 220 {
            client.login("ferry", "secret").await;
            client.expect("QUIT", 221).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Many more devices than places, each from an address of its own, all at once: whoever has a place keeps it until its
/// password has been looked at.
#[tokio::test(flavor = "multi_thread")]
async fn honest_login_storms() {
    let settings = [
        ("limits.max_sessions", "6"),
        ("ftp.trusted_proxies", BALANCER),
    ];
    let gateway = Gateway::with(Memory, &settings);
    let mut devices = JoinSet::new();
    for host in 1..=60 {
        let device = log_in_at_last(gateway.address(), IpAddr::from([192, 0, 2, host]));
        devices.spawn(device);
    }
    tokio::time::timeout(Duration::from_mins(1), devices.join_all())
        .await
        .expect("all log in");
    let refused = |reason: &str| format!("bucketferry_sessions_refused_total{{reason={reason:?}}}");
    assert!(
        gateway.metric(&refused("max_sessions")) > 0.5,
        "places are short"
    );
    assert!(
        gateway.metric(&refused("gave_way")) < 0.5,
        "nobody gives way"
    );
}

/// One that waits for a TLS handshake hears nothing; it is counted all the same, at once, and its descriptors are free soon.
#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_that_give_way() {
    let settings = [
        ("limits.max_sessions", "4"),
        ("ftp.trusted_proxies", BALANCER),
    ];
    let gateway = Gateway::encrypted(Store::folder(), &Authority::new(), &settings);
    let mut hoarders = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&gateway, "198.51.100.1").await;
        client.expect("AUTH TLS", 234).await;
        hoarders.push(client);
    }
    let mut client = connect(&gateway, "192.0.2.1").await;
    let refused = r#"bucketferry_sessions_refused_total{reason="gave_way"}"#;
    assert!((gateway.metric(refused) - 1.0).abs() < 0.5, "by now");
    let asked = Instant::now();
    hoarders[0].expect_close().await;
    assert!(asked.elapsed() < Duration::from_millis(700));
    client.expect("NOOP", 200).await;
}
