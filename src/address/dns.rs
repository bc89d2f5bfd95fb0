//! Looks names up, again and again.
//!
//! By the system's own resolver: it reads `/etc/hosts`, `nsswitch.conf` and the search list as every
//! other program on the machine does, which no library does in full.

use std::future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::can_be_reached;
use crate::retry::Retry;

use super::known::{Known, Part};

/// Whoever knows what a name stands for.
pub(super) trait Resolver: Send + Sync {
    /// All addresses of a name.
    fn lookup(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// The system's resolver (`getaddrinfo`).
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemResolver;

impl Resolver for SystemResolver {
    /// On a thread of its own, not one of the runtime's: name servers that are silent hold it for half a
    /// minute, and a runtime waits for its threads when the gateway is told to end.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = name.to_owned();
        let (sender, answer) = oneshot::channel();
        let look = move || {
            let found = (name.as_str(), 0).to_socket_addrs();
            // Nobody waits any more when the gateway ends.
            let _ = sender.send(found.map(|found| found.map(|it| it.ip()).collect()));
        };
        std::thread::Builder::new()
            .name("lookup".to_owned())
            .spawn(look)?;
        answer.await.map_err(io::Error::other)?
    }
}

/// What has an address for a 227: some, and names of more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) names: Vec<String>,
}

