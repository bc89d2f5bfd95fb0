//! Many clients read to the end of the data connection and look no further. So what is cut off ends with a reset, and
//! only what is whole ends in an orderly way.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::support::ftp::{Client, dial};
use crate::support::tls::{Authority, Hello, TLS12, handshake};
use crate::support::{Gateway, MIB, Store, eventually, noise};

/// More than sockets hold on the way.
const LARGE: usize = 64 * MIB;

const SETTINGS: [(&str, &str); 2] = [
    ("store.retry_timeout", "1ms"),
    ("download.part_size", "128 MiB"),
];

const IN_FLIGHT: &str = "bucketferry_transfers_in_flight{direction=\"download\"}";

/// What breaks off in the store's answers.
const BREAKS: [&str; 4] = ["RETR a.bin", "LIST d", "NLST d", "MLSD d"];

fn filled(gateway: &Gateway) {
    gateway.store.put("a.bin", &noise(20 * MIB));
    for index in 0..1500 {
        gateway.store.put(&format!("d/{index:04}"), b"");
    }
}

/// The store brings the beginning of what `command` asks for, and never the rest.
async fn break_off<S>(gateway: &Gateway, client: &mut Client<S>, command: &str) -> SocketAddr
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server = gateway.store.server();
    server.heal();
    server.forget_requests();
    if command.starts_with("RETR") {
        server.break_next_answer("GetObject", 1, 8 * MIB as u64);
        server.break_next_answer("GetObject", usize::MAX, 0);
    }
    let port = client.pasv().await;
    client.send(command).await;
    if !command.starts_with("RETR") {
        // The first page is there before the data connection.
        eventually("a page", || server.count("ListObjectsV2") == 1).await;
        server.fail_next("ListObjectsV2", usize::MAX, 403);
    }
    port
}

/// All that comes, and how it ends.
async fn read(mut data: impl AsyncRead + Unpin) -> (usize, io::Result<()>) {
    let mut bytes = Vec::new();
    let all = tokio::time::timeout(Duration::from_secs(30), data.read_to_end(&mut bytes)).await;
    let end = all.expect("an end").map(drop);
    (bytes.len(), end)
}

fn assert_reset(what: &str, end: io::Result<()>) {
    let kind = end.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_breaks_off_ends_with_a_reset() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    filled(&gateway);
    let mut client = gateway.client().await;
    for command in BREAKS {
        let port = break_off(&gateway, &mut client, command).await;
        let data = dial(None, port).await.unwrap();
        client.expect_reply(150).await;
        assert_reset(command, read(data).await.1);
        let reply = client.reply().await;
        assert!(reply.code >= 400, "{command}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_breaks_off_ends_with_a_reset_under_tls() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &SETTINGS);
    filled(&gateway);
    for hello in [Hello::default(), TLS12] {
        let connector = authority.connector(hello);
        let (client, _) = Client::connect(gateway.address()).await;
        let mut client = client.secure(&connector).await;
        client.login("ferry", "secret").await;
        client.protect_data().await;
        for command in BREAKS {
            let port = break_off(&gateway, &mut client, command).await;
            let data = dial(None, port).await.unwrap();
            client.expect_reply(150).await;
            let data = handshake(&connector, data).await.unwrap();
            // Neither a close_notify, which would be no error, nor a FIN, which would be another.
            assert_reset(command, read(data).await.1);
            let reply = client.reply().await;
            assert!(reply.code >= 400, "{command}: {}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_ends_in_an_orderly_way() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    filled(&gateway);
    let mut client = gateway.client().await;
    for (command, least) in [
        ("RETR a.bin", 20 * MIB),
        ("RETR d/0000", 0),
        ("LIST d", 1500),
        ("NLST d", 1500),
        ("MLSD d", 1500),
    ] {
        let (data, reply) = client.begin(command).await;
        assert_eq!(reply.code, 150);
        let (bytes, end) = read(data).await;
        assert!(end.is_ok() && bytes >= least, "{command}: {bytes}, {end:?}");
        client.expect_reply(226).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_given_up_ends_with_a_reset() {
    let settings = [
        ("download.stall_timeout", "1s"),
        ("download.part_size", "1 MiB"),
        ("shutdown.grace", "1ms"),
    ];
    for why in ["abor", "stall", "replaced", "shutdown", "hang up"] {
        let gateway = Gateway::with(Store::s3(), &settings);
        gateway.store.put("a.bin", &noise(LARGE));
        let mut client = gateway.client().await;
        let (mut data, _) = client.begin("RETR a.bin").await;
        data.read_exact(&mut [0; 1000]).await.unwrap();
        match why {
            "replaced" => gateway.store.put("a.bin", &noise(LARGE + 1)),
            "abor" => client.send("ABOR").await,
            "stall" => gateway.wait_for(IN_FLIGHT, 0.0).await,
            "shutdown" => {
                gateway.shutdown.begin();
                gateway.wait_for(IN_FLIGHT, 0.0).await;
            }
            _ => return assert_lost(client, data).await,
        }
        assert_reset(why, read(data).await.1);
        client.expect_reply(426).await;
    }
}

async fn assert_lost(client: Client, data: TcpStream) {
    client.hang_up();
    assert_reset("hang up", read(data).await.1);
}

/// A client that looks at neither certificates nor replies must not find an empty file whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_that_is_refused_under_tls_ends_with_a_reset() {
    let authority = Authority::new();
    let settings = [
        ("tls.require_session_reuse", "true"),
        ("passive.accept_timeout", "300ms"),
    ];
    let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
    gateway.store.put("a.bin", b"x");
    let connector = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    client.login("ferry", "secret").await;
    client.protect_data().await;
    let (data, _) = client.begin("RETR a.bin").await;
    let stranger = authority.connector(TLS12);
    // The client is told so in the middle of its handshake, or after it.
    let end = match handshake(&stranger, data).await {
        Ok(data) => read(data).await.1,
        Err(error) => Err(error),
    };
    assert_reset("another session", end);
    client.expect_reply(522).await;
}
