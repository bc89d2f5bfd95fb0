//! What the operator sees: probes that tell the truth, metrics, one line of help from the command.

use bucketferry::memory::{CONTROL_SOCKET, DATA_SOCKET, SESSION, Use};
use doubles::{Protocol, Server};
use tokio::io::AsyncWriteExt;

use crate::support::process::{Process, bucketferry, get, run};
use crate::support::{Gateway, Store, Target, eventually, eventually_async};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_said_and_heals() {
    let server = Server::start(Protocol::S3);
    server.go_offline();
    let settings = [
        ("store.retry_timeout", "500ms"),
        ("store.probe_interval", "200ms"),
    ];
    let gateway = Gateway::with(Store::from(server), &settings);
    let server = gateway.store.server();
    let admin = gateway.inner.admin_address();
    eventually_async("a reason", async || {
        let (status, body) = get(admin, "/readyz").await;
        assert_eq!(status, 503, "{body}");
        body.contains("can't be reached")
    })
    .await;
    assert_eq!(get(admin, "/livez").await.0, 200);
    let mut client = gateway.client().await;
    let reply = client.try_to_store("a.txt").await;
    assert_eq!(reply.code / 100, 4, "{}", reply.text());
    assert!(
        reply.text().contains("store can't be reached"),
        "{}",
        reply.text()
    );
    assert!(
        gateway
            .metric(r#"bucketferry_store_up{store="default"}"#)
            .abs()
            < f64::EPSILON
    );

    server.go_online();
    eventually_async("readiness", async || get(admin, "/readyz").await.0 == 200).await;
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
    gateway
        .wait_for(r#"bucketferry_store_up{store="default"}"#, 1.0)
        .await;

    server.go_offline();
    gateway
        .wait_for(r#"bucketferry_store_up{store="default"}"#, 0.0)
        .await;
    assert_eq!(
        get(admin, "/readyz").await.0,
        200,
        "once it has answered, it stays ready"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_and_wrong_credentials_are_not_ready() {
    for (key, value, reason) in [
        ("store.url", "s3://no-such-bucket", "does not exist"),
        (
            "store.options.aws_secret_access_key",
            "wrong",
            "credentials",
        ),
    ] {
        let gateway = Gateway::with(Store::s3(), &[(key, value)]);
        let admin = gateway.inner.admin_address();
        eventually_async(reason, async || {
            get(admin, "/readyz").await.1.contains(reason)
        })
        .await;
        assert_eq!(get(admin, "/readyz").await.0, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_only_write_are_ready() {
    let gateway = Gateway::with(Store::s3(), &[("store.probe_interval", "100ms")]);
    let server = gateway.store.server();
    server.fail_next("ListObjectsV2", usize::MAX, 403);
    server.fail_next("HeadObject", usize::MAX, 403);
    server.fail_next("GetObject", usize::MAX, 403);
    let admin = gateway.inner.admin_address();
    eventually_async("ready", async || get(admin, "/readyz").await.0 == 200).await;
    let mut client = gateway.client().await;
    client.expect("CWD in", 250).await;
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
    assert_eq!(gateway.store.object("in/a.txt").unwrap(), b"x");
    let (_, reply) = client.begin("LIST").await;
    assert_eq!(reply.code, 451, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_happened() {
    let gateway = Gateway::on(Store::s3());
    let mut client = gateway.client().await;
    assert_eq!(client.store("a.bin", &[7; 2000]).await.code, 226);
    assert_eq!(client.retrieve("a.bin").await.0.len(), 2000);
    let (_, text) = get(gateway.inner.admin_address(), "/metrics").await;
    for series in [
        "bucketferry_sessions 1",
        "bucketferry_sessions_total 1",
        r#"bucketferry_logins_total{outcome="accepted"} 1"#,
        r#"bucketferry_transfers_total{direction="upload",outcome="complete"} 1"#,
        r#"bucketferry_transfers_total{direction="download",outcome="complete"} 1"#,
        r#"bucketferry_transferred_bytes_total{direction="upload"} 2000"#,
        r#"bucketferry_transfer_size_bytes_bucket{direction="upload",le="1024"} 0"#,
        r#"bucketferry_transfer_size_bytes_bucket{direction="upload",le="8192"} 1"#,
        r#"bucketferry_transfer_duration_seconds_count{direction="upload"} 1"#,
        r#"bucketferry_transfers_in_flight{direction="upload"} 0"#,
        r#"bucketferry_store_requests_total{operation="put",outcome="ok",store="default"} 1"#,
        r#"bucketferry_store_request_duration_seconds_count{operation="put",store="default"} 1"#,
        "bucketferry_passive_ports_in_use 0",
        "bucketferry_build_info{version=",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

/// What `docs/operations.md` says of metrics and their labels is what there is, and counters with labels begin at 0.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_metrics_are_there_from_the_start() {
    let gateway = Gateway::on(Store::folder());
    let (_, text) = get(gateway.inner.admin_address(), "/metrics").await;
    let documented = documented_metrics();
    for line in text
        .lines()
        .filter(|line| line.starts_with("# TYPE bucketferry_"))
    {
        let [_, _, name, kind] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let row = documented
            .iter()
            .find(|row| name == format!("bucketferry_{}", row.name));
        let row = row.unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(row.kind, kind, "{name}");
    }
    for row in documented
        .iter()
        .filter(|row| row.kind == "counter" && row.begins_at_zero())
    {
        for labels in &row.series {
            let series = format!("bucketferry_{}{labels} 0", row.name);
            assert!(
                text.lines().any(|line| line == series),
                "{series} is not in\n{text}"
            );
        }
        let all = text.lines().filter(|line| {
            line.strip_prefix("bucketferry_").is_some_and(|line| {
                line.strip_prefix(row.name.as_str())
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
        });
        assert_eq!(all.count(), row.series.len(), "{}", row.name);
    }
}

/// A row of the table of metrics.
struct Row {
    name: String,
    kind: String,
    /// The labels of each series, as `/metrics` writes them.
    series: Vec<String>,
}

impl Row {
    fn begins_at_zero(&self) -> bool {
        !["commands_total", "store_requests_total"].contains(&self.name.as_str())
    }
}

fn documented_metrics() -> Vec<Row> {
    let text = include_str!("../../docs/operations.md");
    let section = |title: &str| {
        let (_, after) = text.split_once(&format!("\n## {title}\n")).unwrap();
        after.split("\n## ").next().unwrap()
    };
    let rows = |title| {
        section(title)
            .lines()
            .filter(|line| line.starts_with("| `"))
    };
    let outcomes: Vec<_> = rows("How transfers end")
        .map(|row| quoted(row)[0].clone())
        .collect();
    assert!(outcomes.len() > 20, "{outcomes:?}");
    let metrics = rows("Metrics").map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let mut series = vec![String::new()];
        for label in cells[3].split(';').filter(|label| !label.is_empty()) {
            let (name, values) = label.split_once([':', ',']).unwrap_or((label, ""));
            let name = &quoted(name)[0];
            let values = match (name.as_str(), &quoted(values)[..]) {
                ("outcome", []) => outcomes.clone(),
                ("direction", []) => vec!["upload".into(), "download".into(), "list".into()],
                ("store", _) => vec!["default".into()],
                (_, values) => values.to_vec(),
            };
            let with = |before: &String| {
                let labels = |value| format!("{before},{name}=\"{value}\"");
                values.iter().map(labels).collect::<Vec<_>>()
            };
            series = series.iter().flat_map(with).collect();
        }
        let braced = series.iter().map(|labels| match labels.strip_prefix(',') {
            Some(labels) => format!("{{{labels}}}"),
            None => String::new(),
        });
        Row {
            name: quoted(cells[1])[0].clone(),
            kind: cells[2].to_owned(),
            series: braced.collect(),
        }
    });
    metrics.collect()
}

/// What stands between backquotes, but not in parentheses.
fn quoted(text: &str) -> Vec<String> {
    let outside = text
        .split('(')
        .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
    let outside: String = outside.collect();
    outside
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Everything that the first minute shows a new user is true.
#[tokio::test(flavor = "multi_thread")]
async fn serve_alone_is_a_working_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bucketferry();
    command.arg("serve").current_dir(folder.path());
    command.env("BUCKETFERRY_FTP__LISTEN", "127.0.0.1:0");
    command.env("BUCKETFERRY_ADMIN__LISTEN", "127.0.0.1:0");
    command.env("BUCKETFERRY_PASSIVE__PORTS", "0");
    let process = Process::started(command).await;
    let line = process
        .greeting
        .lines()
        .find(|line| line.contains("curl -T"));
    let line = line.expect("an upload to copy");
    let (_, rest) = line.split_once("ftp://ferry:").expect("a user");
    let (password, _) = rest.split_once('@').expect("a password");
    assert_eq!(password.len(), 20);
    let mut client =
        crate::support::ftp::Client::connect_as(process.address, "ferry", password).await;
    assert_eq!(client.store("a.txt", b"hello").await.code, 226);
    let stored = std::fs::read(folder.path().join("bucketferry-data/a.txt")).unwrap();
    assert_eq!(stored, b"hello");
    eventually_async("ready", async || {
        get(process.admin, "/readyz").await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_all_that_is_wrong_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ferry.toml");
    std::fs::write(
        &file,
        "[ftp]\nlisen = \"x\"\nidle_timeout = 3\n[upload]\nconcurrency = 1000\n",
    )
    .unwrap();
    let mut command = bucketferry();
    command
        .args(["check", "--config"])
        .arg(&file)
        .env("BUCKETFERRY_LOG__LEVEL", "loud");
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(78));
    let report = String::from_utf8(output.stderr).unwrap();
    for part in [
        "ftp.lisen",
        "ftp.listen",
        "ftp.idle_timeout",
        "upload.concurrency",
        "1000",
        "1 to 64",
        "BUCKETFERRY_LOG__LEVEL",
        "loud",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    let mut command = bucketferry();
    command.args(["serve", "--config"]).arg(&file);
    assert_eq!(run(&mut command, "").await.status.code(), Some(78));
}

/// A hash that needs more memory than hashing has is told of at the start, by both commands.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_needs_more_than_the_hashing_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let hash = "$argon2id$v=19$m=131072,t=1,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf";
    let users = format!("[[user]]\nname = \"anna\"\npassword_hash = \"{hash}\"\n");
    std::fs::write(&file, users).unwrap();
    let with = async |arguments: &[&str], memory| {
        let mut command = bucketferry();
        command.args(arguments).args(["--store", "memory://"]);
        command.env("BUCKETFERRY_USERS__FILE", &file);
        command.env("BUCKETFERRY_LIMITS__HASHING_MEMORY", memory);
        run(&mut command, "").await
    };
    for arguments in [&["serve"][..], &["check", "--offline"]] {
        let output = with(arguments, "127 MiB").await;
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        for part in [
            "users.toml",
            "user \"anna\"",
            "m=131072",
            "128 MiB",
            "up to limits.hashing_memory, which is 127 MiB",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }
    let output = with(&["check", "--offline"], "128 MiB").await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_which_conditions_and_checksums_the_store_knows() {
    for (known, word, by) in [(true, "yes", "crc64nvme"), (false, "no", "size")] {
        let server = Server::start(Protocol::S3);
        if !known {
            server.ignore_conditions();
            server.ignore_checksums();
        }
        let store = Store::from(server);
        let check = async |arguments: &[&str]| {
            let mut command = bucketferry();
            command.arg("check").args(arguments);
            for (key, value) in store.settings() {
                let name = key.replace('.', "__").to_uppercase();
                command.env(format!("BUCKETFERRY_{name}"), value);
            }
            command.env("BUCKETFERRY_STORE__CONDITIONS", "try");
            let output = run(&mut command, "").await;
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let told = check(&[]).await;
        let found: serde_json::Value =
            serde_json::from_str(&check(&["--format", "json"]).await).unwrap();
        assert_eq!(found["ok"], true);
        assert_eq!(found["stores"]["default"]["compared_by"], by);
        assert_memory(&found, &told);
        assert!(told.contains(&format!("sent by: {by};")), "{told}");
        for (at, operation) in ["put", "complete", "copy", "delete"].iter().enumerate() {
            let line = told
                .lines()
                .find(|line| line.trim_start().starts_with(operation));
            assert!(line.unwrap().contains(word), "{told}");
            assert_eq!(
                found["stores"]["default"]["conditions"][at]["operation"],
                *operation
            );
            assert_eq!(found["stores"]["default"]["conditions"][at]["holds"], known);
        }
        assert_eq!(store.keys(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_shows_which_conditions_the_store_knows() {
    let gateway = Gateway::with(Store::s3(), &[("store.conditions", "try")]);
    let shown = &gateway.inner.metrics().store_conditional_writes;
    for operation in ["put", "complete", "copy", "delete"] {
        let gauge = shown.with_label_values(&["default", operation]);
        eventually("the conditions are known", || gauge.get() == 1).await;
    }
    let is_clear = || gateway.store.keys().is_empty();
    eventually("what was tried on is deleted", is_clear).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_the_bucket_unless_told_not_to() {
    let server = Server::start(Protocol::S3);
    let url = "s3://no-such-bucket";
    let store = Store::from(server);
    let check = |arguments: &[&str]| {
        let mut command = bucketferry();
        command.arg("check").args(arguments);
        for (key, value) in store.settings() {
            command.env(
                format!("BUCKETFERRY_{}", key.replace('.', "__").to_uppercase()),
                value,
            );
        }
        command
    };
    let fine = run(&mut check(&[]), "").await;
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    let wrong = run(&mut check(&["--store", url]), "").await;
    assert_eq!(wrong.status.code(), Some(78));
    assert!(
        String::from_utf8(wrong.stderr)
            .unwrap()
            .contains("does not exist")
    );
    let serve = run(
        bucketferry()
            .args(["serve", "--store", "s3://b"])
            .env("BUCKETFERRY_STORE__OPTIONS__AWS_REGIOM", "x"),
        "",
    )
    .await;
    assert_eq!(
        serve.status.code(),
        Some(78),
        "what check refuses, serve refuses the same way"
    );
    let mut parts = bucketferry();
    parts.args(["check", "--offline", "--store", "memory://"]);
    parts.env("BUCKETFERRY_UPLOAD__PART_SIZE", "100 MiB");
    let parts = String::from_utf8(run(&mut parts, "").await.stderr).unwrap();
    assert!(
        parts.contains("upload.part_size") && parts.contains("256 MiB"),
        "{parts}"
    );
    let offline = run(&mut check(&["--store", url, "--offline"]), "").await;
    assert_eq!(offline.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_store_options_and_users_are_reported_together() {
    let mut command = bucketferry();
    command.args([
        "check",
        "--offline",
        "--store",
        "s3://bucket",
        "--user",
        "nocolon",
    ]);
    command.env("BUCKETFERRY_STORE__OPTIONS__AWS_REGIOM", "x");
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(78));
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(
        report.contains("aws_regiom") && report.contains("nocolon"),
        "{report}"
    );
}

/// The variables that the cloud's own tools read, those of the HTTP client among them.
#[tokio::test(flavor = "multi_thread")]
async fn the_clouds_own_variables_count() {
    let server = Server::start(Protocol::S3);
    let mut command = bucketferry();
    command.args(["check", "--store", &server.url()]);
    for (name, value) in server.options() {
        command.env(name.to_uppercase(), value);
    }
    let output = run(&mut command, "").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_are_made_for_the_users_file() {
    let mut command = bucketferry();
    let output = run(command.arg("hash-password"), "secret\n").await;
    assert_eq!(output.status.code(), Some(0));
    let hash = String::from_utf8(output.stdout).unwrap();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let users = format!(
        "[[user]]\nname = \"ferry\"\npassword_hash = \"{}\"\n",
        hash.trim()
    );
    Gateway::for_users(Store::folder(), &users, &[])
        .client()
        .await;
}

/// The memory to give the container is what the parts come to, in both forms.
fn assert_memory(found: &serde_json::Value, told: &str) {
    let parts = found["memory_by_use_bytes"].as_object().unwrap();
    let names = Use::ALL.map(Use::name);
    assert_eq!(parts.len(), names.len() + 1, "{parts:?}");
    let all = names.iter().chain(&["program"]);
    let sum: u64 = all.map(|name| parts[*name].as_u64().unwrap()).sum();
    let total = found["memory_bytes"].as_u64().unwrap();
    assert_eq!(total, sum.div_ceil(1 << 20) << 20);
    assert!(found["least_memory_bytes"].as_u64().unwrap() < total);
    assert!(
        told.contains(&format!("give the container: {} MiB,", total >> 20)),
        "{told}"
    );
    for name in names {
        let mebibytes = parts[name].as_u64().unwrap().div_ceil(1 << 20);
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        assert!(
            line.unwrap().contains(&format!("{mebibytes} MiB")),
            "{told}"
        );
    }
}

/// Each use of memory has its limit, and what is in use of it is there and gone again.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_shown_by_use() {
    let gateway = Gateway::on(Store::folder());
    for of in Use::ALL {
        let limit = format!("bucketferry_memory_limit_bytes{{use=\"{}\"}}", of.name());
        assert!(gateway.metric(&limit) > 1e6, "{limit}");
    }
    let used = |of: Use| {
        gateway.metric(&format!(
            "bucketferry_memory_bytes{{use=\"{}\"}}",
            of.name()
        ))
    };
    let mut client = gateway.client().await;
    assert!((used(Use::Sessions) - as_float(SESSION)).abs() < 1.0);
    assert!((used(Use::Sockets) - as_float(CONTROL_SOCKET)).abs() < 1.0);
    let (mut data, _) = client.begin("STOR a").await;
    data.write_all(b"x").await.unwrap();
    eventually("the upload holds memory", || used(Use::Uploads) > 0.0).await;
    assert!(used(Use::Sockets) >= as_float(CONTROL_SOCKET + DATA_SOCKET));
    drop(data);
    client.expect_reply(226).await;
    client.hang_up();
    for of in [Use::Uploads, Use::Sessions, Use::Sockets] {
        eventually(of.name(), || used(of) < 1.0).await;
    }
}

fn as_float(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap())
}
