//! Storage classes and tags: what the configuration says, and what others have given an object.

use crate::support::ftp::Client;
use crate::support::process::bucketferry;
use crate::support::{Gateway, MIB, Store, noise, user};

/// Each store, with a class that it has and that is not its usual one, and whether it has tags.
fn stores() -> [(Store, &'static str, bool); 3] {
    [
        (Store::s3(), "STANDARD_IA", true),
        (Store::google(), "NEARLINE", false),
        (Store::azure(), "Cool", true),
    ]
}

/// Tags as a text, for comparisons.
fn tags(gateway: &Gateway, key: &str) -> String {
    let tags = gateway.store.server().tags(key).into_iter();
    let tags: Vec<_> = tags
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tags.join(" ")
}

fn class(gateway: &Gateway, key: &str) -> Option<String> {
    gateway.store.server().storage_class(key)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_have_the_class_and_the_tags_that_are_wanted() {
    for (store, name, has_tags) in stores() {
        let mut settings = vec![("upload.storage_class", name)];
        if has_tags {
            settings.push((
                "upload.tags",
                "{ from = \"{user} {home}\", kind = \"any\" }",
            ));
        }
        let gateway = Gateway::for_users(store, &user("anna@x", "home = \"/scans\""), &settings);
        let mut client = Client::connect_as(gateway.address(), "anna@x", "secret").await;
        for (name_of_file, length) in [("small", 10), ("large", 9 * MIB)] {
            assert_eq!(client.store(name_of_file, &noise(length)).await.code, 226);
            let key = format!("scans/{name_of_file}");
            assert_eq!(class(&gateway, &key).as_deref(), Some(name));
            let wanted = if has_tags {
                "from=anna_x /scans kind=any"
            } else {
                ""
            };
            assert_eq!(tags(&gateway, &key), wanted);
        }
        client.expect("MKD empty", 257).await;
        assert_eq!(
            class(&gateway, "scans/empty/"),
            None,
            "a marker is no upload"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_class_and_tags_of_its_own() {
    for (store, name, has_tags) in stores() {
        let tags_of_user = if has_tags {
            "tags = { kind = \"scan\" }\n"
        } else {
            ""
        };
        let file =
            user("anna", &format!("{tags_of_user}storage_class = {name:?}")) + &user("bert", "");
        let gateway = Gateway::for_users(store, &file, &[]);
        for (user, own, kind) in [("anna", Some(name), "kind=scan"), ("bert", None, "")] {
            let mut client = Client::connect_as(gateway.address(), user, "secret").await;
            assert_eq!(client.store(user, b"x").await.code, 226);
            assert_eq!(class(&gateway, user).as_deref(), own);
            assert_eq!(tags(&gateway, user), if has_tags { kind } else { "" });
        }
    }
}

/// Rules of the bucket go by them, whoever wrote the object.
#[tokio::test(flavor = "multi_thread")]
async fn appends_and_renames_keep_the_class_and_the_tags_of_others() {
    for (store, name, has_tags) in stores() {
        let gateway = Gateway::on(store);
        let server = gateway.store.server();
        let mut client = gateway.client().await;
        let given: &[_] = if has_tags {
            &[("keep", "7 years"), ("a", "")]
        } else {
            &[]
        };
        let wanted = if has_tags { "a= keep=7 years" } else { "" };
        for length in [10, 9 * MIB] {
            gateway.store.put("d/a", &noise(length));
            gateway.store.put("d/b", &noise(length));
            for key in ["d/a", "d/b"] {
                server.set_class_and_tags(key, Some(name), given);
            }
            let appended = client.upload("APPE d/a", b"more").await;
            assert_eq!(appended.code, 226, "{}", appended.text());
            assert_eq!(
                class(&gateway, "d/a").as_deref(),
                Some(name),
                "appended to, {length}"
            );
            assert_eq!(tags(&gateway, "d/a"), wanted);
            client.expect("RNFR d/a", 350).await;
            client.expect("RNTO d/c", 250).await;
            client.expect("RNFR d", 350).await;
            client.expect("RNTO e", 250).await;
            for key in ["e/b", "e/c"] {
                assert_eq!(
                    class(&gateway, key).as_deref(),
                    Some(name),
                    "{key}, {length}"
                );
                assert_eq!(tags(&gateway, key), wanted, "{key}");
            }
            for name in ["e/b", "e/c"] {
                client.expect(&format!("DELE {name}"), 250).await;
            }
            client.expect("RMD e", 250).await;
        }
        // One of the usual class stays so, whatever new ones are to have.
        gateway.store.put("usual", b"x");
        let other = Gateway::with(gateway.store.clone(), &[("upload.storage_class", name)]);
        let mut other = other.client().await;
        assert_eq!(other.upload("APPE usual", b"y").await.code, 226);
        assert_eq!(class(&gateway, "usual"), None);
    }
}

/// `MinIO` tells so the name of the store that it has moved an object to, and takes it from nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_class_that_nobody_can_ask_for_is_used_all_the_same() {
    for length in [1, 9 * MIB] {
        let gateway = Gateway::on(Store::s3());
        let server = gateway.store.server();
        let bytes = noise(length);
        gateway.store.put("a", &bytes);
        server.set_class_and_tags("a", Some("WARM-TIER"), &[]);
        let mut client = gateway.client().await;
        client.expect("RNFR a", 350).await;
        client.expect("RNTO b", 250).await;
        assert!(gateway.store.object("b").unwrap() == bytes);
        assert_eq!(class(&gateway, "b"), None);
        server.set_class_and_tags("b", Some("WARM-TIER"), &[]);
        let appended = client.upload("APPE b", b"more").await;
        assert_eq!(appended.code, 226, "{}", appended.text());
        assert!(gateway.store.object("b").unwrap() == [&bytes[..], b"more"].concat());
        // Nobody has asked for it, so nobody is told that it can't be. Who asks is told.
        let wanted = [
            ("upload.storage_class", "WARM-TIER"),
            ("store.retry_timeout", "100ms"),
        ];
        let other = Gateway::with(gateway.store.clone(), &wanted);
        assert_eq!(other.client().await.store("c", &bytes).await.code, 451);
        assert!(gateway.store.object("c").is_none());
    }
}

/// Some stores tell everybody that there are tags, and few may read them.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_tags_loses_them_and_no_file() {
    for store in [Store::s3(), Store::azure()] {
        let gateway = Gateway::on(store);
        let server = gateway.store.server();
        server.fail_next("GetObjectTagging", usize::MAX, 403);
        let mut client = gateway.client().await;
        gateway.store.put("d/a", b"x");
        server.set_class_and_tags("d/a", None, &[("keep", "7")]);
        assert_eq!(client.upload("APPE d/a", b"y").await.code, 226);
        server.set_class_and_tags("d/a", None, &[("keep", "7")]);
        client.expect("RNFR d/a", 350).await;
        client.expect("RNTO d/b", 250).await;
        client.expect("RNFR d", 350).await;
        client.expect("RNTO e", 250).await;
        assert_eq!(gateway.store.object("e/b").unwrap(), b"xy");
        server.heal();
        // Any other trouble is told, and nothing is lost.
        server.set_class_and_tags("e/b", None, &[("keep", "7")]);
        server.fail_next("GetObjectTagging", usize::MAX, 400);
        assert_eq!(client.begin("APPE e/b").await.1.code, 451);
        assert_eq!(gateway.store.object("e/b").unwrap(), b"xy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_an_archive_is_told_so_and_stays() {
    for (store, name) in [(Store::s3(), "DEEP_ARCHIVE"), (Store::azure(), "Archive")] {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        for length in [10, 9 * MIB] {
            gateway.store.put("a", &noise(length));
            gateway
                .store
                .server()
                .set_class_and_tags("a", Some(name), &[]);
            let got = client.retrieve("a").await.1;
            assert_eq!(got.code, 450, "{}", got.text());
            assert!(got.text().contains("archive"), "{}", got.text());
            client.expect("RNFR a", 350).await;
            let renamed = client.command("RNTO b").await;
            assert_eq!(renamed.code, 450, "{}", renamed.text());
            let (_, appended) = client.begin("APPE a").await;
            assert_eq!(appended.code, 450, "{}", appended.text());
            assert!(gateway.store.object("b").is_none());
            assert!(gateway.store.keys().contains(&"a".to_owned()));
        }
        gateway
            .wait_for(
                r#"bucketferry_transfers_total{direction="download",outcome="archived"}"#,
                2.0,
            )
            .await;
    }
}

/// What a store would lose is refused before anybody uploads.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_can_not_keep_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    for (of_gateway, of_user, words) in [
        (
            ("UPLOAD__STORAGE_CLASS", "STANDARD"),
            "",
            "upload.storage_class: found \"STANDARD\" for a memory:// store",
        ),
        (
            ("UPLOAD__TAGS", "{ a = \"b\" }"),
            "",
            "upload.tags: found tags for a memory:// store",
        ),
        (
            ("UPLOAD__OVERWRITE", "allow"),
            "tags = { a = \"b\" }",
            "user \"anna\": `tags` is tags for a memory:// store, the home",
        ),
        (
            ("UPLOAD__STORAGE_CLASS", "GLACIER"),
            "",
            "upload.storage_class: found \"GLACIER\" for a memory:// store; allowed: none there",
        ),
        (
            ("UPLOAD__OVERWRITE", "allow"),
            "storage_class = \"a b\"",
            "user \"anna\": `storage_class` is \"a b\"",
        ),
    ] {
        std::fs::write(&users, user("anna", of_user)).unwrap();
        let mut command = bucketferry();
        command.args(["check", "--store", "memory://"]);
        command.env("BUCKETFERRY_USERS__FILE", &users);
        command.env(format!("BUCKETFERRY_{}", of_gateway.0), of_gateway.1);
        let output = command.output().await.unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(!output.status.success() && told.contains(words), "{told}");
    }
}
