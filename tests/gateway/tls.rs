//! TLS keeps what it promises: to clients that use it, and against those who would get around it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::ftp::Client;
use crate::support::process::{bucketferry, run};
use crate::support::tls::{Authority, Hello, TLS12, handshake};
use crate::support::{Gateway, MIB, Memory, Store, noise, variable};

/// The password is `x`.
const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

fn users(lines: &str) -> String {
    format!("[[user]]\nname = \"anna\"\n{lines}\n")
}

fn with_password(lines: &str) -> String {
    users(&format!("password_hash = \"{HASH}\"\n{lines}"))
}

/// A client that has encrypted and logged in, its data connections too.
async fn private(
    gateway: &Gateway,
    connector: &tokio_rustls::TlsConnector,
) -> Client<TlsStream<TcpStream>> {
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(connector).await;
    client.login("ferry", "secret").await;
    client.protect_data().await;
    client
}

async fn upload(
    client: &mut Client<TlsStream<TcpStream>>,
    connector: &tokio_rustls::TlsConnector,
    name: &str,
    bytes: &[u8],
) {
    let mut data = client
        .begin_encrypted(connector, &format!("STOR {name}"))
        .await;
    data.write_all(bytes).await.unwrap();
    data.shutdown().await.unwrap();
    // Many clients wait for the server's own end, and call anything else an error.
    let mut nothing = Vec::new();
    data.read_to_end(&mut nothing).await.unwrap();
    assert_eq!(nothing, b"");
    client.expect_reply(226).await;
}

async fn fetch(
    client: &mut Client<TlsStream<TcpStream>>,
    connector: &tokio_rustls::TlsConnector,
    command: &str,
) -> Vec<u8> {
    let mut data = client.begin_encrypted(connector, command).await;
    let mut bytes = Vec::new();
    // An end without close_notify would be an error here.
    data.read_to_end(&mut bytes).await.unwrap();
    client.expect_reply(226).await;
    bytes
}

#[tokio::test]
async fn files_and_lists_cross_encrypted_in_both_versions() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &[]);
    for hello in [Hello::default(), TLS12] {
        let connector = authority.connector(hello);
        let mut client = private(&gateway, &connector).await;
        let bytes = noise(9 * MIB + 1);
        upload(&mut client, &connector, "a.bin", &bytes).await;
        assert_eq!(gateway.store.object("a.bin").unwrap(), bytes);
        assert_eq!(fetch(&mut client, &connector, "RETR a.bin").await, bytes);
        let list = fetch(&mut client, &connector, "NLST").await;
        assert_eq!(list, b"a.bin\r\n");
        upload(&mut client, &connector, "empty", b"").await;
        assert_eq!(gateway.store.object("empty").unwrap(), b"");
        client.expect("DELE empty", 250).await;
        client.expect("QUIT", 221).await;
        client.expect_close().await;
    }
    let resumed = r#"bucketferry_tls_handshakes_total{connection="data",outcome="resumed"}"#;
    assert!(gateway.metric(resumed) >= 7.0);
}

