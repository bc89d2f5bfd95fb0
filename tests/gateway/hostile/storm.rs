//! All at once, in a container with the memory that `check` prints.

mod container;
mod senders;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bucketferry::auth::hash_password;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::container::Container;
use self::senders::Senders;
use crate::support::ftp::Client;
use crate::support::{MIB, Store};

/// How long everything lasts.
const STORM: Duration = Duration::from_secs(30);

/// For so long the uploads have the gateway to themselves before.
const CALM: Duration = Duration::from_secs(5);

const SESSIONS: usize = 1000;
const UNREAD: usize = 300;
const UPLOADS: usize = 100;
const GUESSING: u8 = 200;
const HALF_REQUESTS: usize = 1000;

/// So long after the storm the memory has gone back.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// What may be left of it: what the program takes by itself, in a build with debug information too, and the blocks for
/// hashing, which are kept.
const LEFT: usize = 160 * MIB;

/// The longest that 99 of 100 honest logins may take.
const LOGIN: Duration = Duration::from_secs(2);

/// All clients of a kind are at one address here, which by default has fewer places.
const SETTINGS: &[(&str, &str)] = &[
    ("limits.max_sessions", "1600"),
    ("limits.max_sessions_per_ip", "1600"),
    ("limits.max_sessions_per_user", "1600"),
    ("limits.connections_per_second_per_ip", "1000"),
    ("passive.ports", "0"),
    ("log.level", "warn"),
];

/// Where the honest ones are, where the sessions that only take room are, and where passwords are guessed.
fn honest() -> IpAddr {
    Ipv4Addr::new(127, 0, 1, 1).into()
}

fn crowd() -> IpAddr {
    Ipv4Addr::new(127, 0, 2, 1).into()
}

fn guessing(nth: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 3, nth).into()
}

/// A gateway in a storm.
struct Storm {
    address: SocketAddr,
    admin: SocketAddr,
    over: AtomicBool,
    guesses: AtomicUsize,
    half_requests: AtomicUsize,
}

impl Storm {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A connection with next to no room for what the gateway sends.
    async fn narrow(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        SockRef::from(&socket).set_recv_buffer_size(1)?;
        socket.bind(SocketAddr::new(crowd(), 0))?;
        socket.connect(to).await
    }

    async fn logged_in(&self) -> Client {
        let stream = self.narrow(self.address).await.unwrap();
        let mut client = Client::over(stream).unwrap();
        client.set_deadline(Duration::from_mins(1));
        client.expect_reply(220).await;
        client.login("crowd", "secret").await;
        client
    }

    /// Sessions that do nothing, and listings that are not read, by both ways.
    async fn crowd(&self) -> Vec<(Client, Option<TcpStream>)> {
        let mut all = Vec::with_capacity(SESSIONS);
        for nth in 0..SESSIONS {
            let mut client = self.logged_in().await;
            let mut data = None;
            if nth < UNREAD / 2 {
                client.send("STAT d").await;
            } else if nth < UNREAD {
                let port = client.pasv().await;
                data = self.narrow(port).await.ok();
                client.send("MLSD d").await;
            }
            all.push((client, data));
        }
        all
    }

