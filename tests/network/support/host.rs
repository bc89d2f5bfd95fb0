//! Hosts (network namespaces) and the cables between them (veth pairs).

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names begin so, then comes the process' number: what a killed test run left behind is found by it.
const PREFIX: &str = "ferry";

/// Longest that a program of a test may run.
const SECONDS: &str = "20";

/// All hosts of one test. Dropping it removes them.
pub(crate) struct Network {
    id: String,
    hosts: Vec<String>,
}

/// One host.
#[derive(Clone)]
pub(crate) struct Host {
    namespace: String,
}

/// A program that runs on a host until this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Network {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        if count == 0 {
            remove_leftovers();
        }
        Self {
            id: format!("{PREFIX}-{}-{count}", std::process::id()),
            hosts: Vec::new(),
        }
    }

    /// A host without any address but its loopback's.
    pub(crate) fn host(&mut self, name: &str) -> Host {
        let namespace = format!("{}-{name}", self.id);
        ip(&["netns", "add", &namespace]);
        self.hosts.push(namespace.clone());
        let host = Host { namespace };
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    /// A host that passes on what is not for it.
    pub(crate) fn router(&mut self, name: &str) -> Host {
        let host = self.host(name);
        host.must("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        host
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(host);
        }
    }
}

impl Host {
    /// As the test has called it.
    pub(crate) fn name(&self) -> &str {
        self.namespace.rsplit('-').next().unwrap_or_default()
    }

    /// Everything that it has no route to goes there.
    pub(crate) fn route_all_to(&self, router: &str) {
        self.ip(&["route", "add", "default", "via", router]);
    }

    /// One more address on its first cable.
    pub(crate) fn add_address(&self, address: &str) {
        self.take_address("eth0", address);
    }

    /// Loads a table of rules.
    pub(crate) fn filter(&self, rules: &str) {
        let mut nft = self.command("nft", &["-f", "-"]);
        let mut nft = nft.stdin(Stdio::piped()).spawn().expect("nft");
        let mut input = nft.stdin.take().expect("its input");
        input.write_all(rules.as_bytes()).expect("its input");
        drop(input);
        assert!(
            nft.wait().expect("its end").success(),
            "nft refuses {rules}"
        );
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let bounded = [&["-k", "1", SECONDS, program], arguments].concat();
        let mut command = self.command("timeout", &bounded);
        command.stdin(Stdio::null());
        command
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// The same where it has to succeed.
    pub(crate) fn must(&self, program: &str, arguments: &[&str]) {
        let output = self.run(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
    }

    /// A program on this host. It dies with the test, however that ends.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        command.args(["setpriv", "--pdeathsig", "KILL", program]);
        command.args(arguments);
        command
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace], arguments].concat());
    }

    fn take_address(&self, interface: &str, address: &str) {
        // Nobody else has it: don't wait until that is certain.
        let at_once: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        let add = ["address", "add", address, "dev", interface];
        self.ip(&[&add, at_once].concat());
        self.ip(&["link", "set", interface, "up"]);
    }

    /// Waits until neighbours are answered. The kernel does so only once it has checked its link-local address
    /// (RFC 4862), one to two seconds after the cable; until then a `SYN` is lost now and then, and a passive port
    /// may be closed before the next.
    fn wait_for_ipv6(&self, interface: &str, address: &str) {
        if !address.contains(':') {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.has_link_local_route(interface) {
            assert!(Instant::now() < deadline, "{interface} has no IPv6");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_link_local_route(&self, interface: &str) -> bool {
        let routes = Command::new("ip")
            .args(["-n", &self.namespace, "-6", "route", "show"])
            .args(["table", "local", "dev", interface])
            .output()
            .expect("ip");
        String::from_utf8_lossy(&routes.stdout).contains("local fe80:")
    }

    fn next_interface(&self) -> String {
        let links = Command::new("ip")
            .args(["-n", &self.namespace, "-brief", "link"])
            .output()
            .expect("ip");
        let links = String::from_utf8_lossy(&links.stdout);
        // The loopback is there already.
        format!("eth{}", links.lines().count() - 1)
    }
}

/// A cable, with the addresses of its ends: `192.0.2.1/24`.
pub(crate) fn join((one, address): (&Host, &str), (other, others): (&Host, &str)) {
    let (near, far) = (one.next_interface(), other.next_interface());
    ip(&[
        "link",
        "add",
        &near,
        "netns",
        &one.namespace,
        "type",
        "veth",
        "peer",
        "name",
        &far,
        "netns",
        &other.namespace,
    ]);
    one.take_address(&near, address);
    other.take_address(&far, others);
    one.wait_for_ipv6(&near, address);
    other.wait_for_ipv6(&far, others);
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn remove(namespace: &str) {
    let _ = Command::new("ip")
        .args(["netns", "delete", namespace])
        .output();
}

/// Namespaces of test processes that are gone.
fn remove_leftovers() {
    let list = Command::new("ip")
        .args(["netns", "list"])
        .output()
        .expect("ip");
    let list = String::from_utf8_lossy(&list.stdout);
    for namespace in list.lines().filter_map(|line| line.split(' ').next()) {
        let rest = namespace.strip_prefix(PREFIX);
        let process = rest.and_then(|rest| rest.split('-').nth(1));
        if process
            .is_some_and(|process| !std::fs::exists(format!("/proc/{process}")).unwrap_or(true))
        {
            remove(namespace);
        }
    }
}
