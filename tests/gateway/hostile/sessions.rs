//! Users who are to be none any more, and are still logged in.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bucketferry::auth::Users;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::ftp::Client;
use crate::support::{Gateway, MIB, PATIENCE, Store, noise, user};

/// A gateway with a users file that changes.
struct Changing {
    gateway: Gateway,
    path: PathBuf,
    _folder: TempDir,
}

impl Changing {
    fn start(store: Store, users: &str, on_removal: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        std::fs::write(&path, users).unwrap();
        let file = path.display().to_string();
        let settings = [
            ("users.file", file.as_str()),
            ("users.reload_interval", "100ms"),
            ("users.on_removal", on_removal),
        ];
        let users = Users::from_file(&path).unwrap();
        Self {
            gateway: Gateway::start(store, users, &settings),
            path,
            _folder: folder,
        }
    }

    /// Puts other users in place, at once.
    fn change(&self, users: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, users).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    async fn client(&self, name: &str) -> Client {
        Client::connect_as(self.gateway.address(), name, "secret").await
    }

    fn lapsed(&self, reason: &str) -> f64 {
        let series = format!("bucketferry_logins_lapsed_total{{reason={reason:?}}}");
        self.gateway.metric(&series)
    }
}

/// Whatever ends a login, its sessions hear no more than that it is over, and soon. Others go on.
#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_removed_user() {
    let keeper = user("keeper", "");
    for (reason, now) in [
        ("removed", String::new()),
        ("password_changed", user("anna", "")),
        ("disabled", "disabled = true".to_owned()),
        ("expired", "expires = 2001-01-01T00:00:00Z".to_owned()),
        (
            "address_not_allowed",
            "allow = [\"192.0.2.0/24\"]".to_owned(),
        ),
    ] {
        let anna = user("anna", "");
        let gateway = Changing::start(Store::folder(), &(keeper.clone() + &anna), "finish");
        let (mut idle, mut kept) = (gateway.client("anna").await, gateway.client("keeper").await);
        let changed = match reason {
            "removed" => String::new(),
            "password_changed" => now,
            _ => anna + &now + "\n",
        };
        gateway.change(&(keeper.clone() + &changed));
        let said = idle.expect_reply(421).await.text();
        idle.expect_close().await;
        assert!(said.contains("not valid any more"), "{said}");
        kept.expect("PWD", 257).await;
        assert!(
            (gateway.lapsed(reason) - 1.0).abs() < f64::EPSILON,
            "{reason}"
        );
    }
}

/// Time alone ends it too.
#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_user_who_expires() {
    let soon = SystemTime::now() + Duration::from_secs(3);
    let soon = format!("expires = \"{}\"", humantime::format_rfc3339_millis(soon));
    let gateway = Changing::start(Store::folder(), &user("anna", &soon), "finish");
    let mut client = gateway.client("anna").await;
    client.expect("PWD", 257).await;
    client.expect_reply(421).await;
    client.expect_close().await;
    assert!((gateway.lapsed("expired") - 1.0).abs() < f64::EPSILON);
}

/// A transfer that runs is finished, and nothing is done after it, however early it was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_of_a_removed_user_finish() {
    for store in Store::each() {
        let gateway = Changing::start(store, &(user("keeper", "") + &user("anna", "")), "finish");
        gateway.gateway.store.put("victim", b"still here");
        let mut idle = gateway.client("anna").await;
        let mut client = gateway.client("anna").await;
        let (mut data, _) = client.begin("STOR whole").await;
        data.write_all(b"one half ").await.unwrap();
        client.send("DELE victim").await;
        gateway.change(&user("keeper", ""));
        idle.expect_reply(421).await;
        data.write_all(b"and the other").await.unwrap();
        drop(data);
        client.expect_reply(226).await;
        client.expect_reply(421).await;
        client.expect_close().await;
        let whole = gateway.gateway.store.object("whole");
        assert_eq!(whole.as_deref(), Some(&b"one half and the other"[..]));
        assert!(gateway.gateway.store.object("victim").is_some());
    }
}

/// Or it ends at once: nothing of an upload is published, and a download is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_of_a_removed_user_are_aborted_where_that_is_wanted() {
    for store in Store::each() {
        let gateway = Changing::start(store, &(user("keeper", "") + &user("anna", "")), "abort");
        gateway.gateway.store.put("large", &noise(64 * MIB));
        let (mut sends, mut takes) = (gateway.client("anna").await, gateway.client("anna").await);
        let (mut data, _) = sends.begin("STOR half").await;
        data.write_all(b"one half").await.unwrap();
        let (mut unread, _) = takes.begin("RETR large").await;
        gateway.change(&user("keeper", ""));
        for client in [&mut sends, &mut takes] {
            let said = client.expect_reply(426).await.text();
            assert!(said.contains("not valid any more"), "{said}");
            client.expect_reply(421).await;
            client.expect_close().await;
        }
        assert!(gateway.gateway.store.object("half").is_none());
        gateway.gateway.store.assert_no_leftovers();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, unread.read_to_end(&mut bytes)).await;
        assert!(
            read.unwrap().is_err(),
            "a download that is cut off ends by a reset"
        );
        for direction in ["upload", "download"] {
            let series = format!(
                "bucketferry_transfers_total{{direction={direction:?},outcome=\"login_lapsed\"}}"
            );
            gateway.gateway.wait_for(&series, 1.0).await;
        }
    }
}
