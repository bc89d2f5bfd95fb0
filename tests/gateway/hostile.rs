//! Peers that mean harm. Each test is named by the class of the attack; `docs/security.md` lists them.
//!
//! A panic anywhere in a gateway fails its test (see [`crate::support::calm`]).

mod dear_sessions;
mod files;
mod half_admin_requests;
mod ipv6_prefix_logins;
mod kept_upload_hoarding;
mod log_floods;
mod login_floods;
mod logins;
mod passive_port_hoarding;
mod password_guesses;
mod rights;
mod session_hoarding;
mod sessions;
mod stolen_data_connections;
mod storm;
mod unread_listings;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::ftp::{Client, active_command};
use crate::support::process::{Process, bucketferry};
use crate::support::tls::{Authority, Hello};
use crate::support::{Gateway, MIB, Memory, PATIENCE, Store, noise};

/// Whatever was done, everybody else is served, and nothing is left of it.
async fn assert_unharmed(gateway: &Gateway) {
    for gauge in [
        "bucketferry_sessions",
        "bucketferry_passive_ports_in_use",
        r#"bucketferry_transfers_in_flight{direction="upload"}"#,
    ] {
        gateway.wait_for(gauge, 0.0).await;
    }
    let mut client = gateway.client().await;
    client.store("unharmed", b"still here").await;
    assert_eq!(client.retrieve("unharmed").await.0, b"still here");
    client.expect("DELE unharmed", 250).await;
}

/// NO STARTTLS (USENIX Security 2021): commands sent ahead of the handshake must not count behind it.
#[tokio::test]
async fn starttls_command_injection() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &[]);
    gateway.store.put("victim", b"file");
    let connector = authority.connector(Hello::default());
    for ahead in [
        "USER ferry\r\nPASS secret\r\n".to_owned(),
        "NOOP\r\n".repeat(500),
        "DELE victi".to_owned(),
    ] {
        let (mut client, _) = Client::connect(gateway.address()).await;
        client
            .send_raw(format!("AUTH TLS\r\n{ahead}").as_bytes())
            .await;
        client.expect_reply(234).await;
        let mut client = client.encrypt(&connector).await;
        client.expect("SYST", 215).await;
        client.expect("PWD", 530).await;
        client.expect_silence(Duration::from_millis(50)).await;
    }
    // More than is read at once is left for the handshake, which it is not.
    let (mut client, _) = Client::connect(gateway.address()).await;
    let ahead = "NOOP\r\n".repeat(3000);
    client
        .send_raw(format!("AUTH TLS\r\n{ahead}").as_bytes())
        .await;
    client.expect_reply(234).await;
    client.expect_close_soon().await;

    // Lines that wait behind a transfer are ahead of the handshake as well.
    let mut client = gateway.client().await;
    let (data, _) = client.begin("STOR new").await;
    client.send("AUTH TLS").await;
    client.send("DELE victim").await;
    client.send("NOOP").await;
    drop(data);
    client.expect_reply(226).await;
    client.expect_reply(234).await;
    let mut client = client.encrypt(&connector).await;
    client.expect("SYST", 215).await;
    client.expect("PWD", 530).await;
    assert!(gateway.store.object("victim").is_some());
}

