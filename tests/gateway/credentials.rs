//! The gateway's own credentials: they expire, files change, and servers that give new ones fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::ftp::Client;
use crate::support::identity::{Answer, Identity};
use crate::support::process::{Process, bucketferry, get, to_serve};
use crate::support::tls::Authority;
use crate::support::{Gateway, MIB, Store, Target, noise};

/// How a gateway in a cloud gets credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// EKS Pod Identity: an agent, and a token in a file.
    Pod,
    /// The metadata service of an instance on AWS.
    Instance,
    /// The metadata service of an instance on Azure.
    Managed,
    /// AKS: a token in a file, for which Entra gives another.
    Workload,
}

const WAYS: [Way; 4] = [Way::Pod, Way::Instance, Way::Managed, Way::Workload];

impl Way {
    fn is_azure(self) -> bool {
        matches!(self, Self::Managed | Self::Workload)
    }
}

/// A store with no credentials but those of a server.
struct Roaming {
    store: Store,
    way: Way,
    identity: Arc<Identity>,
    folder: TempDir,
}

impl Target for Roaming {
    fn settings(&self) -> Vec<(String, String)> {
        let token = self.folder.path().join("token");
        std::fs::write(&token, "pod-token").unwrap();
        let (url, token) = (self.identity.url(), token.display().to_string());
        let own = match self.way {
            Way::Pod => vec![
                (
                    "aws_container_credentials_full_uri",
                    format!("{url}/v1/credentials"),
                ),
                ("aws_container_authorization_token_file", token),
            ],
            Way::Instance => vec![("aws_metadata_endpoint", url)],
            Way::Managed => vec![("azure_msi_endpoint", format!("{url}/credentials"))],
            Way::Workload => vec![
                ("azure_client_id", "client".to_owned()),
                ("azure_tenant_id", "credentials".to_owned()),
                ("azure_federated_token_file", token),
                ("azure_authority_host", url),
            ],
        };
        let own = own.into_iter();
        let own = own.map(|(name, value)| (format!("store.options.{name}"), value));
        keyless(&self.store).into_iter().chain(own).collect()
    }
}

/// The settings of a store without its keys.
fn keyless(store: &Store) -> Vec<(String, String)> {
    let settings = store.settings().into_iter();
    settings
        .filter(|(name, _)| {
            let keys = ["access_key", "account_key", "bearer_token"];
            !keys.iter().any(|key| name.contains(key))
        })
        .collect()
}

/// What the server says: a new key each time, which is good for one time and said to be good for another.
fn keys(
    store: &Store,
    way: Way,
    good_for: Duration,
    said: TimeDelta,
) -> impl FnMut(&str) -> Answer + Send + use<> {
    let (store, given) = (store.clone(), AtomicUsize::new(0));
    move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path == "/latest/api/token" {
            return Answer::Says(200, "session".to_owned());
        }
        if path.ends_with("/security-credentials/") {
            return Answer::Says(200, "role".to_owned());
        }
        let number = given.fetch_add(1, Ordering::Relaxed);
        let (name, secret) = (format!("TEMPORARY{number}"), format!("secret{number}"));
        store.server().give_out_key(&name, &secret, good_for);
        let until = Utc::now() + said;
        let seconds = said.num_seconds().max(0);
        Answer::Says(
            200,
            if way.is_azure() {
                format!(
                    r#"{{"access_token":"{name}","expires_in":{seconds},"expires_on":"{}"}}"#,
                    until.timestamp()
                )
            } else {
                let until = until.to_rfc3339();
                format!(
                    r#"{{"AccessKeyId":"{name}","SecretAccessKey":"{secret}","Token":"t","Expiration":"{until}"}}"#
                )
            },
        )
    }
}

fn roaming(way: Way, good_for: Duration, said: TimeDelta) -> Roaming {
    let store = if way.is_azure() {
        Store::azure()
    } else {
        Store::s3()
    };
    let identity = Identity::start(keys(&store, way, good_for, said));
    Roaming {
        store,
        way,
        identity: Arc::new(identity),
        folder: tempfile::tempdir().unwrap(),
    }
}

