//! An API server of Kubernetes with one Service in it: `get` and `watch`, with resource versions,
//! bookmarks, versions that have expired, rights that are missing and connections that break.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const NAMESPACE: &str = "ftp";
const NAME: &str = "gateway";
const TOKEN: &str = "let-me-in";

/// The server. Its connections break with it.
pub(crate) struct ApiServer {
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    address: SocketAddr,
    folder: TempDir,
    running: Option<JoinSet<()>>,
}

/// What was asked for.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) gets: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    /// Requests for anything but that one Service.
    pub(crate) others: AtomicUsize,
}

#[derive(Clone)]
struct State {
    version: usize,
    /// `status.loadBalancer.ingress` as JSON; `None` is no such Service.
    ingress: Option<String>,
    forbidden: bool,
    /// Counts up: watches that run are told that their version has expired.
    expiries: usize,
}

impl ApiServer {
    /// With a Service whose load balancer has this.
    pub(crate) fn start(ingress: &str) -> Self {
        let (state, _) = watch::channel(State {
            version: 1000,
            ingress: Some(ingress.to_owned()),
            forbidden: false,
            expiries: 0,
        });
        let mut server = Self {
            state,
            counts: Arc::default(),
            address: ([127, 0, 0, 1], 0).into(),
            folder: tempfile::tempdir().unwrap(),
            running: None,
        };
        server.resume();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters:\n- name: here\n  cluster:\n    server: http://{}\n\
             users:\n- name: gateway\n  user:\n    token: {TOKEN}\n\
             contexts:\n- name: here\n  context:\n    cluster: here\n    user: gateway\n",
            server.address
        );
        std::fs::write(server.kubeconfig(), config).unwrap();
        server
    }

    /// The file that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        Path::new(self.folder.path()).join("kubeconfig")
    }

    pub(crate) fn gets(&self) -> usize {
        self.counts.gets.load(Ordering::SeqCst)
    }

    pub(crate) fn watches(&self) -> usize {
        self.counts.watches.load(Ordering::SeqCst)
    }

    pub(crate) fn others(&self) -> usize {
        self.counts.others.load(Ordering::SeqCst)
    }

    /// The load balancer is given something else; `None` deletes the Service.
    pub(crate) fn change(&self, ingress: Option<&str>) {
        self.state.send_modify(|state| {
            state.version += 1;
            state.ingress = ingress.map(str::to_owned);
        });
    }

    pub(crate) fn forbid(&self, forbidden: bool) {
        self.state.send_modify(|state| state.forbidden = forbidden);
    }

    /// Ends all watches with an event that says 410 Gone.
    pub(crate) fn expire(&self) {
        self.state.send_modify(|state| {
            state.version += 1000;
            state.expiries += 1;
        });
    }

    /// Breaks all connections, and takes no new ones.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Takes connections (again).
    pub(crate) fn resume(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(16).unwrap();
        self.address = listener.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(serve(
            listener,
            self.state.subscribe(),
            Arc::clone(&self.counts),
        ));
        self.running = Some(running);
    }
}

async fn serve(listener: TcpListener, state: watch::Receiver<State>, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(connection(stream, state.clone(), Arc::clone(&counts)));
    }
}

/// Answers requests until one is a watch, or the client leaves.
async fn connection(stream: TcpStream, mut state: watch::Receiver<State>, counts: Arc<Counts>) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = request(&mut stream).await {
        let now = state.borrow_and_update().clone();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let all = format!("/api/v1/namespaces/{NAMESPACE}/services");
        let one = format!("{all}/{NAME}");
        let selected = query.contains(&format!("fieldSelector=metadata.name%3D{NAME}"));
        let sent = if !head.contains(&format!("authorization: Bearer {TOKEN}\r\n")) {
            answer(&mut stream, 401, &status(401, "Unauthorized")).await
        } else if now.forbidden {
            let message = format!(r#"services \"{NAME}\" is forbidden"#);
            answer(&mut stream, 403, &status(403, &message)).await
        } else if head.starts_with("GET ") && path == one {
            counts.gets.fetch_add(1, Ordering::SeqCst);
            match now.object() {
                Some(object) => answer(&mut stream, 200, &object).await,
                None => answer(&mut stream, 404, &status(404, "not found")).await,
            }
        } else if head.starts_with("GET ")
            && path == all
            && query.contains("watch=true")
            && selected
        {
            counts.watches.fetch_add(1, Ordering::SeqCst);
            let _ = events(&mut stream, query, state).await;
            return;
        } else {
            counts.others.fetch_add(1, Ordering::SeqCst);
            answer(&mut stream, 403, &status(403, "only that one Service")).await
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The head of a request, its fields in lower case; none has a body.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head);
        }
        match line.split_once(": ") {
            Some((name, value)) => {
                let _ = write!(head, "{}: {value}", name.to_lowercase());
            }
            None => head.push_str(&line),
        }
    }
}

async fn answer(stream: &mut BufReader<TcpStream>, code: u16, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await
}

/// A watch: what there is, or what is newer than the version that was asked for; then each change.
async fn events(
    stream: &mut BufReader<TcpStream>,
    query: &str,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut before = state.borrow_and_update().clone();
    let from = query
        .split('&')
        .find_map(|part| part.strip_prefix("resourceVersion="));
    match from.unwrap_or_default() {
        "" | "0" => {
            if let Some(object) = before.object() {
                event(stream, "ADDED", &object).await?;
            }
        }
        version if version.parse::<usize>().unwrap() + 100 < before.version => {
            return event(stream, "ERROR", &status(410, "too old resource version")).await;
        }
        _ => {}
    }
    if query.contains("allowWatchBookmarks=true") {
        let bookmark = format!(
            r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"resourceVersion":"{}"}}}}"#,
            before.version
        );
        event(stream, "BOOKMARK", &bookmark).await?;
    }
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        if now.expiries != before.expiries {
            event(stream, "ERROR", &status(410, "too old resource version")).await?;
            return stream.write_all(b"0\r\n\r\n").await;
        }
        match (before.object(), now.object()) {
            (Some(old), Some(new)) if old != new => event(stream, "MODIFIED", &new).await?,
            (None, Some(new)) => event(stream, "ADDED", &new).await?,
            (Some(old), None) => event(stream, "DELETED", &old).await?,
            _ => {}
        }
        before = now;
    }
    Ok(())
}

async fn event(stream: &mut BufReader<TcpStream>, kind: &str, object: &str) -> std::io::Result<()> {
    let line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    stream.write_all(chunk.as_bytes()).await
}

fn status(code: u16, message: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"x","code":{code}}}"#
    )
}

impl State {
    fn object(&self) -> Option<String> {
        let ingress = self.ingress.as_ref()?;
        let (name, version) = (NAME, self.version);
        Some(format!(
            r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"{NAMESPACE}","resourceVersion":"{version}"}},"spec":{{"type":"LoadBalancer"}},"status":{{"loadBalancer":{{"ingress":{ingress}}}}}}}"#
        ))
    }
}
