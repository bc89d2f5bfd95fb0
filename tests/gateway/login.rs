//! Who gets in, what they may do, and what strangers learn: nothing.

use std::time::Duration;

use bucketferry::auth::Users;

use crate::support::ftp::Client;
use crate::support::{Gateway, Store, eventually_async, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_wrong_password_hear_the_same() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("USER ferry", 331).await;
    let wrong = client.expect("PASS guess", 530).await;
    client.expect("USER nobody", 331).await;
    let unknown = client.expect("PASS guess", 530).await;
    assert_eq!(wrong.lines, unknown.lines);
    client.login("ferry", "secret").await;
    for (outcome, count) in [
        ("wrong_password", 1.0),
        ("unknown_user", 1.0),
        ("accepted", 1.0),
    ] {
        let series = format!("bucketferry_logins_total{{outcome=\"{outcome}\"}}");
        gateway.wait_for(&series, count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_locks_the_user_out_from_that_address() {
    let settings = [
        ("limits.login_failures", "3"),
        ("limits.login_failures_per_connection", "1000"),
        ("limits.lockout", "2s"),
        ("limits.commands_before_login", "100000"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    let (mut client, _) = Client::connect(gateway.address()).await;
    for _ in 0..3 {
        client.expect("USER ferry", 331).await;
        client.expect("PASS guess", 530).await;
    }
    client.expect("USER ferry", 331).await;
    client.expect("PASS secret", 530).await;
    gateway
        .wait_for(r#"bucketferry_logins_total{outcome="locked_out"}"#, 1.0)
        .await;
    let elsewhere = "127.0.0.2".parse().unwrap();
    let mut other = Client::connect_from(elsewhere, gateway.address())
        .await
        .unwrap();
    other.expect_reply(220).await;
    other.login("ferry", "secret").await;
    eventually_async("the lockout ends", async || {
        client.expect("USER ferry", 331).await;
        client.command("PASS secret").await.code == 230
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_end_the_connection() {
    let gateway = Gateway::with(
        Store::folder(),
        &[("limits.login_failures_per_connection", "2")],
    );
    let (mut client, _) = Client::connect(gateway.address()).await;
    client.expect("USER a", 331).await;
    client.expect("PASS a", 530).await;
    client.expect("USER b", 331).await;
    client.expect("PASS b", 530).await;
    client.expect_reply(421).await;
    client.expect_close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_start_over_as_another() {
    let users = [user("one", "home = \"/1\""), user("two", "home = \"/2\"")].concat();
    let gateway = Gateway::for_users(Store::folder(), &users, &[]);
    let mut client = Client::connect_as(gateway.address(), "one", "secret").await;
    assert_eq!(client.store("a", b"1").await.code, 226);
    client.expect("PASS secret", 503).await;
    client.login("two", "secret").await;
    assert_eq!(client.store("a", b"2").await.code, 226);
    client.expect("REIN", 220).await;
    client.expect("PWD", 530).await;
    client.expect("USER one", 331).await;
    client.expect("USER two", 331).await;
    client.expect("PASS secret", 230).await;
    assert_eq!(gateway.store.keys(), ["1/a", "2/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_kept() {
    let cases = [
        ("list", "NLST", true),
        ("read", "RETR a.txt", true),
        ("write", "STOR b.txt", true),
        ("list", "RETR a.txt", false),
        ("list", "STOR b.txt", false),
        ("list", "STOU", false),
        ("list", "APPE a.txt", false),
        ("read", "NLST", false),
        ("write", "MLSD", false),
        ("write", "RETR a.txt", false),
    ];
    for (permission, command, allowed) in cases {
        let users = user("ferry", &format!("permissions = [{permission:?}]"));
        let gateway = Gateway::for_users(Store::folder(), &users, &[]);
        gateway.store.put("a.txt", b"x");
        let mut client = gateway.client().await;
        let (data, reply) = client.begin(command).await;
        let expected = if allowed { 150 } else { 550 };
        assert_eq!(
            reply.code,
            expected,
            "{permission}: {command}: {}",
            reply.text()
        );
        drop(data);
        if allowed {
            client.expect_reply(226).await;
        }
    }
    let cases = [
        ("delete", "DELE a.txt", 250),
        ("delete", "RMD d", 250),
        ("delete", "MKD e", 550),
        ("mkdir", "MKD e", 257),
        ("mkdir", "RMD d", 550),
        ("mkdir", "DELE a.txt", 550),
        ("rename", "RNFR a.txt", 350),
        ("read", "SIZE a.txt", 213),
        ("write", "SIZE a.txt", 213),
        ("delete", "SIZE a.txt", 550),
        ("write", "CWD d", 250),
    ];
    for (permission, command, code) in cases {
        let users = user("ferry", &format!("permissions = [{permission:?}]"));
        let gateway = Gateway::for_users(Store::folder(), &users, &[]);
        gateway.store.put("a.txt", b"x");
        let Store::Folder(folder) = &gateway.store else {
            unreachable!()
        };
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let mut client = gateway.client().await;
        client.expect(command, code).await;
        if permission != "rename" {
            client.command("RNFR a.txt").await;
            let reply = client.command("RNTO b.txt").await;
            assert!(reply.code == 550 || reply.code == 503, "{reply:?}");
        }
        if code == 550 {
            assert_eq!(
                gateway.store.keys(),
                ["a.txt", "d/"],
                "{permission}: {command}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_users_file_counts_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    std::fs::write(&path, user("ferry", "")).unwrap();
    let users = Users::from_file(&path).unwrap();
    let file = path.display().to_string();
    let settings = [
        ("users.file", file.as_str()),
        ("users.reload_interval", "100ms"),
    ];
    let gateway = Gateway::start(Store::folder(), users, &settings);
    gateway.client().await;

    std::fs::write(&path, user("other", "")).unwrap();
    gateway
        .wait_for(
            r#"bucketferry_users_reloads_total{outcome="reloaded"}"#,
            1.0,
        )
        .await;
    let mut stays = Client::connect_as(gateway.address(), "other", "secret").await;
    let (mut gone, _) = Client::connect(gateway.address()).await;
    gone.expect("USER ferry", 331).await;
    gone.expect("PASS secret", 530).await;

    std::fs::write(&path, "[[user]]\nname = 1\n").unwrap();
    gateway
        .wait_for(r#"bucketferry_users_reloads_total{outcome="failed"}"#, 1.0)
        .await;
    Client::connect_as(gateway.address(), "other", "secret").await;
    stays.expect("PWD", 257).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_log_in_is_sent_away() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.login_timeout", "300ms")]);
    let (mut client, _) = Client::connect(gateway.address()).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.expect("USER ferry", 331).await;
    }
    client.expect_reply(421).await;
    client.expect_close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_is_sent_away_but_not_during_a_transfer() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.idle_timeout", "300ms")]);
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a", 150).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, b"x")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(226).await;
    client.expect_reply(421).await;
    client.expect_close().await;
}