const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_during_an_upload_are_renewed() {
    let pause = Duration::from_millis(800);
    let each = WAYS.map(|way| uploads_while_credentials_expire(way, 32 * MIB, pause));
    join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; .ci/run asks for it"]
async fn credentials_that_expire_during_a_large_upload_are_renewed() {
    let pause = Duration::from_millis(40);
    uploads_while_credentials_expire(Way::Pod, 1024 * MIB, pause).await;
}

async fn uploads_while_credentials_expire(way: Way, length: usize, pause: Duration) {
    let target = roaming(way, Duration::from_secs(5), TimeDelta::seconds(5));
    let (store, identity) = (target.store.clone(), Arc::clone(&target.identity));
    let gateway = Gateway::with(target, &[("upload.part_size", "5 MiB")]);
    let mut client = gateway.client().await;
    let bytes = noise(length);
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    for piece in bytes.chunks(4 * MIB) {
        data.write_all(piece).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    drop(data);
    client.expect_reply(226).await;
    assert!(store.object("a.bin").unwrap() == bytes);
    let asked = identity.requests();
    let given = asked.iter().filter(|it| it.contains("credentials")).count();
    assert!(given >= 3, "{given}");
    if matches!(way, Way::Pod | Way::Workload) {
        assert!(asked[0].contains("pod-token"), "{}", asked[0]);
    }
}

/// A clock that is behind takes them for good for longer than they are. One that is ahead takes new ones for expired.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_renewed_although_the_clock_is_an_hour_off() {
    let clocks = [TimeDelta::hours(-1), TimeDelta::hours(2)];
    let firsts = ["SIZE a", "RETR a", "APPE a", "STOR b"];
    let ways = WAYS.into_iter();
    let each = ways.flat_map(|way| clocks.map(|said| (way, said)));
    for (way, said) in each {
        join_all(firsts.map(|first| uses_what_has_expired(way, said, first))).await;
    }
}

async fn uses_what_has_expired(way: Way, said: TimeDelta, first: &str) {
    let target = roaming(way, LONG, said);
    let store = target.store.clone();
    let gateway = Gateway::with(target, &[]);
    let mut client = gateway.client().await;
    assert_eq!(client.store("a", b"x").await.code, 226);
    store.server().end_keys(false);
    let (data, mut reply) = client.begin(first).await;
    drop(data);
    if reply.is_preliminary() {
        reply = client.reply().await;
    }
    let is_done = reply.code == 226 || reply.code == 213;
    assert!(is_done, "{way:?} {first}: {}", reply.text());
    assert_eq!(client.store("c", &noise(9 * MIB)).await.code, 226);
}

/// Nothing of what such a server says is taken for what the store says.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_credentials_is_told_as_that() {
    let answers: [fn(&str) -> Answer; 5] = [
        |_| Answer::Says(403, "<Error><Code>AccessDenied</Code></Error>".to_owned()),
        |_| Answer::Says(404, "<Error><Code>NoSuchKey</Code></Error>".to_owned()),
        |_| Answer::Says(500, String::new()),
        |_| Answer::Says(200, "{}".to_owned()),
        |_| Answer::Nothing,
    ];
    let answers = answers.into_iter().enumerate();
    let each = answers
        .flat_map(|(number, answer)| [Way::Pod, Way::Workload].map(|way| (number, answer, way)));
    join_all(each.map(tells_trouble)).await;
}

