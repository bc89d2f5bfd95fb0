//! Metrics by user: of those in the users file, as many as are allowed, for as long as they are in it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bucketferry::auth::Users;

use crate::support::ftp::Client;
use crate::support::process::{bucketferry, get, run};
use crate::support::{Gateway, Store, eventually};

/// Of the password `x`, by bcrypt at its lowest cost.
const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

/// A name that means something to Prometheus, if it is not escaped.
const ODD: &str = r#"größe "1"\n}"#;

fn user(name: &str, more: &str) -> String {
    let name = name.replace('\\', r"\\").replace('"', "\\\"");
    format!("[[user]]\nname = \"{name}\"\npassword_hash = \"{HASH}\"\n{more}\n")
}

/// A gateway with a users file on disk.
struct Trial {
    gateway: Gateway,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Trial {
    fn start(users: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::fs::write(&file, users).unwrap();
        let path = file.to_str().unwrap().to_owned();
        let given = [
            ("users.file", path.as_str()),
            ("users.reload_interval", "100ms"),
        ];
        let settings = [settings, &given].concat();
        let in_force = Users::from_file(&file).unwrap();
        Self {
            gateway: Gateway::start(Store::folder(), in_force, &settings),
            file,
            _folder: folder,
        }
    }

    async fn client(&self, name: &str) -> Client {
        Client::connect_as(self.gateway.address(), name, "x").await
    }

    /// Uploads `bytes` as this user; the code of the last reply.
    async fn upload(&self, name: &str, path: &str, bytes: &[u8]) -> u16 {
        self.client(name).await.store(path, bytes).await.code
    }

    /// An upload onto what is there already, and must not be replaced.
    async fn refuse(&self, name: &str, path: &str) {
        let mut client = self.client(name).await;
        let _port = client.open_data().await;
        client.expect(&format!("STOR {path}"), 553).await;
    }

    async fn metrics(&self) -> String {
        get(self.gateway.inner.admin_address(), "/metrics").await.1
    }

    /// Every series of users.
    async fn series(&self) -> Vec<String> {
        let text = self.metrics().await;
        let ours = text
            .lines()
            .filter(|line| line.starts_with("bucketferry_user_"));
        ours.map(str::to_owned).collect()
    }

    async fn expect(&self, line: &str) {
        let series = self.series().await;
        assert!(series.iter().any(|one| one == line), "{line}\n{series:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_of_the_file_has_uploads_bytes_and_the_time_of_the_last_one() {
    let trial = Trial::start(
        &[
            user("anna", "permissions = [\"write\"]\noverwrite = \"deny\""),
            user(ODD, ""),
        ]
        .concat(),
        &[],
    );
    trial
        .expect(r#"bucketferry_user_uploads_total{outcome="complete",user="anna"} 0"#)
        .await;
    assert_eq!(trial.upload("anna", "a.txt", b"12345").await, 226);
    trial.refuse("anna", "a.txt").await;
    assert_eq!(trial.upload(ODD, "b.txt", b"123").await, 226);
    for line in [
        r#"bucketferry_user_uploads_total{outcome="complete",user="anna"} 1"#,
        r#"bucketferry_user_uploads_total{outcome="exists",user="anna"} 1"#,
        r#"bucketferry_user_uploaded_bytes_total{user="anna"} 5"#,
        r#"bucketferry_user_uploads_total{outcome="complete",user="größe \"1\"\\n}"} 1"#,
        r#"bucketferry_user_uploads_total{outcome="complete",user="other"} 0"#,
    ] {
        trial.expect(line).await;
    }
    let last = trial
        .gateway
        .metric(r#"bucketferry_user_last_upload_timestamp_seconds{user="anna"}"#);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - last).abs() < 60.0, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_upload_that_ends_with_226_is_a_last_upload() {
    let trial = Trial::start(&user("anna", "overwrite = \"deny\""), &[]);
    trial.gateway.store.put("a.txt", b"there");
    trial.refuse("anna", "a.txt").await;
    let (data, reply) = {
        let mut client = trial.client("anna").await;
        let (mut data, _) = client.begin("STOR b.txt").await;
        tokio::io::AsyncWriteExt::write_all(&mut data, b"half")
            .await
            .unwrap();
        let reply = client.command("ABOR").await;
        (data, reply)
    };
    assert_eq!(reply.code, 426, "{}", reply.text());
    drop(data);
    let aborted = r#"bucketferry_user_uploads_total{outcome="client_abort",user="anna"}"#;
    trial.gateway.wait_for(aborted, 1.0).await;
    // A download is none either.
    let mut client = trial.client("anna").await;
    assert_eq!(client.retrieve("a.txt").await.1.code, 226);
    let series = trial.series().await;
    assert!(
        !series.iter().any(|line| line.contains("last_upload")),
        "{series:#?}"
    );
    assert_eq!(client.upload("APPE c.txt", b"x").await.code, 226);
    let series = trial.series().await;
    assert!(
        series.iter().any(|line| line.contains("last_upload")),
        "{series:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_leaves_the_file_has_no_series_any_more() {
    let trial = Trial::start(
        &[user("anna", "expect_every = \"26h\""), user("bert", "")].concat(),
        &[],
    );
    let mut client = trial.client("anna").await;
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
    trial
        .expect(r#"bucketferry_user_upload_overdue_seconds{user="anna"} 0"#)
        .await;
    let (data, _) = client.begin("STOR b.txt").await;
    std::fs::write(&trial.file, user("bert", "")).unwrap();
    trial.gateway.wait_for("bucketferry_users", 1.0).await;
    let is_gone = |series: Vec<String>| !series.iter().any(|line| line.contains("anna"));
    assert!(is_gone(trial.series().await));
    // The transfer that runs is finished, and brings nothing back.
    drop(data);
    client.expect_reply(226).await;
    let other = r#"bucketferry_user_uploads_total{outcome="complete",user="other"}"#;
    trial.gateway.wait_for(other, 1.0).await;
    assert!(is_gone(trial.series().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_users_as_allowed_have_series_those_first_who_are_expected() {
    let users = [
        user("anna", ""),
        user("bert", ""),
        user("carl", "expect_every = \"26h\""),
    ]
    .concat();
    let trial = Trial::start(&users, &[("admin.max_user_series", "2")]);
    for name in ["carl", "bert", "anna"] {
        assert_eq!(trial.upload(name, name, b"x").await, 226);
    }
    for name in ["anna", "carl", "other"] {
        let line =
            format!(r#"bucketferry_user_uploads_total{{outcome="complete",user="{name}"}} 1"#);
        trial.expect(&line).await;
    }
    assert!(!trial.metrics().await.contains("bert"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_does_not_come_is_overdue_until_it_comes() {
    let trial = Trial::start(&user("anna", "expect_every = \"1m\""), &[]);
    let overdue = r#"bucketferry_user_upload_overdue_seconds{user="anna"}"#;
    trial.expect(&format!("{overdue} 0")).await;
    // A minute is the least that can be expected.
    tokio::time::sleep(Duration::from_secs(62)).await;
    eventually("it is overdue", || trial.gateway.metric(overdue) >= 1.0).await;
    assert_eq!(trial.upload("anna", "a.txt", b"x").await, 226);
    trial.expect(&format!("{overdue} 0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_command_line_have_no_series() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
    let text = gateway.inner.metrics().render().unwrap();
    assert!(!text.contains("bucketferry_user_"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_whose_uploads_are_expected_and_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let expected = "expect_every = \"26h\"";
    std::fs::write(
        &file,
        [user("anna", expected), user("bert", expected)].concat(),
    )
    .unwrap();
    let mut command = bucketferry();
    command.args(["check", "--offline", "--store", "memory://"]);
    command.env("BUCKETFERRY_USERS__FILE", &file);
    command.env("BUCKETFERRY_ADMIN__MAX_USER_SERIES", "1");
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 users with `expect_every` are not watched, the first is \"bert\": admin.max_user_series is 1"), "{said}");
    std::fs::write(
        &file,
        user("other", "permissions = [\"list\"]\nexpect_every = \"26h\""),
    )
    .unwrap();
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("`expect_every` is set for the user \"other\"; allowed:"),
        "{said}"
    );
}
