//! Listings: what they tell, how much they may be, and what they leave out.

use doubles::{Fault, Strike};

use crate::support::{Gateway, Store};

#[tokio::test(flavor = "multi_thread")]
async fn listings_tell_what_is_there() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        gateway.store.put("a.txt", b"12345");
        gateway.store.put("sub/b.txt", b"1");
        let mut client = gateway.client().await;
        let (long, _) = client.list("LIST", "-la").await;
        let lines: Vec<_> = long.lines().collect();
        assert_eq!(lines.len(), 2, "{long}");
        assert!(
            lines[0].starts_with("-rw") && lines[0].ends_with(" a.txt"),
            "{long}"
        );
        assert!(lines[0].contains(" 5 "), "{long}");
        assert!(
            lines[1].starts_with('d') && lines[1].ends_with(" sub"),
            "{long}"
        );
        let (facts, _) = client.list("MLSD", "/").await;
        assert!(facts.contains("type=file;size=5;modify="), "{facts}");
        assert!(facts.contains("type=dir;"), "{facts}");
        assert!(facts.contains("perm=cdeflmp;unique="), "{facts}");
        assert_eq!(client.list("NLST", "-1").await.0, "a.txt\r\nsub\r\n");
        assert_eq!(client.list("NLST", "sub").await.0, "sub/b.txt\r\n");
        assert_eq!(client.list("LIST", "a.txt").await.0.lines().count(), 1);
        let (_, reply) = client.begin("MLSD a.txt").await;
        assert_eq!(reply.code, 550);
        let mlst = client.expect("MLST a.txt", 250).await;
        assert!(
            mlst.lines[1].starts_with(" type=file;size=5;modify="),
            "{mlst:?}"
        );
        assert!(mlst.lines[1].ends_with("; /a.txt"), "{mlst:?}");
        let stat = client.expect("STAT sub", 213).await;
        assert!(stat.text().contains("b.txt"), "{stat:?}");
        assert_eq!(
            client.expect("MDTM a.txt", 213).await.text().len(),
            "213 20260102030405".len()
        );
        client.expect("SIZE sub", 550).await;
        client.expect("MDTM sub", 550).await;
    }
}

/// RFC 3659 knows no options of `MLSD` and `MLST`; `LIST` and the others have those of `ls`.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_dash_is_no_option_of_mlsd_and_mlst() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.put("-old/a.txt", b"x");
    gateway.store.put("-x", b"12345");
    let mut client = gateway.client().await;
    let (facts, reply) = client.list("MLSD", "-old").await;
    assert_eq!(facts.lines().count(), 1, "{}", reply.text());
    assert!(facts.ends_with("; a.txt\r\n"), "{facts}");
    let (_, reply) = client.begin("MLSD -none").await;
    assert_eq!(reply.code, 550);
    let facts = client.expect("MLST -x", 250).await;
    assert!(facts.text().contains("size=5;"), "{facts:?}");
    client.expect("MLST -la", 550).await;
    for command in ["LIST", "NLST"] {
        assert_eq!(client.list(command, "-old").await.0.lines().count(), 2);
    }
    assert!(client.expect("STAT -old", 213).await.text().contains("-x"));
}

/// What NLST says can be used as it is (RFC 1123, section 4.1.2.7).
#[tokio::test(flavor = "multi_thread")]
async fn names_lead_to_their_files() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        gateway.store.put("a/b/c.txt", b"x");
        let mut client = gateway.client().await;
        for (argument, expected) in [
            ("", "a\r\n"),
            ("a/b", "a/b/c.txt\r\n"),
            ("a/b/", "a/b/c.txt\r\n"),
            ("/a/b", "/a/b/c.txt\r\n"),
            ("./a/b", "./a/b/c.txt\r\n"),
            ("a/b/c.txt", "a/b/c.txt\r\n"),
            ("a/b/*.txt", "a/b/c.txt\r\n"),
            ("*", "a\r\n"),
        ] {
            let (names, reply) = client.list("NLST", argument).await;
            assert_eq!(names, expected, "{argument}: {}", reply.text());
        }
        client.expect("CWD a", 250).await;
        let (names, _) = client.list("NLST", "b").await;
        assert_eq!(client.retrieve(names.trim()).await.0, b"x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_choose_among_names() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        for name in ["a.csv", "b.csv", "c.txt", "[x].csv", "in/d.csv"] {
            gateway.store.put(name, b"x");
        }
        let mut client = gateway.client().await;
        assert_eq!(client.list("NLST", "?.csv").await.0, "a.csv\r\nb.csv\r\n");
        assert_eq!(client.list("NLST", "in/*.csv").await.0, "in/d.csv\r\n");
        assert_eq!(client.list("NLST", "[ac].*").await.0, "a.csv\r\nc.txt\r\n");
        assert_eq!(
            client.list("NLST", "[x].csv").await.0,
            "[x].csv\r\n",
            "a name before a pattern"
        );
        assert_eq!(client.list("LIST", "-l *.txt").await.0.lines().count(), 1);
        for command in ["NLST *.pdf", "LIST none/*", "MLSD *.csv"] {
            let (_, reply) = client.begin(command).await;
            assert_eq!(reply.code, 550, "{command}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_are_one_listing() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        for index in 0..2500 {
            gateway.store.put(&format!("d/{index:04}"), b"");
        }
        let mut client = gateway.client().await;
        let (names, _) = client.list("NLST", "d").await;
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        let expected: Vec<_> = (0..2500).map(|index| format!("d/{index:04}")).collect();
        assert_eq!(names, expected);
        assert_eq!(client.list("MLSD", "d").await.0.lines().count(), 2500);
        if let Store::Bucket(server) = &gateway.store {
            server.forget_requests();
            client.list("LIST", "d").await;
            assert_eq!(
                server.count("ListObjectsV2"),
                3,
                "three pages, three requests"
            );
        }
    }
}

