//! What goes up comes down, byte for byte, on every store; and what may not go up doesn't.

use crate::support::{Gateway, MIB, Memory, Store, noise};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_all_sizes_come_back_as_they_went() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        let part = 8 * MIB;
        for size in [0, 1, 1023, MIB, part - 1, part, part + 1, 100 * MIB] {
            let bytes = noise(size);
            let reply = client.store("/file.bin", &bytes).await;
            assert_eq!(reply.code, 226, "{size}: {}", reply.text());
            assert!(
                gateway.store.object("file.bin").as_ref() == Some(&bytes),
                "{size}"
            );
            let (back, reply) = client.retrieve("/file.bin").await;
            assert_eq!(reply.code, 226);
            assert!(back == bytes, "{size}");
            assert_eq!(
                client.expect("SIZE /file.bin", 213).await.lines,
                [format!("213 {size}")]
            );
        }
        gateway.store.assert_no_leftovers();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stores_as_well() {
    let gateway = Gateway::on(Memory);
    let mut client = gateway.client().await;
    let bytes = noise(20 * MIB);
    assert_eq!(client.store("/a/b.bin", &bytes).await.code, 226);
    assert!(client.retrieve("/a/b.bin").await.0 == bytes);
    client.expect("MKD /empty", 257).await;
    assert!(client.list("NLST", "/").await.0.contains("empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_passive_and_ipv6() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.listen", "[::1]:0")]);
    let mut client = gateway.client().await;
    assert_eq!(client.store("six.txt", b"over IPv6").await.code, 226);
    assert_eq!(client.retrieve("six.txt").await.0, b"over IPv6");
    let refused = client.expect("PASV", 425).await;
    assert!(refused.text().contains("EPSV"), "{}", refused.text());
    client.expect("EPSV 1", 522).await;
    client.expect("EPSV 2", 229).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dual_stack_listener_speaks_ipv4_to_ipv4() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.listen", "[::]:0")]);
    let address = (std::net::Ipv4Addr::LOCALHOST, gateway.address().port()).into();
    let mut client = crate::support::ftp::Client::connect_as(address, "ferry", "secret").await;
    assert_eq!(client.pasv().await.ip(), std::net::Ipv4Addr::LOCALHOST);
    assert_eq!(client.store("four.txt", b"4").await.code, 226);
}

/// As somebody writes it who does not know that `[::]` is both.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_ipv4_and_all_of_ipv6_are_listened_on_together() {
    let free = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let both = format!("0.0.0.0:{port},[::]:{port}");
    let gateway = Gateway::with(Store::folder(), &[("ftp.listen", &both)]);
    for address in ["127.0.0.1", "::1"] {
        let address = (address.parse::<std::net::IpAddr>().unwrap(), port).into();
        let mut client = crate::support::ftp::Client::connect_as(address, "ferry", "secret").await;
        assert_eq!(client.store("a.txt", b"here").await.code, 226);
    }
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn epsv_all_ends_other_ways() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("EPSV ALL", 200).await;
    client.expect("PASV", 501).await;
    client.expect("PORT 127,0,0,1,4,1", 501).await;
    client.expect("EPSV", 229).await;
}

/// They are told twice: in the 150 (RFC 1123, section 4.1.2.9), and in the 226, where Perl's `Net::FTP` looks.
#[tokio::test(flavor = "multi_thread")]
async fn unique_names_never_meet() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        let mut names = std::collections::BTreeSet::new();
        for content in [b"one".as_slice(), b"two", b"three"] {
            let mut data = client.open_data().await;
            let opening = client.expect("STOU scan.pdf", 150).await;
            let opening = opening.text();
            let name = opening
                .strip_prefix("150 FILE: ")
                .expect("a name")
                .to_owned();
            tokio::io::AsyncWriteExt::write_all(&mut data, content)
                .await
                .unwrap();
            drop(data);
            let stored = client.expect_reply(226).await.text();
            let told = format!("(unique file name: {name})");
            assert!(stored.ends_with(&told), "{stored}");
            assert_eq!(gateway.store.object(&name).as_deref(), Some(content));
            names.insert(name);
        }
        assert_eq!(names.len(), 3);
        let keys: Vec<_> = names.into_iter().collect();
        assert_eq!(gateway.store.keys(), keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_can_be_forbidden() {
    for store in Store::each() {
        let gateway = Gateway::with(store, &[("upload.overwrite", "deny")]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("a.txt", b"first").await.code, 226);
        let (_, refused) = client.begin("STOR a.txt").await;
        assert_eq!(refused.code, 553, "{}", refused.text());
        let (_, refused) = client.begin("APPE a.txt").await;
        assert_eq!(refused.code, 553, "{}", refused.text());
        client.expect("REST 5", 350).await;
        let (_, refused) = client.begin("STOR a.txt").await;
        assert_eq!(refused.code, 553, "{}", refused.text());
        assert_eq!(client.store("b.txt", b"second").await.code, 226);
        client.expect("RNFR b.txt", 350).await;
        client.expect("RNTO a.txt", 553).await;
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"first");
        assert_eq!(gateway.store.object("b.txt").unwrap(), b"second");
    }
}

