//! A stranger at the client's own address, as behind the same NAT, that is faster at the client's passive ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::ftp::Client;
use crate::support::tls::{Authority, Hello, TLS12, handshake};
use crate::support::{Gateway, Store};

type Private = Client<TlsStream<TcpStream>>;

const REUSE: [&str; 2] = ["true", "false"];

async fn private(gateway: &Gateway, connector: &TlsConnector) -> Private {
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(connector).await;
    client.login("ferry", "secret").await;
    client.protect_data().await;
    client
}

/// The client's data connection, `stranger` having connected to the same port before.
async fn behind<T, F: Future<Output = T>>(
    client: &mut Private,
    own: &TlsConnector,
    command: &str,
    stranger: impl FnOnce(TcpStream) -> F,
) -> (TlsStream<TcpStream>, T) {
    let first = client.open_data().await;
    let port = first.peer_addr().unwrap();
    let second = TcpStream::connect(port).await.unwrap();
    client.expect(command, 150).await;
    let stranger = stranger(first).await;
    (handshake(own, second).await.unwrap(), stranger)
}

async fn store(client: &mut Private, mut data: TlsStream<TcpStream>, bytes: &[u8]) {
    data.write_all(bytes).await.unwrap();
    data.shutdown().await.unwrap();
    client.expect_reply(226).await;
}

/// Whatever can be read, also if the connection breaks.
async fn read(data: std::io::Result<TlsStream<TcpStream>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut data) = data {
        let _ = timeout(Duration::from_secs(5), data.read_to_end(&mut bytes)).await;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_by_whoever_is_first() {
    let authority = Authority::new();
    for reuse in REUSE {
        let settings = [("tls.require_session_reuse", reuse)];
        let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
        gateway.store.put("secret", b"abc");
        for versions in [Hello::default().versions, TLS12.versions] {
            let hello = || Hello {
                versions,
                ..Hello::default()
            };
            let (own, other) = (authority.connector(hello()), authority.connector(hello()));
            let mut client = private(&gateway, &own).await;
            for _ in 0..3 {
                // It has a ticket of its own now and then, of a connection that was refused.
                let steals = async |data| handshake(&other, data).await;
                let (mut data, stolen) = behind(&mut client, &own, "RETR secret", steals).await;
                let mut bytes = Vec::new();
                data.read_to_end(&mut bytes).await.unwrap();
                client.expect_reply(226).await;
                assert_eq!(bytes, b"abc");
                assert_eq!(read(stolen).await, b"");

                let forges = async |data| {
                    let mut forged = handshake(&other, data).await;
                    if let Ok(forged) = &mut forged {
                        let _ = forged.write_all(b"forged").await;
                    }
                    forged
                };
                let (data, _forged) = behind(&mut client, &own, "STOR mine", forges).await;
                store(&mut client, data, b"mine").await;
                assert_eq!(gateway.store.object("mine").unwrap(), b"mine");
            }
        }
    }
}

/// Neither silence nor nonsense uses up the port, nor do many of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_by_whoever_says_nothing() {
    let authority = Authority::new();
    for reuse in REUSE {
        let settings = [("tls.require_session_reuse", reuse)];
        let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
        let own = authority.connector(Hello::default());
        let mut client = private(&gateway, &own).await;
        for strangers in [1, 5, 20] {
            let port = client.epsv().await;
            let mut silent = Vec::new();
            for number in 0..strangers {
                let mut stranger = TcpStream::connect(port).await.unwrap();
                if number % 2 == 1 {
                    stranger.write_all(b"\x16\x03\x01\x7f\xff").await.unwrap();
                }
                silent.push(stranger);
            }
            let data = TcpStream::connect(port).await.unwrap();
            client.expect("STOR mine", 150).await;
            let data = handshake(&own, data).await.unwrap();
            store(&mut client, data, b"mine").await;
            assert_eq!(gateway.store.object("mine").unwrap(), b"mine");
            drop(silent);
        }
    }
}

/// Of two that prove nothing, nobody can tell who is the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_of_a_client_that_does_not_resume() {
    let authority = Authority::new();
    let settings = [("passive.accept_timeout", "2s")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    gateway.store.put("secret", b"abc");
    let without = || {
        authority.connector(Hello {
            resumes: false,
            ..Hello::default()
        })
    };
    let (own, other) = (without(), without());
    let mut client = private(&gateway, &own).await;
    let data = client.begin_encrypted(&own, "STOR alone").await;
    store(&mut client, data, b"mine").await;
    let steals = async |data| handshake(&other, data).await;
    let (data, stolen) = behind(&mut client, &own, "RETR secret", steals).await;
    assert_eq!(read(Ok(data)).await, b"");
    assert_eq!(read(stolen).await, b"");
    client.expect_reply(522).await;
}

/// The client is slow, and one of many strangers is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_among_many() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &[]);
    let (own, other) = (
        authority.connector(Hello::default()),
        authority.connector(Hello::default()),
    );
    let mut client = private(&gateway, &own).await;
    let data = client.begin_encrypted(&own, "STOR mine").await;
    store(&mut client, data, b"mine").await;
    for thieves in [1, 3] {
        let data = client.open_data().await;
        let port = data.peer_addr().unwrap();
        let mut strangers = Vec::new();
        for _ in 0..30 {
            strangers.push(TcpStream::connect(port).await.unwrap());
        }
        client.expect("RETR mine", 150).await;
        let mut stolen = Vec::new();
        for stranger in strangers.drain(..thieves) {
            stolen.push(handshake(&other, stranger).await);
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(read(handshake(&own, data).await).await, b"mine");
        client.expect_reply(226).await;
        for stolen in stolen {
            assert_eq!(read(stolen).await, b"");
        }
    }
}