async fn tells_trouble((number, answer, way): (usize, fn(&str) -> Answer, Way)) {
    let target = roaming(way, LONG, TimeDelta::hours(1));
    let (store, identity) = (target.store.clone(), Arc::clone(&target.identity));
    identity.follow(answer);
    let settings = [
        ("store.retry_timeout", "200ms"),
        ("store.request_timeout", "400ms"),
        ("store.probe_interval", "100ms"),
    ];
    store.put("there.txt", b"x");
    let gateway = Gateway::with(target, &settings);
    let mut client = gateway.client().await;
    for command in ["STOR a.txt", "RETR there.txt", "APPE there.txt", "LIST"] {
        let (data, mut reply) = client.begin(command).await;
        drop(data);
        if reply.is_preliminary() {
            reply = client.reply().await;
        }
        assert_eq!(reply.code, 451, "{number} {command}: {}", reply.text());
        assert!(
            reply.text().contains("credentials"),
            "{number} {command}: {}",
            reply.text()
        );
    }
    for command in [
        "SIZE there.txt",
        "DELE there.txt",
        "RNFR there.txt",
        "MKD d",
        "CWD d",
    ] {
        let reply = client.command(command).await;
        let is_told = (450..=451).contains(&reply.code) && reply.text().contains("credentials");
        assert!(is_told, "{number} {command}: {}", reply.text());
    }
    let outcome = r#"bucketferry_transfers_total{direction="upload",outcome="store_credentials"}"#;
    gateway.wait_for(outcome, 2.0).await;
    assert_eq!(store.keys(), ["there.txt"]);
    identity.follow(keys(&store, way, LONG, TimeDelta::hours(1)));
    crate::support::eventually_async("credentials again", async || {
        client.store("a.txt", b"x").await.code == 226
    })
    .await;
}

/// They are asked for minutes before they expire. Until then the old ones will do.
#[tokio::test(flavor = "multi_thread")]
async fn old_credentials_are_used_while_no_new_ones_are_to_be_had() {
    for way in WAYS {
        let target = roaming(way, LONG, TimeDelta::minutes(4));
        let identity = Arc::clone(&target.identity);
        let gateway = Gateway::with(target, &[("store.retry_timeout", "200ms")]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("a", b"x").await.code, 226);
        let before = identity.requests().len();
        identity.follow(|_| Answer::Says(404, String::new()));
        for number in 0..50 {
            let stored = client.store(&format!("b{number}"), b"x").await;
            assert_eq!(stored.code, 226, "{way:?}: {}", stored.text());
        }
        let asked = identity.requests().len() - before;
        assert!(asked < 20, "{way:?}: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_credentials_is_read_again_when_it_changes() {
    struct Filed(Store, TempDir);
    impl Target for Filed {
        fn settings(&self) -> Vec<(String, String)> {
            let option =
                |name: &str, value: &str| (format!("store.options.{name}"), value.to_owned());
            let file = self.1.path().join("credentials").display().to_string();
            let own = [
                option("aws_shared_credentials_file", &file),
                option("aws_profile", "ftp"),
                // What a pod has besides is not meant: nobody answers there.
                option("aws_container_credentials_full_uri", "http://127.0.0.1:1"),
                option("aws_container_authorization_token_file", &file),
            ];
            keyless(&self.0).into_iter().chain(own).collect()
        }
    }
    for forgotten in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (Store::s3(), folder.path().join("credentials"));
        let give = |name: &str| {
            store.server().give_out_key(name, "a/b+c\\d", LONG);
            let text =
                format!("[ftp]\naws_access_key_id = {name}\naws_secret_access_key = a/b+c\\d\n");
            std::fs::write(&file, text).unwrap();
        };
        give("FIRST");
        let gateway = Gateway::with(Filed(store.clone(), folder), &[]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("a", b"x").await.code, 226);
        store.server().end_keys(forgotten);
        give("SECONDKEY");
        let stored = client.store("b", b"x").await;
        assert_eq!(stored.code, 226, "{}", stored.text());
        // What is half written keeps the old ones.
        std::fs::write(&file, "[ftp]\naws_access_key_id = ").unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(client.store("c", b"x").await.code, 226);
    }
}

/// What the library takes from the environment alone, or over TLS alone, takes a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn roles_of_service_accounts_and_googles_metadata_are_asked_for_credentials() {
    let google = Store::google();
    let metadata = Identity::start(tokens_of_google(&google));
    let mut command = bucketferry();
    let host = metadata.url().replace("http://", "");
    command.env("GCE_METADATA_HOST", &host);
    command.env("GCE_METADATA_IP", &host);
    let target = Plain(keyless(&google));
    renews(command, &target, &google, &metadata).await;

    let (s3, authority, folder) = (Store::s3(), Authority::new(), tempfile::tempdir().unwrap());
    let sts = Identity::start_over_tls(&authority, roles_of_aws(&s3));
    let token = folder.path().join("token");
    std::fs::write(&token, "pod-token").unwrap();
    let mut command = bucketferry();
    command.env("SSL_CERT_FILE", authority.path("ca.pem"));
    let option = |name: &str, value: String| (format!("store.options.{name}"), value);
    let own = [
        option("aws_web_identity_token_file", token.display().to_string()),
        option("aws_role_arn", "arn:aws:iam::1:role/ftp".to_owned()),
        option("aws_endpoint_url_sts", sts.url()),
    ];
    let target = Plain(keyless(&s3).into_iter().chain(own).collect());
    renews(command, &target, &s3, &sts).await;
    assert!(sts.requests()[0].contains("WebIdentityToken=pod-token"));
}

