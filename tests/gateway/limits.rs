//! How many may come, and from where.

use std::net::IpAddr;

use crate::support::ftp::Client;
use crate::support::{Gateway, Store, eventually_async};

async fn knock(gateway: &Gateway, from: &str) -> u16 {
    let from: IpAddr = from.parse().unwrap();
    let mut client = Client::connect_from(from, gateway.address()).await.unwrap();
    client.reply().await.code
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited_in_all() {
    let gateway = Gateway::with(Store::folder(), &[("limits.max_sessions", "2")]);
    let first = gateway.client().await;
    let _second = gateway.client().await;
    assert_eq!(knock(&gateway, "127.0.0.1").await, 421);
    gateway
        .wait_for(
            r#"bucketferry_sessions_refused_total{reason="max_sessions"}"#,
            1.0,
        )
        .await;
    drop(first);
    eventually_async("room", async || knock(&gateway, "127.0.0.1").await == 220).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited_by_address() {
    let gateway = Gateway::with(Store::folder(), &[("limits.max_sessions_per_ip", "1")]);
    let _first = gateway.client().await;
    assert_eq!(knock(&gateway, "127.0.0.1").await, 421);
    assert_eq!(knock(&gateway, "127.0.0.2").await, 220);
    let refused = r#"bucketferry_sessions_refused_total{reason="max_sessions_per_ip"}"#;
    gateway.wait_for(refused, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_allowed_and_denied() {
    let settings = [("ftp.allow", "127.0.0.0/30"), ("ftp.deny", "127.0.0.2")];
    let gateway = Gateway::with(Store::folder(), &settings);
    assert_eq!(knock(&gateway, "127.0.0.1").await, 220);
    assert_eq!(knock(&gateway, "127.0.0.2").await, 421);
    assert_eq!(knock(&gateway, "127.0.0.4").await, 421);
    gateway
        .wait_for(
            r#"bucketferry_sessions_refused_total{reason="address_denied"}"#,
            2.0,
        )
        .await;
}

/// On a dual-stack listener the kernel shows IPv4 clients as IPv6.
#[tokio::test(flavor = "multi_thread")]
async fn mapped_addresses_are_ipv4() {
    let settings = [("ftp.listen", "[::]:0"), ("ftp.deny", "127.0.0.2")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let address = (std::net::Ipv4Addr::LOCALHOST, gateway.address().port()).into();
    let from = "127.0.0.2".parse().unwrap();
    let mut client = Client::connect_from(from, address).await.unwrap();
    client.expect_reply(421).await;
}
