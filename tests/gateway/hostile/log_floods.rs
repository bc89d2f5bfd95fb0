//! Whatever somebody does again and again, the log gets a few lines of it, and the exact number of the others.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::ftp::{Client, dial};
use crate::support::process::{Process, bucketferry, get, to_serve};
use crate::support::tls::{Authority, Hello};
use crate::support::{Memory, borrowed};

/// How often each thing is done.
const TIMES: u64 = 40;

/// Lines of one kind and origin in a minute.
const A_MINUTE: u64 = 5;

/// A gateway that logs into a file, as JSON.
struct Flooded {
    process: Process,
    folder: tempfile::TempDir,
    began: Instant,
}

impl Flooded {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let own = [("log.format", "json"), ("log.level", "info")];
        let command = to_serve(bucketferry(), &Memory, &[settings, &own].concat());
        Self {
            process: Process::started_with(command, Stdio::from(log)).await,
            folder,
            began: Instant::now(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.process.address
    }

    async fn metric(&self, series: &str) -> u64 {
        let (_, text) = get(self.process.admin, "/metrics").await;
        let mut lines = text.lines();
        let value =
            lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }

    async fn wait_for(&self, series: &str, value: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.metric(series).await != value {
            assert!(
                Instant::now() < deadline,
                "{series} {}",
                self.metric(series).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many lines the log has.
    fn lines(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        text.lines().count()
    }

    /// Ends it; all lines of its log.
    async fn log(self) -> Log {
        self.process.terminate();
        let minutes = self.began.elapsed().as_secs() / 60;
        assert!(self.process.ended().await.success());
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Log {
            lines: lines.collect(),
            windows: minutes + 2,
        }
    }
}

struct Log {
    lines: Vec<Value>,
    /// Minutes that may have begun.
    windows: u64,
}

impl Log {
    /// Holds that so much was done from there, of which few lines tell, and one the number of the others.
    fn assert_told(&self, message: &str, kind: &str, origin: &str, times: u64) {
        let is_from_there = |line: &&Value| {
            let who = ["peer", "proxy", "client"].map(|name| line[name].as_str());
            let mut who = who.into_iter().flatten();
            who.any(|who| who == origin || who.starts_with(&format!("{origin}:")))
        };
        let starts = |line: &&Value| {
            line["message"]
                .as_str()
                .is_some_and(|it| it.starts_with(message))
        };
        let is_success = |line: &&Value| line["outcome"] == "accepted";
        let written = self.lines.iter().filter(starts).filter(is_from_there);
        let written = written.filter(|line| !is_success(line)).count() as u64;
        let left_out: u64 = self.left_out(kind, origin).iter().sum();
        assert!(written >= A_MINUTE, "{kind}: {written} lines");
        assert!(
            written <= A_MINUTE * self.windows,
            "{kind}: {written} lines"
        );
        assert_eq!(
            written + left_out,
            times,
            "{kind}: {written} and {left_out}"
        );
    }

    /// The numbers of lines that were left out.
    fn left_out(&self, kind: &str, origin: &str) -> Vec<u64> {
        let lines = self.lines.iter().filter(|line| {
            line["message"] == "lines of this kind were left out"
                && line["kind"] == kind
                && line["origin"] == origin
        });
        lines.map(|line| line["lines"].as_u64().unwrap()).collect()
    }
}

async fn from(host: &str, gateway: SocketAddr) -> TcpStream {
    dial(Some(host.parse().unwrap()), gateway).await.unwrap()
}

/// Says something on a connection of its own, and waits for its end.
async fn say(host: &str, gateway: SocketAddr, words: &[u8]) {
    let mut stream = from(host, gateway).await;
    let _ = stream.write_all(words).await;
    let mut sink = tokio::io::sink();
    let end = tokio::io::copy(&mut stream, &mut sink);
    let _ = tokio::time::timeout(Duration::from_secs(10), end).await;
}

async fn client(host: &str, gateway: SocketAddr) -> Client {
    let mut client = Client::connect_from(host.parse().unwrap(), gateway)
        .await
        .unwrap();
    client.expect_reply(220).await;
    client
}

/// Logins, connections, other protocols and PROXY headers: all by those who have not logged in.
#[tokio::test(flavor = "multi_thread")]
async fn log_floods() {
    let settings = [
        ("ftp.deny", "127.0.5.2"),
        ("ftp.trusted_proxies", "127.0.5.5"),
        ("limits.login_failures_per_connection", "1"),
    ];
    let flooded = Flooded::start(&settings).await;
    let gateway = flooded.address();
    for _ in 0..TIMES {
        let mut guesser = client("127.0.5.1", gateway).await;
        guesser.expect("USER nobody", 331).await;
        guesser.expect("PASS wrong", 530).await;
        say("127.0.5.2", gateway, b"").await;
        say("127.0.5.3", gateway, b"GET / HTTP/1.1\r\n").await;
        say(
            "127.0.5.4",
            gateway,
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 21\r\n",
        )
        .await;
        say("127.0.5.5", gateway, b"PROXY nonsense\r\n").await;
    }
    let refused = |reason| format!("bucketferry_sessions_refused_total{{reason={reason:?}}}");
    let headers = |reason| format!("bucketferry_proxy_headers_refused_total{{reason={reason:?}}}");
    flooded.wait_for(&refused("address_denied"), TIMES).await;
    flooded.wait_for(&refused("not_ftp"), TIMES).await;
    flooded.wait_for(&headers("stranger"), TIMES).await;
    let logins = ["unknown_user", "locked_out"];
    let mut failed = 0;
    for outcome in logins {
        let series = format!("bucketferry_logins_total{{outcome={outcome:?}}}");
        failed += flooded.metric(&series).await;
    }
    assert_eq!(failed, TIMES);
    let log = flooded.log().await;
    for (message, kind, origin) in [
        ("login", "login refused", "127.0.5.1"),
        ("connection refused", "connection refused", "127.0.5.2"),
        ("session refused", "session refused", "127.0.5.3"),
        (
            "connection refused: it begins with a PROXY header",
            "connection refused, PROXY header of a stranger",
            "127.0.5.4",
        ),
        (
            "connection from a trusted proxy refused",
            "connection from a trusted proxy refused",
            "127.0.5.5",
        ),
    ] {
        log.assert_told(message, kind, origin, TIMES);
    }
}

/// Strangers at an open passive port, and a user who asks for what is refused.
#[tokio::test(flavor = "multi_thread")]
async fn log_floods_at_passive_ports() {
    let settings = [("active.enabled", "true")];
    let flooded = Flooded::start(&settings).await;
    let gateway = flooded.address();
    let mut owner = client("127.0.5.1", gateway).await;
    owner.login("ferry", "secret").await;
    let port = owner.epsv().await;
    for _ in 0..TIMES {
        say("127.0.5.2", port, b"").await;
        owner.expect("NOOP", 200).await;
    }
    let strangers = "bucketferry_data_connections_refused_total";
    flooded.wait_for(strangers, TIMES).await;
    for _ in 0..TIMES {
        owner.expect("PORT 192,0,2,1,200,1", 504).await;
    }
    let log = flooded.log().await;
    log.assert_told(
        "data connection from a stranger refused",
        "data connection from a stranger refused",
        "127.0.5.2",
        TIMES,
    );
    log.assert_told(
        "active data connection to somebody else refused",
        "active data connection to somebody else refused",
        "127.0.5.1",
        TIMES,
    );
}

/// Handshakes that fail, on control and on data connections.
#[tokio::test(flavor = "multi_thread")]
async fn log_floods_by_handshakes() {
    let authority = Authority::new();
    let settings = authority.settings(&[]);
    let flooded = Flooded::start(&borrowed(&settings)).await;
    let gateway = flooded.address();
    let connector = authority.connector(Hello::default());
    let mut user = client("127.0.5.2", gateway).await.secure(&connector).await;
    user.login("ferry", "secret").await;
    user.protect_data().await;
    for _ in 0..TIMES {
        let mut stranger = client("127.0.5.1", gateway).await;
        stranger.expect("AUTH TLS", 234).await;
        stranger.send_raw(b"no hello at all\r\n").await;
        stranger.expect_close_soon().await;
        let address = user.epsv().await;
        let mut data = from("127.0.5.2", address).await;
        user.expect("STOR file", 150).await;
        data.write_all(b"no hello at all\r\n").await.unwrap();
        let reply = user.reply().await;
        assert_eq!(reply.code / 100, 4, "{reply:?}");
    }
    let failed = |connection| {
        format!("bucketferry_tls_handshakes_total{{connection={connection:?},outcome=\"failed\"}}")
    };
    flooded.wait_for(&failed("control"), TIMES).await;
    flooded.wait_for(&failed("data"), TIMES).await;
    let log = flooded.log().await;
    log.assert_told(
        "TLS handshake failed",
        "TLS handshake failed",
        "127.0.5.1",
        TIMES,
    );
    let kind = "TLS handshake of a data connection failed";
    log.assert_told(kind, kind, "127.0.5.2", TIMES);
}

/// A user who asks for what it may not have, or is not there.
#[tokio::test(flavor = "multi_thread")]
async fn log_floods_by_refused_transfers() {
    let flooded = Flooded::start(&[]).await;
    let mut user = client("127.0.5.1", flooded.address()).await;
    user.login("ferry", "secret").await;
    for _ in 0..TIMES {
        user.epsv().await;
        user.expect("RETR none", 550).await;
    }
    let log = flooded.log().await;
    log.assert_told("transfer", "transfer refused", "127.0.5.1", TIMES);
}

/// Wrong passwords hide no login that was right and had no place.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_a_place_is_told_behind_wrong_ones() {
    let settings = [
        ("limits.max_sessions_per_user", "1"),
        ("limits.login_failures", "0"),
        ("limits.login_failures_per_address", "0"),
    ];
    let flooded = Flooded::start(&settings).await;
    let gateway = flooded.address();
    let mut first = client("127.0.5.1", gateway).await;
    first.login("ferry", "secret").await;
    for _ in 0..2 * A_MINUTE {
        let mut guesser = client("127.0.5.1", gateway).await;
        guesser.expect("USER ferry", 331).await;
        guesser.expect("PASS wrong", 530).await;
    }
    for _ in 0..TIMES {
        let mut second = client("127.0.5.1", gateway).await;
        second.expect("USER ferry", 331).await;
        second.expect("PASS secret", 421).await;
    }
    let log = flooded.log().await;
    let without_place = log.lines.iter();
    let without_place = without_place.filter(|line| line["outcome"] == "too_many_sessions");
    let written = without_place.count() as u64;
    let kind = "login refused, too many sessions of its user";
    let left_out: u64 = log.left_out(kind, "127.0.5.1").iter().sum();
    assert!(written >= A_MINUTE && left_out > 0, "{written} lines");
    assert_eq!(written + left_out, TIMES);
}

/// What cannot be understood, and whatever the admin endpoint is asked, leaves nothing in the log at all.
#[tokio::test(flavor = "multi_thread")]
async fn commands_and_admin_requests_write_no_lines() {
    let flooded = Flooded::start(&[]).await;
    let mut user = client("127.0.5.1", flooded.address()).await;
    user.login("ferry", "secret").await;
    let before = flooded.lines();
    for _ in 0..TIMES {
        user.expect("EHLO there", 500).await;
        user.expect("CWD /none", 550).await;
        user.expect("RNTO x", 503).await;
        say("127.0.5.1", flooded.process.admin, b"NONSENSE\r\n\r\n").await;
        get(flooded.process.admin, "/none").await;
    }
    assert_eq!(flooded.lines(), before);
}
