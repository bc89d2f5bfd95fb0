//! Others on the same host, who write or read what is not theirs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bucketferry::auth::Users;

use crate::support::ftp::Client;
use crate::support::process::{Process, bucketferry, run};
use crate::support::tls::Authority;
use crate::support::{Gateway, Memory, Store, user};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Whoever can write the users file or the files of TLS decides who logs in.
#[tokio::test(flavor = "multi_thread")]
async fn writable_secrets() {
    let authority = Authority::new();
    let users = authority.path("users.toml");
    fs::write(&users, user("ferry", "")).unwrap();
    for (name, setting) in [
        ("users.toml", "users.file"),
        ("key.pem", "tls.private_key"),
        ("cert.pem", "tls.certificate"),
        ("ca.pem", "tls.client_ca"),
    ] {
        let path = authority.path(name);
        for (mode, code) in [(0o640, 0), (0o646, 78), (0o666, 78), (0o644, 0)] {
            set_mode(&path, mode);
            let mut command = bucketferry();
            command.args(["check", "--offline", "--store", "memory://"]);
            let settings = [
                ("USERS__FILE", "users.toml"),
                ("TLS__CERTIFICATE", "cert.pem"),
                ("TLS__PRIVATE_KEY", "key.pem"),
                ("TLS__CLIENT_CA", "ca.pem"),
            ];
            for (setting, name) in settings {
                command.env(format!("BUCKETFERRY_{setting}"), authority.path(name));
            }
            command.env("BUCKETFERRY_TLS__CLIENT_AUTH", "request");
            let output = run(&mut command, "").await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{name} {mode:o}: {said}");
            if code != 0 {
                for part in [setting, name, &format!("mode is {mode:04o}")] {
                    assert!(said.contains(part), "{part}: {said}");
                }
            }
        }
    }
}

/// Nor does a running gateway take what others could have written.
#[tokio::test(flavor = "multi_thread")]
async fn writable_secrets_are_not_taken_later_either() {
    let authority = Authority::new();
    let path = authority.path("users.toml");
    fs::write(&path, user("ferry", "")).unwrap();
    let users = Users::from_file(&path).unwrap();
    let file = path.display().to_string();
    let settings = [
        ("users.file", file.as_str()),
        ("users.reload_interval", "100ms"),
    ];
    let settings = authority.settings(&settings);
    let gateway = Gateway::start(Memory, users, &crate::support::borrowed(&settings));
    let new = path.with_extension("new");
    fs::write(&new, user("stranger", "")).unwrap();
    set_mode(&new, 0o666);
    fs::rename(&new, &path).unwrap();
    let failed = r#"bucketferry_users_reloads_total{outcome="failed"}"#;
    gateway.wait_for(failed, 1.0).await;
    gateway.client().await;
    let (mut stranger, _) = Client::connect(gateway.address()).await;
    stranger.expect("USER stranger", 331).await;
    stranger.expect("PASS secret", 530).await;

    set_mode(&authority.path("key.pem"), 0o666);
    gateway.wait_for("bucketferry_tls_files_broken", 1.0).await;
    set_mode(&authority.path("key.pem"), 0o600);
    gateway.wait_for("bucketferry_tls_files_broken", 0.0).await;
}

/// What lies in a folder is not for everybody on the host, whatever umask the gateway was started with.
#[tokio::test(flavor = "multi_thread")]
async fn files_for_everybody() {
    let store = Store::folder();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", r#"umask 000 && exec "$0" "$@""#]);
    command
        .arg(env!("CARGO_BIN_EXE_bucketferry"))
        .kill_on_drop(true);
    let log = tempfile::tempdir().unwrap();
    let xferlog = log.path().join("xferlog").display().to_string();
    let settings = [
        ("log.xferlog", xferlog.as_str()),
        ("upload.part_size", "5 MiB"),
    ];
    let process = Process::serve_by(command, &store, &settings).await;
    let mut client = Client::connect_as(process.address, "ferry", "secret").await;
    client.store("a/b/small", b"x").await;
    client.store("a/large", &vec![7; 6 << 20]).await;
    client.upload("APPE a/b/small", b"y").await;
    client.expect("MKD d/e", 257).await;
    for file in ["a/b/small", "a/large"] {
        assert_eq!(mode(&store.path().join(file)), 0o640, "{file}");
    }
    for directory in ["a", "a/b", "d", "d/e", ".bucketferry"] {
        assert_eq!(mode(&store.path().join(directory)), 0o750, "{directory}");
    }
    assert_eq!(mode(Path::new(&xferlog)), 0o640);
}
