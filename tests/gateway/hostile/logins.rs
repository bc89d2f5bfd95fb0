//! Strangers who want to know who there is, and whose password is what.

use std::net::SocketAddr;
use std::process::Stdio;

use rcgen::{CertificateParams, DnType, SanType};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::ftp::{Client, Reply};
use crate::support::process::{Process, bucketferry, send};
use crate::support::tls::{Authority, Hello};
use crate::support::{Gateway, Memory, PATIENCE, eventually};

/// `x`, by bcrypt at its lowest cost.
const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

/// Failed logins lock nobody out.
const NO_LOCKOUT: [(&str, &str); 2] = [
    ("limits.login_failures", "0"),
    ("limits.login_failures_per_address", "0"),
];

/// Users who all have the password `x`, each with a reason why it does not let them in in clear.
const REFUSED: [(&str, &str); 6] = [
    ("tls_required", "require_tls = \"control\""),
    ("address_not_allowed", "allow = [\"192.0.2.0/24\"]"),
    ("disabled", "disabled = true"),
    ("not_yet_valid", "not_before = 2999-01-01T00:00:00Z"),
    ("expired", "expires = 2001-01-01T00:00:00Z"),
    ("wrong_certificate", "certificate = \"cn:nobody's\""),
];

fn refused_users() -> String {
    let user = |(name, line): &(&str, &str)| {
        format!("[[user]]\nname = {name:?}\npassword_hash = {HASH:?}\n{line}\n")
    };
    REFUSED.iter().map(user).collect()
}

/// The replies to `USER` and `PASS`, on a connection of their own.
async fn replies(gateway: &Gateway<Memory>, name: &str) -> [String; 2] {
    let (mut client, _) = Client::connect(gateway.address()).await;
    let user: Reply = client.expect(&format!("USER {name}"), 331).await;
    let pass = client.expect("PASS x", 530).await;
    [user.text(), pass.text()]
}

/// What a name is called or why it is not let in, in clear nobody hears; the operator does.
#[tokio::test(flavor = "multi_thread")]
async fn user_enumeration_in_clear() {
    let authority = Authority::new();
    let users = refused_users();
    let settings = [("tls.client_auth", "request"), NO_LOCKOUT[0], NO_LOCKOUT[1]];
    for gateway in [
        Gateway::for_users(Memory, &users, &settings[1..]),
        Gateway::encrypted_for_users(Memory, &users, &authority, &settings),
    ] {
        let unknown = replies(&gateway, "nobody").await;
        for (name, _) in REFUSED {
            assert_eq!(replies(&gateway, name).await, unknown, "{name}");
            let outcome = format!("bucketferry_logins_total{{outcome=\"{name}\"}}");
            gateway.wait_for(&outcome, 1.0).await;
        }
        let hints = unknown[1].contains("AUTH TLS");
        assert_eq!(
            hints,
            gateway.metric("bucketferry_tls_certificate_expiry_timestamp_seconds") > 0.0
        );
    }
}

/// Nor do tries in clear, with the right password, get around the lockout.
#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_count_as_failed_ones() {
    let authority = Authority::new();
    let settings = [("limits.login_failures", "2")];
    let gateway = Gateway::encrypted_for_users(Memory, &refused_users(), &authority, &settings);
    for _ in 0..3 {
        replies(&gateway, "tls_required").await;
    }
    for (outcome, times) in [("tls_required", 2.0), ("locked_out", 1.0)] {
        let series = format!("bucketferry_logins_total{{outcome={outcome:?}}}");
        gateway.wait_for(&series, times).await;
    }
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&authority.connector(Hello::default())).await;
    client.expect("USER tls_required", 331).await;
    client.expect("PASS x", 530).await;
}

/// One kind of name in a certificate.
type Kind = fn(&mut CertificateParams, &str);

fn common_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

fn dns(params: &mut CertificateParams, name: &str) {
    let name = SanType::DnsName(name.try_into().unwrap());
    params.subject_alt_names.push(name);
}

fn uri(params: &mut CertificateParams, name: &str) {
    let name = SanType::URI(name.try_into().unwrap());
    params.subject_alt_names.push(name);
}

fn email(params: &mut CertificateParams, name: &str) {
    let name = SanType::Rfc822Name(name.try_into().unwrap());
    params.subject_alt_names.push(name);
}