/// A client that leaves without `QUIT`, in the way of TLS, waits for the same word of ours.
#[tokio::test]
async fn the_end_of_a_control_connection_is_answered() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    for hello in [Hello::default(), TLS12] {
        let connector = authority.connector(hello);
        for logs_in in [false, true] {
            let (client, _) = Client::connect(gateway.address()).await;
            let mut client = client.secure(&connector).await;
            if logs_in {
                client.login("ferry", "secret").await;
            }
            let mut stream = client.into_stream();
            stream.shutdown().await.unwrap();
            // An end without close_notify would be an error here.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn the_features_say_what_is_on() {
    let authority = Authority::new();
    let plain = Gateway::on(Memory);
    let (mut client, _) = Client::connect(plain.address()).await;
    let features = client.expect("FEAT", 211).await.text();
    assert!(!features.contains("AUTH"), "{features}");
    client.expect("AUTH TLS", 502).await;

    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let (mut client, _) = Client::connect(gateway.address()).await;
    let features = client.expect("FEAT", 211).await.lines;
    for feature in [" AUTH TLS", " PBSZ", " PROT"] {
        assert!(features.iter().any(|line| line == feature), "{features:?}");
    }
    client.expect("AUTH SSL", 504).await;
    client.expect("AUTH KERBEROS", 504).await;
}

#[tokio::test]
async fn the_verbs_of_tls_come_in_their_order() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let connector = authority.connector(Hello::default());
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("PBSZ 0", 503).await;
    client.expect("PROT P", 503).await;
    let mut client = client.secure(&connector).await;
    client.expect("AUTH TLS", 503).await;
    client.expect("PBSZ x", 501).await;
    client.expect("PBSZ 16384", 200).await;
    client.expect("PROT S", 536).await;
    client.expect("PROT X", 504).await;
    client.expect("PROT C", 200).await;
    client.expect("PROT P", 200).await;
    client.login("ferry", "secret").await;
    client.expect("CCC", 534).await;
    let status = client.expect("STAT", 211).await.text();
    assert!(status.contains("Encrypted by TLS 1.3"), "{status}");
}

/// Not every client sends a `PBSZ`, which says nothing under TLS.
#[tokio::test]
async fn data_is_encrypted_without_a_size_before() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &[]);
    let connector = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    client.login("ferry", "secret").await;
    client.expect("PROT P", 200).await;
    upload(&mut client, &connector, "a", b"abc").await;
    client.expect("PROT C", 200).await;
    assert_eq!(client.retrieve("a").await.0, b"abc");
}

#[tokio::test]
async fn auth_ssl_where_it_is_allowed_encrypts_data_too() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[("tls.auth_ssl", "true")]);
    let connector = authority.connector(TLS12);
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH SSL", 234).await;
    let mut client = client.encrypt(&connector).await;
    client.login("ferry", "secret").await;
    upload(&mut client, &connector, "a", b"abc").await;
}

#[tokio::test]
async fn implicit_tls_begins_with_the_handshake() {
    let authority = Authority::new();
    let settings = [("ftp.implicit_tls_listen", "127.0.0.1:0")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let connector = authority.connector(Hello::default());
    let implicit = gateway.inner.addresses()[1];
    let client = Client::connect_from([127, 0, 0, 1].into(), implicit).await;
    let mut client = client.unwrap().encrypt(&connector).await;
    client.expect_reply(220).await;
    client.login("ferry", "secret").await;
    upload(&mut client, &connector, "a", b"abc").await;
    client.protect_data().await;
    assert_eq!(fetch(&mut client, &connector, "RETR a").await, b"abc");
}

#[tokio::test]
async fn who_has_logged_in_in_clear_has_to_do_so_again() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let client = gateway.client().await;
    let mut client = client.secure(&authority.connector(Hello::default())).await;
    client.expect("CWD /", 530).await;
    client.login("ferry", "secret").await;
    client.expect("CWD /", 250).await;
}

#[tokio::test]
async fn a_password_is_not_asked_for_in_clear_where_tls_is_required() {
    let authority = Authority::new();
    for require in ["control", "all"] {
        let settings = [("tls.require", require)];
        let gateway = Gateway::encrypted(Memory, &authority, &settings);
        let (mut client, _) = Client::connect(gateway.address()).await;
        client.expect("USER ferry", 530).await;
        client.expect("USER nobody", 530).await;
        client.expect("PASS secret", 503).await;
        let mut client = client.secure(&authority.connector(Hello::default())).await;
        client.login("ferry", "secret").await;
    }
}

