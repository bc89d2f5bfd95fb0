//! Several stores behind one gateway: homes and mounts in them, renames from one into the other, and one that is down.

use std::time::{Duration, Instant};

use doubles::Damage;

use crate::support::ftp::Client;
use crate::support::process::get;
use crate::support::{
    Gateway, MIB, Store, Target, borrowed, eventually, eventually_async, noise, user,
};

/// A second store, with the settings that lead to it by a name.
struct Named {
    name: &'static str,
    store: Store,
}

impl Named {
    fn settings(&self) -> Vec<(String, String)> {
        let settings = self.store.settings().into_iter();
        settings
            .map(|(key, value)| {
                let rest = key.strip_prefix("store.").expect("a setting of the store");
                (format!("stores.{}.{rest}", self.name), value)
            })
            .collect()
    }
}

/// A gateway on a store, and another that is called `archive`.
fn gateway(
    store: Store,
    archive: Store,
    users: &str,
    settings: &[(&str, &str)],
) -> (Gateway, Store) {
    let archive = Named {
        name: "archive",
        store: archive,
    };
    let mut all = archive.settings();
    if !settings
        .iter()
        .any(|(key, _)| *key == "stores.archive.retry_timeout")
    {
        all.push(("stores.archive.retry_timeout".to_owned(), "2s".to_owned()));
    }
    all.extend(
        settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    let gateway = Gateway::for_users(store, users, &borrowed(&all));
    (gateway, archive.store)
}

/// `/in` and `/deep/er/out` are in the archive; from the latter may only be read.
const MOUNTS: &str = "home = \"/home\"\n[[user.mount]]\npath = \"/in\"\nstore = \"archive\"\nprefix = \"/a/in\"\n\
    [[user.mount]]\npath = \"/deep/er/out\"\nstore = \"archive\"\nprefix = \"/a/out\"\npermissions = [\"list\", \"read\"]\n\
    [[user.mount]]\npath = \"/back\"\nprefix = \"/elsewhere\"";

fn with_mounts(store: Store, archive: Store) -> (Gateway, Store) {
    gateway(store, archive, &user("ferry", MOUNTS), &[])
}

async fn rename(client: &mut Client, from: &str, to: &str, code: u16) -> String {
    client.expect(&format!("RNFR {from}"), 350).await;
    client.expect(&format!("RNTO {to}"), code).await.text()
}

async fn refused(client: &mut Client, transfer: &str) {
    client.pasv().await;
    client.expect(transfer, 550).await;
}

fn names(listing: &str) -> Vec<&str> {
    let mut names: Vec<_> = listing.lines().map(str::trim).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_lies_in_the_store_that_it_names() {
    let users = format!(
        "{}{}",
        user("ferry", "home = \"/f\""),
        user("bert", "home = \"archive:/b\"")
    );
    let (gateway, archive) = gateway(Store::s3(), Store::azure(), &users, &[]);
    let mut ferry = gateway.client().await;
    let mut bert = Client::connect_as(gateway.address(), "bert", "secret").await;
    assert_eq!(ferry.store("x", b"ferry's").await.code, 226);
    assert_eq!(bert.store("x", b"bert's").await.code, 226);
    assert_eq!(gateway.store.keys(), ["f/x"]);
    assert_eq!(archive.keys(), ["b/x"]);
    assert_eq!(bert.retrieve("x").await.0, b"bert's");
    assert_eq!(ferry.retrieve("x").await.0, b"ferry's");
    let puts = |store| {
        format!(
            r#"bucketferry_store_requests_total{{operation="put",outcome="ok",store="{store}"}}"#
        )
    };
    for store in ["default", "archive"] {
        assert!(
            (gateway.metric(&puts(store)) - 1.0).abs() < f64::EPSILON,
            "{store}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_show_where_they_are_mounted() {
    for store in Store::each() {
        let (gateway, archive) = with_mounts(store, Store::s3());
        gateway.store.put("home/in/hidden", b"below a mount");
        gateway.store.put("home/zoo", b"z");
        archive.put("a/out/report", b"for all");
        let mut client = gateway.client().await;
        assert_eq!(
            names(&client.list("NLST", "").await.0),
            ["back", "deep", "in", "zoo"]
        );
        assert_eq!(names(&client.list("NLST", "deep").await.0), ["deep/er"]);
        assert_eq!(
            names(&client.list("NLST", "/deep/er").await.0),
            ["/deep/er/out"]
        );
        assert_eq!(
            names(&client.list("NLST", "in").await.0),
            Vec::<&str>::new()
        );
        assert_eq!(
            names(&client.list("NLST", "deep/er/out").await.0),
            ["deep/er/out/report"]
        );
        assert_eq!(names(&client.list("NLST", "i*").await.0), ["in"]);
        let (facts, _) = client.list("MLSD", "").await;
        let of = |name: &str| {
            facts
                .lines()
                .find(|line| line.ends_with(&format!(" {name}")))
                .unwrap()
                .to_owned()
        };
        assert!(
            of("in").contains("type=dir;") && of("in").contains("perm=celmp;"),
            "{facts}"
        );
        assert!(of("deep").contains("perm=celmp;"), "{facts}");
        let (facts, _) = client.list("MLSD", "deep/er").await;
        assert!(facts.contains("perm=el;"), "{facts}");
        let about = client.expect("MLST /in", 250).await.text();
        assert!(
            about.contains("perm=celmp;") && about.contains(" /in"),
            "{about}"
        );
        for directory in ["in", "/deep", "/deep/er", "/deep/er/out", "/"] {
            client.expect(&format!("CWD {directory}"), 250).await;
        }
        client.expect("SIZE in", 550).await;
        client.expect("SIZE deep/er/out/report", 213).await;
        client.expect("CWD /in", 250).await;
        client.expect("CWD hidden", 550).await;
        assert_eq!(client.retrieve("/in/hidden").await.1.code, 550);
        assert_eq!(client.store("here", b"in the archive").await.code, 226);
        assert_eq!(archive.object("a/in/here").unwrap(), b"in the archive");
        let status = client.expect("STAT /", 213).await.text();
        assert!(
            status.contains(" in") && status.contains(" zoo"),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_can_not_be_removed_renamed_or_replaced() {
    let (gateway, archive) = with_mounts(Store::s3(), Store::s3());
    let mut client = gateway.client().await;
    client.expect("MKD other", 257).await;
    assert_eq!(client.store("file", b"x").await.code, 226);
    for fixed in ["in", "deep", "/deep/er", "deep/er/out"] {
        client.expect(&format!("RMD {fixed}"), 550).await;
        client.expect(&format!("DELE {fixed}"), 550).await;
        let made = client.command(&format!("MKD {fixed}")).await;
        assert_eq!(made.code, 550, "{fixed}: {}", made.text());
        for source in ["other", "file", "in/a"] {
            let _ = client.store("in/a", b"x").await;
            rename(&mut client, source, fixed, 550).await;
        }
        let told = rename(&mut client, fixed, "new", 550).await;
        assert!(fixed.ends_with("out") || told.contains("mounted"), "{told}");
        refused(&mut client, &format!("STOR {fixed}")).await;
        refused(&mut client, &format!("APPE {fixed}")).await;
    }
    assert_eq!(gateway.store.keys(), ["home/file", "home/other/"]);
    assert_eq!(archive.keys(), ["a/in/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_has_permissions_of_its_own() {
    let (gateway, archive) = with_mounts(Store::s3(), Store::s3());
    archive.put("a/out/report", b"for all");
    let mut client = gateway.client().await;
    assert_eq!(client.retrieve("deep/er/out/report").await.0, b"for all");
    refused(&mut client, "STOR deep/er/out/new").await;
    client.expect("DELE deep/er/out/report", 550).await;
    client.expect("MKD deep/er/out/new", 550).await;
    rename(&mut client, "deep/er/out/report", "in/mine", 550).await;
    rename(&mut client, "deep/er/out/report", "mine", 550).await;
    assert_eq!(client.store("file", b"x").await.code, 226);
    rename(&mut client, "file", "deep/er/out/file", 550).await;
    assert_eq!(gateway.store.keys(), ["home/file"]);
    assert_eq!(archive.keys(), ["a/out/report"]);
}

/// Who may rename in two places, and not read in the one or write in the other, could do both by a rename.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_between_places_needs_all_that_it_does() {
    let all = ["list", "read", "write", "delete", "rename", "mkdir"];
    for (lacking, at) in [
        ("rename", 0),
        ("read", 0),
        ("delete", 0),
        ("rename", 1),
        ("write", 1),
    ] {
        for store in ["default", "archive"] {
            let permissions = |place: usize| {
                let kept = all.iter().filter(|word| place != at || **word != lacking);
                format!("permissions = {:?}", kept.collect::<Vec<_>>())
            };
            let rest = format!(
                "home = \"/home\"\n{}\n[[user.mount]]\npath = \"/m\"\nstore = \"{store}\"\nprefix = \"/m\"\n{}",
                permissions(0),
                permissions(1)
            );
            let (gateway, archive) = gateway(Store::s3(), Store::s3(), &user("ferry", &rest), &[]);
            gateway.store.put("home/a", b"x");
            let mut client = gateway.client().await;
            let told = rename(&mut client, "a", "m/a", 550).await;
            assert!(told.contains(lacking), "{lacking} in {store}: {told}");
            assert_eq!(gateway.store.keys(), ["home/a"]);
            assert_eq!(archive.keys(), Vec::<String>::new());
        }
    }
}

/// Who renames a directory into another place sees there what is in it, and makes it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_renamed_between_places_by_who_may_see_and_make_it() {
    for (home, mount, lacking) in [
        (
            r#"["read", "write", "delete", "rename"]"#,
            r#"["list", "write", "rename", "mkdir"]"#,
            "list",
        ),
        (
            r#"["list", "read", "write", "delete", "rename"]"#,
            r#"["write", "rename"]"#,
            "mkdir",
        ),
    ] {
        let rest = format!(
            "permissions = {home}\n[[user.mount]]\npath = \"/m\"\nprefix = \"/elsewhere\"\npermissions = {mount}"
        );
        let (gateway, _) = gateway(Store::s3(), Store::s3(), &user("ferry", &rest), &[]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("d/secret", b"x").await.code, 226);
        let told = rename(&mut client, "d", "m/d", 550).await;
        assert!(told.contains(lacking), "{told}");
        assert_eq!(gateway.store.keys(), ["d/secret"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_told_as_the_client_sees_them() {
    let settings = [("upload.missing_directories", "refuse")];
    let (gateway, _archive) = gateway(Store::s3(), Store::s3(), &user("ferry", MOUNTS), &settings);
    let mut client = gateway.client().await;
    client.pasv().await;
    let told = client.expect("STOR in/sub/f", 550).await.text();
    assert!(told.contains("/in/sub,"), "{told}");
    assert_eq!(client.store("deep/f", b"x").await.code, 226, "it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_name_in_a_mount_is_told_as_the_client_sees_it() {
    let (gateway, archive) = with_mounts(Store::s3(), Store::s3());
    let mut client = gateway.client().await;
    let (mut data, begun) = client.begin("STOU /in/scan").await;
    tokio::io::AsyncWriteExt::shutdown(&mut data).await.unwrap();
    drop(data);
    let told = format!("{} {}", begun.text(), client.expect_reply(226).await.text());
    assert!(told.contains("FILE: scan."), "{told}");
    let keys = archive.keys();
    assert!(
        keys.len() == 1 && keys[0].starts_with("a/in/scan."),
        "{keys:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_renamed_between_places_of_one_store() {
    for store in Store::of_every_kind() {
        let (gateway, _) = with_mounts(store, Store::folder());
        let mut client = gateway.client().await;
        let bytes = noise(6 * MIB);
        assert_eq!(client.store("a", &bytes).await.code, 226);
        rename(&mut client, "a", "back/b", 250).await;
        assert!(gateway.store.object("elsewhere/b").unwrap() == bytes);
        rename(&mut client, "back/b", "d/c", 250).await;
        assert!(gateway.store.object("home/d/c").unwrap() == bytes);
        rename(&mut client, "d", "back/d", 250).await;
        let keys = gateway.store.keys().into_iter();
        let files: Vec<_> = keys.filter(|key| !key.ends_with('/')).collect();
        assert_eq!(files, ["elsewhere/d/c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_renamed_from_each_kind_of_store_into_each() {
    for kind in 0..4 {
        for archive in Store::of_every_kind() {
            let store = Store::of_every_kind().swap_remove(kind);
            let (gateway, archive) = with_mounts(store, archive);
            let mut client = gateway.client().await;
            for (name, length) in [("empty", 0), ("small", 1000), ("large", 9 * MIB)] {
                let bytes = noise(length);
                let (out, back) = (format!("in/{name}"), format!("sub/{name}"));
                assert_eq!(client.store(name, &bytes).await.code, 226);
                rename(&mut client, name, &out, 250).await;
                assert!(archive.object(&format!("a/in/{name}")).unwrap() == bytes);
                assert_eq!(gateway.store.object(&format!("home/{name}")), None);
                rename(&mut client, &out, &back, 250).await;
                assert!(gateway.store.object(&format!("home/sub/{name}")).unwrap() == bytes);
                assert_eq!(archive.object(&format!("a/in/{name}")), None);
            }
            gateway.store.assert_no_leftovers();
            archive.assert_no_leftovers();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_renamed_into_another_store_stays() {
    let (gateway, archive) = with_mounts(Store::s3(), Store::s3());
    let mut client = gateway.client().await;
    assert_eq!(client.store("d/f", b"x").await.code, 226);
    let told = rename(&mut client, "d", "in/d", 553).await;
    assert!(told.contains("rename the files in it"), "{told}");
    client.expect("MKD in/sub", 257).await;
    rename(&mut client, "d/f", "in/sub", 553).await;
    client.expect("RNFR in/none", 550).await;
    assert_eq!(gateway.store.keys(), ["home/d/f"]);
    assert_eq!(archive.keys(), ["a/in/sub/"]);
}

/// Whatever fails on the way: the file is where it was, or in both places, and whole wherever it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_between_stores_that_fails_loses_nothing() {
    type Break = fn(&doubles::Server, &doubles::Server);
    let breaks: [(&str, Break, bool); 8] = [
        (
            "the source can't be read",
            |from, _| from.fail_next("GetObject", 1000, 500),
            false,
        ),
        (
            "the source has rotted",
            |from, _| from.rot("home/a", Damage::Flip),
            false,
        ),
        (
            "the source breaks off",
            |from, _| from.break_next_answer("GetObject", 1000, 0),
            false,
        ),
        (
            "a part is refused",
            |_, to| to.fail_next("UploadPart", 1000, 403),
            false,
        ),
        (
            "the end is refused",
            |_, to| to.fail_next("CompleteMultipartUpload", 1000, 403),
            false,
        ),
        (
            "a part is damaged",
            |_, to| to.flip_bit("UploadPart", 1000),
            false,
        ),
        (
            "the source can't be deleted",
            |from, _| from.fail_next("DeleteObject", 1000, 403),
            true,
        ),
        (
            "the end's answer is lost",
            |_, to| to.lose_next_answer("CompleteMultipartUpload", 1),
            true,
        ),
    ];
    for (what, break_it, arrives) in breaks {
        let (gateway, archive) = with_mounts(Store::s3(), Store::s3());
        let mut client = gateway.client().await;
        let has_rotted = what == "the source has rotted";
        // What went in one request carries its checksum.
        let bytes = noise(if has_rotted { MIB } else { 12 * MIB });
        assert_eq!(client.store("a", &bytes).await.code, 226);
        break_it(gateway.store.server(), archive.server());
        client.expect("RNFR a", 350).await;
        let reply = client.command("RNTO in/a").await;
        gateway.store.server().heal();
        archive.server().heal();
        let (old, new) = (gateway.store.object("home/a"), archive.object("a/in/a"));
        let is_whole = |object: &Option<Vec<u8>>| object.as_ref().is_none_or(|it| *it == bytes);
        assert!((has_rotted || is_whole(&old)) && is_whole(&new), "{what}");
        assert_eq!(new.is_some(), arrives, "{what}: {}", reply.text());
        assert_eq!(reply.code == 250, old.is_none(), "{what}: {}", reply.text());
        assert!(
            reply.code == 250 || reply.code / 100 == 4,
            "{what}: {}",
            reply.text()
        );
        eventually("nothing is left", || {
            archive.server().open_uploads().is_empty()
        })
        .await;
    }
}

/// What somebody else writes under the old name meanwhile is not deleted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_a_file_is_moved_stays() {
    for store in Store::of_every_kind() {
        let (gateway, archive) = with_mounts(store, Store::s3());
        let mut client = gateway.client().await;
        let mut other = gateway.client().await;
        assert_eq!(client.store("a", &noise(3 * MIB)).await.code, 226);
        archive.server().stall("PutObject", Duration::from_secs(1));
        client.expect("RNFR a", 350).await;
        client.send("RNTO in/a").await;
        archive.server().wait_for("PutObject", 1).await;
        // The same content is another file all the same.
        assert_eq!(other.store("a", &noise(3 * MIB)).await.code, 226);
        client.expect_reply(450).await;
        assert!(gateway.store.object("home/a").unwrap() == noise(3 * MIB));
        assert!(archive.object("a/in/a").unwrap() == noise(3 * MIB));
    }
}

/// Whoever takes a file has it: programs claim their work so.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_moves_of_one_file_one_succeeds() {
    for store in Store::of_every_kind() {
        let (gateway, archive) = with_mounts(store, Store::s3());
        let (mut one, mut two) = (gateway.client().await, gateway.client().await);
        assert_eq!(one.store("job", &noise(MIB)).await.code, 226);
        archive
            .server()
            .stall("PutObject", Duration::from_millis(500));
        for (client, name) in [(&mut one, "first"), (&mut two, "second")] {
            client.expect("RNFR job", 350).await;
            client.send(&format!("RNTO in/{name}")).await;
        }
        let codes = [one.reply().await.code, two.reply().await.code];
        assert_eq!(
            codes.iter().filter(|code| **code == 250).count(),
            1,
            "{codes:?}"
        );
        assert_eq!(gateway.store.object("home/job"), None);
    }
}

/// A client that leaves has not renamed what was not stored yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_moves_nothing_more() {
    let settings = [("upload.resume_window", "1m")];
    let (gateway, archive) = gateway(Store::s3(), Store::s3(), &user("ferry", MOUNTS), &settings);
    let mut client = gateway.client().await;
    assert_eq!(client.store("a", &noise(20 * MIB)).await.code, 226);
    gateway.store.server().limit_answers(5 * MIB as u64);
    client.expect("RNFR a", 350).await;
    client.send("RNTO in/a").await;
    archive.server().wait_for("UploadPart", 1).await;
    client.hang_up();
    gateway.wait_for("bucketferry_sessions", 0.0).await;
    eventually("it is given up", || {
        archive.server().open_uploads().is_empty()
    })
    .await;
    assert_eq!(archive.keys(), Vec::<String>::new());
    assert!(gateway.store.object("home/a").unwrap() == noise(20 * MIB));
    gateway.store.server().heal();
    gateway.client().await.expect("SIZE in/a", 550).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_is_not_moved_away_or_replaced() {
    let rest = format!("overwrite = \"deny\"\n{MOUNTS}");
    let (gateway, archive) = gateway(Store::s3(), Store::s3(), &user("ferry", &rest), &[]);
    gateway.store.put("home/theirs", b"delivered");
    archive.put("a/in/taken", b"delivered");
    let mut client = gateway.client().await;
    let told = rename(&mut client, "theirs", "in/x", 550).await;
    assert!(told.contains("release"), "{told}");
    assert_eq!(client.store("own", b"mine").await.code, 226);
    rename(&mut client, "own", "in/taken", 553).await;
    rename(&mut client, "own", "in/new", 250).await;
    // It is this session's own in its new store, too; and in no other.
    rename(&mut client, "in/new", "in/newer", 250).await;
    gateway.store.put("home/in2", b"mine");
    archive.put("a/in/own", b"mine");
    rename(&mut client, "in/own", "in/away", 550).await;
    assert_eq!(archive.object("a/in/newer").unwrap(), b"mine");
    assert_eq!(archive.object("a/in/taken").unwrap(), b"delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_not_waited_for() {
    let settings = [
        ("store.probe_interval", "100ms"),
        ("stores.archive.probe_interval", "100ms"),
        ("stores.archive.retry_timeout", "1s"),
        ("admin.ready_needs_store", "always"),
    ];
    let (gateway, archive) = gateway(Store::s3(), Store::s3(), &user("ferry", MOUNTS), &settings);
    let mut client = gateway.client().await;
    assert_eq!(client.store("in/a", b"x").await.code, 226);
    gateway
        .wait_for(r#"bucketferry_store_up{store="archive"}"#, 1.0)
        .await;
    archive.server().go_offline();
    gateway
        .wait_for(r#"bucketferry_store_up{store="archive"}"#, 0.0)
        .await;
    eventually_async("the store is taken for down", async || {
        let asked = Instant::now();
        let reply = client.try_to_store("in/b").await;
        assert_eq!(reply.code, 451, "{}", reply.text());
        assert!(
            reply.text().contains("store can't be reached"),
            "{}",
            reply.text()
        );
        asked.elapsed() < Duration::from_millis(300)
    })
    .await;
    for line in ["DELE in/a", "MKD in/d", "SIZE in/a", "CWD in/d"] {
        let asked = Instant::now();
        let reply = client.command(line).await;
        assert_eq!(reply.code / 100, 4, "{line}: {}", reply.text());
        assert!(asked.elapsed() < Duration::from_millis(300), "{line}");
    }
    client.expect("CWD /in", 250).await;
    client.pasv().await;
    client.expect("NLST", 451).await;
    client.expect("CWD /", 250).await;
    assert_eq!(client.store("c", b"x").await.code, 226);
    rename(&mut client, "c", "in/c", 451).await;
    assert_eq!(gateway.store.object("home/c").unwrap(), b"x");
    assert_eq!(
        names(&client.list("NLST", "").await.0),
        ["back", "c", "deep", "in"]
    );
    let (code, ready) = get(gateway.inner.admin_address(), "/readyz").await;
    assert_eq!(code, 200, "{ready}");
    assert!(ready.contains("store: answers\nstore archive: "), "{ready}");
    assert!(!ready.contains("store archive: answers"), "{ready}");

    archive.server().go_online();
    gateway
        .wait_for(r#"bucketferry_store_up{store="archive"}"#, 1.0)
        .await;
    eventually_async("it is asked again", async || {
        client.try_to_store("in/b").await.code == 226
    })
    .await;
    rename(&mut client, "c", "in/c", 250).await;
}

/// What is asked in the background is no more than a hint: a store that lists badly may store well.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_not_be_listed_is_not_taken_for_down() {
    let settings = [
        ("store.probe_interval", "50ms"),
        ("store.retry_timeout", "100ms"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    gateway
        .wait_for(r#"bucketferry_store_up{store="default"}"#, 1.0)
        .await;
    gateway
        .store
        .server()
        .fail_next("ListObjectsV2", 1_000_000, 500);
    gateway
        .wait_for(r#"bucketferry_store_up{store="default"}"#, 0.0)
        .await;
    // Nobody else asks it anything for much longer than anybody waits.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = gateway.client().await;
    for name in 0..3 {
        assert_eq!(client.store(&name.to_string(), b"x").await.code, 226);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
