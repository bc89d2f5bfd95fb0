//! A long-lived task that panics begins again, or the process drains and ends with a failure. None dies silently.
//!
//! The binaries of tests let a task panic when a file of its name appears in the folder `BUCKETFERRY_PANICS`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::ftp::Client;
use crate::support::process::{bucketferry, get};
use crate::support::tls::Authority;
use crate::support::{MIB, Store, Target, eventually, eventually_async, noise, variable};

/// A user `anna` with the password `x`, by bcrypt at its lowest cost.
const ANNA: &str = "[[user]]\nname = \"anna\"\n\
    password_hash = \"$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m\"\n";

/// All that begin again, but for those that work only while uploads have or want much memory.
const ALWAYS: [&str; 8] = [
    "address",
    "admin",
    "drain",
    "log_summaries",
    "probe",
    "sweep",
    "tls",
    "users",
];

/// A gateway with a users file and TLS whose tasks can be had to panic.
struct Trial {
    child: Child,
    folder: tempfile::TempDir,
    authority: Authority,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Trial {
    async fn start(store: &Store, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::create_dir(folder.path().join("panics")).unwrap();
        std::fs::write(folder.path().join("users.toml"), ANNA).unwrap();
        let users = folder.path().join("users.toml").display().to_string();
        let own = [
            ("ftp.listen", "127.0.0.1:0"),
            ("admin.listen", "127.0.0.1:0"),
            ("passive.ports", "0"),
            ("users.file", users.as_str()),
            ("users.reload_interval", "50ms"),
            ("passive.address", "dns:localhost"),
        ];
        let of_tls = authority.settings(&[settings, &own].concat());
        let mut command = bucketferry();
        command.arg("serve");
        command.envs(store.settings().into_iter().chain(of_tls).map(variable));
        let (child, [address, admin]) = serving(command, &folder).await;
        Self {
            child,
            folder,
            authority,
            address,
            admin,
        }
    }

    async fn client(&self) -> Client {
        Client::connect_as(self.address, "anna", "x").await
    }

    fn order(&self, task: &str) -> PathBuf {
        self.folder.path().join("panics").join(task)
    }

    /// Has a task panic, and waits until it does: it is there.
    async fn panic(&self, task: &str) {
        let order = self.order(task);
        std::fs::write(&order, "").unwrap();
        eventually(&format!("{task} panics"), || !order.exists()).await;
    }

    async fn metric_is(&self, series: &str, value: &str) -> bool {
        let line = format!("{series} {value}");
        let (_, text) = get(self.admin, "/metrics").await;
        text.lines().any(|one| one == line)
    }

    async fn wait_for(&self, series: &str, value: &str) {
        let is_there = async || self.metric_is(series, value).await;
        eventually_async(&format!("{series} {value}"), is_there).await;
    }

    async fn has_begun_again(&self, task: &str, times: usize) {
        let series = format!("bucketferry_task_restarts_total{{task=\"{task}\"}}");
        self.wait_for(&series, &times.to_string()).await;
        let told = self.errors().into_iter().filter(|error| {
            error["task"] == task
                && error["reason"] == "a test wants it so"
                && error["message"] == "a task panicked, it begins again"
        });
        assert_eq!(told.count(), times, "{task}: {}", self.said());
    }

    /// The lines of the log at level ERROR.
    fn errors(&self) -> Vec<Value> {
        let mut lines = log(&self.folder);
        lines.retain(|line| line["level"] == "ERROR");
        lines
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.expect("an end in time").unwrap()
    }

    /// What the process has said, panics and all.
    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// Starts a gateway with its log in this folder, and waits for its addresses: of FTP, and the operator's.
async fn serving(mut command: Command, folder: &tempfile::TempDir) -> (Child, [SocketAddr; 2]) {
    let file = std::fs::File::create(folder.path().join("log")).unwrap();
    command.env("BUCKETFERRY_PANICS", folder.path().join("panics"));
    command.env("BUCKETFERRY_LOG__FORMAT", "json");
    let child = command.stderr(file).stdout(Stdio::null()).spawn().unwrap();
    let is_serving = |line: &Value| line["message"] == "serving";
    eventually("it serves", || log(folder).iter().any(is_serving)).await;
    let line = log(folder).into_iter().find(is_serving).unwrap();
    let listen = line["listen"].as_str().unwrap();
    let listen = listen.trim_matches(['[', ']']).parse().unwrap();
    let admin = line["admin"].as_str().unwrap().parse().unwrap();
    (child, [listen, admin])
}

/// The whole lines of the log that are JSON.
fn log(folder: &tempfile::TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_that_panics_is_told_of_and_begins_again() {
    let store = Store::folder();
    let trial = Trial::start(&store, &[]).await;
    for task in ALWAYS {
        trial.panic(task).await;
    }
    for task in ALWAYS {
        trial.has_begun_again(task, 1).await;
    }
    // That they can panic again shows that they are there, and their work that they do it.
    for task in ALWAYS {
        trial.panic(task).await;
        trial.has_begun_again(task, 2).await;
    }
    let (path, more) = (
        trial.folder.path().join("users.toml"),
        ANNA.replace("anna", "bert"),
    );
    std::fs::write(path, [ANNA, &more].concat()).unwrap();
    trial.wait_for("bucketferry_users", "2").await;
    trial.authority.renew(2040);
    let reloaded = r#"bucketferry_tls_reloads_total{outcome="reloaded"}"#;
    trial.wait_for(reloaded, "1").await;
    trial
        .wait_for(r#"bucketferry_store_up{store="default"}"#, "1")
        .await;
    assert_eq!(get(trial.admin, "/readyz").await.0, 200);
    // No client has noticed.
    assert_eq!(trial.client().await.store("a.txt", b"x").await.code, 226);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_memory_begin_again_under_uploads_that_wait() {
    let store = Store::s3();
    store.server().stall("UploadPart", Duration::from_mins(10));
    let settings = [("upload.memory", "20 MiB"), ("upload.part_size", "5 MiB")];
    let trial = Trial::start(&store, &settings).await;
    let bytes = noise(40 * MIB);
    let uploading = {
        let (mut client, bytes) = (trial.client().await, bytes.clone());
        tokio::spawn(async move { client.store("large.bin", &bytes).await.code })
    };
    // It is there as soon as the upload waits for memory, and again after its panic.
    for times in 1..=2 {
        trial.panic("upload_memory").await;
        trial.has_begun_again("upload_memory", times).await;
    }
    store.server().heal();
    assert_eq!(uploading.await.unwrap(), 226);
    assert!(store.object("large.bin").unwrap() == bytes);
    trial.panic("upload_chunks").await;
    trial.has_begun_again("upload_chunks", 1).await;
    // It was needed no longer than it took, and is there for the next.
    assert_eq!(
        trial.client().await.store("large.bin", &bytes).await.code,
        226
    );
}

/// Nothing can accept in its place, so the gateway has to be started anew, by Kubernetes or systemd.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_panics_ends_the_process_with_a_failure_after_the_drain() {
    let store = Store::folder();
    let mut trial = Trial::start(&store, &[]).await;
    let mut client = trial.client().await;
    let (mut data, reply) = client.begin("STOR a.txt").await;
    assert_eq!(reply.code, 150);
    data.write_all(b"first ").await.unwrap();
    trial.panic("listener").await;
    let address = trial.address;
    let is_closed = async || TcpStream::connect(address).await.is_err();
    eventually_async("nobody listens", is_closed).await;
    let admin = trial.admin;
    let is_draining = async || get(admin, "/readyz").await.0 == 503;
    eventually_async("it is not ready any more", is_draining).await;
    assert!(
        trial.child.try_wait().unwrap().is_none(),
        "it waits for the transfer"
    );

    data.write_all(b"second").await.unwrap();
    data.shutdown().await.unwrap();
    client.expect_reply(226).await;
    assert_eq!(trial.ended().await.code(), Some(1), "{}", trial.said());
    assert_eq!(store.object("a.txt").unwrap(), b"first second");
    let errors = trial.errors();
    assert!(
        errors.iter().any(|error| error["task"] == "listener"),
        "{errors:?}"
    );
    let said = trial.said();
    assert!(said.contains("its task \"listener\" panicked"), "{said}");
}

/// A gateway that no signal reaches could not be ended in order any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_what_waits_for_signals_ends_the_process_with_a_failure() {
    let store = Store::folder();
    let mut trial = Trial::start(&store, &[]).await;
    trial.panic("signals").await;
    assert_eq!(trial.ended().await.code(), Some(1), "{}", trial.said());
    let errors = trial.errors();
    assert!(
        errors.iter().any(|error| error["task"] == "signals"),
        "{errors:?}"
    );
    // The panic itself is a line of the log as well, with its place.
    let is_in_place = |error: &Value| {
        let location = error["location"].as_str();
        location.is_some_and(|place| place.starts_with("src/supervise/panics.rs:"))
    };
    assert!(errors.iter().any(is_in_place), "{}", trial.said());
}