#[tokio::test]
async fn a_user_can_be_stricter_than_the_gateway() {
    let authority = Authority::new();
    let file = format!(
        "{}\n[[user]]\nname = \"bert\"\npassword_hash = \"{HASH}\"\n",
        with_password("require_tls = \"all\"")
    );
    let gateway = Gateway::encrypted_for_users(Memory, &file, &authority, &[]);
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("USER anna", 331).await;
    client.expect("PASS x", 530).await;
    client.login("bert", "x").await;
    let connector = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    client.login("anna", "x").await;
    client.pasv().await;
    client.expect("STOR a", 521).await;
    client.protect_data().await;
    client.expect("PROT C", 534).await;
    upload(&mut client, &connector, "a", b"abc").await;
}

#[tokio::test]
async fn an_upload_that_ends_without_the_word_of_tls_is_not_stored() {
    let authority = Authority::new();
    for (allowed, code) in [("false", 426), ("true", 226)] {
        let settings = [("tls.allow_unclean_close", allowed)];
        let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
        for hello in [Hello::default(), TLS12] {
            let connector = authority.connector(hello);
            let mut client = private(&gateway, &connector).await;
            let mut data = client.begin_encrypted(&connector, "STOR a.bin").await;
            data.write_all(b"the first half").await.unwrap();
            data.flush().await.unwrap();
            // A FIN, and no close_notify before it.
            data.get_mut().0.shutdown().await.unwrap();
            client.expect_reply(code).await;
            assert_eq!(gateway.store.object("a.bin").is_some(), code == 226);
        }
    }
}

/// `allow_unclean_close` is for clients that know no better; in the middle of a record ends nobody.
#[tokio::test]
async fn an_upload_that_is_cut_off_in_a_record_is_never_stored() {
    let authority = Authority::new();
    let settings = [("tls.allow_unclean_close", "true")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let connector = authority.connector(Hello::default());
    let mut client = private(&gateway, &connector).await;
    let mut data = client.begin_encrypted(&connector, "STOR a.bin").await;
    data.write_all(&noise(10_000)).await.unwrap();
    data.flush().await.unwrap();
    // The beginning of a record of 5,000 bytes.
    let socket = data.get_mut().0;
    socket
        .write_all(&[23, 3, 3, 0x13, 0x88, 1, 2, 3])
        .await
        .unwrap();
    socket.shutdown().await.unwrap();
    client.expect_reply(426).await;
    assert!(gateway.store.object("a.bin").is_none());
}

/// A client may end its own side at once: it has nothing to say.
#[tokio::test]
async fn a_download_survives_the_end_of_the_clients_side() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &[]);
    let bytes = noise(4 * MIB);
    gateway.store.put("a.bin", &bytes);
    let connector = authority.connector(Hello::default());
    let mut client = private(&gateway, &connector).await;
    for _ in 0..10 {
        let mut data = client.begin_encrypted(&connector, "RETR a.bin").await;
        // Not together with the end of the handshake, with which it would be read.
        tokio::time::sleep(Duration::from_millis(20)).await;
        data.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut read = Vec::new();
        data.read_to_end(&mut read).await.unwrap();
        assert!(read == bytes, "{} bytes", read.len());
        client.expect_reply(226).await;
    }
}

/// What was chosen in clear, anybody on the way could have chosen.
#[tokio::test]
async fn nothing_that_was_chosen_in_clear_counts_afterwards() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::folder(), &authority, &[]);
    gateway.store.put("\u{fc}.txt", b"x");
    let connector = authority.connector(Hello::default());
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("OPTS MLST size;", 200).await;
    client.send_raw(b"USER \xfc\r\n").await;
    client.expect_reply(331).await;
    let mut client = client.secure(&connector).await;
    client.login("ferry", "secret").await;
    let facts = client.expect("MLST \u{fc}.txt", 250).await;
    assert!(facts.text().contains("modify="), "{facts:?}");
    assert!(facts.text().contains("\u{fc}.txt"), "{facts:?}");
}