/// Whatever sets up the data connection.
#[tokio::test]
async fn clear_text_data_where_tls_is_required() {
    let authority = Authority::new();
    let settings = [("tls.require", "all"), ("active.enabled", "true")];
    let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
    gateway.store.put("secret.txt", b"secret");
    let connector = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    client.login("ferry", "secret").await;
    for command in [
        "RETR secret.txt",
        "STOR b",
        "STOU",
        "APPE b",
        "LIST",
        "NLST",
        "MLSD",
    ] {
        for extended in [false, true] {
            let address = if extended {
                client.epsv().await
            } else {
                client.pasv().await
            };
            let mut data = TcpStream::connect(address).await.unwrap();
            client.expect(command, 521).await;
            let mut bytes = Vec::new();
            let _ = data.read_to_end(&mut bytes).await;
            assert_eq!(bytes, b"", "{command}");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        for active in [
            active_command(own),
            format!("EPRT |1|127.0.0.1|{}|", own.port()),
        ] {
            client.expect(&active, 200).await;
            client.expect(command, 521).await;
        }
        let nobody = tokio::time::timeout(Duration::from_millis(30), listener.accept()).await;
        assert!(nobody.is_err(), "{command}: it was dialled");
    }
    assert_eq!(gateway.store.keys(), ["secret.txt"]);
}

/// CERT CA-1997-27: a server that connects to whomever its client names scans networks for it.
#[tokio::test]
async fn ftp_bounce() {
    let gateway = Gateway::with(Store::folder(), &[("active.enabled", "true")]);
    let mut client = gateway.client().await;
    for (target, code) in [
        ("PORT 127,0,0,2,195,80", 504),
        ("PORT 10,0,0,1,0,22", 504),
        ("PORT 127,0,0,1,0,22", 504),
        ("PORT 127,0,0,1,3,255", 504),
        ("EPRT |1|127.0.0.2|50000|", 504),
        ("EPRT |1|127.0.0.1|22|", 504),
        ("EPRT |2|::1|50000|", 522),
        ("EPRT |2|::ffff:10.0.0.1|50000|", 522),
    ] {
        client.expect(target, code).await;
        client.expect("LIST", 425).await;
    }
    let refused = |reason| {
        gateway.metric(&format!(
            "bucketferry_active_targets_refused_total{{reason=\"{reason}\"}}"
        ))
    };
    assert!((refused("address") - 3.0).abs() < 0.1);
    assert!((refused("port") - 3.0).abs() < 0.1);
}

/// Somebody else connects to the port that a client was told.
#[tokio::test]
async fn passive_port_theft() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("secret.txt", b"secret");
    let mut client = gateway.client().await;
    let address = client.pasv().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut thief = socket.connect(address).await.unwrap();
    client.send("RETR secret.txt").await;
    let mut stolen = Vec::new();
    let _ = thief.read_to_end(&mut stolen).await;
    assert_eq!(stolen, b"");
    let mut own = TcpStream::connect(address).await.unwrap();
    client.expect_reply(150).await;
    let mut bytes = Vec::new();
    own.read_to_end(&mut bytes).await.unwrap();
    client.expect_reply(226).await;
    assert_eq!(bytes, b"secret");
}

const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

/// Out of the home, out of the bucket, out of the folder.
#[tokio::test]
async fn path_traversal() {
    let file = format!("[[user]]\nname = \"eve\"\npassword_hash = \"{HASH}\"\nhome = \"/jail\"\n");
    let gateway = Gateway::for_users(Store::folder(), &file, &[]);
    gateway.store.put("secret.txt", b"secret");
    gateway.store.put("jail/own.txt", b"own");
    let mut client = Client::connect_as(gateway.address(), "eve", "x").await;
    for way in [
        "..", "../..", "/..", "a/../..", "./..//..", "..\\..", "%2e%2e", "..%2f..", "....//",
    ] {
        let target = format!("{way}/secret.txt");
        for verb in ["RETR", "LIST", "NLST", "MLSD"] {
            let (bytes, _) = client.download(&format!("{verb} {target}")).await;
            assert_ne!(bytes, b"secret", "{verb} {target}");
        }
        for verb in ["SIZE", "MDTM", "MLST", "STAT", "RNFR", "DELE"] {
            let reply = client.command(&format!("{verb} {target}")).await;
            assert!(reply.code >= 450 || verb == "STAT", "{target}: {reply:?}");
        }
        for verb in ["STOR", "APPE"] {
            let (data, reply) = client.begin(&format!("{verb} {target}")).await;
            drop(data);
            if reply.is_preliminary() {
                client.reply().await;
            }
        }
        client.command(&format!("DELE {target}")).await;
        for verb in ["CWD", "MKD", "RMD"] {
            client.command(&format!("{verb} {way}")).await;
            client.command("CDUP").await;
            let (names, _) = client.list("NLST", "").await;
            assert!(!names.contains("secret.txt"), "{verb} {way}: {names}");
        }
    }
    client.expect("CWD /", 250).await;
    client.expect("RNFR own.txt", 350).await;
    client.expect("RNTO ../stolen.txt", 250).await;
    assert!(gateway.store.object("jail/stolen.txt").is_some());
    assert_eq!(gateway.store.object("secret.txt").unwrap(), b"secret");
    let outside = |key: &String| !key.starts_with("jail/") && key != "secret.txt";
    assert!(
        !gateway.store.keys().iter().any(outside),
        "{:?}",
        gateway.store.keys()
    );
}

