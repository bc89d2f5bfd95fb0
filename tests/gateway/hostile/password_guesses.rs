//! Guesses of passwords, for the memory that comparing them takes.

use tokio::task::JoinSet;

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{MIB, Memory};

/// Of nobody's password, by argon2id as `hash-password` makes it: 19 MiB.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA\
     $wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";

/// What the gateway's threads and the sessions of this test take besides, more or less.
const SESSIONS: usize = 6 * MIB;

async fn guess(process: &Process, origin: u8, name: &str) {
    let local = format!("127.0.3.{origin}").parse().unwrap();
    let mut client = Client::connect_from(local, process.address).await.unwrap();
    client.expect_reply(220).await;
    for _ in 0..3 {
        client.expect(&format!("USER {name}"), 331).await;
        client.expect("PASS wrong", 530).await;
    }
}

/// 45 wrong passwords by 15 addresses at once: a gateway that has room for one hash takes no more, and none of it
/// piles up.
#[tokio::test(flavor = "multi_thread")]
async fn password_guesses_for_memory() {
    let users = format!("[[user]]\nname = \"ferry\"\npassword_hash = \"{HASH}\"\n");
    let settings = [("limits.hashing_memory", "19 MiB")];
    let process = Process::serve_users(&Memory, &users, &settings).await;
    let before = process.anonymous_memory();
    let mut guesses = JoinSet::new();
    let process = std::sync::Arc::new(process);
    for origin in 1..=15 {
        let process = std::sync::Arc::clone(&process);
        let name = if origin % 2 == 0 { "ferry" } else { "nobody" };
        guesses.spawn(async move { guess(&process, origin, name).await });
    }
    guesses.join_all().await;
    let grown = process.anonymous_memory().saturating_sub(before);
    assert!(grown < 19 * MIB + SESSIONS, "{grown} bytes more");
    assert!(grown > 19 * MIB, "hashes were computed: {grown} bytes more");
}