#[tokio::test]
async fn who_has_become_stricter_since_user_is_refused_at_pass() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    std::fs::write(&path, with_password("")).unwrap();
    let file = path.display().to_string();
    let settings = [
        ("users.file", file.as_str()),
        ("users.reload_interval", "100ms"),
    ];
    let users = bucketferry::auth::Users::from_file(&path).unwrap();
    let settings = authority.settings(&settings);
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let gateway = Gateway::start(Memory, users, &settings);
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("USER anna", 331).await;
    std::fs::write(&path, with_password("require_tls = \"control\"")).unwrap();
    let reloaded = r#"bucketferry_users_reloads_total{outcome="reloaded"}"#;
    gateway.wait_for(reloaded, 1.0).await;
    client.expect("PASS x", 530).await;
    client.expect("CWD /", 530).await;
}

#[tokio::test]
async fn where_reuse_is_required_only_the_own_session_is_taken() {
    let authority = Authority::new();
    let settings = [
        ("tls.require_session_reuse", "true"),
        ("passive.accept_timeout", "300ms"),
    ];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    for versions in [Hello::default().versions, TLS12.versions] {
        let hello = |resumes| Hello {
            versions,
            resumes,
            ..Hello::default()
        };
        let own = authority.connector(hello(true));
        let mut client = private(&gateway, &own).await;
        for file in 0..6 {
            upload(&mut client, &own, &format!("{file}"), b"abc").await;
        }
        assert_eq!(fetch(&mut client, &own, "RETR 5").await, b"abc");

        let thief = authority.connector(hello(true));
        let _thiefs = private(&gateway, &thief).await;
        let strangers = [authority.connector(hello(false)), thief];
        for stranger in strangers {
            let data = client.open_data().await;
            client.expect("STOR stolen", 150).await;
            let mut data = handshake(&stranger, data).await;
            client.expect_reply(522).await;
            if let Ok(data) = &mut data {
                let _ = data.write_all(b"not mine").await;
            }
        }
        assert!(gateway.store.object("stolen").is_none());
        upload(&mut client, &own, "after", b"abc").await;
    }
}

/// Whoever is first at a data port has a ticket by the time it is refused. That ticket opens no other.
#[tokio::test]
async fn the_ticket_of_a_stranger_that_was_refused_opens_nothing() {
    let authority = Authority::new();
    let settings = [
        ("tls.require_session_reuse", "true"),
        ("passive.accept_timeout", "300ms"),
    ];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    for versions in [Hello::default().versions, TLS12.versions] {
        for without_tickets in [false, true] {
            let hello = || Hello {
                versions,
                without_tickets,
                ..Hello::default()
            };
            let (own, stranger) = (authority.connector(hello()), authority.connector(hello()));
            let mut client = private(&gateway, &own).await;
            upload(&mut client, &own, "secret", b"abc").await;
            for _ in 0..3 {
                let data = client.open_data().await;
                client.expect("RETR secret", 150).await;
                let stolen = handshake(&stranger, data).await;
                client.expect_reply(522).await;
                if let Ok(mut stolen) = stolen {
                    let mut read = Vec::new();
                    let _ = stolen.read_to_end(&mut read).await;
                    assert_eq!(read, b"");
                }
            }
            assert_eq!(fetch(&mut client, &own, "RETR secret").await, b"abc");
        }
    }
}