/// 10 MiB without a line end, and as one line; `commands.rs` measures the memory.
#[tokio::test]
async fn endless_lines() {
    let gateway = Gateway::on(Store::folder());
    for line in [
        vec![b'x'; 10 * MIB],
        ["RETR ", &"/".repeat(10 * MIB), "\r\n"]
            .concat()
            .into_bytes(),
    ] {
        for logged_in in [false, true] {
            let (mut client, _) = Client::connect(gateway.address()).await;
            if logged_in {
                client.login("ferry", "secret").await;
            }
            client.try_send_raw(&line).await;
            client.expect_close_soon().await;
        }
    }
    assert_unharmed(&gateway).await;
}

/// One byte at a time keeps nobody's place for ever.
#[tokio::test]
async fn slowloris() {
    let settings = [
        ("ftp.login_timeout", "500ms"),
        ("ftp.idle_timeout", "700ms"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    for logged_in in [false, true] {
        let (mut client, _) = Client::connect(gateway.address()).await;
        if logged_in {
            client.login("ferry", "secret").await;
        }
        let began = Instant::now();
        while client.try_send_raw(b"x").await && began.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "logged in: {logged_in}"
        );
    }
    assert_unharmed(&gateway).await;
}

/// 10,000 connections from one address: others get in, and it costs no memory.
#[tokio::test(flavor = "multi_thread")]
async fn connection_flood() {
    let gateway = Process::serve(&Memory, &[]).await;
    let before = gateway.anonymous_memory();
    let mut held = Vec::new();
    for round in 0..100 {
        for _ in 0..100 {
            held.push(connect_from("127.0.0.7", gateway.address).await);
        }
        let mut other = Client::connect_from("127.0.0.8".parse().unwrap(), gateway.address).await;
        if let (0 | 50 | 99, Ok(client)) = (round, &mut other) {
            client.expect_reply(220).await;
            client.login("ferry", "secret").await;
        }
        // The first hundred are sessions and stay; the others were turned away.
        held.truncate(100);
    }
    let grown = gateway.anonymous_memory().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more");
    drop(held);
}

async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    socket.connect(to).await.unwrap()
}