/// The name is taken while the upload runs: the publication itself has to refuse.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_taken_meanwhile_is_not_overwritten() {
    for size in [10, 9 * MIB] {
        for store in Store::each() {
            let gateway = Gateway::with(store, &[("upload.overwrite", "deny")]);
            let mut client = gateway.client().await;
            let mut data = client.open_data().await;
            client.expect("STOR a.txt", 150).await;
            gateway.store.put("a.txt", b"another's");
            tokio::io::AsyncWriteExt::write_all(&mut data, &noise(size))
                .await
                .unwrap();
            drop(data);
            client.expect_reply(553).await;
            assert_eq!(gateway.store.object("a.txt").unwrap(), b"another's");
            gateway.store.assert_no_leftovers();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_file_is_552_and_leaves_nothing() {
    for store in Store::each() {
        let gateway = Gateway::with(store, &[("upload.max_size", "9 MiB")]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("fits.bin", &noise(9 * MIB)).await.code, 226);
        let reply = client.store("big.bin", &noise(9 * MIB + 1)).await;
        assert_eq!(reply.code, 552, "{}", reply.text());
        assert_eq!(gateway.store.keys(), ["fits.bin"]);
        gateway.store.assert_no_leftovers();
        assert_eq!(client.store("next.bin", b"works").await.code, 226);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_say_what_they_are_and_who_sent_them() {
    let gateway = Gateway::with(Store::s3(), &[("upload.part_size", "5 MiB")]);
    let server = gateway.store.server();
    let mut client = gateway.client().await;
    for (name, size, content_type) in [
        ("scan.pdf", 10, "application/pdf"),
        ("big.csv", 6 * MIB, "text/csv"),
        ("none", 10, "application/octet-stream"),
    ] {
        assert_eq!(client.store(name, &noise(size)).await.code, 226);
        assert_eq!(server.content_type(name).as_deref(), Some(content_type));
        assert_eq!(server.metadata(name, "ftp-user").as_deref(), Some("ferry"));
        assert_eq!(server.metadata(name, "ftp-session").unwrap().len(), 16);
    }
}

/// Far more is sent at once than there is memory for: all of it arrives, and memory is kept.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_share_their_memory() {
    let settings = [("upload.memory", "20 MiB"), ("upload.part_size", "5 MiB")];
    let gateway = Gateway::with(Store::s3(), &settings);
    let address = gateway.address();
    let mut clients = tokio::task::JoinSet::new();
    for index in 0..30 {
        clients.spawn(async move {
            let mut client =
                crate::support::ftp::Client::connect_as(address, "ferry", "secret").await;
            client.set_deadline(std::time::Duration::from_mins(1));
            let reply = client
                .store(&format!("{index}.bin"), &noise(6 * MIB + index))
                .await;
            assert_eq!(reply.code, 226, "{}", reply.text());
        });
    }
    let mut most = 0.0_f64;
    while !clients.is_empty() {
        most = most.max(gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#));
        let pause = std::time::Duration::from_millis(2);
        if let Ok(Some(ended)) = tokio::time::timeout(pause, clients.join_next()).await {
            ended.unwrap();
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let budget = (20 * MIB) as f64;
    assert!(most > budget / 2.0, "it was hardly used: {most}");
    assert!(most <= budget, "{most}");
    for index in 0..30 {
        let object = gateway.store.object(&format!("{index}.bin"));
        assert!(object.unwrap() == noise(6 * MIB + index));
    }
    assert!(
        gateway
            .metric(r#"bucketferry_memory_bytes{use="uploads"}"#)
            .abs()
            < f64::EPSILON
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_user_win_over_those_of_all() {
    let users = format!(
        "[[user]]\nname = \"small\"\npassword_hash = {0:?}\nmax_size = \"4 B\"\noverwrite = \"deny\"\n\
         [[user]]\nname = \"ferry\"\npassword_hash = {0:?}\n",
        bucketferry::auth::hash_password("secret").unwrap()
    );
    let gateway = Gateway::for_users(Store::folder(), &users, &[("upload.max_size", "8 B")]);
    let mut small =
        crate::support::ftp::Client::connect_as(gateway.address(), "small", "secret").await;
    assert_eq!(small.store("a", b"1234").await.code, 226);
    assert_eq!(small.store("b", b"12345").await.code, 552);
    assert_eq!(small.begin("STOR a").await.1.code, 553);
    let mut other = gateway.client().await;
    assert_eq!(other.store("a", b"12345678").await.code, 226);
    assert_eq!(other.store("a", b"123456789").await.code, 552);
    assert_eq!(gateway.store.object("a").unwrap(), b"12345678");
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_sizes_are_held_where_asked_for() {
    let gateway = Gateway::with(Store::folder(), &[("upload.check_allo", "true")]);
    let mut client = gateway.client().await;
    client.expect("ALLO 5", 200).await;
    assert_eq!(client.store("a", b"12345").await.code, 226);
    client.expect("ALLO 5", 200).await;
    let reply = client.store("b", b"1234").await;
    assert_eq!(reply.code, 451, "{}", reply.text());
    assert_eq!(
        client
            .store("c", b"the announcement counted once")
            .await
            .code,
        226
    );
    assert_eq!(gateway.store.keys(), ["a", "c"]);

    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("ALLO 5", 200).await;
    assert_eq!(client.store("b", b"1234").await.code, 226);
    client.expect("ALLO many", 501).await;
}

/// Some clients announce the whole file before they send the rest of it, some the rest.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_may_be_announced_as_a_whole() {
    for store in Store::each() {
        let gateway = Gateway::with(store, &[("upload.check_allo", "true")]);
        let mut client = gateway.client().await;
        for announced in [10, 4] {
            for restart in [true, false] {
                gateway.store.put("a", b"123456");
                client.expect(&format!("ALLO {announced}"), 200).await;
                let command = if restart { "STOR a" } else { "APPE a" };
                if restart {
                    client.expect("REST 6", 350).await;
                }
                assert_eq!(client.upload(command, b"7890").await.code, 226);
                assert_eq!(gateway.store.object("a").unwrap(), b"1234567890");
            }
        }
        gateway.store.put("a", b"123456");
        for announced in [3, 6, 9, 11] {
            client.expect(&format!("ALLO {announced}"), 200).await;
            assert_eq!(client.upload("APPE a", b"7890").await.code, 451);
        }
        assert_eq!(gateway.store.object("a").unwrap(), b"123456");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_range_is_used_up_before_425() {
    // Below those that the kernel hands out by itself.
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = rand::random_range(20_000..29_000);
    let mut neighbours = start..30_000;
    let first = neighbours
        .find(|port| free(*port) && free(port + 1))
        .unwrap();
    let range = format!("{first}-{}", first + 1);
    let gateway = Gateway::with(Store::folder(), &[("passive.ports", &range)]);
    let mut clients = [
        gateway.client().await,
        gateway.client().await,
        gateway.client().await,
    ];
    let [one, two, three] = &mut clients;
    let ports = [one.pasv().await.port(), two.pasv().await.port()];
    assert!(
        ports.contains(&first) && ports.contains(&(first + 1)),
        "{ports:?}"
    );
    three.expect("PASV", 425).await;
    assert!((gateway.metric("bucketferry_passive_ports_in_use") - 2.0).abs() < f64::EPSILON);
    gateway
        .wait_for("bucketferry_passive_ports_exhausted_total", 1.0)
        .await;
    assert_eq!(one.store("a", b"frees its port").await.code, 226);
    three.expect("PASV", 227).await;
}

/// A port is busy until its client is there, not until the transfer ends.
#[tokio::test(flavor = "multi_thread")]
async fn running_transfers_hold_no_passive_port() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let data = client.open_data().await;
    client.expect("STOR a.txt", 150).await;
    assert!(gateway.metric("bucketferry_passive_ports_in_use").abs() < f64::EPSILON);
    drop(data);
    client.expect_reply(226).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passive_port_that_nobody_uses_is_freed() {
    let settings = [("passive.accept_timeout", "100ms")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    client.pasv().await;
    gateway
        .wait_for("bucketferry_passive_ports_in_use", 1.0)
        .await;
    gateway
        .wait_for("bucketferry_passive_ports_in_use", 0.0)
        .await;
    client.expect("STOR a.txt", 425).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_passive_port_gets_nothing_and_gives_nothing() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let port = client.pasv().await;
    let thief = Some("127.0.0.2".parse().unwrap());
    let mut thief = crate::support::ftp::dial(thief, port).await.unwrap();
    let mut data = crate::support::ftp::dial(None, port).await.unwrap();
    client.expect("STOR a.txt", 150).await;
    let _ = tokio::io::AsyncWriteExt::write_all(&mut thief, b"evil").await;
    tokio::io::AsyncWriteExt::write_all(&mut data, b"good")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(226).await;
    assert_eq!(gateway.store.object("a.txt").unwrap(), b"good");
    assert!(
        (gateway.metric("bucketferry_data_connections_refused_total") - 1.0).abs() < f64::EPSILON
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_networks_may_carry_the_data() {
    let settings = [("passive.trusted_networks", "127.0.0.2/32")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    let port = client.pasv().await;
    let trusted = Some("127.0.0.2".parse().unwrap());
    let mut data = crate::support::ftp::dial(trusted, port).await.unwrap();
    client.expect("STOR a.txt", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, b"good")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(226).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_address_is_advertised() {
    let gateway = Gateway::with(Store::folder(), &[("passive.address", "203.0.113.7")]);
    let mut client = gateway.client().await;
    assert_eq!(client.pasv().await.ip().to_string(), "203.0.113.7");
}