    /// Guesses as fast as they are answered, until the storm is over.
    async fn guess(&self, nth: u8) {
        while !self.is_over() {
            if self.guess_once(nth).await.is_none() {
                // Refused, or hung up on.
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn guess_once(&self, nth: u8) -> Option<()> {
        let client = Client::connect_from(guessing(nth), self.address).await;
        let mut client = client.ok()?;
        client.set_deadline(Duration::from_mins(1));
        if client.try_reply().await?.code != 220 {
            return None;
        }
        loop {
            let name = if nth.is_multiple_of(2) {
                "ferry"
            } else {
                "nobody"
            };
            client.try_command(&format!("USER {name}")).await?;
            let reply = client.try_command("PASS wrong").await?;
            assert_ne!(reply.code, 230, "a wrong password");
            self.guesses.fetch_add(1, Ordering::Relaxed);
            if self.is_over() {
                return Some(());
            }
        }
    }

    /// Keeps a thousand half requests at the admin endpoint, however many it closes.
    async fn half_requests(&self) {
        let mut open = JoinSet::new();
        for _ in 0..HALF_REQUESTS {
            open.spawn(half_request(self.admin));
        }
        while let Some(closed) = open.join_next().await {
            if self.is_over() {
                return;
            }
            self.half_requests.fetch_add(1, Ordering::Relaxed);
            if closed.is_ok() {
                open.spawn(half_request(self.admin));
            }
        }
    }

    /// Logs in again and again, as the honest do; how long each took.
    async fn logins(&self) -> Vec<Duration> {
        let mut took = Vec::new();
        while !self.is_over() {
            let began = Instant::now();
            let client = Client::connect_from(honest(), self.address).await;
            let mut client = client.expect("a connection");
            client.set_deadline(Duration::from_mins(1));
            client.expect_reply(220).await;
            client.login("ferry", "secret").await;
            took.push(began.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        took
    }
}

/// Sends half a request and waits until that is given up.
async fn half_request(admin: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(admin).await else {
        return sleep(Duration::from_millis(100)).await;
    };
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").await;
    let _ = timeout(STORM, stream.readable()).await;
    // A new one each second, or the test is busy with nothing else.
    sleep(Duration::from_secs(1)).await;
}

/// The time that `percent` of all are within.
fn percentile(all: &mut [Duration], percent: usize) -> Duration {
    all.sort_unstable();
    all[(all.len() * percent / 100).min(all.len() - 1)]
}

fn users() -> String {
    let hash = hash_password("secret").expect("a hash");
    ["ferry", "crowd"]
        .map(|name| format!("[[user]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\n"))
        .concat()
}

/// A bucket with 2,000 long names in `d`: 2 MiB, more than the kernel takes of an unread reply.
fn crowded() -> Store {
    let store = Store::s3();
    for number in 0..2000 {
        store.put(&format!("d/{number:05}{}", "x".repeat(1000)), b"");
    }
    store
}

/// The gateway stays within the memory that `check` prints, honest uploads keep half of their speed, and honest
/// logins are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, and a machine of its own: make test-storm"]
async fn storm() {
    let store = crowded();
    let container = Container::with_memory_of_check(&store, &users(), SETTINGS).await;
    let storm = Arc::new(Storm {
        address: container.process.address,
        admin: container.process.admin,
        over: AtomicBool::new(false),
        guesses: AtomicUsize::new(0),
        half_requests: AtomicUsize::new(0),
    });
    let senders = Senders::begin(storm.address, honest(), UPLOADS).await;
    let calm = senders.speed(CALM).await;

    let crowd = storm.crowd().await;
    let mut strangers = JoinSet::new();
    for nth in 1..=GUESSING {
        let storm = Arc::clone(&storm);
        strangers.spawn(async move { storm.guess(nth).await });
    }
    let half_requests = Arc::clone(&storm);
    strangers.spawn(async move { half_requests.half_requests().await });
    let logins = tokio::spawn({
        let storm = Arc::clone(&storm);
        async move { storm.logins().await }
    });
    let (stormy, most) = tokio::join!(senders.speed(STORM), container.most(STORM));
    storm.over.store(true, Ordering::Relaxed);

    let mut logins = logins.await.expect("all logins");
    let (count, p99) = (logins.len(), percentile(&mut logins, 99));
    let failed = senders.end().await;
    let [guesses, half_requests] =
        [&storm.guesses, &storm.half_requests].map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "memory: {} of {} MiB ({} of it in sockets); uploads: {:.1} MiB/s, {:.1} in the calm; {count} honest logins, \
         p99 {p99:?}; {guesses} guesses, {half_requests} half requests given up",
        most.all() / MIB,
        container.limit / MIB,
        most.sockets / MIB,
        stormy,
        calm,
    );
    assert!(most.all() < container.limit, "{most:?}");
    assert_eq!(failed, [""; 0], "uploads");
    assert!(stormy >= calm / 2.0, "{stormy} MiB/s, {calm} in the calm");
    assert!(p99 < LOGIN, "{p99:?}");
    assert!(guesses > 100 && half_requests > HALF_REQUESTS, "a storm");
    drop(crowd);
    strangers.abort_all();
    while let Some(ended) = strangers.join_next().await {
        let panicked = ended.is_err_and(|error| error.is_panic());
        assert!(!panicked, "a stranger was let in");
    }
    sleep(AFTERWARDS).await;
    let left = container.taken();
    eprintln!("{} MiB left {AFTERWARDS:?} later", left.all() / MIB);
    assert!(left.all() < LEFT, "{left:?}");
}
