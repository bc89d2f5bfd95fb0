//! The binary as an operator runs it, for what only a process has: signals, exit codes, memory.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{PATIENCE, Target, eventually_async, variable};

/// A running `bucketferry serve`. It is killed with the test.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What it printed while starting.
    pub(crate) greeting: String,
    /// What it reads while it runs.
    _folder: Option<TempDir>,
}

/// The program, or another build of it that `BUCKETFERRY_BIN` names.
pub(crate) fn program() -> OsString {
    std::env::var_os("BUCKETFERRY_BIN").unwrap_or(env!("CARGO_BIN_EXE_bucketferry").into())
}

/// The command, with nothing of the surrounding environment that could be taken for settings.
pub(crate) fn bucketferry() -> Command {
    undisturbed(Command::new(program()))
}

/// The same of any other program that runs it.
pub(crate) fn undisturbed(mut command: Command) -> Command {
    for (name, _) in std::env::vars() {
        if name.starts_with("BUCKETFERRY_") || name.starts_with("AWS_") || name.starts_with("KUBE")
        {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    command
}

/// The command, to serve `store` with the user `ferry`, password `secret`.
pub(crate) fn to_serve(
    mut command: Command,
    store: &impl Target,
    settings: &[(&str, &str)],
) -> Command {
    command.args(["serve", "--user", "ferry:secret", "--passive-ports", "0"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let given = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    command.envs(store.settings().into_iter().chain(given).map(variable));
    command
}

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a process");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).await.expect("its input");
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("an end in time").expect("its output")
}

impl Process {
    /// Starts a gateway on `store` with the user `ferry`, password `secret`.
    pub(crate) async fn serve(store: &impl Target, settings: &[(&str, &str)]) -> Self {
        Self::serve_by(bucketferry(), store, settings).await
    }

    /// The same, with so many open files at most.
    pub(crate) async fn serve_with_open_files(
        store: &impl Target,
        settings: &[(&str, &str)],
        open_files: usize,
    ) -> Self {
        let mut command = undisturbed(Command::new("sh"));
        let script = format!(r#"ulimit -n {open_files} && exec "$0" "$@""#);
        command.args(["-c", &script]).arg(program());
        Self::serve_by(command, store, settings).await
    }

    /// The same, with an `/etc/hosts` of its own. Only root can do that.
    pub(crate) async fn serve_with_hosts(
        store: &impl Target,
        settings: &[(&str, &str)],
        hosts: &Path,
    ) -> Self {
        let mut command = undisturbed(Command::new("unshare"));
        let script = r#"mount --bind "$HOSTS" /etc/hosts && exec "$0" "$@""#;
        command.env("HOSTS", hosts);
        command.args(["--mount", "sh", "-c", script]);
        command.arg(program());
        Self::serve_by(command, store, settings).await
    }

    /// Starts a gateway for the users of a users file.
    pub(crate) async fn serve_users(
        store: &impl Target,
        users: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::serve_users_by(bucketferry(), store, users, settings).await
    }

    /// The same by any command, on ports that are free now: without `--user` it says nothing.
    pub(crate) async fn serve_users_by(
        mut command: Command,
        store: &impl Target,
        users: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("users.toml");
        std::fs::write(&file, users).expect("a users file");
        let [address, admin] = free_addresses();
        let (listen, admin_listen) = (address.to_string(), admin.to_string());
        command.args(["serve", "--passive-ports", "0"]);
        command.args(["--listen", &listen, "--admin-listen", &admin_listen]);
        let users_file = ("users.file".to_owned(), file.display().to_string());
        let given = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let all = store.settings().into_iter().chain(given);
        command.envs(all.chain([users_file]).map(variable));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("a process");
        eventually_async("it is alive", async || {
            try_get(admin, "/readyz").await.is_ok_and(|it| it.0 == 200)
        })
        .await;
        Self {
            child,
            address,
            admin,
            greeting: String::new(),
            _folder: Some(folder),
        }
    }

    pub(crate) async fn serve_by(
        command: Command,
        store: &impl Target,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::started(to_serve(command, store, settings)).await
    }

    /// Starts a command and waits until it says where it listens.
    pub(crate) async fn started(command: Command) -> Self {
        Self::started_with(command, Stdio::null()).await
    }

    /// The same, with its log where it is wanted.
    pub(crate) async fn started_with(command: Command, log: Stdio) -> Self {
        let started = Self::try_started_with(command, log).await;
        started.unwrap_or_else(|greeting| panic!("it ended after: {greeting}"))
    }

    /// The same of one that may end before. The error is what it has said until then.
    pub(crate) async fn try_started_with(mut command: Command, log: Stdio) -> Result<Self, String> {
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut greeting = String::new();
        let admin = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
            let line = line.expect("a greeting in time").expect("its output");
            let Some(line) = line else {
                return Err(greeting);
            };
            greeting.push_str(&line);
            greeting.push('\n');
            if let Some(rest) = line.strip_prefix("Health: http://") {
                let admin = rest.split('/').next().expect("an address");
                break admin.parse().expect("an address");
            }
        };
        let address = greeting
            .split_once('@')
            .and_then(|(_, rest)| rest.split('/').next())
            .expect("an address")
            .parse()
            .expect("an address");
        Ok(Self {
            child,
            address,
            admin,
            greeting,
            _folder: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// Waits until it has ended, however long that takes.
    pub(crate) async fn over(&mut self) -> ExitStatus {
        self.child.wait().await.expect("its exit")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send(signal, self.pid());
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_mins(1), self.over()).await;
        ended.expect("an end in time")
    }

    /// Bytes of memory that no file backs.
    pub(crate) fn anonymous_memory(&self) -> usize {
        self.memory("RssAnon:")
    }

    /// Bytes of memory that are in the machine's.
    pub(crate) fn resident_memory(&self) -> usize {
        self.memory("VmRSS:")
    }

    fn memory(&self, kind: &str) -> usize {
        let status = Path::new("/proc")
            .join(self.pid().to_string())
            .join("status");
        let status = std::fs::read_to_string(status).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(kind));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.expect(kind).parse::<usize>();
        kibibytes.expect("a number") * 1024
    }
}

/// Two that nobody listens on.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
    let address = |listener: &io::Result<std::net::TcpListener>| {
        let listener = listener.as_ref().expect("a free port");
        listener.local_addr().expect("its address")
    };
    [address(&listeners[0]), address(&listeners[1])]
}

/// Sends a signal to a process.
pub(crate) fn send(signal: rustix::process::Signal, pid: u32) {
    let pid = i32::try_from(pid).ok();
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("a signal");
}

/// `GET path`: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = try_get(address, path).await;
    answer.expect("an answer of the admin endpoint")
}

/// The same of a process that may have ended.
pub(crate) async fn try_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("an answer in time")?;
    let parts = answer.split_once("\r\n\r\n");
    let (head, body) = parts.ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.expect("a status"), body.to_owned()))
}