/// What the gateway remembers for clients without tickets is not written anew when it was used.
#[tokio::test]
async fn where_reuse_is_required_clients_without_tickets_have_more_than_one_session() {
    let authority = Authority::new();
    let settings = [("tls.require_session_reuse", "true")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let connector = authority.connector(Hello {
        without_tickets: true,
        ..TLS12
    });
    for _ in 0..3 {
        let mut client = private(&gateway, &connector).await;
        upload(&mut client, &connector, "a", b"abc").await;
        assert_eq!(fetch(&mut client, &connector, "RETR a").await, b"abc");
        client.expect("QUIT", 221).await;
    }
}

#[tokio::test]
async fn a_certificate_can_be_the_login() {
    let authority = Authority::new();
    let others = Authority::new();
    let file = users("certificate = \"cn:scanner-3\"");
    let settings = [("tls.client_auth", "request")];
    let gateway = Gateway::encrypted_for_users(Store::s3(), &file, &authority, &settings);
    let with = |certificate| {
        authority.connector(Hello {
            certificate,
            ..Hello::default()
        })
    };
    let own = with(Some(authority.client("Scanner-3")));
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&own).await;
    client.expect("USER anna", 232).await;
    client.protect_data().await;
    upload(&mut client, &own, "a", b"abc").await;

    for connector in [with(None), with(Some(authority.client("scanner-4")))] {
        let (client, _) = Client::connect(gateway.address()).await;
        let mut client = client.secure(&connector).await;
        client.expect("USER anna", 331).await;
        client.expect("PASS x", 530).await;
    }
    let denied = r#"bucketferry_logins_total{outcome="wrong_certificate"}"#;
    gateway.wait_for(denied, 2.0).await;
    let in_clear = Client::connect(gateway.address()).await;
    let (mut in_clear, _) = in_clear;
    in_clear.expect("USER anna", 331).await;
    in_clear.expect("PASS ", 530).await;

    let forged = with(Some(others.client("scanner-3")));
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    let failed = r#"bucketferry_tls_handshakes_total{connection="control",outcome="failed"}"#;
    let _client = client
        .upgrade(async |stream| {
            let _ = handshake(&forged, stream).await;
            tokio::io::empty()
        })
        .await;
    gateway.wait_for(failed, 1.0).await;
}

#[tokio::test]
async fn a_certificate_and_a_password_are_both_needed_where_both_are_set() {
    let authority = Authority::new();
    let file = with_password("certificate = \"cn:scanner-3\"");
    let settings = [("tls.client_auth", "require")];
    let gateway = Gateway::encrypted_for_users(Memory, &file, &authority, &settings);
    for (name, password, code) in [
        ("scanner-3", "x", 230),
        ("scanner-3", "y", 530),
        ("scanner-4", "x", 530),
    ] {
        let connector = authority.connector(Hello {
            certificate: Some(authority.client(name)),
            ..Hello::default()
        });
        let (client, _) = Client::connect(gateway.address()).await;
        let mut client = client.secure(&connector).await;
        client.expect("USER anna", 331).await;
        client.expect(&format!("PASS {password}"), code).await;
    }
    // Under TLS 1.3 a client learns only by its first read that it was turned away.
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    let without = authority.connector(TLS12);
    client
        .upgrade(async |stream| {
            assert!(handshake(&without, stream).await.is_err());
            tokio::io::empty()
        })
        .await;
}

#[tokio::test]
async fn a_data_connection_shows_the_certificate_of_its_control_connection() {
    let authority = Authority::new();
    let settings = [
        ("tls.client_auth", "request"),
        ("passive.accept_timeout", "300ms"),
    ];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let with = |certificate| {
        authority.connector(Hello {
            certificate,
            resumes: false,
            ..Hello::default()
        })
    };
    let own = with(Some(authority.client("scanner-3")));
    let mut client = private(&gateway, &own).await;
    upload(&mut client, &own, "a", b"abc").await;
    for other in [with(None), with(Some(authority.client("scanner-4")))] {
        let data = client.open_data().await;
        client.expect("STOR stolen", 150).await;
        let _data = handshake(&other, data).await;
        client.expect_reply(522).await;
    }
    assert_eq!(gateway.store.keys(), ["a"]);
}

