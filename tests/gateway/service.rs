//! The address in a 227 follows a Service of Kubernetes, whatever happens to its API server.
//!
//! Here is what a real server can't be made to do, or not in the time that a test has, and how often it is asked. The rest
//! is tried on a real one: `helm/tests/cluster/test_discovery.py`.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::ftp::Client;
use crate::support::kubernetes::{ApiServer, Ending, Fault};
use crate::support::process::{Process, bucketferry, get, run, to_serve};
use crate::support::{Memory, eventually, eventually_async};

const ONE: &str = r#"[{"ip":"203.0.113.1"}]"#;
const OTHER: &str = r#"[{"ip":"203.0.113.2"},{"ip":"2001:db8::2"}]"#;
const NAMED: &str = r#"[{"hostname":"localhost"}]"#;
const BESIDE_A_NAME: &str =
    r#"[{"ip":"203.0.113.3","hostname":"localhost"},{"hostname":"lb.invalid"}]"#;
const ONLY_IPV6: &str = r#"[{"ip":"2001:db8::2"}]"#;

const SETTINGS: [(&str, &str); 1] = [("passive.address", "service:ftp/gateway")];

/// A gateway with its log.
struct Watcher {
    gateway: Process,
    folder: TempDir,
}

impl Watcher {
    async fn start(server: &ApiServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = to_serve(bucketferry(), &Memory, &SETTINGS);
        command.env("KUBECONFIG", server.kubeconfig());
        let log = File::create(folder.path().join("log")).unwrap();
        let gateway = Process::started_with(command, Stdio::from(log)).await;
        Self { gateway, folder }
    }

    async fn client(&self) -> Client {
        Client::connect_as(self.gateway.address, "ferry", "secret").await
    }

    /// What it has logged of the address and of Kubernetes: the levels and the texts.
    fn logged(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines = log.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let [level, message, target] =
                ["level", "message", "target"].map(|field| line[field].as_str().unwrap_or("?"));
            let is_ours = target.contains("address") || !target.starts_with("bucketferry");
            is_ours.then(|| {
                format!(
                    "{level} {message}: {}",
                    line["error"].as_str().unwrap_or("")
                )
            })
        });
        lines.collect()
    }

    async fn metric(&self, series: &str) -> Option<f64> {
        let (_, metrics) = get(self.gateway.admin, "/metrics").await;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    async fn fails(&self) {
        let before = self.metric(FAILED).await;
        eventually_async("a failure", async || self.metric(FAILED).await > before).await;
    }
}

