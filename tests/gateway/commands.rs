//! Every verb, well-formed or not: an answer, and the session goes on.

use std::net::SocketAddr;

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{Gateway, MIB, Store, eventually};

/// Lines that libunftp would end its session for, and more that are no better.
const LINES: [(&[u8], u16); 59] = [
    (b"MODE s", 200),
    (b"MODE X", 501),
    (b"MODE B", 504),
    (b"MODE", 501),
    (b"NOOP x", 200),
    (b"SIZE", 501),
    (b"SIZE ", 501),
    (b"PROT p", 503),
    (b"PBSZ 1", 503),
    (b"OPTS MLST type;size;", 200),
    (b"OPTS UTF8 OFF", 200),
    (b"OPTS nonsense", 501),
    (b"OPTS", 501),
    (b"STRU f", 200),
    (b"STRU R", 504),
    (b"STRU X", 501),
    (b"TYPE A", 200),
    (b"TYPE a n", 200),
    (b"TYPE I", 200),
    (b"TYPE L 8", 200),
    (b"TYPE E", 504),
    (b"TYPE E T", 504),
    (b"TYPE A T", 504),
    (b"TYPE A X", 501),
    (b"TYPE L", 501),
    (b"TYPE L8", 200),
    (b"TYPE L 36", 504),
    (b"TYPE L 0", 501),
    (b"TYPE L x", 501),
    (b"TYPE I N", 501),
    (b"MODE Z", 504),
    (b"STRU P", 504),
    (b"TYPE Q", 501),
    (b"AUTH TLS", 502),
    (b"AUTH GSSAPI", 502),
    (b"CCC", 533),
    (b"REST x", 501),
    (b"REST 0", 350),
    (b"STAT", 211),
    (b"HELP", 214),
    (b"HELP STOR", 214),
    (b"FEAT", 211),
    (b"SYST", 215),
    (b"ACCT x", 202),
    (b"ALLO 10 R 2", 200),
    (b"SITE CHMOD 644 a", 502),
    (b"SITE", 501),
    (b"SITE MD5", 502),
    (b"SITE HELP", 214),
    (b"HOST a.b", 503),
    (b"STAT -l .", 213),
    (b"SITE \xff\xfe", 501),
    (b"PORT 127,0,0,1,4,1", 502),
    (b"EPRT |1|127.0.0.1|1025|", 502),
    (b"MFMT 20260102030405 a", 504),
    (b"MDTM 20260102030405 a", 504),
    (b"ABOR", 226),
    (b"NOSUCH", 500),
    (b"", 500),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_answered_and_the_session_goes_on() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    for (line, code) in LINES {
        client.send_raw(&[line, b"\r\n"].concat()).await;
        client.expect_reply(code).await;
        client.expect("PWD", 257).await;
    }
    assert_eq!(
        client.store("a.txt", b"still the same session").await.code,
        226
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_answered() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    for line in [
        b"SIZE a\0b\r\n".as_slice(),
        b"DELE a\rDELE b\r\n",
        b"\x80\x81\x82\r\n",
        b"RETR \x01\x02\r\n",
        b"\r\n",
        b"   \r\n",
        b"CWD \x7f\r\n",
        b"USER \x1b]0;evil\x07\r\n",
    ] {
        client.send_raw(line).await;
        let reply = client.reply().await;
        assert!((500..560).contains(&reply.code), "{line:?}: {reply:?}");
        client.expect("NOOP", 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_with_rubbish_is_answered() {
    let gateway = Gateway::with(Store::folder(), &[("passive.accept_timeout", "20ms")]);
    let mut client = gateway.client().await;
    let verbs = "ABOR ACCT ALLO APPE AUTH CCC CDUP CLNT CWD DELE EPRT EPSV FEAT HELP HOST LIST MDTM \
                 MFMT MKD MLSD MLST MODE NLST NOOP OPTS PASV PBSZ PORT PROT PWD REST RETR RMD RNFR \
                 RNTO SITE SIZE STAT STOR STOU STRU SYST TYPE XCUP XCWD XMKD XPWD XRMD";
    for verb in verbs.split_ascii_whitespace() {
        for argument in [
            "",
            " ",
            " -",
            " /",
            " ..",
            " \u{fffd}",
            " %n%s",
            " 'a' \"b\"",
            " a\tb",
        ] {
            client.send(&format!("{verb}{argument}")).await;
            client.reply().await;
            client.expect("NOOP", 200).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_login_only_what_a_login_needs() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, greeting) = Client::connect(gateway.address()).await;
    assert_eq!(greeting.text(), "220 Bucketferry ready");
    for line in [
        "PWD", "CWD /", "PASV", "EPSV", "STOR a", "LIST", "REST 1", "SITE x", "STAT", "ABOR",
        "TYPE I",
    ] {
        client.expect(line, 530).await;
    }
    for (line, code) in [
        ("FEAT", 211),
        ("SYST", 215),
        ("HELP", 214),
        ("NOOP", 200),
        ("OPTS UTF8 ON", 200),
        ("CLNT x", 200),
        ("HOST a.b", 220),
    ] {
        client.expect(line, code).await;
    }
    client.expect("PASS secret", 503).await;
    client.expect("QUIT", 221).await;
    client.expect_close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_are_refused_and_the_third_ends_it() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let long = "x".repeat(5000);
    client.expect(&format!("SIZE {long}"), 500).await;
    client.expect("NOOP", 200).await;
    client.expect(&format!("SIZE {long}"), 500).await;
    client.expect("NOOP", 200).await;
    client.expect(&format!("SIZE {long}"), 421).await;
    client.expect_close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_without_a_line_end_cost_nothing() {
    let process = Process::serve(&Store::folder(), &[]).await;
    let mut warm_up = Client::connect_as(process.address, "ferry", "secret").await;
    warm_up.expect("NOOP", 200).await;
    let before = process.anonymous_memory();
    for _ in 0..3 {
        flood(process.address).await;
    }
    let grown = process.anonymous_memory().saturating_sub(before);
    assert!(grown < MIB, "{grown} bytes");
    warm_up.expect("NOOP", 200).await;
}

/// Sends until the gateway hangs up.
async fn flood(address: SocketAddr) {
    let mut stream = crate::support::ftp::dial(None, address).await.unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while tokio::io::AsyncWriteExt::write_all(&mut stream, &chunk)
        .await
        .is_ok()
    {
        sent += chunk.len();
        assert!(sent < 10 * MIB, "the gateway reads on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_counted_by_verb_and_class() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("PWD", 257).await;
    client.expect("SIZE none", 550).await;
    client.expect("WHAT IS THIS", 500).await;
    for series in [
        r#"bucketferry_commands_total{class="2xx",verb="PWD"}"#,
        r#"bucketferry_commands_total{class="5xx",verb="SIZE"}"#,
        r#"bucketferry_commands_total{class="5xx",verb="unknown"}"#,
    ] {
        gateway.wait_for(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_commands_during_a_transfer_ends_it() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let data = client.open_data().await;
    client.expect("STOR a.txt", 150).await;
    client.send_raw(&b"PWD\r\n".repeat(1000)).await;
    let lost = r#"bucketferry_transfers_total{direction="upload",outcome="control_lost"}"#;
    gateway.wait_for(lost, 1.0).await;
    drop(data);
    assert!(gateway.store.keys().is_empty());
    eventually("the session ends", || {
        gateway.metric("bucketferry_sessions").abs() < f64::EPSILON
    })
    .await;
}
