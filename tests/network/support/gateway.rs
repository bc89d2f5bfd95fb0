//! The gateway as an operator runs it, on a host of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::host::{Host, Running};

/// The ports that a firewall or a balancer has to let through, besides 21.
pub(crate) const PORTS: &str = "30000-30009";

/// A running gateway, and the folder that it stores in.
pub(crate) struct Gateway {
    _running: Running,
    folder: TempDir,
}

impl Gateway {
    /// Serves on port 21 of every address, with these settings besides. Waits are short, so that what fails
    /// fails soon.
    pub(crate) fn on(host: &Host, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        let log = File::create(folder.path().join("log")).expect("a log");
        let given = [
            ("ftp.listen", "[::]:21"),
            ("passive.ports", PORTS),
            ("passive.accept_timeout", "1s"),
            ("active.dial_timeout", "1s"),
            ("log.format", "text"),
        ];
        let mut command = host.command(env!("CARGO_BIN_EXE_bucketferry"), &["serve"]);
        command.args(["--user", "ferry:secret"]);
        command.args(["--store", &format!("file://{}", store.display())]);
        for (key, value) in given.iter().chain(settings) {
            let name = key.replace('.', "__").to_uppercase();
            command.env(format!("BUCKETFERRY_{name}"), value);
        }
        command.stdout(Stdio::piped()).stderr(log);
        let mut running = Running(command.spawn().expect("a gateway"));
        let output = running.0.stdout.take().expect("its output");
        let ready = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.starts_with("Health: "));
        let gateway = Self {
            _running: running,
            folder,
        };
        assert!(ready, "it did not start: {}", gateway.log());
        gateway
    }

    /// Everything that it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Waits until it has said something.
    pub(crate) fn says(&self, words: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let said = |log: &str| {
            log.lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        while !said(&self.log()) {
            assert!(
                Instant::now() < deadline,
                "not said: {words:?} in\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has stored.
    pub(crate) fn object(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join("store").join(name)).ok()
    }
}
