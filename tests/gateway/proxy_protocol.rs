//! Behind a load balancer: whose a connection is, by its PROXY header.
//!
//! The balancer is 127.0.0.9 in these tests; the clients behind it are wherever its headers say.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::ftp::{Client, Reply, dial};
use crate::support::{Gateway, Store, eventually_async};

const BALANCER: &str = "127.0.0.9";
const CLIENT: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 40000 21\r\n";
const OTHER: &str = "PROXY TCP4 192.0.2.7 198.51.100.2 40000 21\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn behind_balancer(settings: &[(&str, &str)]) -> Gateway {
    let trusted = [("ftp.trusted_proxies", BALANCER)];
    Gateway::with(Store::folder(), &[&trusted, settings].concat())
}

/// A connection from the balancer that begins so.
async fn knock(gateway: &Gateway, header: &[u8]) -> Client {
    let from = BALANCER.parse().unwrap();
    let mut client = Client::connect_from(from, gateway.address()).await.unwrap();
    if !header.is_empty() {
        client.send_raw(header).await;
    }
    client
}

/// A client behind the balancer that has logged in.
async fn login(gateway: &Gateway, header: &[u8]) -> Client {
    let mut client = knock(gateway, header).await;
    client.expect_reply(220).await;
    client.login("ferry", "secret").await;
    client
}

/// A data connection through the balancer that begins so.
async fn data(client: &mut Client, header: &[u8]) -> TcpStream {
    let address = client.epsv().await;
    through_balancer(address, header).await
}

async fn through_balancer(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut data = dial(Some(BALANCER.parse().unwrap()), address)
        .await
        .unwrap();
    data.write_all(header).await.unwrap();
    data
}

/// Uploads through the balancer; the last reply.
async fn upload(client: &mut Client, header: &[u8], name: &str, bytes: &[u8]) -> Reply {
    let mut data = data(client, header).await;
    let first = client.command(&format!("STOR {name}")).await;
    if !first.is_preliminary() {
        return first;
    }
    data.write_all(bytes).await.unwrap();
    drop(data);
    client.reply().await
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// An IPv6 header, with what a balancer adds.
fn binary_v6() -> Vec<u8> {
    let mut body = Vec::new();
    for text in ["2001:db8::1", "2001:db8::2"] {
        let address: std::net::Ipv6Addr = text.parse().unwrap();
        body.extend(address.octets());
    }
    body.extend([0x9c, 0x40, 0, 21]);
    body.extend([0xea, 0, 4, 1, 2, 3, 4]);
    binary(0x21, 0x21, &body)
}

fn binary_v4() -> Vec<u8> {
    let body = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0, 21];
    binary(0x21, 0x11, &body)
}

async fn seen_from(client: &mut Client) -> String {
    let status = client.expect("STAT", 211).await.text();
    let line = status.lines().find_map(|line| line.split_once("from "));
    line.expect("an address").1.to_owned()
}