#[tokio::test]
async fn a_new_certificate_holds_for_the_next_connection_and_disturbs_nobody() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Store::s3(), &authority, &[]);
    let expiry = "bucketferry_tls_certificate_expiry_timestamp_seconds";
    gateway.wait_for(expiry, 2_208_988_800.0).await;
    let connector = authority.connector(Hello::default());
    let mut client = private(&gateway, &connector).await;
    let mut data = client.begin_encrypted(&connector, "STOR a.bin").await;
    let bytes = noise(4 * MIB);
    let (first, second) = bytes.split_at(2 * MIB);
    data.write_all(first).await.unwrap();
    let old = certificate_of(&data);

    authority.renew(2050);
    gateway.wait_for(expiry, 2_524_608_000.0).await;
    data.write_all(second).await.unwrap();
    data.shutdown().await.unwrap();
    client.expect_reply(226).await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), bytes);
    // Its own data connections still resume its own session.
    assert_eq!(fetch(&mut client, &connector, "RETR a.bin").await, bytes);

    let fresh = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let client = client.secure(&fresh).await;
    assert_ne!(certificate_of(client.stream()), old);
}

fn certificate_of(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_broken_pair_keeps_the_old_one_and_says_so() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let broken = "bucketferry_tls_files_broken";
    let key = std::fs::read_to_string(authority.path("key.pem")).unwrap();
    let (_, foreign) = authority.client("somebody");
    for text in ["", "no key", &foreign] {
        std::fs::write(authority.path("key.pem"), text).unwrap();
        gateway.wait_for(broken, 1.0).await;
        let (client, _) = Client::connect(gateway.address()).await;
        let mut client = client.secure(&authority.connector(Hello::default())).await;
        client.expect("NOOP", 200).await;
        std::fs::write(authority.path("key.pem"), &key).unwrap();
        gateway.wait_for(broken, 0.0).await;
    }
    std::fs::remove_file(authority.path("cert.pem")).unwrap();
    gateway.wait_for(broken, 1.0).await;
    let failed = gateway.metric(r#"bucketferry_tls_reloads_total{outcome="failed"}"#);
    assert!((4.0..=5.0).contains(&failed), "{failed}");
}

#[tokio::test]
async fn a_client_that_wants_another_protocol_inside_is_refused() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let connector = |alpn| {
        authority.connector(Hello {
            alpn,
            ..Hello::default()
        })
    };
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector(&[b"ftp", b"http/1.1"])).await;
    client.expect("NOOP", 200).await;
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    client
        .upgrade(async |stream| {
            let http = connector(&[b"h2", b"http/1.1"]);
            let error = handshake(&http, stream).await.unwrap_err();
            assert!(
                error.to_string().contains("NoApplicationProtocol"),
                "{error}"
            );
            tokio::io::empty()
        })
        .await;
}

#[tokio::test]
async fn a_handshake_on_a_data_connection_that_fails_or_never_ends_leaves_the_session() {
    let authority = Authority::new();
    let settings = [("passive.accept_timeout", "300ms")];
    let gateway = Gateway::encrypted(Store::s3(), &authority, &settings);
    let connector = authority.connector(Hello::default());
    let mut client = private(&gateway, &connector).await;
    for hello in [&b"this is no handshake\r\n\r\n"[..], b"", b"\x16\x03\x01"] {
        let mut data = client.open_data().await;
        client.expect("STOR a", 150).await;
        data.write_all(hello).await.unwrap();
        client.expect_reply(426).await;
        let mut data = client.open_data().await;
        client.expect("LIST", 150).await;
        data.write_all(hello).await.unwrap();
        data.shutdown().await.unwrap();
        client.expect_reply(426).await;
    }
    assert_eq!(gateway.store.keys(), Vec::<String>::new());
    // While it goes on, the client is heard.
    let _data = client.open_data().await;
    client.expect("STOR a", 150).await;
    client.expect("NOOP", 200).await;
    client.expect("ABOR", 426).await;
    client.expect_reply(226).await;
    upload(&mut client, &connector, "a", b"abc").await;
}

