//! Users who use what they may do for what they may not.

use crate::support::ftp::Client;
use crate::support::{Gateway, Store, user};

/// A users file: `keeper` may do all that is allowed by default, `mover` what is said.
fn users(of_mover: &str) -> String {
    user("keeper", "") + &user("mover", of_mover)
}

async fn mover(gateway: &Gateway) -> Client {
    Client::connect_as(gateway.address(), "mover", "secret").await
}

/// `RNFR` and `RNTO`: the last reply has this code, and names what is missing.
async fn rename(client: &mut Client, from: &str, to: &str, code: u16, missing: &str) {
    client.expect(&format!("RNFR {from}"), 350).await;
    let reply = client.command(&format!("RNTO {to}")).await;
    assert_eq!(reply.code, code, "{from} to {to}: {}", reply.text());
    assert!(reply.text().contains(missing), "{}", reply.text());
}

/// `rename` alone must not get the better of another's file.
#[tokio::test(flavor = "multi_thread")]
async fn rename_replaces_without_write() {
    for store in Store::of_every_kind() {
        let users = users("permissions = [\"rename\", \"list\"]");
        let gateway = Gateway::for_users(store, &users, &[]);
        gateway.store.put("mine", b"mine");
        gateway.store.put("yours", b"yours");
        gateway.store.put("dir/in", b"in it");
        gateway.store.put("other/in", b"in the other");
        let mut client = mover(&gateway).await;
        rename(&mut client, "mine", "yours", 550, "\"write\"").await;
        rename(&mut client, "dir/in", "other/in", 550, "\"write\"").await;
        rename(&mut client, "dir", "other", 553, "exists").await;
        rename(&mut client, "dir", "yours", 553, "exists").await;
        for (key, content) in [
            ("mine", "mine"),
            ("yours", "yours"),
            ("dir/in", "in it"),
            ("other/in", "in the other"),
        ] {
            let found = gateway.store.object(key);
            assert_eq!(found.as_deref(), Some(content.as_bytes()), "{key}");
        }
        rename(&mut client, "mine", "free", 250, "").await;
    }
}

/// Under `deny` a delivered name must not be had again by moving what is there away.
#[tokio::test(flavor = "multi_thread")]
async fn delivered_name_taken_by_rename_away() {
    for store in Store::of_every_kind() {
        let users = users(
            "permissions = [\"rename\", \"write\", \"list\", \"mkdir\"]\noverwrite = \"deny\"",
        );
        let gateway = Gateway::for_users(store, &users, &[]);
        let mut keeper = Client::connect_as(gateway.address(), "keeper", "secret").await;
        keeper.store("report", b"delivered").await;
        keeper.expect("MKD in", 257).await;
        keeper.store("in/report", b"delivered").await;
        let mut client = mover(&gateway).await;
        rename(&mut client, "report", "away", 550, "\"release\"").await;
        rename(&mut client, "in", "away", 550, "\"release\"").await;
        // Nor what the same user has stored in another session.
        client.store("mine.part", b"sent").await;
        rename(
            &mut mover(&gateway).await,
            "mine.part",
            "mine",
            550,
            "\"release\"",
        )
        .await;
        // Nor by another's login in the same one.
        client.expect("REIN", 220).await;
        client.login("mover", "secret").await;
        rename(&mut client, "mine.part", "mine", 550, "\"release\"").await;
        // Nor what another has put where the session had stored its own.
        client.store("own.part", b"sent").await;
        keeper.store("own.part", b"by another").await;
        rename(&mut client, "own.part", "own", 550, "\"release\"").await;
        for (key, content) in [
            ("report", "delivered"),
            ("in/report", "delivered"),
            ("mine.part", "sent"),
            ("own.part", "by another"),
        ] {
            let found = gateway.store.object(key);
            assert_eq!(found.as_deref(), Some(content.as_bytes()), "{key}");
        }
        // Senders that store under one name and rename to another go on as ever, appends and all.
        client.store("next.part", b"sent").await;
        rename(&mut client, "next.part", "next", 250, "").await;
        assert_eq!(gateway.store.object("next").as_deref(), Some(&b"sent"[..]));
        rename(&mut client, "next", "next.old", 550, "\"release\"").await;
    }
}

/// Whoever is to do so is told to by name.
#[tokio::test(flavor = "multi_thread")]
async fn release_is_given_by_name_only() {
    for (permissions, code) in [
        ("", 550),
        (
            "permissions = [\"list\", \"read\", \"write\", \"delete\", \"rename\", \"mkdir\"]",
            550,
        ),
        ("permissions = [\"rename\", \"release\"]", 250),
    ] {
        let users = users(&format!("{permissions}\noverwrite = \"deny\""));
        let gateway = Gateway::for_users(Store::folder(), &users, &[]);
        gateway.store.put("report", b"delivered");
        gateway.store.put("in/report", b"delivered");
        let mut client = mover(&gateway).await;
        rename(&mut client, "report", "away", code, "").await;
        rename(&mut client, "in", "out", code, "").await;
    }
}