/// The reply has begun with 213, and must not end with it: a client would take what it has for the whole. One that waits
/// for a last line with 213 sees the connection close, one that takes any code sees a 421.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_breaks_off_ends_with_421() {
    let settings = [
        ("store.probe_interval", "1h"),
        ("limits.listing_memory", "8 MiB"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    for index in 0..2500 {
        gateway.store.put(&format!("d/{index:04}"), b"");
    }
    let mut client = gateway.client().await;
    assert_eq!(client.expect("STAT d", 213).await.lines.len(), 2502);
    let server = gateway.store.server();
    for status in [403, 500] {
        // The first page is there, the second is not.
        let strikes = (1..100).map(|nth| Strike {
            operation: "ListObjectsV2",
            nth,
            fault: Fault::Refuse(status),
        });
        server.heal();
        server.strike(strikes.collect());
        client.send("STAT d").await;
        let said = client.rest().await;
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].starts_with("213-"), "{}", lines[0]);
        assert_eq!(lines.len(), 1002);
        let last = lines[1001];
        assert!(last.starts_with("421 The listing broke off"), "{last}");
        assert!(!lines.iter().any(|line| line.starts_with("213 ")));
        // Others find the memory of the page free.
        server.heal();
        client = gateway.client().await;
        assert_eq!(client.expect("STAT d", 213).await.lines.len(), 2502);
    }
}

/// It goes over the control connection, so it is no more than that takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_cut_says_so_at_its_end() {
    let gateway = Gateway::on(Store::s3());
    for index in 0..5000 {
        gateway.store.put(&format!("d/{index:04}"), b"");
    }
    let mut client = gateway.client().await;
    let whole = client.expect("STAT d", 213).await;
    assert_eq!(
        (whole.lines.len(), whole.lines[5001].as_str()),
        (5002, "213 End")
    );
    gateway.store.put("d/5000", b"");
    let cut = client.expect("STAT d", 213).await;
    assert_eq!(cut.lines.len(), 5002);
    assert_eq!(
        cut.lines[5001],
        "213 These are the first 5000, LIST has all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_choose_their_facts() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a.txt", b"12345");
    let mut client = gateway.client().await;
    let features = client.expect("FEAT", 211).await.text();
    assert!(
        features.contains("MLST type*;size*;modify*;perm*;unique*;"),
        "{features}"
    );
    let chosen = client.expect("OPTS MLST size;type;unknown;", 200).await;
    assert_eq!(chosen.text(), "200 MLST OPTS type;size;");
    assert_eq!(
        client.list("MLSD", "").await.0,
        "type=file;size=5; a.txt\r\n"
    );
    assert_eq!(
        client.expect("MLST a.txt", 250).await.lines[1],
        " type=file;size=5; /a.txt"
    );
    assert_eq!(
        client.expect("OPTS MLST", 200).await.text(),
        "200 MLST OPTS"
    );
    assert_eq!(client.list("MLSD", "").await.0, " a.txt\r\n");
    let features = client.expect("FEAT", 211).await.text();
    assert!(
        features.contains("MLST type;size;modify;perm;unique;"),
        "{features}"
    );
}

/// Real buckets hold keys that no path can name. They hide nothing, and can't speak to the client.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_path_can_name_are_left_out() {
    for store in [Store::s3(), Store::google()] {
        odd_keys(store).await;
    }
}

async fn odd_keys(store: Store) {
    let gateway = Gateway::on(store);
    for key in [
        "d/a.txt",
        "d//empty",
        "d/../up",
        "d/./dot",
        "d/a\r\n226 forged",
        "d/\u{1b}[2J",
    ] {
        gateway.store.put(key, b"x");
    }
    gateway.store.put("d/", b"");
    let mut client = gateway.client().await;
    for command in ["NLST d", "LIST d", "MLSD d"] {
        let (listing, reply) = client.download(command).await;
        let listing = String::from_utf8(listing).unwrap();
        assert_eq!(reply.code, 226, "{command}: {}", reply.text());
        assert_eq!(listing.lines().count(), 1, "{command}: {listing}");
        assert!(listing.ends_with("a.txt\r\n"), "{command}: {listing}");
    }
    assert!(gateway.metric(r#"bucketferry_store_keys_hidden_total{store="default"}"#) >= 5.0);
    client.expect("CWD d", 250).await;
    client.expect("RMD /d", 550).await;
    client.expect("RNFR /d", 350).await;
    let refused = client.expect("RNTO /e", 553).await;
    assert!(refused.text().contains("can't show"), "{}", refused.text());
    assert_eq!(gateway.store.keys().len(), 7, "nothing was moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_hides_what_is_the_gateways_own() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a.txt", b"x");
    gateway.store.put(".bucketferry/stages/0123", b"half");
    std::os::unix::fs::symlink("nowhere", gateway.store.path().join("broken")).unwrap();
    let mut client = gateway.client().await;
    assert_eq!(client.list("NLST", "").await.0, "a.txt\r\n");
}
