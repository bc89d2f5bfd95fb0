//! The address in a 227: a name's, one for some networks, and none while it is not known.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use crate::support::ftp::Client;
use crate::support::process::{Process, bucketferry, get, run};
use crate::support::{Gateway, Store, eventually, eventually_async};

/// What no name server may ever answer (RFC 2606).
const NO_NAME: &str = "dns:gateway.invalid";

/// The address in the reply to `PASV`, or the code of a refusal.
async fn told(client: &mut Client) -> String {
    let reply = client.command("PASV").await;
    let text = reply.text();
    match text.split_once('(') {
        Some((_, numbers)) if reply.code == 227 => {
            let numbers: Vec<_> = numbers.split(',').take(4).collect();
            numbers.join(".")
        }
        _ => reply.code.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_in_the_background() {
    let gateway = Gateway::with(Store::folder(), &[("passive.address", "dns:localhost")]);
    gateway
        .wait_for(
            r#"bucketferry_passive_address_known{source="dns:localhost"}"#,
            1.0,
        )
        .await;
    let mut client = gateway.client().await;
    assert_eq!(told(&mut client).await, "127.0.0.1");
    assert_eq!(client.store("a.txt", b"by name").await.code, 226);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_unknown_pasv_is_425_and_epsv_works() {
    let gateway = Gateway::with(Store::folder(), &[("passive.address", NO_NAME)]);
    let mut client = gateway.client().await;
    let reply = client.expect("PASV", 425).await;
    assert!(reply.text().contains("EPSV"), "{reply:?}");
    let address = client.epsv().await;
    let mut data = crate::support::ftp::dial(None, address).await.unwrap();
    client.expect("STOR a.txt", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, b"by EPSV")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(226).await;
    let known = r#"bucketferry_passive_address_known{source="dns:gateway.invalid"}"#;
    assert!(gateway.metric(known).abs() < f64::EPSILON);
    let failed = r#"bucketferry_passive_address_lookups_total{outcome="failed"}"#;
    eventually("a look that failed", || gateway.metric(failed) >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_networks_are_told_another_address() {
    let settings = [
        ("passive.address", NO_NAME),
        (
            "passive.overrides",
            r#"{ "127.0.0.0/29" = "203.0.113.7", "127.0.0.2" = "connection" }"#,
        ),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    for (from, address) in [
        ("127.0.0.1", "203.0.113.7"),
        ("127.0.0.2", "127.0.0.1"),
        ("127.0.0.9", "425"),
    ] {
        let from: IpAddr = from.parse().unwrap();
        let mut client = Client::connect_from(from, gateway.address()).await.unwrap();
        client.expect_reply(220).await;
        client.login("ferry", "secret").await;
        assert_eq!(told(&mut client).await, address, "{from}");
    }
}

/// Rewritten in place: the process sees this very file.
fn write_hosts(hosts: &Path, lines: &str) {
    let mut file = std::fs::File::create(hosts).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// The process has an `/etc/hosts` of its own, which takes root.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_follows_its_name() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to be root");
        println!("not root: left out");
        return;
    }
    let store = Store::folder();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    write_hosts(&hosts, "203.0.113.1 ftp.test\n203.0.113.2 ftp.test\n");
    let settings = [
        ("passive.address", "dns:ftp.test"),
        ("passive.refresh_interval", "1s"),
    ];
    let gateway = Process::serve_with_hosts(&store, &settings, &hosts).await;
    let mut client = Client::connect_as(gateway.address, "ferry", "secret").await;
    let follows = async |client: &mut Client, address: &str| {
        eventually_async(address, async || told(client).await == address).await;
    };
    follows(&mut client, "203.0.113.1").await;
    // In another order, the one in use stays.
    write_hosts(&hosts, "203.0.113.2 ftp.test\n203.0.113.1 ftp.test\n");
    let answered = async |times: usize| {
        let (_, metrics) = get(gateway.admin, "/metrics").await;
        let series = r#"bucketferry_passive_address_lookups_total{outcome="answered"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(series));
        count.is_some_and(|count| count.parse::<usize>().unwrap() >= times)
    };
    eventually_async("two more looks", async || answered(4).await).await;
    assert_eq!(told(&mut client).await, "203.0.113.1");
    // What was known is kept while there is no answer.
    write_hosts(&hosts, "");
    let failed = r#"lookups_total{outcome="failed"} 1"#;
    eventually_async("a look that fails", async || {
        get(gateway.admin, "/metrics").await.1.contains(failed)
    })
    .await;
    assert_eq!(told(&mut client).await, "203.0.113.1");
    write_hosts(&hosts, "203.0.113.3 ftp.test\n");
    follows(&mut client, "203.0.113.3").await;
    // The address that the client came to is the best there is.
    write_hosts(&hosts, "203.0.113.3 ftp.test\n127.0.0.1 ftp.test\n");
    follows(&mut client, "127.0.0.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_names_up() {
    let check = async |address: &str| {
        let mut command = bucketferry();
        command.args(["check", "--store", "memory://"]);
        command.env("BUCKETFERRY_PASSIVE__ADDRESS", address);
        run(&mut command, "").await
    };
    let fine = check("dns:localhost").await;
    assert_eq!(fine.status.code(), Some(0));
    let said = String::from_utf8_lossy(&fine.stdout).into_owned();
    assert!(said.contains("dns:localhost is 127.0.0.1."), "{said}");
    let wrong = check(NO_NAME).await;
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        said.contains("passive.address: dns:gateway.invalid: "),
        "{said}"
    );
}