/// A gateway and a client of it that has logged in.
async fn start(server: &ApiServer) -> (Watcher, Client) {
    let gateway = Watcher::start(server).await;
    let client = gateway.client().await;
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

const KNOWN: &str = r#"bucketferry_passive_address_known{source="service:ftp/gateway"}"#;
const CURRENT: &str = r#"bucketferry_passive_address_current{source="service:ftp/gateway"}"#;
const FAILED: &str = r#"bucketferry_passive_address_lookups_total{outcome="failed"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_address_is_told_to_sessions_that_are_there() {
    let server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    follows(&mut client, "203.0.113.1").await;
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
    // A load balancer may have a name beside its address, which is not asked for, or instead.
    server.change(Some(BESIDE_A_NAME));
    follows(&mut client, "203.0.113.3").await;
    server.change(Some(NAMED));
    follows(&mut client, "127.0.0.1").await;
    assert_eq!(client.store("a.txt", b"undisturbed").await.code, 226);
    assert_eq!(gateway.metric(KNOWN).await, Some(1.0));
    assert_eq!(gateway.metric(CURRENT).await, Some(1.0));
    assert_eq!(server.others(), 0, "it asks for that one Service only");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_is_kept_when_the_service_loses_it() {
    let server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    follows(&mut client, "203.0.113.1").await;
    eventually("a watch", || server.watches() == 1).await;
    for (lost, said) in [
        (Some("[]"), "its load balancer has no address yet"),
        (
            Some(ONLY_IPV6),
            "its load balancer has no IPv4 address, and",
        ),
        (None, "there is no such Service"),
    ] {
        server.change(lost);
        let is_told = |line: &String| line.contains("the last one is kept") && line.contains(said);
        eventually(said, || gateway.logged().last().is_some_and(is_told)).await;
        assert_eq!(told(&mut client).await, "203.0.113.1");
        let known = (gateway.metric(KNOWN).await, gateway.metric(CURRENT).await);
        assert_eq!(known, (Some(1.0), Some(0.0)));
    }
    // It is made anew.
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
    assert_eq!(
        (server.gets(), server.watches()),
        (1, 1),
        "one watch tells all"
    );
    assert_eq!(gateway.metric(CURRENT).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_asked_again_and_complained_of_once() {
    let faults = [
        (Fault::WatchForbidden, "the API server forbids it"),
        (Fault::WatchGone, "the API server: 410 too old"),
        (Fault::Overloaded, "the API server: 503 too much to do"),
    ];
    let tries = faults.map(|(fault, said)| is_complained_of_once(fault, said));
    futures::future::join_all(tries).await;
}

/// At the start, and then while it runs: each kind of trouble is told once, however often it is tried
/// again, and what was missed meanwhile is learned soon after.
async fn is_complained_of_once(fault: Fault, said: &str) {
    let server = ApiServer::start(ONE);
    server.fail_by(Some(fault));
    let (gateway, mut client) = start(&server).await;
    eventually("three tries", || server.refused() >= 3).await;
    // Whoever may not watch may still look.
    let may_look = matches!(fault, Fault::WatchForbidden | Fault::WatchGone);
    let known = if may_look { "203.0.113.1" } else { "425" };
    assert_eq!(told(&mut client).await, known, "{fault:?}");
    assert_eq!(gateway.metric(CURRENT).await, Some(0.0), "{fault:?}");
    assert_eq!(complaints(&gateway.logged(), said), 1, "{fault:?}");

    server.change(Some(OTHER));
    server.fail_by(None);
    follows(&mut client, "203.0.113.2").await;
    eventually_async("no trouble", async || {
        gateway.metric(CURRENT).await == Some(1.0)
    })
    .await;
    let before = gateway.logged().len();
    server.fail_by(Some(fault));
    server.end_watches(Ending::Orderly);
    let refused = server.refused();
    eventually("two tries", || server.refused() >= refused + 2).await;
    assert_eq!(told(&mut client).await, "203.0.113.2", "{fault:?}");
    assert_eq!(
        complaints(&gateway.logged()[before..], said),
        1,
        "{fault:?}"
    );
}

/// How many of these lines complain: each of this alone.
fn complaints(logged: &[String], said: &str) -> usize {
    let complaints = logged.iter().filter(|line| !line.starts_with("INFO"));
    let is_of_this = |line: &String| assert!(line.contains(said), "{logged:#?}");
    complaints.inspect(|line| is_of_this(line)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_is_given_up_and_asked_again() {
    let server = ApiServer::start(ONE);
    server.fail_by(Some(Fault::Silent));
    let (gateway, mut client) = start(&server).await;
    gateway.fails().await;
    assert_eq!(told(&mut client).await, "425");
    assert!(gateway.logged()[0].ends_with("the API server does not answer"));
    server.fail_by(None);
    follows(&mut client, "203.0.113.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_ends_begins_anew() {
    for ending in [Ending::Orderly, Ending::Expired, Ending::Torn] {
        let server = ApiServer::start(ONE);
        let (gateway, mut client) = start(&server).await;
        follows(&mut client, "203.0.113.1").await;
        for round in 1..=4 {
            eventually("a watch", || server.watches() == round).await;
            server.end_watches(ending);
        }
        eventually("another watch", || server.watches() == 5).await;
        server.change(Some(OTHER));
        follows(&mut client, "203.0.113.2").await;
        assert_eq!(gateway.metric(FAILED).await, Some(0.0), "{ending:?}");
    }
}

/// Each is granted, and tells the address before it fails.
#[tokio::test(flavor = "multi_thread")]
async fn watches_that_fail_are_complained_of_once() {
    let server = ApiServer::start(ONE);
    let (gateway, mut client) = start(&server).await;
    for round in 1..=3 {
        eventually("a watch", || server.watches() == round).await;
        server.end_watches(Ending::Failed);
    }
    eventually("another watch", || server.watches() == 4).await;
    assert_eq!(
        gateway.metric(CURRENT).await,
        Some(0.0),
        "it may fail as well"
    );
    assert_eq!(complaints(&gateway.logged(), "500 etcd is away"), 1);
    server.change(Some(OTHER));
    follows(&mut client, "203.0.113.2").await;
    let lasts = async || gateway.metric(CURRENT).await == Some(1.0);
    eventually_async("a watch that lasts", lasts).await;
    // From then on a failure is news, and waited for no longer than a first one.
    let since = Instant::now();
    server.end_watches(Ending::Failed);
    eventually("another watch", || server.watches() == 5).await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(complaints(&gateway.logged(), "500 etcd is away"), 2);
}

/// Clients may be able to write to the home directory, and the file may name programs to run.
#[tokio::test(flavor = "multi_thread")]
async fn no_configuration_is_taken_from_the_home_directory() {
    let server = ApiServer::start(ONE);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    std::fs::copy(server.kubeconfig(), home.path().join(".kube/config")).unwrap();
    let mut command = bucketferry();
    command.args(["check", "--store", "memory://"]);
    command.env("HOME", home.path());
    command.env("BUCKETFERRY_PASSIVE__ADDRESS", "service:ftp/gateway");
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no Kubernetes to ask"), "{said}");
    assert_eq!(server.gets(), 0);
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
    server.fail_by(Some(Fault::Forbidden));
    let wrong = check().await;
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        said.contains("service:ftp/gateway: the API server forbids it"),
        "{said}"
    );
}