/// Whoever can have a certificate with one kind of name must not be the user who is known by another.
#[tokio::test(flavor = "multi_thread")]
async fn certificate_names_of_another_kind() {
    let authority = Authority::new();
    let kinds: [(&str, Kind); 4] = [
        ("cn", common_name),
        ("dns", dns),
        ("uri", uri),
        ("email", email),
    ];
    let names = [
        ("cn", "cn:scanner.example"),
        ("dns", "dns:scanner.example"),
        ("dns", "scanner.example"),
        ("uri", "uri:spiffe:scanner"),
        ("email", "email:scanner@example.org"),
    ];
    for (kind, wanted) in names {
        let users = format!("[[user]]\nname = \"bank\"\ncertificate = {wanted:?}\n");
        let settings = [("tls.client_auth", "request"), NO_LOCKOUT[0], NO_LOCKOUT[1]];
        let gateway = Gateway::encrypted_for_users(Memory, &users, &authority, &settings);
        let text = wanted.strip_prefix(&format!("{kind}:")).unwrap_or(wanted);
        for (other, put) in kinds {
            for text in [text, wanted] {
                let certificate = authority.client_with(|params| put(params, text));
                let is_user = other == kind && !text.starts_with(&format!("{kind}:"));
                assert_eq!(
                    is_let_in(&gateway, &authority, certificate).await,
                    is_user,
                    "{wanted} by {other} {text}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_is_of_one_certificate() {
    let authority = Authority::new();
    let own = authority.client("scanner");
    let der = CertificateDer::from_pem_slice(own.0.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let digest: String = digest
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let users = format!("[[user]]\nname = \"bank\"\ncertificate = \"sha256:{digest}\"\n");
    let settings = [("tls.client_auth", "request")];
    let gateway = Gateway::encrypted_for_users(Memory, &users, &authority, &settings);
    assert!(is_let_in(&gateway, &authority, own).await);
    for name in ["scanner", &digest, &format!("sha256:{digest}")] {
        let other = authority.client(name);
        assert!(!is_let_in(&gateway, &authority, other).await, "{name}");
    }
}

async fn is_let_in(
    gateway: &Gateway<Memory>,
    authority: &Authority,
    certificate: (String, String),
) -> bool {
    let connector = authority.connector(Hello {
        certificate: Some(certificate),
        ..Hello::default()
    });
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    match client.command("USER bank").await.code {
        232 => true,
        331 => {
            client.expect("PASS x", 530).await;
            false
        }
        other => panic!("{other}"),
    }
}

/// How many files and sockets a process has open.
fn open_files(process: &Process) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid()));
    files.unwrap().count()
}

/// A name costs nothing, and a wrong password a hash: only whoever is in has a session behind.
#[tokio::test(flavor = "multi_thread")]
async fn user_flood_makes_socket_pairs() {
    let settings = [
        ("limits.login_failures_per_connection", "10"),
        NO_LOCKOUT[0],
        NO_LOCKOUT[1],
        ("limits.commands_before_login", "1000"),
    ];
    let process = Process::serve(&Memory, &settings).await;
    let (mut client, _) = Client::connect(process.address).await;
    client.expect("NOOP", 200).await;
    let before = open_files(&process);
    for _ in 0..200 {
        client.expect("USER ferry", 331).await;
    }
    assert_eq!(open_files(&process), before, "after USER");
    client.expect("PASS wrong", 530).await;
    assert_eq!(open_files(&process), before, "after a wrong password");
    client.login("ferry", "secret").await;
    assert_eq!(open_files(&process), before + 2, "the pair");
    client.expect("REIN", 220).await;
    eventually("the pair is gone", || open_files(&process) == before).await;
}

/// A password is in memory while it is looked at, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_stay_in_memory() {
    let password = format!("Correct-{:016x}-Horse", rand_bits());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    let hash = bucketferry::auth::hash_password(&password).unwrap();
    let text = format!("[[user]]\nname = \"ferry\"\npassword_hash = {hash:?}\n");
    std::fs::write(&path, text).unwrap();
    let mut command = bucketferry();
    command.args(["serve", "--store", "memory://", "--passive-ports", "0"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("BUCKETFERRY_USERS__FILE", &path);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = process.id().unwrap();
    let address = listening(&mut process).await;
    for _ in 0..20 {
        let mut client = Client::connect_as(address, "ferry", &password).await;
        client.expect("QUIT", 221).await;
    }
    send(Signal::STOP, pid);
    let copies = copies_in_memory(pid, password.as_bytes());
    send(Signal::CONT, pid);
    assert_eq!(copies, 0, "copies of a password whose sessions have ended");
}

/// Where a process listens, by its log.
async fn listening(process: &mut Child) -> SocketAddr {
    let log = process.stderr.take().unwrap();
    let mut lines = BufReader::new(log).lines();
    let address = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("\"listen\":\"[") {
            break rest.split(']').next().unwrap().parse().unwrap();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    address
}

fn rand_bits() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// How often these bytes are in the memory that a process can write to.
fn copies_in_memory(pid: u32, wanted: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut copies = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, rest) = line.split_once('-').unwrap();
        let (to, _) = rest.split_once(' ').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        let found = bytes
            .windows(wanted.len())
            .enumerate()
            .filter(|(_, it)| *it == wanted);
        for (at, _) in found {
            copies += 1;
            let around = &bytes[at.saturating_sub(32)..(at + wanted.len() + 32).min(bytes.len())];
            eprintln!("{line} +{at:x}: {}", around.escape_ascii());
        }
    }
    copies
}