struct Plain(Vec<(String, String)>);

impl Target for Plain {
    fn settings(&self) -> Vec<(String, String)> {
        self.0.clone()
    }
}

async fn renews(command: Command, target: &Plain, store: &Store, identity: &Identity) {
    let settings = [
        ("store.retry_timeout", "5s"),
        ("store.probe_interval", "100ms"),
        ("admin.ready_needs_store", "always"),
    ];
    let process = Process::started(to_serve(command, target, &settings)).await;
    let mut client = Client::connect_as(process.address, "ferry", "secret").await;
    let stored = client.store("a", b"x").await;
    assert_eq!(stored.code, 226, "{}", stored.text());
    store.server().end_keys(false);
    let stored = client.store("b", b"x").await;
    assert_eq!(stored.code, 226, "{}", stored.text());
    identity.follow(|_| Answer::Says(403, "<Error><Code>AccessDenied</Code></Error>".to_owned()));
    store.server().end_keys(false);
    let refused = client.store("c", b"x").await;
    assert_eq!(refused.code, 451, "{}", refused.text());
    assert!(refused.text().contains("credentials"), "{}", refused.text());
    crate::support::eventually_async("a word of it", async || {
        let (status, body) = get(process.admin, "/readyz").await;
        status == 503 && body.contains("credentials")
    })
    .await;
}

fn tokens_of_google(store: &Store) -> impl FnMut(&str) -> Answer + Send + use<> {
    let (store, given) = (store.clone(), AtomicUsize::new(0));
    move |_| {
        let name = format!("TOKEN{}", given.fetch_add(1, Ordering::Relaxed));
        store.server().give_out_key(&name, "", LONG);
        let answer =
            format!(r#"{{"access_token":"{name}","expires_in":3600,"token_type":"Bearer"}}"#);
        Answer::Says(200, answer)
    }
}

fn roles_of_aws(store: &Store) -> impl FnMut(&str) -> Answer + Send + use<> {
    let (store, given) = (store.clone(), AtomicUsize::new(0));
    move |_| {
        let name = format!("ROLE{}", given.fetch_add(1, Ordering::Relaxed));
        store.server().give_out_key(&name, "secret", LONG);
        let until = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
        Answer::Says(
            200,
            format!(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>{name}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
                 <SessionToken>t</SessionToken><Expiration>{until}</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ),
        )
    }
}

/// A developer's machine may have one that leads to a role; tests must not use it.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_without_keys_stops_only_who_names_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".aws")).unwrap();
    let profile = "[default]\nrole_arn = arn:aws:iam::1:role/ftp\n";
    std::fs::write(folder.path().join(".aws/credentials"), profile).unwrap();
    for (named, starts) in [(false, true), (true, false)] {
        let mut command = bucketferry();
        command.args(["check", "--offline", "--store", "s3://bucket"]);
        command.env("HOME", folder.path());
        if named {
            command.env("BUCKETFERRY_STORE__OPTIONS__AWS_PROFILE", "default");
        }
        let output = command.output().await.unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(output.status.success(), starts, "{told}");
        assert_eq!(told.contains("nothing else is taken"), named, "{told}");
    }
}