impl Names {
    /// One name alone.
    pub(super) fn one(name: &str) -> Self {
        Self {
            addresses: Vec::new(),
            names: vec![name.to_owned()],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    /// All addresses that a client can be told, the names looked up: at least one. A name that can't be
    /// looked up counts only if it leaves nothing.
    pub(super) async fn addresses(&self, resolver: &impl Resolver) -> io::Result<Vec<Ipv4Addr>> {
        let mut found: Vec<_> = self.addresses.iter().copied().map(IpAddr::V4).collect();
        let mut failure = None;
        for name in &self.names {
            match resolver.lookup(name).await {
                Ok(more) => found.extend(more),
                Err(error) => failure = Some(error),
            }
        }
        let mut addresses = Vec::new();
        for address in &found {
            match address.to_canonical() {
                IpAddr::V4(address) if can_be_reached(address) && !addresses.contains(&address) => {
                    addresses.push(address);
                }
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        if addresses.is_empty() {
            return Err(failure.unwrap_or_else(|| no_address(&found)));
        }
        Ok(addresses)
    }
}

fn no_address(found: &[IpAddr]) -> io::Error {
    let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
    io::Error::other(format!(
        "it has no IPv4 address that clients could reach, only: {}",
        found.join(", ")
    ))
}

/// Looks the names up now and after every `interval`; after a failure sooner.
pub(super) async fn keep_up_to_date(
    known: Arc<Known>,
    names: Names,
    resolver: impl Resolver,
    interval: Duration,
) {
    let mut retry = Retry::up_to(interval);
    loop {
        match names.addresses(&resolver).await {
            Ok(addresses) => {
                known.learn(addresses);
                if names.names.is_empty() {
                    // Nothing can have changed.
                    return future::pending().await;
                }
                retry.reset();
                tokio::time::sleep(interval).await;
            }
            Err(error) => {
                known.fail(Part::Names, &error.to_string());
                retry.wait().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use crate::config::PassiveAddress;
    use crate::telemetry::Metrics;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// Answers as it is told, and notes when it was asked.
    #[derive(Default)]
    struct Script {
        answers: Mutex<Vec<Option<Vec<IpAddr>>>>,
        asked: Mutex<Vec<u64>>,
        since: Mutex<Option<Instant>>,
    }

    impl Resolver for Arc<Script> {
        async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            assert_eq!(name, "ftp.example.com");
            let now = Instant::now();
            let since = *self.since.lock().unwrap().get_or_insert(now);
            self.asked.lock().unwrap().push((now - since).as_secs());
            let mut answers = self.answers.lock().unwrap();
            let answer = if answers.is_empty() {
                None
            } else {
                answers.remove(0)
            };
            answer.ok_or_else(|| io::Error::other("no name server answers"))
        }
    }

    fn script(answers: &[Option<&[&str]>]) -> Arc<Script> {
        let addresses = |list: &&[&str]| list.iter().map(|it| it.parse().unwrap()).collect();
        let answers = answers.iter().map(|answer| answer.as_ref().map(addresses));
        Arc::new(Script {
            answers: Mutex::new(answers.collect()),
            ..Script::default()
        })
    }

    async fn run(script: &Arc<Script>, seconds: u64) -> Arc<Known> {
        let source = PassiveAddress::Dns("ftp.example.com".to_owned());
        let metrics = Arc::new(Metrics::new().unwrap());
        let known = Arc::new(Known::nothing(&source, &metrics));
        let refreshing = {
            let names = Names::one("ftp.example.com");
            keep_up_to_date(Arc::clone(&known), names, Arc::clone(script), INTERVAL)
        };
        let limit = Duration::from_secs(seconds);
        assert!(tokio::time::timeout(limit, refreshing).await.is_err());
        known
    }

    fn address(known: &Known) -> Option<String> {
        let elsewhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
        known.address(elsewhere).map(|it| it.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_up_at_once_and_then_at_intervals() {
        let one: &[&str] = &["203.0.113.1"];
        let other: &[&str] = &["203.0.113.2", "2001:db8::2"];
        let script = script(&[Some(one), Some(one), Some(other)]);
        let known = run(&script, 61).await;
        assert_eq!(*script.asked.lock().unwrap(), [0, 30, 60]);
        assert_eq!(address(&known).as_deref(), Some("203.0.113.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_is_tried_sooner_and_what_was_known_stays() {
        let one: &[&str] = &["203.0.113.1"];
        let script = script(&[None, None, Some(one), None, None]);
        let known = run(&script, 3 + 30 + 4).await;
        assert_eq!(*script.asked.lock().unwrap(), [0, 1, 3, 33, 34, 36]);
        assert_eq!(address(&known).as_deref(), Some("203.0.113.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_never_take_longer_than_the_interval() {
        let script = script(&[]);
        let known = run(&script, 24 * 60 * 60).await;
        let asked = script.asked.lock().unwrap();
        assert_eq!(asked[..8], [0, 1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(asked.len(), 2884);
        assert_eq!(address(&known), None);
    }

    #[tokio::test]
    async fn a_name_without_ipv4_is_no_answer() {
        let script = script(&[Some(&["2001:db8::1"])]);
        let error = Names::one("ftp.example.com").addresses(&script).await;
        assert!(error.is_err_and(|error| error.to_string().contains("no IPv4")));
    }

    #[tokio::test]
    async fn addresses_that_nobody_can_reach_are_no_answer() {
        let one = script(&[Some(&["0.0.0.0", "255.255.255.255", "224.0.0.1"])]);
        let error = Names::one("ftp.example.com").addresses(&one).await;
        assert!(error.is_err_and(|error| error.to_string().contains("only: 0.0.0.0, 255")));
        let some = script(&[Some(&["0.0.0.0", "203.0.113.1"])]);
        let found = Names::one("ftp.example.com").addresses(&some).await;
        assert_eq!(found.unwrap(), [Ipv4Addr::new(203, 0, 113, 1)]);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_takes_nothing_from_the_others() {
        let names = || Names {
            addresses: vec![Ipv4Addr::new(203, 0, 113, 1)],
            names: vec!["ftp.example.com".to_owned(), "ftp.example.com".to_owned()],
        };
        let found = names().addresses(&script(&[None, None])).await.unwrap();
        assert_eq!(found, [Ipv4Addr::new(203, 0, 113, 1)]);
        let answers: &[Option<&[&str]>] = &[None, Some(&["203.0.113.2"])];
        let found = names().addresses(&script(answers)).await.unwrap();
        assert_eq!(found.len(), 2);
        let nothing = Names {
            addresses: vec![],
            ..names()
        };
        let error = nothing.addresses(&script(&[None, None])).await.unwrap_err();
        assert_eq!(error.to_string(), "no name server answers");
    }

    #[tokio::test]
    async fn the_system_knows_its_own_name() {
        let names = Names::one("localhost");
        let addresses = names.addresses(&SystemResolver).await.unwrap();
        assert!(addresses.iter().all(Ipv4Addr::is_loopback), "{addresses:?}");
    }
}
