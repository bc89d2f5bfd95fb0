//! A user who begins uploads and goes away, until as many are kept as can be.

use tokio::io::AsyncWriteExt;

use crate::support::ftp::{Client, reset};
use crate::support::{Gateway, Store, eventually, noise, user};

/// As many uploads are kept, of all users together.
const MAX_KEPT: usize = 128;

/// Bytes of each upload that is cut off: the last byte of it is not kept.
const SENT: usize = 1001;

async fn log_in(gateway: &Gateway, name: &str) -> Client {
    Client::connect_as(gateway.address(), name, "secret").await
}

/// Begins an upload and goes away.
async fn cut_off(client: &mut Client, name: &str) {
    let mut data = client.open_data().await;
    client.expect(&format!("STOR {name}"), 150).await;
    data.write_all(&noise(SENT)).await.unwrap();
    let wanted = format!(": {SENT} bytes so far");
    while !client.expect("STAT", 211).await.text().contains(&wanted) {}
    reset(data);
    client.expect_reply(426).await;
}

/// How many uploads the store has that are not finished.
async fn kept(client: &mut Client, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    for name in names {
        if client.command(&format!("SIZE {name}")).await.code == 213 {
            kept.push(name);
        }
    }
    kept
}

/// Whoever keeps few can go on with an upload of its own; the oldest one of the hoarder is given up for it, as if its
/// time were over.
#[tokio::test(flavor = "multi_thread")]
async fn kept_upload_hoarding() {
    for store in [Store::folder(), Store::s3()] {
        let users = user("ferry", "") + &user("hoarder", "");
        let settings = [("upload.resume_window", "10m"), ("upload.memory", "1 GiB")];
        let gateway = Gateway::for_users(store, &users, &settings);
        let mut hoarder = log_in(&gateway, "hoarder").await;
        let name = |number: usize| format!("hoard{number}");
        for number in 0..MAX_KEPT {
            cut_off(&mut hoarder, &name(number)).await;
            // It waits until the upload is kept.
            hoarder.expect(&format!("SIZE {}", name(number)), 213).await;
        }
        let before = kept(&mut hoarder, (0..MAX_KEPT).map(name)).await;
        assert_eq!(before.len(), MAX_KEPT);
        let mut honest = log_in(&gateway, "ferry").await;
        for number in 0..2 {
            let file = format!("honest{number}");
            cut_off(&mut honest, &file).await;
            let size = honest.expect(&format!("SIZE {file}"), 213).await;
            assert_eq!(size.text(), format!("213 {}", SENT - 1));
        }
        let after = kept(&mut hoarder, (0..MAX_KEPT).map(name)).await;
        assert_eq!(after, before[2..], "the two oldest");
        // The hoarder itself gets no more, and nobody loses anything for it.
        cut_off(&mut hoarder, "one-more").await;
        hoarder.expect("SIZE one-more", 550).await;
        assert_eq!(kept(&mut hoarder, (0..MAX_KEPT).map(name)).await, after);
        for number in 0..2 {
            let file = format!("honest{number}");
            honest.expect(&format!("REST {}", SENT - 1), 350).await;
            let rest = &noise(2 * SENT)[SENT - 1..];
            honest.upload(&format!("STOR {file}"), rest).await;
            assert_eq!(gateway.store.object(&file).unwrap().len(), 2 * SENT);
        }
        // Nothing is left of what was given up.
        if let Store::Bucket(server) = &gateway.store {
            let left = || {
                let keys = server.keys();
                keys.iter()
                    .filter(|key| key.contains("unfinished/"))
                    .count()
            };
            eventually("notes of what is kept, and no others", || {
                left() == MAX_KEPT - 2
            })
            .await;
        }
    }
}