fn refused(reason: &str) -> String {
    format!(r#"bucketferry_proxy_headers_refused_total{{reason="{reason}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_names_the_client() {
    let gateway = behind_balancer(&[]);
    let mut client = login(&gateway, CLIENT.as_bytes()).await;
    assert_eq!(seen_from(&mut client).await, "192.0.2.1");
    let stored = upload(&mut client, CLIENT.as_bytes(), "a.txt", b"abc").await;
    assert_eq!(stored.code, 226);
    assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn version_2_names_the_client() {
    let gateway = behind_balancer(&[]);
    let mut client = login(&gateway, &binary_v4()).await;
    assert_eq!(seen_from(&mut client).await, "192.0.2.1");
    let stored = upload(&mut client, &binary_v4(), "a.txt", b"abc").await;
    assert_eq!(stored.code, 226);
    assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");
}

/// The balancer speaks IPv4 with us, and IPv6 with the client.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_clients_are_named_too() {
    let text = b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 21\r\n".to_vec();
    for header in [text, binary_v6()] {
        let gateway = behind_balancer(&[]);
        let mut client = login(&gateway, &header).await;
        assert_eq!(seen_from(&mut client).await, "2001:db8::1");
        client.expect("PASV", 425).await;
        client.expect("EPSV 1", 522).await;
        client.expect("EPSV 2", 229).await;
        let stored = upload(&mut client, &header, "a.txt", b"abc").await;
        assert_eq!(stored.code, 226);
    }
}

/// The 227 names the address that the client knows; the port is open on ours.
#[tokio::test(flavor = "multi_thread")]
async fn pasv_names_the_balancers_address() {
    let gateway = behind_balancer(&[]);
    let mut client = login(&gateway, CLIENT.as_bytes()).await;
    let named = client.pasv().await;
    assert_eq!(named.ip().to_string(), "198.51.100.2");
    let address = SocketAddr::new(gateway.address().ip(), named.port());
    let mut data = through_balancer(address, CLIENT.as_bytes()).await;
    client.expect("LIST", 150).await;
    let mut listing = Vec::new();
    data.read_to_end(&mut listing).await.unwrap();
    client.expect_reply(226).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_limits_and_lockout_count_the_client() {
    let settings = [
        ("ftp.deny", "192.0.2.7"),
        ("limits.max_sessions_per_ip", "1"),
        ("limits.login_failures", "1"),
    ];
    let gateway = behind_balancer(&settings);
    knock(&gateway, OTHER.as_bytes())
        .await
        .expect_reply(421)
        .await;
    let mut guessing = knock(&gateway, CLIENT.as_bytes()).await;
    guessing.expect_reply(220).await;
    let mut second = knock(&gateway, CLIENT.as_bytes()).await;
    second.expect_reply(421).await;
    guessing.expect("USER ferry", 331).await;
    guessing.expect("PASS wrong", 530).await;
    guessing.expect("USER ferry", 331).await;
    guessing.expect("PASS secret", 530).await;
    let third = CLIENT.replace("192.0.2.1", "192.0.2.3");
    login(&gateway, third.as_bytes()).await;
}

/// Health checks.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_speak_for_itself() {
    let gateway = behind_balancer(&[]);
    let local = binary(0x20, 0x00, b"");
    let unspecified = binary(0x21, 0x00, b"");
    for header in [b"PROXY UNKNOWN\r\n", &local[..], &unspecified[..]] {
        let mut client = login(&gateway, header).await;
        assert_eq!(seen_from(&mut client).await, BALANCER);
        let stored = upload(&mut client, header, "a.txt", b"abc").await;
        assert_eq!(stored.code, 226);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_send_a_header() {
    let gateway = behind_balancer(&[]);
    for (count, header) in [(1.0, CLIENT.as_bytes()), (2.0, &binary_v4()[..])] {
        let (mut client, greeting) = Client::connect(gateway.address()).await;
        assert_eq!(greeting.code, 220);
        // A header of version 2 begins with a line end: behind it, it could be a client that says nothing.
        let (first, rest) = header.split_at(2);
        client.send_raw(first).await;
        client.expect_silence(Duration::from_millis(30)).await;
        client.send_raw(rest).await;
        client.send("USER ferry").await;
        client.expect_reply(421).await;
        client.expect_close().await;
        gateway.wait_for(&refused("stranger"), count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trusted_proxies_nobody_may() {
    let gateway = Gateway::on(Store::folder());
    let mut client = knock(&gateway, CLIENT.as_bytes()).await;
    client.expect_reply(220).await;
    client.expect_reply(421).await;
    client.expect_close().await;
}

/// Balancers pass on whatever a client sends.
#[tokio::test(flavor = "multi_thread")]
async fn nor_may_a_client_behind_a_proxy() {
    let gateway = behind_balancer(&[]);
    let mut client = knock(&gateway, format!("{CLIENT}{OTHER}").as_bytes()).await;
    client.expect_reply(220).await;
    client.expect_reply(421).await;
    client.expect_close().await;
    gateway.wait_for(&refused("stranger"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_may_connect_directly() {
    let gateway = behind_balancer(&[]);
    let mut client = gateway.client().await;
    // A file may begin like a header.
    assert_eq!(client.store("a.txt", CLIENT.as_bytes()).await.code, 226);
    assert_eq!(gateway.store.object("a.txt").unwrap(), CLIENT.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_must_send_a_header_in_time() {
    let gateway = behind_balancer(&[("ftp.proxy_header_timeout", "300ms")]);
    for (count, beginning) in [(1.0, &b""[..]), (2.0, b"PROXY TCP4 192"), (3.0, SIGNATURE)] {
        let mut client = knock(&gateway, beginning).await;
        client.expect_close().await;
        gateway.wait_for(&refused("timeout"), count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_header_closes() {
    let gateway = behind_balancer(&[]);
    let long = binary(0x21, 0x11, &[0; 5000]);
    let socket = binary(0x21, 0x31, &[0; 216]);
    let cases: [(&str, &[u8]); 4] = [
        ("missing", b"USER ferry\r\n"),
        ("invalid", b"PROXY TCP4 192.0.2.1\r\n"),
        ("too_long", &long),
        ("invalid", &socket),
    ];
    for (_, beginning) in cases {
        knock(&gateway, beginning).await.expect_close().await;
    }
    gateway.wait_for(&refused("missing"), 1.0).await;
    gateway.wait_for(&refused("too_long"), 1.0).await;
    gateway.wait_for(&refused("invalid"), 2.0).await;
    // Who only looks whether the port is open does nothing wrong.
    drop(knock(&gateway, b"").await);
    drop(knock(&gateway, b"PROXY TC").await);
    gateway
        .wait_for("bucketferry_proxy_headers_awaited", 0.0)
        .await;
    gateway.wait_for(&refused("timeout"), 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_may_wait_for_their_header() {
    let gateway = behind_balancer(&[("limits.max_sessions", "2")]);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(knock(&gateway, b"").await);
    }
    gateway
        .wait_for("bucketferry_proxy_headers_awaited", 8.0)
        .await;
    knock(&gateway, CLIENT.as_bytes())
        .await
        .expect_reply(421)
        .await;
    let turned_away = r#"bucketferry_sessions_refused_total{reason="proxy_headers_awaited"}"#;
    gateway.wait_for(turned_away, 1.0).await;
    // They are no sessions: others come in.
    gateway.client().await;
    waiting.pop();
    eventually_async("room", async || {
        knock(&gateway, CLIENT.as_bytes()).await.reply().await.code == 220
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_headers() {
    let gateway = behind_balancer(&[("ftp.proxy_header_timeout", "1h")]);
    let mut client = knock(&gateway, b"").await;
    gateway
        .wait_for("bucketferry_proxy_headers_awaited", 1.0)
        .await;
    gateway.stop().await;
    client.expect_reply(421).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_must_be_the_clients() {
    let settings = [
        ("ftp.proxy_header_timeout", "300ms"),
        ("passive.trusted_networks", BALANCER),
    ];
    let gateway = behind_balancer(&settings);
    let mut client = login(&gateway, CLIENT.as_bytes()).await;
    let address = client.epsv().await;
    client.send("STOR a.txt").await;
    let mut strangers = vec![
        through_balancer(address, OTHER.as_bytes()).await,
        through_balancer(address, b"PROXY UNKNOWN\r\n").await,
        through_balancer(address, b"stolen").await,
        // It says nothing; meanwhile another is heard.
        through_balancer(address, b"").await,
    ];
    for stranger in &mut strangers {
        let end = stranger.read(&mut [0]).await;
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    gateway
        .wait_for("bucketferry_data_connections_refused_total", 2.0)
        .await;
    gateway.wait_for(&refused("missing"), 1.0).await;
    gateway.wait_for(&refused("timeout"), 1.0).await;

    let mut own = through_balancer(address, CLIENT.as_bytes()).await;
    client.expect_reply(150).await;
    own.write_all(b"mine").await.unwrap();
    drop(own);
    client.expect_reply(226).await;
    assert_eq!(gateway.store.object("a.txt").unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_holds_nobody_up() {
    let settings = [
        ("ftp.proxy_header_timeout", "1h"),
        ("passive.accept_timeout", "3s"),
    ];
    let gateway = behind_balancer(&settings);
    let mut client = login(&gateway, CLIENT.as_bytes()).await;
    let address = client.epsv().await;
    client.send("LIST").await;
    let _silent = through_balancer(address, b"").await;
    let _halfway = through_balancer(address, b"PROXY").await;
    let _own = through_balancer(address, CLIENT.as_bytes()).await;
    client.expect_reply(150).await;
}

/// The commands that come while a header does must not make it forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_a_data_connection_may_come_in_pieces() {
    let gateway = behind_balancer(&[]);
    let mut client = login(&gateway, CLIENT.as_bytes()).await;
    let mut data = data(&mut client, b"PROXY TCP4 192.0.2.1").await;
    client.send("STOR a.txt").await;
    client.send("TYPE I").await;
    client.expect_silence(Duration::from_millis(200)).await;
    data.write_all(&CLIENT.as_bytes()[20..]).await.unwrap();
    client.expect_reply(150).await;
    data.write_all(b"abc").await.unwrap();
    drop(data);
    client.expect_reply(226).await;
    client.expect_reply(200).await;
    assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");
}

mod late {
    use super::*;

    fn gateway(settings: &[(&str, &str)]) -> Gateway {
        let late = [("ftp.proxy_header", "late")];
        behind_balancer(&[&late, settings].concat())
    }

    /// As a balancer passes it on: greeted, then its header and first command in one.
    async fn login_late(gateway: &Gateway) -> Client {
        let mut client = knock(gateway, b"").await;
        client.expect_reply(220).await;
        client.send(&format!("{CLIENT}USER ferry")).await;
        client.expect_reply(331).await;
        client.expect("PASS secret", 230).await;
        client
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_header_may_come_with_the_first_command() {
        let gateway = gateway(&[]);
        let mut client = login_late(&gateway).await;
        assert_eq!(seen_from(&mut client).await, "192.0.2.1");
        gateway
            .wait_for("bucketferry_proxy_headers_awaited", 0.0)
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_may_also_come_first() {
        let gateway = gateway(&[]);
        let mut client = login(&gateway, CLIENT.as_bytes()).await;
        assert_eq!(seen_from(&mut client).await, "192.0.2.1");
        let stored = upload(&mut client, CLIENT.as_bytes(), "a.txt", b"abc").await;
        assert_eq!(stored.code, 226);
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_command_is_heard_before_it() {
        let gateway = gateway(&[]);
        let mut client = knock(&gateway, b"").await;
        client.expect_reply(220).await;
        client.send("USER ferry").await;
        client.expect_close().await;
        gateway.wait_for(&refused("missing"), 1.0).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_must_come_while_there_is_time_to_log_in() {
        let gateway = gateway(&[("ftp.login_timeout", "500ms")]);
        let mut client = knock(&gateway, b"").await;
        client.expect_reply(220).await;
        client.expect_close().await;
        gateway.wait_for(&refused("timeout"), 1.0).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_may_not_come_in_is_told_then() {
        let gateway = gateway(&[("ftp.deny", "192.0.2.1")]);
        let mut client = knock(&gateway, b"").await;
        client.expect_reply(220).await;
        client.send(&format!("{CLIENT}USER ferry")).await;
        client.expect_reply(421).await;
        client.expect_close().await;
    }

    /// Where nobody says whose a data connection is, the operator has to.
    #[tokio::test(flavor = "multi_thread")]
    async fn data_without_a_header_needs_trust() {
        let gateway = gateway(&[("passive.accept_timeout", "1s")]);
        let mut client = login_late(&gateway).await;
        let _data = data(&mut client, b"").await;
        client.expect("LIST", 425).await;
        gateway
            .wait_for("bucketferry_data_connections_refused_total", 1.0)
            .await;
    }

    /// The first byte brings it: it is checked before that counts.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_upload_has_a_header_and_needs_no_trust() {
        let gateway = gateway(&[]);
        let mut client = login_late(&gateway).await;
        for (beginning, code) in [(CLIENT, 226), (OTHER, 426), ("", 426)] {
            let mut upload = data(&mut client, b"").await;
            client.expect("STOR a.txt", 150).await;
            let bytes = format!("{beginning}abc");
            upload.write_all(bytes.as_bytes()).await.unwrap();
            drop(upload);
            client.expect_reply(code).await;
        }
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");
        // Nobody says whose an empty file is.
        let empty = data(&mut client, b"").await;
        client.expect("STOR empty.txt", 150).await;
        drop(empty);
        client.expect_reply(426).await;
        assert_eq!(gateway.store.keys(), ["a.txt"]);
        let strangers = "bucketferry_data_connections_refused_total";
        gateway.wait_for(strangers, 3.0).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn data_may_come_without_a_header_or_behind_one() {
        let gateway = gateway(&[("passive.trusted_networks", BALANCER)]);
        let mut client = login_late(&gateway).await;
        let mut upload = data(&mut client, b"").await;
        client.expect("STOR a.txt", 150).await;
        upload
            .write_all(format!("{CLIENT}abc").as_bytes())
            .await
            .unwrap();
        drop(upload);
        client.expect_reply(226).await;
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"abc");

        let mut download = data(&mut client, b"").await;
        client.expect("RETR a.txt", 150).await;
        let mut bytes = Vec::new();
        download.read_to_end(&mut bytes).await.unwrap();
        client.expect_reply(226).await;
        assert_eq!(bytes, b"abc");

        let empty = data(&mut client, b"").await;
        client.expect("STOR empty.txt", 150).await;
        drop(empty);
        client.expect_reply(226).await;
        assert_eq!(gateway.store.object("empty.txt").unwrap(), b"");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_clients_data_is_not_stored() {
        let gateway = gateway(&[("passive.trusted_networks", BALANCER)]);
        let mut client = login_late(&gateway).await;
        for beginning in [OTHER, "PROXY UNKNOWN\r\n", "abc"] {
            let mut upload = data(&mut client, b"").await;
            client.expect("STOR a.txt", 150).await;
            upload
                .write_all(format!("{beginning}abc").as_bytes())
                .await
                .unwrap();
            drop(upload);
            client.expect_reply(426).await;
        }
        assert_eq!(gateway.store.keys(), Vec::<String>::new());
    }
}

mod tls {
    use crate::support::tls::{Authority, Hello, handshake};

    use super::*;

    /// The header comes in clear, before the handshake.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_handshake_comes_after_the_header() {
        let authority = Authority::new();
        let settings = [
            ("ftp.trusted_proxies", BALANCER),
            ("ftp.implicit_tls_listen", "127.0.0.1:0"),
        ];
        let connector = authority.connector(Hello::default());
        for when in ["first", "late"] {
            let settings = [&settings[..], &[("ftp.proxy_header", when)]].concat();
            let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
            let implicit = gateway.inner.addresses()[1];
            let from = BALANCER.parse().unwrap();
            let mut client = Client::connect_from(from, implicit).await.unwrap();
            // Nobody is greeted before the handshake.
            client.expect_silence(Duration::from_millis(400)).await;
            client.send_raw(CLIENT.as_bytes()).await;
            let mut client = client.encrypt(&connector).await;
            client.expect_reply(220).await;
            client.login("ferry", "secret").await;
            let status = client.expect("STAT", 211).await.text();
            assert!(status.contains("192.0.2.1"), "{status}");
        }
    }

    /// With a handshake the client speaks first, also where it fetches: its header comes, and no trust is needed.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_late_header_comes_with_the_data_connections_handshake() {
        let authority = Authority::new();
        let settings = [
            ("ftp.trusted_proxies", BALANCER),
            ("ftp.proxy_header", "late"),
            ("passive.accept_timeout", "300ms"),
        ];
        let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
        gateway.store.put("a.txt", b"abc");
        let connector = authority.connector(Hello::default());
        let mut client = knock(&gateway, b"").await;
        client.expect_reply(220).await;
        client.send(&format!("{CLIENT}AUTH TLS")).await;
        client.expect_reply(234).await;
        let mut client = client.encrypt(&connector).await;
        client.login("ferry", "secret").await;
        client.protect_data().await;

        for (header, code) in [(CLIENT, 226), (OTHER, 426)] {
            let address = client.epsv().await;
            let mut data = through_balancer(address, b"").await;
            client.expect("RETR a.txt", 150).await;
            data.write_all(header.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            if let Ok(mut data) = handshake(&connector, data).await {
                let _ = data.read_to_end(&mut bytes).await;
            }
            client.expect_reply(code).await;
            let due: &[u8] = if code == 226 { b"abc" } else { b"" };
            assert_eq!(bytes, due);
        }
    }
}