/// A transfer whose client never comes ends when it should, whoever else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_that_is_tried_for_ever() {
    let authority = Authority::new();
    let settings = [("passive.accept_timeout", "2s")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let own = authority.connector(Hello::default());
    let mut client = private(&gateway, &own).await;
    let port = client.epsv().await;
    let flood = tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok(stranger) = TcpStream::connect(port).await {
            silent.push(stranger);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    client.expect("STOR mine", 150).await;
    let began = Instant::now();
    client.expect_reply(426).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    flood.await.unwrap();
    gateway
        .wait_for("bucketferry_passive_ports_in_use", 0.0)
        .await;
}

/// A client that fails by itself, and whom nobody is in the way of, hears of it soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_is_not_suspected_where_a_handshake_fails() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &[]);
    let own = authority.connector(Hello::default());
    let mut client = private(&gateway, &own).await;
    let mut data = client.open_data().await;
    client.expect("STOR mine", 150).await;
    data.write_all(b"in clear, after all").await.unwrap();
    let began = Instant::now();
    client.expect_reply(426).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let data = client.begin_encrypted(&own, "STOR mine").await;
    store(&mut client, data, b"mine").await;
}

/// The ports of the race: few, so that each is raced for all the time.
const FIRST_PORT: u16 = 28_400;
const PORTS: u16 = 8;

const RACE: Duration = Duration::from_secs(30);

/// What has come of a race.
#[derive(Default)]
struct Score {
    connected: AtomicUsize,
    stolen: AtomicUsize,
}

/// Connects to one port again and again, and tries a handshake, with tickets or without, or says nothing.
async fn race(port: u16, connectors: [TlsConnector; 2], score: Arc<Score>, until: Instant) {
    let mut round = usize::from(port);
    while Instant::now() < until {
        round += 1;
        let Ok(data) = TcpStream::connect(("127.0.0.1", port)).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        score.connected.fetch_add(1, Ordering::Relaxed);
        let steal = async {
            if round % 3 == 2 {
                return tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let Ok(mut data) = handshake(&connectors[round % 3], data).await else {
                return;
            };
            let _ = data.write_all(b"forged").await;
            let mut bytes = [0; 64];
            if matches!(data.read(&mut bytes).await, Ok(read) if read > 0) {
                score.stolen.fetch_add(1, Ordering::Relaxed);
            }
            let _ = data.shutdown().await;
        };
        let _ = timeout(Duration::from_millis(500), steal).await;
    }
}

/// One file there and back. Whether both transfers succeeded.
async fn there_and_back(client: &mut Private, own: &TlsConnector, name: &str) -> [bool; 2] {
    let data = client.open_data().await;
    let stored = if client
        .command(&format!("STOR {name}"))
        .await
        .is_preliminary()
    {
        if let Ok(mut data) = handshake(own, data).await {
            let _ = data.write_all(b"the victim's own").await;
            let _ = data.shutdown().await;
        }
        client.reply().await.code == 226
    } else {
        false
    };
    let data = client.open_data().await;
    let read = if client
        .command(&format!("RETR {name}"))
        .await
        .is_preliminary()
    {
        let bytes = read(handshake(own, data).await).await;
        client.reply().await.code == 226 && bytes == b"the victim's own"
    } else {
        false
    };
    [stored, read]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_data_connection_in_a_race_for_every_port() {
    let both = (0..)
        .zip(REUSE)
        .map(|(number, reuse)| raced(FIRST_PORT + number * PORTS, reuse));
    futures::future::join_all(both).await;
}

async fn raced(first: u16, reuse: &str) {
    let authority = Authority::new();
    let ports = format!("{first}-{}", first + PORTS - 1);
    let settings = [
        ("tls.require_session_reuse", reuse),
        ("passive.ports", &ports),
        ("passive.accept_timeout", "5s"),
    ];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let score = Arc::new(Score::default());
    let until = Instant::now() + RACE;
    let mut strangers = JoinSet::new();
    for port in first..first + PORTS {
        let connectors = [TLS12, Hello::default()].map(|hello| authority.connector(hello));
        strangers.spawn(race(port, connectors, Arc::clone(&score), until));
    }
    let (mut all, mut good) = (0, 0);
    while Instant::now() < until {
        let own = authority.connector(Hello::default());
        let mut client = private(&gateway, &own).await;
        for number in 0..4 {
            let name = format!("{number}");
            let results = there_and_back(&mut client, &own, &name).await;
            all += results.len();
            good += results.iter().filter(|good| **good).count();
            let stored = gateway.store.object(&name);
            assert!(
                stored.is_none_or(|stored| stored == b"the victim's own"),
                "a file was forged, session reuse required: {reuse}"
            );
        }
    }
    while strangers.join_next().await.is_some() {}
    let connected = score.connected.load(Ordering::Relaxed);
    println!("session reuse required: {reuse}; {good} of {all} transfers, {connected} strangers");
    assert!(connected > 100, "{connected} strangers");
    assert_eq!(score.stolen.load(Ordering::Relaxed), 0, "{reuse}");
    assert!(good * 10 >= all * 9, "{good} of {all}, {reuse}");
}
