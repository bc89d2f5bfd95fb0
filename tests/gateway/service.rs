//! The address in a 227 follows a Service of Kubernetes, whatever happens to its API server.

use std::time::{Duration, Instant};

use crate::support::ftp::Client;
use crate::support::kubernetes::ApiServer;
use crate::support::process::{Process, bucketferry, get, run};
use crate::support::{Store, eventually, eventually_async};

const ONE: &str = r#"[{"ip":"203.0.113.1"}]"#;
const OTHER: &str = r#"[{"ip":"203.0.113.2"},{"ip":"2001:db8::2"}]"#;
const NAMED: &str = r#"[{"hostname":"localhost"}]"#;

const SETTINGS: [(&str, &str); 2] = [
    ("passive.address", "service:ftp/gateway"),
    ("passive.refresh_interval", "1s"),
];

/// A gateway and a client of it that has logged in.
async fn start(server: &ApiServer) -> (Process, Client) {
    let mut command = bucketferry();
    command.env("KUBECONFIG", server.kubeconfig());
    let gateway = Process::serve_by(command, &Store::Memory, &SETTINGS).await;
    let client = Client::connect_as(gateway.address, "ferry", "secret").await;
    (gateway, client)
}

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

/// Waits for an address; it has to come within the five seconds that are promised.
async fn follows(client: &mut Client, address: &str) {
    let since = Instant::now();
    eventually_async(address, async || told(client).await == address).await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(5), "{address} took {took:?}");
}

async fn metric(gateway: &Process, series: &str) -> Option<f64> {
    let (_, metrics) = get(gateway.admin, "/metrics").await;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

const KNOWN: &str = r#"bucketferry_passive_address_known{source="service:ftp/gateway"}"#;
const FAILED: &str = r#"bucketferry_passive_address_lookups_total{outcome="failed"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_address_is_told_to_sessions_that_are_there() {
    let server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    follows(&mut client, "203.0.113.1").await;
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
    // A load balancer may have a name instead.
    server.change(Some(NAMED));
    follows(&mut client, "127.0.0.1").await;
    assert_eq!(client.store("a.txt", b"undisturbed").await.code, 226);
    assert_eq!(metric(&gateway, KNOWN).await, Some(1.0));
    assert_eq!(server.others(), 0, "it asks for that one Service only");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_pasv_is_425_and_epsv_works() {
    let server = ApiServer::start("[]");
    let (gateway, mut client) = start(&server).await;
    eventually_async("a failure", async || {
        metric(&gateway, FAILED).await >= Some(1.0)
    })
    .await;
    assert_eq!(told(&mut client).await, "425");
    client.epsv().await;
    assert_eq!(metric(&gateway, KNOWN).await, Some(0.0));
    // It is given one, as when a cluster is slow.
    server.change(Some(ONE));
    follows(&mut client, "203.0.113.1").await;
    // What was known is kept when the Service loses it, or is deleted.
    server.change(Some("[]"));
    server.change(None);
    let failed = metric(&gateway, FAILED).await.unwrap();
    eventually_async("a failure", async || {
        metric(&gateway, FAILED).await > Some(failed)
    })
    .await;
    assert_eq!(told(&mut client).await, "203.0.113.1");
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_asked_for_again() {
    let server = ApiServer::start(ONE);
    server.forbid(true);
    let (gateway, mut client) = start(&server).await;
    eventually_async("a failure", async || {
        metric(&gateway, FAILED).await >= Some(1.0)
    })
    .await;
    assert_eq!(told(&mut client).await, "425");
    server.forbid(false);
    follows(&mut client, "203.0.113.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_changes_nothing_until_it_is_back() {
    let mut server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    follows(&mut client, "203.0.113.1").await;
    server.stop().await;
    eventually_async("a failure", async || {
        metric(&gateway, FAILED).await >= Some(1.0)
    })
    .await;
    assert_eq!(told(&mut client).await, "203.0.113.1");
    server.change(Some(OTHER));
    server.resume();
    follows(&mut client, "203.0.113.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_watch_begins_anew() {
    let server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    follows(&mut client, "203.0.113.1").await;
    eventually("a watch", || server.watches() == 1).await;
    server.expire();
    eventually("another watch", || server.watches() == 2).await;
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
    assert!(server.gets() <= 3, "{} gets", server.gets());
    assert_eq!(metric(&gateway, FAILED).await, None, "that is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_api_server() {
    let server = ApiServer::start(ONE);
    let check = async || {
        let mut command = bucketferry();
        command.env("KUBECONFIG", server.kubeconfig());
        command.args(["check", "--store", "memory://"]);
        command.env("BUCKETFERRY_PASSIVE__ADDRESS", "service:ftp/gateway");
        run(&mut command, "").await
    };
    let fine = check().await;
    let said = String::from_utf8_lossy(&fine.stdout).into_owned();
    assert!(
        said.contains("service:ftp/gateway is 203.0.113.1."),
        "{said}"
    );
    server.forbid(true);
    let wrong = check().await;
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        said.contains("service:ftp/gateway: the API server forbids it"),
        "{said}"
    );
}
