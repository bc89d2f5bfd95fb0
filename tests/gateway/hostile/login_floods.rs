//! Wrong passwords from many addresses, as fast as they go: others log in all the same, and soon.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::ftp::Client;
use crate::support::process::{Process, get};
use crate::support::{Memory, user};

/// The balancer that says where its clients are.
pub(super) const BALANCER: &str = "127.0.0.9";

/// Guesses are never locked out, so all of them are compared.
const SETTINGS: [(&str, &str); 5] = [
    ("limits.login_failures", "0"),
    ("limits.login_failures_per_address", "0"),
    ("ftp.trusted_proxies", BALANCER),
    ("limits.max_sessions_per_ip", "1000"),
    ("log.level", "error"),
];

/// Of all honest logins but one in a hundred, the longest may take so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections that guess at the same time.
const GUESSERS: u16 = 400;

/// A connection from any address, by a header of the balancer. The client has been greeted.
pub(super) async fn connect_from(gateway: SocketAddr, address: IpAddr) -> Client {
    let balancer = BALANCER.parse().unwrap();
    let mut client = Client::connect_from(balancer, gateway).await.unwrap();
    let (family, own) = match address {
        IpAddr::V4(_) => ("TCP4", "198.51.100.2"),
        IpAddr::V6(_) => ("TCP6", "2001:db8::2"),
    };
    let header = format!("PROXY {family} {address} {own} 40000 21\r\n");
    client.send_raw(header.as_bytes()).await;
    client.expect_reply(220).await;
    client
}

/// Guesses for ever.
async fn guess(gateway: SocketAddr, address: IpAddr) {
    loop {
        let mut client = connect_from(gateway, address).await;
        client.set_deadline(Duration::from_mins(2));
        for _ in 0..3 {
            client.expect("USER ferry", 331).await;
            client.expect("PASS wrong", 530).await;
        }
    }
}

/// A gateway at which everybody guesses at once, from these addresses.
async fn flooded(guesser: impl Fn(u16) -> IpAddr, honest: &[IpAddr]) -> (Process, JoinSet<()>) {
    let process = Process::serve_users(&Memory, &user("ferry", ""), &SETTINGS).await;
    for address in honest {
        log_in(process.address, *address).await;
    }
    let mut guesses = JoinSet::new();
    for number in 0..GUESSERS {
        guesses.spawn(guess(process.address, guesser(number)));
    }
    let waiting = Instant::now();
    while metric(&process, "bucketferry_sessions").await < f64::from(GUESSERS) {
        assert!(waiting.elapsed() < Duration::from_secs(30), "they connect");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (process, guesses)
}

async fn metric(process: &Process, series: &str) -> f64 {
    let (_, text) = get(process.admin, "/metrics").await;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0.0)
}

/// The guesses went on to the end, and were compared.
async fn assert_still_flooded(process: &Process) {
    let compared = metric(
        process,
        "bucketferry_logins_total{outcome=\"wrong_password\"}",
    )
    .await;
    assert!(compared > 10.0, "{compared} guesses compared");
    let sessions = metric(process, "bucketferry_sessions").await;
    assert!(sessions > 0.9 * f64::from(GUESSERS), "{sessions} sessions");
}

/// How long a login takes, from the connection on.
async fn log_in(gateway: SocketAddr, address: IpAddr) -> Duration {
    let began = Instant::now();
    let mut client = connect_from(gateway, address).await;
    client.set_deadline(Duration::from_mins(2));
    client.login("ferry", "secret").await;
    let took = began.elapsed();
    client.expect("QUIT", 221).await;
    took
}

/// The longest of all but one in a hundred of these logins, which come four at a time while everybody guesses.
async fn ninety_nine_of_a_hundred(process: &Process, honest: impl Fn(u8) -> IpAddr) -> Duration {
    let mut took = Vec::new();
    for round in 0..25 {
        let four = (4 * round..4 * round + 4).map(|number| log_in(process.address, honest(number)));
        took.extend(futures::future::join_all(four).await);
    }
    took.sort_unstable();
    took[98]
}

/// 200 addresses guess, two connections from each. Those who have logged in before don't wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn login_floods() {
    let honest: Vec<_> = (1..=4)
        .map(|host| IpAddr::from([192, 0, 2, host]))
        .collect();
    let guesser = |number: u16| {
        let [_, low] = (number % 200).to_be_bytes();
        IpAddr::from([198, 51, 100, low])
    };
    let (process, _guesses) = flooded(guesser, &honest).await;
    let took = ninety_nine_of_a_hundred(&process, |number| honest[usize::from(number % 4)]).await;
    assert!(took < PATIENCE, "{took:?}");
    assert_still_flooded(&process).await;
}

/// A /48 of IPv6 guesses, each connection from another /64. It has one turn of two, so even those who have never logged
/// in before don't wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_prefix_login_floods() {
    let guesser = |number: u16| IpAddr::from([0x2001, 0xdb8, 7, number << 6, 0, 0, 0, 1]);
    let (process, _guesses) = flooded(guesser, &[]).await;
    let stranger = |number: u8| IpAddr::from([203, 0, 113, number]);
    let took = ninety_nine_of_a_hundred(&process, stranger).await;
    assert!(took < PATIENCE, "{took:?}");
    assert_still_flooded(&process).await;
}
