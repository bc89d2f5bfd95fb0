//! Many at once, and many in a row. How fast it goes is measured elsewhere; here nothing may fail.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::support::ftp::Client;
use crate::support::{Gateway, Memory};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_uploads_in_one_session() {
    let gateway = Gateway::on(Memory);
    let mut client = gateway.client().await;
    let bytes = [7; 1024];
    let started = Instant::now();
    for index in 0..1000 {
        assert_eq!(
            client.store(&format!("{index}.bin"), &bytes).await.code,
            226
        );
    }
    println!(
        "{:.0} uploads/s in one session",
        1000.0 / started.elapsed().as_secs_f64()
    );
    assert_eq!(client.list("NLST", "").await.0.lines().count(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sessions_at_once() {
    let settings = [("limits.max_sessions_per_ip", "500")];
    let gateway = Gateway::with(Memory, &settings);
    let address = gateway.address();
    let mut sessions = JoinSet::new();
    for index in 0..500 {
        sessions.spawn(async move {
            let (mut client, _) = Client::connect(address).await;
            client.set_deadline(std::time::Duration::from_mins(1));
            client.login("ferry", "secret").await;
            let name = format!("{index}.bin");
            assert_eq!(client.store(&name, name.as_bytes()).await.code, 226);
            assert_eq!(client.retrieve(&name).await.0, name.as_bytes());
            client
        });
    }
    let clients = sessions.join_all().await;
    assert!((gateway.metric("bucketferry_sessions") - 500.0).abs() < f64::EPSILON);
    drop(clients);
    gateway.wait_for("bucketferry_sessions", 0.0).await;
}