/// It was announced, and nobody comes; or it comes, and nothing moves.
#[tokio::test]
async fn missing_and_stalled_data_connections() {
    let settings = [
        ("passive.accept_timeout", "200ms"),
        ("upload.stall_timeout", "200ms"),
        ("download.stall_timeout", "200ms"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    gateway.store.put("large.bin", &noise(32 * MIB));
    let mut client = gateway.client().await;
    for command in ["STOR a", "APPE a", "STOU", "RETR large.bin", "LIST", "MLSD"] {
        client.pasv().await;
        client.expect(command, 425).await;
    }
    for command in ["STOR a", "APPE a", "RETR large.bin"] {
        let (_data, reply) = client.begin(command).await;
        assert_eq!(reply.code, 150);
        client.expect_reply(426).await;
    }
    client.expect("QUIT", 221).await;
    assert_eq!(gateway.store.keys(), ["large.bin"]);
    assert_unharmed(&gateway).await;
}

/// A reset after each step of an upload and of a download, in clear and encrypted.
#[tokio::test]
async fn resets_at_every_step() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &[]);
    gateway.store.put("large.bin", &noise(8 * MIB));
    let script = [
        "FEAT",
        "USER ferry",
        "PASS secret",
        "TYPE I",
        "(data)",
        "STOR new.bin",
        "(send)",
        "(abort)",
        "(data)",
        "RETR large.bin",
        "(receive)",
        "QUIT",
    ];
    for last in 0..script.len() {
        for data_first in [false, true] {
            reset_after(&gateway, &script[..=last], data_first).await;
        }
        reset_encrypted(&gateway, &authority).await;
    }
    assert_eq!(gateway.store.keys(), ["large.bin"]);
    assert_unharmed(&gateway).await;
}

/// Goes so far, and resets what there is.
async fn reset_after(gateway: &Gateway, script: &[&str], data_first: bool) {
    let (mut client, _) = Client::connect(gateway.address()).await;
    let mut data = None;
    for step in script {
        match *step {
            "(data)" => data = Some(client.open_data().await),
            "(send)" => data.as_mut().unwrap().write_all(&noise(MIB)).await.unwrap(),
            "(receive)" => data
                .as_mut()
                .unwrap()
                .read_exact(&mut [0; 1000])
                .await
                .map(drop)
                .unwrap(),
            "(abort)" => {
                client.expect("ABOR", 426).await;
                client.expect_reply(226).await;
                data = None;
            }
            // It is answered after the transfer.
            "QUIT" => client.send("QUIT").await,
            line => drop(client.command(line).await),
        }
    }
    if data_first {
        data = data.take().and_then(reset);
    }
    client.reset_control();
    let _: Option<()> = data.and_then(reset);
}

/// A reset of the control connection in its handshake, and right after it.
async fn reset_encrypted(gateway: &Gateway, authority: &Authority) {
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    client.send_raw(b"\x16\x03\x01\x02\x00\x01").await;
    client.reset_control();
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    let connector = authority.connector(Hello::default());
    client
        .upgrade(async |stream| {
            let stream = crate::support::tls::handshake(&connector, stream).await;
            let _: Option<()> = reset(stream.unwrap().into_inner().0);
            tokio::io::empty()
        })
        .await;
}

/// Closes it with a reset.
fn reset<T>(stream: TcpStream) -> Option<T> {
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("a socket");
    drop(stream);
    None
}

/// Commands that cost nothing to take must not keep the others from their turn.
#[tokio::test]
async fn command_flood_during_a_transfer() {
    let mut command = bucketferry();
    command
        .args(["serve", "--user", "ferry:secret", "--passive-ports", "0"])
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--store", "memory://"])
        // As on a machine with one core.
        .env("TOKIO_WORKER_THREADS", "1");
    let gateway = Process::started(command).await;
    let mut flood = Client::connect_as(gateway.address, "ferry", "secret").await;
    let (_data, _) = flood.begin("STOR a").await;
    let flooding = tokio::spawn(async move {
        let many = "ABOR\r\n".repeat(10_000);
        while flood.try_send_raw(many.as_bytes()).await {}
    });
    for _ in 0..5 {
        let mut other = Client::connect_as(gateway.address, "ferry", "secret").await;
        other.store("b", b"in time").await;
    }
    flooding.abort();
    gateway.terminate();
    assert!(gateway.ended().await.success());
}

