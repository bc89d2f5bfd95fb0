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

/// `anna` as often as the settings say, `bert` once. Both passwords are `x`.
const USERS: &str = r#"
[[user]]
name = "anna"
password_hash = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m"
[[user]]
name = "bert"
password_hash = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m"
max_sessions = 1
"#;

/// The code of the reply to the right password.
async fn login(gateway: &Gateway, user: &str) -> (Client, u16) {
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect(&format!("USER {user}"), 331).await;
    let code = client.command("PASS x").await.code;
    (client, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited_by_user() {
    let settings = [("limits.max_sessions_per_user", "2")];
    let gateway = Gateway::for_users(Store::folder(), USERS, &settings);
    let (mut first, code) = login(&gateway, "anna").await;
    assert_eq!(code, 230);
    let (mut second, code) = login(&gateway, "anna").await;
    assert_eq!(code, 230);
    let (mut third, code) = login(&gateway, "anna").await;
    assert_eq!(code, 421);
    third.expect_close().await;
    let refused = r#"bucketferry_sessions_refused_total{reason="max_sessions_per_user"}"#;
    assert!((gateway.metric(refused) - 1.0).abs() < f64::EPSILON);
    let logins = r#"bucketferry_logins_total{outcome="too_many_sessions"}"#;
    assert!((gateway.metric(logins) - 1.0).abs() < f64::EPSILON);
    // A place is free again after another user's USER, after REIN, and when the client hangs up.
    first.expect("USER bert", 331).await;
    let (mut third, code) = login(&gateway, "anna").await;
    assert_eq!(code, 230);
    third.expect("REIN", 220).await;
    let (third, code) = login(&gateway, "anna").await;
    assert_eq!(code, 230);
    third.hang_up();
    eventually_async("a place", async || login(&gateway, "anna").await.1 == 230).await;
    // A user's own limit wins.
    first.expect("PASS x", 230).await;
    assert_eq!(login(&gateway, "bert").await.1, 421);
    second.expect("QUIT", 221).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_by_their_frequency() {
    let settings = [("limits.connections_per_second_per_ip", "3")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let started = std::time::Instant::now();
    let mut greeted = 0;
    for _ in 0..30 {
        match knock(&gateway, "127.0.0.1").await {
            220 => greeted += 1,
            421 => {}
            other => panic!("{other}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let due = 3.0 + 3.0 * seconds;
    assert!(f64::from(greeted) <= due + 1.0, "{greeted} in {seconds} s");
    assert!(f64::from(greeted) >= due - 2.0, "{greeted} in {seconds} s");
    assert_eq!(knock(&gateway, "127.0.0.2").await, 220);
    let refused = r#"bucketferry_sessions_refused_total{reason="connections_per_second_per_ip"}"#;
    gateway.wait_for(refused, f64::from(30 - greeted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_before_the_login_are_limited() {
    let settings = [("limits.commands_before_login", "10")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let (mut client, _) = Client::connect(gateway.address()).await;
    for _ in 0..10 {
        client.expect("NOOP", 200).await;
    }
    client.expect("NOOP", 421).await;
    client.expect_close().await;
    let refused = r#"bucketferry_sessions_refused_total{reason="commands_before_login"}"#;
    gateway.wait_for(refused, 1.0).await;
    let mut client = gateway.client().await;
    for _ in 0..20 {
        client.expect("NOOP", 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_unknown_commands_before_the_login_are_not_ftp() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, _) = Client::connect(gateway.address()).await;
    for _ in 0..9 {
        client.expect("EHLO there", 500).await;
    }
    client.expect("EHLO there", 421).await;
    client.expect_close().await;
    let refused = r#"bucketferry_sessions_refused_total{reason="not_ftp"}"#;
    gateway.wait_for(refused, 1.0).await;
    let mut client = gateway.client().await;
    for _ in 0..20 {
        client.expect("EHLO there", 500).await;
    }
}

/// What a browser can be made to send (ALPACA): the commands in its body are never reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_browser_is_not_ftp() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, _) = Client::connect(gateway.address()).await;
    let body = "USER ferry\r\nPASS secret\r\nMKD stolen\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{body}");
    client.send_raw(request.as_bytes()).await;
    client.expect_reply(421).await;
    client.expect_close().await;
    assert_eq!(gateway.store.keys(), Vec::<String>::new());
}