#[tokio::test]
async fn a_handshake_on_the_control_connection_that_never_ends_is_given_up() {
    let authority = Authority::new();
    let settings = [
        ("ftp.login_timeout", "300ms"),
        ("ftp.implicit_tls_listen", "127.0.0.1:0"),
    ];
    let gateway = Gateway::encrypted(Memory, &authority, &settings);
    let mut implicit = TcpStream::connect(gateway.inner.addresses()[1])
        .await
        .unwrap();
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    client.send_raw(b"\x16\x03\x01\x02").await;
    client.expect_close().await;
    implicit.write_all(b"\x16\x03\x01\x02").await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), implicit.read(&mut [0; 100])).await;
    assert!(!matches!(end.unwrap(), Ok(1..)));
    gateway.wait_for("bucketferry_sessions", 0.0).await;
}

#[tokio::test]
async fn the_shutdown_does_not_wait_for_handshakes() {
    let authority = Authority::new();
    let gateway = Gateway::encrypted(Memory, &authority, &[]);
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("AUTH TLS", 234).await;
    tokio::time::timeout(Duration::from_secs(5), gateway.stop())
        .await
        .unwrap();
}

/// What `check` says of these settings, and its exit code.
async fn check(settings: &[(String, String)]) -> (Option<i32>, String) {
    let mut command = bucketferry();
    command.args(["check", "--offline", "--store", "memory://"]);
    command.args(["--user", "ferry:secret"]);
    command.envs(settings.iter().cloned().map(variable));
    let output = run(&mut command, "").await;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

#[tokio::test]
async fn what_can_t_be_is_said_before_the_start() {
    let authority = Authority::new();
    let none = [
        ("tls.require", "all"),
        ("tls.client_auth", "request"),
        ("ftp.implicit_tls_listen", "127.0.0.1:0"),
        ("tls.private_key", "/nowhere"),
    ];
    for (key, value) in none {
        let (code, said) = check(&[(key.to_owned(), value.to_owned())]).await;
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains(key) && said.contains("set tls.certificate"),
            "{said}"
        );
    }
    let ca = authority.path("ca.pem").display().to_string();
    let key = authority.path("key.pem").display().to_string();
    for (setting, value, expected) in [
        (
            "tls.certificate",
            "/nowhere",
            "tls.certificate: can't read /nowhere",
        ),
        ("tls.certificate", &key, "no certificate in it"),
        ("tls.private_key", &ca, "no private key in it"),
        (
            "tls.certificate",
            &ca,
            "it does not go with the certificate",
        ),
        ("tls.client_ca", &key, "no certificate in it"),
        ("tls.min_version", "1.1", "allowed: `1.2`, `1.3`"),
    ] {
        let (code, said) = check(&authority.settings(&[(setting, value)])).await;
        assert_eq!(code, Some(78), "{setting}: {said}");
        assert!(said.contains(expected), "{setting}: {said}");
    }
    let (code, said) = check(&authority.settings(&[])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("valid until 2040-01-01T00:00:00Z"), "{said}");
    authority.renew(2020);
    let (code, said) = check(&authority.settings(&[])).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("it has expired at 2020-01-01"), "{said}");
}

#[tokio::test]
async fn check_names_users_that_can_never_log_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    let file = [
        users("certificate = \"cn:scanner-3\""),
        with_password("require_tls = \"all\"").replace("anna", "bert"),
        with_password("expires = 2001-01-01T00:00:00Z").replace("anna", "carl"),
        with_password("expires = 2999-01-01T00:00:00Z").replace("anna", "dora"),
    ];
    std::fs::write(&path, file.concat()).unwrap();
    let mut command = bucketferry();
    command.args(["check", "--offline", "--store", "memory://"]);
    command.env("BUCKETFERRY_USERS__FILE", &path);
    let output = run(&mut command, "").await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for (name, is_named) in [
        ("anna", true),
        ("bert", true),
        ("carl", true),
        ("dora", false),
    ] {
        let line = format!("user \"{name}\" can't log in");
        assert_eq!(said.contains(&line), is_named, "{name}: {said}");
    }
}