/// ALPACA (CVE-2021-3618): a browser is made to send a request whose body is FTP.
#[tokio::test]
async fn cross_protocol_requests() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &[]);
    let request = "POST / HTTP/1.1\r\nHost: ftp.example\r\nContent-Type: text/plain\r\n\r\n\
         USER ferry\r\nPASS secret\r\nMKD harm\r\n";
    let lines = "x\r\n".repeat(10) + "USER ferry\r\nPASS secret\r\nMKD harm\r\n";
    for text in [request, &lines] {
        let (mut client, _) = Client::connect(gateway.address()).await;
        client.send_raw(text.as_bytes()).await;
        client.expect_close_soon().await;
        let (client, _) = Client::connect(gateway.address()).await;
        let mut client = client.secure(&authority.connector(Hello::default())).await;
        client.send_raw(text.as_bytes()).await;
        client.expect_close_soon().await;
    }
    assert_eq!(gateway.store.keys(), Vec::<String>::new());
    assert_unharmed(&gateway).await;
}

/// Line ends and escape sequences in whatever is logged.
#[tokio::test]
async fn log_injection() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let xferlog = folder.path().join("xferlog");
        let mut command = bucketferry();
        command
            .args(["serve", "--user", "ferry:secret", "--passive-ports", "0"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--store", "memory://"])
            .env("BUCKETFERRY_LOG__FORMAT", format)
            .env("BUCKETFERRY_LOG__LEVEL", "debug")
            .env("BUCKETFERRY_LOG__XFERLOG", &xferlog);
        let stderr = Stdio::from(std::fs::File::create(&log).unwrap());
        let gateway = Process::started_with(command, stderr).await;
        inject(gateway.address).await;
        gateway.terminate();
        assert!(gateway.ended().await.success());

        let logged = std::fs::read(&log).unwrap();
        let control = |byte: &u8| (*byte < 0x20 && *byte != b'\n') || *byte == 0x7f;
        assert!(!logged.iter().any(control), "{}", logged.escape_ascii());
        let logged = String::from_utf8(logged).unwrap();
        assert!(!logged.contains('\u{9b}') && !logged.contains("secret"));
        assert!(logged.contains("ferry"), "something was logged");
        // None of the lines that were injected is one.
        assert!(
            !logged
                .lines()
                .any(|line| line.contains("forged") && line.trim_start().starts_with("forged"))
        );
        if format == "json" {
            for line in logged.lines() {
                assert!(
                    line.starts_with("{\"timestamp\":") && line.ends_with('}'),
                    "{line}"
                );
            }
        }
        let transfers = std::fs::read_to_string(&xferlog).unwrap();
        assert_eq!(transfers.lines().count(), 1, "{transfers}");
    }
}

async fn inject(address: SocketAddr) {
    let evil = "forged\u{1b}[2Jforged\u{9b}2J\u{7f}\u{8}";
    let (mut client, _) = Client::connect(address).await;
    client.send(&format!("USER {evil}")).await;
    client.reply().await;
    client.send_raw(b"USER a\rforged login\r\n").await;
    client.reply().await;
    client
        .expect("USER forged user=\"ferry\" outcome=\"accepted\"", 331)
        .await;
    client.expect("PASS forged", 530).await;
    client.login("ferry", "secret").await;
    for verb in ["STOR", "RETR", "CWD", "CLNT", "SITE", "OPTS", "HOST", evil] {
        client.pasv().await;
        client.command(&format!("{verb} {evil}")).await;
        client
            .send_raw(format!("{verb} a\rforged\r\n").as_bytes())
            .await;
        client.reply().await;
    }
    client
        .store(
            "spaces and\u{a0}forged \"quotes\" outcome=\"complete\".txt",
            b"x",
        )
        .await;
    client.expect("QUIT", 221).await;
}

/// Patterns that take for ever where they are matched by trying.
#[tokio::test]
async fn glob_bombs() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put(&"a".repeat(200), b"x");
    let mut client = gateway.client().await;
    let bombs = [
        "*a".repeat(1500) + "b",
        "?*".repeat(1800),
        "[".repeat(3000),
        "{".repeat(3000),
        "{a,".repeat(1000),
        "[a-".repeat(1000),
        "**/".repeat(1000),
        "[!a]".repeat(900),
        "\\".repeat(3001),
    ];
    let began = Instant::now();
    for bomb in &bombs {
        for verb in ["NLST", "LIST", "MLSD"] {
            let (_, reply) = client.download(&format!("{verb} {bomb}")).await;
            assert!(reply.code >= 200, "{verb} {bomb:.20}: {reply:?}");
        }
        client.command(&format!("STAT {bomb}")).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    client.expect("QUIT", 221).await;
    assert_unharmed(&gateway).await;
}

