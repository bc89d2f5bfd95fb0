//! Time is turned by the runtime: it leaps whenever everybody waits.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, repeat, sink};
use tokio::time::timeout;

use super::*;

fn counter() -> Counter {
    Counter::new("seconds", "Seconds.").unwrap()
}

fn rate(per_second: u64) -> Arc<Rate> {
    Rate::new(ByteSize(per_second))
}

fn throttled<S>(inner: S, way: Way, rates: &[&Arc<Rate>]) -> Throttled<S> {
    let rates = rates.iter().map(|rate| Arc::clone(rate)).collect();
    Throttled {
        inner,
        way,
        pace: Pace::new(rates, counter()),
    }
}

/// An endless upload, whose bytes are counted.
fn upload(rates: &[&Arc<Rate>]) -> Arc<AtomicU64> {
    let mut stream = throttled(repeat(7), Way::Up, rates);
    let moved = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&moved);
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes) = stream.read(&mut buffer).await {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    });
    moved
}

fn moved(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Within five per cent.
fn assert_near(found: u64, due: u64) {
    let range = due - due / 20..=due + due / 20;
    assert!(range.contains(&found), "{found}, but {due} were due");
}

#[tokio::test(start_paused = true)]
async fn an_upload_takes_its_time() {
    for per_second in [1024, 100_000, 10_000_000, 1_000_000_000] {
        let one = upload(&[&rate(per_second)]);
        pass(20.0).await;
        assert_near(moved(&one), per_second * 20 + per_second / 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_takes_its_time_and_what_waits_is_counted() {
    let mut stream = throttled(sink(), Way::Down, &[&rate(10_000)]);
    let seconds = stream.pace.throttled.clone();
    let began = Instant::now();
    stream.write_all(&vec![7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!((9.7..9.8).contains(&took), "{took}");
    assert!((took - seconds.get()).abs() < 0.01, "{}", seconds.get());
}

#[tokio::test(start_paused = true)]
async fn the_other_way_is_as_fast_as_ever() {
    let (mut far, near) = duplex(1024);
    let mut stream = throttled(near, Way::Up, &[&rate(1024)]);
    let began = Instant::now();
    let read = tokio::spawn(async move {
        let mut all = vec![0; 100_000];
        far.read_exact(&mut all).await.unwrap();
    });
    stream.write_all(&vec![7; 100_000]).await.unwrap();
    read.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_user_share_fairly() {
    let shared = rate(100_000);
    let early = upload(&[&shared]);
    pass(5.0).await;
    let alone = moved(&early);
    assert_near(alone, 525_000);
    let late: Vec<_> = (0..4).map(|_| upload(&[&shared])).collect();
    pass(50.0).await;
    assert_near(moved(&early) - alone, 1_000_000);
    for late in late {
        assert_near(moved(&late), 1_000_000);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_session_may_not_use_is_the_others() {
    let shared = rate(100_000);
    let slow = upload(&[&rate(10_000), &shared]);
    let fast: Vec<_> = (0..4).map(|_| upload(&[&shared])).collect();
    pass(50.0).await;
    assert_near(moved(&slow), 500_000);
    for fast in fast {
        assert_near(moved(&fast), 1_125_000);
    }
}

/// Everybody has rested for as long as they like: still, no more than a second's bytes go at once.
#[tokio::test(start_paused = true)]
async fn nothing_bursts_past_a_second() {
    let shared = rate(10_000);
    let count = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..200 {
        let (client, near) = duplex(100_000);
        let mut stream = throttled(near, Way::Up, &[&shared]);
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(1..) = stream.read(&mut buffer).await.inspect(|bytes| {
                count.fetch_add(*bytes as u64, Ordering::Relaxed);
            }) {}
        });
        clients.push(client);
    }
    pass(1000.0).await;
    for client in &mut clients {
        client.write_all(&vec![7; 50_000]).await.unwrap();
    }
    pass(0.001).await;
    assert!(moved(&count) <= 10_000, "{} at once", moved(&count));
    pass(20.0).await;
    assert_near(moved(&count), 200_000);
}

/// Each of a thousand sessions at the lowest rate there is moves something, long before anybody could
/// think that it had stalled.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_too_long() {
    let shared = rate(1024);
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let mut stream = throttled(repeat(7), Way::Up, &[&shared]);
        reads.spawn(async move {
            let mut buffer = [0; 4096];
            for _ in 0..5 {
                let read = timeout(Duration::from_secs(21), stream.read(&mut buffer));
                assert!(read.await.expect("it looks stalled").unwrap() > 0);
            }
        });
    }
    reads.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn small_files_pay_for_their_bytes_only() {
    let shared = rate(100_000);
    let began = Instant::now();
    for _ in 0..1000 {
        let (mut client, near) = duplex(64);
        client.write_all(&[7; 10]).await.unwrap();
        drop(client);
        let mut stream = throttled(near, Way::Up, &[&shared]);
        let mut file = Vec::new();
        stream.read_to_end(&mut file).await.unwrap();
        assert_eq!(file.len(), 10);
    }
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(100), "{took:?}");
}

/// Who gives up while waiting is in nobody's way.
#[tokio::test(start_paused = true)]
async fn a_dropped_transfer_gives_its_turn_back() {
    let shared = rate(1000);
    upload(&[&shared]);
    pass(10.0).await;
    let mut waiting: Vec<(DuplexStream, _)> = Vec::new();
    for _ in 0..500 {
        let (client, near) = duplex(64);
        waiting.push((client, throttled(near, Way::Up, &[&shared])));
        let (_, stream) = waiting.last_mut().unwrap();
        let read = timeout(Duration::ZERO, stream.read_u8()).await;
        assert!(read.is_err());
    }
    drop(waiting);
    let one = upload(&[&shared]);
    pass(10.0).await;
    assert_near(moved(&one), 5000);
}

fn bandwidth(settings: impl FnOnce(&mut Limits)) -> Bandwidth {
    let mut limits = Limits::default();
    settings(&mut limits);
    Bandwidth::new(&limits, &Metrics::new().unwrap())
}

fn user(name: &str, upload_rate: Option<ByteSize>) -> User {
    let mut user = User::unrestricted(name.to_owned());
    user.allowance.upload_rate = upload_rate;
    user
}

fn per_second(rates: &SessionRates, way: Way) -> Vec<u64> {
    let rates = &rates.0[way as usize];
    rates.iter().map(|rate| rate.bucket().per_second).collect()
}

#[tokio::test]
async fn a_users_own_rate_wins_and_is_shared_by_its_sessions() {
    let bandwidth = bandwidth(|limits| {
        limits.upload_rate = Some(ByteSize(5000));
        limits.upload_rate_per_user = Some(ByteSize(10_000));
    });
    let anna = bandwidth.rates_for(&user("anna", None));
    assert_eq!(per_second(&anna, Way::Up), [5000, 10_000]);
    assert!(per_second(&anna, Way::Down).is_empty());
    let first = bandwidth.rates_for(&user("bert", Some(ByteSize(20_000))));
    assert_eq!(per_second(&first, Way::Up), [5000, 20_000]);
    // The users file has changed meanwhile: it holds for the session that is there, too.
    let second = bandwidth.rates_for(&user("bert", Some(ByteSize(30_000))));
    assert_eq!(per_second(&first, Way::Up), [5000, 30_000]);
    assert!(Arc::ptr_eq(&first.0[0][1], &second.0[0][1]));
    assert!(!Arc::ptr_eq(&first.0[0][0], &second.0[0][0]));
    assert!(!Arc::ptr_eq(&anna.0[0][1], &first.0[0][1]));
}

#[tokio::test]
async fn without_rates_and_for_listings_the_stream_is_itself() {
    let shown = |bandwidth: &Bandwidth, kind| {
        let rates = bandwidth.rates_for(&user("anna", None));
        let stream = Box::new(duplex(1).0);
        format!("{:?}", bandwidth.throttled(&rates, kind, stream))
    };
    let retrieve = TransferKind::Retrieve { offset: 0 };
    let list = TransferKind::List(crate::session::ListFormat::Long);
    assert!(!shown(&bandwidth(|_| ()), retrieve).contains("Throttled"));
    let limited = bandwidth(|limits| limits.download_rate = Some(ByteSize(1024)));
    assert!(shown(&limited, retrieve).contains("Throttled"));
    assert!(!shown(&limited, list).contains("Throttled"));
}

/// Neither do names pile up, nor does a new session get a full bucket.
#[tokio::test(start_paused = true)]
async fn a_users_bucket_is_kept_until_it_is_full() {
    let bandwidth = bandwidth(|limits| limits.upload_rate_per_user = Some(ByteSize(1000)));
    let rates = bandwidth.rates_for(&user("anna", None));
    rates.0[0][0].take(5000, Instant::now());
    drop(rates);
    let others = async |hundreds: u32| {
        for number in 0..hundreds * 100 {
            drop(bandwidth.rates_for(&user(&format!("user{number}"), None)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        bandwidth.users().rates.len()
    };
    assert!(others(20).await <= FEW_USERS);
    let rates = bandwidth.rates_for(&user("anna", None));
    let until = rates.0[0][0].bucket().taken_until;
    assert_eq!(until - Instant::now(), Duration::from_secs(3));
    drop(rates);
    others(40).await;
    assert!(!bandwidth.users().rates.contains_key("anna"));
}