/// NUL, and bytes that are no UTF-8, in every verb: answered, each once.
#[tokio::test]
async fn nul_bytes_and_invalid_utf8() {
    for charset in ["windows-1252", "utf-8", "shift_jis"] {
        // After a PASV with such an argument, transfers wait for nobody.
        let settings = [
            ("ftp.fallback_charset", charset),
            ("passive.accept_timeout", "20ms"),
        ];
        let gateway = Gateway::with(Store::folder(), &settings);
        let mut client = gateway.client().await;
        let verbs = client.expect("HELP", 214).await.lines;
        let verbs: Vec<_> = verbs[1..verbs.len() - 1]
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter(|verb| !matches!(*verb, "QUIT" | "REIN" | "USER" | "PASS" | "AUTH"))
            .collect();
        assert!(verbs.len() > 30);
        for verb in verbs {
            for argument in [
                &b"a\0b"[..],
                b"\0",
                b"\xff\xfe",
                b"\xc3\x28",
                b"\xed\xa0\x80",
                b"\xff",
            ] {
                let line = [verb.as_bytes(), b" ", argument, b"\r\n"].concat();
                client.send_raw(&line).await;
                let reply = client.reply().await;
                assert!(reply.code >= 200, "{verb}: {reply:?}");
            }
        }
        client.expect("NOOP", 200).await;
        client.expect("QUIT", 221).await;
        assert_unharmed(&gateway).await;
    }
}

/// Words of FTP in every order, with whatever behind them, in pieces of any length.
#[tokio::test]
async fn nonsense_in_every_order() {
    let settings = [
        ("active.enabled", "true"),
        ("passive.accept_timeout", "20ms"),
        ("active.dial_timeout", "20ms"),
        ("limits.login_failures", "0"),
    ];
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
    let words = [
        "USER ferry",
        "PASS secret",
        "PASS x",
        "AUTH TLS",
        "PBSZ 0",
        "PROT P",
        "PASV",
        "EPSV",
        "EPSV ALL",
        "PORT 127,0,0,1,255,255",
        "EPRT |1|127.0.0.1|65535|",
        "STOR a",
        "RETR a",
        "APPE a",
        "STOU",
        "LIST",
        "MLSD",
        "ABOR",
        "\u{ff}\u{f4}ABOR",
        "REST 5",
        "REST 99999999999999999999",
        "ALLO 3",
        "RNFR a",
        "RNTO b",
        "CWD a",
        "CDUP",
        "REIN",
        "STAT",
        "STAT a",
        "TYPE A",
        "MODE Z",
        "SITE X",
        "OPTS MLST",
        "FEAT",
        "",
        " ",
        "QUITE",
        "\u{0}",
        "MKD a",
        "RMD a",
        "DELE b",
        "SIZE a",
    ];
    for seed in 0..60_u64 {
        let order = noise(usize::try_from(40 + seed).unwrap());
        let lines: Vec<_> = order
            .iter()
            .map(|byte| words[usize::from(*byte) % words.len()])
            .collect();
        let text = lines.join("\r\n") + "\r\n";
        let mut control = TcpStream::connect(gateway.address()).await.unwrap();
        for piece in text
            .as_bytes()
            .chunks(usize::try_from(1 + seed * 7 % 100).unwrap())
        {
            if control.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = control.shutdown().await;
        let mut answer = Vec::new();
        let read = control.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("an end");
    }
    assert_unharmed(&gateway).await;
}
